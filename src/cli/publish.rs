//! `windlass publish`: one message, or one per line of standard input.

use std::io::{self, BufRead, Read as _};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use ureq::http::Method;

use crate::cli::client::{Client, ClientArguments, Sent, query, topic_path};
use crate::cli::exit::{Exit, Failure};
use crate::cli::pair::read_pair;
use crate::cli::show;
use crate::cli::span::read_millis;

/// Messages of one batch of `--lines`.
const BATCH_LINES_MAX: usize = 500;
/// Bytes of lines after which a batch goes out.
const BATCH_BYTES: usize = 1 << 20;
/// Longest line.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Publishes one message, or one per line of standard input.
#[derive(Debug, Args)]
pub struct PublishArguments {
    #[command(flatten)]
    pub(super) client: ClientArguments,
    /// The topic.
    topic: String,
    /// The body; `-` or nothing: read it from standard input.
    body: Option<String>,
    /// Take the body from this file.
    #[arg(long, value_name = "FILE", conflicts_with = "body")]
    file: Option<PathBuf>,
    /// One message per line of standard input (or of --file), in batches.
    #[arg(long, conflicts_with_all = ["body", "idempotency_key"])]
    lines: bool,
    /// Order and compaction are per key.
    #[arg(long)]
    key: Option<String>,
    /// Groups may filter by it.
    #[arg(long)]
    tag: Option<String>,
    /// Withhold it this long; 0: not at all. Default: the topic's delay.
    #[arg(long, value_name = "SPAN", value_parser = read_millis)]
    delay: Option<u64>,
    /// A label of the message; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = read_pair)]
    property: Vec<(String, String)>,
    /// Media type of the body.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// A repeat with the same key publishes nothing new.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// Does what the arguments say.
pub fn run(arguments: &PublishArguments) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.client)?;
    if arguments.lines { publish_lines(&client, arguments) } else { publish_one(&client, arguments) }
}

fn publish_one(client: &Client, arguments: &PublishArguments) -> Result<Exit, Failure> {
    let body = match (&arguments.body, &arguments.file) {
        (_, Some(path)) => std::fs::read(path).map_err(|error| unreadable(path, &error))?,
        (Some(text), None) if text != "-" => text.clone().into_bytes(),
        (_, None) => {
            let mut body = Vec::new();
            io::stdin().lock().read_to_end(&mut body)?;
            body
        }
    };
    let mut parameters = vec![
        ("key", arguments.key.clone()),
        ("tag", arguments.tag.clone()),
        ("delay_ms", arguments.delay.map(|delay| delay.to_string())),
        ("idempotency_key", arguments.idempotency_key.clone()),
    ];
    let named: Vec<(String, String)> =
        arguments.property.iter().map(|(name, value)| (format!("property.{name}"), value.clone())).collect();
    parameters.extend(named.iter().map(|(name, value)| (name.as_str(), Some(value.clone()))));
    let path = format!("{}/messages{}", topic_path(&arguments.topic), query(&parameters));
    let kind = arguments.content_type.iter().map(|kind| ("content-type".to_owned(), kind.clone()));
    let headers: Vec<(String, String)> = kind.collect();
    let published = client.ask(Method::POST, &path, &Sent::Bytes(&body, &headers))?;
    let again = if published["repeated"] == true { " (was there already)" } else { "" };
    let id = published["id"].as_str().unwrap_or_default();
    show::done(
        arguments.client.output,
        &published,
        &format!("published {id} at offset {}{again}", published["offset"]),
    )?;
    Ok(Exit::Done)
}

fn unreadable(path: &std::path::Path, error: &io::Error) -> Failure {
    Failure::said(format!("cannot read {}: {error}", path.display()))
}

/// Where lines come from, and how many bytes they are if that is known.
fn open_lines(arguments: &PublishArguments) -> Result<(Box<dyn BufRead>, Option<u64>), Failure> {
    match &arguments.file {
        None => Ok((Box::new(io::stdin().lock()), None)),
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|error| unreadable(path, &error))?;
            let bytes = file.metadata().map_err(|error| unreadable(path, &error))?.len();
            Ok((Box::new(io::BufReader::new(file)), Some(bytes)))
        }
    }
}

/// A bar where the length is known, a counter where it is not. Shown only on a terminal.
fn bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {bytes_per_sec} {msg}"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn publish_lines(client: &Client, arguments: &PublishArguments) -> Result<Exit, Failure> {
    let (mut lines, bytes) = open_lines(arguments)?;
    let bar = bar(bytes);
    let (mut published, mut first, mut last) = (0_u64, Value::Null, Value::Null);
    loop {
        let (batch, read) = read_batch(&mut *lines, arguments)?;
        if batch.is_empty() {
            break;
        }
        let count = batch.len();
        let path = format!("{}/messages/batch", topic_path(&arguments.topic));
        let answer = client.post(&path, &json!({"messages": batch})).inspect_err(|_| {
            bar.abandon();
            if published > 0 {
                eprintln!("windlass: {published} lines were published before this");
            }
        })?;
        if published == 0 {
            first = answer.pointer("/messages/0/offset").cloned().unwrap_or_default();
        }
        last = answer.pointer(&format!("/messages/{}/offset", count - 1)).cloned().unwrap_or_default();
        published += count as u64;
        bar.inc(read);
        bar.set_message(format!("{published} messages"));
    }
    bar.finish_and_clear();
    let report = json!({"published": published, "first_offset": first, "last_offset": last});
    let sentence = match published {
        0 => "published nothing: there were no lines".to_owned(),
        _ => format!("published {published} messages, offsets {first} to {last}"),
    };
    show::done(arguments.client.output, &report, &sentence)?;
    Ok(Exit::Done)
}

/// The next batch, and how many bytes of input it was.
fn read_batch(lines: &mut dyn BufRead, arguments: &PublishArguments) -> Result<(Vec<Value>, u64), Failure> {
    let (mut batch, mut bytes) = (Vec::new(), 0_usize);
    while batch.len() < BATCH_LINES_MAX && bytes < BATCH_BYTES {
        let mut line = Vec::new();
        let read = lines.take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        if read > LINE_BYTES_MAX {
            return Err(Failure::said(format!("a line is longer than {LINE_BYTES_MAX} bytes")));
        }
        bytes += read;
        if line.ends_with(b"\n") {
            line.pop();
        }
        batch.push(message(line, arguments));
    }
    Ok((batch, bytes as u64))
}

fn message(body: Vec<u8>, arguments: &PublishArguments) -> Value {
    let mut message = match String::from_utf8(body) {
        Ok(text) => json!({"body": text}),
        Err(error) => json!({"body_base64": STANDARD.encode(error.as_bytes())}),
    };
    let fields = [("key", &arguments.key), ("tag", &arguments.tag), ("content_type", &arguments.content_type)];
    for (name, value) in fields {
        if let Some(value) = value {
            message[name] = value.as_str().into();
        }
    }
    if let Some(delay) = arguments.delay {
        message["delay_ms"] = delay.into();
    }
    for (name, value) in &arguments.property {
        message["properties"][name] = value.as_str().into();
    }
    message
}
