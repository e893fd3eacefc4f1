//! The lives of a server: work, a sudden end, what happens meanwhile, restart, check.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::torture::checker::{Violation, check};
use crate::torture::client::Client;
use crate::torture::dice::Dice;
use crate::torture::history::{Death, Ending, History, Look, Outcome, State, Topic, Word};
use crate::torture::look::{look, open_messages};
use crate::torture::server::{Launch, Server, StartError, last_lines};
use crate::torture::speech::{CONSUMERS, PRODUCERS, Reader, set_up, topics};
use crate::torture::stage::{Halt, Stage};
use crate::torture::standing::{check_end, check_look};
use crate::torture::verdict::{Broken, Figures, Verdict};
use crate::torture::workers::{Consumer, Producer, Worker, work};
use crate::torture::wreck::{Reaper, copy};
use crate::torture::{Plan, TortureError};

/// How long a life may last.
const LIFE_MS: u64 = 200;
/// Longer than two of the longest leases that consumers ask for.
const PAUSE: Duration = Duration::from_millis(1_300);
/// After the last death everything must be delivered and settled within this.
const WATCHDOG: Duration = Duration::from_secs(30);
/// Between two looks at what is still open.
const LOOK: Duration = Duration::from_millis(50);
/// Rounds after each of which the whole history is checked; later on after every tenth.
const CHECKED_ROUNDS: u64 = 100;

/// Why a run ends before its last round.
enum Stop {
    Broken { place: &'static str, violations: Vec<Violation> },
    Failed(TortureError),
}

impl Stop {
    fn rule(rule: &'static str, place: &'static str, what: impl Into<String>) -> Self {
        Self::Broken { place, violations: vec![Violation { rule, name: String::new(), what: what.into() }] }
    }

    fn halt(place: &'static str) -> impl Fn(Halt) -> Self {
        move |halt| match halt {
            Halt::Strange(what) => Self::rule("answer", place, what),
            Halt::Busy => Self::rule("answer", place, "the server had no room or no time, and nobody had asked much"),
            Halt::Gone => Self::rule("answer", place, "the server was gone, and nobody had killed it"),
        }
    }
}

fn failed(doing: &'static str) -> impl Fn(std::io::Error) -> Stop {
    move |source| Stop::Failed(TortureError::Io { doing, source })
}

/// A copy of the directory, taken under load.
struct Copy {
    data: PathBuf,
    begin: u64,
    end: u64,
}

/// One run.
pub struct Rig<'a> {
    plan: &'a Plan,
    reaper: &'a mut dyn Reaper,
    dice: Dice,
    scratch: &'a Path,
    data: PathBuf,
    launch: Launch,
    topics: Vec<Topic>,
    stage: Stage,
    workers: Vec<Box<dyn Worker>>,
    history: History,
    figures: Figures,
    round: u64,
}

impl<'a> Rig<'a> {
    /// All that a run needs, in `scratch`.
    pub fn new(plan: &'a Plan, reaper: &'a mut dyn Reaper, scratch: &'a Path) -> Self {
        let launch = Launch {
            binary: plan.binary.clone(),
            through: plan.through.clone(),
            settings: plan.settings(),
            stderr: scratch.join("server.stderr"),
        };
        Self {
            plan,
            reaper,
            dice: Dice::new(plan.seed),
            scratch,
            data: plan.data.clone().unwrap_or_else(|| scratch.join("data")),
            launch,
            topics: topics(),
            stage: Stage::new(),
            workers: Vec::new(),
            history: History::default(),
            figures: Figures::default(),
            round: 0,
        }
    }

