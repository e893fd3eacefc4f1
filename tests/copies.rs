//! Copies of a running, loaded directory, by every tool, and backups of it, while segments are recycled. Each opens
//! and holds all that was answered before it began: no message is lost, and none whose ack was answered comes back.

#![allow(clippy::unwrap_used)]

mod backup_rig;
mod counts;
mod process;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backup_rig::{Stage, V1, back_up, body, kept, publish, pull, text};
use process::{Process, eventually};
use serde_json::json;
use windlass::disk::sim::Dice;

/// How long a dropped segment is kept for copies here. A copy that took longer may be refused, and only by name.
const KEEP: Duration = Duration::from_secs(4);
const KEEP_SETTINGS: &[(&str, &str)] = &[("WINDLASS_LOG_DROP_KEEP", "4 s"), ("WINDLASS_LOG_DROP_KEEP_MIN", "4 s")];
/// Messages that wait at most: the story is about segments that come and go, not about a backlog.
const BACKLOG_MAX: i64 = 1_500;
/// Acks between two copies, so that each is taken under load and finds something new.
const ACKS_BETWEEN: u64 = 150;

/// What clients have been told, and what they asked for.
#[derive(Default)]
struct Told {
    published: Mutex<HashSet<String>>,
    /// Their ack was sent: settled or not.
    asked: Mutex<HashSet<String>>,
    acked: Mutex<HashSet<String>>,
    waiting: AtomicI64,
    acks: AtomicU64,
    stop: AtomicBool,
}

