//! The one that writes: builds a frame, writes it, syncs it, begins the next segment, drops the front.
//!
//! One thread owns it. Nothing is written but into space that is allocated already: the active
//! segment, or a spare.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::clock::Clock;
use crate::disk::DiskFile;
use crate::log::files::{Segment, Shared, locked, segment_name, spare_name};
use crate::log::format::{
    FRAME_HEADER_BYTES, FrameHeader, FrameKind, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, Seed, SegmentHeader,
    entry_bytes, put_entry, put_record, record_bytes, seal, u32_of,
};
use crate::log::keeper::{Dropping, SpaceState, is_no_space};
use crate::log::{CleanMark, Epoch, Fatal, Keeper, Loc, LogReader, Pin, RollError, Step, Urgency};
use crate::model::{Lsn, Millis};
use crate::planted::{Defect, planted};

/// Whether a frame can be written without asking the disk for space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Into the active segment.
    Fits,
    /// After a [`Log::roll`].
    NeedsRoll,
    /// Not now: no spare segment is ready for this urgency.
    Full,
    /// Never: more than a frame may be.
    TooLarge,
}

/// When a frame is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameMeta {
    /// Log-clock time.
    pub time: Millis,
    /// Boot time.
    pub boot: Millis,
}

/// The segment that is written to.
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Where the next frame goes.
    pub(crate) end: u64,
    /// Bytes that are durable.
    pub(crate) synced_end: u64,
}

/// What opening found out for the writer.
pub(crate) struct Start {
    pub(crate) active: Active,
    pub(crate) epoch: Epoch,
    pub(crate) last: Lsn,
    pub(crate) first_kept: Lsn,
    pub(crate) head_bytes: u64,
    pub(crate) meta: FrameMeta,
}

/// The log, in the hands of its one writer. [`Log::open`] makes one.
pub struct Log {
    shared: Arc<Shared>,
    active: Active,
    epoch: Epoch,
    /// The last lsn written.
    last: Lsn,
    /// The last lsn that is durable.
    synced: Lsn,
    first_kept: Lsn,
    /// The first kept lsn that the frames written so far tell.
    first_kept_written: Lsn,
    /// Bytes of the last head frame: the guess for the next one.
    head_bytes: u64,
    meta: FrameMeta,
    /// Source of salts.
    clock: Arc<dyn Clock>,
    /// The frame being built: its header's place, then its records.
    frame: Vec<u8>,
    entries: Vec<u8>,
    record_count: u32,
    entry_count: u32,
}

impl Log {
    pub(crate) fn start(shared: Arc<Shared>, start: Start, clock: Arc<dyn Clock>) -> Self {
        shared.first_kept_durable.store(start.first_kept.get(), Ordering::SeqCst);
        let mut log = Self {
            shared,
            active: start.active,
            epoch: start.epoch,
            last: start.last,
            synced: start.last,
            first_kept: start.first_kept,
            first_kept_written: start.first_kept,
            head_bytes: start.head_bytes,
            meta: start.meta,
            clock,
            frame: Vec::new(),
            entries: Vec::new(),
            record_count: 0,
            entry_count: 0,
        };
        log.begin();
        log
    }

    /// The life that this opening began. Durable already.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How it is laid out and kept.
    pub fn options(&self) -> &crate::log::Options {
        &self.shared.options
    }

    /// The last lsn written.
    pub const fn last_lsn(&self) -> Lsn {
        self.last
    }

    /// The last lsn that is durable.
    pub const fn synced_lsn(&self) -> Lsn {
        self.synced
    }

    /// Where the log begins.
    pub const fn first_kept(&self) -> Lsn {
        self.first_kept
    }

    /// First lsn of the segment that is written to.
    pub fn active_segment(&self) -> u64 {
        self.active.segment.first.get()
    }

    /// Whether a frame with these records and entries (sums of [`record_bytes`] and [`entry_bytes`]) has
    /// room.
    ///
    /// [`record_bytes`]: crate::log::record_bytes
    /// [`entry_bytes`]: crate::log::entry_bytes
    pub fn room(&self, payload_bytes: usize, urgency: Urgency) -> Room {
        let bytes = (FRAME_HEADER_BYTES + payload_bytes) as u64;
        let options = &self.shared.options;
        let fresh = options.segment_bytes.saturating_sub(self.head_bytes + SEGMENT_HEADER_BYTES as u64);
        if bytes > options.frame_bytes_max || bytes > fresh {
            Room::TooLarge
        } else if bytes <= self.left() {
            Room::Fits
        } else if locked(&self.shared.pool).available(urgency, options.reserve) {
            Room::NeedsRoll
        } else {
            Room::Full
        }
    }

