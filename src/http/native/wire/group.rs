//! Groups on the wire.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::{Position, SeekReport};
use crate::http::native::wire::topic::FlowWire;
use crate::http::native::wire::{bad_name, millis, present};
use crate::http::problem::Problem;
use crate::model::{
    Annotate, Annotations, Group, GroupPatch, Millis, Offset, RetryDelays, Start, Tag, TagFilter, TopicName,
};

/// Where to begin: `"head"` (the oldest kept), `"tail"` (the next published), `{"offset": n}` or
/// `{"time_ms": t}` (the first published at or after that).
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartWire {
    Head,
    Tail,
    Offset(u64),
    TimeMs(u64),
}

impl From<StartWire> for Start {
    fn from(start: StartWire) -> Self {
        match start {
            StartWire::Head => Self::Head,
            StartWire::Tail => Self::Tail,
            StartWire::Offset(offset) => Self::Offset(Offset::new(offset)),
            StartWire::TimeMs(at) => Self::Time(Millis::new(at)),
        }
    }
}

/// When a group gets its position.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum PositionAt {
    /// At once.
    #[default]
    Now,
    /// At its first pull, which may name another start.
    FirstPull,
}

/// A delay in milliseconds, or a table: after the n-th delivery the n-th entry, the last from then on.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
enum RetryWire {
    Fixed(u64),
    Table(Vec<u64>),
}

/// Settings of a group.
#[derive(Debug, Serialize, ToSchema)]
struct GroupSettingsView {
    /// Lease of pulls that name none.
    lease_ms: u64,
    retry_delay_ms: RetryWire,
    /// Deliveries a message gets; after the last it is a dead letter. `null`: no limit.
    attempts_max: Option<u32>,
    /// Topic that takes dead letters. `null`: they are discarded and counted.
    dead_letter: Option<String>,
    /// Most messages in flight at once.
    pending_max: u32,
    /// Most pulls waiting at once.
    waiting_max: u32,
    /// Wanted tags; empty: every message.
    filter_tags: Vec<String>,
    flow: FlowWire,
    annotations: Annotations,
}

/// A group.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupView {
    account: String,
    topic: String,
    id: String,
    name: String,
    settings: GroupSettingsView,
    created_at_ms: u64,
    modified_at_ms: u64,
}

impl From<Group> for GroupView {
    fn from(group: Group) -> Self {
        let settings = group.settings;
        Self {
            account: group.account.to_string(),
            topic: group.topic.to_string(),
            id: group.id.to_hex(),
            name: group.name.to_string(),
            settings: GroupSettingsView {
                lease_ms: millis(settings.lease),
                retry_delay_ms: match settings.retry {
                    RetryDelays::Fixed(delay) => RetryWire::Fixed(millis(delay)),
                    RetryDelays::Table(delays) => RetryWire::Table(delays.into_iter().map(millis).collect()),
                },
                attempts_max: settings.attempts_max,
                dead_letter: settings.dead_letter.map(|topic| topic.to_string()),
                pending_max: settings.pending_max,
                waiting_max: settings.waiting_max,
                filter_tags: match settings.filter {
                    TagFilter::All => Vec::new(),
                    TagFilter::AnyOf(tags) => tags.iter().map(Tag::to_string).collect(),
                },
                flow: settings.flow.into(),
                annotations: settings.annotations,
            },
            created_at_ms: group.created_at.get(),
            modified_at_ms: group.modified_at.get(),
        }
    }
}

/// Settings to set; what is missing stays as it is (on creation: the default).
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupChange {
    /// 1 ms to 12 hours. Leases already given keep their deadline.
    lease_ms: Option<u64>,
    /// Each at most 14 days; a table has 1 to 64 entries.
    retry_delay_ms: Option<RetryWire>,
    /// 1 to 100000, or `null`.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>)]
    attempts_max: Option<Option<u32>>,
    /// A topic of the same account, made when needed, or `null`.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    dead_letter: Option<Option<String>>,
    /// 1 to 1000000.
    pending_max: Option<u32>,
    /// At most 100000.
    waiting_max: Option<u32>,
    /// At most 32; empty: every message.
    filter_tags: Option<Vec<String>>,
    flow: Option<FlowWire>,
    /// Replaces all annotations.
    annotations: Option<Annotations>,
}

/// Reads wanted tags; none means all messages.
pub fn read_filter(tags: &[String], pointer: &str) -> Result<TagFilter, Problem> {
    if tags.is_empty() {
        return Ok(TagFilter::All);
    }
    let tags: Result<Vec<Tag>, Problem> = tags.iter().map(|tag| Tag::parse(tag).map_err(bad_name(pointer))).collect();
    Ok(TagFilter::AnyOf(tags?))
}

impl TryFrom<GroupChange> for GroupPatch {
    type Error = Problem;

    fn try_from(change: GroupChange) -> Result<Self, Problem> {
        let dead_letter = match change.dead_letter {
            Some(Some(name)) => Some(Some(TopicName::parse(&name).map_err(bad_name("/settings/dead_letter"))?)),
            Some(None) => Some(None),
            None => None,
        };
        let filter = change.filter_tags.map(|tags| read_filter(&tags, "/settings/filter_tags")).transpose()?;
        Ok(Self {
            lease: change.lease_ms.map(Duration::from_millis),
            retry: change.retry_delay_ms.map(|retry| match retry {
                RetryWire::Fixed(delay) => RetryDelays::Fixed(Duration::from_millis(delay)),
                RetryWire::Table(delays) => RetryDelays::Table(delays.into_iter().map(Duration::from_millis).collect()),
            }),
            attempts_max: change.attempts_max,
            dead_letter,
            pending_max: change.pending_max,
            waiting_max: change.waiting_max,
            filter,
            flow: change.flow.map(Into::into),
            annotations: change.annotations,
            annotate: Annotate::new(),
        })
    }
}

/// A group to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupCreate {
    /// Unique in the topic: 1 to 128 of A-Z a-z 0-9 . _ ~ + -
    pub name: String,
    #[serde(default)]
    pub settings: GroupChange,
    /// Where to begin. Default: `"head"`.
    start: Option<StartWire>,
    /// When `start` counts.
    #[serde(default)]
    position_at: PositionAt,
}

impl GroupCreate {
    /// When the group gets its position, and which.
    pub fn position(&self) -> Position {
        let start = self.start.map_or(Start::Head, Into::into);
        match self.position_at {
            PositionAt::Now => Position::Now(start),
            PositionAt::FirstPull => Position::FirstPull(start),
        }
    }
}

/// A change to a group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupUpdate {
    #[serde(default)]
    pub settings: GroupChange,
}

/// The groups of a topic.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupList {
    /// By name.
    pub groups: Vec<GroupView>,
}

/// Moves a group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SeekRequest {
    pub to: StartWire,
    /// Only say what it would do.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a seek did, or would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeekView {
    /// The cursor before.
    from: u64,
    /// The cursor after.
    to: u64,
    /// Leases and returned messages forgotten.
    pending_dropped: u64,
    /// Messages from the new cursor to the tail.
    ahead: u64,
    dry_run: bool,
}

impl SeekView {
    /// The report of a seek.
    pub fn new(report: SeekReport, dry_run: bool) -> Self {
        let SeekReport { from, to, pending_dropped, ahead } = report;
        Self { from: from.get(), to: to.get(), pending_dropped, ahead, dry_run }
    }
}
