//! What time does: leases lapse, delays end, waits end, messages grow too old.

use crate::engine::decide_settle::{ATTEMPTS_USED, MOVE_BYTES};
use crate::engine::entry::{Entry, GroupNo, TopicNo};
use crate::engine::rows::Found;
use crate::engine::writer::{SWEEP_MAX, Writer, millis};
use crate::log::{Fatal, Room, Urgency};

/// A topic that cannot be trimmed before a block is loaded, or before there is space, is looked at again
/// after this long, in ms.
const LOOK_AGAIN_MS: u64 = 20;

/// Bytes of the log that one trim takes at most.
pub(super) const TRIM_BYTES: usize = 4096;

/// Of what one turn may sweep, each group gets this much at least.
const SWEEP_SHARE_MIN: usize = 64;

impl Writer {
    /// Does what is due by now, a bounded piece of it.
    pub(super) fn sweep_due(&mut self) -> Result<(), Fatal> {
        for topic in self.state.mature(self.state.now) {
            let groups = self.state.topics[&topic].groups.clone();
            self.touch_groups(&groups);
        }
        let due = self.due_groups();
        // Of many groups each gets its part of what one turn may do.
        let share = (SWEEP_MAX / due.len().max(1)).max(SWEEP_SHARE_MIN);
        let mut left = SWEEP_MAX;
        for group in due {
            left -= self.sweep_group(group, share.min(left))?;
        }
        self.trim_due()
    }

    /// Ends waits and leases of one group, `most` of them; answers how many.
    fn sweep_group(&mut self, no: GroupNo, most: usize) -> Result<usize, Fatal> {
        if self.waiters.get(&no).is_some_and(|waiters| waiters.iter().any(|waiter| waiter.until <= self.boot)) {
            self.runnable.insert(no);
        }
        let now = self.state.now;
        let Some(group) = self.state.groups.get_mut(&no) else { return Ok(0) };
        let mut ended = group.end_waits(now, most);
        while ended < most {
            let Some(offset) = self.state.groups.get(&no).and_then(|group| group.lapsed(self.boot)) else { break };
            match self.room(MOVE_BYTES, Urgency::Essential) {
                Room::Fits => {}
                Room::NeedsRoll => self.commit_and_roll()?,
                // It lapses when there is room again; nobody gets it before.
                Room::Full | Room::TooLarge => {
                    self.held_up.insert(no);
                    break;
                }
            }
            self.lapse(no, offset);
            ended += 1;
        }
        if ended > 0 {
            self.touch_groups(&[no]);
        }
        Ok(ended)
    }

    /// A lease whose deadline has passed is a returned message: that needs no fact of its own, but what
    /// follows from it (a dead letter) does.
    fn lapse(&mut self, no: GroupNo, offset: u64) {
        let Some(group) = self.state.groups.get_mut(&no) else { return };
        let Some((attempt, superseded)) = group.pending(offset).map(|kept| (kept.attempt, kept.superseded)) else {
            return;
        };
        group.totals.lapsed += 1;
        if superseded {
            self.emit(&Entry::Settled { group: no, offsets: vec![offset] });
        } else if group.settings.attempts_max.is_some_and(|max| attempt >= max) {
            self.bury(no, offset, ATTEMPTS_USED);
        } else {
            tracing::debug!(group = %group.disk.name, offset, "lease lapsed");
            group.make_ready(offset);
        }
    }

    // ---- retention ----

    /// Log-clock time at which the next topic has to be looked at for retention.
    pub(super) fn next_trim(&self) -> Option<u64> {
        self.trims.first().map(|(at, _)| *at)
    }

    /// A topic is to be looked at for retention at this log-clock time.
    pub(super) fn plan_trim(&mut self, no: TopicNo, at: u64) {
        if let Some(old) = self.trim_of.insert(no, at) {
            self.trims.remove(&(old, no));
        }
        self.trims.insert((at, no));
    }

    fn trim_due(&mut self) -> Result<(), Fatal> {
        let due: Vec<TopicNo> =
            self.trims.iter().take_while(|(at, _)| *at <= self.state.now).map(|(_, no)| *no).collect();
        for no in due {
            match self.room(TRIM_BYTES, Urgency::Essential) {
                Room::Fits => {}
                Room::NeedsRoll => self.commit_and_roll()?,
                Room::Full | Room::TooLarge => {
                    self.plan_trim(no, self.state.now + LOOK_AGAIN_MS);
                    continue;
                }
            }
            self.trim(no);
        }
        Ok(())
    }

    pub(super) fn trim(&mut self, no: TopicNo) {
        if let Some(at) = self.trim_of.remove(&no) {
            self.trims.remove(&(at, no));
        }
        self.trim_waits.remove(&no);
        let Some(topic) = self.state.topics.get(&no) else { return };
        let retention = topic.settings.retention;
        let age = retention.age.filter(|_| !self.clock_suspect).map(millis);
        if age.is_none() && retention.bytes.is_none() {
            return;
        }
        let now = self.state.now;
        let mut too_many = retention.bytes.map_or(0, |max| self.topic_counts(no).bytes.saturating_sub(max));
        let from = self.state.floor(topic);
        let mut head = from;
        let mut plain = None;
        let mut again = age.map(|age| now + age);
        let mut looked = 0;
        while head < topic.tail() {
            if looked >= SWEEP_MAX {
                again = Some(now);
                break;
            }
            looked += 1;
            let (row, live) = match topic.rows.get(head) {
                Found::Row(row) | Found::Gone(row) => {
                    let live = self.state.is_live(no, head, row.due != 0);
                    (row, live)
                }
                Found::Absent => {
                    head += 1;
                    continue;
                }
                Found::Away(block) => {
                    again = Some(now + LOOK_AGAIN_MS);
                    self.trim_waits.insert(no, block);
                    self.ask_for(no, block);
                    break;
                }
            };
            let too_old = age.is_some_and(|age| row.arrived_at() + age <= now);
            if !too_old && too_many == 0 {
                again = age.map(|age| row.arrived_at() + age);
                break;
            }
            if live {
                too_many = too_many.saturating_sub(u64::from(row.body_bytes));
            }
            plain = Some(row.after());
            head += 1;
        }
        if let Some(at) = again {
            self.plan_trim(no, at);
        }
        if let Some(plain) = plain {
            let plain = if head >= self.state.topics[&no].tail() { self.state.topics[&no].plain } else { plain };
            self.emit(&Entry::Trimmed { topic: no, head, plain });
            let groups = self.state.topics[&no].groups.clone();
            self.touch_groups(&groups);
        }
    }
}
