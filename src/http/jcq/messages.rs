//! The data plane: send, receive, ack. A pulled batch has one lease, one handle and one answer.
//!
//! Bodies are text. A body of another dialect that is none is handed out in base64, and a property says so.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;

use crate::engine::{
    HandleKind, Lateness, LeaseRef, LookupError, Publish, Pull, PullError, Pulled, Settle, SettleAction, SettleOutcome,
    Wait,
};
use crate::http::call::Call;
use crate::http::jcq::fault::{Fault, Plane};
use crate::http::jcq::groups::{self, MakeError, Wanted, make_group, new_group_name};
use crate::http::jcq::permissions::allow;
use crate::http::jcq::wire::{
    AckIn, AckIndexView, BATCH_MAX, MessageIn, MessageView, PulledView, SendIn, SentView, Unique, success,
};
use crate::http::json;
use crate::http::whole::digits;
use crate::model::{
    AccountName, ContentType, Delivery, Group, GroupName, GroupRef, MessageHead, NewMessage, Ordering, Permission,
    Start, Tag, TagFilter, Topic, TopicName, TopicRef, bounds,
};

/// Bytes of one body.
pub const BODY_BYTES_MAX: usize = 256 << 10;
/// Longest delay: a day.
const DELAY_SECS_MAX: i64 = 86_400;
/// Parameters of a receive.
const PARAMETERS: [&str; 8] = [
    "topic",
    "consumerGroupId",
    "size",
    "consumerId",
    "consumeFromWhere",
    "filterExpressionType",
    "filterExpression",
    "ack",
];
/// Begins an ack index of v2; v1 has the number alone.
const INDEX_PREFIX: &str = "broker-";
/// Properties that would stand for another field of the message in its signature.
const SHADOWING: [&str; 3] = ["body", "tag", "delaySeconds"];
/// Property in which a tag is handed out.
pub const TAGS: &str = "TAGS";
/// Property in which a key is handed out.
const KEYS: &str = "KEYS";
/// Property that says how a body is encoded that is no text.
const ENCODING: &str = "BODY_ENCODING";
const TEXT: &str = "text/plain; charset=utf-8";

/// Which version of the data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Ack indices are numbers.
    V1,
    /// Ack indices are text.
    V2,
}

/// A request to the data plane whose maker is known.
pub struct DataCall {
    /// Who asks.
    pub call: Call,
    /// What was signed with it.
    pub body: Bytes,
    /// Its version.
    pub version: Version,
}

impl DataCall {
    fn account(&self) -> AccountName {
        self.call.principal.account.clone()
    }
}

fn required<'a>(value: Option<&'a str>, name: &str) -> Result<&'a str, Fault> {
    value.ok_or_else(|| Fault::parameter(name))
}

/// Topics of other dialects count too: the rule is that of every topic.
fn read_topic(text: Option<&str>) -> Result<TopicName, Fault> {
    TopicName::parse(required(text, "topic")?).map_err(|error| Fault::rule("topic", error))
}

fn read_group(text: Option<&str>) -> Result<GroupName, Fault> {
    let name = required(text, "consumerGroupId")?;
    GroupName::parse(name).map_err(|error| Fault::rule("consumerGroupId", error))
}

/// `POST /messages`
pub async fn send(call: DataCall) -> Result<Response, Fault> {
    let request: SendIn = json::read(&call.body)?;
    let topic = read_topic(request.topic.as_deref())?;
    allow(&call.call, Permission::Publish, &topic).await?;
    let is_order = match required(request.kind.as_deref(), "type")? {
        "NORMAL" => false,
        "ORDER" => true,
        _ => return Err(Fault::rule("type", "NORMAL or ORDER")),
    };
    let messages = request.messages.unwrap_or_default().0;
    if messages.is_empty() {
        return Err(Fault::rule("messages", "1 to 32 messages"));
    }
    let messages = messages.into_iter().enumerate().map(|(place, message)| read_message(place, message));
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    let is_delayed = messages.iter().any(|message| message.delay.is_some());
    if is_order || is_delayed {
        check_order(&call, &topic, is_order, is_delayed).await?;
    }
    let request = Publish { account: call.account(), topic: TopicRef::Name(topic), messages };
    let published = call.call.front.engine.publish(request).await?;
    let message_ids = published.iter().map(|message| message.id.to_hex()).collect();
    Ok(success(SentView { message_ids }))
}

