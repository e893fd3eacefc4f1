//! A log on a simulated disk together with what it must hold: shared by the tests of the log.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use windlass::clock::{Clock, ManualClock};
use windlass::disk::sim::SimDisk;
use windlass::log::{
    Epoch, FrameKind, FrameMeta, Known, Loc, Log, MarkError, OpenError, Opening, Options, RecoveryReport, Replay,
    ReplayFrame, ReplayStart, Urgency, read_mark, write_mark,
};
use windlass::model::{Lsn, Millis};

pub const SEGMENT_BYTES: u64 = 64 * 1024;

/// What a receiver of a replay holds: each entry, and the records pushed with it.
#[derive(Debug, Clone, Default)]
pub struct Mirror {
    pub entries: BTreeMap<u64, Vec<u8>>,
    pub locs: BTreeMap<u64, Loc>,
    pub started: Option<ReplayStart>,
    pub heads: usize,
    pub last: u64,
}

/// The one entry of a head: the last lsn before it.
pub fn head_of(last: u64) -> Vec<Vec<u8>> {
    vec![format!("head after {last}").into_bytes()]
}

impl Replay for Mirror {
    fn cut(&mut self, _cut: &windlass::log::CutTail) {}

    fn start(&mut self, start: ReplayStart) {
        if let ReplayStart::Whole(_) = start {
            *self = Self::default();
        }
        self.started = Some(start);
    }

    fn frame(&mut self, frame: &ReplayFrame<'_>) -> Result<(), String> {
        let mut records = frame.records();
        if frame.kind() == FrameKind::Head {
            let before = frame.first().get() - 1;
            let expected = head_of(before);
            let found: Vec<Vec<u8>> = frame.entries().map(|(_, entry)| entry.to_vec()).collect();
            if found != expected {
                return Err(format!("a head of lsn {before} says {found:?}"));
            }
            self.heads += 1;
            self.last = self.last.max(before);
        }
        for (lsn, entry) in frame.entries() {
            if lsn == Lsn::NONE {
                continue;
            }
            self.entries.insert(lsn.get(), entry.to_vec());
            self.last = self.last.max(lsn.get());
            // An entry that ends in `r` has a record with it.
            if entry.last() == Some(&b'r') {
                let record = records.next().ok_or("an entry has lost its record")?;
                if record.head != entry || record.id != u128::from(lsn.get()) {
                    return Err(format!("the record of lsn {lsn} is another's"));
                }
                self.locs.insert(lsn.get(), record.loc);
            }
        }
        if records.next().is_some() { Err("a record too many".to_owned()) } else { Ok(()) }
    }

    fn head(&mut self, _: Epoch) -> Vec<Vec<u8>> {
        head_of(self.last)
    }
}

pub fn options() -> Options {
    let mut options = Options::with_segment_bytes(SEGMENT_BYTES);
    options.drop_keep = Duration::from_secs(10);
    options
}

pub fn data_dir() -> PathBuf {
    PathBuf::from("/data")
}

pub fn log_dir() -> PathBuf {
    data_dir().join("log")
}

/// A disk with a data directory.
pub fn new_disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.put(&data_dir().join("FORMAT"), b"1".to_vec());
    disk
}

pub fn try_open(
    disk: &SimDisk,
    clock: &Arc<ManualClock>,
    options: Options,
    known: Option<Known>,
    mirror: &mut Mirror,
) -> Result<(Log, RecoveryReport), OpenError> {
    let clean = match read_mark(disk, &data_dir()) {
        Ok(clean) => clean,
        Err(MarkError::Io { path, source }) => return Err(OpenError::Io { doing: "read", path, source }),
        Err(error) => panic!("{error}"),
    };
    let clock = clock.clone() as Arc<dyn Clock>;
    Log::open(Opening { disk: Arc::new(disk.clone()), data_dir: data_dir(), options, clock, clean, known }, mirror)
}

pub fn open(disk: &SimDisk, clock: &Arc<ManualClock>) -> (Log, RecoveryReport, Mirror) {
    let mut mirror = Mirror::default();
    let (log, report) = try_open(disk, clock, options(), None, &mut mirror).unwrap();
    (log, report, mirror)
}

pub fn stop(log: Log, disk: &SimDisk) {
    let mark = log.stop_clean().unwrap();
    write_mark(disk, &data_dir(), mark, mark.last.get() ^ mark.epoch.random).unwrap();
}

pub fn meta(clock: &ManualClock) -> FrameMeta {
    FrameMeta { time: clock.wall(), boot: clock.boot() }
}

/// Turns the keeper until it has nothing to do.
pub fn keep(log: &Log, now: Millis) {
    use windlass::log::Step;
    while !matches!(log.prepare_spares(now).unwrap(), Step::Idle | Step::NoSpace) {}
}

/// Pushes one entry, with a record of `body_bytes` if there are any.
pub fn push(log: &mut Log, tag: u64, body_bytes: usize) -> (u64, Vec<u8>, Option<Loc>) {
    let lsn = log.last_lsn().get() + 1;
    push_at(log, lsn, tag, body_bytes)
}

pub fn push_at(log: &mut Log, lsn: u64, tag: u64, body_bytes: usize) -> (u64, Vec<u8>, Option<Loc>) {
    let kind = if body_bytes > 0 { "r" } else { "e" };
    let entry = format!("{lsn}/{tag:016x}/{kind}").into_bytes();
    let loc = (body_bytes > 0).then(|| log.push_record(u128::from(lsn), &entry, &body_of(tag, body_bytes)));
    assert_eq!(log.push_entry(&entry).get(), lsn);
    (lsn, entry, loc)
}

pub fn body_of(tag: u64, bytes: usize) -> Vec<u8> {
    tag.to_le_bytes().into_iter().cycle().take(bytes).collect()
}

/// Writes one frame of one entry.
pub fn append(log: &mut Log, clock: &ManualClock, tag: u64, body_bytes: usize) -> (u64, Vec<u8>, Option<Loc>) {
    let pushed = push(log, tag, body_bytes);
    log.write(meta(clock)).unwrap();
    pushed
}

/// Begins the next segment, making a spare if there is none.
pub fn roll(log: &mut Log, clock: &ManualClock) {
    keep(log, clock.boot());
    log.roll(&head_of(log.last_lsn().get()), Urgency::Essential).unwrap();
}

/// All segment files, by name.
pub fn segment_files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let files = disk.files().into_iter().map(|(path, bytes)| (name(&path), bytes));
    files.filter(|(name, _)| name.ends_with(".seg") && !name.starts_with("spare")).collect()
}
