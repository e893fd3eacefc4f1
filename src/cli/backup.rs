//! `windlass backup`: through a running server, or of the directory of a stopped one. Which of the two is said
//! by `--data-dir`, and by nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use ureq::http::Method;

use crate::cli::client::{Client, ClientArguments, Sent};
use crate::cli::exit::{Exit, Failure};
use crate::cli::progress::with_bar;
use crate::cli::show;
use crate::cli::stopped::{Missing, Stopped, StoppedArguments};
use crate::engine::{Backup, BackupProgress, BackupReport, Engine as _};

/// Longest that a server may work on a backup.
const PATIENCE: Duration = Duration::from_secs(24 * 3_600);

/// Puts everything that is durable now into a directory of its own: through the server, on its machine and
/// below its `backup.directory`, or with --data-dir of a stopped one, anywhere.
#[derive(Debug, Args)]
pub struct BackupArguments {
    #[command(flatten)]
    pub(super) client: ClientArguments,
    #[command(flatten)]
    stopped: StoppedArguments,
    /// The directory to make, which must not be there or be empty. Through a server: its name below the server's
    /// `backup.directory`, or its path there.
    #[arg(value_name = "DIRECTORY")]
    dir: PathBuf,
}

/// Does what the arguments say.
pub fn run(arguments: &BackupArguments) -> Result<Exit, Failure> {
    let made = match arguments.stopped.data_dir {
        Some(_) => stopped(arguments)?,
        None => online(arguments)?,
    };
    let field = |name: &str| made[name].as_u64().unwrap_or(0);
    let sentence = format!(
        "{}: {} segments ({} of them linked), {} bytes, up to lsn {}",
        made["directory"].as_str().unwrap_or_default(),
        field("segments"),
        field("linked"),
        field("bytes"),
        field("last_lsn"),
    );
    show::done(arguments.client.output, &made, &sentence)?;
    Ok(Exit::Done)
}

fn online(arguments: &BackupArguments) -> Result<Value, Failure> {
    let client = Client::new(&arguments.client)?;
    let request = json!({"directory": meant(&arguments.dir)?});
    let look = || {
        let under_way = client.get("/backups").ok()?["under_way"].take();
        Some((under_way["done_bytes"].as_u64()?, under_way["bytes"].as_u64()?))
    };
    with_bar(look, || client.ask_waiting(Method::POST, "/backups", &Sent::Json(&request), PATIENCE))
}

/// A name stays a name: the server knows where it belongs. A path is told as it is seen from here.
fn meant(dir: &Path) -> Result<PathBuf, Failure> {
    if dir.components().count() == 1 { Ok(dir.to_owned()) } else { Ok(std::path::absolute(dir)?) }
}

fn stopped(arguments: &BackupArguments) -> Result<Value, Failure> {
    let stopped = Stopped::open(&arguments.stopped, Missing::Refuse)?;
    let progress = Arc::<BackupProgress>::default();
    let backup = Backup { dir: std::path::absolute(&arguments.dir)?, progress: progress.clone() };
    let made = with_bar(|| Some(progress.get()), || stopped.wait(stopped.engine.backup(backup)));
    stopped.close();
    Ok(view(&made?))
}

/// As the server would say it.
fn view(report: &BackupReport) -> Value {
    let files = &report.files;
    json!({
        "name": report.dir.file_name().map(|name| name.to_string_lossy()),
        "directory": report.dir.display().to_string(),
        "segments": files.segments,
        "bytes": files.bytes,
        "last_lsn": files.last_lsn,
        "made_at_ms": files.made_at.get(),
        "linked": report.linked,
    })
}
