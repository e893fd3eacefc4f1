//! `windlass reindex`: builds the index of a stopped server again from its log.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::show::{self, Format};
use crate::cli::stopped::{Missing, Stopped, StoppedArguments};

/// Sets the index of a stopped server aside and builds it again from the log.
#[derive(Debug, Args)]
pub struct ReindexArguments {
    /// The data directory.
    #[arg(value_name = "DIRECTORY")]
    dir: PathBuf,
    /// Configuration file of the server.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to print what was done.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Does what the arguments say.
pub fn run(arguments: &ReindexArguments) -> Result<Exit, Failure> {
    let place = StoppedArguments { data_dir: Some(arguments.dir.clone()), config: arguments.config.clone() };
    let stopped = Stopped::open_after(&place, Missing::Refuse, |home, clock| Ok(home.set_index_aside(clock)?))?;
    let last = stopped.engine.report().last.get();
    stopped.close();
    let sentence = format!("the index was built again from the log up to lsn {last}; the old one lies beside it");
    show::done(arguments.output, &json!({"reindexed": true, "last_lsn": last}), &sentence)?;
    Ok(Exit::Done)
}