    /// The disk is full, and the reserve is not whole: what room there is belongs to acks.
    pub fn lives_on_reserve(&self) -> bool {
        let pool = locked(&self.shared.pool);
        pool.no_space && pool.spares.len() < self.shared.options.reserve
    }

    /// Most bytes of the head of a segment: a frame of any allowed size must fit behind it.
    pub fn head_bytes_max(&self) -> u64 {
        let options = &self.shared.options;
        options.segment_bytes - options.frame_bytes_max - 2 * FRAME_HEADER_BYTES as u64
    }

    /// Whether the frame being built takes this much more payload.
    pub fn fits(&self, payload_bytes: usize) -> bool {
        let bytes = (self.frame_len() + payload_bytes) as u64;
        bytes <= self.left().min(self.shared.options.frame_bytes_max)
    }

    fn left(&self) -> u64 {
        self.active.segment.file_bytes.saturating_sub(self.active.end)
    }

    /// Bytes of the frame being built.
    pub fn frame_len(&self) -> usize {
        self.frame.len() + self.entries.len()
    }

    /// Forgets the frame being built, if any, and begins the next.
    pub fn begin(&mut self) {
        self.frame.clear();
        self.frame.resize(FRAME_HEADER_BYTES, 0);
        self.entries.clear();
        (self.record_count, self.entry_count) = (0, 0);
    }

    /// Adds a record to the frame being built. Its place is final as soon as the frame is written.
    ///
    /// The caller has asked [`Log::room`] or [`Log::fits`].
    pub fn push_record(&mut self, id: u128, head: &[u8], body: &[u8]) -> Loc {
        assert!(self.fits(record_bytes(head.len(), body.len())), "a record is only added where it fits");
        let at = self.active.end + self.frame.len() as u64;
        put_record(&mut self.frame, self.active.segment.seed, id, head, body);
        self.record_count += 1;
        Loc {
            segment: self.active.segment.first.get(),
            position: u32::try_from(at).unwrap_or(u32::MAX),
            length: u32_of(RECORD_HEADER_BYTES + head.len() + body.len()),
        }
    }

    /// Adds an entry to the frame being built and answers the lsn it will have.
    pub fn push_entry(&mut self, content: &[u8]) -> Lsn {
        assert!(self.fits(entry_bytes(content.len())), "an entry is only added where it fits");
        put_entry(&mut self.entries, content);
        self.entry_count += 1;
        self.last.plus(u64::from(self.entry_count))
    }

    /// Writes the frame that was built and begins the next; answers the last lsn. On return it survives a
    /// crash of the process, not yet a power cut. A frame without entries is allowed: it stamps the time.
    pub fn write(&mut self, meta: FrameMeta) -> Result<Lsn, Fatal> {
        self.shared.go_on()?;
        assert!(self.record_count == 0 || self.entry_count > 0, "a record is written with the entry that names it");
        let mut header = FrameHeader::new(FrameKind::Commit, self.epoch, self.last.next());
        (header.time, header.boot) = (meta.time, meta.boot);
        (header.synced, header.synced_end) = (self.synced, self.offset(self.active.synced_end));
        header.first_kept = self.first_kept;
        (header.record_count, header.entry_count) = (self.record_count, self.entry_count);
        header.records_len = u32_of(self.frame.len() - FRAME_HEADER_BYTES);
        header.entries_len = u32_of(self.entries.len());
        self.frame.extend_from_slice(&self.entries);
        let length = self.frame.len();
        let position = self.offset(self.active.end);
        seal(&mut self.frame, header, self.active.segment.seed, position);
        // Zeros behind the frame: recovery takes anything else for a torn or damaged frame. Up to the end of a
        // page, so that the system need not read the rest of that page before it takes ours.
        self.frame.resize(with_zeros(self.active.end, length, self.active.segment.file_bytes), 0);
        let written = match self.active.file.write_at(self.active.end, &self.frame) {
            Err(error) if is_no_space(&error) && planted(Defect::GoOnWithoutSpace) => Ok(()),
            written => written,
        };
        written.map_err(|source| self.shared.fatal("write to", &self.active_path(), source))?;
        self.active.end += length as u64;
        self.active.segment.used.store(self.active.end, Ordering::Release);
        self.last = self.last.plus(u64::from(self.entry_count));
        (self.first_kept_written, self.meta) = (self.first_kept, meta);
        self.begin();
        Ok(self.last)
    }

    fn offset(&self, position: u64) -> u32 {
        u32::try_from(position).unwrap_or_else(|_| panic!("byte {position} lies within a segment"))
    }

    fn active_path(&self) -> PathBuf {
        self.shared.segment_path(self.active.segment.first)
    }

