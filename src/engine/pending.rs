//! The pending messages of a group, in pieces that a checkpoint shares with the writer: it encodes them beside the
//! writer's turns, which copy a piece only when they change it meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::entry::{PendingDisk, PendingState};
use crate::engine::line::Stage;
use crate::engine::rows::{BLOCK_ROWS, Row};
use crate::model::Lsn;

/// Offsets of one piece: what a change may have to move or copy.
const PIECE_ROWS: u64 = 64;
const _: () = assert!(BLOCK_ROWS.is_multiple_of(PIECE_ROWS));

/// A message below the cursor (or taken from the delayed ones) that the group has not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub row: Row,
    pub attempt: u32,
    /// Of the last lease; 0 before the first.
    pub lease: u64,
    pub handle: u128,
    pub state: PendingState,
    pub superseded: bool,
    /// The entry that last said all of this: before its segment goes, it is said again.
    pub said_at: Lsn,
}

impl Pending {
    pub fn to_disk(&self, offset: u64) -> PendingDisk {
        PendingDisk {
            offset,
            row: self.row.to_disk(),
            attempt: self.attempt,
            lease: self.lease,
            handle: self.handle,
            state: self.state,
            superseded: self.superseded,
        }
    }

    pub fn from_disk(disk: &PendingDisk, said_at: Lsn) -> Self {
        Self {
            row: Row::from_disk(&disk.row, Default::default()),
            attempt: disk.attempt,
            lease: disk.lease,
            handle: disk.handle,
            state: disk.state,
            superseded: disk.superseded,
            said_at,
        }
    }

    pub const fn stage(&self) -> Stage {
        match self.state {
            _ if self.attempt == 0 => Stage::Unstarted,
            PendingState::Leased { .. } => Stage::Leased,
            PendingState::Ready | PendingState::Waiting { .. } | PendingState::Withheld => Stage::Returned,
        }
    }
}

/// In order of offsets.
type Piece = Vec<(u64, Pending)>;

/// See the module.
#[derive(Debug, Default)]
pub struct PendingSet {
    /// By offset divided by [`PIECE_ROWS`]; none is empty.
    pieces: BTreeMap<u64, Arc<Piece>>,
    len: usize,
}

impl PendingSet {
    pub fn get(&self, offset: u64) -> Option<&Pending> {
        let piece = self.pieces.get(&(offset / PIECE_ROWS))?;
        find(piece, offset).ok().map(|place| &piece[place].1)
    }

    pub fn get_mut(&mut self, offset: u64) -> Option<&mut Pending> {
        let piece = self.pieces.get_mut(&(offset / PIECE_ROWS))?;
        let place = find(piece, offset).ok()?;
        Some(&mut Arc::make_mut(piece)[place].1)
    }

    /// Puts it there, in the place of what was.
    pub fn insert(&mut self, offset: u64, pending: Pending) {
        let piece = Arc::make_mut(self.pieces.entry(offset / PIECE_ROWS).or_default());
        match find(piece, offset) {
            Ok(place) => piece[place].1 = pending,
            Err(place) => {
                piece.insert(place, (offset, pending));
                self.len += 1;
            }
        }
    }

