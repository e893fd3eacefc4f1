//! One compiled-in step per format number: each brings a data directory to the next format, with a
//! frozen copy of the old codec of its own.
//!
//! A step writes beside what is there, syncs, renames, and says the new format last: a crash at any
//! point leaves the old format whole, and the step begins again.

mod format_0;

use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::engine::{FORMAT, HomeError, format_of};

/// Why a data directory was not brought to the format of this build.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The directory cannot be used at all.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// There is no step from this format.
    #[error("no way is known from format {0}")]
    NoStep(u32),
    /// What is there does not read as its format.
    #[error("{file} is damaged at byte {at_byte}")]
    Damaged {
        /// The file.
        file: String,
        /// Where.
        at_byte: u64,
    },
    /// What the format should have is not there: perhaps `FORMAT` is what is wrong.
    #[error("FORMAT says that this is format {format}, but {file} is not there")]
    Missing {
        /// The format.
        format: u32,
        /// Name of the file.
        file: &'static str,
    },
    /// The system refused something.
    #[error("could not {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The messages could not be written in the new format.
    #[error("could not write in the new format: {0}")]
    Write(String),
    /// A test asked to end here, as a crash would.
    #[doc(hidden)]
    #[error("cut short")]
    CutShort,
}

/// Brings the directory to the format of this build; nothing to do is fine. Answers the formats it came
/// through.
pub fn bring_up(dir: &Path, clock: &Arc<dyn Clock>) -> Result<Vec<u32>, MigrateError> {
    bring_up_steps(dir, clock, u32::MAX)
}

/// Like [`bring_up`], but ends before piece number `pieces` of a step, as a crash would.
#[doc(hidden)]
pub fn bring_up_steps(dir: &Path, clock: &Arc<dyn Clock>, pieces: u32) -> Result<Vec<u32>, MigrateError> {
    let mut passed = Vec::new();
    while let Some(found) = format_of(dir)?.filter(|found| *found < FORMAT) {
        match found {
            0 => format_0::migrate(dir, clock, pieces)?,
            other => return Err(MigrateError::NoStep(other)),
        }
        passed.push(found);
    }
    Ok(passed)
}
