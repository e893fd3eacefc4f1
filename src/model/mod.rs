//! The words every layer speaks: names, numbers, messages, settings. No I/O, no serde, no clock.

mod access;
mod group;
mod id;
mod message;
mod names;
mod numbers;
mod topic;

pub use access::{AccessId, AccessKind, AccessRecord, Permission, Permissions, TopicPattern};
pub use group::{Flow, Group, GroupPatch, GroupRef, GroupSettings, RetryDelays, SettingsError, Start, TagFilter};
pub use id::{GroupId, IdError, MessageId, TopicId};
pub use message::{Body, Delivery, Message, MessageHead, NewMessage, Origin, Published};
pub use names::{AccountName, ContentType, GroupName, IdempotencyKey, Key, NameError, Tag, TopicName};
pub use numbers::{Attempt, Lsn, Millis, Offset};
pub use topic::{
    Annotate, Annotations, Compaction, Ordering, Retention, Settled, Topic, TopicPatch, TopicRef, TopicSettings,
};

/// Bounds that hold whatever the configuration says. Each is answered to the client who meets it.
pub mod bounds {
    use std::time::Duration;

    /// Longest lease, nack delay and publish delay times that any dialect accepts.
    pub const LEASE_MAX: Duration = Duration::from_secs(12 * 3600);
    /// Shortest lease.
    pub const LEASE_MIN: Duration = Duration::from_millis(1);
    /// Longest delay at publish or nack.
    pub const DELAY_MAX: Duration = Duration::from_secs(14 * 24 * 3600);
    /// Longest a pull may wait.
    pub const WAIT_MAX: Duration = Duration::from_secs(300);
    /// Most messages in one publish.
    pub const PUBLISH_BATCH_MAX: usize = 10_000;
    /// Most messages in one pull, one settle or one page of a peek.
    pub const PULL_BATCH_MAX: usize = 1_000;
    /// A pull or a page of a peek that has this many bytes of bodies takes no further message. It always takes one.
    pub const PULL_BYTES_MAX: u64 = 16 << 20;
    /// Most leases settled in one request.
    pub const SETTLE_BATCH_MAX: usize = 10_000;
    /// Most properties of a message, and annotations of a topic or group.
    pub const PROPERTIES_MAX: usize = 64;
    /// Bytes of all properties of a message (names and values), and of all annotations.
    pub const PROPERTIES_BYTES_MAX: usize = 16 * 1024;
    /// Largest attempts limit.
    pub const ATTEMPTS_MAX: u32 = 100_000;
    /// Entries of a retry table.
    pub const RETRY_TABLE_MAX: usize = 64;
    /// Tags named in one filter.
    pub const FILTER_TAGS_MAX: usize = 32;
}
