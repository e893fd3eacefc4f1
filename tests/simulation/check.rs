//! After a restart: looks at everything there is, holds it against the model, and goes on from there.

use std::collections::{BTreeMap, BTreeSet};

use windlass::engine::{Counts, Engine, MessageState, Peek, PeekFilter, PeekedMessage, Seek};
use windlass::model::{Offset, Start};

use super::apply::Verdict;
use super::calls::{account, group_ref, topic_ref};
use super::machine::{Dead, Machine};
use super::world::{Copy, DEAD, Fate, GroupModel, TopicModel, Tri, World, mark_of};

/// What was seen of a group.
pub struct SeenGroup {
    pub messages: BTreeMap<u64, (MessageState, u32)>,
    pub counts: Counts,
    pub cursor: u64,
}

/// What was seen of a topic.
pub struct SeenTopic {
    pub messages: Vec<PeekedMessage>,
    pub counts: Counts,
    pub groups: BTreeMap<String, SeenGroup>,
}

/// Everything there is.
pub type Seen = BTreeMap<String, SeenTopic>;

/// How the process ended before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    PowerCut,
    Killed,
    Stopped,
}

macro_rules! broken {
    ($($words:tt)*) => { return Err(format!($($words)*)) };
}

fn peek_all(
    machine: &mut Machine,
    topic: &str,
    group: Option<&str>,
) -> Result<Result<Vec<PeekedMessage>, String>, Dead> {
    let mut messages = Vec::new();
    let mut from = Some(Offset::ZERO);
    while let Some(at) = from {
        let request = Peek {
            account: account(),
            topic: topic_ref(topic),
            group: group.map(group_ref),
            filter: PeekFilter::default(),
            from: at,
            limit: 1000,
        };
        let engine = machine.engine();
        match machine.wait(async move { engine.peek(request).await })? {
            Ok(page) => {
                messages.extend(page.messages);
                from = page.next;
            }
            Err(error) => return Ok(Err(format!("peek of {topic}: {error}"))),
        }
    }
    Ok(Ok(messages))
}

/// Looks at everything there is. Errors inside: a call was refused.
pub fn look(machine: &mut Machine) -> Result<Result<Seen, String>, Dead> {
    macro_rules! call {
        ($engine:ident, $call:expr) => {{
            let $engine = machine.engine();
            match machine.wait(async move { $call.await })? {
                Ok(answer) => answer,
                Err(error) => return Ok(Err(format!("{}: {error}", stringify!($call)))),
            }
        }};
    }
    let mut seen = Seen::new();
    for topic in call!(engine, engine.topics(account())) {
        let name = topic.name.as_str().to_owned();
        let messages = match peek_all(machine, &name, None)? {
            Ok(messages) => messages,
            Err(why) => return Ok(Err(why)),
        };
        let at = topic_ref(&name);
        let counts = call!(engine, engine.counts(account(), at.clone(), None));
        let at = topic_ref(&name);
        let mut groups = BTreeMap::new();
        for group in call!(engine, engine.groups(account(), at)) {
            let group = group.name.as_str().to_owned();
            let peeked = match peek_all(machine, &name, Some(&group))? {
                Ok(messages) => messages,
                Err(why) => return Ok(Err(why)),
            };
            let (at, of) = (topic_ref(&name), group_ref(&group));
            let counts = call!(engine, engine.counts(account(), at.clone(), Some(of.clone())));
            let (topic, of) = (topic_ref(&name), group_ref(&group));
            let seek = Seek { account: account(), topic, group: of, to: Start::Tail, dry_run: true };
            let report = call!(engine, engine.seek(seek.clone()));
            let messages = peeked.into_iter().map(|peeked| {
                let state = peeked.state.expect("a peek for a group tells states");
                (peeked.message.head.offset.get(), (state, peeked.attempts.get()))
            });
            groups.insert(group, SeenGroup { messages: messages.collect(), counts, cursor: report.from.get() });
        }
        seen.insert(name, SeenTopic { messages, counts, groups });
    }
    Ok(Ok(seen))
}

