//! `windlass bench report`: the whole table measured, or read from earlier files, and one page made of it: HTML with
//! its drawings inside, the numbers as JSON and the main drawings as one SVG beside it.

mod page;
mod plot;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::bench::compare::{self, Comparison};
use crate::bench::flat::{self, FlatArguments};
use crate::bench::numbers::{Numbers, Run, Size, least, median, most};
use crate::bench::server::Kind;
use crate::bench::space::{self, SpaceArguments};
use plot::{Bar, Bars, Chart, Drawing, Look, Point, Scale, Series};

/// What goes into a report.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// The page. The numbers go into a `.json` and the main drawings into an `.svg` of the same name.
    #[arg(value_name = "FILE.html")]
    page: PathBuf,
    /// Numbers that were kept by `--json`, of windlass and of its peers: drawn, and nothing is measured.
    #[arg(long, value_name = "FILE")]
    from: Vec<PathBuf>,
    /// Numbers to be drawn beside those that are measured now, such as those of the peers.
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    beside: Vec<PathBuf>,
    /// Connections of the plain publishes.
    #[arg(long, value_name = "COUNT", value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    connections: Vec<usize>,
    /// Messages waiting; a server each.
    #[arg(long, value_name = "COUNT", value_delimiter = ',', default_values_t = [10_000, 1_000_000, 10_000_000])]
    sizes: Vec<u64>,
    /// How often each case runs.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    rounds: usize,
    /// Seconds of one run.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    duration: u64,
    /// Seconds of the steady run that measures space.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    steady: u64,
    /// Few topics, groups, pulls and leases: a look at the page, not at the server.
    #[arg(long)]
    small: bool,
    /// Directory for the data of the servers; on the disk that is to be measured.
    #[arg(long, value_name = "DIRECTORY")]
    scratch: Option<PathBuf>,
}

