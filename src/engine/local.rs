//! The local engine: a writer on a thread of its own, and threads that read and write beside it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::engine::command::{Command, Reply, SeekWork};
use crate::engine::decide_move::GONE_BYTES;
use crate::engine::inbox::Inbox;
use crate::engine::recover::{RecoverError, Recovered, Source, recover};
use crate::engine::threads::spawn;
use crate::engine::token::Tokens;
use crate::engine::writer::Writer;
use crate::engine::{
    AccessError, AccessTable, Answer, Backup, BackupError, BackupReport, Counts, CreateGroup, CreateGroupError,
    CreateTopic, CreateTopicError, Discard, DiscardReport, Engine, LookupError, Peek, PeekError, Peeked, Position,
    Publish, PublishError, Pull, PullError, Pulled, PurgeReport, Redrive, RedriveError, RedriveReport, Refusal, Seek,
    SeekReport, Settle, SettleError, SettleOutcome, Status, UpdateGroupError, UpdateTopicError,
};
use crate::index::Index;
use crate::log::{LogReader, RecoveryReport};
use crate::model::{
    AccessId, AccessRecord, AccountName, Group, GroupPatch, GroupRef, Published, Topic, TopicPatch, TopicRef, bounds,
};

/// Commands that wait for the writer at most; whoever comes then is told that the server is busy.
pub const INBOX_MAX: usize = 16 * 1024;

/// The engine over a data directory of its own.
pub struct LocalEngine {
    inbox: Arc<Inbox>,
    pub(super) shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    report: RecoveryReport,
    index_lost: Option<String>,
}

/// An engine that was recovered, and what has to be driven.
pub(super) struct Started {
    pub engine: LocalEngine,
    pub writer: Writer,
    pub index: Box<dyn Index>,
    pub inbox: Arc<Inbox>,
}

/// What requests need beside the writer.
pub(super) struct Shared {
    pub tokens: Tokens,
    pub reader: LogReader,
    access: Arc<RwLock<Arc<AccessTable>>>,
    pub limits: crate::engine::Limits,
    /// Largest record payload that one commit takes.
    pub frame_bytes_max: usize,
    pub disk: Arc<dyn Disk>,
    pub data_dir: PathBuf,
    pub secret: [u8; 32],
    pub clock: Arc<dyn Clock>,
    pub reads: Reads,
}

/// Where bodies are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// On the threads that tokio keeps for what blocks.
    Pool,
    /// At once, by whoever polls: there are no threads in a simulation.
    Inline,
}

impl Reads {
    pub async fn run<T: Send + 'static>(self, read: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        match self {
            Self::Pool => tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string()),
            Self::Inline => Ok(read()),
        }
    }
}

impl LocalEngine {
    /// Recovers the engine that `source` describes and starts its threads. Ready on return.
    pub fn start(source: Source, secret: &[u8; 32]) -> Result<Self, RecoverError> {
        let Started { engine, writer, index, inbox } = Self::without_threads(&source, secret, Reads::Pool)?;
        let threads = spawn(writer, index, &source, &inbox, &engine.shared);
        *engine.threads.lock().unwrap_or_else(PoisonError::into_inner) = threads;
        Ok(engine)
    }

    /// Recovers the engine; nobody turns its writer yet.
    fn without_threads(source: &Source, secret: &[u8; 32], reads: Reads) -> Result<Started, RecoverError> {
        let Recovered { writer, index, report, index_lost } = recover(source)?;
        let inbox = Arc::new(Inbox::new(INBOX_MAX));
        let shared = Arc::new(Shared {
            tokens: Tokens::new(secret),
            reader: writer.reader(),
            access: writer.access(),
            limits: source.limits,
            frame_bytes_max: writer.frame_bytes_max(),
            disk: source.disk.clone(),
            data_dir: source.data_dir.clone(),
            secret: *secret,
            clock: source.clock.clone(),
            reads,
        });
        let engine = Self { inbox: inbox.clone(), shared, threads: Mutex::default(), report, index_lost };
        Ok(Started { engine, writer, index, inbox })
    }