impl Told {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn produce(&self, server: &Process, number: usize) {
        let mut client = server.client();
        for count in 0.. {
            while self.waiting.load(Ordering::SeqCst) > BACKLOG_MAX && !self.stopped() {
                std::thread::sleep(Duration::from_millis(1));
            }
            if self.stopped() {
                return;
            }
            let body = format!("{number}-{count}-{}", "x".repeat(2_000));
            publish(&mut client, &body);
            self.published.lock().unwrap().insert(body);
            self.waiting.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn consume(&self, server: &Process) {
        let mut client = server.client();
        while !self.stopped() {
            let request = json!({"batch_max": 10, "lease_ms": 60_000, "wait_ms": 100, "encoding": "text"});
            for (number, message) in pull(&mut client, &request).iter().enumerate() {
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                // One in ten stays under its lease.
                if number == 3 {
                    continue;
                }
                self.asked.lock().unwrap().insert(body(message));
                let acked = client.post(&format!("{V1}/topics/t/groups/g/ack"), &json!({"tokens": [message["token"]]}));
                assert_eq!(acked.unwrap().expect(200)["outcomes"][0]["outcome"], "settled");
                self.acked.lock().unwrap().insert(body(message));
                self.acks.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// Ends the work when it is dropped, so that a test that fails ends.
struct AtTheEnd<'a>(&'a Told);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    Cp,
    Tar,
    /// One file after the other, in any order, with pauses between them.
    Shuffled,
    /// `windlass backup` through the server, then proven and restored.
    Backup,
}

/// Copies `data` to `to`, which is not there.
fn copy(tool: Tool, data: &Path, to: &Path, dice: &mut Dice) {
    match tool {
        Tool::Cp => drop(Command::new("cp").arg("-r").arg(data).arg(to).output().expect("cp runs")),
        Tool::Tar => {
            std::fs::create_dir(to).unwrap();
            // Files that change or go while it reads are what this is about.
            let piped = format!("tar -C '{}' -cf - . 2>/dev/null | tar -C '{}' -xf -", data.display(), to.display());
            drop(Command::new("sh").args(["-c", &piped]).output().expect("tar runs"));
        }
        Tool::Shuffled => copy_shuffled(data, to, dice),
        Tool::Backup => unreachable!("a backup is made by the server"),
    }
}

fn copy_shuffled(data: &Path, to: &Path, dice: &mut Dice) {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        std::fs::create_dir(to.join(&below)).unwrap();
        for entry in std::fs::read_dir(data.join(&below)).unwrap() {
            let entry = entry.unwrap();
            let name = below.join(entry.file_name());
            if entry.path().is_dir() { open.push(name) } else { files.push(name) }
        }
    }
    for place in (1..files.len()).rev() {
        files.swap(place, dice.below(place as u64 + 1) as usize);
    }
    for file in files {
        // What is gone by now is left out, as rsync does.
        let _ = std::fs::copy(data.join(&file), to.join(&file));
        std::thread::sleep(Duration::from_millis(dice.below(20)));
    }
}

/// Figures of a run.
#[derive(Debug, Default)]
struct Tally {
    copies: u64,
    refused: u64,
    held: u64,
    slowest: Duration,
}

/// Copies again and again while the server works, and opens each copy beside it.
fn copies(tool: Tool, rounds: u64, seed: u64) {
    let (stage, begun) = (Stage::new(), Instant::now());
    drop(stage.ready("drop"));
    let server = stage.start(&stage.data, KEEP_SETTINGS);
    let (told, mut dice, mut tally) = (Told::default(), Dice::new(seed), Tally::default());
    std::thread::scope(|scope| {
        let _end = AtTheEnd(&told);
        for number in 0..2 {
            let (told, server) = (&told, &server);
            scope.spawn(move || told.produce(server, number));
        }
        for _ in 0..2 {
            scope.spawn(|| told.consume(&server));
        }
        let mut attempts = 0;
        while tally.copies < rounds {
            attempts += 1;
            assert!(attempts <= 2 * rounds + 2, "too many copies took longer than segments are kept: {tally:?}");
            let target = told.acks.load(Ordering::SeqCst) + ACKS_BETWEEN;
            eventually("work between copies", || (told.acks.load(Ordering::SeqCst) >= target).then_some(()));
            one_copy(&stage, &server, &told, tool, attempts, &mut dice, &mut tally);
        }
    });
    let recycled = told.published.lock().unwrap().len();
    println!(
        "{tool:?}: {} copies in {:.1} s (seed {seed}): {} messages held, 0 lost, 0 came back; {} refused for taking too long, \
         slowest {:?}; {recycled} messages published",
        tally.copies,
        begun.elapsed().as_secs_f64(),
        tally.held,
        tally.refused,
        tally.slowest,
    );
}

fn one_copy(stage: &Stage, server: &Process, told: &Told, tool: Tool, number: u64, dice: &mut Dice, tally: &mut Tally) {
    // Acked first: whatever is in it was published before.
    let acked = told.acked.lock().unwrap().clone();
    let published = told.published.lock().unwrap().clone();
    let (name, begun) = (format!("copy-{number}"), Instant::now());
    let data = if tool == Tool::Backup {
        back_up(&mut server.client(), &name);
        let (code, out, said) = stage.run(&["restore", text(&stage.backups.join(&name)), "--verify"]);
        assert!(code == 0 && out.contains("is whole"), "{out}{said}");
        stage.restore(&name, &name)
    } else {
        let to = stage.home.path().join(&name);
        copy(tool, &stage.data, &to, dice);
        to
    };
    let took = begun.elapsed();
    let asked = told.asked.lock().unwrap().clone();
    let mut command = process::serve_command(&data);
    command.envs(backup_rig::SETTINGS.iter().copied());
    match Process::try_start(command, &data) {
        Ok(copy) => {
            let mut client = copy.client();
            let kept = kept(&mut client);
            let all: HashSet<&String> = kept.iter().map(|(body, _)| body).collect();
            assert_eq!(all.len(), kept.len(), "copy {number} holds a message twice");
            let lost = published.iter().filter(|body| !all.contains(body) && !asked.contains(*body));
            assert_eq!(lost.count(), 0, "copy {number} by {tool:?} lost messages of {}", published.len());
            let back = kept.iter().filter(|(body, state)| acked.contains(body) && state != "settled");
            assert_eq!(back.count(), 0, "copy {number} by {tool:?} forgot acks");
            for message in pull(&mut client, &json!({"batch_max": 1_000, "encoding": "text"})) {
                assert!(!acked.contains(&body(&message)), "an acked message was delivered");
            }
            // It is a server like any other, beside the first one.
            publish(&mut client, "into the copy");
            tally.copies += 1;
            tally.held += published.iter().filter(|body| all.contains(body)).count() as u64;
            tally.slowest = tally.slowest.max(took);
        }
        Err(said) => {
            let named = said.contains(".seg is missing: it was dropped while this copy was taken");
            assert!(took >= KEEP && named, "copy {number} by {tool:?}, which took {took:?}: {said}");
            tally.refused += 1;
        }
    }
    std::fs::remove_dir_all(&data).unwrap();
    if tool == Tool::Backup {
        std::fs::remove_dir_all(stage.backups.join(&name)).unwrap();
    }
}

fn rounds(long: u64) -> u64 {
    counts::rounds("WINDLASS_COPIES", 2, long)
}

#[test]
fn a_copy_by_cp_holds_all_that_was_answered_before_it_began() {
    copies(Tool::Cp, rounds(20), 1);
}

#[test]
fn a_copy_by_tar_holds_all_that_was_answered_before_it_began() {
    copies(Tool::Tar, rounds(15), 2);
}

#[test]
fn a_copy_file_by_file_in_any_order_holds_all_that_was_answered_before_it_began() {
    copies(Tool::Shuffled, rounds(15), 3);
}

#[test]
fn a_backup_while_segments_are_recycled_holds_all_that_was_answered_before_it_began() {
    copies(Tool::Backup, rounds(50), 4);
}
