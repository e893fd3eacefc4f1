//! A file system in this process's memory, mounted by FUSE, that forgets at a cut what was not synced: sectors of 512
//! bytes and changes of directories survive in any subset. `sync_file_range` never reaches it, so it counts for
//! nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags, spawn_mount,
};
use tempfile::TempDir;
use windlass::torture::dice::Dice;
use windlass::torture::history::Death;
use windlass::torture::server::Server;
use windlass::torture::wreck::Reaper;

const SECTOR: usize = 512;
const ROOT: u64 = 1;
/// The kernel may keep what it was told: nobody else changes anything, and a cut ends with another mount.
const TTL: Duration = Duration::from_secs(60);
/// As on a disk: until then nothing of it is durable.
const SYNC_TAKES: Duration = Duration::from_millis(2);
const BLOCK_BYTES: u32 = 4096;
/// What it says is free; memory is the bound.
const BLOCKS: u64 = 1 << 20;

type Entries = BTreeMap<OsString, u64>;

/// A file or a directory.
#[derive(Default)]
struct Node {
    is_dir: bool,
    mode: u16,
    /// Of a file: as it is read, and as it is on the disk.
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that differ, or may.
    dirty: BTreeSet<usize>,
    /// Of a directory.
    entries: Entries,
    durable_entries: Entries,
}

/// Entries that come to be or go in one step.
struct Change {
    parts: Vec<(u64, OsString, Option<u64>)>,
}

/// The whole disk.
struct State {
    nodes: HashMap<u64, Node>,
    /// Changes of directories that no sync has made durable, in their order.
    changes: Vec<Change>,
    next: u64,
    /// Between the cut and the next mount nothing works.
    dark: bool,
    /// The power goes when this many more operations were done.
    cut_after: Option<u64>,
    dice: Dice,
    sectors_forgotten: u64,
    entries_forgotten: u64,
}

impl State {
    fn new(seed: u64) -> Self {
        let root = Node { is_dir: true, mode: 0o755, ..Node::default() };
        Self {
            nodes: HashMap::from([(ROOT, root)]),
            changes: Vec::new(),
            next: ROOT + 1,
            dark: false,
            cut_after: None,
            dice: Dice::new(seed),
            sectors_forgotten: 0,
            entries_forgotten: 0,
        }
    }

    fn node(&mut self, number: u64) -> Result<&mut Node, Errno> {
        if self.dark {
            return Err(Errno::EIO);
        }
        self.nodes.get_mut(&number).ok_or(Errno::ENOENT)
    }

    /// Something is about to change, or to be made durable.
    fn operation(&mut self) -> Result<(), Errno> {
        match &mut self.cut_after {
            Some(0) if !self.dark => self.cut(),
            Some(left) => *left = left.saturating_sub(1),
            None => {}
        }
        if self.dark { Err(Errno::EIO) } else { Ok(()) }
    }

    fn find(&mut self, parent: u64, name: &OsStr) -> Result<u64, Errno> {
        self.node(parent)?.entries.get(name).copied().ok_or(Errno::ENOENT)
    }

