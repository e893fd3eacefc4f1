//! The lives of a server: work, SIGKILL, damage to the index, restart, check.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::checker::{Violation, check, check_end, check_look};
use crate::history::{History, Topic};
use crate::look::look;
use crate::process::client::Client;
use crate::process::{Process, eventually, serve_command};
use crate::workers::{Consumer, Dialect, Dice, NATIVE, Producer, Stage, Worker, work};

/// How long a life may last.
const LIFE_MS: u64 = 700;
/// After the last kill everything must be delivered and settled within this.
const WATCHDOG: Duration = Duration::from_secs(30);
/// Longer than this no start may take, however loaded the machine.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// Rounds after each of which the whole history is checked.
const CHECKED_ROUNDS: u64 = 100;
/// One round in so many loses its index, or has it damaged.
const INDEX_ROUNDS: u64 = 10;
/// One round in so many copies the directory under load.
const COPY_ROUNDS: u64 = 8;
type Settings = &'static [(&'static str, &'static str)];

/// Small segments and frequent checkpoints: segments are begun, dropped and recycled, and checkpoints written,
/// many times in a run, and killed in the middle of it.
const SMALL_SEGMENTS: Settings = &[
    ("WINDLASS_LIMITS_BODY_BYTES_MAX", "64 KiB"),
    ("WINDLASS_LIMITS_BATCH_BYTES_MAX", "192 KiB"),
    ("WINDLASS_LOG_SEGMENT_BYTES", "1 MiB"),
    ("WINDLASS_CHECKPOINT_INTERVAL", "150 ms"),
];
const ACCOUNT: &str = "023e105f4ecef8ad9ca31a8372d0c353";
const PULLER: &str = "http-pull";

fn topics() -> Vec<Topic> {
    let orders = Topic { name: "orders", groups: &["left", "right"], per_key: true, attempts_max: None, dead: None };
    let mail =
        Topic { name: "mail", groups: &[PULLER], per_key: false, attempts_max: Some(3), dead: Some("mail-dead") };
    let dead = Topic { name: "mail-dead", groups: &["undertaker"], per_key: false, attempts_max: None, dead: None };
    vec![orders, mail, dead]
}

/// A copy of the directory, taken under load.
struct Copy {
    dir: TempDir,
    data: PathBuf,
    begin: u64,
    end: u64,
}

/// What a run saw, to be told at its end.
#[derive(Default)]
struct Tally {
    ready_max: Duration,
    index_attacks: u64,
    copies: u64,
    unanswered: usize,
}

pub struct Rig {
    seed: u64,
    dice: Dice,
    dir: TempDir,
    data: PathBuf,
    topics: Vec<Topic>,
    stage: Stage,
    workers: Vec<Box<dyn Worker>>,
    history: History,
    tally: Tally,
    round: u64,
    /// After each kill the end of the log is lost, as on a disk that lies.
    disk_lies: bool,
    settings: Settings,
    copy_rounds: u64,
}

