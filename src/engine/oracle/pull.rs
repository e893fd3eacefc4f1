//! Pull: which messages a group gets, in which order, and who waits for them.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::engine::oracle::world::{GroupState, Hold, Kept, Pending, Standing, Token, TopicState, World};
use crate::engine::{HandleKind, LookupError, Pull, PullError, Pulled, Wait};
use crate::model::{Attempt, Delivery, Flow, Key, Millis, Offset, Ordering, SettingsError, bounds};

/// What became of a pull at its arrival.
pub(super) enum Taken {
    /// It has its answer.
    Now(Pulled),
    /// It waits under this number.
    Later {
        /// Its number.
        waiter: u64,
        /// Where the answer will be.
        answer: oneshot::Receiver<Result<Pulled, PullError>>,
    },
}

/// A pull that waits.
pub(super) struct Waiter {
    number: u64,
    pull: Pull,
    until: Millis,
    answer: oneshot::Sender<Result<Pulled, PullError>>,
}

impl Waiter {
    pub fn refuse(self, error: PullError) {
        // Whoever hung up needs no answer.
        let _ = self.answer.send(Err(error));
    }
}

/// What a pull would do now.
struct Plan {
    take: Vec<Offset>,
    /// Of the bodies of these.
    bytes: u64,
    /// Unwanted messages: settled for the group when the plan is carried out.
    pass: Vec<Offset>,
    cursor: Offset,
}

impl Plan {
    /// Whether it is so many messages, or as many as fit one answer.
    fn suffices(&self, need: usize) -> bool {
        self.take.len() >= need || self.bytes >= bounds::PULL_BYTES_MAX
    }

    fn pick(&mut self, offset: Offset, kept: &Kept) {
        self.bytes += kept.message.body.len() as u64;
        self.take.push(offset);
    }
}

impl World {
    pub fn pull(&mut self, pull: Pull) -> Result<Taken, PullError> {
        let (t, g) = self.find_group(&pull.account, &pull.topic, &pull.group)?;
        check_bounds(&pull)?;
        if self.is_paused(t, g) {
            return Err(PullError::Paused);
        }
        self.fix_position(t, g, &pull);
        let (wait, is_full_only) = match pull.wait {
            Wait::None => (Duration::ZERO, false),
            Wait::Any(wait) => (wait, false),
            Wait::Full(wait) => (wait, true),
        };
        if !wait.is_zero() && is_full_only && !self.plan(t, g, &pull).suffices(pull.batch_max) {
            return self.wait(t, g, pull, wait);
        }
        let pulled = self.take(t, g, &pull);
        if !wait.is_zero() && pulled.deliveries.is_empty() {
            return self.wait(t, g, pull, wait);
        }
        Ok(Taken::Now(pulled))
    }

    fn is_paused(&self, t: usize, g: usize) -> bool {
        let topic = &self.topics[t];
        topic.topic.settings.flow == Flow::Paused || topic.groups[g].group.settings.flow == Flow::Paused
    }

    /// A group without a position gets one at its first pull.
    fn fix_position(&mut self, t: usize, g: usize, pull: &Pull) {
        if let Standing::Open(start) = self.topics[t].groups[g].standing {
            let offset = self.topics[t].resolve(pull.start.unwrap_or(start));
            let group = &mut self.topics[t].groups[g];
            group.standing = Standing::At(offset);
            group.cursor = offset;
        }
    }

    fn wait(&mut self, t: usize, g: usize, pull: Pull, wait: Duration) -> Result<Taken, PullError> {
        let (number, until) = (self.next_number(), self.now.after(wait));
        let group = &mut self.topics[t].groups[g];
        let max = group.group.settings.waiting_max;
        if group.waiters.len() >= max as usize {
            return Err(PullError::TooManyWaiting { max });
        }
        let (sender, answer) = oneshot::channel();
        group.waiters.push(Waiter { number, pull, until, answer: sender });
        Ok(Taken::Later { waiter: number, answer })
    }

    /// Forgets a waiting pull; nothing happens if it has its answer.
    pub fn withdraw(&mut self, number: u64) {
        for group in self.topics.iter_mut().flat_map(|topic| &mut topic.groups) {
            group.waiters.retain(|waiter| waiter.number != number);
        }
    }

    /// Finds the first waiting pull that can be answered, or that has messages to pass over, and does so.
    /// Says whether there was one. A pull that waits for a full batch does not hold up those behind it.
    pub fn answer_one_waiting(&mut self) -> bool {
        let groups = self.topics.iter().enumerate().flat_map(|(t, topic)| (0..topic.groups.len()).map(move |g| (t, g)));
        let groups: Vec<_> = groups.collect();
        groups.into_iter().any(|(t, g)| {
            let waiting = self.topics[t].groups[g].waiters.len();
            (0..waiting).any(|place| self.try_answer(t, g, place))
        })
    }