    /// Makes everything written durable; answers the last lsn. Not while a [`PendingSync`] is under way.
    pub fn sync(&mut self) -> Result<Lsn, Fatal> {
        self.shared.go_on()?;
        let sync = self.begin_sync();
        if self.active.synced_end < self.active.end {
            sync.run()?;
        }
        self.end_sync(&sync);
        Ok(self.synced)
    }

    /// A sync of everything written so far, for whoever carries it out while writing goes on. One at a time,
    /// and none while a segment begins.
    pub fn begin_sync(&self) -> PendingSync {
        PendingSync {
            shared: self.shared.clone(),
            file: self.active.file.clone(),
            segment: self.active.segment.first,
            end: self.active.end,
            last: self.last,
            first_kept: self.first_kept_written,
        }
    }

    /// Notes that a sync went well.
    pub fn end_sync(&mut self, sync: &PendingSync) {
        assert!(sync.segment == self.active.segment.first, "no segment begins during a sync");
        self.active.synced_end = sync.end;
        self.synced = sync.last;
        self.shared.first_kept_durable.store(sync.first_kept.get(), Ordering::SeqCst);
    }

    /// Begins the next segment in a spare one. `head` is what is true after the last lsn. Forgets the frame
    /// being built. On return everything written before is durable, and so is the new segment.
    pub fn roll(&mut self, head: &[Vec<u8>], urgency: Urgency) -> Result<(), RollError> {
        self.shared.go_on()?;
        let options = &self.shared.options;
        let first = self.last.next();
        let before = self.shared.segment_before(first);
        let header = SegmentHeader { first, salt: self.clock.random(), file_bytes: options.segment_bytes, before };
        let mut frame = FrameHeader::new(FrameKind::Head, self.epoch, header.first);
        (frame.time, frame.boot) = (self.meta.time, self.meta.boot);
        (frame.synced, frame.first_kept) = (self.last, self.first_kept);
        let bytes = segment_front(&header, frame, head);
        let max = self.head_bytes_max();
        if bytes.len() as u64 > max {
            return Err(RollError::HeadTooLarge { bytes: bytes.len() as u64, max });
        }
        let number = locked(&self.shared.pool).take(urgency, options.reserve).ok_or(RollError::NoSpare)?;
        // Before the next segment exists: a segment that has a successor is whole.
        self.sync()?;
        self.enter(number, &header, bytes)?;
        self.begin();
        Ok(())
    }

    /// Begins the next segment, as [`Log::roll`] does, and answers those before it that hold all that is true
    /// now, pinned, in order: their files do not change any more, and a log that ends with them is whole.
    pub fn seal(&mut self, head: &[Vec<u8>], urgency: Urgency) -> Result<Vec<Pin>, RollError> {
        // What the sealed frames say where the log begins: a later word stands behind them. Pinned before that
        // word is durable, because then what lies before it may go.
        let from = self.first_kept_written.get();
        let table = self.shared.segments.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let pins: Vec<Pin> = table.range(from..).map(|(_, segment)| Pin(segment.clone())).collect();
        drop(table);
        self.roll(head, urgency)?;
        Ok(pins)
    }

    /// Makes the spare the active segment.
    fn enter(&mut self, number: u64, header: &SegmentHeader, mut bytes: Vec<u8>) -> Result<(), Fatal> {
        let (shared, end) = (self.shared.clone(), bytes.len() as u64);
        let (spare, path) = (shared.dir.join(spare_name(number)), shared.segment_path(header.first));
        bytes.resize(with_zeros(0, bytes.len(), header.file_bytes), 0);
        let fails = |doing| move |source| (doing, source);
        let enter = || {
            let file = shared.disk.open(&spare).map_err(fails("open"))?;
            file.write_at(0, &bytes).map_err(fails("write to"))?;
            file.sync_data().map_err(fails("sync"))?;
            shared.disk.rename(&spare, &path).map_err(fails("rename"))?;
            if !planted(Defect::NoDirectorySync) {
                shared.disk.sync_dir(&shared.dir).map_err(fails("sync the directory of"))?;
            }
            Ok(file)
        };
        let file: Arc<dyn DiskFile> = enter().map_err(|(doing, source)| shared.fatal(doing, &spare, source))?;
        let segment = Arc::new(Segment::new(header.first, header.seed(), header.file_bytes, end, Some(file.clone())));
        shared.insert(segment.clone());
        let before = std::mem::replace(&mut self.active, Active { segment, file, end, synced_end: end });
        shared.remember_open(before.segment.first);
        self.head_bytes = end - SEGMENT_HEADER_BYTES as u64;
        (self.first_kept_written, self.synced) = (self.first_kept, self.last);
        shared.first_kept_durable.store(self.first_kept.get(), Ordering::SeqCst);
        Ok(())
    }

