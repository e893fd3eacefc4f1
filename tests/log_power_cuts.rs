//! Thousands of power cuts, kills and failing operations against the log on a simulated disk, several
//! in a row on one disk, recovery included: what was synced is there, in order, and nothing that was
//! never written.

#![allow(clippy::unwrap_used)]

mod counts;
mod log_rig;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use log_rig::{Mirror, data_dir, head_of, meta, new_disk, options, push_at, try_open};
use windlass::clock::{Clock, ManualClock};
use windlass::disk::Disk;
use windlass::disk::sim::{Dice, Fault, SimDisk};
use windlass::log::{Known, Log, OpenError, ReplayStart, RollError, Room, Urgency, record_bytes, write_mark};
use windlass::model::Lsn;

/// Seeds in a normal run; each is several crashes on one disk. WINDLASS_SEEDS makes it longer.
const SEEDS: u64 = 700;
const SEEDS_LONG: u64 = 20_000;
const GENERATIONS: u64 = 6;

#[derive(Default, Debug)]
struct Seen {
    crashes: u64,
    kills: u64,
    failed_opens: u64,
    torn: u64,
    rewritten: u64,
    lost_suffix: u64,
    continued: u64,
    recycled: u64,
    rolls: u64,
}

/// What the log must hold.
#[derive(Default)]
struct Truth {
    /// Everything written and not known to be lost.
    written: BTreeMap<u64, (Vec<u8>, u64, usize)>,
    last: u64,
    synced: u64,
    /// Every lsn at which the log was ever told to begin.
    begins: Vec<u64>,
    /// A checkpoint, as an index would hold it: where the log began then, everything up to its lsn.
    checkpoint: Option<(u64, Known, Mirror)>,
    tag: u64,
}

struct Trial {
    seed: u64,
    dice: Dice,
    disk: SimDisk,
    clock: Arc<ManualClock>,
    truth: Truth,
}

#[test]
fn nothing_synced_is_lost_by_any_sequence_of_crashes() {
    let seeds = counts::rounds("WINDLASS_SEEDS", SEEDS, SEEDS_LONG);
    let mut seen = Seen::default();
    for seed in 0..seeds {
        let mut trial = Trial {
            seed,
            dice: Dice::new(seed),
            disk: new_disk(seed),
            clock: Arc::new(ManualClock::new(seed)),
            truth: Truth { begins: vec![1], ..Truth::default() },
        };
        for _ in 0..GENERATIONS {
            trial.live(&mut seen);
        }
        trial.disk.mend();
        trial.open(&mut seen).unwrap_or_else(|error| panic!("seed {seed}: the last open failed: {error}"));
    }
    println!("{seen:?}");
    let scale = |count: u64| count * seeds / SEEDS;
    assert!(seen.crashes + seen.kills >= scale(3_000) && seen.failed_opens >= scale(100), "{seen:?}");
    assert!(seen.torn >= scale(100) && seen.rewritten >= scale(500) && seen.lost_suffix >= scale(100), "{seen:?}");
    assert!(seen.continued >= scale(200) && seen.recycled >= scale(100) && seen.rolls >= scale(1_000), "{seen:?}");
}

impl Trial {
    /// One life: open, work, die.
    fn live(&mut self, seen: &mut Seen) {
        if self.dice.one_in(3) {
            self.arm(120);
        }
        match self.open(seen) {
            Ok(mut log) => {
                if self.dice.one_in(2) {
                    self.arm(200);
                }
                let steps = self.dice.below(60);
                let alive = (0..steps).all(|_| self.work(&mut log, seen));
                if alive && self.dice.one_in(4) {
                    self.stop(log);
                }
            }
            Err(OpenError::Io { .. }) => seen.failed_opens += 1,
            Err(error) => panic!("seed {}: {error}", self.seed),
        }
        self.clock.advance(Duration::from_millis(self.dice.below(20_000)));
        // A power cut that was announced is one; otherwise the process alone may have died.
        let dead = self.disk.space(&data_dir()).is_err();
        self.disk = if dead || self.dice.one_in(2) {
            seen.crashes += 1;
            self.disk.crash(self.dice.roll())
        } else {
            seen.kills += 1;
            self.disk.kill()
        };
    }

