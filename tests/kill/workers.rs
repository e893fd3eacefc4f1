//! Producers and consumers that live through many lives of a server and write down what they saw.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::history::{Delivery, History, Outcome, Print, Publish, Settle, Word};
use crate::process::client::{Answer, Client, NoAnswer};

/// Messages out and not settled above which producers wait: keeps a look at the server short.
const OPEN_MAX: i64 = 400;
/// A worker that has nothing to do looks again after this long.
const REST: Duration = Duration::from_millis(2);
pub const NATIVE: &str = "/api/windlass/v1/topics";

/// Random numbers from a seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}

/// What all workers of a life share.
#[derive(Debug)]
pub struct Stage {
    pub started: Instant,
    /// The server is being killed, or all is over: a broken connection is no surprise any more.
    pub ending: AtomicBool,
    /// Only settle; nothing is held back.
    pub draining: AtomicBool,
    /// Deliveries owed, roughly.
    pub open: AtomicI64,
}

impl Stage {
    pub fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).expect("a test ends some day")
    }

    /// Stops the worker at a connection that broke because the server was killed, and the test at any other.
    fn broken(&self, _: NoAnswer) {
        assert!(self.ending.load(Ordering::SeqCst), "the connection broke and nobody had killed the server");
    }
}

/// A producer or a consumer.
pub trait Worker: Send {
    /// One thing to do; `None` when the connection broke.
    fn turn(&mut self, client: &mut Client, stage: &Stage, history: &mut History) -> Option<()>;
}

/// Works until the server is gone.
pub fn work(worker: &mut dyn Worker, mut client: Client, stage: &Stage) -> History {
    let mut history = History::default();
    while !stage.ending.load(Ordering::SeqCst) {
        if worker.turn(&mut client, stage, &mut history).is_none() {
            stage.broken(NoAnswer);
            break;
        }
    }
    history
}

/// How a producer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Native,
    Cloudflare,
}

/// A publish that is not answered yet and may be sent again: it has an idempotency key.
type Unsure = (Vec<Publish>, String, Vec<u8>);

/// Publishes one message after the other.
pub struct Producer {
    pub number: usize,
    pub dialect: Dialect,
    pub topic: &'static str,
    /// Path of the queue, for Cloudflare.
    pub queue: String,
    /// Deliveries that one message makes.
    pub groups: i64,
    pub dice: Dice,
    pub count: u64,
    pub unsure: Option<Unsure>,
}

impl Worker for Producer {
    fn turn(&mut self, client: &mut Client, stage: &Stage, history: &mut History) -> Option<()> {
        if let Some((messages, path, body)) = self.unsure.take() {
            return self.send(client, stage, history, messages, path, body, Again::Yes);
        }
        if stage.draining.load(Ordering::SeqCst) || stage.open.load(Ordering::SeqCst) > OPEN_MAX {
            std::thread::sleep(REST);
            return Some(());
        }
        let count = if self.dice.percent(70) { 1 } else { 2 + self.dice.below(6) };
        let drafts: Vec<Draft> = (0..count).map(|_| self.draft()).collect();
        let (path, body) = match self.dialect {
            Dialect::Native => (
                format!("{NATIVE}/{}/messages/batch", self.topic),
                json!({"messages":
                drafts.iter().map(Draft::native).collect::<Vec<_>>()}),
            ),
            Dialect::Cloudflare if count == 1 => (format!("{}/messages", self.queue), drafts[0].cloudflare()),
            Dialect::Cloudflare => (
                format!("{}/messages/batch", self.queue),
                json!({"messages":
                drafts.iter().map(Draft::cloudflare).collect::<Vec<_>>()}),
            ),
        };
        // A message may be sent twice only where its key lets the server know it again.
        let again = if drafts.iter().all(|draft| draft.idempotent) { Again::Yes } else { Again::No };
        let messages = drafts.into_iter().map(|draft| draft.publish).collect();
        self.send(client, stage, history, messages, path, body.to_string().into_bytes(), again)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    Yes,
    No,
}

/// A message to be.
struct Draft {
    publish: Publish,
    body: String,
    as_json: bool,
    idempotent: bool,
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
}

impl Producer {
    fn draft(&mut self) -> Draft {
        self.count += 1;
        let name = format!("p{}-{}", self.number, self.count);
        let size = if self.dice.percent(5) { self.dice.below(20_000) } else { self.dice.below(300) };
        let body = format!("{name}|{}", "x".repeat(usize::try_from(size).expect("it is small")));
        let as_json = self.dice.percent(50);
        let native = self.dialect == Dialect::Native;
        let print =
            if !native && as_json { Print::of(format!("\"{body}\"").as_bytes()) } else { Print::of(body.as_bytes()) };
        let keyed = native && self.dice.percent(70);
        let key = keyed.then(|| format!("k{}-{}", self.number, self.dice.below(4)));
        let delay = match self.dialect {
            Dialect::Native if !keyed && self.dice.percent(40) => self.dice.below(500) * 1_000,
            Dialect::Cloudflare if self.dice.percent(10) => 1_000_000,
            Dialect::Native | Dialect::Cloudflare => 0,
        };
        let publish = Publish { topic: self.topic, name, print, key, delay, begin: 0, end: None, place: None };
        Draft { publish, body, as_json, idempotent: native && self.dice.percent(60) }
    }

