//! Takes answers into the model, and refuses those that break a promise.

use windlass::engine::SettleOutcome;
use windlass::model::{Delivery, MessageHead};

use super::calls::{Act, Answer, Asked};
use super::world::{Copy, DEAD, Fate, Lease, Tri, World, mark_of};

/// A broken promise.
pub type Verdict = Result<(), String>;

/// When an answer came.
#[derive(Debug, Clone, Copy)]
pub struct When {
    /// Log clock.
    pub now: u64,
    pub lease_clock: u64,
    pub turn: u64,
    /// Leases given in turns before this one are durable if the answer promises that of what it speaks of.
    pub sure: u64,
}

macro_rules! broken {
    ($($words:tt)*) => { return Err(format!($($words)*)) };
}

impl World {
    /// Before a call is sent: from here on it may have happened.
    pub fn asked(&mut self, asked: &Asked) {
        if let Asked::Publish { marks, .. } = asked {
            for mark in marks {
                let spec = &mut self.specs[*mark as usize];
                // Asked for again after it was refused or not answered.
                spec.fate = if spec.fate == Fate::Never { Fate::Open } else { spec.fate };
            }
        }
        if let Asked::Settle { topic, group, items, .. } = asked {
            for (offset, _, act) in items {
                if let (Act::Bury, Some(group)) = (act, self.group(topic, group)) {
                    let standing = group.standing(*offset);
                    standing.dying = standing.dying.max(Tri::Maybe);
                }
            }
        }
    }

    /// Takes in an answer. `releasing` says whether a lease may just have been given up by another call.
    pub fn answered(
        &mut self,
        asked: &Asked,
        answer: Answer,
        when: When,
        releasing: &dyn Fn(&str, &str, u64) -> bool,
    ) -> Verdict {
        if answer.is_none() {
            self.unanswered(asked, when);
            return Ok(());
        }
        match (asked, answer) {
            (Asked::Publish { topic, marks }, Answer::Publish(Ok(published))) => {
                self.sure_before(when.sure);
                for (mark, said) in marks.iter().zip(&published) {
                    self.published(topic, *mark, said.id.get(), said.offset.get(), said.repeated, when)?;
                }
                if published.len() != marks.len() {
                    broken!("I1: {} answers to {} messages", published.len(), marks.len());
                }
                self.open_batches.retain(|batch| batch != marks);
            }
            (Asked::Publish { marks, .. }, Answer::Publish(Err(_))) => {
                for mark in marks {
                    let spec = &mut self.specs[*mark as usize];
                    if spec.fate == Fate::Open {
                        spec.fate = Fate::Never;
                    }
                }
                self.open_batches.retain(|batch| batch != marks);
            }
            (Asked::Pull { topic, group, lease, auto_ack, batch, .. }, Answer::Pull(Ok(pulled))) => {
                if pulled.deliveries.len() > *batch {
                    broken!("a pull of {batch} took {}", pulled.deliveries.len());
                }
                if *auto_ack && !pulled.deliveries.is_empty() {
                    self.sure_before(when.sure);
                }
                for delivery in &pulled.deliveries {
                    self.delivered(topic, group, delivery, (*lease, *auto_ack), when, releasing)
                        .map_err(|why| format!("{topic}/{group}: {why}"))?;
                }
            }
            (Asked::Settle { topic, group, items, .. }, Answer::Settle(Ok(outcomes))) => {
                self.sure_before(when.sure);
                for ((offset, token, act), outcome) in items.iter().zip(outcomes) {
                    self.settled((topic, group, *offset), token, act, outcome, when)
                        .map_err(|why| format!("{topic}/{group}@{offset} {act:?} -> {outcome:?}: {why}"))?;
                }
            }
            (Asked::Seek { topic, group, to }, Answer::Plain(Ok(()))) => self.sought(topic, group, *to, when),
            (Asked::Purge { topic }, Answer::Plain(Ok(()))) => {
                self.sure_before(when.sure);
                let dead = topic == DEAD;
                if let Some(topic) = self.topics.get_mut(topic) {
                    if dead {
                        // Dead letters that nobody had seen are gone as well.
                        topic.purge = Tri::Maybe;
                    }
                    topic.copies.values_mut().for_each(|copy| copy.gone = Tri::Yes);
                    topic.incoming.clear();
                }
            }
            (Asked::Discard { topic, offsets }, Answer::Discard(Ok(discarded))) => {
                self.sure_before(when.sure);
                if let Some(topic) = self.topics.get_mut(topic) {
                    for offset in &discarded {
                        if !offsets.contains(offset) {
                            broken!("offset {offset} was discarded without being asked for");
                        }
                        if let Some(copy) = topic.copies.get_mut(offset) {
                            copy.gone = Tri::Yes;
                        }
                    }
                }
            }
            (Asked::Redrive { offset, id, to }, Answer::Redrive(Ok(report))) => {
                self.sure_before(when.sure);
                if report.moved == 1 {
                    self.redriven(*offset, *id, to, Tri::Yes);
                }
            }
            (Asked::CreateTopic { topic, .. } | Asked::DeleteTopic { topic }, Answer::Plain(done)) => {
                let created = matches!(asked, Asked::CreateTopic { .. });
                if let (Ok(()), Some(model)) = (&done, self.topics.get_mut(topic)) {
                    model.exists = if created { Tri::Yes } else { Tri::No };
                }
                if done.is_err() && created {
                    self.topics.remove(topic);
                }
            }
            (Asked::CreateGroup { topic, group, .. } | Asked::DeleteGroup { topic, group }, Answer::Plain(done)) => {
                let created = matches!(asked, Asked::CreateGroup { .. });
                if let (Ok(()), Some(model)) = (&done, self.group(topic, group)) {
                    model.exists = if created { Tri::Yes } else { Tri::No };
                }
                if let (Err(_), true, Some(topic)) = (&done, created, self.topics.get_mut(topic)) {
                    topic.groups.remove(group);
                }
            }
            // A refusal: nothing happened.
            _ => {}
        }
        Ok(())
    }

