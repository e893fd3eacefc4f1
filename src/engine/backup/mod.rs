//! Backups: a directory with the segments of the log up to one instant (hard links, or copies on another
//! file system), `FORMAT`, `secret.key`, and, written last, a manifest with lengths and checksums. Without a
//! manifest it is no backup. Layout: docs/FORMAT.md, "A backup".

#[cfg(test)]
mod crash_tests;
mod make;
mod manifest;
mod restore;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::{Disk as _, RealDisk};
use crate::engine::Refusal;
use crate::model::Millis;

pub(super) use manifest::MANIFEST;
pub use restore::{RestoreError, Restored, restore_backup};
pub use verify::{VerifyError, verify_backup};

/// A backup that is asked for.
#[derive(Debug, Clone)]
pub struct Backup {
    /// A directory that is not there, or empty.
    pub dir: PathBuf,
    /// Told how far it is.
    pub progress: Arc<BackupProgress>,
}

/// How far a backup, a restore or a proof is, in bytes; for whoever draws a bar.
#[derive(Debug, Default)]
pub struct BackupProgress {
    done: AtomicU64,
    bytes: AtomicU64,
}

impl BackupProgress {
    /// Bytes done, and bytes in all as far as that is known.
    pub fn get(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    fn expect(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn did(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupFiles {
    /// Segments of the log.
    pub segments: u64,
    /// Bytes of all files that the manifest names.
    pub bytes: u64,
    /// The last entry of the log in it.
    pub last_lsn: u64,
    /// When it was made, by the wall clock.
    pub made_at: Millis,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// Where.
    pub dir: PathBuf,
    /// What is in it.
    pub files: BackupFiles,
    /// Segments that share their bytes with the data directory; the others were copied.
    pub linked: u64,
}

/// Why no backup was made. What there is of it has no manifest, so nothing takes it for one.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The engine takes no commands.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The directory holds something.
    #[error("{} is not empty: a backup needs a directory of its own", .0.display())]
    NotEmpty(PathBuf),
    /// There is nothing to copy.
    #[error("this engine keeps no files")]
    NoFiles,
    /// The system refused something.
    #[error("could not {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn io_error<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> BackupError + use<'a> {
    move |source| BackupError::Io { doing, path: path.to_owned(), source }
}

/// Names of the directories below `root`, whole backups or not, in order; none if `root` is not there.
pub fn list_backups(root: &Path) -> io::Result<Vec<String>> {
    match RealDisk.list(root) {
        Ok(mut names) => {
            names.sort_unstable();
            Ok(names)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
