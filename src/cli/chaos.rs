//! `windlass chaos`: the faults that a topic deals to its consumers.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::client::{Client, ClientArguments, topic_path};
use crate::cli::exit::{Exit, Failure};
use crate::cli::show;
use crate::cli::span::read_millis;

/// Gives topics of a server that was started with --chaos faults, to crash-test consumers.
#[derive(Debug, Args)]
pub struct ChaosArguments {
    #[command(flatten)]
    pub(super) client: ClientArguments,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Gives a topic these faults, in the place of those it has.
    Set {
        /// The topic.
        topic: String,
        #[command(flatten)]
        faults: Box<FaultFlags>,
    },
    /// Shows the faults of a topic, and how often each was dealt.
    Show {
        /// The topic.
        topic: String,
    },
    /// Takes all faults from a topic.
    Clear {
        /// The topic.
        topic: String,
    },
}

/// Shares are such as 5% or 0.1%; what is left out is off.
#[derive(Debug, Args)]
struct FaultFlags {
    /// The same seed deals the same faults to the same calls.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
    /// Deliveries that are given to another consumer as well.
    #[arg(long, value_name = "SHARE", value_parser = read_share)]
    duplicate: Option<u16>,
    /// Pulls that are answered late.
    #[arg(long, value_name = "SHARE", value_parser = read_share)]
    delay: Option<u16>,
    /// How late [default: 1s].
    #[arg(long, value_name = "SPAN", value_parser = read_millis)]
    delay_by: Option<u64>,
    /// Pulls whose messages are reordered.
    #[arg(long, value_name = "SHARE", value_parser = read_share)]
    reorder: Option<u16>,
    /// Deliveries whose lease ends early.
    #[arg(long, value_name = "SHARE", value_parser = read_share)]
    lapse: Option<u16>,
    /// How long such a lease holds [default: 1s].
    #[arg(long, value_name = "SPAN", value_parser = read_millis)]
    lapse_after: Option<u64>,
    /// Acks that are answered and not done.
    #[arg(long, value_name = "SHARE", value_parser = read_share)]
    drop_ack: Option<u16>,
    /// Calls that are done and not answered.
    #[arg(long, value_name = "SHARE", value_parser = read_share)]
    lose_answer: Option<u16>,
    /// Calls that are done and whose answer is cut.
    #[arg(long, value_name = "SHARE", value_parser = read_share)]
    cut_body: Option<u16>,
    /// Calls that are refused with 503 and not done.
    #[arg(long, value_name = "SHARE", value_parser = read_share)]
    unavailable: Option<u16>,
    /// Calls that are refused with 429 and not done.
    #[arg(long, value_name = "SHARE", value_parser = read_share)]
    throttle: Option<u16>,
    /// After so many calls the server ends as by SIGKILL and starts again; 0 is never.
    #[arg(long, value_name = "CALLS")]
    restart_every: Option<u64>,
}

/// Reads a share such as `5%`, `0.1%` or `0`; gives it per mille.
fn read_share(text: &str) -> Result<u16, String> {
    let rule = || "a share such as 5% or 0.1%, at most 100%".to_owned();
    if text == "0" {
        return Ok(0);
    }
    let percent = text.strip_suffix('%').ok_or_else(rule)?;
    let (whole, tenth) = percent.split_once('.').unwrap_or((percent, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(tenth) || tenth.len() != 1 {
        return Err(rule());
    }
    let whole: u16 = whole.parse().map_err(|_| rule())?;
    let tenth: u16 = tenth.parse().map_err(|_| rule())?;
    whole.checked_mul(10).and_then(|share| share.checked_add(tenth)).filter(|share| *share <= 1000).ok_or_else(rule)
}

impl FaultFlags {
    fn wire(&self) -> Value {
        let flags = [
            ("duplicate", self.duplicate.map(u64::from)),
            ("delay", self.delay.map(u64::from)),
            ("delay_ms", self.delay_by),
            ("reorder", self.reorder.map(u64::from)),
            ("lapse", self.lapse.map(u64::from)),
            ("lapse_ms", self.lapse_after),
            ("drop_ack", self.drop_ack.map(u64::from)),
            ("lose_answer", self.lose_answer.map(u64::from)),
            ("cut_body", self.cut_body.map(u64::from)),
            ("unavailable", self.unavailable.map(u64::from)),
            ("throttle", self.throttle.map(u64::from)),
            ("restart_every", self.restart_every),
        ];
        let mut faults = json!({"seed": self.seed});
        for (name, value) in flags {
            if let Some(value) = value {
                faults[name] = value.into();
            }
        }
        faults
    }
}

/// Does what the arguments say.
pub fn run(arguments: &ChaosArguments) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.client)?;
    let format = arguments.client.output;
    let path = |topic: &str| format!("{}/chaos", topic_path(topic));
    match &arguments.what {
        What::Set { topic, faults } => show::thing(format, &client.put(&path(topic), &faults.wire())?)?,
        What::Show { topic } => show::thing(format, &client.get(&path(topic))?)?,
        What::Clear { topic } => {
            client.delete(&path(topic))?;
            show::done(format, &json!({"cleared": topic}), &format!("{topic} deals no faults"))?;
        }
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_with_one_digit_behind_the_point() {
        for (text, share) in [("5%", 50), ("0.1%", 1), ("100%", 1000), ("0", 0), ("0%", 0), ("12.5%", 125)] {
            assert_eq!(read_share(text), Ok(share), "{text}");
        }
        for bad in ["5", "100.1%", "101%", "-1%", "1.%", ".5%", "0.01%", "%", "", "99999999%"] {
            assert!(read_share(bad).is_err(), "{bad}");
        }
    }
}
