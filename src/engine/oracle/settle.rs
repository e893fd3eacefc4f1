//! Settle: what a token or handle is still worth, and what it does.

use crate::engine::oracle::world::{Hold, Pending, World};
use crate::engine::{Lateness, LeaseRef, Settle, SettleAction, SettleError, SettleOutcome};
use crate::model::{Offset, SettingsError, bounds};

/// Longest reason of a bury.
const REASON_BYTES_MAX: usize = 1024;

impl World {
    pub fn settle(&mut self, request: Settle) -> Result<Vec<SettleOutcome>, SettleError> {
        let t = self.find_topic(&request.account, &request.topic)?;
        let asked = match &request.group {
            Some(group) => Some(self.find_group(&request.account, &request.topic, group)?.1),
            None => None,
        };
        check_bounds(&request)?;
        let lateness = request.lateness;
        let settle = |(lease, action): &(LeaseRef, SettleAction)| match lease {
            LeaseRef::Token(token) => self.settle_token(t, asked, token, action, lateness),
            LeaseRef::Handle(handle) => match asked {
                Some(g) => self.settle_handle(t, g, *handle, action, lateness),
                None => SettleOutcome::Unknown,
            },
        };
        Ok(request.items.iter().map(settle).collect())
    }

    fn settle_token(
        &mut self,
        t: usize,
        asked: Option<usize>,
        token: &str,
        action: &SettleAction,
        lateness: Lateness,
    ) -> SettleOutcome {
        let Some(token) = self.tokens.get(token).copied() else { return SettleOutcome::Unknown };
        let topic = &self.topics[t];
        let group = topic.groups.iter().position(|group| group.group.id == token.group && group.seeks == token.seeks);
        let Some(g) = group else { return SettleOutcome::Unknown };
        if topic.topic.id != token.topic || asked.is_some_and(|asked| asked != g) {
            return SettleOutcome::Unknown;
        }
        let Some(pending) = topic.groups[g].pending.get(&token.offset) else { return SettleOutcome::AlreadySettled };
        let outcome = match (pending.hold, lateness) {
            (Hold::Leased { .. }, _) if pending.lease == token.lease => SettleOutcome::Settled { count: 1 },
            (Hold::Leased { .. }, Lateness::AckAlways) if *action == SettleAction::Ack => SettleOutcome::SettledLate,
            (Hold::Leased { .. }, _) => return SettleOutcome::TakenOver,
            (Hold::Returned { .. }, Lateness::Refuse) => return SettleOutcome::Lapsed,
            (Hold::Returned { .. }, _) => SettleOutcome::SettledLate,
        };
        self.act(t, g, token.offset, token.lease, action);
        outcome
    }

    /// Settles all that still carry the handle; with [`Lateness::Refuse`] only those in flight.
    fn settle_handle(
        &mut self,
        t: usize,
        g: usize,
        handle: u128,
        action: &SettleAction,
        lateness: Lateness,
    ) -> SettleOutcome {
        let carries = |pending: &Pending| handle != 0 && pending.handle == handle;
        let carriers: Vec<(Offset, u64, bool)> = self.topics[t].groups[g]
            .pending
            .iter()
            .filter(|(_, pending)| carries(pending))
            .map(|(offset, pending)| (*offset, pending.lease, pending.is_leased()))
            .collect();
        let in_time = carriers.iter().filter(|(_, _, is_leased)| *is_leased).count();
        let mut count = 0;
        for (offset, lease, is_leased) in &carriers {
            if *is_leased || lateness != Lateness::Refuse {
                self.act(t, g, *offset, *lease, action);
                count += 1;
            }
        }
        match (carriers.len(), in_time, count) {
            (0, _, _) => SettleOutcome::Unknown,
            (_, 0, 0) => SettleOutcome::Lapsed,
            (_, 0, _) => SettleOutcome::SettledLate,
            (_, _, count) => SettleOutcome::Settled { count },
        }
    }

    /// Does `action` to a pending message in the name of the lease with number `lease`.
    fn act(&mut self, t: usize, g: usize, offset: Offset, lease: u64, action: &SettleAction) {
        let now = self.now;
        let group = &mut self.topics[t].groups[g];
        let Some(pending) = group.pending.get_mut(&offset) else { return };
        match action {
            SettleAction::Ack => {
                group.totals.acked += 1;
                group.settle(offset);
            }
            SettleAction::Nack { delay } => {
                group.totals.nacked += 1;
                let delay = delay.unwrap_or_else(|| group.group.settings.retry.after(pending.attempt));
                self.give_back(t, g, offset, now.after(delay));
            }
            SettleAction::Extend { lease: span } => {
                pending.hold = Hold::Leased { deadline: now.after(*span) };
                if pending.lease != lease {
                    // An older lease that is given again does not carry the handle of a newer one.
                    pending.lease = lease;
                    pending.handle = 0;
                }
            }
            SettleAction::Bury { reason } => self.bury(t, g, offset, reason.clone()),
        }
    }
}

fn check_bounds(request: &Settle) -> Result<(), SettingsError> {
    let refuse = |field, rule| Err(SettingsError { field, rule });
    if request.items.len() > bounds::SETTLE_BATCH_MAX {
        return refuse("items", "at most 10000");
    }
    for (_, action) in &request.items {
        match action {
            SettleAction::Ack => {}
            SettleAction::Nack { delay } if delay.is_some_and(|delay| delay > bounds::DELAY_MAX) => {
                return refuse("delay", "at most 14 days");
            }
            SettleAction::Nack { .. } => {}
            SettleAction::Extend { lease } if *lease < bounds::LEASE_MIN || *lease > bounds::LEASE_MAX => {
                return refuse("lease", "1 ms to 12 hours");
            }
            SettleAction::Extend { .. } => {}
            SettleAction::Bury { reason } if reason.len() > REASON_BYTES_MAX => {
                return refuse("reason", "at most 1024 bytes");
            }
            SettleAction::Bury { .. } => {}
        }
    }
    Ok(())
}