    /// All of it. `tell` hears of each round that is over.
    pub fn run(mut self, tell: &mut dyn FnMut(u64)) -> Result<Verdict, TortureError> {
        let begun = Instant::now();
        let ended = self.lives(tell);
        self.figures.took = begun.elapsed();
        self.count();
        let broken = match ended {
            Ok(()) => None,
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Broken { place, violations }) => Some(self.keep(place, violations)?),
        };
        Ok(Verdict { seed: self.plan.seed, figures: self.figures, broken })
    }

    fn lives(&mut self, tell: &mut dyn FnMut(u64)) -> Result<(), Stop> {
        let mut server = self.first_start()?;
        let queue = set_up(&mut server.client(), &self.stage).map_err(Stop::halt("while topics were made"))?;
        self.make_workers(&queue);
        for round in 1..=self.plan.kills {
            self.round = round;
            let copy = self.live(&mut server)?;
            self.figures.kills = round;
            drop(server);
            if let Some(copy) = copy {
                self.check_copy(&copy)?;
            }
            let attacked = self.reaper.meanwhile(&self.data, &mut self.dice);
            self.figures.index_attacks += u64::from(attacked.map_err(failed("treating the data directory"))?);
            server = self.restart()?;
            self.look_at(&server)?;
            if round <= CHECKED_ROUNDS || round % 10 == 0 {
                judge("in all that happened so far", check(&self.topics, &self.history))?;
            }
            tell(round);
        }
        self.drain(&server)?;
        judge("in the whole run", check(&self.topics, &self.history))?;
        judge("at the end", check_end(&self.topics, &self.history))?;
        if self.history.deliveries.is_empty() {
            return Err(Stop::Failed(TortureError::Nothing));
        }
        Ok(())
    }

    /// A binary that cannot start on an empty directory breaks no promise: it is the wrong one.
    fn first_start(&mut self) -> Result<Server, Stop> {
        let server = Server::start(&self.launch, &self.data);
        server.map_err(|error| Stop::Failed(TortureError::Start(error)))
    }

    fn restart(&mut self) -> Result<Server, Stop> {
        let server = match Server::start(&self.launch, &self.data) {
            Ok(server) => server,
            Err(error @ StartError::Spawn { .. }) => return Err(Stop::Failed(TortureError::Start(error))),
            Err(error @ StartError::NotReady { .. }) => {
                return Err(Stop::rule("restart", "at the restart", error.to_string()));
            }
        };
        self.stage.get(&mut server.client(), "/readyz").map_err(Stop::halt("at the restart"))?;
        self.figures.ready.push(server.ready_in);
        Ok(server)
    }

    fn make_workers(&mut self, queue: &str) {
        let chosen = |dialect| self.plan.dialects.contains(&dialect);
        let reader = |dialect, topic, group| Reader { dialect, topic, group, queue: queue.to_owned() };
        let mut workers: Vec<Box<dyn Worker>> = Vec::new();
        let mut published = Vec::new();
        for (number, (dialect, topic)) in PRODUCERS.into_iter().enumerate() {
            let dice = Dice::new(self.dice.roll());
            if chosen(dialect) {
                let about = self.topics.iter().find(|one| one.name == topic);
                published.extend([Some(topic), about.and_then(|one| one.dead)]);
                let groups = about.map_or(1, |one| one.groups.len());
                workers.push(Box::new(Producer::new(number, &reader(dialect, topic, ""), groups, dice)));
            }
        }
        for (dialect, topic, group) in CONSUMERS {
            let dice = Dice::new(self.dice.roll());
            if published.contains(&Some(topic)) {
                workers.push(Box::new(Consumer::new(reader(dialect, topic, group), dice)));
            }
        }
        self.workers = workers;
    }

    /// Lets everybody work, and ends the server in the middle of it.
    fn live(&mut self, server: &mut Server) -> Result<Option<Copy>, Stop> {
        self.stage.begin();
        let life = Duration::from_millis(20 + self.dice.below(LIFE_MS));
        let copying = self.round.is_multiple_of(self.plan.copies_every);
        let pausing = self.plan.pauses_every > 0 && self.round % self.plan.pauses_every == self.plan.pauses_every / 2;
        let copy_to = copying.then(|| self.scratch.join("copy"));
        let fate = Fate { life, pause: pausing.then_some(PAUSE), copy_to };
        let (stage, data, reaper) = (&self.stage, &self.data, &mut *self.reaper);
        let (workers, address) = (&mut self.workers, server.address);
        let (prepared, struck, endings) = std::thread::scope(|scope| {
            let threads: Vec<_> = workers
                .iter_mut()
                .map(|worker| scope.spawn(move || work(worker.as_mut(), Client::new(address), stage)))
                .collect();
            let prepared = prepare(server, stage, data, fate);
            let struck = strike(server, stage, reaper);
            (prepared, struck, threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>())
        });
        let mut strange = None;
        for ending in endings {
            let Ok((history, what)) = ending else { return Err(Stop::Failed(TortureError::Worker)) };
            self.history.append(history);
            strange = strange.or(what);
        }
        let copy = prepared.map_err(failed("holding up or copying the server"))?;
        let ending = struck.map_err(failed("ending a life of the server"))?;
        if ending.death == Death::PowerCut {
            // Of what the earlier lives answered nothing is later. A server without a disk may say anything.
            self.history.forget_answers_after(ending.at);
            strange = strange.filter(|(when, _)| *when <= ending.at);
        }
        self.history.endings.push(ending);
        self.figures.pauses += u64::from(pausing);
        match strange {
            Some((_, what)) => Err(Stop::rule("answer", "while everybody worked", what)),
            None => Ok(copy),
        }
    }

    /// Everything answered is there, and nothing else.
    fn look_at(&mut self, server: &Server) -> Result<(), Stop> {
        let now = self.stage.now();
        let seen = look(&mut server.client(), &self.stage, &self.topics).map_err(Stop::halt("after the restart"))?;
        judge("after the restart", check_look(&self.topics, &self.history, &seen, now, now))?;
        // What was owed for requests without an answer is known again.
        self.stage.open.store(open_in(&seen), Ordering::SeqCst);
        Ok(())
    }

    /// A second server opens the copy, as its owner would after a disaster.
    fn check_copy(&mut self, copy: &Copy) -> Result<(), Stop> {
        let not = |error: StartError| Stop::rule("copy", "in the copy", error.to_string());
        let launch = Launch { stderr: self.scratch.join("copy.stderr"), ..self.launch.clone() };
        let server = Server::start(&launch, &copy.data).map_err(not)?;
        let seen = look(&mut server.client(), &self.stage, &self.topics).map_err(Stop::halt("in the copy"))?;
        judge("in the copy", check_look(&self.topics, &self.history, &seen, copy.begin, copy.end))?;
        drop(server);
        self.figures.copies += 1;
        std::fs::remove_dir_all(&copy.data).map_err(failed("removing a copy"))
    }

    /// Everything is pulled and acked; nothing happens to the server any more.
    fn drain(&mut self, server: &Server) -> Result<(), Stop> {
        self.stage.draining.store(true, Ordering::SeqCst);
        self.stage.begin();
        let (stage, topics, address, workers) = (&self.stage, &self.topics, server.address, &mut self.workers);
        let begun = Instant::now();
        // One turn each first: what a producer sends again is to be there before anybody counts.
        for worker in workers.iter_mut() {
            let turn = worker.turn(&mut Client::new(address), stage, &mut self.history);
            turn.map_err(Stop::halt("at the end"))?;
        }
        let (left, endings) = std::thread::scope(|scope| {
            let threads: Vec<_> = workers
                .iter_mut()
                .map(|worker| scope.spawn(move || work(worker.as_mut(), Client::new(address), stage)))
                .collect();
            let mut client = Client::new(address);
            let left = loop {
                match open_messages(&mut client, stage, topics) {
                    Ok(left) if !left.is_empty() && begun.elapsed() < WATCHDOG => std::thread::sleep(LOOK),
                    looked => break looked,
                }
            };
            stage.over.store(true, Ordering::SeqCst);
            (left, threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>())
        });
        self.figures.drained_in = begun.elapsed();
        for ending in endings {
            let Ok((history, what)) = ending else { return Err(Stop::Failed(TortureError::Worker)) };
            self.history.append(history);
            if let Some((_, what)) = what {
                return Err(Stop::rule("answer", "at the end", what));
            }
        }
        let left = left.map_err(Stop::halt("at the end"))?;
        if left.is_empty() {
            return Ok(());
        }
        Err(Stop::rule("I12", "at the end", format!("after {WATCHDOG:?} still open: {}", left.join(", "))))
    }

    fn count(&mut self) {
        let History { publishes, deliveries, settles, .. } = &self.history;
        self.figures.publishes = publishes.iter().filter(|one| one.end.is_some()).count();
        self.figures.deliveries = deliveries.len();
        let acked = |outcome| matches!(outcome, Outcome::Done | Outcome::Untold);
        let acks = settles.iter().filter(|one| one.word == Word::Ack && one.end.is_some_and(|end| acked(end.1)));
        self.figures.acks = acks.count();
        self.figures.maybes = self.history.unanswered();
    }

    /// Writes down what happened; the directory stays for whoever looks into it.
    fn keep(&self, place: &str, mut violations: Vec<Violation>) -> Result<Broken, TortureError> {
        // A lost message says most; a count says least.
        violations.sort_by_key(|one| (one.rule != "I1", one.name.is_empty()));
        let history = self.scratch.join("history.jsonl");
        let written =
            std::fs::File::create(&history).and_then(|file| self.history.write_to(&mut std::io::BufWriter::new(file)));
        written.map_err(|source| TortureError::Io { doing: "writing the history", source })?;
        let lines = violations.first().filter(|one| !one.name.is_empty()).map(|one| self.history.of(&one.name));
        Ok(Broken {
            round: self.round,
            place: place.to_owned(),
            lines: lines.unwrap_or_default(),
            violations,
            said: last_lines(&self.launch.stderr),
            history,
            data: self.data.clone(),
        })
    }
}