    /// For the simulator, which turns the writer itself: bodies are read at once, by whoever polls.
    pub(super) fn turned_by_hand(source: &Source, secret: &[u8; 32]) -> Result<Started, RecoverError> {
        Self::without_threads(source, secret, Reads::Inline)
    }

    /// What recovery found and did.
    pub const fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// Why the index was set aside at the start, if it was.
    pub fn index_lost(&self) -> Option<&str> {
        self.index_lost.as_deref()
    }

    /// Waits until all threads have ended, after [`Engine::stop`]. Threads of sled may hold its files a moment
    /// longer: the next engine of this process waits for them.
    pub fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A panic of one has been reported by its own guard.
            let _ = thread.join();
        }
    }

    /// Has the writer carry out a command. When the log has failed this never ends: the process is about to, and what
    /// was asked may be there after a restart, so that nobody is told that it was refused.
    pub(super) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.inbox.ask(command(reply))?;
        match answer.await {
            Ok(answer) => Ok(answer),
            Err(_) if self.inbox.is_closed() => Err(Refusal::Stopping),
            Err(_) => std::future::pending().await,
        }
    }
}

/// An engine that nobody asked to stop stops when it is dropped; its threads end by themselves.
impl Drop for LocalEngine {
    fn drop(&mut self) {
        let (reply, _) = oneshot::channel();
        // A full inbox means that the process is ending anyway.
        let _ = self.inbox.ask(Command::Stop(reply));
    }
}