    fn published(&mut self, topic: &str, mark: u64, id: u128, offset: u64, repeated: bool, when: When) -> Verdict {
        let fate = self.specs[mark as usize].fate;
        match (fate, repeated) {
            (Fate::Is(known), true) if known == id => return Ok(()),
            (Fate::Is(known), true) => broken!("I10: message {mark} repeated as {id:x}, it was {known:x}"),
            (Fate::Is(known), false) => {
                let at = self.topics.get(topic).and_then(|topic| topic.copies.get(&offset));
                if known != id || at.is_none_or(|copy| copy.id != id) {
                    broken!("I10/I2: message {mark} was published again as {id:x} at {offset}, it was {known:x}");
                }
                return Ok(());
            }
            (Fate::Never, true) => broken!("I10: message {mark} counts as repeated, but it never was"),
            (Fate::Unseen | Fate::Open, true) => {
                // It was published by a call that nobody saw the answer of, and may be settled since.
                self.specs[mark as usize].fate = Fate::Is(id);
                self.ids.insert(id, mark);
                return Ok(());
            }
            (Fate::Open | Fate::Never | Fate::Unseen, false) => {}
        }
        self.specs[mark as usize].fate = Fate::Open;
        self.learn(topic, offset, id, mark, when.now + self.specs[mark as usize].delay, None)
    }

