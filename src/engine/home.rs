//! The data directory: who may use it, which format it has, whether it is a copy.
//!
//! `FORMAT` (text), `LOCK` (flock), `IDENTITY` (its own inode and birth time: a copy has others),
//! `secret.key` (32 random bytes and their checksum, 0600), `log/`, `index/` (sled).

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::clock::Clock;
use crate::disk::{Disk, RealDisk, read_file};
use crate::engine::backup::MANIFEST;
use crate::engine::local::LocalEngine;
use crate::engine::recover::{IndexPlace, RecoverError, Source};
use crate::engine::{Limits, WriterOptions};
use crate::index::{Index, IndexError, SledIndex};
use crate::log::{Options, Place};

/// The format this build writes.
pub const FORMAT: u32 = 1;

/// How long a lock is waited for.
const LOCK_TIME_MAX: Duration = Duration::from_millis(500);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Everything a local engine is opened with.
#[derive(Debug, Clone, Default)]
pub struct LocalOptions {
    /// Layout and rules of the log.
    pub log: Options,
    /// Bounds.
    pub limits: Limits,
    /// Durability of leases, pace of checkpoints.
    pub writer: WriterOptions,
}

/// Why a data directory was not opened.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another server uses it.
    #[error("{} is in use by another server", .0.display())]
    InUse(PathBuf),
    /// It holds something else.
    #[error("{} is not empty and has no FORMAT file: it is not a data directory of windlass", .0.display())]
    NotOurs(PathBuf),
    /// It is a backup, to be restored elsewhere.
    #[error("{} is a backup: `windlass restore` makes a data directory of it", .0.display())]
    IsBackup(PathBuf),
    /// A later build wrote it.
    #[error("{} has format {found}, this build knows formats up to {known}: use a newer windlass", dir.display())]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format of this build.
        known: u32,
    },
    /// An older format has to be migrated first.
    #[error("{} has format {found}: it has to be migrated to format {known} first", dir.display())]
    Older {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The format of this build.
        known: u32,
    },
    /// A file of it does not read.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The system refused something.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log or the index.
    #[error(transparent)]
    Recover(#[from] RecoverError),
}

/// A data directory that this process holds.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    disk: RealDisk,
    secret: [u8; 32],
    is_copy: bool,
    /// Held as long as this lives.
    _lock: File,
}

/// A data directory that is looked at: no server opens it meanwhile.
#[derive(Debug)]
pub struct Watched {
    /// The directory was copied from where it was made.
    pub is_copy: bool,
    /// Held as long as this lives.
    _lock: Option<File>,
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.to_owned();
    move |source| HomeError::Io { doing, path, source }
}

impl Home {
    /// Takes hold of `dir`, making it if it is not there.
    pub fn open(dir: &Path, clock: &dyn Clock) -> Result<Self, HomeError> {
        let disk = RealDisk;
        if dir.join(MANIFEST).exists() {
            return Err(HomeError::IsBackup(dir.to_owned()));
        }
        if !dir.exists() {
            make_dirs(&disk, dir).map_err(io_error("make", dir))?;
        }
        let lock = take_lock(dir)?;
        let names = disk.list(dir).map_err(io_error("list", dir))?;
        match read_format(&disk, dir)? {
            Some(FORMAT) => {}
            Some(found) if found > FORMAT => {
                return Err(HomeError::Newer { dir: dir.to_owned(), found, known: FORMAT });
            }
            Some(found) => return Err(HomeError::Older { dir: dir.to_owned(), found, known: FORMAT }),
            // What a start that was cut short leaves behind is no data.
            None if names.iter().all(|name| name == "LOCK" || name == "secret.key" || name.ends_with(".tmp")) => {}
            None => return Err(HomeError::NotOurs(dir.to_owned())),
        }
        let log = dir.join("log");
        if !log.exists() {
            disk.create_dir(&log).map_err(io_error("make", &log))?;
        }
        let has = |name: &str| names.iter().any(|found| found == name);
        if !has("FORMAT") && !has("secret.key") {
            make_secret(&disk, dir, clock)?;
        }
        let secret = read_secret(&disk, dir)?;
        if !has("FORMAT") {
            put_format(&disk, dir, clock)?;
        }
        let is_copy = has("IDENTITY") && !identity_holds(&disk, dir)?;
        Ok(Self { dir: dir.to_owned(), disk, secret, is_copy, _lock: lock })
    }

    /// The key of tokens and sealed secrets.
    pub const fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The directory was copied from where it was made.
    pub const fn is_copy(&self) -> bool {
        self.is_copy
    }

    /// Proves what a start reads before it reads the log: the format, and the key. Changes nothing.
    pub fn prove(dir: &Path) -> Result<(), HomeError> {
        match read_format(&RealDisk, dir)? {
            Some(FORMAT) => read_secret(&RealDisk, dir).map(drop),
            Some(found) if found > FORMAT => Err(HomeError::Newer { dir: dir.to_owned(), found, known: FORMAT }),
            Some(found) => Err(HomeError::Older { dir: dir.to_owned(), found, known: FORMAT }),
            None => Err(HomeError::NotOurs(dir.to_owned())),
        }
    }

