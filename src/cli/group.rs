//! `windlass group`: made, listed, read, changed, deleted, moved.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::client::{Client, ClientArguments, group_path, topic_path};
use crate::cli::exit::{Exit, Failure};
use crate::cli::show;
use crate::cli::span::read_millis;
use crate::cli::topic::{flow, object};

/// Makes, reads, changes, moves and deletes groups.
#[derive(Debug, Args)]
pub struct GroupArguments {
    #[command(flatten)]
    pub(super) client: ClientArguments,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Makes a group.
    Create {
        #[command(flatten)]
        name: Name,
        /// Where it begins: head, tail, an offset, or time:UNIX-MS.
        #[arg(long, value_parser = read_place, value_name = "PLACE")]
        start: Option<Value>,
        /// It gets its position at its first pull, not now.
        #[arg(long)]
        at_first_pull: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Lists the groups of a topic.
    List {
        /// The topic.
        topic: String,
    },
    /// Shows a group: settings and counts.
    Get {
        #[command(flatten)]
        name: Name,
    },
    /// Changes a group.
    Update {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        settings: Settings,
    },
    /// Deletes a group with its progress.
    Delete {
        #[command(flatten)]
        name: Name,
    },
    /// Moves a group's cursor.
    Seek {
        #[command(flatten)]
        name: Name,
        /// Where to: head, tail, an offset, or time:UNIX-MS.
        #[arg(value_parser = read_place, value_name = "PLACE")]
        to: Value,
        /// Only say what it would do.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
struct Name {
    /// The topic.
    topic: String,
    /// The group.
    group: String,
}

impl Name {
    fn path(&self) -> String {
        group_path(&self.topic, &self.group)
    }
}

/// Settings of a group; what is missing stays as it is (on creation: the default).
#[derive(Debug, Args)]
struct Settings {
    /// Lease of a pull that names none.
    #[arg(long, value_name = "SPAN", value_parser = read_millis)]
    lease: Option<u64>,
    /// Wait before a returned message is delivered again; several: one per attempt.
    #[arg(long, value_name = "SPAN", value_parser = read_millis, value_delimiter = ',')]
    retry_delay: Vec<u64>,
    /// Deliveries before a message is given up; 0: no limit.
    #[arg(long, value_name = "COUNT")]
    attempts_max: Option<u32>,
    /// Topic for messages that are given up; empty: none.
    #[arg(long, value_name = "TOPIC")]
    dead_letter: Option<String>,
    /// Most messages under a lease at once.
    #[arg(long, value_name = "COUNT")]
    pending_max: Option<u32>,
    /// Most pulls waiting at once.
    #[arg(long, value_name = "COUNT")]
    waiting_max: Option<u32>,
    /// Deliver only messages with one of these tags; empty: all.
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    filter_tag: Option<Vec<String>>,
    /// Stop deliveries.
    #[arg(long, conflicts_with = "resume")]
    pause: bool,
    /// Deliver again.
    #[arg(long)]
    resume: bool,
}

impl Settings {
    fn json(&self) -> Value {
        let retry_delay = match self.retry_delay.as_slice() {
            [] => None,
            [one] => Some(Value::from(*one)),
            table => Some(Value::from(table.to_vec())),
        };
        let or_null = |is_null: bool, value: Value| if is_null { Value::Null } else { value };
        let tags = self.filter_tag.as_ref();
        object([
            ("lease_ms", self.lease.map(Value::from)),
            ("retry_delay_ms", retry_delay),
            ("attempts_max", self.attempts_max.map(|max| or_null(max == 0, max.into()))),
            ("dead_letter", self.dead_letter.as_ref().map(|name| or_null(name.is_empty(), name.as_str().into()))),
            ("pending_max", self.pending_max.map(Value::from)),
            ("waiting_max", self.waiting_max.map(Value::from)),
            ("filter_tags", tags.map(|tags| tags.iter().filter(|tag| !tag.is_empty()).cloned().collect())),
            ("flow", flow(self.pause, self.resume)),
        ])
    }
}

/// A place in a topic, as the native API spells it.
fn read_place(text: &str) -> Result<Value, String> {
    match text {
        "head" | "tail" => Ok(text.into()),
        _ => {
            let (name, number) = match text.strip_prefix("time:") {
                Some(number) => ("time_ms", number),
                None => ("offset", text),
            };
            let number: u64 =
                number.parse().map_err(|_| format!("`{text}` is none of head, tail, an offset, time:UNIX-MS"))?;
            Ok(json!({name: number}))
        }
    }
}

const COLUMNS: [show::Column; 6] = [
    ("NAME", "/name"),
    ("FLOW", "/settings/flow"),
    ("LEASE MS", "/settings/lease_ms"),
    ("ATTEMPTS MAX", "/settings/attempts_max"),
    ("DEAD LETTERS", "/settings/dead_letter"),
    ("ID", "/id"),
];

/// Does what the arguments say.
pub fn run(arguments: &GroupArguments) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.client)?;
    let format = arguments.client.output;
    match &arguments.what {
        What::Create { name, start, at_first_pull, settings } => {
            let mut request = json!({"name": name.group, "settings": settings.json()});
            if let Some(start) = start {
                request["start"] = start.clone();
            }
            if *at_first_pull {
                request["position_at"] = "first_pull".into();
            }
            let made = client.post(&format!("{}/groups", topic_path(&name.topic)), &request)?;
            show::done(format, &made, &format!("created group {} of topic {}", name.group, name.topic))?;
        }
        What::List { topic } => {
            let list = client.get(&format!("{}/groups", topic_path(topic)))?;
            let groups = list["groups"].as_array().cloned().unwrap_or_default();
            show::rows(format, &list, &groups, &COLUMNS)?;
        }
        What::Get { name } => {
            let mut found = client.get(&name.path())?;
            found["counts"] = client.get(&format!("{}/counts", name.path()))?;
            show::thing(format, &found)?;
        }
        What::Update { name, settings } => {
            let changed = client.patch(&name.path(), &json!({"settings": settings.json()}))?;
            show::done(format, &changed, &format!("updated group {} of topic {}", name.group, name.topic))?;
        }
        What::Delete { name } => {
            client.delete(&name.path())?;
            let sentence = format!("deleted group {} of topic {}", name.group, name.topic);
            show::done(format, &json!({"deleted": name.group}), &sentence)?;
        }
        What::Seek { name, to, dry_run } => {
            let report = client.post(&format!("{}/seek", name.path()), &json!({"to": to, "dry_run": dry_run}))?;
            show::thing(format, &report)?;
        }
    }
    Ok(Exit::Done)
}
