//! A real server killed with SIGKILL at random moments, a hundred times on one directory, under mixed
//! load over HTTP; every message's history is held against the promises after each restart and at the end.
//!
//! `WINDLASS_KILL_ROUNDS`, `WINDLASS_KILL_COPY_ROUNDS` and `WINDLASS_KILL_SEED` make a run longer or try one again.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "kill/checker.rs"]
mod checker;
#[path = "kill/checker_bites.rs"]
mod checker_bites;
#[path = "kill/history.rs"]
mod history;
#[path = "kill/look.rs"]
mod look;
#[path = "process/mod.rs"]
mod process;
#[path = "kill/rig.rs"]
mod rig;
#[path = "kill/workers.rs"]
mod workers;

/// Rounds of a run, unless the environment says otherwise.
const ROUNDS: u64 = 100;
const COPIED_ROUNDS: u64 = 40;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is `{text}`, which is no number")))
}

#[test]
fn a_server_killed_a_hundred_times_keeps_every_promise() {
    let rounds = number("WINDLASS_KILL_ROUNDS").unwrap_or(ROUNDS);
    let drawn = || std::time::UNIX_EPOCH.elapsed().map_or(0, |span| span.as_nanos() as u64);
    let seed = number("WINDLASS_KILL_SEED").unwrap_or_else(drawn);
    println!("{rounds} rounds with WINDLASS_KILL_SEED={seed}");
    rig::Rig::new(seed).run(rounds);
}

#[test]
fn a_server_with_default_settings_is_killed_and_copied_and_every_copy_opens() {
    let rounds = number("WINDLASS_KILL_COPY_ROUNDS").unwrap_or(COPIED_ROUNDS);
    println!("{rounds} rounds, every other one with a copy");
    rig::Rig::new(number("WINDLASS_KILL_SEED").unwrap_or(rounds)).with_default_settings().run(rounds);
}

/// The whole rig bites, not only the checker: a server whose disk forgets what it had confirmed is found out,
/// by a broken promise or because it says itself that something durable is missing.
#[test]
fn a_disk_that_forgets_is_found_out() {
    let run = || rig::Rig::new(1).on_a_lying_disk().run(20);
    let failure = std::panic::catch_unwind(run).expect_err("lost messages are seen");
    let said = failure.downcast_ref::<String>().expect("a failure says what is wrong");
    assert!(said.contains("violations") || said.contains("damaged"), "{said}");
}