/// What is done to a server before its life ends.
struct Fate {
    life: Duration,
    pause: Option<Duration>,
    copy_to: Option<PathBuf>,
}

/// Lets it live; then it is held up, or copied.
fn prepare(server: &Server, stage: &Stage, data: &Path, fate: Fate) -> std::io::Result<Option<Copy>> {
    // The moment of death is drawn, not waited for.
    std::thread::sleep(fate.life);
    if let Some(pause) = fate.pause {
        server.pause()?;
        std::thread::sleep(pause);
        server.resume()?;
        std::thread::sleep(LOOK);
    }
    let Some(to) = fate.copy_to else { return Ok(None) };
    let begin = stage.now();
    copy(data, &to)?;
    Ok(Some(Copy { data: to, begin, end: stage.now() }))
}

/// Ends a life in the middle of work.
fn strike(server: &mut Server, stage: &Stage, reaper: &mut dyn Reaper) -> std::io::Result<Ending> {
    stage.ending.store(true, Ordering::SeqCst);
    let struck = reaper.strike(server);
    stage.over.store(true, Ordering::SeqCst);
    Ok(Ending { at: stage.at(struck?), death: reaper.death() })
}

fn open_in(look: &Look) -> i64 {
    let open = look.groups.values().flat_map(|messages| messages.values()).filter(|(_, state)| *state == State::Open);
    i64::try_from(open.count()).unwrap_or(i64::MAX)
}

fn judge(place: &'static str, violations: Vec<Violation>) -> Result<(), Stop> {
    if violations.is_empty() { Ok(()) } else { Err(Stop::Broken { place, violations }) }
}
