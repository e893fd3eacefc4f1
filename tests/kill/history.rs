//! What clients did and were told, message by message. Times are microseconds of the clients' own
//! monotonic clock. A request without an answer has no end: it may have been carried out or not.

use std::collections::BTreeMap;
use std::fmt;

/// Length and checksum of a body: enough to see that it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Print(pub usize, pub u32);

impl Print {
    pub fn of(body: &[u8]) -> Self {
        Self(body.len(), crc32fast::hash(body))
    }
}

/// One message of a publish request.
#[derive(Debug, Clone)]
pub struct Publish {
    pub topic: &'static str,
    /// Unique in the whole run, and the start of the body.
    pub name: String,
    pub print: Print,
    pub key: Option<String>,
    pub delay: u64,
    pub begin: u64,
    pub end: Option<u64>,
    /// Id and offset, where the answer told them.
    pub place: Option<(String, u64)>,
}

/// One message of a pull's answer.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub topic: &'static str,
    pub group: &'static str,
    pub name: String,
    pub print: Print,
    pub key: Option<String>,
    pub id: String,
    pub offset: Option<u64>,
    pub attempt: u32,
    pub lease: u64,
    pub token: String,
    /// When the pull was sent: the lease cannot have begun before.
    pub begin: u64,
    /// When its answer was read: the delivery was decided before.
    pub end: u64,
}

/// What a settle asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Ack,
    Nack { delay: u64 },
    Extend { lease: u64 },
}

/// What the answer said of one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Carried out.
    Done,
    /// The message is settled already, or gone.
    Gone,
    /// The lease had lapsed, or somebody else holds the message.
    Lapsed,
    /// No lease that the server ever gave.
    Unknown,
}

/// One token of a settle request.
#[derive(Debug, Clone)]
pub struct Settle {
    pub topic: &'static str,
    pub group: &'static str,
    pub name: String,
    pub token: String,
    pub word: Word,
    pub begin: u64,
    pub end: Option<(u64, Outcome)>,
}

/// Everything that happened.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub publishes: Vec<Publish>,
    pub deliveries: Vec<Delivery>,
    pub settles: Vec<Settle>,
}

impl History {
    pub fn append(&mut self, mut other: Self) {
        self.publishes.append(&mut other.publishes);
        self.deliveries.append(&mut other.deliveries);
        self.settles.append(&mut other.settles);
    }

    /// All that is known of one message, in order of time.
    pub fn of(&self, name: &str) -> String {
        let publishes = self.publishes.iter().filter(|one| one.name == name);
        let mut lines: Vec<(u64, String)> = publishes.map(|one| (one.begin, one.to_string())).collect();
        let deliveries = self.deliveries.iter().filter(|one| one.name == name);
        lines.extend(deliveries.map(|one| (one.begin, one.to_string())));
        lines.extend(self.settles.iter().filter(|one| one.name == name).map(|one| (one.begin, one.to_string())));
        lines.sort();
        lines.into_iter().map(|(_, line)| format!("    {line}\n")).collect()
    }
}

fn span(begin: u64, end: Option<u64>) -> String {
    match end {
        Some(end) => format!("[{begin:>10} .. {end:>10}]"),
        None => format!("[{begin:>10} ..  no answer]"),
    }
}

/// The end of a token tells two leases of a message apart; all of it is for the server only.
fn tail(token: &str) -> &str {
    token.get(token.len().saturating_sub(8)..).unwrap_or(token)
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, name, key, delay, place, .. } = self;
        let span = span(self.begin, self.end);
        write!(f, "{span} publish {topic} {name} key {key:?} delay {delay} at {place:?}")
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, group, name, id, offset, attempt, lease, .. } = self;
        let (span, token) = (span(self.begin, Some(self.end)), tail(&self.token));
        write!(f, "{span} deliver {topic}/{group} {name} id {id} offset {offset:?} attempt {attempt} ")?;
        write!(f, "lease {lease} token ..{token}")
    }
}

impl fmt::Display for Settle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, group, name, word, .. } = self;
        let (span, token) = (span(self.begin, self.end.map(|end| end.0)), tail(&self.token));
        write!(f, "{span} {word:?} {topic}/{group} {name} token ..{token} -> {:?}", self.end.map(|end| end.1))
    }
}

/// What the checker has to know of a topic.
#[derive(Debug, Clone)]
pub struct Topic {
    pub name: &'static str,
    pub groups: &'static [&'static str],
    pub per_key: bool,
    /// Deliveries a message gets before it moves to `dead`.
    pub attempts_max: Option<u32>,
    /// Where its dead letters go; that topic has one group.
    pub dead: Option<&'static str>,
}

/// How a look from outside found a message with one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Open,
    Settled,
}

/// Messages of a topic by name, as they stand with one group.
pub type Messages = BTreeMap<String, (Print, State)>;

/// A look at a server that nobody else uses: per topic and group, its messages.
#[derive(Debug, Clone, Default)]
pub struct Look {
    pub groups: BTreeMap<(&'static str, &'static str), Messages>,
    /// Names in each dead-letter topic, looked at before its source.
    pub dead_before: BTreeMap<&'static str, Vec<String>>,
}
