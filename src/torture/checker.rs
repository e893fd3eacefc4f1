//! Holds a history against the promises. Every rule complains only of what cannot have been otherwise:
//! of the moments at which a request may have been carried out, it assumes those best for the server.

use std::collections::{BTreeMap, HashMap};

use crate::torture::history::{Death, Delivery, History, Outcome, Publish, Settle, Spot, Topic, Word};

/// Clocks in whole milliseconds round each end of a span.
pub const ROUNDING: u64 = 2_000;
/// A sync that takes a lease with it begins at the latest so long after the lease was given. A power cut before that
/// sync is over may take the lease, and nothing else.
pub const FORGOTTEN_LEASE: u64 = 5_000;
/// Requests answered so long before a power cut tell how long a sync takes at that moment.
const OF_THEN: u64 = 100_000;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub rule: &'static str,
    /// The message it is about; empty if it is about none.
    pub name: String,
    /// What is wrong.
    pub what: String,
}

/// A message with a group.
pub type Seat<'a> = (&'static str, &'static str, &'a str);

/// The power went.
struct Cut {
    /// The end of the life before.
    after: u64,
    at: u64,
    /// How long a request that takes a sync took at most by then: so long may the sync take that takes a lease.
    sync: u64,
}

/// The power cuts of a history, and how slow the disk was at each.
fn cuts(history: &History) -> Vec<Cut> {
    let publishes = history.publishes.iter().map(|one| (one.begin, one.end));
    let settles = history.settles.iter().map(|one| (one.begin, one.end.map(|(end, _)| end)));
    let requests: Vec<(u64, Option<u64>)> = publishes.chain(settles).collect();
    let mut after = 0;
    let mut cuts = Vec::new();
    for ending in &history.endings {
        if ending.death == Death::PowerCut {
            let of_then = requests.iter().filter(|(begin, end)| {
                *begin > after && *begin <= ending.at && end.is_none_or(|end| end + OF_THEN >= ending.at)
            });
            let took = of_then.map(|(begin, end)| end.map_or(ending.at, |end| end.min(ending.at)) - begin);
            cuts.push(Cut { after, at: ending.at, sync: took.max().unwrap_or_default() });
        }
        after = ending.at;
    }
    cuts
}

/// A history by message.
pub struct Facts<'a> {
    /// What is checked.
    pub topics: &'a [Topic],
    /// By name.
    pub publishes: HashMap<&'a str, Vec<&'a Publish>>,
    deliveries: HashMap<Seat<'a>, Vec<&'a Delivery>>,
    settles: HashMap<Seat<'a>, Vec<&'a Settle>>,
    cuts: Vec<Cut>,
    /// What was found so far.
    pub found: Vec<Violation>,
}

impl<'a> Facts<'a> {
    /// Sorts a history.
    pub fn new(topics: &'a [Topic], history: &'a History) -> Self {
        let cuts = cuts(history);
        let (publishes, deliveries, settles) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut facts = Self { topics, publishes, deliveries, settles, cuts, found: Vec::new() };
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

    /// Notes a broken promise.
    pub fn complain(&mut self, rule: &'static str, name: &str, what: impl Into<String>) {
        self.found.push(Violation { rule, name: name.to_owned(), what: what.into() });
    }

    /// Of a message with a group.
    pub fn settles_of(&self, seat: Seat<'a>) -> &[&'a Settle] {
        self.settles.get(&seat).map_or(&[], Vec::as_slice)
    }

    /// Of a message with a group, by attempt.
    pub fn deliveries_of(&self, seat: Seat<'a>) -> &[&'a Delivery] {
        self.deliveries.get(&seat).map_or(&[], Vec::as_slice)
    }

    /// The group of a dead-letter topic.
    pub fn group_of(&self, topic: &str) -> &'static str {
        let topic = self.topics.iter().find(|one| one.name == topic);
        topic.and_then(|one| one.groups.first()).copied().unwrap_or_default()
    }

