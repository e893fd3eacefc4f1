//! How messages stand: in a look at a quiet server, and at the end of a run, when nothing may be open.

use std::collections::BTreeSet;

use crate::torture::checker::{Facts, Seat, Violation};
use crate::torture::history::{History, Look, Messages, Outcome, Settle, State, Topic, Word};

/// What must hold after everything was pulled and acked: each message that exists was settled in every
/// group, by an ack that was sent for it or as a dead letter (I1, I8, I12).
pub fn check_end(topics: &[Topic], history: &History) -> Vec<Violation> {
    let mut facts = Facts::new(topics, history);
    let late: BTreeSet<Seat<'_>> = history.late.iter().map(|one| (one.topic, one.group, one.name.as_str())).collect();
    let seen: BTreeSet<&str> = history.deliveries.iter().map(|one| one.name.as_str()).collect();
    let mut found = Vec::new();
    for (name, publishes) in &facts.publishes {
        if publishes.iter().all(|one| one.end.is_none()) && !seen.contains(name) {
            continue;
        }
        let topic = publishes.first().and_then(|publish| topics.iter().find(|topic| topic.name == publish.topic));
        let Some(topic) = topic else { continue };
        for group in topic.groups {
            let seat = (topic.name, *group, *name);
            let buried = topic.dead.map(|dead| (dead, facts.group_of(dead), *name));
            let came = |seat| !facts.deliveries_of(seat).is_empty() || late.contains(&seat);
            let last = buried.filter(|seat| came(*seat)).unwrap_or(seat);
            if !came(last) {
                found.push(("I1", *name, format!("never delivered to {}/{group}", topic.name)));
            } else if !may_be_acked(facts.settles_of(last), u64::MAX) {
                found.push(("I12", *name, format!("still open in {}/{}", last.0, last.1)));
            }
        }
    }
    found.into_iter().for_each(|(rule, name, what)| facts.complain(rule, name, what));
    facts.found
}

/// Whether an ack sent before `until` may have settled the message. That it was gone already does not
/// count: somebody must have settled it.
fn may_be_acked(settles: &[&Settle], until: u64) -> bool {
    settles.iter().any(|one| {
        let may = matches!(one.end, None | Some((_, Outcome::Done | Outcome::Untold)));
        one.word == Word::Ack && one.begin <= until && may
    })
}

/// Whether the message was told to be acked before `before`.
fn is_acked(facts: &Facts<'_>, settles: &[&Settle], before: u64) -> bool {
    settles.iter().any(|one| one.word == Word::Ack && facts.is_done(one).is_some_and(|end| end < before))
}

/// Holds a look at a server against the history: everything answered before `before` is there, and
/// nothing whose ack was answered before then; what was asked up to `until` may have been done.
pub fn check_look(topics: &[Topic], history: &History, look: &Look, before: u64, until: u64) -> Vec<Violation> {
    let mut facts = Facts::new(topics, history);
    let mut found = seen_wrong(&facts, look, before, until);
    let nothing = Messages::new();
    for (name, publishes) in &facts.publishes {
        if !publishes.iter().any(|one| one.end.is_some_and(|end| end < before)) {
            continue;
        }
        let topic = publishes.first().and_then(|publish| topics.iter().find(|topic| topic.name == publish.topic));
        let Some(topic) = topic else { continue };
        for group in topic.groups {
            let state = |topic, group| {
                let messages = look.groups.get(&(topic, group)).unwrap_or(&nothing);
                messages.get(*name).map(|(_, state)| *state)
            };
            let open = state(topic.name, *group) == Some(State::Open);
            let acked = || may_be_acked(facts.settles_of((topic.name, *group, name)), until);
            let dead = topic.dead.map(|dead| (dead, facts.group_of(dead)));
            let buried = || {
                dead.is_some_and(|(dead, group)| {
                    state(dead, group) == Some(State::Open)
                        || may_be_acked(facts.settles_of((dead, group, name)), until)
                })
            };
            if !open && !acked() && !buried() {
                found.push(("I1", (*name).to_owned(), format!("it is not open in {}/{group}", topic.name)));
            }
            let before = dead.and_then(|(dead, _)| look.dead_before.get(dead));
            if open && before.is_some_and(|names| names.iter().any(|other| other == name)) {
                found.push(("I8", (*name).to_owned(), format!("it is in {} and a dead letter", topic.name)));
            }
        }
    }
    found.into_iter().for_each(|(rule, name, what)| facts.complain(rule, &name, what));
    facts.found
}

/// What is there and should not be, or is not as it was published, or is not counted.
fn seen_wrong(facts: &Facts<'_>, look: &Look, before: u64, until: u64) -> Vec<(&'static str, String, String)> {
    let mut found = Vec::new();
    for ((topic, group), messages) in &look.groups {
        for (name, (print, state)) in messages {
            let publish = facts.publishes.get(name.as_str()).and_then(|list| list.first());
            match publish {
                Some(publish) if publish.print == *print && publish.begin <= until => {}
                Some(_) => found.push(("I2", name.clone(), format!("changed, or too early, in {topic}"))),
                None => found.push(("I2", name.clone(), format!("nobody published it, and it is in {topic}"))),
            }
            if *state == State::Open && is_acked(facts, facts.settles_of((*topic, *group, name)), before) {
                found.push(("I3", name.clone(), format!("acked, and open again in {topic}/{group}")));
            }
        }
        let open = messages.values().filter(|(_, state)| *state == State::Open).count() as u64;
        if let Some(counted) = look.counts.get(&(topic, group)).filter(|counted| **counted != open) {
            found.push((
                "I13",
                String::new(),
                format!("{topic}/{group} counts {counted} open messages and has {open}"),
            ));
        }
    }
    found
}
