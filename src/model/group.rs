//! Groups and their settings.

use std::time::Duration;

use crate::model::topic::{annotated, check_annotations};
use crate::model::{
    AccountName, Annotate, Annotations, Attempt, GroupId, GroupName, Millis, NameError, Offset, Tag, TopicName, bounds,
};

/// A setting out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` must be {rule}")]
pub struct SettingsError {
    /// Name of the setting.
    pub field: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

/// Whether messages are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// They are.
    #[default]
    Running,
    /// Nothing is delivered; leases run on and may be settled.
    Paused,
}

/// Names a group of a topic, by name or by id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GroupRef {
    /// By its name.
    Name(GroupName),
    /// By its id.
    Id(GroupId),
}

/// Where a group begins to read. Counts only while the group has no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// The oldest message kept.
    #[default]
    Head,
    /// The next message published.
    Tail,
    /// This offset (moved into what is kept).
    Offset(Offset),
    /// The first message published at or after this log-clock time; the tail if there is none yet. Looked up
    /// when it is said, not when it comes to be used.
    Time(Millis),
}

/// How long a returned message waits before it is delivered again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryDelays {
    /// Always this long.
    Fixed(Duration),
    /// After the n-th delivery the n-th entry; the last one from then on. Never empty.
    Table(Vec<Duration>),
}

impl RetryDelays {
    /// The wait after delivery number `attempt`.
    pub fn after(&self, attempt: Attempt) -> Duration {
        match self {
            Self::Fixed(delay) => *delay,
            Self::Table(delays) => {
                let place = (attempt.get().max(1) as usize - 1).min(delays.len().saturating_sub(1));
                delays.get(place).copied().unwrap_or_default()
            }
        }
    }
}

/// Which tags a group wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TagFilter {
    /// Every message, tagged or not.
    #[default]
    All,
    /// Messages with one of these tags. Never empty.
    AnyOf(Vec<Tag>),
}

impl TagFilter {
    /// Reads `*`, nothing, or tags joined by `||` (RocketMQ's expression: parts are trimmed, empty ones
    /// dropped).
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let parts: Vec<&str> = text.split("||").map(str::trim).filter(|part| !part.is_empty()).collect();
        if parts.is_empty() || parts.contains(&"*") {
            return Ok(Self::All);
        }
        let tags = parts.into_iter().map(Tag::parse).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::AnyOf(tags))
    }

    /// Whether a message with this tag is wanted. A message without a tag passes only `All`.
    pub fn wants(&self, tag: Option<&Tag>) -> bool {
        match self {
            Self::All => true,
            Self::AnyOf(tags) => tag.is_some_and(|tag| tags.contains(tag)),
        }
    }
}

/// Settings of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// Lease of pulls that name none.
    pub lease: Duration,
    /// Wait of returned messages, unless the nack names one. A lapsed lease waits not at all.
    pub retry: RetryDelays,
    /// Deliveries a message gets; after the last it is a dead letter. `None`: no limit.
    pub attempts_max: Option<u32>,
    /// Topic of the same account that takes dead letters, made when needed. `None`: they are discarded
    /// and counted.
    pub dead_letter: Option<TopicName>,
    /// Most messages in flight at once; at the cap only returned messages are delivered.
    pub pending_max: u32,
    /// Most pulls waiting at once.
    pub waiting_max: u32,
    /// Which tags it wants; others count as settled for this group.
    pub filter: TagFilter,
    /// Paused: nothing is delivered to this group.
    pub flow: Flow,
    /// Free pairs.
    pub annotations: Annotations,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            retry: RetryDelays::Fixed(Duration::ZERO),
            attempts_max: None,
            dead_letter: None,
            pending_max: 10_000,
            waiting_max: 10_000,
            filter: TagFilter::All,
            flow: Flow::Running,
            annotations: Annotations::new(),
        }
    }
}

