//! What a log does on a disk that behaves: round trips, golden bytes, rolling, dropping, recycling,
//! full disks and links.

#![allow(clippy::unwrap_used)]

mod log_rig;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log_rig::{
    Mirror, SEGMENT_BYTES, append, body_of, data_dir, head_of, keep, log_dir, meta, new_disk, open, options, push,
    push_at, roll, stop, try_open,
};
use windlass::clock::{Clock, ManualClock};
use windlass::disk::sim::Fault;
use windlass::disk::{Disk, RealDisk};
use windlass::log::{
    FrameKind, Known, Log, OpenError, Opening, Place, ReadError, ReplayStart, RollError, Room, Step, Urgency, check,
    read_mark,
};
use windlass::model::Lsn;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(42))
}

#[test]
fn entries_and_records_come_back_after_a_clean_stop() {
    let (disk, clock) = (new_disk(1), clock());
    let (mut log, report, _) = open(&disk, &clock);
    assert_eq!((report.last, report.epoch.counter, report.clean), (Lsn::NONE, 1, false));
    let mut written = Vec::new();
    for tag in 0..50 {
        let (lsn, entry, loc) = append(&mut log, &clock, tag, (tag as usize % 3) * 700);
        written.push((lsn, entry, loc, tag));
    }
    for (lsn, entry, loc, tag) in &written {
        let Some(loc) = loc else { continue };
        let record = log.reader().read(*loc).unwrap();
        assert_eq!((record.id, &record.head[..]), (u128::from(*lsn), &entry[..]));
        assert_eq!(record.body, body_of(*tag, (*tag as usize % 3) * 700));
    }
    assert_eq!(log.sync().unwrap(), Lsn::new(50));
    stop(log, &disk);
    let (log, report, mirror) = open(&disk, &clock);
    assert!(report.clean && report.cut.is_empty() && report.rewritten == 0, "{report:?}");
    assert_eq!((report.last, report.epoch.counter), (Lsn::new(50), 2));
    for (lsn, entry, loc, _) in &written {
        assert_eq!(&mirror.entries[lsn], entry);
        assert_eq!(mirror.locs.get(lsn), loc.as_ref());
    }
    let checked = check(&disk, &data_dir(), Place::Original, None, &mut |_| {}).unwrap();
    assert_eq!((checked.entries, checked.damage, checked.torn), (52, None, None));
    assert_eq!(checked.records, written.iter().filter(|(_, _, loc, _)| loc.is_some()).count() as u64);
    drop(log);
}

#[test]
fn every_life_has_an_epoch_of_its_own_that_is_durable_before_it_writes() {
    let (mut disk, clock) = (new_disk(3), clock());
    let mut seen: Vec<windlass::log::Epoch> = Vec::new();
    for life in 0..20 {
        let (mut log, report, _) = open(&disk, &clock);
        let epoch = log.epoch();
        assert_eq!(report.epoch, epoch);
        let newer = seen.last().is_none_or(|last| epoch.counter > last.counter);
        assert!(newer && seen.iter().all(|known| known.random != epoch.random), "an epoch came again: {epoch:?}");
        seen.push(epoch);
        append(&mut log, &clock, life, 40);
        drop(log);
        // Of what it wrote nothing need be there; of its start everything is.
        disk = disk.crash(life);
    }
}

#[test]
fn a_segment_has_the_bytes_that_the_format_says() {
    let (disk, clock) = (new_disk(1), clock());
    let (mut log, _, _) = open(&disk, &clock);
    log.push_record(0x0102_0304, b"head", b"body");
    log.push_entry(b"entry one");
    log.push_entry(b"");
    log.write(meta(&clock)).unwrap();
    log.sync().unwrap();
    log.push_entry(b"two");
    log.write(meta(&clock)).unwrap();
    let bytes = disk.dump(&log_dir().join("00000000000000000001.seg")).unwrap();
    assert_eq!(bytes.len() as u64, SEGMENT_BYTES);
    let used = log.segments()[0].used_bytes as usize;
    assert!(bytes[used..].iter().all(|byte| *byte == 0));
    let hex: String = bytes[..used].iter().map(|byte| format!("{byte:02x}")).collect();
    let golden = include_str!("fixtures/log_segment_format_1.hex");
    assert_eq!(hex, golden.split_whitespace().collect::<String>(), "format 1 is for ever");
}

