//! The whole engine in one thread, for simulations: the very writer, log, jobs and calls of the local
//! engine, turned by hand at moments that a seed chooses. Owns no rule of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::engine::beside::{IndexShared, IndexWorker, finish, load, scan};
use crate::engine::command::Command;
use crate::engine::flight::SyncJob;
use crate::engine::inbox::Inbox;
use crate::engine::local::{LocalEngine, Started};
use crate::engine::recover::{RecoverError, Source};
use crate::engine::writer::{Job, Writer};
use crate::index::Index;
use crate::log::{Fatal, Keeper, LogReader, Step};

/// Turns in a row, while the clock stands still, that may do nothing that is seen from outside: no command, no
/// byte of log, no job. A writer that wants more of them spins.
const IDLE_TURNS_MAX: usize = 4096;

/// An engine whose writer, jobs and keeper stand still until they are turned.
///
/// Calls go through [`Rig::engine`]: poll what it answers between the turns. After an error of any
/// method the process counts as ended: drop the rig.
pub struct Rig {
    engine: Arc<LocalEngine>,
    inbox: Arc<Inbox>,
    commands: VecDeque<Command>,
    writer: Writer,
    index: IndexWorker,
    index_shared: Arc<IndexShared>,
    reader: LogReader,
    keeper: Keeper,
    /// Each in order, as the threads of the local engine take them.
    index_jobs: VecDeque<Job>,
    loads: VecDeque<(u32, u64)>,
    scans: VecDeque<(u64, usize)>,
    /// The sync under way, where it was left so.
    sync: Option<Arc<SyncJob>>,
    disk: Arc<dyn Disk>,
    data_dir: std::path::PathBuf,
    clock: Arc<dyn Clock>,
}

impl Rig {
    /// Recovers the engine that `source` describes.
    pub fn start(source: &Source, secret: &[u8; 32]) -> Result<Self, RecoverError> {
        let Started { engine, writer, index, inbox } = LocalEngine::turned_by_hand(source, secret)?;
        let index_shared = Arc::new(IndexShared::new(writer.generation(), Index::reader(&*index)));
        let reader = writer.reader();
        Ok(Self {
            engine: Arc::new(engine),
            inbox,
            commands: VecDeque::new(),
            index: IndexWorker::new(index, source, reader.clone(), index_shared.clone()),
            index_shared,
            reader,
            keeper: writer.keeper(),
            writer,
            index_jobs: VecDeque::new(),
            loads: VecDeque::new(),
            scans: VecDeque::new(),
            sync: None,
            disk: source.disk.clone(),
            data_dir: source.data_dir.clone(),
            clock: source.clock.clone(),
        })
    }

    /// Takes calls. What it answers is ready at the earliest after the next turn.
    pub fn engine(&self) -> Arc<LocalEngine> {
        self.engine.clone()
    }

    /// One turn with the commands that have arrived, and further ones as long as there is work, syncs included.
    pub fn turn(&mut self) -> Result<(), Fatal> {
        self.turn_until(true)
    }

    /// The same, but a sync that begins is under way when this returns, and what waits for it unanswered: the next
    /// turn is during that sync, or after it if [`Rig::run_sync`] came first.
    pub fn turn_during_sync(&mut self) -> Result<(), Fatal> {
        self.turn_until(false)
    }

    fn turn_until(&mut self, synced: bool) -> Result<(), Fatal> {
        let mut idle = 0;
        while idle <= IDLE_TURNS_MAX {
            if synced {
                self.run_sync();
            }
            self.inbox.take(&mut self.commands, usize::MAX);
            let (has_commands, log_end) = (!self.commands.is_empty(), self.writer.log_end());
            self.writer.turn(&mut self.commands)?;
            let is_idle = !has_commands && self.writer.jobs.is_empty() && self.writer.log_end() == log_end;
            idle = if is_idle { idle + 1 } else { 0 };
            self.take_jobs();
            if synced {
                self.run_sync();
            }
            let due = self.writer.next_turn().is_some_and(|wait| wait.is_zero());
            if self.writer.is_stopped() || !(self.writer.has_work() || due) {
                return Ok(());
            }
        }
        panic!("the writer spins: it wants one turn after the other, and none of them does anything");
    }

