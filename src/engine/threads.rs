//! The threads of the local engine: the writer, and those that read and write beside it. A failure of any
//! ends the process.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::engine::beside::{IndexShared, IndexWorker, finish, load, scan};
use crate::engine::command::{Command, JobDone};
use crate::engine::flight::SyncJob;
use crate::engine::inbox::{Inbox, WakeFor};
use crate::engine::local::Shared;
use crate::engine::recover::Source;
use crate::engine::writer::{Job, Writer};
use crate::index::Index;

/// Commands that one turn takes at most.
const BATCH_COMMANDS_MAX: usize = 4096;
/// How often the keeper of segments looks for work.
const KEEPER_PAUSE: Duration = Duration::from_millis(20);
/// How long after a rebuild of the index that failed the next one begins.
const REBUILD_PAUSE: Duration = Duration::from_secs(1);

/// Starts them all.
pub(super) fn spawn(
    writer: Writer,
    index: Box<dyn Index>,
    source: &Source,
    inbox: &Arc<Inbox>,
    shared: &Arc<Shared>,
) -> Vec<JoinHandle<()>> {
    let (index_jobs, index_inbox) = channel();
    let (load_jobs, load_inbox) = channel();
    let (scan_jobs, scan_inbox) = channel();
    let (sync_jobs, sync_inbox) = channel::<Arc<SyncJob>>();
    let generation = writer.generation();
    let index_shared = Arc::new(IndexShared::new(generation, index.reader()));
    let keeper = writer.keeper();
    let (stop_keeper, keeper_inbox) = channel::<()>();
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
                if !inbox.tell(Command::Done(done)) {
                    return;
                }
            }
        }));
    }
    {
        let inbox = inbox.clone();
        threads.push(thread("index-read", move || {
            while let Ok((topic, block)) = load_inbox.recv() {
                if !inbox.tell(Command::Done(load(&index_shared, topic, block))) {
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
                if !inbox.tell(Command::Done(done)) {
                    return;
                }
            }
        }));
    }
    {
        let inbox = inbox.clone();
        threads.push(thread("sync", move || {
            while let Ok(job) = sync_inbox.recv() {
                job.run();
                inbox.nudge();
            }
        }));
    }
    {
        let clock = source.clock.clone();
        threads.push(thread("segments", move || {
            loop {
                match keeper.step(clock.boot()) {
                    // What is far ahead of the writer is made a little at a time: its syncs come first.
                    Ok(step) if step.is_last_for_now() || !keeper.is_behind() => {
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
    let jobs = Jobs { index: index_jobs, load: load_jobs, scan: scan_jobs, sync: sync_jobs };
    let (inbox, shared) = (inbox.clone(), shared.clone());
    let random = source.clock.random() as u64;
    threads.push(thread("writer", move || {
        // The senders of the other threads' jobs go with this thread: then they end too.
        let writer = run_writer(writer, &inbox, &jobs);
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
    index: Sender<Job>,
    load: Sender<(u32, u64)>,
    scan: Sender<(u64, usize)>,
    sync: Sender<Arc<SyncJob>>,
}

impl Jobs {
    /// Hands the jobs to their threads. A sync that nobody turns on over is for the caller.
    fn hand_out(&self, writer: &mut Writer) -> Option<Arc<SyncJob>> {
        let overlaps = writer.overlaps();
        let mut own = None;
        for job in writer.jobs.drain(..) {
            let sent = match job {
                Job::Load { topic, block } => self.load.send((topic, block)).is_ok(),
                Job::Scan { segment, skip } => self.scan.send((segment, skip)).is_ok(),
                Job::Sync(job) if overlaps => self.sync.send(job).is_ok(),
                Job::Sync(job) => own.replace(job).is_none(),
                Job::Checkpoint(_) | Job::Rebuild { .. } => self.index.send(job).is_ok(),
            };
            assert!(sent, "the threads beside the writer outlive it");
        }
        own
    }
}

fn run_writer(mut writer: Writer, inbox: &Inbox, jobs: &Jobs) -> Writer {
    let mut commands = std::collections::VecDeque::new();
    loop {
        if let Err(error) = writer.turn(&mut commands) {
            abort("the log failed", &error);
        }
        if let Some(sync) = jobs.hand_out(&mut writer) {
            sync.run();
        }
        if writer.is_stopped() {
            // Before what was taken and not decided is dropped: who asked for it is told why.
            inbox.close();
            return writer;
        }
        if !writer.has_work() {
            let wake_for = if writer.is_syncing() { WakeFor::Urgent } else { WakeFor::Any };
            match writer.next_turn() {
                Some(wait) if wait.is_zero() => {}
                wait => inbox.sleep(wake_for, wait),
            }
        }
        inbox.take(&mut commands, BATCH_COMMANDS_MAX);
    }
}
