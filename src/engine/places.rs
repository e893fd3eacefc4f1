//! Where records lie that recovery wrote again: the entries of such a frame still tell the places of before. What
//! has its record beside it finds it there; what refers to a record elsewhere finds the place in the state, which
//! has followed it. Frames that were never moved tell the truth: they were written after all that was.

use std::collections::HashMap;

use crate::engine::entry::{Entry, GroupNo, PendingDisk, RowDisk, TopicNo};
use crate::engine::rows::{Found, Row, block_of};
use crate::engine::state::{Loader, State, load_block};
use crate::engine::topic_state::TopicState;
use crate::log::Loc;

/// The row of a message, from memory or from the index.
pub(super) fn find_row(topic: &mut TopicState, offset: u64, loader: Loader<'_>) -> Option<Row> {
    if offset >= topic.tail() {
        return None;
    }
    load_block(topic, block_of(offset), loader);
    match topic.rows.get(offset) {
        Found::Row(row) | Found::Gone(row) => Some(row),
        Found::Absent | Found::Away(_) => None,
    }
}

/// The places of the records of one frame, by their ids.
pub type Places = HashMap<u128, Loc>;

/// Rows whose records lie in the same frame.
fn own_rows(entry: &mut Entry) -> Vec<&mut RowDisk> {
    match entry {
        Entry::Published { rows, .. } => rows.iter_mut().collect(),
        Entry::Rewritten { rows, .. } => rows.iter_mut().map(|kept| &mut kept.row).collect(),
        _ => Vec::new(),
    }
}

/// Tells the rows of an entry where the records beside it lie now; `places` is asked only if it has any.
pub fn mend_own<E>(entry: &mut Entry, places: impl FnOnce() -> Result<Places, E>) -> Result<(), E> {
    let rows = own_rows(entry);
    if rows.is_empty() {
        return Ok(());
    }
    let places = places()?;
    for row in rows {
        if let Some(loc) = places.get(&row.id) {
            put(row, *loc);
        }
    }
    Ok(())
}

fn put(row: &mut RowDisk, loc: Loc) {
    (row.segment, row.position, row.length) = (loc.segment, loc.position, loc.length);
}

impl State {
    /// Tells the rows of an entry whose records lie in other frames where they are by what was replayed so far.
    pub fn mend_others(&mut self, entry: &mut Entry, loader: Loader<'_>) {
        match entry {
            Entry::Moved { from_group, from_topic, from_offset, row, .. } => {
                let pending = from_group.and_then(|no| self.groups.get(&no)?.pending(*from_offset));
                let known = pending.map(|pending| pending.row.clone());
                let known = known.filter(|known| known.id == row.id);
                if let Some(known) = known.or_else(|| self.row_of(*from_topic, *from_offset, loader)) {
                    self.follow(row, &known);
                }
            }
            Entry::Placed { group, pending, .. }
            | Entry::PlacedPart { group, pending, .. }
            | Entry::PendingKept { group, pending } => self.mend_pending(*group, pending, loader),
            _ => {}
        }
    }

    fn mend_pending(&mut self, group: GroupNo, pending: &mut [PendingDisk], loader: Loader<'_>) {
        let Some(topic) = self.groups.get(&group).map(|group| group.disk.topic) else { return };
        for item in pending {
            if let Some(known) = self.row_of(topic, item.offset, loader) {
                self.follow(&mut item.row, &known);
            }
        }
    }

    fn row_of(&mut self, topic: TopicNo, offset: u64, loader: Loader<'_>) -> Option<Row> {
        find_row(self.topics.get_mut(&topic)?, offset, loader)
    }

    fn follow(&self, row: &mut RowDisk, known: &Row) {
        if known.id == row.id {
            put(row, known.loc);
        }
    }
}