    fn try_answer(&mut self, t: usize, g: usize, place: usize) -> bool {
        let waiter = &self.topics[t].groups[g].waiters[place];
        if waiter.until <= self.now || self.is_paused(t, g) {
            self.answer(t, g, place);
            return true;
        }
        let is_full_only = matches!(waiter.pull.wait, Wait::Full(_));
        let enough = if is_full_only { waiter.pull.batch_max } else { 1 };
        let plan = self.plan(t, g, &waiter.pull);
        if plan.suffices(enough) {
            self.answer(t, g, place);
            return true;
        }
        if is_full_only || plan.pass.is_empty() {
            return false;
        }
        self.topics[t].groups[g].pass_over(plan);
        true
    }

    /// Answers a waiting pull with what there is.
    fn answer(&mut self, t: usize, g: usize, place: usize) {
        let waiter = self.topics[t].groups[g].waiters.remove(place);
        if waiter.answer.is_closed() {
            return;
        }
        if self.is_paused(t, g) {
            return waiter.refuse(PullError::Paused);
        }
        let pulled = self.take(t, g, &waiter.pull);
        // The future may be dropped right now: then its leases run until they lapse.
        let _ = waiter.answer.send(Ok(pulled));
    }

    pub fn answer_all_waiting(&mut self) {
        for t in 0..self.topics.len() {
            for g in 0..self.topics[t].groups.len() {
                while !self.topics[t].groups[g].waiters.is_empty() {
                    self.answer(t, g, 0);
                }
            }
        }
    }

    fn plan(&self, t: usize, g: usize, pull: &Pull) -> Plan {
        let view = View { topic: &self.topics[t], group: &self.topics[t].groups[g], g, now: self.now };
        view.plan(pull, self.limits.returned_max)
    }

    /// Gives leases on what the plan says, or acks it at once.
    fn take(&mut self, t: usize, g: usize, pull: &Pull) -> Pulled {
        let plan = self.plan(t, g, pull);
        let take = self.topics[t].groups[g].pass_over(plan);
        let batch_handle = self.clock.random() >> (128 - 53);
        let deliveries = take.into_iter().map(|offset| self.deliver(t, g, offset, pull, batch_handle)).collect();
        Pulled { deliveries, counts: self.topics[t].counts_of_group(g, self.now) }
    }

    fn deliver(&mut self, t: usize, g: usize, offset: Offset, pull: &Pull, batch_handle: u128) -> Delivery {
        let number = self.next_number();
        let token = format!("{:032x}", self.clock.random());
        let handle = match pull.handles {
            HandleKind::None => 0,
            HandleKind::PerMessage => uuid::Builder::from_u128(self.clock.random())
                .with_version(uuid::Version::Random)
                .with_variant(uuid::Variant::RFC4122)
                .into_uuid()
                .as_u128(),
            HandleKind::PerBatch => batch_handle.max(1),
        };
        let topic = &mut self.topics[t];
        let message = topic.messages[&offset].message.clone();
        let group = &mut topic.groups[g];
        group.totals.delivered += 1;
        let attempt = group.pending.get(&offset).map_or(Attempt::NONE, |pending| pending.attempt).next();
        if pull.auto_ack {
            group.totals.acked += 1;
            group.settle(offset);
            return Delivery { message, attempt, token: String::new(), handle: 0, lease: Duration::ZERO };
        }
        let lease = pull.lease.unwrap_or(group.group.settings.lease);
        let hold = Hold::Leased { deadline: self.now.after(lease) };
        group.pending.insert(offset, Pending { attempt, lease: number, handle, hold });
        let (topic_id, group_id, seeks) = (topic.topic.id, group.group.id, group.seeks);
        self.tokens.insert(token.clone(), Token { topic: topic_id, group: group_id, seeks, offset, lease: number });
        Delivery { message, attempt, token, handle, lease }
    }
}

impl TopicState {
    /// Refuses all waiting pulls of all groups, before the topic goes.
    pub fn refuse_waiting(&mut self) {
        for waiter in self.groups.iter_mut().flat_map(|group| group.waiters.drain(..)) {
            waiter.refuse(PullError::Lookup(LookupError::NoSuchTopic));
        }
    }
}

impl GroupState {
    /// Does all of the plan but the take, which it returns.
    fn pass_over(&mut self, plan: Plan) -> Vec<Offset> {
        self.cursor = plan.cursor;
        self.settled.extend(plan.pass);
        plan.take
    }
}

fn check_bounds(pull: &Pull) -> Result<(), SettingsError> {
    let refuse = |field, rule| Err(SettingsError { field, rule });
    if pull.batch_max == 0 || pull.batch_max > bounds::PULL_BATCH_MAX {
        return refuse("batch_max", "1 to 1000");
    }
    if pull.lease.is_some_and(|lease| lease < bounds::LEASE_MIN || lease > bounds::LEASE_MAX) {
        return refuse("lease", "1 ms to 12 hours");
    }
    if let Wait::Any(wait) | Wait::Full(wait) = pull.wait
        && wait > bounds::WAIT_MAX
    {
        return refuse("wait", "at most 300 s");
    }
    Ok(())
}

