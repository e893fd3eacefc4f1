//! The writer: the only one that changes state. It turns, forever: decide, commit, reply.
//!
//! Plain code without threads or channels: whoever drives it (a thread, a simulator) hands in
//! commands, runs the jobs it puts out and hands their results back in as commands. Only a sync is different: its
//! job tells the writer by itself, and the writer carries it out where it can do nothing before.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use crate::clock::Clock;
use crate::codec;
use crate::engine::checkpoint::Delta;
use crate::engine::command::{Command, PullWork, Reply, Sealed, Taken};
use crate::engine::entry::{Entry, GroupNo, ReturnDisk, TopicNo};
use crate::engine::flight::{Flight, Release, SyncJob};
use crate::engine::front::Front;
use crate::engine::placing::Placing;
use crate::engine::rows::BLOCK_ROWS;
use crate::engine::state::State;
use crate::engine::stats::Stats;
use crate::engine::{AccessTable, PullError, Refusal, TornTail};
use crate::log::{FRAME_HEADER_BYTES, Fatal, FrameMeta, Loc, Log, LogReader, RollError, Room, Urgency};
use crate::model::{Lsn, Millis};
use crate::planted::{Defect, planted};

/// How the engine is set up, beside its [`Limits`](crate::engine::Limits).
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// Leases are answered when synced, not when written.
    pub lease_synced: bool,
    /// A checkpoint begins when this many bytes of log are behind the last one.
    pub checkpoint_log_bytes: u64,
    /// Or when this long has passed and anything changed.
    pub checkpoint_interval: Duration,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { lease_synced: false, checkpoint_log_bytes: 64 << 20, checkpoint_interval: Duration::from_secs(5) }
    }
}

/// How long after a pull the writer turns on during a sync, in ms: pulls need not wait for one, all else does.
const OVERLAP_MS: u64 = 100;
/// What waits for space, or for a block of the index, is tried again after this long, in ms.
pub(super) const HELD_UP_MS: u64 = 20;
/// While leases exist, a frame at least this often tells the time, in ms.
pub(super) const STAMP_MS: u64 = 1000;

/// Something to be done beside the writer; its result comes back as [`JobDone`](crate::engine::command::JobDone).
pub enum Job {
    /// Read a block from the index.
    Load { topic: TopicNo, block: u64 },
    /// Write a checkpoint.
    Checkpoint(Box<Delta>),
    /// Read records from a segment, behind this many frames.
    Scan { segment: u64, skip: usize },
    /// Sync the log.
    Sync(Arc<SyncJob>),
    /// The index failed: build it again from the log up to this lsn.
    Rebuild { upto: Lsn, segments: Vec<u64>, generation: u64 },
}

/// Where a command stands after `decide`.
pub(super) enum Step {
    Done,
    /// It needs this block.
    Need(Command, TopicNo, u64),
    /// It did a bounded piece and wants to go on.
    Again(Command),
    /// The frame or the segment has no room for it.
    Roll(Command),
    /// A group is to stand elsewhere.
    Place(Box<Placing>),
    /// The active segment is to end.
    Seal(Reply<Result<Sealed, Refusal>>),
}

/// A pull that waits.
pub(super) struct Waiter {
    pub work: PullWork,
    /// Boot time at which it gets what there is.
    pub until: u64,
    pub reply: Reply<Result<Taken, PullError>>,
}

