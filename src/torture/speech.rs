//! What clients say in each dialect, and what they read from the answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::torture::client::Client;
use crate::torture::history::{Delivery, Outcome, Print, Publish, Settle, Spot, Topic, Word};
use crate::torture::stage::{Halt, Stage, list, number, text};

/// Topics of the native dialect.
pub const NATIVE: &str = "/api/windlass/v1/topics";
const ACCOUNT: &str = "023e105f4ecef8ad9ca31a8372d0c353";
/// The lease of groups whose dialect names none at a pull, in milliseconds.
const GROUP_LEASE_MS: u64 = 500;

/// How a worker speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// windlass's own.
    Native,
    /// Cloudflare Queues.
    Cloudflare,
    /// Sequin.
    Sequin,
    /// JD Cloud's JCQ.
    Jcq,
}

impl Dialect {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Native, Self::Cloudflare, Self::Sequin, Self::Jcq];
}

/// What is there: in each dialect its own, and dead letters.
pub fn topics() -> Vec<Topic> {
    let plain = |name, groups| Topic { name, groups, per_key: false, attempts_max: None, dead: None };
    vec![
        Topic { per_key: true, ..plain("orders", &["left", "right"]) },
        Topic { attempts_max: Some(3), dead: Some("mail-dead"), ..plain("mail", &["http-pull"]) },
        plain("mail-dead", &["undertaker"]),
        Topic { per_key: true, ..plain("feed", &["feeder", "auditor"]) },
        plain("jobs", &["job-workers"]),
    ]
}

/// Producers: what they speak, and where they publish to.
pub const PRODUCERS: [(Dialect, &str); 5] = [
    (Dialect::Native, "orders"),
    (Dialect::Native, "orders"),
    (Dialect::Cloudflare, "mail"),
    (Dialect::Sequin, "feed"),
    (Dialect::Jcq, "jobs"),
];

/// Consumers: what they speak, and what they read. A topic goes with the dialect of its producer.
pub const CONSUMERS: [(Dialect, &str, &str); 10] = [
    (Dialect::Native, "orders", "left"),
    (Dialect::Native, "orders", "left"),
    (Dialect::Native, "orders", "right"),
    (Dialect::Cloudflare, "mail", "http-pull"),
    (Dialect::Cloudflare, "mail", "http-pull"),
    (Dialect::Native, "mail-dead", "undertaker"),
    (Dialect::Sequin, "feed", "feeder"),
    (Dialect::Native, "feed", "auditor"),
    (Dialect::Jcq, "jobs", "job-workers"),
    (Dialect::Jcq, "jobs", "job-workers"),
];

/// Makes topics, groups and the queue; gives the path of the queue.
pub fn set_up(client: &mut Client, stage: &Stage) -> Result<String, Halt> {
    let mut post = |path: &str, body: Value| stage.post(client, path, &body);
    for (topic, ordering) in [("orders", "per_key"), ("feed", "per_key"), ("jobs", "none")] {
        post(NATIVE, json!({"name": topic, "settings": {"ordering": ordering}}))?;
    }
    let settings = json!({"lease_ms": GROUP_LEASE_MS});
    for (topic, group) in [("orders", "left"), ("orders", "right"), ("feed", "auditor"), ("jobs", "job-workers")] {
        post(&format!("{NATIVE}/{topic}/groups"), json!({"name": group, "settings": settings}))?;
    }
    let feeder = json!({"stream_id": "feed", "name": "feeder", "ack_wait_ms": GROUP_LEASE_MS});
    post("/v1/http-consumers", feeder)?;
    let queues = format!("/client/v4/accounts/{ACCOUNT}/queues");
    let made = post(&queues, json!({"queue_name": "mail"}))?;
    let queue = format!("{queues}/{}", text(&made, "/result/queue_id")?);
    let settings = json!({"max_retries": 2, "visibility_timeout_ms": GROUP_LEASE_MS});
    let consumer = json!({"type": "http_pull", "dead_letter_queue": "mail-dead", "settings": settings});
    post(&format!("{queue}/consumers"), consumer)?;
    post(&format!("{NATIVE}/mail-dead/groups"), json!({"name": "undertaker"}))?;
    Ok(queue)
}

/// A message to be.
pub struct Draft {
    /// As it goes into the history.
    pub publish: Publish,
    /// Its body as text.
    pub body: String,
    /// Sent as JSON, where the dialect tells a difference.
    pub as_json: bool,
    /// Sent with its name as its idempotency key.
    pub idempotent: bool,
}

