//! Reads of single records and of whole segments, from any thread, while the writer writes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::disk::{DiskFile, read_full};
use crate::log::files::{Pin, Segment, Shared};
use crate::log::format::{
    Entries, FRAME_HEADER_BYTES, FrameHeader, FrameKind, RECORD_HEADER_BYTES, RawRecord, Records, SEGMENT_HEADER_BYTES,
    Seed, u32_of,
};
use crate::log::{Epoch, Loc, ReadError};
use crate::model::{Lsn, Millis};

/// A record read from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The id it was written with.
    pub id: u128,
    /// Its head.
    pub head: Bytes,
    /// Its body.
    pub body: Bytes,
}

/// Reads the log while it is written. Clones share it.
#[derive(Clone)]
pub struct LogReader(pub(crate) Arc<Shared>);

impl LogReader {
    /// The record at `loc`, verified. Blocks on the disk.
    pub fn read(&self, loc: Loc) -> Result<Record, ReadError> {
        let mut records = self.read_all(&[loc])?;
        records.pop().ok_or(ReadError::NoRecord(loc))
    }

    /// The records at `locs`, verified, in their order. Those that lie one behind the other are read at once.
    /// Blocks on the disk.
    pub fn read_all(&self, locs: &[Loc]) -> Result<Vec<Record>, ReadError> {
        let all = self.read_runs(locs, |file, position, bytes| read_full(file, position, bytes).map(Some));
        Ok(all?.unwrap_or_default())
    }

    /// The same without blocking; `None`: not all of them are in memory, or there are too many.
    pub fn read_cached(&self, locs: &[Loc]) -> Result<Option<Vec<Record>>, ReadError> {
        if locs.iter().map(|loc| u64::from(loc.length)).sum::<u64>() > CACHED_BYTES_MAX {
            return Ok(None);
        }
        self.read_runs(locs, |file, position, bytes| file.read_cached(position, bytes))
    }

    fn read_runs(
        &self,
        locs: &[Loc],
        read: impl Fn(&dyn DiskFile, u64, &mut [u8]) -> std::io::Result<Option<usize>>,
    ) -> Result<Option<Vec<Record>>, ReadError> {
        let mut records = Vec::with_capacity(locs.len());
        let mut rest = locs;
        while let Some(first) = rest.first() {
            let (run, behind) = rest.split_at(run_length(rest));
            let segment = self.segment(Lsn::new(first.segment))?;
            // Checked before anything is allocated: a place from a damaged index may hold any number.
            let unfit = |loc: &&Loc| (loc.length as usize) < RECORD_HEADER_BYTES || end_of(loc) > segment.file_bytes;
            if let Some(loc) = run.iter().find(unfit) {
                return Err(ReadError::NoRecord(*loc));
            }
            let start = u64::from(first.position);
            let end = run.last().map_or(start, end_of);
            let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
            let refused = |source| ReadError::Io { segment: segment.first, source };
            let file = self.0.file_of(&segment).map_err(refused)?;
            let Some(got) = read(&*file, start, &mut bytes).map_err(refused)? else { return Ok(None) };
            bytes.truncate(got);
            let bytes = Bytes::from(bytes);
            for loc in run {
                records.push(cut_out(&bytes, start, loc, segment.seed).ok_or(ReadError::NoRecord(*loc))?);
            }
            rest = behind;
        }
        Ok(Some(records))
    }

    /// Keeps a segment from being recycled while the answer lives; `None` if it is gone.
    pub fn pin(&self, segment: u64) -> Option<Pin> {
        self.0.segment(segment).map(Pin)
    }

    /// Walks the frames of a segment without reading its records; at the active segment, those that are
    /// written so far.
    pub fn scan(&self, segment: u64) -> Result<Scan, ReadError> {
        let segment = self.segment(Lsn::new(segment))?;
        let stop = self.0.after(segment.first);
        let expected = segment.first;
        Ok(Scan { reader: self.clone(), segment, stop, position: SEGMENT_HEADER_BYTES as u64, expected })
    }

    fn segment(&self, first: Lsn) -> Result<Arc<Segment>, ReadError> {
        self.0.segment(first.get()).ok_or(ReadError::Gone(first))
    }

    fn read_at(&self, segment: &Segment, position: u64, bytes: &mut [u8]) -> Result<usize, ReadError> {
        let refused = |source| ReadError::Io { segment: segment.first, source };
        let file: Arc<dyn DiskFile> = self.0.file_of(segment).map_err(refused)?;
        read_full(&*file, position, bytes).map_err(refused)
    }
}

/// Bytes of records that are read where others wait, at most.
const CACHED_BYTES_MAX: u64 = 1 << 20;
/// Bytes that one read takes at most when it reads more than one record.
const RUN_BYTES_MAX: u64 = 1 << 20;
/// Bytes between two records that are rather read and thrown away than skipped with another read.
const RUN_GAP_MAX: u64 = 16 << 10;

