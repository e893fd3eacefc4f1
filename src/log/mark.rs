//! The mark of a clean stop: `CLEAN` in the data directory. FORMAT.md, "Clean mark".
//!
//! It says that everything up to its lsn was durable. That stays true after the next start, so it is
//! replaced and never removed.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, read_file};
use crate::log::{Epoch, Fatal};
use crate::model::Lsn;

const MAGIC: [u8; 8] = *b"WNDLCLEN";
const MARK_BYTES: usize = 36;
const NAME: &str = "CLEAN";

/// What a clean stop left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanMark {
    /// The life that ended.
    pub epoch: Epoch,
    /// Everything up to this lsn was durable.
    pub last: Lsn,
}

/// Why the mark could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// It is not as it was written.
    #[error("{} is damaged at byte {at_byte}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        at_byte: u64,
    },
    /// The system refused.
    #[error("could not read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads the mark in `data_dir`; `None` if the server never stopped cleanly.
pub fn read_mark(disk: &dyn Disk, data_dir: &Path) -> Result<Option<CleanMark>, MarkError> {
    let path = data_dir.join(NAME);
    let refused = |source| MarkError::Io { path: path.clone(), source };
    if !disk.exists(&path).map_err(refused)? {
        return Ok(None);
    }
    let bytes = match read_file(disk, &path, 4096) {
        Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(refused(error)),
        bytes => bytes.unwrap_or_default(),
    };
    decode(&bytes).map(Some).ok_or(MarkError::Damaged { path, at_byte: 0 })
}

/// Puts `mark` in `data_dir`: durable on return; a crash leaves the old mark or this one. `random` names
/// a temporary file that was never there before.
pub fn write_mark(disk: &dyn Disk, data_dir: &Path, mark: CleanMark, random: u64) -> Result<(), Fatal> {
    let (path, temporary) = (data_dir.join(NAME), data_dir.join(format!("{NAME}-{random:016x}.tmp")));
    let write = || {
        let file = disk.create(&temporary)?;
        file.write_at(0, &encode(mark))?;
        file.sync_data()?;
        disk.rename(&temporary, &path)?;
        disk.sync_dir(data_dir)
    };
    write().map_err(|source| Fatal::new("write the mark of a clean stop", &path, source))
}

fn encode(mark: CleanMark) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for number in [mark.epoch.counter, mark.epoch.random, mark.last.get()] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<CleanMark> {
    let bytes: &[u8; MARK_BYTES] = bytes.try_into().ok()?;
    let (covered, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
        return None;
    }
    let numbers = covered.strip_prefix(&MAGIC)?;
    let number = |at: usize| numbers.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    Some(CleanMark { epoch: Epoch { counter: number(0)?, random: number(8)? }, last: Lsn::new(number(16)?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;

    #[test]
    fn a_mark_reads_back_and_every_flipped_bit_of_it_is_named() {
        let (disk, dir) = (SimDisk::new(1), Path::new("/"));
        assert_eq!(read_mark(&disk, dir).unwrap(), None);
        let first = CleanMark { epoch: Epoch { counter: 1, random: 9 }, last: Lsn::new(77) };
        write_mark(&disk, dir, first, 1).unwrap();
        let second = CleanMark { last: Lsn::new(78), ..first };
        write_mark(&disk, dir, second, 2).unwrap();
        assert_eq!(read_mark(&disk, dir).unwrap(), Some(second));
        for seed in 0..50 {
            assert_eq!(read_mark(&disk.crash(seed), dir).unwrap(), Some(second));
        }
        for byte in 0..MARK_BYTES {
            assert!(disk.flip(&dir.join(NAME), byte, 3));
            assert!(matches!(read_mark(&disk, dir), Err(MarkError::Damaged { .. })));
            assert!(disk.flip(&dir.join(NAME), byte, 3));
        }
    }
}
