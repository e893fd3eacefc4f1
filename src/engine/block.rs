//! A block: 512 places of a topic, in columns, because most messages of a block are alike. A plain one
//! takes 25 to 29 bytes.
//!
//! As the index keeps it: docs/FORMAT.md, "Index values".

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};

use crate::engine::column::{Column, WideColumn};
use crate::engine::entry::{OriginDisk, RowDisk, Sums};
use crate::engine::rows::Row;
use crate::log::Loc;
use crate::planted::{Defect, planted};

/// What is known of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// Not loaded from the index.
    Unknown,
    /// Not loaded, but known to be given up.
    UnknownGone,
    /// Nothing is there any more.
    Absent,
    /// A message.
    Live,
    /// A message that was given up for every group.
    Gone,
}

impl Cell {
    const fn is_unknown(self) -> bool {
        matches!(self, Self::Unknown | Self::UnknownGone)
    }

    const fn has_row(self) -> bool {
        matches!(self, Self::Live | Self::Gone)
    }
}

/// Up to 512 places; those behind the end have not been published.
#[derive(Debug, Clone, Default)]
pub struct Block {
    cells: Vec<Cell>,
    /// How many of them are not known.
    unknown: usize,
    ids: WideColumn,
    keys: WideColumn,
    segments: Column,
    positions: Column,
    lengths: Column,
    /// Of the length, what is not body.
    head_bytes: Column,
    /// The sums before each, and of the count what the place does not tell already.
    counts: Column,
    bytes: Column,
    tags: Column,
    dues: Column,
    moved_at: Column,
    origins: BTreeMap<usize, Arc<OriginDisk>>,
}

/// A block as the index keeps it: only places that hold a row.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BlockDisk {
    rows: Vec<StoredRow>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredRow {
    place: u16,
    gone: bool,
    before: Sums,
    row: RowDisk,
}

impl Block {
    /// What is known of a place.
    pub fn cell(&self, place: usize) -> Cell {
        self.cells.get(place).copied().unwrap_or(Cell::Unknown)
    }

    /// The row of a place that has one.
    pub fn row(&self, place: usize) -> Row {
        let length = self.lengths.get(place) as u32;
        Row {
            id: self.ids.get(place),
            key: self.keys.get(place),
            loc: Loc { segment: self.segments.get(place), position: self.positions.get(place) as u32, length },
            before: Sums { count: self.counts.get(place).wrapping_add(place as u64), bytes: self.bytes.get(place) },
            tag: self.tags.get(place),
            due: self.dues.get(place),
            body_bytes: length.wrapping_sub(self.head_bytes.get(place) as u32),
            origin: self.origins.get(&place).cloned(),
            moved_at: self.moved_at.get(place),
        }
    }

    /// Puts a message at a place.
    pub fn put(&mut self, place: usize, row: &Row, gone: bool) {
        self.set_cell(place, if gone { Cell::Gone } else { Cell::Live });
        self.ids.set(place, row.id);
        self.keys.set(place, row.key);
        self.segments.set(place, row.loc.segment);
        self.positions.set(place, u64::from(row.loc.position));
        self.lengths.set(place, u64::from(row.loc.length));
        self.head_bytes.set(place, u64::from(row.loc.length.wrapping_sub(row.body_bytes)));
        self.counts.set(place, row.before.count.wrapping_sub(place as u64));
        self.bytes.set(place, row.before.bytes);
        self.tags.set(place, row.tag);
        self.dues.set(place, row.due);
        self.moved_at.set(place, row.moved_at);
        match &row.origin {
            Some(origin) => self.origins.insert(place, origin.clone()),
            None => self.origins.remove(&place),
        };
    }

    /// The message at a place was given up for every group.
    pub fn give_up(&mut self, place: usize) {
        match self.cell(place) {
            Cell::Live => self.set_cell(place, Cell::Gone),
            Cell::Unknown => self.set_cell(place, Cell::UnknownGone),
            Cell::Gone | Cell::UnknownGone | Cell::Absent => {}
        }
    }

    /// Nothing is left at a place, whatever the index holds there.
    pub fn clear(&mut self, place: usize) {
        self.set_cell(place, Cell::Absent);
        self.origins.remove(&place);
    }

    fn set_cell(&mut self, place: usize, cell: Cell) {
        self.grow(place + 1);
        self.unknown += usize::from(cell.is_unknown());
        self.unknown -= usize::from(self.cells[place].is_unknown());
        self.cells[place] = cell;
    }

    fn grow(&mut self, count: usize) {
        if self.cells.len() < count {
            self.unknown += count - self.cells.len();
            self.cells.resize(count, Cell::Unknown);
        }
    }

    /// Whether every place up to `count` is known.
    pub fn is_complete(&self, count: usize) -> bool {
        self.cells.len() >= count && self.unknown == 0
    }

    /// Fills what is unknown from the index's version. What is known is newer and stays.
    pub fn fill(&mut self, stored: &BlockDisk, count: usize) {
        self.grow(count);
        for stored in &stored.rows {
            let place = usize::from(stored.place);
            let cell = self.cells.get(place).copied().filter(|cell| cell.is_unknown());
            if let Some(cell) = cell {
                let row = Row::from_disk(&stored.row, stored.before);
                self.put(place, &row, stored.gone || cell == Cell::UnknownGone);
            }
        }
        for cell in &mut self.cells {
            if cell.is_unknown() {
                *cell = Cell::Absent;
            }
        }
        self.unknown = 0;
    }
}

