//! What a sync saves, and what a power cut, a killed process or a failed sync leaves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::sim::{Change, Dice, Inode, NameChange, Node, SECTOR_BYTES, SimDisk, State};

/// How much of what was not synced survives. Pure chance alone would hardly ever keep or lose all.
#[derive(Debug, Clone, Copy)]
enum Mood {
    LoseAll,
    KeepAll,
    /// Each change whole, or not at all.
    PerChange,
    /// Each sector on its own.
    PerSector,
}

impl Mood {
    fn draw(dice: &mut Dice) -> Self {
        match dice.below(6) {
            0 => Self::LoseAll,
            1 => Self::KeepAll,
            2 | 3 => Self::PerChange,
            _ => Self::PerSector,
        }
    }

    fn keeps_change(self, dice: &mut Dice) -> bool {
        match self {
            Self::LoseAll => false,
            Self::KeepAll => true,
            Self::PerChange | Self::PerSector => dice.one_in(2),
        }
    }
}

impl SimDisk {
    /// The disk after a power cut. Open files of this one go on as if nothing had happened.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let state = self.state();
        let mut dice = Dice::new(seed ^ 0x0c4a_5a1e_d000_0001);
        let names = crashed_names(&state, &mut dice);
        let mut numbers: Vec<u64> = state.inodes.keys().copied().collect();
        numbers.sort_unstable();
        let mut inodes = std::collections::HashMap::new();
        for number in numbers {
            // Drawn for every file, named or not, so that one seed gives one trace.
            let Some(inode) = state.inodes.get(&number) else { continue };
            let image = inode.crashed(&mut dice);
            if names.values().any(|node| *node == Node::File(number)) {
                inodes.insert(number, Inode { cache: image.clone(), platter: image, pending: Vec::new() });
            }
        }
        Self::from_state(State {
            inodes,
            inode_next: state.inode_next,
            names: names.clone(),
            names_durable: names,
            names_pending: Vec::new(),
            dice,
            ops: 0,
            fault: None,
            hits: 0,
            power_off: false,
            capacity: state.capacity,
        })
    }

    /// The disk after the process was killed: the page cache lives on, with all that is not synced, and
    /// with what a failed sync has lost still to be seen.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut state = self.state().clone();
        state.fault = None;
        state.power_off = false;
        state.ops = 0;
        state.hits = 0;
        Self::from_state(state)
    }
}

fn crashed_names(state: &State, dice: &mut Dice) -> BTreeMap<PathBuf, Node> {
    let mood = Mood::draw(dice);
    let mut names = state.names_durable.clone();
    for change in &state.names_pending {
        if mood.keeps_change(dice) {
            let both = dice.one_in(8);
            apply_name(&mut names, change, both);
        }
    }
    // What lies in a directory that vanished vanished with it.
    let snapshot = names.clone();
    let rooted = |path: &Path| path.ancestors().skip(1).all(|dir| snapshot.get(dir) == Some(&Node::Dir));
    names.retain(|path, _| rooted(path));
    names
}

fn apply_name(names: &mut BTreeMap<PathBuf, Node>, change: &NameChange, both: bool) {
    match change {
        NameChange::Add(path, node) => {
            names.insert(path.clone(), *node);
        }
        NameChange::Remove(path, node) => {
            if names.get(path) == Some(node) {
                names.remove(path);
            }
        }
        NameChange::Rename { from, to, node } => {
            names.insert(to.clone(), *node);
            if !both && names.get(from) == Some(node) {
                names.remove(from);
            }
        }
    }
}

impl State {
    /// Makes the changes of names in `dir` durable.
    pub(super) fn settle_names(&mut self, dir: &Path) {
        let (now, later) = std::mem::take(&mut self.names_pending).into_iter().partition(|change| change.touches(dir));
        self.names_pending = later;
        let now: Vec<NameChange> = now;
        for change in &now {
            apply_name(&mut self.names_durable, change, false);
        }
        self.reclaim();
    }
}

impl Inode {
    pub(super) fn write(&mut self, position: usize, bytes: &[u8]) {
        put(Arc::make_mut(&mut self.cache), position, bytes);
        self.pending.push(Change::Write { position, bytes: bytes.to_vec() });
    }

    /// Makes everything durable that a failed sync has not dropped before.
    pub(super) fn settle(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let platter = Arc::make_mut(&mut self.platter);
        for change in self.pending.drain(..) {
            match change {
                Change::Write { position, bytes } => put(platter, position, &bytes),
                Change::SetLen(len) => platter.resize(len, 0),
            }
        }
    }

    /// What a failed sync does: some sectors are saved, the others never will be.
    pub(super) fn lose(&mut self, dice: &mut Dice) {
        self.platter = self.crashed(dice);
        self.pending.clear();
    }

