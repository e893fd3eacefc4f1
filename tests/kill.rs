//! A real server killed with SIGKILL at random moments, a hundred times on one directory, under mixed
//! load over HTTP; every message's history is held against the promises after each restart and at the end.
//!
//! `WINDLASS_KILL_ROUNDS` and `WINDLASS_KILL_SEED` make a run longer or try one again.

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
