//! A look at all messages of a server that nobody else uses just now.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::history::{Look, Messages, Print, State, Topic};
use crate::process::client::Client;
use crate::workers::{NATIVE, name_of};

/// Looks at every topic with every group. Between two peeks a lapse may bury a message: dead letters are
/// looked at before their source (nothing is in both) and after it (nothing is in neither).
pub fn look(client: &mut Client, topics: &[Topic]) -> Look {
    let mut look = Look::default();
    for dead in topics.iter().filter_map(|topic| topic.dead) {
        let group = topics.iter().find(|topic| topic.name == dead).expect("it is a topic").groups[0];
        let open = peek(client, dead, group).into_iter().filter(|(_, (_, state))| *state == State::Open);
        look.dead_before.insert(dead, open.map(|(name, _)| name).collect());
    }
    let (sources, dead): (Vec<&Topic>, Vec<&Topic>) =
        topics.iter().partition(|topic| topics.iter().all(|other| other.dead != Some(topic.name)));
    for topic in sources.into_iter().chain(dead) {
        for group in topic.groups {
            look.groups.insert((topic.name, group), peek(client, topic.name, group));
        }
    }
    look
}

fn peek(client: &mut Client, topic: &str, group: &str) -> Messages {
    let mut messages = Messages::new();
    let mut from = Some(0);
    while let Some(at) = from {
        let path = format!("{NATIVE}/{topic}/messages?group={group}&from={at}&limit=1000");
        let page = client.get(&path).expect("the server answers").expect(200);
        for message in page["messages"].as_array().expect("a list") {
            let body = STANDARD.decode(message["body_base64"].as_str().expect("a body")).expect("base64");
            let state = match message["state"].as_str() {
                Some("settled") => State::Settled,
                Some("ready" | "in_flight" | "delayed") => State::Open,
                other => panic!("a state that nobody knows: {other:?}"),
            };
            let twice = messages.insert(name_of(&body), (Print::of(&body), state));
            assert!(twice.is_none(), "{} is in {topic} twice", name_of(&body));
        }
        from = page["next"].as_u64();
    }
    messages
}
