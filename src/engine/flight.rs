//! A sync under way while the writer turns on. One at a time: a second sync of the same file might take
//! the error that the first one has to report.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::entry::TopicNo;
use crate::log::{Fatal, PendingSync};

/// Lets an answer go.
pub type Release = Box<dyn FnOnce() + Send>;

/// A sync and the answers that wait for it. Whoever comes first carries it out: a thread beside the
/// writer, or the writer when it can do nothing before.
pub struct SyncJob {
    state: Mutex<State>,
    over: Condvar,
    is_over: AtomicBool,
}

enum State {
    /// What is to be seen before the writer goes on, and the answers.
    Asked(PendingSync, Option<Release>, Vec<Release>),
    Running,
    Over(Result<Duration, Fatal>),
    /// The writer knows.
    Told,
}

impl SyncJob {
    /// Syncs, tells the writer, and then lets the answers go: whoever has one finds what it speaks of.
    pub fn run(&self) {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Running) {
            State::Asked(sync, show, releases) => {
                drop(state);
                let begun = Instant::now();
                let result = sync.run().map(|()| begun.elapsed());
                let durable = result.is_ok();
                if let Some(show) = show.filter(|_| durable) {
                    show();
                }
                *self.state() = State::Over(result);
                self.is_over.store(true, Ordering::Release);
                self.over.notify_all();
                if durable {
                    releases.into_iter().for_each(|release| release());
                }
            }
            other => *state = other,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries it out, or waits for who does. How long it took; once.
    fn finish(&self) -> Result<Duration, Fatal> {
        self.run();
        let running = |state: &mut State| matches!(state, State::Running);
        let mut state = self.over.wait_while(self.state(), running).unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Told) {
            State::Over(result) => result,
            State::Asked(..) | State::Running | State::Told => {
                unreachable!("a sync that was run is over, and told once")
            }
        }
    }
}

/// What the writer keeps of the sync under way.
pub struct Flight {
    job: Arc<SyncJob>,
    pub sync: PendingSync,
    /// Boot time at which it was asked for.
    pub begun: u64,
    /// Where the topics published to end in it.
    pub tails: Vec<(TopicNo, u64)>,
    /// Reads that saw what it makes durable.
    pub reads: Vec<Release>,
}

impl Flight {
    pub fn new(
        sync: PendingSync,
        show: Option<Release>,
        releases: Vec<Release>,
        begun: u64,
        tails: Vec<(TopicNo, u64)>,
    ) -> Self {
        let state = Mutex::new(State::Asked(sync.clone(), show, releases));
        let job = Arc::new(SyncJob { state, over: Condvar::new(), is_over: AtomicBool::new(false) });
        Self { job, sync, begun, tails, reads: Vec::new() }
    }

    pub fn job(&self) -> Arc<SyncJob> {
        self.job.clone()
    }

    pub fn is_over(&self) -> bool {
        self.job.is_over.load(Ordering::Acquire)
    }

    /// Waits for its end, if need be by carrying it out.
    pub fn finish(&self) -> Result<Duration, Fatal> {
        self.job.finish()
    }
}
