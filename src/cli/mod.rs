//! The command line: reads it, runs what it says, and turns the outcome into an exit code.

mod backup;
mod body;
mod chaos;
mod check;
mod client;
mod dump;
mod exit;
mod group;
mod history;
mod index_copy;
mod pair;
mod peek;
mod progress;
mod publish;
mod pull;
mod reindex;
mod restore;
mod serve;
mod settle;
mod show;
mod span;
mod stopped;
mod token;
mod topic;
mod torture;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::bench;
use crate::config::Flags;

use exit::{EXIT_CODES, Exit, Failure, told};

/// A durable queue server in one binary, and its client.
#[derive(Debug, Parser)]
#[command(name = "windlass", version, about, after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    server: ServerArguments,
}

/// What a server is started with.
#[derive(Debug, Clone, clap::Args)]
struct ServerArguments {
    /// Address and port to serve on; port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Directory of everything durable.
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Let topics be given faults on purpose, and write a history: to crash-test consumers. Never where messages
    /// matter to others.
    #[arg(long)]
    chaos: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until told to stop. The default.
    Serve(ServerArguments),
    Topic(topic::TopicArguments),
    Group(group::GroupArguments),
    Publish(publish::PublishArguments),
    Pull(pull::PullArguments),
    Ack(settle::AckArguments),
    Nack(settle::NackArguments),
    Extend(settle::ExtendArguments),
    Bury(settle::BuryArguments),
    Peek(peek::PeekArguments),
    Token(token::TokenArguments),
    Backup(backup::BackupArguments),
    Restore(restore::RestoreArguments),
    Check(check::CheckArguments),
    Dump(dump::DumpArguments),
    Chaos(chaos::ChaosArguments),
    History(history::HistoryArguments),
    Reindex(reindex::ReindexArguments),
    Torture(torture::TortureArguments),
    /// Measures this machine, this server, and what both could reach at best.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Prints the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Reads the command line and does what it says.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let command = arguments.command.unwrap_or(Command::Serve(arguments.server));
    let json = command.prints_json();
    match command.run() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            match &failure {
                Failure::Refused(problem) if json => eprintln!("{problem:#}"),
                _ => eprintln!("windlass: {}", told(&failure)),
            }
            failure.exit().into()
        }
    }
}

impl Command {
    fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Serve(ServerArguments { listen, data_dir, config, chaos }) => {
                serve::serve(&Flags { config, listen, data_dir, chaos }).map(|()| Exit::Done)
            }
            Self::Topic(arguments) => topic::run(&arguments),
            Self::Group(arguments) => group::run(&arguments),
            Self::Publish(arguments) => publish::run(&arguments),
            Self::Pull(arguments) => pull::run(&arguments),
            Self::Ack(arguments) => settle::ack(&arguments),
            Self::Nack(arguments) => settle::nack(&arguments),
            Self::Extend(arguments) => settle::extend(&arguments),
            Self::Bury(arguments) => settle::bury(&arguments),
            Self::Peek(arguments) => peek::run(&arguments),
            Self::Token(arguments) => token::run(&arguments),
            Self::Backup(arguments) => backup::run(&arguments),
            Self::Restore(arguments) => restore::run(&arguments),
            Self::Check(arguments) => check::run(&arguments),
            Self::Dump(arguments) => dump::run(&arguments),
            Self::Chaos(arguments) => chaos::run(&arguments),
            Self::History(arguments) => history::run(&arguments),
            Self::Reindex(arguments) => reindex::run(&arguments),
            Self::Torture(arguments) => torture::run(&arguments),
            Self::Bench(command) => match bench::run(command) {
                Ok(()) => Ok(Exit::Done),
                Err(error) => Err(Failure::said(error.to_string())),
            },
            Self::Completions { shell } => {
                let mut text = Vec::new();
                clap_complete::generate(shell, &mut Arguments::command(), "windlass", &mut text);
                show::write_out(&text)?;
                Ok(Exit::Done)
            }
        }
    }

    /// Whether a refusal is printed as the server's JSON.
    fn prints_json(&self) -> bool {
        let format = match self {
            Self::Topic(arguments) => arguments.client.output,
            Self::Group(arguments) => arguments.client.output,
            Self::Publish(arguments) => arguments.client.output,
            Self::Pull(arguments) => arguments.client.output,
            Self::Ack(arguments) => arguments.leases.client.output,
            Self::Nack(arguments) => arguments.leases.client.output,
            Self::Extend(arguments) => arguments.leases.client.output,
            Self::Bury(arguments) => arguments.leases.client.output,
            Self::Peek(arguments) => arguments.client.output,
            Self::Token(arguments) => arguments.client.output,
            Self::Backup(arguments) => arguments.client.output,
            Self::Chaos(arguments) => arguments.client.output,
            Self::History(arguments) => arguments.client.output,
            Self::Serve(_)
            | Self::Restore(_)
            | Self::Check(_)
            | Self::Dump(_)
            | Self::Reindex(_)
            | Self::Torture(_)
            | Self::Bench(_)
            | Self::Completions { .. } => {
                return false;
            }
        };
        format == show::Format::Json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_holds_together() {
        Arguments::command().debug_assert();
    }
}