/// Order is kept by the topic: one that keeps none cannot promise it, one that does cannot delay.
async fn check_order(call: &DataCall, topic: &TopicName, is_order: bool, is_delayed: bool) -> Result<(), Fault> {
    let topic = call.call.front.engine.topic(call.account(), TopicRef::Name(topic.clone())).await;
    let is_strict = topic.map_err(|error| Fault::lookup(error, Plane::Data))?.settings.ordering == Ordering::Strict;
    if is_order && !is_strict {
        return Err(Fault::rule("type", "ORDER needs a topic of type global_order"));
    }
    if is_delayed && is_strict {
        return Err(Fault::rule("delaySeconds", "ordered messages have no delay"));
    }
    Ok(())
}

fn read_message(place: usize, message: MessageIn) -> Result<NewMessage, Fault> {
    let at = |field: &str| format!("messages/{place}/{field}");
    let body = message.body.ok_or_else(|| Fault::parameter(&at("body")))?;
    if body.len() > BODY_BYTES_MAX {
        return Err(Fault::rule(&at("body"), format_args!("at most {BODY_BYTES_MAX} bytes")));
    }
    let delay = match message.delay_seconds {
        Some(seconds) if !(0..=DELAY_SECS_MAX).contains(&seconds) => {
            return Err(Fault::rule(&at("delaySeconds"), format_args!("0 to {DELAY_SECS_MAX}")));
        }
        seconds => seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.unsigned_abs())),
    };
    let Unique(mut properties) = message.properties.unwrap_or(Unique(BTreeMap::new()));
    if let Some(name) = SHADOWING.iter().find(|name| properties.contains_key(**name)) {
        return Err(Fault::rule(&at("properties"), format_args!("`{name}` cannot be the name of a property")));
    }
    // What was handed out may be sent again as it is.
    let tag = match (message.tag, properties.remove(TAGS)) {
        (Some(tag), Some(other)) if tag != other => {
            return Err(Fault::rule(&at("properties"), "TAGS is another tag than `tag`"));
        }
        (tag, other) => tag.or(other).filter(|tag| !tag.is_empty()),
    };
    let tag = tag.map(|tag| Tag::parse(&tag)).transpose().map_err(|error| Fault::rule(&at("tag"), error))?;
    let content_type = ContentType::parse(TEXT).ok();
    Ok(NewMessage { body: body.into(), content_type, tag, properties, delay, ..NewMessage::default() })
}

/// What a receive asks for.
struct Receive {
    topic: TopicName,
    group: GroupName,
    size: usize,
    start: Start,
    filter: Option<TagFilter>,
    auto_ack: bool,
}

fn read_receive(call: &Call) -> Result<Receive, Fault> {
    let mut query = BTreeMap::new();
    for (name, value) in call.query() {
        // A signature does not say what it was made for: that of an ack must not pass for a receive.
        if !PARAMETERS.contains(&name.as_ref()) {
            return Err(Fault::rule(&name, "is no parameter of a receive"));
        }
        if query.insert(name.clone(), value).is_some() {
            return Err(Fault::rule(&name, "comes twice"));
        }
    }
    let get = |name: &str| query.get(name).map(AsRef::as_ref);
    let size = match get("size") {
        Some(text) => digits(text).filter(|size| (1..=BATCH_MAX).contains(size)),
        None => Some(BATCH_MAX),
    };
    let start = match get("consumeFromWhere") {
        None | Some("HEAD") => Start::Head,
        Some("TAIL") => Start::Tail,
        Some(_) => return Err(Fault::rule("consumeFromWhere", "HEAD or TAIL")),
    };
    let auto_ack = match get("ack") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Fault::rule("ack", "true or false")),
    };
    Ok(Receive {
        topic: read_topic(get("topic"))?,
        group: read_group(get("consumerGroupId"))?,
        size: size.ok_or_else(|| Fault::rule("size", format_args!("1 to {BATCH_MAX}")))?,
        start,
        filter: read_filter(get("filterExpressionType"), get("filterExpression"))?,
        auto_ack,
    })
}

