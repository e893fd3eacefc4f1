//! One simulated machine: a disk, an index, a clock and the engine, which may all fail.

use std::collections::VecDeque;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use windlass::clock::{Clock, ManualClock};
use windlass::disk::sim::SimDisk;
use windlass::engine::local::LocalEngine;
use windlass::engine::sim::Rig;
use windlass::engine::{Agreement, Beside, IndexPlace, Limits, RecoverError, Source, WriterOptions, compare_index};
use windlass::index::{Changes, Index, IndexError, IndexReader, Mark, ModelIndex, Mood, Tree, Visit};
use windlass::log::{Fatal, Options};

/// The process has ended: power, kill, or a device that failed.
#[derive(Debug)]
pub struct Dead(pub String);

/// Where the model index lies.
#[derive(Clone, Default)]
pub struct Place(pub Arc<Mutex<ModelIndex>>, Arc<AtomicBool>);

impl Place {
    /// From now on no index can, or can again, be made here.
    pub fn refuse(&self, refuses: bool) {
        self.1.store(refuses, Ordering::SeqCst);
    }
}

impl IndexPlace for Place {
    fn open(&self) -> Result<Box<dyn Index>, IndexError> {
        if self.1.load(Ordering::SeqCst) {
            return Err(IndexError::Store("no space".to_owned()));
        }
        Ok(Box::new(Guarded(self.0.lock().unwrap().clone())))
    }

    fn set_aside(&self) -> Result<(), IndexError> {
        *self.0.lock().unwrap() = ModelIndex::new();
        Ok(())
    }
}

/// Turns panics of the model into errors, as the real index does.
#[derive(Clone)]
struct Guarded(ModelIndex);

fn guarded<T>(call: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    caught.unwrap_or_else(|_| Err(IndexError::Panicked("in the simulation".to_owned())))
}

impl IndexReader for Guarded {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        guarded(|| self.0.get(tree, key))
    }
}

impl Index for Guarded {
    fn mark(&self) -> Result<Option<Mark>, IndexError> {
        guarded(|| self.0.mark())
    }

    fn scan(&self, tree: Tree, prefix: &[u8], visit: Visit<'_>) -> Result<(), IndexError> {
        guarded(|| self.0.scan(tree, prefix, visit))
    }

    fn reader(&self) -> Arc<dyn IndexReader> {
        Arc::new(self.clone())
    }

    fn commit(&mut self, mark: Mark, changes: Changes<'_>) -> Result<(), IndexError> {
        guarded(|| self.0.commit(mark, changes))
    }

    fn disk_bytes(&self) -> u64 {
        self.0.disk_bytes()
    }
}

/// See the module.
pub struct Machine {
    pub clock: Arc<ManualClock>,
    pub disk: SimDisk,
    pub place: Place,
    pub rig: Option<Rig>,
    /// Time that leases run by: stands still while a reboot is under way.
    pub lease_clock: u64,
    /// Turns of the writer so far.
    pub turns: u64,
    /// The turn in which the sync under way began.
    pub sync_turn: Option<u64>,
    pub trace: VecDeque<String>,
    segment_bytes: u64,
    pub checkpoint_interval: Duration,
    /// The disk may be full.
    pub bounded: bool,
    /// Indexes are built from the log in many small pieces.
    pub spills: bool,
}

/// Lines of a history that a failure prints.
const TRACE_MAX: usize = 400;

impl Machine {
    pub fn new(seed: u64, segment_bytes: u64) -> Self {
        Self {
            clock: Arc::new(ManualClock::new(seed)),
            disk: SimDisk::new(seed),
            place: Place::default(),
            rig: None,
            lease_clock: 1_000,
            turns: 0,
            sync_turn: None,
            trace: VecDeque::new(),
            segment_bytes,
            checkpoint_interval: Duration::from_secs(2),
            bounded: false,
            spills: seed.is_multiple_of(4),
        }
    }

    /// Another machine with this disk, and all else as it is here.
    pub fn twin(&self, disk: SimDisk) -> Self {
        let forked = self.place.0.lock().unwrap().fork();
        Self {
            clock: self.clock.clone(),
            disk,
            place: Place(Arc::new(Mutex::new(forked)), Arc::default()),
            rig: None,
            lease_clock: self.lease_clock,
            turns: self.turns,
            sync_turn: None,
            trace: VecDeque::new(),
            segment_bytes: self.segment_bytes,
            checkpoint_interval: self.checkpoint_interval,
            bounded: self.bounded,
            spills: self.spills,
        }
    }

    pub fn say(&mut self, line: impl FnOnce() -> String) {
        if self.trace.len() >= TRACE_MAX {
            self.trace.pop_front();
        }
        self.trace.push_back(line());
    }

    pub fn start(&mut self) -> Result<(), RecoverError> {
        let source = Source {
            disk: Arc::new(self.disk.clone()),
            data_dir: PathBuf::from("/"),
            log: Options {
                drop_keep: Duration::from_millis(500),
                drop_keep_bytes: 4 * self.segment_bytes,
                ..Options::with_segment_bytes(self.segment_bytes)
            },
            clock: self.clock.clone(),
            place: Arc::new(self.place.clone()),
            limits: Limits { rebuild_rows: if self.spills { 150 } else { 1 << 17 }, ..Limits::default() },
            options: WriterOptions {
                checkpoint_log_bytes: self.segment_bytes / 3,
                checkpoint_interval: self.checkpoint_interval,
                ..WriterOptions::default()
            },
            index_is_foreign: false,
        };
        self.rig = Some(Rig::start(&source, &[7; 32])?);
        self.sync_turn = None;
        Ok(())
    }

