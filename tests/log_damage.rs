//! Torn or damaged? What recovery cuts, what it refuses, what it does with a copy, and that every single
//! operation of a run may fail without a synced entry being lost.

#![allow(clippy::unwrap_used)]

mod log_rig;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use log_rig::{
    Mirror, append, data_dir, head_of, keep, log_dir, meta, new_disk, open, options, push, roll, segment_files, stop,
    try_open,
};
use windlass::clock::{Clock, ManualClock};
use windlass::disk::Disk;
use windlass::disk::sim::{Fault, SimDisk};
use windlass::log::{Log, OpenError, Options, Place, RecoveryReport, Strictness, Urgency, check};
use windlass::model::Lsn;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(42))
}

fn segment(first: u64) -> PathBuf {
    log_dir().join(format!("{first:020}.seg"))
}

/// Entries 1 to 10 in the first segment and 11 to 15 in the second, which proves all but 15 durable.
fn two_segments(clock: &Arc<ManualClock>) -> (SimDisk, Vec<usize>) {
    let disk = new_disk(1);
    let (mut log, _, _) = open(&disk, clock);
    for tag in 0..10 {
        append(&mut log, clock, tag, 40);
    }
    roll(&mut log, clock);
    let mut ends = vec![log.segments()[1].used_bytes as usize];
    for tag in 10..15 {
        append(&mut log, clock, tag, 40);
        log.sync().unwrap();
        ends.push(log.segments()[1].used_bytes as usize);
    }
    (disk, ends)
}

thread_local! {
    /// Openings by this test so far: every test has a thread of its own.
    static LIVES: std::cell::Cell<u64> = const { std::cell::Cell::new(1_000_000) };
}

fn open_with(disk: &SimDisk, options: Options) -> Result<(RecoveryReport, Mirror), OpenError> {
    // Another life has other random bits: a clock of the same seed would repeat names of temporary files.
    let life = LIVES.with(|lives| lives.replace(lives.get() + 1));
    let clock = Arc::new(ManualClock::new(life));
    let mut mirror = Mirror::default();
    try_open(disk, &clock, options, None, &mut mirror).map(|(_, report)| (report, mirror))
}

#[test]
fn a_torn_tail_is_cut_kept_aside_and_counted() {
    let clock = clock();
    let (disk, ends) = two_segments(&clock);
    let before = disk.dump(&segment(11)).unwrap();
    assert!(disk.flip(&segment(11), ends[5] - 3, 2));
    let checked = check(&disk, &data_dir(), Place::Original, None, &mut |_| {}).unwrap();
    assert_eq!(checked.torn.map(|cut| cut.at_byte), Some(ends[4] as u64));
    let mut strict = options();
    strict.strictness = Strictness::RefuseEveryCut;
    let refused = open_with(&disk, strict);
    assert!(matches!(refused, Err(OpenError::Torn { at_byte, .. }) if at_byte == ends[4] as u64));
    let (report, mirror) = open_with(&disk, options()).unwrap();
    assert_eq!((report.last, mirror.entries.len()), (Lsn::new(14), 14));
    let cut = &report.cut[0];
    assert_eq!((cut.file.as_str(), cut.at_byte), ("00000000000000000011.seg", ends[4] as u64));
    let mut kept = disk.dump(&log_dir().join(cut.kept_as.as_ref().unwrap())).unwrap();
    assert_eq!(kept.len() as u64, cut.bytes);
    let place = ends[5] - 3 - ends[4];
    kept[place] ^= 4;
    assert_eq!(kept, before[ends[4]..ends[5]]);
    let (report, _) = open_with(&disk, options()).unwrap();
    assert!(report.cut.is_empty(), "a tail is cut once");
}

#[test]
fn torn_files_are_bounded() {
    let (disk, clock) = (new_disk(1), clock());
    for life in 0..12 {
        let (mut log, report, _) = open(&disk, &clock);
        assert_eq!(report.cut.len(), usize::from(life > 0));
        append(&mut log, &clock, life, 50);
        append(&mut log, &clock, life, 50);
        let (active, used) = (log.active_segment(), log.segments().last().unwrap().used_bytes as usize);
        drop(log);
        assert!(disk.flip(&segment(active), used - 1, 0));
    }
    let torn = disk.list(&log_dir()).unwrap().into_iter().filter(|name| name.ends_with(".torn")).count();
    assert_eq!(torn, 8);
}