fn read_filter(kind: Option<&str>, expression: Option<&str>) -> Result<Option<TagFilter>, Fault> {
    match (kind, expression) {
        (None, None) => Ok(None),
        (Some("TAG"), Some(expression)) => {
            let filter = TagFilter::parse(expression).map_err(|error| Fault::rule("filterExpression", error))?;
            match &filter {
                TagFilter::AnyOf(tags) if tags.len() > bounds::FILTER_TAGS_MAX => {
                    Err(Fault::rule("filterExpression", format_args!("at most {} tags", bounds::FILTER_TAGS_MAX)))
                }
                TagFilter::AnyOf(_) | TagFilter::All => Ok(Some(filter)),
            }
        }
        (Some("TAG"), None) => Err(Fault::rule("filterExpression", "is missing")),
        (Some(_) | None, _) => Err(Fault::rule("filterExpressionType", "TAG, together with filterExpression")),
    }
}

/// `GET /messages`
pub async fn receive(call: DataCall) -> Result<Response, Fault> {
    let request = read_receive(&call.call)?;
    allow(&call.call, Permission::Consume, &request.topic).await?;
    let group = match find_group(&call, &request).await? {
        Some(group) => group,
        None => make_first(&call, &request).await?,
    };
    check_dead_letters(&call, &group).await?;
    let pulled = pull(&call, &request, &group).await?;
    let index =
        pulled.deliveries.first().filter(|_| !request.auto_ack).and_then(|first| ack_index(first, call.version));
    let messages = pulled.deliveries.into_iter().map(message_view).collect();
    Ok(success(PulledView { topic_name: request.topic.to_string(), ack_index: index, messages }))
}

async fn find_group(call: &DataCall, request: &Receive) -> Result<Option<Group>, Fault> {
    let (topic, group) = (TopicRef::Name(request.topic.clone()), GroupRef::Name(request.group.clone()));
    match call.call.front.engine.group(call.account(), topic, group).await {
        Ok(group) => Ok(Some(group)),
        Err(LookupError::NoSuchGroup) => Ok(None),
        Err(error) => Err(Fault::lookup(error, Plane::Data)),
    }
}

/// Makes the group that this is the first pull of.
async fn make_first(call: &DataCall, request: &Receive) -> Result<Group, Fault> {
    let name = new_group_name(request.group.as_str())?;
    let topic = call.call.front.engine.topic(call.account(), TopicRef::Name(request.topic.clone())).await;
    let topic: Topic = topic.map_err(|error| Fault::lookup(error, Plane::Data))?;
    match make_group(&call.call, &topic, name, Wanted::default_of(&topic), Plane::Data).await {
        Ok(group) => Ok(group),
        // Another first pull was faster.
        Err(MakeError::Exists) => {
            let found = find_group(call, request).await?;
            found.ok_or_else(|| Fault::lookup(LookupError::NoSuchGroup, Plane::Data))
        }
        Err(MakeError::Fault(fault)) => Err(fault),
    }
}

/// Suspends a group that has as many dead letters as it may.
async fn check_dead_letters(call: &DataCall, group: &Group) -> Result<(), Fault> {
    let Some(topic) = groups::own_dead_letters(group) else { return Ok(()) };
    let counts = call.call.front.engine.counts(call.account(), TopicRef::Name(topic.clone()), None).await;
    let max = call.call.front.config.jcq.dead_letters_max as u64;
    match counts {
        Ok(counts) if counts.unsettled() >= max => Err(Fault::suspended()),
        Ok(_) | Err(LookupError::NoSuchTopic | LookupError::NoSuchGroup) => Ok(()),
        Err(error @ LookupError::Refused(_)) => Err(Fault::lookup(error, Plane::Data)),
    }
}

async fn pull(call: &DataCall, request: &Receive, group: &Group) -> Result<Pulled, Fault> {
    let pull = Pull {
        account: call.account(),
        topic: TopicRef::Name(request.topic.clone()),
        group: GroupRef::Id(group.id),
        batch_max: request.size,
        lease: None,
        wait: Wait::None,
        auto_ack: request.auto_ack,
        handles: HandleKind::PerBatch,
        filter: request.filter.clone(),
        start: Some(request.start),
    };
    match call.call.front.engine.pull(pull).await {
        // This dialect knows no pause: there is nothing to be had.
        Err(PullError::Paused) => Ok(Pulled { deliveries: Vec::new(), counts: Default::default() }),
        pulled => Ok(pulled?),
    }
}

