//! Backups on the wire.

use std::path::Path;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::{BackupFiles, BackupReport};
use crate::http::backup_desk::{BackupWork, UnderWay};

/// A backup to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupCreate {
    /// Its name: letters, digits, `.`, `_` and `-`, the first a letter or a digit, 128 at most. Or the path that
    /// this name has directly below the server's `backup.directory`.
    pub directory: String,
}

/// What a backup holds.
#[derive(Debug, Serialize, ToSchema)]
struct FilesView {
    /// Segments of the log.
    segments: u64,
    /// Bytes of all its files.
    bytes: u64,
    /// The last entry of the log in it.
    last_lsn: u64,
    made_at_ms: u64,
}

impl From<&BackupFiles> for FilesView {
    fn from(files: &BackupFiles) -> Self {
        let (segments, bytes, last_lsn) = (files.segments, files.bytes, files.last_lsn);
        Self { segments, bytes, last_lsn, made_at_ms: files.made_at.get() }
    }
}

/// A backup that was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackupView {
    name: String,
    /// Its path on the server's machine.
    directory: String,
    #[serde(flatten)]
    files: FilesView,
    /// Segments that share their bytes with the data directory; the others were copied.
    linked: u64,
}

impl BackupView {
    pub fn new(name: &str, report: &BackupReport) -> Self {
        let directory = report.dir.display().to_string();
        Self { name: name.to_owned(), directory, files: FilesView::from(&report.files), linked: report.linked }
    }
}

/// A backup that was read through and is whole.
#[derive(Debug, Serialize, ToSchema)]
pub struct VerifiedView {
    name: String,
    directory: String,
    #[serde(flatten)]
    files: FilesView,
}

impl VerifiedView {
    pub fn new(name: &str, dir: &Path, files: &BackupFiles) -> Self {
        Self { name: name.to_owned(), directory: dir.display().to_string(), files: FilesView::from(files) }
    }
}

/// What is done to a backup.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum BackupWorkWire {
    Make,
    Verify,
}

/// A backup that is being worked on.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnderWayView {
    work: BackupWorkWire,
    name: String,
    done_bytes: u64,
    /// Bytes in all, as far as that is known.
    bytes: u64,
}

impl From<&UnderWay> for UnderWayView {
    fn from(under_way: &UnderWay) -> Self {
        let (done_bytes, bytes) = under_way.progress.get();
        let work = match under_way.work {
            BackupWork::Make => BackupWorkWire::Make,
            BackupWork::Verify => BackupWorkWire::Verify,
        };
        Self { work, name: under_way.name.clone(), done_bytes, bytes }
    }
}

/// What lies in the directory of backups.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackupList {
    /// The directory, on the server's machine.
    pub directory: String,
    /// Names in it; what is not finished is among them.
    pub backups: Vec<String>,
    /// The one that is being made or read.
    pub under_way: Option<UnderWayView>,
}
