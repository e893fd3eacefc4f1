//! Verifies a log without changing it, for `windlass check`: every frame, entry and record.

use std::path::Path;

use crate::disk::Disk;
use crate::log::error::opening;
use crate::log::files::segment_name;
use crate::log::format::Seed;
use crate::log::plan::{Directory, Plan, Rules, damaged, load, walk};
use crate::log::scan::{Frame, Frames};
use crate::log::{CleanMark, CutTail, Epoch, OpenError, Place, Strictness};
use crate::model::Lsn;

/// Where a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Segments done.
    pub done: usize,
    /// Segments in all.
    pub segments: usize,
}

/// The first damage of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Name of the file.
    pub file: String,
    /// Where the damage begins.
    pub at_byte: u64,
    /// What is wrong there.
    pub why: String,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// Segments read.
    pub segments: u64,
    /// Whole frames.
    pub frames: u64,
    /// Entries in them.
    pub entries: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of the whole frames.
    pub bytes: u64,
    /// The last lsn.
    pub last: Lsn,
    /// The life that wrote it.
    pub epoch: Epoch,
    /// A torn tail, which the next start would cut.
    pub torn: Option<CutTail>,
    /// The first damage; nothing behind it was looked at.
    pub damage: Option<Damage>,
}

/// Verifies the log in `data_dir/log`. Reads only. Damage is part of the report; an error means that the
/// check itself could not go on.
pub fn check(
    disk: &dyn Disk,
    data_dir: &Path,
    place: Place,
    mark: Option<CleanMark>,
    progress: &mut dyn FnMut(Progress),
) -> Result<CheckReport, OpenError> {
    let mut report = CheckReport::default();
    match check_all(
        disk,
        &data_dir.join("log"),
        Rules { place, strictness: Strictness::CutTornTail, mark, known: Lsn::NONE },
        progress,
        &mut report,
    ) {
        Ok(()) => {}
        Err(OpenError::Damaged { file, at_byte, why }) => report.damage = Some(Damage { file, at_byte, why }),
        Err(OpenError::CopyLacks { file }) => {
            let why = "it is missing: it was dropped while this copy was taken".to_owned();
            report.damage = Some(Damage { file, at_byte: 0, why });
        }
        Err(OpenError::MissingSegment { file, why }) => report.damage = Some(Damage { file, at_byte: 0, why }),
        Err(error) => return Err(error),
    }
    Ok(report)
}

fn check_all(
    disk: &dyn Disk,
    dir: &Path,
    rules: Rules,
    progress: &mut dyn FnMut(Progress),
    report: &mut CheckReport,
) -> Result<(), OpenError> {
    let directory = Directory::read(disk, dir).map_err(opening("list", dir))?;
    let Some(plan) = Plan::make(disk, dir, &directory, rules)? else { return Ok(()) };
    let segments = plan.kept.len();
    for (done, (first, next)) in plan.kept.iter().zip(plan.kept.iter().skip(1)).enumerate() {
        progress(Progress { done, segments });
        let loaded = load(disk, dir, *first)?;
        if loaded.is_short() && rules.place == Place::Original {
            return Err(damaged(*first, loaded.bytes.len(), "the file is shorter than it was made"));
        }
        walk(&loaded, *next, rules.place, |frame| check_frame(*first, &frame, loaded.header.seed(), report))?;
        report.segments += 1;
    }
    let (first, seed) = (plan.last.header.first, plan.last.header.seed());
    let mut frames = Frames::new(&plan.last.bytes, &plan.last.header);
    while let Ok(frame) = frames.step() {
        check_frame(first, &frame, seed, report)?;
    }
    report.segments += 1;
    report.last = plan.tail.last;
    report.epoch = plan.tail.epoch;
    let torn = plan.tail.torn(&plan.last.bytes);
    if !torn.is_empty() {
        let (at_byte, bytes) = (plan.tail.end as u64, torn.len() as u64);
        report.torn = Some(CutTail { file: segment_name(first), at_byte, bytes, kept_as: None });
    }
    progress(Progress { done: segments, segments });
    Ok(())
}

fn check_frame(segment: Lsn, frame: &Frame<'_>, seed: Seed, report: &mut CheckReport) -> Result<(), OpenError> {
    for (position, record) in frame.records() {
        if !record.is_whole(seed) {
            return Err(damaged(segment, position as usize, "the checksum of a record is wrong"));
        }
        report.records += 1;
    }
    report.frames += 1;
    report.entries += u64::from(frame.header.entry_count);
    report.bytes += frame.header.frame_bytes();
    Ok(())
}
