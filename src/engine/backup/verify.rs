//! Proves a backup: the manifest, the length and checksum of every file, every frame and record of the log.
//! Reads only.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, RealDisk, read_file};
use crate::engine::backup::make::{path_of, sum};
use crate::engine::backup::manifest::{FileSum, MANIFEST, MANIFEST_BYTES_MAX, Manifest};
use crate::engine::backup::{BackupFiles, BackupProgress};
use crate::engine::home::FORMAT;
use crate::log::{CleanMark, OpenError, Place, check};

/// Why a directory is not a whole backup.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no manifest.
    #[error("{} is no backup, or was never finished: it has no file `{MANIFEST}`", .0.display())]
    NoBackup(PathBuf),
    /// Another format.
    #[error("the backup has format {found}, this build restores format {known}: use the windlass that made it")]
    Format {
        /// Its format.
        found: u32,
        /// The format of this build.
        known: u32,
    },
    /// A file is not as it was written.
    #[error("{file} is damaged: {why}")]
    Damaged {
        /// Its path in the backup.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// A file is gone.
    #[error("{0} is missing")]
    Missing(String),
    /// A file lies in the log that the manifest does not name.
    #[error("{0} does not belong to the backup: its manifest does not name it")]
    Stray(String),
    /// The log could not be read through.
    #[error(transparent)]
    Log(#[from] OpenError),
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

impl VerifyError {
    /// Whether the backup is to blame, and not the system or whoever named the directory.
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Missing(_) | Self::Stray(_))
    }
}

/// Proves the backup in `dir` whole, without changing anything.
pub fn verify_backup(dir: &Path, progress: &BackupProgress) -> Result<BackupFiles, VerifyError> {
    verify(&RealDisk, dir, progress).map(|proven| BackupFiles::of(&proven.manifest))
}

/// A backup that was proven.
pub(super) struct Proven {
    pub manifest: Manifest,
    /// What its log durably holds.
    pub mark: CleanMark,
}

fn io_error<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> VerifyError + use<'a> {
    move |source| VerifyError::Io { doing, path: path.to_owned(), source }
}

fn damaged(file: &str, why: impl Into<String>) -> VerifyError {
    VerifyError::Damaged { file: file.to_owned(), why: why.into() }
}

/// See [`verify_backup`].
pub(super) fn verify(disk: &dyn Disk, dir: &Path, progress: &BackupProgress) -> Result<Proven, VerifyError> {
    let manifest = read_manifest(disk, dir)?;
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    // Once for the checksums, once for the frames.
    progress.expect(bytes * 2);
    for file in &manifest.files {
        verify_file(disk, dir, file, progress)?;
    }
    no_strays(disk, dir, &manifest)?;
    let mut told = 0;
    let report = check(disk, dir, Place::Original, None, &mut |step| {
        let done = bytes * step.done as u64 / (step.segments as u64).max(1);
        progress.did(done - told);
        told = done;
    })?;
    if let Some(damage) = report.damage {
        return Err(damaged(&format!("log/{}", damage.file), format!("{} (byte {})", damage.why, damage.at_byte)));
    }
    if let Some(torn) = report.torn {
        return Err(damaged(&format!("log/{}", torn.file), format!("it is torn at byte {}", torn.at_byte)));
    }
    if report.last != manifest.last {
        let why = format!("the log ends at lsn {}, and not at {}", report.last, manifest.last);
        return Err(damaged(MANIFEST, why));
    }
    let mark = CleanMark { epoch: report.epoch, last: report.last };
    Ok(Proven { manifest, mark })
}

fn read_manifest(disk: &dyn Disk, dir: &Path) -> Result<Manifest, VerifyError> {
    let path = dir.join(MANIFEST);
    if !disk.exists(&path).map_err(io_error("look for", &path))? {
        return Err(VerifyError::NoBackup(dir.to_owned()));
    }
    let bytes = match read_file(disk, &path, MANIFEST_BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(damaged(MANIFEST, error.to_string())),
        bytes => bytes.map_err(io_error("read", &path))?,
    };
    let manifest = Manifest::decode(&bytes).map_err(|why| damaged(MANIFEST, why))?;
    if manifest.format != FORMAT {
        return Err(VerifyError::Format { found: manifest.format, known: FORMAT });
    }
    for needed in ["FORMAT", "secret.key"] {
        if !manifest.files.iter().any(|file| file.path == needed) {
            return Err(damaged(MANIFEST, format!("it does not name {needed}")));
        }
    }
    Ok(manifest)
}

fn verify_file(disk: &dyn Disk, dir: &Path, file: &FileSum, progress: &BackupProgress) -> Result<(), VerifyError> {
    let path = path_of(dir, file);
    let opened = match disk.open_read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(VerifyError::Missing(file.path.clone())),
        opened => opened.map_err(io_error("open", &path))?,
    };
    let bytes = opened.len().map_err(io_error("measure", &path))?;
    if bytes != file.bytes {
        return Err(damaged(&file.path, format!("it has {bytes} bytes, {} were written", file.bytes)));
    }
    let (_, crc) = sum(&*opened, progress).map_err(io_error("read", &path))?;
    if crc != file.crc {
        return Err(damaged(&file.path, "its checksum is wrong"));
    }
    Ok(())
}

fn no_strays(disk: &dyn Disk, dir: &Path, manifest: &Manifest) -> Result<(), VerifyError> {
    let log = dir.join("log");
    let names = disk.list(&log).map_err(io_error("list", &log))?;
    let named = |name: &String| manifest.files.iter().any(|file| file.segment() == Some(name));
    match names.into_iter().find(|name| !named(name)) {
        Some(stray) => Err(VerifyError::Stray(format!("log/{stray}"))),
        None => Ok(()),
    }
}
