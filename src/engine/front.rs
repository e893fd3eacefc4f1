//! Drops the front of the log: what in its oldest segment is still true is appended again, synced,
//! and then the log begins behind it.
//!
//! Goes in bounded pieces, one a turn, and begins when the log takes over twice what is still needed.

use std::collections::{HashMap, VecDeque};

use crate::codec;
use crate::engine::command::Candidate;
use crate::engine::entry::{Entry, GroupNo, RewrittenDisk, TopicNo};
use crate::engine::rows::Found;
use crate::engine::writer::{HELD_UP_MS, Job, Writer};
use crate::log::{Fatal, Loc, Room, Urgency, entry_bytes, record_bytes};
use crate::model::Lsn;
use crate::planted::{Defect, planted};

/// Bytes of rewritten records, and facts kept, that one turn adds at most.
const PIECE_BYTES: usize = 1 << 20;
const PIECE_FACTS: usize = 512;
/// Rows of dead letters looked at in one turn.
const PIECE_ROWS: u64 = 8192;
/// How often to look whether there is something to drop, in ms.
const LOOK_MS: u64 = 500;
/// A front that cannot be read, or written again, is left alone for this long, in ms.
const GIVEN_UP_MS: u64 = 60_000;
/// Segments beyond twice the live bytes that nobody minds.
const SLACK_SEGMENTS: u64 = 4;
/// Bytes of a `PendingKept` entry beside its messages, and of one idempotency key, at most.
const PENDING_KEPT_BYTES: usize = 64;
const IDEMPOTENCY_BYTES: usize = 64;

/// How far the drop of the front segment has come.
#[derive(Default)]
pub struct Front {
    step: Stage,
    /// Of the segment that goes, and of the one behind it.
    segment: u64,
    next: u64,
    look_at: u64,
    /// Dead letters whose records lie in the segment that goes.
    foreign: HashMap<Loc, Vec<(TopicNo, u64)>>,
    candidates: VecDeque<Candidate>,
    frames_read: usize,
    reading: bool,
    read_all: bool,
    /// A dead letter was made of a record in this segment: look again.
    again: bool,
    wait: Wait,
    /// A segment was just dropped, or a checkpoint ended: there may be another one to drop.
    eager: bool,
}

/// Why the next piece cannot be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Wait {
    #[default]
    Nothing,
    /// A block of the index is on its way; the turn that takes it in goes on.
    Block,
    /// There is no room, or the segment defeats us; to be tried again at this boot time.
    Until(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Idle,
    /// Looking for dead letters that lie in the segment, from this topic and offset on.
    Foreign(TopicNo, u64),
    Records,
    /// Saying pending facts again, from this group and offset on.
    Pending(GroupNo, u64),
    Idempotency(TopicNo),
}

/// A message whose record is appended again.
struct Fact {
    topic: TopicNo,
    row: RewrittenDisk,
}

impl Fact {
    fn entry(&self) -> Entry {
        Entry::Rewritten { topic: self.topic, rows: vec![self.row.clone()] }
    }
}

impl Front {
    /// A turn at this boot time would do something.
    pub fn wants_turn(&self, boot: u64) -> bool {
        let has_work = match self.step {
            Stage::Idle => self.eager,
            Stage::Records => !self.reading || !self.candidates.is_empty(),
            Stage::Foreign(..) | Stage::Pending(..) | Stage::Idempotency(_) => true,
        };
        match self.wait {
            Wait::Nothing => has_work,
            Wait::Block => false,
            Wait::Until(until) => has_work && until <= boot,
        }
    }

    /// Boot time at which it is tried again, if nothing else wakes it.
    pub fn next_try(&self) -> Option<u64> {
        match self.wait {
            Wait::Until(until) => Some(until),
            Wait::Nothing | Wait::Block => None,
        }
    }

    /// What may be dropped has changed.
    pub fn look_now(&mut self) {
        self.look_at = 0;
        self.eager = true;
    }

