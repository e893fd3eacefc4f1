//! The state, what time does to it (lapses, trims, ends of waits) and what follows from every change
//! (messages that nobody needs go, waiting pulls are answered).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::clock::Clock;
use crate::engine::oracle::pull::Waiter;
use crate::engine::{AccessTable, Limits, LookupError};
use crate::model::{
    AccountName, Attempt, Compaction, Group, GroupId, GroupRef, IdempotencyKey, Message, MessageId, Millis, NewMessage,
    Offset, Origin, Settled, Start, Topic, TopicId, TopicName, TopicRef, TopicSettings,
};

/// All there is.
pub(super) struct World {
    pub clock: Arc<dyn Clock>,
    pub limits: Limits,
    wall_at_start: Millis,
    boot_at_start: Millis,
    /// The log clock, as of the operation in hand. Deadlines of leases are on it as well: within one
    /// life of the oracle, it and boot time advance together.
    pub now: Millis,
    last_id: MessageId,
    last_number: u64,
    pub topics: Vec<TopicState>,
    /// Every token ever given.
    pub tokens: HashMap<String, Token>,
    pub access: Arc<AccessTable>,
    pub stopped: bool,
}

/// What a token names.
#[derive(Clone, Copy)]
pub(super) struct Token {
    pub topic: TopicId,
    pub group: GroupId,
    /// The seeks that the group had seen.
    pub seeks: u64,
    pub offset: Offset,
    pub lease: u64,
}

pub(super) struct TopicState {
    pub topic: Topic,
    /// The offset of the next publish.
    pub tail: Offset,
    /// What is kept.
    pub messages: BTreeMap<Offset, Kept>,
    pub groups: Vec<GroupState>,
    pub idempotency: HashMap<IdempotencyKey, Remembered>,
    pub published: u64,
    pub published_bytes: u64,
}

pub(super) struct Kept {
    pub message: Message,
    /// A newer message of its key came: it is never handed out again, and goes when no lease is on it.
    pub superseded: bool,
    /// When it was moved here from another topic: its age counts from then, and compaction passes it by.
    pub moved_at: Option<Millis>,
}

/// A publish under an idempotency key.
pub(super) struct Remembered {
    pub message: NewMessage,
    pub id: MessageId,
    pub offset: Offset,
    pub published_at: Millis,
}

pub(super) struct GroupState {
    pub group: Group,
    pub standing: Standing,
    /// The first offset that no pull has looked at. Only reported: what is deliverable follows from the
    /// other fields.
    pub cursor: Offset,
    /// How often the group was moved.
    pub seeks: u64,
    /// Delivered and not settled.
    pub pending: BTreeMap<Offset, Pending>,
    /// Settled, given up or passed over.
    pub settled: BTreeSet<Offset>,
    /// First come, first served.
    pub waiters: Vec<Waiter>,
    pub totals: Totals,
}

/// Whether a group has a position. All offsets below it are settled for the group.
#[derive(Clone, Copy)]
pub(super) enum Standing {
    At(Offset),
    /// Its first pull will fix it.
    Open(Start),
}

/// A message that was delivered to a group and is not settled.
#[derive(Clone)]
pub(super) struct Pending {
    pub attempt: Attempt,
    /// The number of its last lease.
    pub lease: u64,
    /// The handle of its last delivery; zero if there is none.
    pub handle: u128,
    pub hold: Hold,
}

#[derive(Clone, Copy)]
pub(super) enum Hold {
    Leased { deadline: Millis },
    Returned { ready_at: Millis },
}

impl Pending {
    pub fn is_leased(&self) -> bool {
        matches!(self.hold, Hold::Leased { .. })
    }

    pub fn is_ready(&self, now: Millis) -> bool {
        matches!(self.hold, Hold::Returned { ready_at } if ready_at <= now)
    }

    pub fn is_waiting(&self, now: Millis) -> bool {
        matches!(self.hold, Hold::Returned { ready_at } if ready_at > now)
    }
}

#[derive(Default)]
pub(super) struct Totals {
    pub delivered: u64,
    pub acked: u64,
    pub nacked: u64,
    pub lapsed: u64,
    pub dead_lettered: u64,
    pub discarded: u64,
}

impl TopicState {
    pub fn new(topic: Topic) -> Self {
        Self {
            topic,
            tail: Offset::ZERO,
            messages: BTreeMap::new(),
            groups: Vec::new(),
            idempotency: HashMap::new(),
            published: 0,
            published_bytes: 0,
        }
    }

    /// The oldest offset kept; the tail if nothing is.
    pub fn head(&self) -> Offset {
        self.messages.keys().next().copied().unwrap_or(self.tail)
    }

    /// The offset that `start` means now.
    pub fn resolve(&self, start: Start) -> Offset {
        match start {
            Start::Head => self.head(),
            Start::Tail => self.tail,
            Start::Offset(offset) => offset.clamp(self.head(), self.tail),
            Start::Time(time) => self
                .messages
                .iter()
                .find(|(_, kept)| kept.message.head.published_at >= time)
                .map_or(self.tail, |(offset, _)| *offset),
        }
    }

