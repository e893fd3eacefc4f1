//! The scenarios: publish, take and ack, latency. One task per connection, one thread for all of them.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::bench::connection::Connection;
use crate::bench::histogram::Histogram;
use crate::bench::process::cpu_time;
use crate::bench::server::Server;
use crate::bench::speech::{Dialect, Speech, must, text};

/// What to do.
#[derive(Debug, Clone)]
pub struct Load {
    /// What.
    pub scenario: Scenario,
    /// Connections at once.
    pub connections: usize,
    /// Messages per request.
    pub batch: usize,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// How long.
    pub duration: Duration,
    /// In whose words.
    pub dialect: Dialect,
    /// Bearer token.
    pub token: Option<String>,
    /// Of so many messages that are taken, one is never acked.
    pub straggler_every: Option<u64>,
}

impl Load {
    /// One of the native dialect, on a server without tokens.
    pub const fn native(scenario: Scenario, connections: usize, batch: usize, duration: Duration) -> Self {
        let (dialect, token, straggler_every) = (Dialect::Native, None, None);
        // The size of bodies is that of the topic's speech.
        Self { scenario, connections, batch, body_bytes: 0, duration, dialect, token, straggler_every }
    }
}

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Publish as fast as answers come.
    Publish,
    /// Publish this many beforehand; take and ack them as fast as answers come, until none is left.
    PullAck {
        /// Messages published beforehand.
        backlog: u64,
    },
    /// Publish at this rate to a consumer that waits; times are from publish to receipt.
    Latency {
        /// Messages a second.
        rate: u64,
    },
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Messages done: published, acked, or received.
    pub messages: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Times of requests (publish; take and ack together) or of messages (latency).
    pub times: Histogram,
    /// Requests that were refused for now (429, 503, 507) and sent again; their times count from the first time.
    pub refused: u64,
    /// Requests that failed.
    pub errors: u64,
    /// What the first of them said.
    pub first_error: Option<String>,
    /// CPU time of this process.
    pub generator_cpu: Duration,
    /// CPU time of the server, if it is a child.
    pub server_cpu: Option<Duration>,
}

impl Report {
    /// Messages a second.
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Counts a failure.
    pub fn fail(&mut self, error: &io::Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }
}

/// Between the preparations and the measurement.
pub const SETTLE: Duration = Duration::from_secs(1);

type Shared = Rc<RefCell<Report>>;

/// Runs a load against a server.
pub fn run(server: &Server, load: &Load) -> io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, drive(server, load))
}

async fn drive(server: &Server, load: &Load) -> io::Result<Report> {
    let mut first = Connection::open(server.address).await?;
    let speech = Speech::prepare(&mut first, load.dialect, load.token.as_deref(), load.body_bytes).await?;
    if let Scenario::PullAck { backlog } = load.scenario {
        fill(&mut first, &speech, backlog, load.body_bytes).await?;
    }
    drop(first);
    // A start leaves work behind, such as files written beforehand.
    let connections = open(server.address, load.connections).await?;
    tokio::time::sleep(SETTLE).await;
    apply(server, connections, std::slice::from_ref(&speech), load).await
}

/// Connections to a server.
pub async fn open(address: SocketAddr, count: usize) -> io::Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(count);
    while connections.len() < count {
        connections.push(Connection::open(address).await?);
    }
    Ok(connections)
}

/// Applies a load to topics that are there, with what lies in them: publishes to each in turn, anything else to the
/// first. Within a `LocalSet`.
pub async fn apply(
    server: &Server,
    connections: Vec<Connection>,
    speeches: &[Speech],
    load: &Load,
) -> io::Result<Report> {
    let speech = speeches.first().ok_or_else(|| io::Error::other("a load without a topic"))?;
    let cpu = || (cpu_time(std::process::id()).unwrap_or_default(), server.process().and_then(cpu_time));
    let (report, before, begun) = (Shared::default(), cpu(), Instant::now());
    match load.scenario {
        Scenario::Publish => publish_all(connections, speeches, load, &report).await,
        Scenario::PullAck { backlog } => pull_all(connections, speech, load, backlog, &report).await,
        Scenario::Latency { rate } => latency(connections, server.address, speech, load, rate, &report).await?,
    }
    let (elapsed, after) = (begun.elapsed(), cpu());
    let mut report = report.take();
    // The end of a latency run is spent on the last messages.
    report.elapsed = if matches!(load.scenario, Scenario::Latency { .. }) { load.duration } else { elapsed };
    report.generator_cpu = after.0.saturating_sub(before.0);
    report.server_cpu = after.1.zip(before.1).map(|(after, before)| after.saturating_sub(before));
    Ok(report)
}

