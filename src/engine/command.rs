//! What the writer is asked, and by whom it is answered.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::engine::block::BlockDisk;
use crate::engine::entry::GroupNo;
use crate::engine::entry::{RowDisk, TopicNo};
use crate::engine::rows::Row;
use crate::engine::{
    AccessError, Counts, CreateGroup, CreateGroupError, CreateTopic, CreateTopicError, Discard, DiscardReport,
    HandleKind, Lateness, LookupError, MessageState, PublishError, PullError, PurgeReport, RedriveReport, Refusal,
    SeekReport, SettleAction, SettleError, SettleOutcome, Status, UpdateGroupError, UpdateTopicError, Wait,
};
use crate::log::Pin;
use crate::model::{
    AccessId, AccessRecord, AccountName, Body, Group, GroupPatch, GroupRef, Lsn, Offset, Published, Start, Topic,
    TopicPatch, TopicRef,
};

/// Where an answer goes. The asker may be gone.
pub type Reply<T> = oneshot::Sender<T>;

/// One thing for the writer to do.
pub enum Command {
    CreateTopic(CreateTopic, Reply<Result<Topic, CreateTopicError>>),
    UpdateTopic(AccountName, TopicRef, TopicPatch, Reply<Result<Topic, UpdateTopicError>>),
    DeleteTopic(AccountName, TopicRef, Reply<Result<(), LookupError>>),
    Topic(AccountName, TopicRef, Reply<Result<Topic, LookupError>>),
    Topics(AccountName, Reply<Result<Vec<Topic>, LookupError>>),
    /// The start is resolved: no time in it.
    CreateGroup(CreateGroup, Reply<Result<Group, CreateGroupError>>),
    UpdateGroup(AccountName, TopicRef, GroupRef, GroupPatch, Reply<Result<Group, UpdateGroupError>>),
    DeleteGroup(AccountName, TopicRef, GroupRef, Reply<Result<(), LookupError>>),
    Group(AccountName, TopicRef, GroupRef, Reply<Result<Group, LookupError>>),
    Groups(AccountName, TopicRef, Reply<Result<Vec<Group>, LookupError>>),
    FindGroups(AccountName, GroupRef, Reply<Result<Vec<Group>, LookupError>>),
    Publish(PublishWork, Reply<Result<Vec<Published>, PublishError>>),
    Pull(PullWork, Reply<Result<Taken, PullError>>),
    Settle(SettleWork, Reply<Result<Vec<SettleOutcome>, SettleError>>),
    Look(LookWork, Reply<Result<Looked, LookupError>>),
    /// The target is resolved: no time in it.
    Seek(SeekWork, Reply<Result<SeekReport, LookupError>>),
    Purge(AccountName, TopicRef, Reply<Result<PurgeReport, LookupError>>),
    Discard(Discard, Reply<Result<DiscardReport, LookupError>>),
    /// Offsets in order, and how many of them to move at most.
    Redrive(AccountName, TopicRef, (Vec<Offset>, usize), Reply<Result<RedriveReport, LookupError>>),
    Counts(AccountName, TopicRef, Option<GroupRef>, Reply<Result<Counts, LookupError>>),
    Status(Reply<Status>),
    PutAccess(AccessRecord, Reply<Result<(), AccessError>>),
    RevokeAccess(AccountName, AccessId, Reply<Result<(), AccessError>>),
    Sweep(Reply<()>),
    /// Ends the active segment, so that what was said until now lies in files that do not change any more.
    Seal(Reply<Result<Sealed, Refusal>>),
    Stop(Reply<()>),
    /// A job of the writer's own is done.
    Done(JobDone),
}

impl Command {
    /// Whether its answer waits for a sync in any case, so that it may as well be decided after the one under way.
    pub const fn can_wait(&self) -> bool {
        matches!(self, Self::Publish(..) | Self::Settle(..))
    }

    /// The topic it is about.
    pub fn target(&self) -> Option<(&AccountName, &TopicRef)> {
        match self {
            Self::UpdateTopic(account, topic, ..)
            | Self::DeleteTopic(account, topic, _)
            | Self::Groups(account, topic, _)
            | Self::UpdateGroup(account, topic, ..)
            | Self::DeleteGroup(account, topic, ..)
            | Self::Purge(account, topic, _)
            | Self::Redrive(account, topic, ..)
            | Self::Counts(account, topic, ..) => Some((account, topic)),
            Self::CreateGroup(request, _) => Some((&request.account, &request.topic)),
            Self::Publish(work, _) => Some((&work.account, &work.topic)),
            Self::Pull(work, _) => Some((&work.account, &work.topic)),
            Self::Settle(work, _) => Some((&work.account, &work.topic)),
            Self::Look(work, _) => Some((&work.account, &work.topic)),
            Self::Seek(work, _) => Some((&work.account, &work.topic)),
            Self::Discard(request, _) => Some((&request.account, &request.topic)),
            Self::Topic(..)
            | Self::Topics(..)
            | Self::Group(..)
            | Self::FindGroups(..)
            | Self::CreateTopic(..)
            | Self::Status(_)
            | Self::PutAccess(..)
            | Self::RevokeAccess(..)
            | Self::Sweep(_)
            | Self::Seal(_)
            | Self::Stop(_)
            | Self::Done(_) => None,
        }
    }
}