impl Draft {
    fn native(&self) -> Value {
        let mut message = json!({"body": self.body, "delay_ms": self.publish.delay / 1_000});
        if let Some(key) = &self.publish.key {
            message["key"] = json!(key);
        }
        if self.idempotent {
            message["idempotency_key"] = json!(self.publish.name);
        }
        message
    }

    fn cloudflare(&self) -> Value {
        let kind = if self.as_json { "json" } else { "text" };
        json!({"body": self.body, "content_type": kind, "delay_seconds": self.publish.delay / 1_000_000})
    }

    fn sequin(&self) -> Value {
        json!({"key": self.publish.key, "data": self.body})
    }

    fn jcq(&self) -> Value {
        json!({"body": self.body, "delaySeconds": self.publish.delay / 1_000_000})
    }
}

/// Path and body of a publish. `queue` is the path of Cloudflare's queue.
pub fn publish_request(dialect: Dialect, topic: &str, queue: &str, drafts: &[Draft]) -> (String, Value) {
    let all = |view: fn(&Draft) -> Value| drafts.iter().map(view).collect::<Vec<_>>();
    match (dialect, drafts) {
        (Dialect::Native, _) => (format!("{NATIVE}/{topic}/messages/batch"), json!({"messages": all(Draft::native)})),
        (Dialect::Cloudflare, [draft]) => (format!("{queue}/messages"), draft.cloudflare()),
        (Dialect::Cloudflare, _) => (format!("{queue}/messages/batch"), json!({"messages": all(Draft::cloudflare)})),
        (Dialect::Sequin, _) => (format!("/api/streams/{topic}/messages"), json!({"messages": all(Draft::sequin)})),
        (Dialect::Jcq, _) => {
            ("/v2/messages".to_owned(), json!({"topic": topic, "type": "NORMAL", "messages": all(Draft::jcq)}))
        }
    }
}

/// Where the answer to a publish says that its messages are.
pub fn published_spots(dialect: Dialect, answer: &Value, count: usize) -> Result<Vec<Spot>, Halt> {
    let spots: Vec<Spot> = match dialect {
        Dialect::Native => {
            let spot = |one: &Value| {
                let offset = Some(number(one, "/offset")?);
                Ok(Spot { id: Some(plain_id(text(one, "/id")?)), offset })
            };
            list(answer, "/messages")?.iter().map(spot).collect::<Result<_, Halt>>()?
        }
        Dialect::Jcq => {
            let spot = |one: &Value| Ok(Spot { id: Some(plain_id(text(one, "")?)), offset: None });
            list(answer, "/result/messageIds")?.iter().map(spot).collect::<Result<_, Halt>>()?
        }
        Dialect::Cloudflare | Dialect::Sequin => vec![Spot::default(); count],
    };
    if spots.len() == count { Ok(spots) } else { Err(Halt::without("all messages", answer)) }
}

/// An id in the one spelling that all dialects can be brought to.
fn plain_id(id: &str) -> String {
    id.replace('-', "")
}

/// The name of a message: the start of its body.
pub fn name_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.trim_start_matches('"').split('|').next().unwrap_or_default().to_owned()
}

/// What a pull asks for, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Take {
    /// Most messages.
    pub batch: u64,
    /// Lease, where the dialect lets a pull name one.
    pub lease_ms: u64,
    /// Longest wait, where the dialect waits.
    pub wait_ms: u64,
}

/// One reader of a topic.
#[derive(Debug, Clone)]
pub struct Reader {
    /// How it speaks.
    pub dialect: Dialect,
    /// What it reads.
    pub topic: &'static str,
    /// As whom.
    pub group: &'static str,
    /// Path of Cloudflare's queue.
    pub queue: String,
}

/// When a pull was sent and answered.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Sent.
    pub begin: u64,
    /// Answered.
    pub end: u64,
}

impl Reader {
    /// Method, path and body of a pull.
    pub fn pull_request(&self, take: Take) -> (&'static str, String, Value) {
        let Take { batch, lease_ms, wait_ms } = take;
        let Self { topic, group, queue, .. } = self;
        match self.dialect {
            Dialect::Native => (
                "POST",
                format!("{NATIVE}/{topic}/groups/{group}/pull"),
                json!({"batch_max": batch, "lease_ms": lease_ms, "wait_ms": wait_ms}),
            ),
            Dialect::Cloudflare => (
                "POST",
                format!("{queue}/messages/pull"),
                json!({"batch_size": batch, "visibility_timeout_ms": lease_ms}),
            ),
            Dialect::Sequin => {
                ("POST", format!("/v1/http-consumers/{group}/next"), json!({"batch_size": batch, "wait_for": wait_ms}))
            }
            Dialect::Jcq => {
                let path = format!("/v2/messages?topic={topic}&consumerGroupId={group}&size={batch}");
                ("GET", path, Value::Null)
            }
        }
    }

