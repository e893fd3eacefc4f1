//! What happened, durable: segments of frames of entries. An entry is opaque bytes here.
//!
//! One writer owns [`Log`]; readers of bodies share a [`LogReader`]; a background thread turns
//! [`Keeper`], which makes and recycles segments. Layout: docs/FORMAT.md. Who writes must sync before
//! a reply leaves; a [`Fatal`] error must end the process, because only reading the files again tells
//! what is true.

mod check;
mod error;
mod files;
mod format;
mod keeper;
mod look;
mod mark;
mod newest;
mod plan;
mod reader;
mod recover;
mod scan;
mod writer;

use std::time::Duration;

pub use check::{CheckReport, Damage, Progress, check};
pub use error::{Fatal, OpenError, ReadError, RollError};
pub use files::Pin;
pub use format::{Entries, FORMAT, FRAME_HEADER_BYTES, FrameKind, entry_bytes, record_bytes};
pub use keeper::{Keeper, SpaceState, Step};
pub use look::{SeenFrame, look};
pub use mark::{CleanMark, MarkError, read_mark, write_mark};
pub use reader::{LogReader, Record, Scan, ScanFrame};
pub use recover::{CutTail, Known, Opening, RecoveryReport, Replay, ReplayFrame, ReplayRecord, ReplayStart};
pub use writer::{FrameMeta, Log, PendingSync, Room, SegmentInfo};

/// One life of the server: a counter that rises with every start, and bits that tell two lives with
/// the same counter (of a copy and its original) apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch {
    /// Rises by one with every start.
    pub counter: u64,
    /// Drawn anew at every start.
    pub random: u64,
}

/// Where a record lies in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Loc {
    /// First lsn of its segment.
    pub segment: u64,
    /// Byte of the segment at which it begins.
    pub position: u32,
    /// Its bytes, lengths and checksum included.
    pub length: u32,
}

/// Who asks for space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// New messages: they leave the reserve alone.
    Ordinary,
    /// Acks, leases and rewriting: without them no space would ever come back.
    Essential,
}

/// Whether the data directory is where it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Yes: a gap is damage.
    Original,
    /// It was copied, maybe while a server wrote to it: a gap at its end is cut there.
    Copy,
}

/// What recovery may give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// A torn tail is cut off, kept aside and reported.
    CutTornTail,
    /// Nothing: a torn tail refuses to open.
    RefuseEveryCut,
}

/// How a log is laid out and kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Most bytes of one frame; at most a quarter of a segment.
    pub frame_bytes_max: u64,
    /// Segments kept ready for everybody. A few recycled ones may come on top.
    pub spares: usize,
    /// Further ones for [`Urgency::Essential`] only; on a full disk the last is left to the next start.
    pub reserve: usize,
    /// How long a dropped segment stays for the sake of copies being taken.
    pub drop_keep: Duration,
    /// Most bytes of segments that stay for that, once they are older than `drop_keep_min`.
    pub drop_keep_bytes: u64,
    /// How long one stays however many bytes were dropped, unless the disk is full.
    pub drop_keep_min: Duration,
    /// What recovery may give up.
    pub strictness: Strictness,
    /// Where the data directory is.
    pub place: Place,
}

impl Options {
    /// Smallest segment.
    pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
    /// Largest segment: one is read whole when the log is opened.
    pub const SEGMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

    /// Segments of this size, all else as usual.
    pub fn with_segment_bytes(segment_bytes: u64) -> Self {
        Self { segment_bytes, frame_bytes_max: segment_bytes / 4, ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        let segment_bytes = 32 * 1024 * 1024;
        Self {
            segment_bytes,
            frame_bytes_max: segment_bytes / 4,
            spares: 1,
            reserve: 3,
            drop_keep: Duration::from_secs(600),
            drop_keep_bytes: 1024 * 1024 * 1024,
            drop_keep_min: Duration::from_secs(30),
            strictness: Strictness::CutTornTail,
            place: Place::Original,
        }
    }
}
