//! Groups as JCQ makes them: at a first pull with its defaults, or by management. Each has a topic of its
//! own for its dead letters, named after the group and the id of the topic, so that renames do not matter.

use std::time::Duration;

use crate::engine::{CreateGroup, CreateGroupError, CreateTopic, CreateTopicError, Position};
use crate::http::call::Call;
use crate::http::jcq::fault::{Fault, Plane};
use crate::model::{
    Annotations, Group, GroupName, GroupSettings, Ordering, Retention, RetryDelays, Settled, Start, Topic, TopicName,
    TopicRef, TopicSettings,
};

/// Time to ack, where nothing else is asked for.
const LEASE_DEFAULT: Duration = Duration::from_secs(30);
/// Retries after the first delivery, where nothing else is asked for.
pub const RETRIES_DEFAULT: u32 = 16;
/// Bytes of a group's name in JCQ.
const NAME_BYTES: std::ops::RangeInclusive<usize> = 7..=64;
/// Says in a topic whose dead letters it takes.
const DEAD_LETTERS_OF: &str = "jcq.dead_letters_of";

/// What a group shall be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Time to ack.
    pub lease: Duration,
    /// Retries before a message becomes a dead letter; `None`: there are no dead letters, retries never end.
    pub retries: Option<u32>,
}

impl Wanted {
    /// A group of this topic that nobody asked more of.
    pub fn default_of(topic: &Topic) -> Self {
        // An ordered topic has no dead letters: whatever follows would overtake them.
        let retries = (topic.settings.ordering != Ordering::Strict).then_some(RETRIES_DEFAULT);
        Self { lease: LEASE_DEFAULT, retries }
    }
}

/// Reads the name of a group to make by JCQ's rule, which is stricter than a group's.
pub fn new_group_name(text: &str) -> Result<GroupName, Fault> {
    let fits = NAME_BYTES.contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let rule = || Fault::rule("consumerGroupId", "7 to 64 of A-Z a-z 0-9 - _");
    if !fits {
        return Err(rule());
    }
    GroupName::parse(text).map_err(|_| rule())
}

/// The topic that takes the dead letters of a group; `None` for names that are longer than this dialect makes
/// them.
pub fn dead_letter_topic(topic: &Topic, group: &GroupName) -> Option<TopicName> {
    TopicName::parse(&format!("dlq.{group}.{}", topic.id.to_hex())).ok()
}

/// The dead-letter topic that this group does not share.
pub fn own_dead_letters(group: &Group) -> Option<&TopicName> {
    let name = group.settings.dead_letter.as_ref()?;
    name.as_str().starts_with(&format!("dlq.{}.", group.name)).then_some(name)
}

/// Whether a topic is there for dead letters of this dialect.
pub fn is_dead_letter_topic(topic: &Topic) -> bool {
    topic.settings.annotations.contains_key(DEAD_LETTERS_OF)
}

/// How long and whatever becomes of them topics of this dialect keep messages.
pub fn retention(call: &Call) -> Retention {
    Retention { settled: Settled::Keep, age: Some(call.front.config.jcq.retention), bytes: None }
}

/// Makes the topic for the dead letters of a group, unless it is there. Says whether it was made.
pub async fn make_dead_letter_topic(call: &Call, topic: &Topic, name: &TopicName) -> Result<bool, Fault> {
    let settings = TopicSettings {
        retention: retention(call),
        annotations: Annotations::from([(DEAD_LETTERS_OF.to_owned(), topic.id.to_hex())]),
        ..TopicSettings::default()
    };
    let request = CreateTopic { account: call.principal.account.clone(), name: name.clone(), settings };
    match call.front.engine.create_topic(request).await {
        Ok(_) => Ok(true),
        Err(CreateTopicError::Exists(_)) => Ok(false),
        Err(error) => Err(Fault::create_topic(error)),
    }
}

/// Makes a group without a position: its first pull says where it begins.
pub async fn make_group(
    call: &Call,
    topic: &Topic,
    name: GroupName,
    wanted: Wanted,
    plane: Plane,
) -> Result<Group, MakeError> {
    let engine = &call.front.engine;
    let account = || call.principal.account.clone();
    let dead_letter = match wanted.retries {
        Some(_) => Some(dead_letter_topic(topic, &name).ok_or_else(|| Fault::parameter("consumerGroupId"))?),
        None => None,
    };
    let made = match &dead_letter {
        Some(dead_letter) => make_dead_letter_topic(call, topic, dead_letter).await?,
        None => false,
    };
    let settings = GroupSettings {
        lease: wanted.lease,
        retry: RetryDelays::Table(call.front.config.jcq.retry_delays.0.clone()),
        // The first delivery is no retry.
        attempts_max: wanted.retries.map(|retries| retries + 1),
        dead_letter: dead_letter.clone(),
        ..GroupSettings::default()
    };
    let request = CreateGroup {
        account: account(),
        topic: TopicRef::Id(topic.id),
        name,
        settings,
        position: Position::FirstPull(Start::Head),
    };
    match engine.create_group(request).await {
        Ok(group) => Ok(group),
        Err(CreateGroupError::Exists(_)) => Err(MakeError::Exists),
        Err(error) => {
            if let (true, Some(dead_letter)) = (made, dead_letter) {
                // Nobody else can have used it: the group that it is for was never there.
                let _ = engine.delete_topic(account(), TopicRef::Name(dead_letter)).await;
            }
            Err(MakeError::Fault(Fault::create_group(error, plane)))
        }
    }
}

/// Why a group was not made.
pub enum MakeError {
    /// It is there already.
    Exists,
    /// Anything else.
    Fault(Fault),
}

impl From<Fault> for MakeError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
