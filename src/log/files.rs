//! The files of the log directory: their names, and the segments that are in use, shared by the
//! writer, the readers and the keeper.
//!
//! A segment is given up for recycling only under the lock of the table, and only while the table
//! holds the last reference: whoever reads or pins it is safe.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::disk::{Disk, DiskFile};
use crate::log::format::Seed;
use crate::log::keeper::Pool;
use crate::log::{Fatal, Options};
use crate::model::Lsn;

/// Most segment files kept open. Others are opened again when something in them is read.
const OPEN_FILES_MAX: usize = 128;

pub(crate) fn segment_name(first: Lsn) -> String {
    format!("{first:0>20}.seg", first = first.get())
}

pub(crate) fn spare_name(number: u64) -> String {
    format!("spare-{number}.seg")
}

/// What a name in the log directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Segment(Lsn),
    Spare(u64),
    Torn,
    Temporary,
    Unknown,
}

pub(crate) fn file_kind(name: &str) -> FileKind {
    if name.ends_with(".torn") {
        return FileKind::Torn;
    }
    if name.ends_with(".tmp") {
        return FileKind::Temporary;
    }
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let Some(stem) = name.strip_suffix(".seg") else { return FileKind::Unknown };
    match stem.strip_prefix("spare-") {
        Some(digits) => number(digits).map_or(FileKind::Unknown, FileKind::Spare),
        None if stem.len() == 20 => number(stem).map_or(FileKind::Unknown, |first| FileKind::Segment(Lsn::new(first))),
        None => FileKind::Unknown,
    }
}

/// One use of a segment file.
pub(crate) struct Segment {
    pub(crate) first: Lsn,
    pub(crate) seed: Seed,
    pub(crate) file_bytes: u64,
    /// Bytes that hold whole frames. Grows only in the segment that is written to.
    pub(crate) used: AtomicU64,
    file: Mutex<Option<Arc<dyn DiskFile>>>,
}

impl Segment {
    pub(crate) fn new(first: Lsn, seed: Seed, file_bytes: u64, used: u64, file: Option<Arc<dyn DiskFile>>) -> Self {
        Self { first, seed, file_bytes, used: AtomicU64::new(used), file: Mutex::new(file) }
    }
}

/// Keeps a segment from being recycled while it lives.
#[derive(Clone)]
pub struct Pin(pub(crate) Arc<Segment>);

impl Pin {
    /// Name of its file in the log directory.
    pub fn file(&self) -> String {
        segment_name(self.0.first)
    }
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Pin({})", self.0.first)
    }
}

/// What the writer, the readers and the keeper share.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    /// The log directory.
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) segments: RwLock<BTreeMap<u64, Arc<Segment>>>,
    /// Segments whose file is open, oldest use first; the active one is not among them.
    open: Mutex<VecDeque<u64>>,
    pub(crate) pool: Mutex<Pool>,
    /// Held for the length of one step of the keeper, so that two threads cannot take the same one.
    pub(crate) step: Mutex<()>,
    /// Segments below this lsn are not needed, and a durable frame says so.
    pub(crate) first_kept_durable: AtomicU64,
    /// First lsn of the newest segment that `newest` tells.
    pub(crate) newest_told: AtomicU64,
    /// Set by the first fatal error of any thread.
    pub(crate) stopped: AtomicBool,
    /// Set by a clean stop: the keeper has nothing to do any more.
    pub(crate) closed: AtomicBool,
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, options: Options, pool: Pool) -> Self {
        Self {
            disk,
            dir,
            options,
            segments: RwLock::new(BTreeMap::new()),
            open: Mutex::new(VecDeque::new()),
            pool: Mutex::new(pool),
            step: Mutex::new(()),
            first_kept_durable: AtomicU64::new(0),
            newest_told: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn segment_path(&self, first: Lsn) -> PathBuf {
        self.dir.join(segment_name(first))
    }

    pub(crate) fn insert(&self, segment: Arc<Segment>) {
        let mut table = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        table.insert(segment.first.get(), segment);
    }

    pub(crate) fn segment(&self, first: u64) -> Option<Arc<Segment>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).get(&first).cloned()
    }

    /// First lsn of the newest segment.
    pub(crate) fn newest(&self) -> Lsn {
        let table = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        table.last_key_value().map_or(Lsn::NONE, |(number, _)| Lsn::new(*number))
    }

    /// Bytes that are used of the newest segment.
    pub(crate) fn used_of_newest(&self) -> u64 {
        let table = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        table.last_key_value().map_or(0, |(_, segment)| segment.used.load(Ordering::Acquire))
    }

    /// First lsn of the segment before the place `first`; `NONE` if there is none.
    pub(crate) fn segment_before(&self, first: Lsn) -> Lsn {
        let table = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        table.range(..first.get()).next_back().map_or(Lsn::NONE, |(number, _)| Lsn::new(*number))
    }

    /// First lsn of the segment that follows.
    pub(crate) fn after(&self, first: Lsn) -> Option<Lsn> {
        let table = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        table.range(first.get() + 1..).next().map(|(number, _)| Lsn::new(*number))
    }

    /// Takes a segment out of the table if nobody uses it.
    pub(crate) fn remove_unused(&self, first: u64) -> Option<Arc<Segment>> {
        let mut table = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        if table.get(&first).is_some_and(|segment| Arc::strong_count(segment) == 1) {
            return table.remove(&first);
        }
        None
    }

    /// The file of a segment, opened if it is not.
    pub(crate) fn file_of(&self, segment: &Segment) -> io::Result<Arc<dyn DiskFile>> {
        let mut place = locked(&segment.file);
        if let Some(file) = place.as_ref() {
            return Ok(file.clone());
        }
        let file = self.disk.open_read(&self.segment_path(segment.first))?;
        *place = Some(file.clone());
        drop(place);
        self.remember_open(segment.first);
        Ok(file)
    }

    /// Bounds the number of open files; called when `first` was opened, or is not written to any more.
    pub(crate) fn remember_open(&self, first: Lsn) {
        let mut open = locked(&self.open);
        open.push_back(first.get());
        if open.len() <= OPEN_FILES_MAX {
            return;
        }
        let oldest = open.pop_front();
        drop(open);
        if let Some(segment) = oldest.and_then(|first| self.segment(first)) {
            *locked(&segment.file) = None;
        }
    }

    /// Notes a fatal error, so that nobody goes on.
    pub(crate) fn fatal(&self, doing: &'static str, path: &Path, source: io::Error) -> Fatal {
        self.stopped.store(true, Ordering::SeqCst);
        Fatal::new(doing, path, source)
    }

    pub(crate) fn go_on(&self) -> Result<(), Fatal> {
        if self.stopped.load(Ordering::SeqCst) { Err(Fatal::stopped(&self.dir)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_file_is_and_read_back() {
        assert_eq!(segment_name(Lsn::new(42)), "00000000000000000042.seg");
        assert_eq!(file_kind("00000000000000000042.seg"), FileKind::Segment(Lsn::new(42)));
        assert_eq!(file_kind(&spare_name(7)), FileKind::Spare(7));
        assert_eq!(file_kind("00000000000000000042-00ff.torn"), FileKind::Torn);
        assert_eq!(file_kind("new-1.tmp"), FileKind::Temporary);
        for other in ["42.seg", "spare-+7.seg", "+0000000000000000042.seg", "99999999999999999999.seg", "x"] {
            assert_eq!(file_kind(other), FileKind::Unknown, "{other}");
        }
    }
}
