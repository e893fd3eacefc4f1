//! Walks the frames of a segment that was read whole, and judges where they end: in zeros, in a tear,
//! or in damage. Pure: knows bytes, not files.

use crate::log::Epoch;
use crate::log::format::{
    Entries, FRAME_HEADER_BYTES, FrameHeader, FrameKind, Records, SEGMENT_HEADER_BYTES, Seed, SegmentHeader,
    may_begin_frame, u32_of,
};
use crate::model::{Lsn, Millis};

/// Most bytes of a torn tail that are kept aside.
const TORN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Kept aside at least, if the file has them: the header of a torn frame may not say how long it was.
const TORN_BYTES_MIN: usize = 64 * 1024;

/// A frame whose checksums are right and whose lsn is the one expected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) position: u32,
    pub(crate) header: FrameHeader,
    pub(crate) records: &'a [u8],
    pub(crate) entries: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(crate) fn end(&self) -> usize {
        self.position as usize + FRAME_HEADER_BYTES + self.records.len() + self.entries.len()
    }

    pub(crate) fn records(&self) -> Records<'a> {
        Records::new(self.records, self.position)
    }

    pub(crate) fn entries(&self) -> Entries<'a> {
        Entries(self.entries)
    }
}

/// What lies behind the last good frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Zeros, as the writer leaves them, or too few bytes for a frame.
    Clean,
    /// Something else.
    Bad(&'static str),
}

/// The frames of a segment, one after the other.
pub(crate) struct Frames<'a> {
    bytes: &'a [u8],
    seed: Seed,
    segment_first: Lsn,
    /// Where the next frame begins.
    pub(crate) position: usize,
    /// Its lsn.
    pub(crate) expected: Lsn,
}

impl<'a> Frames<'a> {
    pub(crate) fn new(bytes: &'a [u8], header: &SegmentHeader) -> Self {
        Self {
            bytes,
            seed: header.seed(),
            segment_first: header.first,
            position: SEGMENT_HEADER_BYTES,
            expected: header.first,
        }
    }

    /// The next frame, or why there is none. Stays where it is after a stop.
    pub(crate) fn step(&mut self) -> Result<Frame<'a>, Stop> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let Some(front) = rest.get(..FRAME_HEADER_BYTES) else { return Err(Stop::Clean) };
        let position = u32_of(self.position);
        let Some(header) = FrameHeader::decode(front, self.seed, position) else {
            // The writer puts zeros behind each frame, so whatever else is here came in a later write, or
            // was changed since.
            let clean = front.iter().all(|byte| *byte == 0);
            return Err(if clean { Stop::Clean } else { Stop::Bad("a frame header is not whole") });
        };
        let frame = whole_frame(rest, header, self.seed, position).map_err(Stop::Bad)?;
        let at_head = self.position == SEGMENT_HEADER_BYTES;
        if at_head != (header.kind == FrameKind::Head) {
            return Err(Stop::Bad("a segment begins with one head frame and has no other"));
        }
        if header.first != self.expected || header.first < self.segment_first {
            return Err(Stop::Bad("a frame has another lsn than the one that follows"));
        }
        self.position = frame.end();
        self.expected = header.next();
        Ok(frame)
    }
}

/// The frame that begins `bytes` and whose header is known to be right.
fn whole_frame(bytes: &[u8], header: FrameHeader, seed: Seed, position: u32) -> Result<Frame<'_>, &'static str> {
    let payload = bytes.get(FRAME_HEADER_BYTES..).unwrap_or_default();
    let (records, rest) = payload.split_at_checked(header.records_len as usize).ok_or("a frame leaves its file")?;
    let entries = rest.get(..header.entries_len as usize).ok_or("a frame leaves its file")?;
    if !header.holds_records(records, seed, position) {
        return Err("the records of a frame are not as they were written");
    }
    if !header.holds_entries(entries, seed, position) {
        return Err("the entries of a frame are not as they were written");
    }
    Ok(Frame { position, header, records, entries })
}

