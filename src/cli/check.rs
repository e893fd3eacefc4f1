//! `windlass check`: reads the log of a stopped server and says whether it is whole. Changes nothing.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure};
use crate::cli::show::{self, Format};
use crate::cli::stopped::must_be_there;
use crate::disk::RealDisk;
use crate::engine::{Home, HomeError, Watched};
use crate::log::{CheckReport, Damage, MarkError, Place, check, read_mark};

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

/// A log that was read through, and nobody writes to as long as this lives.
pub struct Looked {
    /// Whether the directory is where it was made.
    pub place: Place,
    /// What was found.
    pub report: CheckReport,
    _watched: Watched,
}

/// Reads the log of a stopped server through.
pub fn looked(dir: &Path) -> Result<Looked, Failure> {
    must_be_there(dir)?;
    let watched = Home::watch(dir)?;
    let place = if watched.is_copy { Place::Copy } else { Place::Original };
    let mark = match read_mark(&RealDisk, dir) {
        Ok(mark) => mark,
        Err(MarkError::Damaged { at_byte, .. }) => {
            let why = "the mark of the clean stop is damaged".to_owned();
            let damage = Damage { file: "CLEAN".to_owned(), at_byte, why };
            let report = CheckReport { damage: Some(damage), ..CheckReport::default() };
            return Ok(Looked { place, report, _watched: watched });
        }
        Err(error) => return Err(error.into()),
    };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} segments, {eta} left");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let report = check(&RealDisk, dir, place, mark, &mut |progress| {
        bar.set_length(progress.segments as u64);
        bar.set_position(progress.done as u64);
    })?;
    bar.finish_and_clear();
    Ok(Looked { place, report, _watched: watched })
}

/// Does what the arguments say.
pub fn run(arguments: &CheckArguments) -> Result<Exit, Failure> {
    must_be_there(&arguments.dir)?;
    match Home::prove(&arguments.dir) {
        Err(HomeError::Damaged { path, what }) => {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let damage = Damage { file, at_byte: 0, why: what.to_string() };
            let report = CheckReport { damage: Some(damage), ..CheckReport::default() };
            return tell(arguments.output, &view(&report));
        }
        proven => proven?,
    }
    tell(arguments.output, &view(&looked(&arguments.dir)?.report))
}

/// Damage as JSON.
pub fn damage_view(damage: &Damage) -> Value {
    json!({"file": damage.file, "at_byte": damage.at_byte, "why": damage.why})
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
        "damage": damage.map(damage_view),
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