impl Rig {
    pub fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        let stage = Stage {
            started: Instant::now(),
            ending: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            open: AtomicI64::new(0),
        };
        Self {
            seed,
            dice: Dice(seed),
            dir,
            data,
            topics: topics(),
            stage,
            workers: Vec::new(),
            history: History::default(),
            tally: Tally::default(),
            round: 0,
            disk_lies: false,
            settings: SMALL_SEGMENTS,
            copy_rounds: COPY_ROUNDS,
        }
    }

    /// A server as it comes, copied in every other round: its directory is much larger than what is in it.
    pub fn with_default_settings(self) -> Self {
        Self { settings: &[], copy_rounds: 2, ..self }
    }

    fn command(&self, data: &Path) -> Command {
        let mut command = serve_command(data);
        command.envs(self.settings.iter().copied());
        command
    }

    /// A run that must fail.
    pub fn on_a_lying_disk(self) -> Self {
        Self { disk_lies: true, ..self }
    }

    /// All of it.
    pub fn run(mut self, rounds: u64) {
        let begun = Instant::now();
        let mut server = self.start();
        let queue = set_up(&mut server.client());
        self.workers = self.make_workers(&queue);
        for round in 1..=rounds {
            self.round = round;
            let copy = self.live(&mut server);
            if let Some(copy) = copy {
                self.check_copy(copy);
            }
            if self.disk_lies {
                self.lose_the_tail();
            }
            if self.dice.below(INDEX_ROUNDS) == 0 {
                self.attack_index();
            }
            server = self.start();
            let now = self.stage.now();
            let look = look(&mut server.client(), &self.topics);
            self.judge("after the restart", check_look(&self.topics, &self.history, &look, now, now));
            // A long run's history takes long: later on it is checked now and then, and at the end.
            if round <= CHECKED_ROUNDS || round % 10 == 0 {
                self.judge("in all that happened so far", check(&self.topics, &self.history));
            }
        }
        self.drain(&mut server);
        self.judge("in the whole run", check(&self.topics, &self.history));
        self.judge("at the end", check_end(&self.topics, &self.history));
        self.tell(rounds, begun.elapsed());
    }

    fn tell(&self, rounds: u64, took: Duration) {
        let Tally { ready_max, index_attacks, copies, unanswered } = self.tally;
        let History { publishes, deliveries, settles } = &self.history;
        println!(
            "{rounds} kills in {took:.1?}: {} publishes, {} deliveries, {} settles, {unanswered} requests without an \
             answer; {index_attacks} indexes attacked, {copies} copies opened; ready at the latest after {ready_max:.0?}",
            publishes.len(),
            deliveries.len(),
            settles.len(),
        );
        assert!(!deliveries.is_empty(), "a run without deliveries shows nothing");
    }

    fn start(&mut self) -> Process {
        let begun = Instant::now();
        let server = match Process::try_start(self.command(&self.data), &self.data) {
            Ok(server) => server,
            Err(said) => self.fail(&format!("the server did not start: {said}")),
        };
        server.client().get("/readyz").expect("an answer").expect(200);
        let ready = begun.elapsed();
        assert!(ready < READY_PATIENCE, "ready only after {ready:?}");
        self.tally.ready_max = self.tally.ready_max.max(ready);
        server
    }

    fn make_workers(&mut self, queue: &str) -> Vec<Box<dyn Worker>> {
        let mut workers: Vec<Box<dyn Worker>> = Vec::new();
        let producers =
            [("orders", Dialect::Native, 2), ("orders", Dialect::Native, 2), ("mail", Dialect::Cloudflare, 1)];
        for (number, (topic, dialect, groups)) in producers.into_iter().enumerate() {
            let (queue, dice) = (queue.to_owned(), Dice(self.dice.next()));
            workers.push(Box::new(Producer { number, dialect, topic, queue, groups, dice, count: 0, unsure: None }));
        }
        let consumers = [
            ("orders", "left", Dialect::Native),
            ("orders", "left", Dialect::Native),
            ("orders", "right", Dialect::Native),
            ("mail", PULLER, Dialect::Cloudflare),
            ("mail", PULLER, Dialect::Cloudflare),
            ("mail-dead", "undertaker", Dialect::Native),
        ];
        for (topic, group, dialect) in consumers {
            let (queue, dice) = (queue.to_owned(), Dice(self.dice.next()));
            workers.push(Box::new(Consumer { dialect, topic, group, queue, dice, held: Vec::new() }));
        }
        workers
    }

    /// Lets everybody work, and kills the server in the middle of it.
    fn live(&mut self, server: &mut Process) -> Option<Copy> {
        self.stage.ending.store(false, Ordering::SeqCst);
        let life = Duration::from_millis(20 + self.dice.below(LIFE_MS));
        let copying = self.dice.below(self.copy_rounds) == 0;
        let (stage, data, workers) = (&self.stage, &self.data, &mut self.workers);
        let address = server.address;
        let mut copy = None;
        let histories: Vec<History> = std::thread::scope(|scope| {
            let threads: Vec<_> = workers
                .iter_mut()
                .map(|worker| scope.spawn(move || work(worker.as_mut(), Client::new(address), stage)))
                .collect();
            // The moment of death is drawn, not waited for.
            std::thread::sleep(life);
            if copying {
                copy = Some(take_copy(data, stage));
            }
            stage.ending.store(true, Ordering::SeqCst);
            server.kill();
            threads.into_iter().map(|thread| thread.join().expect("a worker ends well")).collect()
        });
        for history in histories {
            self.tally.unanswered += history.publishes.iter().filter(|one| one.end.is_none()).count();
            self.tally.unanswered += history.settles.iter().filter(|one| one.end.is_none()).count();
            self.history.append(history);
        }
        copy
    }

    /// A second server opens the copy, as its owner would after a disaster.
    fn check_copy(&mut self, mut copy: Copy) {
        self.tally.copies += 1;
        let server = match Process::try_start(self.command(&copy.data), &copy.data) {
            Ok(server) => server,
            Err(said) => {
                copy.dir.disable_cleanup(true);
                self.fail(&format!("the copy in {} does not open: {said}", copy.data.display()))
            }
        };
        let look = look(&mut server.client(), &self.topics);
        self.judge("in the copy", check_look(&self.topics, &self.history, &look, copy.begin, copy.end));
    }

    /// Deletes the index, cuts a file of it, or flips a byte in one.
    fn attack_index(&mut self) {
        self.tally.index_attacks += 1;
        let index = self.data.join("index");
        let mut files = files_below(&index);
        files.retain(|path| std::fs::metadata(path).is_ok_and(|about| about.len() > 0));
        files.sort();
        let kind = self.dice.below(3);
        if kind == 0 || files.is_empty() {
            let _ = std::fs::remove_dir_all(&index);
            return;
        }
        let path = &files[usize::try_from(self.dice.below(files.len() as u64)).expect("a place")];
        let mut bytes = std::fs::read(path).expect("a file of the index");
        let at = usize::try_from(self.dice.below(bytes.len() as u64)).expect("a place");
        if kind == 1 {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << self.dice.below(8);
        }
        std::fs::write(path, bytes).expect("the file is written");
    }

    /// Forgets the last kilobytes that were written to the log.
    fn lose_the_tail(&self) {
        let is_segment =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == "00000000000000000001.seg".len());
        let newest = files_below(&self.data.join("log")).into_iter().filter(is_segment).max().expect("a segment");
        let mut bytes = std::fs::read(&newest).expect("the segment");
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes[end.saturating_sub(6_000)..end].fill(0);
        std::fs::write(newest, bytes).expect("the segment is written");
    }

    /// Everything is pulled and acked; the server is not killed any more.
    fn drain(&mut self, server: &mut Process) {
        self.stage.draining.store(true, Ordering::SeqCst);
        self.stage.ending.store(false, Ordering::SeqCst);
        let (stage, topics, address) = (&self.stage, &self.topics, server.address);
        let begun = Instant::now();
        let workers = &mut self.workers;
        // One turn each first: what a producer sends again is to be there before anybody counts.
        for worker in workers.iter_mut() {
            worker.turn(&mut Client::new(address), stage, &mut self.history).expect("nobody kills the server");
        }
        let (histories, left) = std::thread::scope(|scope| {
            let threads: Vec<_> = workers
                .iter_mut()
                .map(|worker| scope.spawn(move || work(worker.as_mut(), Client::new(address), stage)))
                .collect();
            let mut client = Client::new(address);
            let left = loop {
                let left = open_messages(&mut client, topics);
                if left.is_empty() || begun.elapsed() > WATCHDOG {
                    break left;
                }
                std::thread::sleep(Duration::from_millis(50));
            };
            stage.ending.store(true, Ordering::SeqCst);
            let histories: Vec<History> =
                threads.into_iter().map(|thread| thread.join().expect("a worker ends well")).collect();
            (histories, left)
        });
        histories.into_iter().for_each(|history| self.history.append(history));
        if !left.is_empty() {
            self.fail(&format!("after {WATCHDOG:?} still open: {left:?}"));
        }
    }

    /// Ends the run; the directory stays for whoever looks into it.
    fn fail(&mut self, what: &str) -> ! {
        self.dir.disable_cleanup(!self.disk_lies);
        panic!("round {}, WINDLASS_KILL_SEED={}, {}: {what}", self.round, self.seed, self.data.display());
    }

    fn judge(&mut self, place: &str, violations: Vec<Violation>) {
        if violations.is_empty() {
            return;
        }
        let mut text = format!("{} violations {place}\n", violations.len());
        for one in violations.iter().take(8) {
            text.push_str(&format!("  {} {}: {}\n{}", one.rule, one.name, one.what, self.history.of(&one.name)));
        }
        let said = std::fs::read_to_string(self.data.with_extension("stderr")).unwrap_or_default();
        let last: Vec<&str> = said.lines().rev().take(20).collect();
        text.extend(last.into_iter().rev().map(|line| format!("  server: {line}\n")));
        self.fail(&text);
    }
}

