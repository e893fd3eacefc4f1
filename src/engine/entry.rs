//! Entries: the facts in the log. Absolute values only, so that applying one twice equals applying it
//! once. These are disk types (docs/FORMAT.md, "Entries"); variants are numbered by their place and
//! never reordered or reused.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::rows::Row;
use crate::model::{
    AccessId, AccessKind, AccessRecord, AccountName, Attempt, Compaction, Flow, GroupId, GroupName, GroupSettings,
    Millis, NameError, Offset, Ordering, Origin, Permissions, Retention, RetryDelays, Settled, Tag, TagFilter, TopicId,
    TopicName, TopicPattern, TopicSettings,
};

/// Number of a topic in the log; never reused.
pub type TopicNo = u32;
/// Number of a group in the log; never reused.
pub type GroupNo = u32;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// 0: a process took over. Boot times that follow count from this boot; `before` is the last one that it
    /// found of the process before.
    Epoch { boot_id: u128, boot: u64, before: u64 },
    /// 1: a topic is like this.
    TopicPut(TopicDisk),
    /// 2: a topic and its groups are gone.
    TopicDeleted { topic: TopicNo },
    /// 3: a group is like this; its progress is a fact of its own.
    GroupPut(GroupDisk),
    /// 4: a group is gone. The last one of a topic may leave a ghost, which holds its unsettled messages.
    GroupDeleted { group: GroupNo, leaves_ghost: bool },
    /// 5: messages were published at adjoining offsets. Their records are in the same frame.
    Published {
        topic: TopicNo,
        first_offset: u64,
        /// The topic's sums before the first of them.
        before: Sums,
        rows: Vec<RowDisk>,
    },
    /// 6: messages were leased (or leases extended), others withheld for their key's sake.
    Leased { group: GroupNo, progress: Progress, leases: Vec<LeaseDisk>, withheld: Vec<u64> },
    /// 7: a group is done with these.
    Settled { group: GroupNo, offsets: Vec<u64> },
    /// 8: messages were given back, deliverable from `until` (log clock) on.
    Returned { group: GroupNo, items: Vec<ReturnDisk> },
    /// 9: a group stands here, and these are all of its pending messages.
    Placed { group: GroupNo, progress: Progress, pending: Vec<PendingDisk> },
    /// 10: a cursor moved over messages that count as settled.
    Progressed { group: GroupNo, progress: Progress },
    /// 11: a topic keeps nothing below this offset. The sums say what had been published below it.
    Trimmed { topic: TopicNo, head: u64, plain: Sums },
    /// 12: single messages were given up for every group.
    Gone {
        topic: TopicNo,
        items: Vec<GoneDisk>,
        /// A message in flight is gone too; otherwise (superseded) its lease runs on.
        leased_too: bool,
    },
    /// 13: a message was moved to another topic; its record stays where it is.
    Moved {
        /// The group that gave it up (a dead letter), or none (a redrive gives it up for all).
        from_group: Option<GroupNo>,
        from_topic: TopicNo,
        from_offset: u64,
        /// Sums of that topic, before it.
        from_before: Sums,
        to_topic: TopicNo,
        to_offset: u64,
        /// Sums of the topic it came to, before it.
        before: Sums,
        row: RowDisk,
    },
    /// 14: records of these messages were appended again, in this frame.
    Rewritten { topic: TopicNo, rows: Vec<RewrittenDisk> },
    /// 15: pending facts said again before the segment that held them is dropped.
    PendingKept { group: GroupNo, pending: Vec<PendingDisk> },
    /// 16: idempotency keys said again.
    IdempotencyKept { topic: TopicNo, keys: Vec<IdempotencyDisk> },
    /// 17: a credential.
    AccessPut(AccessDisk),
    /// 18: a credential is gone.
    AccessRevoked { id: String },
    /// 19: where a topic stands: only in head frames.
    TopicStands { topic: TopicNo, head: u64, head_plain: Sums, tail: u64, plain: Sums, last_id: u128, foreign: bool },
    /// 20: a part of what will be pending for a group that is about to stand elsewhere. Means nothing by itself.
    PlacedPart {
        group: GroupNo,
        /// From 0.
        part: u32,
        pending: Vec<PendingDisk>,
    },
    /// 21: a group stands here, and its pending messages are those of the parts before.
    PlacedWhole { group: GroupNo, progress: Progress, parts: u32 },
}

