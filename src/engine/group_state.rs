//! One group: its progress and its pending messages, with the orders they are looked up in.
//!
//! Every change goes through [`GroupState::set`] and [`GroupState::remove`], so that the orders, the
//! counts and the list of changed chunks can never disagree with the pending set.

use std::collections::{BTreeSet, HashMap};

use crate::engine::GroupStatus;
use crate::engine::entry::{GroupDisk, PendingState, Progress};
use crate::engine::line::{KeyLine, Kind, Line, Stage};
use crate::engine::pending::{FrozenPendings, Pending, PendingSet};
use crate::engine::rows::{BLOCK_ROWS, Row};
use crate::model::{GroupSettings, Millis, NameError, Offset, Start};

/// A group.
#[derive(Debug)]
pub struct GroupState {
    pub disk: GroupDisk,
    pub settings: GroupSettings,
    pub progress: Progress,
    /// Delayed messages not taken yet, due or not.
    pub untaken: crate::engine::entry::Sums,
    /// How many of them are due.
    pub due_untaken: u64,
    /// Messages given up (for all) at or above the cursor, published without delay.
    pub gone_ahead: crate::engine::entry::Sums,
    pending: PendingSet,
    pending_bytes: u64,
    ready: BTreeSet<u64>,
    waiting: BTreeSet<(u64, u64)>,
    leased: BTreeSet<(u64, u64)>,
    /// Passed for their key's sake, or pending for others when the group came to its place, and not
    /// delivered since: as good as fresh ones.
    unstarted: Line,
    /// Of those, the ones that no other pending message of their key comes before.
    foremost: Line,
    keys: HashMap<u128, KeyLine>,
    handles: HashMap<u128, BTreeSet<u64>>,
    /// Chunks of 512 offsets whose pending messages changed since the last checkpoint.
    pub dirty_chunks: BTreeSet<u64>,
    /// Anything else changed since the last checkpoint.
    pub dirty: bool,
    pub totals: GroupStatus,
}

impl GroupState {
    pub fn new(disk: GroupDisk) -> Result<Self, NameError> {
        let settings = disk.settings()?;
        Ok(Self {
            disk,
            settings,
            progress: Progress::default(),
            untaken: Default::default(),
            due_untaken: 0,
            gone_ahead: Default::default(),
            pending: PendingSet::default(),
            pending_bytes: 0,
            ready: BTreeSet::new(),
            waiting: BTreeSet::new(),
            leased: BTreeSet::new(),
            unstarted: Line::default(),
            foremost: Line::default(),
            keys: HashMap::new(),
            handles: HashMap::new(),
            dirty_chunks: BTreeSet::new(),
            dirty: true,
            totals: GroupStatus::default(),
        })
    }

    /// The start that the group was made with.
    pub fn start(&self) -> Start {
        match self.disk.start {
            (1, _) => Start::Tail,
            (2, offset) => Start::Offset(Offset::new(offset)),
            (3, time) => Start::Time(Millis::new(time)),
            _ => Start::Head,
        }
    }

    pub fn pending(&self, offset: u64) -> Option<&Pending> {
        self.pending.get(offset)
    }

    pub fn pendings(&self) -> impl Iterator<Item = (u64, &Pending)> {
        self.pending.range(0)
    }

    pub fn pendings_from(&self, from: u64) -> impl Iterator<Item = (u64, &Pending)> {
        self.pending.range(from)
    }

    /// The pending messages of one block of offsets.
    pub fn pendings_of(&self, block: u64) -> impl Iterator<Item = (u64, &Pending)> {
        self.pendings_from(block * BLOCK_ROWS).take_while(move |(offset, _)| offset / BLOCK_ROWS == block)
    }

    /// What changed since the last checkpoint, by chunk of 512 offsets.
    pub fn freeze(&mut self) -> Vec<FrozenPendings> {
        let chunks = std::mem::take(&mut self.dirty_chunks);
        chunks.into_iter().map(|chunk| self.pending.freeze(chunk)).collect()
    }

    /// Puts a pending message there, or changes it.
    pub fn set(&mut self, offset: u64, pending: Pending) {
        self.remove(offset);
        let at = (pending.row.due, offset);
        match pending.state {
            _ if pending.attempt == 0 => self.unstarted.insert(at),
            PendingState::Leased { deadline } => {
                self.leased.insert((deadline, offset));
            }
            PendingState::Ready | PendingState::Withheld => {
                self.ready.insert(offset);
            }
            PendingState::Waiting { until } => {
                self.waiting.insert((until, offset));
            }
        }
        self.change_line(pending.row.key, KeyLine::insert, at, pending.stage());
        if pending.handle != 0 {
            self.handles.entry(pending.handle).or_default().insert(offset);
        }
        self.pending_bytes += u64::from(pending.row.body_bytes);
        self.pending.insert(offset, pending);
    }