    /// The deliveries in the answer to a pull.
    pub fn deliveries(&self, answer: &Value, take: Take, asked: Asked) -> Result<Vec<Delivery>, Halt> {
        let messages = match self.dialect {
            Dialect::Native => "/messages",
            Dialect::Cloudflare => "/result/messages",
            Dialect::Sequin => "/data",
            Dialect::Jcq => "/result/messages",
        };
        let read = |message: &Value| match self.dialect {
            Dialect::Native => self.native(message, take, asked),
            Dialect::Cloudflare => self.cloudflare(message, take, asked),
            Dialect::Sequin => self.sequin(message, asked),
            Dialect::Jcq => self.jcq(message, answer, asked),
        };
        list(answer, messages)?.iter().map(read).collect()
    }

    fn delivery(&self, body: &[u8], token: &str, lease_ms: u64, asked: Asked) -> Delivery {
        Delivery {
            topic: self.topic,
            group: self.group,
            name: name_of(body),
            print: Print::of(body),
            key: None,
            spot: Spot::default(),
            attempt: None,
            lease: lease_ms * 1_000,
            token: token.to_owned(),
            begin: asked.begin,
            end: asked.end,
        }
    }

    fn native(&self, message: &Value, take: Take, asked: Asked) -> Result<Delivery, Halt> {
        let body = decoded(message, "/body_base64")?;
        // The shorter of what was asked for and what was told.
        let lease_ms = take.lease_ms.min(number(message, "/lease_ms")?);
        Ok(Delivery {
            key: message.get("key").and_then(Value::as_str).map(str::to_owned),
            spot: Spot { id: Some(plain_id(text(message, "/id")?)), offset: Some(number(message, "/offset")?) },
            attempt: Some(attempt(message, "/attempt")?),
            ..self.delivery(&body, text(message, "/token")?, lease_ms, asked)
        })
    }

    fn cloudflare(&self, message: &Value, take: Take, asked: Asked) -> Result<Delivery, Halt> {
        let body = match text(message, "/metadata/CF-Content-Type") {
            Ok("text") => text(message, "/body")?.as_bytes().to_vec(),
            _ => decoded(message, "/body")?,
        };
        Ok(Delivery {
            spot: Spot { id: Some(plain_id(text(message, "/id")?)), offset: None },
            attempt: Some(attempt(message, "/attempts")?),
            ..self.delivery(&body, text(message, "/lease_id")?, take.lease_ms, asked)
        })
    }

    fn sequin(&self, message: &Value, asked: Asked) -> Result<Delivery, Halt> {
        let body = text(message, "/record/data")?;
        Ok(Delivery {
            key: Some(text(message, "/key")?.to_owned()),
            // Its numbers begin with one.
            spot: Spot { id: None, offset: number(message, "/seq")?.checked_sub(1) },
            attempt: Some(attempt(message, "/deliver_count")?),
            ..self.delivery(body.as_bytes(), text(message, "/ack_token")?, GROUP_LEASE_MS, asked)
        })
    }

    fn jcq(&self, message: &Value, answer: &Value, asked: Asked) -> Result<Delivery, Halt> {
        let body = text(message, "/messageBody")?;
        Ok(Delivery {
            spot: Spot { id: Some(plain_id(text(message, "/messageId")?)), offset: None },
            ..self.delivery(body.as_bytes(), text(answer, "/result/ackIndex")?, GROUP_LEASE_MS, asked)
        })
    }

    /// What can go into one request goes into one.
    pub fn requests(&self, plan: Vec<Settle>) -> Vec<Vec<Settle>> {
        let mut requests: Vec<Vec<Settle>> = Vec::new();
        for one in plan {
            let goes_with = |request: &&mut Vec<Settle>| match (self.dialect, request.first()) {
                (Dialect::Cloudflare, _) => true,
                (Dialect::Jcq, Some(first)) => first.token == one.token,
                (Dialect::Native | Dialect::Sequin, Some(first)) => first.word == one.word,
                (_, None) => false,
            };
            match requests.iter_mut().find(goes_with) {
                Some(request) => request.push(one),
                None => requests.push(vec![one]),
            }
        }
        requests
    }

