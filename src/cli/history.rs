//! `windlass history`: what a chaos server wrote down, fetched and judged.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::chaos::{Finding, Judge, Verdict, lines};
use crate::cli::client::{Client, ClientArguments, topic_path};
use crate::cli::exit::{Exit, Failure};
use crate::cli::show::{self, Format};
use crate::model::MessageId;

/// Findings that are shown in a table; JSON has all of them.
const FINDINGS_SHOWN: usize = 20;

/// Fetches and judges the history of a server that was started with --chaos.
#[derive(Debug, Args)]
pub struct HistoryArguments {
    #[command(flatten)]
    pub(super) client: ClientArguments,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Prints the history, a line of JSON each.
    Export {
        /// Only this topic.
        #[arg(long)]
        topic: Option<String>,
        /// Into this file.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Says which messages a consumer lost, did twice, or did in the wrong order. Exit code 6: some.
    Check {
        /// The exported history.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Only this topic.
        #[arg(long)]
        topic: Option<String>,
        /// Only this group.
        #[arg(long)]
        group: Option<String>,
        /// What the consumer processed: a message id a line, in the order of processing.
        #[arg(long, value_name = "FILE")]
        processed: Option<PathBuf>,
    },
}

/// Does what the arguments say.
pub fn run(arguments: &HistoryArguments) -> Result<Exit, Failure> {
    match &arguments.what {
        What::Export { topic, to } => export(&arguments.client, topic.as_deref(), to.as_deref()),
        What::Check { file, topic, group, processed } => {
            let wanted = |name: &Option<String>, is: &str| name.as_ref().is_none_or(|name| name == is);
            let chosen = |in_topic: &str, name: &str| wanted(topic, in_topic) && wanted(group, name);
            check(arguments.client.output, file, chosen, processed.as_deref())
        }
    }
}

fn export(client: &ClientArguments, topic: Option<&str>, to: Option<&Path>) -> Result<Exit, Failure> {
    let client = Client::new(client)?;
    let path = topic.map_or_else(|| "/history".to_owned(), |topic| format!("{}/history", topic_path(topic)));
    match to {
        Some(file) => {
            let mut out = std::io::BufWriter::new(File::create(file)?);
            client.read_to(&path, &mut out)?;
            out.flush()?;
        }
        None => {
            client.read_to(&path, &mut std::io::stdout().lock())?;
        }
    }
    Ok(Exit::Done)
}

fn check(
    format: Format,
    file: &Path,
    chosen: impl Fn(&str, &str) -> bool,
    processed: Option<&Path>,
) -> Result<Exit, Failure> {
    let judge = read_history(file)?;
    let processed = processed.map(read_processed).transpose()?;
    let groups = judge.groups().filter(|(topic, group)| chosen(topic, group)).count();
    if groups == 0 {
        return Err(Failure::said(format!("{} has no such group", file.display())));
    }
    if processed.is_some() && groups != 1 {
        let rule =
            format!("--processed is of one group, and {groups} are in the history: choose by --topic and --group");
        return Err(Failure::Usage(rule));
    }
    let verdicts = judge.judge(chosen, processed.as_deref());
    let good = !judge.is_cut() && verdicts.iter().all(|verdict| verdict.findings.is_empty());
    match format {
        Format::Json => show::json(&json!({"good": good, "cut": judge.is_cut(), "groups": verdicts}))?,
        Format::Table => {
            let cut = judge.is_cut().then_some("the history was full before its end: what came later is not judged\n");
            let told = verdicts.iter().map(|verdict| told(verdict, processed.is_some()));
            show::write_out(cut.map(str::to_owned).into_iter().chain(told).collect::<String>().as_bytes())?;
        }
    }
    Ok(if good { Exit::Done } else { Exit::Found })
}

fn read_history(file: &Path) -> Result<Judge, Failure> {
    let mut judge = Judge::default();
    for (number, line) in lines(BufReader::new(File::open(file)?)).enumerate() {
        match line?.0 {
            Some(line) => judge.read(&line),
            None => {
                let place = format!("{}, line {}: not a line of a history", file.display(), number + 1);
                return Err(Failure::Damaged(place.into()));
            }
        }
    }
    Ok(judge)
}

fn read_processed(file: &Path) -> Result<Vec<String>, Failure> {
    let mut ids = Vec::new();
    for line in BufReader::new(File::open(file)?).lines() {
        let line = line?;
        let text = line.trim();
        if text.is_empty() {
            continue;
        }
        // Dialects write ids with and without hyphens.
        ids.push(MessageId::parse(text).map_or_else(|_| text.to_owned(), |id| id.to_string()));
    }
    Ok(ids)
}

fn told(verdict: &Verdict, processed: bool) -> String {
    let Verdict { topic, group, deliveries, published, waiting, acked, dead, .. } = verdict;
    let mut text = format!(
        "{topic}, group {group}: {published} published, {deliveries} deliveries, {acked} acked, {dead} dead, \
         {waiting} never handed out\n"
    );
    let counts = [
        (verdict.lapsed, "leases ended because the consumer took too long"),
        (verdict.lapsed_by_fault, "leases were ended by a fault"),
        (verdict.acks_dropped, "acks were dropped by a fault"),
        (verdict.acked_late, "acks came late and still counted"),
        (verdict.refused_late, "acks came late and were refused"),
        (verdict.taken_over, "acks came when somebody else held the message"),
        (verdict.acked_again, "acks came for what was settled already"),
        (verdict.strange.len() as u64, "processed ids are none of this history's"),
    ];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!("  {count} {what}\n"));
    }
    let kinds = [
        (Finding::Lost, "lost: acked and never processed"),
        (Finding::Doubled, "doubled: processed more than once"),
        (Finding::Reordered, "reordered: processed after a later message of their key"),
        (Finding::Unsettled, "unsettled: delivered, and neither acked nor given up"),
    ];
    for (finding, what) in kinds.into_iter().filter(|(finding, _)| verdict.count(*finding) > 0) {
        text.push_str(&format!("  {} {what}\n", verdict.count(finding)));
        let named = verdict.findings.iter().filter(|named| named.finding == finding);
        for one in named.take(FINDINGS_SHOWN) {
            let offset = one.offset.map(|offset| format!(" offset {offset}")).unwrap_or_default();
            let key = one.key.as_ref().map(|key| format!(" key {}", show::plain(key))).unwrap_or_default();
            let times = one.processed.map(|times| format!(", processed {times} times")).unwrap_or_default();
            text.push_str(&format!("    {}{offset}{key}: delivered {} times{times}\n", one.id, one.deliveries));
        }
        if verdict.count(finding) > FINDINGS_SHOWN {
            text.push_str(&format!("    and {} more\n", verdict.count(finding) - FINDINGS_SHOWN));
        }
    }
    text.push_str(match (verdict.findings.is_empty(), processed) {
        (true, true) => "  nothing was lost, done twice or in the wrong order\n",
        (true, false) => {
            "  everything that was delivered was settled; what was done with it, only --processed can tell\n"
        }
        (false, _) => "",
    });
    text
}
