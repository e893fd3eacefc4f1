//! Decides acks, nacks, extensions and burials, and moves dead letters.

use std::collections::{BTreeMap, HashSet};

use crate::engine::command::{Command, LeaseName, Reply, SettleWork};
use crate::engine::entry::{Entry, GroupNo, LeaseDisk, OriginDisk, PendingState, ReturnDisk, RowDisk, Sums, TopicNo};
use crate::engine::rows::Found;
use crate::engine::writer::{Step, Writer, millis};
use crate::engine::{Lateness, LookupError, SettleAction, SettleError, SettleOutcome};
use crate::log::{Room, Urgency};
use crate::model::{Attempt, TopicRef, TopicSettings};
use crate::planted::{Defect, planted};

/// Bytes of the log that one settled lease takes at most, unless it is buried.
const SETTLE_BYTES: usize = 64;
/// Bytes of the log that one dead letter takes at most: names, reason, a topic made for it.
pub(super) const MOVE_BYTES: usize = 2048;

/// How a lease stands.
enum Standing {
    Current,
    /// Lapsed or given back, and nobody else holds the message.
    Free,
    TakenOver,
    Settled,
    Unknown,
}

/// Where a message was that is moved to another topic.
pub(super) struct MovedFrom {
    /// The group that gives it up; none: it is given up for all.
    pub group: Option<GroupNo>,
    pub topic: TopicNo,
    pub offset: u64,
    /// The topic's sums before it; of no use to a group.
    pub before: Sums,
}

/// Facts gathered over a request, said together.
#[derive(Default)]
struct Gathered {
    acked: BTreeMap<GroupNo, Vec<u64>>,
    returned: BTreeMap<GroupNo, Vec<ReturnDisk>>,
    seen: HashSet<(GroupNo, u64)>,
}

impl Writer {
    pub(super) fn settle(&mut self, work: SettleWork, reply: Reply<Result<Vec<SettleOutcome>, SettleError>>) -> Step {
        let bytes: usize = work.items.iter().map(|(name, action)| self.settle_bytes(name, action)).sum();
        let room = self.room_soon(bytes + 4096, Urgency::Essential);
        if room == Room::TooLarge {
            let error =
                crate::model::SettingsError { field: "items", rule: "fewer: so many burials do not fit one commit" };
            self.answer_synced(reply, Err(error.into()));
            return Step::Done;
        }
        if room == Room::NeedsRoll {
            return Step::Roll(Command::Settle(work, reply));
        }
        if let Some(refusal) = self.refusal(Urgency::Essential, room) {
            self.answer_synced(reply, Err(LookupError::from(refusal).into()));
            return Step::Done;
        }
        let answer = self.try_settle(&work);
        self.answer_synced(reply, answer);
        Step::Done
    }

    /// Bytes of the log that one item takes at most.
    fn settle_bytes(&self, name: &LeaseName, action: &SettleAction) -> usize {
        let last_try = |group: GroupNo, offset: u64| {
            let group = self.state.groups.get(&group)?;
            Some(group.pending(offset)?.attempt >= group.settings.attempts_max?)
        };
        match (action, name) {
            (SettleAction::Bury { .. }, _) | (SettleAction::Nack { .. }, LeaseName::Handle(_)) => MOVE_BYTES,
            (SettleAction::Nack { .. }, LeaseName::Token { group, offset, .. })
                if last_try(*group, *offset) == Some(true) =>
            {
                MOVE_BYTES
            }
            (SettleAction::Extend { .. }, _) => 2 * SETTLE_BYTES,
            _ => SETTLE_BYTES,
        }
    }

    fn try_settle(&mut self, work: &SettleWork) -> Result<Vec<SettleOutcome>, SettleError> {
        let topic = self.find(&work.account, &work.topic)?;
        let only = match &work.group {
            Some(group) => Some(self.find_group(&work.account, &work.topic, group)?.1),
            None => None,
        };
        let mut gathered = Gathered::default();
        let mut outcomes = Vec::with_capacity(work.items.len());
        for (name, action) in &work.items {
            let outcome = match name {
                LeaseName::Forged => SettleOutcome::Unknown,
                LeaseName::Token { topic: of, group, placing, offset, id, lease } => {
                    if *of != topic || only.is_some_and(|only| only != *group) || self.is_worthless(*group, *placing) {
                        SettleOutcome::Unknown
                    } else {
                        self.settle_one(&mut gathered, (*group, *offset, *id, *lease), action, work.lateness)
                    }
                }
                LeaseName::Handle(handle) => match only {
                    Some(group) => self.settle_handle(&mut gathered, group, *handle, action, work.lateness),
                    None => SettleOutcome::Unknown,
                },
            };
            outcomes.push(outcome);
        }
        self.say(&mut gathered);
        Ok(outcomes)
    }