#[test]
fn replay_goes_on_where_the_receiver_stands() {
    let (disk, clock) = (new_disk(1), clock());
    let (mut log, _, _) = open(&disk, &clock);
    for tag in 0..20 {
        append(&mut log, &clock, tag, 100);
    }
    roll(&mut log, &clock);
    for tag in 20..30 {
        append(&mut log, &clock, tag, 100);
    }
    let epoch = log.epoch();
    stop(log, &disk);
    let known = Some(Known { epoch, lsn: Lsn::new(25) });
    let mut mirror = Mirror { last: 25, ..Mirror::default() };
    let (log, report) = try_open(&disk, &clock, options(), known, &mut mirror).unwrap();
    assert_eq!(mirror.started, Some(ReplayStart::Continue(Lsn::new(26))));
    assert_eq!(mirror.entries.keys().copied().collect::<Vec<_>>(), [26, 27, 28, 29, 30]);
    assert_eq!((report.frames, mirror.heads), (5, 0));
    // Records of segments that were not replayed can be read all the same.
    assert!(log.segments().iter().any(|segment| segment.first == Lsn::new(1)));
    // An index that knows more than the log ever had is a proof of loss.
    let known = Some(Known { epoch, lsn: Lsn::new(31) });
    let refused = try_open(&disk, &clock, options(), known, &mut Mirror::default());
    assert!(matches!(refused, Err(OpenError::Damaged { .. })));
}

#[test]
fn a_moved_record_is_replayed_to_an_older_receiver() {
    let (disk, clock) = (new_disk(1), clock());
    let (mut log, _, _) = open(&disk, &clock);
    for tag in 0..10 {
        append(&mut log, &clock, tag, 100);
    }
    log.sync().unwrap();
    let epoch = log.epoch();
    drop(log);
    // Nothing proves any of it, and this opening does not know the checkpoint: all moves.
    let (mut log, report, _) = open(&disk.kill(), &clock);
    assert_eq!(report.rewritten, 10);
    append(&mut log, &clock, 10, 100);
    drop(log);
    let disk = disk.kill();
    let (log, ..) = open(&disk, &clock);
    drop(log);
    let known = Some(Known { epoch, lsn: Lsn::new(10) });
    let mut mirror = Mirror::default();
    let (log, _) = try_open(&disk, &clock, options(), known, &mut mirror).unwrap();
    assert_eq!(mirror.started, Some(ReplayStart::Continue(Lsn::new(1))));
    assert!(mirror.locs.values().all(|loc| log.reader().read(*loc).is_ok()));
    assert_eq!(mirror.locs.len(), 10);
}

