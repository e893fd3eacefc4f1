//! Many topics, many groups, many waiting pulls, a slow group, stragglers: rates beside those without them, round by
//! round in turn.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::bench::connection::Connection;
use crate::bench::flat::sizes::fill;
use crate::bench::flat::{FlatArguments, applied, beside, metric, taken, tell};
use crate::bench::load;
use crate::bench::numbers::{Numbers, mib};
use crate::bench::process::resident_bytes;
use crate::bench::server::{Kind, Server};
use crate::bench::speech::{Speech, must};

/// What `limits.groups_per_topic_max` allows.
const GROUPS_PER_TOPIC: usize = 1_000;
/// Longest that a pull may wait.
const WAIT_MS: u64 = 300_000;
/// Longest until all pulls wait.
const ARRIVAL_MAX: Duration = Duration::from_secs(60);
/// A slow consumer takes one message in this time.
const SLOW_PAUSE: Duration = Duration::from_millis(50);
const STRAGGLER_EVERY: u64 = 10;
/// No straggler comes back within a run.
const LONG_LEASE: &str = "\"pending_max\":1000000,\"lease_ms\":43200000";

async fn fresh(arguments: &FlatArguments) -> io::Result<(Server, Connection)> {
    let server = Server::start(Kind::Windlass, arguments.scratch.as_deref())?;
    let connection = Connection::open(server.address).await?;
    Ok((server, connection))
}

fn memory(server: &Server) -> String {
    format!("; RSS {}", mib(server.process().and_then(resident_bytes).unwrap_or(0)))
}

/// Rates of publishes to the first topic and to the others, in turn.
async fn publishes(
    arguments: &FlatArguments,
    server: &Server,
    plain: &Speech,
    others: &[Speech],
) -> io::Result<(Vec<f64>, Vec<f64>)> {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds.max(1) {
        without.push(applied(server, std::slice::from_ref(plain), &arguments.publishes()).await?.rate());
        with.push(applied(server, others, &arguments.publishes()).await?.rate());
    }
    Ok((without, with))
}

/// Many topics.
pub async fn topics(arguments: &FlatArguments, numbers: &mut Numbers) -> io::Result<()> {
    let (server, mut connection) = fresh(arguments).await?;
    let plain = Speech::native(&mut connection, arguments.body_bytes).await?;
    let mut others = Vec::with_capacity(arguments.topics);
    while others.len() < arguments.topics {
        others.push(Speech::native(&mut connection, arguments.body_bytes).await?);
    }
    let (without, with) = publishes(arguments, &server, &plain, &others).await?;
    let name = format!("publish to {} topics beside one", arguments.topics);
    tell(numbers, beside(name, &without, &with, &memory(&server)));
    Ok(())
}

/// Many groups.
pub async fn groups(arguments: &FlatArguments, numbers: &mut Numbers) -> io::Result<()> {
    let (server, mut connection) = fresh(arguments).await?;
    let plain = Speech::native(&mut connection, arguments.body_bytes).await?;
    // The one group of the plain topic counts as well.
    let (mut others, mut missing) = (Vec::new(), arguments.groups.saturating_sub(1));
    while missing > 0 {
        let speech = Speech::native(&mut connection, arguments.body_bytes).await?;
        let here = missing.min(GROUPS_PER_TOPIC);
        for number in 1..here {
            speech.add_group(&mut connection, &format!("group-{number}"), "").await?;
        }
        missing -= here;
        others.push(speech);
    }
    let (without, with) = publishes(arguments, &server, &plain, &others).await?;
    let name = format!("publish with {} groups, {GROUPS_PER_TOPIC} to a topic, beside one", arguments.groups);
    tell(numbers, beside(name, &without, &with, &memory(&server)));
    Ok(())
}

