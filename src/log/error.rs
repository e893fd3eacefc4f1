//! What can go wrong, one type per operation.

use std::io;
use std::path::{Path, PathBuf};

use crate::log::Loc;
use crate::model::Lsn;

/// The device failed where nothing may fail, or did so before: the process must end. Only a restart,
/// which reads the files again, knows what is durable.
#[derive(Debug, thiserror::Error)]
#[error("could not {doing} {}", path.display())]
pub struct Fatal {
    /// What was being done.
    pub doing: &'static str,
    /// To which file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl Fatal {
    pub(crate) fn new(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self { doing, path: path.to_path_buf(), source }
    }

    /// For every use of a log after its first fatal error.
    pub(crate) fn stopped(path: &Path) -> Self {
        Self::new("go on with", path, io::Error::other("an earlier error stopped the log"))
    }
}

/// Why a log was not opened. Nothing durable was lost by the attempt.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An option is out of bounds.
    #[error("{0}")]
    Options(String),
    /// Something that was durable is not there any more, or not as it was.
    #[error("{file} is damaged at byte {at_byte}: {why}; `windlass check` says more")]
    Damaged {
        /// Name of the file in the log directory.
        file: String,
        /// Where the damage begins.
        at_byte: u64,
        /// What is wrong there.
        why: String,
    },
    /// A segment that is still needed is gone.
    #[error("{file} is missing: {why}")]
    MissingSegment {
        /// Its name.
        file: String,
        /// Why it is needed.
        why: String,
    },
    /// The original gave up a segment before the copy reached it.
    #[error(
        "{file} is missing: it was dropped while this copy was taken; take the copy again, and if it takes \
         long, with a larger `log.drop_keep_min`"
    )]
    CopyLacks {
        /// Its name.
        file: String,
    },
    /// A later build wrote this.
    #[error("{file} has format {found}, this build knows formats up to {known}")]
    Newer {
        /// Name of the file.
        file: String,
        /// Its format.
        found: u32,
        /// The newest format this build reads.
        known: u32,
    },
    /// The end of the log is torn and may not be cut (`strict_recovery`).
    #[error("{file} is torn at byte {at_byte}, and strict recovery cuts nothing")]
    Torn {
        /// Name of the file.
        file: String,
        /// Where the tear begins.
        at_byte: u64,
    },
    /// The disk is full, and no spare segment is left.
    #[error("no space for the first segment of this start: {bytes} bytes are needed")]
    NoSpace {
        /// Bytes needed.
        bytes: u64,
    },
    /// The system refused something.
    #[error("could not {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The receiver of the entries could not take one.
    #[error("the entries from lsn {first} on could not be applied: {why}")]
    Replay {
        /// First lsn of the frame.
        first: Lsn,
        /// What the receiver said.
        why: String,
    },
}

/// Turns an error of the disk into one of an open.
pub(crate) fn opening<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> OpenError + use<'a> {
    move |source| OpenError::Io { doing, path: path.to_path_buf(), source }
}

/// Why the next segment was not begun.
#[derive(Debug, thiserror::Error)]
pub enum RollError {
    /// No spare segment is ready for this urgency.
    #[error("no spare segment is ready")]
    NoSpare,
    /// The head entries leave too little room for anything else.
    #[error("the head of a segment would be {bytes} bytes, the limit is {max}")]
    HeadTooLarge {
        /// Bytes of the head frame.
        bytes: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// The device failed.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// Why a record or a segment could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its segment is not in the log (any more).
    #[error("the log has no segment {0}")]
    Gone(Lsn),
    /// There is no such record at this place: damage, or a place from before a restart.
    #[error("no whole record of {} bytes lies at byte {} of segment {}", .0.length, .0.position, .0.segment)]
    NoRecord(Loc),
    /// A frame that was whole when the log was opened is not any more.
    #[error("segment {segment} is damaged at byte {at_byte}")]
    Damaged {
        /// First lsn of the segment.
        segment: Lsn,
        /// Where the bad frame begins.
        at_byte: u64,
    },
    /// The system refused to read.
    #[error("could not read segment {segment}")]
    Io {
        /// First lsn of the segment.
        segment: Lsn,
        /// What the system said.
        source: io::Error,
    },
}