/// A group's view of its topic at one instant.
struct View<'a> {
    topic: &'a TopicState,
    group: &'a GroupState,
    g: usize,
    now: Millis,
}

impl View<'_> {
    fn plan(&self, pull: &Pull, returned_max: usize) -> Plan {
        let mut plan = Plan { take: Vec::new(), bytes: 0, pass: Vec::new(), cursor: self.topic.cursor(self.g) };
        let is_strict = self.topic.topic.settings.ordering == Ordering::Strict;
        if is_strict && self.group.pending.values().any(Pending::is_leased) {
            return plan;
        }
        for (offset, pending) in self.group.pending.iter().filter(|(_, pending)| !pending.is_leased()) {
            if plan.suffices(pull.batch_max) {
                return plan;
            }
            let tag = self.topic.messages[offset].message.head.tag.as_ref();
            let is_wanted = pull.filter.as_ref().is_none_or(|filter| filter.wants(tag));
            if pending.is_ready(self.now) && is_wanted && !self.is_withheld(*offset, &plan) {
                plan.pick(*offset, &self.topic.messages[offset]);
            } else if is_strict {
                // A returned message that cannot go blocks all behind it.
                return plan;
            }
        }
        self.plan_new(pull, self.room(returned_max), returned_max, &mut plan);
        plan
    }

    /// Due ones, then fresh ones, while there is room for them. Looks past `withheld_max` messages that
    /// wait for another of their key.
    fn plan_new(&self, pull: &Pull, room: usize, withheld_max: usize, plan: &mut Plan) {
        let (mut due, fresh): (Vec<_>, Vec<_>) = self
            .topic
            .messages
            .iter()
            .filter(|(offset, kept)| self.is_new(**offset, kept) && kept.message.head.ready_at <= self.now)
            .partition(|(_, kept)| is_delayed(kept));
        due.sort_by_key(|(offset, kept)| (kept.message.head.ready_at, **offset));
        let filter = pull.filter.as_ref().unwrap_or(&self.group.group.settings.filter);
        let returned = plan.take.len();
        let mut withheld = 0;
        for (offset, kept) in due.into_iter().chain(fresh) {
            if plan.suffices(pull.batch_max) || plan.take.len() - returned == room {
                return;
            }
            if !filter.wants(kept.message.head.tag.as_ref()) {
                plan.pass.push(*offset);
            } else if !self.is_withheld(*offset, plan) {
                plan.pick(*offset, kept);
            } else if withheld == withheld_max {
                return;
            } else {
                withheld += 1;
            }
            if !is_delayed(kept) {
                plan.cursor = plan.cursor.max(offset.plus(1));
            }
        }
        if !plan.suffices(pull.batch_max) && plan.take.len() - returned < room {
            plan.cursor = self.topic.tail;
        }
    }

    /// Whether the group has yet to get this message for the first time.
    fn is_new(&self, offset: Offset, kept: &Kept) -> bool {
        offset >= self.topic.start(self.g)
            && !kept.superseded
            && !self.group.pending.contains_key(&offset)
            && !self.group.settled.contains(&offset)
    }

    /// How many messages may be delivered for the first time.
    fn room(&self, returned_max: usize) -> usize {
        let pending = || self.group.pending.values();
        if pending().filter(|pending| pending.is_waiting(self.now)).count() >= returned_max {
            return 0;
        }
        let used = pending().filter(|pending| !pending.is_waiting(self.now)).count();
        (self.group.group.settings.pending_max as usize).saturating_sub(used)
    }

    /// With order per key: whether another message of its key is in flight, returned before it, or in the
    /// plan.
    fn is_withheld(&self, offset: Offset, plan: &Plan) -> bool {
        if self.topic.topic.settings.ordering != Ordering::PerKey {
            return false;
        }
        let Some(key) = self.key(offset) else { return false };
        let is_returned = self.group.pending.contains_key(&offset);
        let holds_up = |other: &Offset, pending: &Pending| {
            self.key(*other) == Some(key) && (pending.is_leased() || !is_returned || *other < offset)
        };
        plan.take.iter().any(|other| self.key(*other) == Some(key))
            || self.group.pending.iter().any(|(other, pending)| *other != offset && holds_up(other, pending))
    }

    fn key(&self, offset: Offset) -> Option<&Key> {
        self.topic.messages.get(&offset).and_then(|kept| kept.message.head.key.as_ref())
    }
}

/// Whether it was published with a delay: such a message is taken when due, not by the cursor.
fn is_delayed(kept: &Kept) -> bool {
    kept.message.head.ready_at > kept.message.head.published_at
}
