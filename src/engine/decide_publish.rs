//! Decides a publish: all of it or nothing.

use std::collections::HashMap;

use crate::engine::PublishError;
use crate::engine::command::{Command, PreparedMessage, PublishWork, Reply};
use crate::engine::entry::{Entry, GoneDisk, RowDisk, TopicNo};
use crate::engine::rows::Row;
use crate::engine::writer::{Step, Writer, millis};
use crate::log::{Room, Urgency};
use crate::model::{MessageId, Millis, Offset, Published};

/// Bytes of one row in a `Published` entry, at most, and of a `Gone` item.
const ROW_BYTES: usize = 128;

/// Idempotency keys that one publish forgets at most.
const EXPIRED_MAX: usize = 256;

/// What becomes of each message of a batch.
enum Fate {
    New,
    /// Known under its idempotency key.
    Repeat(Published),
    /// The same as this earlier message of the batch.
    RepeatOf(usize),
}

impl Writer {
    pub(super) fn publish(&mut self, work: PublishWork, reply: Reply<Result<Vec<Published>, PublishError>>) -> Step {
        let room = self.room(work.bytes + work.messages.len() * ROW_BYTES + 64, Urgency::Ordinary);
        if room == Room::NeedsRoll {
            return Step::Roll(Command::Publish(work, reply));
        }
        let answer = match self.refusal(Urgency::Ordinary, room) {
            Some(refusal) => Err(refusal.into()),
            None => self.try_publish(&work),
        };
        // A repeat, or a conflict, speaks of an entry that may be in this very commit.
        self.answer_synced(reply, answer);
        Step::Done
    }

    fn try_publish(&mut self, work: &PublishWork) -> Result<Vec<Published>, PublishError> {
        let no = self.find(&work.account, &work.topic).map_err(|_| PublishError::NoSuchTopic)?;
        self.expire_keys(no, EXPIRED_MAX);
        let fates = self.fates(no, &work.messages)?;
        self.prune_keys(no);
        self.check_tables(no, work, &fates)?;
        Ok(self.append(no, &work.messages, &fates))
    }

    /// Forgets idempotency keys whose window has passed, a few at every publish.
    pub(super) fn expire_keys(&mut self, no: TopicNo, most: usize) {
        let now = self.state.now;
        let Some(topic) = self.state.topics.get_mut(&no) else { return };
        let before = topic.idempotency.len();
        topic.idempotency.expire(now.saturating_sub(millis(topic.settings.idempotency_window)), most);
        self.state.idempotency_keys -= before - topic.idempotency.len();
    }