    /// Records of the segment were read.
    pub fn scanned(
        &mut self,
        segment: u64,
        frames: usize,
        candidates: Vec<Candidate>,
        end: bool,
        failed: Option<String>,
    ) {
        if self.step != Stage::Records || segment != self.segment {
            return;
        }
        self.reading = false;
        if let Some(error) = failed {
            tracing::error!(%error, segment, "the front of the log cannot be read, it stays");
            *self = Self { wait: Wait::Until(self.look_at + GIVEN_UP_MS), ..Self::default() };
            return;
        }
        self.frames_read = frames;
        self.read_all = end;
        self.candidates.extend(candidates);
    }

    /// A record is now referred to from another topic.
    pub fn moved(&mut self, loc: Loc) {
        self.again |= self.step != Stage::Idle && loc.segment == self.segment;
    }
}

impl Writer {
    /// Nothing is said again while the index is built, or by a writer that stops.
    pub(super) fn may_advance_front(&self) -> bool {
        self.stopping.is_none() && !self.rebuilding
    }

    /// One piece of the work.
    pub(super) fn advance_front(&mut self) -> Result<(), Fatal> {
        if !self.may_advance_front() || matches!(self.front.wait, Wait::Until(until) if until > self.boot) {
            return Ok(());
        }
        self.front.wait = Wait::Nothing;
        match self.front.step {
            Stage::Idle => self.look_at_front(),
            Stage::Foreign(topic, offset) => self.gather_foreign(topic, offset),
            Stage::Records => return self.rewrite_records(),
            Stage::Pending(group, offset) => return self.keep_pending(group, offset),
            Stage::Idempotency(topic) => return self.keep_idempotency(topic),
        }
        Ok(())
    }

    fn wait_for_block(&mut self, topic: TopicNo, block: u64) {
        self.ask_for(topic, block);
        self.front.wait = Wait::Block;
    }

    /// Whether a piece of this size has room now; if not, it is tried again in a while.
    fn has_room(&mut self, bytes: usize) -> Result<bool, Fatal> {
        match self.room(bytes, Urgency::Essential) {
            Room::Fits => {}
            Room::NeedsRoll => self.commit_and_roll()?,
            Room::Full => {}
            Room::TooLarge => {
                // Written under larger segments than this server has.
                tracing::error!(
                    bytes,
                    segment = self.front.segment,
                    "the front of the log does not fit a frame, it stays"
                );
                self.front = Front { wait: Wait::Until(self.boot + GIVEN_UP_MS), ..Front::default() };
                return Ok(false);
            }
        }
        let fits = self.log.fits(bytes);
        if !fits {
            self.front.wait = Wait::Until(self.boot + HELD_UP_MS);
        }
        Ok(fits)
    }

    fn look_at_front(&mut self) {
        self.front.eager = false;
        if self.boot < self.front.look_at {
            return;
        }
        self.front.look_at = self.boot + LOOK_MS;
        let segments = self.log.segments();
        let (Some(first), Some(second)) = (segments.first(), segments.get(1)) else { return };
        let total: u64 = segments.iter().map(|segment| segment.file_bytes).sum();
        // On a full disk they are minded.
        let slack_segments = if self.log.space_state().no_space { 0 } else { SLACK_SEGMENTS };
        let slack = slack_segments * first.file_bytes.max(second.file_bytes);
        let covered = self.checkpoint_lsn.next() >= second.first || planted(Defect::DropBeforeCheckpoint);
        if total <= slack || !covered || total <= 2 * self.live_bytes() + slack {
            return;
        }
        let first_topic = self.state.topics.keys().next().copied().unwrap_or(0);
        self.front = Front {
            step: Stage::Foreign(first_topic, 0),
            segment: first.first.get(),
            next: second.first.get(),
            look_at: self.front.look_at,
            ..Front::default()
        };
    }

