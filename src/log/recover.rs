//! Opens a log: reads it, verifies it, replays it, and puts what nothing proves durable into a new
//! segment of a new epoch before anything depends on it.
//!
//! The order makes a crash at any step harmless: nothing is changed before all was verified; a torn
//! tail is kept aside before it is cut; the new segment is synced before it gets its name, and its
//! name before the log is used. Old segments go last.

mod rewrite;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::log::error::opening;
use crate::log::files::{Segment, Shared, segment_name, spare_name};
use crate::log::format::{FrameKind, Seed, record_bytes, u32_of};
use crate::log::keeper::{Dropping, Pool, is_no_space, temporary_name};
use crate::log::newest::{forget_newest, write_newest};
use crate::log::plan::{Directory, Plan, Rules, damaged, head_epoch, load, load_header, walk};
use crate::log::scan::{Frame, Frames};
use crate::log::{CleanMark, Epoch, Loc, Log, OpenError, Options, Place};
use crate::model::{Lsn, Millis};
use crate::planted::{Defect, planted};

/// Most `.torn` files that are kept.
const TORN_FILES_MAX: usize = 8;

/// What a log is opened with.
pub struct Opening {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The data directory; the log lies in `log` below it.
    pub data_dir: PathBuf,
    /// Layout and rules.
    pub options: Options,
    /// Times and random bits.
    pub clock: Arc<dyn Clock>,
    /// The mark of a clean stop, if there is one ([`read_mark`](crate::log::read_mark)).
    pub clean: Option<CleanMark>,
    /// What the receiver knows already; `None` replays all that is kept. Ignored in a copy.
    pub known: Option<Known>,
}

/// What a receiver knows of a log that it saw before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The life in which it learned the places of records. A later opening may have moved some.
    pub epoch: Epoch,
    /// Everything up to this lsn. It must have been durable ([`Log::synced_lsn`]) when the receiver saved
    /// what it knows: recovery takes it for a proof, and refuses a log that ends before it.
    pub lsn: Lsn,
}

/// From where a replay goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayStart {
    /// All that is kept, from this lsn on: forget everything. Unless the log is new, a head frame comes
    /// first; further ones repeat what the frames before them said. Also if the log no longer reaches
    /// back to what is known.
    Whole(Lsn),
    /// Keep everything and go on with this lsn; no head frames come. It may lie at or below the known
    /// lsn: records of these entries have moved since, so they must be applied again.
    Continue(Lsn),
}

/// Receives what a log holds.
pub trait Replay {
    /// Called once, before all else.
    fn start(&mut self, start: ReplayStart);
    /// One frame, in order of lsn. What it says is verified.
    fn frame(&mut self, frame: &ReplayFrame<'_>) -> Result<(), String>;
    /// The entries for the head of the new segment: what is true after the frames so far, and no later.
    /// More frames may follow. `epoch` is the life that begins.
    fn head(&mut self, epoch: Epoch) -> Vec<Vec<u8>>;
    /// Something was cut off and kept aside. It stays so even if the opening fails behind it, and no later
    /// opening finds it again.
    fn cut(&mut self, cut: &CutTail);
}

/// A frame being replayed.
#[derive(Debug, Clone, Copy)]
pub struct ReplayFrame<'a> {
    segment: Lsn,
    frame: Frame<'a>,
}

/// A record being replayed, at its final place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayRecord<'a> {
    /// Where it lies.
    pub loc: Loc,
    /// Its id.
    pub id: u128,
    /// Its head.
    pub head: &'a [u8],
    /// Its body.
    pub body: &'a [u8],
}

impl<'a> ReplayFrame<'a> {
    /// Whose entries these are.
    pub const fn kind(&self) -> FrameKind {
        self.frame.header.kind
    }

    /// The life that wrote it.
    pub const fn epoch(&self) -> Epoch {
        self.frame.header.epoch
    }

    /// Recovery wrote it again: its records lie elsewhere than its entries tell.
    pub const fn is_rewritten(&self) -> bool {
        self.frame.header.rewritten
    }

    /// The lsn of its first entry; of a head frame, the first lsn after it.
    pub const fn first(&self) -> Lsn {
        self.frame.header.first
    }

    /// Log-clock time of the commit.
    pub const fn time(&self) -> Millis {
        self.frame.header.time
    }

    /// Boot time of the commit.
    pub const fn boot(&self) -> Millis {
        self.frame.header.boot
    }