    /// Path and body of a settle.
    pub fn settle_request(&self, request: &[Settle]) -> (String, Value) {
        let Self { topic, group, queue, .. } = self;
        let tokens: Vec<&str> = request.iter().map(|one| one.token.as_str()).collect();
        let word = request.first().map_or(Word::Ack, |one| one.word);
        match self.dialect {
            Dialect::Native => {
                let (verb, body) = match word {
                    Word::Ack => ("ack", json!({"tokens": tokens})),
                    Word::Nack { delay } => ("nack", json!({"tokens": tokens, "delay_ms": delay / 1_000})),
                    Word::Extend { lease } => ("extend", json!({"tokens": tokens, "lease_ms": lease / 1_000})),
                };
                (format!("{NATIVE}/{topic}/groups/{group}/{verb}"), body)
            }
            Dialect::Cloudflare => (format!("{queue}/messages/ack"), cloudflare_settles(request)),
            Dialect::Sequin => {
                let (verb, body) = match word {
                    Word::Nack { delay } => ("nack", json!({"ack_tokens": tokens, "delay_ms": delay / 1_000})),
                    Word::Ack | Word::Extend { .. } => ("ack", json!({"ack_tokens": tokens})),
                };
                (format!("/v1/http-consumers/{group}/{verb}"), body)
            }
            Dialect::Jcq => {
                let action = if word == Word::Ack { "SUCCESS" } else { "RESEND" };
                let index = tokens.first();
                let named = json!({"topic": topic, "consumerGroupId": group, "ackIndex": index, "ackAction": action});
                ("/v2/ack".to_owned(), named)
            }
        }
    }

    /// What the answer to a settle says of each lease.
    pub fn outcomes(&self, request: &[Settle], status: u16, answer: &Value) -> Result<Vec<Outcome>, Halt> {
        match self.dialect {
            Dialect::Native => {
                let outcomes = list(answer, "/outcomes")?;
                outcomes.iter().map(|one| native_outcome(text(one, "/outcome")?)).collect()
            }
            Dialect::Cloudflare => cloudflare_outcomes(request, answer),
            Dialect::Sequin => Ok(vec![Outcome::Untold; request.len()]),
            Dialect::Jcq => {
                let outcome = if status == 200 { Outcome::Done } else { Outcome::Lapsed };
                Ok(vec![outcome; request.len()])
            }
        }
    }

    /// Whether this is how the dialect says that a lease is over.
    pub fn is_refusal(&self, status: u16, answer: &Value) -> bool {
        self.dialect == Dialect::Jcq && status == 400 && text(answer, "/error/status") == Ok("ACK_FAILED")
    }
}

fn decoded(message: &Value, name: &str) -> Result<Vec<u8>, Halt> {
    STANDARD.decode(text(message, name)?).map_err(|_| Halt::without("base64", message))
}

fn attempt(message: &Value, name: &str) -> Result<u32, Halt> {
    u32::try_from(number(message, name)?).map_err(|_| Halt::without("a small attempt", message))
}

fn cloudflare_settles(request: &[Settle]) -> Value {
    let (mut acks, mut retries) = (Vec::new(), Vec::new());
    for one in request {
        match one.word {
            Word::Nack { delay } => retries.push(json!({"lease_id": one.token, "delay_seconds": delay / 1_000_000})),
            Word::Ack | Word::Extend { .. } => acks.push(json!({"lease_id": one.token})),
        }
    }
    json!({"acks": acks, "retries": retries})
}

fn native_outcome(word: &str) -> Result<Outcome, Halt> {
    match word {
        "settled" | "settled_late" => Ok(Outcome::Done),
        "already_settled" => Ok(Outcome::Gone),
        "lapsed" | "taken_over" => Ok(Outcome::Lapsed),
        "unknown" => Ok(Outcome::Unknown),
        other => Err(Halt::Strange(format!("an outcome that nobody knows: {other}"))),
    }
}

fn cloudflare_outcomes(request: &[Settle], answer: &Value) -> Result<Vec<Outcome>, Halt> {
    let warnings = answer.pointer("/result/warnings").unwrap_or(&Value::Null);
    let read = |one: &Settle| match warnings.get(&one.token).and_then(Value::as_str) {
        None => Ok(Outcome::Done),
        // Late, and good all the same.
        Some(text) if text.contains("nobody else had") => Ok(Outcome::Done),
        Some(text) if text.contains("already acknowledged") => Ok(Outcome::Gone),
        Some(text) if text.contains("expired") => Ok(Outcome::Lapsed),
        Some(text) if text.contains("unknown") => Ok(Outcome::Unknown),
        Some(other) => Err(Halt::Strange(format!("a warning that nobody knows: {other}"))),
    };
    let outcomes = request.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let done = outcomes.iter().filter(|outcome| **outcome == Outcome::Done).count() as u64;
    if number(answer, "/result/ackCount")? + number(answer, "/result/retryCount")? != done {
        return Err(Halt::Strange(format!("counts and warnings do not agree: {answer}")));
    }
    Ok(outcomes)
}
