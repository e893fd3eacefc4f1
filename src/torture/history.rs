//! What clients did and were told, message by message. Times are microseconds of the clients' own
//! monotonic clock. A request without an answer has no end: it may have been carried out or not.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

/// Length and checksum of a body: enough to see that it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Print(pub usize, pub u32);

impl Print {
    /// Of a body.
    pub fn of(body: &[u8]) -> Self {
        Self(body.len(), crc32fast::hash(body))
    }
}

/// Id and offset, as far as a dialect tells them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Spot {
    /// In the one spelling that all dialects can be brought to.
    pub id: Option<String>,
    /// Place in the topic.
    pub offset: Option<u64>,
}

/// One message of a publish request.
#[derive(Debug, Clone, Serialize)]
pub struct Publish {
    /// Where to.
    pub topic: &'static str,
    /// Unique in the whole run, and the start of the body.
    pub name: String,
    /// Of the body.
    pub print: Print,
    /// Its key.
    pub key: Option<String>,
    /// Microseconds.
    pub delay: u64,
    /// When it was sent.
    pub begin: u64,
    /// When its answer was read.
    pub end: Option<u64>,
    /// What the answer told.
    pub spot: Spot,
}

/// One message of a pull's answer.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery {
    /// Where from.
    pub topic: &'static str,
    /// To whom.
    pub group: &'static str,
    /// Of the message.
    pub name: String,
    /// Of the body.
    pub print: Print,
    /// Its key, where the dialect tells it.
    pub key: Option<String>,
    /// What the answer told.
    pub spot: Spot,
    /// Which delivery it is, where the dialect tells it.
    pub attempt: Option<u32>,
    /// Microseconds.
    pub lease: u64,
    /// Names the lease.
    pub token: String,
    /// When the pull was sent: the lease cannot have begun before.
    pub begin: u64,
    /// When its answer was read: the delivery was decided before.
    pub end: u64,
}

/// What a settle asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Never again.
    Ack,
    /// Again, after so many microseconds.
    Nack {
        /// Microseconds.
        delay: u64,
    },
    /// Not yet.
    Extend {
        /// Microseconds.
        lease: u64,
    },
}

/// What the answer said of one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Carried out.
    Done,
    /// The request went well; whether this token still counted is not told.
    Untold,
    /// The message is settled already, or gone.
    Gone,
    /// The lease had lapsed, or somebody else holds the message.
    Lapsed,
    /// No lease that the server ever gave.
    Unknown,
}

/// One token of a settle request.
#[derive(Debug, Clone, Serialize)]
pub struct Settle {
    /// Of the delivery.
    pub topic: &'static str,
    /// Of the delivery.
    pub group: &'static str,
    /// Of the message.
    pub name: String,
    /// Of the delivery.
    pub token: String,
    /// What was asked.
    pub word: Word,
    /// When it was sent.
    pub begin: u64,
    /// When its answer was read, and what it said.
    pub end: Option<(u64, Outcome)>,
}

/// How a life of the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Death {
    /// The process was killed: what it had written is there.
    Kill,
    /// Only what was synced is there for certain.
    PowerCut,
}

/// The end of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ending {
    /// No later answer counts.
    pub at: u64,
    /// How.
    pub death: Death,
}

/// Everything that happened.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// What was sent.
    pub publishes: Vec<Publish>,
    /// What was received.
    pub deliveries: Vec<Delivery>,
    /// What became of it.
    pub settles: Vec<Settle>,
    /// Received after the power had gone: it proves nothing, but its consumer may settle it in a later life.
    pub late: Vec<Delivery>,
    /// When the server ended.
    pub endings: Vec<Ending>,
}