    fn arm(&mut self, ops: u64) {
        let fault = match self.dice.below(4) {
            0 => Fault::Io,
            1 => Fault::Short,
            _ => Fault::PowerOff,
        };
        self.disk.fail(self.dice.below(ops), fault);
    }

    fn open(&mut self, seen: &mut Seen) -> Result<Log, OpenError> {
        let (began, known, mut mirror) = match &self.truth.checkpoint {
            Some((began, known, mirror)) if self.dice.one_in(2) => (*began, Some(*known), mirror.clone()),
            _ => (0, None, Mirror::default()),
        };
        let (log, report) = try_open(&self.disk, &self.clock, options(), known, &mut mirror)?;
        let (seed, truth, last) = (self.seed, &mut self.truth, report.last.get());
        assert!(last >= truth.synced, "seed {seed}: lsn {} was synced, {last} is the last", truth.synced);
        assert!(last <= truth.last, "seed {seed}: lsn {last} was never written");
        let kept = report.first_kept.get();
        assert!(truth.begins.contains(&kept), "seed {seed}: the log begins at {kept}");
        // What had been dropped when the checkpoint was taken it need not hold, even if the drop was lost.
        for lsn in kept.max(began)..=last {
            let (entry, tag, body) = &truth.written[&lsn];
            assert_eq!(mirror.entries.get(&lsn), Some(entry), "seed {seed}: lsn {lsn}");
            if *body > 0 {
                let loc = mirror.locs[&lsn];
                let record = log.reader().read(loc);
                match record {
                    Ok(record) => {
                        assert_eq!((record.id, &record.head[..]), (u128::from(lsn), &entry[..]));
                        assert_eq!(record.body, log_rig::body_of(*tag, *body), "seed {seed}: lsn {lsn}");
                    }
                    // The fault that was armed may hit here.
                    Err(windlass::log::ReadError::Io { .. }) => {}
                    Err(error) => panic!("seed {seed}: lsn {lsn}: {error}"),
                }
            }
        }
        assert!(!mirror.entries.contains_key(&(last + 1)), "seed {seed}: more than there is");
        seen.torn += report.cut.len() as u64;
        seen.rewritten += report.rewritten;
        seen.lost_suffix += u64::from(last < truth.last);
        seen.continued += u64::from(matches!(mirror.started, Some(ReplayStart::Continue(_))));
        truth.written.retain(|lsn, _| *lsn <= last);
        (truth.last, truth.synced) = (last, last);
        Ok(log)
    }

    /// One step of a writer and its keeper. Answers false once the log has died.
    fn work(&mut self, log: &mut Log, seen: &mut Seen) -> bool {
        match self.dice.below(12) {
            0..=5 => self.append(log, seen),
            6..=8 => self.sync(log),
            9 => {
                self.clock.advance(Duration::from_millis(self.dice.below(6_000)));
                let step = log.prepare_spares(self.clock.boot());
                seen.recycled += u64::from(matches!(step, Ok(windlass::log::Step::Recycled)));
                step.is_ok()
            }
            10 => self.roll(log, seen),
            _ => self.drop_front(log),
        }
    }

