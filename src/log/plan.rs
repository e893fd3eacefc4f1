//! What lies in the log directory, and where the log ends: everything recovery decides before it
//! changes a byte. Reads only; `check` uses it as well.

use std::io;
use std::path::Path;

use crate::disk::{Disk, DiskFile, read_full};
use crate::log::error::opening;
use crate::log::files::{FileKind, file_kind, segment_name};
use crate::log::format::{
    BadHeader, FORMAT, FRAME_HEADER_BYTES, FrameHeader, SEGMENT_HEADER_BYTES, SegmentHeader, u32_of,
};
use crate::log::newest::read_newest;
use crate::log::scan::{Frame, Frames, Stop, Tail};
use crate::log::{CleanMark, Epoch, OpenError, Options, Place, Strictness};
use crate::model::Lsn;

/// Largest file that is taken for a segment; one that recovery wrote may be longer than the others.
const SEGMENT_FILE_BYTES_MAX: u64 = 2 * Options::SEGMENT_BYTES_MAX;

/// The log directory, sorted by kind.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) segments: Vec<Lsn>,
    pub(crate) spares: Vec<u64>,
    pub(crate) torn: Vec<String>,
    pub(crate) temporary: Vec<String>,
}

impl Directory {
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Self> {
        let mut directory = Self::default();
        for name in disk.list(dir)? {
            match file_kind(&name) {
                FileKind::Segment(first) => directory.segments.push(first),
                FileKind::Spare(number) => directory.spares.push(number),
                FileKind::Torn => directory.torn.push(name),
                FileKind::Temporary => directory.temporary.push(name),
                FileKind::Unknown => {}
            }
        }
        directory.segments.sort_unstable();
        directory.spares.sort_unstable();
        directory.torn.sort_unstable();
        Ok(directory)
    }
}

/// A segment read whole.
pub(crate) struct Loaded {
    pub(crate) header: SegmentHeader,
    /// At most as many bytes as the header says.
    pub(crate) bytes: Vec<u8>,
}

impl Loaded {
    /// Whether the file is shorter than it was made.
    pub(crate) fn is_short(&self) -> bool {
        (self.bytes.len() as u64) < self.header.file_bytes
    }
}

pub(crate) fn damaged(first: Lsn, at_byte: usize, why: &str) -> OpenError {
    OpenError::Damaged { file: segment_name(first), at_byte: at_byte as u64, why: why.to_owned() }
}

/// Reads the header of a segment.
pub(crate) fn load_header(
    disk: &dyn Disk,
    dir: &Path,
    first: Lsn,
) -> Result<(SegmentHeader, std::sync::Arc<dyn DiskFile>), OpenError> {
    let path = dir.join(segment_name(first));
    let file = disk.open_read(&path).map_err(opening("open", &path))?;
    let mut front = [0; SEGMENT_HEADER_BYTES];
    let got = read_full(&*file, 0, &mut front).map_err(opening("read", &path))?;
    let header = SegmentHeader::decode(front.get(..got).unwrap_or_default()).map_err(|bad| match bad {
        BadHeader::Newer(found) => OpenError::Newer { file: segment_name(first), found, known: FORMAT.into() },
        BadHeader::Damaged(why) => damaged(first, 0, why),
    })?;
    if header.first != first {
        return Err(damaged(first, 16, "the file holds another segment than its name says"));
    }
    if header.file_bytes > SEGMENT_FILE_BYTES_MAX {
        return Err(damaged(first, 40, "the segment is longer than any may be"));
    }
    Ok((header, file))
}

/// Reads which life began a segment.
pub(crate) fn head_epoch(disk: &dyn Disk, dir: &Path, first: Lsn) -> Result<Epoch, OpenError> {
    let (header, file) = load_header(disk, dir, first)?;
    let mut front = [0; FRAME_HEADER_BYTES];
    let path = dir.join(segment_name(first));
    read_full(&*file, SEGMENT_HEADER_BYTES as u64, &mut front).map_err(opening("read", &path))?;
    let head = FrameHeader::decode(&front, header.seed(), u32_of(SEGMENT_HEADER_BYTES));
    let head = head.ok_or_else(|| damaged(first, SEGMENT_HEADER_BYTES, "the head frame is not as it was written"))?;
    Ok(head.epoch)
}

