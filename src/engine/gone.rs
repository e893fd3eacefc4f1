//! Messages without a delay that were given up one by one, as runs in the sums of their topic.
//!
//! A run says which part of the sums nobody will get any more. Neither rows nor offsets are needed for
//! that, so it stays true when rows and records are gone: a gap between the sums of two rows is a run too.

use std::collections::BTreeMap;

use crate::engine::entry::Sums;

/// See the module. Runs never touch or overlap.
#[derive(Debug, Default)]
pub struct Gone {
    /// By the count at which they begin.
    runs: BTreeMap<u64, (Sums, Sums)>,
    total: Sums,
}

impl Gone {
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds what lies between two sums; false if all of it was known.
    pub fn add(&mut self, mut from: Sums, mut to: Sums) -> bool {
        if self.between(from, to).count >= to.since(from).count {
            return false;
        }
        let before = self.runs.range(..from.count).next_back().map(|(_, run)| *run);
        if let Some((start, _)) = before.filter(|(_, end)| end.count >= from.count) {
            from = start;
        }
        let touched: Vec<(Sums, Sums)> = self.runs.range(from.count..=to.count).map(|(_, run)| *run).collect();
        for (start, end) in touched {
            to = if end.count > to.count { end } else { to };
            self.remove(start, end);
        }
        self.put(from, to);
        true
    }

    fn put(&mut self, from: Sums, to: Sums) {
        self.total = self.total.plus(to.since(from));
        self.runs.insert(from.count, (from, to));
    }

    fn remove(&mut self, from: Sums, to: Sums) {
        self.total = self.total.since(to.since(from));
        self.runs.remove(&from.count);
    }

    /// What of it lies between two sums.
    pub fn between(&self, from: Sums, to: Sums) -> Sums {
        let before = self.runs.range(..from.count).next_back();
        let inside = before.into_iter().chain(self.runs.range(from.count..to.count.max(from.count)));
        inside.fold(Sums::default(), |sum, (_, (start, end))| {
            let start = if start.count < from.count { from } else { *start };
            let end = if end.count > to.count { to } else { *end };
            sum.plus(end.since(start))
        })
    }

    /// What of it lies beyond a sum.
    pub fn beyond(&self, from: Sums) -> Sums {
        self.total.since(self.between(Sums::default(), from))
    }

    /// Forgets what nobody asks for any more.
    pub fn forget_below(&mut self, floor: Sums) {
        while let Some((start, end)) = self.runs.first_key_value().map(|(_, run)| *run) {
            if start.count >= floor.count {
                return;
            }
            self.remove(start, end);
            if end.count > floor.count {
                self.put(floor, end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Limits;
    use crate::engine::entry::{Entry, GoneDisk, GroupDisk, Progress, RowDisk, TopicDisk};
    use crate::engine::state::State;
    use crate::model::{
        AccountName, GroupId, GroupName, GroupSettings, Lsn, Millis, TopicId, TopicName, TopicSettings,
    };

    fn at(count: u64) -> Sums {
        Sums { count, bytes: count * 10 }
    }

    #[test]
    fn runs_merge_and_nothing_counts_twice() {
        let mut gone = Gone::default();
        for (from, to) in [(4, 5), (6, 7), (1, 2), (5, 6), (4, 5)] {
            gone.add(at(from), at(to));
        }
        assert_eq!(gone.runs.len(), 2);
        assert!(!gone.add(at(4), at(7)) && gone.add(at(0), at(5)));
        assert_eq!((gone.runs.len(), gone.total), (1, at(7)));
    }

    /// A group has passed two of four messages that were given up one by one; its cursor stands behind them, and the
    /// sums that it knows before them. Then the topic is trimmed up to there.
    #[test]
    fn a_trim_that_ends_among_messages_that_are_gone_counts_none_of_them_again() {
        let mut state = State::new(Limits::default());
        let mut apply = |entry: Entry| state.apply(&entry, Lsn::new(1), &mut |_, _| None);
        let (account, name) = (AccountName::standard(), TopicName::parse("t").expect("a name"));
        let settings = TopicSettings::default();
        apply(Entry::TopicPut(TopicDisk::new(1, &account, TopicId::new(1), &name, Millis::ZERO, &settings)));
        let (name, settings) = (GroupName::parse("g").expect("a name"), GroupSettings::default());
        apply(Entry::GroupPut(GroupDisk::new(1, 1, GroupId::new(1), &name, Millis::ZERO, &settings)));
        let rows = (0..4).map(|id| RowDisk { id: id + 1, body_bytes: 10, ..RowDisk::unknown() }).collect();
        apply(Entry::Published { topic: 1, first_offset: 0, before: at(0), rows });
        let lost = [1, 2].map(|offset| GoneDisk { offset, before: at(offset), body_bytes: 10, delayed: false });
        apply(Entry::Gone { topic: 1, items: lost.to_vec(), leased_too: false });
        let progress = Progress { cursor: 3, plain: at(1), positioned: true, ..Progress::default() };
        apply(Entry::Progressed { group: 1, progress });
        let ahead = |state: &State| {
            let group = &state.groups[&1];
            state.topics[&1].plain.since(group.progress.plain).since(group.gone_ahead)
        };
        assert_eq!(ahead(&state), at(1), "the last one");
        state.apply(&Entry::Trimmed { topic: 1, head: 3, plain: at(3) }, Lsn::new(2), &mut |_, _| None);
        assert_eq!(ahead(&state), at(1), "the trim took what nobody counted any more");
        state.recount(&mut |_, _| None);
        assert_eq!(ahead(&state), at(1), "after a restart as well");
        assert_eq!(state.groups[&1].progress.cursor, 3, "a trim moves no cursor back");
    }

    #[test]
    fn every_part_counts_as_the_single_messages_in_it() {
        for mask in 0u32..256 {
            let mut gone = Gone::default();
            let lost = |place: u64| mask >> place & 1 == 1;
            (0..8).filter(|place| lost(*place)).for_each(|place| assert!(gone.add(at(place), at(place + 1))));
            for from in 0..=8 {
                for to in from..=8 {
                    assert_eq!(
                        gone.between(at(from), at(to)),
                        at((from..to).filter(|place| lost(*place)).count() as u64)
                    );
                }
                assert_eq!(gone.beyond(at(from)), gone.between(at(from), at(8)));
            }
            gone.forget_below(at(3));
            assert_eq!(gone.beyond(at(0)), at((3..8).filter(|place| lost(*place)).count() as u64), "{mask:b}");
        }
    }
}
