//! Calls that are under way: what was asked, and the answer when it is there.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use windlass::engine::local::LocalEngine;
use windlass::engine::{
    CreateGroup, CreateTopic, Discard, Engine, HandleKind, Lateness, LeaseRef, LookupError, Position, Publish,
    PublishError, Pull, PullError, Pulled, Redrive, RedriveError, RedriveReport, Seek, Settle, SettleAction,
    SettleError, SettleOutcome, Wait,
};
use windlass::model::{
    AccountName, GroupName, GroupRef, GroupSettings, IdempotencyKey, Key, NewMessage, Offset, Ordering, Published,
    Retention, Settled, Start, Tag, TopicName, TopicRef, TopicSettings,
};

use super::world::{DEAD, GroupModel, Spec, TopicModel, body_of};

/// What is done with one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Ack,
    Nack(u64),
    Extend(u64),
    Bury,
}

/// What was asked.
#[derive(Debug, Clone)]
pub enum Asked {
    Publish { topic: String, marks: Vec<u64> },
    Pull { topic: String, group: String, batch: usize, lease: u64, auto_ack: bool, wait: u64 },
    Settle { topic: String, group: String, items: Vec<(u64, String, Act)>, refuse_late: bool },
    Seek { topic: String, group: String, to: u64 },
    Purge { topic: String },
    Discard { topic: String, offsets: Vec<u64> },
    Redrive { offset: u64, id: u128, to: String },
    CreateTopic { topic: String, model: TopicModel },
    DeleteTopic { topic: String },
    CreateGroup { topic: String, group: String, model: GroupModel },
    DeleteGroup { topic: String, group: String },
}

impl Asked {
    /// Topics it is about.
    pub fn touches(&self, name: &str) -> bool {
        match self {
            Self::Redrive { to, .. } => to == name || name == DEAD,
            Self::Publish { topic, .. }
            | Self::Pull { topic, .. }
            | Self::Settle { topic, .. }
            | Self::Seek { topic, .. }
            | Self::Purge { topic }
            | Self::Discard { topic, .. }
            | Self::CreateTopic { topic, .. }
            | Self::DeleteTopic { topic }
            | Self::CreateGroup { topic, .. }
            | Self::DeleteGroup { topic, .. } => topic == name,
        }
    }

    /// Nothing else may be under way in its topics, or the model could not tell what came first.
    pub fn is_alone(&self) -> bool {
        !matches!(self, Self::Publish { .. } | Self::Pull { .. } | Self::Settle { .. })
    }
}

/// What was answered.
#[derive(Debug)]
pub enum Answer {
    Publish(Result<Vec<Published>, PublishError>),
    Pull(Result<Pulled, PullError>),
    Settle(Result<Vec<SettleOutcome>, SettleError>),
    Redrive(Result<RedriveReport, RedriveError>),
    Discard(Result<Vec<u64>, LookupError>),
    /// Done; or the reason why not.
    Plain(Result<(), String>),
}

impl Answer {
    /// It was carried out, but what it came to could not be read.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Pull(Err(PullError::Unreadable(_))))
    }
}

/// A call under way.
pub struct Call {
    pub asked: Asked,
    pub answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
}

pub fn account() -> AccountName {
    AccountName::standard()
}

pub fn topic_ref(topic: &str) -> TopicRef {
    TopicRef::Name(TopicName::parse(topic).unwrap())
}

pub fn group_ref(group: &str) -> GroupRef {
    GroupRef::Name(GroupName::parse(group).unwrap())
}

fn message(mark: u64, spec: &Spec) -> NewMessage {
    NewMessage {
        body: body_of(mark),
        key: spec.key.as_ref().map(|key| Key::parse(key).unwrap()),
        tag: spec.tag.as_ref().map(|tag| Tag::parse(tag).unwrap()),
        delay: (spec.delay > 0).then(|| Duration::from_millis(spec.delay)),
        idempotency_key: spec.idempotency.as_ref().map(|key| IdempotencyKey::parse(key).unwrap()),
        ..NewMessage::default()
    }
}

fn plain<T>(result: Result<T, impl std::fmt::Display>) -> Answer {
    Answer::Plain(result.map(|_| ()).map_err(|error| error.to_string()))
}

