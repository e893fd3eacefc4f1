//! The one backup that a server makes or proves at a time, and how far it is.

use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::BackupProgress;

/// What is done to a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupWork {
    /// It is being made.
    Make,
    /// It is being read.
    Verify,
}

/// A backup that is being worked on.
#[derive(Debug, Clone)]
pub struct UnderWay {
    /// What is done.
    pub work: BackupWork,
    /// To which backup.
    pub name: String,
    /// How far it is.
    pub progress: Arc<BackupProgress>,
}

/// Room for one backup under way: they read and write as fast as the disk does.
#[derive(Debug, Clone, Default)]
pub struct BackupDesk(Arc<Mutex<Option<UnderWay>>>);

/// The desk is taken as long as this lives.
#[derive(Debug)]
pub struct Taken {
    desk: BackupDesk,
    /// To be told how far the work is.
    pub progress: Arc<BackupProgress>,
}

impl BackupDesk {
    /// Takes the desk; `None` if it is taken.
    pub fn begin(&self, work: BackupWork, name: &str) -> Option<Taken> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if place.is_some() {
            return None;
        }
        let progress = Arc::<BackupProgress>::default();
        *place = Some(UnderWay { work, name: name.to_owned(), progress: progress.clone() });
        Some(Taken { desk: self.clone(), progress })
    }

    /// What is under way.
    pub fn under_way(&self) -> Option<UnderWay> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        *self.desk.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
