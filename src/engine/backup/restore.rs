//! Makes a data directory of a backup: a new place with an identity of its own. `FORMAT` comes last: what a
//! crash leaves before it is refused by every start.

use std::io;
use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::disk::{Disk, RealDisk};
use crate::engine::backup::make::{copy, must_be_empty, path_of};
use crate::engine::backup::verify::{Proven, VerifyError, verify};
use crate::engine::backup::{BackupError, BackupFiles, BackupProgress};
use crate::engine::home::{HomeError, make_dirs, put_format, put_identity, take_lock};
use crate::log::{Fatal, write_mark};

/// Why nothing was restored. What there is of it has no `FORMAT`, so no server starts on it.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup is not whole.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The target is not empty, or the system refused to read or write.
    #[error(transparent)]
    Copy(#[from] BackupError),
    /// The backup changed under the copy.
    #[error("{0} changed while it was restored")]
    Changed(String),
    /// The mark of what is durable could not be written.
    #[error(transparent)]
    Mark(#[from] Fatal),
    /// The target is in use, or the system refused to write one of its small files.
    #[error(transparent)]
    Home(#[from] HomeError),
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

/// A data directory that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Where.
    pub dir: PathBuf,
    /// What the backup held.
    pub files: BackupFiles,
}

fn io_error<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> RestoreError + use<'a> {
    move |source| RestoreError::Io { doing, path: path.to_owned(), source }
}

/// Proves the backup in `backup`, then makes a data directory of it in `dir`, which must be empty or not be
/// there. Durable on return. Where the backup came from may be in use all the while.
pub fn restore_backup(
    backup: &Path,
    dir: &Path,
    clock: &dyn Clock,
    progress: &BackupProgress,
) -> Result<Restored, RestoreError> {
    let disk = RealDisk;
    let is_there = must_be_empty(&disk, dir)?;
    let proven = verify(&disk, backup, progress)?;
    if !is_there {
        make_dirs(&disk, dir).map_err(io_error("make", dir))?;
    }
    let _lock = take_lock(dir)?;
    let names = disk.list(dir).map_err(io_error("list", dir))?;
    if names.iter().any(|name| name != "LOCK") {
        return Err(BackupError::NotEmpty(dir.to_owned()).into());
    }
    fill(&disk, (backup, &proven), dir, clock, progress, &|| put_identity(&disk, dir, clock))?;
    Ok(Restored { dir: dir.to_owned(), files: BackupFiles::of(&proven.manifest) })
}

/// Makes the empty directory `dir` a data directory with what the proven backup holds. `identity` is what only a
/// file system of the machine's has.
pub(super) fn fill(
    disk: &dyn Disk,
    (backup, proven): (&Path, &Proven),
    dir: &Path,
    clock: &dyn Clock,
    progress: &BackupProgress,
    identity: &dyn Fn() -> Result<(), HomeError>,
) -> Result<(), RestoreError> {
    carry(disk, backup, dir, proven, progress)?;
    // Everything up to its last lsn is durable here now: less would be damage.
    write_mark(disk, dir, proven.mark, clock.random() as u64)?;
    identity()?;
    put_format(disk, dir, clock)?;
    Ok(())
}

/// Copies all but `FORMAT`; durable on return. Never links: a data directory shares no file with a backup.
fn carry(
    disk: &dyn Disk,
    backup: &Path,
    dir: &Path,
    proven: &Proven,
    progress: &BackupProgress,
) -> Result<(), RestoreError> {
    let log = dir.join("log");
    disk.create_dir(&log).map_err(io_error("make", &log))?;
    let files = proven.manifest.files.iter().filter(|file| file.path != "FORMAT");
    progress.expect(files.clone().map(|file| file.bytes).sum());
    for file in files {
        let copied = copy(disk, &path_of(backup, file), &path_of(dir, file), progress)?;
        if copied != (file.bytes, file.crc) {
            return Err(RestoreError::Changed(file.path.clone()));
        }
    }
    for synced in [log.as_path(), dir] {
        disk.sync_dir(synced).map_err(io_error("sync", synced))?;
    }
    Ok(())
}
