//! The local engine: a writer on a thread of its own, and threads that read and write beside it.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::disk::Disk;
use crate::engine::beside::{IndexShared, IndexWorker, finish, load, scan};
use crate::engine::command::LeaseName;
use crate::engine::command::{
    Command, JobDone, LookWork, Looked, PreparedMessage, PublishWork, PullWork, Reply, SeekWork, SettleWork, Taken,
};
use crate::engine::decide_move::GONE_BYTES;
use crate::engine::recover::{RecoverError, Recovered, Source, recover};
use crate::engine::token::Tokens;
use crate::engine::writer::{Job, Writer};
use crate::engine::{
    AccessError, AccessTable, Answer, Counts, CreateGroup, CreateGroupError, CreateTopic, CreateTopicError, Discard,
    DiscardReport, Engine, LeaseRef, LookupError, Peek, PeekError, Peeked, PeekedMessage, Position, Publish,
    PublishError, Pull, PullError, Pulled, PurgeReport, Redrive, RedriveError, RedriveReport, Refusal, Seek,
    SeekReport, Settle, SettleAction, SettleError, SettleOutcome, Status, UpdateGroupError, UpdateTopicError, Wait,
    digest, head,
};
use crate::index::Index;
use crate::log::{Loc, LogReader, RecoveryReport, record_bytes};
use crate::model::{
    AccessId, AccessRecord, AccountName, Attempt, Delivery, Group, GroupPatch, GroupRef, Message, NewMessage, Offset,
    Published, SettingsError, Start, TagFilter, Topic, TopicPatch, TopicRef, bounds,
};

/// Commands that wait for the writer at most; whoever comes then is told that the server is busy.
pub const INBOX_MAX: usize = 16 * 1024;
/// Commands that one turn takes at most.
const BATCH_COMMANDS_MAX: usize = 4096;
/// Bytes of a commit that no publish takes: a message must fit one with the names of its dead letter.
const SPARE_BYTES: usize = 2048;
/// How often the keeper of segments looks for work.
const KEEPER_PAUSE: Duration = Duration::from_millis(20);
/// How long after a rebuild of the index that failed the next one begins.
const REBUILD_PAUSE: Duration = Duration::from_secs(1);

/// The engine over a data directory of its own.
pub struct LocalEngine {
    inbox: SyncSender<Command>,
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    report: RecoveryReport,
    index_lost: Option<String>,
}

/// An engine that was recovered, and what has to be driven.
pub(super) struct Started {
    pub engine: LocalEngine,
    pub writer: Writer,
    pub index: Box<dyn Index>,
    pub commands: Receiver<Command>,
}

struct Shared {
    tokens: Tokens,
    reader: LogReader,
    access: Arc<RwLock<Arc<AccessTable>>>,
    limits: crate::engine::Limits,
    /// Largest record payload that one commit takes.
    frame_bytes_max: usize,
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
    reads: Reads,
}

/// Where bodies are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// On the threads that tokio keeps for what blocks.
    Pool,
    /// At once, by whoever polls: there are no threads in a simulation.
    Inline,
}

impl Reads {
    async fn run<T: Send + 'static>(self, read: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        match self {
            Self::Pool => tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string()),
            Self::Inline => Ok(read()),
        }
    }
}

impl LocalEngine {
    /// Recovers the engine that `source` describes and starts its threads. Ready on return.
    pub fn start(source: Source, secret: &[u8; 32]) -> Result<Self, RecoverError> {
        let Started { engine, writer, index, commands } = Self::without_threads(&source, secret, Reads::Pool)?;
        let threads = spawn(writer, index, &source, &engine.inbox, commands, &engine.shared);
        *engine.threads.lock().unwrap_or_else(PoisonError::into_inner) = threads;
        Ok(engine)
    }

