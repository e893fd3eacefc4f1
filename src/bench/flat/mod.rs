//! `windlass bench flat`: what should not change as more waits. Rates, memory and restart time by backlog
//! (`sizes.rs`); many topics, groups and waiting pulls, a slow group, stragglers (`crowd.rs`); leases that lapse at
//! once, and publishes over checkpoints and trims (`pauses.rs`). One line of figures each, with its aim.

mod crowd;
mod pauses;
mod sizes;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::task::LocalSet;

use crate::bench::connection::Connection;
use crate::bench::load::{self, Load, Report, Scenario};
use crate::bench::numbers::{Numbers, Trial, least, median, most};
use crate::bench::server::Server;
use crate::bench::speech::{Speech, must};

/// What can be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Rates, memory and restart with backlogs of several sizes.
    Sizes,
    /// Publishes to many topics beside those to one.
    Topics,
    /// Publishes to topics with many groups beside those to one with one.
    Groups,
    /// Publishes while many pulls wait elsewhere.
    Polls,
    /// A group that takes beside one that hardly moves.
    Slow,
    /// Takes of which every tenth message is never acked.
    Stragglers,
    /// Publishes while leases lapse, all in the same second.
    Lapse,
    /// Publishes at a steady rate over checkpoints and trims.
    Pauses,
}

/// What to try, and how much of it.
#[derive(Debug, Args)]
pub struct FlatArguments {
    /// Parts to run; all of them if none is named.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Messages waiting; a server each.
    #[arg(long, value_name = "COUNT", value_delimiter = ',', default_values_t = [10_000, 1_000_000, 10_000_000])]
    sizes: Vec<u64>,
    /// 50 million waiting as well.
    #[arg(long)]
    deep: bool,
    /// How often each is measured, in turn.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    rounds: usize,
    /// Topics of `topics`.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    topics: usize,
    /// Groups of `groups`; a thousand to a topic.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    groups: usize,
    /// Waiting pulls of `polls`.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    polls: usize,
    /// Leases of `lapse`.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    leases: u64,
    /// Messages of `slow` and `stragglers` that a round takes.
    #[arg(long, value_name = "COUNT", default_value_t = 200_000)]
    backlog: u64,
    /// Seconds of `pauses`.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    steady: u64,
    /// Messages a second of `pauses`.
    #[arg(long, value_name = "COUNT", default_value_t = 5_000)]
    rate: u64,
    /// Seconds for which `lapse` watches publishes before the leases end, and twice that long afterwards.
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    watch: u64,
    /// Bytes of a body.
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    body_bytes: usize,
    /// Seconds of one run of publishes.
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    duration: u64,
    /// Directory for the data of the servers; on the disk that is to be measured.
    #[arg(long, value_name = "DIRECTORY")]
    scratch: Option<PathBuf>,
    /// Keeps the numbers here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl FlatArguments {
    /// All parts, for a report.
    pub fn for_report(sizes: Vec<u64>, rounds: usize, duration: u64, scratch: Option<PathBuf>) -> Self {
        Self {
            only: Vec::new(),
            sizes,
            deep: false,
            rounds,
            topics: 1_000,
            groups: 10_000,
            polls: 10_000,
            leases: 1_000_000,
            backlog: 200_000,
            steady: 30,
            rate: 5_000,
            watch: 2,
            body_bytes: 200,
            duration,
            scratch,
            json: None,
        }
    }

    /// Takes few of each, for a quick look.
    #[must_use]
    pub fn small(mut self) -> Self {
        (self.topics, self.groups, self.polls, self.leases) = (20, 20, 20, 500);
        (self.backlog, self.steady, self.rate, self.watch) = (500, 1, 100, 1);
        self
    }

    const fn run_time(&self) -> Duration {
        Duration::from_secs(self.duration)
    }

    const fn publishes(&self) -> Load {
        Load::native(Scenario::Publish, PUBLISHERS, 1, self.run_time())
    }
}

/// Connections that publish, one message per request.
const PUBLISHERS: usize = 64;
/// Consumers that take a backlog.
const CONSUMERS: usize = 16;
/// Of the rate without what is tried: the aim of all that should not be felt.
const RATIO_AIM: f64 = 0.9;
/// Longest a backlog may take.
const TAKE_TIME_MAX: Duration = Duration::from_secs(120);

/// Tries everything that is asked for.
pub fn run(arguments: &FlatArguments) -> io::Result<Numbers> {
    let wanted = |part: &Part| arguments.only.is_empty() || arguments.only.contains(part);
    let mut numbers = Numbers::default();
    for part in Part::value_variants().iter().filter(|part| wanted(part)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, async {
            match part {
                Part::Sizes => sizes::run(arguments, &mut numbers).await,
                Part::Topics => crowd::topics(arguments, &mut numbers).await,
                Part::Groups => crowd::groups(arguments, &mut numbers).await,
                Part::Polls => crowd::polls(arguments, &mut numbers).await,
                Part::Slow => crowd::slow(arguments, &mut numbers).await,
                Part::Stragglers => crowd::stragglers(arguments, &mut numbers).await,
                Part::Lapse => pauses::lapse(arguments, &mut numbers).await,
                Part::Pauses => pauses::pauses(arguments, &mut numbers).await,
            }
        })?;
        numbers.write(arguments.json.as_deref())?;
    }
    Ok(numbers)
}

/// Prints a line and keeps it.
fn tell(numbers: &mut Numbers, trial: Trial) {
    say!("{}", trial.line());
    numbers.trials.push(trial);
}

/// The line of a rate that was measured with and without something, round by round.
fn beside(name: String, plain: &[f64], burdened: &[f64], more: &str) -> Trial {
    let pairs: Vec<f64> = plain.iter().zip(burdened).map(|(plain, burdened)| burdened / plain).collect();
    let ratio = median(&pairs);
    Trial {
        name,
        figures: format!(
            "{:.0}/s beside {:.0}/s, ratio {ratio:.2} ({:.2} to {:.2}){more}",
            median(burdened),
            median(plain),
            least(&pairs),
            most(&pairs)
        ),
        aim: format!("{RATIO_AIM} at least"),
        met: ratio >= RATIO_AIM,
    }
}

/// A load on topics that are there; an error of it is an error.
async fn applied(server: &Server, speeches: &[Speech], load: &Load) -> io::Result<Report> {
    let connections = load::open(server.address, load.connections).await?;
    let report = load::apply(server, connections, speeches, load).await?;
    match &report.first_error {
        None => Ok(report),
        Some(error) => Err(io::Error::other(format!("{} requests failed: {error}", report.errors))),
    }
}

/// Takes and acks `backlog` messages.
async fn taken(server: &Server, speech: &Speech, batch: usize, backlog: u64, every: Option<u64>) -> io::Result<Report> {
    let load =
        Load { straggler_every: every, ..Load::native(Scenario::PullAck { backlog }, CONSUMERS, batch, TAKE_TIME_MAX) };
    applied(server, std::slice::from_ref(speech), &load).await
}

/// The sum of all samples of a metric.
async fn metric(connection: &mut Connection, speech: &Speech, name: &str) -> io::Result<f64> {
    must(connection, &speech.metrics()).await?;
    let text = String::from_utf8_lossy(connection.body()).into_owned();
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    });
    Ok(samples.sum())
}