#[test]
fn a_dropped_segment_waits_for_proof_time_readers_and_links() {
    let (disk, clock) = (new_disk(1), clock());
    let (mut log, _, _) = open(&disk, &clock);
    let (_, _, loc) = append(&mut log, &clock, 1, 300);
    let loc = loc.unwrap();
    roll(&mut log, &clock);
    keep(&log, clock.boot());
    let second = log.active_segment();
    append(&mut log, &clock, 2, 300);
    log.drop_front(second);
    let later = || {
        clock.advance(Duration::from_secs(11));
        clock.boot()
    };
    later();
    assert_eq!(log.prepare_spares(clock.boot()).unwrap(), Step::Idle, "no frame tells of it yet");
    append(&mut log, &clock, 3, 0);
    assert_eq!(log.prepare_spares(later()).unwrap(), Step::Idle, "that frame is not durable yet");
    log.sync().unwrap();
    assert_eq!(log.prepare_spares(clock.boot()).unwrap(), Step::Idle, "a copy may be under way");
    let pin = log.reader().pin(loc.segment).unwrap();
    assert_eq!(log.prepare_spares(later()).unwrap(), Step::Idle, "somebody reads it");
    assert!(log.reader().read(loc).is_ok());
    drop(pin);
    let first = log_dir().join("00000000000000000001.seg");
    disk.hard_link(&first, &data_dir().join("backup")).unwrap();
    let before = disk.dump(&first).unwrap();
    assert_eq!(log.prepare_spares(later()).unwrap(), Step::Unlinked, "the backup keeps the file");
    assert_eq!(disk.dump(&data_dir().join("backup")).unwrap(), before);
    assert!(matches!(log.reader().read(loc), Err(ReadError::Gone(_))));
    assert_eq!(log.first_kept(), Lsn::new(second));
    drop(log);
    let (_, report, mirror) = open(&disk.kill(), &clock);
    assert_eq!((report.first_kept, report.last), (Lsn::new(second), Lsn::new(3)));
    assert_eq!(mirror.entries.keys().copied().collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn what_a_recycled_file_held_before_is_never_read_again() {
    let (disk, clock) = (new_disk(1), clock());
    let (mut log, _, _) = open(&disk, &clock);
    let stale = append(&mut log, &clock, 1, 300).2.unwrap();
    // Bodies shaped like the frames of this very segment, from its own bytes.
    for tag in 0..8 {
        let image = disk.dump(&log_dir().join("00000000000000000001.seg")).unwrap();
        let lsn = log.last_lsn().get() + 1;
        let body = &image[64..(64 + 2000 * (tag + 1)).min(7000)];
        let entry = format!("{lsn}/{tag:016x}/r").into_bytes();
        log.push_record(u128::from(lsn), &entry, body);
        log.push_entry(&entry);
        log.write(meta(&clock)).unwrap();
    }
    let mut rounds = 0;
    for round in 0..6 {
        roll(&mut log, &clock);
        for tag in 0..round {
            append(&mut log, &clock, tag, 100);
        }
        log.drop_front(log.active_segment());
        append(&mut log, &clock, 99, 0);
        log.sync().unwrap();
        clock.advance(Duration::from_secs(11));
        log.prepare_spares(clock.boot()).unwrap();
        clock.advance(Duration::from_secs(11));
        rounds += u64::from(log.prepare_spares(clock.boot()).unwrap() == Step::Recycled);
        assert!(matches!(log.reader().read(stale), Err(ReadError::Gone(_) | ReadError::NoRecord(_))));
        // A kill leaves whatever old bytes lie behind the last frame, and that is no torn tail.
        let (last, first) = (log.last_lsn(), log.first_kept());
        drop(log);
        let reopened = open(&disk, &clock);
        assert_eq!((reopened.1.last, reopened.1.first_kept), (last, first));
        assert!(reopened.1.cut.is_empty(), "{:?}", reopened.1);
        // The same again where the end lies in the midst of what an earlier use wrote.
        let mut reopened = reopened.0;
        append(&mut reopened, &clock, 5, 1_000 + round as usize * 300);
        let last = reopened.last_lsn();
        drop(reopened);
        let reopened = open(&disk, &clock);
        assert_eq!(reopened.1.last, last);
        assert!(reopened.1.cut.is_empty(), "{:?}", reopened.1);
        log = reopened.0;
    }
    assert!(rounds >= 3, "{rounds}");
}

#[test]
fn spares_are_made_in_haste_only_when_the_writer_comes_near_or_waits() {
    let (disk, clock) = (new_disk(1), clock());
    let (mut log, _, _) = open(&disk, &clock);
    let keeper = log.keeper();
    assert!(!keeper.is_behind(), "nothing is written yet");
    while log.segments().iter().map(|segment| segment.used_bytes).sum::<u64>() < SEGMENT_BYTES / 2 {
        append(&mut log, &clock, 1, 2_000);
    }
    assert!(keeper.is_behind(), "half a segment is written, and no spare is made");
    keep(&log, clock.boot());
    assert!(!keeper.is_behind(), "all are made");
    roll(&mut log, &clock);
    assert!(!keeper.is_behind(), "the writer has only begun");
    while log.room(9_000, Urgency::Ordinary) == Room::Fits {
        append(&mut log, &clock, 1, 9_000);
        keeper.step(clock.boot()).unwrap();
    }
    assert!(!keeper.is_behind(), "a spare was made meanwhile");
    assert!(log.seal(&head_of(log.last_lsn().get()), Urgency::Ordinary).is_ok());
    assert!(log.seal(&head_of(log.last_lsn().get()), Urgency::Ordinary).is_err());
    assert!(keeper.is_behind(), "somebody waits for a spare");
    keep(&log, clock.boot());
    assert!(!keeper.is_behind());
}

#[test]
fn a_full_disk_stops_publishes_first_and_gives_way_when_space_returns() {
    let (disk, clock) = (new_disk(1), clock());
    let (mut log, _, _) = open(&disk, &clock);
    keep(&log, clock.boot());
    disk.set_capacity(disk.used());
    let fill = |log: &mut Log, urgency: Urgency| loop {
        let payload = windlass::log::record_bytes(100, 9_000) + 100;
        match log.room(payload, urgency) {
            Room::Fits => {
                push(log, 1, 9_000);
                log.write(meta(&clock)).unwrap();
                log.sync().unwrap();
            }
            Room::NeedsRoll => log.roll(&head_of(log.last_lsn().get()), urgency).unwrap(),
            Room::Full => break,
            Room::TooLarge => panic!("it is small"),
        }
    };
    fill(&mut log, Urgency::Ordinary);
    assert_eq!(log.prepare_spares(clock.boot()).unwrap(), Step::NoSpace);
    let state = log.space_state();
    assert!(state.no_space && state.spares == 3, "{state:?}");
    let before = log.last_lsn();
    // Acks still have the reserve.
    assert_ne!(log.room(100, Urgency::Essential), Room::Full);
    fill(&mut log, Urgency::Essential);
    assert!(log.last_lsn() > before);
    assert!(matches!(log.roll(&[], Urgency::Essential), Err(RollError::NoSpare)));
    log.sync().unwrap();
    // One spare is left to a start; then there is none, and a start fails without harm.
    let full = disk.kill();
    let (started, ..) = open(&full, &clock);
    assert_eq!(started.last_lsn(), log.last_lsn());
    drop(started);
    let refused = try_open(&full.kill(), &clock, options(), None, &mut Mirror::default());
    assert!(matches!(refused, Err(OpenError::NoSpace { .. })));
    full.set_capacity(u64::MAX);
    assert_eq!(open(&full.kill(), &clock).0.last_lsn(), log.last_lsn());
    disk.set_capacity(u64::MAX);
    keep(&log, clock.boot());
    assert!(!log.space_state().no_space);
    assert_eq!(log.room(9_000, Urgency::Ordinary), Room::NeedsRoll);
    roll(&mut log, &clock);
    append(&mut log, &clock, 7, 9_000);
}

#[test]
fn on_a_full_disk_what_is_kept_for_copies_becomes_a_spare_at_once() {
    let (disk, clock) = (new_disk(1), clock());
    let (mut log, _, _) = open(&disk, &clock);
    roll(&mut log, &clock);
    append(&mut log, &clock, 1, 100);
    roll(&mut log, &clock);
    log.drop_front(log.active_segment());
    append(&mut log, &clock, 1, 0);
    log.sync().unwrap();
    disk.set_capacity(disk.used());
    assert_eq!(log.prepare_spares(clock.boot()).unwrap(), Step::NoSpace);
    assert_eq!(log.prepare_spares(clock.boot()).unwrap(), Step::Recycled);
}

#[test]
fn a_scan_sees_entries_and_places_while_the_writer_writes() {
    let (disk, clock) = (new_disk(1), clock());
    let (mut log, _, _) = open(&disk, &clock);
    let locs: Vec<_> = (0..5).map(|tag| append(&mut log, &clock, tag, 200).2.unwrap()).collect();
    roll(&mut log, &clock);
    append(&mut log, &clock, 9, 0);
    let reader = log.reader();
    let found = std::thread::spawn(move || {
        let mut scan = reader.scan(1).unwrap();
        let mut found = Vec::new();
        while let Some(frame) = scan.next() {
            let frame = frame.unwrap();
            assert_eq!(frame.entries().count(), 1);
            if frame.kind == FrameKind::Commit {
                found.extend(scan.record_locs(&frame).unwrap());
            }
        }
        found
    });
    assert_eq!(found.join().unwrap(), locs);
    assert_eq!(log.reader().scan(6).unwrap().count(), 2);
    assert!(matches!(log.reader().scan(3), Err(ReadError::Gone(_))));
}

#[test]
fn a_place_that_holds_no_record_is_an_error_and_no_allocation() {
    let (disk, clock) = (new_disk(1), clock());
    let (mut log, _, _) = open(&disk, &clock);
    let loc = append(&mut log, &clock, 1, 300).2.unwrap();
    let reader = log.reader();
    for bad in [
        windlass::log::Loc { position: loc.position + 1, ..loc },
        windlass::log::Loc { length: loc.length - 1, ..loc },
        windlass::log::Loc { length: u32::MAX, ..loc },
        windlass::log::Loc { length: 0, ..loc },
        windlass::log::Loc { position: u32::MAX, ..loc },
    ] {
        assert!(matches!(reader.read(bad), Err(ReadError::NoRecord(_))), "{bad:?}");
    }
    assert!(disk.flip(&log_dir().join("00000000000000000001.seg"), loc.position as usize + 100, 1));
    assert!(matches!(reader.read(loc), Err(ReadError::NoRecord(_))));
}

/// Ends the keeper's thread also when the test fails.
struct Over<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

#[test]
fn readers_with_a_pin_are_never_cheated_by_recycling() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (disk, clock) = (new_disk(1), clock());
    let mut options = options();
    options.drop_keep = Duration::ZERO;
    let (mut log, _) = try_open(&disk, &clock, options, None, &mut Mirror::default()).unwrap();
    let (keeper, reader, over) = (log.keeper(), log.reader(), AtomicBool::new(false));
    let (places, arrivals) = std::sync::mpsc::sync_channel(64);
    let (recycled, read, gone) = std::thread::scope(|threads| {
        let keeping = threads.spawn(|| {
            let mut recycled = 0;
            while !over.load(Ordering::SeqCst) {
                recycled += u64::from(keeper.step(clock.boot()).unwrap() == Step::Recycled);
                std::thread::yield_now();
            }
            recycled
        });
        let reading = threads.spawn(|| {
            let (mut read, mut gone) = (0, 0);
            for (loc, tag) in arrivals {
                let loc: windlass::log::Loc = loc;
                let Some(pin) = reader.pin(loc.segment) else {
                    gone += 1;
                    continue;
                };
                for _ in 0..3 {
                    assert_eq!(reader.read(loc).unwrap().body, body_of(tag, 6_000));
                }
                drop(pin);
                read += 1;
            }
            (read, gone)
        });
        let ending = Over(&over);
        for tag in 0..1_500 {
            while !log.fits(6_200) {
                // The keeper may be a moment behind.
                if log.roll(&head_of(log.last_lsn().get()), Urgency::Essential).is_err() {
                    std::thread::yield_now();
                }
                log.drop_front(log.active_segment());
            }
            let loc = append(&mut log, &clock, tag, 6_000).2.unwrap();
            log.sync().unwrap();
            places.send((loc, tag)).unwrap();
        }
        drop(places);
        let (read, gone) = reading.join().unwrap();
        drop(ending);
        (keeping.join().unwrap(), read, gone)
    });
    assert!(recycled > 20 && read > 100, "{recycled} recycled, {read} read, {gone} gone");
}

#[test]
fn the_real_disk_holds_a_log_as_well() {
    let home = tempfile::tempdir().unwrap();
    let (disk, clock) = (Arc::new(RealDisk), clock());
    let opening = |path: &Path| Opening {
        disk: disk.clone(),
        data_dir: path.to_path_buf(),
        options: options(),
        clock: clock.clone() as Arc<dyn Clock>,
        clean: read_mark(&RealDisk, path).unwrap(),
        known: None,
    };
    let mut tag = 0;
    for life in 0..4 {
        let mut mirror = Mirror::default();
        let (mut log, report) = Log::open(opening(home.path()), &mut mirror).unwrap();
        assert_eq!((report.last.get(), mirror.entries.len() as u64), (tag, tag));
        keep(&log, clock.boot());
        for _ in 0..30 {
            if log.room(5_000, Urgency::Ordinary) != Room::Fits {
                roll(&mut log, &clock);
            }
            tag += 1;
            let lsn = log.last_lsn().get() + 1;
            push_at(&mut log, lsn, tag, 4_000);
            log.write(meta(&clock)).unwrap();
        }
        if life % 2 == 0 {
            let mark = log.stop_clean().unwrap();
            windlass::log::write_mark(&RealDisk, home.path(), mark, tag).unwrap();
        } else {
            log.sync().unwrap();
        }
    }
    assert!(RealDisk.list(&home.path().join("log")).unwrap().len() > 5);
}

/// Rolls and drops this many times; answers the names of the segments that went.
fn drop_many(log: &mut Log, clock: &Arc<ManualClock>, many: u64) -> Vec<String> {
    let mut dropped = Vec::new();
    for tag in 0..many {
        append(log, clock, tag, 200);
        dropped.push(log.segments()[0].file.clone());
        roll(log, clock);
        log.drop_front(log.active_segment());
    }
    append(log, clock, many, 200);
    log.sync().unwrap();
    dropped
}

#[test]
fn however_much_is_dropped_at_once_a_copy_under_way_finds_it() {
    let (disk, clock) = (new_disk(1), clock());
    let mut options = options();
    (options.drop_keep, options.drop_keep_bytes) = (Duration::from_secs(600), 2 * SEGMENT_BYTES);
    options.drop_keep_min = Duration::from_secs(30);
    let (mut log, _) = try_open(&disk, &clock, options.clone(), None, &mut Mirror::default()).unwrap();
    let dropped = drop_many(&mut log, &clock, 20);
    let there = |disk: &windlass::disk::sim::SimDisk| {
        dropped.iter().filter(|name| disk.exists(&log_dir().join(name)).unwrap()).count()
    };
    for _ in 0..29 {
        keep(&log, clock.boot());
        assert_eq!(there(&disk), 20, "none is younger than half a minute");
        clock.advance(Duration::from_secs(1));
    }
    clock.advance(Duration::from_secs(2));
    keep(&log, clock.boot());
    assert_eq!(there(&disk), 2, "then no more stay than their bytes allow");

    // A life that ends early must not let them pile up: what an earlier life dropped, no copy begun in this
    // one needs.
    drop_many(&mut log, &clock, 5);
    drop(log);
    let (log, _) = try_open(&disk, &clock, options, None, &mut Mirror::default()).unwrap();
    keep(&log, clock.boot());
    assert!(log.space_state().dropped_bytes <= 2 * SEGMENT_BYTES, "{:?}", log.space_state());
}

#[test]
fn a_start_on_a_full_disk_begins_in_a_segment_that_was_dropped() {
    let (disk, clock) = (new_disk(1), clock());
    let (mut log, ..) = open(&disk, &clock);
    let dropped = drop_many(&mut log, &clock, 6);
    drop(log);
    for name in disk.list(&log_dir()).unwrap().iter().filter(|name| name.starts_with("spare")) {
        disk.unlink(&log_dir().join(name)).unwrap();
    }
    let mut last = None;
    for life in 0..4 {
        let disk = disk.kill();
        disk.set_capacity(disk.used());
        disk.fail(life * 3, Fault::PowerOff);
        let cut = try_open(&disk, &clock, options(), None, &mut Mirror::default()).is_err();
        let disk = if cut { disk.crash(life) } else { disk.kill() };
        disk.set_capacity(disk.used());
        let (log, report, _) = open(&disk, &clock);
        assert_eq!(*last.get_or_insert(report.last), report.last);
        assert!(dropped.iter().any(|name| !disk.exists(&log_dir().join(name)).unwrap()), "one was used again");
        assert_ne!(log.room(100, Urgency::Essential), Room::Full);
    }
}
