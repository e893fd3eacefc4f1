//! The delayed messages of a topic that some group has not taken yet, in order of offset and of time.
//!
//! They may be a million and wait for days, so that each takes 12 bytes here; only those of the next minutes
//! stand in order of time one by one. Of the rest it is known which pieces hold some that are due in which
//! window of time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};

use crate::engine::rows::BLOCK_ROWS;

/// Offsets of one piece: what a removal may have to move is 12 bytes each.
const PIECE_ROWS: u64 = 8192;
/// Milliseconds of one window of time.
const WINDOW_MS: u64 = 600_000;

/// One message: its offset within the piece, its due time in ms (48 bits), its body bytes.
#[derive(Debug, Clone, Copy)]
struct Packed {
    at: u16,
    due_high: u16,
    due_low: u32,
    body_bytes: u32,
}

const _: () = assert!(size_of::<Packed>() == 12 && PIECE_ROWS <= 1 << 16);

impl Packed {
    const fn new(offset: u64, due: u64, body_bytes: u32) -> Self {
        Self { at: (offset % PIECE_ROWS) as u16, due_high: (due >> 32) as u16, due_low: due as u32, body_bytes }
    }

    const fn due(self) -> u64 {
        (self.due_high as u64) << 32 | self.due_low as u64
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Delayed {
    /// By offset divided by [`PIECE_ROWS`]; none is empty.
    pieces: BTreeMap<u64, Vec<Packed>>,
    /// Due before the horizon: due time and offset.
    near: BTreeSet<(u64, u64)>,
    /// How many of a piece are due in a window behind the horizon, by window and piece; none is zero.
    far: BTreeMap<(u64, u64), u32>,
    /// In windows.
    horizon: u64,
    len: usize,
    bytes: u64,
    /// Chunks of 512 offsets that changed since the last checkpoint.
    pub dirty_chunks: BTreeSet<u64>,
}

impl Delayed {
    /// Takes one in; `false`: it was there.
    pub fn insert(&mut self, offset: u64, due: u64, body_bytes: u32) -> bool {
        let piece = offset / PIECE_ROWS;
        if !self.pieces.contains_key(&piece)
            && let Some(mut last) = self.pieces.last_entry()
        {
            last.get_mut().shrink_to_fit();
        }
        let rows = self.pieces.entry(piece).or_default();
        let Err(place) = find(rows, offset) else { return false };
        rows.insert(place, Packed::new(offset, due, body_bytes));
        if due / WINDOW_MS < self.horizon {
            self.near.insert((due, offset));
        } else {
            *self.far.entry((due / WINDOW_MS, piece)).or_default() += 1;
        }
        self.len += 1;
        self.bytes += u64::from(body_bytes);
        self.dirty_chunks.insert(offset / BLOCK_ROWS);
        true
    }

    /// Takes one out: its due time and body bytes.
    pub fn remove(&mut self, offset: u64) -> Option<(u64, u32)> {
        let piece = offset / PIECE_ROWS;
        let rows = self.pieces.get_mut(&piece)?;
        let place = find(rows, offset).ok()?;
        let row = rows.remove(place);
        if rows.is_empty() {
            self.pieces.remove(&piece);
        }
        let (due, window) = (row.due(), (row.due() / WINDOW_MS, piece));
        if window.0 < self.horizon {
            self.near.remove(&(due, offset));
        } else if let Some(count) = self.far.get_mut(&window) {
            *count -= 1;
            if *count == 0 {
                self.far.remove(&window);
            }
        }
        self.len -= 1;
        self.bytes -= u64::from(row.body_bytes);
        self.dirty_chunks.insert(offset / BLOCK_ROWS);
        Some((due, row.body_bytes))
    }

    /// Due time and body bytes of one.
    pub fn get(&self, offset: u64) -> Option<(u64, u32)> {
        let rows = self.pieces.get(&(offset / PIECE_ROWS))?;
        find(rows, offset).ok().map(|place| (rows[place].due(), rows[place].body_bytes))
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of all bodies.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts what is due in this window of time or the next in order, before it is asked for.
    pub fn look_ahead(&mut self, now: u64) {
        let horizon = now / WINDOW_MS + 2;
        if horizon <= self.horizon {
            return;
        }
        let far = self.far.split_off(&(horizon, 0));
        let pieces: BTreeSet<u64> = std::mem::replace(&mut self.far, far).into_keys().map(|(_, piece)| piece).collect();
        let windows = self.horizon..horizon;
        for piece in pieces {
            let rows = self.rows_of(piece).filter(|(_, due, _)| windows.contains(&(due / WINDOW_MS)));
            let due: Vec<(u64, u64)> = rows.map(|(offset, due, _)| (due, offset)).collect();
            self.near.extend(due);
        }
        self.horizon = horizon;
    }

    /// The earliest due time after `from`, or an earlier time by which it will be known.
    pub fn next_due(&self, from: u64) -> Option<u64> {
        let near = self.near.range((Excluded((from, u64::MAX)), Unbounded)).next().map(|(due, _)| *due);
        near.or_else(|| self.far.keys().next().map(|(window, _)| window * WINDOW_MS))
    }

    /// In order of time, after `from` and due at `upto` at the latest: due time and offset. Behind what was
    /// looked ahead for it costs a look at whole pieces.
    pub fn between(&self, from: (u64, u64), upto: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let near = self.near.range((Excluded(from), Unbounded)).copied();
        let mut last = None;
        let far = self.far.keys().map(|(window, _)| *window).take_while(move |window| window * WINDOW_MS <= upto);
        let windows = far.filter(move |window| last.replace(*window) != Some(*window));
        let behind = windows.flat_map(|window| self.due_in(window)).filter(move |at| *at > from);
        near.chain(behind).take_while(move |(due, _)| *due <= upto)
    }

    fn due_in(&self, window: u64) -> Vec<(u64, u64)> {
        let pieces = self.far.range((window, 0)..=(window, u64::MAX)).map(|((_, piece), _)| *piece);
        let rows = pieces.flat_map(|piece| self.rows_of(piece)).filter(|(_, due, _)| due / WINDOW_MS == window);
        let mut due: Vec<(u64, u64)> = rows.map(|(offset, due, _)| (due, offset)).collect();
        due.sort_unstable();
        due
    }

    fn rows_of(&self, piece: u64) -> impl Iterator<Item = (u64, u64, u32)> + '_ {
        self.pieces.get(&piece).into_iter().flatten().map(move |row| unpack(piece, *row))
    }

    pub fn first_offset(&self) -> Option<u64> {
        self.by_offset().next().map(|(offset, ..)| offset)
    }

    /// In order of offset: offset, due time, body bytes.
    pub fn by_offset(&self) -> impl Iterator<Item = (u64, u64, u32)> + '_ {
        self.from(0)
    }

    fn from(&self, offset: u64) -> impl Iterator<Item = (u64, u64, u32)> + '_ {
        let pieces = self.pieces.range((Included(offset / PIECE_ROWS), Unbounded));
        let rows = pieces.flat_map(|(piece, rows)| rows.iter().map(|row| unpack(*piece, *row)));
        rows.skip_while(move |(at, ..)| *at < offset)
    }

