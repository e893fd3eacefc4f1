//! windlass and the ceilings side by side: every case in turn for each, several rounds, medians and spread.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::bench::load::{self, Load, Scenario};
use crate::bench::numbers::{Numbers, Run, least, median, most};
use crate::bench::server::{Kind, Server};
use crate::bench::speech::Dialect;

/// What is compared.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Connections of the plain publishes.
    pub connections: Vec<usize>,
    /// How often each case runs.
    pub rounds: usize,
    /// How long a run is.
    pub duration: Duration,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Where the data goes.
    pub scratch: Option<PathBuf>,
}

/// One line of the table.
struct Case {
    name: String,
    load: Load,
    against: Vec<Kind>,
}

/// Backlogs: a second or two of work.
const BACKLOG_SINGLE: u64 = 30_000;
const BACKLOG_BATCH: u64 = 200_000;
const CONSUMERS: usize = 16;
const LATENCY_RATE: u64 = 1_000;

fn cases(comparison: &Comparison) -> Vec<Case> {
    let load = |scenario, connections, batch| Load {
        scenario,
        connections,
        batch,
        body_bytes: comparison.body_bytes,
        duration: comparison.duration,
        dialect: Dialect::Native,
        token: None,
        straggler_every: None,
    };
    let publish = |connections: usize, batch: usize| Case {
        name: format!("publish, {connections} x {batch}"),
        load: load(Scenario::Publish, connections, batch),
        against: vec![Kind::Windlass, Kind::GroupCommit, Kind::Constant],
    };
    let take = |batch: usize, backlog: u64| Case {
        name: format!("take + ack, {CONSUMERS} x {batch}"),
        // Ends when the backlog does; the limit is for a server that stands still.
        load: Load { duration: Duration::from_secs(120), ..load(Scenario::PullAck { backlog }, CONSUMERS, batch) },
        against: vec![Kind::Windlass, Kind::GroupCommit],
    };
    let mut cases: Vec<Case> = comparison.connections.iter().map(|connections| publish(*connections, 1)).collect();
    cases.push(publish(16, 100));
    cases.push(take(1, BACKLOG_SINGLE));
    cases.push(take(100, BACKLOG_BATCH));
    cases.push(Case {
        name: format!("latency at {LATENCY_RATE}/s"),
        load: load(Scenario::Latency { rate: LATENCY_RATE }, 8, 1),
        against: vec![Kind::Windlass, Kind::GroupCommit],
    });
    cases
}

/// Runs all cases and prints the table, line by line as each is known.
pub fn run(comparison: &Comparison) -> io::Result<Numbers> {
    let mut numbers = Numbers::default();
    say!(
        "{:24} {:>12} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8}  ratio of medians (least to most)",
        "",
        "median",
        "spread",
        "p50 ms",
        "p99 ms",
        "p99.9",
        "gen cpu",
        "srv cpu"
    );
    for case in cases(comparison) {
        let mut reports: Vec<Vec<load::Report>> = vec![Vec::new(); case.against.len()];
        for _ in 0..comparison.rounds {
            for (kind, reports) in case.against.iter().zip(&mut reports) {
                let server = Server::start(*kind, comparison.scratch.as_deref())?;
                let report = load::run(&server, &case.load)?;
                if let Some(error) = &report.first_error {
                    eprintln!("{}, {}: {} errors: {error}", case.name, kind.name(), report.errors);
                }
                if report.refused > 0 {
                    eprintln!("{}, {}: refused for now {} times", case.name, kind.name(), report.refused);
                }
                let Load { scenario, connections, batch, .. } = case.load;
                numbers.runs.push(Run::new(kind.name(), scenario, connections, batch, &report));
                reports.push(report);
            }
        }
        print_case(&case, &reports);
    }
    Ok(numbers)
}

/// Higher is better: rates as they are; of latencies the median time, turned over for the ratio.
fn figure(case: &Case, report: &load::Report) -> f64 {
    match case.load.scenario {
        Scenario::Publish | Scenario::PullAck { .. } => report.rate(),
        Scenario::Latency { .. } => 1.0 / report.times.quantile_ms(0.5).max(1e-3),
    }
}

fn print_case(case: &Case, reports: &[Vec<load::Report>]) {
    say!("{}", case.name);
    let own: Vec<f64> = reports.first().into_iter().flatten().map(|report| figure(case, report)).collect();
    for (kind, reports) in case.against.iter().zip(reports) {
        let figures: Vec<f64> = reports.iter().map(|report| figure(case, report)).collect();
        let time =
            |share: f64| median(&reports.iter().map(|report| report.times.quantile_ms(share)).collect::<Vec<_>>());
        let cpu = |of: fn(&load::Report) -> Duration| {
            let shares = reports.iter().map(|report| of(report).as_secs_f64() / report.elapsed.as_secs_f64().max(1e-9));
            format!("{:.0} %", median(&shares.collect::<Vec<_>>()) * 100.0)
        };
        let middle = median(&figures);
        let spread = (most(&figures) - least(&figures)) / middle * 100.0;
        let shown = match case.load.scenario {
            Scenario::Publish | Scenario::PullAck { .. } => format!("{middle:.0}/s"),
            Scenario::Latency { .. } => format!("{:.2} ms", 1.0 / middle),
        };
        let ratio = if *kind == Kind::Windlass {
            String::new()
        } else {
            // Round by round: both ran within seconds of each other.
            let pairs: Vec<f64> = own.iter().zip(&figures).map(|(own, other)| own / other).collect();
            format!("{:.2} ({:.2} to {:.2})", median(&own) / middle, least(&pairs), most(&pairs))
        };
        say!(
            "  {:22} {shown:>12} {:>10} {:>8.2} {:>8.2} {:>8.2} {:>8} {:>8}  {ratio}",
            kind.name(),
            format!("{spread:.0} %"),
            time(0.5),
            time(0.99),
            time(0.999),
            cpu(|report| report.generator_cpu),
            cpu(|report| report.server_cpu.unwrap_or_default()),
        );
    }
}