    /// A seek made the tokens of before worthless, and so did the end of the group.
    fn is_worthless(&self, group: GroupNo, placing: u32) -> bool {
        self.state.groups.get(&group).is_none_or(|group| group.disk.ghost || group.progress.placing != placing)
    }

    fn settle_handle(
        &mut self,
        gathered: &mut Gathered,
        group: GroupNo,
        handle: u128,
        action: &SettleAction,
        lateness: Lateness,
    ) -> SettleOutcome {
        if !gathered.seen.is_empty() {
            // What an item before did to a carrier happens first.
            self.say(gathered);
        }
        let carriers = self.state.groups[&group].with_handle(handle);
        let mut in_time = 0;
        let mut last = SettleOutcome::Unknown;
        let mut late = 0;
        for offset in carriers {
            let Some(pending) = self.state.groups[&group].pending(offset) else { continue };
            let name = (group, offset, pending.row.id, pending.lease);
            last = self.settle_one(gathered, name, action, lateness);
            match last {
                SettleOutcome::Settled { count } => in_time += count,
                SettleOutcome::SettledLate => late += 1,
                _ => {}
            }
        }
        match (in_time, late) {
            (0, 0) => last,
            (0, _) => SettleOutcome::SettledLate,
            (count, late) => SettleOutcome::Settled { count: count + late },
        }
    }

    fn standing(&self, (group, offset, id, lease): (GroupNo, u64, u128, u64)) -> Standing {
        let Some(group) = self.state.groups.get(&group) else { return Standing::Unknown };
        let Some(pending) = group.pending(offset) else {
            let topic = &self.state.topics[&group.disk.topic];
            let untaken = match topic.delayed.get(offset) {
                Some((due, _)) => (due, offset) > group.progress.due && offset >= group.first_delayed(),
                None => {
                    offset >= group.progress.cursor && matches!(topic.rows.get(offset), Found::Row(row) if row.due == 0)
                }
            };
            return if untaken && offset >= topic.head { Standing::Unknown } else { Standing::Settled };
        };
        if pending.row.id != id || lease == 0 {
            return Standing::Unknown;
        }
        match pending.state {
            PendingState::Leased { deadline } if deadline > self.boot => {
                if pending.lease == lease {
                    Standing::Current
                } else {
                    Standing::TakenOver
                }
            }
            // Pending anew since a seek: what the token named is forgotten.
            _ if pending.attempt == 0 => Standing::Unknown,
            _ => Standing::Free,
        }
    }

    fn settle_one(
        &mut self,
        gathered: &mut Gathered,
        name: (GroupNo, u64, u128, u64),
        action: &SettleAction,
        lateness: Lateness,
    ) -> SettleOutcome {
        let (group, offset, ..) = name;
        if gathered.seen.contains(&(group, offset)) {
            // The same message twice in one request: what was gathered happens first.
            self.say(gathered);
        }
        let ack_always = lateness == Lateness::AckAlways && *action == SettleAction::Ack;
        let outcome = match self.standing(name) {
            Standing::Current => SettleOutcome::Settled { count: 1 },
            Standing::Free if lateness == Lateness::Refuse => return SettleOutcome::Lapsed,
            Standing::Free => SettleOutcome::SettledLate,
            Standing::TakenOver if ack_always => SettleOutcome::SettledLate,
            Standing::TakenOver => return SettleOutcome::TakenOver,
            Standing::Settled => return SettleOutcome::AlreadySettled,
            Standing::Unknown => return SettleOutcome::Unknown,
        };
        gathered.seen.insert((group, offset));
        match action {
            SettleAction::Ack => {
                gathered.acked.entry(group).or_default().push(offset);
            }
            SettleAction::Nack { delay } => self.nack(gathered, group, offset, *delay),
            SettleAction::Extend { lease } => self.extend(name, millis(*lease)),
            SettleAction::Bury { reason } => {
                self.bury(group, offset, reason);
            }
        }
        outcome
    }

    fn nack(&mut self, gathered: &mut Gathered, group: GroupNo, offset: u64, delay: Option<std::time::Duration>) {
        let Some(state) = self.state.groups.get_mut(&group) else { return };
        let Some(pending) = state.pending(offset) else { return };
        let attempt = pending.attempt;
        // A superseded message is dropped when it comes back, whatever its attempt.
        let last = !pending.superseded && state.settings.attempts_max.is_some_and(|max| attempt >= max);
        state.totals.nacked += 1;
        if last {
            self.bury(group, offset, ATTEMPTS_USED);
            return;
        }
        let delay = millis(delay.unwrap_or_else(|| state.settings.retry.after(Attempt::new(attempt))));
        let until = if delay == 0 { 0 } else { self.state.now + delay };
        gathered.returned.entry(group).or_default().push(ReturnDisk { offset, until });
    }

