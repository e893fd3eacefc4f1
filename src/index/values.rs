//! The values of an index that is in memory.

use std::collections::BTreeMap;

use crate::index::{Change, Tree};

/// Values by tree and key, in the order of their keys.
#[derive(Debug, Clone, Default)]
pub struct Values(pub(super) BTreeMap<(Tree, Vec<u8>), Vec<u8>>);

impl Values {
    pub fn get(&self, tree: Tree, key: &[u8]) -> Option<&Vec<u8>> {
        self.0.get(&(tree, key.to_vec()))
    }

    /// Keys that begin with `prefix`, and their values.
    pub fn under<'a>(&'a self, tree: Tree, prefix: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let from = self.0.range((tree, prefix.to_vec())..);
        from.map(|((of, key), value)| (*of, key.as_slice(), value.as_slice()))
            .take_while(move |(of, key, _)| *of == tree && key.starts_with(prefix))
            .map(|(_, key, value)| (key, value))
    }

    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Put { tree, key, value } => {
                self.0.insert((tree, key), value);
            }
            Change::Delete { tree, key } => {
                self.0.remove(&(tree, key));
            }
            Change::DeleteRange { tree, from, to } => {
                let gone: Vec<_> = self.0.range((tree, from)..(tree, to)).map(|(key, _)| key.clone()).collect();
                for key in gone {
                    self.0.remove(&key);
                }
            }
        }
    }
}