fn end_of(loc: &Loc) -> u64 {
    u64::from(loc.position) + u64::from(loc.length)
}

/// How many of `locs`, from the first on, are read together.
fn run_length(locs: &[Loc]) -> usize {
    let Some(first) = locs.first() else { return 0 };
    let follows = |pair: &[Loc]| match pair {
        [one, next] => {
            let gap = u64::from(next.position).checked_sub(end_of(one));
            next.segment == one.segment
                && gap.is_some_and(|gap| gap <= RUN_GAP_MAX)
                && end_of(next) - u64::from(first.position) <= RUN_BYTES_MAX
        }
        _ => false,
    };
    1 + locs.windows(2).take_while(|pair| follows(pair)).count()
}

/// The record at `loc` in `bytes`, which were read from `start` on.
fn cut_out(bytes: &Bytes, start: u64, loc: &Loc, seed: Seed) -> Option<Record> {
    let from = usize::try_from(u64::from(loc.position) - start).ok()?;
    let record = RawRecord::read(bytes.get(from..from + loc.length as usize)?, seed)?;
    Some(Record { id: record.id, head: bytes.slice_ref(record.head), body: bytes.slice_ref(record.body) })
}

/// The frames of one segment, from [`LogReader::scan`]. Holds the segment.
pub struct Scan {
    reader: LogReader,
    segment: Arc<Segment>,
    /// First lsn of the segment that follows: here this one ends.
    stop: Option<Lsn>,
    position: u64,
    expected: Lsn,
}

/// A frame seen by a [`Scan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanFrame {
    /// Whose entries these are.
    pub kind: FrameKind,
    /// The life that wrote it.
    pub epoch: Epoch,
    /// The lsn of its first entry.
    pub first: Lsn,
    /// Log-clock time of the commit.
    pub time: Millis,
    /// Boot time of the commit.
    pub boot: Millis,
    /// Records in the frame.
    pub record_count: u32,
    position: u32,
    header: FrameHeader,
    entries: Vec<u8>,
}

impl ScanFrame {
    /// Recovery wrote it again: its records lie elsewhere than its entries tell.
    pub const fn is_rewritten(&self) -> bool {
        self.header.rewritten
    }

    /// The entries, in order.
    pub fn entries(&self) -> Entries<'_> {
        Entries(&self.entries)
    }
}

impl Scan {
    /// The places of all records of a frame, in order. Reads the records, and verifies them.
    pub fn record_locs(&self, frame: &ScanFrame) -> Result<Vec<Loc>, ReadError> {
        let at_byte = u64::from(frame.position);
        let mut bytes = vec![0; frame.header.records_len as usize];
        let got = self.reader.read_at(&self.segment, at_byte + FRAME_HEADER_BYTES as u64, &mut bytes)?;
        let bytes = bytes.get(..got).unwrap_or_default();
        if !frame.header.holds_records(bytes, self.segment.seed, frame.position) {
            return Err(ReadError::Damaged { segment: self.segment.first, at_byte });
        }
        Ok(Records::new(bytes, frame.position).with_locs(self.segment.first).map(|(loc, _)| loc).collect())
    }

    fn step(&mut self) -> Result<Option<ScanFrame>, ReadError> {
        let ended = self.stop.is_some_and(|stop| self.expected >= stop);
        if ended || self.position >= self.segment.used.load(Ordering::Acquire) {
            return Ok(None);
        }
        let (segment, at_byte) = (self.segment.first, self.position);
        let damaged = || ReadError::Damaged { segment, at_byte };
        let position = u32_of(usize::try_from(at_byte).unwrap_or(usize::MAX));
        let mut front = [0; FRAME_HEADER_BYTES];
        self.reader.read_at(&self.segment, at_byte, &mut front)?;
        let header = FrameHeader::decode(&front, self.segment.seed, position).ok_or_else(damaged)?;
        let end = at_byte + header.frame_bytes();
        if header.first != self.expected || end > self.segment.file_bytes {
            return Err(damaged());
        }
        let mut entries = vec![0; header.entries_len as usize];
        let entries_at = end - u64::from(header.entries_len);
        let got = self.reader.read_at(&self.segment, entries_at, &mut entries)?;
        if got != entries.len() || !header.holds_entries(&entries, self.segment.seed, position) {
            return Err(damaged());
        }
        self.position = end;
        self.expected = header.next();
        Ok(Some(ScanFrame {
            kind: header.kind,
            epoch: header.epoch,
            first: header.first,
            time: header.time,
            boot: header.boot,
            record_count: header.record_count,
            position,
            header,
            entries,
        }))
    }
}

impl Iterator for Scan {
    type Item = Result<ScanFrame, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let answer = self.step();
        if answer.is_err() {
            // No second look behind damage.
            self.position = u64::MAX;
        }
        answer.transpose()
    }
}
