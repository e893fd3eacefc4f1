//! `windlass dump`: prints what is in a stopped data directory, or in a copy of one. Changes nothing: the engine
//! opens over a view that keeps what it writes in memory, at the time at which the log stopped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::cli::check::{damage_view, looked};
use crate::cli::exit::{Exit, Failure};
use crate::cli::show::{Format, plain};
use crate::clock::{Clock, ManualClock};
use crate::disk::{Cut, Overlay, RealDisk};
use crate::engine::local::LocalEngine;
use crate::engine::{
    Engine, IndexPlace, Limits, MessageState, Peek, PeekFilter, PeekedMessage, Seek, Source, WriterOptions, entry_text,
};
use crate::index::{Index, IndexError, Stopgap};
use crate::log::{CheckReport, Damage, FrameKind, Options, Place, SeenFrame, look};
use crate::model::bounds::PULL_BATCH_MAX;
use crate::model::{AccountName, Group, GroupRef, Millis, Offset, Start, Topic, TopicRef};

/// Prints topics, groups and messages of a stopped server's directory, or of a copy, without changing it. Exit
/// code 5: damage; what lies before it is printed.
#[derive(Debug, Args)]
pub struct DumpArguments {
    /// The data directory.
    #[arg(value_name = "DIRECTORY")]
    dir: PathBuf,
    /// Print the log instead: its frames and entries in order.
    #[arg(long, conflicts_with = "bodies")]
    log: bool,
    /// Print the bodies of messages too.
    #[arg(long)]
    bodies: bool,
    /// How to print: a line for people, or a line of JSON, for each thing.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Where lines go.
struct Out {
    format: Format,
    to: std::io::BufWriter<std::io::Stdout>,
}

impl Out {
    /// Prints one thing. A reader that went away is no error.
    fn line(&mut self, json: impl FnOnce() -> String, text: impl FnOnce() -> String) -> std::io::Result<()> {
        let line = if self.format == Format::Json { json() } else { text() };
        match writeln!(self.to, "{line}") {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(Exit::Done as i32),
            done => done,
        }
    }
}

/// Does what the arguments say.
pub fn run(arguments: &DumpArguments) -> Result<Exit, Failure> {
    let looked = looked(&arguments.dir)?;
    let mut out = Out { format: arguments.output, to: std::io::BufWriter::new(std::io::stdout()) };
    let damage = match arguments.log {
        true => dump_log(&arguments.dir, looked.place, &mut out)?.or_else(|| looked.report.damage.clone()),
        false => {
            dump_state(&arguments.dir, looked.place, &looked.report, arguments.bodies, &mut out)?;
            looked.report.damage.clone()
        }
    };
    end(&looked.report, damage.as_ref(), &mut out)?;
    out.to.flush()?;
    Ok(if damage.is_none() { Exit::Done } else { Exit::Damaged })
}

fn end(report: &CheckReport, damage: Option<&Damage>, out: &mut Out) -> std::io::Result<()> {
    let (last, torn) = (report.last.get(), report.torn.as_ref());
    let json = || {
        let torn = torn.map(|torn| json!({"file": torn.file, "at_byte": torn.at_byte, "bytes": torn.bytes}));
        json!({"kind": "end", "whole": damage.is_none(), "last_lsn": last, "torn": torn, "damage": damage.map(damage_view)})
            .to_string()
    };
    out.line(json, || match (damage, torn) {
        (Some(damage), _) => {
            format!("damaged: {} at byte {}: {}; nothing behind it was read", damage.file, damage.at_byte, damage.why)
        }
        (None, Some(torn)) => format!("end: lsn {last}; {} bytes of {} behind it are torn", torn.bytes, torn.file),
        (None, None) => format!("end: lsn {last}"),
    })
}

fn dump_log(dir: &Path, place: Place, out: &mut Out) -> Result<Option<Damage>, Failure> {
    let mut failed = None;
    let damage = look(&RealDisk, dir, place, &mut |frame| {
        if failed.is_none() {
            failed = print_frame(&frame, out).err();
        }
    })?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(damage),
    }
}

fn print_frame(frame: &SeenFrame<'_>, out: &mut Out) -> std::io::Result<()> {
    let head = frame.kind == FrameKind::Head;
    let (first, time, epoch) = (frame.first.get(), frame.time.get(), frame.epoch.counter);
    let json = || {
        json!({
            "kind": if head { "head" } else { "frame" },
            "file": frame.file,
            "at_byte": frame.at_byte,
            "bytes": frame.bytes,
            "epoch": epoch,
            "first_lsn": first,
            "synced_lsn": frame.synced.get(),
            "time_ms": time,
            "boot_ms": frame.boot.get(),
            "records": frame.records,
        })
        .to_string()
    };
    let name = if head { "head" } else { "frame" };
    out.line(json, || {
        let (file, at, bytes, records) = (frame.file, frame.at_byte, frame.bytes, frame.records);
        format!("{name} {file}:{at} {bytes} bytes, lsn {first}, time {time}, epoch {epoch}, {records} records")
    })?;
    for (place, entry) in frame.entries.clone().enumerate() {
        let entry = entry_text(entry).map_err(std::io::Error::other)?;
        let lsn = (!head).then_some(first + place as u64);
        let json = || -> String {
            let raw =
                RawValue::from_string(entry.clone()).map_or_else(|_| "null".to_owned(), |raw| raw.get().to_owned());
            let lsn = lsn.map_or_else(|| "null".to_owned(), |lsn| lsn.to_string());
            format!("{{\"kind\":\"entry\",\"lsn\":{lsn},\"time_ms\":{time},\"epoch\":{epoch},\"entry\":{raw}}}")
        };
        out.line(json, || {
            let lsn = lsn.map_or_else(|| "-".to_owned(), |lsn| lsn.to_string());
            format!("  {lsn} {}", plain(&entry))
        })?;
    }
    Ok(())
}

