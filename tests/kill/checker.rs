//! Holds a history against the promises. Every rule complains only of what cannot have been otherwise:
//! of the moments at which a request may have been carried out, it assumes those best for the server.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::history::{Delivery, History, Look, Messages, Outcome, Publish, Settle, State, Topic, Word};

/// Clocks in whole milliseconds round each end of a span.
pub const ROUNDING: u64 = 2_000;

/// A broken promise.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which promise.
    pub rule: &'static str,
    /// The message it is about.
    pub name: String,
    /// What is wrong.
    pub what: String,
}

/// A history by message.
struct Facts<'a> {
    topics: &'a [Topic],
    publishes: HashMap<&'a str, Vec<&'a Publish>>,
    deliveries: HashMap<Seat<'a>, Vec<&'a Delivery>>,
    settles: HashMap<Seat<'a>, Vec<&'a Settle>>,
    found: Vec<Violation>,
}

/// A message with a group.
type Seat<'a> = (&'static str, &'static str, &'a str);

impl<'a> Facts<'a> {
    fn new(topics: &'a [Topic], history: &'a History) -> Self {
        let mut facts = Self {
            topics,
            publishes: HashMap::new(),
            deliveries: HashMap::new(),
            settles: HashMap::new(),
            found: Vec::new(),
        };
        for one in &history.publishes {
            facts.publishes.entry(&one.name).or_default().push(one);
        }
        for one in &history.deliveries {
            facts.deliveries.entry((one.topic, one.group, &one.name)).or_default().push(one);
        }
        for one in &history.settles {
            facts.settles.entry((one.topic, one.group, &one.name)).or_default().push(one);
        }
        facts.deliveries.values_mut().for_each(|list| list.sort_by_key(|one| (one.attempt, one.end)));
        facts
    }

    fn complain(&mut self, rule: &'static str, name: &str, what: impl Into<String>) {
        self.found.push(Violation { rule, name: name.to_owned(), what: what.into() });
    }

    fn settles_of(&self, seat: Seat<'a>) -> &[&'a Settle] {
        self.settles.get(&seat).map_or(&[], Vec::as_slice)
    }

    fn deliveries_of(&self, seat: Seat<'a>) -> &[&'a Delivery] {
        self.deliveries.get(&seat).map_or(&[], Vec::as_slice)
    }

    fn group_of(&self, topic: &str) -> &'static str {
        let topic = self.topics.iter().find(|one| one.name == topic);
        topic.and_then(|one| one.groups.first()).expect("a dead-letter topic has a group")
    }
}

/// Everything that must hold at any moment.
pub fn check(topics: &[Topic], history: &History) -> Vec<Violation> {
    let mut facts = Facts::new(topics, history);
    check_identity(&mut facts, history);
    check_delays(&mut facts);
    check_seats(&mut facts);
    check_order(&mut facts, history);
    check_dead_letters(&mut facts);
    facts.found
}

