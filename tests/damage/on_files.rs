//! The story told on real files, with sled beside them, through the front door of a data directory.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use windlass::clock::ManualClock;
use windlass::engine::local::LocalEngine;
use windlass::engine::{Engine, Home, HomeError, LocalOptions};
use windlass::log::Options;

use crate::scene::{self, Facts, LAST_STEPS, Stage};

/// A directory at work.
pub struct Running {
    pub engine: Arc<LocalEngine>,
    clock: Arc<ManualClock>,
    runtime: tokio::runtime::Runtime,
    _home: Home,
}

pub fn options() -> LocalOptions {
    LocalOptions { log: Options::with_segment_bytes(64 << 10), ..LocalOptions::default() }
}

/// Starts on `dir`, `now` behind the beginning of the story. `life` makes the random bits.
pub fn start(dir: &Path, now: Duration, life: u64) -> Result<Running, HomeError> {
    let clock = Arc::new(ManualClock::new(life));
    clock.advance(now);
    let home = Home::open(dir, &*clock)?;
    let engine = Arc::new(home.engine(clock.clone(), &options())?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    Ok(Running { engine, clock, runtime, _home: home })
}

impl Running {
    pub fn stop(mut self) {
        let engine = self.engine.clone();
        self.wait(async move { engine.stop().await });
        self.engine.join();
    }
}

impl Stage for Running {
    fn engine(&self) -> Arc<dyn Engine> {
        self.engine.clone()
    }

    fn wait<T: Send>(&mut self, call: impl Future<Output = T> + Send) -> T {
        self.runtime.block_on(call)
    }

    fn advance(&mut self, span: Duration) {
        self.clock.advance(span);
    }
}

/// The time at which the story ends.
pub const END: Duration = Duration::from_secs(14);

/// Tells the story in `dir`: two lives that end clean, and a third that is still going on when this returns.
pub fn tell(dir: &Path) -> (Running, Facts) {
    let mut facts = Facts::default();
    let mut life = start(dir, Duration::ZERO, 1).unwrap();
    scene::first_life(&mut life, &mut facts);
    life.stop();
    let mut life = start(dir, Duration::ZERO, 2).unwrap();
    assert_eq!(life.engine.index_lost(), None);
    scene::second_life(&mut life, &mut facts);
    life.stop();
    let mut life = start(dir, END, 3).unwrap();
    assert_eq!(life.engine.index_lost(), None);
    for number in 0..LAST_STEPS {
        scene::last_life(&mut life, &mut facts, number);
    }
    (life, facts)
}

/// Copies a directory with all that is in it, as `cp -r` does.
pub fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_tree(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

/// Every file below `dir`, by its path from there.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}
