//! Chooses what a pull takes. Pure: changes nothing, so that a choice may be thrown away.
//!
//! Order: returned messages by offset, then due delayed ones by time, then fresh ones from the cursor.

use std::collections::HashSet;

use crate::engine::entry::{PendingState, Progress};
use crate::engine::group_state::GroupState;
use crate::engine::line::Kind;
use crate::engine::rows::{BLOCK_ROWS, Found, Row, block_of};
use crate::engine::state::State;
use crate::engine::topic_state::TopicState;
use crate::model::{Ordering, bounds};

/// Messages that one choice looks at, at most, before it says how far it came.
pub const SCAN_MAX: usize = 8 * BLOCK_ROWS as usize;

/// What to look for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub batch_max: usize,
    /// Messages withheld or dropped at most, before it says how far it came.
    pub passes_max: usize,
    /// Digests of the tags that fresh and due messages must have; `None`: all.
    pub fresh: Option<&'a [u64]>,
    /// The same for returned messages; `None`: all.
    pub returned: Option<&'a [u64]>,
}

/// What was chosen.
#[derive(Debug, Default)]
pub struct Selection {
    pub picks: Vec<(u64, Row)>,
    /// Of the bodies of these.
    bytes: u64,
    /// Passed over because a message of the same key comes first.
    pub withheld: Vec<u64>,
    /// Pending, never delivered, and not wanted by this pull.
    pub dropped: Vec<u64>,
    pub progress: Progress,
    /// The choice is short because this block is not in memory.
    pub needs: Option<u64>,
    /// The choice is short because it looked at enough; the next one goes on from `progress`.
    pub more: bool,
}

impl Selection {
    /// Whether it is so many messages, or as many as fit one answer.
    pub fn suffices(&self, need: usize) -> bool {
        self.picks.len() >= need || self.bytes >= bounds::PULL_BYTES_MAX
    }

    fn pick(&mut self, offset: u64, row: &Row) {
        self.bytes += u64::from(row.body_bytes);
        self.picks.push((offset, row.clone()));
    }
}

/// Chooses for a group at log-clock time `state.now`.
pub fn select(state: &State, topic: &TopicState, group: &GroupState, wanted: Wanted<'_>) -> Selection {
    let mut choice = Choice {
        topic,
        group,
        wanted,
        room: fresh_room(state, group),
        withheld_room: state.limits.returned_max,
        keys: HashSet::new(),
        scanned: 0,
        out: Selection { progress: group.progress, ..Selection::default() },
    };
    if topic.settings.ordering == Ordering::Strict {
        choice.strict(state.matured_to);
    } else {
        choice.returned();
        choice.rest(state.matured_to);
    }
    choice.out
}

/// How many more fresh or due messages the caps of the group allow.
fn fresh_room(state: &State, group: &GroupState) -> usize {
    if group.waiting_len() >= state.limits.returned_max {
        return 0;
    }
    (group.settings.pending_max as usize).saturating_sub(group.leased_len() + group.ready_len())
}

struct Choice<'a> {
    topic: &'a TopicState,
    group: &'a GroupState,
    wanted: Wanted<'a>,
    room: usize,
    /// How many more messages that wait for another of their key it may look past.
    withheld_room: usize,
    keys: HashSet<u128>,
    scanned: usize,
    out: Selection,
}

/// Whether to look at the next message.
#[derive(PartialEq, Eq)]
enum Next {
    Go,
    Stop,
}

/// What becomes of a message that the group was not given before.
enum Verdict {
    Take,
    /// This pull does not want it.
    Drop,
    /// Another message of its key comes first.
    Withhold,
    /// It stays where it is, and so does all behind it.
    Stop,
}

