//! Opening a log that was not stopped cleanly: every frame is read and verified.

use std::path::Path;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use windlass::clock::{Clock, SystemClock};
use windlass::disk::RealDisk;
use windlass::log::{
    CutTail, Epoch, FrameMeta, Log, Opening, Options, Replay, ReplayFrame, ReplayStart, Room, Step, Urgency,
};

fn main() {
    divan::main();
}

/// Counts entries.
#[derive(Default)]
struct Count(u64);

impl Replay for Count {
    fn start(&mut self, _: ReplayStart) {}

    fn frame(&mut self, frame: &ReplayFrame<'_>) -> Result<(), String> {
        self.0 += frame.entries().count() as u64;
        Ok(())
    }

    fn head(&mut self, _: Epoch) -> Vec<Vec<u8>> {
        vec![b"head".to_vec()]
    }

    fn cut(&mut self, _: &CutTail) {}
}

fn open(dir: &Path, clock: &Arc<dyn Clock>, replay: &mut Count) -> Log {
    let opening = Opening {
        disk: Arc::new(RealDisk),
        data_dir: dir.to_owned(),
        options: Options::default(),
        clock: clock.clone(),
        clean: None,
        known: None,
    };
    Log::open(opening, replay).expect("the log opens").0
}

/// A directory with a log of this many frames of one message each, left as a kill leaves it.
fn filled(frames: usize, clock: &Arc<dyn Clock>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("log")).expect("a directory");
    let mut log = open(dir.path(), clock, &mut Count::default());
    for frame in 0..frames {
        if log.room(1024, Urgency::Ordinary) != Room::Fits {
            while !matches!(log.prepare_spares(clock.boot()).expect("a spare segment"), Step::Idle | Step::NoSpace) {}
            log.roll(&[b"head".to_vec()], Urgency::Ordinary).expect("the next segment");
        }
        log.begin();
        log.push_record(frame as u128, b"head", &[7; 200]);
        log.push_entry(b"published");
        log.write(FrameMeta { time: clock.wall(), boot: clock.boot() }).expect("the frame is written");
    }
    log.sync().expect("the frames are synced");
    dir
}

/// Every run opens a log of its own.
#[divan::bench(args = [1_000, 20_000], sample_count = 20, sample_size = 1)]
fn open_after_a_kill(bencher: Bencher, frames: usize) {
    let clock = Arc::new(SystemClock::new()) as Arc<dyn Clock>;
    let counted = bencher.counter(ItemsCount::new(frames));
    counted.with_inputs(|| filled(frames, &clock)).bench_local_refs(|dir| {
        let mut count = Count::default();
        let log = open(dir.path(), &clock, &mut count);
        assert!(count.0 >= frames as u64);
        drop(log);
    });
}
