//! The index in sled 0.34.
//!
//! sled's flush is no fsync, its trees are not changed together, and damage may make it panic or open
//! empty. So: our own fsync of its files, one mark in every tree, and every call caught.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::disk::TreeSync;
use crate::index::{
    Change, Changes, Index, IndexError, IndexReader, Mark, Tree, Visit, frame, mark_bytes, read_mark, unframe,
};
use crate::planted::{Defect, planted};

/// How long opening may take before the index counts as hung.
const OPEN_TIME_MAX: Duration = Duration::from_secs(60);
/// How long opening waits for who holds sled's lock: threads of sled keep it for a moment after the
/// index of an earlier engine of this process was dropped.
const LOCK_TIME_MAX: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// Pages sled keeps in memory.
const CACHE_BYTES: u64 = 16 << 20;
/// Values per batch handed to sled: bounds the memory of one call.
const BATCH_CHANGES: usize = 64;
/// Key of the mark in every tree; sorts before and never equals a key of ours, which are longer.
const MARK_KEY: &[u8] = b"\0";
/// Key, in the tree of marks, that is set while a checkpoint is being written.
const WRITING_KEY: &[u8] = b"writing";
const META: &str = "meta";
/// Below sled's directory: values too large for its log, each written once.
const BLOBS: &str = "blobs";

/// The trees of an open sled database.
pub struct SledIndex {
    shared: Arc<Shared>,
    files: TreeSync,
}

struct Shared {
    db: sled::Db,
    trees: Vec<sled::Tree>,
    meta: sled::Tree,
    generation: AtomicU64,
}

fn caught<T>(call: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(IndexError::Panicked(text.unwrap_or_else(|| "no message".to_owned())))
    })
}

fn store(error: impl std::fmt::Display) -> IndexError {
    IndexError::Store(error.to_string())
}

fn open_locked(config: &sled::Config) -> sled::Result<sled::Db> {
    let began = Instant::now();
    loop {
        match config.open() {
            // sled has no error of its own for this one.
            Err(sled::Error::Io(error))
                if error.to_string().starts_with("could not acquire lock") && began.elapsed() < LOCK_TIME_MAX =>
            {
                std::thread::sleep(LOCK_PAUSE);
            }
            opened => return opened,
        }
    }
}