/// Makes topics, groups and the queue; gives the path of the queue.
fn set_up(client: &mut Client) -> String {
    let mut post = |path: &str, body: serde_json::Value| client.post(path, &body).expect("an answer");
    post(NATIVE, json!({"name": "orders", "settings": {"ordering": "per_key"}})).expect(201);
    for group in ["left", "right"] {
        post(&format!("{NATIVE}/orders/groups"), json!({"name": group})).expect(201);
    }
    let queues = format!("/client/v4/accounts/{ACCOUNT}/queues");
    let made = post(&queues, json!({"queue_name": "mail"})).expect(200);
    let queue = format!("{queues}/{}", made["result"]["queue_id"].as_str().expect("an id"));
    let settings = json!({"max_retries": 2, "visibility_timeout_ms": 500});
    let consumer = json!({"type": "http_pull", "dead_letter_queue": "mail-dead", "settings": settings});
    post(&format!("{queue}/consumers"), consumer).expect(200);
    post(&format!("{NATIVE}/mail-dead/groups"), json!({"name": "undertaker"})).expect(201);
    queue
}

/// `cp -r` while the server works.
fn take_copy(data: &Path, stage: &Stage) -> Copy {
    let dir = tempfile::tempdir().expect("a directory");
    let copied = dir.path().join("data");
    let begin = stage.now();
    // cp reports files that vanish under its hands (old indexes do) and goes on; what counts is that the
    // copy opens.
    let output = Command::new("cp").arg("-r").arg(data).arg(&copied).output().expect("cp runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let only_vanished = said.lines().all(|line| line.contains("No such file"));
    assert!(output.status.success() || only_vanished, "cp failed: {said}");
    Copy { dir, data: copied, begin, end: stage.now() }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Groups that still have messages, and how many.
fn open_messages(client: &mut Client, topics: &[Topic]) -> Vec<String> {
    let mut left = Vec::new();
    for topic in topics {
        for group in topic.groups {
            let path = format!("{NATIVE}/{}/groups/{group}/counts", topic.name);
            let counts = eventually("an answer", || client.get(&path).ok()).expect(200);
            let open: u64 = ["ready", "in_flight", "delayed"].iter().filter_map(|name| counts[name].as_u64()).sum();
            if open > 0 {
                left.push(format!("{}/{group}: {counts}", topic.name));
            }
        }
    }
    left
}