/// Publishes `messages`, in batches of about 256 KiB.
pub async fn fill(connection: &mut Connection, speech: &Speech, messages: u64, body_bytes: usize) -> io::Result<()> {
    let batch = ((256 << 10) / body_bytes.max(1)).clamp(2, speech.publish_batch_max()) as u64;
    let (full, rest) = (speech.publish(batch as usize), messages % batch);
    for _ in 0..messages / batch {
        must(connection, &full).await?;
    }
    if rest > 0 {
        must(connection, &speech.publish(rest as usize)).await?;
    }
    Ok(())
}

/// One task for each connection; returns when all are done.
async fn each<F: Future<Output = ()> + 'static>(connections: Vec<Connection>, task: impl Fn(Connection) -> F) {
    let tasks: Vec<_> = connections.into_iter().map(|connection| tokio::task::spawn_local(task(connection))).collect();
    for task in tasks {
        // A panic of a task has been printed, and its messages are missing in the report.
        let _ = task.await;
    }
}

async fn publish_all(connections: Vec<Connection>, speeches: &[Speech], load: &Load, report: &Shared) {
    let requests: Rc<Vec<Vec<u8>>> = Rc::new(speeches.iter().map(|speech| speech.publish(load.batch)).collect());
    let (batch, end) = (load.batch as u64, Instant::now() + load.duration);
    let (place, stride) = (Cell::new(0), requests.len().div_ceil(connections.len().max(1)));
    each(connections, |mut connection| {
        let (requests, report) = (requests.clone(), report.clone());
        // Each begins somewhere else, so that they do not go through the topics side by side.
        let first = place.replace(place.get() + stride) % requests.len().max(1);
        async move {
            for request in requests.iter().cycle().skip(first) {
                if Instant::now() >= end {
                    return;
                }
                let begun = Instant::now();
                let done = must(&mut connection, request).await;
                let mut report = report.borrow_mut();
                match done {
                    Ok(refused) => {
                        report.times.add(begun.elapsed());
                        report.messages += batch;
                        report.refused += refused;
                    }
                    Err(error) => return report.fail(&error),
                }
            }
        }
    })
    .await;
}

async fn pull_all(connections: Vec<Connection>, speech: &Speech, load: &Load, backlog: u64, report: &Shared) {
    let (request, end) = (Rc::new(speech.pull(load.batch, 0)), Instant::now() + load.duration);
    let stragglers = Rc::new(Stragglers { every: load.straggler_every, seen: Cell::new(0) });
    each(connections, |mut connection| {
        let (request, report, speech) = (request.clone(), report.clone(), speech.clone());
        let stragglers = stragglers.clone();
        async move {
            while Instant::now() < end && report.borrow().messages < backlog {
                let begun = Instant::now();
                match take_and_ack(&mut connection, &request, &speech, &stragglers).await {
                    // The others hold the last ones.
                    Ok((0, _)) => return,
                    Ok((acked, refused)) => {
                        let mut report = report.borrow_mut();
                        report.refused += refused;
                        report.times.add(begun.elapsed());
                        report.messages += acked;
                    }
                    Err(error) => return report.borrow_mut().fail(&error),
                }
            }
        }
    })
    .await;
}

/// Which messages are left without an ack.
#[derive(Debug, Default)]
pub struct Stragglers {
    every: Option<u64>,
    seen: Cell<u64>,
}

impl Stragglers {
    /// One of so many.
    pub const fn one_of(every: u64) -> Self {
        Self { every: Some(every), seen: Cell::new(0) }
    }

    fn is_next(&self) -> bool {
        let seen = self.seen.replace(self.seen.get() + 1);
        self.every.is_some_and(|every| seen % every == every - 1)
    }
}

/// How many were taken, and acked but for the stragglers; and how often the server refused.
pub async fn take_and_ack(
    connection: &mut Connection,
    pull: &[u8],
    speech: &Speech,
    stragglers: &Stragglers,
) -> io::Result<(u64, u64)> {
    let mut refused = must(connection, pull).await?;
    let mut tokens = speech.tokens(connection.body());
    let taken = tokens.len() as u64;
    tokens.retain(|_| !stragglers.is_next());
    if tokens.is_empty() {
        return Ok((taken, refused));
    }
    refused += must(connection, &speech.ack(&tokens)).await?;
    match speech.acked(connection.body()) {
        acked if acked == tokens.len() as u64 => Ok((taken, refused)),
        acked => Err(io::Error::other(format!("{acked} of {} acks were done", tokens.len()))),
    }
}

