//! `windlass ack`, `nack`, `extend` and `bury`: what becomes of leases.

use std::io::{self, BufRead as _};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::client::{Client, ClientArguments, group_path};
use crate::cli::exit::{Exit, Failure};
use crate::cli::show;
use crate::cli::span::read_millis;

/// Which leases.
#[derive(Debug, Args)]
pub struct LeaseArguments {
    #[command(flatten)]
    pub(super) client: ClientArguments,
    /// The topic.
    topic: String,
    /// The group.
    group: String,
    /// Tokens of the leases; `-`: one per line of standard input.
    #[arg(required = true, value_name = "TOKEN")]
    tokens: Vec<String>,
}

/// Done: these messages are never delivered again.
#[derive(Debug, Args)]
pub struct AckArguments {
    #[command(flatten)]
    pub(super) leases: LeaseArguments,
}

/// Gives messages back, to be delivered again.
#[derive(Debug, Args)]
pub struct NackArguments {
    #[command(flatten)]
    pub(super) leases: LeaseArguments,
    /// Wait this long before the next delivery. Default: the group's retry delay.
    #[arg(long, value_name = "SPAN", value_parser = read_millis)]
    delay: Option<u64>,
}

/// Holds messages longer, from now on.
#[derive(Debug, Args)]
pub struct ExtendArguments {
    #[command(flatten)]
    pub(super) leases: LeaseArguments,
    /// The new lease.
    #[arg(long, value_name = "SPAN", value_parser = read_millis)]
    lease: u64,
}

/// Gives messages up, to the dead letters.
#[derive(Debug, Args)]
pub struct BuryArguments {
    #[command(flatten)]
    pub(super) leases: LeaseArguments,
    /// Kept with the dead letter.
    #[arg(long, default_value = "buried from the command line")]
    reason: String,
}

/// `windlass ack`
pub fn ack(arguments: &AckArguments) -> Result<Exit, Failure> {
    settle(&arguments.leases, "ack", json!({}))
}

/// `windlass nack`
pub fn nack(arguments: &NackArguments) -> Result<Exit, Failure> {
    let request = arguments.delay.map_or_else(|| json!({}), |delay| json!({"delay_ms": delay}));
    settle(&arguments.leases, "nack", request)
}

/// `windlass extend`
pub fn extend(arguments: &ExtendArguments) -> Result<Exit, Failure> {
    settle(&arguments.leases, "extend", json!({"lease_ms": arguments.lease}))
}

/// `windlass bury`
pub fn bury(arguments: &BuryArguments) -> Result<Exit, Failure> {
    settle(&arguments.leases, "bury", json!({"reason": arguments.reason}))
}

const COLUMNS: [show::Column; 3] = [("OUTCOME", "/outcome"), ("DONE", "/done"), ("TOKEN", "/token")];

/// Fails if any lease was not settled as asked.
fn settle(leases: &LeaseArguments, action: &str, mut request: Value) -> Result<Exit, Failure> {
    let client = Client::new(&leases.client)?;
    let tokens = read_tokens(&leases.tokens)?;
    request["tokens"] = tokens.clone().into();
    let mut answer = client.post(&format!("{}/{action}", group_path(&leases.topic, &leases.group)), &request)?;
    if let Some(outcomes) = answer["outcomes"].as_array_mut() {
        for (outcome, token) in outcomes.iter_mut().zip(&tokens) {
            outcome["token"] = token.as_str().into();
        }
    }
    let outcomes = answer["outcomes"].as_array().cloned().unwrap_or_default();
    show::rows(leases.client.output, &answer, &outcomes, &COLUMNS)?;
    let all = outcomes.len() == tokens.len() && outcomes.iter().all(|outcome| outcome["done"] == true);
    Ok(if all { Exit::Done } else { Exit::Failed })
}

fn read_tokens(given: &[String]) -> Result<Vec<String>, Failure> {
    if given != ["-"] {
        return Ok(given.to_vec());
    }
    let lines: Result<Vec<String>, io::Error> = io::stdin().lock().lines().collect();
    Ok(lines?.into_iter().filter(|line| !line.is_empty()).collect())
}