    /// Lets the log begin at `segment` from the next frame on. Segments before it go when that frame is
    /// durable, their time for copies has passed and nobody uses them. What is still true of them must be
    /// durable elsewhere in the log already.
    pub fn drop_front(&mut self, segment: u64) {
        assert!(self.shared.segment(segment).is_some(), "the log begins with a segment it has");
        self.first_kept = self.first_kept.max(Lsn::new(segment));
        let table = self.shared.segments.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = table.range(..self.first_kept.get()).map(|(_, segment)| (segment.first, segment.file_bytes));
        let dropped: Vec<(Lsn, u64)> = before.collect();
        // Never both locks at once: the keeper takes them in the other order.
        drop(table);
        let mut pool = locked(&self.shared.pool);
        for (first, file_bytes) in dropped {
            pool.drop_segment(first, file_bytes, Dropping::ThisLife);
        }
    }

    /// Lets nothing more be written: the process must end, for a reason that somebody else found.
    pub fn give_up(&self, doing: &'static str, why: String) -> Fatal {
        self.shared.fatal(doing, &self.shared.dir, std::io::Error::other(why))
    }

    /// The segments that are kept: first lsn, bytes used, bytes of the file.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let table = self.shared.segments.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let info = |segment: &Arc<Segment>| SegmentInfo {
            first: segment.first,
            file: segment_name(segment.first),
            used_bytes: segment.used.load(Ordering::Acquire),
            file_bytes: segment.file_bytes,
        };
        table.range(self.first_kept.get()..).map(|(_, segment)| info(segment)).collect()
    }

    /// Reads what is written here.
    pub fn reader(&self) -> LogReader {
        LogReader(self.shared.clone())
    }

    /// Makes and recycles segments for this log; for a thread of its own.
    pub fn keeper(&self) -> Keeper {
        Keeper(self.shared.clone())
    }

    /// One step of the keeper.
    pub fn prepare_spares(&self, now: Millis) -> Result<Step, Fatal> {
        self.keeper().step(now)
    }

    /// How the log stands for space.
    pub fn space_state(&self) -> SpaceState {
        self.keeper().space_state()
    }

    /// Makes everything durable and ends this log, after the step that the keeper is at; readers may go
    /// on. The mark is for [`write_mark`](crate::log::write_mark).
    pub fn stop_clean(mut self) -> Result<CleanMark, Fatal> {
        self.sync()?;
        let _no_step_runs = locked(&self.shared.step);
        self.shared.closed.store(true, Ordering::SeqCst);
        Ok(CleanMark { epoch: self.epoch, last: self.last })
    }
}

/// What the system keeps files in, in bytes.
const PAGE_BYTES: u64 = 4096;

/// Bytes to write for a frame of `length` bytes at `position`: a header's worth of zeros behind it, and then up to
/// the end of a page or of the file.
fn with_zeros(position: u64, length: usize, file_bytes: u64) -> usize {
    let end = (position + (length + FRAME_HEADER_BYTES) as u64).next_multiple_of(PAGE_BYTES).min(file_bytes);
    usize::try_from(end - position).unwrap_or(length)
}

/// A sync that may run while the log is written, from [`Log::begin_sync`].
#[derive(Clone)]
pub struct PendingSync {
    shared: Arc<Shared>,
    file: Arc<dyn DiskFile>,
    segment: Lsn,
    end: u64,
    last: Lsn,
    first_kept: Lsn,
}

impl PendingSync {
    /// Carries it out. Blocks until the disk has everything.
    pub fn run(&self) -> Result<(), Fatal> {
        self.shared.go_on()?;
        let mut synced = self.file.sync_data();
        if synced.is_err() && planted(Defect::RetryFailedSync) {
            synced = self.file.sync_data();
        }
        synced.map_err(|source| self.shared.fatal("sync", &self.shared.segment_path(self.segment), source))
    }

    /// The last entry that it makes durable.
    pub const fn last(&self) -> Lsn {
        self.last
    }
}

/// A segment of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The first lsn in it.
    pub first: Lsn,
    /// Name of its file in the log directory.
    pub file: String,
    /// Bytes that hold frames.
    pub used_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

/// A segment header and the head frame behind it.
pub(crate) fn segment_front(header: &SegmentHeader, mut frame: FrameHeader, head: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = header.encode().to_vec();
    bytes.resize(SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES, 0);
    for entry in head {
        put_entry(&mut bytes, entry);
    }
    frame.entry_count = u32_of(head.len());
    frame.entries_len = u32_of(bytes.len() - SEGMENT_HEADER_BYTES - FRAME_HEADER_BYTES);
    let seed: Seed = header.seed();
    if let Some(place) = bytes.get_mut(SEGMENT_HEADER_BYTES..) {
        seal(place, frame, seed, u32_of(SEGMENT_HEADER_BYTES));
    }
    bytes
}
