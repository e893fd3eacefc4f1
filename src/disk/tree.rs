//! Makes a whole directory durable: for files that a library wrote without fsync.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Syncs a directory again and again. Remembers which files of one directory below it are durable: those are
/// only ever appended to, and may be thousands.
#[derive(Debug)]
pub struct TreeSync {
    dir: PathBuf,
    appended: PathBuf,
    /// Files of `appended`, and the bytes they had before they were synced last.
    durable: HashMap<OsString, u64>,
}

impl TreeSync {
    /// For `dir`; the files in `appended`, a directory in it, never change but at their end.
    pub fn new(dir: &Path, appended: &str) -> Self {
        Self { dir: dir.to_owned(), appended: dir.join(appended), durable: HashMap::new() }
    }

    /// Syncs every file, then every directory, the first last. Symbolic links are not followed. Answers how many
    /// files were synced.
    pub fn sync(&mut self) -> io::Result<usize> {
        let dir = self.dir.clone();
        self.sync_below(&dir)
    }

    fn sync_below(&mut self, dir: &Path) -> io::Result<usize> {
        let is_appended = dir == self.appended;
        let mut durable = HashMap::new();
        let mut synced = 0;
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let kind = match entry.file_type() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            if kind.is_dir() {
                synced += self.sync_below(&entry.path())?;
            } else if kind.is_file() {
                // sled removes its old snapshots and blobs by itself.
                let Some(len) = unless_removed(entry.metadata().map(|about| about.len()))? else { continue };
                if !is_appended || self.durable.get(&entry.file_name()) != Some(&len) {
                    let Some(file) = unless_removed(File::open(entry.path()))? else { continue };
                    file.sync_all()?;
                    synced += 1;
                }
                durable.insert(entry.file_name(), len);
            }
        }
        File::open(dir)?.sync_all()?;
        if is_appended {
            self.durable = durable;
        }
        Ok(synced)
    }
}

fn unless_removed<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_durable_and_was_not_appended_to_is_not_synced_again() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let blobs = dir.path().join("blobs");
        std::fs::create_dir(&blobs)?;
        std::fs::write(dir.path().join("db"), b"one")?;
        std::fs::write(blobs.join("1"), b"a blob")?;
        std::fs::write(blobs.join("2"), b"half")?;
        let mut tree = TreeSync::new(dir.path(), "blobs");
        assert_eq!(tree.sync()?, 3);
        assert_eq!(tree.sync()?, 1, "what may have changed in place is synced every time");
        std::fs::write(blobs.join("2"), b"half a blob, and its end")?;
        std::fs::write(blobs.join("3"), b"another")?;
        assert_eq!(tree.sync()?, 3);
        std::fs::remove_file(blobs.join("1"))?;
        assert_eq!(tree.sync()?, 1);
        std::fs::write(blobs.join("1"), b"a blob")?;
        assert_eq!(tree.sync()?, 2, "one that was removed is a new one when it comes again");
        assert_eq!(TreeSync::new(dir.path(), "blobs").sync()?, 4, "who just came knows of none");
        Ok(())
    }
}