    /// Recovers the engine; nobody turns its writer yet.
    fn without_threads(source: &Source, secret: &[u8; 32], reads: Reads) -> Result<Started, RecoverError> {
        let Recovered { writer, index, report, index_lost } = recover(source)?;
        let (inbox, commands) = sync_channel(INBOX_MAX);
        let shared = Arc::new(Shared {
            tokens: Tokens::new(secret),
            reader: writer.reader(),
            access: writer.access(),
            limits: source.limits,
            frame_bytes_max: writer.frame_bytes_max(),
            disk: source.disk.clone(),
            data_dir: source.data_dir.clone(),
            reads,
        });
        let engine = Self { inbox, shared, threads: Mutex::default(), report, index_lost };
        Ok(Started { engine, writer, index, commands })
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

    /// Waits until all threads have ended, after [`Engine::stop`]: then the data directory is free.
    pub fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A panic of one has been reported by its own guard.
            let _ = thread.join();
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.inbox.try_send(command(reply)).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::Busy,
            TrySendError::Disconnected(_) => Refusal::Stopping,
        })?;
        answer.await.map_err(|_| Refusal::Stopping)
    }
}

/// An engine that nobody asked to stop stops when it is dropped; its threads end by themselves.
impl Drop for LocalEngine {
    fn drop(&mut self) {
        let (reply, _) = oneshot::channel();
        // A full inbox means that the process is ending anyway.
        let _ = self.inbox.try_send(Command::Stop(reply));
    }
}

fn spawn(
    writer: Writer,
    index: Box<dyn Index>,
    source: &Source,
    inbox: &SyncSender<Command>,
    commands: Receiver<Command>,
    shared: &Arc<Shared>,
) -> Vec<JoinHandle<()>> {
    let (index_jobs, index_inbox) = std::sync::mpsc::channel();
    let (load_jobs, load_inbox) = std::sync::mpsc::channel();
    let (scan_jobs, scan_inbox) = std::sync::mpsc::channel();
    let generation = writer.generation();
    let index_shared = Arc::new(IndexShared::new(generation, index.reader()));
    let keeper = writer.keeper();
    let (stop_keeper, keeper_inbox) = std::sync::mpsc::channel::<()>();
    let mut threads = Vec::new();
    let reader = writer.reader();
    {
        let inbox = inbox.clone();
        let mut worker = IndexWorker::new(index, source, reader.clone(), index_shared.clone());
        threads.push(thread("index", move || {
            while let Ok(job) = index_inbox.recv() {
                let Some(done) = worker.run(job) else { continue };
                if matches!(&done, JobDone::Rebuilt { result: Err(_), .. }) {
                    std::thread::sleep(REBUILD_PAUSE);
                }
                if inbox.send(Command::Done(done)).is_err() {
                    return;
                }
            }
        }));
    }
    {
        let inbox = inbox.clone();
        threads.push(thread("index-read", move || {
            while let Ok((topic, block)) = load_inbox.recv() {
                if inbox.send(Command::Done(load(&index_shared, topic, block))).is_err() {
                    return;
                }
            }
        }));
    }
    {
        let inbox = inbox.clone();
        threads.push(thread("scan", move || {
            while let Ok((segment, skip)) = scan_inbox.recv() {
                let done = scan(&reader, segment, skip);
                if inbox.send(Command::Done(done)).is_err() {
                    return;
                }
            }
        }));
    }
    {
        let clock = source.clock.clone();
        threads.push(thread("segments", move || {
            loop {
                match keeper.step(clock.boot()) {
                    Ok(step) if step == crate::log::Step::Idle || step == crate::log::Step::NoSpace => {
                        if keeper_inbox.recv_timeout(KEEPER_PAUSE) != Err(RecvTimeoutError::Timeout) {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(error) => {
                        if keeper_inbox.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty) {
                            return;
                        }
                        abort("the keeper of segments failed", &error);
                    }
                }
            }
        }));
    }
    let jobs = Jobs { index: index_jobs, load: load_jobs, scan: scan_jobs };
    let shared = shared.clone();
    let random = source.clock.random() as u64;
    threads.push(thread("writer", move || {
        // The senders of the other threads' jobs go with this thread: then they end too.
        let writer = run_writer(writer, &commands, &jobs);
        drop(stop_keeper);
        if let Err(error) = finish(writer, &*shared.disk, &shared.data_dir, random) {
            abort("the log could not be ended", &error);
        }
    }));
    threads
}

/// A thread that takes the process with it when it panics: half an engine is worse than none.
fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let guarded = move || {
        let guard = AbortOnPanic;
        body();
        std::mem::forget(guard);
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(guarded)
        .unwrap_or_else(|error| panic!("no thread could be started: {error}"))
}

struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        tracing::error!("a thread of the engine panicked, the process ends");
        std::process::abort();
    }
}