/// Many pulls that wait on one topic while others publish to another.
pub async fn polls(arguments: &FlatArguments, numbers: &mut Numbers) -> io::Result<()> {
    let (server, mut connection) = fresh(arguments).await?;
    let plain = Speech::native(&mut connection, arguments.body_bytes).await?;
    let quiet = Speech::native(&mut connection, arguments.body_bytes).await?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds.max(1) {
        without.push(applied(&server, std::slice::from_ref(&plain), &arguments.publishes()).await?.rate());
        let request: Rc<Vec<u8>> = Rc::new(quiet.pull(1, WAIT_MS));
        let mut waiting = Vec::with_capacity(arguments.polls);
        while waiting.len() < arguments.polls {
            let (mut connection, request) = (Connection::open(server.address).await?, request.clone());
            waiting.push(tokio::task::spawn_local(async move { connection.ask(&request).await }));
            if waiting.len() % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
        let patience = Instant::now() + ARRIVAL_MAX;
        while metric(&mut connection, &quiet, "windlass_pulls_waiting").await? < arguments.polls as f64 {
            if Instant::now() > patience || waiting.iter().any(tokio::task::JoinHandle::is_finished) {
                return Err(io::Error::other("not all of the pulls were let wait"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        with.push(applied(&server, std::slice::from_ref(&plain), &arguments.publishes()).await?.rate());
        let done = waiting.iter().filter(|poll| poll.is_finished()).count();
        if done > 0 {
            return Err(io::Error::other(format!("{done} pulls of an empty topic ended before their time")));
        }
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
    }
    let name = format!("publish while {} pulls wait elsewhere", arguments.polls);
    tell(numbers, beside(name, &without, &with, &memory(&server)));
    Ok(())
}

/// A fast group on a topic whose other group stays far behind.
pub async fn slow(arguments: &FlatArguments, numbers: &mut Numbers) -> io::Result<()> {
    let (server, mut connection) = fresh(arguments).await?;
    let plain = Speech::native(&mut connection, arguments.body_bytes).await?;
    let shared = Speech::native(&mut connection, arguments.body_bytes).await?;
    shared.add_group(&mut connection, "slow", "").await?;
    let slow = shared.of_group("slow");
    let goes_on = Rc::new(Cell::new(true));
    let crawl = tokio::task::spawn_local(crawl(Connection::open(server.address).await?, slow, goes_on.clone()));
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds.max(1) {
        for (speech, rates) in [(&plain, &mut without), (&shared, &mut with)] {
            fill(&server, speech, arguments.backlog, arguments.body_bytes).await?;
            rates.push(taken(&server, speech, 100, arguments.backlog, None).await?.rate());
        }
    }
    goes_on.set(false);
    let crawled = crawl.await.map_err(io::Error::other)??;
    let more = format!("; the slow one took {crawled} meanwhile{}", memory(&server));
    tell(numbers, beside("take + ack x 100 beside a slow group".to_owned(), &without, &with, &more));
    Ok(())
}

/// Takes and acks one message now and then; how many.
async fn crawl(mut connection: Connection, speech: Speech, goes_on: Rc<Cell<bool>>) -> io::Result<u64> {
    let (pull, mut taken) = (speech.pull(1, 0), 0);
    while goes_on.get() {
        taken += load::take_and_ack(&mut connection, &pull, &speech, &load::Stragglers::default()).await?.0;
        tokio::time::sleep(SLOW_PAUSE).await;
    }
    Ok(taken)
}

/// Every tenth message is taken and never acked.
pub async fn stragglers(arguments: &FlatArguments, numbers: &mut Numbers) -> io::Result<()> {
    let (server, mut connection) = fresh(arguments).await?;
    let plain = Speech::native(&mut connection, arguments.body_bytes).await?;
    let strewn = Speech::native(&mut connection, arguments.body_bytes).await?;
    strewn.add_group(&mut connection, "strewn", LONG_LEASE).await?;
    // The topic's first group would otherwise hold everything.
    must(&mut connection, &strewn.delete_group()).await?;
    let strewn = strewn.of_group("strewn");
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds.max(1) {
        for (speech, every, rates) in [(&plain, None, &mut without), (&strewn, Some(STRAGGLER_EVERY), &mut with)] {
            fill(&server, speech, arguments.backlog, arguments.body_bytes).await?;
            rates.push(taken(&server, speech, 100, arguments.backlog, every).await?.rate());
        }
    }
    let left = metric(&mut connection, &strewn, "windlass_messages_in_flight").await?;
    let more = format!("; {left:.0} left behind{}", memory(&server));
    let name = format!("take + ack x 100, every {STRAGGLER_EVERY}th never acked,");
    tell(numbers, beside(name, &without, &with, &more));
    Ok(())
}