/// See the module.
pub struct Writer {
    pub(super) state: State,
    pub(super) log: Log,
    pub(super) reader: LogReader,
    /// Room that the command which is to be tried again asked for.
    asked: Cell<(usize, Urgency)>,
    /// Bytes of the log, those behind the checkpoint that recovery found included.
    pub(super) written_bytes: u64,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: WriterOptions,
    /// Jobs to run; the driver takes them.
    pub jobs: Vec<Job>,
    /// Boot time now.
    pub(super) boot: u64,
    clock_base: (u64, u64),
    pub(super) clock_suspect: bool,
    pub(super) waiters: HashMap<GroupNo, VecDeque<Waiter>>,
    /// Groups whose waiting pulls may find something.
    pub(super) runnable: BTreeSet<GroupNo>,
    /// When each group needs a sweep (boot time), in both orders.
    pub(super) timers: BTreeSet<(u64, GroupNo)>,
    pub(super) timer_of: HashMap<GroupNo, u64>,
    pub(super) touched: BTreeSet<GroupNo>,
    /// Groups that had leases when they were touched last.
    pub(super) leasing: BTreeSet<GroupNo>,
    /// What is due in these groups cannot be done yet: it is tried again after a pause.
    pub(super) held_up: BTreeSet<GroupNo>,
    /// When each topic is to be looked at for retention (log clock), in both orders.
    pub(super) trims: BTreeSet<(u64, TopicNo)>,
    pub(super) trim_of: HashMap<TopicNo, u64>,
    /// Topics that are to be trimmed as soon as this block is loaded: what is too old is not shown.
    pub(super) trim_waits: HashMap<TopicNo, u64>,
    pub(super) published: BTreeSet<TopicNo>,
    /// Publishes and the like that wait for a spare segment.
    pub(super) short_of_space: VecDeque<Command>,
    pub(super) parked: BTreeMap<(TopicNo, u64), Vec<Command>>,
    pub(super) loading: HashSet<(TopicNo, u64)>,
    pub(super) cached: VecDeque<(TopicNo, u64)>,
    /// Answers to let go when what was decided so far is written.
    pub(super) written: Vec<Release>,
    /// When it is durable.
    pub(super) synced: Vec<Release>,
    /// When what they saw is durable: reads.
    pub(super) reads: Vec<Release>,
    /// Somebody waits for the sync of what was decided since the last one began.
    pub(super) must_sync: bool,
    /// The sync under way.
    pub(super) flight: Option<Flight>,
    pub(super) lease_sync_at: Option<u64>,
    /// Boot time of the last pull.
    pub(super) pulled_at: Option<u64>,
    pub(super) stamp_at: u64,
    pub(super) generation: u64,
    pub(super) checkpoint_running: bool,
    /// What the newest durable checkpoint covers, and what the running one will.
    pub(super) checkpoint_lsn: Lsn,
    pub(super) checkpointing: Lsn,
    pub(super) checkpoint_log_mark: u64,
    pub(super) checkpoint_at: u64,
    pub(super) changed: bool,
    pub(super) rebuilding: bool,
    /// Rebuilds that failed in a row.
    pub(super) rebuilds_failed: u32,
    /// Why the process must end, where that could not be answered at once.
    pub(super) failed: Option<Fatal>,
    /// The catalog has outgrown the head of a segment: nothing more is taken.
    pub(super) stuck: bool,
    pub(super) front: Front,
    pub(super) stopping: Option<Reply<()>>,
    pub(super) stopped: bool,
    pub(super) stats: Stats,
    /// The credentials that are durable.
    pub(super) access_out: Arc<RwLock<Arc<AccessTable>>>,
    pub(super) torn: Vec<TornTail>,
    scratch: Vec<u8>,
    /// Entries in the frame that is being built.
    pub(super) frame_entries: u64,
    pub(super) commit_commands: u64,
}

impl Writer {
    /// A writer over a recovered state. `generation` is of the index as recovered, `applied` its lsn.
    pub fn new(state: State, log: Log, clock: Arc<dyn Clock>, options: WriterOptions, index: (u64, Lsn)) -> Self {
        let boot = clock.boot().get();
        let wall = clock.wall().get();
        let base = state.now.max(wall);
        let clock_suspect = state.now > wall + 3_600_000;
        let access_out = Arc::new(RwLock::new(state.access.clone()));
        let groups: BTreeSet<GroupNo> = state.groups.keys().copied().collect();
        // Lives too short for a checkpoint would otherwise leave the front in place for ever.
        let behind = log.segments().into_iter().filter(|segment| segment.first > index.1);
        let written_bytes = behind.map(|segment| segment.file_bytes).sum();
        let mut writer = Self {
            state,
            reader: log.reader(),
            log,
            asked: Cell::new((0, Urgency::Essential)),
            written_bytes,
            clock,
            options,
            jobs: Vec::new(),
            boot,
            clock_base: (base, boot),
            clock_suspect,
            waiters: HashMap::new(),
            runnable: BTreeSet::new(),
            timers: BTreeSet::new(),
            timer_of: HashMap::new(),
            touched: groups,
            leasing: BTreeSet::new(),
            held_up: BTreeSet::new(),
            trims: BTreeSet::new(),
            trim_of: HashMap::new(),
            trim_waits: HashMap::new(),
            published: BTreeSet::new(),
            short_of_space: VecDeque::new(),
            parked: BTreeMap::new(),
            loading: HashSet::new(),
            cached: VecDeque::new(),
            written: Vec::new(),
            synced: Vec::new(),
            reads: Vec::new(),
            must_sync: false,
            flight: None,
            lease_sync_at: None,
            pulled_at: None,
            stamp_at: 0,
            generation: index.0,
            checkpoint_running: false,
            checkpoint_lsn: index.1,
            checkpointing: index.1,
            checkpoint_log_mark: 0,
            checkpoint_at: boot,
            changed: true,
            rebuilding: false,
            rebuilds_failed: 0,
            failed: None,
            stuck: false,
            front: Front::default(),
            stopping: None,
            stopped: false,
            stats: Stats::default(),
            access_out,
            torn: Vec::new(),
            scratch: Vec::new(),
            frame_entries: 0,
            commit_commands: 0,
        };
        writer.tick();
        let topics: Vec<TopicNo> = writer.state.topics.keys().copied().collect();
        for topic in topics {
            writer.plan_trim(topic, 0);
        }
        writer.settle_timers();
        writer
    }

