//! The end of a turn: the frame is written, answers leave, a sync begins or has ended.

use std::sync::{Arc, PoisonError};

use crate::engine::command::Reply;
use crate::engine::entry::TopicNo;
use crate::engine::flight::{Flight, Release};
use crate::engine::topic_state::TopicState;
use crate::engine::writer::{Job, STAMP_MS, Writer};
use crate::log::Fatal;
use crate::planted::{Defect, planted};

/// The sync of written leases begins at the latest this much later, in ms; or when the one under way is over.
const LEASE_SYNC_MS: u64 = 5;
/// While a sync is under way, a frame that nobody waits to see written grows up to this many bytes.
const HELD_FRAME_BYTES: usize = 256 << 10;

impl Writer {
    /// Answers when everything decided so far is durable.
    pub(super) fn answer_synced<T: Send + 'static>(&mut self, reply: Reply<T>, answer: T) {
        self.must_sync = true;
        self.synced.push(Box::new(move || drop(reply.send(answer))));
    }

    /// Answers when everything decided so far is written. A read waits for the sync of what it saw.
    pub(super) fn answer_written<T: Send + 'static>(&mut self, reply: Reply<T>, answer: T) {
        if self.options.lease_synced {
            return self.answer_synced(reply, answer);
        }
        self.written.push(Box::new(move || drop(reply.send(answer))));
    }

    /// Answers a read: when what it may have seen is durable, without asking for a sync of its own.
    pub(super) fn answer_read<T: Send + 'static>(&mut self, reply: Reply<T>, answer: T) {
        self.reads.push(Box::new(move || drop(reply.send(answer))));
    }

    /// Ends a turn: writes the frame, answers what may be answered, begins a sync if anybody waits for one.
    ///
    /// While one is under way, a frame may wait for its end and grow: then it is one write and one sync.
    pub(super) fn commit(&mut self) -> Result<(), Fatal> {
        self.land_if_over()?;
        let held_up = |flight: &Flight| {
            let late = flight.begun + LEASE_SYNC_MS < self.boot;
            (self.written.is_empty() || late) && self.log.frame_len() < HELD_FRAME_BYTES
        };
        if planted(Defect::AnswerBeforeSync) {
            self.write_frame()?;
            release(&mut self.synced);
        } else if !self.flight.as_ref().is_some_and(held_up) {
            self.write_frame()?;
        }
        let unsynced = self.log.synced_lsn() < self.log.last_lsn();
        let lease_due = self.lease_sync_at.is_some_and(|at| at <= self.boot);
        if self.flight.is_none() {
            if unsynced && (self.must_sync || lease_due) {
                let flight = self.begin_sync();
                self.jobs.push(Job::Sync(flight.job()));
                self.flight = Some(flight);
            } else if !unsynced {
                (self.must_sync, self.lease_sync_at) = (false, None);
                release(&mut self.synced);
            }
        }
        // What a held frame says can only be read when it is written.
        let waits = self.must_sync || self.is_building();
        match &mut self.flight {
            _ if waits => self.synced.append(&mut self.reads),
            Some(flight) => flight.reads.append(&mut self.reads),
            None => release(&mut self.reads),
        }
        Ok(())
    }

    /// Writes the frame and answers what waits for that.
    pub(super) fn write_frame(&mut self) -> Result<(), Fatal> {
        if self.frame_entries > 0 {
            self.written_bytes += self.log.frame_len() as u64;
            self.log.write(self.meta())?;
            self.state.boot = self.boot;
            self.frame_entries = 0;
            self.stamp_at = self.boot + STAMP_MS;
            self.stats.commit(self.commit_commands);
            self.lease_sync_at = self.lease_sync_at.or(Some(self.boot + LEASE_SYNC_MS));
        }
        self.commit_commands = 0;
        release(&mut self.written);
        Ok(())
    }

    /// A sync of everything written, with the answers that wait for it.
    fn begin_sync(&mut self) -> Flight {
        let tail = |no: TopicNo| Some((no, self.state.topics.get(&no)?.tail()));
        let tails = std::mem::take(&mut self.published).into_iter().filter_map(tail).collect();
        let releases = std::mem::take(&mut self.synced);
        // Before anybody has an answer that speaks of it: requests look at it without asking the writer.
        let show = self.show_access();
        (self.must_sync, self.lease_sync_at) = (false, None);
        Flight::new(self.log.begin_sync(), show, releases, self.boot, tails)
    }

    pub(super) fn land_if_over(&mut self) -> Result<(), Fatal> {
        if self.flight.as_ref().is_some_and(Flight::is_over) { self.land() } else { Ok(()) }
    }

    /// Waits for the end of the sync under way, if there is one; what it made durable may be seen then.
    pub(super) fn land(&mut self) -> Result<(), Fatal> {
        let Some(mut flight) = self.flight.take() else { return Ok(()) };
        let took = flight.finish()?;
        self.stats.sync(took);
        self.log.end_sync(&flight.sync);
        for (no, tail) in flight.tails {
            self.show(no, tail);
        }
        release(&mut flight.reads);
        Ok(())
    }

    /// Makes everything decided so far durable before it returns.
    pub(super) fn commit_durably(&mut self) -> Result<(), Fatal> {
        self.write_frame()?;
        self.land()?;
        if self.log.synced_lsn() < self.log.last_lsn() {
            self.flight = Some(self.begin_sync());
            self.land()?;
        }
        self.all_is_durable();
        Ok(())
    }

    /// Everything decided so far is durable: whoever waits for that is answered.
    pub(super) fn all_is_durable(&mut self) {
        (self.must_sync, self.lease_sync_at) = (false, None);
        for no in std::mem::take(&mut self.published) {
            let tail = self.state.topics.get(&no).map_or(0, TopicState::tail);
            self.show(no, tail);
        }
        if let Some(show) = self.show_access() {
            show();
        }
        release(&mut self.synced);
        release(&mut self.reads);
    }

    /// Whether something was decided whose answer waits for a sync, begun or not.
    pub(super) const fn awaits_sync(&self) -> bool {
        self.must_sync || self.flight.is_some()
    }

    /// The next commit is to be durable, whoever waits for it.
    pub(super) const fn require_sync(&mut self) {
        self.must_sync = true;
    }

    /// What was published up to `tail` may be handed out.
    fn show(&mut self, no: TopicNo, tail: u64) {
        if let Some(topic) = self.state.topics.get_mut(&no) {
            topic.visible = topic.visible.max(tail);
            self.runnable.extend(topic.groups.iter().filter(|group| self.waiters.contains_key(group)));
        }
    }

    /// Lets everybody see the credentials as they are decided now, once they are durable; `None`: they see them.
    fn show_access(&self) -> Option<Release> {
        let (out, durable) = (self.access_out.clone(), self.state.access.clone());
        let is_seen = Arc::ptr_eq(&out.read().unwrap_or_else(PoisonError::into_inner), &durable);
        (!is_seen)
            .then(|| -> Release { Box::new(move || *out.write().unwrap_or_else(PoisonError::into_inner) = durable) })
    }
}

fn release(answers: &mut Vec<Release>) {
    answers.drain(..).for_each(|answer| answer());
}
