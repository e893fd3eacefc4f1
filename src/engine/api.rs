//! The requests, answers and errors of [`Engine`](crate::engine::Engine).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{
    AccessId, AccessRecord, AccountName, Delivery, GroupName, GroupRef, GroupSettings, Key, Message, MessageId, Millis,
    NewMessage, Offset, Start, Tag, TagFilter, TopicName, TopicRef, TopicSettings,
};

/// Makes a topic.
#[derive(Debug, Clone)]
pub struct CreateTopic {
    /// The account it shall belong to.
    pub account: AccountName,
    /// Unique in the account.
    pub name: TopicName,
    /// Its settings.
    pub settings: TopicSettings,
}

/// Makes a group.
#[derive(Debug, Clone)]
pub struct CreateGroup {
    /// The account of the topic.
    pub account: AccountName,
    /// The topic to read.
    pub topic: TopicRef,
    /// Unique in the topic.
    pub name: GroupName,
    /// Its settings.
    pub settings: GroupSettings,
    /// When it gets its position.
    pub position: Position,
}

/// When a new group gets its position, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// At once.
    Now(Start),
    /// At its first pull, which may name another start.
    FirstPull(Start),
}

/// Publishes a batch.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The account of the topic.
    pub account: AccountName,
    /// Where to.
    pub topic: TopicRef,
    /// One to [`PUBLISH_BATCH_MAX`](crate::model::bounds::PUBLISH_BATCH_MAX) messages.
    pub messages: Vec<NewMessage>,
}

/// How long a pull waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    None,
    /// Until there is any message, at most this long.
    Any(Duration),
    /// Until the batch is full, at most this long; then with what there is.
    Full(Duration),
}

/// Which short handle a pull asks for beside the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HandleKind {
    /// None.
    #[default]
    None,
    /// 122 random bits in the form of a UUIDv4, one per message.
    PerMessage,
    /// 53 random bits, fit for a JSON number, one for the whole batch.
    PerBatch,
}

/// Takes messages.
#[derive(Debug, Clone)]
pub struct Pull {
    /// The account of the topic.
    pub account: AccountName,
    /// The topic.
    pub topic: TopicRef,
    /// The group.
    pub group: GroupRef,
    /// One to [`PULL_BATCH_MAX`](crate::model::bounds::PULL_BATCH_MAX) messages.
    pub batch_max: usize,
    /// Lease; `None` means the group's own.
    pub lease: Option<Duration>,
    /// How long to wait.
    pub wait: Wait,
    /// Ack at once, durably, before the answer: at most once.
    pub auto_ack: bool,
    /// Short handles.
    pub handles: HandleKind,
    /// Takes the place of the group's filter for this pull: what it does not want is passed over for good.
    pub filter: Option<TagFilter>,
    /// Where to begin if the group has no position yet; `None` means its own start.
    pub start: Option<Start>,
}

/// What a pull took.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The messages; may be none.
    pub deliveries: Vec<Delivery>,
    /// Counts of the group right after the take.
    pub counts: Counts,
}

/// Which lease is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseRef {
    /// By its token. Opaque text; anything may arrive here.
    Token(String),
    /// By its handle, valid only in the group of the request. A batch handle means all of its leases that
    /// still carry it.
    Handle(u128),
}

/// What to do with a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleAction {
    /// Done: never deliver it again.
    Ack,
    /// Deliver it again, after this long; `None` means the group's retry delay.
    Nack {
        /// How long to wait.
        delay: Option<Duration>,
    },
    /// Hold it for this long from now on.
    Extend {
        /// The new lease.
        lease: Duration,
    },
    /// Give it up: to the dead letters, with this reason.
    Bury {
        /// Kept in the dead letter's origin; at most 1024 bytes.
        reason: String,
    },
}

/// What a lease is worth after its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lateness {
    /// Nothing.
    Refuse,
    /// It still settles, unless somebody else holds the message.
    #[default]
    IfFree,
    /// An ack still settles, even if somebody else holds the message. (For other actions like `IfFree`.)
    AckAlways,
}