    /// Looks at `dir` without changing it, and keeps servers off it as long as the answer lives.
    pub fn watch(dir: &Path) -> Result<Watched, HomeError> {
        let path = dir.join("LOCK");
        let lock = match File::open(&path) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        let held = lock.as_ref().map(|lock| flock(lock, FlockOperation::NonBlockingLockShared));
        match held {
            None | Some(Ok(())) => {}
            Some(Err(Errno::WOULDBLOCK)) => return Err(HomeError::InUse(dir.to_owned())),
            Some(Err(error)) => return Err(io_error("lock", &path)(error.into())),
        }
        let is_copy = dir.join("IDENTITY").exists() && !identity_holds(&RealDisk, dir)?;
        Ok(Watched { is_copy, _lock: lock })
    }

    /// Puts the index out of the way: the next engine builds it again from the log. The old one is kept
    /// beside it until the next time.
    pub fn set_index_aside(&self, clock: &Arc<dyn Clock>) -> Result<(), HomeError> {
        let place = SledPlace { dir: self.dir.clone(), clock: clock.clone() };
        place.set_aside().map_err(|error| HomeError::Recover(RecoverError::Index(error)))
    }

    /// Recovers the engine in it.
    pub fn engine(&self, clock: Arc<dyn Clock>, options: &LocalOptions) -> Result<LocalEngine, HomeError> {
        let place = if self.is_copy { Place::Copy } else { Place::Original };
        let source = Source {
            disk: Arc::new(self.disk),
            data_dir: self.dir.clone(),
            log: Options { place, ..options.log.clone() },
            clock: clock.clone(),
            place: Arc::new(SledPlace { dir: self.dir.clone(), clock: clock.clone() }),
            limits: options.limits,
            options: options.writer.clone(),
            index_is_foreign: self.is_copy,
        };
        let engine = LocalEngine::start(source, &self.secret)?;
        // Only now: until the recovery of a copy is durable, it stays known as one.
        if self.is_copy || !self.dir.join("IDENTITY").exists() {
            put_identity(&self.disk, &self.dir, &*clock)?;
        }
        Ok(engine)
    }
}

/// Makes a directory, and those above it that are not there; durable on return.
pub(super) fn make_dirs(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let parent = parent_of(dir);
    if !disk.exists(parent)? {
        make_dirs(disk, parent)?;
    }
    match disk.create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    disk.sync_dir(parent)
}

/// The directory that a path lies in.
pub(super) fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Tries for [`LOCK_TIME_MAX`]: a process that is being started has every lock of the one that starts it, until it
/// begins its own program.
fn flock(file: &File, how: FlockOperation) -> Result<(), Errno> {
    let began = Instant::now();
    loop {
        match rustix::fs::flock(file, how) {
            Err(Errno::WOULDBLOCK) if began.elapsed() < LOCK_TIME_MAX => std::thread::sleep(LOCK_PAUSE),
            tried => return tried,
        }
    }
}

/// Keeps every other server out of `dir` while the answer lives.
pub fn take_lock(dir: &Path) -> Result<File, HomeError> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = dir.join("LOCK");
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(io_error("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(HomeError::InUse(dir.to_owned())),
        Err(error) => Err(io_error("lock", &path)(error.into())),
    }
}

/// The format of the data directory `dir`; `None` if it has none (or is not there).
pub fn format_of(dir: &Path) -> Result<Option<u32>, HomeError> {
    if dir.exists() { read_format(&RealDisk, dir) } else { Ok(None) }
}

/// Says that `dir` has the format of this build.
pub fn put_format(disk: &dyn Disk, dir: &Path, clock: &dyn Clock) -> Result<(), HomeError> {
    put_file(disk, dir, "FORMAT", format_text().as_bytes(), clock)
}

/// What `FORMAT` says in a directory of this build.
pub(super) fn format_text() -> String {
    format!("windlass format {FORMAT}\n")
}

fn read_format(disk: &dyn Disk, dir: &Path) -> Result<Option<u32>, HomeError> {
    let path = dir.join("FORMAT");
    if !disk.exists(&path).map_err(io_error("look for", &path))? {
        return Ok(None);
    }
    let bytes = match read_file(disk, &path, 128) {
        Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(io_error("read", &path)(error)),
        bytes => bytes.unwrap_or_default(),
    };
    let text = String::from_utf8_lossy(&bytes);
    let number = text.strip_prefix("windlass format ").and_then(|rest| rest.trim_end().parse().ok());
    number.map(Some).ok_or(HomeError::Damaged { path, what: "it does not say `windlass format N`" })
}

/// Puts a small file in place: durable on return, whole or not there after a crash.
pub(super) fn put_file(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    bytes: &[u8],
    clock: &dyn Clock,
) -> Result<(), HomeError> {
    let temporary = dir.join(format!("{name}-{:032x}.tmp", clock.random()));
    let path = dir.join(name);
    let put = || {
        let file = disk.create(&temporary)?;
        file.write_at(0, bytes)?;
        file.sync_data()?;
        disk.rename(&temporary, &path)?;
        disk.sync_dir(dir)
    };
    put().map_err(io_error("write", &path))
}