    /// A message was seen in a place. The first time it must have a right to be there.
    pub fn learn(
        &mut self,
        topic: &str,
        offset: u64,
        id: u128,
        mark: u64,
        ready_at: u64,
        origin: Option<(String, String, u64)>,
    ) -> Verdict {
        let Some(model) = self.topics.get_mut(topic) else { broken!("I2: no topic {topic} was made") };
        if let Some(copy) = model.copies.get(&offset) {
            if copy.id != id || copy.mark != mark || copy.origin != origin {
                broken!(
                    "I2: {topic}@{offset} was {} ({:x}, {:?}), now {mark} ({id:x}, {origin:?})",
                    copy.mark,
                    copy.id,
                    copy.origin
                );
            }
            return Ok(());
        }
        if offset < model.tail {
            broken!("I2/I7: message {mark} ({id:x}) turns up at {topic}@{offset}, below the tail {}", model.tail);
        }
        let spec = &mut self.specs[mark as usize];
        let incoming = model.incoming.iter().position(|(known, _)| *known == id);
        match (&origin, incoming, spec.fate) {
            (Some(_), _, Fate::Is(known)) if known == id => {}
            (Some(_), _, fate) => broken!("I8: dead letter of message {mark} ({id:x}), which is {fate:?}"),
            (None, Some(place), _) => {
                model.incoming.remove(place);
            }
            (None, None, Fate::Open | Fate::Unseen) if spec.topic == topic => {
                if let Some(other) = self.ids.get(&id) {
                    broken!("I2: id {id:x} of message {mark} was used for message {other}");
                }
                spec.fate = Fate::Is(id);
                self.ids.insert(id, mark);
            }
            (None, None, fate) => broken!("I2: phantom {mark} ({id:x}) at {topic}@{offset}, which is {fate:?}"),
        }
        let delayed = spec.delay > 0 && origin.is_none() && incoming.is_none();
        if let Some((of, group, at)) = &origin {
            self.died(of, group, *at, mark)?;
        }
        let copy = Copy { id, mark, ready_at, delayed, gone: Tri::No, origin };
        let model = self.topics.get_mut(topic).expect("just seen");
        model.copies.insert(offset, copy);
        // A redriven message may lie there unseen while a group seeks past it.
        for group in model.groups.values_mut().filter(|group| group.seek != Tri::No && offset < group.sought) {
            group.standing(offset).settled = group.seek;
        }
        Ok(())
    }

    /// A dead letter turned up: its message must be gone where it was, and there must be no other.
    fn died(&mut self, topic: &str, group: &str, offset: u64, mark: u64) -> Verdict {
        let known = self.dead_of(topic, group, offset);
        let Some(model) = self.topics.get_mut(topic) else { return Ok(()) };
        if let Some(copy) = model.copies.get(&offset)
            && copy.mark != mark
        {
            broken!("I8: dead letter {mark} of {topic}@{offset}, which is {}", copy.mark);
        }
        let (name, group) = (group, model.groups.get_mut(group));
        let Some(group) = group else { return Ok(()) };
        if known && !group.moved {
            broken!("I8: a second dead letter of {topic}@{offset}");
        }
        let (max, unseen, moved) = (group.attempts_max.unwrap_or(u32::MAX), group.unseen_pulls, group.moved);
        let standing = group.standing(offset);
        if standing.settled == Tri::Yes && !moved {
            broken!("I3: {topic}@{offset} was settled and is a dead letter");
        }
        if standing.attempts + unseen < max && standing.dying == Tri::No {
            broken!("I8: {topic}/{name}@{offset} is a dead letter after {} attempts", standing.attempts);
        }
        // It may have died before a seek made it come again.
        standing.dying = standing.dying.max(if moved { Tri::Maybe } else { Tri::Yes });
        standing.lease = None;
        Ok(())
    }

    fn delivered(
        &mut self,
        topic: &str,
        group: &str,
        delivery: &Delivery,
        (lease, auto_ack): (u64, bool),
        when: When,
        releasing: &dyn Fn(&str, &str, u64) -> bool,
    ) -> Verdict {
        let head = &delivery.message.head;
        let (offset, attempt) = (head.offset.get(), delivery.attempt.get());
        let mark = self.see(topic, head, &delivery.message.body)?;
        self.check_order(topic, group, offset, attempt, when, releasing)?;
        let model = self.topics.get_mut(topic).expect("just seen");
        let copy = &model.copies[&offset];
        if copy.gone == Tri::Yes {
            broken!("I3: {offset} ({mark}) was given up and is delivered");
        }
        let ready_at = copy.ready_at;
        let Some(group_model) = model.groups.get_mut(group) else { broken!("no such group") };
        let (max, unseen) = (group_model.attempts_max, group_model.unseen_pulls);
        let standing = group_model.standing(offset);
        if standing.settled == Tri::Yes {
            broken!("I3: {offset} ({mark}) was settled and is delivered");
        }
        if standing.dying == Tri::Yes {
            broken!("I8: {offset} ({mark}) is a dead letter and is delivered");
        }
        if let Some(held) = standing.lease.as_ref().filter(|held| held.deadline > when.lease_clock)
            && !releasing(topic, group, offset)
        {
            broken!("I4: {offset} ({mark}) is held for {} ms more", held.deadline - when.lease_clock);
        }
        if attempt <= standing.attempts || (unseen == 0 && attempt != standing.attempts + 1) {
            broken!("I5: {offset} ({mark}) had attempt {}, now {attempt}", standing.attempts);
        }
        if max.is_some_and(|max| attempt > max) {
            broken!("I5: {offset} ({mark}) has attempt {attempt}, beyond the last");
        }
        // Another call may just have given it back, sooner than was said before.
        let due = if releasing(topic, group, offset) { ready_at } else { ready_at.max(standing.not_before) };
        if when.now < due {
            broken!("I11: {offset} ({mark}) comes {} ms early", due - when.now);
        }
        standing.attempts = attempt;
        standing.not_before = 0;
        if auto_ack {
            standing.settled = Tri::Yes;
            return Ok(());
        }
        let token = delivery.token.clone();
        let deadline = when.lease_clock + lease;
        if let Some(old) = standing.lease.take() {
            standing.old.push(old.token);
        }
        standing.lease = Some(Lease { token, deadline, sure: false, turn: when.turn, given_at: when.now });
        self.unsure.push((topic.to_owned(), group.to_owned(), offset));
        Ok(())
    }