/// The log up to one instant.
pub struct Sealed {
    /// The segments that hold it, in order; none of them is recycled while this lives.
    pub segments: Vec<Pin>,
    /// Its last entry.
    pub last: Lsn,
}

/// A message ready to be appended.
pub struct PreparedMessage {
    /// Encoded head of the record.
    pub head: Vec<u8>,
    pub body: Body,
    /// Digests; zero for none.
    pub key: u128,
    pub tag: u64,
    pub idempotency: u128,
    pub fingerprint: u64,
    pub delay: Option<Duration>,
}

/// A publish whose parts have been checked.
pub struct PublishWork {
    pub account: AccountName,
    pub topic: TopicRef,
    pub messages: Vec<PreparedMessage>,
    /// Bytes of all records.
    pub bytes: usize,
}

/// A pull whose bounds have been checked.
#[derive(Debug, Clone)]
pub struct PullWork {
    pub account: AccountName,
    pub topic: TopicRef,
    pub group: GroupRef,
    pub batch_max: usize,
    pub lease: Option<Duration>,
    pub wait: Wait,
    pub auto_ack: bool,
    pub handles: HandleKind,
    /// Digests of the wanted tags; `None`: the group's own filter.
    pub filter: Option<Vec<u64>>,
    pub filter_all: bool,
    pub start: Option<Start>,
}

/// What a pull took, bodies still on disk.
pub struct Taken {
    pub topic: TopicNo,
    pub group: GroupNo,
    /// The group's, for the tokens.
    pub placing: u32,
    pub items: Vec<TakenItem>,
    pub lease: Duration,
    pub counts: Counts,
    /// Keep the segments of the bodies where they are.
    pub _pins: Vec<Pin>,
    pub auto_ack: bool,
}

/// One message taken.
pub struct TakenItem {
    pub offset: u64,
    pub row: Row,
    pub attempt: u32,
    pub lease: u64,
    pub handle: u128,
}

/// A lease as its (verified) token or handle names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseName {
    Token {
        topic: TopicNo,
        group: GroupNo,
        placing: u32,
        offset: u64,
        id: u128,
        lease: u64,
    },
    Handle(u128),
    /// The token is none of ours.
    Forged,
}

/// A settle whose bounds have been checked.
pub struct SettleWork {
    pub account: AccountName,
    pub topic: TopicRef,
    pub group: Option<GroupRef>,
    pub items: Vec<(LeaseName, SettleAction)>,
    pub lateness: Lateness,
}

/// A page of rows to look at.
#[derive(Debug, Clone)]
pub struct LookWork {
    pub account: AccountName,
    pub topic: TopicRef,
    pub group: Option<GroupRef>,
    pub from: u64,
}

/// A page of rows, at most one block.
pub struct Looked {
    pub rows: Vec<LookedRow>,
    /// Where the next page begins; `None` at the tail.
    pub next: Option<u64>,
    pub head: u64,
    pub tail: u64,
    /// Ids (and times) rise with offsets.
    pub rising: bool,
    pub _pins: Vec<Pin>,
}

/// One row looked at.
pub struct LookedRow {
    pub offset: u64,
    pub row: Row,
    pub state: Option<MessageState>,
    pub attempts: u32,
}

/// A seek whose target is resolved.
#[derive(Debug, Clone)]
pub struct SeekWork {
    pub account: AccountName,
    pub topic: TopicRef,
    pub group: GroupRef,
    pub to: Start,
    pub dry_run: bool,
}

/// A message found in the segment that is to be dropped.
pub struct Candidate {
    pub topic: TopicNo,
    pub offset: u64,
    /// With the place of the record in that segment.
    pub row: RowDisk,
    pub head: bytes::Bytes,
    pub body: Body,
}

/// What came of a job.
pub enum JobDone {
    /// A block was read; `Err`: the index is not to be trusted.
    Loaded { generation: u64, topic: TopicNo, block: u64, stored: Result<BlockDisk, String> },
    /// A checkpoint is durable; `Err`: the index was lost.
    Checkpoint { generation: u64, result: Result<(), String> },
    /// The index was built again from the log and is as of this generation.
    Rebuilt { generation: u64, result: Result<(), String> },
    /// Part of the front segment was read.
    Scanned { segment: u64, frames: usize, candidates: Vec<Candidate>, end: bool, failed: Option<String> },
}
