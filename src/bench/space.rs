//! `windlass bench space`: what a steady run costs the disk. Publishers and consumers go on as fast as they can, one
//! message in a hundred is taken and never acked. Figures are of the second half: the first makes the segments that
//! the second recycles.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::task::LocalSet;

use crate::bench::connection::Connection;
use crate::bench::load;
use crate::bench::numbers::{Numbers, Trial, mib};
use crate::bench::process::device_written_bytes;
use crate::bench::restart::disk_bytes;
use crate::bench::server::{Kind, Scratch, Server};
use crate::bench::speech::{Speech, must};

/// How long to run and where.
#[derive(Debug, Args)]
pub struct SpaceArguments {
    /// Seconds of the whole run.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    duration: u64,
    /// Connections that publish, one message per request.
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    connections: usize,
    /// Consumers, by the hundred.
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    consumers: usize,
    /// Of so many messages one is never acked.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    straggler_every: u64,
    /// Bytes of a body.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    body_bytes: usize,
    /// Directory for the data of the server; on the disk that is to be measured.
    #[arg(long, value_name = "DIRECTORY")]
    scratch: Option<PathBuf>,
    /// Keeps the numbers here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl SpaceArguments {
    /// A run for a report.
    pub const fn for_report(duration: u64, scratch: Option<PathBuf>) -> Self {
        let (connections, consumers, straggler_every, body_bytes) = (64, 8, 100, 1024);
        Self { duration, connections, consumers, straggler_every, body_bytes, scratch, json: None }
    }
}

const BATCH: usize = 100;
const WAIT_MS: u64 = 200;
/// No straggler comes back within a run.
const GROUP: &str = "\"pending_max\":1000000,\"lease_ms\":43200000";
/// Bytes written per body byte, and disk used per live byte.
const WRITTEN_AIM: f64 = 1.25;
const USED_AIM: f64 = 2.0;
const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// What is known at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    published: u64,
    /// By the device, where it counts.
    written: Option<u64>,
    log: f64,
    live: f64,
    disk: u64,
}

/// Runs it and prints two lines.
pub fn run(arguments: &SpaceArguments) -> io::Result<Numbers> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let samples = LocalSet::new().block_on(&runtime, steady(arguments))?;
    let second_half = samples.get(samples.len() / 2..).unwrap_or_default();
    let (Some(first), Some(last)) = (second_half.first(), second_half.last()) else {
        return Err(io::Error::other("the run was too short for a sample"));
    };
    let mut numbers = Numbers::default();
    for trial in [written(arguments, first, last), used(second_half, last)] {
        say!("{}", trial.line());
        numbers.trials.push(trial);
    }
    numbers.write(arguments.json.as_deref())?;
    Ok(numbers)
}

fn written(arguments: &SpaceArguments, first: &Sample, last: &Sample) -> Trial {
    let published = last.published - first.published;
    let bodies = published * arguments.body_bytes as u64;
    let written = last.written.zip(first.written).map(|(last, first)| last - first);
    let ratio = written.map(|written| written as f64 / bodies.max(1) as f64);
    let figures = match (ratio, written) {
        (Some(ratio), Some(written)) => {
            format!("{ratio:.2} ({} by the device, for {published} messages published, taken and acked)", mib(written))
        }
        _ => "unknown: the device does not say".to_owned(),
    };
    Trial {
        name: format!("bytes written per body byte, {} B each", arguments.body_bytes),
        figures,
        aim: format!("{WRITTEN_AIM} at most"),
        met: published > 0 && ratio.is_some_and(|ratio| ratio <= WRITTEN_AIM),
    }
}

fn used(samples: &[Sample], last: &Sample) -> Trial {
    let ratios: Vec<f64> = samples.iter().map(|sample| sample.log / sample.live.max(1.0)).collect();
    let mean = ratios.iter().sum::<f64>() / ratios.len().max(1) as f64;
    let most = ratios.iter().copied().fold(0.0, f64::max);
    let left = last.live.max(0.0) as u64;
    Trial {
        name: "disk used per live byte".to_owned(),
        figures: format!(
            "the log {mean:.2} on average, {most:.2} at most ({} at the end, {} of it live); the directory {}, with what is kept for copies and ready for use",
            mib(last.log as u64),
            mib(left),
            mib(last.disk)
        ),
        aim: format!("{USED_AIM} at most"),
        met: mean <= USED_AIM,
    }
}

async fn steady(arguments: &SpaceArguments) -> io::Result<Vec<Sample>> {
    let scratch = Scratch::to_measure(arguments.scratch.as_deref())?;
    let dir = scratch.path().join("data");
    let server = Server::start_in(Kind::Windlass, &dir)?;
    let mut connection = Connection::open(server.address).await?;
    let speech = Speech::native(&mut connection, arguments.body_bytes).await?;
    speech.add_group(&mut connection, "steady", GROUP).await?;
    // The topic's first group would otherwise hold everything.
    must(&mut connection, &speech.delete_group()).await?;
    let speech = speech.of_group("steady");
    let end = Instant::now() + Duration::from_secs(arguments.duration);
    let published = Rc::new(Cell::new(0));
    let stragglers = Rc::new(load::Stragglers::one_of(arguments.straggler_every.max(1)));
    let mut tasks = Vec::new();
    for connection in load::open(server.address, arguments.consumers).await? {
        let task = take(connection, speech.clone(), stragglers.clone(), end);
        tasks.push(tokio::task::spawn_local(task));
    }
    for connection in load::open(server.address, arguments.connections).await? {
        let task = publish(connection, speech.publish(1), published.clone(), end);
        tasks.push(tokio::task::spawn_local(task));
    }
    let mut samples = Vec::new();
    while Instant::now() < end && !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(SAMPLE_EVERY).await;
        must(&mut connection, &speech.metrics()).await?;
        let text = String::from_utf8_lossy(connection.body()).into_owned();
        let gauge = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
            value.ok_or_else(|| io::Error::other(format!("no {name} among the metrics")))
        };
        let written = device_written_bytes(&dir);
        samples.push(Sample {
            published: published.get(),
            written,
            log: gauge("windlass_log_bytes")?,
            live: gauge("windlass_live_bytes")?,
            disk: disk_bytes(&dir)?,
        });
    }
    for task in tasks {
        task.await.map_err(io::Error::other)??;
    }
    Ok(samples)
}

async fn publish(
    mut connection: Connection,
    request: Vec<u8>,
    published: Rc<Cell<u64>>,
    end: Instant,
) -> io::Result<()> {
    while Instant::now() < end {
        must(&mut connection, &request).await?;
        published.set(published.get() + 1);
    }
    Ok(())
}

async fn take(
    mut connection: Connection,
    speech: Speech,
    stragglers: Rc<load::Stragglers>,
    end: Instant,
) -> io::Result<()> {
    let pull = speech.pull(BATCH, WAIT_MS);
    while Instant::now() < end {
        load::take_and_ack(&mut connection, &pull, &speech, &stragglers).await?;
    }
    Ok(())
}
