//! The faults of each topic, how many decisions were taken for them, and the history. Kept in a directory of its
//! own, so that a server that restarts itself goes on as it was told, dice included.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::chaos::faults::{Fault, Faults, Place};
use crate::chaos::history::History;
use crate::chaos::line::{Event, Line};
use crate::clock::Clock;
use crate::model::{AccountName, TopicName};

/// Most topics that have faults at once.
pub const TOPICS_MAX: usize = 1_000;

/// Ends this process as a kill does, and starts it again.
pub type Restart = Box<dyn Fn() + Send + Sync>;

/// What chaos is opened with.
pub struct ChaosOptions {
    /// A directory of its own; made if it is not there.
    pub dir: PathBuf,
    /// Bytes of the history.
    pub history_bytes_max: u64,
    /// How to restart; `None`: this server cannot.
    pub restart: Option<Restart>,
}

/// Why a topic did not get its faults.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    /// A number is out of bounds.
    #[error(transparent)]
    Settings(#[from] crate::model::SettingsError),
    /// As many topics have faults as may.
    #[error("the limit of {max} topics with faults is reached")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// This server has nobody to start it again.
    #[error("this server cannot restart itself")]
    NoRestart,
    /// The settings could not be written.
    #[error("could not write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Decisions about one fault: how many were taken, and how many of them fell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dealt {
    /// Decisions taken.
    pub asked: u64,
    /// Faults dealt.
    pub dealt: u64,
}

/// The faults of a topic and what became of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Given {
    faults: Faults,
    dealt: BTreeMap<Fault, Dealt>,
}

/// A line of the file of settings.
#[derive(Serialize, Deserialize)]
struct Kept {
    account: String,
    topic: String,
    #[serde(flatten)]
    given: Given,
}

/// Everything about chaos that a server knows.
pub struct Chaos {
    settings: PathBuf,
    history: History,
    restart: Option<Restart>,
    /// Never locked across an await.
    given: Mutex<BTreeMap<Place, Given>>,
}

impl Chaos {
    /// Opens it, with what an earlier life left.
    pub fn open(options: ChaosOptions, clock: Arc<dyn Clock>) -> Result<Arc<Self>, ChaosError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ChaosError::Io { path, source }
        };
        let mut private = std::fs::DirBuilder::new();
        private.recursive(true).mode(0o700).create(&options.dir).map_err(failed(&options.dir))?;
        let settings = options.dir.join("faults.json");
        let given = match std::fs::read(&settings) {
            Ok(bytes) => read_settings(&bytes).map_err(|error| failed(&settings)(error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(failed(&settings)(error)),
        };
        let path = options.dir.join("history.jsonl");
        let history = History::open(&path, options.history_bytes_max, clock).map_err(failed(&path))?;
        history.write(&[history.line(Event::Start)]);
        Ok(Arc::new(Self { settings, history, restart: options.restart, given: Mutex::new(given) }))
    }

    /// The history.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Gives a topic faults in the place of those it has; its decisions begin anew. On return they survive a kill.
    pub fn set(&self, place: &Place, faults: Faults) -> Result<(), ChaosError> {
        faults.check()?;
        if faults.restart_every != 0 && self.restart.is_none() {
            return Err(ChaosError::NoRestart);
        }
        let mut given = self.lock();
        if given.len() >= TOPICS_MAX && !given.contains_key(place) {
            return Err(ChaosError::TooMany { max: TOPICS_MAX });
        }
        given.insert(place.clone(), Given { faults, dealt: BTreeMap::new() });
        self.note(place);
        self.keep(&given)
    }

    /// Takes all faults from a topic.
    pub fn clear(&self, place: &Place) -> Result<(), ChaosError> {
        let mut given = self.lock();
        if given.remove(place).is_some() {
            self.note(place);
        }
        self.keep(&given)
    }

    /// The faults of a topic, and what was dealt.
    pub fn show(&self, place: &Place) -> (Faults, BTreeMap<Fault, Dealt>) {
        let given = self.lock();
        given.get(place).map(|given| (given.faults.clone(), given.dealt.clone())).unwrap_or_default()
    }

    /// The faults of a topic, if it has any.
    pub(super) fn faults(&self, place: &Place) -> Option<Faults> {
        self.lock().get(place).map(|given| given.faults.clone())
    }

    /// Takes the next decision about a fault of a topic.
    pub(super) fn deal(&self, place: &Place, fault: Fault) -> bool {
        self.roll(place, fault).is_some()
    }

    /// The same; gives even dice when the fault falls.
    pub(super) fn roll(&self, place: &Place, fault: Fault) -> Option<u64> {
        let mut all = self.lock();
        let given = all.get_mut(place)?;
        let off =
            if fault == Fault::Restart { given.faults.restart_every == 0 } else { given.faults.share(fault) == 0 };
        if off {
            return None;
        }
        let dealt = given.dealt.entry(fault).or_default();
        let turn = dealt.asked;
        dealt.asked += 1;
        if !given.faults.falls(place, fault, turn) {
            return None;
        }
        dealt.dealt += 1;
        // The bits beyond those that decided.
        Some(given.faults.dice(place, fault, turn) / u64::from(crate::chaos::faults::SHARE_MAX))
    }

    /// Ends this process as a kill does, and starts it again. The dice go on where they are.
    pub(super) fn restart(&self) {
        let Some(restart) = &self.restart else { return };
        let given = self.lock();
        if let Err(error) = self.keep(&given) {
            tracing::error!(%error, "the settings of chaos were not written before a restart");
        }
        tracing::warn!("chaos: this server ends itself as a kill would, and starts again");
        restart();
    }

    /// A topic has another name.
    pub(super) fn renamed(&self, from: &Place, to: &TopicName) {
        let mut given = self.lock();
        if let Some(faults) = given.remove(from) {
            given.insert(Place { account: from.account.clone(), topic: to.clone() }, faults);
            self.keep_or_say(&given);
        }
    }

    /// A topic is gone.
    pub(super) fn deleted(&self, place: &Place) {
        let mut given = self.lock();
        if given.remove(place).is_some() {
            self.keep_or_say(&given);
        }
    }

    fn note(&self, place: &Place) {
        let mut line: Line = self.history.line(Event::Faults);
        line.at(place);
        self.history.write(&[line]);
    }

    fn keep_or_say(&self, given: &BTreeMap<Place, Given>) {
        if let Err(error) = self.keep(given) {
            tracing::error!(%error, "the settings of chaos were not written");
        }
    }

    /// Writes the settings beside, then in place.
    fn keep(&self, given: &BTreeMap<Place, Given>) -> Result<(), ChaosError> {
        let kept = |(place, given): (&Place, &Given)| Kept {
            account: place.account.to_string(),
            topic: place.topic.to_string(),
            given: given.clone(),
        };
        let beside = self.settings.with_extension("tmp");
        let written = serde_json::to_vec(&given.iter().map(kept).collect::<Vec<_>>())
            .map_err(io::Error::from)
            .and_then(|bytes| std::fs::write(&beside, bytes))
            .and_then(|()| std::fs::rename(&beside, &self.settings));
        written.map_err(|source| ChaosError::Io { path: self.settings.clone(), source })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, Given>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_settings(bytes: &[u8]) -> serde_json::Result<BTreeMap<Place, Given>> {
    let kept: Vec<Kept> = serde_json::from_slice(bytes)?;
    let read = |kept: Kept| {
        let (account, topic) = (AccountName::parse(&kept.account), TopicName::parse(&kept.topic));
        Some((Place { account: account.ok()?, topic: topic.ok()? }, kept.given))
    };
    Ok(kept.into_iter().filter_map(read).collect())
}
