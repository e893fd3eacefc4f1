//! Messages: as published, as kept, as delivered.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::model::{Attempt, ContentType, GroupName, IdempotencyKey, Key, MessageId, Millis, Offset, Tag, TopicName};

/// What a producer published, untouched.
pub type Body = Bytes;

/// A message on its way in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewMessage {
    /// The bytes to keep. Any bytes; may be empty.
    pub body: Body,
    /// Media type of the body.
    pub content_type: Option<ContentType>,
    /// Order and compaction are per key.
    pub key: Option<Key>,
    /// Groups may filter by it.
    pub tag: Option<Tag>,
    /// The producer's own name-value pairs.
    pub properties: BTreeMap<String, String>,
    /// How long to withhold it; `None` means the topic's default, zero means not at all.
    pub delay: Option<Duration>,
    /// A repeat with the same key is answered with the first id and not published again.
    pub idempotency_key: Option<IdempotencyKey>,
}

/// All of a message but its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageHead {
    /// Minted by the writer.
    pub id: MessageId,
    /// Place in the topic it was read from.
    pub offset: Offset,
    /// Media type of the body.
    pub content_type: Option<ContentType>,
    /// Order and compaction are per key.
    pub key: Option<Key>,
    /// Groups may filter by it.
    pub tag: Option<Tag>,
    /// The producer's own name-value pairs.
    pub properties: BTreeMap<String, String>,
    /// Log-clock time of the publish.
    pub published_at: Millis,
    /// Log-clock time before which it is not delivered; equals `published_at` without a delay.
    pub ready_at: Millis,
    /// Where it came from, if it is a dead letter (or was redriven).
    pub origin: Option<Origin>,
}

/// A message as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// All but the body.
    pub head: MessageHead,
    /// The bytes that were published.
    pub body: Body,
}

/// Where a dead letter was before it was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The topic it was published to.
    pub topic: TopicName,
    /// The group that gave it up.
    pub group: GroupName,
    /// Its offset there.
    pub offset: Offset,
    /// Deliveries it had there.
    pub attempts: Attempt,
    /// Why: `attempts` (all used up), or the reason given with a bury.
    pub reason: String,
    /// Log-clock time of the move.
    pub moved_at: Millis,
}

/// A message handed to a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Which delivery to this group this is.
    pub attempt: Attempt,
    /// Names the lease, for ack, nack, extend and bury. Empty when the pull acked by itself.
    pub token: String,
    /// Random bits that name the lease where the wire cannot carry a token; zero if not asked for.
    pub handle: u128,
    /// How long the lease holds from now on.
    pub lease: Duration,
}

/// The answer to one message of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Id of the message; of the first one when `repeated`.
    pub id: MessageId,
    /// Its offset.
    pub offset: Offset,
    /// The idempotency key was known: nothing new was published.
    pub repeated: bool,
}
