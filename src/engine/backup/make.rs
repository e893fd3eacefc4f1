//! Makes a backup: segments first, small files next, the manifest last. Every file and directory is synced
//! before the manifest gets its name.

use std::io;
use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::disk::{Disk, DiskFile};
use crate::engine::backup::manifest::{FileSum, MANIFEST, Manifest};
use crate::engine::backup::{Backup, BackupError, BackupFiles, BackupProgress, BackupReport, io_error};
use crate::engine::command::{Command, Sealed};
use crate::engine::home::{FORMAT, format_text, make_dirs, parent_of, secret_file};
use crate::engine::local::LocalEngine;
use crate::model::{Lsn, Millis};

/// Bytes read, written and summed at once.
const PIECE_BYTES: usize = 1 << 20;

impl LocalEngine {
    /// Seals the log and carries what was sealed into the directory. Who gives up waiting ends nothing: the
    /// backup goes on and may become whole.
    pub(in crate::engine) async fn do_backup(&self, request: Backup) -> Result<BackupReport, BackupError> {
        let (shared, dir) = (self.shared.clone(), request.dir.clone());
        // Before the log is touched: a wrong directory is the most likely mistake.
        let looked = shared.reads.run({
            let (shared, dir) = (shared.clone(), dir.clone());
            move || must_be_empty(&*shared.disk, &dir)
        });
        looked.await.map_err(|why| io_error("look at", &dir)(io::Error::other(why)))??;
        let sealed = self.ask(Command::Seal).await??;
        let made = shared.reads.run({
            let shared = shared.clone();
            move || {
                let origin = Origin {
                    disk: &*shared.disk,
                    log: &shared.data_dir.join("log"),
                    secret: &shared.secret,
                    clock: &*shared.clock,
                };
                make(&origin, &request, &sealed)
            }
        });
        made.await.map_err(|why| io_error("make", &dir)(io::Error::other(why)))?
    }
}

/// Refuses a directory that holds anything. Answers whether it is there.
pub fn must_be_empty(disk: &dyn Disk, dir: &Path) -> Result<bool, BackupError> {
    if !disk.exists(dir).map_err(io_error("look for", dir))? {
        return Ok(false);
    }
    if disk.list(dir).map_err(io_error("list", dir))?.is_empty() {
        return Ok(true);
    }
    Err(BackupError::NotEmpty(dir.to_owned()))
}

/// What a backup is made of.
pub(super) struct Origin<'a> {
    pub disk: &'a dyn Disk,
    /// The log directory.
    pub log: &'a Path,
    pub secret: &'a [u8; 32],
    pub clock: &'a dyn Clock,
}

pub(super) fn make(origin: &Origin<'_>, request: &Backup, sealed: &Sealed) -> Result<BackupReport, BackupError> {
    let (disk, dir) = (origin.disk, &request.dir);
    if !must_be_empty(disk, dir)? {
        make_dirs(disk, dir).map_err(io_error("make", dir))?;
    }
    let mut making = Making { disk, dir, progress: &request.progress, files: Vec::new(), linked: 0 };
    making.carry_segments(origin.log, sealed)?;
    making.put("secret.key", &secret_file(origin.secret))?;
    for synced in [dir.join("log").as_path(), dir, parent_of(dir)] {
        disk.sync_dir(synced).map_err(io_error("sync", synced))?;
    }
    // Where it is, all of the log is: no start takes half a backup for a data directory.
    making.put("FORMAT", format_text().as_bytes())?;
    disk.sync_dir(dir).map_err(io_error("sync", dir))?;
    making.finish(origin.clock.wall(), sealed.last, origin.clock.random() as u64)
}

struct Making<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    progress: &'a BackupProgress,
    files: Vec<FileSum>,
    linked: u64,
}