    /// Makes and recycles segments beside the writer.
    pub fn keeper(&self) -> crate::log::Keeper {
        self.log.keeper()
    }

    /// First lsns of the segments of the log.
    pub fn segments(&self) -> Vec<u64> {
        self.log.segments().iter().map(|segment| segment.first.get()).collect()
    }

    /// Where the log ends: grows with whatever a turn decides.
    pub fn log_end(&self) -> (u64, Lsn) {
        (self.log.active_segment(), self.log.last_lsn())
    }

    /// The generation of the newest durable checkpoint.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Most bytes of one commit.
    pub fn frame_bytes_max(&self) -> usize {
        usize::try_from(self.log.options().frame_bytes_max).unwrap_or(usize::MAX)
    }

    /// Most bytes of records and entries in one commit.
    pub(super) fn payload_bytes_max(&self) -> usize {
        self.frame_bytes_max().saturating_sub(FRAME_HEADER_BYTES)
    }

    /// The credentials, as everybody may read them.
    pub fn access(&self) -> Arc<RwLock<Arc<AccessTable>>> {
        self.access_out.clone()
    }

    /// Says, durably, that this process took over; before anything else.
    pub fn take_over(&mut self) -> Result<(), Fatal> {
        let (boot_id, boot) = (self.clock.boot_id(), self.boot);
        self.emit(&Entry::Epoch { boot_id, boot, before: self.state.boot });
        self.touched.extend(self.state.groups.keys());
        self.commit_durably()?;
        self.settle_timers();
        Ok(())
    }

    /// Whether [`Command::Stop`] has been carried out.
    pub const fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Reads bodies beside the writer.
    pub fn reader(&self) -> LogReader {
        self.reader.clone()
    }

    /// Ends the log after [`Writer::is_stopped`]: the mark of a clean stop, and who waits for it.
    pub fn finish(self) -> Result<(crate::log::CleanMark, Option<Reply<()>>), Fatal> {
        Ok((self.log.stop_clean()?, self.stopping))
    }

    /// Reads the clocks. The log clock runs with boot time; the wall sets it only at the start.
    fn tick(&mut self) {
        self.boot = self.boot.max(self.clock.boot().get());
        let now = self.clock_base.0 + (self.boot - self.clock_base.1);
        self.state.now = self.state.now.max(now);
        let wall = self.clock.wall().get();
        if wall.abs_diff(self.state.now) > 3_600_000 && !self.clock_suspect {
            tracing::error!(
                wall,
                log_clock = self.state.now,
                "wall clock and log clock disagree by over an hour: age trims stop until a restart"
            );
            self.clock_suspect = true;
        }
    }

    /// Boot time at which the log clock shows `time`.
    pub(super) fn boot_at(&self, time: u64) -> u64 {
        self.boot + time.saturating_sub(self.state.now)
    }

