//! `windlass bench`: a lean load generator, the servers it measures, and the ceilings they are held
//! against. Servers are child processes, so that CPU shares are honest. Knows no engine.

/// Prints a line. A reader that went away is no error: what was started is still taken down in good order.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

mod ceiling;
mod compare;
pub(crate) mod connection;
mod flat;
mod histogram;
mod load;
mod numbers;
mod peer;
mod process;
mod report;
mod restart;
pub(crate) mod server;
mod space;
mod speech;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use compare::Comparison;
use flat::FlatArguments;
use load::{Load, Report, Scenario};
use numbers::mib;
use peer::PeerArguments;
use report::ReportArguments;
use server::{Kind, Server};
use space::SpaceArguments;
use speech::Dialect;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Durable publishes, as fast as they are answered.
    Publish(LoadArguments),
    /// Take and ack of a backlog, until it is gone.
    PullAck {
        #[command(flatten)]
        load: LoadArguments,
        /// Messages published beforehand.
        #[arg(long, value_name = "COUNT", default_value_t = 50_000)]
        backlog: u64,
    },
    /// From publish to receipt by a waiting consumer, at a steady rate. Native dialect only.
    Latency {
        #[command(flatten)]
        load: LoadArguments,
        /// Messages a second.
        #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
        rate: u64,
    },
    /// windlass and its ceilings in turn: the table of ratios.
    Compare {
        /// Connections of the plain publishes.
        #[arg(long, value_name = "COUNT", value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
        connections: Vec<usize>,
        /// How often each case runs.
        #[arg(long, value_name = "COUNT", default_value_t = 3)]
        rounds: usize,
        /// Keeps the numbers here.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        #[command(flatten)]
        common: CommonArguments,
    },
    /// Fills a server, kills it with `kill -9`, and measures how it comes back.
    Restart {
        /// Messages waiting at the kill.
        #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
        messages: u64,
        #[command(flatten)]
        common: CommonArguments,
    },
    /// What should not change as more waits: rates, memory and restart by backlog, many topics, groups, pulls, leases.
    Flat(FlatArguments),
    /// Bytes written per body byte, and disk used per live byte, over a steady run.
    Space(SpaceArguments),
    /// Measures all of `compare`, `flat` and `space`, or reads what they kept, and draws one page of it.
    Report(ReportArguments),
    /// The same loads on another server, in its own protocol. Start it yourself, or see benches/peers.
    Peer(PeerArguments),
    /// A ceiling: axum that answers a constant.
    #[command(hide = true)]
    ServeConstant,
    /// A ceiling: axum and a group commit.
    #[command(hide = true)]
    ServeGroupCommit {
        /// The file that it writes.
        log: PathBuf,
    },
}

/// How much, how long, where.
#[derive(Debug, Args)]
pub struct CommonArguments {
    /// Bytes of a body.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    body_bytes: usize,
    /// Seconds of one run.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    duration: u64,
    /// Directory for the data of the servers; on the disk that is to be measured.
    #[arg(long, value_name = "DIRECTORY")]
    scratch: Option<PathBuf>,
}

/// One load.
#[derive(Debug, Args)]
pub struct LoadArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Connections at once.
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    connections: usize,
    /// Messages per request.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    batch: usize,
    /// In whose words.
    #[arg(long, value_enum, default_value_t = Dialect::Native)]
    dialect: Dialect,
    /// A server that runs already. Without it one is started, and its data removed afterwards.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Bearer token for that server; may publish, consume and admin.
    #[arg(id = "bearer", long = "token", env = "WINDLASS_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
}

/// Does what the command says.
pub fn run(command: BenchCommand) -> io::Result<()> {
    match command {
        BenchCommand::Publish(load) => measure(load, Scenario::Publish),
        BenchCommand::PullAck { load, backlog } => measure(load, Scenario::PullAck { backlog }),
        BenchCommand::Latency { load, rate } => measure(load, Scenario::Latency { rate }),
        BenchCommand::Compare { connections, rounds, json, common } => {
            let comparison = Comparison {
                connections,
                rounds: rounds.max(1),
                duration: Duration::from_secs(common.duration),
                body_bytes: common.body_bytes,
                scratch: common.scratch,
            };
            compare::run(&comparison)?.write(json.as_deref())
        }
        BenchCommand::Flat(arguments) => flat::run(&arguments).map(drop),
        BenchCommand::Space(arguments) => space::run(&arguments).map(drop),
        BenchCommand::Restart { messages, common } => {
            let measured = restart::run(messages, common.body_bytes, common.scratch.as_deref())?;
            print_restart(messages, common.body_bytes, &measured);
            Ok(())
        }
        BenchCommand::Report(arguments) => report::run(&arguments),
        BenchCommand::Peer(arguments) => {
            print(&peer::run(&arguments)?);
            Ok(())
        }
        BenchCommand::ServeConstant => ceiling::serve_constant(),
        BenchCommand::ServeGroupCommit { log } => ceiling::serve_group_commit(&log),
    }
}

fn measure(arguments: LoadArguments, scenario: Scenario) -> io::Result<()> {
    let LoadArguments { common, connections, batch, dialect, server, token } = arguments;
    if dialect == Dialect::Cloudflare && matches!(scenario, Scenario::Latency { .. }) {
        return Err(io::Error::other("a pull of the Cloudflare dialect does not wait: there is no latency to measure"));
    }
    let server = match server {
        Some(url) => Server::at(&url)?,
        None => Server::start(Kind::Windlass, common.scratch.as_deref())?,
    };
    // A token from the environment is not for a server that has none.
    let token = token.filter(|_| server.process().is_none());
    let load = Load {
        scenario,
        connections: connections.max(1),
        batch: batch.max(1),
        body_bytes: common.body_bytes,
        duration: Duration::from_secs(common.duration),
        dialect,
        token,
        straggler_every: None,
    };
    print(&load::run(&server, &load)?);
    Ok(())
}

fn print(report: &Report) {
    let share = |cpu: Duration| format!("{:.0} %", cpu.as_secs_f64() / report.elapsed.as_secs_f64().max(1e-9) * 100.0);
    say!("messages/s     {:.0}", report.rate());
    say!("messages       {} in {:.2} s", report.messages, report.elapsed.as_secs_f64());
    for (name, of) in [("p50 ms", 0.5), ("p99 ms", 0.99), ("p99.9 ms", 0.999)] {
        say!("{name:14} {:.2}", report.times.quantile_ms(of));
    }
    say!("refused        {} (429, 503 or 507: sent again)", report.refused);
    match &report.first_error {
        None => say!("errors         0"),
        Some(error) => say!("errors         {} ({error})", report.errors),
    }
    say!("generator CPU  {}", share(report.generator_cpu));
    say!("server CPU     {}", report.server_cpu.map_or_else(|| "not a child".to_owned(), share));
}

fn print_restart(messages: u64, body_bytes: usize, measured: &restart::Restart) {
    say!("messages           {messages} x {body_bytes} B, filled in {:.1} s", measured.filled_in.as_secs_f64());
    say!("data directory     {}", mib(measured.disk_bytes));
    say!("RSS before kill    {}", mib(measured.resident_before));
    say!("ready after        {:.0} ms", measured.ready_after.as_secs_f64() * 1e3);
    say!("first pull after   {:.0} ms", measured.first_pull_after.as_secs_f64() * 1e3);
    say!("RSS when ready     {}", mib(measured.resident_ready));
    say!("RSS after pull     {}", mib(measured.resident_pulled));
}