impl Making<'_> {
    fn carry_segments(&mut self, log: &Path, sealed: &Sealed) -> Result<(), BackupError> {
        let to = self.dir.join("log");
        // Whoever makes the same backup at the same time fails here.
        self.disk.create_dir(&to).map_err(io_error("make", &to))?;
        let mut sources = Vec::with_capacity(sealed.segments.len());
        for pin in &sealed.segments {
            let path = log.join(pin.file());
            let file = self.disk.open_read(&path).map_err(io_error("open", &path))?;
            self.progress.expect(file.len().map_err(io_error("measure", &path))?);
            sources.push((pin.file(), path));
        }
        for (name, from) in sources {
            self.carry(&from, &to.join(&name), format!("log/{name}"))?;
        }
        Ok(())
    }

    /// Links a segment, or copies it where the file system cannot link.
    fn carry(&mut self, from: &Path, to: &Path, path: String) -> Result<(), BackupError> {
        let (bytes, crc) = match self.disk.hard_link(from, to) {
            Ok(()) => {
                self.linked += 1;
                let file = self.disk.open_read(to).map_err(io_error("open", to))?;
                // Its bytes were durable before; what its last use left behind them may not be.
                file.sync_data().map_err(io_error("sync", to))?;
                sum(&*file, self.progress).map_err(io_error("read", to))?
            }
            Err(error) if cannot_link(&error) => copy(self.disk, from, to, self.progress)?,
            Err(error) => return Err(io_error("link", to)(error)),
        };
        self.files.push(FileSum { path, bytes, crc });
        Ok(())
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), BackupError> {
        let path = self.dir.join(name);
        write_new(self.disk, &path, bytes).map_err(io_error("write", &path))?;
        self.files.push(FileSum { path: name.to_owned(), bytes: bytes.len() as u64, crc: crc32fast::hash(bytes) });
        Ok(())
    }

    /// Only now is it a backup.
    fn finish(self, made_at: Millis, last: Lsn, random: u64) -> Result<BackupReport, BackupError> {
        let manifest = Manifest { format: FORMAT, made_at, last, files: self.files };
        let (temporary, path) = (self.dir.join(format!("{MANIFEST}-{random:016x}.tmp")), self.dir.join(MANIFEST));
        let put = || {
            write_new(self.disk, &temporary, manifest.encode().as_bytes())?;
            self.disk.rename(&temporary, &path)?;
            self.disk.sync_dir(self.dir)
        };
        put().map_err(io_error("write", &path))?;
        Ok(BackupReport { dir: self.dir.to_owned(), files: BackupFiles::of(&manifest), linked: self.linked })
    }
}

/// Whether a file system, or its rules, do not allow a link, so that a copy has to do.
fn cannot_link(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    matches!(error.kind(), CrossesDevices | PermissionDenied | TooManyLinks | Unsupported)
}

fn write_new(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = disk.create(path)?;
    file.write_at(0, bytes)?;
    file.sync_data()
}

/// Length and crc32 of a file.
pub fn sum(file: &dyn DiskFile, progress: &BackupProgress) -> io::Result<(u64, u32)> {
    each_piece(file, progress, |_, _| Ok(()))
}

/// Copies a file, durably but for its name; answers length and crc32 of what was copied.
pub fn copy(disk: &dyn Disk, from: &Path, to: &Path, progress: &BackupProgress) -> Result<(u64, u32), BackupError> {
    let source = disk.open_read(from).map_err(io_error("open", from))?;
    let target = disk.create(to).map_err(io_error("make", to))?;
    let mut written = Ok(());
    let summed = each_piece(&*source, progress, |position, piece| {
        written = target.write_at(position, piece);
        match &written {
            Ok(()) => Ok(()),
            // Told below, with the path it belongs to.
            Err(_) => Err(io::ErrorKind::Other.into()),
        }
    });
    written.map_err(io_error("write", to))?;
    target.sync_data().map_err(io_error("sync", to))?;
    summed.map_err(io_error("read", from))
}

fn each_piece(
    file: &dyn DiskFile,
    progress: &BackupProgress,
    mut each: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<(u64, u32)> {
    let (mut piece, mut position, mut crc) = (vec![0; PIECE_BYTES], 0, crc32fast::Hasher::new());
    loop {
        let got = crate::disk::read_full(file, position, &mut piece)?;
        let read = piece.get(..got).unwrap_or_default();
        each(position, read)?;
        crc.update(read);
        position += got as u64;
        progress.did(got as u64);
        if got < PIECE_BYTES {
            return Ok((position, crc.finalize()));
        }
    }
}

impl BackupFiles {
    /// What a manifest tells.
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self {
            segments: manifest.files.iter().filter(|file| file.segment().is_some()).count() as u64,
            bytes: manifest.files.iter().map(|file| file.bytes).sum(),
            last_lsn: manifest.last.get(),
            made_at: manifest.made_at,
        }
    }
}

/// The path of a file that a manifest names.
pub fn path_of(dir: &Path, file: &FileSum) -> PathBuf {
    dir.join(&file.path)
}