/// The index is made anew, in memory.
struct InMemory;

impl IndexPlace for InMemory {
    fn open(&self) -> Result<Box<dyn Index>, IndexError> {
        Ok(Box::<Stopgap>::default())
    }

    fn set_aside(&self) -> Result<(), IndexError> {
        Ok(())
    }
}

/// An engine over a view of the directory, at the time of its last frame; `None` if nothing of it can be opened
/// for its damage.
fn open(dir: &Path, place: Place, report: &CheckReport) -> Result<Option<LocalEngine>, Failure> {
    // A clock that stands: nothing lapses, and nothing grows too old, by being looked at.
    let clock = ManualClock::new(1);
    clock.jump_wall(Millis::ZERO);
    let clock: Arc<dyn Clock> = Arc::new(clock);
    let cut = |damage: &Damage| Cut {
        dir: dir.join("log"),
        suffix: ".seg",
        file: damage.file.clone(),
        at_byte: damage.at_byte,
    };
    let damage = report.damage.as_ref();
    // Of a copy it is known that its end may be missing.
    let place = if damage.is_some() { Place::Copy } else { place };
    let source = Source {
        disk: Arc::new(Overlay::new(RealDisk, damage.map(cut))),
        data_dir: dir.to_owned(),
        log: Options { place, reserve: 0, ..Options::default() },
        clock,
        place: Arc::new(InMemory),
        // What is there is there, whatever the bounds of the server were.
        limits: Limits {
            topics_max: usize::MAX,
            groups_max: usize::MAX,
            groups_per_topic_max: usize::MAX,
            ..Limits::default()
        },
        options: WriterOptions::default(),
        index_is_foreign: true,
    };
    match LocalEngine::start(source, &[0; 32]) {
        Ok(engine) => Ok(Some(engine)),
        Err(_) if damage.is_some() => Ok(None),
        Err(error) => Err(Failure::Other(Box::new(error))),
    }
}

fn dump_state(dir: &Path, place: Place, report: &CheckReport, bodies: bool, out: &mut Out) -> Result<(), Failure> {
    let Some(engine) = open(dir, place, report)? else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let dumper = Dumper { engine: &engine, bodies };
    let done = runtime.block_on(dumper.all(out));
    runtime.block_on(engine.stop());
    engine.join();
    done
}

struct Dumper<'a> {
    engine: &'a LocalEngine,
    bodies: bool,
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::Other(Box::new(error))
}