/// Running sums over the messages of a topic that were published without a delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sums {
    /// How many.
    pub count: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

impl Sums {
    /// What was added since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { count: self.count.saturating_sub(earlier.count), bytes: self.bytes.saturating_sub(earlier.bytes) }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        Self { count: self.count + more.count, bytes: self.bytes + more.bytes }
    }
}

/// How far a group has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// The first offset never leased (delayed messages aside).
    pub cursor: u64,
    /// The topic's sums below the cursor.
    pub plain: Sums,
    /// The last delayed message taken: its time and offset. Later ones are untaken.
    pub due: (u64, u64),
    /// Delayed messages below this offset are none of the group's.
    pub start: u64,
    /// The position is fixed; before that a pull may choose another start.
    pub positioned: bool,
    /// Rises with every seek: tokens of before are worth nothing.
    pub placing: u32,
}

/// Where a message is and what of it the engine needs to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowDisk {
    pub id: u128,
    /// First lsn of the segment that holds the record.
    pub segment: u64,
    pub position: u32,
    pub length: u32,
    pub body_bytes: u32,
    /// First 128 bits of the key's SHA-256; `None` without a key.
    pub key: Option<u128>,
    /// First 64 bits of the tag's SHA-256; `None` without a tag.
    pub tag: Option<u64>,
    /// Log-clock time before which it is withheld; `None` without a delay.
    pub due: Option<u64>,
    pub idempotency: Option<(u128, u64)>,
    pub origin: Option<Box<OriginDisk>>,
    /// Log-clock time at which it was moved here from another topic.
    pub moved_at: Option<u64>,
}

/// See [`Origin`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginDisk {
    pub topic: String,
    pub group: String,
    pub offset: u64,
    pub attempts: u32,
    pub reason: String,
    pub moved_at: u64,
}

impl OriginDisk {
    /// As the model has it; `None` if a name does not read (a damaged value would have failed its crc).
    pub fn to_model(&self) -> Option<Origin> {
        Some(Origin {
            topic: TopicName::parse(&self.topic).ok()?,
            group: GroupName::parse(&self.group).ok()?,
            offset: Offset::new(self.offset),
            attempts: Attempt::new(self.attempts),
            reason: self.reason.clone(),
            moved_at: Millis::new(self.moved_at),
        })
    }
}

/// One lease given (or given anew).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseDisk {
    pub offset: u64,
    pub attempt: u32,
    /// Boot time.
    pub deadline: u64,
    /// Random; the token carries it.
    pub lease: u64,
    /// Short handle, 0 for none.
    pub handle: u128,
}

/// One message given up for every group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoneDisk {
    pub offset: u64,
    /// The topic's sums before it.
    pub before: Sums,
    pub body_bytes: u32,
    /// It was published with a delay.
    pub delayed: bool,
}

impl GoneDisk {
    /// The message at `offset`, which has this row.
    pub fn new(offset: u64, row: &Row) -> Self {
        Self { offset, before: row.before, body_bytes: row.body_bytes, delayed: row.due != 0 }
    }
}

/// One message whose record was appended again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrittenDisk {
    pub offset: u64,
    /// The topic's sums before it.
    pub before: Sums,
    /// It was published with a delay, and some group has not taken it.
    pub untaken: bool,
    /// It was given up for every group but those that hold it.
    pub gone: bool,
    pub row: RowDisk,
}

/// One message given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnDisk {
    pub offset: u64,
    /// Log clock; 0 means at once.
    pub until: u64,
}

/// A pending message, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingDisk {
    pub offset: u64,
    pub row: RowDisk,
    pub attempt: u32,
    pub lease: u64,
    pub handle: u128,
    pub state: PendingState,
    /// A newer message of its key came while it was in flight: it is not to be delivered again.
    pub superseded: bool,
}

/// Where a pending message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PendingState {
    /// Held until this boot time.
    Leased { deadline: u64 },
    /// Deliverable.
    Ready,
    /// Deliverable from this log-clock time on.
    Waiting { until: u64 },
    /// Another message of its key comes first.
    Withheld,
}

