//! `windlass peek`: looks at messages without touching them.

use clap::{Args, ValueEnum};

use crate::cli::body;
use crate::cli::client::{Client, ClientArguments, query, topic_path};
use crate::cli::exit::{Exit, Failure};
use crate::cli::pair::read_pair;
use crate::cli::show::{self, Format};
use crate::cli::topic::wire_word;

/// Where a message stands with a group.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    Ready,
    InFlight,
    Delayed,
    Settled,
}

/// Looks at messages without touching them. Exit code 3: there was none.
#[derive(Debug, Args)]
pub struct PeekArguments {
    #[command(flatten)]
    pub(super) client: ClientArguments,
    /// The topic.
    topic: String,
    /// As this group sees it.
    #[arg(long)]
    group: Option<String>,
    /// Only in this state; needs --group.
    #[arg(long, value_enum, requires = "group")]
    state: Option<State>,
    /// From this offset on.
    #[arg(long, value_name = "OFFSET")]
    from: Option<u64>,
    /// At most this many.
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    limit: usize,
    /// Only this message.
    #[arg(long)]
    id: Option<String>,
    /// Only with this key.
    #[arg(long)]
    key: Option<String>,
    /// Only with this tag.
    #[arg(long)]
    tag: Option<String>,
    /// Only with this property.
    #[arg(long, value_name = "NAME=VALUE", value_parser = read_pair)]
    property: Option<(String, String)>,
    /// Only published at or after this Unix time, in ms.
    #[arg(long, value_name = "UNIX-MS")]
    since: Option<u64>,
    /// Only published before this Unix time, in ms.
    #[arg(long, value_name = "UNIX-MS")]
    until: Option<u64>,
}

const COLUMNS: [show::Column; 7] = [
    ("OFFSET", "/offset"),
    ("STATE", "/state"),
    ("ATTEMPTS", "/attempts"),
    ("KEY", "/key"),
    ("TAG", "/tag"),
    ("BODY", "/body"),
    ("ID", "/id"),
];

/// Most messages of one page.
const PAGE_MAX: usize = 1_000;

/// Does what the arguments say. A page may be empty before the end, so pages are read until there are enough.
pub fn run(arguments: &PeekArguments) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.client)?;
    let mut from = arguments.from;
    let mut found = serde_json::json!({"messages": [], "next": null});
    let mut messages = Vec::new();
    while messages.len() < arguments.limit {
        let limit = (arguments.limit - messages.len()).min(PAGE_MAX);
        let mut page = client.get(&path(arguments, from, limit))?;
        if let Some(more) = page["messages"].as_array_mut() {
            messages.append(more);
        }
        found["next"] = page["next"].clone();
        from = page["next"].as_u64();
        if from.is_none() {
            break;
        }
    }
    let exit = if messages.is_empty() { Exit::Nothing } else { Exit::Done };
    found["messages"] = messages.into();
    body::as_text(&mut found);
    let rows = body::rows(&found);
    if arguments.client.output == Format::Json || !rows.is_empty() {
        show::rows(arguments.client.output, &found, &rows, &COLUMNS)?;
    }
    Ok(exit)
}

fn path(arguments: &PeekArguments, from: Option<u64>, limit: usize) -> String {
    let property = arguments.property.as_ref();
    let name = property.map(|(name, _)| format!("property.{name}")).unwrap_or_default();
    let parameters = [
        ("group", arguments.group.clone()),
        ("state", arguments.state.and_then(|state| wire_word(state).as_str().map(ToOwned::to_owned))),
        ("from", from.map(|offset| offset.to_string())),
        ("limit", Some(limit.to_string())),
        ("id", arguments.id.clone()),
        ("key", arguments.key.clone()),
        ("tag", arguments.tag.clone()),
        (name.as_str(), property.map(|(_, value)| value.clone())),
        ("since_ms", arguments.since.map(|at| at.to_string())),
        ("until_ms", arguments.until.map(|at| at.to_string())),
    ];
    format!("{}/messages{}", topic_path(&arguments.topic), query(&parameters))
}
