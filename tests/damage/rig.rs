//! The story told on a simulated disk, in segments of 64 KiB, and images of it to be damaged.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use windlass::clock::ManualClock;
use windlass::disk::Disk as _;
use windlass::disk::sim::SimDisk;
use windlass::engine::local::LocalEngine;
use windlass::engine::sim::Rig;
use windlass::engine::{Engine, IndexPlace, Limits, RecoverError, Source, WriterOptions};
use windlass::index::{Index, IndexError, ModelIndex};
use windlass::log::{Options, Step};

use crate::scene::{self, Facts, LAST_STEPS, Stage};

pub const SEGMENT_BYTES: u64 = 64 << 10;

/// Where the model index lies.
#[derive(Clone, Default)]
pub struct Place(Arc<Mutex<ModelIndex>>);

impl IndexPlace for Place {
    fn open(&self) -> Result<Box<dyn Index>, IndexError> {
        Ok(Box::new(self.0.lock().unwrap().clone()))
    }

    fn set_aside(&self) -> Result<(), IndexError> {
        *self.0.lock().unwrap() = ModelIndex::new();
        Ok(())
    }
}

impl Place {
    fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().unwrap().fork())))
    }
}

/// A disk, an index and the time on the clock: all that an engine starts from.
#[derive(Clone)]
pub struct Image {
    pub disk: SimDisk,
    place: Place,
    now: Duration,
}

impl Image {
    /// The same, to be changed without changing this one.
    pub fn fork(&self) -> Self {
        Self { disk: self.disk.kill(), place: self.place.fork(), now: self.now }
    }

    /// The same with an index that holds nothing.
    pub fn without_index(&self) -> Self {
        Self { place: Place::default(), ..self.fork() }
    }

    /// Starts an engine on it.
    pub fn start(self) -> Result<Running, RecoverError> {
        // Names of temporary files must not repeat those of an earlier life.
        let clock = Arc::new(ManualClock::new(self.disk.used() ^ u64::from(self.disk.ops() as u32) ^ 0x5eed));
        self.start_with(clock)
    }

    fn start_with(self, clock: Arc<ManualClock>) -> Result<Running, RecoverError> {
        clock.advance(self.now);
        let source = Source {
            disk: Arc::new(self.disk.clone()),
            data_dir: PathBuf::from("/"),
            log: Options { drop_keep: Duration::from_secs(1), ..Options::with_segment_bytes(SEGMENT_BYTES) },
            clock: clock.clone(),
            place: Arc::new(self.place.clone()),
            limits: Limits::default(),
            options: WriterOptions::default(),
            index_is_foreign: false,
        };
        let rig = Rig::start(&source, &[7; 32])?;
        Ok(Running { image: self, clock, rig })
    }
}

/// An engine at work.
pub struct Running {
    image: Image,
    clock: Arc<ManualClock>,
    rig: Rig,
}

impl Running {
    pub fn local(&self) -> Arc<LocalEngine> {
        self.rig.engine()
    }

    pub fn disk(&self) -> &SimDisk {
        &self.image.disk
    }

    fn turn(&mut self) {
        self.rig.turn().unwrap();
        while self.rig.run_job(0).is_some() {
            self.rig.turn().unwrap();
        }
        while !matches!(self.rig.keep().unwrap(), Step::Idle | Step::NoSpace) {}
    }

    /// What a SIGKILL now would leave.
    pub fn image(&self) -> Image {
        self.image.fork()
    }

    fn stop(mut self) -> Image {
        let engine = self.rig.engine();
        let mut stopping = Box::pin(async move { engine.stop().await });
        while !self.rig.is_stopped() {
            assert!(stopping.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            self.turn();
        }
        let image = self.image;
        self.rig.finish().unwrap();
        image
    }
}

impl Stage for Running {
    fn engine(&self) -> Arc<dyn Engine> {
        self.rig.engine()
    }

    fn wait<T: Send>(&mut self, call: impl Future<Output = T> + Send) -> T {
        let mut call = Box::pin(call);
        for _ in 0..1_000 {
            if let Poll::Ready(answer) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return answer;
            }
            self.turn();
        }
        panic!("a call was never answered");
    }

    fn advance(&mut self, span: Duration) {
        self.clock.advance(span);
        self.image.now += span;
        self.turn();
    }
}

/// The whole story.
pub struct Story {
    /// After a clean stop.
    pub clean: Image,
    /// After each step of the last life, as a SIGKILL would leave it, with what clients held then.
    pub steps: Vec<(Image, Facts)>,
    pub facts: Facts,
}

/// Tells it: a life that ends clean, one that is killed, one with a checkpoint in its middle.
pub fn tell() -> Story {
    let disk = SimDisk::new(11);
    disk.put(Path::new("/FORMAT"), b"windlass format 1\n".to_vec());
    disk.put(Path::new("/secret.key"), vec![7; 32]);
    let mut facts = Facts::default();
    let image = Image { disk, place: Place::default(), now: Duration::ZERO };
    let mut life = image.start_with(Arc::new(ManualClock::new(1))).unwrap();
    scene::first_life(&mut life, &mut facts);
    let mut life = life.stop().start_with(Arc::new(ManualClock::new(2))).unwrap();
    scene::second_life(&mut life, &mut facts);
    // Time for a checkpoint, in the middle of what follows.
    life.advance(Duration::from_secs(6));
    let killed = life.image();
    let mut life = killed.start_with(Arc::new(ManualClock::new(3))).unwrap();
    let mut steps = Vec::new();
    for number in 0..LAST_STEPS {
        scene::last_life(&mut life, &mut facts, number);
        steps.push((life.image(), facts.clone()));
    }
    Story { clean: life.stop(), steps, facts }
}

/// Files of an image that the engine reads by itself, the index left out.
pub fn files(image: &Image) -> Vec<(PathBuf, Vec<u8>)> {
    let kept = image.disk.files().into_iter();
    kept.filter(|(path, _)| path.starts_with("/log") || path == Path::new("/CLEAN")).collect()
}

/// Takes a name away.
pub fn delete(image: &Image, path: &Path) {
    image.disk.unlink(path).unwrap();
}