    /// Whether a sync is under way.
    pub const fn is_syncing(&self) -> bool {
        self.sync.is_some()
    }

    /// Carries out the sync under way, if there is one; the next turn learns of it.
    pub fn run_sync(&mut self) -> bool {
        let Some(sync) = self.sync.take() else { return false };
        sync.run();
        true
    }

    fn take_jobs(&mut self) {
        for job in self.writer.jobs.drain(..) {
            match job {
                Job::Load { topic, block } => self.loads.push_back((topic, block)),
                Job::Scan { segment, skip } => self.scans.push_back((segment, skip)),
                // One that is over already does nothing.
                Job::Sync(job) => self.sync = Some(job),
                Job::Checkpoint(_) | Job::Rebuild { .. } => self.index_jobs.push_back(job),
            }
        }
    }

    /// Jobs that wait to be run.
    pub fn jobs(&self) -> usize {
        self.index_jobs.len() + self.loads.len() + self.scans.len()
    }

    /// The name of the job that [`Rig::run_job`] would run first.
    pub fn first_job(&self) -> Option<&'static str> {
        match self.index_jobs.front() {
            Some(job) => Some(name_of(job)),
            None if !self.loads.is_empty() => Some("load"),
            None => (!self.scans.is_empty()).then_some("scan"),
        }
    }

    /// Runs one waiting job, chosen by `pick`; the next turn learns its result. Answers its name.
    pub fn run_job(&mut self, pick: u64) -> Option<&'static str> {
        let waiting = [self.index_jobs.len(), self.loads.len(), self.scans.len()];
        let kinds: Vec<usize> = (0..3).filter(|kind| waiting[*kind] > 0).collect();
        let kind = *kinds.get(usize::try_from(pick % kinds.len().max(1) as u64).ok()?)?;
        let (done, name) = match kind {
            0 => {
                let job = self.index_jobs.pop_front()?;
                let name = name_of(&job);
                (self.index.run(job)?, name)
            }
            1 => {
                let (topic, block) = self.loads.pop_front()?;
                (load(&self.index_shared, topic, block), "load")
            }
            _ => {
                self.run_scan();
                return Some("scan");
            }
        };
        self.commands.push_back(Command::Done(done));
        Some(name)
    }

    /// Reads of the front what waits to be read, whatever else waits.
    pub fn run_scan(&mut self) -> bool {
        let Some((segment, skip)) = self.scans.pop_front() else { return false };
        self.commands.push_back(Command::Done(scan(&self.reader, segment, skip)));
        true
    }

    /// One step of the keeper of segments.
    pub fn keep(&mut self) -> Result<Step, Fatal> {
        self.keeper.step(self.clock.boot())
    }

    /// When the writer wants its next turn at the latest.
    pub fn next_turn(&self) -> Option<Duration> {
        self.writer.next_turn()
    }

    /// First lsns of the segments of the log.
    pub fn segments(&self) -> Vec<u64> {
        self.writer.segments()
    }

    /// A stop that was asked for has been carried out: now comes [`Rig::finish`].
    pub fn is_stopped(&self) -> bool {
        self.writer.is_stopped()
    }

    /// Ends the log with the mark of a clean stop.
    pub fn finish(self) -> Result<(), Fatal> {
        finish(self.writer, &*self.disk, &self.data_dir, self.clock.random() as u64)
    }
}

const fn name_of(job: &Job) -> &'static str {
    match job {
        Job::Load { .. } => "load",
        Job::Checkpoint(_) => "checkpoint",
        Job::Scan { .. } => "scan",
        Job::Sync(_) => "sync",
        Job::Rebuild { .. } => "rebuild",
    }
}