    /// A message was read: it must be as it was published.
    pub fn see(&mut self, topic: &str, head: &MessageHead, body: &[u8]) -> Result<u64, String> {
        let Some(mark) = mark_of(body).filter(|mark| (*mark as usize) < self.specs.len()) else {
            broken!("I2: the body at {topic}@{} was never published", head.offset)
        };
        let spec = &self.specs[mark as usize];
        if head.key.as_ref().map(|key| key.as_str()) != spec.key.as_deref()
            || head.tag.as_ref().map(|tag| tag.as_str()) != spec.tag.as_deref()
        {
            broken!("I2: the head of message {mark} changed: {head:?}");
        }
        let origin = head.origin.as_ref();
        let origin =
            origin.map(|from| (from.topic.as_str().to_owned(), from.group.as_str().to_owned(), from.offset.get()));
        let redriven = self.topics.get(topic).is_some_and(|topic| topic.copies.contains_key(&head.offset.get()));
        let plain = origin.is_none() && !redriven;
        let ready_at = if plain && spec.delay > 0 { head.published_at.get() + spec.delay } else { 0 };
        let is_incoming =
            self.topics.get(topic).is_some_and(|topic| topic.incoming.iter().any(|(id, _)| *id == head.id.get()));
        self.learn(topic, head.offset.get(), head.id.get(), mark, if is_incoming { 0 } else { ready_at }, origin)?;
        Ok(mark)
    }

    /// I6: a first delivery comes after those of older messages of its key.
    fn check_order(
        &mut self,
        topic: &str,
        group: &str,
        offset: u64,
        attempt: u32,
        when: When,
        releasing: &dyn Fn(&str, &str, u64) -> bool,
    ) -> Verdict {
        let model = &self.topics[topic];
        let Some(group_model) = model.groups.get(group) else { return Ok(()) };
        let mark = model.copies[&offset].mark;
        let key = self.specs[mark as usize].key.clone();
        if key.is_none() || model.copies[&offset].delayed || group_model.moved || group_model.seek != Tri::No {
            return Ok(());
        }
        let loose = group_model.unseen_pulls > 0 || model.trims || model.purge != Tri::No;
        for (other, copy) in &model.copies {
            if *other == offset || copy.delayed || self.specs[copy.mark as usize].key != key {
                continue;
            }
            let standing = group_model.standings.get(other);
            let open = standing.is_none_or(|s| s.attempts == 0 && s.settled == Tri::No && s.dying == Tri::No);
            let older = *other < offset && *other >= group_model.from && copy.gone == Tri::No;
            if attempt == 1 && older && open && !loose && !releasing(topic, group, *other) {
                broken!("I6: {offset} ({mark}) comes before {other} ({}) of its key", copy.mark);
            }
            let held = standing.and_then(|standing| standing.lease.as_ref()).filter(|held| {
                held.deadline > when.lease_clock && standing.is_some_and(|s| s.settled == Tri::No && s.dying == Tri::No)
            });
            let same_pull = held.is_some_and(|held| held.turn == when.turn);
            if model.per_key
                && !loose
                && held.is_some()
                && !same_pull
                && copy.gone == Tri::No
                && !releasing(topic, group, *other)
            {
                broken!("I6: {offset} ({mark}) while {other} of its key is in flight");
            }
        }
        Ok(())
    }

