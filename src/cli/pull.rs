//! `windlass pull`: takes messages under a lease, or for good.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use ureq::http::Method;

use crate::cli::body;
use crate::cli::client::{Client, ClientArguments, Sent, group_path};
use crate::cli::exit::{Exit, Failure};
use crate::cli::show::{self, Format};
use crate::cli::span::{read_millis, read_span};

/// Takes messages under a lease each. Exit code 3: there was none.
#[derive(Debug, Args)]
pub struct PullArguments {
    #[command(flatten)]
    pub(super) client: ClientArguments,
    /// The topic.
    topic: String,
    /// The group.
    group: String,
    /// At most this many messages.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    batch: u64,
    /// How long they are mine. Default: the group's lease.
    #[arg(long, value_name = "SPAN", value_parser = read_millis)]
    lease: Option<u64>,
    /// Wait this long for a message.
    #[arg(long, value_name = "SPAN", value_parser = read_span, default_value = "0")]
    wait: Duration,
    /// Ack at once, before the answer: what gets lost on the way here is lost.
    #[arg(long)]
    auto_ack: bool,
    /// Print bodies alone, each followed by a newline. Without --auto-ack the messages come again when their
    /// leases have lapsed, for their tokens are not shown.
    #[arg(long)]
    body_only: bool,
}

const COLUMNS: [show::Column; 7] = [
    ("OFFSET", "/offset"),
    ("ATTEMPT", "/attempt"),
    ("KEY", "/key"),
    ("TAG", "/tag"),
    ("LEASE MS", "/lease_ms"),
    ("BODY", "/body"),
    ("TOKEN", "/token"),
];

/// Does what the arguments say.
pub fn run(arguments: &PullArguments) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.client)?;
    let wait_ms = u64::try_from(arguments.wait.as_millis()).unwrap_or(u64::MAX);
    let mut request = json!({"batch_max": arguments.batch, "wait_ms": wait_ms, "auto_ack": arguments.auto_ack});
    if let Some(lease) = arguments.lease {
        request["lease_ms"] = lease.into();
    }
    let path = format!("{}/pull", group_path(&arguments.topic, &arguments.group));
    let mut pulled = client.ask_waiting(Method::POST, &path, &Sent::Json(&request), arguments.wait)?;
    print(arguments, &mut pulled)?;
    let empty = pulled["messages"].as_array().is_none_or(Vec::is_empty);
    Ok(if empty { Exit::Nothing } else { Exit::Done })
}

fn print(arguments: &PullArguments, pulled: &mut Value) -> Result<(), Failure> {
    if arguments.body_only {
        for message in pulled["messages"].as_array().into_iter().flatten() {
            let mut line = body::bytes_of(message);
            line.push(b'\n');
            show::write_out(&line)?;
        }
        return Ok(());
    }
    body::as_text(pulled);
    let rows = body::rows(pulled);
    if rows.is_empty() && arguments.client.output == Format::Table {
        return Ok(());
    }
    Ok(show::rows(arguments.client.output, pulled, &rows, &COLUMNS)?)
}
