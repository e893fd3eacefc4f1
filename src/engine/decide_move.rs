//! Decides where groups stand (a new one, a seek) and what topics give up (purge, discard, redrive).

use std::collections::BTreeMap;

use crate::engine::command::{Command, Reply, SeekWork};
use crate::engine::decide_settle::{MOVE_BYTES, MovedFrom};
use crate::engine::entry::{Entry, GoneDisk, PendingDisk, PendingState, Progress, RowDisk, Sums, TopicNo};
use crate::engine::group_state::GroupState;
use crate::engine::placing::{Placing, Then};
use crate::engine::rows::{Found, block_of};
use crate::engine::writer::{Step, Writer};
use crate::engine::{Discard, DiscardReport, LookupError, PurgeReport, RedriveReport, SeekReport};
use crate::log::{Room, Urgency};
use crate::model::{AccountName, Offset, Start, TopicName, TopicRef};

/// Bytes of one message in a `Gone` entry, at most.
pub(super) const GONE_BYTES: usize = 16;

impl Writer {
    /// The offset that `start` means, moved into what is kept.
    fn resolve(&self, topic: TopicNo, start: Start) -> u64 {
        let topic = &self.state.topics[&topic];
        match start {
            Start::Head => topic.head,
            Start::Tail => topic.tail(),
            Start::Offset(offset) => offset.get().clamp(topic.head, topic.tail()),
            Start::Time(_) => topic.head,
        }
    }

    /// The first offset, from `start` on, that a new place would leave to its cursor: below, what the
    /// other groups have all settled is gone and the rest is said one by one.
    fn cursor_at(&self, topic: TopicNo, start: Start) -> u64 {
        let at = self.resolve(topic, start);
        let state = &self.state.topics[&topic];
        if state.keeps_settled() {
            return at;
        }
        let groups = state.groups.iter().map(|group| &self.state.groups[group]);
        groups.map(|group| group.progress.cursor).min().map_or(at, |lowest| at.max(lowest))
    }

    /// The block that must be in memory to place a group there.
    pub(super) fn block_needed_for(&self, topic: TopicNo, start: Start) -> Option<u64> {
        let cursor = self.cursor_at(topic, start);
        self.sums_at(topic, cursor).err()
    }

    /// The topic's sums below `offset`; `Err`: this block is not in memory.
    pub(super) fn sums_at(&self, topic: TopicNo, offset: u64) -> Result<Sums, u64> {
        let topic = &self.state.topics[&topic];
        if offset <= topic.head {
            return Ok(topic.head_plain);
        }
        for at in offset..topic.tail() {
            match topic.rows.get(at) {
                Found::Row(row) | Found::Gone(row) => return Ok(row.before),
                Found::Absent => {}
                Found::Away(block) => return Err(block),
            }
        }
        Ok(topic.plain)
    }

    /// Where a group placed at `start` stands, and what is pending for it there.
    pub(super) fn placed(
        &self,
        no: TopicNo,
        start: Start,
        positioned: bool,
        placing: u32,
    ) -> (Progress, Vec<PendingDisk>) {
        let at = self.resolve(no, start);
        let cursor = self.cursor_at(no, start);
        let plain = self.sums_at(no, cursor).unwrap_or_default();
        let progress = Progress { cursor, plain, due: (0, 0), start: at, positioned, placing };
        let topic = &self.state.topics[&no];
        let mut pending: BTreeMap<u64, PendingDisk> = BTreeMap::new();
        for group in topic.groups.iter().map(|group| &self.state.groups[group]) {
            // A delayed message that others have taken is never met by the cursor, wherever it lies.
            let missed = group.pendings_from(at).filter(|(offset, kept)| *offset < cursor || kept.row.due != 0);
            for (offset, kept) in missed {
                // What is still among the delayed ones comes from there.
                if !kept.superseded && topic.delayed.get(offset).is_none() {
                    let fresh = PendingDisk {
                        attempt: 0,
                        lease: 0,
                        handle: 0,
                        state: PendingState::Ready,
                        ..kept.to_disk(offset)
                    };
                    pending.insert(offset, fresh);
                }
            }
        }
        (progress, pending.into_values().collect())
    }