    fn gather_foreign(&mut self, no: TopicNo, from: u64) {
        let next = self.state.topics.range(no..).find(|(_, topic)| topic.foreign).map(|(no, _)| *no);
        let Some(found) = next else {
            self.front.step = Stage::Records;
            return;
        };
        let topic = &self.state.topics[&found];
        let start = if found == no { from.max(self.state.floor(topic)) } else { self.state.floor(topic) };
        let end = topic.tail().min(start + PIECE_ROWS);
        let mut away = None;
        let mut at = start;
        while at < end {
            match topic.rows.get(at) {
                Found::Row(row) | Found::Gone(row) => {
                    if row.loc.segment == self.front.segment && self.state.is_live(found, at, row.due != 0) {
                        self.front.foreign.entry(row.loc).or_default().push((found, at));
                    }
                }
                Found::Absent => {}
                Found::Away(block) => {
                    away = Some(block);
                    break;
                }
            }
            at += 1;
        }
        let done = at >= topic.tail();
        self.front.step = if done { Stage::Foreign(found + 1, 0) } else { Stage::Foreign(found, at) };
        if let Some(block) = away {
            self.wait_for_block(found, block);
        }
    }

    fn rewrite_records(&mut self) -> Result<(), Fatal> {
        let mut bytes = 0;
        while bytes < PIECE_BYTES {
            let Some(candidate) = self.front.candidates.pop_front() else { break };
            let at =
                Loc { segment: candidate.row.segment, position: candidate.row.position, length: candidate.row.length };
            let mut facts = match self.facts_of(&candidate, at) {
                Ok(facts) => facts,
                Err((topic, block)) => {
                    self.wait_for_block(topic, block);
                    self.front.candidates.push_front(candidate);
                    return Ok(());
                }
            };
            while !facts.is_empty() {
                let (count, size) = self.share(&candidate, &facts);
                if !self.has_room(size)? {
                    self.front.candidates.push_front(candidate);
                    return Ok(());
                }
                self.rewrite(&candidate, facts.drain(..count));
                bytes += size;
            }
        }
        if !self.front.candidates.is_empty() || self.front.reading {
            return Ok(());
        }
        if !self.front.read_all {
            self.front.reading = true;
            self.jobs.push(Job::Scan { segment: self.front.segment, skip: self.front.frames_read });
            return Ok(());
        }
        self.front.step = if std::mem::take(&mut self.front.again) {
            (self.front.read_all, self.front.frames_read) = (false, 0);
            Stage::Foreign(0, 0)
        } else {
            Stage::Pending(0, 0)
        };
        Ok(())
    }

    /// What to say of the messages that live and whose record is this one: where it was published, and dead
    /// letters made of it. `Err`: the block that knows is not loaded.
    fn facts_of(&self, candidate: &Candidate, at: Loc) -> Result<Vec<Fact>, (TopicNo, u64)> {
        let published = (candidate.topic, candidate.offset);
        let foreign = self.front.foreign.get(&at).into_iter().flatten().copied();
        let mut facts = Vec::new();
        for (no, offset) in foreign.filter(|home| *home != published).chain([published]) {
            // A topic may be deleted, a dead letter be redriven, while it waits to be written again.
            let Some(topic) = self.state.topics.get(&no) else { continue };
            let delayed = (no, offset) == published && candidate.row.due.is_some();
            if !self.state.is_live(no, offset, delayed) {
                continue;
            }
            let (row, gone) = match topic.rows.get(offset) {
                Found::Row(row) => (row, false),
                Found::Gone(row) => (row, true),
                Found::Absent => continue,
                Found::Away(block) => return Err((no, block)),
            };
            if row.loc == at && row.id == candidate.row.id {
                let (before, untaken) = (row.before, topic.delayed.get(offset).is_some());
                let row = RewrittenDisk { offset, before, untaken, gone, row: row.to_disk() };
                facts.push(Fact { topic: no, row });
            }
        }
        Ok(facts)
    }

