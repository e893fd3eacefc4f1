//! What a history says of a consumer: which messages it lost, did twice, or did in the wrong order. docs/CHAOS.md
//! defines each word.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use crate::chaos::faults::Fault;
use crate::chaos::line::{Event, Line};

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Acked, and not among what was processed.
    Lost,
    /// Processed more than once.
    Doubled,
    /// Processed after a later message of its key.
    Reordered,
    /// Delivered, and at the end of the history neither acked nor given up.
    Unsettled,
}

/// A message, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Named {
    /// What is wrong.
    pub finding: Finding,
    /// The message.
    pub id: String,
    /// Its place in the topic.
    pub offset: Option<u64>,
    /// Its key.
    pub key: Option<String>,
    /// Times it was delivered to the group.
    pub deliveries: u64,
    /// Times it was processed, where that is known.
    pub processed: Option<u64>,
}

/// What a history says of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Verdict {
    /// The account.
    pub account: String,
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// Messages published in the history.
    pub published: u64,
    /// Of all messages known, those that the group was never handed.
    pub waiting: u64,
    /// Deliveries that reached for a consumer.
    pub deliveries: u64,
    /// Messages acked.
    pub acked: u64,
    /// Messages that went to the dead letters, or were given up.
    pub dead: u64,
    /// Acks of messages that were settled already.
    pub acked_again: u64,
    /// Acks that came after the lease, and still counted.
    pub acked_late: u64,
    /// Acks refused because the lease was over.
    pub refused_late: u64,
    /// Acks of messages that somebody else held by then: two consumers worked on them.
    pub taken_over: u64,
    /// Leases that ended because the consumer took too long.
    pub lapsed: u64,
    /// Leases that a fault ended.
    pub lapsed_by_fault: u64,
    /// Acks that a fault dropped.
    pub acks_dropped: u64,
    /// Processed messages that the history does not know.
    pub strange: Vec<String>,
    /// What is wrong, by finding and offset.
    pub findings: Vec<Named>,
}

impl Verdict {
    /// How many messages have this finding.
    pub fn count(&self, finding: Finding) -> usize {
        self.findings.iter().filter(|named| named.finding == finding).count()
    }
}

#[derive(Debug, Default)]
struct Message {
    offset: Option<u64>,
    key: Option<String>,
    published: bool,
    /// Purged, discarded, or its topic deleted: nobody waits for it.
    gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum End {
    #[default]
    None,
    Acked,
    Dead,
}

#[derive(Debug, Default)]
struct Progress {
    deliveries: u64,
    end: End,
}

#[derive(Debug, Default)]
struct GroupState {
    verdict: Verdict,
    progress: HashMap<String, Progress>,
    /// Message and fault of each lease, by its token.
    leases: HashMap<String, (String, Option<Fault>)>,
    /// Messages of each handle.
    handles: HashMap<String, Vec<String>>,
}

type TopicName = (String, String);

/// Reads a history, line by line, and judges its groups.
#[derive(Debug, Default)]
pub struct Judge {
    topics: BTreeMap<TopicName, BTreeMap<String, Message>>,
    groups: BTreeMap<(TopicName, String), GroupState>,
    full: bool,
}

impl Judge {
    /// Reads the next line.
    pub fn read(&mut self, line: &Line) {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let topic = (text(&line.account), text(&line.topic));
        match line.event {
            Event::Full => self.full = true,
            Event::Start | Event::Faults | Event::Fault => {}
            Event::Publish => {
                let message = self.message(&topic, line);
                message.published = true;
            }
            Event::Purge | Event::DeleteTopic => {
                self.topics.entry(topic).or_default().values_mut().for_each(|message| message.gone = true);
            }
            Event::Discard => {
                let messages = self.topics.entry(topic).or_default().values_mut();
                messages.filter(|message| message.offset == line.offset).for_each(|message| message.gone = true);
            }
            Event::Delivery => {
                self.message(&topic, line);
                self.group(topic, line).deliver(line);
            }
            Event::Seek | Event::DeleteGroup => self.group(topic, line).progress.clear(),
            Event::Ack | Event::Nack | Event::Extend | Event::Bury | Event::Lapse | Event::DeadLetter => {
                self.group(topic, line).settle(line);
            }
        }
    }

    /// Whether the history says itself that it is not whole.
    pub const fn is_cut(&self) -> bool {
        self.full
    }

    /// The groups that `wanted` chooses, as topic and group.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &str)> {
        self.groups.keys().map(|((_, topic), group)| (topic.as_str(), group.as_str()))
    }

    /// Judges each group that `wanted` chooses by topic and name. `processed` are the ids of what one consumer
    /// processed, in that order.
    pub fn judge(&self, wanted: impl Fn(&str, &str) -> bool, processed: Option<&[String]>) -> Vec<Verdict> {
        let chosen = self.groups.iter().filter(|((topic, group), _)| wanted(&topic.1, group));
        chosen.map(|((topic, group), state)| self.judge_group(topic, group, state, processed)).collect()
    }

