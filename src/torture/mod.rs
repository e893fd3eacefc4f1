//! `windlass torture`: a server of its own under producers and consumers of all dialects, ended at random moments
//! and started again; every message's history is held against the promises. Knows a server only by its HTTP.

pub mod checker;
pub mod client;
pub mod dice;
pub mod history;
mod look;
mod rig;
pub mod server;
pub mod speech;
mod stage;
pub mod standing;
pub mod verdict;
mod workers;
pub mod wreck;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::bench::server::Scratch;
use crate::torture::rig::Rig;
use crate::torture::server::StartError;
use crate::torture::speech::Dialect;
use crate::torture::verdict::Verdict;
use crate::torture::wreck::Reaper;

/// Which settings the server runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settings {
    /// Small segments and frequent checkpoints: segments are begun, dropped and recycled, and checkpoints written,
    /// many times in a run, and killed in the middle of it.
    Busy,
    /// As it comes.
    Default,
}

const BUSY: [(&str, &str); 4] = [
    ("WINDLASS_LIMITS_BODY_BYTES_MAX", "64 KiB"),
    ("WINDLASS_LIMITS_BATCH_BYTES_MAX", "192 KiB"),
    ("WINDLASS_LOG_SEGMENT_BYTES", "1 MiB"),
    ("WINDLASS_CHECKPOINT_INTERVAL", "150 ms"),
];

/// What a run shall do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Lives to end.
    pub kills: u64,
    /// Draws the load and the moments.
    pub seed: u64,
    /// The server.
    pub binary: PathBuf,
    /// A command in front of it, such as a tracer; the server has to stay the child that is started.
    pub through: Vec<OsString>,
    /// Where the run makes a directory for itself; `None`: in the system's temporary one.
    pub parent: Option<PathBuf>,
    /// The data directory, if it is to be elsewhere.
    pub data: Option<PathBuf>,
    /// Who takes part.
    pub dialects: Vec<Dialect>,
    /// How the server is set.
    pub settings: Settings,
    /// More of them, by environment variable.
    pub variables: Vec<(String, String)>,
    /// One life in so many is copied under load; 0: none.
    pub copies_every: u64,
    /// One life in so many is held up for two leases; 0: none.
    pub pauses_every: u64,
}

impl Plan {
    /// What `windlass torture` does by default.
    pub fn new(binary: PathBuf, kills: u64, seed: u64) -> Self {
        Self {
            kills,
            seed,
            binary,
            through: Vec::new(),
            parent: None,
            data: None,
            dialects: Dialect::ALL.to_vec(),
            settings: Settings::Busy,
            variables: Vec::new(),
            copies_every: 20,
            pauses_every: 40,
        }
    }

    fn settings(&self) -> Vec<(String, String)> {
        let busy = BUSY.iter().filter(|_| self.settings == Settings::Busy);
        let busy = busy.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        busy.chain(self.variables.iter().cloned()).collect()
    }
}

/// Why a run came to no verdict.
#[derive(Debug, thiserror::Error)]
pub enum TortureError {
    /// Something went wrong with files or processes.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The server could not be started at all.
    #[error(transparent)]
    Start(StartError),
    /// A worker of the run itself failed.
    #[error("a worker of the run panicked")]
    Worker,
    /// Nothing was delivered: such a run shows nothing.
    #[error("nothing was delivered in the whole run")]
    Nothing,
}

/// Tortures a server. What the run wrote is removed, unless a promise was broken. `tell` hears of each round that
/// is over.
pub fn torture(plan: &Plan, reaper: &mut dyn Reaper, tell: &mut dyn FnMut(u64)) -> Result<Verdict, TortureError> {
    let made = Scratch::make(plan.parent.as_deref(), "windlass-torture");
    let scratch = made.map_err(|source| TortureError::Io { doing: "making a directory", source })?;
    let verdict = Rig::new(plan, reaper, scratch.path()).run(tell)?;
    if verdict.broken.is_some() {
        scratch.keep();
    }
    Ok(verdict)
}