    fn append(&mut self, log: &mut Log, seen: &mut Seen) -> bool {
        let count = self.dice.below(4);
        let bodies: Vec<usize> = (0..count).map(|_| self.dice.below(5_000) as usize).collect();
        // Generous: an entry of this test is below a hundred bytes.
        let payload: usize = bodies.iter().map(|body| record_bytes(100, *body) + 100).sum();
        match log.room(payload, Urgency::Ordinary) {
            Room::Fits => {}
            Room::NeedsRoll => return self.roll(log, seen),
            Room::Full => return log.prepare_spares(self.clock.boot()).is_ok(),
            Room::TooLarge => panic!("a frame of {payload} bytes"),
        }
        let first = self.truth.last + 1;
        let mut pushed = Vec::new();
        for (place, body) in bodies.into_iter().enumerate() {
            // A body one byte long is no body here: it would look like none to the mirror.
            self.truth.tag += 1;
            let tag = self.truth.tag << 8 | self.seed & 0xff;
            let (lsn, entry, _) = push_at(log, first + place as u64, tag, body);
            pushed.push((lsn, (entry, tag, body)));
        }
        // Written to the truth even if the write fails: part of it may be there.
        self.truth.last += pushed.len() as u64;
        self.truth.written.extend(pushed);
        log.write(meta(&self.clock)).is_ok()
    }

    fn sync(&mut self, log: &mut Log) -> bool {
        let Ok(synced) = log.sync() else { return false };
        self.truth.synced = synced.get();
        assert_eq!(synced.get(), self.truth.last);
        if self.dice.one_in(3) {
            self.take_checkpoint(log);
        }
        true
    }

    /// As the index would: everything up to the synced lsn, with places that are right today.
    fn take_checkpoint(&mut self, log: &Log) {
        let mut mirror = Mirror { last: self.truth.synced, ..Mirror::default() };
        for segment in log.segments() {
            let Ok(mut scan) = log.reader().scan(segment.first.get()) else { return };
            while let Some(frame) = scan.next() {
                let Ok(frame) = frame else { return };
                if frame.kind == windlass::log::FrameKind::Head {
                    continue;
                }
                let Ok(locs) = scan.record_locs(&frame) else { return };
                let mut locs = locs.into_iter();
                for (place, entry) in frame.entries().enumerate() {
                    let lsn = frame.first.get() + place as u64;
                    mirror.entries.insert(lsn, entry.to_vec());
                    if entry.last() == Some(&b'r') {
                        mirror.locs.insert(lsn, locs.next().unwrap());
                    }
                }
            }
        }
        let kept = log.first_kept().get();
        let all = (kept..=self.truth.synced).all(|lsn| mirror.entries.get(&lsn) == Some(&self.truth.written[&lsn].0));
        assert!(all, "seed {}: a scan sees what was written", self.seed);
        let known = Known { epoch: log.epoch(), lsn: Lsn::new(self.truth.synced) };
        self.truth.checkpoint = Some((kept, known, mirror));
    }

    fn roll(&mut self, log: &mut Log, seen: &mut Seen) -> bool {
        match log.roll(&head_of(log.last_lsn().get()), Urgency::Essential) {
            Ok(()) => {
                self.truth.synced = self.truth.last;
                seen.rolls += 1;
                true
            }
            Err(RollError::NoSpare) => log.prepare_spares(self.clock.boot()).is_ok(),
            Err(RollError::HeadTooLarge { .. }) => panic!("the heads of this test are small"),
            Err(RollError::Fatal(_)) => false,
        }
    }

    /// Drops only what a checkpoint covers, as the engine does.
    fn drop_front(&mut self, log: &mut Log) -> bool {
        let segments = log.segments();
        let place = self.dice.below(segments.len() as u64) as usize;
        let first = segments[place].first.get();
        if self.truth.checkpoint.as_ref().is_some_and(|(_, known, _)| known.lsn.get() + 1 >= first)
            && self.truth.synced + 1 >= first
        {
            log.drop_front(first);
            self.truth.begins.push(first);
        }
        true
    }

    fn stop(&mut self, log: Log) {
        let Ok(mark) = log.stop_clean() else { return };
        self.truth.synced = self.truth.last;
        let _ = write_mark(&self.disk, &data_dir(), mark, self.dice.roll());
    }
}