    /// Takes a pending message away.
    pub fn remove(&mut self, offset: u64) -> Option<Pending> {
        self.dirty_chunks.insert(offset / BLOCK_ROWS);
        let old = self.pending.remove(offset)?;
        let at = (old.row.due, offset);
        match old.state {
            _ if old.attempt == 0 => self.unstarted.remove(at),
            PendingState::Leased { deadline } => {
                self.leased.remove(&(deadline, offset));
            }
            PendingState::Ready | PendingState::Withheld => {
                self.ready.remove(&offset);
            }
            PendingState::Waiting { until } => {
                self.waiting.remove(&(until, offset));
            }
        }
        self.change_line(old.row.key, KeyLine::remove, at, old.stage());
        if let Some(offsets) = self.handles.get_mut(&old.handle) {
            offsets.remove(&offset);
            if offsets.is_empty() {
                self.handles.remove(&old.handle);
            }
        }
        self.pending_bytes -= u64::from(old.row.body_bytes);
        Some(old)
    }

    /// Changes the line of a key, and says anew who is foremost there. Without a key nobody is before one.
    fn change_line(&mut self, key: u128, change: fn(&mut KeyLine, (u64, u64), Stage), at: (u64, u64), stage: Stage) {
        let mut alone = KeyLine::default();
        alone.insert(at, stage);
        let line = if key == 0 { &mut alone } else { self.keys.entry(key).or_default() };
        if let Some(foremost) = line.foremost() {
            self.foremost.remove(foremost);
        }
        change(line, at, stage);
        if let Some(foremost) = line.foremost() {
            self.foremost.insert(foremost);
        }
        if line.is_empty() {
            self.keys.remove(&key);
        }
    }

    /// Forgets all pending messages.
    pub fn clear(&mut self) {
        self.dirty_chunks.extend(self.pending.chunks());
        self.pending.clear();
        self.pending_bytes = 0;
        self.ready.clear();
        self.waiting.clear();
        self.leased.clear();
        self.unstarted.clear();
        self.foremost.clear();
        self.keys.clear();
        self.handles.clear();
        self.dirty = true;
    }

    /// Whether a delivered message has this key and is not settled.
    pub fn holds_key(&self, key: u128) -> bool {
        self.keys.get(&key).is_some_and(KeyLine::is_held)
    }

    /// Whether a returned message comes before all others of its key.
    pub fn is_next_of_key(&self, offset: u64, key: u128) -> bool {
        self.keys.get(&key).is_none_or(|line| line.is_next(offset))
    }

