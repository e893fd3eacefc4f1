//! A disk in memory that loses power, fills up and fails, from a seed: same seed, same trace.
//!
//! What is written sits in a "page cache" until it is synced. [`SimDisk::crash`] answers the disk
//! after a power cut: unsynced writes are kept, lost or torn at 512 bytes in any subset; unsynced
//! directory operations survive in any subset; a rename may leave both names. [`SimDisk::kill`]
//! answers the disk after the process alone died. After a sync that failed, the cache still shows
//! what the platter has lost for ever, and later syncs say "ok".

mod crash;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};

/// The unit in which a write is torn.
pub const SECTOR_BYTES: usize = 512;

/// Splitmix64: small, fast, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as `seed` says.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; zero if there is none.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.roll() % bound }
    }

    /// True once in `count` times.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails with EIO; a write has written nothing; a sync loses what it should save.
    Io,
    /// The operation fails with ENOSPC.
    NoSpace,
    /// A write stores part of its bytes, then fails with EIO; like [`Fault::Io`] for all others.
    Short,
    /// From here on every operation fails: the power is gone, [`SimDisk::crash`] shows what is left.
    PowerOff,
}

#[derive(Debug, Clone)]
enum Change {
    Write { position: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    /// What reads see.
    cache: Arc<Vec<u8>>,
    /// What a power cut cannot take.
    platter: Arc<Vec<u8>>,
    /// The way from `platter` to `cache`, but for what a failed sync has dropped.
    pending: Vec<Change>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(u64),
    Dir,
}

#[derive(Debug, Clone)]
enum NameChange {
    Add(PathBuf, Node),
    Remove(PathBuf, Node),
    Rename { from: PathBuf, to: PathBuf, node: Node },
}

impl NameChange {
    fn touches(&self, dir: &Path) -> bool {
        match self {
            Self::Add(path, _) | Self::Remove(path, _) => path.parent() == Some(dir),
            Self::Rename { from, to, .. } => from.parent() == Some(dir) || to.parent() == Some(dir),
        }
    }
}

#[derive(Debug, Clone)]
struct State {
    inodes: HashMap<u64, Inode>,
    inode_next: u64,
    names: BTreeMap<PathBuf, Node>,
    names_durable: BTreeMap<PathBuf, Node>,
    names_pending: Vec<NameChange>,
    dice: Dice,
    ops: u64,
    fault: Option<(u64, Fault)>,
    /// Faults that have happened.
    hits: u64,
    power_off: bool,
    capacity: u64,
}

/// The simulated disk. Clones share it.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    /// An empty disk with the directory `/` on it.
    pub fn new(seed: u64) -> Self {
        let root = BTreeMap::from([(PathBuf::from("/"), Node::Dir)]);
        Self::from_state(State {
            inodes: HashMap::new(),
            inode_next: 1,
            names: root.clone(),
            names_durable: root,
            names_pending: Vec::new(),
            dice: Dice::new(seed),
            ops: 0,
            fault: None,
            hits: 0,
            power_off: false,
            capacity: u64::MAX,
        })
    }

