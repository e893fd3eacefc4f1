//! The order in which a group gets what it has not been given yet, and who comes first for each key.

use std::collections::BTreeSet;

/// How far a pending message came with its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Not delivered since the group came to its place.
    Unstarted,
    /// Delivered, and held.
    Leased,
    /// Delivered, and given back.
    Returned,
}

/// Whether a message was published with a delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Delayed,
    Plain,
}

/// Messages by due time and offset (0 without a delay); delayed ones come first.
#[derive(Debug, Default)]
pub struct Line {
    delayed: BTreeSet<(u64, u64)>,
    plain: BTreeSet<(u64, u64)>,
}

impl Line {
    pub fn insert(&mut self, at: (u64, u64)) {
        self.part_of(at).insert(at);
    }

    pub fn remove(&mut self, at: (u64, u64)) {
        self.part_of(at).remove(&at);
    }

    fn part_of(&mut self, (due, _): (u64, u64)) -> &mut BTreeSet<(u64, u64)> {
        if due == 0 { &mut self.plain } else { &mut self.delayed }
    }

    /// Those of one kind, in their order.
    pub const fn part(&self, kind: Kind) -> &BTreeSet<(u64, u64)> {
        match kind {
            Kind::Delayed => &self.delayed,
            Kind::Plain => &self.plain,
        }
    }

    fn first(&self) -> Option<(u64, u64)> {
        self.delayed.first().or_else(|| self.plain.first()).copied()
    }

    pub fn len(&self) -> usize {
        self.delayed.len() + self.plain.len()
    }

    pub fn clear(&mut self) {
        self.delayed.clear();
        self.plain.clear();
    }
}

/// The pending messages of one key.
#[derive(Debug, Default)]
pub struct KeyLine {
    started: BTreeSet<u64>,
    leased: usize,
    unstarted: Line,
}

impl KeyLine {
    pub fn insert(&mut self, at: (u64, u64), stage: Stage) {
        match stage {
            Stage::Unstarted => self.unstarted.insert(at),
            Stage::Leased | Stage::Returned => {
                self.started.insert(at.1);
                self.leased += usize::from(stage == Stage::Leased);
            }
        }
    }

    pub fn remove(&mut self, at: (u64, u64), stage: Stage) {
        match stage {
            Stage::Unstarted => self.unstarted.remove(at),
            Stage::Leased | Stage::Returned => {
                self.started.remove(&at.1);
                self.leased -= usize::from(stage == Stage::Leased);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.started.is_empty() && self.unstarted.len() == 0
    }

    /// Whether one was delivered: all that were not wait for it.
    pub fn is_held(&self) -> bool {
        !self.started.is_empty()
    }

    /// The one to be delivered next, if none was delivered.
    pub fn foremost(&self) -> Option<(u64, u64)> {
        if self.is_held() { None } else { self.unstarted.first() }
    }

    /// Whether a returned message comes before all others.
    pub fn is_next(&self, offset: u64) -> bool {
        self.leased == 0 && self.started.first() == Some(&offset)
    }
}