impl Choice<'_> {
    fn full(&self) -> bool {
        self.out.suffices(self.wanted.batch_max)
    }

    /// As many were passed as one choice may pass.
    fn passed_enough(&mut self) -> bool {
        self.out.more |= self.out.withheld.len() + self.out.dropped.len() >= self.wanted.passes_max;
        self.out.more
    }

    fn per_key(&self) -> bool {
        self.topic.settings.ordering == Ordering::PerKey
    }

    fn returned(&mut self) {
        for offset in self.group.ready() {
            if self.full() {
                return;
            }
            let Some(pending) = self.group.pending(offset) else { continue };
            if !wants(self.wanted.returned, &pending.row) {
                continue;
            }
            if self.per_key() && !self.group.is_next_of_key(offset, pending.row.key) {
                continue;
            }
            self.out.pick(offset, &pending.row);
        }
    }

    /// One batch in flight, and nothing passes a message that waits for its next try.
    fn strict(&mut self, matured_to: u64) {
        if self.group.leased_len() > 0 {
            return;
        }
        for (offset, pending) in self.group.pendings().filter(|(_, pending)| pending.attempt > 0) {
            if self.full() {
                return;
            }
            // What waits for its next try, or is not wanted by this pull, blocks all behind it.
            let waits = matches!(pending.state, PendingState::Waiting { .. });
            if waits || !wants(self.wanted.returned, &pending.row) {
                return;
            }
            self.out.pick(offset, &pending.row);
        }
        self.rest(matured_to);
    }

    fn rest(&mut self, matured_to: u64) {
        let go = self.unstarted(Kind::Delayed) == Next::Go
            && self.due(matured_to) == Next::Go
            && self.unstarted(Kind::Plain) == Next::Go;
        if go {
            self.fresh();
        }
    }

    fn unstarted(&mut self, kind: Kind) -> Next {
        let group = self.group;
        let count = group.unstarted_len_of(kind);
        if !self.per_key() || self.wanted.fresh.is_some() || count > self.withheld_room {
            return self.offer_unstarted(group.unstarted(kind));
        }
        // All that wait for another of their key are looked past, so that only the foremost count.
        let (room, picked) = (self.withheld_room, self.out.picks.len());
        let next = self.offer_unstarted(group.foremost(kind));
        self.withheld_room = room - (count - (self.out.picks.len() - picked));
        next
    }

    fn offer_unstarted(&mut self, offsets: impl Iterator<Item = u64>) -> Next {
        for offset in offsets {
            let Some(pending) = self.group.pending(offset) else { continue };
            match self.judge(&pending.row) {
                Verdict::Take => self.out.pick(offset, &pending.row),
                Verdict::Drop if self.passed_enough() => return Next::Stop,
                Verdict::Drop => self.out.dropped.push(offset),
                Verdict::Withhold => {}
                Verdict::Stop => return Next::Stop,
            }
        }
        Next::Go
    }

    fn due(&mut self, matured_to: u64) -> Next {
        let first = self.group.first_delayed();
        for (due, offset) in self.topic.delayed.between(self.group.progress.due, matured_to) {
            // A message that is not durable yet is not passed either: order counts.
            if offset >= self.topic.visible {
                break;
            }
            if offset >= first {
                let row = match self.topic.rows.get(offset) {
                    Found::Row(row) => row,
                    Found::Gone(_) | Found::Absent => {
                        self.out.progress.due = (due, offset);
                        continue;
                    }
                    Found::Away(block) => return self.away(block),
                };
                if self.offer(offset, &row) == Next::Stop {
                    return Next::Stop;
                }
            }
            self.out.progress.due = (due, offset);
        }
        Next::Go
    }

    fn fresh(&mut self) {
        while self.out.progress.cursor < self.topic.visible {
            let offset = self.out.progress.cursor;
            match self.topic.rows.get(offset) {
                Found::Row(row) => {
                    if row.due == 0 && self.offer(offset, &row) == Next::Stop {
                        return;
                    }
                    self.out.progress.plain = row.after();
                }
                Found::Gone(row) => self.out.progress.plain = row.after(),
                Found::Absent => {}
                Found::Away(block) => {
                    self.away(block);
                    return;
                }
            }
            self.out.progress.cursor = offset + 1;
        }
    }

    fn away(&mut self, block: u64) -> Next {
        // At the caps nothing would be taken from it anyway.
        if !self.full() && self.room > 0 {
            self.out.needs = Some(block);
        }
        Next::Stop
    }

    /// Takes, withholds or passes a message; `Stop`: it must stay where it is.
    fn offer(&mut self, offset: u64, row: &Row) -> Next {
        if self.scanned >= SCAN_MAX || self.passed_enough() {
            self.out.more = true;
            return Next::Stop;
        }
        match self.judge(row) {
            Verdict::Take => self.out.pick(offset, row),
            Verdict::Drop => {}
            Verdict::Withhold => self.out.withheld.push(offset),
            Verdict::Stop => return Next::Stop,
        }
        self.scanned += 1;
        Next::Go
    }

    fn judge(&mut self, row: &Row) -> Verdict {
        if self.full() || self.room == 0 {
            return Verdict::Stop;
        }
        if !wants(self.wanted.fresh, row) {
            return Verdict::Drop;
        }
        if self.per_key() && row.key != 0 && (self.group.holds_key(row.key) || self.keys.contains(&row.key)) {
            let Some(room) = self.withheld_room.checked_sub(1) else { return Verdict::Stop };
            self.withheld_room = room;
            return Verdict::Withhold;
        }
        self.keys.insert(row.key);
        self.room -= 1;
        Verdict::Take
    }
}

fn wants(tags: Option<&[u64]>, row: &Row) -> bool {
    tags.is_none_or(|tags| tags.contains(&row.tag))
}

/// The block a group will want next, if it is not in memory.
pub fn block_ahead(topic: &TopicState, cursor: u64) -> Option<u64> {
    let next = block_of(cursor) + 1;
    (next * BLOCK_ROWS < topic.tail() && !topic.rows.is_loaded(next)).then_some(next)
}