fn abort(what: &str, error: &dyn std::error::Error) -> ! {
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    tracing::error!(%error, source, "{what}: the process ends, because only a restart knows what is durable");
    std::process::abort();
}

struct Jobs {
    index: std::sync::mpsc::Sender<Job>,
    load: std::sync::mpsc::Sender<(u32, u64)>,
    scan: std::sync::mpsc::Sender<(u64, usize)>,
}

impl Jobs {
    fn hand_out(&self, jobs: &mut Vec<Job>) {
        for job in jobs.drain(..) {
            let sent = match job {
                Job::Load { topic, block } => self.load.send((topic, block)).is_ok(),
                Job::Scan { segment, skip } => self.scan.send((segment, skip)).is_ok(),
                Job::Checkpoint(_) | Job::Rebuild { .. } => self.index.send(job).is_ok(),
            };
            assert!(sent, "the threads beside the writer outlive it");
        }
    }
}

fn run_writer(mut writer: Writer, inbox: &Receiver<Command>, jobs: &Jobs) -> Writer {
    let mut commands = std::collections::VecDeque::new();
    loop {
        if let Err(error) = writer.turn(&mut commands) {
            abort("the log failed", &error);
        }
        jobs.hand_out(&mut writer.jobs);
        if writer.is_stopped() {
            return writer;
        }
        if !writer.has_work() {
            match writer.next_turn() {
                Some(wait) if wait.is_zero() => {}
                Some(wait) => match inbox.recv_timeout(wait) {
                    Ok(command) => commands.push_back(command),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return writer,
                },
                None => match inbox.recv() {
                    Ok(command) => commands.push_back(command),
                    Err(_) => return writer,
                },
            }
        }
        while commands.len() < BATCH_COMMANDS_MAX
            && let Ok(command) = inbox.try_recv()
        {
            commands.push_back(command);
        }
    }
}

// ---- from the seam's words to commands ----

fn prepare(message: &NewMessage) -> PreparedMessage {
    PreparedMessage {
        head: head::encode(message),
        body: message.body.clone(),
        key: message.key.as_ref().map_or(0, |key| digest::of_key(key.as_str())),
        tag: message.tag.as_ref().map_or(0, |tag| digest::of_tag(tag.as_str())),
        idempotency: message.idempotency_key.as_ref().map_or(0, |key| digest::of_key(key.as_str())),
        fingerprint: if message.idempotency_key.is_some() { digest::of_message(message) } else { 0 },
        delay: message.delay,
    }
}

fn text_bytes(message: &NewMessage) -> usize {
    let text = |part: Option<&str>| part.map_or(0, str::len);
    text(message.content_type.as_ref().map(AsRef::as_ref))
        + text(message.key.as_ref().map(AsRef::as_ref))
        + text(message.tag.as_ref().map(AsRef::as_ref))
        + text(message.idempotency_key.as_ref().map(AsRef::as_ref))
        + message.properties.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
}

impl LocalEngine {
    fn check_publish(&self, messages: &[NewMessage]) -> Result<(), PublishError> {
        let limits = &self.shared.limits;
        let max = bounds::PUBLISH_BATCH_MAX;
        if messages.is_empty() || messages.len() > max {
            return Err(PublishError::BatchCount { got: messages.len(), max });
        }
        let mut batch = 0;
        for (index, message) in messages.iter().enumerate() {
            let (got, max) = (message.body.len(), limits.body_bytes_max);
            if got > max {
                return Err(PublishError::BodyTooLarge { index, got, max });
            }
            let bytes: usize = message.properties.iter().map(|(name, value)| name.len() + value.len()).sum();
            let (pairs_max, bytes_max) = (bounds::PROPERTIES_MAX, bounds::PROPERTIES_BYTES_MAX);
            if message.properties.len() > pairs_max || bytes > bytes_max {
                return Err(PublishError::Properties { index, pairs_max, bytes_max });
            }
            if message.delay.is_some_and(|delay| delay > bounds::DELAY_MAX) {
                return Err(PublishError::DelayTooLong { index, max_secs: bounds::DELAY_MAX.as_secs() });
            }
            batch += got + text_bytes(message);
        }
        if batch > limits.batch_bytes_max {
            return Err(PublishError::BatchTooLarge { got: batch, max: limits.batch_bytes_max });
        }
        Ok(())
    }