    /// Where group `g` began, or would begin.
    pub fn start(&self, g: usize) -> Offset {
        match self.groups[g].standing {
            Standing::At(offset) => offset,
            Standing::Open(start) => self.resolve(start),
        }
    }

    /// The cursor of group `g`: never behind the head.
    pub fn cursor(&self, g: usize) -> Offset {
        match self.groups[g].standing {
            Standing::At(_) => self.groups[g].cursor.max(self.head()),
            Standing::Open(start) => self.resolve(start),
        }
    }

    /// Puts `message` at the tail. With compaction it supersedes the older ones of its key: those under a
    /// lease finish first. Moved messages stand outside compaction.
    fn append(&mut self, mut message: Message, moved_at: Option<Millis>) -> Offset {
        let offset = self.tail;
        self.tail = offset.plus(1);
        message.head.offset = offset;
        let compacts = self.topic.settings.compaction == Compaction::LatestPerKey;
        if compacts && message.head.key.is_some() && moved_at.is_none() {
            for (older, kept) in &mut self.messages {
                if kept.message.head.key == message.head.key && kept.moved_at.is_none() {
                    kept.superseded = true;
                    self.groups.iter_mut().for_each(|group| group.forget_returned(*older));
                }
            }
        }
        self.messages.insert(offset, Kept { message, superseded: false, moved_at });
        offset
    }

    /// Whether every group has settled `offset`. A group without a position has settled nothing: its first
    /// pull may still begin at the head.
    fn settled_by_all(&self, offset: Offset) -> bool {
        !self.groups.is_empty() && self.groups.iter().all(|group| group.has_settled(offset))
    }

    /// Removes messages that are superseded, settled by all, too old or too many bytes.
    fn trim(&mut self, now: Millis) {
        let leased = |offset: &Offset| self.groups.iter().any(|group| group.has_leased(*offset));
        let retention = self.topic.settings.retention;
        let too_old = |kept: &Kept| {
            let arrived_at = kept.moved_at.unwrap_or(kept.message.head.published_at);
            retention.age.is_some_and(|age| arrived_at.after(age) <= now)
        };
        let gone: Vec<Offset> = self
            .messages
            .iter()
            .filter(|(offset, kept)| {
                (kept.superseded && !leased(offset))
                    || (retention.settled == Settled::Drop && self.settled_by_all(**offset))
                    || too_old(kept)
            })
            .map(|(offset, _)| *offset)
            .collect();
        gone.into_iter().for_each(|offset| self.remove(offset));
        while retention.bytes.is_some_and(|max| self.body_bytes() > max) {
            self.remove(self.head());
        }
        let window = self.topic.settings.idempotency_window;
        self.idempotency.retain(|_, first| first.published_at.after(window) > now);
    }

    fn body_bytes(&self) -> u64 {
        self.messages.values().map(|kept| kept.message.body.len() as u64).sum()
    }

    /// Gives a message up for all groups; its leases are forgotten.
    pub fn remove(&mut self, offset: Offset) {
        self.messages.remove(&offset);
        for group in &mut self.groups {
            group.pending.remove(&offset);
            group.settled.insert(offset);
        }
    }
}

impl GroupState {
    fn has_leased(&self, offset: Offset) -> bool {
        self.pending.get(&offset).is_some_and(Pending::is_leased)
    }

    fn has_settled(&self, offset: Offset) -> bool {
        match self.standing {
            Standing::At(start) => offset < start || self.settled.contains(&offset),
            Standing::Open(_) => false,
        }
    }

    fn forget_returned(&mut self, offset: Offset) {
        if self.pending.get(&offset).is_some_and(|pending| !pending.is_leased()) {
            self.settle(offset);
        }
    }

    pub fn settle(&mut self, offset: Offset) {
        self.pending.remove(&offset);
        self.settled.insert(offset);
    }
}

impl World {
    pub fn new(clock: Arc<dyn Clock>, limits: Limits) -> Self {
        let (wall, boot) = (clock.wall(), clock.boot());
        Self {
            clock,
            limits,
            wall_at_start: wall,
            boot_at_start: boot,
            now: wall,
            last_id: MessageId::default(),
            last_number: 0,
            topics: Vec::new(),
            tokens: HashMap::new(),
            access: Arc::default(),
            stopped: false,
        }
    }

    /// Sets the clock and does what became due: leases lapse first, so that a message whose time is up as
    /// well still reaches the dead letters.
    pub fn pass_time(&mut self) {
        if self.stopped {
            return;
        }
        let now = self.wall_at_start.after(self.clock.boot().since(self.boot_at_start));
        self.now = self.now.max(now);
        self.lapse_leases();
        self.follow_up();
    }

