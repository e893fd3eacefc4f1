//! Every byte of a small data directory flipped, every file shortened, deleted and swapped with another of its
//! kind. Then all that was acknowledged is served, or the start (or the read) is refused naming file and byte, or,
//! without the mark of a clean stop, a tail is cut, kept aside and counted. Nothing else ever happens.
//!
//! The directory is looked at in several states, with its index and without. The long suite flips every byte of it in
//! one of them, in turn; `WINDLASS_DAMAGE_STRIDE=n` takes every n-th byte in each.

#![allow(clippy::unwrap_used)]

mod counts;
#[path = "damage/on_files.rs"]
mod on_files;
mod process;
#[path = "damage/rig.rs"]
mod rig;
mod scene;
#[path = "damage/sweep.rs"]
mod sweep;
#[path = "damage/trials.rs"]
mod trials;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rig::{Image, Story, files, tell};
use scene::Facts;
use scene::seen::{look, probe};
use sweep::{Case, Harm, Moment, Outcome, Subject, Tally, run};
use windlass::disk::sim::Dice;

const FRAME_HEADER_BYTES: usize = 96;
const SEGMENT_HEADER_BYTES: usize = 64;
const MAGIC: [u8; 4] = [0xf7, b'W', b'L', 0xf2];
/// Behind the last byte that is not zero: every byte of the zeros that the writer put there, then a sample.
const ZEROS_BYTES: usize = 128;
const ZEROS_STRIDE: usize = 1_021;

/// What an image tells when it is whole, and its last lsn.
fn moment(image: &Image, facts: &Facts) -> (u64, Moment) {
    let mut running = image.fork().start().unwrap();
    let report = running.local().report().clone();
    assert!(report.cut.is_empty(), "{report:?}");
    let seen = look(&mut running);
    let probed = probe(&mut running, facts);
    (report.last.get(), Moment { seen, probed, facts: facts.clone() })
}

/// The images of a story that are damaged, each with its index and without.
fn subjects(story: &Story) -> Vec<Subject> {
    let mut subjects = Vec::new();
    let clean = moment(&story.clean, &story.facts);
    let moments: Vec<(u64, Moment)> = story.steps.iter().map(|(image, facts)| moment(image, facts)).collect();
    // The last step is a lease, whose frame proves the publish before it; that one's proves the lease before.
    let killed = [("killed after a lease", 7, 6), ("killed after a publish", 6, 4)];
    for has_index in [true, false] {
        let fit = |image: &Image| if has_index { image.fork() } else { image.without_index() };
        let clean = moment(&fit(&story.clean), &story.facts);
        let name = if has_index { "stopped" } else { "stopped, without its index" };
        let proven = clean.0;
        let moments = BTreeMap::from([clean]);
        subjects.push(Subject { name, image: fit(&story.clean), moments, proven, has_index });
        for (name, step, proven) in killed {
            let known: BTreeMap<u64, Moment> =
                story.steps[..=step].iter().map(|(image, facts)| moment(&fit(image), facts)).collect();
            let proven = moments_at(&known, proven, step);
            subjects.push(Subject { name, image: fit(&story.steps[step].0), moments: known, proven, has_index });
        }
    }
    assert!(clean.0 >= moments[7].0);
    subjects
}

/// The lsn of step `number` of `last`.
fn moments_at(moments: &BTreeMap<u64, Moment>, number: usize, last: usize) -> u64 {
    assert_eq!(moments.len(), last + 1, "every step is one commit");
    *moments.keys().nth(number).unwrap()
}

/// Bytes of a file that are flipped, with the bits of each: the same ones in every state of the file.
fn places(bytes: &[u8]) -> Vec<(usize, u32)> {
    let some_bit = |at: usize| (at.wrapping_mul(0x9e37_79b9) >> 16) as u32 % 8;
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let headers: Vec<usize> = (0..used.saturating_sub(3)).filter(|at| bytes[*at..at + 4] == MAGIC).collect();
    let in_header = |at: usize| {
        let before = headers.partition_point(|header| *header <= at);
        at < SEGMENT_HEADER_BYTES || before > 0 && at < headers[before - 1] + FRAME_HEADER_BYTES
    };
    let dense = used + ZEROS_BYTES;
    let chosen = (0..bytes.len()).filter(|at| *at < dense || at % ZEROS_STRIDE == 0);
    chosen
        .flat_map(|at| if in_header(at) { (0..8).map(|bit| (at, bit)).collect() } else { vec![(at, some_bit(at))] })
        .collect()
}

