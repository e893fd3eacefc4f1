//! Why [`Engine`](crate::engine::Engine) refuses: a closed set for each operation.

use crate::model::{AccessId, GroupName, SettingsError, Topic, TopicName};

/// Why the engine takes no command at all right now. The client should come back later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The inbox is full.
    #[error("the server is busy")]
    Busy,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// No space is left for new messages; acks and reads go on.
    #[error("the disk is full")]
    DiskFull,
    /// The topic has a fault that plays an overloaded server.
    #[error("chaos: the server plays overloaded, as this topic's faults ask")]
    Unavailable,
    /// The topic has a fault that plays a bound of requests.
    #[error("chaos: the server plays a bound of requests, as this topic's faults ask")]
    Throttled,
}

/// A topic or group that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The account has no such topic.
    #[error("no such topic")]
    NoSuchTopic,
    /// The topic has no such group.
    #[error("no such group")]
    NoSuchGroup,
    /// The engine takes no commands.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Why a topic was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateTopicError {
    /// The name is taken, by this topic.
    #[error("topic `{}` exists", .0.name)]
    Exists(Box<Topic>),
    /// A setting is out of bounds.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The server holds as many topics as it may.
    #[error("the limit of {max} topics is reached")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// The engine takes no commands.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Why a topic was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateTopicError {
    /// There is no such topic.
    #[error("no such topic")]
    NoSuchTopic,
    /// The new name is taken.
    #[error("topic `{0}` exists")]
    NameTaken(TopicName),
    /// A setting is out of bounds.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Ordering cannot change while messages are in flight, compaction not while there are messages.
    #[error("`{field}` cannot change now: {why}")]
    InUse {
        /// Name of the setting.
        field: &'static str,
        /// What stands in the way.
        why: &'static str,
    },
    /// The engine takes no commands.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Why a group was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateGroupError {
    /// There is no such topic.
    #[error("no such topic")]
    NoSuchTopic,
    /// The name is taken in this topic.
    #[error("group `{0}` exists")]
    Exists(GroupName),
    /// A setting is out of bounds.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The topic (or the server) holds as many groups as it may.
    #[error("the limit of {max} groups is reached")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// The engine takes no commands.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Why a group was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateGroupError {
    /// There is no such topic or group.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// A setting is out of bounds.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// Why nothing of a batch was published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// There is no such topic.
    #[error("no such topic")]
    NoSuchTopic,
    /// No message, or too many.
    #[error("a batch has 1 to {max} messages, not {got}")]
    BatchCount {
        /// Messages received.
        got: usize,
        /// Messages allowed.
        max: usize,
    },
    /// A body is too large.
    #[error("the body of message {index} is {got} bytes, the limit is {max}")]
    BodyTooLarge {
        /// Its place in the batch, from 0.
        index: usize,
        /// Bytes received.
        got: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The batch is too large for one commit.
    #[error("the batch is {got} bytes, the limit is {max}")]
    BatchTooLarge {
        /// Bytes received, heads included.
        got: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Too many properties, or too many bytes of them.
    #[error("message {index} has too many properties: at most {pairs_max} pairs and {bytes_max} bytes")]
    Properties {
        /// Its place in the batch, from 0.
        index: usize,
        /// Pairs allowed.
        pairs_max: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// A delay is out of bounds.
    #[error("the delay of message {index} is over the limit of {max_secs} s")]
    DelayTooLong {
        /// Its place in the batch, from 0.
        index: usize,
        /// Seconds allowed.
        max_secs: u64,
    },
    /// The idempotency key was used for another body within its window.
    #[error("the idempotency key of message {index} was used for another message")]
    IdempotencyConflict {
        /// Its place in the batch, from 0.
        index: usize,
    },
    /// The table of idempotency keys, or of compaction keys, is full.
    #[error("the table of {what} is full: at most {max}")]
    TableFull {
        /// Which table.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// The engine takes no commands.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Why a pull was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// There is no such topic or group.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The topic or the group is paused.
    #[error("delivery is paused")]
    Paused,
    /// The batch, the lease or the wait is out of bounds.
    #[error(transparent)]
    Bounds(#[from] SettingsError),
    /// As many pulls as allowed are waiting already.
    #[error("{max} pulls are waiting already")]
    TooManyWaiting {
        /// The bound.
        max: u32,
    },
    /// A body could not be read from the disk; the leases given run on.
    #[error("a message could not be read: {0}")]
    Unreadable(String),
}

/// Why nothing of a settle was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// There is no such topic or group.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// Too many items, or a delay, lease or reason out of bounds.
    #[error(transparent)]
    Bounds(#[from] SettingsError),
}

/// Why a peek was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeekError {
    /// There is no such topic or group.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The limit is out of bounds, or a state was asked for without a group.
    #[error(transparent)]
    Bounds(#[from] SettingsError),
    /// A body could not be read from the disk.
    #[error("a message could not be read: {0}")]
    Unreadable(String),
}

/// Why a redrive did nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedriveError {
    /// There is no such topic.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The limit is out of bounds.
    #[error(transparent)]
    Bounds(#[from] SettingsError),
}

/// Why a credential was not kept or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The id is taken.
    #[error("credential `{0}` exists")]
    Exists(AccessId),
    /// There is none with this id in this account.
    #[error("no credential `{0}`")]
    NoSuchCredential(AccessId),
    /// The server holds as many as it may.
    #[error("the limit of {max} credentials is reached")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// The engine takes no commands.
    #[error(transparent)]
    Refused(#[from] Refusal),
}