impl World {
    /// Holds what was seen against what was answered, then takes it for the truth.
    pub fn check(&mut self, seen: &Seen, ended: Ended, lease_clock: u64) -> Verdict {
        self.check_existence(seen)?;
        // The dead letters last: what they came from is known then.
        for (name, topic) in
            seen.iter().filter(|(name, _)| *name != DEAD).chain(seen.iter().filter(|(name, _)| *name == DEAD))
        {
            for peeked in &topic.messages {
                self.see(name, &peeked.message.head, &peeked.message.body)?;
            }
        }
        self.check_batches(seen)?;
        for (name, topic) in seen {
            if let Err(why) = check_topic_counts(topic) {
                self.miscount.get_or_insert(format!("{name}: {why}"));
            }
            self.check_topic(name, topic, ended, lease_clock).map_err(|why| format!("{name}: {why}"))?;
        }
        self.take_for_true(seen);
        Ok(())
    }

    fn check_existence(&mut self, seen: &Seen) -> Verdict {
        for (name, topic) in &self.topics {
            match (topic.exists, seen.get(name)) {
                (Tri::Yes, None) => broken!("I1: topic {name} is gone"),
                (Tri::No, Some(_)) => broken!("I2: topic {name} is back"),
                _ => {}
            }
        }
        self.topics.retain(|name, _| seen.contains_key(name));
        for (name, topic) in seen {
            if !self.topics.contains_key(name) && name == DEAD {
                self.topics.insert(DEAD.to_owned(), TopicModel { exists: Tri::Yes, ..TopicModel::default() });
            }
            let Some(model) = self.topics.get_mut(name) else { broken!("I2: topic {name} was never made") };
            model.exists = Tri::Yes;
            for (group, known) in &model.groups {
                match (known.exists, topic.groups.contains_key(group)) {
                    (Tri::Yes, false) => broken!("I1: group {name}/{group} is gone"),
                    (Tri::No, true) => broken!("I2: group {name}/{group} is back"),
                    _ => {}
                }
            }
            if model.groups.iter().any(|(name, group)| !topic.groups.contains_key(name) && group.may_have_ended_some())
            {
                // What only it still held went with it.
                model.incoming.iter_mut().for_each(|(_, sure)| *sure = Tri::Maybe);
                model.ended_unseen = true;
            }
            model.groups.retain(|group, _| topic.groups.contains_key(group));
            for group in topic.groups.keys() {
                match model.groups.get_mut(group) {
                    Some(known) => known.exists = Tri::Yes,
                    None => broken!("I2: group {name}/{group} was never made"),
                }
            }
        }
        Ok(())
    }

    /// A batch is there as a whole or not at all.
    fn check_batches(&mut self, seen: &Seen) -> Verdict {
        for batch in std::mem::take(&mut self.open_batches) {
            let there: Vec<bool> =
                batch.iter().map(|mark| matches!(self.specs[*mark as usize].fate, Fate::Is(_))).collect();
            let topic = &self.specs[batch[0] as usize].topic;
            let loose = self
                .topics
                .get(topic)
                .is_none_or(|topic| topic.trims || topic.purge != Tri::No || topic.may_have_ended_unseen());
            if seen.contains_key(topic) && !loose && there.contains(&true) && there.contains(&false) {
                broken!("I1: of the batch {batch:?} only a part is there: {there:?}");
            }
        }
        for spec in &mut self.specs {
            if spec.fate == Fate::Open {
                let topic = self.topics.get(&spec.topic);
                let unseen =
                    topic.is_none_or(|topic| topic.trims || topic.purge != Tri::No || topic.may_have_ended_unseen());
                spec.fate = if unseen { Fate::Unseen } else { Fate::Never };
            }
        }
        Ok(())
    }

    fn check_topic(&self, name: &str, seen: &SeenTopic, ended: Ended, lease_clock: u64) -> Verdict {
        let model = &self.topics[name];
        let loose = model.trims || model.purge != Tri::No;
        let there: BTreeSet<u64> = seen.messages.iter().map(|peeked| peeked.message.head.offset.get()).collect();
        for (offset, copy) in &model.copies {
            if copy.gone == Tri::Yes && there.contains(offset) {
                broken!("I3: {offset} was given up and is back");
            }
            // Elsewhere a message goes when all groups have settled it, and what groups that are gone by now had
            // settled is not known.
            if model.keeps && copy.gone == Tri::No && !loose && !there.contains(offset) {
                broken!("I1: {offset} is lost from a topic that keeps it");
            }
        }
        for (id, sure) in &model.incoming {
            if *sure == Tri::Yes && !loose && !model.groups.values().any(GroupModel::may_have_ended_some) {
                broken!("I8: the redriven message {id:x} is lost");
            }
        }
        for (group, of_group) in &seen.groups {
            self.check_group(name, group, of_group, loose, ended, lease_clock)
                .map_err(|why| format!("{group}: {why}"))?;
        }
        Ok(())
    }

