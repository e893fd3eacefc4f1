//! A full disk refuses publishes; acks, pulls and rewriting go on; publishes come back by themselves.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "simulation/desk.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod desk;
#[path = "simulation/machine.rs"]
#[allow(dead_code, reason = "shared with the simulation")]
mod machine;

use desk::{ack, create_group, create_topic, let_pass, publish, pull};
use machine::Machine;
use windlass::engine::{PublishError, Refusal};

/// Bytes of each message.
const BODY: usize = 4_000;

fn filled(seed: u64) -> (Machine, usize) {
    let mut machine = Machine::new(seed, 256 << 10);
    machine.start().unwrap();
    // Until the keeper has made the first spares, a short first segment is all there is.
    let_pass(&mut machine);
    create_topic(&mut machine);
    create_group(&mut machine, "g");
    let_pass(&mut machine);
    machine.bound(1_500_000);
    let mut published = 0;
    for _ in 0..1_000 {
        match publish(&mut machine, BODY) {
            Ok(_) => published += 1,
            Err(error) => {
                assert_eq!(error, PublishError::Refused(Refusal::DiskFull));
                return (machine, published);
            }
        }
        machine.advance(1);
        while machine.run_job(0).is_some() {}
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
    publish(&mut machine, BODY).expect("the front of the log was dropped and its space is free");
}

#[test]
fn publishes_come_back_when_the_disk_has_space_again() {
    let (mut machine, published) = filled(3);
    machine.unbound();
    let_pass(&mut machine);
    publish(&mut machine, BODY).expect("there is space");
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
