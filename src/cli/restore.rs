//! `windlass restore`: proves a backup, and makes a data directory of it.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure};
use crate::cli::progress::with_bar;
use crate::cli::show::{self, Format};
use crate::clock::SystemClock;
use crate::engine::{BackupFiles, BackupProgress, RestoreError, VerifyError, restore_backup, verify_backup};

/// Reads a backup through, lengths, checksums and every frame, and makes a data directory of it. Exit code 5:
/// the backup is damaged.
#[derive(Debug, Args)]
pub struct RestoreArguments {
    /// The backup.
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
    /// The data directory to make: not there, or empty.
    #[arg(value_name = "DIRECTORY", required_unless_present = "verify")]
    dir: Option<PathBuf>,
    /// Only proves the backup, and writes nothing.
    #[arg(long, conflicts_with = "dir")]
    verify: bool,
    /// How to print what was found.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Does what the arguments say.
pub fn run(arguments: &RestoreArguments) -> Result<Exit, Failure> {
    let progress = BackupProgress::default();
    let look = || Some(progress.get());
    let backup = arguments.backup.as_path();
    let (found, sentence) = match &arguments.dir {
        None => {
            let files = with_bar(look, || verify_backup(backup, &progress)).map_err(not_whole)?;
            let sentence = format!("{} is whole: everything up to lsn {}", backup.display(), files.last_lsn);
            (view(backup, None, &files), sentence)
        }
        Some(dir) => {
            let clock = SystemClock::new();
            let restored = with_bar(look, || restore_backup(backup, dir, &clock, &progress));
            let files = restored.map_err(not_restored)?.files;
            let sentence = format!("restored everything up to lsn {} into {}", files.last_lsn, dir.display());
            (view(backup, Some(dir), &files), sentence)
        }
    };
    show::done(arguments.output, &found, &sentence)?;
    Ok(Exit::Done)
}

fn not_whole(error: VerifyError) -> Failure {
    if error.is_damage() { Failure::Damaged(Box::new(error)) } else { Failure::Other(Box::new(error)) }
}

fn not_restored(error: RestoreError) -> Failure {
    match error {
        RestoreError::Verify(error) => not_whole(error),
        error => Failure::Other(Box::new(error)),
    }
}

fn view(backup: &Path, dir: Option<&Path>, files: &BackupFiles) -> Value {
    json!({
        "whole": true,
        "backup": backup.display().to_string(),
        "restored": dir.map(|dir| dir.display().to_string()),
        "segments": files.segments,
        "bytes": files.bytes,
        "last_lsn": files.last_lsn,
        "made_at_ms": files.made_at.get(),
    })
}
