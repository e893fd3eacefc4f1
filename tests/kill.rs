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

/// Servers of a long run, each on a directory of its own: one that is killed mostly waits.
const SERVERS: u64 = 2;

/// In the long suite this is the release binary.
#[test]
fn a_server_killed_again_and_again_keeps_every_promise() {
    let (kills, first) = (rounds("WINDLASS_KILL_ROUNDS", 15, 1_000), seed());
    if kills < 100 {
        // In a short run each kind of trouble is to come once or twice.
        let plan = Plan { copies_every: 6, pauses_every: 8, ..Plan::new(binary(), kills, first) };
        assert_eq!(passes(&plan, &mut Killer).figures.kills, kills);
        return;
    }
    let plan = |number| Plan::new(binary(), kills.div_ceil(SERVERS), first.wrapping_add(number));
    std::thread::scope(|scope| {
        let lives = |number| scope.spawn(move || passes(&plan(number), &mut Killer).figures.kills);
        let servers: Vec<_> = (0..SERVERS).map(lives).collect();
        let done: u64 = servers.into_iter().map(|server| server.join().expect("it keeps every promise")).sum();
        assert_eq!(done, kills.div_ceil(SERVERS) * SERVERS);
    });
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