/// Asks the engine.
pub fn ask(engine: &Arc<LocalEngine>, asked: &Asked, specs: &[Spec]) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
    let engine = engine.clone();
    match asked.clone() {
        Asked::Publish { topic, marks } => {
            let messages = marks.iter().map(|mark| message(*mark, &specs[*mark as usize])).collect();
            let request = Publish { account: account(), topic: topic_ref(&topic), messages };
            Box::pin(async move { Answer::Publish(engine.publish(request).await) })
        }
        Asked::Pull { topic, group, batch, lease, auto_ack, wait } => {
            let request = Pull {
                account: account(),
                topic: topic_ref(&topic),
                group: group_ref(&group),
                batch_max: batch,
                lease: Some(Duration::from_millis(lease)),
                wait: if wait == 0 { Wait::None } else { Wait::Any(Duration::from_millis(wait)) },
                auto_ack,
                handles: HandleKind::None,
                filter: None,
                start: None,
            };
            Box::pin(async move { Answer::Pull(engine.pull(request).await) })
        }
        Asked::Settle { topic, group, items, refuse_late } => {
            let items = items.into_iter().map(|(_, token, act)| (LeaseRef::Token(token), action(&act))).collect();
            let lateness = if refuse_late { Lateness::Refuse } else { Lateness::IfFree };
            let group = Some(group_ref(&group));
            let request = Settle { account: account(), topic: topic_ref(&topic), group, items, lateness };
            Box::pin(async move { Answer::Settle(engine.settle(request).await) })
        }
        Asked::Seek { topic, group, to } => {
            let to = Start::Offset(Offset::new(to));
            let (topic, group) = (topic_ref(&topic), group_ref(&group));
            let request = Seek { account: account(), topic, group, to, dry_run: false };
            Box::pin(async move { plain(engine.seek(request).await) })
        }
        Asked::Purge { topic } => Box::pin(async move { plain(engine.purge(account(), topic_ref(&topic)).await) }),
        Asked::Discard { topic, offsets } => {
            let offsets = offsets.into_iter().map(Offset::new).collect();
            let request = Discard { account: account(), topic: topic_ref(&topic), offsets };
            Box::pin(async move {
                let report = engine.discard(request).await;
                Answer::Discard(report.map(|report| report.discarded.iter().map(|offset| offset.get()).collect()))
            })
        }
        Asked::Redrive { offset, .. } => {
            let offsets = vec![Offset::new(offset)];
            let request = Redrive { account: account(), topic: topic_ref(DEAD), offsets, limit: 10 };
            Box::pin(async move { Answer::Redrive(engine.redrive(request).await) })
        }
        Asked::CreateTopic { topic, model } => {
            let settled = if model.keeps { Settled::Keep } else { Settled::Drop };
            let bytes = model.trims.then_some(20_000);
            let settings = TopicSettings {
                retention: Retention { settled, age: None, bytes },
                ordering: if model.per_key { Ordering::PerKey } else { Ordering::None },
                idempotency_window: TopicSettings::IDEMPOTENCY_WINDOW_MAX,
                ..TopicSettings::default()
            };
            let request = CreateTopic { account: account(), name: TopicName::parse(&topic).unwrap(), settings };
            Box::pin(async move { plain(engine.create_topic(request).await) })
        }
        Asked::DeleteTopic { topic } => {
            Box::pin(async move { plain(engine.delete_topic(account(), topic_ref(&topic)).await) })
        }
        Asked::CreateGroup { topic, group, model } => {
            let settings = GroupSettings {
                attempts_max: model.attempts_max,
                dead_letter: model.dead_letter.then(|| TopicName::parse(DEAD).unwrap()),
                ..GroupSettings::default()
            };
            let request = CreateGroup {
                account: account(),
                topic: topic_ref(&topic),
                name: GroupName::parse(&group).unwrap(),
                settings,
                position: Position::Now(Start::Head),
            };
            Box::pin(async move { plain(engine.create_group(request).await) })
        }
        Asked::DeleteGroup { topic, group } => {
            let (topic, group) = (topic_ref(&topic), group_ref(&group));
            Box::pin(async move { plain(engine.delete_group(account(), topic, group).await) })
        }
    }
}

fn action(act: &Act) -> SettleAction {
    match act {
        Act::Ack => SettleAction::Ack,
        Act::Nack(delay) => SettleAction::Nack { delay: Some(Duration::from_millis(*delay)) },
        Act::Extend(lease) => SettleAction::Extend { lease: Duration::from_millis(*lease) },
        Act::Bury => SettleAction::Bury { reason: "given up".to_owned() },
    }
}
