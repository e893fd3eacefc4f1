//! Producers and consumers that live through many lives of a server and write down what they saw.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use crate::torture::client::Client;
use crate::torture::dice::Dice;
use crate::torture::history::{Delivery, History, Outcome, Print, Publish, Settle, Spot, Word};
use crate::torture::speech::{Asked, Dialect, Draft, Reader, Take, publish_request, published_spots};
use crate::torture::stage::{Halt, Stage, well};

/// Messages out and not settled above which producers wait: keeps a look at the server short.
const OPEN_MAX: i64 = 400;
/// A worker that has nothing to do looks again after this long.
const REST: Duration = Duration::from_millis(2);
const JSON: &str = "content-type: application/json\r\n";

/// A producer or a consumer.
pub trait Worker: Send {
    /// One thing to do.
    fn turn(&mut self, client: &mut Client, stage: &Stage, history: &mut History) -> Result<(), Halt>;
}

/// Works until the server is gone. Gives what it saw, and what was strange, and when, if anything was.
pub fn work(worker: &mut dyn Worker, mut client: Client, stage: &Stage) -> (History, Option<(u64, String)>) {
    let mut history = History::default();
    while !stage.over.load(Ordering::SeqCst) {
        match worker.turn(&mut client, stage, &mut history) {
            Ok(()) => {}
            Err(Halt::Busy) => std::thread::sleep(REST),
            Err(Halt::Gone) => break,
            Err(Halt::Strange(what)) => return (history, Some((stage.now(), what))),
        }
    }
    (history, None)
}

/// A publish that may be sent again, because each message has an idempotency key.
#[derive(Debug, Clone)]
struct Parcel {
    messages: Vec<Publish>,
    path: String,
    body: Value,
    idempotent: bool,
}

/// Publishes one message after the other.
pub struct Producer {
    number: usize,
    dialect: Dialect,
    topic: &'static str,
    /// Path of the queue, for Cloudflare.
    queue: String,
    /// Deliveries that one message makes.
    groups: i64,
    dice: Dice,
    count: u64,
    /// Was not answered.
    unsure: Option<Parcel>,
    /// Was answered, and is sent again now and then all the same.
    answered: Option<Parcel>,
}

impl Producer {
    /// One that has not published anything yet.
    pub fn new(number: usize, reader: &Reader, groups: usize, dice: Dice) -> Self {
        Self {
            number,
            dialect: reader.dialect,
            topic: reader.topic,
            queue: reader.queue.clone(),
            groups: i64::try_from(groups).unwrap_or(1),
            dice,
            count: 0,
            unsure: None,
            answered: None,
        }
    }

    fn draft(&mut self) -> Draft {
        self.count += 1;
        let name = format!("p{}-{}", self.number, self.count);
        let size = if self.dice.percent(5) { self.dice.below(20_000) } else { self.dice.below(300) };
        let body = format!("{name}|{}", "x".repeat(usize::try_from(size).unwrap_or_default()));
        let as_json = self.dialect == Dialect::Cloudflare && self.dice.percent(50);
        let print = if as_json { Print::of(format!("\"{body}\"").as_bytes()) } else { Print::of(body.as_bytes()) };
        let keyed = match self.dialect {
            Dialect::Native => self.dice.percent(70),
            Dialect::Sequin => true,
            Dialect::Cloudflare | Dialect::Jcq => false,
        };
        let key = keyed.then(|| format!("k{}-{}", self.number, self.dice.below(4)));
        let delay = match self.dialect {
            Dialect::Native if !keyed && self.dice.percent(40) => self.dice.below(500) * 1_000,
            Dialect::Cloudflare | Dialect::Jcq if self.dice.percent(10) => 1_000_000,
            Dialect::Native | Dialect::Cloudflare | Dialect::Sequin | Dialect::Jcq => 0,
        };
        let spot = Spot::default();
        let publish = Publish { topic: self.topic, name, print, key, delay, begin: 0, end: None, spot };
        let idempotent = self.dialect == Dialect::Native && self.dice.percent(60);
        Draft { publish, body, as_json, idempotent }
    }

    fn parcel(&mut self) -> Parcel {
        let count = if self.dice.percent(70) { 1 } else { 2 + self.dice.below(6) };
        let drafts: Vec<Draft> = (0..count).map(|_| self.draft()).collect();
        let (path, body) = publish_request(self.dialect, self.topic, &self.queue, &drafts);
        // A message may be sent twice only where its key lets the server know it again.
        let idempotent = drafts.iter().all(|draft| draft.idempotent);
        Parcel { messages: drafts.into_iter().map(|draft| draft.publish).collect(), path, body, idempotent }
    }

    fn send(
        &mut self,
        client: &mut Client,
        stage: &Stage,
        history: &mut History,
        parcel: Parcel,
    ) -> Result<usize, Halt> {
        let mut messages = parcel.messages.clone();
        let begin = stage.now();
        messages.iter_mut().for_each(|message| message.begin = begin);
        let answer = client.ask("POST", &parcel.path, JSON, parcel.body.to_string().as_bytes());
        let end = stage.now();
        let answer = match stage.hear(answer) {
            Ok(answer) => answer,
            Err(halt) => {
                history.publishes.extend(messages);
                self.unsure = parcel.idempotent.then_some(parcel);
                return Err(halt);
            }
        };
        let spots = published_spots(self.dialect, &well(&parcel.path, &answer)?, messages.len())?;
        let count = messages.len();
        for (message, spot) in messages.iter_mut().zip(spots) {
            (message.end, message.spot) = (Some(end), spot);
        }
        history.publishes.extend(messages);
        if parcel.idempotent {
            self.answered = Some(parcel);
        }
        Ok(count)
    }
}

