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