    fn from_state(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations done so far, failed ones included.
    pub fn ops(&self) -> u64 {
        self.state().ops
    }

    /// Lets the operation that is `after` operations from now (0 is the next) go wrong.
    pub fn fail(&self, after: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.ops + after, fault));
    }

    /// Faults that have happened so far.
    pub fn hits(&self) -> u64 {
        self.state().hits
    }

    /// Whether the power is still there.
    pub fn has_power(&self) -> bool {
        !self.state().power_off
    }

    /// Forgets a fault that has not happened yet.
    pub fn mend(&self) {
        self.state().fault = None;
    }

    /// Bounds the bytes of all files.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// The bytes of all files.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// Flips one bit, in the cache and on the platter. Answers whether there is such a byte.
    pub fn flip(&self, path: &Path, byte: usize, bit: u32) -> bool {
        let mut state = self.state();
        let Some(&Node::File(number)) = state.names.get(path) else { return false };
        let Some(inode) = state.inodes.get_mut(&number) else { return false };
        let flip = |bytes: &mut Arc<Vec<u8>>| {
            Arc::make_mut(bytes).get_mut(byte).map(|place| *place ^= 1 << (bit & 7)).is_some()
        };
        flip(&mut inode.platter);
        flip(&mut inode.cache)
    }

    /// The contents of a file as reads see them.
    pub fn dump(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let Some(Node::File(number)) = state.names.get(path) else { return None };
        state.inodes.get(number).map(|inode| inode.cache.as_ref().clone())
    }

    /// Puts a file there, durably, whatever was there before: to build copies and fixtures.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.state();
        let bytes = Arc::new(bytes);
        let inode = Inode { cache: bytes.clone(), platter: bytes, pending: Vec::new() };
        let node = state.add_inode(inode);
        for dir in path.ancestors().skip(1) {
            state.names.insert(dir.to_path_buf(), Node::Dir);
            state.names_durable.insert(dir.to_path_buf(), Node::Dir);
        }
        state.names.insert(path.to_path_buf(), node);
        state.names_durable.insert(path.to_path_buf(), node);
    }

    /// Every file with its contents as reads see them.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let names: Vec<PathBuf> = self.state().names.keys().cloned().collect();
        names.into_iter().filter_map(|path| self.dump(&path).map(|bytes| (path, bytes))).collect()
    }
}

impl State {
    fn used(&self) -> u64 {
        self.inodes.values().map(|inode| inode.cache.len() as u64).sum()
    }

    fn add_inode(&mut self, inode: Inode) -> Node {
        let number = self.inode_next;
        self.inode_next += 1;
        self.inodes.insert(number, inode);
        Node::File(number)
    }

    /// Counts an operation and says whether it goes wrong.
    fn turn(&mut self) -> Result<(), Fault> {
        let number = self.ops;
        self.ops += 1;
        if self.power_off {
            return Err(Fault::PowerOff);
        }
        match self.fault {
            Some((at, fault)) if at <= number => {
                self.fault = None;
                self.hits += 1;
                self.power_off = fault == Fault::PowerOff;
                Err(fault)
            }
            _ => Ok(()),
        }
    }