    /// How many of the facts go into one frame with their record, and the bytes of it all.
    fn share(&self, candidate: &Candidate, facts: &[Fact]) -> (usize, usize) {
        let max = self.payload_bytes_max();
        let (mut count, mut size) = (0, record_bytes(candidate.head.len(), candidate.body.len()));
        for fact in facts {
            let more = entry_bytes(codec::encode(&fact.entry()).len());
            if count > 0 && size + more > max {
                break;
            }
            count += 1;
            size += more;
        }
        (count, size)
    }

    fn rewrite(&mut self, candidate: &Candidate, facts: impl Iterator<Item = Fact>) {
        let loc = self.push_record(candidate.row.id, &candidate.head, &candidate.body);
        for mut fact in facts {
            (fact.row.row.segment, fact.row.row.position, fact.row.row.length) =
                (loc.segment, loc.position, loc.length);
            self.emit(&fact.entry());
        }
    }

    fn keep_pending(&mut self, no: GroupNo, from: u64) -> Result<(), Fatal> {
        let Some((no, group)) = self.state.groups.range(no..).next().map(|(no, group)| (*no, group)) else {
            let first_topic = self.state.topics.keys().next().copied().unwrap_or(0);
            self.front.step = Stage::Idempotency(first_topic);
            return Ok(());
        };
        let next = Lsn::new(self.front.next);
        let bytes_max = self.payload_bytes_max() / 2;
        let (mut pending, mut bytes) = (Vec::new(), PENDING_KEPT_BYTES);
        let mut resume = None;
        for (offset, kept) in group.pendings_from(from) {
            if kept.said_at < next {
                let kept = kept.to_disk(offset);
                let more = codec::encode(&kept).len();
                if !pending.is_empty() && (pending.len() >= PIECE_FACTS || bytes + more > bytes_max) {
                    resume = Some(offset);
                    break;
                }
                bytes += more;
                pending.push(kept);
            }
        }
        if !pending.is_empty() {
            if !self.has_room(bytes)? {
                return Ok(());
            }
            self.emit(&Entry::PendingKept { group: no, pending });
            self.touched.insert(no);
        }
        self.front.step = resume.map_or(Stage::Pending(no + 1, 0), |offset| Stage::Pending(no, offset));
        Ok(())
    }

    fn keep_idempotency(&mut self, no: TopicNo) -> Result<(), Fatal> {
        let Some((no, topic)) = self.state.topics.range(no..).next() else { return self.drop_front_segment() };
        let (no, known) = (*no, topic.idempotency.said_before(Lsn::new(self.front.next)));
        let piece = (self.payload_bytes_max() / 2 / IDEMPOTENCY_BYTES).clamp(1, PIECE_FACTS);
        for keys in known.chunks(piece) {
            let bytes = (keys.len() + 1) * IDEMPOTENCY_BYTES;
            if !self.has_room(bytes)? {
                return Ok(());
            }
            self.emit(&Entry::IdempotencyKept { topic: no, keys: keys.to_vec() });
        }
        self.front.step = Stage::Idempotency(no + 1);
        Ok(())
    }

    fn drop_front_segment(&mut self) -> Result<(), Fatal> {
        if std::mem::take(&mut self.front.again) {
            (self.front.read_all, self.front.frames_read) = (false, 0);
            self.front.step = Stage::Foreign(0, 0);
            return Ok(());
        }
        // What was said again must be durable before what said it first may go.
        self.commit_durably()?;
        let beyond = self.log.segments().get(2).map(|segment| segment.first.get());
        let next = beyond.filter(|_| planted(Defect::DropOneTooMany)).unwrap_or(self.front.next);
        self.log.drop_front(next);
        tracing::debug!(segment = self.front.segment, "the front segment of the log was dropped");
        self.front = Front { eager: true, ..Front::default() };
        Ok(())
    }
}
