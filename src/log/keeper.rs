//! Spare segments: made of zeros, or recycled from dropped ones, in the background.
//!
//! The writer only takes a spare out of the pool, under a lock nobody holds during I/O. A dropped
//! segment is recycled when a durable frame says that it is not needed, its time for copies has
//! passed, nobody reads it and no backup holds a link to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::disk::DiskFile;
use crate::log::files::{Segment, Shared, locked, spare_name};
use crate::log::newest::write_newest;
use crate::log::{Fatal, Urgency};
use crate::model::{Lsn, Millis};

/// Recycled segments that are kept beyond the spares wanted. Without them the spares would be full, of
/// freshly zeroed files, whenever a dropped segment's time has passed, and nothing ever recycled.
const RECYCLED_EXTRA_MAX: usize = 4;
/// Of the reserve, spares that on a full disk only a start takes: without one it could not even accept acks.
const START_SPARES: usize = 1;
/// Bytes zeroed in one step while the writer may have to wait for the spare.
const FILL_BYTES_HURRIED: u64 = 4 * 1024 * 1024;
/// Bytes zeroed in one step while there is time: a commit's sync queues behind no more than these.
const FILL_BYTES_CALM: u64 = 256 * 1024;

/// A file that is being filled with zeros.
pub(crate) struct Filling {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    done: u64,
}

/// A segment that the log does not need any more.
struct Dropped {
    file_bytes: u64,
    /// Boot time at which the keeper first saw it.
    since: Option<Millis>,
    during: Dropping,
}

/// When a segment was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropping {
    /// While this process runs: a copy begun before may need it.
    ThisLife,
    /// Before: a copy begun since the start does not need it.
    EarlierLife,
}

/// Spares at hand, and what may become one. Never held during I/O.
#[derive(Default)]
pub(crate) struct Pool {
    /// Numbers of spare files: full length, synced, and durable in their directory.
    pub(crate) spares: Vec<u64>,
    /// Spare files that an opening found and that must go.
    pub(crate) unfit: Vec<u64>,
    /// Higher than the number of any spare that ever was in this directory, as far as anybody knows.
    spare_next: u64,
    /// Dropped segments by their first lsn.
    dropped: BTreeMap<u64, Dropped>,
    /// Taken out while a step works on it.
    filling: Option<Filling>,
    /// Bytes of it that are zeroed.
    filled_bytes: u64,
    /// Spares that were left when the active segment was begun.
    left: usize,
    /// Somebody asked for a spare in vain, and none was made since.
    asked: bool,
    pub(crate) no_space: bool,
    /// Makes the names of temporary files unique; starts at random.
    unique: u64,
}

impl Pool {
    /// A pool without spares. `unique` is a random start for temporary names.
    pub(crate) fn new(spare_next: u64, unique: u64) -> Self {
        Self { spare_next, unique, ..Self::default() }
    }

    pub(crate) fn take(&mut self, urgency: Urgency, reserve: usize) -> Option<u64> {
        if !self.available(urgency, reserve) {
            return None;
        }
        self.take_last()
    }

    pub(crate) fn available(&mut self, urgency: Urgency, reserve: usize) -> bool {
        let available = match urgency {
            Urgency::Ordinary => self.spares.len() > reserve,
            Urgency::Essential => self.spares.len() > if self.no_space { START_SPARES.min(reserve) } else { 0 },
        };
        self.asked |= !available;
        available
    }

    fn add(&mut self, number: u64) {
        self.spares.push(number);
        (self.no_space, self.asked) = (false, false);
    }

    /// For a start on a full disk: also the one that everybody else leaves.
    pub(crate) fn take_last(&mut self) -> Option<u64> {
        let taken = self.spares.pop();
        self.left = self.spares.len();
        taken
    }

    pub(crate) fn drop_segment(&mut self, first: Lsn, file_bytes: u64, during: Dropping) {
        self.dropped.entry(first.get()).or_insert(Dropped { file_bytes, since: None, during });
    }

    fn dropped_bytes(&self) -> u64 {
        self.dropped.values().map(|dropped| dropped.file_bytes).sum()
    }
}

/// How the log stands for space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceState {
    /// Spare segments at hand.
    pub spares: usize,
    /// Spare segments wanted.
    pub spares_wanted: usize,
    /// The last attempt to make a spare met a full disk.
    pub no_space: bool,
    /// Bytes of segments that are dropped and not recycled yet.
    pub dropped_bytes: u64,
}