    async fn do_publish(&self, request: Publish) -> Result<Vec<Published>, PublishError> {
        self.check_publish(&request.messages)?;
        let messages: Vec<PreparedMessage> = request.messages.iter().map(prepare).collect();
        let bytes: usize = messages.iter().map(|message| record_bytes(message.head.len(), message.body.len())).sum();
        let max = self.shared.frame_bytes_max.saturating_sub(messages.len() * 160 + SPARE_BYTES);
        if bytes > max {
            return Err(PublishError::BatchTooLarge { got: bytes, max });
        }
        let work = PublishWork { account: request.account, topic: request.topic, messages, bytes };
        self.ask(|reply| Command::Publish(work, reply)).await?
    }

    async fn do_pull(&self, request: Pull) -> Result<Pulled, PullError> {
        let refuse = |field, rule| Err(PullError::Bounds(SettingsError { field, rule }));
        if request.batch_max == 0 || request.batch_max > bounds::PULL_BATCH_MAX {
            return refuse("batch_max", "1 to 1000");
        }
        if request.lease.is_some_and(|lease| lease < bounds::LEASE_MIN || lease > bounds::LEASE_MAX) {
            return refuse("lease", "1 ms to 12 hours");
        }
        if let Wait::Any(span) | Wait::Full(span) = request.wait
            && span > bounds::WAIT_MAX
        {
            return refuse("wait", "at most 300 s");
        }
        let tags = match &request.filter {
            Some(TagFilter::AnyOf(tags)) if tags.is_empty() || tags.len() > bounds::FILTER_TAGS_MAX => {
                return refuse("filter", "1 to 32 tags");
            }
            Some(TagFilter::AnyOf(tags)) => Some(tags.iter().map(|tag| digest::of_tag(tag.as_str())).collect()),
            Some(TagFilter::All) | None => None,
        };
        let start = match request.start {
            Some(start) => {
                Some(self.resolve(&request.account, &request.topic, start).await.map_err(PullError::Lookup)?)
            }
            None => None,
        };
        let work = PullWork {
            account: request.account,
            topic: request.topic,
            group: request.group,
            batch_max: request.batch_max,
            lease: request.lease,
            wait: request.wait,
            auto_ack: request.auto_ack,
            handles: request.handles,
            filter_all: request.filter == Some(TagFilter::All),
            filter: tags,
            start,
        };
        let taken = self.ask(|reply| Command::Pull(work, reply)).await.map_err(LookupError::from)??;
        if taken.items.is_empty() {
            return Ok(Pulled { deliveries: Vec::new(), counts: taken.counts });
        }
        let shared = self.shared.clone();
        let read = shared.reads.run({
            let shared = shared.clone();
            move || deliver(&shared, taken)
        });
        read.await.unwrap_or_else(|error| Err(PullError::Unreadable(error)))
    }

    async fn do_settle(&self, request: Settle) -> Result<Vec<SettleOutcome>, SettleError> {
        let refuse = |field, rule| Err(SettleError::Bounds(SettingsError { field, rule }));
        if request.items.len() > bounds::SETTLE_BATCH_MAX {
            return refuse("items", "at most 10000 leases");
        }
        let mut items = Vec::with_capacity(request.items.len());
        for (lease, action) in request.items {
            match &action {
                SettleAction::Nack { delay: Some(delay) } if *delay > bounds::DELAY_MAX => {
                    return refuse("delay", "at most 14 days");
                }
                SettleAction::Extend { lease } if *lease < bounds::LEASE_MIN || *lease > bounds::LEASE_MAX => {
                    return refuse("lease", "1 ms to 12 hours");
                }
                SettleAction::Bury { reason } if reason.len() > 1024 => return refuse("reason", "at most 1024 bytes"),
                _ => {}
            }
            let name = match lease {
                LeaseRef::Token(text) => self.shared.tokens.read(&text),
                LeaseRef::Handle(0) => LeaseName::Forged,
                LeaseRef::Handle(handle) => LeaseName::Handle(handle),
            };
            items.push((name, action));
        }
        let work = SettleWork {
            account: request.account,
            topic: request.topic,
            group: request.group,
            items,
            lateness: request.lateness,
        };
        self.ask(|reply| Command::Settle(work, reply)).await.map_err(LookupError::from)?
    }

