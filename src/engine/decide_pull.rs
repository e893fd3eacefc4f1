//! Decides pulls, those that wait included.

use crate::engine::command::{Command, PullWork, Reply, Taken, TakenItem};
use crate::engine::digest;
use crate::engine::entry::{Entry, GroupNo, LeaseDisk, TopicNo};
use crate::engine::placing::{Placing, Then};
use crate::engine::select::{SCAN_MAX, Selection, Wanted, block_ahead, select};
use crate::engine::writer::{Step, Waiter, Writer, millis};
use crate::engine::{HandleKind, PullError, Refusal, Wait};
use crate::log::{Fatal, Room, Urgency};
use crate::model::{Flow, Ordering, TagFilter};

/// Bytes of the log that one leased message takes at most: the lease, and its settling by an auto-ack.
const LEASE_BYTES: usize = 64;
/// The same of a message that is withheld or passed, and of the rest of a pull.
const PASS_BYTES: usize = 8;
const PULL_BYTES: usize = 1024;

/// What trying a pull came to.
enum Tried {
    Took(Box<Taken>),
    /// Nothing (or not enough) is there.
    Nothing,
    Needs(u64),
    More,
    Refused(PullError),
}

impl Writer {
    /// Messages that one pull passes at most: a quarter of a small frame.
    fn passes_max(&self) -> usize {
        (self.payload_bytes_max() / 4 / PASS_BYTES).min(SCAN_MAX)
    }

    /// Messages that one pull takes at most: what is left of a small frame.
    fn leases_max(&self) -> usize {
        let left = self.payload_bytes_max().saturating_sub(PULL_BYTES + self.passes_max() * PASS_BYTES);
        (left / LEASE_BYTES).max(1)
    }

    fn pull_bytes(&self, work: &PullWork) -> usize {
        PULL_BYTES + work.batch_max * LEASE_BYTES + self.passes_max() * PASS_BYTES
    }

    pub(super) fn pull(&mut self, mut work: PullWork, reply: Reply<Result<Taken, PullError>>) -> Step {
        work.batch_max = work.batch_max.min(self.leases_max());
        self.pulled_at = Some(self.boot);
        let room = self.room_soon(self.pull_bytes(&work), Urgency::Essential);
        if room == Room::NeedsRoll {
            return Step::Roll(Command::Pull(work, reply));
        }
        if let Some(refusal) = self.refusal(Urgency::Essential, room) {
            self.answer_synced(reply, Err(crate::engine::LookupError::from(refusal).into()));
            return Step::Done;
        }
        let (topic, group) = match self.find_group(&work.account, &work.topic, &work.group) {
            Ok(found) => found,
            Err(error) => {
                self.answer_synced(reply, Err(error.into()));
                return Step::Done;
            }
        };
        if self.is_paused(topic, group) {
            self.answer_synced(reply, Err(PullError::Paused));
            return Step::Done;
        }
        if !self.state.groups[&group].progress.positioned {
            let start = work.start.unwrap_or_else(|| self.state.groups[&group].start());
            if let Some(block) = self.block_needed_for(topic, start) {
                return Step::Need(Command::Pull(work, reply), topic, block);
            }
            return self.fix_position(topic, group, work, reply);
        }
        let waits = work.wait != Wait::None && self.waiters.get(&group).is_some_and(|waiters| !waiters.is_empty());
        if waits {
            // Others came first.
            return self.wait(group, work, reply);
        }
        let need = match work.wait {
            Wait::Full(_) => work.batch_max,
            Wait::None | Wait::Any(_) => usize::from(work.wait != Wait::None),
        };
        match self.try_pull(topic, group, &work, need) {
            Tried::Took(taken) => {
                self.answer_pull(reply, *taken, work.filter.is_some());
                Step::Done
            }
            Tried::Nothing => self.wait(group, work, reply),
            Tried::Needs(block) => Step::Need(Command::Pull(work, reply), topic, block),
            Tried::More => Step::Again(Command::Pull(work, reply)),
            Tried::Refused(error) => {
                self.answer_synced(reply, Err(error));
                Step::Done
            }
        }
    }

    fn answer_pull(&mut self, reply: Reply<Result<Taken, PullError>>, taken: Taken, filters: bool) {
        // In an ordered topic a message may be there to take because the one before it was settled, or passed by the
        // filter of this pull: nobody learns of that before it is durable, or a power cut would bring that one back
        // behind its successor.
        let topic = self.state.topics.get(&taken.topic);
        let is_ordered = topic.is_some_and(|topic| topic.settings.ordering != Ordering::None);
        if taken.auto_ack || (is_ordered && (filters || self.awaits_sync())) {
            self.answer_synced(reply, Ok(taken));
        } else {
            self.answer_written(reply, Ok(taken));
        }
    }