/// Measures or reads, and writes the page with what lies beside it.
pub fn run(arguments: &ReportArguments) -> io::Result<()> {
    let mut numbers = if arguments.from.is_empty() { measured(arguments)? } else { Numbers::default() };
    for path in arguments.from.iter().chain(&arguments.beside) {
        numbers.add(Numbers::read(path)?);
    }
    let beside = |ending: &str| arguments.page.with_extension(ending);
    numbers.write(Some(&beside("json")))?;
    let figures = Figures::of(&numbers);
    std::fs::write(&arguments.page, page::html(&numbers, &figures))?;
    std::fs::write(beside("svg"), figures.together().svg())?;
    say!("{}, with {} and {} beside it", shown(&arguments.page), shown(&beside("json")), shown(&beside("svg")));
    Ok(())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn measured(arguments: &ReportArguments) -> io::Result<Numbers> {
    let ReportArguments { rounds, duration, scratch, .. } = arguments;
    let (rounds, duration) = ((*rounds).max(1), *duration);
    let mut numbers = compare::run(&Comparison {
        connections: arguments.connections.clone(),
        rounds,
        duration: Duration::from_secs(duration),
        body_bytes: 1024,
        scratch: scratch.clone(),
    })?;
    let all = FlatArguments::for_report(arguments.sizes.clone(), rounds, duration, scratch.clone());
    numbers.add(flat::run(&if arguments.small { all.small() } else { all })?);
    numbers.add(space::run(&SpaceArguments::for_report(arguments.steady, scratch.clone()))?);
    Ok(numbers)
}

/// The drawings of a report; those without figures are left out.
pub struct Figures {
    /// Rates and times by connections.
    pub by_connections: Vec<Drawing>,
    /// Batches and takes.
    pub bars: Vec<Drawing>,
    /// Rates, memory and restart by backlog.
    pub by_backlog: Vec<Drawing>,
}

/// Names in the order in which they are drawn, with their looks; what is not listed comes first, in grey.
const LOOKS: &[(&str, Look)] = &[
    ("constant", Look { colour: "#b3bac0", dash: "2 3", width: 1.5 }),
    ("group commit", Look { colour: "#6b7680", dash: "6 3", width: 1.5 }),
    ("postgresql", Look { colour: "#0072b2", dash: "", width: 1.5 }),
    ("rabbitmq", Look { colour: "#e69f00", dash: "", width: 1.5 }),
    ("nats", Look { colour: "#56b4e9", dash: "", width: 1.5 }),
    ("beanstalkd", Look { colour: "#cc79a7", dash: "", width: 1.5 }),
    ("redis", Look { colour: "#d55e00", dash: "", width: 1.5 }),
    ("windlass", Look { colour: "#00795a", dash: "", width: 3.0 }),
];
const OTHER: Look = Look { colour: "#999999", dash: "", width: 1.5 };

fn look(name: &str) -> Look {
    LOOKS.iter().find(|(known, _)| *known == name).map_or(OTHER, |(_, look)| *look)
}

/// What a person calls it.
fn called(name: &str) -> String {
    match name {
        "constant" => "axum alone".to_owned(),
        "group commit" => "group commit".to_owned(),
        "redis" => "Redis".to_owned(),
        "nats" => "NATS".to_owned(),
        "postgresql" => "PostgreSQL".to_owned(),
        "rabbitmq" => "RabbitMQ".to_owned(),
        other => other.to_owned(),
    }
}

/// Who was measured, in the order of drawing.
fn names(runs: &[&Run]) -> Vec<String> {
    let mut names: Vec<String> = runs.iter().map(|run| run.who.clone()).collect();
    names.sort_by_key(|name| LOOKS.iter().position(|(known, _)| known == name).map_or(0, |place| place + 1));
    names.dedup();
    names
}

fn point(step: usize, figures: &[f64]) -> Point {
    Point { step, value: median(figures), low: least(figures), high: most(figures) }
}

impl Figures {
    /// Draws what there are numbers for.
    pub fn of(numbers: &Numbers) -> Self {
        Self { by_connections: by_connections(numbers), bars: bars(numbers), by_backlog: by_backlog(&numbers.sizes) }
    }

    /// The main ones in one drawing.
    pub fn together(&self) -> Drawing {
        let chosen = self.by_connections.iter().take(2).chain(self.by_backlog.iter().take(2));
        Drawing::tiled(&chosen.cloned().collect::<Vec<_>>(), 2)
    }
}

fn by_connections(numbers: &Numbers) -> Vec<Drawing> {
    // What touches no disk would press all others down to the axis: it stands in the table.
    let drawn = |run: &&Run| run.case == "publish" && run.batch == 1 && run.who != Kind::Constant.name();
    let runs: Vec<&Run> = numbers.runs.iter().filter(drawn).collect();
    let mut steps: Vec<usize> = runs.iter().map(|run| run.connections).collect();
    steps.sort_unstable();
    steps.dedup();
    if steps.is_empty() {
        return Vec::new();
    }
    type Read = fn(&Run) -> f64;
    let drawn: [(&str, &str, Scale, Read); 3] = [
        ("Durable publish, 1 KiB", "messages a second, each synced before its answer", Scale::Linear, |run| run.rate),
        ("Time of a publish, 99th percentile", "ms", Scale::Log, |run| run.p99_ms),
        ("Time of a publish, median", "ms", Scale::Log, |run| run.p50_ms),
    ];
    let drawn = drawn.map(|(title, y_name, scale, read)| {
        let series = names(&runs).into_iter().map(|name| {
            let points = steps.iter().enumerate().filter_map(|(step, connections)| {
                let of = runs.iter().filter(|run| run.who == name && run.connections == *connections);
                let figures: Vec<f64> = of.map(|run| read(run)).collect();
                (!figures.is_empty()).then(|| point(step, &figures))
            });
            Series { look: look(&name), points: points.collect(), name: called(&name) }
        });
        let chart = Chart {
            title: title.to_owned(),
            x_name: "connections, one message per request".to_owned(),
            y_name: y_name.to_owned(),
            steps: steps.iter().map(usize::to_string).collect(),
            scale,
            series: series.collect(),
            aim: None,
        };
        chart.draw()
    });
    drawn.into()
}

fn bars(numbers: &Numbers) -> Vec<Drawing> {
    let drawn = [
        ("publish", 100, "Durable publish, 16 connections x 100 a batch, messages/s"),
        ("take_ack", 1, "Take + ack of a backlog, 16 consumers, one by one, messages/s"),
        ("take_ack", 100, "Take + ack of a backlog, 16 consumers x 100 a batch, messages/s"),
    ];
    let drawn = drawn.into_iter().filter_map(|(case, batch, title)| {
        let drawn = |run: &&Run| run.case == case && run.batch == batch && run.who != Kind::Constant.name();
        let runs: Vec<&Run> = numbers.runs.iter().filter(drawn).collect();
        let bars = names(&runs).into_iter().rev().map(|name| {
            let rates: Vec<f64> = runs.iter().filter(|run| run.who == name).map(|run| run.rate).collect();
            Bar { colour: look(&name).colour, point: point(0, &rates), name: called(&name) }
        });
        let bars: Vec<Bar> = bars.collect();
        (!bars.is_empty()).then(|| Bars { title: title.to_owned(), bars }.draw())
    });
    drawn.collect()
}

fn by_backlog(sizes: &[Size]) -> Vec<Drawing> {
    // One size of bodies per drawing: that of the most sizes.
    let Some(body_bytes) = sizes
        .iter()
        .map(|size| size.body_bytes)
        .max_by_key(|bytes| sizes.iter().filter(|size| size.body_bytes == *bytes).count())
    else {
        return Vec::new();
    };
    let sizes: Vec<&Size> = sizes.iter().filter(|size| size.body_bytes == body_bytes).collect();
    let steps: Vec<String> = sizes.iter().map(|size| plot::brief(size.waiting as f64)).collect();
    let chart = |title: &str, y_name: &str, series: Vec<Series>, aim: (f64, &str)| {
        let (title, y_name, aim) = (title.to_owned(), y_name.to_owned(), Some((aim.0, aim.1.to_owned())));
        let x_name = format!("messages waiting, {body_bytes} B each");
        Chart { title, x_name, y_name, steps: steps.clone(), scale: Scale::Linear, series, aim }.draw()
    };
    let series = |name: &str, colour: &'static str, read: &dyn Fn(&Size, &Size) -> Vec<f64>| {
        let points = sizes.iter().enumerate().filter_map(|(step, size)| {
            let figures = read(size, sizes.first()?);
            (!figures.is_empty()).then(|| point(step, &figures))
        });
        Series { name: name.to_owned(), look: Look { colour, dash: "", width: 2.5 }, points: points.collect() }
    };
    let ratios = |own: &[f64], first: &[f64]| own.iter().zip(first).map(|(own, first)| own / first).collect();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    vec![
        chart(
            "Rates by backlog",
            "of the rate with the smallest backlog, round by round",
            vec![
                series("take + ack x 1", "#56b4e9", &|size, first| ratios(&size.take_single, &first.take_single)),
                series("take + ack x 100", "#0072b2", &|size, first| ratios(&size.take_batch, &first.take_batch)),
                series("publish", "#00795a", &|size, first| ratios(&size.publish, &first.publish)),
            ],
            (0.9, "aim: 0.9"),
        ),
        chart(
            "Ready again after kill -9",
            "seconds from the start of the process until it serves",
            vec![series("seconds", "#00795a", &|size, _| size.ready_seconds.clone())],
            (1.0, "aim: 1 s"),
        ),
        chart(
            "Memory by backlog",
            "MiB resident",
            vec![
                series("after a restart", "#56b4e9", &|size, _| vec![mib(size.resident_ready)]),
                series("under load", "#00795a", &|size, _| size.resident.iter().map(|bytes| mib(*bytes)).collect()),
            ],
            (150e6 / f64::from(1 << 20), "aim: 150 MB"),
        ),
    ]
}
