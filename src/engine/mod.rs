//! The rules: topics, groups, leases. [`Engine`] is the seam: dialects and the command line know
//! only it; the local engine and the in-memory oracle implement it and pass one contract suite.

mod agree;
mod api;
mod backup;
mod beside;
mod block;
mod checkpoint;
mod column;
mod command;
mod commit;
mod decide;
mod decide_move;
mod decide_publish;
mod decide_pull;
mod decide_settle;
mod delayed;
mod derived;
mod digest;
mod dump;
mod entry;
mod errors;
mod flight;
mod front;
mod gone;
mod group_state;
mod head;
mod home;
mod inbox;
mod limits;
mod line;
pub mod local;
mod look;
pub mod oracle;
mod pending;
mod places;
mod placing;
mod recover;
mod requests;
mod rows;
mod select;
#[doc(hidden)]
pub mod sim;
mod state;
mod stats;
mod sweep;
mod threads;
mod token;
mod topic_state;
mod upkeep;
mod writer;

use std::future::Future;
use std::pin::Pin;

pub use agree::{Agreement, Beside, Compared, Comparing, Difference, compare_index};
pub use api::*;
pub use backup::{
    Backup, BackupError, BackupFiles, BackupProgress, BackupReport, RestoreError, Restored, VerifyError, list_backups,
    restore_backup, verify_backup,
};
pub use dump::entry_text;
pub use errors::*;
pub use home::{FORMAT, Home, HomeError, LocalOptions, Watched, format_of, put_format, take_lock};
pub use limits::Limits;
pub use recover::{IndexPlace, RecoverError, Source};
pub use writer::WriterOptions;

use crate::model::{AccessId, AccessRecord, AccountName, Group, GroupPatch, GroupRef, Topic, TopicPatch, TopicRef};

/// The answer of an operation, later.
///
/// Dropping it does not undo the operation: a command that reached the writer may still be committed.
/// Only a waiting pull is withdrawn by dropping.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A durable queue engine.
///
/// On return of every operation that changes state, the change is durable (survives a power cut),
/// except a pull without `auto_ack`, whose leases are written (survive a crash of the process) and
/// durable with a sync that begins at most 5 ms later, or when the one under way is over. After a crash in mid-operation, all of its effects are there or none.
pub trait Engine: Send + Sync + 'static {
    /// Makes a topic.
    fn create_topic(&self, request: CreateTopic) -> Answer<'_, Result<Topic, CreateTopicError>>;
    /// Reads a topic.
    fn topic(&self, account: AccountName, topic: TopicRef) -> Answer<'_, Result<Topic, LookupError>>;
    /// All topics of an account, by name.
    fn topics(&self, account: AccountName) -> Answer<'_, Result<Vec<Topic>, LookupError>>;
    /// Changes a topic: all of the patch or nothing.
    fn update_topic(
        &self,
        account: AccountName,
        topic: TopicRef,
        patch: TopicPatch,
    ) -> Answer<'_, Result<Topic, UpdateTopicError>>;
    /// Deletes a topic with its messages and groups.
    fn delete_topic(&self, account: AccountName, topic: TopicRef) -> Answer<'_, Result<(), LookupError>>;

    /// Makes a group.
    fn create_group(&self, request: CreateGroup) -> Answer<'_, Result<Group, CreateGroupError>>;
    /// Reads a group.
    fn group(&self, account: AccountName, topic: TopicRef, group: GroupRef) -> Answer<'_, Result<Group, LookupError>>;
    /// All groups of a topic, by name.
    fn groups(&self, account: AccountName, topic: TopicRef) -> Answer<'_, Result<Vec<Group>, LookupError>>;
    /// The groups of an account with this name or id, in whichever topics, by topic name. For callers that
    /// know a group and not its topic.
    fn find_groups(&self, account: AccountName, group: GroupRef) -> Answer<'_, Result<Vec<Group>, LookupError>>;
    /// Changes a group: all of the patch or nothing.
    fn update_group(
        &self,
        account: AccountName,
        topic: TopicRef,
        group: GroupRef,
        patch: GroupPatch,
    ) -> Answer<'_, Result<Group, UpdateGroupError>>;
    /// Deletes a group with its progress.
    fn delete_group(
        &self,
        account: AccountName,
        topic: TopicRef,
        group: GroupRef,
    ) -> Answer<'_, Result<(), LookupError>>;

    /// Publishes a batch: all of it, at adjoining offsets, or nothing. Answers in request order.
    fn publish(&self, request: Publish) -> Answer<'_, Result<Vec<crate::model::Published>, PublishError>>;
    /// Takes messages under a lease each, oldest ready ones first. Waits as asked; an empty answer is no
    /// error. Hands out only messages whose publish is durable.
    fn pull(&self, request: Pull) -> Answer<'_, Result<Pulled, PullError>>;
    /// Acks, nacks, extends or buries leases. One outcome per item, in order; an item that does not
    /// succeed leaves the others alone.
    fn settle(&self, request: Settle) -> Answer<'_, Result<Vec<SettleOutcome>, SettleError>>;

    /// Looks at messages without touching them.
    fn peek(&self, request: Peek) -> Answer<'_, Result<Peeked, PeekError>>;
    /// Moves a group's cursor, forgetting its leases and returned messages; or says what that would do.
    fn seek(&self, request: Seek) -> Answer<'_, Result<SeekReport, LookupError>>;
    /// Gives up every message of a topic, delayed and leased ones included.
    fn purge(&self, account: AccountName, topic: TopicRef) -> Answer<'_, Result<PurgeReport, LookupError>>;
    /// Gives up single messages of a topic, for every group.
    fn discard(&self, request: Discard) -> Answer<'_, Result<DiscardReport, LookupError>>;
    /// Sends dead letters back to the topics they came from; those without origin stay.
    fn redrive(&self, request: Redrive) -> Answer<'_, Result<RedriveReport, RedriveError>>;

    /// Exact counts at one instant: of a group, or of the whole topic.
    fn counts(
        &self,
        account: AccountName,
        topic: TopicRef,
        group: Option<GroupRef>,
    ) -> Answer<'_, Result<Counts, LookupError>>;
    /// Totals and health of the engine.
    fn status(&self) -> Answer<'_, Status>;

    /// Keeps a credential; refuses an id that is taken.
    fn put_access(&self, record: AccessRecord) -> Answer<'_, Result<(), AccessError>>;
    /// Removes a credential of an account, at once.
    fn revoke_access(&self, account: AccountName, id: AccessId) -> Answer<'_, Result<(), AccessError>>;
    /// All credentials. Answered from memory: asked at every request.
    fn access(&self) -> std::sync::Arc<AccessTable>;

    /// Puts a backup of everything that was durable when this was asked into a directory of the server's
    /// machine. After a crash the backup is whole, or has no manifest and is none. Waits for nobody but the
    /// disk; all other operations go on.
    fn backup(&self, request: Backup) -> Answer<'_, Result<BackupReport, BackupError>>;

    /// Turns lapsed leases into returned messages, wakes pulls that are due, trims what is too old. The
    /// engine does so by itself at the next deadline; tests with a clock of their own call it.
    fn sweep(&self) -> Answer<'_, ()>;
    /// Answers waiting pulls with what there is, refuses new commands, makes everything durable and
    /// leaves the mark of a clean stop.
    fn stop(&self) -> Answer<'_, ()>;
}