    /// What the index of the machine, which is down, is worth beside its log. Nothing changes by it.
    pub fn compare_index(&self) -> Result<Agreement, RecoverError> {
        let forked = self.place.0.lock().unwrap().fork();
        let beside = Beside {
            disk: self.disk.kill(),
            data_dir: PathBuf::from("/"),
            log: Options::with_segment_bytes(self.segment_bytes),
            index: Arc::new(Place(Arc::new(Mutex::new(forked)), Arc::default())),
            anew: Arc::new(Place::default()),
        };
        compare_index(&beside, &mut |_| ())
    }

    /// Bytes of the blocks of rows in the index.
    pub fn block_bytes(&self) -> usize {
        let mut bytes = 0;
        let index = self.place.0.lock().unwrap();
        index
            .scan(Tree::Messages, b"", &mut |_, value| {
                bytes += value.len();
                true
            })
            .unwrap();
        bytes
    }

    pub fn engine(&self) -> Arc<LocalEngine> {
        self.rig.as_ref().expect("the engine runs").engine()
    }

    /// A turn, and whatever sync it asks for.
    pub fn turn(&mut self) -> Result<(), Dead> {
        self.turn_with(Rig::turn)?;
        self.sync_turn = None;
        Ok(())
    }

    /// A turn that leaves a sync under way.
    pub fn turn_during_sync(&mut self) -> Result<(), Dead> {
        self.turn_with(Rig::turn_during_sync)?;
        let is_syncing = self.rig.as_ref().is_some_and(Rig::is_syncing);
        self.sync_turn = self.sync_turn.or(Some(self.turns)).filter(|_| is_syncing);
        Ok(())
    }

    fn turn_with(&mut self, turn: impl FnOnce(&mut Rig) -> Result<(), Fatal>) -> Result<(), Dead> {
        // Reads may be what the power failed at: a writer that writes nothing would go on without.
        if !self.disk.has_power() {
            return Err(Dead("the power is off".to_owned()));
        }
        self.turns += 1;
        let rig = self.rig.as_mut().expect("the engine runs");
        turn(rig).map_err(|fatal| Dead(format!("{fatal}: {}", fatal.source)))
    }

    /// First lsns of the segments of the log.
    pub fn segments(&self) -> Vec<u64> {
        self.rig.as_ref().map_or_else(Vec::new, Rig::segments)
    }

    pub fn run_job(&mut self, pick: u64) -> Option<&'static str> {
        let name = self.rig.as_mut().expect("the engine runs").run_job(pick);
        if let Some(name) = name {
            self.say(|| format!("  job: {name}"));
        }
        name
    }

    pub fn keep(&mut self) -> Result<windlass::log::Step, Dead> {
        let step = self.rig.as_mut().expect("the engine runs").keep().map_err(|fatal| Dead(fatal.to_string()))?;
        if step != windlass::log::Step::Idle {
            self.say(|| format!("  keeper: {step:?}"));
        }
        Ok(step)
    }

    pub fn advance(&mut self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
        self.lease_clock += millis;
    }

    pub fn now(&self) -> u64 {
        self.clock.wall().get()
    }

    /// Turns until a call is answered.
    pub fn wait<T>(&mut self, call: impl Future<Output = T> + Send) -> Result<T, Dead> {
        let mut call = Box::pin(call);
        for _ in 0..100 {
            if let Some(answer) = self.wait_a_while(call.as_mut())? {
                return Ok(answer);
            }
        }
        panic!("a call was never answered");
    }

    /// The same, but the call may go unanswered for now.
    pub fn wait_a_while<T>(&mut self, mut call: Pin<&mut (impl Future<Output = T> + Send)>) -> Result<Option<T>, Dead> {
        for _ in 0..50 {
            if let Some(answer) = poll(call.as_mut()) {
                return Ok(Some(answer));
            }
            self.turn()?;
            if let Some(answer) = poll(call.as_mut()) {
                return Ok(Some(answer));
            }
            self.run_job(0);
        }
        Ok(None)
    }

    /// The process is gone; what it had asked the index to write may be there or not.
    pub fn end(&mut self) {
        self.rig = None;
        let forked = self.place.0.lock().unwrap().fork();
        self.place.0 = Arc::new(Mutex::new(forked));
    }

    pub fn power_cut(&mut self, seed: u64) {
        self.end();
        self.disk = self.disk.crash(seed);
    }

    pub fn kill(&mut self) {
        self.end();
        self.disk = self.disk.kill();
    }

    /// From now on the disk takes this much more.
    pub fn bound(&mut self, room: u64) {
        self.disk.set_capacity(self.disk.used() + room);
        self.bounded = true;
    }

    pub fn unbound(&mut self) {
        self.disk.set_capacity(u64::MAX);
        self.bounded = false;
    }

    pub fn index_mood(&mut self, mood: Mood, seed: u64) {
        self.place.0.lock().unwrap().crash(mood, seed);
    }
}

/// One look whether a call is answered.
pub fn poll<T>(call: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
    match call.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}