    /// Whether a power cut may have taken this lease: the sync that was to take it cannot have been over.
    fn may_be_forgotten(&self, one: &Delivery) -> bool {
        let begun = one.end + FORGOTTEN_LEASE + ROUNDING;
        let in_life_of = |cut: &&Cut| one.end > cut.after && one.begin <= cut.at;
        self.cuts.iter().filter(in_life_of).any(|cut| cut.at <= begun + cut.sync)
    }

    /// Whether a settle was carried out for certain. Where the answer does not tell, a lease that ran on settles
    /// its message, and nothing else needs to.
    pub fn is_done(&self, settle: &Settle) -> Option<u64> {
        let (end, outcome) = settle.end?;
        let seat = (settle.topic, settle.group, settle.name.as_str());
        match outcome {
            Outcome::Done => Some(end),
            Outcome::Untold => {
                let settles = self.settles.get(&seat).map_or(&[][..], Vec::as_slice);
                let own = self.deliveries.get(&seat)?.iter().find(|one| one.token == settle.token)?;
                let in_time = end + ROUNDING < deadline_of(own, settles, settle.begin);
                (in_time && !settled_before(settle, settles) && !self.may_be_forgotten(own)).then_some(end)
            }
            Outcome::Gone | Outcome::Lapsed | Outcome::Unknown => None,
        }
    }
}

/// Everything that must hold at any moment.
pub fn check(topics: &[Topic], history: &History) -> Vec<Violation> {
    let mut facts = Facts::new(topics, history);
    check_identity(&mut facts, history);
    check_offsets(&mut facts, history);
    check_delays(&mut facts);
    check_seats(&mut facts);
    check_order(&mut facts, history);
    check_dead_letters(&mut facts);
    facts.found
}

/// Whether two tellings of one place differ; what one of them does not tell agrees with everything.
fn differ(left: &Spot, right: &Spot) -> bool {
    let ids = left.id.is_some() && right.id.is_some() && left.id != right.id;
    ids || (left.offset.is_some() && right.offset.is_some() && left.offset != right.offset)
}

/// I2: nothing that was not published, nothing changed, no id used twice. I10: a message that was sent again with
/// its idempotency key is one message.
fn check_identity(facts: &mut Facts<'_>, history: &History) {
    let mut owners: HashMap<&str, &str> = HashMap::new();
    let mut spots: HashMap<(&str, &str), Spot> = HashMap::new();
    let mut offsets: HashMap<(&str, u64), &str> = HashMap::new();
    let answered = history.publishes.iter().map(|one| (one.topic, one.name.as_str(), &one.spot));
    let delivered = history.deliveries.iter().map(|one| (one.topic, one.name.as_str(), &one.spot));
    for (topic, name, spot) in answered.chain(delivered) {
        if let Some(id) = &spot.id {
            let owner = *owners.entry(id).or_insert(name);
            if owner != name {
                facts.complain("I2", name, format!("id {id} is also that of {owner}"));
            }
        }
        let known = spots.entry((topic, name)).or_default();
        if differ(known, spot) {
            let sent_again = facts.publishes.get(name).is_some_and(|list| list.len() > 1);
            let what = format!("in {topic} it has {known} and also {spot}");
            facts.complain(if sent_again { "I10" } else { "I2" }, name, what);
        }
        known.id = known.id.take().or_else(|| spot.id.clone());
        known.offset = known.offset.or(spot.offset);
        if let Some(offset) = spot.offset {
            let owner = *offsets.entry((topic, offset)).or_insert(name);
            if owner != name {
                facts.complain("I2", name, format!("offset {offset} of {topic} is also that of {owner}"));
            }
        }
    }
    for one in &history.deliveries {
        check_delivered(facts, one);
    }
}

