//! One history from one seed: lives of a server, each ended by something that goes wrong.

use std::collections::{BTreeMap, HashSet};
use std::panic::AssertUnwindSafe;

use windlass::disk::sim::{Dice, Fault};
use windlass::engine::{Agreement, Engine};
use windlass::index::Mood;

use super::apply::{Verdict, When};
use super::calls::{Asked, Call, ask};
use super::check::{Ended, look, unsettled};
use super::damage::flip_and_look;
use super::machine::{Dead, Machine, poll};
use super::world::{BODY_SCALE, DEAD, TopicModel, Tri, World};

/// What happened, counted.
pub type Tally = BTreeMap<&'static str, u64>;

/// See the module.
pub struct History {
    machine: Machine,
    world: World,
    dice: Dice,
    /// Rolled for turns that go on while a sync is under way: in every other history.
    overlap: Option<Dice>,
    calls: Vec<Call>,
    tally: Tally,
    ended: Ended,
    /// Leases of turns before this one are durable with whatever is answered now.
    sure: u64,
    /// The segment that was written to when each message was published.
    born: Vec<(u64, u64)>,
    /// A fault of a script: how many operations it waits for from this one on.
    armed: Option<(u64, u64, Fault)>,
    struck: bool,
}

/// Why a life ended.
enum End {
    Dead(Dead),
    Broken(String),
}

impl From<Dead> for End {
    fn from(dead: Dead) -> Self {
        Self::Dead(dead)
    }
}

impl From<String> for End {
    fn from(why: String) -> Self {
        Self::Broken(why)
    }
}

/// Lives of a script.
const SCRIPT_LIVES: u64 = 3;
/// Calls under way at once.
const CALLS_MAX: usize = 6;

/// Plays the history of a seed: this many lives, then everything must be delivered.
pub fn play(seed: u64, lives: u64, segment_bytes: u64) -> Result<Tally, String> {
    let dice = Dice::new(seed ^ 0x51a7_e0f1);
    let mut history = History {
        machine: Machine::new(seed, segment_bytes),
        world: World::default(),
        dice,
        overlap: seed.is_multiple_of(2).then(|| Dice::new(seed ^ 0x7e57_5a7c)),
        calls: Vec::new(),
        tally: Tally::new(),
        ended: Ended::Stopped,
        sure: 0,
        born: Vec::new(),
        armed: None,
        struck: false,
    };
    let played = std::panic::catch_unwind(AssertUnwindSafe(|| history.lives(lives)));
    let why = match played {
        Ok(Ok(())) => return Ok(history.tally),
        Ok(Err(why)) => why,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            format!(
                "panic: {}",
                text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
            )
        }
    };
    let lines: Vec<String> = history.machine.trace.into_iter().collect();
    Err(format!("{}\nseed {seed}: {why}", lines.join("\n")))
}

/// What one fault at one operation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Struck {
    /// The fault happened.
    Hit,
    /// The script ended before it: what it had done by then, counted.
    Missed(Tally),
}

/// Plays the same script each time, with one fault at operation `at`, then a restart that must show all
/// that was answered, and deliver it.
pub fn strike(seed: u64, steps: u64, at: u64, fault: Fault) -> Result<Struck, String> {
    let mut history = History {
        machine: Machine::new(seed, 64 << 10),
        world: World::default(),
        dice: Dice::new(seed),
        overlap: None,
        calls: Vec::new(),
        tally: Tally::new(),
        ended: Ended::Stopped,
        sure: 0,
        born: Vec::new(),
        armed: None,
        struck: false,
    };
    BODY_SCALE.set(10);
    history.arm(at, fault);
    let played = std::panic::catch_unwind(AssertUnwindSafe(|| history.script(steps)));
    let lines = || history.machine.trace.iter().cloned().collect::<Vec<_>>().join("\n");
    match played {
        Ok(Ok(struck)) => Ok(struck),
        Ok(Err(why)) => Err(format!("{}\n{fault:?} at operation {at}: {why}", lines())),
        Err(_) => Err(format!("{}\n{fault:?} at operation {at}: panic", lines())),
    }
}

