//! What a run found out: its figures, and the promise that was broken if one was.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::torture::checker::Violation;

/// Violations that are told; the others are in the history for whoever looks.
const TOLD_MAX: usize = 5;

/// What a run did and saw.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Lives of the server that were ended.
    pub kills: u64,
    /// Messages whose publish was answered.
    pub publishes: usize,
    /// Messages handed out.
    pub deliveries: usize,
    /// Acks that were answered.
    pub acks: usize,
    /// Publishes and settles without an answer: they may have been carried out or not.
    pub maybes: usize,
    /// Times that the index was deleted or damaged.
    pub index_attacks: u64,
    /// Copies of the directory that were taken under load and opened.
    pub copies: u64,
    /// Times that the server was held up for two leases.
    pub pauses: u64,
    /// From the start of the process to its being ready, each time.
    pub ready: Vec<Duration>,
    /// From the end of the last life until everything was delivered and settled.
    pub drained_in: Duration,
    /// All of it.
    pub took: Duration,
}

impl Figures {
    /// Median and longest start.
    pub fn ready_times(&self) -> (Duration, Duration) {
        let mut sorted = self.ready.clone();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        (median, sorted.last().copied().unwrap_or_default())
    }
}

/// A promise that was broken.
#[derive(Debug, Clone)]
pub struct Broken {
    /// The life after which it was seen.
    pub round: u64,
    /// At which look.
    pub place: String,
    /// What is wrong; never empty.
    pub violations: Vec<Violation>,
    /// All that happened to the first message of these, and what became of it.
    pub lines: Vec<String>,
    /// The last lines of the server.
    pub said: Vec<String>,
    /// Everything that happened, as JSON lines.
    pub history: PathBuf,
    /// The data directory as it was then.
    pub data: PathBuf,
}

/// The end of a run.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Draws the same load and the same moments again.
    pub seed: u64,
    /// What was done and seen.
    pub figures: Figures,
    /// What went wrong.
    pub broken: Option<Broken>,
}

/// A promise in plain words.
pub fn promise(rule: &str) -> &'static str {
    match rule {
        "I1" => "a message whose publish was answered is never lost",
        "I2" => "nothing comes that nobody published, nothing changes, no id is used twice",
        "I3" => "a message whose ack was answered never comes back",
        "I4" => "until the deadline it was told, a consumer is the only holder of a message",
        "I5" => "attempts only grow, also over a restart",
        "I6" => "messages of one key come in their order",
        "I7" => "offsets never go back",
        "I8" => "a dead letter is in exactly one place, once",
        "I9" => "a lease survives a restart, with its token and its deadline",
        "I10" => "a message sent again with its idempotency key is one message, also over a restart",
        "I11" => "what is delayed never comes early",
        "I12" => "when faults stop, everything is delivered and settled within 30 seconds",
        "I13" => "the server counts what is there",
        "restart" => "whatever happened to the process, the server starts again on what it left",
        "copy" => "a copy taken while the server works opens",
        _ => "every request gets an answer that it may have",
    }
}

impl Verdict {
    /// How often a promise of one of these rules was broken.
    pub fn count(&self, rules: &[&str]) -> usize {
        let violations = self.broken.as_ref().map_or(&[][..], |broken| &broken.violations);
        violations.iter().filter(|one| rules.contains(&one.rule)).count()
    }

    /// All of it as JSON.
    pub fn to_json(&self) -> Value {
        let Figures { kills, publishes, deliveries, acks, maybes, index_attacks, copies, pauses, .. } = self.figures;
        let (median, max) = self.figures.ready_times();
        let millis = |span: Duration| (span.as_secs_f64() * 1e4).round() / 10.0;
        let mut view = json!({
            "passed": self.broken.is_none(),
            "seed": self.seed,
            "kills": kills,
            "seconds": (self.figures.took.as_secs_f64() * 10.0).round() / 10.0,
            "publishes": publishes,
            "deliveries": deliveries,
            "acks": acks,
            "maybes": maybes,
            "index_attacks": index_attacks,
            "copies": copies,
            "pauses": pauses,
            "ready_median_ms": millis(median),
            "ready_max_ms": millis(max),
            "drained_ms": millis(self.figures.drained_in),
            "lost": self.count(&["I1"]),
            "doubled": self.count(&["I3", "I4", "I5"]),
        });
        if let (Some(broken), Some(fields)) = (&self.broken, view.as_object_mut()) {
            fields.insert("broken".to_owned(), broken.to_json());
        }
        view
    }

    /// All of it for people.
    pub fn told(&self) -> String {
        let view = self.to_json();
        let mut lines: Vec<String> = Vec::new();
        let of = |name: &str| view.get(name).map(ToString::to_string).unwrap_or_default();
        lines.push(format!("kills          {} in {} s, seed {}", of("kills"), of("seconds"), self.seed));
        lines.push(format!("answered       {} publishes, {} acks", of("publishes"), of("acks")));
        lines.push(format!("unanswered     {} (may have been carried out or not)", of("maybes")));
        lines.push(format!("deliveries     {}", of("deliveries")));
        let (attacks, copies, pauses) = (of("index_attacks"), of("copies"), of("pauses"));
        lines.push(format!(
            "besides        index damaged {attacks}, copied under load {copies}, held up {pauses} times"
        ));
        lines.push(format!("ready after    median {} ms, at most {} ms", of("ready_median_ms"), of("ready_max_ms")));
        lines.push(format!("settled after  {} ms", of("drained_ms")));
        lines.push(format!("lost           {}", of("lost")));
        lines.push(format!("doubled        {}", of("doubled")));
        match &self.broken {
            None => lines.push("every promise was kept".to_owned()),
            Some(broken) => lines.extend(broken.told()),
        }
        lines.join("\n")
    }
}

impl Broken {
    fn to_json(&self) -> Value {
        let view = |one: &Violation| {
            let (rule, name, what) = (one.rule, &one.name, &one.what);
            json!({"rule": rule, "promise": promise(rule), "message": name, "what": what})
        };
        json!({
            "round": self.round,
            "place": self.place,
            "count": self.violations.len(),
            "violations": self.violations.iter().take(TOLD_MAX).map(view).collect::<Vec<_>>(),
            "message_history": self.lines,
            "server_said": self.said,
            "history": self.history,
            "data": self.data,
        })
    }

    fn told(&self) -> Vec<String> {
        let count = self.violations.len();
        let mut lines =
            vec![format!("A PROMISE WAS BROKEN: seen in round {}, {}; {count} in all", self.round, self.place)];
        for one in self.violations.iter().take(TOLD_MAX) {
            lines.push(format!("  {}: {}", one.rule, promise(one.rule)));
            let about = if one.name.is_empty() { String::new() } else { format!("{}: ", one.name) };
            lines.push(format!("      {about}{}", one.what));
        }
        if let Some(first) = self.violations.first().filter(|first| !first.name.is_empty()) {
            lines.push(format!("what happened to {} (microseconds since the start):", first.name));
            lines.extend(self.lines.iter().map(|line| format!("  {line}")));
        }
        if !self.said.is_empty() {
            lines.push("the server said at last:".to_owned());
            lines.extend(self.said.iter().map(|line| format!("  {line}")));
        }
        lines.push(format!("kept: {} (everything that happened), {}", self.history.display(), self.data.display()));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        let ready = [5, 1, 9].map(Duration::from_millis).to_vec();
        let figures = Figures { ready, ..Figures::default() };
        assert_eq!(figures.ready_times(), (Duration::from_millis(5), Duration::from_millis(9)));
        assert_eq!(Figures::default().ready_times(), (Duration::ZERO, Duration::ZERO));
    }
}