/// An idempotency key in its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyDisk {
    pub key: u128,
    pub fingerprint: u64,
    pub id: u128,
    pub offset: u64,
}

/// A topic as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicDisk {
    pub no: TopicNo,
    pub account: String,
    pub id: u128,
    pub name: String,
    pub created_at: u64,
    pub modified_at: u64,
    pub settled_keep: bool,
    pub age_ms: Option<u64>,
    pub bytes_max: Option<u64>,
    pub delay_ms: u64,
    pub paused: bool,
    /// 0 none, 1 per key, 2 strict.
    pub ordering: u8,
    pub latest_per_key: bool,
    pub idempotency_window_ms: u64,
    pub annotations: Vec<(String, String)>,
}

/// A group as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDisk {
    pub no: GroupNo,
    pub topic: TopicNo,
    pub id: u128,
    pub name: String,
    pub created_at: u64,
    pub modified_at: u64,
    pub lease_ms: u64,
    /// One entry: fixed.
    pub retry_ms: Vec<u64>,
    pub retry_table: bool,
    pub attempts_max: Option<u32>,
    pub dead_letter: Option<String>,
    pub pending_max: u32,
    pub waiting_max: u32,
    /// Empty: all.
    pub filter: Vec<String>,
    pub paused: bool,
    pub annotations: Vec<(String, String)>,
    /// Where it starts while it has no position: 0 head, 1 tail, 2 offset, 3 time; and the number.
    pub start: (u8, u64),
    /// Deleted as the last group of its topic: it holds what was not settled for the next one.
    pub ghost: bool,
}

/// A credential as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessDisk {
    pub id: String,
    pub account: String,
    pub token_sha256: Option<[u8; 32]>,
    pub sealed_secret: Option<Vec<u8>>,
    pub permissions: (bool, bool, bool),
    pub topics: String,
    pub created_at: u64,
    pub expires_at: Option<u64>,
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl TopicDisk {
    /// The settings part of a topic, numbers and names beside it.
    pub fn settings(&self) -> TopicSettings {
        TopicSettings {
            retention: Retention {
                settled: if self.settled_keep { Settled::Keep } else { Settled::Drop },
                age: self.age_ms.map(Duration::from_millis),
                bytes: self.bytes_max,
            },
            delay: Duration::from_millis(self.delay_ms),
            flow: if self.paused { Flow::Paused } else { Flow::Running },
            ordering: match self.ordering {
                1 => Ordering::PerKey,
                2 => Ordering::Strict,
                _ => Ordering::None,
            },
            compaction: if self.latest_per_key { Compaction::LatestPerKey } else { Compaction::None },
            idempotency_window: Duration::from_millis(self.idempotency_window_ms),
            annotations: self.annotations.iter().cloned().collect(),
        }
    }

    /// Takes over the settings.
    pub fn set(&mut self, settings: &TopicSettings) {
        self.settled_keep = settings.retention.settled == Settled::Keep;
        self.age_ms = settings.retention.age.map(millis);
        self.bytes_max = settings.retention.bytes;
        self.delay_ms = millis(settings.delay);
        self.paused = settings.flow == Flow::Paused;
        self.ordering = match settings.ordering {
            Ordering::None => 0,
            Ordering::PerKey => 1,
            Ordering::Strict => 2,
        };
        self.latest_per_key = settings.compaction == Compaction::LatestPerKey;
        self.idempotency_window_ms = millis(settings.idempotency_window);
        self.annotations = settings.annotations.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    }

    /// A new topic.
    pub fn new(
        no: TopicNo,
        account: &AccountName,
        id: TopicId,
        name: &TopicName,
        now: Millis,
        settings: &TopicSettings,
    ) -> Self {
        let mut disk = Self {
            no,
            account: account.as_str().to_owned(),
            id: id.get(),
            name: name.as_str().to_owned(),
            created_at: now.get(),
            modified_at: now.get(),
            settled_keep: false,
            age_ms: None,
            bytes_max: None,
            delay_ms: 0,
            paused: false,
            ordering: 0,
            latest_per_key: false,
            idempotency_window_ms: 0,
            annotations: Vec::new(),
        };
        disk.set(settings);
        disk
    }
}