impl History {
    fn script(&mut self, steps: u64) -> Result<Struck, String> {
        for life in 0..SCRIPT_LIVES {
            match self.part(steps / SCRIPT_LIVES) {
                Ok(()) => self.be_killed(),
                Err(End::Broken(why)) => return Err(why),
                Err(End::Dead(_)) => {
                    self.be_killed();
                    break;
                }
            }
            if life > 0 {
                self.count("restarted");
            }
        }
        let struck = if self.struck { Struck::Hit } else { Struck::Missed(self.tally.clone()) };
        self.machine.disk.mend();
        self.machine.unbound();
        match self.drain() {
            Ok(()) => Ok(struck),
            Err(End::Broken(why)) => Err(why),
            Err(End::Dead(Dead(why))) => Err(format!("it ended without a fault: {why}")),
        }
    }

    /// One life of a script.
    fn part(&mut self, steps: u64) -> Result<(), End> {
        self.open()?;
        for _ in 0..steps {
            let before = self.machine.segments();
            self.step()?;
            let after = self.machine.segments();
            if before.first() != after.first() {
                self.count("front dropped");
                let dropped = |segment: &u64| after.first().is_some_and(|first| segment < first);
                let live = self.born.iter().any(|(mark, segment)| dropped(segment) && self.world.is_unsettled(*mark));
                if live {
                    self.count("front dropped with live messages");
                }
            }
        }
        Ok(())
    }

    fn arm(&mut self, after: u64, fault: Fault) {
        self.armed = Some((after, self.machine.disk.ops(), fault));
        self.machine.disk.fail(after, fault);
    }

    fn be_killed(&mut self) {
        self.struck |= self.machine.disk.hits() > 0;
        let left = self.armed.map(|(after, from, fault)| (after.saturating_sub(self.machine.disk.ops() - from), fault));
        let when = self.when();
        self.machine.rig = None;
        for call in std::mem::take(&mut self.calls) {
            self.world.unanswered(&call.asked, when);
        }
        self.machine.kill();
        self.ended = Ended::Killed;
        if let Some((after, fault)) = left.filter(|_| !self.struck) {
            self.arm(after, fault);
        }
    }