    fn settled(
        &mut self,
        (topic, group, offset): (&str, &str, u64),
        token: &str,
        act: &Act,
        outcome: SettleOutcome,
        when: When,
    ) -> Verdict {
        let Some(model) = self.topics.get_mut(topic) else { return Ok(()) };
        let gone = model.copies.get(&offset).is_none_or(|copy| copy.gone != Tri::No);
        let loose = gone || model.trims || model.purge != Tri::No;
        let Some(group) = model.groups.get_mut(group) else { return Ok(()) };
        let (max, unseen_acks) = (group.attempts_max.unwrap_or(u32::MAX), group.unseen_acks);
        let unseen = group.unseen_pulls;
        let standing = group.standing(offset);
        let current = standing.lease.as_ref().is_some_and(|lease| lease.token == token);
        let live = standing.lease.as_ref().filter(|lease| lease.deadline > when.lease_clock);
        let open = standing.settled == Tri::No && standing.dying == Tri::No && !loose && !unseen_acks;
        let held = current && live.is_some() && open;
        let other = !current && live.is_some();
        match outcome {
            SettleOutcome::Settled { .. } if other && *act == Act::Ack => broken!("I4: another one holds it"),
            SettleOutcome::Settled { .. } | SettleOutcome::SettledLate
                if standing.settled == Tri::Yes && *act == Act::Ack =>
            {
                broken!("I3: it was settled before")
            }
            SettleOutcome::SettledLate | SettleOutcome::Lapsed | SettleOutcome::TakenOver if held => {
                broken!("I4/I9: the lease has not lapsed")
            }
            SettleOutcome::Settled { .. } | SettleOutcome::SettledLate => {}
            SettleOutcome::Lapsed | SettleOutcome::TakenOver => return Ok(()),
            SettleOutcome::AlreadySettled => {
                if open && standing.attempts + unseen < max {
                    broken!("I1: nobody settled it");
                }
                return Ok(());
            }
            SettleOutcome::Unknown => {
                if current && open && standing.attempts + unseen < max {
                    broken!("I9: the lease is forgotten");
                }
                return Ok(());
            }
        }
        match act {
            Act::Ack => standing.settled = Tri::Yes,
            _ if other => {}
            Act::Nack(delay) => {
                standing.not_before = when.now + delay;
                standing.attempts_sure = standing.attempts;
                if let Some(lease) = standing.lease.take() {
                    standing.old.push(lease.token);
                }
                if standing.attempts >= max {
                    standing.dying = Tri::Yes;
                }
            }
            Act::Extend(lease) => {
                let deadline = when.lease_clock + lease;
                let token = token.to_owned();
                standing.attempts_sure = standing.attempts;
                standing.not_before = 0;
                standing.lease = Some(Lease { token, deadline, sure: true, turn: when.turn, given_at: when.now });
            }
            Act::Bury => {
                standing.dying = Tri::Yes;
                standing.lease = None;
            }
        }
        Ok(())
    }

    fn sought(&mut self, topic: &str, group: &str, to: u64, when: When) {
        self.sure_before(when.sure);
        let Some(model) = self.topics.get_mut(topic) else { return };
        let Some(group) = model.groups.get_mut(group) else { return };
        (group.seek, group.sought) = (Tri::Yes, to);
        group.moved = true;
        let (from, max) = (group.from, group.attempts_max.unwrap_or(u32::MAX));
        let unseen = group.unseen_pulls;
        for (offset, copy) in &model.copies {
            let standing = group.standing(*offset);
            if standing.attempts + unseen >= max {
                standing.dying = standing.dying.max(Tri::Maybe);
            }
            standing.lease = None;
            standing.attempts = 0;
            standing.attempts_sure = 0;
            standing.not_before = 0;
            standing.settled = match standing.settled {
                _ if copy.delayed => Tri::Maybe,
                _ if *offset < to => Tri::Yes,
                Tri::No if standing.dying == Tri::No && *offset >= from => Tri::No,
                _ => Tri::Maybe,
            };
            standing.dying = if standing.dying == Tri::No { Tri::No } else { Tri::Maybe };
        }
        group.from = group.from.min(to);
    }

