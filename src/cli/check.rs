//! `windlass check`: reads the log of a stopped server and says whether it is whole. Changes nothing.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure};
use crate::cli::show::{self, Format};
use crate::cli::stopped::must_be_there;
use crate::disk::RealDisk;
use crate::engine::{Home, HomeError};
use crate::log::{CheckReport, MarkError, Place, check, read_mark};

/// Verifies every frame of a stopped server's log, without changing anything. Exit code 5: damage.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The data directory.
    #[arg(value_name = "DIRECTORY")]
    dir: PathBuf,
    /// How to print the findings.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Does what the arguments say.
pub fn run(arguments: &CheckArguments) -> Result<Exit, Failure> {
    must_be_there(&arguments.dir)?;
    let watched = Home::watch(&arguments.dir)?;
    match Home::prove(&arguments.dir) {
        Err(HomeError::Damaged { path, what }) => {
            let file = path.file_name().map(|name| name.to_string_lossy());
            let damage = json!({"file": file, "at_byte": 0, "why": what});
            return tell(arguments.output, &json!({"whole": false, "damage": damage}));
        }
        proven => proven?,
    }
    let place = if watched.is_copy { Place::Copy } else { Place::Original };
    let mark = match read_mark(&RealDisk, &arguments.dir) {
        Ok(mark) => mark,
        Err(MarkError::Damaged { at_byte, .. }) => {
            let damage = json!({"file": "CLEAN", "at_byte": at_byte, "why": "the mark of the clean stop is damaged"});
            return tell(arguments.output, &json!({"whole": false, "damage": damage}));
        }
        Err(error) => return Err(error.into()),
    };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} segments, {eta} left");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let report = check(&RealDisk, &arguments.dir, place, mark, &mut |progress| {
        bar.set_length(progress.segments as u64);
        bar.set_position(progress.done as u64);
    })?;
    bar.finish_and_clear();
    drop(watched);
    tell(arguments.output, &view(&report))
}

fn view(report: &CheckReport) -> Value {
    let damage = report.damage.as_ref();
    let torn = report.torn.as_ref();
    json!({
        "whole": damage.is_none(),
        "segments": report.segments,
        "frames": report.frames,
        "entries": report.entries,
        "records": report.records,
        "bytes": report.bytes,
        "last_lsn": report.last.get(),
        "torn": torn.map(|torn| json!({"file": torn.file, "at_byte": torn.at_byte, "bytes": torn.bytes})),
        "damage": damage.map(|damage| json!({"file": damage.file, "at_byte": damage.at_byte, "why": damage.why})),
    })
}

fn tell(format: Format, view: &Value) -> Result<Exit, Failure> {
    show::thing(format, view)?;
    let whole = view["whole"] == true;
    if format == Format::Table {
        let sentence = match whole {
            true if view["torn"].is_object() => "the log is whole up to a torn tail, which the next start will cut off",
            true => "the log is whole",
            false => "the log is damaged; nothing behind the damage was read",
        };
        show::write_out(format!("{sentence}\n").as_bytes())?;
    }
    Ok(if whole { Exit::Done } else { Exit::Damaged })
}