    /// Those of one chunk, as the index keeps them.
    pub fn chunk(&self, chunk: u64) -> Vec<(u64, u64, u32)> {
        self.from(chunk * BLOCK_ROWS).take_while(|(offset, ..)| *offset < (chunk + 1) * BLOCK_ROWS).collect()
    }

    /// Offsets below `head`.
    pub fn below(&self, head: u64) -> Vec<u64> {
        self.by_offset().map(|(offset, ..)| offset).take_while(|offset| *offset < head).collect()
    }
}

fn find(rows: &[Packed], offset: u64) -> Result<usize, usize> {
    let at = (offset % PIECE_ROWS) as u16;
    if rows.last().is_none_or(|last| last.at < at) {
        return Err(rows.len());
    }
    rows.binary_search_by_key(&at, |row| row.at)
}

const fn unpack(piece: u64, row: Packed) -> (u64, u64, u32) {
    (piece * PIECE_ROWS + row.at as u64, row.due(), row.body_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert { offset: u64, due: u64 },
        Remove { offset: u64 },
        LookAhead { now: u64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let offset = prop_oneof![0..40u64, 8_180..8_200u64, 0..70_000u64];
        let due = prop_oneof![1..50u64, 0..40 * WINDOW_MS, Just((1 << 48) - 1)];
        let step = prop_oneof![
            5 => (offset.clone(), due.clone()).prop_map(|(offset, due)| Step::Insert { offset, due }),
            2 => offset.prop_map(|offset| Step::Remove { offset }),
            1 => due.prop_map(|now| Step::LookAhead { now }),
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn both_orders_are_those_of_plain_maps(steps in steps(), from in (0..40 * WINDOW_MS, 0..70_000u64)) {
            let mut delayed = Delayed::default();
            let mut plain: BTreeMap<u64, (u64, u32)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Insert { offset, due } => {
                        let body_bytes = (offset ^ due) as u32;
                        let new = !plain.contains_key(&offset);
                        plain.entry(offset).or_insert((due, body_bytes));
                        prop_assert_eq!(delayed.insert(offset, due, body_bytes), new);
                    }
                    Step::Remove { offset } => prop_assert_eq!(delayed.remove(offset), plain.remove(&offset)),
                    Step::LookAhead { now } => delayed.look_ahead(now),
                }
                let by_due: BTreeSet<(u64, u64)> = plain.iter().map(|(offset, (due, _))| (*due, *offset)).collect();
                let by_offset: Vec<_> = plain.iter().map(|(offset, (due, bytes))| (*offset, *due, *bytes)).collect();
                prop_assert_eq!(delayed.by_offset().collect::<Vec<_>>(), by_offset);
                for upto in [from.0, from.0 + WINDOW_MS, u64::MAX] {
                    let between = by_due.range((Excluded(from), Included((upto, u64::MAX)))).copied();
                    prop_assert!(delayed.between(from, upto).eq(between));
                }
                let next = by_due.range((Excluded((from.0, u64::MAX)), Unbounded)).next().map(|(due, _)| *due);
                prop_assert!(delayed.next_due(from.0) <= next || next.is_none());
                prop_assert!(next.is_none() || delayed.next_due(from.0).is_some());
                prop_assert_eq!(delayed.first_offset(), plain.keys().next().copied());
                prop_assert_eq!(delayed.below(100), plain.range(..100).map(|(offset, _)| *offset).collect::<Vec<_>>());
                let chunk: Vec<u64> = plain.range(7_680..8_192).map(|(offset, _)| *offset).collect();
                prop_assert_eq!(delayed.chunk(15).iter().map(|(offset, ..)| *offset).collect::<Vec<_>>(), chunk);
                for offset in [0, 10, 8_191, 8_192] {
                    prop_assert_eq!(delayed.get(offset), plain.get(&offset).copied());
                }
                prop_assert_eq!(delayed.len(), plain.len());
                prop_assert_eq!(delayed.bytes(), plain.values().map(|(_, bytes)| u64::from(*bytes)).sum::<u64>());
            }
        }
    }

    #[test]
    fn what_is_known_of_the_next_due_time_comes_no_later_than_it() {
        let mut delayed = Delayed::default();
        delayed.look_ahead(0);
        let due = 10 * WINDOW_MS + 7;
        delayed.insert(3, due, 1);
        let known = delayed.next_due(0).unwrap_or_default();
        assert_eq!(known, 10 * WINDOW_MS, "its window");
        delayed.look_ahead(known);
        assert_eq!(delayed.next_due(known), Some(due));
        assert_eq!(delayed.next_due(due), None);
    }

    #[test]
    fn a_message_far_ahead_takes_little_memory() {
        let mut delayed = Delayed::default();
        for offset in 0..100_000u64 {
            delayed.insert(offset, 100 * WINDOW_MS + offset * 7_919 % (144 * WINDOW_MS), 200);
        }
        let held: usize = delayed.pieces.values().map(|rows| rows.capacity() * size_of::<Packed>()).sum();
        let known = delayed.far.len() * size_of::<((u64, u64), u32)>() * 2;
        assert!(delayed.near.is_empty());
        assert!(held + known < 100_000 * 16, "{held} + {known} bytes for 100,000 messages");
    }
}