fn is_segment(file: &Path) -> bool {
    let name = file.file_name().unwrap().to_string_lossy();
    name.ends_with(".seg") && !name.starts_with("spare")
}

fn print(what: &str, tally: &Tally) {
    println!(
        "{what}: {} in {:.1} s (slowest {:?}): {} served, {} refused, {} cut, {} served but for the messages hit",
        tally.cases,
        tally.took.as_secs_f64(),
        tally.slowest,
        tally.count(Outcome::Served),
        tally.count(Outcome::Refused),
        tally.count(Outcome::Cut),
        tally.count(Outcome::Unread),
    );
}

#[test]
fn every_flipped_bit_of_a_data_directory_is_served_around_refused_by_name_or_cut_from_the_end() {
    // Of the long suite: each in one state.
    let stride = counts::rounds("WINDLASS_DAMAGE_STRIDE", 199, 0) as usize;
    let story = tell();
    let subjects = subjects(&story);
    let mut states: BTreeMap<(PathBuf, usize, u32), Vec<&Subject>> = BTreeMap::new();
    for subject in &subjects {
        let files = files(&subject.image);
        // Of the second kill only what the first has not: the end of the log.
        let last = files.iter().map(|(file, _)| file).filter(|file| is_segment(file)).max().cloned();
        for (file, bytes) in files {
            if subject.name == "killed after a publish" && Some(&file) != last.as_ref() {
                continue;
            }
            for (byte, bit) in places(&bytes) {
                states.entry((file.clone(), byte, bit)).or_default().push(subject);
            }
        }
    }
    let (places, mut cases) = (states.len(), Vec::new());
    for (turn, ((file, byte, bit), mut subjects)) in states.into_iter().enumerate() {
        if stride == 0 {
            subjects = vec![subjects[turn % subjects.len()]];
        }
        let harm = Harm::Flip { byte, bit };
        cases.extend(subjects.into_iter().map(|subject| Case { subject, file: file.clone(), harm: harm.clone() }));
    }
    let all = cases.len();
    let cases: Vec<Case<'_>> = cases.into_iter().step_by(stride.max(1)).collect();
    println!("{} of {all} bits, at {places} places", cases.len());
    let tally = run(&cases);
    print("bits flipped", &tally);
    assert!(tally.count(Outcome::Served) > 10 && tally.count(Outcome::Refused) > 100, "{tally:?}");
}