    fn turn_plain(&mut self) -> io::Result<()> {
        self.turn().map_err(error_of)
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Node::File(number)) => Ok(*number),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn vacant(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        match (self.names.get(parent), self.names.contains_key(path)) {
            (Some(Node::Dir), false) => Ok(()),
            (Some(Node::Dir), true) => Err(io::ErrorKind::AlreadyExists.into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn add_name(&mut self, path: &Path, node: Node) {
        self.names.insert(path.to_path_buf(), node);
        self.names_pending.push(NameChange::Add(path.to_path_buf(), node));
    }

    fn links(&self, number: u64) -> u64 {
        self.names.values().filter(|node| **node == Node::File(number)).count() as u64
    }

    fn inode(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Frees the space of files that neither a name nor a pending change can bring back. (An open file
    /// of this simulation does not keep an unlinked one alive on its own.)
    fn reclaim(&mut self) {
        let mut alive: std::collections::HashSet<u64> = std::collections::HashSet::new();
        let mut keep = |node: &Node| {
            if let Node::File(number) = node {
                alive.insert(*number);
            }
        };
        self.names.values().for_each(&mut keep);
        self.names_durable.values().for_each(&mut keep);
        for change in &self.names_pending {
            match change {
                NameChange::Add(_, node) | NameChange::Remove(_, node) | NameChange::Rename { node, .. } => keep(node),
            }
        }
        self.inodes.retain(|number, _| alive.contains(number));
    }
}

fn error_of(fault: Fault) -> io::Error {
    match fault {
        // ENOSPC has no stable kind of its own in older std; the raw number is the same on Linux.
        Fault::NoSpace => io::Error::from_raw_os_error(28),
        Fault::Io | Fault::Short => io::Error::from_raw_os_error(5),
        Fault::PowerOff => io::Error::other("the power is off"),
    }
}

impl Disk for SimDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.turn_plain()?;
        if state.names.get(dir) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.turn_plain()?;
        state.vacant(dir)?;
        state.add_name(dir, Node::Dir);
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.turn_plain()?;
        state.vacant(path)?;
        let node = state.add_inode(Inode::default());
        state.add_name(path, node);
        Ok(self.handle(state.file(path)?, true))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.turn_plain()?;
        Ok(self.handle(state.file(path)?, true))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.turn_plain()?;
        Ok(self.handle(state.file(path)?, false))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.turn_plain()?;
        let node = Node::File(state.file(from)?);
        if !state.names.contains_key(to) {
            state.vacant(to)?;
        }
        state.names.remove(from);
        state.names.insert(to.to_path_buf(), node);
        state.names_pending.push(NameChange::Rename { from: from.to_path_buf(), to: to.to_path_buf(), node });
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.turn_plain()?;
        let node = Node::File(state.file(path)?);
        state.names.remove(path);
        state.names_pending.push(NameChange::Remove(path.to_path_buf(), node));
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.turn_plain()?;
        state.vacant(to)?;
        let node = Node::File(state.file(from)?);
        state.add_name(to, node);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.turn_plain()?;
        state.settle_names(dir);
        Ok(())
    }

    fn space(&self, _dir: &Path) -> io::Result<u64> {
        let mut state = self.state();
        state.turn_plain()?;
        Ok(state.capacity.saturating_sub(state.used()))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.state();
        state.turn_plain()?;
        Ok(state.names.contains_key(path))
    }
}

impl SimDisk {
    fn handle(&self, number: u64, writable: bool) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), number, writable })
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    number: u64,
    writable: bool,
}

impl DiskFile for SimFile {
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let turn = state.turn();
        let position = usize::try_from(position).map_err(|_| io::ErrorKind::InvalidInput)?;
        let keep = match turn {
            Ok(()) => bytes.len(),
            // The power may also go in the middle of a write.
            Err(Fault::Short | Fault::PowerOff) => {
                let bound = bytes.len() as u64;
                usize::try_from(state.dice.below(bound)).unwrap_or(0)
            }
            Err(fault) => return Err(error_of(fault)),
        };
        let free = state.capacity.saturating_sub(state.used());
        let inode = state.inode(self.number)?;
        let grown = (position + keep).saturating_sub(inode.cache.len());
        if grown as u64 > free {
            return Err(error_of(Fault::NoSpace));
        }
        inode.write(position, bytes.get(..keep).unwrap_or_default());
        turn.map_err(error_of)
    }

    fn read_at(&self, position: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.turn_plain()?;
        let inode = state.inode(self.number)?;
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        let found = inode.cache.get(position..).unwrap_or_default();
        let count = found.len().min(bytes.len());
        if let (Some(to), Some(from)) = (bytes.get_mut(..count), found.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        match state.turn() {
            Ok(()) => {
                state.inode(self.number)?.settle();
                Ok(())
            }
            Err(Fault::PowerOff) => Err(error_of(Fault::PowerOff)),
            Err(fault) => {
                // The kernel marks the pages clean: some made it, the others are lost for good.
                let mut dice = state.dice.clone();
                state.inode(self.number)?.lose(&mut dice);
                state.dice = dice;
                Err(error_of(fault))
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.turn_plain()?;
        Ok(state.inode(self.number)?.cache.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.turn_plain()?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        let inode = state.inode(self.number)?;
        Arc::make_mut(&mut inode.cache).resize(len, 0);
        inode.pending.push(Change::SetLen(len));
        Ok(())
    }

    fn links(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.turn_plain()?;
        Ok(state.links(self.number))
    }
}