/// What a step of the keeper did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is nothing to do for now.
    Idle,
    /// Part of a spare was filled.
    Filled,
    /// A spare was finished.
    Made,
    /// A dropped segment became a spare.
    Recycled,
    /// A dropped segment was unlinked.
    Unlinked,
    /// The disk is full; to be tried again later.
    NoSpace,
}

impl Step {
    /// Whether the next step would find nothing to do, or no space for it.
    pub const fn is_last_for_now(self) -> bool {
        matches!(self, Self::Idle | Self::NoSpace)
    }
}

/// Makes and recycles segments. Any thread may turn it, one step at a time.
#[derive(Clone)]
pub struct Keeper(pub(crate) Arc<Shared>);

impl Keeper {
    /// Does one bounded step: recycles one dropped segment, or zeroes a few MiB of the next spare. `now` is
    /// boot time. A crash in mid-step leaves at most a temporary file, which the next open removes.
    pub fn step(&self, now: Millis) -> Result<Step, Fatal> {
        let shared = &*self.0;
        shared.go_on()?;
        let _one_at_a_time = locked(&shared.step);
        if shared.closed.load(Ordering::SeqCst) {
            return Ok(Step::Idle);
        }
        self.tell_newest()?;
        if let Some(segment) = self.next_dropped(now) {
            return self.retire(&segment);
        }
        if self.wanted() { self.fill() } else { Ok(Step::Idle) }
    }

    /// Tells the newest segment, which is durable, if it was not told yet. Without space it stays untold until the
    /// next one begins.
    fn tell_newest(&self) -> Result<(), Fatal> {
        let shared = &*self.0;
        let newest = shared.newest().get();
        if newest <= shared.newest_told.load(Ordering::SeqCst) {
            return Ok(());
        }
        let temporary = temporary_name(&mut locked(&shared.pool));
        shared.newest_told.store(newest, Ordering::SeqCst);
        match write_newest(&*shared.disk, &shared.dir, Lsn::new(newest), &temporary) {
            Err(error) if !is_no_space(&error) => Err(shared.fatal("tell the newest segment in", &shared.dir, error)),
            _ => Ok(()),
        }
    }

    /// Whether the writer waits for a spare, or may have to: of what it needs next, less is made than half as much
    /// again as is written of the active segment. While it is not so, steps may be far between.
    pub fn is_behind(&self) -> bool {
        let shared = &*self.0;
        let segment_bytes = shared.options.segment_bytes;
        // A server that has hardly begun to write may never need it soon.
        let used_bytes = shared.used_of_newest().saturating_sub(segment_bytes / 16);
        let pool = locked(&shared.pool);
        let wanted = (shared.options.reserve + 1).saturating_sub(pool.left) as u64;
        let made = pool.spares.len().saturating_sub(pool.left) as u64;
        let made_bytes = made * segment_bytes + pool.filled_bytes;
        pool.asked || (made < wanted && made_bytes.saturating_mul(2) < wanted * used_bytes.saturating_mul(3))
    }

    /// How the log stands for space.
    pub fn space_state(&self) -> SpaceState {
        let pool = locked(&self.0.pool);
        SpaceState {
            spares: pool.spares.len(),
            spares_wanted: self.target(),
            no_space: pool.no_space,
            dropped_bytes: pool.dropped_bytes(),
        }
    }

    fn target(&self) -> usize {
        self.0.options.spares + self.0.options.reserve
    }

    fn wanted(&self) -> bool {
        locked(&self.0.pool).spares.len() < self.target()
    }

    /// The first dropped segment that may go now, out of the table already.
    fn next_dropped(&self, now: Millis) -> Option<Arc<Segment>> {
        let (shared, wanted) = (&*self.0, self.wanted());
        let durable = shared.first_kept_durable.load(Ordering::SeqCst);
        let mut pool = locked(&shared.pool);
        // With no space for a spare, a segment kept for copies is worth more as a spare.
        let hurry = pool.no_space && wanted;
        let mut bytes_over = pool.dropped_bytes().saturating_sub(shared.options.drop_keep_bytes);
        let mut due = Vec::new();
        for (first, dropped) in pool.dropped.range_mut(..durable) {
            let age = now.since(*dropped.since.get_or_insert(now));
            // Much may be dropped at once: a copy under way still finds what it has listed.
            let may_crowd_out = dropped.during == Dropping::EarlierLife || age >= shared.options.drop_keep_min;
            if hurry || (bytes_over > 0 && may_crowd_out) || age >= shared.options.drop_keep {
                due.push(*first);
            }
            bytes_over = bytes_over.saturating_sub(dropped.file_bytes);
        }
        let segment = due.into_iter().find_map(|first| shared.remove_unused(first))?;
        pool.dropped.remove(&segment.first.get());
        Some(segment)
    }