    fn add(&mut self, parent: u64, name: &OsStr, node: Node) -> Result<u64, Errno> {
        if self.node(parent)?.entries.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, node);
        self.change(vec![(parent, name.to_owned(), Some(number))])?;
        Ok(number)
    }

    fn change(&mut self, parts: Vec<(u64, OsString, Option<u64>)>) -> Result<(), Errno> {
        self.operation()?;
        for (parent, name, to) in &parts {
            let entries = &mut self.node(*parent)?.entries;
            match to {
                Some(number) => entries.insert(name.clone(), *number),
                None => entries.remove(name),
            };
        }
        self.changes.push(Change { parts });
        Ok(())
    }

    fn write(&mut self, number: u64, at: usize, data: &[u8]) -> Result<(), Errno> {
        // New files are filled with zeros, piece by piece: one moment is as good as another.
        if data.iter().any(|byte| *byte != 0) {
            self.operation()?;
        }
        let node = self.node(number)?;
        let end = at + data.len();
        if node.bytes.len() < end {
            // What lies between the old end and the new bytes changes too.
            node.dirty.extend(node.bytes.len() / SECTOR..=end / SECTOR);
            node.bytes.resize(end, 0);
        }
        node.bytes[at..end].copy_from_slice(data);
        node.dirty.extend(at / SECTOR..=end.saturating_sub(1) / SECTOR);
        Ok(())
    }

    fn sync(&mut self, number: u64) -> Result<(), Errno> {
        self.operation()?;
        let node = self.node(number)?;
        node.durable.resize(node.bytes.len(), 0);
        for sector in std::mem::take(&mut node.dirty) {
            copy_sector(&node.bytes, &mut node.durable, sector);
        }
        Ok(())
    }

    /// What this directory is on the disk is what it is now.
    fn sync_dir(&mut self, number: u64) -> Result<(), Errno> {
        self.operation()?;
        let node = self.node(number)?;
        node.durable_entries = node.entries.clone();
        for change in &mut self.changes {
            change.parts.retain(|(parent, ..)| *parent != number);
        }
        self.changes.retain(|change| !change.parts.is_empty());
        Ok(())
    }

    /// The power goes: of what was not synced some is there and some is not.
    fn cut(&mut self) {
        self.dark = true;
        let mut numbers: Vec<u64> = self.nodes.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let Some(node) = self.nodes.get_mut(&number) else { continue };
            if node.durable.len() != node.bytes.len() && self.dice.percent(50) {
                node.durable.resize(node.bytes.len(), 0);
            }
            for sector in std::mem::take(&mut node.dirty) {
                if self.dice.percent(50) {
                    copy_sector(&node.bytes, &mut node.durable, sector);
                } else {
                    self.sectors_forgotten += 1;
                }
            }
            node.bytes = node.durable.clone();
        }
        for change in std::mem::take(&mut self.changes) {
            if self.dice.percent(50) {
                self.entries_forgotten += 1;
                continue;
            }
            for (parent, name, to) in change.parts {
                let Some(node) = self.nodes.get_mut(&parent) else { continue };
                match to {
                    Some(number) => node.durable_entries.insert(name, number),
                    None => node.durable_entries.remove(&name),
                };
            }
        }
        self.nodes.values_mut().for_each(|node| node.entries = node.durable_entries.clone());
        self.drop_unreachable();
    }

    fn drop_unreachable(&mut self) {
        let (mut reached, mut open) = (BTreeSet::new(), vec![ROOT]);
        while let Some(number) = open.pop() {
            if reached.insert(number)
                && let Some(node) = self.nodes.get(&number)
            {
                open.extend(node.entries.values());
            }
        }
        self.nodes.retain(|number, _| reached.contains(number));
    }

    fn about(&mut self, number: u64) -> Result<FileAttr, Errno> {
        let links = self.nodes.values().flat_map(|node| node.entries.values()).filter(|to| **to == number).count();
        let node = self.node(number)?;
        let size = node.bytes.len() as u64;
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if node.is_dir { FileType::Directory } else { FileType::RegularFile },
            perm: node.mode,
            nlink: u32::try_from(links).unwrap_or(1),
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: BLOCK_BYTES,
            flags: 0,
        })
    }
}

/// One sector of what is read goes to the disk, as far as both reach.
fn copy_sector(from: &[u8], to: &mut [u8], sector: usize) {
    let begin = sector * SECTOR;
    let end = (begin + SECTOR).min(from.len()).min(to.len());
    if begin < end {
        to[begin..end].copy_from_slice(&from[begin..end]);
    }
}

/// What the kernel talks to.
struct Face(Arc<Mutex<State>>);

impl Face {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics here")
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("it fits into memory")
}

