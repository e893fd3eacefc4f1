//! The bytes of a segment: header, frames, records. Drawn in docs/FORMAT.md, sections "Segment
//! header", "Frame" and "Record". Pure: bytes in, words out; nothing here touches a disk.
//!
//! Every checksum starts from the salt of the segment's current use, so that neither what an earlier
//! use left behind nor a body that looks like a frame is ever taken for one.

use crc32fast::Hasher;

use crate::log::{Epoch, Loc};
use crate::model::{Lsn, Millis};
use crate::planted::{Defect, planted};

/// The format this build writes, and the newest it reads.
pub const FORMAT: u16 = 1;
/// Bytes of a segment header.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// Bytes of a frame header.
pub const FRAME_HEADER_BYTES: usize = 96;
/// Bytes of a record before its head.
pub const RECORD_HEADER_BYTES: usize = 28;
/// Bytes of an entry before its content.
pub const ENTRY_HEADER_BYTES: usize = 4;

const SEGMENT_MAGIC: [u8; 8] = *b"WNDLSSEG";
const FRAME_MAGIC: [u8; 4] = [0xf7, b'W', b'L', 0xf2];
/// The first frame of a segment: what was true when it began.
const FLAG_HEAD: u16 = 1;
/// Written again by recovery, from a tail that nothing had proven durable.
const FLAG_REWRITTEN: u16 = 2;

/// Bytes that a record occupies in a frame.
pub const fn record_bytes(head: usize, body: usize) -> usize {
    RECORD_HEADER_BYTES + head + body
}

/// Bytes that an entry occupies in a frame.
pub const fn entry_bytes(content: usize) -> usize {
    ENTRY_HEADER_BYTES + content
}

/// Reads numbers one after the other; `None` once the bytes end.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }
}

/// The start of every checksum in one use of a segment: made from its salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(salt: u128) -> Self {
        Self(crc32fast::hash(&salt.to_le_bytes()))
    }

    fn hasher(self) -> Hasher {
        Hasher::new_with_initial(self.0)
    }

    /// Checksum of a part of the frame at `position`. With the position, so that a true copy of a frame
    /// inside a body of the same segment is no frame.
    fn part(self, position: u32, bytes: &[u8]) -> u32 {
        let mut hasher = self.hasher();
        hasher.update(&position.to_le_bytes());
        hasher.update(bytes);
        hasher.finalize()
    }

    fn record(self, id: u128, head: &[u8], body: &[u8]) -> u32 {
        let mut hasher = self.hasher();
        hasher.update(&u32_of(head.len()).to_le_bytes());
        hasher.update(&u32_of(body.len()).to_le_bytes());
        hasher.update(&id.to_le_bytes());
        hasher.update(head);
        hasher.update(body);
        hasher.finalize()
    }
}

/// A length that the bounds of a segment keep far below 4 GiB.
pub(crate) fn u32_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or_else(|_| panic!("a length of {length} bytes lies within a segment"))
}

/// Why the front of a file is no segment header of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// A later build wrote it.
    Newer(u32),
    /// Anything else.
    Damaged(&'static str),
}

/// FORMAT.md, "Segment header".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) first: Lsn,
    pub(crate) salt: u128,
    pub(crate) file_bytes: u64,
    /// First lsn of the segment before; `NONE` for the first of a log.
    pub(crate) before: Lsn,
}

impl SegmentHeader {
    pub(crate) fn seed(&self) -> Seed {
        Seed::new(self.salt)
    }

    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        bytes.extend_from_slice(&SEGMENT_MAGIC);
        bytes.extend_from_slice(&u32::from(FORMAT).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.first.get().to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.file_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.before.get().to_le_bytes());
        bytes.resize(SEGMENT_HEADER_BYTES - 4, 0);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let mut array = [0; SEGMENT_HEADER_BYTES];
        array.copy_from_slice(&bytes);
        array
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let short = BadHeader::Damaged("the segment header is cut short");
        let (covered, crc) =
            bytes.get(..SEGMENT_HEADER_BYTES).and_then(|all| all.split_last_chunk::<4>()).ok_or(short)?;
        let mut fields = Bytes(covered);
        if fields.take(8).ok_or(short)? != SEGMENT_MAGIC {
            return Err(BadHeader::Damaged("no segment begins here"));
        }
        if crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
            return Err(BadHeader::Damaged("the checksum of the segment header is wrong"));
        }
        // Only after the checksum, which stays where it is in every format: a flipped bit is no new format.
        let format = fields.u32().ok_or(short)?;
        if format > u32::from(FORMAT) {
            return Err(BadHeader::Newer(format));
        }
        let mut read = || {
            fields.u32()?;
            let (first, salt, file_bytes) = (Lsn::new(fields.u64()?), fields.u128()?, fields.u64()?);
            Some(Self { first, salt, file_bytes, before: Lsn::new(fields.u64()?) })
        };
        read().ok_or(short)
    }
}

