//! Holds an index against its log: what a start with it would come to, and what a start without it. Both go through
//! the very recovery of a server, over views of the disk that keep their writes in memory; nothing is changed.
//!
//! What is compared is what decides: topics, groups and their cursors, every pending and every live message with its
//! place, delays, credentials, keys in their window, counts. What nobody needs any more may differ: an index keeps
//! rows of settled messages for a while, and a lapsed lease is a returned message.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::{BootId, Clock, ManualClock};
use crate::disk::{Disk, Overlay};
use crate::engine::entry::{GroupNo, IdempotencyDisk, PendingState, TopicNo};
use crate::engine::group_state::GroupState;
use crate::engine::pending::Pending;
use crate::engine::recover::{IndexPlace, RecoverError, Recovered, Source, load, recover};
use crate::engine::rows::{BLOCK_ROWS, Found, Row, block_of};
use crate::engine::state::load_block;
use crate::engine::topic_state::TopicState;
use crate::engine::{Limits, WriterOptions};
use crate::index::{Index, IndexError, Mark};
use crate::log::{Loc, Options};
use crate::model::{Lsn, Millis};

/// Differences that are told; the others are counted.
const DIFFERENCES_MAX: usize = 20;
/// What wakes the writer is seen by it and not by the log, which is stamped once a second while leases exist.
const UNSEEN_MS: u64 = 5_000;

/// A data directory that nobody uses, with its index and room for another one.
pub struct Beside<D> {
    /// Its file system.
    pub disk: D,
    /// The directory.
    pub data_dir: PathBuf,
    /// Layout and rules of its log.
    pub log: Options,
    /// Opens the index, or better a copy of it: opening may write to it.
    pub index: Arc<dyn IndexPlace>,
    /// Where another index is built from the log.
    pub anew: Arc<dyn IndexPlace>,
}

/// What an index is worth.
#[derive(Debug)]
pub enum Agreement {
    /// It has no checkpoint.
    Empty,
    /// A start would set it aside for this reason and build another one from the log.
    SetAside(String),
    /// It was compared with what the log says.
    Compared(Compared),
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Compared {
    /// Of the checkpoint that the index holds.
    pub generation: u64,
    /// Every entry up to here is in it.
    pub applied: Lsn,
    /// Messages that somebody still needs.
    pub messages: u64,
    /// The first differences; none: the index agrees.
    pub differences: Vec<Difference>,
    /// How many there are.
    pub differences_in_all: u64,
}

/// One thing of which the index says something else than the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// Account and topic.
    pub topic: Option<(String, String)>,
    /// The group.
    pub group: Option<String>,
    /// The message.
    pub offset: Option<u64>,
    /// What differs.
    pub what: String,
}

/// How far a comparison is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparing {
    /// Opening with the index.
    Index,
    /// Opening without it.
    Log,
    /// Comparing messages, of so many.
    Messages {
        /// Done.
        done: u64,
        /// In all.
        all: u64,
    },
}

/// Compares. Damage of the log that a start with the index would meet is an error, as it is there.
pub fn compare_index<D: Disk + Clone>(
    beside: &Beside<D>,
    progress: &mut dyn FnMut(Comparing),
) -> Result<Agreement, RecoverError> {
    progress(Comparing::Index);
    let noted = Arc::new(Noted {
        index: beside.index.clone(),
        anew: beside.anew.clone(),
        mark: Mutex::default(),
        is_aside: AtomicBool::new(false),
    });
    let told = recover(&source(beside, noted.clone(), false))?;
    if let Some(why) = told.index_lost {
        return Ok(Agreement::SetAside(why));
    }
    let Some(mark) = *noted.mark.lock().unwrap_or_else(PoisonError::into_inner) else { return Ok(Agreement::Empty) };
    progress(Comparing::Log);
    let right = recover(&source(beside, beside.anew.clone(), true))?;
    let found = Compared { generation: mark.generation, applied: mark.applied, ..Compared::default() };
    let mut comparison = Comparison { told, right, found, spot: Difference::default() };
    match comparison.all(progress) {
        Ok(()) => Ok(Agreement::Compared(comparison.found)),
        Err(why) => Ok(Agreement::SetAside(why)),
    }
}