    pub fn redriven(&mut self, offset: u64, id: u128, to: &str, moved: Tri) {
        if let Some(copy) = self.topics.get_mut(DEAD).and_then(|dead| dead.copies.get_mut(&offset)) {
            copy.gone = moved;
        }
        if let Some(topic) = self.topics.get_mut(to) {
            topic.incoming.push((id, moved));
        }
    }

    /// The process ended before it answered: all of it may have happened, or nothing.
    pub fn unanswered(&mut self, asked: &Asked, when: When) {
        match asked {
            // They stay open until a restart shows what became of them.
            Asked::Publish { .. } => {}
            Asked::Pull { topic, group, auto_ack, .. } => {
                if let Some(group) = self.group(topic, group) {
                    group.unseen_pulls += 1;
                    group.unseen_acks |= auto_ack;
                }
            }
            Asked::Settle { topic, group, items, .. } => {
                for (offset, token, act) in items {
                    let Some(group) = self.group(topic, group) else { return };
                    let max = group.attempts_max.unwrap_or(u32::MAX);
                    let standing = group.standing(*offset);
                    let last = standing.attempts >= max;
                    match act {
                        Act::Ack => standing.settled = standing.settled.max(Tri::Maybe),
                        Act::Nack(_) | Act::Bury => {
                            if let Some(lease) = standing.lease.take() {
                                standing.old.push(lease.token);
                            }
                            // If it was carried out, its delay counts instead of an earlier one, from nobody knows when.
                            standing.not_before = 0;
                            if last || *act == Act::Bury {
                                standing.dying = standing.dying.max(Tri::Maybe);
                            }
                        }
                        Act::Extend(lease) => {
                            if let Some(held) = standing.lease.as_mut() {
                                held.deadline = held.deadline.min(when.lease_clock + lease);
                                // An older lease may have become the holder's again.
                                if held.token != *token {
                                    standing.lease = None;
                                }
                            }
                        }
                    }
                }
            }
            Asked::Seek { topic, group, to } => {
                let Some(model) = self.topics.get_mut(topic) else { return };
                if let Some(group) = model.groups.get_mut(group) {
                    (group.seek, group.sought) = (Tri::Maybe, group.sought.max(*to));
                    group.moved = true;
                    let (max, unseen) = (group.attempts_max.unwrap_or(u32::MAX), group.unseen_pulls);
                    for offset in model.copies.keys() {
                        let standing = group.standing(*offset);
                        if standing.attempts + unseen >= max {
                            standing.dying = standing.dying.max(Tri::Maybe);
                        }
                        standing.settled = Tri::Maybe;
                        standing.lease = None;
                        standing.not_before = 0;
                        (standing.attempts, standing.attempts_sure) = (0, 0);
                    }
                }
            }
            Asked::Purge { topic } => {
                if let Some(topic) = self.topics.get_mut(topic) {
                    topic.purge = Tri::Maybe;
                }
            }
            Asked::Discard { topic, offsets } => {
                if let Some(topic) = self.topics.get_mut(topic) {
                    for offset in offsets {
                        if let Some(copy) = topic.copies.get_mut(offset) {
                            copy.gone = copy.gone.max(Tri::Maybe);
                        }
                    }
                }
            }
            Asked::Redrive { offset, id, to } => self.redriven(*offset, *id, to, Tri::Maybe),
            Asked::CreateTopic { topic, .. } | Asked::DeleteTopic { topic } => {
                if let Some(topic) = self.topics.get_mut(topic) {
                    topic.exists = Tri::Maybe;
                }
            }
            Asked::CreateGroup { topic, group, .. } | Asked::DeleteGroup { topic, group } => {
                if let Some(group) = self.group(topic, group) {
                    group.exists = Tri::Maybe;
                }
            }
        }
    }
}