    async fn page(&self, work: LookWork) -> Result<Looked, LookupError> {
        self.ask(|reply| Command::Look(work, reply)).await?
    }

    /// Turns a time into the offset of the first message published at or after it.
    async fn resolve(&self, account: &AccountName, topic: &TopicRef, start: Start) -> Result<Start, LookupError> {
        let Start::Time(time) = start else { return Ok(start) };
        let look = |from| self.page(LookWork { account: account.clone(), topic: topic.clone(), group: None, from });
        let first = look(0).await?;
        let at_or_after =
            |page: &Looked| page.rows.iter().find(|row| row.row.published_at() >= time.get()).map(|row| row.offset);
        let (mut low, mut high) = (first.head, first.tail);
        if first.rising {
            // Invariant: what lies below `low` is too old; `high` is not, or is the tail.
            while high.saturating_sub(low) > 512 {
                let page = look(low + (high - low) / 2).await?;
                match page.rows.first() {
                    Some(row) if row.row.published_at() < time.get() => low = low + (high - low) / 2,
                    Some(_) | None => high = low + (high - low) / 2,
                }
            }
        }
        let mut from = Some(low);
        while let Some(at) = from {
            let page = look(at).await?;
            if let Some(offset) = at_or_after(&page) {
                return Ok(Start::Offset(Offset::new(offset)));
            }
            // Whatever is published from here on is later.
            (from, high) = (page.next, page.tail);
        }
        Ok(Start::Offset(Offset::new(high)))
    }

    async fn do_peek(&self, request: Peek) -> Result<Peeked, PeekError> {
        let refuse = |field, rule| Err(PeekError::Bounds(SettingsError { field, rule }));
        if request.limit == 0 || request.limit > bounds::PULL_BATCH_MAX {
            return refuse("limit", "1 to 1000");
        }
        if request.filter.state.is_some() && request.group.is_none() {
            return refuse("state", "asked for together with a group");
        }
        /// Pages that one peek reads at most.
        const PAGES_MAX: usize = 32;
        let mut messages = Vec::new();
        let mut from = Some(request.from.get());
        for _ in 0..PAGES_MAX {
            let Some(at) = from else { break };
            let work = LookWork {
                account: request.account.clone(),
                topic: request.topic.clone(),
                group: request.group.clone(),
                from: at,
            };
            let page = self.page(work).await?;
            let (shared, wanted) = (self.shared.clone(), request.clone());
            let left = request.limit - messages.len();
            let read = shared.reads.run({
                let shared = shared.clone();
                move || read_page(&shared, page, &wanted, left)
            });
            let (found, next) = read.await.map_err(PeekError::Unreadable)??;
            messages.extend(found);
            from = next;
            if messages.len() >= request.limit {
                break;
            }
        }
        Ok(Peeked { messages, next: from.map(Offset::new) })
    }

