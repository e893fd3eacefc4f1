//! Power cuts and failures at every single operation of a backup, on the simulated disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::ManualClock;
use crate::disk::sim::{Fault, SimDisk};
use crate::disk::{Disk, DiskFile};
use crate::engine::backup::make::{Origin, make};
use crate::engine::backup::restore::{RestoreError, fill};
use crate::engine::backup::verify::{VerifyError, verify};
use crate::engine::backup::{Backup, BackupError, BackupReport, MANIFEST};
use crate::engine::command::{Command, Sealed};
use crate::engine::home::put_file;
use crate::engine::local::LocalEngine;
use crate::engine::{CreateTopic, Engine as _, IndexPlace, Limits, Publish, Source, WriterOptions};
use crate::index::{Index, IndexError, ModelIndex};
use crate::log::{Options, Place, check, read_mark};
use crate::model::{AccountName, NewMessage, TopicName, TopicRef, TopicSettings};

struct NoPlace;

impl IndexPlace for NoPlace {
    fn open(&self) -> Result<Box<dyn Index>, IndexError> {
        Ok(Box::new(ModelIndex::new()))
    }

    fn set_aside(&self) -> Result<(), IndexError> {
        Ok(())
    }
}

/// A disk with a log of a few segments, sealed; no engine runs on it any more.
fn sealed() -> (SimDisk, Arc<ManualClock>, Sealed) {
    let (disk, clock) = (SimDisk::new(7), Arc::new(ManualClock::new(7)));
    let source = Source {
        disk: Arc::new(disk.clone()),
        data_dir: PathBuf::from("/data"),
        log: Options::with_segment_bytes(64 << 10),
        clock: clock.clone(),
        place: Arc::new(NoPlace),
        limits: Limits::default(),
        options: WriterOptions::default(),
        index_is_foreign: false,
    };
    disk.create_dir(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let engine = LocalEngine::start(source, &[7; 32]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sealed = runtime.block_on(async {
        let (account, name) = (AccountName::standard(), TopicName::parse("t").unwrap());
        let topic = CreateTopic { account: account.clone(), name: name.clone(), settings: TopicSettings::default() };
        engine.create_topic(topic).await.unwrap();
        for _ in 0..24 {
            let messages = vec![NewMessage { body: vec![b'x'; 9_000].into(), ..NewMessage::default() }];
            let publish = Publish { account: account.clone(), topic: TopicRef::Name(name.clone()), messages };
            engine.publish(publish).await.unwrap();
        }
        let sealed = engine.ask(Command::Seal).await.unwrap().unwrap();
        engine.stop().await;
        sealed
    });
    engine.join();
    assert!(sealed.segments.len() >= 4, "{} segments", sealed.segments.len());
    (disk, clock, sealed)
}

fn back_up(disk: &dyn Disk, clock: &ManualClock, sealed: &Sealed) -> Result<BackupReport, BackupError> {
    let origin = Origin { disk, log: Path::new("/data/log"), secret: &[7; 32], clock };
    make(&origin, &Backup { dir: "/b".into(), progress: Arc::default() }, sealed)
}

fn proves(disk: &SimDisk) -> Result<(), VerifyError> {
    verify(disk, Path::new("/b"), &crate::engine::BackupProgress::default()).map(drop)
}

/// A file system on which nothing can be linked, as if the backup lay on another one.
struct NoLinks(SimDisk);

impl Disk for NoLinks {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.0.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open_read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.0.unlink(path)
    }

    fn hard_link(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::CrossesDevices.into())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn space(&self, dir: &Path) -> io::Result<u64> {
        self.0.space(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }
}

#[test]
fn a_power_cut_at_any_operation_of_a_linked_backup_leaves_it_whole_or_none() {
    cut_everywhere(|disk| Box::new(disk.clone()));
}

#[test]
fn a_power_cut_at_any_operation_of_a_copied_backup_leaves_it_whole_or_none() {
    cut_everywhere(|disk| Box::new(NoLinks(disk.clone())));
}

fn cut_everywhere(on: fn(&SimDisk) -> Box<dyn Disk>) {
    let (disk, clock, sealed) = sealed();
    let (mut whole, mut none) = (0, 0);
    for cut in 0.. {
        let mut hit = false;
        for seed in 0..16 {
            let fork = disk.kill();
            fork.fail(cut, Fault::PowerOff);
            let made = back_up(&*on(&fork), &clock, &sealed);
            hit = !fork.has_power();
            let after = fork.crash(seed);
            if after.exists(Path::new("/b/FORMAT")).unwrap() {
                // A start would take it for a data directory: then it holds everything.
                let held = check(&after, Path::new("/b"), Place::Original, None, &mut |_| {}).unwrap();
                assert_eq!((held.last, &held.damage), (sealed.last, &None), "cut at operation {cut}, seed {seed}");
            }
            match proves(&after) {
                Ok(()) => whole += 1,
                Err(VerifyError::NoBackup(_)) => {
                    assert!(made.is_err(), "a backup that was confirmed is gone");
                    none += 1;
                }
                Err(error) => panic!("cut at operation {cut}, seed {seed}: {error}"),
            }
        }
        if !hit {
            break;
        }
    }
    assert!(whole > 16 && none > 500, "{whole} whole, {none} none");
    println!("{whole} whole, {none} none");
}

#[test]
fn an_operation_that_fails_leaves_no_manifest_or_a_whole_backup() {
    let (disk, clock, sealed) = sealed();
    for fault in [Fault::Io, Fault::Short, Fault::NoSpace] {
        for at in 0.. {
            let fork = disk.kill();
            fork.fail(at, fault);
            let made = back_up(&fork, &clock, &sealed);
            if fork.hits() == 0 {
                made.unwrap();
                break;
            }
            assert!(made.is_err(), "{fault:?} at operation {at} went unseen");
            let has_manifest = fork.exists(&Path::new("/b").join(MANIFEST)).unwrap();
            match proves(&fork) {
                Ok(()) => {}
                Err(VerifyError::NoBackup(_)) if !has_manifest => {}
                Err(error) => panic!("{fault:?} at operation {at}: {error}"),
            }
        }
    }
}

#[test]
fn every_flipped_bit_and_every_shortened_file_of_a_backup_is_named() {
    let (disk, clock, sealed) = sealed();
    back_up(&disk, &clock, &sealed).unwrap();
    proves(&disk).unwrap();
    let backup = disk.files().into_iter().filter(|(path, _)| path.starts_with("/b"));
    for (path, bytes) in backup {
        let step = (bytes.len() / 64).max(1);
        for at in (0..bytes.len()).step_by(step) {
            let fork = disk.kill();
            assert!(fork.flip(&path, at, at as u32));
            let error = proves(&fork).unwrap_err();
            assert!(error.is_damage(), "{path:?} at {at}: {error}");
            let named = path.strip_prefix("/b").unwrap().display().to_string();
            assert!(error.to_string().starts_with(&named), "{path:?} at {at}: {error}");
        }
        let fork = disk.kill();
        fork.put(&path, bytes[..bytes.len() - 1].to_vec());
        assert!(proves(&fork).unwrap_err().is_damage(), "{path:?} shortened");
    }
}

/// A restore of `/b` into `/r`, which is there and empty.
fn restore(disk: &SimDisk, clock: &ManualClock) -> Result<(), RestoreError> {
    let proven = verify(disk, Path::new("/b"), &crate::engine::BackupProgress::default())?;
    let dir = Path::new("/r");
    let identity = || put_file(disk, dir, "IDENTITY", b"of this place", clock);
    fill(disk, (Path::new("/b"), &proven), dir, clock, &crate::engine::BackupProgress::default(), &identity)
}

/// A disk with a backup and an empty place to restore it into.
fn backed_up() -> (SimDisk, Arc<ManualClock>, Sealed) {
    let (disk, clock, sealed) = sealed();
    back_up(&disk, &clock, &sealed).unwrap();
    disk.create_dir(Path::new("/r")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (disk, clock, sealed)
}

/// Whether a start would take `/r` for a data directory; then it holds all that the backup does, and says so.
fn is_restored(disk: &SimDisk, sealed: &Sealed, when: &str) -> bool {
    let dir = Path::new("/r");
    if !disk.exists(&dir.join("FORMAT")).unwrap() {
        return false;
    }
    let mark = read_mark(disk, dir).unwrap().expect("the mark of what is durable");
    assert_eq!(mark.last, sealed.last, "{when}");
    let held = check(disk, dir, Place::Original, Some(mark), &mut |_| {}).unwrap();
    assert_eq!((held.last, &held.damage, &held.torn), (sealed.last, &None, &None), "{when}");
    for (path, bytes) in disk.files() {
        if let Ok(name) = path.strip_prefix("/b")
            && name != Path::new(MANIFEST)
        {
            assert_eq!(disk.dump(&dir.join(name)), Some(bytes), "{when}: {}", name.display());
        }
    }
    assert!(disk.exists(&dir.join("IDENTITY")).unwrap(), "{when}");
    true
}

#[test]
fn a_power_cut_at_any_operation_of_a_restore_leaves_a_whole_data_directory_or_none() {
    let (disk, clock, sealed) = backed_up();
    let (mut whole, mut none) = (0, 0);
    for cut in 0.. {
        let mut hit = false;
        for seed in 0..16 {
            let fork = disk.kill();
            fork.fail(cut, Fault::PowerOff);
            let restored = restore(&fork, &clock);
            hit = !fork.has_power();
            let when = format!("cut at operation {cut}, seed {seed}");
            // A kill at this operation leaves what the page cache has, a power cut any part of it.
            for after in [fork.kill(), fork.crash(seed)] {
                if is_restored(&after, &sealed, &when) {
                    whole += 1;
                } else {
                    assert!(restored.is_err(), "{when}: a restore that was confirmed is gone");
                    none += 1;
                }
            }
        }
        if !hit {
            break;
        }
    }
    assert!(whole > 32 && none > 500, "{whole} whole, {none} none");
    println!("{whole} whole, {none} none");
}

#[test]
fn an_operation_of_a_restore_that_fails_is_told_and_leaves_no_data_directory() {
    let (disk, clock, sealed) = backed_up();
    let mut faults = 0;
    for fault in [Fault::Io, Fault::Short, Fault::NoSpace] {
        for at in 0.. {
            let fork = disk.kill();
            fork.fail(at, fault);
            let restored = restore(&fork, &clock);
            fork.mend();
            let when = format!("{fault:?} at operation {at}");
            if fork.hits() == 0 {
                restored.unwrap();
                assert!(is_restored(&fork, &sealed, &when));
                break;
            }
            faults += 1;
            assert!(restored.is_err(), "{when} went unseen");
            // The name may be there when its sync fails; what it stands for is there as well.
            is_restored(&fork, &sealed, &when);
        }
    }
    assert!(faults > 100, "{faults}");
    println!("{faults} faults");
}
