//! Rates, memory and restart time by backlog: one server per size, filled once, all measured in turn.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::bench::connection::Connection;
use crate::bench::flat::{FlatArguments, RATIO_AIM, applied, taken, tell};
use crate::bench::load;
use crate::bench::numbers::{Numbers, Size, Trial, least, median, mib, most};
use crate::bench::process::resident_bytes;
use crate::bench::restart::disk_bytes;
use crate::bench::server::{Kind, Scratch, Server};
use crate::bench::speech::{Speech, must};

const DEEP: u64 = 50_000_000;
/// Connections that fill a server.
const FILLERS: u64 = 4;
/// Messages that a round takes one by one, and that it takes by the hundred at least.
const SINGLES: u64 = 20_000;
const BATCHED_MIN: u64 = 100_000;
/// Restarts of each size.
const RESTARTS: usize = 3;
/// Until checkpoints of what was published last are over.
const SETTLE: Duration = Duration::from_secs(2);
/// DESIGN: memory with ten million waiting, and how long a restart with them takes.
const RESIDENT_AIM: u64 = 150_000_000;
const READY_AIM_SECONDS: f64 = 1.0;

/// A server with its backlog.
struct Standing {
    server: Server,
    speech: Speech,
    dir: PathBuf,
    size: Size,
    _scratch: Scratch,
}

/// Measures every size; the first is what the others are held against.
pub async fn run(arguments: &FlatArguments, numbers: &mut Numbers) -> io::Result<()> {
    let mut all = Vec::new();
    let sizes = arguments.sizes.iter().copied().chain(arguments.deep.then_some(DEEP));
    for waiting in sizes {
        all.push(stand(arguments, waiting).await?);
    }
    tokio::time::sleep(SETTLE).await;
    for _ in 0..arguments.rounds.max(1) {
        for standing in &mut all {
            round(arguments, standing).await?;
        }
    }
    for standing in &mut all {
        restarts(standing).await?;
    }
    let sizes: Vec<Size> = all.into_iter().map(|standing| standing.size).collect();
    for size in &sizes {
        tell(numbers, line(size, sizes.first().unwrap_or(size)));
    }
    numbers.add(Numbers { sizes, ..Numbers::default() });
    Ok(())
}

async fn stand(arguments: &FlatArguments, waiting: u64) -> io::Result<Standing> {
    let scratch = Scratch::to_measure(arguments.scratch.as_deref())?;
    let dir = scratch.path().join("data");
    let server = Server::start_in(Kind::Windlass, &dir)?;
    let mut first = Connection::open(server.address).await?;
    let speech = Speech::native(&mut first, arguments.body_bytes).await?;
    fill(&server, &speech, waiting, arguments.body_bytes).await?;
    let size = Size { waiting, body_bytes: arguments.body_bytes as u64, ..Size::default() };
    Ok(Standing { server, speech, dir, size, _scratch: scratch })
}

/// Publishes over several connections at once.
pub async fn fill(server: &Server, speech: &Speech, messages: u64, body_bytes: usize) -> io::Result<()> {
    let mut fillers = Vec::new();
    for place in 0..FILLERS {
        let mut connection = Connection::open(server.address).await?;
        let (speech, share) = (speech.clone(), messages / FILLERS + u64::from(place < messages % FILLERS));
        fillers.push(tokio::task::spawn_local(
            async move { load::fill(&mut connection, &speech, share, body_bytes).await },
        ));
    }
    for filler in fillers {
        filler.await.map_err(io::Error::other)??;
    }
    Ok(())
}

/// Publishes, and takes as much as was published: the backlog is what it was.
async fn round(arguments: &FlatArguments, standing: &mut Standing) -> io::Result<()> {
    let Standing { server, speech, size, .. } = standing;
    let published = applied(server, std::slice::from_ref(speech), &arguments.publishes()).await?;
    let missing = BATCHED_MIN.min(size.waiting * 10).saturating_sub(published.messages);
    fill(server, speech, missing, arguments.body_bytes).await?;
    let batched = taken(server, speech, 100, published.messages + missing, None).await?;
    let singles = SINGLES.min(size.waiting * 2);
    fill(server, speech, singles, arguments.body_bytes).await?;
    let single = taken(server, speech, 1, singles, None).await?;
    // What each consumer had in hand at the end was taken beyond the goal.
    let beyond = (batched.messages + single.messages).saturating_sub(published.messages + missing + singles);
    fill(server, speech, beyond, arguments.body_bytes).await?;
    size.publish.push(published.rate());
    size.take_batch.push(batched.rate());
    size.take_single.push(single.rate());
    size.resident.extend(server.process().and_then(resident_bytes));
    Ok(())
}

async fn restarts(standing: &mut Standing) -> io::Result<()> {
    for _ in 0..RESTARTS {
        standing.server.kill();
        standing.size.disk_bytes = disk_bytes(&standing.dir)?;
        let begun = Instant::now();
        standing.server = Server::start_in(Kind::Windlass, &standing.dir)?;
        standing.size.ready_seconds.push(begun.elapsed().as_secs_f64());
        let resident = standing.server.process().and_then(resident_bytes).unwrap_or(0);
        standing.size.resident_ready = standing.size.resident_ready.max(resident);
        let mut connection = Connection::open(standing.server.address).await?;
        must(&mut connection, &standing.speech.pull(1, 0)).await?;
        if standing.speech.tokens(connection.body()).len() != 1 {
            return Err(io::Error::other("a pull after the restart gave nothing"));
        }
    }
    standing.server.kill();
    Ok(())
}

fn line(size: &Size, first: &Size) -> Trial {
    let rates = |name: &str, own: &[f64], first: &[f64]| {
        let pairs: Vec<f64> = own.iter().zip(first).map(|(own, first)| own / first).collect();
        let text =
            format!("{name} {:.0}/s {:.2} ({:.2} to {:.2})", median(own), median(&pairs), least(&pairs), most(&pairs));
        (text, median(&pairs))
    };
    let told = [
        rates("publish", &size.publish, &first.publish),
        rates("take + ack x 1", &size.take_single, &first.take_single),
        rates("x 100", &size.take_batch, &first.take_batch),
    ];
    let (ready, resident) = (median(&size.ready_seconds), size.resident.iter().copied().max().unwrap_or(0));
    let flat = told.iter().all(|(_, ratio)| *ratio >= RATIO_AIM);
    Trial {
        name: format!("{} waiting", size.waiting),
        figures: format!(
            "{}; RSS {} under load, {} after a restart; ready {ready:.2} s after a kill; {} on disk",
            told.map(|(text, _)| text).join(", "),
            mib(resident),
            mib(size.resident_ready),
            mib(size.disk_bytes)
        ),
        aim: format!("ratios {RATIO_AIM}, RSS 150 MB, {READY_AIM_SECONDS} s"),
        met: flat && resident <= RESIDENT_AIM && ready <= READY_AIM_SECONDS,
    }
}
