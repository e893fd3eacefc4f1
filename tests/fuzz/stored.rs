//! The files of the log and the mark of a clean stop, as any bytes: what is read back was written, or the answer is an
//! error. Half of the cases have their checksums put right again, so that what lies behind them is reached.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use crc32fast::Hasher;
use windlass::clock::ManualClock;
use windlass::disk::sim::SimDisk;
use windlass::log::{Loc, OpenError, Place, check, read_mark};

use crate::drive::Verdict;
use crate::log_rig::{
    Mirror, SEGMENT_BYTES, append, body_of, data_dir, log_dir, new_disk, open, options, roll, stop, try_open,
};

const SEGMENT_HEADER_BYTES: usize = 64;
const FRAME_HEADER_BYTES: usize = 96;
const RECORD_HEADER_BYTES: usize = 28;

/// The first byte of an input says what is done with the rest of it.
const SECOND_SEGMENT: u8 = 1;
const WITH_CHECKSUMS: u8 = 2;
const AS_SHORT_AS_IT_IS: u8 = 4;

/// A log of two segments, closed without a word, and what it holds.
pub struct Written {
    segments: [(PathBuf, Vec<u8>); 2],
    mirror: Mirror,
    bodies: BTreeSet<Vec<u8>>,
    lives: u64,
}

impl Written {
    pub fn new() -> Self {
        let (disk, clock) = (new_disk(1), Arc::new(ManualClock::new(42)));
        let (mut log, _, mut mirror) = open(&disk, &clock);
        let mut bodies = BTreeSet::new();
        for tag in 0..12 {
            if tag == 6 {
                roll(&mut log, &clock);
            }
            let body_bytes = if tag % 3 == 0 { 0 } else { 10 + 40 * tag as usize };
            let (lsn, entry, loc) = append(&mut log, &clock, tag, body_bytes);
            mirror.entries.insert(lsn, entry);
            if let Some(loc) = loc {
                mirror.locs.insert(lsn, loc);
                bodies.insert(body_of(tag, body_bytes));
            }
            log.sync().unwrap();
        }
        let used: Vec<usize> = log.segments().iter().map(|segment| segment.used_bytes as usize).collect();
        drop(log);
        let segment = |first: u64, used: usize| {
            let path = log_dir().join(format!("{first:020}.seg"));
            let bytes = disk.dump(&path).unwrap()[..used].to_vec();
            (path, bytes)
        };
        Self { segments: [segment(1, used[0]), segment(7, used[1])], mirror, bodies, lives: 1_000 }
    }

    /// Both segments as inputs, and each with its checksums put right.
    pub fn good(&self) -> Vec<Vec<u8>> {
        let what = [0, SECOND_SEGMENT, WITH_CHECKSUMS, SECOND_SEGMENT | WITH_CHECKSUMS];
        let input = |what: u8| [&[what], &self.segments[usize::from(what & SECOND_SEGMENT)].1[..]].concat();
        what.into_iter().map(input).collect()
    }

    /// A disk with the log, one of its segments being the input.
    fn disk(&self, what: u8, bytes: &[u8]) -> SimDisk {
        let disk = new_disk(1);
        for (number, (path, good)) in self.segments.iter().enumerate() {
            let is_other = number != usize::from(what & SECOND_SEGMENT);
            let mut file = if is_other { good.clone() } else { bytes.to_vec() };
            if !is_other && what & WITH_CHECKSUMS != 0 {
                put_right(&mut file);
            }
            if is_other || what & AS_SHORT_AS_IT_IS == 0 {
                file.resize(SEGMENT_BYTES as usize, 0);
            }
            disk.put(path, file);
        }
        disk
    }

    pub fn case(&mut self, input: &[u8]) -> Verdict {
        let Some((what, bytes)) = input.split_first() else { return Verdict::Unsent };
        let disk = self.disk(*what, bytes);
        let checked = check(&disk, &data_dir(), Place::Original, None, &mut |_| {});
        self.lives += 1;
        let mut mirror = Mirror::default();
        let opened = try_open(&disk, &Arc::new(ManualClock::new(self.lives)), options(), None, &mut mirror);
        if what & WITH_CHECKSUMS == 0 {
            for (lsn, entry) in &mirror.entries {
                assert_eq!(self.mirror.entries.get(lsn), Some(entry), "lsn {lsn} was never written so");
            }
        }
        match (checked.ok().filter(|report| report.damage.is_none()).ok_or("damaged"), opened) {
            (Ok(checked), Ok((_, report))) => {
                assert_eq!((checked.last, checked.torn.is_some()), (report.last, !report.cut.is_empty()));
                Verdict::Accepted
            }
            // A checker that knows the bytes cannot know what a receiver of the entries makes of them; and it also
            // reads what opening has no need of, such as records.
            (Err(_), opened) => {
                drop(opened);
                Verdict::Refused
            }
            (Ok(_), Err(error)) => {
                assert!(what & WITH_CHECKSUMS != 0, "the check says it is whole, and opening says {error}");
                assert!(!matches!(error, OpenError::Io { .. }), "{error}");
                Verdict::Refused
            }
        }
    }