    #[allow(clippy::too_many_arguments, reason = "a request and where to write it down")]
    fn send(
        &mut self,
        client: &mut Client,
        stage: &Stage,
        history: &mut History,
        mut messages: Vec<Publish>,
        path: String,
        body: Vec<u8>,
        again: Again,
    ) -> Option<()> {
        let begin = stage.now();
        let answer = client.ask("POST", &path, "content-type: application/json\r\n", &body);
        messages.iter_mut().for_each(|message| message.begin = begin);
        let Ok(answer) = answer else {
            history.publishes.extend(messages.iter().cloned());
            self.unsure = (again == Again::Yes).then_some((messages, path, body));
            return None;
        };
        let end = stage.now();
        assert!(matches!(answer.status, 200 | 201), "a publish was answered {}: {}", answer.status, answer.text());
        let places = answer.json();
        for (place, message) in messages.iter_mut().enumerate() {
            message.end = Some(end);
            if self.dialect == Dialect::Native {
                let place = &places["messages"][place];
                message.place = Some((plain_id(&place["id"]), place["offset"].as_u64().expect("an offset")));
            }
        }
        let count = i64::try_from(messages.len()).expect("a batch is small");
        stage.open.fetch_add(count * self.groups, Ordering::SeqCst);
        history.publishes.extend(messages);
        Some(())
    }
}

/// An id in the one spelling that both dialects can be brought to.
fn plain_id(id: &Value) -> String {
    id.as_str().expect("an id").replace('-', "")
}

/// The name of a message: the start of its body.
pub fn name_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.trim_start_matches('"').split('|').next().unwrap_or_default().to_owned()
}

/// Pulls, and settles some at once, some later, some never.
pub struct Consumer {
    pub dialect: Dialect,
    pub topic: &'static str,
    pub group: &'static str,
    /// Path of the queue, for Cloudflare.
    pub queue: String,
    pub dice: Dice,
    /// Leases kept for later: some lapse first, some outlive the server.
    pub held: Vec<Settle>,
}

impl Worker for Consumer {
    fn turn(&mut self, client: &mut Client, stage: &Stage, history: &mut History) -> Option<()> {
        let draining = stage.draining.load(Ordering::SeqCst);
        let mut plan = Vec::new();
        for delivery in self.pull(client, stage, history)? {
            let one = |word| Settle {
                topic: delivery.topic,
                group: delivery.group,
                name: delivery.name.clone(),
                token: delivery.token.clone(),
                word,
                begin: 0,
                end: None,
            };
            let native = self.dialect == Dialect::Native;
            match self.dice.below(100) {
                _ if draining => plan.push(one(Word::Ack)),
                0..70 => plan.push(one(Word::Ack)),
                70..82 => plan.push(one(Word::Nack { delay: self.delay() })),
                82..86 if native => {
                    plan.push(one(Word::Extend { lease: (50 + self.dice.below(400)) * 1_000 }));
                    self.held.push(one(Word::Ack));
                }
                82..92 => self.held.push(one(Word::Ack)),
                // Left to lapse.
                _ => {}
            }
        }
        if draining || (!self.held.is_empty() && self.dice.percent(15)) {
            plan.append(&mut self.held);
        }
        self.settle(client, stage, history, plan)
    }
}