/// Whose entries a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Entries with an lsn each.
    Commit,
    /// The first frame of a segment: what was true before its first lsn; no lsn of their own.
    Head,
}

/// FORMAT.md, "Frame": the header, without the fields that only [`seal`] knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: FrameKind,
    pub(crate) rewritten: bool,
    pub(crate) epoch: Epoch,
    pub(crate) first: Lsn,
    pub(crate) time: Millis,
    pub(crate) boot: Millis,
    /// The highest lsn known durable when this was written.
    pub(crate) synced: Lsn,
    /// The first lsn that is still needed: here the log begins.
    pub(crate) first_kept: Lsn,
    /// Bytes of this segment known durable when this was written.
    pub(crate) synced_end: u32,
    pub(crate) entry_count: u32,
    pub(crate) record_count: u32,
    pub(crate) records_len: u32,
    pub(crate) entries_len: u32,
    records_crc: u32,
    entries_crc: u32,
}

impl FrameHeader {
    /// A header of nothing yet; the counts and lengths follow.
    pub(crate) const fn new(kind: FrameKind, epoch: Epoch, first: Lsn) -> Self {
        Self {
            kind,
            rewritten: false,
            epoch,
            first,
            time: Millis::ZERO,
            boot: Millis::ZERO,
            synced: Lsn::NONE,
            first_kept: Lsn::NONE,
            synced_end: 0,
            entry_count: 0,
            record_count: 0,
            records_len: 0,
            entries_len: 0,
            records_crc: 0,
            entries_crc: 0,
        }
    }

    /// Entries of the frame that have an lsn.
    pub(crate) const fn lsn_count(&self) -> u64 {
        match self.kind {
            FrameKind::Commit => self.entry_count as u64,
            FrameKind::Head => 0,
        }
    }

    /// The lsn of the entry that follows the frame.
    pub(crate) fn next(&self) -> Lsn {
        Lsn::new(self.first.get().saturating_add(self.lsn_count()))
    }

    /// Bytes of the whole frame.
    pub(crate) const fn frame_bytes(&self) -> u64 {
        FRAME_HEADER_BYTES as u64 + self.records_len as u64 + self.entries_len as u64
    }

    fn encode(&self, seed: Seed, position: u32) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES);
        bytes.extend_from_slice(&FRAME_MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        let head = if self.kind == FrameKind::Head { FLAG_HEAD } else { 0 };
        let rewritten = if self.rewritten { FLAG_REWRITTEN } else { 0 };
        bytes.extend_from_slice(&(head | rewritten).to_le_bytes());
        for number in [
            self.epoch.counter,
            self.epoch.random,
            self.first.get(),
            self.time.get(),
            self.boot.get(),
            self.synced.get(),
            self.first_kept.get(),
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [
            self.synced_end,
            self.entry_count,
            self.record_count,
            self.records_len,
            self.entries_len,
            self.records_crc,
            self.entries_crc,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&seed.part(position, &bytes).to_le_bytes());
        let mut array = [0; FRAME_HEADER_BYTES];
        array.copy_from_slice(&bytes);
        array
    }

    /// The header at `position`, if its checksum says that this use of the segment wrote it there. What it
    /// says is then true even if the rest of its frame never reached the disk.
    pub(crate) fn decode(bytes: &[u8], seed: Seed, position: u32) -> Option<Self> {
        let (covered, crc) = bytes.get(..FRAME_HEADER_BYTES)?.split_last_chunk::<4>()?;
        let mut fields = Bytes(covered);
        if fields.array::<4>()? != FRAME_MAGIC || fields.u16()? != FORMAT {
            return None;
        }
        if seed.part(position, covered) != u32::from_le_bytes(*crc) && !planted(Defect::NoChecksum) {
            return None;
        }
        let flags = fields.u16()?;
        Some(Self {
            kind: if flags & FLAG_HEAD == 0 { FrameKind::Commit } else { FrameKind::Head },
            rewritten: flags & FLAG_REWRITTEN != 0,
            epoch: Epoch { counter: fields.u64()?, random: fields.u64()? },
            first: Lsn::new(fields.u64()?),
            time: Millis::new(fields.u64()?),
            boot: Millis::new(fields.u64()?),
            synced: Lsn::new(fields.u64()?),
            first_kept: Lsn::new(fields.u64()?),
            synced_end: fields.u32()?,
            entry_count: fields.u32()?,
            record_count: fields.u32()?,
            records_len: fields.u32()?,
            entries_len: fields.u32()?,
            records_crc: fields.u32()?,
            entries_crc: fields.u32()?,
        })
    }

    /// Whether the entries section is the one this header was written with.
    pub(crate) fn holds_entries(&self, bytes: &[u8], seed: Seed, position: u32) -> bool {
        let whole = seed.part(position, bytes) == self.entries_crc || planted(Defect::NoChecksum);
        whole && entries_fill(bytes, self.entry_count)
    }

    /// Whether the records section is the one this header was written with.
    pub(crate) fn holds_records(&self, bytes: &[u8], seed: Seed, position: u32) -> bool {
        let whole = seed.part(position, bytes) == self.records_crc || planted(Defect::NoChecksum);
        whole && records_fill(bytes, self.record_count)
    }
}

