//! The log alone: append and sync, on a real directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use divan::counter::BytesCount;
use windlass::clock::{Clock, SystemClock};
use windlass::disk::RealDisk;
use windlass::log::{
    CutTail, Epoch, FrameMeta, Log, Opening, Options, Replay, ReplayFrame, ReplayStart, Room, Step, Urgency,
};

fn main() {
    divan::main();
}

/// Takes what is replayed and keeps nothing.
struct Blind;

impl Replay for Blind {
    fn start(&mut self, _: ReplayStart) {}

    fn frame(&mut self, _: &ReplayFrame<'_>) -> Result<(), String> {
        Ok(())
    }

    fn head(&mut self, _: Epoch) -> Vec<Vec<u8>> {
        vec![b"head".to_vec()]
    }

    fn cut(&mut self, _: &CutTail) {}
}

fn open(dir: PathBuf, clock: &Arc<dyn Clock>) -> Log {
    std::fs::create_dir(dir.join("log")).expect("a directory");
    let opening = Opening {
        disk: Arc::new(RealDisk),
        data_dir: dir,
        // Segments are used again at once.
        options: Options { drop_keep: Duration::ZERO, ..Options::default() },
        clock: clock.clone(),
        clean: None,
        known: None,
    };
    Log::open(opening, &mut Blind).expect("the log opens").0
}

/// One frame of this many messages of 1 KiB, synced.
#[divan::bench(args = [1, 16, 256], max_time = 1)]
fn append_and_sync(bencher: Bencher, messages: usize) {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), Arc::new(SystemClock::new()) as Arc<dyn Clock>);
    let mut log = open(dir.path().to_owned(), &clock);
    let body = vec![7; 1024];
    bencher.counter(BytesCount::new(messages * body.len())).bench_local(|| {
        if log.room(messages * 2048, Urgency::Ordinary) != Room::Fits {
            while !matches!(log.prepare_spares(clock.boot()).expect("a spare segment"), Step::Idle | Step::NoSpace) {}
            log.roll(&[b"head".to_vec()], Urgency::Ordinary).expect("the next segment");
            let active = log.active_segment();
            log.drop_front(active);
        }
        log.begin();
        for message in 0..messages {
            log.push_record(message as u128, b"head", &body);
            log.push_entry(b"published");
        }
        log.write(FrameMeta { time: clock.wall(), boot: clock.boot() }).expect("the frame is written");
        log.sync().expect("the frame is synced")
    });
}