/// I2: nothing that was not published, nothing changed, no id used twice.
fn check_identity(facts: &mut Facts<'_>, history: &History) {
    let mut owners: HashMap<&str, &str> = HashMap::new();
    let mut places: HashMap<(&str, &str), (&str, Option<u64>)> = HashMap::new();
    let mut offsets: HashMap<(&str, u64), &str> = HashMap::new();
    let answered = history.publishes.iter().filter_map(|one| {
        let (id, offset) = one.place.as_ref()?;
        Some((one.topic, one.name.as_str(), id.as_str(), Some(*offset)))
    });
    let delivered = history.deliveries.iter().map(|one| (one.topic, one.name.as_str(), one.id.as_str(), one.offset));
    for (topic, name, id, offset) in answered.chain(delivered) {
        let owner = *owners.entry(id).or_insert(name);
        if owner != name {
            facts.complain("I2", name, format!("id {id} is also that of {owner}"));
        }
        let place = *places.entry((topic, name)).or_insert((id, offset));
        if place != (id, offset) {
            facts.complain("I2", name, format!("it is in {topic} as {place:?} and as {:?}", (id, offset)));
        }
        if let Some(offset) = offset {
            let owner = *offsets.entry((topic, offset)).or_insert(name);
            if owner != name {
                facts.complain("I2", name, format!("offset {offset} of {topic} is also that of {owner}"));
            }
        }
    }
    for one in &history.deliveries {
        let Some(publish) = facts.publishes.get(one.name.as_str()).and_then(|list| list.first()).copied() else {
            facts.complain("I2", &one.name, "a message that nobody published was delivered");
            continue;
        };
        if publish.print != one.print || publish.key != one.key {
            let (sent, got) = ((publish.print, &publish.key), (one.print, &one.key));
            facts.complain("I2", &one.name, format!("body or key changed: {sent:?} became {got:?}"));
        }
        let moved = facts.topics.iter().any(|topic| topic.name == publish.topic && topic.dead == Some(one.topic));
        if publish.topic != one.topic && !moved {
            facts.complain("I2", &one.name, format!("published to {}, delivered from {}", publish.topic, one.topic));
        }
        let begin = facts.publishes[one.name.as_str()].iter().map(|publish| publish.begin).min();
        if begin.is_none_or(|begin| one.end < begin) {
            facts.complain("I2", &one.name, "it was delivered before it was published");
        }
    }
}

/// I11: a message delayed at publish is never early.
fn check_delays(facts: &mut Facts<'_>) {
    let mut early = Vec::new();
    for ((_, _, name), deliveries) in &facts.deliveries {
        let Some(publishes) = facts.publishes.get(name) else { continue };
        let due = publishes.iter().map(|one| one.begin + one.delay).min().unwrap_or_default();
        let first = deliveries.iter().map(|one| one.end).min().unwrap_or_default();
        if first + ROUNDING < due {
            early.push(((*name).to_owned(), format!("due at {due}, delivered by {first}")));
        }
    }
    early.into_iter().for_each(|(name, what)| facts.complain("I11", &name, what));
}

/// What concerns one message with one group: I3, I4, I5, I9, I11.
fn check_seats(facts: &mut Facts<'_>) {
    let mut found = Vec::new();
    for (seat, deliveries) in &facts.deliveries {
        let mut complain = |rule, what: String| found.push((rule, seat.2, what));
        let settles = facts.settles_of(*seat);
        for settle in settles {
            check_settle(settle, settles, deliveries, &mut complain);
        }
        for pair in deliveries.windows(2) {
            if pair[0].attempt == pair[1].attempt {
                complain("I5", format!("attempt {} was delivered twice", pair[0].attempt));
            } else if pair[1].end < pair[0].begin {
                complain("I5", format!("attempt {} came before attempt {}", pair[1].attempt, pair[0].attempt));
            }
        }
        for (place, one) in deliveries.iter().enumerate() {
            let deadline = deadline_of(one, settles);
            for later in &deliveries[place + 1..] {
                let given_back = settles.iter().any(|settle| {
                    settle.token == one.token && matches!(settle.word, Word::Nack { .. }) && settle.begin <= later.end
                });
                if later.end + ROUNDING < deadline && !given_back {
                    let (first, second) = (one.attempt, later.attempt);
                    complain(
                        "I4",
                        format!("attempt {second} came by {}, attempt {first} held it until {deadline}", later.end),
                    );
                }
            }
        }
    }
    found.into_iter().for_each(|(rule, name, what)| facts.complain(rule, name, what));
}

/// The earliest moment at which the lease may have ended by itself.
fn deadline_of(one: &Delivery, settles: &[&Settle]) -> u64 {
    let mut extends: Vec<&&Settle> = settles.iter().filter(|settle| settle.token == one.token).collect();
    extends.sort_by_key(|settle| settle.begin);
    extends.into_iter().fold(one.begin + one.lease, |deadline, settle| match (settle.word, settle.end) {
        (Word::Extend { lease }, Some((_, Outcome::Done))) => settle.begin + lease,
        (Word::Extend { lease }, None) => deadline.min(settle.begin + lease),
        _ => deadline,
    })
}

