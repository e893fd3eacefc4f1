//! The name of the newest segment, told beside the segments: `newest` in the log directory. FORMAT.md, "The newest
//! segment".
//!
//! Whatever is missing in the middle of a log is missed by what follows it. Nothing follows the last segment: if its
//! file goes, only this tells that there was one. Written behind the segment, so it may lag and never runs ahead.

use std::io;
use std::path::Path;

use crate::disk::{Disk, read_file};
use crate::log::OpenError;
use crate::log::error::opening;
use crate::model::Lsn;

const MAGIC: [u8; 8] = *b"WNDLNEWS";
const BYTES: usize = 20;
const NAME: &str = "newest";

/// First lsn of the newest segment that was told; `NONE` if none was.
pub(crate) fn read_newest(disk: &dyn Disk, dir: &Path) -> Result<Lsn, OpenError> {
    let path = dir.join(NAME);
    if !disk.exists(&path).map_err(opening("look for", &path))? {
        return Ok(Lsn::NONE);
    }
    let bytes = match read_file(disk, &path, 4096) {
        Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(opening("read", &path)(error)),
        bytes => bytes.unwrap_or_default(),
    };
    let why = "it does not name a segment; it may be removed if no segment is missing".to_owned();
    decode(&bytes).ok_or(OpenError::Damaged { file: NAME.to_owned(), at_byte: 0, why })
}

/// Tells that the segment `first`, which is durable, is the newest one. A crash leaves what was told before, or this.
/// `temporary` is a name in `dir` that was never there before.
pub(crate) fn write_newest(disk: &dyn Disk, dir: &Path, first: Lsn, temporary: &str) -> io::Result<()> {
    let temporary = dir.join(temporary);
    let write = || {
        let file = disk.create(&temporary)?;
        file.write_at(0, &encode(first))?;
        file.sync_data()
    };
    if let Err(error) = write() {
        // Nothing depends on it. It may be in the way of what needs its space.
        if disk.exists(&temporary)? {
            disk.unlink(&temporary)?;
        }
        return Err(error);
    }
    // The name becomes durable with the next one in the directory: until then a power cut may leave what was told
    // before, which is true as well.
    disk.rename(&temporary, &dir.join(NAME))
}

/// Takes back what was told: a copy was told of segments that it need not have.
pub(crate) fn forget_newest(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let path = dir.join(NAME);
    if disk.exists(&path)? {
        disk.unlink(&path)?;
        disk.sync_dir(dir)?;
    }
    Ok(())
}

fn encode(first: Lsn) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&first.get().to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Lsn> {
    let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
    let (covered, crc) = bytes.split_last_chunk::<4>()?;
    let number: [u8; 8] = covered.strip_prefix(&MAGIC)?.try_into().ok()?;
    (crc32fast::hash(covered).to_le_bytes() == *crc).then_some(Lsn::new(u64::from_le_bytes(number)))
}
