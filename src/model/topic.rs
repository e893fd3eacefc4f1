//! Topics and their settings.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{AccountName, Flow, Millis, SettingsError, TopicId, TopicName, bounds};

/// Free name-value pairs of a topic or group, for what only a dialect knows. Bounded by
/// [`bounds::PROPERTIES_MAX`] and [`bounds::PROPERTIES_BYTES_MAX`].
pub type Annotations = BTreeMap<String, String>;

/// Changes of single annotations: `None` takes one away. The others stay as they are, so that two writers of
/// different ones do not meet.
pub type Annotate = BTreeMap<String, Option<String>>;

/// The annotations after a change: all of them replaced first, if that is said, then single ones changed.
pub(crate) fn annotated(old: &Annotations, replaced: Option<&Annotations>, changed: &Annotate) -> Annotations {
    let mut annotations = replaced.unwrap_or(old).clone();
    for (name, value) in changed {
        match value {
            Some(value) => annotations.insert(name.clone(), value.clone()),
            None => annotations.remove(name),
        };
    }
    annotations
}

/// Names a topic, by name or by id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicRef {
    /// By its name.
    Name(TopicName),
    /// By its id.
    Id(TopicId),
}

/// What happens to a message that every group has settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Settled {
    /// It goes. A topic without groups keeps its messages all the same.
    #[default]
    Drop,
    /// It stays until age or bytes trim it.
    Keep,
}

/// How long a topic keeps messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// What settling does.
    pub settled: Settled,
    /// Older messages are trimmed, settled or not. `None`: no limit.
    pub age: Option<Duration>,
    /// When the bodies kept exceed this many bytes, the oldest are trimmed. `None`: no limit.
    pub bytes: Option<u64>,
}

/// Which order deliveries keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ordering {
    /// Oldest first, as far as leases allow.
    #[default]
    None,
    /// A key with a message in flight is withheld.
    PerKey,
    /// One batch in flight per group.
    Strict,
}

/// Whether a newer message of a key supersedes older ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compaction {
    /// All messages stay.
    #[default]
    None,
    /// Only the newest message of a key is delivered; one in flight finishes first.
    LatestPerKey,
}

/// Settings of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// How long messages are kept.
    pub retention: Retention,
    /// Delay of messages that name none.
    pub delay: Duration,
    /// Paused: nothing is delivered, publishes go on.
    pub flow: Flow,
    /// Which order deliveries keep.
    pub ordering: Ordering,
    /// Whether a newer message of a key supersedes older ones.
    pub compaction: Compaction,
    /// How long an idempotency key is remembered.
    pub idempotency_window: Duration,
    /// Free pairs.
    pub annotations: Annotations,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            retention: Retention::default(),
            delay: Duration::ZERO,
            flow: Flow::Running,
            ordering: Ordering::None,
            compaction: Compaction::None,
            idempotency_window: Duration::from_secs(300),
            annotations: Annotations::new(),
        }
    }
}

impl TopicSettings {
    /// Longest window of an idempotency key.
    pub const IDEMPOTENCY_WINDOW_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

    /// Refuses what is out of bounds or contradicts itself.
    pub fn check(&self) -> Result<(), SettingsError> {
        let refuse = |field, rule| Err(SettingsError { field, rule });
        if self.delay > bounds::DELAY_MAX {
            return refuse("delay", "at most 14 days");
        }
        if self.idempotency_window > Self::IDEMPOTENCY_WINDOW_MAX {
            return refuse("idempotency_window", "at most 7 days");
        }
        if self.retention.age.is_some_and(|age| age.is_zero()) {
            return refuse("retention.age", "more than zero");
        }
        if self.retention.bytes == Some(0) {
            return refuse("retention.bytes", "more than zero");
        }
        check_annotations(&self.annotations)
    }
}

pub(super) fn check_annotations(annotations: &Annotations) -> Result<(), SettingsError> {
    let bytes: usize = annotations.iter().map(|(name, value)| name.len() + value.len()).sum();
    if annotations.len() > bounds::PROPERTIES_MAX || bytes > bounds::PROPERTIES_BYTES_MAX {
        return Err(SettingsError { field: "annotations", rule: "at most 64 pairs and 16384 bytes" });
    }
    Ok(())
}

/// A change to a topic: what is `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicPatch {
    /// A new name.
    pub name: Option<TopicName>,
    /// See [`TopicSettings::retention`].
    pub retention: Option<Retention>,
    /// See [`TopicSettings::delay`].
    pub delay: Option<Duration>,
    /// See [`TopicSettings::flow`].
    pub flow: Option<Flow>,
    /// See [`TopicSettings::ordering`]. Refused while a group has messages in flight.
    pub ordering: Option<Ordering>,
    /// See [`TopicSettings::compaction`]. Refused while the topic has messages.
    pub compaction: Option<Compaction>,
    /// See [`TopicSettings::idempotency_window`].
    pub idempotency_window: Option<Duration>,
    /// Replaces all annotations.
    pub annotations: Option<Annotations>,
    /// Changes single annotations, after that.
    pub annotate: Annotate,
}

impl TopicPatch {
    /// The settings after the change.
    #[must_use]
    pub fn applied_to(&self, old: &TopicSettings) -> TopicSettings {
        TopicSettings {
            retention: self.retention.unwrap_or(old.retention),
            delay: self.delay.unwrap_or(old.delay),
            flow: self.flow.unwrap_or(old.flow),
            ordering: self.ordering.unwrap_or(old.ordering),
            compaction: self.compaction.unwrap_or(old.compaction),
            idempotency_window: self.idempotency_window.unwrap_or(old.idempotency_window),
            annotations: annotated(&old.annotations, self.annotations.as_ref(), &self.annotate),
        }
    }
}

/// A topic as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// The account it belongs to.
    pub account: AccountName,
    /// Random, kept over a rename.
    pub id: TopicId,
    /// Unique in the account.
    pub name: TopicName,
    /// Its settings.
    pub settings: TopicSettings,
    /// Log-clock time of its creation.
    pub created_at: Millis,
    /// Log-clock time of the last change of its settings.
    pub modified_at: Millis,
}
