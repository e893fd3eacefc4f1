//! What could hold up publishes: leases that lapse all at once, checkpoints, trims.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::bench::ceiling::sync_times;
use crate::bench::connection::Connection;
use crate::bench::flat::sizes::fill;
use crate::bench::flat::{FlatArguments, metric, tell};
use crate::bench::histogram::Histogram;
use crate::bench::load::{self, Stragglers};
use crate::bench::numbers::{Numbers, Trial};
use crate::bench::server::{Kind, Scratch, Server};
use crate::bench::speech::{Speech, must};

/// Leases that one second of taking gives at the least: a machine that takes fewer is told so.
const LEASES_A_SECOND: u64 = 60_000;
const LEASES_PER_PULL: usize = 1_000;
/// Consumers that take them, and connections that publish meanwhile.
const CONNECTIONS: usize = 4;
/// Longest that the last of them may stay unswept.
const SWEPT_WITHIN: Duration = Duration::from_secs(120);
const LONGEST_AIM: Duration = Duration::from_millis(50);
/// Of the median sync: the aim of the slowest publish in a thousand.
const SYNCS_AIM: f64 = 5.0;
/// Publishers and consumers of a steady run.
const STEADY_PUBLISHERS: u32 = 16;
const STEADY_CONSUMERS: usize = 2;
const STEADY_BATCH: usize = 100;
const STEADY_WAIT_MS: u64 = 200;

/// Leases that lapse in the same second while others publish: once so that they return, once so that each becomes a
/// dead letter.
pub async fn lapse(arguments: &FlatArguments, numbers: &mut Numbers) -> io::Result<()> {
    let returns = "\"pending_max\":1000000,\"attempts_max\":null";
    let dies = "\"pending_max\":1000000,\"attempts_max\":1,\"dead_letter\":\"dead\"";
    for (what, settings, ended) in [
        ("return", returns, "windlass_messages_lapsed_total"),
        ("become dead letters", dies, "windlass_messages_dead_lettered_total"),
    ] {
        let times = lapsing(arguments, settings, ended).await?;
        tell(
            numbers,
            Trial {
                name: format!("longest publish while {} leases lapse at once and {what}", arguments.leases),
                figures: format!(
                    "{:.1} ms, in the {} s before {:.1} ms; all swept after {:.1} s",
                    times.longest_after.as_secs_f64() * 1e3,
                    arguments.watch,
                    times.longest_before.as_secs_f64() * 1e3,
                    times.swept_after.as_secs_f64()
                ),
                aim: format!("{} ms at most", LONGEST_AIM.as_millis()),
                met: times.longest_after <= LONGEST_AIM,
            },
        );
    }
    Ok(())
}

struct Lapsed {
    longest_before: Duration,
    longest_after: Duration,
    swept_after: Duration,
}

