//! What to ask next, as the dice fall.

use windlass::disk::sim::Dice;

use super::calls::{Act, Asked, Call};
use super::world::{DEAD, Fate, GroupModel, Spec, TopicModel, Tri, World};

const TOPICS_MAX: usize = 5;
const GROUPS_MAX: usize = 3;

fn one_of<T>(dice: &mut Dice, all: impl Iterator<Item = T>) -> Option<T> {
    let mut all: Vec<T> = all.collect();
    if all.is_empty() {
        return None;
    }
    let place = dice.below(all.len() as u64) as usize;
    Some(all.swap_remove(place))
}

/// A topic that is there for sure.
fn topic(world: &World, dice: &mut Dice, dead_too: bool) -> Option<String> {
    let there = world.topics.iter().filter(|(name, topic)| topic.exists == Tri::Yes && (dead_too || *name != DEAD));
    one_of(dice, there.map(|(name, _)| name.clone()))
}

fn group(world: &World, dice: &mut Dice) -> Option<(String, String)> {
    let topic = topic(world, dice, true)?;
    let there = world.topics[&topic].groups.iter().filter(|(_, group)| group.exists == Tri::Yes);
    let group = one_of(dice, there.map(|(name, _)| name.clone()))?;
    Some((topic, group))
}

impl World {
    fn name(&mut self, letter: char) -> String {
        self.names += 1;
        format!("{letter}{}", self.names)
    }

    /// The next call; the model knows of what it may make.
    pub fn choose(&mut self, dice: &mut Dice, calls: &[Call]) -> Option<Asked> {
        let none = self.topics.keys().all(|name| name == DEAD);
        if none || (dice.one_in(40) && self.topics.len() < TOPICS_MAX) {
            return Some(self.new_topic(dice));
        }
        let asked = match dice.below(100) {
            0..=29 => self.publish(dice),
            30..=56 => self.pull(dice),
            57..=84 => self.settle(dice),
            85..=86 => self.seek(dice),
            87 => Some(Asked::Purge { topic: topic(self, dice, true)? }),
            88..=90 => self.discard(dice),
            91..=93 => self.redrive(dice),
            94..=97 => self.new_group(dice),
            98 => group(self, dice).map(|(topic, group)| Asked::DeleteGroup { topic, group }),
            _ => Some(Asked::DeleteTopic { topic: topic(self, dice, false)? }).filter(|_| dice.one_in(3)),
        }?;
        let clashes = |call: &Call| {
            (asked.is_alone() || call.asked.is_alone())
                && self.topics.keys().any(|name| call.asked.touches(name) && asked.touches(name))
        };
        if calls.iter().any(clashes) {
            self.take_back(&asked);
            return None;
        }
        self.asked(&asked);
        Some(asked)
    }

    /// It is not asked after all.
    fn take_back(&mut self, asked: &Asked) {
        match asked {
            Asked::CreateGroup { topic, group, .. } => {
                if let Some(topic) = self.topics.get_mut(topic) {
                    topic.groups.remove(group);
                }
            }
            Asked::Publish { marks, .. } => {
                self.open_batches.retain(|batch| batch != marks);
            }
            _ => {}
        }
    }

    fn new_topic(&mut self, dice: &mut Dice) -> Asked {
        let topic = self.name('t');
        let model = TopicModel {
            exists: Tri::Maybe,
            per_key: dice.one_in(2),
            keeps: dice.one_in(4),
            trims: dice.one_in(8),
            ..TopicModel::default()
        };
        self.topics.insert(topic.clone(), model.clone());
        Asked::CreateTopic { topic, model }
    }

    fn new_group(&mut self, dice: &mut Dice) -> Option<Asked> {
        let topic = topic(self, dice, true)?;
        let group = self.name('g');
        let model = self.topics.get_mut(&topic)?;
        if model.groups.len() >= GROUPS_MAX {
            return None;
        }
        let may_die = topic != DEAD && dice.one_in(2);
        let made = GroupModel {
            attempts_max: may_die.then(|| 1 + dice.below(3) as u32),
            dead_letter: may_die && !dice.one_in(5),
            exists: Tri::Maybe,
            from: model.copies.keys().next_back().map_or(model.tail, |last| (last + 1).max(model.tail)),
            ..GroupModel::default()
        };
        model.groups.insert(group.clone(), made.clone());
        Some(Asked::CreateGroup { topic, group, model: made })
    }