/// Whether `byte` may begin a frame; the fast first look of a search.
pub(crate) const fn may_begin_frame(byte: u8) -> bool {
    byte == FRAME_MAGIC[0]
}

/// Finishes the frame that fills `frame`: header bytes left free, then records, then entries, whose
/// lengths and counts `header` has.
pub(crate) fn seal(frame: &mut [u8], mut header: FrameHeader, seed: Seed, position: u32) {
    assert!(frame.len() as u64 == header.frame_bytes(), "the lengths in a frame header sum up to the frame");
    let (front, payload) = frame.split_at_mut(FRAME_HEADER_BYTES);
    let (records, entries) = payload.split_at(header.records_len as usize);
    header.records_crc = seed.part(position, records);
    header.entries_crc = seed.part(position, entries);
    front.copy_from_slice(&header.encode(seed, position));
}

/// Appends a record.
pub(crate) fn put_record(to: &mut Vec<u8>, seed: Seed, id: u128, head: &[u8], body: &[u8]) {
    to.extend_from_slice(&u32_of(head.len()).to_le_bytes());
    to.extend_from_slice(&u32_of(body.len()).to_le_bytes());
    to.extend_from_slice(&seed.record(id, head, body).to_le_bytes());
    to.extend_from_slice(&id.to_le_bytes());
    to.extend_from_slice(head);
    to.extend_from_slice(body);
}

/// Appends an entry.
pub(crate) fn put_entry(to: &mut Vec<u8>, content: &[u8]) {
    to.extend_from_slice(&u32_of(content.len()).to_le_bytes());
    to.extend_from_slice(content);
}

/// A record as it lies in its frame. FORMAT.md, "Record".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawRecord<'a> {
    pub(crate) id: u128,
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a [u8],
    crc: u32,
}

impl<'a> RawRecord<'a> {
    /// Splits the record off the front of `bytes`; its checksum is not looked at.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut fields = Bytes(bytes);
        let (head_len, body_len) = (fields.u32()?, fields.u32()?);
        let (crc, id) = (fields.u32()?, fields.u128()?);
        let head = fields.take(head_len as usize)?;
        let body = fields.take(body_len as usize)?;
        Some((Self { id, head, body, crc }, fields.0))
    }

    /// The record that fills `bytes`, if its checksum is right.
    pub(crate) fn read(bytes: &'a [u8], seed: Seed) -> Option<Self> {
        let (record, rest) = Self::split(bytes)?;
        (rest.is_empty() && record.is_whole(seed)).then_some(record)
    }

    pub(crate) fn is_whole(&self, seed: Seed) -> bool {
        seed.record(self.id, self.head, self.body) == self.crc
    }
}

fn records_fill(bytes: &[u8], count: u32) -> bool {
    let mut records = Records { bytes, at: 0 };
    records.by_ref().count() as u64 == u64::from(count) && records.bytes.is_empty()
}

fn entries_fill(bytes: &[u8], count: u32) -> bool {
    let mut entries = Entries(bytes);
    entries.by_ref().count() as u64 == u64::from(count) && entries.0.is_empty()
}

/// The records of a frame with the position of each in its segment.
#[derive(Debug, Clone)]
pub(crate) struct Records<'a> {
    bytes: &'a [u8],
    at: u32,
}

impl<'a> Records<'a> {
    pub(crate) const fn new(bytes: &'a [u8], frame_position: u32) -> Self {
        Self { bytes, at: frame_position + FRAME_HEADER_BYTES as u32 }
    }

    /// The place of the record that comes next, given its bytes.
    pub(crate) fn with_locs(self, segment: Lsn) -> impl Iterator<Item = (Loc, RawRecord<'a>)> {
        self.map(move |(position, record)| {
            let length = u32_of(record_bytes(record.head.len(), record.body.len()));
            (Loc { segment: segment.get(), position, length }, record)
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (u32, RawRecord<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (record, rest) = RawRecord::split(self.bytes)?;
        let position = self.at;
        self.at = self.at.saturating_add(u32_of(self.bytes.len() - rest.len()));
        self.bytes = rest;
        Some((position, record))
    }
}

/// The entries of a frame, in order.
#[derive(Debug, Clone)]
pub struct Entries<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut fields = Bytes(self.0);
        let length = fields.u32()?;
        let content = fields.take(length as usize)?;
        self.0 = fields.0;
        Some(content)
    }
}