    /// The entries with their lsn; those of a head frame have none.
    pub fn entries(&self) -> impl Iterator<Item = (Lsn, &'a [u8])> + use<'a> {
        let (kind, first) = (self.kind(), self.first());
        let lsn = move |place: u64| if kind == FrameKind::Head { Lsn::NONE } else { first.plus(place) };
        (0..).map(lsn).zip(self.frame.entries())
    }

    /// The records, in the order they were pushed.
    pub fn records(&self) -> impl Iterator<Item = ReplayRecord<'a>> + use<'a> {
        let segment = self.segment.get();
        self.frame.records().map(move |(position, record)| {
            let length = u32_of(record_bytes(record.head.len(), record.body.len()));
            let loc = Loc { segment, position, length };
            ReplayRecord { loc, id: record.id, head: record.head, body: record.body }
        })
    }
}

/// Something recovery cut off and kept aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutTail {
    /// Name of the file it was in.
    pub file: String,
    /// Where the cut is.
    pub at_byte: u64,
    /// Bytes cut off, as far as they hold anything.
    pub bytes: u64,
    /// Name of the file they were moved to; `None` if the disk had no space for it.
    pub kept_as: Option<String>,
}

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The life that begins.
    pub epoch: Epoch,
    /// The last lsn.
    pub last: Lsn,
    /// Where the log begins.
    pub first_kept: Lsn,
    /// Log-clock time of the last frame.
    pub time: Millis,
    /// Boot time of the last frame, of the boot it was written in.
    pub boot: Millis,
    /// The last life ended with a clean stop.
    pub clean: bool,
    /// What was cut off.
    pub cut: Vec<CutTail>,
    /// Frames written again because nothing proved them durable.
    pub rewritten: u64,
    /// Frames replayed.
    pub frames: u64,
}

/// One opening, step by step.
struct Recovery<'a> {
    opening: &'a Opening,
    dir: PathBuf,
    rules: Rules,
    replay: &'a mut dyn Replay,
    start: ReplayStart,
    frames: u64,
    segments: Vec<Segment>,
    cut: Vec<CutTail>,
    /// A dropped segment whose file became the first one of this life.
    reclaimed: Option<Lsn>,
}

impl Log {
    /// Opens the log in `data_dir/log`, or begins one. On return everything replayed is durable, and so is
    /// the new epoch. On an error nothing durable is lost, and a later open may succeed.
    pub fn open(opening: Opening, replay: &mut dyn Replay) -> Result<(Self, RecoveryReport), OpenError> {
        check_options(&opening.options)?;
        let dir = opening.data_dir.join("log");
        let rules = Rules {
            place: opening.options.place,
            strictness: opening.options.strictness,
            mark: opening.clean,
            known: opening.known.map_or(Lsn::NONE, |known| known.lsn),
        };
        let recovery = Recovery {
            opening: &opening,
            dir,
            rules,
            replay,
            start: ReplayStart::Whole(Lsn::NONE),
            frames: 0,
            segments: Vec::new(),
            cut: Vec::new(),
            reclaimed: None,
        };
        recovery.settle_directory()?;
        let directory = recovery.read_directory()?;
        let plan = Plan::make(&*opening.disk, &recovery.dir, &directory, rules)?;
        recovery.run(&directory, plan)
    }
}

fn check_options(options: &Options) -> Result<(), OpenError> {
    let refuse = |why: &str| Err(OpenError::Options(why.to_owned()));
    if !(Options::SEGMENT_BYTES_MIN..=Options::SEGMENT_BYTES_MAX).contains(&options.segment_bytes) {
        return refuse("a segment has 64 KiB to 256 MiB");
    }
    if options.frame_bytes_max < 4096 || options.frame_bytes_max > options.segment_bytes / 4 {
        return refuse("a frame has at least 4 KiB and at most a quarter of a segment");
    }
    Ok(())
}

