//! An index in memory, for as long as the disk has no space for one: the log alone can build it, and acks
//! must go on, or no space would ever come back.

use std::sync::{Arc, PoisonError, RwLock};

use crate::index::values::Values;
use crate::index::{Changes, Index, IndexError, IndexReader, Mark, Tree, Visit};

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
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).get(tree, key).cloned())
    }
}

impl Index for Stopgap {
    fn mark(&self) -> Result<Option<Mark>, IndexError> {
        Ok(self.mark)
    }

    fn scan(&self, tree: Tree, prefix: &[u8], visit: Visit<'_>) -> Result<(), IndexError> {
        let values = self.values.0.read().unwrap_or_else(PoisonError::into_inner);
        // Until the visitor has seen enough.
        let _ = values.under(tree, prefix).all(|(key, value)| visit(key, value));
        Ok(())
    }

    fn reader(&self) -> Arc<dyn IndexReader> {
        self.values.clone()
    }

    fn commit(&mut self, mark: Mark, changes: Changes<'_>) -> Result<(), IndexError> {
        for change in changes {
            let change = change?;
            self.values.0.write().unwrap_or_else(PoisonError::into_inner).apply(change);
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
