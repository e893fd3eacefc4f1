//! The management plane: one file per kind of thing. Every call is checked here before it runs.

pub mod dead_letters;
pub mod look;
pub mod subscriptions;
pub mod topics;
pub mod trace;
pub mod wire;

use std::collections::BTreeMap;

use axum::http::StatusCode;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::access::{Right, Target, authorise};
use crate::engine::{LookupError, Peek, PeekFilter};
use crate::http::call::Call;
use crate::http::jcq::fault::{Fault, Plane};
use crate::http::json;
use crate::http::time::parse_utc;
use crate::http::whole::digits;
use crate::model::{AccountName, Group, GroupName, GroupRef, Message, Millis, Offset, Topic, TopicName, TopicRef};

/// Entries of a page.
const PAGE_SIZES: std::ops::RangeInclusive<usize> = 10..=100;
const PAGE_SIZE_DEFAULT: usize = 10;
/// Messages of one look: their bodies are in memory together.
const LOOK_MESSAGES: usize = 100;
/// Looks of one request, which so goes over a million messages at most.
const LOOKS_MAX: usize = 10_000;

/// A request that its maker may make.
pub struct ManagementCall {
    /// Who asks.
    pub call: Call,
    body: Bytes,
    params: Vec<(&'static str, String)>,
    query: BTreeMap<String, String>,
    /// The topic that the path names, if it names one.
    topic: Option<TopicName>,
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    skip: usize,
    size: usize,
}

impl Page {
    /// Its entries.
    pub fn of<T>(self, list: Vec<T>) -> Vec<T> {
        list.into_iter().skip(self.skip).take(self.size).collect()
    }
}

impl ManagementCall {
    /// Checks query, names and rights.
    pub fn open(call: Call, body: Bytes, params: Vec<(&'static str, String)>, right: Right) -> Result<Self, Fault> {
        let mut query = BTreeMap::new();
        for (name, value) in call.query() {
            if query.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                return Err(Fault::rule(&name, "comes twice"));
            }
        }
        let mut opened = Self { call, body, params, query, topic: None };
        let topic = opened.param("topic").map(TopicName::parse).transpose();
        opened.topic = topic.map_err(|error| Fault::rule("topicName", error))?;
        match &opened.topic {
            Some(topic) => authorise(&opened.call.principal, right, Target::Topic(topic))?,
            None => authorise(&opened.call.principal, right, Target::Unnamed)
                .map_err(|_| Fault::new(StatusCode::FORBIDDEN, "USER_AUTH_FAILED", "USER_AUTH_FAILED"))?,
        }
        Ok(opened)
    }

    fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    /// The account of whoever asks.
    pub fn account(&self) -> AccountName {
        self.call.principal.account.clone()
    }

    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// The body as JSON; `null` counts as left out.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        Ok(json::read(&self.body)?)
    }

    /// The topic that the path names.
    pub fn topic_ref(&self) -> Result<TopicRef, Fault> {
        self.topic.clone().map(TopicRef::Name).ok_or_else(|| Fault::internal("a route without a topic"))
    }

    /// The same, looked up.
    pub async fn topic(&self) -> Result<Topic, Fault> {
        let topic = self.call.front.engine.topic(self.account(), self.topic_ref()?).await;
        topic.map_err(|error| Fault::lookup(error, Plane::Management))
    }

    /// The group that the path names.
    pub fn group_name(&self) -> Result<GroupName, Fault> {
        let name = self.param("group").unwrap_or_default();
        GroupName::parse(name).map_err(|error| Fault::rule("consumerGroupId", error))
    }

    /// The same, looked up.
    pub async fn group(&self) -> Result<Group, Fault> {
        let (topic, group) = (self.topic_ref()?, GroupRef::Name(self.group_name()?));
        let group = self.call.front.engine.group(self.account(), topic, group).await;
        group.map_err(|error| Fault::lookup(error, Plane::Management))
    }

    /// All groups of a topic.
    pub async fn groups(&self, topic: &Topic) -> Result<Vec<Group>, Fault> {
        match self.call.front.engine.groups(self.account(), TopicRef::Id(topic.id)).await {
            Ok(groups) => Ok(groups),
            // Deleted in between.
            Err(LookupError::NoSuchTopic | LookupError::NoSuchGroup) => Ok(Vec::new()),
            Err(error @ LookupError::Refused(_)) => Err(Fault::lookup(error, Plane::Management)),
        }
    }

    /// All topics that the caller may see, those for dead letters left out.
    pub async fn topics(&self) -> Result<Vec<Topic>, Fault> {
        let topics = self.call.front.engine.topics(self.account()).await;
        let topics = topics.map_err(|error| Fault::lookup(error, Plane::Management))?;
        let is_seen = |topic: &Topic| {
            let seen = authorise(&self.call.principal, Right::See, Target::Topic(&topic.name));
            seen.is_ok() && !super::groups::is_dead_letter_topic(topic)
        };
        Ok(topics.into_iter().filter(is_seen).collect())
    }

    /// The page that is asked for.
    pub fn page(&self) -> Result<Page, Fault> {
        let number = |name: &str, default: usize| match self.parameter(name) {
            Some(text) => digits(&text).ok_or_else(|| Fault::parameter(name)),
            None => Ok(default),
        };
        let size = number("pageSize", PAGE_SIZE_DEFAULT)?;
        if !PAGE_SIZES.contains(&size) {
            return Err(Fault::rule("pageSize", "10 to 100"));
        }
        let page: usize = number("pageNumber", 1)?;
        let skip = page.checked_sub(1).and_then(|before| before.checked_mul(size));
        Ok(Page { skip: skip.ok_or_else(|| Fault::rule("pageNumber", "from 1 on"))?, size })
    }

    /// The times that a list is asked between.
    pub fn period(&self) -> Result<(Millis, Millis), Fault> {
        Ok((instant("startTime", self.parameter("startTime"))?, instant("endTime", self.parameter("endTime"))?))
    }

    /// Goes over the messages of a topic that pass `filter`, in order, until `take` has enough.
    pub async fn look(
        &self,
        topic: TopicRef,
        filter: PeekFilter,
        mut take: impl FnMut(Message) -> Enough + Send,
    ) -> Result<(), Fault> {
        let mut from = Offset::ZERO;
        for _ in 0..LOOKS_MAX {
            let (account, topic) = (self.account(), topic.clone());
            let peek = Peek { account, topic, group: None, filter: filter.clone(), from, limit: LOOK_MESSAGES };
            let peeked = self.call.front.engine.peek(peek).await?;
            for peeked in peeked.messages {
                if take(peeked.message) == Enough::Yes {
                    return Ok(());
                }
            }
            match peeked.next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
        Err(Fault::precondition("there are too many messages to search"))
    }
}

/// Whether a look may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enough {
    /// It may.
    Yes,
    /// More is wanted.
    No,
}

/// Reads an instant that has to be there.
pub fn instant(name: &str, text: Option<&str>) -> Result<Millis, Fault> {
    let instant = text.and_then(parse_utc);
    instant.ok_or_else(|| Fault::rule(name, "a time in UTC, such as 2018-08-14T03:37:00Z"))
}
