//! Rows: where each message of a topic is, in blocks of 512.
//!
//! A block in memory may be *incomplete*: the index holds rows of it that were not loaded. Blocks
//! that changed since the last checkpoint stay in memory; clean ones are a cache and may be dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::block::{Block, BlockDisk, Cell};
use crate::engine::entry::{OriginDisk, RowDisk, Sums};
use crate::log::Loc;

/// Messages in a block.
pub const BLOCK_ROWS: u64 = 512;
/// A block that changed takes as much memory by itself as this many messages in it.
const BLOCK_WEIGHT: usize = 32;
/// Blocks that one checkpoint writes at most only because what was in them is not needed any more.
const BLOCKS_PRUNED_MAX: u64 = 1024;

/// The block that `offset` lies in.
pub const fn block_of(offset: u64) -> u64 {
    offset / BLOCK_ROWS
}

fn place_in_block(offset: u64) -> usize {
    (offset % BLOCK_ROWS) as usize
}

/// What the engine knows of a message without reading its record. Zero means "none" in `key`, `tag` and
/// `due`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub id: u128,
    pub key: u128,
    pub loc: Loc,
    /// Sums of the topic before this message.
    pub before: Sums,
    pub tag: u64,
    /// Log-clock time before which it is withheld.
    pub due: u64,
    pub body_bytes: u32,
    pub origin: Option<Arc<OriginDisk>>,
    /// When it was moved here from another topic; 0: it was published here.
    pub moved_at: u64,
}

impl Row {
    /// From the log, with the topic's sums before it.
    pub fn from_disk(disk: &RowDisk, before: Sums) -> Self {
        Self {
            id: disk.id,
            key: disk.key.unwrap_or(0),
            loc: Loc { segment: disk.segment, position: disk.position, length: disk.length },
            before,
            tag: disk.tag.unwrap_or(0),
            due: disk.due.unwrap_or(0),
            body_bytes: disk.body_bytes,
            origin: disk.origin.as_deref().cloned().map(Arc::new),
            moved_at: disk.moved_at.unwrap_or(0),
        }
    }

    /// For the log or the index.
    pub fn to_disk(&self) -> RowDisk {
        RowDisk {
            id: self.id,
            segment: self.loc.segment,
            position: self.loc.position,
            length: self.loc.length,
            body_bytes: self.body_bytes,
            key: (self.key != 0).then_some(self.key),
            tag: (self.tag != 0).then_some(self.tag),
            due: (self.due != 0).then_some(self.due),
            idempotency: None,
            origin: self.origin.as_deref().cloned().map(Box::new),
            moved_at: (self.moved_at != 0).then_some(self.moved_at),
        }
    }

    /// Log-clock time of the publish: the upper 48 bits of the id.
    pub const fn published_at(&self) -> u64 {
        (self.id >> 80) as u64
    }

    /// Log-clock time at which it came to this topic: never falls with the offset.
    pub fn arrived_at(&self) -> u64 {
        self.published_at().max(self.moved_at)
    }

    /// The topic's sums after this message: delayed ones do not count.
    pub fn after(&self) -> Sums {
        if self.due != 0 {
            return self.before;
        }
        Sums { count: self.before.count + 1, bytes: self.before.bytes + u64::from(self.body_bytes) }
    }
}

impl RowDisk {
    /// Stands in, during a rebuild, for a row that is said later in the log.
    pub fn unknown() -> Self {
        Self {
            id: 0,
            segment: 0,
            position: 0,
            length: 0,
            body_bytes: 0,
            key: None,
            tag: None,
            due: None,
            idempotency: None,
            origin: None,
            moved_at: None,
        }
    }
}

/// A block for a checkpoint.
#[derive(Debug, Clone)]
pub struct FrozenBlock {
    pub number: u64,
    pub block: Arc<Block>,
    pub origin: BlockOrigin,
    /// Places published.
    pub count: usize,
}

/// What stands at an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A live message.
    Row(Row),
    /// A message given up for every group.
    Gone(Row),
    /// Nothing any more.
    Absent,
    /// In this block of the index, which is not loaded.
    Away(u64),
}

/// The rows of one topic that are in memory.
#[derive(Debug, Default)]
pub struct Rows {
    blocks: BTreeMap<u64, Arc<Block>>,
    /// Changed since the last checkpoint began.
    dirty: BTreeSet<u64>,
    /// In the checkpoint that is being written.
    frozen: BTreeSet<u64>,
    /// Changes of messages since the last checkpoint began, and of those before that it takes.
    dirty_rows: usize,
    frozen_rows: usize,
    /// Blocks behind `new_from` that were written before any checkpoint: the index has no others there.
    spilled: BTreeSet<u64>,
    /// The offset the next publish gets.
    tail: u64,
    /// Below this offset only what somebody still needs has been kept.
    pruned_below: u64,
    /// Blocks below this one are not kept anywhere.
    floor_block: u64,
    /// Blocks from this one on have never been in the index.
    new_from: u64,
    /// The tail when the checkpoint that is being written began.
    frozen_tail: u64,
}

