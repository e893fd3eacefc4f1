//! Makes a whole directory durable: for files that a library wrote without fsync.

use std::io;
use std::path::Path;

/// Syncs every file below `dir`, then every directory, `dir` last. Symbolic links are not followed.
pub fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = match entry.file_type() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            match std::fs::File::open(entry.path()) {
                // sled removes its old snapshots and blobs by itself.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => file?.sync_all()?,
            }
        }
    }
    std::fs::File::open(dir)?.sync_all()
}
