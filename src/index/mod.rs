//! The index: a checkpoint of where things are, disposable, rebuilt from the log when in doubt.
//!
//! This layer keeps framed values in numbered trees and knows nothing of their meaning. Each value
//! carries its generation and a crc that also covers tree and key (docs/FORMAT.md, "Index values").

mod model;
mod sled_index;
mod stopgap;
mod values;

pub use model::{ModelIndex, Mood};
pub use sled_index::SledIndex;
pub use stopgap::Stopgap;

use std::sync::Arc;

use crate::model::Lsn;

/// A tree of the index. Numbers are on disk and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tree {
    /// Blocks of 512 messages.
    Messages = 1,
    /// Pending messages of groups and delayed messages of topics, in chunks.
    Leases = 2,
    /// Progress of groups.
    Cursors = 3,
    /// Topics, groups, credentials.
    Catalog = 4,
    /// Idempotency keys, in chunks.
    Idempotency = 5,
}

impl Tree {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 5] = [Self::Messages, Self::Leases, Self::Cursors, Self::Catalog, Self::Idempotency];

    /// Its name in sled.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Leases => "leases",
            Self::Cursors => "cursors",
            Self::Catalog => "catalog",
            Self::Idempotency => "idempotency",
        }
    }
}

/// One change of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This key has this value.
    Put {
        /// Where.
        tree: Tree,
        /// At most 255 bytes.
        key: Vec<u8>,
        /// Unframed.
        value: Vec<u8>,
    },
    /// This key is gone.
    Delete {
        /// Where.
        tree: Tree,
        /// The key.
        key: Vec<u8>,
    },
    /// The keys from `from` up to but not including `to` are gone.
    DeleteRange {
        /// Where.
        tree: Tree,
        /// The first.
        from: Vec<u8>,
        /// Behind the last.
        to: Vec<u8>,
    },
}

/// What a checkpoint stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Rises by one with each checkpoint.
    pub generation: u64,
    /// Every entry up to here is in it.
    pub applied: Lsn,
    /// A newer checkpoint was being written when this one was read: single values may be newer.
    pub cut_short: bool,
}

/// Why the index cannot be trusted. It is set aside and rebuilt, whatever the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The store failed.
    #[error("the index store failed: {0}")]
    Store(String),
    /// The store panicked.
    #[error("the index store panicked: {0}")]
    Panicked(String),
    /// It did not answer in time.
    #[error("the index store did not answer within {0} s")]
    Hung(u64),
    /// A value is damaged, in the wrong place or of the wrong time.
    #[error("a value in `{tree}` is damaged: {what}")]
    Damaged {
        /// Name of the tree.
        tree: &'static str,
        /// What is wrong.
        what: &'static str,
    },
}

/// What a scan hands over: key and unframed value. Answer `false` to stop.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

/// Reads values while checkpoints are written.
pub trait IndexReader: Send + Sync {
    /// The value at `key`; its generation is checked against the newest mark.
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;
}

/// What a checkpoint changes, or why it cannot be known.
pub type Changes<'a> = &'a mut dyn Iterator<Item = Result<Change, IndexError>>;

/// A store of checkpoints.
pub trait Index: Send {
    /// What the newest whole checkpoint stands for; `None` if there is none.
    fn mark(&self) -> Result<Option<Mark>, IndexError>;
    /// All values of a tree whose keys begin with `prefix`, in order.
    fn scan(&self, tree: Tree, prefix: &[u8], visit: Visit<'_>) -> Result<(), IndexError>;
    /// Reads beside the writes.
    fn reader(&self) -> Arc<dyn IndexReader>;
    /// Writes a checkpoint. Durable on return. The changes are made one by one as they are asked for: all of
    /// them together would take as much memory as the blocks that changed.
    fn commit(&mut self, mark: Mark, changes: Changes<'_>) -> Result<(), IndexError>;
    /// Bytes it takes on disk.
    fn disk_bytes(&self) -> u64;
    /// It is in memory only, until there is space for another one.
    fn is_stopgap(&self) -> bool {
        false
    }
}

const FRAME_BYTES: usize = 12;

/// Frames a value: crc32 over tree, key, generation and value; generation; value.
fn frame(tree: Tree, key: &[u8], generation: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAME_BYTES + value.len());
    out.extend_from_slice(&crc(tree, key, generation, value).to_le_bytes());
    out.extend_from_slice(&generation.to_le_bytes());
    out.extend_from_slice(value);
    out
}

fn crc(tree: Tree, key: &[u8], generation: u64, value: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[tree as u8, key.len() as u8]);
    crc.update(key);
    crc.update(&generation.to_le_bytes());
    crc.update(value);
    crc.finalize()
}

/// Takes the frame off again. A generation above `newest` + 1 belongs to another time.
fn unframe<'a>(tree: Tree, key: &[u8], newest: u64, framed: &'a [u8]) -> Result<&'a [u8], IndexError> {
    let damaged = |what| IndexError::Damaged { tree: tree.name(), what };
    let (head, value) = framed.split_at_checked(FRAME_BYTES).ok_or_else(|| damaged("it is too short"))?;
    let (said, generation) = head.split_at(4);
    let said = u32::from_le_bytes(said.try_into().map_err(|_| damaged("it is too short"))?);
    let generation = u64::from_le_bytes(generation.try_into().map_err(|_| damaged("it is too short"))?);
    if said != crc(tree, key, generation, value) {
        return Err(damaged("its crc does not match"));
    }
    if generation > newest + 1 {
        return Err(damaged("its generation is of another time"));
    }
    Ok(value)
}

/// Encoding of a mark: generation, applied lsn, crc.
fn mark_bytes(generation: u64, applied: Lsn) -> Vec<u8> {
    let mut out = Vec::with_capacity(20);
    out.extend_from_slice(&generation.to_le_bytes());
    out.extend_from_slice(&applied.get().to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    out
}

fn read_mark(bytes: &[u8]) -> Option<(u64, Lsn)> {
    let generation = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let applied = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    let said = u32::from_le_bytes(bytes.get(16..20)?.try_into().ok()?);
    (bytes.len() == 20 && said == crc32fast::hash(&bytes[..16])).then_some((generation, Lsn::new(applied)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_the_wrong_place_or_time_is_refused() {
        let framed = frame(Tree::Messages, b"k", 7, b"value");
        assert_eq!(unframe(Tree::Messages, b"k", 7, &framed), Ok(&b"value"[..]));
        assert!(unframe(Tree::Messages, b"l", 7, &framed).is_err());
        assert!(unframe(Tree::Leases, b"k", 7, &framed).is_err());
        assert!(unframe(Tree::Messages, b"k", 5, &framed).is_err());
        for bit in 0..framed.len() * 8 {
            let mut flipped = framed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unframe(Tree::Messages, b"k", u64::MAX - 1, &flipped).is_err(), "bit {bit}");
        }
    }
}
