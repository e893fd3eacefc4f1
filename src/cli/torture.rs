//! `windlass torture`: kills a server of its own again and again, and says whether it kept its promises.

use std::path::PathBuf;

use clap::Args;

use crate::cli::exit::{Exit, Failure};
use crate::cli::progress::rounds;
use crate::cli::show::{self, Format};
use crate::torture::speech::Dialect;
use crate::torture::wreck::{Killer, LyingDisk, Reaper};
use crate::torture::{Plan, Settings, torture};

/// Kills a server of its own again and again under load, and holds every message's history against the promises.
///
/// In a tenth of the rounds the index is deleted or damaged; some rounds copy the directory under load, or hold the
/// server up for two leases. What the run writes is removed, unless a promise was broken. SIGKILL proves nothing
/// about what a power cut leaves. Exit code 5: a promise was broken.
#[derive(Debug, Args)]
pub struct TortureArguments {
    /// How often to kill it.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    kills: u64,
    /// Draws the same load and the same moments as an earlier run; what meets what is up to the machine. Default: a
    /// new one.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Where the run makes a directory for itself. Default: the system's temporary one.
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// The windlass to torture. Default: this one.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Whose clients take part.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Dialect::ALL)]
    dialects: Vec<Dialect>,
    /// Runs the server as it comes, not with small segments and frequent checkpoints, of which more is killed in
    /// the middle of its work.
    #[arg(long)]
    default_settings: bool,
    /// Shows that the check bites: after each kill the end of the log is lost, as on a disk that lies about syncs.
    /// No server passes this.
    #[arg(long)]
    lying_disk: bool,
    /// How to print the verdict.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Does what the arguments say.
pub fn run(arguments: &TortureArguments) -> Result<Exit, Failure> {
    let binary = match &arguments.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()?,
    };
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => getrandom::u64().map_err(|error| Failure::said(error.to_string()))?,
    };
    let plan = Plan {
        parent: arguments.dir.clone(),
        dialects: arguments.dialects.clone(),
        settings: if arguments.default_settings { Settings::Default } else { Settings::Busy },
        ..Plan::new(binary, arguments.kills, seed)
    };
    let mut reaper: Box<dyn Reaper> = if arguments.lying_disk { Box::new(LyingDisk) } else { Box::new(Killer) };
    let bar = rounds(arguments.kills, "kills");
    bar.tick();
    let verdict = torture(&plan, reaper.as_mut(), &mut |round| bar.set_position(round));
    bar.finish_and_clear();
    let verdict = verdict?;
    show::done(arguments.output, &verdict.to_json(), &verdict.told())?;
    Ok(if verdict.broken.is_none() { Exit::Done } else { Exit::Damaged })
}