    /// One turn: sweeps, decides every command, commits, replies. Fatal means the process must end.
    pub fn turn(&mut self, commands: &mut VecDeque<Command>) -> Result<(), Fatal> {
        self.tick();
        self.land_if_over()?;
        let waited_for = std::mem::take(&mut self.must_sync);
        self.sweep_due()?;
        if self.must_sync {
            // Dead letters: durable before anybody sees them.
            self.commit_durably()?;
        }
        self.must_sync |= waited_for;
        self.wake()?;
        while let Some(command) = self.short_of_space.pop_back() {
            commands.push_front(command);
        }
        while let Some(command) = commands.pop_front() {
            // Whoever has an answer of the sync may have asked this.
            self.land_if_over()?;
            self.decide_one(command, commands)?;
        }
        self.advance_front()?;
        self.commit()?;
        self.settle_timers();
        self.keep_house()?;
        self.failed.take().map_or(Ok(()), Err)
    }

    fn decide_one(&mut self, command: Command, commands: &mut VecDeque<Command>) -> Result<(), Fatal> {
        self.commit_commands += 1;
        if let Some((topic, block)) = self.trim_first(&command) {
            self.park(command, topic, block);
            return Ok(());
        }
        match self.decide(command) {
            Step::Done => {}
            Step::Seal(reply) => self.seal(reply)?,
            Step::Need(command, topic, block) => self.park(command, topic, block),
            Step::Again(command) => commands.push_front(command),
            Step::Place(placing) => self.place(*placing, commands)?,
            Step::Roll(command) => {
                self.commit_and_roll()?;
                let (bytes, urgency) = self.asked.get();
                if self.log.room(bytes, urgency) == Room::Full && !self.log.space_state().no_space {
                    // A spare segment is being made: this waits for it, acks and pulls go on.
                    self.short_of_space.push_back(command);
                } else {
                    commands.push_front(command);
                }
            }
        }
        while let Some(command) = self.unparked() {
            commands.push_front(command);
        }
        Ok(())
    }

    /// The block that must be loaded, and its topic trimmed, before this command may see the topic.
    fn trim_first(&self, command: &Command) -> Option<(TopicNo, u64)> {
        if self.trim_waits.is_empty() || self.rebuilding {
            return None;
        }
        let (account, topic) = command.target()?;
        let no = self.state.find_topic(account.as_str(), topic)?;
        let block = *self.trim_waits.get(&no)?;
        (!self.state.topics[&no].rows.is_loaded(block)).then_some((no, block))
    }

    /// Whether a turn without commands would do something now.
    pub fn has_work(&self) -> bool {
        self.flight.as_ref().is_some_and(Flight::is_over)
            || !self.runnable.is_empty()
            || (self.may_advance_front() && self.front.wants_turn(self.boot))
            || self.timers.first().is_some_and(|(at, _)| *at <= self.boot)
    }

    /// When the next turn is due at the latest, in ms from now; `None`: not before a command comes.
    pub fn next_turn(&self) -> Option<Duration> {
        let now = self.clock.boot().get();
        let timer = self.timers.first().map(|(at, _)| *at);
        let idle = (self.changed && !self.checkpoint_running && !self.rebuilding)
            .then(|| self.checkpoint_at + millis(self.options.checkpoint_interval));
        let stamp = (self.leases_exist()).then_some(self.stamp_at);
        let space = (!self.short_of_space.is_empty()).then_some(now + 1);
        let front = self.front.next_try().filter(|_| self.may_advance_front());
        // Its turn comes when the sync under way is over.
        let lease = self.lease_sync_at.filter(|_| self.flight.is_none());
        [space, timer, lease, idle, stamp, front, self.next_topic_event()]
            .into_iter()
            .flatten()
            .min()
            .map(|at| Duration::from_millis(at.saturating_sub(now)))
    }

    /// Whether a frame is being built.
    pub(super) const fn is_building(&self) -> bool {
        self.frame_entries > 0
    }

    /// Whether a sync is under way.
    pub const fn is_syncing(&self) -> bool {
        self.flight.is_some()
    }

    /// Whether there are pulls, which need not wait for a sync: then it is carried out beside the writer. All else
    /// has to wait for it, and the writer as well carries it out itself.
    pub fn overlaps(&self) -> bool {
        self.pulled_at.is_some_and(|at| self.boot <= at + OVERLAP_MS)
    }

    // ---- entries ----