/// What the last segment of a log holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tail {
    /// Where the good frames end.
    pub(crate) end: usize,
    pub(crate) stop: Stop,
    /// The last lsn of the good frames; before the segment's first if they have none.
    pub(crate) last: Lsn,
    /// Bytes that some header, good frame or not, proves durable.
    pub(crate) proven_end: usize,
    /// The highest lsn that some header proves durable.
    pub(crate) proven: Lsn,
    /// The highest of the good frames.
    pub(crate) first_kept: Lsn,
    pub(crate) epoch: Epoch,
    pub(crate) time: Millis,
    pub(crate) boot: Millis,
    /// Whether the head frame is good.
    pub(crate) has_head: bool,
    /// Where the headers of this use that lie behind the good frames end.
    later_end: usize,
}

impl Tail {
    pub(crate) fn read(bytes: &[u8], header: &SegmentHeader) -> Self {
        let mut frames = Frames::new(bytes, header);
        let mut tail = Self {
            end: SEGMENT_HEADER_BYTES,
            stop: Stop::Clean,
            last: Lsn::new(header.first.get().saturating_sub(1)),
            proven_end: 0,
            proven: Lsn::NONE,
            first_kept: Lsn::NONE,
            epoch: Epoch::default(),
            time: Millis::ZERO,
            boot: Millis::ZERO,
            has_head: false,
            later_end: 0,
        };
        tail.stop = loop {
            match frames.step() {
                Ok(frame) => tail.add(&frame),
                Err(stop) => break stop,
            }
        };
        tail.end = frames.position;
        tail.later_end = tail.end;
        tail.search_later(bytes, header.seed());
        tail
    }

    fn add(&mut self, frame: &Frame<'_>) {
        let header = &frame.header;
        self.last = Lsn::new(header.next().get().saturating_sub(1));
        self.first_kept = self.first_kept.max(header.first_kept);
        (self.time, self.boot) = (self.time.max(header.time), header.boot);
        self.has_head = true;
        self.claim(header);
    }

    /// A header is true as soon as its own checksum is right: it was written after what it speaks of was
    /// synced.
    fn claim(&mut self, header: &FrameHeader) {
        self.proven_end = self.proven_end.max(header.synced_end as usize);
        self.proven = self.proven.max(header.synced);
        self.epoch = self.epoch.max(header.epoch);
    }

    /// Looks for frames of this use behind the good ones, the torn one included: written later, and
    /// saved although something before them was not, or behind a damaged one.
    fn search_later(&mut self, bytes: &[u8], seed: Seed) {
        let mut at = self.end;
        while let Some(rest) = bytes.get(at..) {
            let Some(skip) = rest.iter().position(|byte| may_begin_frame(*byte)) else { break };
            at += skip;
            let front = bytes.get(at..).unwrap_or_default();
            match FrameHeader::decode(front, seed, u32_of(at)) {
                Some(header) => {
                    self.claim(&header);
                    let end = usize::try_from(header.frame_bytes()).unwrap_or(usize::MAX);
                    self.later_end = self.later_end.max(at.saturating_add(end).min(bytes.len()));
                    at += FRAME_HEADER_BYTES;
                }
                None => at += 1,
            }
        }
    }

    /// Whether something that was durable is missing from the good frames.
    pub(crate) fn lacks_proven(&self) -> bool {
        self.proven_end > self.end || self.proven > self.last
    }

    /// The bytes to keep aside of a torn tail; empty if the tail is clean.
    pub(crate) fn torn<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        if self.stop == Stop::Clean && self.later_end == self.end {
            return &[];
        }
        let end = self.later_end.max(self.end + TORN_BYTES_MIN).min(self.end + TORN_BYTES_MAX).min(bytes.len());
        let torn = bytes.get(self.end..end).unwrap_or_default();
        let kept = torn.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        torn.get(..kept).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::format::{put_entry, seal};

    fn segment(salt: u128) -> (SegmentHeader, Vec<u8>) {
        let header = SegmentHeader { first: Lsn::new(1), salt, file_bytes: 4096, before: Lsn::NONE };
        (header, header.encode().to_vec())
    }

    fn push(bytes: &mut Vec<u8>, seed: Seed, mut header: FrameHeader, entry: &[u8]) {
        let mut frame = vec![0; FRAME_HEADER_BYTES];
        put_entry(&mut frame, entry);
        header.entry_count = 1;
        header.entries_len = u32_of(frame.len() - FRAME_HEADER_BYTES);
        seal(&mut frame, header, seed, u32_of(bytes.len()));
        bytes.extend_from_slice(&frame);
    }