fn check_delivered(facts: &mut Facts<'_>, one: &Delivery) {
    let publishes = facts.publishes.get(one.name.as_str()).map_or(&[][..], Vec::as_slice);
    let Some(publish) = publishes.first().copied() else {
        facts.complain("I2", &one.name, "a message that nobody published was delivered");
        return;
    };
    let begin = publishes.iter().map(|publish| publish.begin).min();
    if publish.print != one.print || publish.key != one.key {
        let (sent, got) = ((publish.print, &publish.key), (one.print, &one.key));
        facts.complain("I2", &one.name, format!("body or key changed: {sent:?} became {got:?}"));
    }
    let moved = facts.topics.iter().any(|topic| topic.name == publish.topic && topic.dead == Some(one.topic));
    if publish.topic != one.topic && !moved {
        facts.complain("I2", &one.name, format!("published to {}, delivered from {}", publish.topic, one.topic));
    }
    if begin.is_none_or(|begin| one.end < begin) {
        facts.complain("I2", &one.name, "it was delivered before it was published");
    }
}

/// I7: what is published after an answer lies behind what was answered.
fn check_offsets(facts: &mut Facts<'_>, history: &History) {
    let mut topics: BTreeMap<&str, Vec<(u64, u64, u64, &str)>> = BTreeMap::new();
    for one in &history.publishes {
        let once = facts.publishes.get(one.name.as_str()).is_some_and(|list| list.len() == 1);
        if let (Some(end), Some(offset), true) = (one.end, one.spot.offset, once) {
            topics.entry(one.topic).or_default().push((one.begin, end, offset, &one.name));
        }
    }
    for mut published in topics.into_values() {
        let mut by_end = published.clone();
        by_end.sort_by_key(|one| one.1);
        published.sort_by_key(|one| one.0);
        let (mut before, mut highest) = (by_end.into_iter().peekable(), None);
        for (begin, _, offset, name) in published {
            while let Some((_, _, other, earlier)) = before.next_if(|one| one.1 < begin) {
                highest = highest.max(Some((other, earlier)));
            }
            if let Some((other, earlier)) = highest.filter(|(other, _)| *other >= offset) {
                let what = format!("offset {offset}, published after {earlier} had been answered with offset {other}");
                facts.complain("I7", name, what);
            }
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
            check_settle(facts, settle, settles, deliveries, &mut complain);
        }
        for (first, second) in deliveries.iter().zip(deliveries.iter().skip(1)) {
            let (Some(left), Some(right)) = (first.attempt, second.attempt) else { continue };
            if left == right && !facts.may_be_forgotten(first) {
                complain("I5", format!("attempt {left} was delivered twice"));
            } else if second.end < first.begin && !facts.may_be_forgotten(second) {
                complain("I5", format!("attempt {right} came before attempt {left}"));
            }
        }
        check_holders(facts, deliveries, settles, &mut complain);
    }
    found.into_iter().for_each(|(rule, name, what)| facts.complain(rule, name, what));
}