    /// The deliverable returned messages, oldest first.
    pub fn ready(&self) -> impl Iterator<Item = u64> + '_ {
        self.ready.iter().copied()
    }

    /// The pending messages of a kind that were not delivered, in their order.
    pub fn unstarted(&self, kind: Kind) -> impl Iterator<Item = u64> + '_ {
        self.unstarted.part(kind).iter().map(|(_, offset)| *offset)
    }

    /// Those of them that no other pending message of their key comes before.
    pub fn foremost(&self, kind: Kind) -> impl Iterator<Item = u64> + '_ {
        self.foremost.part(kind).iter().map(|(_, offset)| *offset)
    }

    pub fn unstarted_len_of(&self, kind: Kind) -> usize {
        self.unstarted.part(kind).len()
    }

    pub fn unstarted_len(&self) -> usize {
        self.unstarted.len()
    }

    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    pub fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    pub fn leased_len(&self) -> usize {
        self.leased.len()
    }

    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    pub const fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    pub fn first_pending(&self) -> Option<u64> {
        self.pending.range(0).next().map(|(offset, _)| offset)
    }

    /// When the next lease lapses (boot time).
    pub fn next_deadline(&self) -> Option<u64> {
        self.leased.first().map(|(deadline, _)| *deadline)
    }

    /// When the next nack delay ends (log clock).
    pub fn next_until(&self) -> Option<u64> {
        self.waiting.first().map(|(until, _)| *until)
    }

    /// A lease whose deadline has come.
    pub fn lapsed(&self, boot: u64) -> Option<u64> {
        self.leased.first().filter(|(deadline, _)| *deadline <= boot).map(|(_, offset)| *offset)
    }

    /// Makes deliverable what has waited long enough, `most` of it; answers how much.
    pub fn end_waits(&mut self, now: u64, most: usize) -> usize {
        let mut ended = 0;
        while let Some((until, offset)) = self.waiting.first().copied()
            && until <= now
            && ended < most
        {
            self.make_ready(offset);
            ended += 1;
        }
        ended
    }

    /// Gives a message back, deliverable at once. No fact: its lapsed deadline says the same.
    pub fn make_ready(&mut self, offset: u64) {
        if let Some(mut pending) = self.pending.get(offset).cloned() {
            pending.state = PendingState::Ready;
            self.set(offset, pending);
        }
    }

    /// The pending messages that carry this handle.
    pub fn with_handle(&self, handle: u128) -> Vec<u64> {
        self.handles.get(&handle).into_iter().flatten().copied().collect()
    }

    /// Everything below is settled (delayed messages aside).
    pub fn floor(&self) -> u64 {
        self.first_pending().map_or(self.progress.cursor, |first| first.min(self.progress.cursor))
    }

    /// Moves all deadlines to another boot's clock: `before` was the last boot time seen of the old
    /// one, `now` is the new one's.
    pub fn rebase(&mut self, before: u64, now: u64) {
        for (deadline, offset) in std::mem::take(&mut self.leased) {
            let moved = now + deadline.saturating_sub(before);
            self.leased.insert((moved, offset));
            if let Some(pending) = self.pending.get_mut(offset) {
                pending.state = PendingState::Leased { deadline: moved };
            }
            self.dirty_chunks.insert(offset / BLOCK_ROWS);
        }
    }

    /// The record of a pending message moved; in a rebuild, it may be told of here for the first time.
    pub fn relocate(&mut self, offset: u64, row: &Row) {
        if let Some(mut pending) = self.pending.get(offset).cloned() {
            pending.row = row.clone();
            self.set(offset, pending);
        }
    }
}

impl GroupState {
    /// Delayed messages below this offset are none of the group's.
    pub fn first_delayed(&self) -> u64 {
        self.progress.start
    }

    /// The first offset that counts for the group. Without a position it counts as if it stood at its
    /// start, but holds everything, because its first pull may choose another start.
    pub fn counts_from(&self) -> u64 {
        match self.start() {
            Start::Tail if !self.progress.positioned => u64::MAX,
            Start::Offset(start) if !self.progress.positioned => start.get(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::entry::RowDisk;
    use crate::model::{GroupId, GroupName, Lsn};

    fn group() -> GroupState {
        let name = GroupName::parse("g").expect("a name");
        let settings = GroupSettings::default();
        let disk = GroupDisk::new(1, 1, GroupId::new(1), &name, Millis::ZERO, &settings);
        GroupState::new(disk).expect("a group")
    }

    fn pending(state: PendingState, attempt: u32) -> Pending {
        let row = RowDisk { id: 1, segment: 1, key: Some(7), ..RowDisk::unknown() };
        let row = Row::from_disk(&row, Default::default());
        Pending { row, attempt, lease: 0, handle: 0, state, superseded: false, said_at: Lsn::NONE }
    }

    #[test]
    fn of_many_waits_that_end_at_once_no_more_are_ended_than_asked_for() {
        let mut group = group();
        (0..10).for_each(|offset| group.set(offset, pending(PendingState::Waiting { until: 5 + offset }, 1)));
        assert_eq!(group.end_waits(11, 4), 4);
        assert_eq!((group.ready().collect::<Vec<_>>(), group.next_until()), (vec![0, 1, 2, 3], Some(9)));
        assert_eq!(group.end_waits(11, 4), 3);
        assert_eq!((group.ready_len(), group.waiting_len()), (7, 3));
    }

    #[test]
    fn a_replay_that_learns_of_the_first_of_a_key_last_lets_it_go_first() {
        let mut group = group();
        group.set(5, pending(PendingState::Leased { deadline: 9 }, 1));
        group.set(30, pending(PendingState::Withheld, 0));
        group.remove(5);
        // Said again when the front of the log went, behind what was said of the others.
        group.set(20, pending(PendingState::Withheld, 0));
        assert_eq!(group.foremost(Kind::Plain).collect::<Vec<_>>(), [20]);
        assert_eq!(group.unstarted(Kind::Plain).collect::<Vec<_>>(), [20, 30]);
    }
}