/// Lengths to which a file is cut: at the ends of frames and one byte beside them, and spread over all of it.
fn lengths(bytes: &[u8]) -> Vec<usize> {
    let ends = (0..bytes.len().saturating_sub(3)).filter(|at| bytes[*at..at + 4] == MAGIC);
    let beside = ends.flat_map(|at| [at - 1, at, at + 1, at + FRAME_HEADER_BYTES]);
    let spread = (0..bytes.len()).step_by((bytes.len() / 200).max(1));
    let mut lengths: Vec<usize> =
        beside.chain(spread).chain([bytes.len() - 1]).filter(|to| *to < bytes.len()).collect();
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

#[test]
fn every_shortened_file_of_a_data_directory_is_served_around_refused_by_name_or_cut_from_the_end() {
    let stride = counts::rounds("WINDLASS_DAMAGE_STRIDE", 7, 1) as usize;
    let story = tell();
    let subjects = subjects(&story);
    let mut cases = Vec::new();
    for subject in &subjects {
        for (file, bytes) in files(&subject.image) {
            let cuts = lengths(&bytes).into_iter().step_by(stride.max(1)).map(|to| Harm::Truncate { to });
            cases.extend(cuts.map(|harm| Case { subject, file: file.clone(), harm }));
        }
    }
    let tally = run(&cases);
    print("files shortened", &tally);
    assert!(tally.count(Outcome::Refused) > 50, "{tally:?}");
}

#[test]
fn every_deleted_or_swapped_file_of_a_data_directory_is_served_around_or_refused_by_name() {
    let story = tell();
    let subjects = subjects(&story);
    let (mut deleted, mut swapped) = (Vec::new(), Vec::new());
    for subject in &subjects {
        let files: Vec<_> = files(&subject.image).into_iter().map(|(path, _)| path).collect();
        for file in &files {
            deleted.push(Case { subject, file: file.clone(), harm: Harm::Delete });
            let others = files.iter().filter(|other| *other != file && other.parent() == file.parent());
            swapped.extend(others.map(|with| {
                let harm = Harm::Swap { with: with.clone() };
                Case { subject, file: file.clone(), harm }
            }));
        }
    }
    let tally = run(&deleted);
    print("files deleted", &tally);
    assert!(tally.count(Outcome::Refused) > 4, "{tally:?}");
    let tally = run(&swapped);
    print("files swapped", &tally);
    assert!(tally.count(Outcome::Refused) > 20, "{tally:?}");
}

/// Bytes of a real file that are flipped: of the small ones every bit, of sled's and the segments a sample.
fn flips(file: &Path, bytes: usize, samples: usize, dice: &mut Dice) -> Vec<Harm> {
    let large = [".seg", ".tmp"].iter().any(|end| file.to_string_lossy().ends_with(end));
    let small = !file.starts_with("index") && !large;
    if small {
        return (0..bytes).flat_map(|byte| (0..8).map(move |bit| Harm::Flip { byte, bit })).collect();
    }
    let mut flip = || Harm::Flip { byte: dice.below(bytes as u64) as usize, bit: dice.below(8) as u32 };
    (0..samples).map(|_| flip()).collect()
}

#[test]
fn every_file_of_a_real_directory_damaged_is_served_around_or_refused_by_name() {
    let stride = counts::rounds("WINDLASS_DAMAGE_FILES_STRIDE", 40, 1) as usize;
    // Thousands of directories are made and removed: in memory, where there is such a place.
    let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (clean, killed) = (scratch.path().join("clean"), scratch.path().join("killed"));
    let (life, facts) = on_files::tell(&clean);
    on_files::copy_tree(&clean, &killed);
    life.stop();
    let mut stopped = Vec::new();
    for (name, dir) in [("stopped", clean), ("killed", killed)] {
        let whole = scratch.path().join(format!("{name}-whole"));
        on_files::copy_tree(&dir, &whole);
        let mut life = on_files::start(&whole, on_files::END, 9).unwrap();
        let (seen, probed) = (look(&mut life), probe(&mut life, &facts));
        life.stop();
        stopped.push(trials::Stopped { name, dir, moment: Moment { seen, probed, facts: facts.clone() } });
    }
    let (mut dice, mut cases) = (Dice::new(8), Vec::new());
    for of in &stopped {
        let files = on_files::files_below(&of.dir);
        for file in &files {
            let bytes = std::fs::metadata(of.dir.join(file)).unwrap().len() as usize;
            let mut harms = vec![Harm::Delete];
            if bytes > 0 {
                harms.extend([0, 1, bytes / 2, bytes - 1].map(|to| Harm::Truncate { to }));
                harms.extend(flips(file, bytes, 150, &mut dice));
            }
            let other = stopped[1 - usize::from(of.name == "killed")].dir.join(file);
            if file.starts_with("index") && other.exists() {
                harms.push(Harm::Swap { with: other });
            }
            cases.extend(harms.into_iter().map(|harm| trials::FileTrial {
                of,
                file: file.clone(),
                harm,
                scratch: scratch.path(),
            }));
        }
    }
    let cases: Vec<_> = cases.into_iter().step_by(stride).collect();
    let tally = run(&cases);
    print("damages to real files", &tally);
    assert!(tally.count(Outcome::Served) > 10 && tally.count(Outcome::Refused) > 10, "{tally:?}");
}
