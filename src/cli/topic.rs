//! `windlass topic`: made, listed, read, changed, deleted, emptied.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use crate::cli::client::{Client, ClientArguments, query, topic_path};
use crate::cli::exit::{Exit, Failure};
use crate::cli::show;
use crate::cli::span::read_millis;

/// Makes, reads, changes and deletes topics.
#[derive(Debug, Args)]
pub struct TopicArguments {
    #[command(flatten)]
    pub(super) client: ClientArguments,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Makes a topic.
    Create {
        /// Its name.
        topic: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Lists the account's topics.
    List,
    /// Shows a topic: settings and counts.
    Get {
        /// Its name.
        topic: String,
    },
    /// Changes a topic.
    Update {
        /// Its name.
        topic: String,
        /// A new name.
        #[arg(long)]
        rename: Option<String>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Deletes a topic with its messages and groups.
    Delete {
        /// Its name.
        topic: String,
    },
    /// Gives up every message of a topic.
    Purge {
        /// Its name.
        topic: String,
    },
}

/// Whether settled messages stay.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Settled {
    Drop,
    Keep,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OrderingFlag {
    None,
    PerKey,
    Strict,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CompactionFlag {
    None,
    LatestPerKey,
}

/// Settings of a topic; what is missing stays as it is (on creation: the default).
#[derive(Debug, Args)]
struct Settings {
    /// What happens to messages that every group has settled. The three flags of retention are set together.
    #[arg(long, value_enum)]
    settled: Option<Settled>,
    /// Trim messages older than this (such as 7d).
    #[arg(long, value_name = "SPAN", value_parser = read_millis)]
    retention_age: Option<u64>,
    /// Trim the oldest messages above this many bytes of bodies.
    #[arg(long, value_name = "BYTES")]
    retention_bytes: Option<u64>,
    /// Delay of messages that name none.
    #[arg(long, value_name = "SPAN", value_parser = read_millis)]
    delay: Option<u64>,
    /// Which order deliveries keep.
    #[arg(long, value_enum)]
    ordering: Option<OrderingFlag>,
    /// Whether a newer message of a key supersedes older ones.
    #[arg(long, value_enum)]
    compaction: Option<CompactionFlag>,
    /// How long idempotency keys are remembered.
    #[arg(long, value_name = "SPAN", value_parser = read_millis)]
    idempotency_window: Option<u64>,
    /// Stop deliveries.
    #[arg(long, conflicts_with = "resume")]
    pause: bool,
    /// Deliver again.
    #[arg(long)]
    resume: bool,
}

/// The word of a flag as the native API spells it.
pub fn wire_word(value: impl ValueEnum) -> Value {
    value.to_possible_value().map_or(Value::Null, |word| word.get_name().replace('-', "_").into())
}

/// The word of `--pause` and `--resume`.
pub fn flow(pause: bool, resume: bool) -> Option<Value> {
    match (pause, resume) {
        (true, _) => Some("paused".into()),
        (false, true) => Some("running".into()),
        (false, false) => None,
    }
}

/// An object of those fields that are there.
pub fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let there = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(there.collect::<Map<String, Value>>())
}

impl Settings {
    fn json(&self) -> Value {
        let retention = (self.settled.is_some() || self.retention_age.is_some() || self.retention_bytes.is_some())
            .then(|| {
                object([
                    ("settled", self.settled.map(wire_word)),
                    ("age_ms", self.retention_age.map(Value::from)),
                    ("bytes", self.retention_bytes.map(Value::from)),
                ])
            });
        object([
            ("retention", retention),
            ("delay_ms", self.delay.map(Value::from)),
            ("flow", flow(self.pause, self.resume)),
            ("ordering", self.ordering.map(wire_word)),
            ("compaction", self.compaction.map(wire_word)),
            ("idempotency_window_ms", self.idempotency_window.map(Value::from)),
        ])
    }
}

const COLUMNS: [show::Column; 7] = [
    ("NAME", "/name"),
    ("FLOW", "/settings/flow"),
    ("ORDERING", "/settings/ordering"),
    ("SETTLED", "/settings/retention/settled"),
    ("DELAY MS", "/settings/delay_ms"),
    ("CREATED MS", "/created_at_ms"),
    ("ID", "/id"),
];

/// Does what the arguments say.
pub fn run(arguments: &TopicArguments) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.client)?;
    let format = arguments.client.output;
    match &arguments.what {
        What::Create { topic, settings } => {
            let made = client.post("/topics", &json!({"name": topic, "settings": settings.json()}))?;
            show::done(format, &made, &format!("created topic {topic}"))?;
        }
        What::List => {
            let topics = list(&client)?;
            show::rows(format, &json!({"topics": topics}), &topics, &COLUMNS)?;
        }
        What::Get { topic } => {
            let mut found = client.get(&topic_path(topic))?;
            found["counts"] = client.get(&format!("{}/counts", topic_path(topic)))?;
            show::thing(format, &found)?;
        }
        What::Update { topic, rename, settings } => {
            let mut change = json!({"settings": settings.json()});
            if let Some(name) = rename {
                change["name"] = name.as_str().into();
            }
            let changed = client.patch(&topic_path(topic), &change)?;
            show::done(format, &changed, &format!("updated topic {}", rename.as_ref().unwrap_or(topic)))?;
        }
        What::Delete { topic } => {
            client.delete(&topic_path(topic))?;
            show::done(format, &json!({"deleted": topic}), &format!("deleted topic {topic}"))?;
        }
        What::Purge { topic } => {
            let purged = client.ask(
                ureq::http::Method::POST,
                &format!("{}/purge", topic_path(topic)),
                &crate::cli::client::Sent::Nothing,
            )?;
            show::done(format, &purged, &format!("purged {} messages of topic {topic}", purged["messages"]))?;
        }
    }
    Ok(Exit::Done)
}

/// All pages.
fn list(client: &Client) -> Result<Vec<Value>, Failure> {
    let (mut topics, mut after) = (Vec::new(), None);
    loop {
        let mut page =
            client.get(&format!("/topics{}", query(&[("limit", Some("1000".to_owned())), ("after", after)])))?;
        if let Some(more) = page["topics"].as_array_mut() {
            topics.append(more);
        }
        after = page["next"].as_str().map(ToOwned::to_owned);
        if after.is_none() {
            return Ok(topics);
        }
    }
}