fn check_settle(
    settle: &Settle,
    settles: &[&Settle],
    deliveries: &[&Delivery],
    complain: &mut impl FnMut(&'static str, String),
) {
    let Some((end, outcome)) = settle.end else { return };
    let own = deliveries.iter().find(|one| one.token == settle.token).map_or(0, |one| one.attempt);
    match (settle.word, outcome) {
        (_, Outcome::Unknown) => complain("I9", format!("the token of attempt {own} was called unknown")),
        (Word::Ack, Outcome::Done | Outcome::Gone) => {
            for after in deliveries.iter().filter(|one| one.begin > end) {
                complain("I3", format!("acked by {end}, delivered again at {}", after.begin));
            }
        }
        (Word::Nack { delay }, Outcome::Done) => {
            let due = settle.begin + delay;
            // Given back again meanwhile, with another token, means another delay.
            let again = |until| {
                settles
                    .iter()
                    .any(|one| one.token != settle.token && matches!(one.word, Word::Nack { .. }) && one.begin <= until)
            };
            let after = deliveries.iter().filter(|one| one.begin > end && one.end + ROUNDING < due);
            for early in after.filter(|one| !again(one.end)) {
                complain("I11", format!("given back until {due}, delivered by {}", early.end));
            }
        }
        (Word::Nack { .. } | Word::Extend { .. }, Outcome::Done | Outcome::Gone | Outcome::Lapsed)
        | (Word::Ack, Outcome::Lapsed) => {}
    }
}

/// I6: the first deliveries of a key come in the order of their offsets.
fn check_order(facts: &mut Facts<'_>, history: &History) {
    let mut keys: BTreeMap<(&str, &str, &str), BTreeMap<u64, Vec<&Delivery>>> = BTreeMap::new();
    for one in &history.deliveries {
        let per_key = facts.topics.iter().any(|topic| topic.name == one.topic && topic.per_key);
        if let (true, Some(key), Some(offset)) = (per_key, &one.key, one.offset) {
            keys.entry((one.topic, one.group, key)).or_default().entry(offset).or_default().push(one);
        }
    }
    for offsets in keys.into_values() {
        // The earliest moment by which a message behind was out for certain.
        let mut behind: Option<&Delivery> = None;
        for deliveries in offsets.into_values().rev() {
            for one in &deliveries {
                // A key in flight, or waiting for its next attempt, withholds all behind it: not only the
                // first delivery, every one comes before the first one of the next.
                if let Some(next) = behind.filter(|next| next.end < one.begin) {
                    let what = format!("{} of the same key and behind it was out by {}", next.name, next.end);
                    facts.complain("I6", &one.name, what);
                }
            }
            let first = deliveries.into_iter().min_by_key(|one| one.end);
            behind = behind.into_iter().chain(first).min_by_key(|one| one.end);
        }
    }
}

/// I8: a dead letter is in one place, once, and nowhere before its last attempt.
fn check_dead_letters(facts: &mut Facts<'_>) {
    let mut found = Vec::new();
    for topic in facts.topics {
        let (Some(dead), Some(max)) = (topic.dead, topic.attempts_max) else { continue };
        let dead_group = facts.group_of(dead);
        for ((from, group, name), deliveries) in &facts.deliveries {
            if *from != topic.name {
                continue;
            }
            let most = deliveries.iter().map(|one| one.attempt).max().unwrap_or_default();
            if most > max {
                found.push((*name, format!("attempt {most} of at most {max}")));
            }
            let Some(buried) = facts.deliveries_of((dead, dead_group, name)).iter().map(|one| one.end).min() else {
                continue;
            };
            if let Some(after) = deliveries.iter().find(|one| one.begin > buried) {
                found.push((*name, format!("a dead letter by {buried}, delivered from its source at {}", after.begin)));
            }
            let acked = |one: &&Settle| one.word == Word::Ack && matches!(one.end, Some((_, Outcome::Done)));
            if facts.settles_of((*from, *group, name)).iter().copied().any(|one| acked(&one)) {
                found.push((*name, "it was acked, and is a dead letter".to_owned()));
            }
        }
    }
    found.into_iter().for_each(|(name, what)| facts.complain("I8", name, what));
}

/// What must hold after everything was pulled and acked: each message that exists was settled in every
/// group, by an ack that was sent for it or as a dead letter (I1, I8, I12).
pub fn check_end(topics: &[Topic], history: &History) -> Vec<Violation> {
    let mut facts = Facts::new(topics, history);
    let seen: BTreeSet<&str> = history.deliveries.iter().map(|one| one.name.as_str()).collect();
    let mut found = Vec::new();
    for (name, publishes) in &facts.publishes {
        if publishes.iter().all(|one| one.end.is_none()) && !seen.contains(name) {
            continue;
        }
        let Some(topic) = topics.iter().find(|topic| topic.name == publishes[0].topic) else { continue };
        for group in topic.groups {
            let seat = (topic.name, *group, *name);
            let buried = topic.dead.map(|dead| (dead, facts.group_of(dead), *name));
            let buried = buried.filter(|seat| !facts.deliveries_of(*seat).is_empty());
            let last = buried.unwrap_or(seat);
            if facts.deliveries_of(last).is_empty() {
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
    settles
        .iter()
        .any(|one| one.word == Word::Ack && one.begin <= until && matches!(one.end, None | Some((_, Outcome::Done))))
}

/// Whether the message was told to be acked before `before`.
fn is_acked(settles: &[&Settle], before: u64) -> bool {
    settles.iter().any(|one| one.word == Word::Ack && matches!(one.end, Some((end, Outcome::Done)) if end < before))
}

/// Holds a look at a server against the history: everything answered before `before` is there, and
/// nothing whose ack was answered before then; what was asked up to `until` may have been done.
pub fn check_look(topics: &[Topic], history: &History, look: &Look, before: u64, until: u64) -> Vec<Violation> {
    let mut facts = Facts::new(topics, history);
    let mut found = Vec::new();
    let nothing = Messages::new();
    for ((topic, group), messages) in &look.groups {
        for (name, (print, state)) in messages {
            let publish = facts.publishes.get(name.as_str()).and_then(|list| list.first());
            match publish {
                Some(publish) if publish.print == *print && publish.begin <= until => {}
                Some(_) => found.push(("I2", name.clone(), format!("changed, or too early, in {topic}"))),
                None => found.push(("I2", name.clone(), format!("nobody published it, and it is in {topic}"))),
            }
            if *state == State::Open && is_acked(facts.settles_of((*topic, *group, name)), before) {
                found.push(("I3", name.clone(), format!("acked, and open again in {topic}/{group}")));
            }
        }
    }
    for (name, publishes) in &facts.publishes {
        if !publishes.iter().any(|one| one.end.is_some_and(|end| end < before)) {
            continue;
        }
        let Some(topic) = topics.iter().find(|topic| topic.name == publishes[0].topic) else { continue };
        for group in topic.groups {
            let state = |topic, group| {
                let messages = look.groups.get(&(topic, group)).unwrap_or(&nothing);
                messages.get(*name).map(|(_, state)| *state)
            };
            let open = state(topic.name, *group) == Some(State::Open);
            let acked = may_be_acked(facts.settles_of((topic.name, *group, name)), until);
            let dead = topic.dead.map(|dead| (dead, facts.group_of(dead)));
            let buried = dead.is_some_and(|(dead, group)| {
                state(dead, group) == Some(State::Open) || may_be_acked(facts.settles_of((dead, group, name)), until)
            });
            if !open && !acked && !buried {
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