    fn fates(&self, no: TopicNo, messages: &[PreparedMessage]) -> Result<Vec<Fate>, PublishError> {
        let topic = &self.state.topics[&no];
        let window = millis(topic.settings.idempotency_window);
        let mut in_batch: HashMap<u128, usize> = HashMap::new();
        let mut fates = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            if message.idempotency == 0 {
                fates.push(Fate::New);
                continue;
            }
            let known = topic.idempotency.get(message.idempotency);
            let known = known.filter(|known| (known.id >> 80) as u64 + window > self.state.now);
            let fate = match (known, in_batch.get(&message.idempotency)) {
                (Some(known), _) if known.fingerprint != message.fingerprint => {
                    return Err(PublishError::IdempotencyConflict { index });
                }
                (Some(known), _) => Fate::Repeat(Published {
                    id: MessageId::new(known.id),
                    offset: Offset::new(known.offset),
                    repeated: true,
                }),
                (None, Some(first)) if messages[*first].fingerprint != message.fingerprint => {
                    return Err(PublishError::IdempotencyConflict { index });
                }
                (None, Some(first)) => Fate::RepeatOf(*first),
                (None, None) => {
                    in_batch.insert(message.idempotency, index);
                    Fate::New
                }
            };
            fates.push(fate);
        }
        Ok(fates)
    }

    /// Forgets the keys of messages that are gone, when the table of a compacted topic is full.
    fn prune_keys(&mut self, no: TopicNo) {
        if self.state.idempotency_keys >= self.state.limits.idempotency_keys_max {
            let topics: Vec<TopicNo> = self.state.topics.keys().copied().collect();
            topics.into_iter().for_each(|no| self.expire_keys(no, usize::MAX));
        }
        if self.state.topics[&no].keys.len() < self.state.limits.compaction_keys_max {
            return;
        }
        let topic = &self.state.topics[&no];
        let is_gone = |newest: &GoneDisk| !self.state.is_live(no, newest.offset, newest.delayed);
        let gone: Vec<u128> = topic.keys.iter().filter(|(_, newest)| is_gone(newest)).map(|(key, _)| *key).collect();
        if let Some(topic) = self.state.topics.get_mut(&no) {
            for key in gone {
                topic.keys.remove(&key);
            }
        }
    }

    fn check_tables(&self, no: TopicNo, work: &PublishWork, fates: &[Fate]) -> Result<(), PublishError> {
        let topic = &self.state.topics[&no];
        let new = || {
            work.messages.iter().zip(fates).filter(|(_, fate)| matches!(fate, Fate::New)).map(|(message, _)| message)
        };
        let max = self.state.limits.idempotency_keys_max;
        let keys = new().filter(|message| message.idempotency != 0).count();
        if keys > 0 && self.state.idempotency_keys + keys > max {
            return Err(PublishError::TableFull { what: "idempotency keys", max });
        }
        let max = self.state.limits.compaction_keys_max;
        if topic.compacts() {
            let unknown = new().filter(|message| message.key != 0 && !topic.keys.contains_key(&message.key));
            let unknown: std::collections::HashSet<u128> = unknown.map(|message| message.key).collect();
            if !unknown.is_empty() && topic.keys.len() + unknown.len() > max {
                return Err(PublishError::TableFull { what: "keys of a compacted topic", max });
            }
        }
        let max = self.state.limits.delayed_max;
        let delayed = new().filter(|message| !message.delay.unwrap_or(topic.settings.delay).is_zero()).count();
        if delayed > 0 && topic.delayed.len() + delayed > max {
            return Err(PublishError::TableFull { what: "delayed messages", max });
        }
        Ok(())
    }

    fn append(&mut self, no: TopicNo, messages: &[PreparedMessage], fates: &[Fate]) -> Vec<Published> {
        let topic = &self.state.topics[&no];
        let (first, before, default_delay) = (topic.tail(), topic.plain, topic.settings.delay);
        let mut last_id = MessageId::new(self.state.last_id);
        let mut rows: Vec<RowDisk> = Vec::with_capacity(messages.len());
        let mut answers: Vec<Published> = Vec::with_capacity(messages.len());
        let mut bytes = 0;
        for (message, fate) in messages.iter().zip(fates) {
            match fate {
                Fate::Repeat(known) => answers.push(*known),
                Fate::RepeatOf(index) => {
                    let known = Published { repeated: true, ..answers[*index] };
                    answers.push(known);
                }
                Fate::New => {
                    let id = MessageId::following(last_id, Millis::new(self.state.now), self.clock.random());
                    last_id = id;
                    let loc = self.push_record(id.get(), &message.head, &message.body);
                    let offset = first + rows.len() as u64;
                    let delay = millis(message.delay.unwrap_or(default_delay));
                    bytes += message.body.len() as u64;
                    rows.push(RowDisk {
                        id: id.get(),
                        segment: loc.segment,
                        position: loc.position,
                        length: loc.length,
                        body_bytes: message.body.len() as u32,
                        key: (message.key != 0).then_some(message.key),
                        tag: (message.tag != 0).then_some(message.tag),
                        due: (delay > 0).then(|| id.published_at().get() + delay),
                        idempotency: (message.idempotency != 0).then_some((message.idempotency, message.fingerprint)),
                        origin: None,
                        moved_at: None,
                    });
                    answers.push(Published { id, offset: Offset::new(offset), repeated: false });
                }
            }
        }
        if rows.is_empty() {
            return answers;
        }
        let superseded = self.superseded(no, first, &rows);
        let count = rows.len() as u64;
        self.emit(&Entry::Published { topic: no, first_offset: first, before, rows });
        if !superseded.is_empty() {
            self.emit(&Entry::Gone { topic: no, items: superseded, leased_too: false });
            let groups = self.state.topics[&no].groups.clone();
            self.touch_groups(&groups);
        }
        if let Some(topic) = self.state.topics.get_mut(&no) {
            topic.published += count;
            topic.published_bytes += bytes;
        }
        if self.state.topics[&no].settings.retention.bytes.is_some() {
            self.plan_trim(no, self.state.now);
        }
        self.published.insert(no);
        answers
    }

    /// Messages that these new rows make stale, in a topic that keeps only the latest of each key.
    fn superseded(&self, no: TopicNo, first: u64, rows: &[RowDisk]) -> Vec<GoneDisk> {
        let topic = &self.state.topics[&no];
        if !topic.compacts() {
            return Vec::new();
        }
        let mut newest: HashMap<u128, GoneDisk> = HashMap::new();
        let mut stale = Vec::new();
        let mut sums = topic.plain;
        for (offset, row) in (first..).zip(rows) {
            let row = Row::from_disk(row, sums);
            sums = row.after();
            if row.key == 0 {
                continue;
            }
            let (key, this) = (row.key, GoneDisk::new(offset, &row));
            stale.extend(newest.insert(key, this).or_else(|| topic.keys.get(&key).copied()));
        }
        stale
    }
}