    fn judge_group(&self, topic: &TopicName, group: &str, state: &GroupState, processed: Option<&[String]>) -> Verdict {
        let empty = BTreeMap::new();
        let messages = self.topics.get(topic).unwrap_or(&empty);
        let mut verdict = state.verdict.clone();
        (verdict.account, verdict.topic, verdict.group) = (topic.0.clone(), topic.1.clone(), group.to_owned());
        verdict.published = messages.values().filter(|message| message.published).count() as u64;
        let times = processed.map(count);
        let late = processed.map(|order| overtaken(order, messages)).unwrap_or_default();
        for (id, message) in messages {
            let none = Progress::default();
            let progress = state.progress.get(id).unwrap_or(&none);
            let done = times.as_ref().map(|times| times.get(id.as_str()).copied().unwrap_or(0));
            verdict.waiting += u64::from(progress.deliveries == 0 && progress.end == End::None && !message.gone);
            verdict.acked += u64::from(progress.end == End::Acked);
            verdict.dead += u64::from(progress.end == End::Dead);
            let unsettled = progress.deliveries > 0 && progress.end == End::None && !message.gone;
            let found = [
                (Finding::Lost, progress.end == End::Acked && done == Some(0)),
                (Finding::Doubled, done.is_some_and(|done| done > 1)),
                (Finding::Reordered, late.contains(id.as_str())),
                (Finding::Unsettled, unsettled),
            ];
            for (finding, _) in found.into_iter().filter(|(_, found)| *found) {
                verdict.findings.push(Named {
                    finding,
                    id: id.clone(),
                    offset: message.offset,
                    key: message.key.clone(),
                    deliveries: progress.deliveries,
                    processed: done,
                });
            }
        }
        verdict.findings.sort_by_key(|named| (named.finding, named.offset));
        let strange: BTreeSet<&String> =
            processed.unwrap_or_default().iter().filter(|id| !messages.contains_key(*id)).collect();
        verdict.strange = strange.into_iter().cloned().collect();
        verdict
    }

    fn message(&mut self, topic: &TopicName, line: &Line) -> &mut Message {
        let id = line.id.clone().unwrap_or_default();
        let message = self.topics.entry(topic.clone()).or_default().entry(id).or_default();
        message.offset = line.offset;
        message.key.clone_from(&line.key);
        message
    }

    fn group(&mut self, topic: TopicName, line: &Line) -> &mut GroupState {
        let name = match (&line.group, &line.token) {
            (Some(group), _) => group.clone(),
            // A settle by a token alone: the group that was given the token.
            (None, Some(token)) => {
                let given =
                    self.groups.iter().find(|((place, _), state)| *place == topic && state.leases.contains_key(token));
                given.map(|((_, group), _)| group.clone()).unwrap_or_default()
            }
            (None, None) => String::new(),
        };
        self.groups.entry((topic, name)).or_default()
    }
}

impl GroupState {
    fn deliver(&mut self, line: &Line) {
        let id = line.id.clone().unwrap_or_default();
        if let Some(token) = &line.token {
            self.leases.insert(token.clone(), (id.clone(), line.fault));
        }
        if let Some(handle) = &line.handle {
            self.handles.entry(handle.clone()).or_default().push(id.clone());
        }
        // What was given back for the sake of the order, nobody saw.
        if line.fault != Some(Fault::Reorder) {
            self.progress.entry(id).or_default().deliveries += 1;
            self.verdict.deliveries += 1;
        }
    }

    fn settle(&mut self, line: &Line) {
        let lease = line.token.as_ref().and_then(|token| self.leases.get(token)).cloned();
        let by_handle =
            || line.handle.as_ref().and_then(|handle| self.handles.get(handle)).cloned().unwrap_or_default();
        let told = line.id.clone().or_else(|| lease.as_ref().map(|(id, _)| id.clone()));
        let ids = told.map_or_else(by_handle, |id| vec![id]);
        let outcome = line.outcome.as_deref().unwrap_or_default();
        match line.event {
            Event::Ack if line.fault == Some(Fault::DropAck) => self.verdict.acks_dropped += 1,
            Event::Ack => match outcome {
                "settled" => self.finish(ids, End::Acked),
                "settled_late" => {
                    self.verdict.acked_late += 1;
                    self.finish(ids, End::Acked);
                }
                "already_settled" => self.verdict.acked_again += 1,
                "taken_over" => self.verdict.taken_over += 1,
                "lapsed" => self.verdict.refused_late += 1,
                _ => {}
            },
            Event::DeadLetter => self.finish(ids, End::Dead),
            Event::Lapse if lease.is_some_and(|(_, fault)| fault.is_some()) => self.verdict.lapsed_by_fault += 1,
            Event::Lapse => self.verdict.lapsed += 1,
            _ => {}
        }
    }

    fn finish(&mut self, ids: Vec<String>, end: End) {
        for id in ids {
            self.progress.entry(id).or_default().end = end;
        }
    }
}

fn count(processed: &[String]) -> HashMap<&str, u64> {
    processed.iter().fold(HashMap::new(), |mut times, id| {
        *times.entry(id.as_str()).or_default() += 1;
        times
    })
}

/// The messages whose first processing came after that of a later message of their key.
fn overtaken<'a>(order: &'a [String], messages: &BTreeMap<String, Message>) -> BTreeSet<&'a str> {
    let (mut seen, mut furthest, mut late) = (BTreeSet::new(), HashMap::new(), BTreeSet::new());
    for id in order.iter().filter(|id| seen.insert(id.as_str())) {
        let Some(message) = messages.get(id) else { continue };
        let (Some(key), Some(offset)) = (&message.key, message.offset) else { continue };
        let furthest = furthest.entry(key.as_str()).or_insert(offset);
        if offset < *furthest {
            late.insert(id.as_str());
        }
        *furthest = offset.max(*furthest);
    }
    late
}