    fn fix_position(
        &self,
        topic: TopicNo,
        group: GroupNo,
        work: PullWork,
        reply: Reply<Result<Taken, PullError>>,
    ) -> Step {
        let state = &self.state.groups[&group];
        let start = work.start.unwrap_or_else(|| state.start());
        let (progress, pending) = self.placed(topic, start, true, state.progress.placing);
        let (before, after, then) = (Vec::new(), Vec::new(), Then::Pull(work, reply));
        Step::Place(Box::new(Placing { group, progress, pending, before, after, then }))
    }

    fn is_paused(&self, topic: TopicNo, group: GroupNo) -> bool {
        self.state.topics[&topic].settings.flow == Flow::Paused
            || self.state.groups[&group].settings.flow == Flow::Paused
    }

    /// Takes at least `need` messages, or nothing.
    fn try_pull(&mut self, topic: TopicNo, group: GroupNo, work: &PullWork, need: usize) -> Tried {
        if self.is_paused(topic, group) {
            return Tried::Refused(PullError::Paused);
        }
        let (topic_state, group_state) = (&self.state.topics[&topic], &self.state.groups[&group]);
        let own: Option<Vec<u64>> = match &group_state.settings.filter {
            TagFilter::All => None,
            TagFilter::AnyOf(tags) => Some(tags.iter().map(|tag| digest::of_tag(tag.as_str())).collect()),
        };
        let asked = work.filter.as_deref();
        let fresh = if work.filter_all { None } else { asked.or(own.as_deref()) };
        let wanted = Wanted { batch_max: work.batch_max, passes_max: self.passes_max(), fresh, returned: asked };
        let selection = select(&self.state, topic_state, group_state, wanted);
        if let Some(block) = selection.needs {
            return Tried::Needs(block);
        }
        if selection.more || !selection.suffices(need) {
            let more = selection.more && selection.picks.is_empty();
            if selection.picks.is_empty() {
                self.pass(group, &selection);
            }
            if more {
                return Tried::More;
            }
            if !selection.suffices(need) {
                return Tried::Nothing;
            }
        }
        let ahead = block_ahead(&self.state.topics[&topic], selection.progress.cursor);
        let taken = self.take(topic, group, work, selection);
        if let Some(block) = ahead {
            self.ask_for(topic, block);
        }
        Tried::Took(Box::new(taken))
    }

    /// Nothing was taken, but messages that nobody here wants were passed.
    fn pass(&mut self, group: GroupNo, selection: &Selection) {
        let before = self.state.groups[&group].progress;
        if !selection.withheld.is_empty() {
            let withheld = selection.withheld.clone();
            self.emit(&Entry::Leased { group, progress: selection.progress, leases: Vec::new(), withheld });
        } else if selection.progress != before {
            self.emit(&Entry::Progressed { group, progress: selection.progress });
        }
        self.pass_withheld(group, selection.dropped.clone());
    }

    fn pass_withheld(&mut self, group: GroupNo, offsets: Vec<u64>) {
        if !offsets.is_empty() {
            self.emit(&Entry::Settled { group, offsets });
        }
    }

    fn take(&mut self, topic: TopicNo, group: GroupNo, work: &PullWork, selection: Selection) -> Taken {
        let lease = work.lease.unwrap_or(self.state.groups[&group].settings.lease);
        let deadline = self.boot + millis(lease);
        let batch_handle = match work.handles {
            HandleKind::PerBatch => (self.clock.random() & ((1 << 53) - 1)).max(1),
            HandleKind::None | HandleKind::PerMessage => 0,
        };
        let mut items = Vec::with_capacity(selection.picks.len());
        let mut leases = Vec::with_capacity(selection.picks.len());
        for (offset, row) in selection.picks {
            let attempt =
                self.state.groups[&group].pending(offset).map_or(0, |pending| pending.attempt).saturating_add(1);
            let random = self.clock.random();
            let lease = ((random >> 64) as u64).max(1);
            let handle = match work.handles {
                HandleKind::PerMessage => {
                    uuid::Builder::from_random_bytes(self.clock.random().to_be_bytes()).into_uuid().as_u128()
                }
                HandleKind::None | HandleKind::PerBatch => batch_handle,
            };
            leases.push(LeaseDisk { offset, attempt, deadline, lease, handle });
            items.push(TakenItem { offset, row, attempt, lease, handle });
        }
        let offsets: Vec<u64> = leases.iter().map(|lease| lease.offset).collect();
        if !leases.is_empty()
            || !selection.withheld.is_empty()
            || selection.progress != self.state.groups[&group].progress
        {
            self.emit(&Entry::Leased { group, progress: selection.progress, leases, withheld: selection.withheld });
        }
        self.pass_withheld(group, selection.dropped);
        if work.auto_ack && !offsets.is_empty() {
            self.emit(&Entry::Settled { group, offsets });
        }
        self.touch_groups(&[group]);
        let counts = self.group_counts(group);
        if let Some(state) = self.state.groups.get_mut(&group) {
            state.totals.delivered += items.len() as u64;
            if work.auto_ack {
                state.totals.acked += items.len() as u64;
            }
        }
        let mut segments: Vec<u64> = items.iter().map(|item| item.row.loc.segment).collect();
        segments.sort_unstable();
        segments.dedup();
        let pins = segments.into_iter().filter_map(|segment| self.reader.pin(segment)).collect();
        Taken {
            topic,
            group,
            placing: self.state.groups[&group].progress.placing,
            items,
            lease,
            counts,
            _pins: pins,
            auto_ack: work.auto_ack,
        }
    }