/// Settles leases.
#[derive(Debug, Clone)]
pub struct Settle {
    /// The account of the topic.
    pub account: AccountName,
    /// The topic.
    pub topic: TopicRef,
    /// The group; `None`: the one each token names (handles then mean nothing).
    pub group: Option<GroupRef>,
    /// At most [`SETTLE_BATCH_MAX`](crate::model::bounds::SETTLE_BATCH_MAX) of them.
    pub items: Vec<(LeaseRef, SettleAction)>,
    /// What late ones are worth.
    pub lateness: Lateness,
}

/// What became of one item of a settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettleOutcome {
    /// Done, within the lease. For a batch handle: this many leases.
    Settled {
        /// One, or the leases of the batch that still carried the handle.
        count: usize,
    },
    /// Done, after the lease had lapsed: nobody else had it (or `AckAlways` was asked for).
    SettledLate,
    /// Nothing changed: the lease had lapsed and `Refuse` was asked for.
    Lapsed,
    /// Nothing changed: the lease had lapsed and somebody else holds the message.
    TakenOver,
    /// Nothing changed: the message is settled (or gone) already.
    AlreadySettled,
    /// Nothing changed: forged, of another account, topic or group, or of before a restore.
    Unknown,
}

/// Where a message stands with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageState {
    /// Deliverable now.
    Ready,
    /// Under a lease.
    InFlight,
    /// Waiting for its time, after a publish or a nack with a delay.
    Delayed,
    /// Done for this group.
    Settled,
}

/// Which messages to look at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeekFilter {
    /// Only in this state; needs a group.
    pub state: Option<MessageState>,
    /// Only what the group has not settled. Without a group nothing is settled.
    pub unsettled: bool,
    /// Only this one.
    pub id: Option<MessageId>,
    /// Only with this tag.
    pub tag: Option<Tag>,
    /// Only with this key.
    pub key: Option<Key>,
    /// Only with this property.
    pub property: Option<(String, String)>,
    /// Only published at or after this log-clock time.
    pub since: Option<Millis>,
    /// Only published before this log-clock time.
    pub until: Option<Millis>,
}

/// Looks at messages.
#[derive(Debug, Clone)]
pub struct Peek {
    /// The account of the topic.
    pub account: AccountName,
    /// The topic.
    pub topic: TopicRef,
    /// Whose view; `None`: everything kept, without states.
    pub group: Option<GroupRef>,
    /// Which messages.
    pub filter: PeekFilter,
    /// Where to begin: an offset, or the page cursor of the answer before.
    pub from: Offset,
    /// One to [`PULL_BATCH_MAX`](crate::model::bounds::PULL_BATCH_MAX) messages.
    pub limit: usize,
}

/// A message that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeekedMessage {
    /// The message.
    pub message: Message,
    /// Where it stands with the group; `None` without a group.
    pub state: Option<MessageState>,
    /// Deliveries so far to the group.
    pub attempts: crate::model::Attempt,
}

/// What a peek saw.
#[derive(Debug, Clone, Default)]
pub struct Peeked {
    /// In order of offset.
    pub messages: Vec<PeekedMessage>,
    /// Where the next page begins; `None` at the end. A page may be short, even empty, before the end: a
    /// peek reads a bounded number of messages.
    pub next: Option<Offset>,
    /// The offset of the next publish, as far as publishes are durable.
    pub tail: Offset,
}

/// Moves a group.
#[derive(Debug, Clone)]
pub struct Seek {
    /// The account of the topic.
    pub account: AccountName,
    /// The topic.
    pub topic: TopicRef,
    /// The group.
    pub group: GroupRef,
    /// Where to.
    pub to: Start,
    /// Only say what it would do.
    pub dry_run: bool,
}

/// What a seek did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeekReport {
    /// The cursor before.
    pub from: Offset,
    /// The cursor after.
    pub to: Offset,
    /// Leases and returned messages forgotten.
    pub pending_dropped: u64,
    /// Messages from the new cursor to the tail.
    pub ahead: u64,
}

/// What a purge gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgeReport {
    /// Messages that had been kept.
    pub messages: u64,
}

/// Gives up single messages.
#[derive(Debug, Clone)]
pub struct Discard {
    /// The account of the topic.
    pub account: AccountName,
    /// The topic.
    pub topic: TopicRef,
    /// Which; at most [`PULL_BATCH_MAX`](crate::model::bounds::PULL_BATCH_MAX).
    pub offsets: Vec<Offset>,
}