impl Rows {
    /// A topic whose index holds the blocks from `floor_block` up to the one of `tail`.
    pub fn restored(tail: u64, floor_block: u64) -> Self {
        let new_from = tail.div_ceil(BLOCK_ROWS);
        Self { tail, floor_block, new_from, pruned_below: floor_block * BLOCK_ROWS, ..Self::default() }
    }

    /// The offset the next publish gets.
    pub const fn tail(&self) -> u64 {
        self.tail
    }

    fn count_in(&self, block: u64) -> usize {
        (self.tail - (block * BLOCK_ROWS).min(self.tail)).min(BLOCK_ROWS) as usize
    }

    /// What stands at `offset`, which lies below the tail.
    pub fn get(&self, offset: u64) -> Found {
        let (number, place) = (block_of(offset), place_in_block(offset));
        if number < self.floor_block {
            return Found::Absent;
        }
        let Some(block) = self.blocks.get(&number) else { return self.unknown(number) };
        match block.cell(place) {
            Cell::Live => Found::Row(block.row(place)),
            Cell::Gone => Found::Gone(block.row(place)),
            Cell::Absent => Found::Absent,
            Cell::Unknown | Cell::UnknownGone => self.unknown(number),
        }
    }

    /// What is not known lies in the index, if that has the block.
    fn unknown(&self, block: u64) -> Found {
        if self.is_stored(block) { Found::Away(block) } else { Found::Absent }
    }

    /// Whether the index has the block, in some version.
    fn is_stored(&self, block: u64) -> bool {
        block < self.new_from || self.spilled.contains(&block)
    }

    /// Whether the message at `offset` is known to be given up, whatever else is known of it.
    pub fn is_gone(&self, offset: u64) -> bool {
        let block = self.blocks.get(&block_of(offset));
        block.is_some_and(|block| matches!(block.cell(place_in_block(offset)), Cell::Gone | Cell::UnknownGone))
    }

    /// Puts the message at `offset` there; the tail moves past it.
    pub fn put(&mut self, offset: u64, row: &Row, gone: bool) {
        let block = block_of(offset);
        if block < self.floor_block {
            return;
        }
        self.tail = self.tail.max(offset + 1);
        Arc::make_mut(self.blocks.entry(block).or_default()).put(place_in_block(offset), row, gone);
        self.dirty.insert(block);
        self.dirty_rows += 1;
    }

    /// Moves the tail without a message: after a rebuild, what lies below is said later or gone.
    pub fn set_tail(&mut self, tail: u64) {
        self.tail = self.tail.max(tail);
    }

    /// Marks `offset` as given up.
    pub fn mark_gone(&mut self, offset: u64) {
        let (number, place) = (block_of(offset), place_in_block(offset));
        if number < self.floor_block || offset >= self.tail {
            return;
        }
        let block = self.blocks.entry(number).or_default();
        if matches!(block.cell(place), Cell::Live | Cell::Unknown) {
            Arc::make_mut(block).give_up(place);
            self.dirty.insert(number);
            self.dirty_rows += 1;
        }
    }

    /// Takes in a block that was loaded from the index.
    pub fn load(&mut self, block: u64, stored: &BlockDisk) {
        if block < self.floor_block {
            return;
        }
        let count = self.count_in(block);
        Arc::make_mut(self.blocks.entry(block).or_default()).fill(stored, count);
    }

    /// Whether the block is in memory, whole.
    pub fn is_loaded(&self, block: u64) -> bool {
        block < self.floor_block
            || !self.is_stored(block)
            || self.blocks.get(&block).is_some_and(|held| held.is_complete(self.count_in(block)))
    }

    /// Forgets a clean block; false if it is needed for a checkpoint.
    pub fn evict(&mut self, block: u64) -> bool {
        if self.dirty.contains(&block) || self.frozen.contains(&block) {
            return false;
        }
        self.blocks.remove(&block);
        true
    }

    /// Nothing below `offset` is needed any more: whole blocks below go.
    pub fn set_floor(&mut self, offset: u64) {
        let floor = block_of(offset.min(self.tail));
        if floor <= self.floor_block {
            return;
        }
        self.floor_block = floor;
        self.blocks = self.blocks.split_off(&floor);
        self.dirty = self.dirty.split_off(&floor);
        self.spilled = self.spilled.split_off(&floor);
    }