    fn publish(&mut self, dice: &mut Dice) -> Option<Asked> {
        let topic = topic(self, dice, false)?;
        if dice.one_in(8) {
            // The same again, as a client would that got no answer.
            let known = self
                .specs
                .iter()
                .enumerate()
                .filter(|(_, spec)| spec.topic == topic && spec.idempotency.is_some() && spec.fate != Fate::Open);
            let mark = one_of(dice, known.map(|(mark, _)| mark as u64))?;
            return Some(Asked::Publish { topic, marks: vec![mark] });
        }
        let count = if dice.one_in(3) { 1 + dice.below(8) } else { 1 };
        let mut marks = Vec::new();
        for _ in 0..count {
            let mark = self.specs.len() as u64;
            self.specs.push(Spec {
                topic: topic.clone(),
                key: dice.one_in(2).then(|| format!("k{}", dice.below(4))),
                tag: dice.one_in(3).then(|| format!("tag{}", dice.below(3))),
                delay: if dice.one_in(6) { 1 + dice.below(3_000) } else { 0 },
                idempotency: dice.one_in(4).then(|| format!("i{mark}")),
                fate: Fate::Open,
            });
            marks.push(mark);
        }
        self.open_batches.push(marks.clone());
        Some(Asked::Publish { topic, marks })
    }

    fn pull(&mut self, dice: &mut Dice) -> Option<Asked> {
        let (topic, group) = group(self, dice)?;
        let lease = match dice.below(4) {
            0 => 1 + dice.below(20),
            1 => 100 + dice.below(2_000),
            _ => 5_000 + dice.below(60_000),
        };
        let wait = if dice.one_in(6) { 1 + dice.below(1_000) } else { 0 };
        Some(Asked::Pull { topic, group, batch: 1 + dice.below(8) as usize, lease, auto_ack: dice.one_in(12), wait })
    }

    fn settle(&mut self, dice: &mut Dice) -> Option<Asked> {
        let (topic, group) = group(self, dice)?;
        let model = &self.topics[&topic].groups[&group];
        let late = dice.one_in(10);
        let tokens = model.standings.iter().filter_map(|(offset, standing)| {
            if late {
                return standing.old.last().map(|token| (*offset, token.clone()));
            }
            standing.lease.as_ref().map(|lease| (*offset, lease.token.clone()))
        });
        let tokens: Vec<(u64, String)> = tokens.collect();
        let mut items: Vec<(u64, String, Act)> = Vec::new();
        for _ in 0..1 + dice.below(4) {
            let (offset, token) = one_of(dice, tokens.iter().cloned())?;
            if items.iter().any(|(known, ..)| *known == offset) {
                continue;
            }
            let act = match dice.below(10) {
                0 => Act::Nack(0),
                1 => Act::Nack(1 + dice.below(5_000)),
                2 => Act::Extend(1 + dice.below(30_000)),
                3 => Act::Bury,
                _ => Act::Ack,
            };
            items.push((offset, token, act));
        }
        Some(Asked::Settle { topic, group, items, refuse_late: dice.one_in(4) })
    }

    fn seek(&mut self, dice: &mut Dice) -> Option<Asked> {
        let (topic, group) = group(self, dice)?;
        let tail = self.topics[&topic].copies.keys().next_back().copied()?;
        Some(Asked::Seek { topic, group, to: dice.below(tail + 1) })
    }

    fn discard(&mut self, dice: &mut Dice) -> Option<Asked> {
        let topic = topic(self, dice, true)?;
        let copies = &self.topics[&topic].copies;
        let mut offsets: Vec<u64> =
            (0..1 + dice.below(3)).filter_map(|_| one_of(dice, copies.keys().copied())).collect();
        offsets.sort_unstable();
        offsets.dedup();
        (!offsets.is_empty()).then_some(Asked::Discard { topic, offsets })
    }

    fn redrive(&mut self, dice: &mut Dice) -> Option<Asked> {
        let dead = self.topics.get(DEAD)?;
        let letters = dead.copies.iter().filter(|(_, copy)| copy.gone == Tri::No);
        let (offset, copy) = one_of(dice, letters)?;
        let (to, ..) = copy.origin.clone()?;
        self.topics.contains_key(&to).then_some(Asked::Redrive { offset: *offset, id: copy.id, to })
    }
}