/// Reads a segment whole.
pub(crate) fn load(disk: &dyn Disk, dir: &Path, first: Lsn) -> Result<Loaded, OpenError> {
    let (header, file) = load_header(disk, dir, first)?;
    let path = dir.join(segment_name(first));
    let len = file.len().map_err(opening("measure", &path))?.min(header.file_bytes);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let got = read_full(&*file, 0, &mut bytes).map_err(opening("read", &path))?;
    bytes.truncate(got);
    Ok(Loaded { header, bytes })
}

/// Walks the frames of a segment that has a successor; they must lead exactly up to it. Answers where
/// they end.
pub(crate) fn walk(
    loaded: &Loaded,
    next: Lsn,
    place: Place,
    mut each: impl FnMut(Frame<'_>) -> Result<(), OpenError>,
) -> Result<usize, OpenError> {
    let first = loaded.header.first;
    let mut frames = Frames::new(&loaded.bytes, &loaded.header);
    // At least the head frame, also of a segment that ends where it begins.
    while frames.position == SEGMENT_HEADER_BYTES || frames.expected < next {
        let frame = frames.step().map_err(|stop| match (stop, place) {
            (Stop::Clean, Place::Original) => {
                damaged(first, frames.position, "frames are missing before the next segment")
            }
            (Stop::Clean, Place::Copy) => OpenError::CopyLacks { file: segment_name(frames.expected) },
            (Stop::Bad(why), _) => damaged(first, frames.position, why),
        })?;
        if frame.header.next() > next {
            return Err(damaged(first, frame.position as usize, "a frame reaches into the next segment"));
        }
        each(frame)?;
    }
    Ok(frames.position)
}

/// What a log is opened with, as far as reading it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) place: Place,
    pub(crate) strictness: Strictness,
    pub(crate) mark: Option<CleanMark>,
    /// Proven durable by somebody else: the receiver's own checkpoint.
    pub(crate) known: Lsn,
}

impl Rules {
    /// The highest lsn that something outside the log proves durable. Of a copy nothing does: its parts are
    /// of different ages.
    fn durable(&self) -> Lsn {
        match self.place {
            Place::Original => self.mark.map_or(Lsn::NONE, |mark| mark.last).max(self.known),
            Place::Copy => Lsn::NONE,
        }
    }
}

/// Where the log begins and ends.
pub(crate) struct Plan {
    /// First lsns of the segments from the first kept one to the last.
    pub(crate) kept: Vec<Lsn>,
    pub(crate) first_kept: Lsn,
    pub(crate) last: Loaded,
    pub(crate) tail: Tail,
    /// Of a copy: segments behind a gap.
    pub(crate) aside: Vec<Lsn>,
}

impl Plan {
    /// Decides; `None` for a directory without a log.
    pub(crate) fn make(
        disk: &dyn Disk,
        dir: &Path,
        directory: &Directory,
        rules: Rules,
    ) -> Result<Option<Self>, OpenError> {
        let (mut segments, mut aside) = (directory.segments.clone(), Vec::new());
        if rules.place == Place::Original {
            newest_is_there(disk, dir, segments.last().copied())?;
        }
        let Some(last_first) = segments.last().copied() else {
            return no_log(rules).map(|()| None);
        };
        let (last, tail) = match rules.place {
            Place::Original => load_tail(disk, dir, last_first)?,
            Place::Copy => copied_tail(disk, dir, &mut segments, &mut aside)?,
        };
        let plan = Self { kept: Vec::new(), first_kept: tail.first_kept, last, tail, aside };
        plan.judge(rules)?;
        let kept: Vec<Lsn> = segments.into_iter().filter(|first| *first >= plan.first_kept).collect();
        if kept.first() != Some(&plan.first_kept) {
            let file = segment_name(plan.first_kept);
            let last = plan.tail.last;
            let why = match plan.tail.stop {
                Stop::Clean => format!("the log begins with it and ends at lsn {last}"),
                // A frame behind there said that the log begins later, or it would not have been dropped.
                Stop::Bad(bad) => {
                    let (file, end) = (segment_name(plan.last.header.first), plan.tail.end);
                    format!("the log begins with it and ends at lsn {last}, in {file} at byte {end}: {bad}")
                }
            };
            return Err(match rules.place {
                Place::Original => OpenError::MissingSegment { file, why },
                Place::Copy => OpenError::CopyLacks { file },
            });
        }
        if rules.place == Place::Original {
            each_follows_the_one_before(disk, dir, &kept)?;
        }
        Ok(Some(Self { kept, ..plan }))
    }