    /// What lies below `upto` goes, but for the offsets that `needed` names of a block: from blocks that are to be
    /// written anyway, and from those that lie below `upto` now and did not before, `BLOCKS_PRUNED_MAX` at most.
    pub fn prune_below(&mut self, upto: u64, needed: impl Fn(u64, &mut dyn FnMut(u64))) {
        let upto = upto.min(self.tail);
        let passed = block_of(self.pruned_below).max(self.floor_block)..block_of(upto).min(self.new_from);
        let passed_upto = passed.end.min(passed.start.saturating_add(BLOCKS_PRUNED_MAX));
        self.pruned_below =
            self.pruned_below.max(if passed_upto < passed.end { passed_upto * BLOCK_ROWS } else { upto });
        self.dirty.extend(passed.start..passed_upto);
        for number in self.dirty.range(..upto.div_ceil(BLOCK_ROWS)).copied() {
            let mut keeps = [false; BLOCK_ROWS as usize];
            needed(number, &mut |offset| keeps[place_in_block(offset)] = true);
            let block = Arc::make_mut(self.blocks.entry(number).or_default());
            (number * BLOCK_ROWS..upto.min((number + 1) * BLOCK_ROWS))
                .map(place_in_block)
                .filter(|place| !keeps[*place])
                .for_each(|place| block.clear(place));
        }
    }

    /// The first block kept.
    pub const fn floor_block(&self) -> u64 {
        self.floor_block
    }

    /// What changed since the last checkpoint began, as memory: messages, and for each of their blocks
    /// [`BLOCK_WEIGHT`] more.
    pub fn unsaved(&self) -> usize {
        self.dirty_rows + self.dirty.len() * BLOCK_WEIGHT
    }

    /// Hands out what changed, for a checkpoint; until [`Rows::thaw`] it stays in memory. Every block in
    /// between that has never been in the index is handed out too, so that a hole in it means damage.
    pub fn freeze(&mut self) -> Vec<FrozenBlock> {
        self.frozen = std::mem::take(&mut self.dirty);
        self.frozen_rows = std::mem::take(&mut self.dirty_rows);
        self.frozen_tail = self.tail;
        let new = self.new_from.max(self.floor_block)..self.tail.div_ceil(BLOCK_ROWS);
        self.frozen.extend(new.filter(|number| !self.spilled.contains(number)));
        let empty = Arc::default();
        let hand_out = |number: &u64| {
            let origin = if self.is_stored(*number) { BlockOrigin::Known } else { BlockOrigin::New };
            let block = self.blocks.get(number).unwrap_or(&empty).clone();
            FrozenBlock { number: *number, block, origin, count: self.count_in(*number) }
        };
        self.frozen.iter().map(hand_out).collect()
    }

    /// Hands out what changed and forgets it, for an index that is built from the whole log: what the log has not said
    /// again yet may lie anywhere, so that no floor is known before its end.
    pub fn spill(&mut self) -> Vec<FrozenBlock> {
        self.dirty_rows = 0;
        let mut out = Vec::new();
        for number in std::mem::take(&mut self.dirty) {
            let Some(block) = self.blocks.remove(&number) else { continue };
            let origin = if self.is_stored(number) { BlockOrigin::Known } else { BlockOrigin::New };
            self.spilled.insert(number);
            out.push(FrozenBlock { number, block, origin, count: self.count_in(number) });
        }
        out
    }

    /// The checkpoint is durable. Answers the blocks that became clean.
    pub fn thaw(&mut self) -> Vec<u64> {
        self.new_from = self.new_from.max(self.frozen_tail.div_ceil(BLOCK_ROWS));
        self.spilled = self.spilled.split_off(&self.new_from);
        let thawed = std::mem::take(&mut self.frozen);
        thawed.into_iter().filter(|block| !self.dirty.contains(block) && self.blocks.contains_key(block)).collect()
    }
}

impl Rows {
    /// The checkpoint failed: what it held is to be written again.
    pub fn unfreeze(&mut self) {
        self.dirty.extend(std::mem::take(&mut self.frozen));
        self.dirty_rows += std::mem::take(&mut self.frozen_rows);
        self.dirty = self.dirty.split_off(&self.floor_block);
    }
}

/// Whether the index may hold an older version of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockOrigin {
    /// It never did.
    New,
    /// It must: if it does not, it is damaged.
    Known,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::entry::RowDisk;

    #[test]
    fn what_is_unsaved_counts_messages_and_blocks_and_comes_back_when_a_checkpoint_fails() {
        let row = Row::from_disk(&RowDisk::unknown(), Default::default());
        let mut rows = Rows::default();
        for offset in [0, 1, 2, BLOCK_ROWS] {
            rows.put(offset, &row, false);
        }
        assert_eq!(rows.unsaved(), 4 + 2 * BLOCK_WEIGHT);
        rows.freeze();
        assert_eq!(rows.unsaved(), 0);
        rows.mark_gone(1);
        assert_eq!(rows.unsaved(), 1 + BLOCK_WEIGHT);
        rows.unfreeze();
        assert_eq!(rows.unsaved(), 5 + 2 * BLOCK_WEIGHT);
        rows.freeze();
        rows.thaw();
        assert_eq!(rows.unsaved(), 0);
    }
}