/// What recovery is given: a view of the directory, and a clock that stands, so that nothing lapses and nothing grows
/// too old by being looked at.
fn source<D: Disk + Clone>(beside: &Beside<D>, place: Arc<dyn IndexPlace>, index_is_foreign: bool) -> Source {
    let clock = ManualClock::new(1);
    clock.jump_wall(Millis::ZERO);
    let clock: Arc<dyn Clock> = Arc::new(Standing(clock));
    Source {
        disk: Arc::new(Overlay::new(beside.disk.clone(), None)),
        data_dir: beside.data_dir.clone(),
        log: Options { reserve: 0, ..beside.log.clone() },
        clock,
        place,
        // What is there is there, whatever the bounds of the server were.
        limits: Limits {
            topics_max: usize::MAX,
            groups_max: usize::MAX,
            groups_per_topic_max: usize::MAX,
            ..Limits::default()
        },
        options: WriterOptions::default(),
        index_is_foreign,
    }
}

/// A clock that stands, of a boot that no machine had: what is left of a lease is left as at a reboot.
struct Standing(ManualClock);

impl Clock for Standing {
    fn wall(&self) -> Millis {
        self.0.wall()
    }

    fn boot(&self) -> Millis {
        self.0.boot()
    }

    fn boot_id(&self) -> BootId {
        BootId::MAX
    }

    fn random(&self) -> u128 {
        self.0.random()
    }
}

/// An index that is opened as long as it is not set aside; its mark is noted.
struct Noted {
    index: Arc<dyn IndexPlace>,
    anew: Arc<dyn IndexPlace>,
    mark: Mutex<Option<Mark>>,
    is_aside: AtomicBool,
}

impl IndexPlace for Noted {
    fn open(&self) -> Result<Box<dyn Index>, IndexError> {
        if self.is_aside.load(Ordering::SeqCst) {
            return self.anew.open();
        }
        let index = self.index.open()?;
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = index.mark()?;
        Ok(index)
    }

    fn set_aside(&self) -> Result<(), IndexError> {
        self.is_aside.store(true, Ordering::SeqCst);
        self.anew.set_aside()
    }
}

/// Two engines that stand side by side: as the index told it, and as the log says.
struct Comparison {
    told: Recovered,
    right: Recovered,
    found: Compared,
    /// What is being compared.
    spot: Difference,
}

impl Comparison {
    /// Fails if the index cannot be read to its end.
    fn all(&mut self, progress: &mut dyn FnMut(Comparing)) -> Result<(), String> {
        self.check(self.told.writer.state.access.records == self.right.writer.state.access.records, "the credentials");
        let all = self.right.writer.state.topics.values().map(|topic| topic.tail() - topic.head).sum();
        let mut done = 0;
        for no in numbers(&self.told.writer.state.topics, &self.right.writer.state.topics) {
            if !self.topic(no) {
                continue;
            }
            let topic = &self.right.writer.state.topics[&no];
            for block in block_of(topic.head)..topic.tail().div_ceil(BLOCK_ROWS) {
                progress(Comparing::Messages { done, all });
                done += self.block(no, block)?;
            }
        }
        self.spot = Difference::default();
        for no in numbers(&self.told.writer.state.groups, &self.right.writer.state.groups) {
            self.group(no);
        }
        progress(Comparing::Messages { done: all, all });
        Ok(())
    }

    fn check(&mut self, same: bool, what: &str) {
        if !same {
            self.differs(format!("{what}: the index says something else than the log"));
        }
    }

    fn differs(&mut self, what: String) {
        self.found.differences_in_all += 1;
        if self.found.differences.len() < DIFFERENCES_MAX {
            self.found.differences.push(Difference { what, ..self.spot.clone() });
        }
    }

