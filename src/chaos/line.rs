//! A line of a history: what happened to a message or a call, as JSON. docs/CHAOS.md explains every field.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::chaos::faults::{Fault, Place};
use crate::engine::SettleOutcome;
use crate::model::{GroupName, MessageHead};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The server started.
    Start,
    /// A topic was given faults.
    Faults,
    /// A message was published.
    Publish,
    /// A message was handed to a consumer.
    Delivery,
    /// A consumer acked.
    Ack,
    /// A consumer gave back.
    Nack,
    /// A consumer asked for more time.
    Extend,
    /// A consumer gave a message up.
    Bury,
    /// A lease ended at its deadline.
    Lapse,
    /// A message used up its attempts, or was given up.
    DeadLetter,
    /// A call was refused, held back, or its answer cut; or the server ended itself.
    Fault,
    /// A topic was emptied.
    Purge,
    /// Single messages were given up.
    Discard,
    /// A group was moved.
    Seek,
    /// A topic was deleted.
    DeleteTopic,
    /// A group was deleted.
    DeleteGroup,
    /// The bound of the history is reached: nothing that comes later is in it.
    Full,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What happened.
    pub event: Event,
    /// Wall clock; may jump.
    pub wall_ms: u64,
    /// Clock since boot; never jumps.
    pub boot_ms: u64,
    /// Log clock of the publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_ms: Option<u64>,
    /// The account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its place in the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Which delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The group's limit of attempts at the delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u32>,
    /// Names the lease: the start of its token's SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Names the leases of a batch: the start of their handle's SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// How long the consumer was told that it holds the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// How long it really does, where that is another time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_ms: Option<u64>,
    /// What the consumer was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The fault that was dealt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// What was being done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
}

impl Line {
    /// A line about a message that somebody got, or published.
    pub fn about(&mut self, head: &MessageHead) -> &mut Self {
        self.id = Some(head.id.to_string());
        self.offset = Some(head.offset.get());
        self.key = head.key.as_ref().map(ToString::to_string);
        self.log_ms = Some(head.published_at.get());
        self
    }

    /// A line about a topic.
    pub fn at(&mut self, place: &Place) -> &mut Self {
        self.account = Some(place.account.to_string());
        self.topic = Some(place.topic.to_string());
        self
    }

    /// Whether a settle was done.
    pub fn is_done(&self) -> bool {
        matches!(self.outcome.as_deref(), Some("settled" | "settled_late"))
    }

    /// A line about a group.
    pub fn of(&mut self, group: &GroupName) -> &mut Self {
        self.group = Some(group.to_string());
        self
    }
}

/// Names a secret without telling it: 64 bits of its SHA-256.
pub fn hashed(secret: &str) -> String {
    Sha256::digest(secret).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// An outcome as histories spell it.
pub const fn outcome_name(outcome: SettleOutcome) -> &'static str {
    match outcome {
        SettleOutcome::Settled { .. } => "settled",
        SettleOutcome::SettledLate => "settled_late",
        SettleOutcome::Lapsed => "lapsed",
        SettleOutcome::TakenOver => "taken_over",
        SettleOutcome::AlreadySettled => "already_settled",
        SettleOutcome::Unknown => "unknown",
    }
}