    /// Counts what an answer shows to have happened.
    fn count_answer(&mut self, asked: &Asked, answer: &super::calls::Answer, when: When) {
        use super::calls::Answer;
        match (asked, answer) {
            (Asked::Publish { marks, .. }, Answer::Publish(Ok(_))) => {
                let segment = self.machine.segments().last().copied().unwrap_or(0);
                self.born.extend(marks.iter().map(|mark| (*mark, segment)));
                self.count("published");
            }
            (Asked::Pull { topic, group, .. }, Answer::Pull(Ok(pulled))) if !pulled.deliveries.is_empty() => {
                self.count("pulled");
                let offsets: Vec<u64> = pulled.deliveries.iter().map(|one| one.message.head.offset.get()).collect();
                if let Some(group) = self.world.group(topic, group) {
                    let lapsed = |offset: &u64| {
                        let lease = group.standings.get(offset).and_then(|standing| standing.lease.as_ref());
                        lease.is_some_and(|lease| lease.deadline <= when.lease_clock)
                    };
                    if offsets.iter().any(lapsed) {
                        self.count("lapsed");
                    }
                }
            }
            (Asked::Settle { items, .. }, Answer::Settle(Ok(_)))
                if items.iter().any(|(_, _, act)| *act == super::calls::Act::Ack) =>
            {
                self.count("acked");
            }
            _ => {}
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    fn when(&self) -> When {
        When {
            now: self.machine.now(),
            lease_clock: self.machine.lease_clock,
            turn: self.machine.turns,
            sure: self.sure,
        }
    }

    fn lives(&mut self, lives: u64) -> Verdict {
        for life in 0..lives {
            self.machine.say(|| format!("==== life {life}"));
            self.plan_fault();
            match self.life() {
                Ok(()) => {}
                Err(End::Broken(why)) => return Err(why),
                Err(End::Dead(Dead(why))) => {
                    self.machine.say(|| format!("ended: {why}"));
                }
            }
            self.end_life()?;
            if self.dice.one_in(8) {
                self.damage()?;
            }
            if life % 8 == 5 {
                self.index_agrees()?;
            }
        }
        self.machine.disk.mend();
        self.machine.unbound();
        self.machine.say(|| "==== last life".to_owned());
        match self.drain() {
            Ok(()) => self.world.miscount.take().map_or(Ok(()), Err),
            Err(End::Broken(why)) => Err(why),
            Err(End::Dead(Dead(why))) => Err(format!("it ended without a fault: {why}")),
        }
    }

    /// What a flipped bit would have done; then the lives go on without it.
    fn damage(&mut self) -> Verdict {
        let outcome = flip_and_look(&self.machine, &self.world, self.ended, &mut self.dice)?;
        if let Some(what) = outcome {
            self.machine.say(|| what.to_owned());
            self.count(what);
        }
        Ok(())
    }

    /// An index that a start would use says what the log says. What refuses the start is seen when it is tried.
    fn index_agrees(&mut self) -> Verdict {
        match self.machine.compare_index() {
            Ok(Agreement::Compared(found)) if found.differences.is_empty() => self.count("indexes that agree"),
            Ok(Agreement::Compared(found)) => return Err(format!("I15: the index differs from the log: {found:?}")),
            Ok(Agreement::SetAside(_)) => self.count("indexes no start would use"),
            Ok(Agreement::Empty) | Err(_) => {}
        }
        Ok(())
    }

    fn plan_fault(&mut self) {
        self.machine.unbound();
        // Some right in the recovery.
        let after = match self.dice.below(5) {
            0 => self.dice.below(60),
            1..=3 => 40 + self.dice.below(200),
            _ => 100 + self.dice.below(1_000),
        };
        let fault = match self.dice.below(100) {
            0..=79 => Fault::PowerOff,
            80..=86 => Fault::Io,
            87..=91 => Fault::Short,
            92..=95 => Fault::NoSpace,
            _ => {
                let room = self.dice.below(400_000);
                self.machine.bound(room);
                self.machine.say(|| format!("the disk has {room} bytes left"));
                self.count("disks filled");
                return;
            }
        };
        self.machine.say(|| format!("{fault:?} after {after} operations"));
        self.machine.disk.fail(after, fault);
    }

    fn open(&mut self) -> Result<(), End> {
        let hits = self.machine.disk.hits();
        if let Err(error) = self.machine.start() {
            if self.machine.disk.hits() > hits
                || error.to_string().contains("os error")
                || error.to_string().contains("power")
            {
                self.count("recoveries cut short");
                return Err(Dead(format!("in recovery: {error}")).into());
            }
            if error.to_string().contains("no space") && self.machine.bounded {
                self.count("starts refused for space");
                return Err(Dead(error.to_string()).into());
            }
            return Err(format!("the engine does not start: {error}").into());
        }
        self.count("recoveries");
        let seen = look(&mut self.machine)?;
        let seen = match seen {
            Ok(seen) => seen,
            Err(_) if self.machine.disk.hits() > hits => return Err(Dead("while looking".to_owned()).into()),
            Err(why) => return Err(why.into()),
        };
        let right = self.world.miscount.is_none();
        self.world.check(&seen, self.ended, self.machine.lease_clock)?;
        if let (true, Some(why)) = (right, &self.world.miscount) {
            let why = why.clone();
            self.machine.say(|| format!("  !! {why}"));
        }
        Ok(())
    }

    fn life(&mut self) -> Result<(), End> {
        self.open()?;
        let steps = 30 + self.dice.below(120);
        for _ in 0..steps {
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), End> {
        if self.calls.len() < CALLS_MAX
            && let Some(asked) = self.world.choose(&mut self.dice, &self.calls)
        {
            self.machine.say(|| format!("? {asked:?}"));
            let answer = ask(&self.machine.engine(), &asked, &self.world.specs);
            self.calls.push(Call { asked, answer });
        }
        if self.dice.one_in(4) {
            let span = if self.dice.one_in(5) { self.dice.below(3_000) } else { self.dice.below(8) };
            if self.machine.sync_turn.is_some() {
                // A sync takes no time here: leases and delays are timed from their answer.
                self.turn_with(false)?;
            }
            self.machine.say(|| format!("  {span} ms pass"));
            self.machine.advance(span);
        }
        if self.dice.one_in(3) {
            let pick = self.dice.roll();
            if self.machine.run_job(pick) == Some("checkpoint") {
                self.count("checkpoints");
            }
        }
        if self.dice.one_in(3) {
            self.machine.keep()?;
        }
        if self.dice.one_in(800) {
            let mood = if self.dice.one_in(2) { Mood::Wrong } else { Mood::Panicking };
            let seed = self.dice.roll();
            self.machine.say(|| format!("  the index is {mood:?} from now on"));
            self.machine.index_mood(mood, seed);
            self.count("indexes lost in use");
        }
        if self.dice.one_in(40) {
            self.machine.unbound();
        }
        if !self.dice.one_in(3) {
            self.turn()?;
        }
        Ok(())
    }

    /// One turn, and the answers that came of it.
    fn turn(&mut self) -> Result<(), End> {
        let leaves_sync = self.overlap.as_mut().is_some_and(|dice| dice.one_in(2));
        self.turn_with(leaves_sync)
    }

    fn turn_with(&mut self, leaves_sync: bool) -> Result<(), End> {
        let now = self.machine.now();
        // Calls go out when they are first looked at; none is answered before the turn.
        self.poll()?;
        self.sure = self.machine.sync_turn.unwrap_or(self.machine.turns + 1);
        let turned = if leaves_sync {
            self.count("turns during a sync");
            self.machine.turn_during_sync()
        } else {
            self.machine.turn()
        };
        self.poll()?;
        turned?;
        if !leaves_sync {
            self.world.sure_by_time(now);
        }
        Ok(())
    }

    fn poll(&mut self) -> Result<(), End> {
        let mut ready = Vec::new();
        let mut place = 0;
        let mut releasing: HashSet<(String, String, u64)> = HashSet::new();
        for call in &self.calls {
            if let Asked::Settle { topic, group, items, .. } = &call.asked {
                releasing.extend(items.iter().map(|(offset, ..)| (topic.clone(), group.clone(), *offset)));
            }
        }
        // One that settles what it takes is answered by a later turn than another that took what comes next of its
        // key, where that turn was during a sync.
        let mut settling: HashSet<(String, String)> = HashSet::new();
        for call in self.calls.iter().filter(|_| self.overlap.is_some()) {
            if let Asked::Pull { topic, group, auto_ack: true, .. } = &call.asked {
                settling.insert((topic.clone(), group.clone()));
            }
        }
        while place < self.calls.len() {
            match poll(self.calls[place].answer.as_mut()) {
                Some(answer) => ready.push((self.calls.remove(place).asked, answer)),
                None => place += 1,
            }
        }
        // In one turn one pull may settle what it takes, and another take what comes next of its key; which answer
        // is looked at first says nothing.
        for (asked, answer) in &ready {
            if let (Asked::Pull { topic, group, auto_ack: true, .. }, super::calls::Answer::Pull(Ok(pulled))) =
                (asked, answer)
            {
                let offsets = pulled.deliveries.iter().map(|one| one.message.head.offset.get());
                releasing.extend(offsets.map(|offset| (topic.clone(), group.clone(), offset)));
            }
        }
        // What was pulled in the same turn was pulled before it was settled.
        ready.sort_by_key(|(asked, _)| !matches!(asked, Asked::Publish { .. } | Asked::Pull { .. }));
        let when = self.when();
        for (asked, answer) in ready {
            self.machine.say(|| format!("! {} -> {}", brief(&asked), brief_answer(&answer)));
            let releases = |topic: &str, group: &str, offset| {
                let (topic, group) = (topic.to_owned(), group.to_owned());
                releasing.contains(&(topic.clone(), group.clone(), offset)) || settling.contains(&(topic, group))
            };
            if !self.world.topics.contains_key(DEAD) {
                self.world.topics.insert(DEAD.to_owned(), TopicModel { exists: Tri::Maybe, ..TopicModel::default() });
            }
            self.count_answer(&asked, &answer, when);
            self.world.answered(&asked, answer, when, &releases)?;
        }
        Ok(())
    }

    /// The process ends, somehow, and the machine with it or not.
    fn end_life(&mut self) -> Verdict {
        let stop = self.machine.rig.is_some() && self.machine.disk.hits() == 0 && self.dice.one_in(8);
        if stop && self.stop()? {
            return Ok(());
        }
        let when = self.when();
        self.machine.rig = None;
        for call in std::mem::take(&mut self.calls) {
            self.machine.say(|| format!("! {} -> none", brief(&call.asked)));
            self.world.unanswered(&call.asked, when);
        }
        let seed = self.dice.roll();
        if self.dice.one_in(5) {
            self.machine.kill();
            self.ended =
                if self.ended == Ended::PowerCut && self.world_is_older() { Ended::PowerCut } else { Ended::Killed };
            self.machine.say(|| "killed".to_owned());
            self.count("kills");
        } else {
            self.machine.power_cut(seed);
            self.ended = Ended::PowerCut;
            self.machine.say(|| format!("power cut {seed}"));
            self.count("power cuts");
        }
        self.lose_index();
        let down = self.dice.below(2_000);
        if self.ended == Ended::PowerCut && self.dice.one_in(2) {
            // Leases stand still until the engine is there again.
            self.machine.clock.advance(std::time::Duration::from_millis(down));
            self.machine.clock.reboot();
            self.machine.say(|| "rebooted".to_owned());
            self.count("reboots");
        } else {
            self.machine.advance(down);
        }
        Ok(())
    }

    /// No recovery has been checked since the power cut before: its exceptions still hold.
    fn world_is_older(&self) -> bool {
        !self.world.unsure.is_empty()
    }

    fn lose_index(&mut self) {
        let (mood, name) = match self.dice.below(20) {
            0..=7 => (Mood::Whole, "index: whole"),
            8..=10 => (Mood::CutShort, "index: cut short"),
            11..=13 => (Mood::Old, "index: old"),
            14..=15 => (Mood::Empty, "index: empty"),
            16..=18 => (Mood::Wrong, "index: wrong"),
            _ => (Mood::Panicking, "index: panicking"),
        };
        let seed = self.dice.roll();
        self.machine.index_mood(mood, seed);
        self.machine.say(|| name.to_owned());
        self.count(name);
    }

    /// A clean stop. Answers whether it came to an end.
    fn stop(&mut self) -> Result<bool, String> {
        self.machine.disk.mend();
        let engine = self.machine.engine();
        let mut stop = Box::pin(async move { engine.stop().await });
        let _ = poll(stop.as_mut());
        for _ in 0..1_000 {
            if self.machine.turn().is_err() {
                return Ok(false);
            }
            match self.poll() {
                Err(End::Broken(why)) => return Err(why),
                Err(End::Dead(_)) => return Ok(false),
                Ok(()) => {}
            }
            if self.machine.rig.as_ref().is_some_and(|rig| rig.is_stopped()) {
                let rig = self.machine.rig.take().expect("just seen");
                let done = rig.finish().is_ok();
                let when = self.when();
                for call in std::mem::take(&mut self.calls) {
                    self.world.unanswered(&call.asked, when);
                }
                self.machine.kill();
                self.machine.say(|| "stopped".to_owned());
                self.count("clean stops");
                self.ended = Ended::Stopped;
                return Ok(done);
            }
            self.machine.run_job(0);
        }
        Err("I12: a stop never came to an end".to_owned())
    }

    /// No more faults: everything must be delivered, and then nothing is left.
    fn drain(&mut self) -> Result<(), End> {
        self.open()?;
        let mut idle = 0;
        for round in 0..2_000 {
            let groups: Vec<(String, String)> = self
                .world
                .topics
                .iter()
                .flat_map(|(topic, model)| model.groups.keys().map(move |group| (topic.clone(), group.clone())))
                .collect();
            let mut any = false;
            for (topic, group) in groups {
                let asked = Asked::Pull { topic, group, batch: 100, lease: 60_000, auto_ack: true, wait: 0 };
                let before = self.world.specs.len();
                let answer = ask(&self.machine.engine(), &asked, &self.world.specs);
                let answer = self.machine.wait(answer)?;
                debug_assert_eq!(before, self.world.specs.len());
                if let super::calls::Answer::Pull(Err(error)) = &answer {
                    return Err(format!("I12: {asked:?} without a fault: {error}").into());
                }
                any |= matches!(&answer, super::calls::Answer::Pull(Ok(pulled)) if !pulled.deliveries.is_empty());
                let when = self.when();
                self.world.answered(&asked, answer, when, &|_, _, _| false)?;
            }
            idle = if any { 0 } else { idle + 1 };
            // Longer than any lease or delay.
            if idle > 20 {
                break;
            }
            if !any {
                self.machine.advance(5_000);
            }
            self.turn()?;
            self.machine.run_job(round);
            let _ = self.machine.keep()?;
        }
        let seen = look(&mut self.machine)?.map_err(End::Broken)?;
        let left = unsettled(&self.world, &seen);
        if !left.is_empty() {
            return Err(format!("I12: never delivered: {}", left.join(", ")).into());
        }
        self.world.check(&seen, Ended::Stopped, self.machine.lease_clock)?;
        Ok(())
    }
}

fn brief(asked: &Asked) -> String {
    let mut text = format!("{asked:?}");
    text.truncate(160);
    text
}

fn brief_answer(answer: &super::calls::Answer) -> String {
    match answer {
        super::calls::Answer::Pull(Ok(pulled)) => {
            let one = |delivery: &windlass::model::Delivery| {
                format!("{}#{}", delivery.message.head.offset, delivery.attempt.get())
            };
            format!("pulled {:?}", pulled.deliveries.iter().map(one).collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    }
}