    /// Appends a fact to the frame and takes it into the state.
    pub(super) fn emit(&mut self, entry: &Entry) {
        self.scratch.clear();
        codec::encode_into(entry, &mut self.scratch);
        let lsn = match entry {
            Entry::Leased { .. } if planted(Defect::LeaseNotLogged) => self.log.last_lsn(),
            Entry::Settled { .. } if planted(Defect::AckNotLogged) => self.log.last_lsn(),
            Entry::Returned { group, items } if planted(Defect::NackDelayForgotten) => {
                let items = items.iter().map(|item| ReturnDisk { until: 0, ..*item }).collect();
                self.log.push_entry(&codec::encode(&Entry::Returned { group: *group, items }))
            }
            _ => self.log.push_entry(&self.scratch),
        };
        self.frame_entries += 1;
        self.state.apply(entry, lsn, &mut |_, _| None);
        self.changed = true;
    }

    /// Appends a record to the frame.
    pub(super) fn push_record(&mut self, id: u128, head: &[u8], body: &[u8]) -> Loc {
        self.log.push_record(id, head, body)
    }

    /// Whether `bytes` more fit: into the frame, and into space already allocated.
    pub(super) fn room(&self, bytes: usize, urgency: Urgency) -> Room {
        if urgency == Urgency::Ordinary && self.log.lives_on_reserve() {
            return Room::Full;
        }
        if self.log.fits(bytes) {
            return Room::Fits;
        }
        if self.stuck {
            return Room::Full;
        }
        self.asked.set((bytes, urgency));
        match self.log.room(bytes, urgency) {
            // Behind the frame that is being built.
            Room::Fits | Room::NeedsRoll => Room::NeedsRoll,
            // No spare segment yet, but the disk has space for one.
            Room::Full if urgency == Urgency::Ordinary && !self.log.space_state().no_space => Room::NeedsRoll,
            other => other,
        }
    }

    /// Makes the room that [`Writer::room`] said is there behind a commit.
    pub(super) fn commit_and_roll(&mut self) -> Result<(), Fatal> {
        self.write_frame()?;
        let (bytes, urgency) = self.asked.get();
        if self.log.room(bytes, urgency) != Room::NeedsRoll {
            return Ok(());
        }
        self.land()?;
        let head = self.state.head_entries();
        match self.log.roll(&head, urgency) {
            Ok(()) => {
                self.all_is_durable();
                Ok(())
            }
            Err(RollError::Fatal(fatal)) => Err(fatal),
            Err(error @ (RollError::NoSpare | RollError::HeadTooLarge { .. })) => {
                tracing::error!(%error, "the next segment could not be begun");
                self.stuck = true;
                Ok(())
            }
        }
    }

    /// The same for a command that can be tried again: where only a spare segment is missing, it waits for that.
    pub(super) fn room_soon(&self, bytes: usize, urgency: Urgency) -> Room {
        match self.room(bytes, urgency) {
            Room::Full if self.spare_is_made() => Room::NeedsRoll,
            room => room,
        }
    }

    /// A spare segment is being made, and there is space for it.
    pub(super) fn spare_is_made(&self) -> bool {
        !self.stuck && !self.log.space_state().no_space
    }

    pub(super) fn meta(&self) -> FrameMeta {
        FrameMeta { time: Millis::new(self.state.now), boot: self.boot_time() }
    }

    pub(super) const fn boot_time(&self) -> Millis {
        Millis::new(self.boot)
    }

    /// Refuses a command when the writer takes none of its kind.
    pub(super) fn refusal(&self, purpose: Urgency, room: Room) -> Option<Refusal> {
        if self.stopping.is_some() || self.stopped {
            return Some(Refusal::Stopping);
        }
        if purpose == Urgency::Ordinary && self.lags() {
            return Some(Refusal::Busy);
        }
        match room {
            Room::Fits => None,
            Room::TooLarge => Some(Refusal::Busy),
            Room::Full | Room::NeedsRoll => Some(Refusal::DiskFull),
        }
    }
}

/// Whole milliseconds of a span.
pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Rebuilds of the index that may fail in a row. A read that fails once may go well the next time; damage stays.
pub(super) const REBUILD_TRIES: u32 = 3;
/// Messages that one turn lapses, trims or moves at most.
pub(super) const SWEEP_MAX: usize = 4096;
const _: () = assert!(SWEEP_MAX as u64 >= BLOCK_ROWS);