impl Consumer {
    fn delay(&mut self) -> u64 {
        match self.dialect {
            Dialect::Native => self.dice.below(300) * 1_000,
            Dialect::Cloudflare => u64::from(self.dice.percent(15)) * 1_000_000,
        }
    }

    fn pull(&mut self, client: &mut Client, stage: &Stage, history: &mut History) -> Option<Vec<Delivery>> {
        let (batch, lease) = (1 + self.dice.below(12), 150 + self.dice.below(500));
        let wait = if self.dice.percent(70) { 20 + self.dice.below(100) } else { 0 };
        let (path, body) = match self.dialect {
            Dialect::Native => {
                let path = format!("{NATIVE}/{}/groups/{}/pull", self.topic, self.group);
                (path, json!({"batch_max": batch, "lease_ms": lease, "wait_ms": wait}))
            }
            Dialect::Cloudflare => {
                let path = format!("{}/messages/pull", self.queue);
                (path, json!({"batch_size": batch, "visibility_timeout_ms": lease}))
            }
        };
        let begin = stage.now();
        let answer = client.post(&path, &body).ok()?;
        let end = stage.now();
        let answer = answer.expect(200);
        let messages = match self.dialect {
            Dialect::Native => answer["messages"].as_array(),
            Dialect::Cloudflare => answer["result"]["messages"].as_array(),
        };
        let messages = messages.expect("a list of messages");
        if messages.is_empty() {
            std::thread::sleep(REST);
        }
        let read = |message: &Value| self.read(message, lease * 1_000, begin, end);
        let deliveries: Vec<Delivery> = messages.iter().map(read).collect();
        history.deliveries.extend(deliveries.iter().cloned());
        Some(deliveries)
    }

    fn read(&self, message: &Value, lease: u64, begin: u64, end: u64) -> Delivery {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let (body, attempt, token, offset, lease) = match self.dialect {
            Dialect::Native => {
                let body = STANDARD.decode(text(&message["body_base64"])).expect("base64");
                // The shorter of what was asked for and what was told.
                let told = message["lease_ms"].as_u64().expect("a lease") * 1_000;
                (body, &message["attempt"], &message["token"], message["offset"].as_u64(), lease.min(told))
            }
            Dialect::Cloudflare => {
                let body = text(&message["body"]);
                let body = match message["metadata"]["CF-Content-Type"].as_str() {
                    Some("text") => body.into_bytes(),
                    _ => STANDARD.decode(body).expect("base64"),
                };
                (body, &message["attempts"], &message["lease_id"], None, lease)
            }
        };
        Delivery {
            topic: self.topic,
            group: self.group,
            name: name_of(&body),
            print: Print::of(&body),
            key: message["key"].as_str().map(str::to_owned),
            id: plain_id(&message["id"]),
            offset,
            attempt: u32::try_from(attempt.as_u64().expect("an attempt")).expect("a small number"),
            lease,
            token: text(token),
            begin,
            end,
        }
    }