    /// The contents after a power cut.
    fn crashed(&self, dice: &mut Dice) -> Arc<Vec<u8>> {
        if self.pending.is_empty() {
            return self.platter.clone();
        }
        let mood = Mood::draw(dice);
        let mut image = self.platter.as_ref().clone();
        for change in &self.pending {
            match (change, mood) {
                (Change::Write { position, bytes }, Mood::PerSector) => torn(&mut image, *position, bytes, dice),
                (Change::Write { position, bytes }, _) => {
                    if mood.keeps_change(dice) {
                        put(&mut image, *position, bytes);
                    }
                }
                (Change::SetLen(len), _) => {
                    if mood.keeps_change(dice) {
                        image.resize(*len, 0);
                    }
                }
            }
        }
        Arc::new(image)
    }
}

/// Writes those sectors of `bytes` that chance keeps.
fn torn(image: &mut Vec<u8>, position: usize, bytes: &[u8], dice: &mut Dice) {
    // One coin for all sectors of a long write would never tear it in the middle: the odds vary.
    let odds = 1 + dice.below(8);
    let mut done = 0;
    while done < bytes.len() {
        let room = SECTOR_BYTES - (position + done) % SECTOR_BYTES;
        let piece = room.min(bytes.len() - done);
        if dice.below(9) < odds {
            put(image, position + done, bytes.get(done..done + piece).unwrap_or_default());
        }
        done += piece;
    }
}

fn put(image: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    let end = position + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    if let Some(place) = image.get_mut(position..end) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::disk::sim::Fault;

    fn path(name: &str) -> PathBuf {
        Path::new("/").join(name)
    }

    #[test]
    fn what_was_synced_survives_every_cut_and_what_was_not_survives_some() {
        let disk = SimDisk::new(1);
        let file = disk.create(&path("a")).unwrap();
        file.write_at(0, &[1; 2048]).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        file.write_at(0, &[2; 2048]).unwrap();
        disk.create(&path("b")).unwrap();
        let (mut old, mut new, mut mixed, mut named) = (0, 0, 0, 0);
        for seed in 0..400 {
            let after = disk.crash(seed);
            let bytes = after.dump(&path("a")).unwrap();
            assert_eq!(bytes.len(), 2048);
            for sector in bytes.chunks(SECTOR_BYTES) {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is never torn");
            }
            match bytes.iter().filter(|byte| **byte == 2).count() {
                0 => old += 1,
                2048 => new += 1,
                _ => mixed += 1,
            }
            named += usize::from(after.dump(&path("b")).is_some());
        }
        assert!(old > 50 && new > 50 && mixed > 50, "{old} {new} {mixed}");
        assert!((100..300).contains(&named), "{named}");
        assert_eq!(disk.kill().dump(&path("a")).unwrap(), [2; 2048]);
    }

    #[test]
    fn an_unsynced_rename_leaves_the_old_name_the_new_one_or_both() {
        let disk = SimDisk::new(1);
        disk.create(&path("a")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.rename(&path("a"), &path("b")).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut names = disk.crash(seed).list(Path::new("/")).unwrap();
            names.sort();
            seen.insert(names.join(" "));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["a", "a b", "b"]);
    }

    #[test]
    fn a_failed_sync_shows_bytes_that_no_later_sync_saves() {
        let disk = SimDisk::new(7);
        let file = disk.create(&path("a")).unwrap();
        file.write_at(0, &[1; 512 * 64]).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let mut lost = 0;
        for _ in 0..20 {
            file.write_at(0, &[2; 512 * 64]).unwrap();
            disk.fail(0, Fault::Io);
            assert!(file.sync_data().is_err());
            file.sync_data().unwrap();
            assert_eq!(disk.dump(&path("a")).unwrap(), [2; 512 * 64]);
            lost += usize::from(disk.crash(3).dump(&path("a")).unwrap().contains(&1));
            file.write_at(0, &[1; 512 * 64]).unwrap();
            file.sync_data().unwrap();
        }
        assert!(lost > 5, "{lost}");
    }

    #[test]
    fn faults_come_once_and_a_full_disk_says_so() {
        let disk = SimDisk::new(1);
        let file = disk.create(&path("a")).unwrap();
        let before = disk.ops();
        disk.fail(1, Fault::Short);
        file.write_at(0, &[1; 10]).unwrap();
        assert!(file.write_at(0, &[2; 100]).is_err());
        assert!(file.len().unwrap() < 100);
        assert_eq!((disk.ops() - before, disk.hits()), (3, 1));
        disk.set_capacity(100);
        assert_eq!(file.write_at(0, &[3; 101]).unwrap_err().raw_os_error(), Some(28));
        file.write_at(0, &[3; 100]).unwrap();
        disk.fail(0, Fault::PowerOff);
        assert!(disk.list(Path::new("/")).is_err());
        assert!(file.len().is_err());
        assert!(disk.flip(&path("a"), 99, 0));
        assert_eq!(disk.kill().dump(&path("a")).unwrap()[98..], [3, 2]);
    }
}