    fn check_group(
        &self,
        topic: &str,
        name: &str,
        seen: &SeenGroup,
        loose: bool,
        ended: Ended,
        lease_clock: u64,
    ) -> Verdict {
        let (model, group) = (&self.topics[topic], &self.topics[topic].groups[name]);
        if seen.cursor < group.cursor && group.seek == Tri::No {
            broken!("I7: the cursor went back from {} to {}", group.cursor, seen.cursor);
        }
        for (offset, copy) in &model.copies {
            let blank = Default::default();
            let standing = group.standings.get(offset).unwrap_or(&blank);
            let state = seen.messages.get(offset).filter(|(state, _)| *state != MessageState::Settled);
            let max = group.attempts_max.unwrap_or(u32::MAX);
            let may_die = standing.dying != Tri::No || standing.attempts + group.unseen_pulls >= max;
            let Some((state, attempts)) = state else {
                let covered = *offset >= group.from;
                if !covered || loose || copy.gone != Tri::No || standing.settled != Tri::No || group.unseen_acks {
                    continue;
                }
                if !may_die {
                    broken!("I1: {offset} ({}) is lost: nobody settled it ({standing:?})", copy.mark);
                }
                if group.dead_letter && !self.dead_of(topic, name, *offset) && !self.dead_is_loose() {
                    broken!("I8: {offset} ({}) is neither here nor a dead letter ({standing:?})", copy.mark);
                }
                continue;
            };
            if standing.settled == Tri::Yes {
                broken!("I3: {offset} ({}) was settled and is back as {state:?}", copy.mark);
            }
            if group.dead_letter && self.dead_of(topic, name, *offset) && !group.moved {
                broken!("I8: {offset} ({}) is {state:?} and a dead letter as well", copy.mark);
            }
            if standing.dying == Tri::Yes && !group.moved {
                broken!("I8: {offset} ({}) was given up and is {state:?}", copy.mark);
            }
            if group.seek != Tri::No {
                continue;
            }
            let sure = if ended == Ended::PowerCut { standing.attempts_sure } else { standing.attempts };
            if *attempts < sure {
                broken!("I5: {offset} ({}) had attempt {sure}, now {attempts} ({standing:?})", copy.mark);
            }
            if *attempts > standing.attempts + group.unseen_pulls {
                broken!("I5: {offset} ({}) had attempt {}, now {attempts}", copy.mark, standing.attempts);
            }
            let held = standing.lease.as_ref().filter(|lease| lease.deadline > lease_clock);
            if let Some(lease) = held
                && (lease.sure || ended != Ended::PowerCut)
                && *attempts == standing.attempts
                && *state != MessageState::InFlight
                && standing.settled == Tri::No
            {
                broken!(
                    "I9: {offset} ({}) was held for {} ms more, now {state:?}",
                    copy.mark,
                    lease.deadline - lease_clock
                );
            }
        }
        Ok(())
    }

    /// Dead letters may have gone unseen.
    fn dead_is_loose(&self) -> bool {
        self.topics.get(DEAD).is_none_or(|dead| {
            dead.purge != Tri::No || dead.may_have_ended_unseen() || dead.groups.values().any(|group| group.moved)
        })
    }

    /// From here on only what was seen counts.
    fn take_for_true(&mut self, seen: &Seen) {
        self.unsure.clear();
        for (name, topic) in seen {
            let model = self.topics.get_mut(name).expect("checked");
            let there: BTreeSet<u64> = topic.messages.iter().map(|peeked| peeked.message.head.offset.get()).collect();
            let last = model.copies.keys().next_back().map_or(0, |last| last + 1);
            model.tail = model.tail.max(last);
            // Dead letters stay known, so that a second one is noticed.
            model.copies.retain(|offset, copy| there.contains(offset) || copy.origin.is_some());
            for (offset, copy) in &mut model.copies {
                copy.gone = if there.contains(offset) { Tri::No } else { Tri::Yes };
            }
            model.purge = Tri::No;
            model.incoming.clear();
            model.ended_unseen = false;
            for (group, of_group) in &topic.groups {
                let known = model.groups.get_mut(group).expect("checked");
                take_group(known, of_group, &model.copies);
            }
        }
    }
}

