//! Files, syncs and directories: the only way from `log` to the device. [`RealDisk`] is the
//! machine's own; [`sim::SimDisk`] loses power, fills up and fails on demand.

mod overlay;
mod real;
#[doc(hidden)]
pub mod sim;
mod tree;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use overlay::{Cut, Overlay};
pub use real::RealDisk;
pub use tree::TreeSync;

/// A file system. Nothing is durable before a sync says so: contents by [`DiskFile::sync_data`],
/// names by [`Disk::sync_dir`] of their directory.
pub trait Disk: Send + Sync + 'static {
    /// Names of the entries of `dir`, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory that only its owner may enter; its parent must exist.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes an empty file and opens it for reading and writing; fails if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file that exists for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file that exists for reading.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name; a file that has it is unlinked in the same step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a name away; the contents go with the last name and the last open file.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Gives a file one more name; fails if the name is taken.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes every creation, rename, link and unlink in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be written to the file system of `dir`.
    fn space(&self, dir: &Path) -> io::Result<u64>;
    /// Whether something has this name. Symbolic links are not followed.
    fn exists(&self, path: &Path) -> io::Result<bool>;
}

/// An open file. Threads may share it: every call names its position.
pub trait DiskFile: Send + Sync {
    /// Writes all of `bytes` at `position`, or fails having written any part of them.
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reads at `position`; less than asked for only at the end of the file.
    fn read_at(&self, position: u64, bytes: &mut [u8]) -> io::Result<usize>;
    /// The same at once, from memory; `None`: not all of it is there, or nobody knows.
    fn read_cached(&self, _position: u64, _bytes: &mut [u8]) -> io::Result<Option<usize>> {
        Ok(None)
    }
    /// Writes `len` zeros at `position`, or fails having written any part of them. Meant for space that is filled
    /// long before it is used: it need not stay in memory.
    fn write_zeros(&self, position: u64, len: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS_BYTES.min(usize::try_from(len).unwrap_or(ZEROS_BYTES))];
        let mut done = 0;
        while done < len {
            let part = zeros.get(..usize::try_from(len - done).unwrap_or(ZEROS_BYTES)).unwrap_or(&zeros);
            self.write_at(position + done, part)?;
            done += part.len() as u64;
        }
        Ok(())
    }
    /// Makes contents and length durable. After a failure nobody knows what is, whatever a second
    /// call says.
    fn sync_data(&self) -> io::Result<()>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Names the file has.
    fn links(&self) -> io::Result<u64>;
}

/// Zeros written at once, at most.
const ZEROS_BYTES: usize = 1 << 20;

/// Reads a whole file that must not be longer than `bytes_max`.
pub fn read_file(disk: &dyn Disk, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = disk.open_read(path)?;
    let len = file.len()?;
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, "the file is longer than it may be");
    let len = usize::try_from(len.min(bytes_max.saturating_add(1))).map_err(|_| too_long())?;
    if len as u64 > bytes_max {
        return Err(too_long());
    }
    let mut bytes = vec![0; len];
    let got = read_full(&*file, 0, &mut bytes)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// Reads until `bytes` is full or the file ends; answers how many bytes were read.
pub fn read_full(file: &dyn DiskFile, position: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < bytes.len() {
        match file.read_at(position + got as u64, bytes.get_mut(got..).unwrap_or_default())? {
            0 => break,
            more => got += more,
        }
    }
    Ok(got)
}