async fn lapsing(arguments: &FlatArguments, settings: &str, ended: &str) -> io::Result<Lapsed> {
    let server = Server::start(Kind::Windlass, arguments.scratch.as_deref())?;
    let mut connection = Connection::open(server.address).await?;
    let speech = Speech::native(&mut connection, arguments.body_bytes).await?;
    speech.add_group(&mut connection, "lapsing", settings).await?;
    let lapsing = speech.of_group("lapsing");
    let other = Speech::native(&mut connection, arguments.body_bytes).await?;
    fill(&server, &speech, arguments.leases, arguments.body_bytes).await?;
    let watch = Duration::from_secs(arguments.watch);
    let lapse_at = Instant::now() + watch * 2 + Duration::from_secs(arguments.leases.div_ceil(LEASES_A_SECOND));
    lease_all(&server, &lapsing, arguments.leases, lapse_at).await?;
    if Instant::now() + watch > lapse_at {
        return Err(io::Error::other("leasing took so long that the first leases have lapsed"));
    }
    tokio::time::sleep_until((lapse_at - watch).into()).await;
    let times = publish_until(&server, &other, lapse_at + watch * 2).await?;
    let longest = |of: &dyn Fn(Instant) -> bool| {
        times.iter().filter(|(begun, _)| of(*begun)).map(|(_, time)| *time).max().unwrap_or_default()
    };
    // A publish that was under way at that moment belongs to it.
    let edge = lapse_at - Duration::from_millis(100);
    let (longest_before, longest_after) = (longest(&|begun| begun < edge), longest(&|begun| begun >= edge));
    let mut swept_after = lapse_at.elapsed();
    while metric(&mut connection, &lapsing, ended).await? < arguments.leases as f64 {
        if swept_after > SWEPT_WITHIN {
            return Err(io::Error::other("not all leases have lapsed"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        swept_after = lapse_at.elapsed();
    }
    Ok(Lapsed { longest_before, longest_after, swept_after })
}

/// Takes everything, so that all leases end at the same moment.
async fn lease_all(server: &Server, speech: &Speech, leases: u64, lapse_at: Instant) -> io::Result<()> {
    let taken = Rc::new(RefCell::new(0_u64));
    let mut tasks = Vec::new();
    for mut connection in load::open(server.address, CONNECTIONS).await? {
        let (speech, taken) = (speech.clone(), taken.clone());
        tasks.push(tokio::task::spawn_local(async move {
            loop {
                let left = lapse_at.saturating_duration_since(Instant::now()).as_millis();
                let lease_ms = u64::try_from(left).unwrap_or(0).max(1);
                must(&mut connection, &speech.leasing(lease_ms).pull(LEASES_PER_PULL, 0)).await?;
                match speech.tokens(connection.body()).len() {
                    0 => return Ok::<_, io::Error>(()),
                    more => *taken.borrow_mut() += more as u64,
                }
            }
        }));
    }
    for task in tasks {
        task.await.map_err(io::Error::other)??;
    }
    match *taken.borrow() {
        taken if taken == leases => Ok(()),
        taken => Err(io::Error::other(format!("{taken} of {leases} messages were leased once"))),
    }
}

/// When each publish began, and how long it took.
async fn publish_until(server: &Server, speech: &Speech, end: Instant) -> io::Result<Vec<(Instant, Duration)>> {
    let request = Rc::new(speech.publish(1));
    let mut tasks = Vec::new();
    for mut connection in load::open(server.address, CONNECTIONS).await? {
        let request = request.clone();
        tasks.push(tokio::task::spawn_local(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let begun = Instant::now();
                must(&mut connection, &request).await?;
                times.push((begun, begun.elapsed()));
            }
            Ok::<_, io::Error>(times)
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.map_err(io::Error::other)??);
    }
    Ok(all)
}

/// Publishes and takes at a steady rate, long enough for checkpoints and trims. Times are from the moment at which
/// a publish was due.
pub async fn pauses(arguments: &FlatArguments, numbers: &mut Numbers) -> io::Result<()> {
    const BODY_BYTES: usize = 1024;
    let scratch = Scratch::to_measure(arguments.scratch.as_deref())?;
    let mut syncs = sync_times(scratch.path())?;
    let server = Server::start_in(Kind::Windlass, &scratch.path().join("data"))?;
    let mut connection = Connection::open(server.address).await?;
    let speech = Speech::native(&mut connection, BODY_BYTES).await?;
    tokio::time::sleep(load::SETTLE).await;
    let begun = Instant::now();
    let end = begun + Duration::from_secs(arguments.steady);
    let mut consumers = Vec::new();
    for connection in load::open(server.address, STEADY_CONSUMERS).await? {
        consumers.push(tokio::task::spawn_local(take_until(connection, speech.clone(), end)));
    }
    let pause = Duration::from_secs(1) / u32::try_from(arguments.rate).unwrap_or(u32::MAX).max(1);
    let (request, mut publishers) = (Rc::new(speech.publish(1)), Vec::new());
    for (place, mut connection) in
        (0..STEADY_PUBLISHERS).zip(load::open(server.address, STEADY_PUBLISHERS as usize).await?)
    {
        let (request, mut due) = (request.clone(), begun + pause * place);
        publishers.push(tokio::task::spawn_local(async move {
            let mut times = Histogram::default();
            while due < end {
                let free = Instant::now();
                tokio::time::sleep_until(due.into()).await;
                // A timer that rings late is not the server's; an answer that comes after the next is due is.
                let from = if free <= due { Instant::now() } else { due };
                must(&mut connection, &request).await?;
                times.add(from.elapsed());
                due += pause * STEADY_PUBLISHERS;
            }
            Ok::<_, io::Error>(times)
        }));
    }
    let mut times = Histogram::default();
    for publisher in publishers {
        times.merge(&publisher.await.map_err(io::Error::other)??);
    }
    for consumer in consumers {
        consumer.await.map_err(io::Error::other)??;
    }
    drop(server);
    syncs.merge(&sync_times(scratch.path())?);
    let (sync, slow_sync) = (syncs.quantile_ms(0.5), syncs.quantile_ms(0.999));
    let p999 = times.quantile_ms(0.999);
    tell(
        numbers,
        Trial {
            name: format!("publish at {}/s for {} s, over checkpoints and trims", arguments.rate, arguments.steady),
            figures: format!(
                "p50 {:.2}, p99 {:.2}, p99.9 {p999:.2}, longest {:.1} ms, p99.9 {:.1} median syncs; bare syncs on the idle disk: median {sync:.2}, p99.9 {slow_sync:.2} ms",
                times.quantile_ms(0.5),
                times.quantile_ms(0.99),
                times.quantile_ms(1.0),
                p999 / sync
            ),
            aim: format!("p99.9 {SYNCS_AIM} syncs at most"),
            met: p999 <= sync * SYNCS_AIM,
        },
    );
    Ok(())
}

async fn take_until(mut connection: Connection, speech: Speech, end: Instant) -> io::Result<()> {
    let pull = speech.pull(STEADY_BATCH, STEADY_WAIT_MS);
    while Instant::now() < end {
        load::take_and_ack(&mut connection, &pull, &speech, &Stragglers::default()).await?;
    }
    Ok(())
}