impl GroupSettings {
    /// Largest cap of messages in flight.
    pub const PENDING_MAX_MAX: u32 = 1_000_000;
    /// Largest cap of waiting pulls.
    pub const WAITING_MAX_MAX: u32 = 100_000;

    /// Refuses what is out of bounds.
    pub fn check(&self) -> Result<(), SettingsError> {
        let refuse = |field, rule| Err(SettingsError { field, rule });
        if self.lease < bounds::LEASE_MIN || self.lease > bounds::LEASE_MAX {
            return refuse("lease", "1 ms to 12 hours");
        }
        let delays = match &self.retry {
            RetryDelays::Fixed(delay) => std::slice::from_ref(delay),
            RetryDelays::Table(delays) => delays,
        };
        if delays.is_empty() || delays.len() > bounds::RETRY_TABLE_MAX {
            return refuse("retry", "a delay or a table of 1 to 64 delays");
        }
        if delays.iter().any(|delay| *delay > bounds::DELAY_MAX) {
            return refuse("retry", "at most 14 days");
        }
        if self.attempts_max.is_some_and(|max| max == 0 || max > bounds::ATTEMPTS_MAX) {
            return refuse("attempts_max", "1 to 100000");
        }
        if self.pending_max == 0 || self.pending_max > Self::PENDING_MAX_MAX {
            return refuse("pending_max", "1 to 1000000");
        }
        if self.waiting_max > Self::WAITING_MAX_MAX {
            return refuse("waiting_max", "at most 100000");
        }
        if let TagFilter::AnyOf(tags) = &self.filter
            && (tags.is_empty() || tags.len() > bounds::FILTER_TAGS_MAX)
        {
            return refuse("filter", "1 to 32 tags");
        }
        check_annotations(&self.annotations)
    }
}

/// A change to a group: what is `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupPatch {
    /// See [`GroupSettings::lease`]. Leases already given keep their deadline.
    pub lease: Option<Duration>,
    /// See [`GroupSettings::retry`].
    pub retry: Option<RetryDelays>,
    /// See [`GroupSettings::attempts_max`].
    pub attempts_max: Option<Option<u32>>,
    /// See [`GroupSettings::dead_letter`].
    pub dead_letter: Option<Option<TopicName>>,
    /// See [`GroupSettings::pending_max`].
    pub pending_max: Option<u32>,
    /// See [`GroupSettings::waiting_max`].
    pub waiting_max: Option<u32>,
    /// See [`GroupSettings::filter`].
    pub filter: Option<TagFilter>,
    /// See [`GroupSettings::flow`].
    pub flow: Option<Flow>,
    /// Replaces all annotations.
    pub annotations: Option<Annotations>,
    /// Changes single annotations, after that.
    pub annotate: Annotate,
}

impl GroupPatch {
    /// The settings after the change.
    #[must_use]
    pub fn applied_to(&self, old: &GroupSettings) -> GroupSettings {
        GroupSettings {
            lease: self.lease.unwrap_or(old.lease),
            retry: self.retry.clone().unwrap_or_else(|| old.retry.clone()),
            attempts_max: self.attempts_max.unwrap_or(old.attempts_max),
            dead_letter: self.dead_letter.clone().unwrap_or_else(|| old.dead_letter.clone()),
            pending_max: self.pending_max.unwrap_or(old.pending_max),
            waiting_max: self.waiting_max.unwrap_or(old.waiting_max),
            filter: self.filter.clone().unwrap_or_else(|| old.filter.clone()),
            flow: self.flow.unwrap_or(old.flow),
            annotations: annotated(&old.annotations, self.annotations.as_ref(), &self.annotate),
        }
    }
}

/// A group as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The account it belongs to.
    pub account: AccountName,
    /// The topic it reads.
    pub topic: TopicName,
    /// Random.
    pub id: GroupId,
    /// Unique in the topic.
    pub name: GroupName,
    /// Its settings.
    pub settings: GroupSettings,
    /// Log-clock time of its creation.
    pub created_at: Millis,
    /// Log-clock time of the last change of its settings.
    pub modified_at: Millis,
}