/// As [`BlockDisk`], row by row. Only for complete blocks.
impl Serialize for Block {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let off = usize::from(planted(Defect::BlockOffByOne));
        let with_row = || self.cells.iter().enumerate().skip(off).filter(|(_, cell)| cell.has_row());
        let mut rows = serializer.serialize_seq(Some(with_row().count()))?;
        for (place, cell) in with_row() {
            let row = self.row(place);
            let gone = *cell == Cell::Gone;
            let stored = StoredRow { place: (place - off) as u16, gone, before: row.before, row: row.to_disk() };
            rows.serialize_element(&stored)?;
        }
        rows.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::engine::rows::BLOCK_ROWS;
    use proptest::prelude::*;

    fn row() -> impl Strategy<Value = Row> {
        let few = |high: u64| prop_oneof![Just(0), Just(high), any::<u64>()];
        let loc = (prop_oneof![Just(5u64), any::<u64>()], any::<u32>(), prop_oneof![Just(300u32), any::<u32>()]);
        let sums = (few(1 << 40), few(1 << 50));
        (any::<u128>(), prop_oneof![Just(0), any::<u128>()], loc, sums, few(9), few(1 << 41), any::<u32>(), few(7))
            .prop_map(|(id, key, (segment, position, length), (count, bytes), tag, due, body_bytes, moved_at)| Row {
                id,
                key,
                loc: Loc { segment, position, length },
                before: Sums { count, bytes },
                tag,
                due,
                body_bytes,
                origin: (moved_at != 0).then(|| {
                    Arc::new(OriginDisk {
                        topic: "t".to_owned(),
                        group: "g".to_owned(),
                        offset: moved_at,
                        attempts: 3,
                        reason: "r".to_owned(),
                        moved_at,
                    })
                }),
                moved_at,
            })
    }

    proptest! {
        #[test]
        fn a_block_gives_back_its_rows_also_after_a_stay_in_the_index(
            puts in prop::collection::vec((0usize..40, row(), any::<bool>()), 1..60),
            given_up in prop::collection::vec(0usize..40, 0..10),
        ) {
            let mut block = Block::default();
            let mut model: [Option<(Row, bool)>; 40] = [const { None }; 40];
            for (place, row, gone) in puts {
                block.put(place, &row, gone);
                model[place] = Some((row, gone));
            }
            block.fill(&BlockDisk::default(), 40);
            for place in given_up {
                block.give_up(place);
                if let Some((_, gone)) = &mut model[place] {
                    *gone = true;
                }
            }
            let stored: BlockDisk = codec::decode(&codec::encode(&block)).expect("a block");
            prop_assert_eq!(&codec::encode(&stored), &codec::encode(&block));
            let mut back = Block::default();
            back.fill(&stored, 40);
            for block in [block, back] {
                prop_assert!(block.is_complete(40));
                for (place, known) in model.iter().enumerate() {
                    match known {
                        None => prop_assert_eq!(block.cell(place), Cell::Absent),
                        Some((row, gone)) => {
                            prop_assert_eq!(block.cell(place), if *gone { Cell::Gone } else { Cell::Live });
                            prop_assert_eq!(&block.row(place), row);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_known_of_a_place_stays_when_the_rest_is_loaded() {
        let row = |id| Row::from_disk(&RowDisk { id, ..RowDisk::unknown() }, Sums::default());
        let mut old = Block::default();
        (0..4).for_each(|place| old.put(place, &row(place as u128 + 1), place == 3));
        let stored: BlockDisk = codec::decode(&codec::encode(&old)).expect("a block");
        let mut block = Block::default();
        block.put(1, &row(77), false);
        block.give_up(2);
        assert!(!block.is_complete(3));
        block.fill(&stored, 6);
        let seen: Vec<(Cell, u128)> = (0..6).map(|place| (block.cell(place), block.row(place).id)).collect();
        let absent = (Cell::Absent, 0);
        assert_eq!(seen, [(Cell::Live, 1), (Cell::Live, 77), (Cell::Gone, 3), (Cell::Gone, 4), absent, absent]);
    }

    #[test]
    fn plain_messages_take_little_room() {
        let mut block = Block::default();
        for place in 0..BLOCK_ROWS {
            let loc = Loc { segment: 9, position: place as u32 * 256, length: 240 };
            let before = Sums { count: 1_000_000 + place, bytes: 200_000_000 + place * 200 };
            let disk = RowDisk { id: 1 << 90, body_bytes: 200, ..RowDisk::unknown() };
            block.put(place as usize, &Row { loc, ..Row::from_disk(&disk, before) }, false);
        }
        let same = [&block.segments, &block.lengths, &block.head_bytes, &block.counts, &block.tags, &block.dues];
        assert!(same.iter().all(|column| matches!(column, Column::Same(_))), "{block:?}");
        assert!([&block.positions, &block.bytes].iter().all(|column| matches!(column, Column::Near { .. })));
    }
}
