//! A full disk refuses publishes; acks, pulls and rewriting go on; publishes come back by themselves.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "simulation/machine.rs"]
#[allow(dead_code, reason = "shared with the simulation")]
mod machine;

use std::time::Duration;

use bytes::Bytes;
use machine::Machine;
use windlass::engine::{
    CreateGroup, CreateTopic, Engine, HandleKind, Lateness, LeaseRef, Position, Publish, PublishError, Pull, Pulled,
    Refusal, Settle, SettleAction, SettleOutcome, Wait,
};
use windlass::log::Step;
use windlass::model::{
    AccountName, GroupName, GroupRef, GroupSettings, NewMessage, Published, Start, TopicName, TopicRef, TopicSettings,
};

fn account() -> AccountName {
    AccountName::standard()
}

fn topic() -> TopicRef {
    TopicRef::Name(TopicName::parse("t").unwrap())
}

fn group() -> GroupRef {
    GroupRef::Name(GroupName::parse("g").unwrap())
}

fn publish(machine: &mut Machine) -> Result<Vec<Published>, PublishError> {
    let messages = vec![NewMessage { body: Bytes::from(vec![7; 4_000]), ..NewMessage::default() }];
    let request = Publish { account: account(), topic: topic(), messages };
    let engine = machine.engine();
    machine.wait(async move { engine.publish(request).await }).unwrap()
}

fn pull(machine: &mut Machine, batch_max: usize) -> Pulled {
    let request = Pull {
        account: account(),
        topic: topic(),
        group: group(),
        batch_max,
        lease: Some(Duration::from_secs(30)),
        wait: Wait::None,
        auto_ack: false,
        handles: HandleKind::None,
        filter: None,
        start: None,
    };
    let engine = machine.engine();
    machine.wait(async move { engine.pull(request).await }).unwrap().unwrap()
}

fn ack(machine: &mut Machine, pulled: Pulled) {
    let items: Vec<_> =
        pulled.deliveries.into_iter().map(|one| (LeaseRef::Token(one.token), SettleAction::Ack)).collect();
    let count = items.len();
    let request =
        Settle { account: account(), topic: topic(), group: Some(group()), items, lateness: Lateness::IfFree };
    let engine = machine.engine();
    let outcomes = machine.wait(async move { engine.settle(request).await }).unwrap().unwrap();
    assert_eq!(outcomes, vec![SettleOutcome::Settled { count: 1 }; count]);
}

/// Lets the keeper, the jobs and the clock go on for a while.
fn let_pass(machine: &mut Machine) {
    for _ in 0..40 {
        machine.advance(100);
        machine.turn().unwrap();
        while machine.run_job(0) {
            machine.turn().unwrap();
        }
        while !matches!(machine.keep().unwrap(), Step::Idle | Step::NoSpace) {}
    }
}

fn filled(seed: u64) -> (Machine, usize) {
    let mut machine = Machine::new(seed, 256 << 10);
    machine.start().unwrap();
    // Until the keeper has made the first spares, a short first segment is all there is.
    let_pass(&mut machine);
    let engine = machine.engine();
    let name = TopicName::parse("t").unwrap();
    let request = CreateTopic { account: account(), name, settings: TopicSettings::default() };
    machine.wait(async move { engine.create_topic(request).await }).unwrap().unwrap();
    let engine = machine.engine();
    let request = CreateGroup {
        account: account(),
        topic: topic(),
        name: GroupName::parse("g").unwrap(),
        settings: GroupSettings::default(),
        position: Position::Now(Start::Head),
    };
    machine.wait(async move { engine.create_group(request).await }).unwrap().unwrap();
    let_pass(&mut machine);
    machine.bound(1_500_000);
    let mut published = 0;
    for _ in 0..1_000 {
        match publish(&mut machine) {
            Ok(_) => published += 1,
            Err(error) => {
                assert_eq!(error, PublishError::Refused(Refusal::DiskFull));
                return (machine, published);
            }
        }
        machine.advance(1);
        while machine.run_job(0) {}
        let _ = machine.keep().unwrap();
    }
    panic!("the disk never filled");
}

#[test]
fn a_full_disk_refuses_publishes_while_pulls_and_acks_go_on() {
    let (mut machine, published) = filled(1);
    assert!(published > 20, "only {published} published");
    for _ in 0..20 {
        let pulled = pull(&mut machine, 1);
        assert_eq!(pulled.deliveries.len(), 1);
        ack(&mut machine, pulled);
    }
}

#[test]
fn publishes_come_back_when_acks_have_made_space() {
    let (mut machine, published) = filled(2);
    let mut got = 0;
    while got < published {
        let pulled = pull(&mut machine, 5);
        assert!(!pulled.deliveries.is_empty(), "{got} of {published}");
        got += pulled.deliveries.len();
        ack(&mut machine, pulled);
        let_pass(&mut machine);
    }
    let_pass(&mut machine);
    publish(&mut machine).expect("the front of the log was dropped and its space is free");
}

#[test]
fn publishes_come_back_when_the_disk_has_space_again() {
    let (mut machine, published) = filled(3);
    machine.unbound();
    let_pass(&mut machine);
    publish(&mut machine).expect("there is space");
    // Nothing of before is lost, over a power cut neither.
    machine.power_cut(9);
    machine.start().unwrap();
    let mut got = 0;
    while got <= published {
        let pulled = pull(&mut machine, 50);
        assert!(!pulled.deliveries.is_empty(), "{got} of {}", published + 1);
        got += pulled.deliveries.len();
    }
}