impl GroupDisk {
    /// The settings part of a group; fails if a name does not read.
    pub fn settings(&self) -> Result<GroupSettings, NameError> {
        let mut delays: Vec<Duration> = self.retry_ms.iter().copied().map(Duration::from_millis).collect();
        let retry = if self.retry_table {
            RetryDelays::Table(delays)
        } else {
            RetryDelays::Fixed(delays.pop().unwrap_or_default())
        };
        let tags = self.filter.iter().map(|tag| Tag::parse(tag)).collect::<Result<Vec<_>, _>>()?;
        Ok(GroupSettings {
            lease: Duration::from_millis(self.lease_ms),
            retry,
            attempts_max: self.attempts_max,
            dead_letter: self.dead_letter.as_deref().map(TopicName::parse).transpose()?,
            pending_max: self.pending_max,
            waiting_max: self.waiting_max,
            filter: if tags.is_empty() { TagFilter::All } else { TagFilter::AnyOf(tags) },
            flow: if self.paused { Flow::Paused } else { Flow::Running },
            annotations: self.annotations.iter().cloned().collect(),
        })
    }

    /// Takes over the settings.
    pub fn set(&mut self, settings: &GroupSettings) {
        self.lease_ms = millis(settings.lease);
        (self.retry_ms, self.retry_table) = match &settings.retry {
            RetryDelays::Fixed(delay) => (vec![millis(*delay)], false),
            RetryDelays::Table(delays) => (delays.iter().copied().map(millis).collect(), true),
        };
        self.attempts_max = settings.attempts_max;
        self.dead_letter = settings.dead_letter.as_ref().map(|name| name.as_str().to_owned());
        self.pending_max = settings.pending_max;
        self.waiting_max = settings.waiting_max;
        self.filter = match &settings.filter {
            TagFilter::All => Vec::new(),
            TagFilter::AnyOf(tags) => tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
        };
        self.paused = settings.flow == Flow::Paused;
        self.annotations = settings.annotations.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    }

    /// A new group.
    pub fn new(
        no: GroupNo,
        topic: TopicNo,
        id: GroupId,
        name: &GroupName,
        now: Millis,
        settings: &GroupSettings,
    ) -> Self {
        let mut disk = Self {
            no,
            topic,
            id: id.get(),
            name: name.as_str().to_owned(),
            created_at: now.get(),
            modified_at: now.get(),
            lease_ms: 0,
            retry_ms: Vec::new(),
            retry_table: false,
            attempts_max: None,
            dead_letter: None,
            pending_max: 0,
            waiting_max: 0,
            filter: Vec::new(),
            paused: false,
            annotations: Vec::new(),
            start: (0, 0),
            ghost: false,
        };
        disk.set(settings);
        disk
    }
}

impl AccessDisk {
    /// For the log.
    pub fn from_model(record: &AccessRecord) -> Self {
        let (token_sha256, sealed_secret) = match &record.kind {
            AccessKind::Token { sha256 } => (Some(*sha256), None),
            AccessKind::AccessKey { sealed_secret } => (None, Some(sealed_secret.clone())),
        };
        Self {
            id: record.id.0.clone(),
            account: record.account.as_str().to_owned(),
            token_sha256,
            sealed_secret,
            permissions: (record.permissions.publish, record.permissions.consume, record.permissions.admin),
            topics: record.topics.as_str().to_owned(),
            created_at: record.created_at.get(),
            expires_at: record.expires_at.map(Millis::get),
        }
    }

    /// As the model has it; `None` if a name does not read.
    pub fn to_model(&self) -> Option<AccessRecord> {
        let kind = match (&self.token_sha256, &self.sealed_secret) {
            (Some(sha256), _) => AccessKind::Token { sha256: *sha256 },
            (None, Some(sealed)) => AccessKind::AccessKey { sealed_secret: sealed.clone() },
            (None, None) => return None,
        };
        let (publish, consume, admin) = self.permissions;
        Some(AccessRecord {
            id: AccessId(self.id.clone()),
            account: AccountName::parse(&self.account).ok()?,
            kind,
            permissions: Permissions { publish, consume, admin },
            topics: TopicPattern::parse(&self.topics).ok()?,
            created_at: Millis::new(self.created_at),
            expires_at: self.expires_at.map(Millis::new),
        })
    }
}