    /// The holder of an older lease becomes the holder again, and the newer one's handle goes.
    fn extend(&mut self, (group, offset, _, lease): (GroupNo, u64, u128, u64), lease_ms: u64) {
        let state = &self.state.groups[&group];
        let Some(pending) = state.pending(offset) else { return };
        let lease = LeaseDisk {
            offset,
            attempt: pending.attempt,
            deadline: self.boot + lease_ms,
            lease,
            handle: if lease == pending.lease { pending.handle } else { 0 },
        };
        let progress = state.progress;
        self.emit(&Entry::Leased { group, progress, leases: vec![lease], withheld: Vec::new() });
        self.touch_groups(&[group]);
    }

    /// Says what was gathered.
    fn say(&mut self, gathered: &mut Gathered) {
        gathered.seen.clear();
        for (group, offsets) in std::mem::take(&mut gathered.acked) {
            if let Some(state) = self.state.groups.get_mut(&group) {
                state.totals.acked += offsets.len() as u64;
            }
            self.emit(&Entry::Settled { group, offsets });
            self.touch_groups(&[group]);
        }
        for (group, items) in std::mem::take(&mut gathered.returned) {
            self.emit(&Entry::Returned { group, items });
            self.touch_groups(&[group]);
        }
    }

    /// Moves a message to the dead letters, in one commit; without a place for them it is given up.
    pub(super) fn bury(&mut self, group: GroupNo, offset: u64, reason: &str) {
        let Some(state) = self.state.groups.get(&group) else { return };
        let Some(pending) = state.pending(offset) else { return };
        let topic = &self.state.topics[&state.disk.topic];
        let target = state.settings.dead_letter.clone();
        let Some(target) = target else {
            if let Some(state) = self.state.groups.get_mut(&group) {
                state.totals.discarded += 1;
            }
            self.emit(&Entry::Settled { group, offsets: vec![offset] });
            self.touch_groups(&[group]);
            return;
        };
        let origin = OriginDisk {
            topic: topic.disk.name.clone(),
            group: state.disk.name.clone(),
            offset,
            attempts: pending.attempt,
            reason: reason.to_owned(),
            moved_at: self.state.now,
        };
        let (from_topic, account, row) = (topic.disk.no, topic.account.clone(), pending.row.to_disk());
        let to = match self.find(&account, &TopicRef::Name(target.clone())) {
            Ok(to) => to,
            Err(_) => self.put_topic(&account, &target, &TopicSettings::default()),
        };
        if let Some(state) = self.state.groups.get_mut(&group) {
            state.totals.dead_lettered += 1;
        }
        let row = RowDisk { origin: Some(Box::new(origin)), idempotency: None, ..row };
        if planted(Defect::DeadLetterInTwoCommits) && self.log.fits(3 * MOVE_BYTES) {
            self.emit(&Entry::Settled { group, offsets: vec![offset] });
            // A log that failed refuses the rest as well.
            let _ = self.commit_durably();
        }
        let from = MovedFrom { group: Some(group), topic: from_topic, offset, before: Sums::default() };
        self.move_row(from, to, row);
        self.touch_groups(&[group]);
    }

    /// Puts a message at the tail of another topic and takes it away where it was.
    pub(super) fn move_row(&mut self, from: MovedFrom, to: TopicNo, row: RowDisk) {
        let row = RowDisk { due: None, moved_at: Some(self.state.now), ..row };
        self.front.moved(crate::log::Loc { segment: row.segment, position: row.position, length: row.length });
        let (to_offset, before) = (self.state.topics[&to].tail(), self.state.topics[&to].plain);
        self.emit(&Entry::Moved {
            from_group: from.group,
            from_topic: from.topic,
            from_offset: from.offset,
            from_before: from.before,
            to_topic: to,
            to_offset,
            before,
            row,
        });
        self.published.insert(to);
        // Nobody waits for it, but it is handed out only when it is durable.
        self.require_sync();
        if self.state.topics[&to].settings.retention.bytes.is_some() {
            self.plan_trim(to, self.state.now);
        }
    }
}

/// The reason of a dead letter that used up its deliveries.
pub(super) const ATTEMPTS_USED: &str = "attempts";