    pub fn remove(&mut self, offset: u64) -> Option<Pending> {
        let number = offset / PIECE_ROWS;
        let piece = self.pieces.get_mut(&number)?;
        let place = find(piece, offset).ok()?;
        let rows = Arc::make_mut(piece);
        let (_, old) = rows.remove(place);
        if rows.is_empty() {
            self.pieces.remove(&number);
        } else if rows.len() * 2 <= rows.capacity() {
            // What stays behind for long takes no more than it needs.
            rows.shrink_to_fit();
        }
        self.len -= 1;
        Some(old)
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Those at `from` and behind, in order.
    pub fn range(&self, from: u64) -> impl Iterator<Item = (u64, &Pending)> {
        let pieces = self.pieces.range(from / PIECE_ROWS..).flat_map(|(_, piece)| piece.iter());
        pieces.skip_while(move |(offset, _)| *offset < from).map(|(offset, pending)| (*offset, pending))
    }

    /// The chunks of 512 offsets in which there are some; one may come more than once.
    pub fn chunks(&self) -> impl Iterator<Item = u64> {
        self.pieces.keys().map(|piece| piece * PIECE_ROWS / BLOCK_ROWS)
    }

    /// One chunk of 512 offsets as it is now.
    pub fn freeze(&self, chunk: u64) -> FrozenPendings {
        let first = chunk * BLOCK_ROWS / PIECE_ROWS;
        let pieces = self.pieces.range(first..first + BLOCK_ROWS / PIECE_ROWS);
        FrozenPendings { chunk, pieces: pieces.map(|(_, piece)| piece.clone()).collect() }
    }
}

fn find(piece: &Piece, offset: u64) -> Result<usize, usize> {
    piece.binary_search_by_key(&offset, |(at, _)| *at)
}

/// The pending messages of one chunk of 512 offsets, whatever becomes of them meanwhile.
#[derive(Debug)]
pub struct FrozenPendings {
    pub chunk: u64,
    pieces: Vec<Arc<Piece>>,
}

impl FrozenPendings {
    /// As the index keeps them.
    pub fn to_disk(&self) -> Vec<PendingDisk> {
        self.pieces.iter().flat_map(|piece| piece.iter()).map(|(offset, pending)| pending.to_disk(*offset)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::entry::RowDisk;

    fn pending(attempt: u32) -> Pending {
        let row = Row::from_disk(&RowDisk::unknown(), Default::default());
        let state = PendingState::Ready;
        Pending { row, attempt, lease: 0, handle: 0, state, superseded: false, said_at: Lsn::NONE }
    }

    fn attempts(frozen: &FrozenPendings) -> Vec<(u64, u32)> {
        frozen.to_disk().iter().map(|kept| (kept.offset, kept.attempt)).collect()
    }

    #[test]
    fn it_does_as_a_map_would() {
        let (mut set, mut map) = (PendingSet::default(), BTreeMap::new());
        // A walk over offsets of some chunks, forth and back.
        for step in 0..4_000_u64 {
            let offset = step * 37 % 1_500;
            if step % 3 == 2 {
                let gone = set.remove(offset).map(|old| old.attempt);
                assert_eq!(gone, map.remove(&offset), "{offset}");
            } else {
                set.insert(offset, pending(step as u32));
                map.insert(offset, step as u32);
            }
            assert_eq!(set.len(), map.len());
        }
        for from in [0, 1, 63, 64, 500, 511, 512, 1_499, 1_500, 9_999] {
            let seen: Vec<(u64, u32)> = set.range(from).map(|(offset, pending)| (offset, pending.attempt)).collect();
            assert_eq!(seen, map.range(from..).map(|(offset, attempt)| (*offset, *attempt)).collect::<Vec<_>>());
        }
        for chunk in 0..4 {
            let kept: Vec<(u64, u32)> =
                map.range(chunk * 512..(chunk + 1) * 512).map(|(offset, attempt)| (*offset, *attempt)).collect();
            assert_eq!(attempts(&set.freeze(chunk)), kept);
            assert_eq!(set.chunks().any(|with| with == chunk), !kept.is_empty());
        }
    }

    #[test]
    fn what_stays_behind_takes_little() {
        let mut set = PendingSet::default();
        (0..PIECE_ROWS).for_each(|offset| set.insert(offset, pending(1)));
        (0..PIECE_ROWS).filter(|offset| offset % 10 != 0).for_each(|offset| drop(set.remove(offset)));
        assert_eq!(set.len(), 7);
        assert!(set.pieces[&0].capacity() < 2 * set.len(), "{}", set.pieces[&0].capacity());
    }

    #[test]
    fn what_was_frozen_stays_as_it_was() {
        let mut set = PendingSet::default();
        (0..600).for_each(|offset| set.insert(offset, pending(1)));
        let frozen = set.freeze(0);
        set.insert(3, pending(2));
        set.get_mut(4).expect("it is there").attempt = 9;
        set.remove(5);
        set.insert(600, pending(1));
        assert_eq!(attempts(&frozen), (0..512).map(|offset| (offset, 1)).collect::<Vec<_>>());
        assert_eq!(attempts(&set.freeze(0))[3..6], [(3, 2), (4, 9), (6, 1)]);
        set.clear();
        assert_eq!((set.len(), attempts(&set.freeze(0)).len()), (0, 0));
    }
}
