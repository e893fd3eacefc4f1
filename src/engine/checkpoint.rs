//! Between the state and the index: what a checkpoint holds, how it is written and read back.
//!
//! Keys and values are drawn in docs/FORMAT.md, "Index values".

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::engine::Limits;
use crate::engine::block::BlockDisk;
use crate::engine::derived::plain_floor;
use crate::engine::entry::{
    AccessDisk, Entry, GroupDisk, GroupNo, IdempotencyDisk, PendingDisk, Progress, Sums, TopicDisk, TopicNo,
};
use crate::engine::pending::{FrozenPendings, Pending};
use crate::engine::rows::{BlockOrigin, FrozenBlock, Rows};
use crate::engine::state::State;
use crate::index::{Change, Index, IndexError, IndexReader, Mark, Tree};
use crate::log::Epoch;
use crate::model::Lsn;

/// With more groups of a topic than this, looking for what they still need would hold the writer up.
const PRUNED_GROUPS_MAX: usize = 64;

/// What changed since the checkpoint before.
pub struct Delta {
    pub mark: Mark,
    blocks: Vec<(TopicNo, FrozenBlock)>,
    pendings: Vec<(GroupNo, FrozenPendings)>,
    changes: Vec<Change>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ServerDisk {
    /// Of the checkpoint that it belongs to.
    generation: u64,
    next_topic: TopicNo,
    next_group: GroupNo,
    last_id: u128,
    now: u64,
    boot_id: u128,
    boot: u64,
    epoch: (u64, u64),
}

#[derive(Debug, Serialize, Deserialize)]
struct TopicRecord {
    disk: TopicDisk,
    head: u64,
    head_plain: Sums,
    tail: u64,
    plain: Sums,
    last_id: u128,
    foreign: bool,
    floor_block: u64,
    has_gone: bool,
    groups: Vec<GroupNo>,
}

/// Two places, used in turn: a checkpoint that is cut short leaves the record of the one before alone. By
/// what that one says of boot and epoch the replay judges what single newer values cannot tell.
fn server_key(generation: u64) -> [u8; 2] {
    [b's', (generation % 2) as u8]
}

fn numbered(tag: &[u8], no: u32) -> Vec<u8> {
    let mut key = tag.to_vec();
    key.extend_from_slice(&no.to_be_bytes());
    key
}

fn placed(tag: &[u8], no: u32, place: u64) -> Vec<u8> {
    let mut key = numbered(tag, no);
    key.extend_from_slice(&place.to_be_bytes());
    key
}

fn put<T: Serialize>(tree: Tree, key: Vec<u8>, value: &T) -> Change {
    Change::Put { tree, key, value: codec::encode(value) }
}

fn all_of(tree: Tree, tag: &[u8], no: u32) -> Change {
    Change::DeleteRange { tree, from: placed(tag, no, 0), to: numbered(tag, no + 1) }
}

impl State {
    /// Takes what changed, for a checkpoint that covers the log up to `upto`.
    pub fn freeze(&mut self, generation: u64, upto: Lsn) -> Delta {
        debug_assert_eq!(
            self.unsaved(),
            self.topics.values().map(|topic| topic.rows.unsaved()).sum::<usize>(),
            "what is unsaved is counted with every entry"
        );
        let mut changes = Vec::new();
        let (mut blocks, mut pendings) = (Vec::new(), Vec::new());
        for no in std::mem::take(&mut self.deleted_topics) {
            changes.push(Change::Delete { tree: Tree::Catalog, key: numbered(b"t", no) });
            changes.push(all_of(Tree::Messages, b"", no));
            changes.push(all_of(Tree::Leases, b"d", no));
            changes.push(all_of(Tree::Idempotency, b"", no));
        }
        for no in std::mem::take(&mut self.deleted_groups) {
            changes.push(Change::Delete { tree: Tree::Catalog, key: numbered(b"g", no) });
            changes.push(Change::Delete { tree: Tree::Cursors, key: numbered(b"", no) });
            changes.push(all_of(Tree::Leases, b"p", no));
        }
        self.prune_settled();
        let floors: Vec<(TopicNo, u64)> = self.topics.iter().map(|(no, topic)| (*no, self.floor(topic))).collect();
        for (no, floor) in floors {
            let Some(topic) = self.topics.get_mut(&no) else { continue };
            let before = topic.rows.floor_block();
            topic.rows.set_floor(floor);
            topic.gone.forget_below(plain_floor(topic, &self.groups));
            let now = topic.rows.floor_block();
            if now > before {
                let (from, to) = (placed(b"", no, before), placed(b"", no, now));
                changes.push(Change::DeleteRange { tree: Tree::Messages, from, to });
                topic.dirty = true;
            }
            blocks.extend(topic.rows.freeze().into_iter().map(|block| (no, block)));
            for chunk in std::mem::take(&mut topic.delayed.dirty_chunks) {
                let (key, kept) = (placed(b"d", no, chunk), topic.delayed.chunk(chunk));
                changes.push(put_or_delete(Tree::Leases, key, &kept));
            }
            for chunk in std::mem::take(&mut topic.idempotency.dirty_chunks) {
                let kept = topic.idempotency.chunk(chunk);
                changes.push(put_or_delete(Tree::Idempotency, placed(b"", no, chunk), &kept));
            }
            if std::mem::take(&mut topic.dirty) {
                let record = TopicRecord {
                    disk: topic.disk.clone(),
                    head: topic.head,
                    head_plain: topic.head_plain,
                    tail: topic.tail(),
                    plain: topic.plain,
                    last_id: topic.last_id,
                    foreign: topic.foreign,
                    floor_block: now,
                    has_gone: topic.has_gone,
                    groups: topic.groups.clone(),
                };
                changes.push(put(Tree::Catalog, numbered(b"t", no), &record));
            }
        }
        for (no, group) in &mut self.groups {
            if std::mem::take(&mut group.dirty) {
                changes.push(put(Tree::Catalog, numbered(b"g", *no), &group.disk));
                changes.push(put(Tree::Cursors, numbered(b"", *no), &group.progress));
            }
            pendings.extend(group.freeze().into_iter().map(|frozen| (*no, frozen)));
        }
        self.count_unsaved();
        if std::mem::take(&mut self.access_dirty) {
            changes.push(Change::DeleteRange { tree: Tree::Catalog, from: b"a".to_vec(), to: b"b".to_vec() });
            for record in self.access.records.values() {
                let key = [b"a", record.id.0.as_bytes()].concat();
                changes.push(put(Tree::Catalog, key, &AccessDisk::from_model(record)));
            }
        }
        changes.push(self.server_record(generation));
        Delta { mark: Mark { generation, applied: upto, cut_short: false }, blocks, pendings, changes }
    }

