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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Limits;
    use crate::engine::entry::{GroupDisk, PendingState, Progress, RewrittenDisk, Sums, TopicDisk};
    use crate::model::{
        AccountName, GroupId, GroupName, GroupSettings, Lsn, Millis, TopicId, TopicName, TopicSettings,
    };

    /// Where a frame was written first, and where recovery wrote it again.
    const OLD: Loc = Loc { segment: 1, position: 100, length: 50 };
    const NEW: Loc = Loc { segment: 9, position: 700, length: 50 };

    fn row(id: u128, loc: Loc) -> RowDisk {
        let mut row = RowDisk { id, ..RowDisk::unknown() };
        put(&mut row, loc);
        row
    }

    const fn loc_of(row: &RowDisk) -> Loc {
        Loc { segment: row.segment, position: row.position, length: row.length }
    }

    fn pending(offset: u64, row: RowDisk) -> PendingDisk {
        PendingDisk { offset, row, attempt: 1, lease: 5, handle: 0, state: PendingState::Ready, superseded: false }
    }

    fn apply(state: &mut State, entry: &Entry) {
        state.apply(entry, Lsn::new(1), &mut |_, _| None);
    }

    /// Topic 1 with a group, and messages of these ids whose records lie at [`NEW`].
    fn state(ids: &[u128]) -> State {
        let mut state = State::new(Limits::default());
        for (no, name) in [(1, "t"), (2, "dead")] {
            let (account, name) = (AccountName::standard(), TopicName::parse(name).expect("a name"));
            let id = TopicId::new(no.into());
            let disk = TopicDisk::new(no, &account, id, &name, Millis::ZERO, &TopicSettings::default());
            apply(&mut state, &Entry::TopicPut(disk));
        }
        let (name, settings) = (GroupName::parse("g").expect("a name"), GroupSettings::default());
        let disk = GroupDisk::new(1, 1, GroupId::new(1), &name, Millis::ZERO, &settings);
        apply(&mut state, &Entry::GroupPut(disk));
        let rows = ids.iter().map(|id| row(*id, NEW)).collect();
        apply(&mut state, &Entry::Published { topic: 1, first_offset: 0, before: Sums::default(), rows });
        state
    }

    fn moved(from_group: Option<GroupNo>, from_offset: u64, id: u128) -> Entry {
        let (from_before, before) = (Sums::default(), Sums::default());
        let (from_topic, to_topic, to_offset, row) = (1, 2, 0, row(id, OLD));
        Entry::Moved { from_group, from_topic, from_offset, from_before, to_topic, to_offset, before, row }
    }

    /// Where the message of a dead letter or a redrive is said to lie, after it was mended.
    fn mended_move(state: &mut State, mut entry: Entry) -> Loc {
        state.mend_others(&mut entry, &mut |_, _| None);
        match entry {
            Entry::Moved { row, .. } => loc_of(&row),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_has_its_record_beside_it_finds_it_there() {
        let places = || Ok::<_, ()>(Places::from([(7, NEW)]));
        let rows = vec![row(7, OLD), row(8, OLD)];
        let mut published = Entry::Published { topic: 1, first_offset: 0, before: Sums::default(), rows };
        mend_own(&mut published, places).expect("places");
        let Entry::Published { rows, .. } = published else { panic!("{published:?}") };
        assert_eq!((loc_of(&rows[0]), loc_of(&rows[1])), (NEW, OLD), "the record of 8 is not in this frame");
        let kept = RewrittenDisk { offset: 0, before: Sums::default(), untaken: false, gone: false, row: row(7, OLD) };
        let mut rewritten = Entry::Rewritten { topic: 1, rows: vec![kept] };
        mend_own(&mut rewritten, places).expect("places");
        let Entry::Rewritten { rows, .. } = rewritten else { panic!("{rewritten:?}") };
        assert_eq!(loc_of(&rows[0].row), NEW);
        let mut settled = Entry::Settled { group: 1, offsets: vec![0] };
        mend_own::<()>(&mut settled, || panic!("it has no rows, so nobody asks for places")).expect("nothing to do");
    }

    #[test]
    fn a_message_moved_to_another_topic_is_where_the_state_has_followed_it() {
        let mut state = state(&[7, 8]);
        assert_eq!(mended_move(&mut state, moved(None, 1, 8)), NEW, "by its row");
        assert_eq!(mended_move(&mut state, moved(Some(1), 0, 7)), NEW, "not pending: by its row as well");
        assert_eq!(mended_move(&mut state, moved(None, 0, 8)), OLD, "another message stands there");
        assert_eq!(mended_move(&mut state, moved(None, 5, 8)), OLD, "nothing stands there");
        // Its row may be gone from the topic while the group holds it.
        apply(&mut state, &Entry::PendingKept { group: 1, pending: vec![pending(40, row(9, NEW))] });
        assert_eq!(mended_move(&mut state, moved(Some(1), 40, 9)), NEW, "by what the group holds");
        assert_eq!(mended_move(&mut state, moved(None, 40, 9)), OLD, "a redrive asks no group");
        assert_eq!(mended_move(&mut state, moved(Some(1), 40, 10)), OLD, "the group holds another message");
    }

    #[test]
    fn what_a_group_is_given_is_where_the_state_has_followed_it() {
        let mut state = state(&[7, 8]);
        let all = || vec![pending(0, row(7, OLD)), pending(1, row(6, OLD)), pending(9, row(9, OLD))];
        let progress = Progress::default();
        for mut entry in [
            Entry::Placed { group: 1, progress, pending: all() },
            Entry::PlacedPart { group: 1, part: 0, pending: all() },
            Entry::PendingKept { group: 1, pending: all() },
        ] {
            state.mend_others(&mut entry, &mut |_, _| None);
            let (Entry::Placed { pending, .. }
            | Entry::PlacedPart { pending, .. }
            | Entry::PendingKept { pending, .. }) = &entry
            else {
                panic!("{entry:?}");
            };
            let locs: Vec<Loc> = pending.iter().map(|item| loc_of(&item.row)).collect();
            assert_eq!(locs, [NEW, OLD, OLD], "another message at 1, none at 9: {entry:?}");
        }
        let mut foreign = Entry::PendingKept { group: 5, pending: all() };
        state.mend_others(&mut foreign, &mut |_, _| None);
        assert_eq!(foreign, Entry::PendingKept { group: 5, pending: all() }, "a group that is not known");
    }
}