    async fn do_redrive(&self, request: Redrive) -> Result<RedriveReport, RedriveError> {
        if request.limit == 0
            || request.limit > bounds::PULL_BATCH_MAX
            || request.offsets.len() > bounds::PULL_BATCH_MAX
        {
            return Err(RedriveError::Bounds(SettingsError { field: "limit", rule: "1 to 1000" }));
        }
        if !request.offsets.is_empty() {
            let mut offsets = request.offsets.clone();
            offsets.sort_unstable();
            offsets.dedup();
            return self.redrive_these(&request, offsets, request.limit).await;
        }
        let mut report = RedriveReport { moved: 0, left: 0 };
        let mut from = Some(0);
        while let Some(at) = from {
            let work =
                LookWork { account: request.account.clone(), topic: request.topic.clone(), group: None, from: at };
            let page = self.page(work).await?;
            let offsets = page.rows.iter().map(|row| Offset::new(row.offset)).collect();
            let done = self.redrive_these(&request, offsets, request.limit - report.moved as usize).await?;
            report = RedriveReport { moved: report.moved + done.moved, left: report.left + done.left };
            from = page.next.filter(|_| report.moved < request.limit as u64);
        }
        Ok(report)
    }

    async fn redrive_these(
        &self,
        request: &Redrive,
        offsets: Vec<Offset>,
        limit: usize,
    ) -> Result<RedriveReport, RedriveError> {
        let (account, topic) = (request.account.clone(), request.topic.clone());
        let report = self.ask(|reply| Command::Redrive(account, topic, (offsets, limit), reply)).await;
        Ok(report.map_err(LookupError::from)??)
    }
}

/// Reads the bodies of what a pull took.
fn deliver(shared: &Shared, taken: Taken) -> Result<Pulled, PullError> {
    let locs: Vec<Loc> = taken.items.iter().map(|item| item.row.loc).collect();
    let records = shared.reader.read_all(&locs).map_err(|error| PullError::Unreadable(error.to_string()))?;
    let mut deliveries = Vec::with_capacity(taken.items.len());
    for (item, record) in taken.items.into_iter().zip(records) {
        if record.id != item.row.id {
            return Err(PullError::Unreadable(format!("offset {} leads to another message", item.offset)));
        }
        let head = head::decode(&record.head, item.offset, &item.row);
        let head = head.map_err(|error| PullError::Unreadable(error.to_string()))?;
        let token = if taken.auto_ack {
            String::new()
        } else {
            shared.tokens.make((taken.topic, taken.group, taken.placing), item.offset, item.row.id, item.lease)
        };
        deliveries.push(Delivery {
            message: Message { head, body: record.body },
            attempt: Attempt::new(item.attempt),
            token,
            handle: if taken.auto_ack { 0 } else { item.handle },
            lease: if taken.auto_ack { Duration::ZERO } else { taken.lease },
        });
    }
    Ok(Pulled { deliveries, counts: taken.counts })
}

/// The messages of a page that a peek wants, at most `left`, and where to go on.
fn read_page(
    shared: &Shared,
    page: Looked,
    wanted: &Peek,
    left: usize,
) -> Result<(Vec<PeekedMessage>, Option<u64>), PeekError> {
    let filter = &wanted.filter;
    let (tag, key) = (
        filter.tag.as_ref().map(|tag| digest::of_tag(tag.as_str())),
        filter.key.as_ref().map(|key| digest::of_key(key.as_str())),
    );
    let mut found = Vec::new();
    for looked in page.rows {
        if found.len() >= left {
            return Ok((found, Some(looked.offset)));
        }
        let row = &looked.row;
        let passes = filter.state.is_none_or(|state| looked.state == Some(state))
            && !(filter.unsettled && looked.state == Some(crate::engine::MessageState::Settled))
            && filter.id.is_none_or(|id| id.get() == row.id)
            && tag.is_none_or(|tag| tag == row.tag)
            && key.is_none_or(|key| key == row.key)
            && filter.since.is_none_or(|since| row.published_at() >= since.get())
            && filter.until.is_none_or(|until| row.published_at() < until.get());
        if !passes {
            continue;
        }
        let record = shared.reader.read(row.loc).map_err(|error| PeekError::Unreadable(error.to_string()))?;
        let head =
            head::decode(&record.head, looked.offset, row).map_err(|error| PeekError::Unreadable(error.to_string()))?;
        if let Some((name, value)) = &filter.property
            && head.properties.get(name) != Some(value)
        {
            continue;
        }
        let message = Message { head, body: record.body };
        found.push(PeekedMessage { message, state: looked.state, attempts: Attempt::new(looked.attempts) });
    }
    Ok((found, page.next))
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
