//! A look at all messages of a server that nobody else uses just now.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::torture::client::Client;
use crate::torture::history::{Look, Messages, Print, State, Topic};
use crate::torture::speech::{NATIVE, name_of};
use crate::torture::stage::{Halt, Stage, list, number, text};

/// Looks at every topic with every group. Between two peeks a lapse may bury a message: dead letters are
/// looked at before their source (nothing is in both) and after it (nothing is in neither).
pub fn look(client: &mut Client, stage: &Stage, topics: &[Topic]) -> Result<Look, Halt> {
    let mut look = Look::default();
    for dead in topics.iter().filter_map(|topic| topic.dead) {
        let groups = topics.iter().find(|topic| topic.name == dead).map_or(&[][..], |topic| topic.groups);
        for group in groups {
            let open = peek(client, stage, dead, group)?.into_iter().filter(|(_, (_, state))| *state == State::Open);
            look.dead_before.insert(dead, open.map(|(name, _)| name).collect());
        }
    }
    let (sources, dead): (Vec<&Topic>, Vec<&Topic>) =
        topics.iter().partition(|topic| topics.iter().all(|other| other.dead != Some(topic.name)));
    for topic in sources.into_iter().chain(dead) {
        for group in topic.groups {
            let before = counted(client, stage, topic.name, group)?;
            look.groups.insert((topic.name, group), peek(client, stage, topic.name, group)?);
            // A dead letter that moved meanwhile is no miscount; nothing ever makes up for it.
            if counted(client, stage, topic.name, group)? == before {
                look.counts.insert((topic.name, group), before);
            }
        }
    }
    Ok(look)
}

/// Open messages by the server's own count.
fn counted(client: &mut Client, stage: &Stage, topic: &str, group: &str) -> Result<u64, Halt> {
    let counts = stage.get(client, &format!("{NATIVE}/{topic}/groups/{group}/counts"))?;
    Ok(number(&counts, "/ready")? + number(&counts, "/in_flight")? + number(&counts, "/delayed")?)
}

/// Groups that still have messages, and how many.
pub fn open_messages(client: &mut Client, stage: &Stage, topics: &[Topic]) -> Result<Vec<String>, Halt> {
    let mut left = Vec::new();
    for topic in topics {
        for group in topic.groups {
            let open = counted(client, stage, topic.name, group)?;
            if open > 0 {
                left.push(format!("{open} in {}/{group}", topic.name));
            }
        }
    }
    Ok(left)
}

fn peek(client: &mut Client, stage: &Stage, topic: &str, group: &str) -> Result<Messages, Halt> {
    let mut messages = Messages::new();
    let mut from = Some(0);
    while let Some(at) = from {
        let path = format!("{NATIVE}/{topic}/messages?group={group}&from={at}&limit=1000");
        let page = stage.get(client, &path)?;
        for message in list(&page, "/messages")? {
            let body = STANDARD.decode(text(message, "/body_base64")?);
            let body = body.map_err(|_| Halt::without("base64", message))?;
            let state = match text(message, "/state")? {
                "settled" => State::Settled,
                "ready" | "in_flight" | "delayed" => State::Open,
                other => return Err(Halt::Strange(format!("a state that nobody knows: {other}"))),
            };
            let name = name_of(&body);
            if messages.insert(name.clone(), (Print::of(&body), state)).is_some() {
                return Err(Halt::Strange(format!("{name} is in {topic} twice")));
            }
        }
        from = page.get("next").and_then(Value::as_u64);
    }
    Ok(messages)
}
