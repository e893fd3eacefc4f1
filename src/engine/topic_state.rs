//! One topic: its settings, rows, delayed messages, keys.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::engine::delayed::Delayed;
use crate::engine::entry::{GoneDisk, GroupNo, IdempotencyDisk, Sums, TopicDisk};
use crate::engine::gone::Gone;
use crate::engine::rows::{BLOCK_ROWS, Rows};
use crate::model::{
    AccountName, Compaction, Lsn, Millis, NameError, Settled, Topic, TopicId, TopicName, TopicSettings,
};

/// Idempotency keys within their window.
#[derive(Debug, Default)]
pub struct Idempotency {
    keys: HashMap<u128, (IdempotencyDisk, Lsn)>,
    /// In order of publishing, for expiry: the id holds the time.
    order: VecDeque<u128>,
    /// The keys of each chunk of 512 offsets; none is empty.
    by_chunk: HashMap<u64, Vec<u128>>,
    /// Chunks of 512 offsets that changed since the last checkpoint.
    pub dirty_chunks: BTreeSet<u64>,
}

impl Idempotency {
    pub fn get(&self, key: u128) -> Option<&IdempotencyDisk> {
        self.keys.get(&key).map(|(known, _)| known)
    }

    pub fn put(&mut self, known: IdempotencyDisk, said_at: Lsn) {
        self.dirty_chunks.insert(known.offset / BLOCK_ROWS);
        let old = self.keys.insert(known.key, (known, said_at)).map(|(old, _)| old);
        if let Some(old) = old {
            self.leave_chunk(&old);
        }
        self.by_chunk.entry(known.offset / BLOCK_ROWS).or_default().push(known.key);
        if old.is_some_and(|old| old.id == known.id) {
            return;
        }
        if old.is_some() {
            self.order.retain(|key| *key != known.key);
        }
        self.order.push_back(known.key);
    }

    fn leave_chunk(&mut self, known: &IdempotencyDisk) {
        let chunk = known.offset / BLOCK_ROWS;
        self.dirty_chunks.insert(chunk);
        let Some(keys) = self.by_chunk.get_mut(&chunk) else { return };
        keys.retain(|key| *key != known.key);
        if keys.is_empty() {
            self.by_chunk.remove(&chunk);
        }
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Forgets what was published before `oldest` (log clock); at most `most` of them.
    pub fn expire(&mut self, oldest: u64, most: usize) {
        for _ in 0..most {
            let Some(key) = self.order.front().copied() else { return };
            match self.keys.get(&key).map(|(known, _)| *known) {
                Some(known) if (known.id >> 80) as u64 > oldest => return,
                Some(known) => {
                    self.leave_chunk(&known);
                    self.keys.remove(&key);
                }
                None => {}
            }
            self.order.pop_front();
        }
    }

    /// Those said before `lsn`.
    pub fn said_before(&self, lsn: Lsn) -> Vec<IdempotencyDisk> {
        self.order
            .iter()
            .filter_map(|key| self.keys.get(key))
            .filter(|(_, at)| *at < lsn)
            .map(|(known, _)| *known)
            .collect()
    }

    /// Those of one chunk, as the index keeps them.
    pub fn chunk(&self, chunk: u64) -> Vec<IdempotencyDisk> {
        let keys = self.by_chunk.get(&chunk).into_iter().flatten();
        let mut list: Vec<IdempotencyDisk> =
            keys.filter_map(|key| self.keys.get(key)).map(|(known, _)| *known).collect();
        list.sort_unstable_by_key(|known| known.id);
        list
    }
}

/// A topic.
#[derive(Debug)]
pub struct TopicState {
    pub disk: TopicDisk,
    pub account: AccountName,
    pub name: TopicName,
    pub settings: TopicSettings,
    pub rows: Rows,
    /// Sums over everything published without delay.
    pub plain: Sums,
    /// The oldest offset that no trim has passed.
    pub head: u64,
    pub head_plain: Sums,
    /// Offsets below are durable: only they are handed out.
    pub visible: u64,
    pub delayed: Delayed,
    pub idempotency: Idempotency,
    /// Newest message of each key, with compaction.
    pub keys: HashMap<u128, GoneDisk>,
    /// Messages without delay that were given up one by one.
    pub gone: Gone,
    /// Some were, as the index or the log says: which ones, a look at all rows tells.
    pub has_gone: bool,
    /// Messages were moved here: ids do not rise with offsets, records lie anywhere.
    pub foreign: bool,
    pub last_id: u128,
    /// Its groups; a ghost is among them.
    pub groups: Vec<GroupNo>,
    /// The same by their names, without the ghost.
    pub group_names: HashMap<String, GroupNo>,
    pub published: u64,
    pub published_bytes: u64,
    pub dirty: bool,
}

impl TopicState {
    pub fn new(disk: TopicDisk) -> Result<Self, NameError> {
        Ok(Self {
            account: AccountName::parse(&disk.account)?,
            name: TopicName::parse(&disk.name)?,
            settings: disk.settings(),
            disk,
            rows: Rows::default(),
            plain: Sums::default(),
            head: 0,
            head_plain: Sums::default(),
            visible: 0,
            delayed: Delayed::default(),
            idempotency: Idempotency::default(),
            keys: HashMap::new(),
            gone: Gone::default(),
            has_gone: false,
            foreign: false,
            last_id: 0,
            groups: Vec::new(),
            group_names: HashMap::new(),
            published: 0,
            published_bytes: 0,
            dirty: true,
        })
    }

    pub fn to_model(&self) -> Topic {
        Topic {
            account: self.account.clone(),
            id: TopicId::new(self.disk.id),
            name: self.name.clone(),
            settings: self.settings.clone(),
            created_at: Millis::new(self.disk.created_at),
            modified_at: Millis::new(self.disk.modified_at),
        }
    }

    pub const fn tail(&self) -> u64 {
        self.rows.tail()
    }

    pub fn compacts(&self) -> bool {
        self.settings.compaction == Compaction::LatestPerKey
    }

    pub fn keeps_settled(&self) -> bool {
        self.settings.retention.settled == Settled::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_holds_the_idempotency_keys_of_its_offsets_whatever_was_said_again_or_forgotten() {
        let known = |key: u128, time: u128, offset| IdempotencyDisk { key, fingerprint: 1, id: time << 80, offset };
        let mut keys = Idempotency::default();
        for (key, time, offset) in [(1, 10, 3), (2, 11, 4), (3, 12, 600), (1, 13, 601), (2, 11, 4)] {
            keys.put(known(key, time, offset), Lsn::NONE);
        }
        assert_eq!(keys.chunk(0), [known(2, 11, 4)]);
        assert_eq!(keys.chunk(1), [known(3, 12, 600), known(1, 13, 601)]);
        assert_eq!(std::mem::take(&mut keys.dirty_chunks), BTreeSet::from([0, 1]));
        keys.expire(11, 9);
        assert_eq!((keys.chunk(0), keys.len()), (Vec::new(), 2));
        assert_eq!(keys.dirty_chunks, BTreeSet::from([0]));
    }
}