impl Worker for Producer {
    fn turn(&mut self, client: &mut Client, stage: &Stage, history: &mut History) -> Result<(), Halt> {
        let unsure = self.unsure.take();
        if unsure.is_none() && (stage.draining.load(Ordering::SeqCst) || stage.open.load(Ordering::SeqCst) > OPEN_MAX) {
            std::thread::sleep(REST);
            return Ok(());
        }
        if self.dice.percent(5)
            && unsure.is_none()
            && let Some(parcel) = self.answered.take()
        {
            // Known already: nothing new is owed for it.
            return self.send(client, stage, history, parcel).map(drop);
        }
        let parcel = unsure.unwrap_or_else(|| self.parcel());
        let count = self.send(client, stage, history, parcel)?;
        stage.open.fetch_add(i64::try_from(count).unwrap_or(1) * self.groups, Ordering::SeqCst);
        Ok(())
    }
}

/// Pulls, and settles some at once, some later, some never.
pub struct Consumer {
    reader: Reader,
    dice: Dice,
    /// Leases kept for later: some lapse first, some outlive the server.
    held: Vec<Settle>,
}

impl Worker for Consumer {
    fn turn(&mut self, client: &mut Client, stage: &Stage, history: &mut History) -> Result<(), Halt> {
        let draining = stage.draining.load(Ordering::SeqCst);
        let mut plan = Vec::new();
        let (mut last, mut choice) = (String::new(), 0);
        for delivery in self.pull(client, stage, history)? {
            // What has one token has one fate.
            if delivery.token != last {
                (last, choice) = (delivery.token.clone(), self.dice.below(100));
            }
            let one = |word| Settle {
                topic: delivery.topic,
                group: delivery.group,
                name: delivery.name.clone(),
                token: delivery.token.clone(),
                word,
                begin: 0,
                end: None,
            };
            let native = self.reader.dialect == Dialect::Native;
            match choice {
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
    /// One that holds nothing yet.
    pub const fn new(reader: Reader, dice: Dice) -> Self {
        Self { reader, dice, held: Vec::new() }
    }

    fn delay(&mut self) -> u64 {
        match self.reader.dialect {
            Dialect::Native | Dialect::Sequin => self.dice.below(300) * 1_000,
            Dialect::Cloudflare => u64::from(self.dice.percent(15)) * 1_000_000,
            Dialect::Jcq => 0,
        }
    }

    fn pull(&mut self, client: &mut Client, stage: &Stage, history: &mut History) -> Result<Vec<Delivery>, Halt> {
        let take = Take {
            batch: 1 + self.dice.below(12),
            lease_ms: 150 + self.dice.below(500),
            wait_ms: if self.dice.percent(70) { 20 + self.dice.below(100) } else { 0 },
        };
        let (method, path, body) = self.reader.pull_request(take);
        let body = if method == "GET" { Vec::new() } else { body.to_string().into_bytes() };
        let begin = stage.now();
        let answer = client.ask(method, &path, JSON, &body);
        let end = stage.now();
        let answer = well(&path, &stage.hear(answer)?)?;
        let deliveries = self.reader.deliveries(&answer, take, Asked { begin, end })?;
        if deliveries.is_empty() {
            std::thread::sleep(REST);
        }
        history.deliveries.extend(deliveries.iter().cloned());
        Ok(deliveries)
    }

    fn settle(
        &mut self,
        client: &mut Client,
        stage: &Stage,
        history: &mut History,
        plan: Vec<Settle>,
    ) -> Result<(), Halt> {
        let requests = self.reader.requests(plan);
        for (place, mut request) in requests.iter().cloned().enumerate() {
            let (path, body) = self.reader.settle_request(&request);
            let begin = stage.now();
            let answer = client.post(&path, &body);
            let end = stage.now();
            request.iter_mut().for_each(|one| one.begin = begin);
            let answer = match stage.hear(answer) {
                Ok(answer) => answer,
                Err(halt) => {
                    history.settles.extend(request);
                    // What was not even sent can wait for the next life.
                    let rest = requests.into_iter().skip(place + 1).flatten();
                    self.held.extend(rest.filter(|one| one.word == Word::Ack));
                    return Err(halt);
                }
            };
            let told = answer.json();
            if !self.reader.is_refusal(answer.status, &told) {
                well(&path, &answer)?;
            }
            let outcomes = self.reader.outcomes(&request, answer.status, &told)?;
            for (one, outcome) in request.iter_mut().zip(outcomes) {
                one.end = Some((end, outcome));
                if one.word == Word::Ack && matches!(outcome, Outcome::Done | Outcome::Untold) {
                    stage.open.fetch_sub(1, Ordering::SeqCst);
                }
            }
            history.settles.extend(request);
        }
        Ok(())
    }
}
