//! Topics on the wire.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::native::wire::millis;
use crate::model::{Annotate, Annotations, Compaction, Flow, Ordering, Retention, Settled, Topic, TopicPatch};

/// What happens to a message that every group has settled.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum SettledWire {
    #[default]
    Drop,
    Keep,
}

/// Whether messages are delivered.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FlowWire {
    /// They are.
    Running,
    /// They are not; leases run on and may be settled.
    Paused,
}

impl From<FlowWire> for Flow {
    fn from(flow: FlowWire) -> Self {
        match flow {
            FlowWire::Running => Self::Running,
            FlowWire::Paused => Self::Paused,
        }
    }
}

impl From<Flow> for FlowWire {
    fn from(flow: Flow) -> Self {
        match flow {
            Flow::Running => Self::Running,
            Flow::Paused => Self::Paused,
        }
    }
}

/// Which order deliveries keep.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum OrderingWire {
    None,
    PerKey,
    Strict,
}

/// Whether a newer message of a key supersedes older ones.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum CompactionWire {
    None,
    LatestPerKey,
}

/// How long messages are kept; always given whole.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RetentionWire {
    /// `drop`: a message that every group settled goes. `keep`: it stays until age or bytes trim it.
    #[serde(default)]
    settled: SettledWire,
    /// Older messages are trimmed, settled or not. `null`: no limit.
    age_ms: Option<u64>,
    /// Above this many bytes of bodies the oldest are trimmed. `null`: no limit.
    bytes: Option<u64>,
}

/// Settings of a topic.
#[derive(Debug, Serialize, ToSchema)]
struct TopicSettingsView {
    retention: RetentionWire,
    /// Delay of messages that name none.
    delay_ms: u64,
    flow: FlowWire,
    ordering: OrderingWire,
    compaction: CompactionWire,
    /// How long an idempotency key is remembered.
    idempotency_window_ms: u64,
    annotations: Annotations,
}

/// A topic.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopicView {
    account: String,
    id: String,
    name: String,
    settings: TopicSettingsView,
    created_at_ms: u64,
    modified_at_ms: u64,
}

impl From<Topic> for TopicView {
    fn from(topic: Topic) -> Self {
        let settings = topic.settings;
        let retention = RetentionWire {
            settled: match settings.retention.settled {
                Settled::Drop => SettledWire::Drop,
                Settled::Keep => SettledWire::Keep,
            },
            age_ms: settings.retention.age.map(millis),
            bytes: settings.retention.bytes,
        };
        Self {
            account: topic.account.to_string(),
            id: topic.id.to_hex(),
            name: topic.name.to_string(),
            settings: TopicSettingsView {
                retention,
                delay_ms: millis(settings.delay),
                flow: settings.flow.into(),
                ordering: match settings.ordering {
                    Ordering::None => OrderingWire::None,
                    Ordering::PerKey => OrderingWire::PerKey,
                    Ordering::Strict => OrderingWire::Strict,
                },
                compaction: match settings.compaction {
                    Compaction::None => CompactionWire::None,
                    Compaction::LatestPerKey => CompactionWire::LatestPerKey,
                },
                idempotency_window_ms: millis(settings.idempotency_window),
                annotations: settings.annotations,
            },
            created_at_ms: topic.created_at.get(),
            modified_at_ms: topic.modified_at.get(),
        }
    }
}

/// Settings to set; what is missing stays as it is (on creation: the default).
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicChange {
    retention: Option<RetentionWire>,
    /// At most 14 days.
    delay_ms: Option<u64>,
    flow: Option<FlowWire>,
    /// Refused while a group has messages in flight.
    ordering: Option<OrderingWire>,
    /// Refused while the topic has messages.
    compaction: Option<CompactionWire>,
    /// At most 7 days.
    idempotency_window_ms: Option<u64>,
    /// Replaces all annotations.
    annotations: Option<Annotations>,
}

impl From<TopicChange> for TopicPatch {
    fn from(change: TopicChange) -> Self {
        Self {
            name: None,
            retention: change.retention.map(|retention| Retention {
                settled: match retention.settled {
                    SettledWire::Drop => Settled::Drop,
                    SettledWire::Keep => Settled::Keep,
                },
                age: retention.age_ms.map(Duration::from_millis),
                bytes: retention.bytes,
            }),
            delay: change.delay_ms.map(Duration::from_millis),
            flow: change.flow.map(Into::into),
            ordering: change.ordering.map(|ordering| match ordering {
                OrderingWire::None => Ordering::None,
                OrderingWire::PerKey => Ordering::PerKey,
                OrderingWire::Strict => Ordering::Strict,
            }),
            compaction: change.compaction.map(|compaction| match compaction {
                CompactionWire::None => Compaction::None,
                CompactionWire::LatestPerKey => Compaction::LatestPerKey,
            }),
            idempotency_window: change.idempotency_window_ms.map(Duration::from_millis),
            annotations: change.annotations,
            annotate: Annotate::new(),
        }
    }
}

/// A topic to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicCreate {
    /// Unique in the account: 1 to 128 of A-Z a-z 0-9 . _ ~ + -
    pub name: String,
    #[serde(default)]
    pub settings: TopicChange,
}

/// A change to a topic.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicUpdate {
    /// A new name.
    pub name: Option<String>,
    #[serde(default)]
    pub settings: TopicChange,
}

/// A page of topics.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopicList {
    /// By name.
    pub topics: Vec<TopicView>,
    /// What to give as `after` for the next page; `null` at the end.
    pub next: Option<String>,
}

/// What a purge gave up.
#[derive(Debug, Serialize, ToSchema)]
pub struct PurgeView {
    /// Messages that had been kept.
    pub messages: u64,
}

/// Messages to give up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscardRequest {
    /// At most 1000.
    pub offsets: Vec<u64>,
}

/// What a discard gave up.
#[derive(Debug, Serialize, ToSchema)]
pub struct DiscardView {
    /// Those that were there, and are gone.
    pub discarded: Vec<u64>,
}

/// Dead letters to send back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedriveRequest {
    /// Only these; missing or empty means from the oldest on.
    #[serde(default)]
    pub offsets: Vec<u64>,
    /// At most this many, 1 to 1000. Default: 100.
    pub limit: Option<u64>,
}

/// What a redrive did.
#[derive(Debug, Serialize, ToSchema)]
pub struct RedriveView {
    /// Messages moved back.
    pub moved: u64,
    /// Messages left: without an origin, or whose topic is gone.
    pub left: u64,
}