    fn server_record(&self, generation: u64) -> Change {
        let server = ServerDisk {
            generation,
            next_topic: self.next_topic,
            next_group: self.next_group,
            last_id: self.last_id,
            now: self.now,
            boot_id: self.boot_id,
            boot: self.boot,
            epoch: (self.epoch.counter, self.epoch.random),
        };
        put(Tree::Catalog, server_key(generation).to_vec(), &server)
    }

    /// Takes the rows that changed, for an index that is built from the whole log. No start continues from it.
    pub fn spill(&mut self, generation: u64) -> Delta {
        let topics = self.topics.iter_mut();
        let blocks = topics.flat_map(|(no, topic)| topic.rows.spill().into_iter().map(|block| (*no, block))).collect();
        self.count_unsaved();
        let mark = Mark { generation, applied: Lsn::NONE, cut_short: false };
        Delta { mark, blocks, pendings: Vec::new(), changes: vec![self.server_record(generation)] }
    }

    /// Takes rows away that no group will ever come to again, so that a message that stays behind does not make the
    /// index keep, and write again, all that were settled around it.
    fn prune_settled(&mut self) {
        for topic in self.topics.values_mut() {
            let groups = || topic.groups.iter().filter_map(|no| self.groups.get(no));
            let Some(lowest) = groups().map(|group| group.progress.cursor).min() else { continue };
            if topic.keeps_settled() || topic.groups.len() > PRUNED_GROUPS_MAX {
                continue;
            }
            let needed = |block, needs: &mut dyn FnMut(u64)| {
                groups().flat_map(|group| group.pendings_of(block)).for_each(|(offset, _)| needs(offset));
                topic.delayed.chunk(block).into_iter().for_each(|(offset, ..)| needs(offset));
            };
            topic.rows.prune_below(lowest, needed);
        }
    }

