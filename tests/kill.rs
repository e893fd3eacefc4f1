//! A real server killed with SIGKILL at random moments on one directory, under mixed load over HTTP in all dialects;
//! every message's history is held against the promises after each restart and at the end.
//!
//! `WINDLASS_KILL_ROUNDS`, `WINDLASS_KILL_COPY_ROUNDS` and `WINDLASS_KILL_SEED` make a run longer or try one again.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "kill/checker_bites.rs"]
mod checker_bites;
#[path = "counts/mod.rs"]
mod counts;
#[path = "torture_rig/mod.rs"]
mod torture_rig;

use counts::rounds;
use torture_rig::{binary, passes, run, seed};
use windlass::torture::wreck::{Killer, LyingDisk};
use windlass::torture::{Plan, Settings};

/// In the long suite this is the release binary.
#[test]
fn a_server_killed_again_and_again_keeps_every_promise() {
    let kills = rounds("WINDLASS_KILL_ROUNDS", 15, 1_000);
    let mut plan = Plan::new(binary(), kills, seed());
    if kills < 100 {
        // In a short run each kind of trouble is to come once or twice.
        (plan.copies_every, plan.pauses_every) = (6, 8);
    }
    let verdict = passes(&plan, &mut Killer);
    assert_eq!(verdict.figures.kills, kills);
}

/// Its directory is much larger than what is in it; every other life is copied.
#[test]
fn a_server_with_default_settings_is_killed_and_copied_and_every_copy_opens() {
    let kills = rounds("WINDLASS_KILL_COPY_ROUNDS", 6, 40);
    let plan = Plan::new(binary(), kills, seed());
    passes(&Plan { settings: Settings::Default, copies_every: 2, pauses_every: 0, ..plan }, &mut Killer);
}

/// The whole rig bites, not only the checker: a server whose disk forgets what it had confirmed is found out,
/// by a broken promise or because it says itself that something durable is missing.
#[test]
fn a_disk_that_forgets_is_found_out() {
    let scratch = tempfile::tempdir().expect("a directory");
    let plan = Plan { parent: Some(scratch.path().to_owned()), ..Plan::new(binary(), 20, 1) };
    let verdict = run(&plan, &mut LyingDisk);
    let broken = verdict.broken.expect("lost messages are seen");
    let first = &broken.violations[0];
    assert!(matches!(first.rule, "I1" | "I2" | "I3" | "I5" | "I9" | "restart"), "{first:?}");
}