    /// Places of records, in three numbers: of the good ones all, of others none that was never written.
    pub fn places(&self) -> Vec<Vec<u8>> {
        let place = |loc: &Loc| format!("{} {} {}", loc.segment, loc.position, loc.length).into_bytes();
        self.mirror.locs.values().map(place).collect()
    }

    /// Reads the record that a place names.
    pub fn record_case(&self) -> impl FnMut(&[u8]) -> Verdict {
        let disk = self.disk(0, &self.segments[0].1);
        let (log, _, mirror) = open(&disk, &Arc::new(ManualClock::new(7)));
        let (reader, bodies) = (log.reader(), self.bodies.clone());
        // Recovery has written the end of the log anew: the old places of it may be read still, the new ones must.
        let places: Vec<Loc> = mirror.locs.values().copied().collect();
        let known: Vec<Loc> = places.iter().chain(self.mirror.locs.values()).copied().collect();
        move |input| {
            let _alive = &log;
            let text = String::from_utf8_lossy(input);
            let mut numbers = text.split(' ').map(str::parse::<u64>);
            let (Some(Ok(segment)), Some(Ok(position)), Some(Ok(length))) =
                (numbers.next(), numbers.next(), numbers.next())
            else {
                return Verdict::Unsent;
            };
            let loc = Loc { segment, position: position as u32, length: length as u32 };
            let Ok(record) = reader.read(loc) else {
                assert!(!places.contains(&loc), "{loc:?} was not read");
                return Verdict::Refused;
            };
            assert!(known.contains(&loc), "there is no record at {loc:?}");
            assert!(bodies.contains(&record.body[..]), "the record at {loc:?} was never written so");
            Verdict::Accepted
        }
    }
}

/// Puts the checksums of a segment right, as far as its lengths lead.
fn put_right(bytes: &mut [u8]) {
    let Some((header, _)) = bytes.split_at_mut_checked(SEGMENT_HEADER_BYTES) else { return };
    let crc = crc32fast::hash(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    let seed = crc32fast::hash(&header[24..40]);
    let mut at = SEGMENT_HEADER_BYTES;
    while let Some(frame) = bytes.get_mut(at..).filter(|frame| frame.len() >= FRAME_HEADER_BYTES) {
        let length = |from: usize| u32::from_le_bytes(frame[from..from + 4].try_into().unwrap()) as usize;
        let (records_bytes, entries_bytes) = (length(76), length(80));
        let end = FRAME_HEADER_BYTES + records_bytes + entries_bytes;
        let part = |bytes: &[u8]| {
            let mut hasher = Hasher::new_with_initial(seed);
            hasher.update(&(at as u32).to_le_bytes());
            hasher.update(bytes);
            hasher.finalize().to_le_bytes()
        };
        if end <= frame.len() {
            let (records, entries) = frame[FRAME_HEADER_BYTES..end].split_at_mut(records_bytes);
            put_records_right(records, seed);
            let (records, entries) = (part(records), part(entries));
            frame[84..88].copy_from_slice(&records);
            frame[88..92].copy_from_slice(&entries);
        }
        let header = part(&frame[..92]);
        frame[92..96].copy_from_slice(&header);
        at += end;
    }
}

fn put_records_right(mut records: &mut [u8], seed: u32) {
    while records.len() >= RECORD_HEADER_BYTES {
        let length = |from: usize| u32::from_le_bytes(records[from..from + 4].try_into().unwrap()) as usize;
        let end = RECORD_HEADER_BYTES + length(0) + length(4);
        let Some((record, rest)) = std::mem::take(&mut records).split_at_mut_checked(end) else { return };
        let mut hasher = Hasher::new_with_initial(seed);
        hasher.update(&record[..8]);
        hasher.update(&record[12..]);
        record[8..12].copy_from_slice(&hasher.finalize().to_le_bytes());
        records = rest;
    }
}

/// A directory with the mark of a clean stop, and the mark's own file.
pub fn marked() -> (PathBuf, Vec<u8>) {
    let disk = new_disk(1);
    let (mut log, _, _) = open(&disk, &Arc::new(ManualClock::new(42)));
    append(&mut log, &ManualClock::new(42), 7, 40);
    stop(log, &disk);
    let mut beside: Vec<(PathBuf, Vec<u8>)> =
        disk.files().into_iter().filter(|(path, _)| path.parent() == Some(&data_dir())).collect();
    beside.retain(|(path, _)| !path.ends_with("FORMAT"));
    assert_eq!(beside.len(), 1, "the mark is the one file there");
    beside.remove(0)
}

/// Reads a mark: the one that was written, or none.
pub fn mark_case((path, good): (PathBuf, Vec<u8>)) -> impl FnMut(&[u8]) -> Verdict {
    let read = move |bytes: &[u8]| {
        let disk = SimDisk::new(1);
        disk.put(&path, bytes.to_vec());
        read_mark(&disk, &data_dir())
    };
    move |input| match read(input) {
        Ok(Some(_)) => {
            assert_eq!(input, good, "a mark that nobody wrote was believed");
            Verdict::Accepted
        }
        Ok(None) => panic!("a mark that is there was not seen"),
        Err(_) => {
            assert_ne!(input, good);
            Verdict::Refused
        }
    }
}