    /// The oldest offset that is kept, as far as it is in memory; the tail if nothing is.
    fn oldest_kept(&self, no: TopicNo) -> u64 {
        let topic = &self.state.topics[&no];
        let groups = || topic.groups.iter().map(|group| &self.state.groups[group]);
        let pending = groups().filter_map(GroupState::first_pending).min();
        let lowest = groups().map(|group| group.progress.cursor).min().filter(|_| !topic.keeps_settled());
        let is_ahead = |offset: &u64| match topic.rows.get(*offset) {
            Found::Row(row) => row.due == 0,
            Found::Gone(_) | Found::Absent => false,
            Found::Away(_) => true,
        };
        let ahead = (lowest.unwrap_or(topic.head)..topic.tail()).find(is_ahead);
        [pending, topic.delayed.first_offset(), ahead].into_iter().flatten().min().unwrap_or(topic.tail())
    }

    pub(super) fn seek(&mut self, work: SeekWork, reply: Reply<Result<SeekReport, LookupError>>) -> Step {
        let room = self.room_soon(4096, Urgency::Essential);
        if room == Room::NeedsRoll {
            return Step::Roll(Command::Seek(work, reply));
        }
        if let Some(refusal) = self.refusal(Urgency::Essential, room) {
            self.answer_synced(reply, Err(refusal.into()));
            return Step::Done;
        }
        let (topic, group) = match self.find_group(&work.account, &work.topic, &work.group) {
            Ok(found) => found,
            Err(error) => {
                self.answer_synced(reply, Err(error));
                return Step::Done;
            }
        };
        if let Some(block) = self.block_needed_for(topic, work.to) {
            return Step::Need(Command::Seek(work, reply), topic, block);
        }
        let state = &self.state.groups[&group];
        let (progress, pending) = self.placed(topic, work.to, true, state.progress.placing + 1);
        let of_topic = &self.state.topics[&topic];
        let delayed = of_topic.delayed.by_offset().filter(|(offset, ..)| *offset >= progress.start).count();
        let gone = of_topic.gone.beyond(progress.plain);
        let report = SeekReport {
            from: Offset::new(state.progress.cursor),
            to: Offset::new(progress.start.max(self.oldest_kept(topic))),
            pending_dropped: (state.pending_len() - state.unstarted_len()) as u64,
            ahead: pending.len() as u64 + delayed as u64 + of_topic.plain.since(progress.plain).since(gone).count,
        };
        if work.dry_run {
            self.answer_synced(reply, Ok(report));
            return Step::Done;
        }
        let (before, after, then) = (Vec::new(), Vec::new(), Then::Sought(report, reply));
        Step::Place(Box::new(Placing { group, progress, pending, before, after, then }))
    }

    pub(super) fn purge(
        &mut self,
        account: AccountName,
        topic: TopicRef,
        reply: Reply<Result<PurgeReport, LookupError>>,
    ) -> Step {
        let room = self.room_soon(4096, Urgency::Essential);
        if room == Room::NeedsRoll {
            return Step::Roll(Command::Purge(account, topic, reply));
        }
        let answer = match (self.refusal(Urgency::Essential, room), self.find(&account, &topic)) {
            (Some(refusal), _) => Err(refusal.into()),
            (None, Err(error)) => Err(error),
            (None, Ok(no)) => {
                let messages = self.topic_counts(no).unsettled();
                let (head, plain) = (self.state.topics[&no].tail(), self.state.topics[&no].plain);
                self.emit(&Entry::Trimmed { topic: no, head, plain });
                let groups = self.state.topics[&no].groups.clone();
                self.touch_groups(&groups);
                Ok(PurgeReport { messages })
            }
        };
        self.answer_synced(reply, answer);
        Step::Done
    }