/// One line of the history as a file.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Publish(&'a Publish),
    Delivery(&'a Delivery),
    LateDelivery(&'a Delivery),
    Settle(&'a Settle),
    Ending(&'a Ending),
}

impl Line<'_> {
    const fn at(&self) -> u64 {
        match self {
            Self::Publish(one) => one.begin,
            Self::Delivery(one) | Self::LateDelivery(one) => one.begin,
            Self::Settle(one) => one.begin,
            Self::Ending(one) => one.at,
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Publish(one) => one.to_string(),
            Self::Delivery(one) => one.to_string(),
            Self::LateDelivery(one) => format!("{one}, read after the power had gone"),
            Self::Settle(one) => one.to_string(),
            Self::Ending(one) => one.to_string(),
        }
    }
}

impl History {
    /// Takes in what another one saw.
    pub fn append(&mut self, mut other: Self) {
        self.publishes.append(&mut other.publishes);
        self.deliveries.append(&mut other.deliveries);
        self.settles.append(&mut other.settles);
        self.late.append(&mut other.late);
        self.endings.append(&mut other.endings);
    }

    /// The power went at that moment: whatever was answered later was not answered.
    pub fn forget_answers_after(&mut self, at: u64) {
        for one in self.publishes.iter_mut().filter(|one| one.end.is_some_and(|end| end > at)) {
            (one.end, one.spot) = (None, Spot::default());
        }
        self.late.extend(self.deliveries.extract_if(.., |one| one.end > at));
        for one in self.settles.iter_mut().filter(|one| one.end.is_some_and(|(end, _)| end > at)) {
            one.end = None;
        }
    }

    /// In order of time; with a name, of that message alone, and the deaths of the server in its life.
    fn lines(&self, name: Option<&str>) -> Vec<Line<'_>> {
        let of = |other: &str| name.is_none_or(|name| name == other);
        let mut lines: Vec<Line<'_>> = Vec::new();
        lines.extend(self.publishes.iter().filter(|one| of(&one.name)).map(Line::Publish));
        lines.extend(self.deliveries.iter().filter(|one| of(&one.name)).map(Line::Delivery));
        lines.extend(self.late.iter().filter(|one| of(&one.name)).map(Line::LateDelivery));
        lines.extend(self.settles.iter().filter(|one| of(&one.name)).map(Line::Settle));
        let first = lines.iter().map(Line::at).min().unwrap_or_default();
        let last = lines.iter().map(Line::at).max().unwrap_or_default();
        // The death after the last event belongs to it: that is where a message goes that is lost.
        let after = self.endings.iter().map(|one| one.at).filter(|at| *at >= last).min().unwrap_or(last);
        let within = |one: &&Ending| name.is_none() || (one.at >= first && one.at <= after);
        lines.extend(self.endings.iter().filter(within).map(Line::Ending));
        lines.sort_by_key(Line::at);
        lines
    }

    /// All that is known of one message, in order of time.
    pub fn of(&self, name: &str) -> Vec<String> {
        self.lines(Some(name)).iter().map(Line::told).collect()
    }

    /// Writes all of it as JSON lines.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        for line in self.lines(None) {
            serde_json::to_writer(&mut *out, &line)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Requests whose answer never came.
    pub fn unanswered(&self) -> usize {
        let publishes = self.publishes.iter().filter(|one| one.end.is_none()).count();
        publishes + self.settles.iter().filter(|one| one.end.is_none()).count()
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

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        write!(f, "id {} offset {offset}", self.id.as_deref().unwrap_or("-"))
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, name, key, delay, spot, .. } = self;
        let (span, key) = (span(self.begin, self.end), key.as_deref().unwrap_or("-"));
        write!(f, "{span} publish {topic} {name} key {key} delay {delay} {spot}")
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, group, name, spot, lease, .. } = self;
        let (span, token) = (span(self.begin, Some(self.end)), tail(&self.token));
        let attempt = self.attempt.map_or_else(|| "-".to_owned(), |attempt| attempt.to_string());
        write!(f, "{span} deliver {topic}/{group} {name} {spot} attempt {attempt} lease {lease} token ..{token}")
    }
}

impl fmt::Display for Settle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, group, name, word, .. } = self;
        let (span, token) = (span(self.begin, self.end.map(|end| end.0)), tail(&self.token));
        write!(f, "{span} {word:?} {topic}/{group} {name} token ..{token} -> {:?}", self.end.map(|end| end.1))
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.death {
            Death::Kill => "the server was killed",
            Death::PowerCut => "the power was cut",
        };
        write!(f, "[{:>10}] {how}", self.at)
    }
}

/// What the checker has to know of a topic.
#[derive(Debug, Clone)]
pub struct Topic {
    /// Its name.
    pub name: &'static str,
    /// Its groups.
    pub groups: &'static [&'static str],
    /// Whether it keeps the order of each key.
    pub per_key: bool,
    /// Deliveries a message gets before it moves to `dead`.
    pub attempts_max: Option<u32>,
    /// Where its dead letters go; that topic has one group.
    pub dead: Option<&'static str>,
}

/// How a look from outside found a message with one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not settled.
    Open,
    /// Settled.
    Settled,
}

/// Messages of a topic by name, as they stand with one group.
pub type Messages = BTreeMap<String, (Print, State)>;

/// A look at a server that nobody else uses: per topic and group, its messages.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Every message, by topic and group.
    pub groups: BTreeMap<(&'static str, &'static str), Messages>,
    /// What the server counts as open there; absent where it changed while it was looked at.
    pub counts: BTreeMap<(&'static str, &'static str), u64>,
    /// Names in each dead-letter topic, looked at before its source.
    pub dead_before: BTreeMap<&'static str, Vec<String>>,
}
