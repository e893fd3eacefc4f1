//! Reads a log in order without changing it, for `windlass dump`: every whole frame up to the first damage.

use std::path::Path;

use crate::disk::Disk;
use crate::log::error::opening;
use crate::log::files::segment_name;
use crate::log::format::Seed;
use crate::log::plan::{Directory, damaged, load, walk};
use crate::log::scan::{Frame, Frames, Tail};
use crate::log::{Damage, Entries, Epoch, FrameKind, OpenError, Place};
use crate::model::{Lsn, Millis};

/// A frame as it lies in the log.
#[derive(Debug)]
pub struct SeenFrame<'a> {
    /// Name of its file.
    pub file: &'a str,
    /// Where it begins there.
    pub at_byte: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Whose entries it holds.
    pub kind: FrameKind,
    /// The life that wrote it.
    pub epoch: Epoch,
    /// Lsn of its first entry.
    pub first: Lsn,
    /// Highest lsn known durable when it was written.
    pub synced: Lsn,
    /// Log clock.
    pub time: Millis,
    /// Boot time.
    pub boot: Millis,
    /// Messages in it.
    pub records: u32,
    /// Its entries.
    pub entries: Entries<'a>,
}

/// Shows every frame of the log in `data_dir/log` from the oldest segment on; ends at the first damage, which it
/// gives back. Behind the last whole frame of the last segment it looks at nothing: whether what is there is torn
/// or damaged is for `check` to say.
pub fn look(
    disk: &dyn Disk,
    data_dir: &Path,
    place: Place,
    each: &mut dyn FnMut(SeenFrame<'_>),
) -> Result<Option<Damage>, OpenError> {
    let dir = data_dir.join("log");
    let directory = Directory::read(disk, &dir).map_err(opening("list", &dir))?;
    match look_all(disk, &dir, &kept(disk, &dir, &directory), place, each) {
        Ok(()) => Ok(None),
        Err(OpenError::Damaged { file, at_byte, why }) => Ok(Some(Damage { file, at_byte, why })),
        Err(error) => Err(error),
    }
}

/// The segments that the newest one still needs; all of them, if it does not say.
fn kept(disk: &dyn Disk, dir: &Path, directory: &Directory) -> Vec<Lsn> {
    let last = directory.segments.last().and_then(|last| load(disk, dir, *last).ok());
    let first_kept = last.map_or(Lsn::NONE, |last| Tail::read(&last.bytes, &last.header).first_kept);
    directory.segments.iter().copied().filter(|first| *first >= first_kept).collect()
}

fn look_all(
    disk: &dyn Disk,
    dir: &Path,
    segments: &[Lsn],
    place: Place,
    each: &mut dyn FnMut(SeenFrame<'_>),
) -> Result<(), OpenError> {
    let mut behind = segments.iter().skip(1);
    for first in segments {
        let loaded = load(disk, dir, *first)?;
        let (file, seed) = (segment_name(*first), loaded.header.seed());
        if let Some(next) = behind.next() {
            walk(&loaded, *next, place, |frame| show(*first, &file, &frame, seed, each))?;
            continue;
        }
        let mut frames = Frames::new(&loaded.bytes, &loaded.header);
        while let Ok(frame) = frames.step() {
            show(*first, &file, &frame, seed, each)?;
        }
    }
    Ok(())
}

fn show(
    segment: Lsn,
    file: &str,
    frame: &Frame<'_>,
    seed: Seed,
    each: &mut dyn FnMut(SeenFrame<'_>),
) -> Result<(), OpenError> {
    if let Some((position, _)) = frame.records().find(|(_, record)| !record.is_whole(seed)) {
        return Err(damaged(segment, position as usize, "the checksum of a record is wrong"));
    }
    let header = &frame.header;
    each(SeenFrame {
        file,
        at_byte: u64::from(frame.position),
        bytes: header.frame_bytes(),
        kind: header.kind,
        epoch: header.epoch,
        first: header.first,
        synced: header.synced,
        time: header.time,
        boot: header.boot,
        records: header.record_count,
        entries: frame.entries(),
    });
    Ok(())
}
