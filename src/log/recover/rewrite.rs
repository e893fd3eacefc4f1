//! The segment that every opening begins: its head, then the frames that nothing proved durable.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::DiskFile;
use crate::log::error::opening;
use crate::log::files::{Segment, segment_name, spare_name};
use crate::log::format::{
    FRAME_HEADER_BYTES, FrameHeader, FrameKind, SEGMENT_HEADER_BYTES, Seed, SegmentHeader, entry_bytes, put_record,
    seal, u32_of,
};
use crate::log::keeper::{Pool, is_no_space, temporary_name};
use crate::log::plan::{Directory, Plan};
use crate::log::recover::Recovery;
use crate::log::scan::{Frame, Frames};
use crate::log::writer::{Active, Start, segment_front};
use crate::log::{Epoch, FrameMeta, OpenError, Options, Urgency};
use crate::model::Lsn;

/// Room that even a segment begun on a full disk has: for the fact that a process took over.
const LEAST_ROOM_BYTES: u64 = 4096;

/// The new segment, ready for the writer.
pub(super) struct Begun {
    pub(super) start: Start,
    pub(super) rewritten: u64,
}

/// The file that becomes the new segment.
struct Target {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    file_bytes: u64,
}

impl Recovery<'_> {
    /// Writes the new segment, makes it durable, and replays the frames that moved into it.
    pub(super) fn begin_segment(
        &mut self,
        (directory, plan): (&Directory, Option<&Plan>),
        epoch: Epoch,
        pool: &mut Pool,
    ) -> Result<Begun, OpenError> {
        let clock = self.opening.clock.clone();
        let (moved_at, first) = plan.map_or((0, Lsn::new(1)), |plan| self.first_unproven(plan));
        let last = plan.map_or(Lsn::NONE, |plan| plan.tail.last);
        let first_kept = plan.map_or(Lsn::new(1), |plan| plan.first_kept);
        let time = plan.map_or(clock.wall(), |plan| plan.tail.time.max(clock.wall()));
        let meta = FrameMeta { time, boot: clock.boot() };
        let head = self.replay.head(epoch);

        let moved_bytes = plan.map_or(0, |plan| plan.tail.end - moved_at);
        let head_bytes = FRAME_HEADER_BYTES + head.iter().map(|entry| entry_bytes(entry.len())).sum::<usize>();
        let total = (SEGMENT_HEADER_BYTES + head_bytes + moved_bytes) as u64;
        let target = self.choose_file(total, (directory, plan), pool)?;
        let kept = plan.map_or(&[][..], |plan| &plan.kept);
        let before = kept.iter().rev().find(|kept| **kept < first).copied().unwrap_or(Lsn::NONE);
        let header = SegmentHeader { first, salt: clock.random(), file_bytes: target.file_bytes, before };
        let mut frame = FrameHeader::new(FrameKind::Head, epoch, first);
        (frame.time, frame.boot, frame.first_kept) = (meta.time, meta.boot, first_kept);
        frame.synced = Lsn::new(first.get().saturating_sub(1));
        let mut bytes = segment_front(&header, frame, &head);
        let rewritten = plan.map_or(0, |plan| copy_frames(plan, moved_at, header.seed(), &mut bytes));
        assert!(bytes.len() as u64 == total, "the moved frames keep their lengths");

        self.write_segment(&target, first, &bytes)?;
        self.replay_moved(&header, &bytes)?;
        // A file that had this name is gone: it held nothing that was proven.
        self.segments.retain(|segment| segment.first != first);
        let segment = Segment::new(first, header.seed(), header.file_bytes, total, Some(target.file.clone()));
        let active = Active { segment: Arc::new(segment), file: target.file, end: total, synced_end: total };
        let start = Start { active, epoch, last, first_kept, head_bytes: head_bytes as u64, meta };
        Ok(Begun { start, rewritten })
    }

    fn replay_moved(&mut self, header: &SegmentHeader, bytes: &[u8]) -> Result<(), OpenError> {
        let mut frames = Frames::new(bytes, header);
        while let Ok(frame) = frames.step() {
            if frame.header.kind == FrameKind::Commit {
                self.hand_over(header.first, frame)?;
            }
        }
        assert!(frames.position == bytes.len(), "the moved frames read back");
        Ok(())
    }

    /// A spare, if there is one to spare; else a short new file, so that a start is fast; on a full disk a
    /// dropped segment, one of the reserve, or a file with hardly any room.
    fn choose_file(
        &mut self,
        total: u64,
        (directory, plan): (&Directory, Option<&Plan>),
        pool: &mut Pool,
    ) -> Result<Target, OpenError> {
        let options = &self.opening.options;
        let fits_spare = total + options.frame_bytes_max + FRAME_HEADER_BYTES as u64 <= options.segment_bytes;
        if fits_spare && let Some(number) = pool.take(Urgency::Ordinary, options.reserve) {
            return self.open_spare(number);
        }
        let short = (options.segment_bytes / 8).max(Options::SEGMENT_BYTES_MIN);
        let bytes = if total <= short / 2 { short } else { (total + short).next_multiple_of(4096) };
        if let Some(target) = self.create_target(bytes, pool)? {
            return Ok(target);
        }
        pool.no_space = true;
        if fits_spare {
            if let Some(target) = self.reclaim(directory, plan, pool)? {
                return Ok(target);
            }
            if let Some(number) = pool.take_last() {
                return self.open_spare(number);
            }
        }
        let bytes = (total + LEAST_ROOM_BYTES).next_multiple_of(4096);
        self.create_target(bytes, pool)?.ok_or(OpenError::NoSpace { bytes })
    }

    /// The file of a segment that the log does not need any more.
    fn reclaim(
        &mut self,
        directory: &Directory,
        plan: Option<&Plan>,
        pool: &mut Pool,
    ) -> Result<Option<Target>, OpenError> {
        let first_kept = plan.map_or(Lsn::NONE, |plan| self.first_kept_proven(plan));
        for first in directory.segments.iter().filter(|first| **first < first_kept) {
            let path = self.dir.join(segment_name(*first));
            let file = self.disk().open_read(&path).map_err(opening("open", &path))?;
            let links = file.links().map_err(opening("count the links of", &path))?;
            let file_bytes = file.len().map_err(opening("measure", &path))?;
            if links != 1 || file_bytes != self.opening.options.segment_bytes {
                continue;
            }
            // Under a segment's name nothing else may be found.
            let temporary = self.dir.join(temporary_name(pool));
            self.disk().rename(&path, &temporary).map_err(opening("rename", &path))?;
            self.disk().sync_dir(&self.dir).map_err(opening("sync", &self.dir))?;
            let file = self.disk().open(&temporary).map_err(opening("open", &temporary))?;
            self.reclaimed = Some(*first);
            return Ok(Some(Target { path: temporary, file, file_bytes }));
        }
        Ok(None)
    }

    /// Where the log begins for sure: a power cut cannot take it back.
    fn first_kept_proven(&self, plan: &Plan) -> Lsn {
        let mut frames = Frames::new(&plan.last.bytes, &plan.last.header);
        let mut first_kept = Lsn::NONE;
        while let Ok(frame) = frames.step() {
            if frame.header.kind == FrameKind::Commit && !plan.proves(&frame, self.rules) {
                break;
            }
            first_kept = first_kept.max(frame.header.first_kept);
        }
        first_kept
    }

    fn open_spare(&self, number: u64) -> Result<Target, OpenError> {
        let path = self.dir.join(spare_name(number));
        let file = self.disk().open(&path).map_err(opening("open", &path))?;
        Ok(Target { path, file, file_bytes: self.opening.options.segment_bytes })
    }

    /// A new file full of zeros; `None` if the disk has no space for it.
    fn create_target(&self, file_bytes: u64, pool: &mut Pool) -> Result<Option<Target>, OpenError> {
        let path = self.dir.join(temporary_name(pool));
        let file = match self.disk().create(&path) {
            Ok(file) => file,
            Err(error) if is_no_space(&error) => return Ok(None),
            Err(error) => return Err(opening("create", &path)(error)),
        };
        let zeros = vec![0; usize::try_from(file_bytes).unwrap_or(0)];
        // Synced at once: a file system may find out only now that it is full.
        match file.write_at(0, &zeros).and_then(|()| file.sync_data()) {
            Ok(()) => Ok(Some(Target { path, file, file_bytes })),
            Err(error) if is_no_space(&error) => {
                self.disk().unlink(&path).map_err(opening("unlink", &path))?;
                Ok(None)
            }
            Err(error) => Err(opening("fill with zeros", &path)(error)),
        }
    }

    /// Fills the file, and gives it its name only when what is in it is durable.
    fn write_segment(&self, target: &Target, first: Lsn, bytes: &[u8]) -> Result<(), OpenError> {
        let path: &Path = &target.path;
        let zeros = (target.file_bytes - bytes.len() as u64).min(FRAME_HEADER_BYTES as u64);
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len() + usize::try_from(zeros).unwrap_or(0), 0);
        target.file.write_at(0, &bytes).map_err(opening("write", path))?;
        target.file.sync_data().map_err(opening("sync", path))?;
        self.disk().rename(path, &self.dir.join(segment_name(first))).map_err(opening("rename", path))?;
        self.disk().sync_dir(&self.dir).map_err(opening("sync", &self.dir))
    }
}

/// Appends the good frames from `moved_at` on to `bytes`, sealed with another salt. Answers how many.
fn copy_frames(plan: &Plan, moved_at: usize, seed: Seed, bytes: &mut Vec<u8>) -> u64 {
    let mut frames = Frames::new(&plan.last.bytes, &plan.last.header);
    let mut count = 0;
    while let Ok(frame) = frames.step() {
        if frame.position as usize >= moved_at {
            copy_frame(&frame, seed, bytes);
            count += 1;
        }
    }
    count
}

fn copy_frame(frame: &Frame<'_>, seed: Seed, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.resize(start + FRAME_HEADER_BYTES, 0);
    for (_, record) in frame.records() {
        put_record(bytes, seed, record.id, record.head, record.body);
    }
    bytes.extend_from_slice(frame.entries);
    // It says what was durable in its old place, which means nothing in this file.
    let mut header = frame.header;
    (header.rewritten, header.synced_end) = (true, 0);
    if let Some(place) = bytes.get_mut(start..) {
        seal(place, header, seed, u32_of(start));
    }
}