impl SledIndex {
    /// Opens the index in `path`, or makes an empty one. Runs on a thread of its own under a time limit.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let at = path.to_owned();
        std::thread::Builder::new()
            .name("index-open".to_owned())
            .spawn(move || {
                // The receiver is gone if we took too long; then nobody wants the answer.
                let _ = sender.send(caught(|| Self::open_here(&at)));
            })
            .map_err(store)?;
        receiver.recv_timeout(OPEN_TIME_MAX).unwrap_or(Err(IndexError::Hung(OPEN_TIME_MAX.as_secs())))
    }

    fn open_here(path: &Path) -> Result<Self, IndexError> {
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = open_locked(&config).map_err(store)?;
        let trees =
            Tree::ALL.iter().map(|tree| db.open_tree(tree.name())).collect::<Result<Vec<_>, _>>().map_err(store)?;
        let meta = db.open_tree(META).map_err(store)?;
        let index = Self {
            shared: Arc::new(Shared { db, trees, meta, generation: AtomicU64::new(0) }),
            files: TreeSync::new(path, BLOBS),
        };
        let generation = index.mark_here()?.map_or(0, |mark| mark.generation);
        index.shared.generation.store(generation, Ordering::SeqCst);
        Ok(index)
    }

    fn mark_here(&self) -> Result<Option<Mark>, IndexError> {
        let damaged = |tree, what| IndexError::Damaged { tree, what };
        let mut oldest: Option<(u64, crate::model::Lsn)> = None;
        let mut newest = 0;
        let named = Tree::ALL.iter().map(|tree| tree.name()).chain([META]);
        for (tree, name) in self.shared.trees.iter().chain([&self.shared.meta]).zip(named) {
            let Some(bytes) = tree.get(MARK_KEY).map_err(store)? else {
                if tree.is_empty() && oldest.is_none() {
                    continue;
                }
                return Err(damaged(name, "it has no mark"));
            };
            let mark = read_mark(&bytes).ok_or_else(|| damaged(name, "its mark does not read"))?;
            newest = newest.max(mark.0);
            oldest = Some(oldest.map_or(mark, |other| other.min(mark)));
        }
        let Some((generation, applied)) = oldest else { return Ok(None) };
        if self.shared.trees.iter().any(|tree| !tree.contains_key(MARK_KEY).unwrap_or(false)) {
            return Err(damaged(META, "a tree has no mark"));
        }
        if newest > generation + 1 {
            return Err(damaged(META, "the marks of the trees lie too far apart"));
        }
        let cut_short = newest != generation || self.shared.meta.contains_key(WRITING_KEY).map_err(store)?;
        Ok(Some(Mark { generation, applied, cut_short }))
    }

    fn sync(&mut self) -> Result<(), IndexError> {
        if planted(Defect::CheckpointNotSynced) {
            return Ok(());
        }
        self.shared.db.flush().map_err(store)?;
        self.files.sync().map(drop).map_err(store)
    }

    fn commit_here(&mut self, mark: Mark, changes: Changes<'_>) -> Result<(), IndexError> {
        let shared = self.shared.clone();
        shared.meta.insert(WRITING_KEY, &mark.generation.to_le_bytes()).map_err(store)?;
        shared.db.flush().map_err(store)?;
        let mut batches: Vec<(sled::Batch, usize)> = Tree::ALL.iter().map(|_| (sled::Batch::default(), 0)).collect();
        for change in changes {
            let change = change?;
            let (Change::Put { tree, .. } | Change::Delete { tree, .. } | Change::DeleteRange { tree, .. }) = &change;
            let place = *tree as usize - 1;
            let (batch, count) = &mut batches[place];
            match change {
                Change::Put { tree, key, value } => batch.insert(&*key, frame(tree, &key, mark.generation, &value)),
                Change::Delete { key, .. } => batch.remove(&*key),
                Change::DeleteRange { from, to, .. } => {
                    for key in shared.trees[place].range(from..to).keys() {
                        batch.remove(key.map_err(store)?);
                    }
                }
            }
            *count += 1;
            if *count >= BATCH_CHANGES {
                shared.trees[place].apply_batch(std::mem::take(batch)).map_err(store)?;
                *count = 0;
            }
        }
        for ((batch, _), tree) in batches.into_iter().zip(&shared.trees) {
            tree.apply_batch(batch).map_err(store)?;
        }
        self.sync()?;
        let bytes = mark_bytes(mark.generation, mark.applied);
        for tree in shared.trees.iter().chain([&shared.meta]) {
            tree.insert(MARK_KEY, &*bytes).map_err(store)?;
        }
        shared.meta.remove(WRITING_KEY).map_err(store)?;
        self.sync()?;
        shared.generation.store(mark.generation, Ordering::SeqCst);
        Ok(())
    }
}

impl IndexReader for Shared {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        caught(|| {
            let framed = self.trees[tree as usize - 1].get(key).map_err(store)?;
            let newest = self.generation.load(Ordering::SeqCst);
            framed.map(|framed| unframe(tree, key, newest, &framed).map(<[u8]>::to_vec)).transpose()
        })
    }
}

impl Index for SledIndex {
    fn mark(&self) -> Result<Option<Mark>, IndexError> {
        caught(|| self.mark_here())
    }

    fn scan(&self, tree: Tree, prefix: &[u8], visit: Visit<'_>) -> Result<(), IndexError> {
        let newest = self.shared.generation.load(Ordering::SeqCst);
        caught(|| {
            for pair in self.shared.trees[tree as usize - 1].scan_prefix(prefix) {
                let (key, framed) = pair.map_err(store)?;
                if key == MARK_KEY {
                    continue;
                }
                if !visit(&key, unframe(tree, &key, newest, &framed)?) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn reader(&self) -> Arc<dyn IndexReader> {
        self.shared.clone()
    }

    fn commit(&mut self, mark: Mark, changes: Changes<'_>) -> Result<(), IndexError> {
        caught(|| self.commit_here(mark, changes))
    }

    fn disk_bytes(&self) -> u64 {
        self.shared.db.size_on_disk().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_waits_for_the_lock_of_an_index_that_is_being_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        drop(SledIndex::open(&path).unwrap());
        let held = std::fs::File::open(path.join("db")).unwrap();
        rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let opening = std::thread::spawn(move || SledIndex::open(&path).map(drop));
        // Enough for the first try; if it is not, this shows less, but never fails.
        std::thread::sleep(LOCK_PAUSE * 10);
        drop(held);
        opening.join().unwrap().unwrap();
    }
}