/// Bytes of the key without its checksum.
const SECRET_BYTES: usize = 32;

/// What `secret.key` holds: the key and its crc32. No frame of the log would tell another key from this one.
pub(super) fn secret_file(secret: &[u8; SECRET_BYTES]) -> Vec<u8> {
    let mut bytes = secret.to_vec();
    bytes.extend_from_slice(&crc32fast::hash(secret).to_le_bytes());
    bytes
}

/// The key of a directory. It is made with the directory and never again: tokens and sealed secrets of another
/// key are worth nothing.
fn read_secret(disk: &dyn Disk, dir: &Path) -> Result<[u8; SECRET_BYTES], HomeError> {
    let path = dir.join("secret.key");
    let damaged = |what| HomeError::Damaged { path: path.clone(), what };
    if !disk.exists(&path).map_err(io_error("look for", &path))? {
        return Err(damaged("it is missing; without it no token and no access key counts. Put it back from a backup"));
    }
    let bytes = match read_file(disk, &path, 64) {
        Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(io_error("read", &path)(error)),
        bytes => bytes.unwrap_or_default(),
    };
    let (secret, crc) = bytes.split_first_chunk().ok_or_else(|| damaged("it is too short for a key"))?;
    if !crc.is_empty() && crc != crc32fast::hash(secret).to_le_bytes() {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(*secret)
}

fn make_secret(disk: &dyn Disk, dir: &Path, clock: &dyn Clock) -> Result<(), HomeError> {
    let mut secret = [0; SECRET_BYTES];
    secret[..16].copy_from_slice(&clock.random().to_le_bytes());
    secret[16..].copy_from_slice(&clock.random().to_le_bytes());
    put_file(disk, dir, "secret.key", &secret_file(&secret), clock)
}

/// The inode and the birth time of the identity file itself. Never the device: it changes at a reboot.
fn identity_of(path: &Path) -> io::Result<String> {
    let about = std::fs::symlink_metadata(path)?;
    let born = about.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born = born.map_or_else(|| "unknown".to_owned(), |born| born.as_nanos().to_string());
    Ok(format!("inode {}\nborn {born}\n", about.ino()))
}

fn identity_holds(disk: &dyn Disk, dir: &Path) -> Result<bool, HomeError> {
    let path = dir.join("IDENTITY");
    let said = match read_file(disk, &path, 4096) {
        Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(io_error("read", &path)(error)),
        said => said.unwrap_or_default(),
    };
    let is = identity_of(&path).map_err(io_error("look at", &path))?;
    Ok(said == is.as_bytes())
}

pub(super) fn put_identity(disk: &dyn Disk, dir: &Path, clock: &dyn Clock) -> Result<(), HomeError> {
    let temporary = dir.join(format!("IDENTITY-{:032x}.tmp", clock.random()));
    let path = dir.join("IDENTITY");
    let put = || {
        let file = disk.create(&temporary)?;
        // A rename keeps the inode and the birth time.
        file.write_at(0, identity_of(&temporary)?.as_bytes())?;
        file.sync_data()?;
        disk.rename(&temporary, &path)?;
        disk.sync_dir(dir)
    };
    put().map_err(io_error("write", &path))
}

/// The index directory of a data directory.
struct SledPlace {
    dir: PathBuf,
    clock: Arc<dyn Clock>,
}

impl SledPlace {
    fn path(&self) -> PathBuf {
        self.dir.join("index")
    }

    fn remove_old(&self) -> io::Result<()> {
        for name in RealDisk.list(&self.dir)? {
            if name.starts_with("index-aside-") {
                std::fs::remove_dir_all(self.dir.join(name))?;
            }
        }
        Ok(())
    }
}

impl IndexPlace for SledPlace {
    fn open(&self) -> Result<Box<dyn Index>, IndexError> {
        let fails = |error: io::Error| IndexError::Store(error.to_string());
        if !self.path().exists() {
            RealDisk.create_dir(&self.path()).map_err(fails)?;
            RealDisk.sync_dir(&self.dir).map_err(fails)?;
        }
        let opened = SledIndex::open(&self.path()).or_else(|error| match error {
            // On a full disk the space of the one kept aside may do.
            IndexError::Store(_) => self.remove_old().map_err(fails).and_then(|()| SledIndex::open(&self.path())),
            other => Err(other),
        });
        Ok(Box::new(opened?))
    }

    /// One old index is kept for whoever wants to know what happened to it.
    fn set_aside(&self) -> Result<(), IndexError> {
        let fails = |error: io::Error| IndexError::Store(error.to_string());
        if !self.path().exists() {
            return Ok(());
        }
        self.remove_old().map_err(fails)?;
        let aside = self.dir.join(format!("index-aside-{:016x}", self.clock.random() as u64));
        RealDisk.rename(&self.path(), &aside).map_err(fails)?;
        RealDisk.sync_dir(&self.dir).map_err(fails)
    }
}
