//! `windlass check`: reads the log of a stopped server and says whether it is whole, and whether the index beside it
//! says the same. Changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure};
use crate::cli::index_copy::IndexCopy;
use crate::cli::show::{self, Format};
use crate::cli::stopped::must_be_there;
use crate::disk::RealDisk;
use crate::engine::{
    Agreement, Beside, Compared, Comparing, Difference, Home, HomeError, RecoverError, Watched, compare_index,
};
use crate::log::{CheckReport, Damage, MarkError, OpenError, Options, Place, check, read_mark};

/// Verifies every frame of a stopped server's log, and that its index says the same, without changing anything.
/// Exit code 5: damage, or an index that says something else.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The data directory.
    #[arg(value_name = "DIRECTORY")]
    dir: PathBuf,
    /// Where the index is copied to for the look, and another one is built; both are removed again. The system's
    /// directory for temporary files, if left out.
    #[arg(long, value_name = "DIRECTORY")]
    scratch: Option<PathBuf>,
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

/// What came of the index.
#[derive(Debug)]
enum IndexFound {
    /// It was not looked at: the log is damaged.
    NotRead,
    /// There is none, or nothing is in it.
    Empty,
    /// A start would not use it, for this reason.
    SetAside(String),
    /// It was compared.
    Compared(Compared),
}

/// Does what the arguments say.
pub fn run(arguments: &CheckArguments) -> Result<Exit, Failure> {
    must_be_there(&arguments.dir)?;
    match Home::prove(&arguments.dir) {
        Err(HomeError::Damaged { path, what }) => {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let damage = Damage { file, at_byte: 0, why: what.to_string() };
            let report = CheckReport { damage: Some(damage), ..CheckReport::default() };
            return tell(arguments.output, &report, &IndexFound::NotRead);
        }
        proven => proven?,
    }
    let mut looked = looked(&arguments.dir)?;
    let scratch = arguments.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let index = match index_found(&arguments.dir, &looked, &scratch) {
        Ok(found) => found,
        // A tail that is torn by itself is damage if the index covers it.
        Err(IndexFailure::Damage(damage)) => {
            (looked.report.damage, looked.report.torn) = (Some(damage), None);
            IndexFound::NotRead
        }
        Err(IndexFailure::Other(failure)) => return Err(failure),
    };
    tell(arguments.output, &looked.report, &index)
}

enum IndexFailure {
    /// Only with the index it shows: what it covers is not there.
    Damage(Damage),
    Other(Failure),
}

impl From<Failure> for IndexFailure {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<RecoverError> for IndexFailure {
    fn from(error: RecoverError) -> Self {
        match error {
            RecoverError::Log(OpenError::Damaged { file, at_byte, why }) => Self::Damage(Damage { file, at_byte, why }),
            RecoverError::Log(OpenError::MissingSegment { file, why }) => {
                Self::Damage(Damage { file, at_byte: 0, why })
            }
            error => Self::Other(Failure::Other(Box::new(error))),
        }
    }
}

fn index_found(dir: &Path, looked: &Looked, scratch: &Path) -> Result<IndexFound, IndexFailure> {
    if looked.report.damage.is_some() {
        return Ok(IndexFound::NotRead);
    }
    if looked.place == Place::Copy {
        return Ok(IndexFound::SetAside("the directory is a copy".to_owned()));
    }
    let index = dir.join("index");
    if !index.exists() {
        return Ok(IndexFound::Empty);
    }
    let copy = IndexCopy::make(&index, scratch)?;
    let beside = Beside {
        disk: RealDisk,
        data_dir: dir.to_owned(),
        log: Options { place: looked.place, ..Options::default() },
        index: Arc::new(copy.index()),
        anew: Arc::new(copy.anew()),
    };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} messages, {msg}");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let compared = compare_index(&beside, &mut |step| match step {
        Comparing::Index => bar.set_message("opening with the index"),
        Comparing::Log => bar.set_message("opening without it"),
        Comparing::Messages { done, all } => {
            bar.set_message("comparing");
            bar.set_length(all);
            bar.set_position(done);
        }
    });
    bar.finish_and_clear();
    Ok(match compared? {
        Agreement::Empty => IndexFound::Empty,
        Agreement::SetAside(why) => IndexFound::SetAside(why),
        Agreement::Compared(compared) => IndexFound::Compared(compared),
    })
}