impl Recovery<'_> {
    fn disk(&self) -> &dyn Disk {
        &*self.opening.disk
    }

    /// Makes durable which names there are: what a killed process left unsynced must not be built upon.
    fn settle_directory(&self) -> Result<(), OpenError> {
        let (disk, data_dir) = (self.disk(), &self.opening.data_dir);
        if !disk.exists(&self.dir).map_err(opening("look for", &self.dir))? {
            disk.create_dir(&self.dir).map_err(opening("create", &self.dir))?;
        }
        disk.sync_dir(data_dir).map_err(opening("sync", data_dir))?;
        disk.sync_dir(&self.dir).map_err(opening("sync", &self.dir))
    }

    fn read_directory(&self) -> Result<Directory, OpenError> {
        let directory = Directory::read(self.disk(), &self.dir).map_err(opening("list", &self.dir))?;
        if self.rules.place == Place::Copy {
            // No header of a copy proves that the copy itself reached its disk.
            for first in &directory.segments {
                let path = self.dir.join(segment_name(*first));
                let file = self.disk().open(&path).map_err(opening("open", &path))?;
                file.sync_data().map_err(opening("sync", &path))?;
            }
        }
        Ok(directory)
    }

    fn run(mut self, directory: &Directory, plan: Option<Plan>) -> Result<(Log, RecoveryReport), OpenError> {
        let mut pool = self.count_spares(directory)?;
        let (last, first_kept) = match &plan {
            Some(plan) => (plan.tail.last, plan.first_kept),
            None => (Lsn::NONE, Lsn::new(1)),
        };
        let epoch = self.next_epoch(plan.as_ref());
        self.start = self.choose_start(plan.as_ref())?;
        self.replay.start(self.start);
        if let Some(plan) = &plan {
            self.replay_proven(plan)?;
            self.keep_aside(plan)?;
        }
        self.remove_leftovers(directory, &pool)?;
        let begun = self.begin_segment((directory, plan.as_ref()), epoch, &mut pool)?;
        self.tell_newest(begun.start.active.segment.first, &mut pool)?;
        self.tidy(directory, first_kept, &mut pool)?;
        let report = RecoveryReport {
            epoch,
            last,
            first_kept,
            time: plan.as_ref().map_or(Millis::ZERO, |plan| plan.tail.time),
            boot: plan.as_ref().map_or(Millis::ZERO, |plan| plan.tail.boot),
            clean: plan.as_ref().is_some_and(|plan| {
                self.rules.mark.is_some_and(|mark| (mark.epoch, mark.last) == (plan.tail.epoch, last))
            }),
            cut: self.cut,
            rewritten: begun.rewritten,
            frames: self.frames,
        };
        pool.opened();
        let shared = Shared::new(self.opening.disk.clone(), self.dir, self.opening.options.clone(), pool);
        shared.newest_told.store(begun.start.active.segment.first.get(), Ordering::SeqCst);
        for segment in self.segments {
            shared.insert(Arc::new(segment));
        }
        shared.insert(begun.start.active.segment.clone());
        Ok((Log::start(Arc::new(shared), begun.start, self.opening.clock.clone()), report))
    }

    /// The spares that are fit for use. A file with a second name may be a segment too.
    fn count_spares(&self, directory: &Directory) -> Result<Pool, OpenError> {
        let spare_next = directory.spares.last().map_or(1, |number| number.saturating_add(1));
        let mut pool = Pool::new(spare_next, self.opening.clock.random() as u64);
        for number in &directory.spares {
            let path = self.dir.join(spare_name(*number));
            let file = self.disk().open_read(&path).map_err(opening("open", &path))?;
            let links = file.links().map_err(opening("count the links of", &path))?;
            let len = file.len().map_err(opening("measure", &path))?;
            if links == 1 && len == self.opening.options.segment_bytes {
                pool.spares.push(*number);
            } else {
                pool.unfit.push(*number);
            }
        }
        Ok(pool)
    }

    fn next_epoch(&self, plan: Option<&Plan>) -> Epoch {
        let seen = plan.map_or(0, |plan| plan.tail.epoch.counter);
        let marked = self.rules.mark.map_or(0, |mark| mark.epoch.counter);
        if let Some(plan) = plan.filter(|_| planted(Defect::EpochReused)) {
            return plan.tail.epoch;
        }
        Epoch { counter: seen.max(marked).saturating_add(1), random: self.opening.clock.random() as u64 }
    }

    /// Position and lsn of the first frame of the last segment that nothing proves durable; where the
    /// frames end if all are proven.
    fn first_unproven(&self, plan: &Plan) -> (usize, Lsn) {
        let mut frames = Frames::new(&plan.last.bytes, &plan.last.header);
        while let Ok(frame) = frames.step() {
            let trusted = plan.proves(&frame, self.rules) || planted(Defect::TrustPageCache);
            if frame.header.kind == FrameKind::Commit && !trusted {
                return (frame.position as usize, frame.header.first);
            }
        }
        let hole = planted(Defect::NoTailCut) && !plan.tail.torn(&plan.last.bytes).is_empty();
        (plan.tail.end, plan.tail.last.plus(if hole { 2 } else { 1 }))
    }

    /// From where to replay.
    fn choose_start(&self, plan: Option<&Plan>) -> Result<ReplayStart, OpenError> {
        let (Some(plan), Some(known)) = (plan, self.opening.known) else {
            return Ok(ReplayStart::Whole(plan.map_or(Lsn::new(1), |plan| plan.first_kept)));
        };
        if self.rules.place == Place::Copy || known.lsn.next() < plan.first_kept {
            return Ok(ReplayStart::Whole(plan.first_kept));
        }
        let start = known.lsn.next();
        for first in plan.kept.iter().copied().take_while(|first| *first < start) {
            // An opening after the receiver last looked moved what this segment begins with.
            let later = head_epoch(self.disk(), &self.dir, first)?;
            if later.counter >= known.epoch.counter && later != known.epoch {
                return Ok(ReplayStart::Continue(first));
            }
        }
        Ok(ReplayStart::Continue(start))
    }

    fn hand_over(&mut self, segment: Lsn, frame: Frame<'_>) -> Result<(), OpenError> {
        self.frames += 1;
        let first = frame.header.first;
        self.replay.frame(&ReplayFrame { segment, frame }).map_err(|why| OpenError::Replay { first, why })
    }

    /// Verifies and replays all but the frames that [`Recovery::begin_segment`] writes again.
    fn replay_proven(&mut self, plan: &Plan) -> Result<(), OpenError> {
        let begin = match self.start {
            ReplayStart::Whole(lsn) | ReplayStart::Continue(lsn) => lsn,
        };
        let start = plan.kept.iter().rev().find(|first| **first <= begin).copied().unwrap_or(plan.first_kept);
        let followers = plan.kept.iter().skip(1).copied();
        for (first, next) in plan.kept.iter().copied().zip(followers) {
            if first < start {
                let (header, _) = load_header(self.disk(), &self.dir, first)?;
                self.add_segment(first, header.seed(), header.file_bytes, header.file_bytes);
                continue;
            }
            let loaded = load(self.disk(), &self.dir, first)?;
            if loaded.is_short() && self.rules.place == Place::Original {
                return Err(damaged(first, loaded.bytes.len(), "the file is shorter than it was made"));
            }
            let used = walk(&loaded, next, self.rules.place, |frame| self.replay_new(first, frame))?;
            self.add_segment(first, loaded.header.seed(), loaded.header.file_bytes, used as u64);
        }
        let (first, (end, _)) = (plan.last.header.first, self.first_unproven(plan));
        let mut frames = Frames::new(&plan.last.bytes, &plan.last.header);
        while frames.position < end {
            let Ok(frame) = frames.step() else { break };
            self.replay_new(first, frame)?;
        }
        self.add_segment(first, plan.last.header.seed(), plan.last.header.file_bytes, end as u64);
        Ok(())
    }

    /// Replays a frame if it says something new.
    fn replay_new(&mut self, segment: Lsn, frame: Frame<'_>) -> Result<(), OpenError> {
        let is_new = match (self.start, frame.header.kind) {
            (ReplayStart::Whole(_), _) => true,
            (ReplayStart::Continue(_), FrameKind::Head) => false,
            // A frame that only stamps the time has no entry of its own.
            (ReplayStart::Continue(lsn), FrameKind::Commit) => frame.header.first >= lsn || frame.header.next() > lsn,
        };
        if is_new { self.hand_over(segment, frame) } else { Ok(()) }
    }

    fn add_segment(&mut self, first: Lsn, seed: Seed, file_bytes: u64, used: u64) {
        self.segments.push(Segment::new(first, seed, file_bytes, used, None));
    }

    /// Keeps aside what will be cut: the torn end of the last segment, and segments behind a gap.
    fn keep_aside(&mut self, plan: &Plan) -> Result<(), OpenError> {
        let first = plan.last.header.first;
        for behind in &plan.aside {
            let (from, to) = (self.dir.join(segment_name(*behind)), self.torn_name(*behind));
            let file = self.disk().open_read(&from).map_err(opening("open", &from))?;
            let bytes = file.len().map_err(opening("measure", &from))?;
            self.disk().rename(&from, &self.dir.join(&to)).map_err(opening("move aside", &from))?;
            self.note_cut(CutTail { file: segment_name(*behind), at_byte: 0, bytes, kept_as: Some(to) });
        }
        let torn = plan.tail.torn(&plan.last.bytes);
        if !torn.is_empty() {
            let name = self.torn_name(first);
            let kept_as = self.write_torn(&self.dir.join(&name), torn)?.then_some(name);
            let (at_byte, bytes) = (plan.tail.end as u64, torn.len() as u64);
            self.note_cut(CutTail { file: segment_name(first), at_byte, bytes, kept_as });
        }
        // Durable before a new segment takes the place of what was cut, whatever its own sync covers.
        self.disk().sync_dir(&self.dir).map_err(opening("sync", &self.dir))
    }

    fn note_cut(&mut self, cut: CutTail) {
        self.replay.cut(&cut);
        self.cut.push(cut);
    }

    fn torn_name(&self, first: Lsn) -> String {
        let random = self.opening.clock.random() as u64;
        format!("{first:0>20}-{random:016x}.torn", first = first.get())
    }

    /// Writes a `.torn` file; answers false if there is no space for it, which must not stop a start.
    fn write_torn(&self, path: &Path, bytes: &[u8]) -> Result<bool, OpenError> {
        let write = || {
            let file = self.disk().create(path)?;
            file.write_at(0, bytes)?;
            file.sync_data()
        };
        match write() {
            Ok(()) => Ok(true),
            Err(error) if is_no_space(&error) => {
                if self.disk().exists(path).map_err(opening("look for", path))? {
                    self.disk().unlink(path).map_err(opening("unlink", path))?;
                }
                Ok(false)
            }
            Err(error) => Err(opening("write", path)(error)),
        }
    }

    /// Removes files that an earlier life did not finish: on a full disk their space may be all there is.
    fn remove_leftovers(&self, directory: &Directory, pool: &Pool) -> Result<(), OpenError> {
        let unfit = directory.spares.iter().filter(|number| pool.unfit.contains(number));
        let unfit = unfit.map(|number| spare_name(*number));
        let doomed: Vec<PathBuf> =
            unfit.chain(directory.temporary.iter().cloned()).map(|name| self.dir.join(name)).collect();
        self.remove(&doomed)
    }

    fn remove(&self, doomed: &[PathBuf]) -> Result<(), OpenError> {
        for path in doomed {
            self.disk().unlink(path).map_err(opening("unlink", path))?;
        }
        if !doomed.is_empty() {
            self.disk().sync_dir(&self.dir).map_err(opening("sync", &self.dir))?;
        }
        Ok(())
    }

    /// Tells which segment is the newest. Without space it stays untold until the next one begins.
    fn tell_newest(&self, first: Lsn, pool: &mut Pool) -> Result<(), OpenError> {
        if self.rules.place == Place::Copy {
            forget_newest(self.disk(), &self.dir).map_err(opening("forget the newest segment in", &self.dir))?;
        }
        match write_newest(self.disk(), &self.dir, first, &temporary_name(pool)) {
            Err(error) if is_no_space(&error) => Ok(()),
            told => told.map_err(opening("tell the newest segment in", &self.dir)),
        }
    }

    /// Removes what earlier lives left aside; dropped segments are left to the keeper.
    fn tidy(&mut self, directory: &Directory, first_kept: Lsn, pool: &mut Pool) -> Result<(), OpenError> {
        let reclaimed = self.reclaimed;
        let dropped = directory.segments.iter().filter(|first| **first < first_kept && Some(**first) != reclaimed);
        for first in dropped {
            // Nothing reads it again, so its salt does not matter.
            self.add_segment(*first, Seed::new(0), 0, 0);
            pool.drop_segment(*first, self.opening.options.segment_bytes, Dropping::EarlierLife);
        }
        let torn = directory.torn.iter().chain(self.cut.iter().filter_map(|cut| cut.kept_as.as_ref()));
        let mut torn: Vec<&String> = torn.collect();
        torn.sort_unstable();
        let surplus = torn.len().saturating_sub(TORN_FILES_MAX);
        let mut doomed: Vec<PathBuf> = torn.into_iter().take(surplus).map(|name| self.dir.join(name)).collect();
        let data_dir = &self.opening.data_dir;
        let beside = self.disk().list(data_dir).map_err(opening("list", data_dir))?;
        let marks = beside.iter().filter(|name| name.starts_with("CLEAN-") && name.ends_with(".tmp"));
        doomed.extend(marks.map(|name| data_dir.join(name)));
        self.remove(&doomed)
    }
}