fn take_group(model: &mut GroupModel, seen: &SeenGroup, copies: &BTreeMap<u64, Copy>) {
    let mut old = std::mem::take(&mut model.standings);
    for offset in copies.keys() {
        let mut standing = old.remove(offset).unwrap_or_default();
        match seen.messages.get(offset) {
            Some((state, attempts)) if *state != MessageState::Settled => {
                standing.settled = Tri::No;
                standing.dying = Tri::No;
                if (*state != MessageState::InFlight || *attempts != standing.attempts)
                    && let Some(lease) = standing.lease.take()
                {
                    standing.old.push(lease.token);
                }
                if let Some(lease) = &mut standing.lease {
                    lease.sure = true;
                }
                (standing.attempts, standing.attempts_sure) = (*attempts, *attempts);
            }
            _ => {
                standing.settled = Tri::Yes;
                standing.lease = None;
            }
        }
        model.standings.insert(*offset, standing);
    }
    (model.unseen_pulls, model.unseen_acks, model.seek) = (0, false, Tri::No);
    model.cursor = seen.cursor;
    model.from = 0;
}

/// I13: counters equal a recount.
fn check_topic_counts(seen: &SeenTopic) -> Verdict {
    let sizes = seen.messages.iter();
    let sizes: BTreeMap<u64, u64> =
        sizes.map(|peeked| (peeked.message.head.offset.get(), peeked.message.body.len() as u64)).collect();
    let kept = seen.counts.ready + seen.counts.delayed + seen.counts.in_flight;
    if kept != sizes.len() as u64 {
        broken!("I13: the topic counts {kept}, but holds {}", sizes.len());
    }
    let bytes: u64 = sizes.values().sum();
    if seen.counts.bytes != bytes {
        broken!("I13: the topic counts {} bytes, but holds {bytes}", seen.counts.bytes);
    }
    for (group, of_group) in &seen.groups {
        check_counts(of_group, &sizes).map_err(|why| format!("{group}: {why}"))?;
    }
    Ok(())
}

fn check_counts(seen: &SeenGroup, sizes: &BTreeMap<u64, u64>) -> Verdict {
    let count = |wanted| seen.messages.values().filter(|(state, _)| *state == wanted).count() as u64;
    let (ready, held, delayed) =
        (count(MessageState::Ready), count(MessageState::InFlight), count(MessageState::Delayed));
    let counts = &seen.counts;
    if (counts.ready, counts.in_flight, counts.delayed) != (ready, held, delayed) {
        broken!("I13: counts {counts:?}, a recount finds {ready} ready, {held} in flight, {delayed} delayed");
    }
    let open = seen.messages.iter().filter(|(_, (state, _))| *state != MessageState::Settled);
    let bytes: u64 = open.map(|(offset, _)| sizes.get(offset).copied().unwrap_or(0)).sum();
    if counts.bytes != bytes {
        broken!("I13: counts {} bytes, a recount finds {bytes}", counts.bytes);
    }
    Ok(())
}

/// Used by the drain: everything that is not settled by now.
pub fn unsettled(world: &World, seen: &Seen) -> Vec<String> {
    let mut left = Vec::new();
    for (name, topic) in &world.topics {
        for (group, model) in &topic.groups {
            let max = model.attempts_max.unwrap_or(u32::MAX);
            for (offset, copy) in topic.copies.iter().filter(|(_, copy)| copy.gone == Tri::No) {
                if model.standings.get(offset).is_some_and(|s| {
                    // After its last attempt it is a dead letter.
                    s.settled == Tri::No && s.dying == Tri::No && s.attempts < max
                }) {
                    let seen = seen.get(name).and_then(|topic| topic.groups.get(group));
                    let state = seen.and_then(|group| group.messages.get(offset));
                    left.push(format!("{name}/{group}@{offset} ({}, is {state:?})", copy.mark));
                }
            }
        }
    }
    debug_assert!(mark_of(&[]).is_none());
    left
}
