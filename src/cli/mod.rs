//! The command line: reads it, sets up logging, runs what it says.

mod serve;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Flags;

/// A durable queue server in one binary.
#[derive(Debug, Parser)]
#[command(name = "windlass", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    server: ServerArguments,
}

/// What every command that runs or opens a server takes.
#[derive(Debug, Clone, clap::Args)]
struct ServerArguments {
    /// Address and port to serve on; port 0 lets the system choose.
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Directory of everything durable.
    #[arg(long, global = true, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// Configuration file.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until told to stop. The default.
    Serve,
}

/// Why a command failed; said once, at the end.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Reads the command line and does what it says.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let ServerArguments { listen, data_dir, config } = arguments.server;
    let flags = Flags { config, listen, data_dir };
    let done = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::serve(&flags),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("windlass: {}", told(&*failure));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes.
fn told(failure: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(failure), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