/// Most messages of one pull of the waiting consumer.
const LATENCY_BATCH: usize = 100;
/// How long it waits.
const LATENCY_WAIT_MS: u64 = 500;

/// The connections publish in turn, so that a slow answer does not hold up the next message.
async fn latency(
    connections: Vec<Connection>,
    address: SocketAddr,
    speech: &Speech,
    load: &Load,
    rate: u64,
    report: &Shared,
) -> io::Result<()> {
    let (begun, end) = (Instant::now(), Instant::now() + load.duration);
    let (consumer, acker) = (Connection::open(address).await?, Connection::open(address).await?);
    let (tokens_out, tokens_in) = mpsc::unbounded_channel();
    let acks = tokio::task::spawn_local(ack_what_comes(acker, speech.clone(), tokens_in, report.clone()));
    let consuming = Consumer { speech: speech.clone(), begun, end, tokens_out, report: report.clone() };
    let consuming = tokio::task::spawn_local(consuming.run(consumer));
    let publishers = connections.len() as u32;
    let pause = Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX).max(1);
    let filler = text(load.body_bytes.saturating_sub(STAMP_DIGITS + 1));
    let place = Cell::new(0);
    each(connections, |mut connection| {
        let (speech, report, filler) = (speech.clone(), report.clone(), filler.clone());
        let mut at = begun + pause * place.replace(place.get() + 1);
        async move {
            while at < end {
                tokio::time::sleep_until(at.into()).await;
                let stamp = begun.elapsed().as_nanos();
                let body = format!("@{stamp:0STAMP_DIGITS$}{filler}");
                if let Err(error) = must(&mut connection, &speech.publish_body(&body)).await {
                    return report.borrow_mut().fail(&error);
                }
                at += pause * publishers;
            }
        }
    })
    .await;
    // A panic of either has been printed, and its messages are missing in the report.
    let _ = consuming.await;
    let _ = acks.await;
    Ok(())
}

/// Acks what the consumer got, on a connection of its own so that the consumer is waiting again at once.
async fn ack_what_comes(
    mut connection: Connection,
    speech: Speech,
    mut tokens_in: mpsc::UnboundedReceiver<Vec<String>>,
    report: Shared,
) {
    while let Some(tokens) = tokens_in.recv().await {
        if let Err(error) = must(&mut connection, &speech.ack(&tokens)).await {
            return report.borrow_mut().fail(&error);
        }
    }
}

/// The waiting consumer.
struct Consumer {
    speech: Speech,
    /// What stamps count from.
    begun: Instant,
    end: Instant,
    /// Not bounded: as many as are published, at a steady rate.
    tokens_out: mpsc::UnboundedSender<Vec<String>>,
    report: Shared,
}

impl Consumer {
    /// Receives until the end, and then until there is nothing more.
    async fn run(self, mut connection: Connection) {
        let request = self.speech.pull(LATENCY_BATCH, LATENCY_WAIT_MS);
        loop {
            if let Err(error) = must(&mut connection, &request).await {
                return self.report.borrow_mut().fail(&error);
            }
            let now = self.begun.elapsed();
            let tokens = self.speech.tokens(connection.body());
            let mut report = self.report.borrow_mut();
            for stamp in stamps(connection.body()) {
                report.times.add(now.saturating_sub(stamp));
                report.messages += 1;
            }
            drop(report);
            match tokens.is_empty() {
                true if Instant::now() > self.end => return,
                true => {}
                // The acker has failed, and said so.
                false if self.tokens_out.send(tokens).is_err() => return,
                false => {}
            }
        }
    }
}

const STAMP_DIGITS: usize = 16;

/// The times at which the bodies of an answer were sent.
fn stamps(body: &[u8]) -> Vec<Duration> {
    let mark = b"\"body\":\"@";
    let (mut stamps, mut rest) = (Vec::new(), body);
    while let Some(at) = crate::bench::connection::find(rest, mark) {
        let digits = rest.get(at + mark.len()..at + mark.len() + STAMP_DIGITS);
        let nanos = digits.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|text| text.parse().ok());
        stamps.extend(nanos.map(Duration::from_nanos));
        rest = rest.get(at + mark.len()..).unwrap_or_default();
    }
    stamps
}
