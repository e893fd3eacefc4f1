//! A checkpoint that is cut short after a reboot leaves deadlines of two boots behind: whichever values of it
//! reached the disk, a lease keeps the time that was left of it, no less and no more.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "simulation/machine.rs"]
#[allow(dead_code, reason = "shared with the simulation")]
mod machine;

use std::time::Duration;

use bytes::Bytes;
use machine::Machine;
use windlass::engine::{CreateGroup, CreateTopic, Engine, HandleKind, Position, Publish, Pull, Wait};
use windlass::index::Mood;
use windlass::model::{
    AccountName, GroupName, GroupRef, GroupSettings, NewMessage, Start, TopicName, TopicRef, TopicSettings,
};

const LEASE_MS: u64 = 30_000;

fn topic() -> TopicRef {
    TopicRef::Name(TopicName::parse("t").unwrap())
}

fn publish(machine: &mut Machine) {
    let messages = vec![NewMessage { body: Bytes::from_static(b"body"), ..NewMessage::default() }];
    let request = Publish { account: AccountName::standard(), topic: topic(), messages };
    let engine = machine.engine();
    machine.wait(async move { engine.publish(request).await }).unwrap().unwrap();
}

fn pull(machine: &mut Machine) -> usize {
    let request = Pull {
        account: AccountName::standard(),
        topic: topic(),
        group: GroupRef::Name(GroupName::parse("g").unwrap()),
        batch_max: 1,
        lease: Some(Duration::from_millis(LEASE_MS)),
        wait: Wait::None,
        auto_ack: false,
        handles: HandleKind::None,
        filter: None,
        start: None,
    };
    let engine = machine.engine();
    machine.wait(async move { engine.pull(request).await }).unwrap().unwrap().deliveries.len()
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
    let engine = machine.engine();
    let name = TopicName::parse("t").unwrap();
    let request = CreateTopic { account: AccountName::standard(), name, settings: TopicSettings::default() };
    machine.wait(async move { engine.create_topic(request).await }).unwrap().unwrap();
    let engine = machine.engine();
    let request = CreateGroup {
        account: AccountName::standard(),
        topic: topic(),
        name: GroupName::parse("g").unwrap(),
        settings: GroupSettings::default(),
        position: Position::Now(Start::Head),
    };
    machine.wait(async move { engine.create_group(request).await }).unwrap().unwrap();
    publish(&mut machine);
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