    /// Turns a segment file that nobody needs into a spare, or unlinks it.
    fn retire(&self, segment: &Segment) -> Result<Step, Fatal> {
        let shared = &*self.0;
        let path = shared.segment_path(segment.first);
        let fails = |doing| move |source| (doing, source);
        let retire = || {
            let file = shared.file_of(segment).map_err(fails("open for recycling"))?;
            let links = file.links().map_err(fails("count the links of"))?;
            let fits = file.len().map_err(fails("measure"))? == shared.options.segment_bytes;
            // Whoever linked the file, a backup, wants it as it is.
            let surplus = locked(&shared.pool).spares.len() >= self.target() + RECYCLED_EXTRA_MAX;
            let spare = if links == 1 && fits && !surplus { Some(self.number()) } else { None };
            match spare {
                Some(number) => {
                    shared.disk.rename(&path, &shared.dir.join(spare_name(number))).map_err(fails("recycle"))?;
                }
                None => shared.disk.unlink(&path).map_err(fails("unlink"))?,
            }
            shared.disk.sync_dir(&shared.dir).map_err(fails("sync the directory of"))?;
            Ok(spare)
        };
        let spare = retire().map_err(|(doing, source)| shared.fatal(doing, &path, source))?;
        let mut pool = locked(&shared.pool);
        pool.no_space = false;
        if let Some(number) = spare {
            pool.add(number);
            return Ok(Step::Recycled);
        }
        Ok(Step::Unlinked)
    }

    fn number(&self) -> u64 {
        let mut pool = locked(&self.0.pool);
        pool.spare_next += 1;
        pool.spare_next - 1
    }

    fn fill(&self) -> Result<Step, Fatal> {
        let shared = &*self.0;
        let filling = locked(&shared.pool).filling.take();
        let mut filling = match filling {
            Some(filling) => filling,
            None => match self.start_filling() {
                Ok(filling) => filling,
                Err((_, error)) if is_no_space(&error) => return Ok(self.no_space()),
                Err((path, error)) => return Err(shared.fatal("create", &path, error)),
            },
        };
        let most = if self.is_behind() { FILL_BYTES_HURRIED } else { FILL_BYTES_CALM };
        let bytes = most.min(shared.options.segment_bytes - filling.done);
        let path = filling.path.clone();
        let filled = filling.file.write_zeros(filling.done, bytes).and_then(|()| filling.file.sync_data());
        if let Err(error) = filled {
            // Nothing depends on this file yet, so even a failed sync loses nothing if it goes.
            shared.disk.unlink(&path).map_err(|source| shared.fatal("unlink", &path, source))?;
            if is_no_space(&error) {
                return Ok(self.no_space());
            }
            return Err(shared.fatal("fill with zeros", &path, error));
        }
        filling.done += bytes;
        let finished = filling.done >= shared.options.segment_bytes;
        if !finished {
            let mut pool = locked(&shared.pool);
            (pool.filled_bytes, pool.filling) = (filling.done, Some(filling));
            return Ok(Step::Filled);
        }
        let number = self.number();
        self.publish(&path, number).map_err(|source| shared.fatal("name the spare", &path, source))?;
        let mut pool = locked(&shared.pool);
        pool.filled_bytes = 0;
        pool.add(number);
        Ok(Step::Made)
    }

    fn start_filling(&self) -> Result<Filling, (PathBuf, std::io::Error)> {
        let path = self.0.dir.join(temporary_name(&mut locked(&self.0.pool)));
        match self.0.disk.create(&path) {
            Ok(file) => Ok(Filling { path, file, done: 0 }),
            Err(error) => Err((path, error)),
        }
    }

    fn publish(&self, temporary: &Path, number: u64) -> std::io::Result<()> {
        self.0.disk.rename(temporary, &self.0.dir.join(spare_name(number)))?;
        self.0.disk.sync_dir(&self.0.dir)
    }

    fn no_space(&self) -> Step {
        let mut pool = locked(&self.0.pool);
        (pool.no_space, pool.filled_bytes) = (true, 0);
        Step::NoSpace
    }
}

/// A name that no file had before: a leftover of an earlier run cannot be mistaken for ours, and its
/// removal need not be durable.
pub(crate) fn temporary_name(pool: &mut Pool) -> String {
    pool.unique = pool.unique.wrapping_add(1);
    format!("new-{:016x}.tmp", pool.unique)
}

/// Whether an error means that space may come back.
pub(crate) fn is_no_space(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
