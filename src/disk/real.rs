//! The machine's own file system. The only file of the log's path that asks the kernel to sync.
//!
//! Files are 0600 and directories 0700; symbolic links are never followed.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, ZEROS_BYTES};

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // The bits of O_NOFOLLOW fit every platform's c_int.
    let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    options.read(true).mode(0o600).custom_flags(nofollow);
    options
}

impl Disk for RealDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(options().write(true).create_new(true).open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(options().write(true).open(path)?)))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(options().open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn space(&self, dir: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match std::fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    fn read_at(&self, position: u64, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read_at(bytes, position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                answer => return answer,
            }
        }
    }

    #[cfg(target_os = "linux")]
    fn read_cached(&self, position: u64, bytes: &mut [u8]) -> io::Result<Option<usize>> {
        use rustix::io::{Errno, ReadWriteFlags};
        let wanted = bytes.len();
        let mut slices = [io::IoSliceMut::new(bytes)];
        match rustix::io::preadv2(&self.0, &mut slices, position, ReadWriteFlags::NOWAIT) {
            // Less than asked for: the end of the file, or of what is in memory.
            Ok(got) => Ok((got == wanted).then_some(got)),
            // `OPNOTSUPP`, `NOSYS`: this file system, or this kernel, cannot tell.
            Err(Errno::AGAIN | Errno::INTR | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn write_zeros(&self, position: u64, len: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS_BYTES + PAGE_BYTES];
        let from = zeros.as_ptr().align_offset(PAGE_BYTES);
        let zeros = zeros.get(from..from + ZEROS_BYTES).unwrap_or_default();
        if (position | len).is_multiple_of(PAGE_BYTES as u64) && bypass_cache(&self.0, true).is_ok() {
            let written = fill(&self.0, position, len, zeros);
            bypass_cache(&self.0, false)?;
            match written {
                // Not of such pieces, here.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                written => return written,
            }
        }
        fill(&self.0, position, len, zeros)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn links(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.nlink())
    }
}

/// What writes past the page cache are whole multiples of, in memory and in the file.
const PAGE_BYTES: usize = 4096;

fn fill(file: &File, position: u64, len: u64, zeros: &[u8]) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        let part = usize::try_from(len - done).map_or(zeros.len(), |left| left.min(zeros.len()));
        file.write_all_at(zeros.get(..part).unwrap_or_default(), position + done)?;
        done += part as u64;
    }
    Ok(())
}

/// Has writes go past the page cache: copying zeros there costs more than all else of a segment, and they
/// would take the place of what is read.
#[cfg(target_os = "linux")]
fn bypass_cache(file: &File, on: bool) -> io::Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(file)?;
    flags.set(rustix::fs::OFlags::DIRECT, on);
    Ok(rustix::fs::fcntl_setfl(file, flags)?)
}

#[cfg(not(target_os = "linux"))]
fn bypass_cache(_: &File, on: bool) -> io::Result<()> {
    if on { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn zeros_are_written_in_pieces_of_any_size_and_what_is_cached_reads_at_once() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("z");
        let file = RealDisk.create(&path).unwrap();
        file.write_at(0, &[7; 3 * PAGE_BYTES]).unwrap();
        let page = PAGE_BYTES as u64;
        for (position, len) in [(page, page), (2 * page + 5, 10), (3 * page, 2 * ZEROS_BYTES as u64 + page)] {
            file.write_zeros(position, len).unwrap();
            let mut bytes = vec![1; len as usize];
            assert_eq!(crate::disk::read_full(&*file, position, &mut bytes).unwrap() as u64, len);
            assert!(bytes.iter().all(|byte| *byte == 0), "{position} {len}");
        }
        assert_eq!(file.len().unwrap(), 4 * page + 2 * ZEROS_BYTES as u64);
        let mut bytes = [0; 4];
        file.write_at(page - 2, b"abcd").unwrap();
        file.read_at(page - 2, &mut bytes).unwrap();
        assert_eq!(&bytes, b"abcd");
        // Some file systems cannot tell; none may be wrong.
        bytes = [0; 4];
        if let Some(got) = file.read_cached(page - 2, &mut bytes).unwrap() {
            assert_eq!((got, &bytes), (4, b"abcd"));
        }
        let end = file.len().unwrap();
        assert_eq!(file.read_cached(end - 2, &mut bytes).unwrap(), None, "not all of it is there");
    }

    #[test]
    fn files_are_private_and_symbolic_links_are_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let (dir, disk) = (home.path().join("d"), RealDisk);
        disk.create_dir(&dir).unwrap();
        let file = disk.create(&dir.join("a")).unwrap();
        file.write_at(3, b"xyz").unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(&dir).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::metadata(dir.join("a")).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(disk.create(&dir.join("a")).is_err());
        std::os::unix::fs::symlink(dir.join("a"), dir.join("s")).unwrap();
        assert!(disk.open(&dir.join("s")).is_err());
        assert!(disk.open_read(&dir.join("s")).is_err());
        assert!(disk.exists(&dir.join("s")).unwrap());
        disk.hard_link(&dir.join("a"), &dir.join("b")).unwrap();
        assert_eq!(file.links().unwrap(), 2);
        disk.rename(&dir.join("b"), &dir.join("c")).unwrap();
        disk.unlink(&dir.join("s")).unwrap();
        let mut names = disk.list(&dir).unwrap();
        names.sort();
        assert_eq!(names, ["a", "c"]);
        assert!(disk.space(&dir).unwrap() > 0);
        assert_eq!(crate::disk::read_file(&disk, &dir.join("c"), 6).unwrap(), b"\0\0\0xyz");
        assert!(crate::disk::read_file(&disk, &dir.join("c"), 5).is_err());
    }
}