    pub(super) fn discard(&mut self, request: Discard, reply: Reply<Result<DiscardReport, LookupError>>) -> Step {
        let room = self.room_soon(GONE_BYTES * (request.offsets.len() + 4), Urgency::Essential);
        if room == Room::NeedsRoll {
            return Step::Roll(Command::Discard(request, reply));
        }
        let no = match (self.refusal(Urgency::Essential, room), self.find(&request.account, &request.topic)) {
            (None, Ok(no)) => no,
            (Some(refusal), _) => {
                self.answer_synced(reply, Err(refusal.into()));
                return Step::Done;
            }
            (None, Err(error)) => {
                self.answer_synced(reply, Err(error));
                return Step::Done;
            }
        };
        if let Some(block) = self.first_away(no, &request.offsets) {
            return Step::Need(Command::Discard(request, reply), no, block);
        }
        let mut seen = std::collections::HashSet::new();
        let mut discarded = request.offsets;
        discarded.retain(|offset| seen.insert(*offset));
        let topic = &self.state.topics[&no];
        let mut items = Vec::new();
        discarded.retain(|offset| match topic.rows.get(offset.get()) {
            _ if offset.get() >= topic.tail() => false,
            Found::Row(row) | Found::Gone(row) if self.state.is_live(no, offset.get(), row.due != 0) => {
                items.push(GoneDisk::new(offset.get(), &row));
                true
            }
            _ => false,
        });
        if !items.is_empty() {
            self.emit(&Entry::Gone { topic: no, items, leased_too: true });
            let groups = self.state.topics[&no].groups.clone();
            self.touch_groups(&groups);
        }
        self.answer_synced(reply, Ok(DiscardReport { discarded }));
        Step::Done
    }

    fn first_away(&self, no: TopicNo, offsets: &[Offset]) -> Option<u64> {
        let topic = &self.state.topics[&no];
        let known = offsets.iter().filter(|offset| offset.get() < topic.tail() && offset.get() >= topic.head);
        known.map(|offset| block_of(offset.get())).find(|block| !topic.rows.is_loaded(*block))
    }

    pub(super) fn redrive(
        &mut self,
        account: AccountName,
        topic: TopicRef,
        (offsets, limit): (Vec<Offset>, usize),
        reply: Reply<Result<RedriveReport, LookupError>>,
    ) -> Step {
        let bytes = (offsets.len() * MOVE_BYTES / 4).min(self.frame_bytes_max() / 2);
        let room = self.room_soon(4096 + bytes, Urgency::Essential);
        if room == Room::NeedsRoll {
            return Step::Roll(Command::Redrive(account, topic, (offsets, limit), reply));
        }
        let no = match (self.refusal(Urgency::Essential, room), self.find(&account, &topic)) {
            (None, Ok(no)) => no,
            (Some(refusal), _) => {
                self.answer_synced(reply, Err(refusal.into()));
                return Step::Done;
            }
            (None, Err(error)) => {
                self.answer_synced(reply, Err(error));
                return Step::Done;
            }
        };
        if let Some(block) = self.first_away(no, &offsets) {
            return Step::Need(Command::Redrive(account, topic, (offsets, limit), reply), no, block);
        }
        let mut report = RedriveReport { moved: 0, left: 0 };
        for (place, offset) in offsets.iter().enumerate() {
            if report.moved as usize >= limit {
                break;
            }
            if !self.log.fits(MOVE_BYTES) {
                // More than one commit holds: the next call moves on.
                report.left += (offsets.len() - place) as u64;
                break;
            }
            match self.redrive_one(&account, no, offset.get()) {
                Some(true) => report.moved += 1,
                Some(false) => report.left += 1,
                None => {}
            }
        }
        let groups = self.state.topics[&no].groups.clone();
        self.touch_groups(&groups);
        self.answer_synced(reply, Ok(report));
        Step::Done
    }

    /// Whether it was moved; `None`: there is no such message.
    fn redrive_one(&mut self, account: &AccountName, no: TopicNo, offset: u64) -> Option<bool> {
        let topic = &self.state.topics[&no];
        if offset >= topic.tail() || offset < topic.head {
            return None;
        }
        let (Found::Row(row) | Found::Gone(row)) = topic.rows.get(offset) else { return None };
        if !self.state.is_live(no, offset, row.due != 0) {
            return None;
        }
        let Some(origin) = &row.origin else { return Some(false) };
        let target = TopicName::parse(&origin.topic).ok();
        let target = target.and_then(|name| self.find(account, &TopicRef::Name(name)).ok());
        let Some(to) = target.filter(|to| *to != no) else { return Some(false) };
        let before = row.before;
        let row = RowDisk { origin: None, ..row.to_disk() };
        self.move_row(MovedFrom { group: None, topic: no, offset, before }, to, row);
        Some(true)
    }
}
