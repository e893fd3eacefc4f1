//! Drops the front of the log: what in its oldest segment is still true is appended again, synced,
//! and then the log begins behind it.
//!
//! Goes in bounded pieces, one a turn, and begins when the log takes over twice what is still needed.

use std::collections::{HashMap, VecDeque};

use crate::engine::command::Candidate;
use crate::engine::entry::{Entry, GroupNo, RewrittenDisk, RowDisk, TopicNo};
use crate::engine::rows::Found;
use crate::engine::writer::{Job, Writer};
use crate::log::{Fatal, Loc, Room, Urgency, record_bytes};
use crate::model::Lsn;

/// Bytes of rewritten records, and facts kept, that one turn adds at most.
const PIECE_BYTES: usize = 1 << 20;
const PIECE_FACTS: usize = 512;
/// Rows of dead letters looked at in one turn.
const PIECE_ROWS: u64 = 8192;
/// How often to look whether there is something to drop, in ms.
const LOOK_MS: u64 = 500;
/// Segments beyond twice the live bytes that nobody minds.
const SLACK_SEGMENTS: u64 = 4;
/// Bytes that a rewritten record's fact takes at most (names of an origin included).
const FACT_BYTES: usize = 2048;

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

impl Front {
    /// A turn would do something.
    pub fn wants_turn(&self) -> bool {
        match self.step {
            Stage::Idle => false,
            Stage::Records => !self.reading || !self.candidates.is_empty(),
            Stage::Foreign(..) | Stage::Pending(..) | Stage::Idempotency(_) => true,
        }
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
            *self = Self { look_at: self.look_at + 60_000, ..Self::default() };
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
    /// One piece of the work.
    pub(super) fn advance_front(&mut self) -> Result<(), Fatal> {
        if self.stopping.is_some() || self.rebuilding {
            return Ok(());
        }
        match self.front.step {
            Stage::Idle => self.look_at_front(),
            Stage::Foreign(topic, offset) => self.gather_foreign(topic, offset),
            Stage::Records => return self.rewrite_records(),
            Stage::Pending(group, offset) => return self.keep_pending(group, offset),
            Stage::Idempotency(topic) => return self.keep_idempotency(topic),
        }
        Ok(())
    }

    fn look_at_front(&mut self) {
        if self.boot < self.front.look_at || self.rebuilding {
            return;
        }
        self.front.look_at = self.boot + LOOK_MS;
        let segments = self.log.segments();
        let (Some(first), Some(second)) = (segments.first(), segments.get(1)) else { return };
        let total: u64 = segments.iter().map(|segment| segment.file_bytes).sum();
        if total <= SLACK_SEGMENTS * first.file_bytes.max(second.file_bytes)
            || self.checkpoint_lsn.next() < second.first
        {
            return;
        }
        if total <= 2 * self.live_bytes() + SLACK_SEGMENTS * first.file_bytes.max(second.file_bytes) {
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
            self.ask_for(found, block);
        }
    }

    fn rewrite_records(&mut self) -> Result<(), Fatal> {
        let mut bytes = 0;
        while bytes < PIECE_BYTES {
            let Some(candidate) = self.front.candidates.pop_front() else { break };
            let size = record_bytes(candidate.head.len(), candidate.body.len()) + FACT_BYTES;
            let at =
                Loc { segment: candidate.row.segment, position: candidate.row.position, length: candidate.row.length };
            let homes = match self.homes(&candidate, at) {
                Ok(homes) => homes,
                Err((topic, block)) => {
                    self.ask_for(topic, block);
                    self.front.candidates.push_front(candidate);
                    return Ok(());
                }
            };
            if homes.is_empty() {
                continue;
            }
            match self.room(size + homes.len() * FACT_BYTES, Urgency::Essential) {
                Room::Fits => {}
                Room::NeedsRoll => self.commit_and_roll()?,
                Room::Full | Room::TooLarge => {
                    self.front.candidates.push_front(candidate);
                    return Ok(());
                }
            }
            if !self.log.fits(size + homes.len() * FACT_BYTES) {
                self.front.candidates.push_front(candidate);
                return Ok(());
            }
            bytes += size;
            self.rewrite(&candidate, &homes);
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

    /// The messages that live and whose record is this one: where it was published, and dead letters made
    /// of it. `Err`: the block that knows is not loaded.
    fn homes(&self, candidate: &Candidate, at: Loc) -> Result<Vec<(TopicNo, u64)>, (TopicNo, u64)> {
        let published = (candidate.topic, candidate.offset);
        let foreign = self.front.foreign.get(&at).into_iter().flatten().copied();
        let mut homes = Vec::new();
        for (no, offset) in foreign.filter(|home| *home != published).chain([published]) {
            // A topic may be deleted, a dead letter be redriven, while it waits to be written again.
            let Some(topic) = self.state.topics.get(&no) else { continue };
            let delayed = (no, offset) == published && candidate.row.due.is_some();
            if !self.state.is_live(no, offset, delayed) {
                continue;
            }
            match topic.rows.get(offset) {
                Found::Row(row) | Found::Gone(row) if row.loc == at && row.id == candidate.row.id => {
                    homes.push((no, offset));
                }
                Found::Row(_) | Found::Gone(_) | Found::Absent => {}
                Found::Away(block) => return Err((no, block)),
            }
        }
        Ok(homes)
    }

    fn rewrite(&mut self, candidate: &Candidate, homes: &[(TopicNo, u64)]) {
        let loc = self.push_record(candidate.row.id, &candidate.head, &candidate.body);
        for (topic, offset) in homes {
            let state = &self.state.topics[topic];
            let (row, gone) = match state.rows.get(*offset) {
                Found::Row(row) => (row, false),
                Found::Gone(row) => (row, true),
                Found::Absent | Found::Away(_) => continue,
            };
            let (before, untaken) = (row.before, state.delayed.get(*offset).is_some());
            let row = RowDisk { segment: loc.segment, position: loc.position, length: loc.length, ..row.to_disk() };
            let kept = RewrittenDisk { offset: *offset, before, untaken, gone, row };
            self.emit(&Entry::Rewritten { topic: *topic, rows: vec![kept] });
        }
    }

    fn keep_pending(&mut self, no: GroupNo, from: u64) -> Result<(), Fatal> {
        let Some((no, group)) = self.state.groups.range(no..).next().map(|(no, group)| (*no, group)) else {
            let first_topic = self.state.topics.keys().next().copied().unwrap_or(0);
            self.front.step = Stage::Idempotency(first_topic);
            return Ok(());
        };
        let next = Lsn::new(self.front.next);
        let pieces = if self.frame_bytes_max() < PIECE_FACTS * 512 { 16 } else { PIECE_FACTS };
        let mut pending = Vec::new();
        let mut resume = None;
        for (offset, kept) in group.pendings_from(from) {
            if kept.said_at < next {
                if pending.len() >= pieces {
                    resume = Some(offset);
                    break;
                }
                pending.push(kept.to_disk(offset));
            }
        }
        if !pending.is_empty() {
            let bytes =
                pending.iter().map(|kept| 256 + kept.row.origin.as_ref().map_or(0, |_| FACT_BYTES)).sum::<usize>();
            match self.room(bytes, Urgency::Essential) {
                Room::Fits => {}
                Room::NeedsRoll => self.commit_and_roll()?,
                Room::Full | Room::TooLarge => return Ok(()),
            }
            if !self.log.fits(bytes) {
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
        for keys in known.chunks(PIECE_FACTS / 2) {
            let bytes = 64 + keys.len() * 64;
            match self.room(bytes, Urgency::Essential) {
                Room::Fits => {}
                Room::NeedsRoll => self.commit_and_roll()?,
                Room::Full | Room::TooLarge => return Ok(()),
            }
            if !self.log.fits(bytes) {
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
        self.require_sync();
        self.commit()?;
        self.log.drop_front(self.front.next);
        tracing::debug!(segment = self.front.segment, "the front segment of the log was dropped");
        self.front = Front { look_at: self.boot, ..Front::default() };
        Ok(())
    }
}