    /// Torn, or damaged?
    fn judge(&self, rules: Rules) -> Result<(), OpenError> {
        let (first, tail) = (self.last.header.first, &self.tail);
        let why = match tail.stop {
            Stop::Clean => "frames that were durable are missing",
            Stop::Bad(why) => why,
        };
        if rules.place == Place::Original {
            if self.last.is_short() {
                return Err(damaged(first, self.last.bytes.len(), "the file is shorter than it was made"));
            }
            if tail.lacks_proven() {
                return Err(damaged(first, tail.end, why));
            }
            let marked = rules.mark.map_or(0, |mark| mark.epoch.counter);
            if tail.last < rules.durable() || tail.epoch.counter < marked {
                let why = format!("the log ends at lsn {}, but {} was durable", tail.last, rules.durable());
                return Err(damaged(first, tail.end, &why));
            }
        }
        let cuts = !self.aside.is_empty() || !tail.torn(&self.last.bytes).is_empty();
        if cuts && rules.strictness == Strictness::RefuseEveryCut {
            return Err(OpenError::Torn { file: segment_name(first), at_byte: tail.end as u64 });
        }
        Ok(())
    }

    /// Whether a good frame of the last segment was durable for sure.
    pub(crate) fn proves(&self, frame: &Frame<'_>, rules: Rules) -> bool {
        frame.end() <= self.tail.proven_end || frame.header.next() <= self.tail.proven.max(rules.durable()).next()
    }
}

/// The last segment is missed by what was told of it.
fn newest_is_there(disk: &dyn Disk, dir: &Path, last: Option<Lsn>) -> Result<(), OpenError> {
    let newest = read_newest(disk, dir)?;
    if newest <= last.unwrap_or(Lsn::NONE) {
        return Ok(());
    }
    let why =
        last.map_or_else(|| "no segment is there".to_owned(), |last| format!("{} is the last", segment_name(last)));
    Err(OpenError::MissingSegment {
        file: segment_name(newest),
        why: format!("it was the newest of the log, now {why}"),
    })
}

/// Every segment tells the one before it, so that one that is gone is missed even where the index knows what was
/// in it and nobody reads its frames.
fn each_follows_the_one_before(disk: &dyn Disk, dir: &Path, kept: &[Lsn]) -> Result<(), OpenError> {
    for (before, first) in kept.iter().zip(kept.iter().skip(1)) {
        let (header, _) = load_header(disk, dir, *first)?;
        if header.before > *before {
            let why = format!("{} follows it", segment_name(*first));
            return Err(OpenError::MissingSegment { file: segment_name(header.before), why });
        }
    }
    Ok(())
}

/// A directory without segments is a new log, unless a clean stop or a checkpoint says otherwise.
fn no_log(rules: Rules) -> Result<(), OpenError> {
    if rules.mark.is_none() && rules.known == Lsn::NONE {
        return Ok(());
    }
    let last = rules.mark.map_or(rules.known, |mark| mark.last.max(rules.known));
    let why = format!("the log had entries up to lsn {last}");
    Err(OpenError::MissingSegment { file: "*.seg".to_owned(), why })
}

fn load_tail(disk: &dyn Disk, dir: &Path, first: Lsn) -> Result<(Loaded, Tail), OpenError> {
    let loaded = load(disk, dir, first)?;
    let tail = Tail::read(&loaded.bytes, &loaded.header);
    if !tail.has_head {
        // The head was durable before the segment got its name.
        return Err(damaged(first, SEGMENT_HEADER_BYTES, "the head frame is not as it was written"));
    }
    Ok((loaded, tail))
}

/// The tail of a copy. While it was taken the original went on writing, so the last segment listed may
/// have been copied at a later time than the one before it; a gap between the two is then no damage. A gap
/// further to the front is: no tool lists a directory that slowly.
fn copied_tail(
    disk: &dyn Disk,
    dir: &Path,
    segments: &mut Vec<Lsn>,
    aside: &mut Vec<Lsn>,
) -> Result<(Loaded, Tail), OpenError> {
    let mut back = segments.iter().rev().copied();
    let (last, before) = (back.next().unwrap_or_default(), back.next());
    let found = load_tail(disk, dir, last);
    let Some(before) = before else { return found };
    let whole = match &found {
        Ok((_, tail)) if before < tail.first_kept => true,
        Ok(_) => load(disk, dir, before).and_then(|loaded| walk(&loaded, last, Place::Copy, |_| Ok(()))).is_ok(),
        Err(OpenError::Damaged { .. }) => false,
        Err(_) => true,
    };
    if whole {
        return found;
    }
    let shorter = load_tail(disk, dir, before)?;
    segments.pop();
    aside.push(last);
    Ok(shorter)
}