/// What a discard gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscardReport {
    /// Those that were there, and are gone.
    pub discarded: Vec<Offset>,
}

/// Sends dead letters back.
#[derive(Debug, Clone)]
pub struct Redrive {
    /// The account of the topics.
    pub account: AccountName,
    /// The dead-letter topic.
    pub topic: TopicRef,
    /// Only these; empty means from the oldest on.
    pub offsets: Vec<Offset>,
    /// At most this many, 1 to [`PULL_BATCH_MAX`](crate::model::bounds::PULL_BATCH_MAX).
    pub limit: usize,
}

/// What a redrive did. One without offsets is done a block at a time: where something keeps it from going on, this tells
/// what it did until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedriveReport {
    /// Messages moved back.
    pub moved: u64,
    /// Messages left: without an origin, or whose topic is gone.
    pub left: u64,
}

/// How many messages stand where. Without a group, `ready` and `delayed` count what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Deliverable now. With a tag filter, an upper bound: messages not reached yet are not looked at.
    pub ready: u64,
    /// Under a lease.
    pub in_flight: u64,
    /// Waiting for their time.
    pub delayed: u64,
    /// Bytes of the bodies of all of these.
    pub bytes: u64,
    /// Log-clock time at which the oldest of these came: was published here, or moved here.
    pub oldest: Option<Millis>,
}

impl Counts {
    /// Messages not settled.
    pub const fn unsettled(&self) -> u64 {
        self.ready + self.in_flight + self.delayed
    }
}

/// All credentials, by id.
#[derive(Debug, Clone, Default)]
pub struct AccessTable {
    /// Every credential.
    pub records: BTreeMap<AccessId, AccessRecord>,
}

/// Totals since the start of the process, per topic and group.
#[derive(Debug, Clone, Default)]
pub struct TopicStatus {
    /// Its account.
    pub account: Option<AccountName>,
    /// Its name.
    pub topic: Option<TopicName>,
    /// Messages published.
    pub published: u64,
    /// Bytes of their bodies.
    pub published_bytes: u64,
    /// Messages kept, as counted by retention.
    pub counts: Counts,
    /// Its groups.
    pub groups: Vec<GroupStatus>,
}

/// Totals since the start of the process, of a group.
#[derive(Debug, Clone, Default)]
pub struct GroupStatus {
    /// Its name.
    pub group: Option<GroupName>,
    /// Deliveries, repeats included.
    pub delivered: u64,
    /// Messages acked.
    pub acked: u64,
    /// Messages nacked.
    pub nacked: u64,
    /// Leases lapsed.
    pub lapsed: u64,
    /// Messages moved to the dead letters.
    pub dead_lettered: u64,
    /// Messages given up without a dead-letter topic.
    pub discarded: u64,
    /// Pulls waiting now.
    pub waiting: u64,
    /// Counts now.
    pub counts: Counts,
}

/// A cumulative histogram: `counts[i]` observations were at most `bounds[i]`; the rest is in `count`.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// Upper bounds, rising.
    pub bounds: Vec<f64>,
    /// Observations up to each bound.
    pub counts: Vec<u64>,
    /// All observations.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

/// Health and totals of the engine.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Per topic.
    pub topics: Vec<TopicStatus>,
    /// Seconds a sync took.
    pub sync_seconds: Histogram,
    /// Commands that one commit carried.
    pub commit_commands: Histogram,
    /// New messages are refused for want of space.
    pub disk_full: bool,
    /// Bytes of the log on disk.
    pub log_bytes: u64,
    /// Bytes of it that are still needed (an upper bound).
    pub live_bytes: u64,
    /// Bytes free on the file system of the data directory.
    pub free_bytes: u64,
    /// What recovery cut from the end of the log, if anything.
    pub torn: Vec<TornTail>,
    /// How often the index was set aside and built again since the start.
    pub index_rebuilds: u64,
    /// The last entry of the log.
    pub last_lsn: u64,
    /// Age trims stand still because the wall clock and the log clock disagree by more than an hour.
    pub clock_suspect: bool,
}

/// A torn tail that recovery cut off and kept aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The file it was cut from.
    pub file: String,
    /// Where.
    pub at_byte: u64,
    /// How many bytes were kept aside.
    pub bytes: u64,
}
