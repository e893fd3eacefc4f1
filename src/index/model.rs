//! An index in memory, for tests and the simulator: after a crash it may be whole, old, empty, wrong
//! or panicking, as a real one may.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::index::values::Values;
use crate::index::{Change, Changes, Index, IndexError, IndexReader, Mark, Tree, Visit, frame, unframe};

/// What a crash made of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// The newest checkpoint, whole.
    Whole,
    /// The newest checkpoint, and some values of one that was being written.
    CutShort,
    /// The checkpoint before.
    Old,
    /// Nothing.
    Empty,
    /// One value is damaged.
    Wrong,
    /// Every call panics.
    Panicking,
}

#[derive(Debug, Default)]
struct Store {
    values: Values,
    mark: Option<Mark>,
    before: Option<(Values, Option<Mark>)>,
    panics: bool,
}

/// The index in memory. Clones share one store, as a directory outlives its process.
#[derive(Debug, Clone, Default)]
pub struct ModelIndex(Arc<Mutex<Store>>);

impl ModelIndex {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A copy that goes its own way: what a process that is killed now leaves behind.
    pub fn fork(&self) -> Self {
        let store = self.store();
        let copy = Store {
            values: store.values.clone(),
            mark: store.mark,
            before: store.before.clone(),
            panics: store.panics,
        };
        Self(Arc::new(Mutex::new(copy)))
    }

    /// As found after a crash.
    pub fn crash(&self, mood: Mood, seed: u64) {
        let mut store = self.store();
        store.panics = mood == Mood::Panicking;
        match mood {
            Mood::Whole | Mood::Panicking => {}
            Mood::CutShort => {
                // Some values of the newest checkpoint, but the mark of the one before.
                if let Some((old, mark)) = store.before.take() {
                    let newer = std::mem::replace(&mut store.values, old);
                    for (place, (key, value)) in newer.0.into_iter().enumerate() {
                        if (seed >> (place % 61)) & 1 == 1 {
                            store.values.0.insert(key, value);
                        }
                    }
                    store.mark = mark.map(|mark| Mark { cut_short: true, ..mark });
                }
            }
            Mood::Old => {
                if let Some((values, mark)) = store.before.take() {
                    store.values = values;
                    store.mark = mark;
                }
            }
            Mood::Empty => *store = Store::default(),
            Mood::Wrong => {
                let count = store.values.0.len().max(1);
                if let Some(value) = store.values.0.values_mut().nth(seed as usize % count) {
                    let place = (seed >> 20) as usize % value.len().max(1);
                    value[place] ^= 0x10;
                }
            }
        }
    }

    fn check(&self) -> MutexGuard<'_, Store> {
        let store = self.store();
        assert!(!store.panics, "the model index was told to panic");
        store
    }
}

impl IndexReader for ModelIndex {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let store = self.check();
        let newest = store.mark.map_or(0, |mark| mark.generation);
        let framed = store.values.get(tree, key);
        framed.map(|framed| unframe(tree, key, newest, framed).map(<[u8]>::to_vec)).transpose()
    }
}

impl Index for ModelIndex {
    fn mark(&self) -> Result<Option<Mark>, IndexError> {
        Ok(self.check().mark)
    }

    fn scan(&self, tree: Tree, prefix: &[u8], visit: Visit<'_>) -> Result<(), IndexError> {
        let store = self.check();
        let newest = store.mark.map_or(0, |mark| mark.generation);
        for (key, framed) in store.values.under(tree, prefix) {
            if !visit(key, unframe(tree, key, newest, framed)?) {
                break;
            }
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn IndexReader> {
        Arc::new(self.clone())
    }

    fn commit(&mut self, mark: Mark, changes: Changes<'_>) -> Result<(), IndexError> {
        // All of it first: what is still to be read is read here.
        let changes = changes.collect::<Result<Vec<_>, _>>()?;
        let mut store = self.check();
        store.before = Some((store.values.clone(), store.mark));
        for change in changes {
            store.values.apply(match change {
                Change::Put { tree, key, value } => {
                    let value = frame(tree, &key, mark.generation, &value);
                    Change::Put { tree, key, value }
                }
                other => other,
            });
        }
        store.mark = Some(mark);
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        self.store().values.0.values().map(|value| value.len() as u64).sum()
    }
}