    /// What is said of a topic as a whole; false: only one of the two has it.
    fn topic(&mut self, no: TopicNo) -> bool {
        let (told, right) = (self.told.writer.state.topics.get(&no), self.right.writer.state.topics.get(&no));
        let known = told.or(right).map(|topic| (topic.disk.account.clone(), topic.disk.name.clone()));
        self.spot = Difference { topic: known, ..Difference::default() };
        let (Some(told), Some(right)) = (told, right) else {
            let lacks = if told.is_none() { "the index does not have it" } else { "the log does not have it" };
            self.differs(lacks.to_owned());
            return false;
        };
        let (now, window) = (self.right.writer.state.now, right.disk.idempotency_window_ms);
        let keys = |topic: &TopicState| -> BTreeSet<(u128, u64, u128, u64)> {
            let known = topic.idempotency.said_before(Lsn::new(u64::MAX)).into_iter();
            let in_window = known.filter(|known| (known.id >> 80) as u64 + window > now);
            in_window.map(|IdempotencyDisk { key, fingerprint, id, offset }| (key, fingerprint, id, offset)).collect()
        };
        let same = [
            (told.disk == right.disk, "its settings"),
            (told.head == right.head, "its first offset"),
            (told.tail() == right.tail(), "its tail"),
            ((told.plain, told.head_plain) == (right.plain, right.head_plain), "its sums"),
            ((told.last_id, told.foreign) == (right.last_id, right.foreign), "its newest id"),
            (told.delayed.by_offset().eq(right.delayed.by_offset()), "its delayed messages"),
            (keys(told) == keys(right), "its idempotency keys"),
        ];
        same.into_iter().for_each(|(same, what)| self.check(same, what));
        true
    }

    /// The live messages of one block; answers how many offsets it looked at.
    fn block(&mut self, no: TopicNo, block: u64) -> Result<u64, String> {
        read_block(&mut self.told, no, block)?;
        read_block(&mut self.right, no, block)?;
        let topic = &self.right.writer.state.topics[&no];
        let offsets = (block * BLOCK_ROWS).max(topic.head)..((block + 1) * BLOCK_ROWS).min(topic.tail());
        for offset in offsets.clone() {
            self.spot.offset = Some(offset);
            match (live(&self.told, no, offset), live(&self.right, no, offset)) {
                (None, None) => {}
                (None, Some(_)) => self.differs("the index does not have this message".to_owned()),
                (Some(_), None) => self.differs("the log does not have this message any more".to_owned()),
                (Some(told), Some(right)) => {
                    self.found.messages += 1;
                    let before = told.before == right.before;
                    self.check(before, "the sums before this message");
                    self.row(&told, &right);
                }
            }
        }
        self.spot.offset = None;
        for side in [&mut self.told, &mut self.right] {
            if let Some(topic) = side.writer.state.topics.get_mut(&no) {
                topic.rows.evict(block);
            }
        }
        Ok(offsets.count() as u64)
    }

    /// What is said of one message. Where recovery writes a record again depends on what proved it durable, so that
    /// two places may be right: the record there tells.
    fn row(&mut self, told: &Row, right: &Row) {
        let same = [
            (told.id == right.id, "the id of this message"),
            (told.key == right.key, "the digest of its key"),
            (told.tag == right.tag, "the digest of its tag"),
            (told.due == right.due, "the time it is due"),
            (told.body_bytes == right.body_bytes, "the length of its body"),
            (told.origin == right.origin && told.moved_at == right.moved_at, "where it came from"),
        ];
        for (same, what) in same {
            self.check(same, what);
        }
        if told.loc != right.loc
            && let Err(why) = holds(&self.told, told.loc, right.id)
        {
            self.differs(format!("the place of this message: {why}"));
        }
    }