impl Filesystem for Face {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        match state.find(parent.0, name).and_then(|number| state.about(number)) {
            Ok(about) => reply.entry(&TTL, &about, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.state().about(ino.0) {
            Ok(about) => reply.attr(&TTL, &about),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.state();
        let may = if size.is_some() { state.operation() } else { Ok(()) };
        let set = may.and_then(|()| state.node(ino.0)).map(|node| {
            if let Some(size) = size {
                let (old, new) = (node.bytes.len(), place(size));
                node.dirty.extend(old.min(new) / SECTOR..=old.max(new) / SECTOR);
                node.bytes.resize(new, 0);
            }
            node.mode = mode.map_or(node.mode, |mode| (mode & 0o7777) as u16);
        });
        match set.and_then(|()| state.about(ino.0)) {
            Ok(about) => reply.attr(&TTL, &about),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let mut state = self.state();
        let node = Node { is_dir: true, mode: (mode & 0o7777) as u16, ..Node::default() };
        match state.add(parent.0, name, node).and_then(|number| state.about(number)) {
            Ok(about) => reply.entry(&TTL, &about, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        let mut state = self.state();
        let node = Node { mode: (mode & 0o7777) as u16, ..Node::default() };
        match state.add(parent.0, name, node).and_then(|number| state.about(number)) {
            Ok(about) => reply.created(&TTL, &about, Generation(0), FileHandle(0), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut state = self.state();
        let gone = state.find(parent.0, name).and_then(|_| state.change(vec![(parent.0, name.to_owned(), None)]));
        answer(reply, gone);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut state = self.state();
        let gone = state.find(parent.0, name).and_then(|number| match state.node(number)?.entries.is_empty() {
            true => state.change(vec![(parent.0, name.to_owned(), None)]),
            false => Err(Errno::ENOTEMPTY),
        });
        answer(reply, gone);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = self.state();
        let taken = flags.contains(RenameFlags::RENAME_NOREPLACE) && state.find(newparent.0, newname).is_ok();
        let renamed = match taken {
            true => Err(Errno::EEXIST),
            false => state.find(parent.0, name).and_then(|number| {
                let to = (newparent.0, newname.to_owned(), Some(number));
                state.change(vec![(parent.0, name.to_owned(), None), to])
            }),
        };
        answer(reply, renamed);
    }

    fn link(&self, _: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        let linked = match state.find(newparent.0, newname) {
            Ok(_) => Err(Errno::EEXIST),
            Err(_) => state.change(vec![(newparent.0, newname.to_owned(), Some(ino.0))]),
        };
        match linked.and_then(|()| state.about(ino.0)) {
            Ok(about) => reply.entry(&TTL, &about, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.state().node(ino.0) {
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.state().node(ino.0) {
            Ok(node) => {
                let begin = place(offset).min(node.bytes.len());
                let end = (begin + size as usize).min(node.bytes.len());
                reply.data(&node.bytes[begin..end]);
            }
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.state().write(ino.0, place(offset), data) {
            Ok(()) => reply.written(u32::try_from(data.len()).expect("a write is small")),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // A close makes nothing durable.
        reply.ok();
    }

    /// Answered by a thread of its own, so that others go on writing meanwhile.
    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let state = Arc::clone(&self.0);
        std::thread::spawn(move || {
            std::thread::sleep(SYNC_TAKES);
            answer(reply, state.lock().expect("nobody panics here").sync(ino.0));
        });
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.state().sync_dir(ino.0));
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut state = self.state();
        let entries = match state.node(ino.0) {
            Ok(node) => node.entries.clone(),
            Err(error) => return reply.error(error),
        };
        for (number, (name, to)) in (1..).zip(entries).skip(place(offset)) {
            let is_dir = state.nodes.get(&to).is_some_and(|node| node.is_dir);
            let kind = if is_dir { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(to), number, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCK_BYTES, 255, BLOCK_BYTES);
    }
}

fn answer(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

/// The disk, mounted.
pub struct FuseDisk {
    state: Arc<Mutex<State>>,
    session: Option<BackgroundSession>,
    dir: TempDir,
}

impl FuseDisk {
    /// A new one; `Err` says why this machine does not allow it.
    pub fn make(seed: u64) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting a file system takes root".to_owned());
        }
        if !Path::new("/dev/fuse").exists() {
            return Err("there is no /dev/fuse".to_owned());
        }
        let dir = tempfile::tempdir().expect("a directory");
        let mut disk = Self { state: Arc::new(Mutex::new(State::new(seed))), session: None, dir };
        disk.mount().map_err(|error| error.to_string())?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn mounted(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Sectors and changes of directories that cuts have taken.
    pub fn forgotten(&self) -> (u64, u64) {
        let state = self.state.lock().expect("nobody panics here");
        (state.sectors_forgotten, state.entries_forgotten)
    }

    /// The power goes, if it is not gone, and comes back, while nobody uses it.
    pub fn cut(&mut self) -> io::Result<()> {
        let mut state = self.state.lock().expect("nobody panics here");
        if !state.dark {
            state.cut();
        }
        state.cut_after = None;
        drop(state);
        self.mount_again()
    }

    /// Whatever is there is durable now; after so many more operations the power goes.
    pub fn cut_after(&self, operations: u64) {
        let mut state = self.state.lock().expect("nobody panics here");
        for node in state.nodes.values_mut() {
            node.durable.clone_from(&node.bytes);
            node.durable_entries.clone_from(&node.entries);
            node.dirty.clear();
        }
        state.changes.clear();
        state.cut_after = Some(operations);
    }

    /// The power is gone.
    pub fn is_dark(&self) -> bool {
        self.state.lock().expect("nobody panics here").dark
    }

    fn mount_again(&mut self) -> io::Result<()> {
        // With the mount goes what the kernel still remembers.
        if let Some(session) = self.session.take() {
            session.umount_and_join()?;
        }
        self.state.lock().expect("nobody panics here").dark = false;
        self.mount()
    }

    fn mount(&mut self) -> io::Result<()> {
        let face = Face(Arc::clone(&self.state));
        self.session = Some(spawn_mount(face, self.dir.path(), &Config::default())?);
        Ok(())
    }
}

impl Reaper for FuseDisk {
    fn death(&self) -> Death {
        Death::PowerCut
    }

    fn strike(&mut self, server: &mut Server) -> io::Result<Instant> {
        let mut state = self.state.lock().expect("nobody panics here");
        let at = Instant::now();
        state.cut();
        drop(state);
        server.kill().map(|()| at)
    }

    fn meanwhile(&mut self, _: &Path, _: &mut Dice) -> io::Result<bool> {
        self.mount_again().map(|()| false)
    }
}

impl Drop for FuseDisk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            // The directory below it can only be removed afterwards.
            let _ = session.umount_and_join();
        }
    }
}