#[test]
fn after_a_clean_stop_a_cut_is_damage() {
    let clock = clock();
    let (disk, ends) = two_segments(&clock);
    let (log, ..) = open(&disk, &clock);
    let (active, end) = (log.active_segment(), log.segments().last().unwrap().used_bytes);
    stop(log, &disk);
    // 15 was not proven when this life began, so it lies in its segment.
    assert_eq!(active, 15);
    assert!(disk.flip(&segment(15), end as usize - 1, 0));
    assert!(ends[5] > 0);
    match open_with(&disk, options()) {
        Err(OpenError::Damaged { file, .. }) => assert_eq!(file, "00000000000000000015.seg"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_flipped_bit_is_served_around_refused_by_name_or_cut_from_the_end() {
    let clock = clock();
    let (disk, ends) = two_segments(&clock);
    let (mut served, mut refused, mut cut) = (0, 0, 0);
    let first_end = 64 + ends[0] + 10 * 250;
    let bytes = (0..first_end).map(|byte| (1, byte)).chain((0..ends[5] + 96).map(|byte| (11, byte)));
    for (first, byte) in bytes {
        let disk = disk.kill();
        assert!(disk.flip(&segment(first), byte, (byte % 8) as u32));
        let name = format!("{first:020}.seg");
        match open_with(&disk, options()) {
            Ok((report, mirror)) if report.cut.is_empty() => {
                assert_eq!((report.last, mirror.entries.len()), (Lsn::new(15), 15), "{name} byte {byte}");
                served += 1;
            }
            Ok((report, mirror)) => {
                assert!(first == 11 && byte >= ends[4], "{name} byte {byte} was proven: {report:?}");
                assert_eq!(mirror.entries.len() as u64, report.last.get());
                assert_eq!(report.last.get(), if byte < ends[5] { 14 } else { 15 });
                cut += 1;
            }
            Err(OpenError::Damaged { file, at_byte, .. }) => {
                assert_eq!(file, name, "byte {byte}");
                assert!(at_byte <= byte as u64 && byte as u64 - at_byte < 600, "{name} byte {byte}: {at_byte}");
                refused += 1;
            }
            Err(error) => panic!("{name} byte {byte}: {error}"),
        }
    }
    println!("served {served}, refused {refused}, cut {cut}");
    assert!(served > 100 && refused > 2_000 && cut > 200, "{served} {refused} {cut}");
}

#[test]
fn a_missing_or_shortened_segment_is_refused_by_name() {
    let clock = clock();
    let (disk, _) = two_segments(&clock);
    let missing = disk.kill();
    missing.unlink(&segment(1)).unwrap();
    match open_with(&missing, options()) {
        Err(OpenError::MissingSegment { file, .. }) => assert_eq!(file, "00000000000000000001.seg"),
        other => panic!("{other:?}"),
    }
    let short = disk.kill();
    short.open(&segment(11)).unwrap().set_len(2_000).unwrap();
    assert!(matches!(open_with(&short, options()), Err(OpenError::Damaged { at_byte: 2_000, .. })));
    let (log, ..) = open(&disk, &clock);
    stop(log, &disk);
    for (name, _) in segment_files(&disk) {
        disk.unlink(&log_dir().join(name)).unwrap();
    }
    assert!(matches!(open_with(&disk, options()), Err(OpenError::MissingSegment { .. })));
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let clock = clock();
    let (disk, _) = two_segments(&clock);
    let mut bytes = disk.dump(&segment(11)).unwrap();
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    disk.put(&segment(11), bytes);
    assert!(matches!(open_with(&disk, options()), Err(OpenError::Newer { found: 2, known: 1, .. })));
}

fn copy_options() -> Options {
    Options { place: Place::Copy, ..options() }
}

#[test]
fn a_copy_with_a_gap_is_cut_there_and_an_original_is_damaged() {
    let clock = clock();
    let (disk, _) = two_segments(&clock);
    // As if segment 1 had been copied when it held seven entries, and 11 much later.
    let mut log_bytes = disk.dump(&segment(1)).unwrap();
    let end = {
        let report = check(&disk, &data_dir(), Place::Original, None, &mut |_| {}).unwrap();
        assert_eq!(report.entries, 17);
        find_frame_end(&disk, 7)
    };
    log_bytes[end..].fill(0);
    disk.put(&segment(1), log_bytes);
    assert!(
        matches!(open_with(&disk.kill(), options()), Err(OpenError::Damaged { at_byte, .. }) if at_byte == end as u64)
    );
    let mut strict = copy_options();
    strict.strictness = Strictness::RefuseEveryCut;
    assert!(matches!(open_with(&disk.kill(), strict), Err(OpenError::Torn { .. })));
    let (report, mirror) = open_with(&disk, copy_options()).unwrap();
    assert_eq!((report.last, mirror.entries.len()), (Lsn::new(7), 7));
    assert_eq!(report.cut[0].file, "00000000000000000011.seg");
    assert!(disk.exists(&log_dir().join(report.cut[0].kept_as.as_ref().unwrap())).unwrap());
    // From now on it is an original.
    let (report, _) = open_with(&disk, options()).unwrap();
    assert_eq!((report.last, report.cut.len()), (Lsn::new(7), 0));
}

/// Where the frame of entry `lsn` in the first segment ends.
fn find_frame_end(disk: &SimDisk, lsn: u64) -> usize {
    let bytes = disk.dump(&segment(1)).unwrap();
    let magic = [0xf7, b'W', b'L', 0xf2];
    let mut starts = (0..bytes.len() - 4).filter(|at| bytes[*at..at + 4] == magic);
    // The head frame is the first one, then one frame per entry.
    starts.nth(1 + lsn as usize).unwrap()
}

#[test]
fn a_copy_that_misses_its_front_or_is_damaged_in_the_middle_is_refused() {
    let clock = clock();
    let (disk, _) = two_segments(&clock);
    let (mut log, ..) = open(&disk, &clock);
    roll(&mut log, &clock);
    append(&mut log, &clock, 1, 40);
    roll(&mut log, &clock);
    drop(log);
    let damaged = disk.kill();
    assert!(damaged.flip(&segment(1), 1_000, 1));
    assert!(matches!(open_with(&damaged, copy_options()), Err(OpenError::Damaged { .. })));
    let missing = disk.kill();
    missing.unlink(&segment(1)).unwrap();
    match open_with(&missing, copy_options()) {
        Err(OpenError::CopyLacks { file }) => assert_eq!(file, "00000000000000000001.seg"),
        other => panic!("{other:?}"),
    }
    let gap = disk.kill();
    gap.unlink(&segment(11)).unwrap();
    match open_with(&gap, copy_options()) {
        Err(error @ OpenError::CopyLacks { .. }) => {
            let said = error.to_string();
            assert!(said.contains("00000000000000000011.seg is missing"), "{said}");
            assert!(said.contains("take the copy again"), "{said}");
        }
        other => panic!("{other:?}"),
    }
    // The last segment may have been caught before it had a head, or in the middle of a frame.
    let young = disk.kill();
    let mut names: Vec<String> = segment_files(&young).into_iter().map(|(name, _)| name).collect();
    let last = log_dir().join(names.pop().unwrap());
    young.put(&last, vec![0; 65_536]);
    let (report, _) = open_with(&young, copy_options()).unwrap();
    assert_eq!((report.last, report.cut.len()), (Lsn::new(16), 1));
}

#[test]
fn copies_taken_file_by_file_hold_all_that_was_synced_before() {
    let (mut opened, mut cut, mut interrupted) = (0, 0, 0);
    for seed in 0..150u64 {
        let clock = Arc::new(ManualClock::new(seed));
        let mut dice = windlass::disk::sim::Dice::new(seed);
        let disk = new_disk(seed);
        let (mut log, _, _) = open(&disk, &clock);
        let work = |log: &mut Log, dice: &mut windlass::disk::sim::Dice| {
            for _ in 0..dice.below(8) {
                let body = dice.below(4_000) as usize;
                if !log.fits(body + 200) {
                    roll(log, &clock);
                }
                push(log, seed, body);
                log.write(meta(&clock)).unwrap();
                if dice.one_in(2) {
                    log.sync().unwrap();
                }
            }
        };
        for _ in 0..dice.below(8) {
            work(&mut log, &mut dice);
        }
        log.sync().unwrap();
        let before = log.last_lsn();
        // The tool lists the directory, then reads the files piece by piece while the log goes on.
        let copy = new_disk(seed);
        let mut names = disk.list(&log_dir()).unwrap();
        let turn = dice.below(names.len() as u64) as usize;
        names.rotate_left(turn);
        for name in names {
            let path = log_dir().join(name);
            let Ok(file) = disk.open_read(&path) else { continue };
            let mut bytes = vec![0; file.len().unwrap() as usize];
            let piece_bytes = [4096, 16_384, 65_536][dice.below(3) as usize];
            for (number, piece) in bytes.chunks_mut(piece_bytes).enumerate() {
                file.read_at((number * piece_bytes) as u64, piece).unwrap();
                work(&mut log, &mut dice);
            }
            // As `cp` leaves it: in the page cache.
            if !copy.exists(&log_dir()).unwrap() {
                copy.create_dir(&log_dir()).unwrap();
            }
            copy.create(&path).unwrap().write_at(0, &bytes).unwrap();
        }
        interrupted += interrupt_recovery(&copy, seed, before);
        let (report, mirror) = open_with(&copy, copy_options()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(report.last >= before, "seed {seed}");
        assert_eq!(mirror.entries.len() as u64, report.last.get(), "seed {seed}");
        let (again, _) = open_with(&copy.crash(seed), options()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(again.last >= report.last, "seed {seed}: what the copy showed is durable");
        opened += 1;
        cut += u64::from(!report.cut.is_empty());
    }
    assert!(opened == 150 && cut > 10 && interrupted > 50, "{cut} {interrupted}");
}

/// Opens a durable image of the copy, cuts the power on the way, and opens what is left.
fn interrupt_recovery(copy: &SimDisk, seed: u64, before: Lsn) -> u64 {
    let image = new_disk(seed);
    for (path, bytes) in copy.files() {
        image.put(&path, bytes);
    }
    image.fail(seed % 40, Fault::PowerOff);
    let failed = open_with(&image, copy_options()).is_err();
    for cut in 0..4 {
        let after = image.crash(seed << 8 | cut);
        let (report, mirror) = open_with(&after, copy_options()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(report.last >= before, "seed {seed}");
        assert_eq!(mirror.entries.len() as u64, report.last.get(), "seed {seed}");
    }
    u64::from(failed)
}

/// Open, append, sync, roll, drop, recycle, stop, reopen. Answers what was synced when it stopped.
fn script(disk: &SimDisk, clock: &Arc<ManualClock>, synced: &mut BTreeMap<u64, Vec<u8>>) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    for life in 0..2u64 {
        let mut mirror = Mirror::default();
        let (mut log, report) = try_open(disk, clock, options(), None, &mut mirror).map_err(|error| text(&error))?;
        assert!(synced.keys().all(|lsn| *lsn <= report.last.get()));
        let mut written = BTreeMap::new();
        for round in 0..3u64 {
            for tag in 0..3 {
                let (lsn, entry, _) = push(&mut log, life << 16 | round << 8 | tag, 900);
                log.write(meta(clock)).map_err(|error| text(&error))?;
                written.insert(lsn, entry);
            }
            log.sync().map_err(|error| text(&error))?;
            synced.extend(written.clone());
            log.prepare_spares(clock.boot()).map_err(|error| text(&error))?;
            let head = head_of(log.last_lsn().get());
            log.roll(&head, Urgency::Essential).map_err(|error| text(&error))?;
            log.drop_front(log.segments()[0].first.get());
        }
        log.drop_front(log.segments()[1].first.get());
        push(&mut log, life, 0);
        log.write(meta(clock)).map_err(|error| text(&error))?;
        log.sync().map_err(|error| text(&error))?;
        for _ in 0..6 {
            clock.advance(Duration::from_secs(6));
            log.prepare_spares(clock.boot()).map_err(|error| text(&error))?;
        }
        let mark = log.stop_clean().map_err(|error| text(&error))?;
        windlass::log::write_mark(disk, &data_dir(), mark, life).map_err(|error| text(&error))?;
    }
    Ok(())
}

#[test]
fn any_single_operation_may_fail_and_nothing_synced_is_lost() {
    let whole = new_disk(1);
    script(&whole, &clock(), &mut BTreeMap::new()).unwrap();
    let ops = whole.ops();
    assert!(ops > 150, "{ops}");
    let mut stopped = 0;
    for at in 0..ops {
        for fault in [Fault::Io, Fault::NoSpace, Fault::Short, Fault::PowerOff] {
            let (disk, clock) = (new_disk(at), clock());
            disk.fail(at, fault);
            let mut synced = BTreeMap::new();
            stopped += u64::from(script(&disk, &clock, &mut synced).is_err());
            assert_eq!(disk.hits(), 1);
            for after in [disk.crash(at), disk.kill(), disk.kill().crash(at)] {
                let (report, mirror) =
                    open_with(&after, options()).unwrap_or_else(|error| panic!("operation {at}, {fault:?}: {error}"));
                for (lsn, entry) in synced.range(report.first_kept.get()..) {
                    assert_eq!(mirror.entries.get(lsn), Some(entry), "operation {at}, {fault:?}, lsn {lsn}");
                }
                // What recovery showed is durable, whatever the page cache still knows.
                let (again, _) = open_with(&after.crash(at), options()).unwrap();
                assert!(again.last >= report.last, "operation {at}, {fault:?}");
            }
        }
    }
    assert!(stopped > ops * 3, "{stopped} of {ops}");
}

#[test]
fn a_spare_that_is_also_a_segment_is_not_written_to() {
    let clock = clock();
    let (disk, _) = two_segments(&clock);
    // What a power cut may leave of a rename: both names. The numbers make it the first choice.
    disk.hard_link(&segment(11), &log_dir().join("spare-99.seg")).unwrap();
    disk.hard_link(&segment(1), &log_dir().join("spare-98.seg")).unwrap();
    for _ in 0..3 {
        let (mut log, report, mirror) = open(&disk, &clock);
        assert_eq!((report.last.get(), mirror.entries.len()), (log.last_lsn().get(), report.last.get() as usize));
        assert!(mirror.locs.values().all(|loc| log.reader().read(*loc).is_ok()));
        roll(&mut log, &clock);
        append(&mut log, &clock, 1, 500);
    }
    assert!(!disk.exists(&log_dir().join("spare-99.seg")).unwrap());
}

#[test]
fn after_a_clean_stop_the_keeper_rests_and_readers_go_on() {
    let (disk, clock) = (new_disk(1), clock());
    let (mut log, _, _) = open(&disk, &clock);
    let loc = append(&mut log, &clock, 1, 500).2.unwrap();
    let (keeper, reader) = (log.keeper(), log.reader());
    stop(log, &disk);
    let before = disk.files();
    assert_eq!(keeper.step(clock.boot()).unwrap(), windlass::log::Step::Idle);
    assert!(reader.read(loc).is_ok());
    assert_eq!(disk.files(), before);
}

#[test]
fn after_a_fatal_error_the_log_refuses_everything() {
    let (disk, clock) = (new_disk(1), clock());
    let (mut log, _, _) = open(&disk, &clock);
    keep(&log, clock.boot());
    push(&mut log, 1, 10);
    disk.fail(0, Fault::Io);
    assert!(log.write(meta(&clock)).is_err());
    assert!(log.sync().is_err());
    assert!(log.write(meta(&clock)).is_err());
    assert!(log.roll(&[], Urgency::Essential).is_err());
    assert!(log.prepare_spares(clock.boot()).is_err());
    assert!(log.stop_clean().is_err());
}