    /// Returns what is past its deadline: in order of deadline, then account, topic, group and offset.
    fn lapse_leases(&mut self) {
        let mut lapsed = Vec::new();
        for (t, topic) in self.topics.iter().enumerate() {
            for (g, group) in topic.groups.iter().enumerate() {
                for (offset, pending) in &group.pending {
                    let Hold::Leased { deadline } = pending.hold else { continue };
                    if deadline <= self.now {
                        let owner = (&topic.topic.account, &topic.topic.name, &group.group.name);
                        lapsed.push(((deadline, owner, *offset), (t, g, *offset)));
                    }
                }
            }
        }
        lapsed.sort();
        let lapsed: Vec<_> = lapsed.into_iter().map(|(_, place)| place).collect();
        for (t, g, offset) in lapsed {
            self.topics[t].groups[g].totals.lapsed += 1;
            self.give_back(t, g, offset, self.now);
        }
    }

    /// Removes what is needed no longer and answers waiting pulls, until nothing changes.
    pub fn follow_up(&mut self) {
        loop {
            let now = self.now;
            self.topics.iter_mut().for_each(|topic| topic.trim(now));
            if !self.answer_one_waiting() {
                return;
            }
        }
    }

    /// A delivered message comes back: to be delivered again at `ready_at`, or never.
    pub fn give_back(&mut self, t: usize, g: usize, offset: Offset, ready_at: Millis) {
        let superseded = self.topics[t].messages.get(&offset).is_some_and(|kept| kept.superseded);
        let group = &mut self.topics[t].groups[g];
        let Some(pending) = group.pending.get_mut(&offset) else { return };
        if superseded {
            group.settle(offset);
        } else if group.group.settings.attempts_max.is_some_and(|max| pending.attempt.get() >= max) {
            self.bury(t, g, offset, "attempts".to_owned());
        } else {
            pending.hold = Hold::Returned { ready_at };
        }
    }

    /// A group gives a message up: to its dead-letter topic if it has one.
    pub fn bury(&mut self, t: usize, g: usize, offset: Offset, reason: String) {
        let topic = &mut self.topics[t];
        let account = topic.topic.account.clone();
        let group = &mut topic.groups[g];
        let attempts = group.pending.get(&offset).map_or(Attempt::NONE, |pending| pending.attempt);
        group.settle(offset);
        let Some(dead_letter) = group.group.settings.dead_letter.clone() else {
            group.totals.discarded += 1;
            return;
        };
        group.totals.dead_lettered += 1;
        let origin = Origin {
            topic: topic.topic.name.clone(),
            group: group.group.name.clone(),
            offset,
            attempts,
            reason,
            moved_at: self.now,
        };
        let Some(kept) = topic.messages.get(&offset) else { return };
        let message = kept.message.clone();
        let target = match self.find_topic(&account, &TopicRef::Name(dead_letter.clone())) {
            Ok(target) => target,
            Err(_) => self.add_topic(account, dead_letter, TopicSettings::default()),
        };
        self.move_to(target, message, Some(origin));
    }

    /// Puts a message of another topic at the tail of topic `t`, ready at once.
    pub fn move_to(&mut self, t: usize, mut message: Message, origin: Option<Origin>) {
        message.head.ready_at = message.head.published_at;
        message.head.origin = origin;
        let now = self.now;
        self.topics[t].append(message, Some(now));
    }

    /// Puts a new message at the tail of topic `t`.
    pub fn add_message(&mut self, t: usize, message: Message) -> Offset {
        self.topics[t].append(message, None)
    }

    pub fn add_topic(&mut self, account: AccountName, name: TopicName, settings: TopicSettings) -> usize {
        let id = TopicId::new(self.clock.random());
        let topic = Topic { account, id, name, settings, created_at: self.now, modified_at: self.now };
        self.topics.push(TopicState::new(topic));
        self.topics.len() - 1
    }

    pub fn next_id(&mut self) -> MessageId {
        self.last_id = MessageId::following(self.last_id, self.now, self.clock.random());
        self.last_id
    }

    /// A number never given before.
    pub fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub fn find_topic(&self, account: &AccountName, topic: &TopicRef) -> Result<usize, LookupError> {
        let is_it = |state: &TopicState| {
            state.topic.account == *account
                && match topic {
                    TopicRef::Name(name) => state.topic.name == *name,
                    TopicRef::Id(id) => state.topic.id == *id,
                }
        };
        self.topics.iter().position(is_it).ok_or(LookupError::NoSuchTopic)
    }

    pub fn find_group(
        &self,
        account: &AccountName,
        topic: &TopicRef,
        group: &GroupRef,
    ) -> Result<(usize, usize), LookupError> {
        let t = self.find_topic(account, topic)?;
        let is_it = |state: &GroupState| match group {
            GroupRef::Name(name) => state.group.name == *name,
            GroupRef::Id(id) => state.group.id == *id,
        };
        let g = self.topics[t].groups.iter().position(is_it).ok_or(LookupError::NoSuchGroup)?;
        Ok((t, g))
    }
}
