//! The figures of runs as JSON, so that a report can be drawn from runs of different days and several commands.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::bench::load::{Report, Scenario};
use crate::clock::{Clock as _, SystemClock};
use crate::http::time::rfc3339;

/// All figures of one file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Numbers {
    /// Of which machine; nothing where others than this binary wrote them.
    pub about: Option<About>,
    /// Loads by connections.
    pub runs: Vec<Run>,
    /// Rates by backlog.
    pub sizes: Vec<Size>,
    /// What stays flat in other respects.
    pub trials: Vec<Trial>,
}

/// Where and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct About {
    /// Version of windlass.
    pub version: String,
    /// When the figures were written down, UTC.
    pub at: String,
    /// Processors, memory, kernel.
    pub machine: String,
    /// The command that took them.
    pub command: String,
}

/// One run of one load on one server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// `publish`, `take_ack` or `latency`.
    pub case: String,
    /// Connections at once.
    pub connections: usize,
    /// Messages per request.
    pub batch: usize,
    /// The server's name.
    pub who: String,
    /// Messages a second.
    pub rate: f64,
    /// Median time of a request.
    pub p50_ms: f64,
    /// Its 99th percentile.
    pub p99_ms: f64,
    /// Its 99.9th.
    pub p999_ms: f64,
    /// Requests that failed.
    pub errors: u64,
}

/// What was measured with so many messages waiting; rates round by round.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Size {
    /// Messages waiting.
    pub waiting: u64,
    /// Bytes of a body.
    pub body_bytes: u64,
    /// Publishes a second.
    pub publish: Vec<f64>,
    /// Taken and acked a second, one by one.
    pub take_single: Vec<f64>,
    /// Taken and acked a second, by the hundred.
    pub take_batch: Vec<f64>,
    /// Memory of the server after each round, in bytes.
    pub resident: Vec<u64>,
    /// Seconds from the start after a kill until it serves.
    pub ready_seconds: Vec<f64>,
    /// Memory then, in bytes.
    pub resident_ready: u64,
    /// Bytes of the data directory at the kill.
    pub disk_bytes: u64,
}

/// One line of figures with its aim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trial {
    /// What was tried.
    pub name: String,
    /// What came of it.
    pub figures: String,
    /// What was hoped for; empty: nothing.
    pub aim: String,
    /// Whether it was reached.
    pub met: bool,
}

impl Trial {
    /// The line that is printed.
    pub fn line(&self) -> String {
        let Self { name, figures, aim, met } = self;
        match (aim.is_empty(), met) {
            (true, _) => format!("{name}: {figures}"),
            (false, true) => format!("{name}: {figures} (aim {aim}: reached)"),
            (false, false) => format!("{name}: {figures} (aim {aim}: MISSED)"),
        }
    }
}

impl Numbers {
    /// Reads a file.
    pub fn read(path: &Path) -> io::Result<Self> {
        let wrong = |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
        let bytes = std::fs::read(path).map_err(|error| wrong(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| wrong(&error))
    }

    /// Writes them where they are wanted, with what is known of here and now.
    pub fn write(&mut self, path: Option<&Path>) -> io::Result<()> {
        self.about.get_or_insert_with(About::here);
        let Some(path) = path else { return Ok(()) };
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        std::fs::write(path, text + "\n")
    }

    /// Adds those of another file: what this one says of the machine stands.
    pub fn add(&mut self, other: Self) {
        self.about = self.about.take().or(other.about);
        self.runs.extend(other.runs);
        self.trials.extend(other.trials);
        for size in other.sizes {
            let same = |known: &&mut Size| (known.waiting, known.body_bytes) == (size.waiting, size.body_bytes);
            match self.sizes.iter_mut().find(same) {
                None => self.sizes.push(size),
                Some(known) => {
                    known.publish.extend(size.publish);
                    known.take_single.extend(size.take_single);
                    known.take_batch.extend(size.take_batch);
                    known.resident.extend(size.resident);
                    known.ready_seconds.extend(size.ready_seconds);
                    known.resident_ready = known.resident_ready.max(size.resident_ready);
                    known.disk_bytes = known.disk_bytes.max(size.disk_bytes);
                }
            }
        }
        self.sizes.sort_by_key(|size| (size.body_bytes, size.waiting));
    }
}

impl Run {
    /// What a report says.
    pub fn new(who: &str, scenario: Scenario, connections: usize, batch: usize, report: &Report) -> Self {
        let case = match scenario {
            Scenario::Publish => "publish",
            Scenario::PullAck { .. } => "take_ack",
            Scenario::Latency { .. } => "latency",
        };
        Self {
            case: case.to_owned(),
            connections,
            batch,
            who: who.to_owned(),
            rate: report.rate(),
            p50_ms: report.times.quantile_ms(0.5),
            p99_ms: report.times.quantile_ms(0.99),
            p999_ms: report.times.quantile_ms(0.999),
            errors: report.errors,
        }
    }
}

impl About {
    /// This machine, now.
    pub fn here() -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
            found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let (processors, memory) = (file("/proc/cpuinfo"), file("/proc/meminfo"));
        let count = processors.lines().filter(|line| line.starts_with("processor")).count();
        let memory: u64 = after(&memory, "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
        let kernel = file("/proc/sys/kernel/osrelease");
        let mut arguments = std::env::args();
        let program = arguments.next().unwrap_or_default();
        let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: rfc3339(SystemClock::new().wall()),
            machine: format!(
                "{count} x {}, {} GiB, Linux {}",
                after(&processors, "model name"),
                memory.div_ceil(1 << 20),
                kernel.trim()
            ),
            command: std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" "),
        }
    }
}

/// The middle of some figures.
pub fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}

/// The least of some figures.
pub fn least(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The most of some figures.
pub fn most(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(0.0, f64::max)
}

/// Bytes for people.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_one_size_are_put_together_and_sizes_stand_in_order() {
        let size = |waiting: u64, rate: f64| Size { waiting, publish: vec![rate], ..Size::default() };
        let mut numbers = Numbers { sizes: vec![size(200, 1.0)], ..Numbers::default() };
        numbers.add(Numbers { sizes: vec![size(100, 3.0), size(200, 2.0)], ..Numbers::default() });
        let told: Vec<_> = numbers.sizes.iter().map(|size| (size.waiting, size.publish.clone())).collect();
        assert_eq!(told, [(100, vec![3.0]), (200, vec![1.0, 2.0])]);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }
}
