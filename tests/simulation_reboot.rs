//! A checkpoint that is cut short leaves values of two times behind. Whichever of it reached the disk: what a group
//! holds is still held, also where the replay is so long that it writes checkpoints of its own; and after a reboot,
//! which leaves deadlines of two boots, a lease keeps the time that was left of it, no less and no more.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "simulation/desk.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod desk;
#[path = "simulation/machine.rs"]
#[allow(dead_code, reason = "shared with the simulation")]
mod machine;

use desk::{create_group, create_topic, publish, try_pull};
use machine::Machine;
use windlass::index::Mood;
use windlass::log::Step;

const LEASE_MS: u64 = 30_000;

fn pull(machine: &mut Machine) -> usize {
    try_pull(machine, "g", 1, LEASE_MS).unwrap().deliveries.len()
}

/// Lets a checkpoint begin and end.
fn checkpoint(machine: &mut Machine) {
    machine.advance(2_500);
    machine.turn().unwrap();
    while machine.run_job(0).is_some() {
        machine.turn().unwrap();
    }
}

/// A machine with one message, leased under an old boot whose clock stood high.
fn leased(seed: u64) -> Machine {
    let mut machine = Machine::new(seed, 256 << 10);
    machine.advance(1_000_000);
    machine.start().unwrap();
    create_topic(&mut machine);
    create_group(&mut machine, "g");
    publish(&mut machine, 10).unwrap();
    assert_eq!(pull(&mut machine), 1);
    checkpoint(&mut machine);
    machine
}

#[test]
fn a_checkpoint_cut_short_after_a_reboot_neither_ends_nor_prolongs_a_lease() {
    for seed in 0..64 {
        let mut machine = leased(seed);
        machine.kill();
        machine.clock.reboot();
        machine.start().unwrap();
        checkpoint(&mut machine);
        machine.kill();
        machine.index_mood(Mood::CutShort, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        machine.start().unwrap();
        assert_eq!(pull(&mut machine), 0, "seed {seed}: the lease ended early");
        // What is left of it, and the second between two stamps.
        machine.advance(LEASE_MS - 2 * 2_500 + 1_000);
        machine.turn().unwrap();
        assert_eq!(pull(&mut machine), 1, "seed {seed}: the lease goes on");
    }
}

/// The cursor of the group may be known and what it holds not; a checkpoint in the middle of the replay must not take
/// that for the truth.
#[test]
fn a_checkpoint_cut_short_before_a_long_replay_forgets_nothing_that_is_held() {
    for seed in 0..64 {
        let mut machine = Machine::new(seed, 256 << 10);
        machine.spills = true;
        machine.start().unwrap();
        create_topic(&mut machine);
        create_group(&mut machine, "g");
        for _ in 0..10 {
            publish(&mut machine, 10).unwrap();
        }
        checkpoint(&mut machine);
        for _ in 0..200 {
            publish(&mut machine, 10).unwrap();
            while !matches!(machine.keep().unwrap(), Step::Idle) {}
        }
        assert_eq!(try_pull(&mut machine, "g", 5, LEASE_MS).unwrap().deliveries.len(), 5);
        checkpoint(&mut machine);
        machine.kill();
        machine.index_mood(Mood::CutShort, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        machine.start().unwrap();
        machine.advance(LEASE_MS);
        machine.turn().unwrap();
        let pulled = try_pull(&mut machine, "g", 250, LEASE_MS).unwrap().deliveries;
        let mut offsets: Vec<u64> = pulled.iter().map(|one| one.message.head.offset.get()).collect();
        offsets.sort_unstable();
        assert_eq!(offsets, (0..210).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn a_frame_that_only_stamps_the_time_counts_in_the_next_checkpoint() {
    let mut machine = leased(1);
    for _ in 0..9 {
        machine.advance(1_100);
        machine.turn().unwrap();
    }
    // No entry has been written since the lease; what began it is in the checkpoint.
    machine.kill();
    machine.clock.reboot();
    machine.start().unwrap();
    machine.advance(LEASE_MS - 2_500 - 9 * 1_100 + 1_200);
    machine.turn().unwrap();
    assert_eq!(pull(&mut machine), 1, "the lease goes on");
}