fn ack_index(first: &Delivery, version: Version) -> Option<AckIndexView> {
    let handle = u64::try_from(first.handle).ok().filter(|handle| *handle > 0)?;
    Some(match version {
        Version::V1 => AckIndexView::Number(handle),
        Version::V2 => AckIndexView::Text(format!("{INDEX_PREFIX}{handle}")),
    })
}

fn message_view(delivery: Delivery) -> MessageView {
    let message = delivery.message;
    let (message_body, is_text) = body_text(&message.body);
    let mut properties = properties_out(&message.head);
    if !is_text {
        properties.insert(ENCODING.to_owned(), "base64".to_owned());
    }
    MessageView { message_id: message.head.id.to_hex(), message_body, properties }
}

/// A body as text, and whether it is one: if not, its base64.
pub fn body_text(body: &[u8]) -> (String, bool) {
    match std::str::from_utf8(body) {
        Ok(text) => (text.to_owned(), true),
        Err(_) => (STANDARD.encode(body), false),
    }
}

/// The producer's properties, and what JCQ says as properties.
fn properties_out(head: &MessageHead) -> BTreeMap<String, String> {
    let mut properties = head.properties.clone();
    if let Some(tag) = &head.tag {
        properties.insert(TAGS.to_owned(), tag.to_string());
    }
    if let Some(key) = &head.key {
        properties.entry(KEYS.to_owned()).or_insert_with(|| key.to_string());
    }
    properties
}

/// What became of a batch, in the words of either version.
struct Ack {
    topic: TopicName,
    group: GroupName,
    handle: u64,
    action: SettleAction,
}

fn read_ack<'a, I: Deserialize<'a>>(body: &'a [u8], handle: fn(&I) -> Option<u64>) -> Result<Ack, Fault> {
    let request: AckIn<I> = json::read(body)?;
    let action = match required(request.ack_action.as_deref(), "ackAction")? {
        // Neither is delivered again.
        "SUCCESS" | "DISCARD" => SettleAction::Ack,
        "CONSUME_FAILED" => SettleAction::Nack { delay: None },
        "RESEND" => SettleAction::Nack { delay: Some(Duration::ZERO) },
        _ => return Err(Fault::rule("ackAction", "SUCCESS, CONSUME_FAILED, RESEND or DISCARD")),
    };
    let handle = request.ack_index.as_ref().and_then(handle).ok_or_else(|| Fault::parameter("ackIndex"))?;
    let topic = read_topic(request.topic.as_deref())?;
    Ok(Ack { topic, group: read_group(request.consumer_group_id.as_deref())?, handle, action })
}

/// `POST /ack`
pub async fn ack(call: DataCall) -> Result<Response, Fault> {
    let ack = match call.version {
        Version::V1 => read_ack::<i64>(&call.body, |number| u64::try_from(*number).ok())?,
        Version::V2 => read_ack::<String>(&call.body, |text| digits(text.strip_prefix(INDEX_PREFIX)?))?,
    };
    allow(&call.call, Permission::Consume, &ack.topic).await?;
    let settle = Settle {
        account: call.account(),
        topic: TopicRef::Name(ack.topic),
        group: Some(GroupRef::Name(ack.group)),
        items: vec![(LeaseRef::Handle(u128::from(ack.handle)), ack.action)],
        lateness: Lateness::Refuse,
    };
    let outcomes = call.call.front.engine.settle(settle).await?;
    match outcomes.first() {
        Some(SettleOutcome::Settled { .. } | SettleOutcome::SettledLate) => Ok(success(())),
        Some(
            SettleOutcome::Lapsed | SettleOutcome::TakenOver | SettleOutcome::AlreadySettled | SettleOutcome::Unknown,
        ) => Err(Fault::ack_failed()),
        None => Err(Fault::internal("a settle without an outcome")),
    }
}