/// I4: one holder until the deadline that it was told.
fn check_holders(
    facts: &Facts<'_>,
    deliveries: &[&Delivery],
    settles: &[&Settle],
    complain: &mut impl FnMut(&'static str, String),
) {
    // Whether `later` can have been given out in good order after `first`.
    let may_follow = |first: &Delivery, later: &Delivery| {
        let given_back = settles.iter().any(|settle| {
            settle.token == first.token && matches!(settle.word, Word::Nack { .. }) && settle.begin <= later.end
        });
        given_back || facts.may_be_forgotten(first) || later.end + ROUNDING >= deadline_of(first, settles, later.end)
    };
    for (place, first) in deliveries.iter().enumerate() {
        for later in deliveries.iter().skip(place + 1) {
            // Without numbers it is not known which of the two came first; and a number that was forgotten comes again.
            let unordered = (first.attempt.is_none() || facts.may_be_forgotten(later)) && may_follow(later, first);
            if !unordered && !may_follow(first, later) {
                let until = deadline_of(first, settles, later.end);
                let what = format!("given out again by {}, and {} held it until {until}", later.end, named(first));
                complain("I4", what);
            }
        }
    }
}

fn named(one: &Delivery) -> String {
    one.attempt.map_or_else(|| "another".to_owned(), |attempt| format!("attempt {attempt}"))
}

/// The earliest moment at which the lease may have ended by itself, by what was asked until some moment.
fn deadline_of(one: &Delivery, settles: &[&Settle], until: u64) -> u64 {
    let mut extends: Vec<&&Settle> =
        settles.iter().filter(|settle| settle.token == one.token && settle.begin <= until).collect();
    extends.sort_by_key(|settle| settle.begin);
    extends.into_iter().fold(one.begin + one.lease, |deadline, settle| match (settle.word, settle.end) {
        (Word::Extend { lease }, Some((_, Outcome::Done))) => settle.begin + lease,
        (Word::Extend { lease }, None | Some((_, Outcome::Untold))) => deadline.min(settle.begin + lease),
        _ => deadline,
    })
}

/// Whether something else that was asked for this lease may have ended it first.
fn settled_before(settle: &Settle, settles: &[&Settle]) -> bool {
    let end = settle.end.map_or(u64::MAX, |(end, _)| end);
    settles.iter().any(|other| {
        other.token == settle.token
            && !std::ptr::eq(*other, settle)
            && other.begin <= end
            && !matches!(other.word, Word::Extend { .. })
    })
}

fn check_settle(
    facts: &Facts<'_>,
    settle: &Settle,
    settles: &[&Settle],
    deliveries: &[&Delivery],
    complain: &mut impl FnMut(&'static str, String),
) {
    let Some((end, outcome)) = settle.end else { return };
    let own = deliveries.iter().find(|one| one.token == settle.token).filter(|own| !facts.may_be_forgotten(own));
    if let (Outcome::Unknown, Some(own)) = (outcome, own) {
        complain("I9", format!("the token of {} was called unknown", named(own)));
    }
    if let (Outcome::Lapsed, Some(own)) = (outcome, own) {
        let deadline = deadline_of(own, settles, settle.begin);
        if end + ROUNDING < deadline && !settled_before(settle, settles) {
            complain("I9", format!("the lease of {} was called lapsed by {end}, before {deadline}", named(own)));
        }
    }
    let done = facts.is_done(settle);
    match settle.word {
        Word::Ack if done.is_some() || outcome == Outcome::Gone => {
            for after in deliveries.iter().filter(|one| one.begin > end) {
                complain("I3", format!("acked by {end}, delivered again at {}", after.begin));
            }
        }
        Word::Nack { delay } if done.is_some() => {
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
        Word::Ack | Word::Nack { .. } | Word::Extend { .. } => {}
    }
}

/// I6: the first deliveries of a key come in the order of their offsets.
fn check_order(facts: &mut Facts<'_>, history: &History) {
    let mut keys: BTreeMap<(&str, &str, &str), BTreeMap<u64, Vec<&Delivery>>> = BTreeMap::new();
    for one in &history.deliveries {
        let per_key = facts.topics.iter().any(|topic| topic.name == one.topic && topic.per_key);
        if let (true, Some(key), Some(offset)) = (per_key, &one.key, one.spot.offset) {
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
            let most = deliveries.iter().filter_map(|one| one.attempt).max().unwrap_or_default();
            if most > max {
                found.push((*name, format!("attempt {most} of at most {max}")));
            }
            let Some(buried) = facts.deliveries_of((dead, dead_group, name)).iter().map(|one| one.end).min() else {
                continue;
            };
            if let Some(after) = deliveries.iter().find(|one| one.begin > buried) {
                found.push((*name, format!("a dead letter by {buried}, delivered from its source at {}", after.begin)));
            }
            let acked = |one: &&Settle| one.word == Word::Ack && facts.is_done(one).is_some();
            if facts.settles_of((*from, *group, name)).iter().copied().any(|one| acked(&one)) {
                found.push((*name, "it was acked, and is a dead letter".to_owned()));
            }
        }
    }
    found.into_iter().for_each(|(name, what)| facts.complain("I8", name, what));
}