    /// The state that a checkpoint holds.
    pub fn restore(index: &dyn Index, mark: Mark, limits: Limits) -> Result<Self, IndexError> {
        let mut state = Self::new(limits);
        let mut bad: Option<&'static str> = None;
        let mut found = None;
        scan_decoded(index, Tree::Catalog, &server_key(mark.generation), &mut bad, &mut |_, server: ServerDisk| {
            found = Some(server.generation);
            state.next_topic = server.next_topic;
            state.next_group = server.next_group;
            state.last_id = server.last_id;
            state.now = server.now;
            state.matured_to = server.now;
            state.boot_id = server.boot_id;
            state.boot = server.boot;
            state.epoch = Epoch { counter: server.epoch.0, random: server.epoch.1 };
        })?;
        if found != Some(mark.generation) && bad.is_none() {
            bad = Some("the record of the server is missing");
        }
        let mut groups: Vec<(TopicNo, Vec<GroupNo>)> = Vec::new();
        scan_decoded(index, Tree::Catalog, b"t", &mut bad, &mut |_, record: TopicRecord| {
            let no = record.disk.no;
            state.apply(&Entry::TopicPut(record.disk), Lsn::NONE, &mut |_, _| None);
            let Some(topic) = state.topics.get_mut(&no) else { return };
            topic.head = record.head;
            topic.head_plain = record.head_plain;
            topic.plain = record.plain;
            topic.last_id = record.last_id;
            topic.foreign = record.foreign;
            topic.rows = Rows::restored(record.tail, record.floor_block);
            topic.visible = record.tail;
            topic.has_gone = record.has_gone;
            groups.push((no, record.groups));
        })?;
        scan_decoded(index, Tree::Catalog, b"g", &mut bad, &mut |_, disk: GroupDisk| {
            state.apply(&Entry::GroupPut(disk), Lsn::NONE, &mut |_, _| None);
        })?;
        scan_decoded(index, Tree::Catalog, b"a", &mut bad, &mut |_, disk: AccessDisk| {
            state.apply(&Entry::AccessPut(disk), Lsn::NONE, &mut |_, _| None);
        })?;
        scan_decoded(index, Tree::Cursors, b"", &mut bad, &mut |key, progress: Progress| {
            if let Some(group) = number_in(key, 0).and_then(|no| state.groups.get_mut(&no)) {
                group.progress = progress;
            }
        })?;
        scan_decoded(index, Tree::Leases, b"p", &mut bad, &mut |key, kept: Vec<PendingDisk>| {
            if let Some(group) = number_in(key, 1).and_then(|no| state.groups.get_mut(&no)) {
                for pending in &kept {
                    group.set(pending.offset, Pending::from_disk(pending, Lsn::NONE));
                }
            }
        })?;
        scan_decoded(index, Tree::Leases, b"d", &mut bad, &mut |key, kept: Vec<(u64, u64, u32)>| {
            if let Some(topic) = number_in(key, 1).and_then(|no| state.topics.get_mut(&no)) {
                for (offset, due, bytes) in kept {
                    topic.delayed.insert(offset, due, bytes);
                }
            }
        })?;
        state.delaying = state.topics.keys().copied().collect();
        scan_decoded(index, Tree::Idempotency, b"", &mut bad, &mut |key, kept: Vec<IdempotencyDisk>| {
            if let Some(topic) = number_in(key, 0).and_then(|no| state.topics.get_mut(&no)) {
                for known in kept {
                    topic.idempotency.put(known, Lsn::NONE);
                }
            }
        })?;
        if !mark.cut_short
            && groups.iter().any(|(no, groups)| {
                groups.iter().any(|group| state.groups.get(group).is_none_or(|group| group.disk.topic != *no))
            })
        {
            bad = bad.or(Some("a group of a topic is missing"));
        }
        if let Some(what) = bad {
            return Err(IndexError::Damaged { tree: Tree::Catalog.name(), what });
        }
        state.settle_dirt();
        Ok(state)
    }

    /// What was just read is as the index has it.
    fn settle_dirt(&mut self) {
        for topic in self.topics.values_mut() {
            topic.dirty = false;
            topic.delayed.dirty_chunks.clear();
            topic.idempotency.dirty_chunks.clear();
        }
        for group in self.groups.values_mut() {
            group.dirty = false;
            group.dirty_chunks.clear();
        }
        self.access_dirty = false;
    }
}

fn put_or_delete<T: Serialize>(tree: Tree, key: Vec<u8>, kept: &[T]) -> Change {
    if kept.is_empty() { Change::Delete { tree, key } } else { put(tree, key, &kept) }
}

fn number_in(key: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(at..at + 4)?.try_into().ok()?))
}

fn scan_decoded<T: serde::de::DeserializeOwned>(
    index: &dyn Index,
    tree: Tree,
    prefix: &[u8],
    bad: &mut Option<&'static str>,
    take: &mut dyn FnMut(&[u8], T),
) -> Result<(), IndexError> {
    index.scan(tree, prefix, &mut |key, value| match codec::decode(value) {
        Ok(value) => {
            take(key, value);
            true
        }
        Err(_) => {
            *bad = Some("a value does not decode");
            false
        }
    })
}

/// Reads a block; the index must have it.
pub fn load_block(reader: &dyn IndexReader, topic: TopicNo, block: u64) -> Result<BlockDisk, IndexError> {
    let damaged = |what| IndexError::Damaged { tree: Tree::Messages.name(), what };
    let value = reader.get(Tree::Messages, &placed(b"", topic, block))?.ok_or_else(|| damaged("a block is missing"))?;
    codec::decode(&value).map_err(|_| damaged("a block does not decode"))
}

/// Writes a checkpoint. Durable on return.
pub fn write(index: &mut dyn Index, delta: Delta) -> Result<(), IndexError> {
    let reader = index.reader();
    let blocks = delta.blocks.into_iter().map(|(topic, frozen)| {
        let mut block = frozen.block;
        if frozen.origin == BlockOrigin::Known && !block.is_complete(frozen.count) {
            Arc::make_mut(&mut block).fill(&load_block(&*reader, topic, frozen.number)?, frozen.count);
        }
        Ok(put(Tree::Messages, placed(b"", topic, frozen.number), &*block))
    });
    let pendings = delta
        .pendings
        .into_iter()
        .map(|(group, frozen)| Ok(put_or_delete(Tree::Leases, placed(b"p", group, frozen.chunk), &frozen.to_disk())));
    index.commit(delta.mark, &mut delta.changes.into_iter().map(Ok).chain(pendings).chain(blocks))
}