    fn settle(&mut self, client: &mut Client, stage: &Stage, history: &mut History, plan: Vec<Settle>) -> Option<()> {
        let requests = match self.dialect {
            Dialect::Native => by_word(plan),
            Dialect::Cloudflare if plan.is_empty() => Vec::new(),
            Dialect::Cloudflare => vec![plan],
        };
        for (place, mut request) in requests.iter().cloned().enumerate() {
            let (path, body) = match self.dialect {
                Dialect::Native => self.native_request(&request),
                Dialect::Cloudflare => (format!("{}/messages/ack", self.queue), cloudflare_request(&request)),
            };
            let begin = stage.now();
            let answer = client.post(&path, &body);
            let end = stage.now();
            request.iter_mut().for_each(|one| one.begin = begin);
            let Ok(answer) = answer else {
                history.settles.extend(request);
                // What was not even sent can wait for the next life.
                self.held.extend(requests.into_iter().skip(place + 1).flatten().filter(|one| one.word == Word::Ack));
                return None;
            };
            let outcomes = self.outcomes(&request, &answer);
            for (one, outcome) in request.iter_mut().zip(outcomes) {
                one.end = Some((end, outcome));
                if one.word == Word::Ack && outcome == Outcome::Done {
                    stage.open.fetch_sub(1, Ordering::SeqCst);
                }
            }
            history.settles.extend(request);
        }
        Some(())
    }

    fn native_request(&self, request: &[Settle]) -> (String, Value) {
        let tokens: Vec<&str> = request.iter().map(|one| one.token.as_str()).collect();
        let (verb, body) = match request[0].word {
            Word::Ack => ("ack", json!({"tokens": tokens})),
            Word::Nack { delay } => ("nack", json!({"tokens": tokens, "delay_ms": delay / 1_000})),
            Word::Extend { lease } => ("extend", json!({"tokens": tokens, "lease_ms": lease / 1_000})),
        };
        (format!("{NATIVE}/{}/groups/{}/{verb}", self.topic, self.group), body)
    }

    fn outcomes(&self, request: &[Settle], answer: &Answer) -> Vec<Outcome> {
        let told = answer.expect(200);
        match self.dialect {
            Dialect::Native => {
                let list = told["outcomes"].as_array().expect("a list of outcomes").iter();
                list.map(|one| native_outcome(one["outcome"].as_str().expect("an outcome"))).collect()
            }
            Dialect::Cloudflare => {
                let warnings = &told["result"]["warnings"];
                let outcomes: Vec<_> = request.iter().map(|one| cloudflare_outcome(&warnings[&one.token])).collect();
                let done = outcomes.iter().filter(|outcome| **outcome == Outcome::Done).count() as u64;
                let counted = |name: &str| told["result"][name].as_u64().expect("a count");
                assert_eq!(counted("ackCount") + counted("retryCount"), done, "counts and warnings agree: {told}");
                outcomes
            }
        }
    }
}

/// One request per verb and delay.
fn by_word(plan: Vec<Settle>) -> Vec<Vec<Settle>> {
    let mut requests: Vec<Vec<Settle>> = Vec::new();
    for one in plan {
        match requests.iter_mut().find(|request| request[0].word == one.word) {
            Some(request) => request.push(one),
            None => requests.push(vec![one]),
        }
    }
    requests
}

fn cloudflare_request(request: &[Settle]) -> Value {
    let (mut acks, mut retries) = (Vec::new(), Vec::new());
    for one in request {
        match one.word {
            Word::Nack { delay } => retries.push(json!({"lease_id": one.token, "delay_seconds": delay / 1_000_000})),
            Word::Ack | Word::Extend { .. } => acks.push(json!({"lease_id": one.token})),
        }
    }
    json!({"acks": acks, "retries": retries})
}

fn native_outcome(word: &str) -> Outcome {
    match word {
        "settled" | "settled_late" => Outcome::Done,
        "already_settled" => Outcome::Gone,
        "lapsed" | "taken_over" => Outcome::Lapsed,
        "unknown" => Outcome::Unknown,
        other => panic!("an outcome that nobody knows: {other}"),
    }
}

fn cloudflare_outcome(warning: &Value) -> Outcome {
    match warning.as_str() {
        None => Outcome::Done,
        Some(text) if text.contains("already acknowledged") => Outcome::Gone,
        Some(text) if text.contains("expired") => Outcome::Lapsed,
        Some(text) if text.contains("unknown") => Outcome::Unknown,
        Some(other) => panic!("a warning that nobody knows: {other}"),
    }
}
