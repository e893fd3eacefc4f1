//! An index in memory, for as long as the disk has no space for one: the log alone can build it, and acks
//! must go on, or no space would ever come back.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::index::{Change, Index, IndexError, IndexReader, Mark, Tree, Visit};

type Values = BTreeMap<(Tree, Vec<u8>), Vec<u8>>;

/// See the module.
#[derive(Default)]
pub struct Stopgap {
    values: Arc<Shared>,
    mark: Option<Mark>,
}

#[derive(Default)]
struct Shared(RwLock<Values>);

impl IndexReader for Shared {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let values = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(values.get(&(tree, key.to_vec())).cloned())
    }
}

impl Index for Stopgap {
    fn mark(&self) -> Result<Option<Mark>, IndexError> {
        Ok(self.mark)
    }

    fn scan(&self, tree: Tree, prefix: &[u8], visit: Visit<'_>) -> Result<(), IndexError> {
        let values = self.values.0.read().unwrap_or_else(PoisonError::into_inner);
        let from = values.range((tree, prefix.to_vec())..);
        for ((_, key), value) in from.take_while(|((of, key), _)| *of == tree && key.starts_with(prefix)) {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn IndexReader> {
        self.values.clone()
    }

    fn commit(&mut self, mark: Mark, changes: Vec<Change>) -> Result<(), IndexError> {
        let mut values = self.values.0.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                Change::Put { tree, key, value } => {
                    values.insert((tree, key), value);
                }
                Change::Delete { tree, key } => {
                    values.remove(&(tree, key));
                }
                Change::DeleteRange { tree, from, to } => {
                    let gone: Vec<_> = values.range((tree, from)..(tree, to)).map(|(key, _)| key.clone()).collect();
                    for key in gone {
                        values.remove(&key);
                    }
                }
            }
        }
        self.mark = Some(mark);
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        0
    }

    fn is_stopgap(&self) -> bool {
        true
    }
}
