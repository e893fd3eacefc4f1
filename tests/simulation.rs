//! Histories of the whole engine, log and index included, on a machine that loses power, is killed,
//! fills up and fails. One seed is one history: `WINDLASS_SIM_SEED=n` plays one again,
//! `WINDLASS_SIM_CRASHES` says how many power cuts there shall be, `WINDLASS_SIM_FRESH` how many besides in histories that
//! no run has played before.

#![allow(clippy::unwrap_used)]

mod counts;
#[path = "simulation/mod.rs"]
mod simulation;

use std::time::Instant;

use simulation::history::{Struck, Tally, play, strike};
use windlass::disk::sim::Fault;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Panics of the model index are part of the play.
fn quiet_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let expected = info.payload().downcast_ref::<&str>().is_some_and(|text| text.contains("model index"));
        if !expected {
            usual(info);
        }
    }));
}

/// In every eighth history the segments are so small that work is split over frames.
const fn segment_bytes(seed: u64) -> u64 {
    if seed % 8 == 7 { 64 << 10 } else { 256 << 10 }
}

/// Plays histories from seed `first` on until there have been so many power cuts.
fn histories(first: u64, wanted: u64) {
    quiet_panics();
    let lives = number("WINDLASS_SIM_LIVES").unwrap_or(12);
    let start = Instant::now();
    let mut total = Tally::new();
    let first = number("WINDLASS_SIM_FROM").unwrap_or(0) + first + 1;
    let mut seed = first;
    let mut failures = Vec::new();
    while total.get("power cuts").copied().unwrap_or(0) < wanted {
        match play(seed, lives, segment_bytes(seed)) {
            Ok(tally) => {
                for (what, count) in tally {
                    *total.entry(what).or_default() += count;
                }
            }
            Err(why) => {
                failures.push(why);
                if failures.len() >= number("WINDLASS_SIM_FAILURES").unwrap_or(1) as usize {
                    break;
                }
            }
        }
        *total.entry("histories").or_default() += 1;
        seed += 1;
    }
    let cuts = total.get("power cuts").copied().unwrap_or(0);
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("{total:?}");
    let rate = cuts as f64 / seconds;
    eprintln!("{cuts} power cuts in {seconds:.1} s, {rate:.0} a second, seeds {first} to {}", seed - 1);
    let last = |why: &String| why.lines().last().unwrap_or_default().to_owned();
    let list: Vec<String> = failures.iter().map(last).collect();
    assert!(failures.is_empty(), "{}\n\nfailures:\n{}", end_of(&failures[0]), list.join("\n"));
}

/// The last lines of a history: few enough that the seed is not cut off wherever this is printed.
fn end_of(history: &str) -> String {
    let lines: Vec<&str> = history.lines().collect();
    let shown = number("WINDLASS_SIM_LINES").unwrap_or(LINES_SHOWN) as usize;
    let cut = lines.len().saturating_sub(shown);
    let line = |line: &&str| line.chars().take(LINE_CHARS).collect::<String>();
    let last: Vec<String> = lines[cut..].iter().map(line).collect();
    format!("{cut} earlier lines (WINDLASS_SIM_LINES shows more)\n{}", last.join("\n"))
}

#[test]
fn what_was_answered_survives_every_crash() {
    if let Some(seed) = number("WINDLASS_SIM_SEED") {
        quiet_panics();
        match play(seed, number("WINDLASS_SIM_LIVES").unwrap_or(12), segment_bytes(seed)) {
            Ok(tally) => eprintln!("{tally:?}"),
            Err(why) => panic!("{why}"),
        }
        return;
    }
    histories(0, half());
}

/// Half of the power cuts of a run.
fn half() -> u64 {
    counts::rounds("WINDLASS_SIM_CRASHES", CRASHES, CRASHES_LONG).div_ceil(2)
}

/// The other half, so that two cores share them.
#[test]
fn what_was_answered_survives_every_other_crash() {
    if number("WINDLASS_SIM_SEED").is_none() {
        histories(SEEDS_APART, half());
    }
}

/// Histories that no run before has played.
#[test]
fn what_was_answered_survives_the_crashes_of_fresh_histories() {
    if number("WINDLASS_SIM_SEED").is_none() {
        let drawn = std::time::UNIX_EPOCH.elapsed().map_or(0, |span| span.as_millis() as u64);
        histories(drawn << 20, counts::rounds("WINDLASS_SIM_FRESH", FRESH, FRESH_LONG));
    }
}

/// Every fault at every operation of a script with publishes, pulls, acks, lapses, checkpoints, restarts and
/// drops of the front, live messages in it said again: what was answered is there after the next start.
#[test]
fn the_disk_may_fail_once_at_every_operation() {
    quiet_panics();
    let (seed, steps) =
        (number("WINDLASS_SIM_SCRIPT").unwrap_or(SCRIPT), number("WINDLASS_SIM_STEPS").unwrap_or(STEPS));
    match strike(seed, steps, NEVER, Fault::Io) {
        Ok(Struck::Missed(seen)) => {
            let lacking: Vec<&str> = COVERED.into_iter().filter(|what| !seen.contains_key(what)).collect();
            assert!(lacking.is_empty(), "the script shows less than it says, {lacking:?}: {seen:?}");
        }
        other => panic!("the script does not play without a fault: {other:?}"),
    }
    let failures = std::sync::Mutex::new(Vec::new());
    let runs = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|threads| {
        for fault in [Fault::Io, Fault::NoSpace, Fault::Short] {
            let (failures, runs) = (&failures, &runs);
            threads.spawn(move || {
                for at in 0.. {
                    match strike(seed, steps, at, fault) {
                        Ok(Struck::Missed(_)) => return,
                        Ok(Struck::Hit) => {}
                        Err(why) => failures.lock().unwrap().push(why),
                    }
                    runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    let (failures, runs) = (failures.into_inner().unwrap(), runs.into_inner());
    eprintln!("{runs} runs with one fault each");
    let last = |why: &String| why.lines().last().unwrap_or_default().to_owned();
    let list: Vec<String> = failures.iter().map(last).collect();
    assert!(failures.is_empty(), "{}\n{} failures:\n{}", end_of(&failures[0]), failures.len(), list.join("\n"));
}

/// An operation that no script comes to.
const NEVER: u64 = 1 << 40;
/// What the script must have done.
const COVERED: [&str; 8] = [
    "published",
    "pulled",
    "acked",
    "lapsed",
    "checkpoints",
    "front dropped",
    "front dropped with live messages",
    "restarted",
];
/// Of the first history that fails.
const LINES_SHOWN: u64 = 30;
/// The same, of a line.
const LINE_CHARS: usize = 160;
/// Power cuts of one run, unless told otherwise.
const CRASHES: u64 = 7_000;
/// The same in the long suite.
const CRASHES_LONG: u64 = 200_000;
/// Between the first seeds of the two halves.
const SEEDS_APART: u64 = 1_000_000_000;
/// Power cuts besides, in fresh histories.
const FRESH: u64 = 1_000;
/// The same in the long suite.
const FRESH_LONG: u64 = 10_000;
/// The seed of that script.
const SCRIPT: u64 = 13;
/// Its calls.
const STEPS: u64 = 300;