    // ---- waiting ----

    fn wait(&mut self, group: GroupNo, work: PullWork, reply: Reply<Result<Taken, PullError>>) -> Step {
        let span = match work.wait {
            Wait::None => unreachable!("a pull that does not wait has been answered"),
            Wait::Any(span) | Wait::Full(span) => span,
        };
        let max = self.state.groups[&group].settings.waiting_max;
        let waiters = self.waiters.entry(group).or_default();
        waiters.retain(|waiter| !waiter.reply.is_closed());
        if waiters.len() >= max as usize {
            self.answer_synced(reply, Err(PullError::TooManyWaiting { max }));
            return Step::Done;
        }
        waiters.push_back(Waiter { work, until: self.boot + millis(span), reply });
        self.touched.insert(group);
        if span.is_zero() {
            self.runnable.insert(group);
        }
        Step::Done
    }

    /// Serves waiting pulls of groups where something may have come.
    pub(super) fn wake(&mut self) -> Result<(), Fatal> {
        for group in std::mem::take(&mut self.runnable) {
            self.serve(group)?;
            self.touched.insert(group);
        }
        Ok(())
    }

    fn serve(&mut self, group: GroupNo) -> Result<(), Fatal> {
        let Some(mut waiters) = self.waiters.remove(&group) else { return Ok(()) };
        let Some(topic) = self.state.groups.get(&group).map(|group| group.disk.topic) else { return Ok(()) };
        let mut still = std::collections::VecDeque::new();
        // First come, first served: once one is left waiting, only those whose time is up are looked at.
        let mut blocked = false;
        while let Some(waiter) = waiters.pop_front() {
            if waiter.reply.is_closed() {
                continue;
            }
            let time_up = waiter.until <= self.boot || self.stopping.is_some();
            if blocked && !time_up {
                still.push_back(waiter);
                continue;
            }
            match self.room(self.pull_bytes(&waiter.work), Urgency::Essential) {
                Room::Fits => {}
                Room::NeedsRoll => {
                    self.commit_and_roll()?;
                }
                Room::Full if self.spare_is_made() => {
                    self.held_up.insert(group);
                    blocked = true;
                    still.push_back(waiter);
                    continue;
                }
                Room::Full | Room::TooLarge => {
                    let full = crate::engine::LookupError::from(Refusal::DiskFull);
                    self.answer_synced(waiter.reply, Err(full.into()));
                    continue;
                }
            }
            let need = match waiter.work.wait {
                _ if time_up => 0,
                Wait::Full(_) => waiter.work.batch_max,
                Wait::None | Wait::Any(_) => 1,
            };
            match self.try_pull(topic, group, &waiter.work, need) {
                Tried::Took(taken) => self.answer_pull(waiter.reply, *taken, waiter.work.filter.is_some()),
                Tried::Refused(error) => self.answer_synced(waiter.reply, Err(error)),
                Tried::Nothing => {
                    // What is not there for one is not there for others; but one may want a whole batch, or
                    // only certain tags.
                    blocked = matches!(waiter.work.wait, Wait::Any(_)) && waiter.work.filter.is_none();
                    still.push_back(waiter);
                }
                Tried::Needs(block) => {
                    // When it is loaded, the group is served again.
                    self.ask_for(topic, block);
                    if time_up && self.rebuilding {
                        let empty = Taken {
                            topic,
                            group,
                            placing: 0,
                            items: Vec::new(),
                            lease: Default::default(),
                            counts: self.group_counts(group),
                            _pins: Vec::new(),
                            auto_ack: false,
                        };
                        self.answer_pull(waiter.reply, empty, false);
                    } else {
                        if time_up {
                            self.held_up.insert(group);
                        }
                        blocked = true;
                        still.push_back(waiter);
                    }
                }
                Tried::More => {
                    self.runnable.insert(group);
                    blocked = true;
                    still.push_back(waiter);
                }
            }
        }
        if !still.is_empty() {
            self.waiters.insert(group, still);
        }
        Ok(())
    }

    /// Answers every waiting pull with what there is, and takes no more commands.
    pub(super) fn stop(&mut self, reply: Reply<()>) {
        if self.is_stopped() || self.stopping.is_some() {
            self.answer_read(reply, ());
            return;
        }
        self.stopping = Some(reply);
        self.runnable.extend(self.waiters.keys().copied());
    }
}
