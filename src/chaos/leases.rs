//! The leases that are open, as a history knows them: what a token means, and when it ends. Bounded; a lease
//! beyond the bound is written down all the same, and its settles are known by its token alone.

use std::collections::{BTreeSet, HashMap};

use crate::chaos::line::{Event, Line};

/// Most leases known at once.
pub const LEASES_MAX: usize = 100_000;

/// Names a lease or a batch of them, hashed, in its group.
type Name = (String, String, String, String);

/// The leases that are open.
#[derive(Debug, Default)]
pub struct Leases {
    open: HashMap<u64, Lease>,
    tokens: HashMap<Name, u64>,
    handles: HashMap<Name, Vec<u64>>,
    /// Boot time of the end, and the lease.
    ends: BTreeSet<(u64, u64)>,
    minted: u64,
}

#[derive(Debug)]
struct Lease {
    /// The line of its delivery.
    line: Line,
    ends: u64,
}

fn text(field: Option<&String>) -> String {
    field.cloned().unwrap_or_default()
}

/// A token needs no group beside it; some settles name none.
fn token_name(line: &Line, token: &str) -> Name {
    (text(line.account.as_ref()), text(line.topic.as_ref()), String::new(), token.to_owned())
}

/// A handle means something in its group alone.
fn handle_name(line: &Line, handle: &str) -> Name {
    (text(line.account.as_ref()), text(line.topic.as_ref()), text(line.group.as_ref()), handle.to_owned())
}

impl Leases {
    /// Opens the lease of a delivery.
    pub fn open(&mut self, delivery: &Line, ends: u64) {
        let (Some(token), true) = (&delivery.token, self.open.len() < LEASES_MAX) else { return };
        self.minted += 1;
        self.tokens.insert(token_name(delivery, token), self.minted);
        if let Some(handle) = &delivery.handle {
            self.handles.entry(handle_name(delivery, handle)).or_default().push(self.minted);
        }
        self.ends.insert((ends, self.minted));
        self.open.insert(self.minted, Lease { line: delivery.clone(), ends });
    }

    /// The deliveries that a settle means, as far as their leases are open: `settle` names its group and a
    /// token or a handle.
    pub fn meant(&self, settle: &Line) -> Vec<Line> {
        let by_token = settle.token.as_ref().and_then(|token| self.tokens.get(&token_name(settle, token)));
        let by_handle = settle.handle.as_ref().and_then(|handle| self.handles.get(&handle_name(settle, handle)));
        let ids = by_token.map_or_else(|| by_handle.map(Vec::as_slice).unwrap_or_default(), std::slice::from_ref);
        ids.iter().filter_map(|id| self.open.get(id)).map(|lease| lease.line.clone()).collect()
    }

    /// Ends the lease of a delivery.
    pub fn close(&mut self, delivery: &Line) {
        let name = delivery.token.as_ref().map(|token| token_name(delivery, token));
        if let Some(id) = name.and_then(|name| self.tokens.get(&name).copied()) {
            self.remove(id);
        }
    }

    /// Moves the end of the lease of a delivery.
    pub fn extend(&mut self, delivery: &Line, ends: u64) {
        let name = delivery.token.as_ref().map(|token| token_name(delivery, token));
        let Some(id) = name.and_then(|name| self.tokens.get(&name).copied()) else { return };
        if let Some(lease) = self.open.get_mut(&id) {
            self.ends.remove(&(lease.ends, id));
            lease.ends = ends;
            self.ends.insert((ends, id));
        }
    }

    /// Ends the leases whose time is over at `now`; gives their deliveries and their ends, earliest first.
    pub fn lapse(&mut self, now: u64) -> Vec<(Line, u64)> {
        let mut lapsed = Vec::new();
        while let Some((ends, id)) = self.ends.first().copied().filter(|(ends, _)| *ends <= now) {
            if let Some(lease) = self.remove(id) {
                lapsed.push((lease.line, ends));
            }
        }
        lapsed
    }

    /// Ends all leases of a topic, or of one group of it, that `gone` chooses.
    pub fn forget(&mut self, gone: impl Fn(&Line) -> bool) {
        let ids: Vec<u64> = self.open.iter().filter(|(_, lease)| gone(&lease.line)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| drop(self.remove(id)));
    }

    /// Does to the leases what a line of a history tells. `now` is the boot time at which the line is read,
    /// and `wall` the wall time.
    pub fn replay(&mut self, line: &Line, now: u64, wall: u64) {
        match line.event {
            Event::Delivery => {
                let ends = line.wall_ms.saturating_add(line.held_ms.or(line.lease_ms).unwrap_or(0));
                self.open(line, now.saturating_add(ends.saturating_sub(wall)));
            }
            Event::Extend if line.is_done() => {
                let ends = line.wall_ms.saturating_add(line.lease_ms.unwrap_or(0));
                self.extend(line, now.saturating_add(ends.saturating_sub(wall)));
            }
            Event::Ack | Event::Nack | Event::Bury if line.is_done() => self.close(line),
            Event::Lapse => self.close(line),
            Event::Purge | Event::DeleteTopic => {
                self.forget(|lease| lease.account == line.account && lease.topic == line.topic);
            }
            Event::Seek | Event::DeleteGroup => self.forget(|lease| {
                lease.account == line.account && lease.topic == line.topic && lease.group == line.group
            }),
            Event::Discard => self.forget(|lease| {
                lease.account == line.account && lease.topic == line.topic && lease.offset == line.offset
            }),
            // What was not done changes nothing.
            Event::Ack | Event::Nack | Event::Extend | Event::Bury => {}
            Event::Start | Event::Faults | Event::Publish | Event::DeadLetter | Event::Fault | Event::Full => {}
        }
    }

    fn remove(&mut self, id: u64) -> Option<Lease> {
        let lease = self.open.remove(&id)?;
        self.ends.remove(&(lease.ends, id));
        if let Some(token) = &lease.line.token {
            self.tokens.remove(&token_name(&lease.line, token));
        }
        if let Some(handle) = &lease.line.handle {
            let name = handle_name(&lease.line, handle);
            if let Some(ids) = self.handles.get_mut(&name) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.handles.remove(&name);
                }
            }
        }
        Some(lease)
    }
}