impl Engine for LocalEngine {
    fn create_topic(&self, request: CreateTopic) -> Answer<'_, Result<Topic, CreateTopicError>> {
        Box::pin(async { self.ask(|reply| Command::CreateTopic(request, reply)).await? })
    }

    fn topic(&self, account: AccountName, topic: TopicRef) -> Answer<'_, Result<Topic, LookupError>> {
        Box::pin(async { self.ask(|reply| Command::Topic(account, topic, reply)).await? })
    }

    fn topics(&self, account: AccountName) -> Answer<'_, Result<Vec<Topic>, LookupError>> {
        Box::pin(async { self.ask(|reply| Command::Topics(account, reply)).await? })
    }

    fn update_topic(
        &self,
        account: AccountName,
        topic: TopicRef,
        patch: TopicPatch,
    ) -> Answer<'_, Result<Topic, UpdateTopicError>> {
        Box::pin(async { self.ask(|reply| Command::UpdateTopic(account, topic, patch, reply)).await? })
    }

    fn delete_topic(&self, account: AccountName, topic: TopicRef) -> Answer<'_, Result<(), LookupError>> {
        Box::pin(async { self.ask(|reply| Command::DeleteTopic(account, topic, reply)).await? })
    }

    fn create_group(&self, mut request: CreateGroup) -> Answer<'_, Result<Group, CreateGroupError>> {
        Box::pin(async {
            let (Position::Now(start) | Position::FirstPull(start)) = request.position;
            let start = self.resolve(&request.account, &request.topic, start).await.map_err(|error| match error {
                LookupError::NoSuchTopic | LookupError::NoSuchGroup => CreateGroupError::NoSuchTopic,
                LookupError::Refused(refusal) => refusal.into(),
            })?;
            request.position = match request.position {
                Position::Now(_) => Position::Now(start),
                Position::FirstPull(_) => Position::FirstPull(start),
            };
            self.ask(|reply| Command::CreateGroup(request, reply)).await?
        })
    }

    fn group(&self, account: AccountName, topic: TopicRef, group: GroupRef) -> Answer<'_, Result<Group, LookupError>> {
        Box::pin(async { self.ask(|reply| Command::Group(account, topic, group, reply)).await? })
    }

    fn groups(&self, account: AccountName, topic: TopicRef) -> Answer<'_, Result<Vec<Group>, LookupError>> {
        Box::pin(async { self.ask(|reply| Command::Groups(account, topic, reply)).await? })
    }

    fn find_groups(&self, account: AccountName, group: GroupRef) -> Answer<'_, Result<Vec<Group>, LookupError>> {
        Box::pin(async { self.ask(|reply| Command::FindGroups(account, group, reply)).await? })
    }

    fn update_group(
        &self,
        account: AccountName,
        topic: TopicRef,
        group: GroupRef,
        patch: GroupPatch,
    ) -> Answer<'_, Result<Group, UpdateGroupError>> {
        Box::pin(async {
            let asked = self.ask(|reply| Command::UpdateGroup(account, topic, group, patch, reply)).await;
            asked.map_err(|refusal| UpdateGroupError::Lookup(refusal.into()))?
        })
    }

    fn delete_group(
        &self,
        account: AccountName,
        topic: TopicRef,
        group: GroupRef,
    ) -> Answer<'_, Result<(), LookupError>> {
        Box::pin(async { self.ask(|reply| Command::DeleteGroup(account, topic, group, reply)).await? })
    }

    fn publish(&self, request: Publish) -> Answer<'_, Result<Vec<Published>, PublishError>> {
        Box::pin(self.do_publish(request))
    }

    fn pull(&self, request: Pull) -> Answer<'_, Result<Pulled, PullError>> {
        Box::pin(self.do_pull(request))
    }

    fn settle(&self, request: Settle) -> Answer<'_, Result<Vec<SettleOutcome>, SettleError>> {
        Box::pin(self.do_settle(request))
    }

    fn peek(&self, request: Peek) -> Answer<'_, Result<Peeked, PeekError>> {
        Box::pin(self.do_peek(request))
    }

    fn seek(&self, request: Seek) -> Answer<'_, Result<SeekReport, LookupError>> {
        Box::pin(async move {
            let to = self.resolve(&request.account, &request.topic, request.to).await?;
            let work = SeekWork {
                account: request.account,
                topic: request.topic,
                group: request.group,
                to,
                dry_run: request.dry_run,
            };
            self.ask(|reply| Command::Seek(work, reply)).await?
        })
    }

    fn purge(&self, account: AccountName, topic: TopicRef) -> Answer<'_, Result<PurgeReport, LookupError>> {
        Box::pin(async { self.ask(|reply| Command::Purge(account, topic, reply)).await? })
    }

    fn discard(&self, mut request: Discard) -> Answer<'_, Result<DiscardReport, LookupError>> {
        let fit = (self.shared.frame_bytes_max / GONE_BYTES).saturating_sub(16);
        request.offsets.truncate(bounds::PULL_BATCH_MAX.min(fit));
        Box::pin(async { self.ask(|reply| Command::Discard(request, reply)).await? })
    }

    fn redrive(&self, request: Redrive) -> Answer<'_, Result<RedriveReport, RedriveError>> {
        Box::pin(self.do_redrive(request))
    }

    fn counts(
        &self,
        account: AccountName,
        topic: TopicRef,
        group: Option<GroupRef>,
    ) -> Answer<'_, Result<Counts, LookupError>> {
        Box::pin(async { self.ask(|reply| Command::Counts(account, topic, group, reply)).await? })
    }

    fn status(&self) -> Answer<'_, Status> {
        Box::pin(async {
            let mut status = self.ask(Command::Status).await.unwrap_or_default();
            status.free_bytes = self.shared.disk.space(&self.shared.data_dir).unwrap_or(0);
            status
        })
    }

    fn put_access(&self, record: AccessRecord) -> Answer<'_, Result<(), AccessError>> {
        Box::pin(async { self.ask(|reply| Command::PutAccess(record, reply)).await? })
    }

    fn revoke_access(&self, account: AccountName, id: AccessId) -> Answer<'_, Result<(), AccessError>> {
        Box::pin(async { self.ask(|reply| Command::RevokeAccess(account, id, reply)).await? })
    }

    fn access(&self) -> Arc<AccessTable> {
        self.shared.access.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn backup(&self, request: Backup) -> Answer<'_, Result<BackupReport, BackupError>> {
        Box::pin(self.do_backup(request))
    }

    fn sweep(&self) -> Answer<'_, ()> {
        Box::pin(async {
            // Answered with the turn that swept; a stopped engine has nothing to sweep.
            let _ = self.ask(Command::Sweep).await;
        })
    }

    fn stop(&self) -> Answer<'_, ()> {
        Box::pin(async {
            let _ = self.ask(Command::Stop).await;
        })
    }
}