    fn group(&mut self, no: GroupNo) {
        let (told, right) = (self.told.writer.state.groups.get(&no), self.right.writer.state.groups.get(&no));
        let Some(known) = told.or(right) else { return };
        let topic = self.right.writer.state.topics.get(&known.disk.topic);
        let topic = topic.map(|topic| (topic.disk.account.clone(), topic.disk.name.clone()));
        self.spot = Difference { topic, group: Some(known.disk.name.clone()), ..Difference::default() };
        let (Some(told), Some(right)) = (told, right) else {
            let lacks = if told.is_none() { "the index does not have it" } else { "the log does not have it" };
            return self.differs(lacks.to_owned());
        };
        let (cursor, stands) = (told.progress.cursor, right.progress.cursor);
        // Not how much of it is due: a checkpoint may know a later time than the last frame.
        let counts = |group: &GroupState| (group.untaken, group.gone_ahead);
        let (waiting, stand) = (counts(told), counts(right));
        let same = [
            (told.disk == right.disk, "its settings".to_owned()),
            (cursor == stands, format!("its cursor ({cursor} in the index, {stands} in the log)")),
            (cursor != stands || told.progress == right.progress, "its progress".to_owned()),
            (waiting == stand, format!("what it has before it ({waiting:?} in the index, {stand:?} in the log)")),
        ];
        let offsets = |group: &GroupState| group.pendings().map(|(offset, _)| offset).collect::<Vec<_>>();
        let offsets: BTreeSet<u64> = offsets(told).into_iter().chain(offsets(right)).collect();
        same.into_iter().for_each(|(same, what)| self.check(same, &what));
        for offset in offsets {
            self.pending(no, offset);
        }
    }

    fn pending(&mut self, no: GroupNo, offset: u64) {
        self.spot.offset = Some(offset);
        let of = |side: &Recovered| side.writer.state.groups.get(&no)?.pending(offset).cloned();
        let (told, right) = match (of(&self.told), of(&self.right)) {
            (Some(told), Some(right)) => (told, right),
            (None, _) => return self.differs("it is pending in the log, not in the index".to_owned()),
            (_, None) => return self.differs("it is pending in the index, not in the log".to_owned()),
        };
        let lease = |pending: &Pending| (pending.attempt, pending.lease, pending.handle, pending.superseded);
        self.check(lease(&told) == lease(&right), "its lease");
        let (boot, now) = (self.right.writer.boot, self.right.writer.state.now);
        let may_be_over = match right.state {
            PendingState::Leased { deadline } => deadline <= boot + UNSEEN_MS,
            PendingState::Waiting { until } => until <= now + UNSEEN_MS,
            PendingState::Ready | PendingState::Withheld => false,
        };
        let is_over = told.state == PendingState::Ready && may_be_over;
        let states = format!("whether it is held ({:?} in the index, {:?} in the log)", told.state, right.state);
        self.check(told.state == right.state || is_over, &states);
        self.row(&told.row, &right.row);
    }
}

fn numbers<T>(told: &BTreeMap<u32, T>, right: &BTreeMap<u32, T>) -> BTreeSet<u32> {
    told.keys().chain(right.keys()).copied().collect()
}

/// Has a block in memory.
fn read_block(side: &mut Recovered, no: TopicNo, block: u64) -> Result<(), String> {
    let Some(topic) = side.writer.state.topics.get_mut(&no) else { return Ok(()) };
    let (reader, mut failed) = (side.index.reader(), None);
    load_block(topic, block, &mut |topic, block| load(&*reader, topic, block, &mut failed));
    failed.map_or(Ok(()), Err)
}

/// The message at an offset, if somebody still needs it.
fn live(side: &Recovered, no: TopicNo, offset: u64) -> Option<Row> {
    let state = &side.writer.state;
    let Found::Row(row) = state.topics.get(&no)?.rows.get(offset) else { return None };
    state.is_live(no, offset, row.due != 0).then_some(row)
}

/// Whether the record of this message lies there.
fn holds(side: &Recovered, loc: Loc, id: u128) -> Result<(), String> {
    let record = side.writer.reader().read(loc).map_err(|error| error.to_string())?;
    if record.id == id { Ok(()) } else { Err("another message lies there".to_owned()) }
}
