//! The history of a chaos server: lines of JSON in a file of their own, beside the log and no part of it. It is
//! written and never synced: it survives a kill, not a power cut. At its bound it ends with a line that says so.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::chaos::leases::Leases;
use crate::chaos::line::{Event, Line};
use crate::clock::Clock;

/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Room for the line that says that the history is full.
const FULL_BYTES: u64 = 128;

/// A history that is being written.
pub struct History {
    clock: Arc<dyn Clock>,
    path: PathBuf,
    bytes_max: u64,
    /// Locked while lines are put together and written, and never across an await.
    writing: Mutex<Writing>,
}

struct Writing {
    file: File,
    bytes: u64,
    full: bool,
    leases: Leases,
}

impl History {
    /// Opens the history at `path`, going on where an earlier life stopped.
    pub fn open(path: &Path, bytes_max: u64, clock: Arc<dyn Clock>) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let file = File::options().read(true).create(true).append(true).mode(0o600).open(path)?;
        let (now, wall) = (clock.boot().get(), clock.wall().get());
        let (mut leases, mut full, mut bytes) = (Leases::default(), false, 0);
        for line in lines(BufReader::new(File::open(path)?)) {
            let (line, length) = line?;
            // What a kill cut short, and what is no line of ours, ends what is kept.
            let Some(line) = line else { break };
            full |= line.event == Event::Full;
            leases.replay(&line, now, wall);
            bytes += length;
        }
        file.set_len(bytes)?;
        Ok(Self { clock, path: path.to_owned(), bytes_max, writing: Mutex::new(Writing { file, bytes, full, leases }) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A line about now.
    pub fn line(&self, event: Event) -> Line {
        Line {
            event,
            wall_ms: self.clock.wall().get(),
            boot_ms: self.clock.boot().get(),
            log_ms: None,
            account: None,
            topic: None,
            group: None,
            id: None,
            offset: None,
            key: None,
            attempt: None,
            attempts_max: None,
            token: None,
            handle: None,
            lease_ms: None,
            held_ms: None,
            outcome: None,
            fault: None,
            call: None,
        }
    }

    /// Writes lines down in one go. Leases that have ended meanwhile come before them.
    pub fn write(&self, lines: &[Line]) {
        let (now, wall) = (self.clock.boot().get(), self.clock.wall().get());
        let mut writing = self.lock();
        let lapsed = writing.leases.lapse(now);
        let lapsed = lapsed.into_iter().flat_map(|(delivery, ends)| lapse_lines(delivery, ends, now, wall));
        let all: Vec<Line> = lapsed.chain(lines.iter().cloned()).collect();
        lines.iter().for_each(|line| writing.leases.replay(line, now, wall));
        if let Err(error) = writing.put(&all, self.bytes_max, || self.line(Event::Full)) {
            tracing::error!(path = %self.path.display(), %error, "the history could not be written");
        }
    }

    /// The open deliveries that a settle means.
    pub fn meant(&self, settle: &Line) -> Vec<Line> {
        // What has ended is open no more.
        self.write(&[]);
        self.lock().leases.meant(settle)
    }

    /// The bytes that are whole now.
    pub fn bytes(&self) -> u64 {
        self.write(&[]);
        self.lock().bytes
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writing {
    /// Appends lines while there is room.
    fn put(&mut self, lines: &[Line], bytes_max: u64, full: impl Fn() -> Line) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            if self.full {
                break;
            }
            let before = text.len();
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
            if self.bytes + text.len() as u64 + FULL_BYTES > bytes_max {
                text.truncate(before);
                serde_json::to_writer(&mut text, &full())?;
                text.push(b'\n');
                self.full = true;
            }
        }
        self.file.write_all(&text)?;
        self.bytes += text.len() as u64;
        Ok(())
    }
}

/// What a history says of a lease that ended at `ends` of boot time; the wall clock shows `wall` at `now`.
fn lapse_lines(mut delivery: Line, ends: u64, now: u64, wall: u64) -> Vec<Line> {
    let last = delivery.attempts_max.is_some_and(|max| delivery.attempt.unwrap_or(0) >= max);
    delivery.event = Event::Lapse;
    delivery.boot_ms = ends;
    delivery.wall_ms = wall.saturating_sub(now.saturating_sub(ends));
    let mut lines = vec![delivery];
    if last {
        let dead = Line { event: Event::DeadLetter, ..lines[0].clone() };
        lines.push(dead);
    }
    lines
}

/// The lines of a history with their bytes; `None` for one that is none, or not whole.
pub fn lines(mut from: impl BufRead) -> impl Iterator<Item = io::Result<(Option<Line>, u64)>> {
    std::iter::from_fn(move || {
        let mut text = Vec::new();
        let mut bounded = io::Read::take(&mut from, LINE_BYTES_MAX);
        match bounded.read_until(b'\n', &mut text) {
            Ok(0) => None,
            Ok(length) => {
                let whole = text.last() == Some(&b'\n');
                Some(Ok((whole.then(|| serde_json::from_slice(&text).ok()).flatten(), length as u64)))
            }
            Err(error) => Some(Err(error)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::time::Duration;

    fn all(path: &Path) -> Vec<Line> {
        let file = BufReader::new(File::open(path).expect("a file"));
        lines(file).map(|line| line.expect("it reads").0.expect("a line")).collect()
    }

    fn delivery(history: &History, token: &str) -> Line {
        let mut line = history.line(Event::Delivery);
        line.account = Some("a".into());
        line.topic = Some("t".into());
        line.group = Some("g".into());
        line.token = Some(token.into());
        line.lease_ms = Some(1_000);
        line.attempt = Some(1);
        line
    }

    #[test]
    fn a_lease_that_ends_is_told_at_its_end_also_after_a_kill() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("history.jsonl");
        let clock = Arc::new(ManualClock::new(1));
        let history = History::open(&path, 1 << 20, clock.clone()).expect("it opens");
        let first = delivery(&history, "one");
        let ends = first.boot_ms + 1_000;
        history.write(&[
            first,
            delivery(&history, "two"),
            Line { attempts_max: Some(1), ..delivery(&history, "last") },
        ]);
        let ack = |token: &str, outcome: &str| {
            let outcome = Some(outcome.to_owned());
            Line { event: Event::Ack, outcome, ..delivery(&history, token) }
        };
        assert_eq!(history.meant(&ack("two", "")).len(), 1);
        history.write(&[ack("two", "settled"), ack("one", "unknown")]);
        assert!(history.meant(&ack("two", "")).is_empty(), "it is settled");
        drop(history);
        // A kill in the middle of a line.
        File::options()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(b"{\"event\":\"pu"))
            .expect("bytes");
        clock.advance(Duration::from_secs(5));
        let history = History::open(&path, 1 << 20, clock).expect("it opens again");
        history.write(&[]);
        let told: Vec<(Event, Option<String>)> = all(&path).into_iter().map(|line| (line.event, line.token)).collect();
        let told: Vec<(Event, &str)> =
            told.iter().map(|(event, token)| (*event, token.as_deref().unwrap_or(""))).collect();
        use Event::{Ack, DeadLetter, Delivery, Lapse};
        assert_eq!(
            told,
            [
                (Delivery, "one"),
                (Delivery, "two"),
                (Delivery, "last"),
                (Ack, "two"),
                (Ack, "one"),
                (Lapse, "one"),
                (Lapse, "last"),
                (DeadLetter, "last")
            ]
        );
        // After a restart the end is known by the wall clock; it has passed, and is told as passed by then.
        assert!(all(&path)[5].boot_ms >= ends);
    }

    #[test]
    fn a_full_history_ends_with_a_word_and_stays_full() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("history.jsonl");
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(1));
        for _ in 0..2 {
            let history = History::open(&path, 1_000, clock.clone()).expect("it opens");
            for token in ["a", "b", "c", "d", "e", "f", "g", "h"] {
                history.write(&[delivery(&history, token)]);
            }
            assert!(history.bytes() <= 1_000);
            let told = all(&path);
            assert_eq!(told.iter().filter(|line| line.event == Event::Full).count(), 1);
            assert_eq!(told.last().map(|line| line.event), Some(Event::Full));
        }
    }
}