impl Dumper<'_> {
    async fn all(&self, out: &mut Out) -> Result<(), Failure> {
        let accounts = self.engine.status().await.topics.into_iter().filter_map(|topic| topic.account);
        let accounts: std::collections::BTreeSet<AccountName> = accounts.collect();
        for account in accounts {
            for topic in self.engine.topics(account.clone()).await.map_err(failed)? {
                self.topic(&account, &topic, out).await?;
            }
        }
        Ok(())
    }

    async fn topic(&self, account: &AccountName, topic: &Topic, out: &mut Out) -> Result<(), Failure> {
        let at = || (account.clone(), TopicRef::Name(topic.name.clone()));
        let (of, name) = at();
        let counts = self.engine.counts(of, name, None).await.map_err(failed)?;
        let tail = self.page(account, topic, None, Offset::ZERO, 1).await?.1;
        let kept = counts.unsettled();
        let json = || {
            json!({
                "kind": "topic", "account": account.as_str(), "topic": topic.name.as_str(), "id": topic.id.to_hex(),
                "ordering": format!("{:?}", topic.settings.ordering), "tail": tail.get(), "messages": kept,
                "bytes": counts.bytes, "created_at_ms": topic.created_at.get(),
            })
            .to_string()
        };
        out.line(json, || {
            format!("topic {} of {account}: {kept} messages of {} bytes, tail {tail}", topic.name, counts.bytes)
        })?;
        let (of, name) = at();
        let groups = self.engine.groups(of, name).await.map_err(failed)?;
        for group in &groups {
            self.group(account, topic, group, out).await?;
        }
        self.messages(account, topic, &groups, out).await
    }

    async fn group(&self, account: &AccountName, topic: &Topic, group: &Group, out: &mut Out) -> Result<(), Failure> {
        let (topic_ref, group_ref) = (TopicRef::Name(topic.name.clone()), GroupRef::Name(group.name.clone()));
        let counts = self.engine.counts(account.clone(), topic_ref.clone(), Some(group_ref.clone())).await;
        let counts = counts.map_err(failed)?;
        // Asking where a seek would begin moves nothing.
        let seek =
            Seek { account: account.clone(), topic: topic_ref, group: group_ref, to: Start::Tail, dry_run: true };
        let cursor = self.engine.seek(seek).await.map_err(failed)?.from;
        let json = || {
            json!({
                "kind": "group", "account": account.as_str(), "topic": topic.name.as_str(), "group": group.name.as_str(),
                "cursor": cursor.get(), "ready": counts.ready, "in_flight": counts.in_flight, "delayed": counts.delayed,
                "attempts_max": group.settings.attempts_max,
                "dead_letter": group.settings.dead_letter.as_ref().map(ToString::to_string),
            })
            .to_string()
        };
        out.line(json, || {
            let (ready, held, delayed) = (counts.ready, counts.in_flight, counts.delayed);
            format!("  group {}: cursor {cursor}, {ready} ready, {held} leased, {delayed} delayed", group.name)
        })?;
        Ok(())
    }

    /// Messages from an offset on as a group sees them; the topic's tail; where the next page begins.
    async fn page(
        &self,
        account: &AccountName,
        topic: &Topic,
        group: Option<&Group>,
        from: Offset,
        limit: usize,
    ) -> Result<(Vec<PeekedMessage>, Offset, Option<Offset>), Failure> {
        let peek = Peek {
            account: account.clone(),
            topic: TopicRef::Name(topic.name.clone()),
            group: group.map(|group| GroupRef::Name(group.name.clone())),
            filter: PeekFilter::default(),
            from,
            limit,
        };
        let peeked = self.engine.peek(peek).await.map_err(failed)?;
        Ok((peeked.messages, peeked.tail, peeked.next))
    }

    async fn messages(
        &self,
        account: &AccountName,
        topic: &Topic,
        groups: &[Group],
        out: &mut Out,
    ) -> Result<(), Failure> {
        let mut from = Some(Offset::ZERO);
        while let Some(start) = from {
            let (messages, _, next) = self.page(account, topic, None, start, PULL_BATCH_MAX).await?;
            let mut views = Vec::new();
            for group in groups {
                // A group's page is of the same messages: both are read from the same offset, within the same bounds.
                let (seen, ..) = self.page(account, topic, Some(group), start, PULL_BATCH_MAX).await?;
                views.push((group.name.to_string(), seen));
            }
            for message in &messages {
                self.message(account, topic, message, &views, out)?;
            }
            from = next;
        }
        Ok(())
    }

    fn message(
        &self,
        account: &AccountName,
        topic: &Topic,
        peeked: &PeekedMessage,
        views: &[(String, Vec<PeekedMessage>)],
        out: &mut Out,
    ) -> Result<(), Failure> {
        let (head, body) = (&peeked.message.head, &peeked.message.body);
        let states: Vec<(&str, &str, u32)> = views
            .iter()
            .filter_map(|(group, seen)| {
                let seen = seen.iter().find(|seen| seen.message.head.offset == head.offset)?;
                Some((group.as_str(), state_name(seen.state), seen.attempts.get()))
            })
            .collect();
        let text_of = |label: Option<&str>| label.map(plain).unwrap_or_else(|| "-".to_owned());
        let (key, tag) = (head.key.as_ref().map(AsRef::as_ref), head.tag.as_ref().map(AsRef::as_ref));
        let json = || {
            let groups: Map<String, Value> = states
                .iter()
                .map(|(group, state, attempts)| ((*group).to_owned(), json!({"state": state, "attempts": attempts})))
                .collect();
            let mut view = json!({
                "kind": "message", "account": account.as_str(), "topic": topic.name.as_str(), "offset": head.offset.get(),
                "id": head.id.to_string(), "key": key, "tag": tag, "bytes": body.len(),
                "published_at_ms": head.published_at.get(), "ready_at_ms": head.ready_at.get(), "groups": groups,
                "origin": head.origin.as_ref().map(|origin| origin.topic.to_string()),
            });
            if self.bodies {
                match std::str::from_utf8(body) {
                    Ok(text) => view["body"] = text.into(),
                    Err(_) => view["body_base64"] = STANDARD.encode(body).into(),
                }
            }
            view.to_string()
        };
        out.line(json, || {
            let states = states.iter().map(|(group, state, attempts)| format!(" {group}:{state}:{attempts}"));
            let body = if self.bodies { format!(" {}", plain(&String::from_utf8_lossy(body))) } else { String::new() };
            let (offset, id, bytes) = (head.offset, head.id, peeked.message.body.len());
            format!(
                "    {offset} {id} {} {} {bytes} bytes{}{body}",
                text_of(key),
                text_of(tag),
                states.collect::<String>()
            )
        })?;
        Ok(())
    }
}

const fn state_name(state: Option<MessageState>) -> &'static str {
    match state {
        Some(MessageState::Ready) => "ready",
        Some(MessageState::InFlight) => "in_flight",
        Some(MessageState::Delayed) => "delayed",
        Some(MessageState::Settled) => "settled",
        None => "none",
    }
}