    fn commit(first: u64, synced_end: usize) -> FrameHeader {
        let mut header = FrameHeader::new(FrameKind::Commit, Epoch::default(), Lsn::new(first));
        header.synced_end = u32_of(synced_end);
        header
    }

    fn sample() -> (SegmentHeader, Vec<u8>, Vec<usize>) {
        let (header, mut bytes) = segment(5);
        push(&mut bytes, header.seed(), FrameHeader::new(FrameKind::Head, Epoch::default(), Lsn::new(1)), b"head");
        let mut ends = vec![bytes.len()];
        for first in 1..=3 {
            let before = if first == 3 { ends[1] } else { 0 };
            push(&mut bytes, header.seed(), commit(first, before), b"some entry");
            ends.push(bytes.len());
        }
        bytes.resize(4096, 0);
        (header, bytes, ends)
    }

    #[test]
    fn a_tail_ends_cleanly_in_zeros() {
        let (header, bytes, ends) = sample();
        let tail = Tail::read(&bytes, &header);
        assert_eq!((tail.stop, tail.end, tail.last), (Stop::Clean, ends[3], Lsn::new(3)));
        assert!(tail.torn(&bytes).is_empty() && !tail.lacks_proven());
    }

    #[test]
    fn a_bad_frame_is_damage_if_a_later_one_proves_it_and_a_tear_if_not() {
        let (header, good, ends) = sample();
        for byte in SEGMENT_HEADER_BYTES..ends[3] {
            let mut bytes = good.clone();
            bytes[byte] ^= 4;
            let tail = Tail::read(&bytes, &header);
            let frame = ends.iter().filter(|end| **end <= byte).count();
            assert_eq!(tail.end, if frame == 0 { SEGMENT_HEADER_BYTES } else { ends[frame - 1] }, "byte {byte}");
            assert!(matches!(tail.stop, Stop::Bad(_)), "byte {byte}");
            // The third commit proves the first; nothing proves the second and the third.
            assert_eq!(tail.lacks_proven(), frame < 2, "byte {byte} in frame {frame}");
            assert!(!tail.torn(&bytes).is_empty());
        }
    }

    #[test]
    fn a_frame_wiped_to_zeros_is_still_missed_by_those_behind_it() {
        let (header, mut bytes, ends) = sample();
        bytes[ends[0]..ends[1]].fill(0);
        let tail = Tail::read(&bytes, &header);
        assert_eq!((tail.stop, tail.end), (Stop::Clean, ends[0]));
        assert!(tail.lacks_proven());
        assert!(!tail.torn(&bytes).is_empty());
    }

    #[test]
    fn an_earlier_use_of_the_file_and_a_copied_frame_are_not_frames() {
        let (_, old, ends) = sample();
        let (header, _) = segment(6);
        let mut bytes = old.clone();
        bytes[..SEGMENT_HEADER_BYTES].copy_from_slice(&header.encode());
        let tail = Tail::read(&bytes, &header);
        assert!(!tail.has_head && tail.later_end == tail.end);
        let (header, mut bytes, _) = sample();
        let frame = bytes[ends[1]..ends[2]].to_vec();
        bytes[ends[3]..ends[3] + frame.len()].copy_from_slice(&frame);
        let tail = Tail::read(&bytes, &header);
        assert_eq!((tail.end, tail.later_end), (ends[3], ends[3]));
    }

    #[test]
    fn lengths_from_hell_neither_allocate_nor_panic() {
        let (header, mut bytes) = segment(5);
        let mut head = FrameHeader::new(FrameKind::Head, Epoch::default(), Lsn::new(1));
        (head.entries_len, head.entry_count) = (4, 1);
        let mut frame = vec![0; FRAME_HEADER_BYTES + 4];
        frame[FRAME_HEADER_BYTES..].fill(0xff);
        seal(&mut frame, head, header.seed(), u32_of(bytes.len()));
        bytes.extend_from_slice(&frame);
        assert!(matches!(Tail::read(&bytes, &header).stop, Stop::Bad(_)));
        bytes.truncate(bytes.len() - 1);
        assert!(matches!(Tail::read(&bytes, &header).stop, Stop::Bad(_)));
        assert!(Entries(&[0xff; 9]).next().is_none());
        assert!(Records::new(&[0xff; 64], 0).next().is_none());
    }
}