/// Damage as JSON.
pub fn damage_view(damage: &Damage) -> Value {
    json!({"file": damage.file, "at_byte": damage.at_byte, "why": damage.why})
}

fn difference_view(difference: &Difference) -> Value {
    let (account, topic) = difference.topic.as_ref().map(|(account, topic)| (account, topic)).unzip();
    json!({
        "account": account, "topic": topic, "group": difference.group, "offset": difference.offset,
        "what": difference.what,
    })
}

fn index_view(index: &IndexFound) -> Value {
    match index {
        IndexFound::NotRead => json!({"state": "not_read"}),
        IndexFound::Empty => json!({"state": "empty"}),
        IndexFound::SetAside(why) => json!({"state": "set_aside", "why": why}),
        IndexFound::Compared(compared) => json!({
            "state": if compared.differences.is_empty() { "agrees" } else { "differs" },
            "generation": compared.generation,
            "lsn": compared.applied.get(),
            "live_messages": compared.messages,
            "differences": compared.differences_in_all,
            "first_differences": compared.differences.iter().map(difference_view).collect::<Vec<_>>(),
        }),
    }
}

fn view(report: &CheckReport, index: &IndexFound) -> Value {
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
        "index": index_view(index),
    })
}

fn tell(format: Format, report: &CheckReport, index: &IndexFound) -> Result<Exit, Failure> {
    let mut view = view(report, index);
    if format == Format::Json {
        show::json(&view)?;
    } else {
        // A line each is enough of them.
        if let Some(index) = view.get_mut("index").and_then(Value::as_object_mut) {
            index.remove("first_differences");
        }
        show::thing(format, &view)?;
        let log = match (&report.damage, &report.torn) {
            (Some(_), _) => "the log is damaged; nothing behind the damage was read",
            (None, Some(_)) => "the log is whole up to a torn tail, which the next start will cut off",
            (None, None) => "the log is whole",
        };
        show::write_out(format!("{log}\n{}", index_words(index)).as_bytes())?;
    }
    let agrees = !matches!(index, IndexFound::Compared(compared) if !compared.differences.is_empty());
    Ok(if report.damage.is_none() && agrees { Exit::Done } else { Exit::Damaged })
}

fn index_words(index: &IndexFound) -> String {
    match index {
        IndexFound::NotRead => String::new(),
        IndexFound::Empty => "there is no index: the next start builds it from the log\n".to_owned(),
        IndexFound::SetAside(why) => {
            format!("warning: the next start sets the index aside and builds it again from the log: {why}\n")
        }
        IndexFound::Compared(compared) if compared.differences.is_empty() => {
            "the index says the same as the log\n".to_owned()
        }
        IndexFound::Compared(compared) => {
            let lines = compared.differences.iter().map(|one| format!("  {}\n", difference_words(one)));
            format!(
                "the index says something else than the log, {} times; `windlass reindex` builds it again:\n{}",
                compared.differences_in_all,
                lines.collect::<String>()
            )
        }
    }
}

fn difference_words(difference: &Difference) -> String {
    let topic = difference.topic.as_ref().map(|(account, topic)| format!("topic {topic} of {account}, "));
    let group = difference.group.as_ref().map(|group| format!("group {group}, "));
    let offset = difference.offset.map(|offset| format!("offset {offset}, "));
    let place = [topic, group, offset].into_iter().flatten().collect::<String>();
    match place.strip_suffix(", ") {
        Some(place) => format!("{place}: {}", difference.what),
        None => difference.what.clone(),
    }
}
