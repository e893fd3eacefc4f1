//! What the writer does beside commands: loads blocks, begins and ends checkpoints, has the index built
//! again, stamps the time, keeps the timers.

use crate::engine::Refusal;
use crate::engine::command::{Command, JobDone, Reply, Sealed};
use crate::engine::entry::{GroupNo, TopicNo};
use crate::engine::sweep::TRIM_BYTES;
use crate::engine::writer::{HELD_UP_MS, Job, REBUILD_TRIES, STAMP_MS, Writer, millis};
use crate::log::{Fatal, RollError, Room, Urgency};

/// A checkpoint begins when this many messages changed, whatever the log says: bounds their memory.
const CHECKPOINT_ROWS: usize = 1 << 17;
/// Publishes are refused while more changed messages than this wait for a checkpoint.
const UNSAVED_ROWS_MAX: usize = 1 << 20;
/// Clean blocks kept in memory.
const CACHED_BLOCKS_MAX: usize = 192;

impl Writer {
    // ---- blocks ----

    pub(super) fn park(&mut self, command: Command, topic: TopicNo, block: u64) {
        self.parked.entry((topic, block)).or_default().push(command);
        self.ask_for(topic, block);
    }

    /// Has a block loaded, unless it is on its way.
    pub(super) fn ask_for(&mut self, topic: TopicNo, block: u64) {
        if self.loading.insert((topic, block)) {
            self.jobs.push(Job::Load { topic, block });
        }
    }

    pub(super) fn unparked(&mut self) -> Option<Command> {
        let key = *self
            .parked
            .iter()
            .find(|((topic, block), _)| self.state.topics.get(topic).is_none_or(|topic| topic.rows.is_loaded(*block)))?
            .0;
        let mut commands = self.parked.remove(&key)?;
        let command = commands.pop();
        if !commands.is_empty() {
            self.parked.insert(key, commands);
        }
        command
    }

    pub(super) fn job_done(&mut self, done: JobDone) {
        match done {
            JobDone::Loaded { generation, topic, block, stored } => {
                self.loading.remove(&(topic, block));
                let wanted = self.parked.contains_key(&(topic, block));
                match stored {
                    _ if generation < self.generation => {
                        if wanted {
                            self.ask_for(topic, block);
                        }
                    }
                    Ok(stored) => {
                        if let Some(state) = self.state.topics.get_mut(&topic) {
                            state.rows.load(block, &stored);
                            if self.trim_waits.get(&topic) == Some(&block) {
                                match self.room(TRIM_BYTES, Urgency::Essential) {
                                    Room::Fits => self.trim(topic),
                                    _ => self.plan_trim(topic, self.state.now),
                                }
                            }
                            let Some(state) = self.state.topics.get(&topic) else { return };
                            self.cached.push_back((topic, block));
                            self.runnable.extend(state.groups.iter().filter(|group| self.waiters.contains_key(group)));
                        }
                    }
                    Err(error) => {
                        self.lose_index(&error);
                        if wanted {
                            self.loading.insert((topic, block));
                        }
                    }
                }
            }
            JobDone::Checkpoint { generation, result } => self.checkpoint_done(generation, result),
            JobDone::Rebuilt { generation, result } => self.rebuilt(generation, result),
            JobDone::Scanned { segment, frames, candidates, end, failed } => {
                self.front.scanned(segment, frames, candidates, end, failed);
            }
        }
    }

    pub(super) fn evict(&mut self) {
        while self.cached.len() > CACHED_BLOCKS_MAX {
            let Some((topic, block)) = self.cached.pop_front() else { return };
            if let Some(topic) = self.state.topics.get_mut(&topic) {
                // A block that changed since is forgotten here and comes back when its checkpoint is done.
                topic.rows.evict(block);
            }
        }
    }

    // ---- checkpoints ----

    /// The index failed: have it built again. Until then nothing can be loaded from it.
    fn lose_index(&mut self, error: &str) {
        if self.rebuilding {
            return;
        }
        tracing::warn!(%error, "the index cannot be trusted, it is set aside and built again from the log");
        self.rebuilding = true;
        self.stats.index_rebuilds += 1;
        self.ask_for_rebuild();
    }

    fn ask_for_rebuild(&mut self) {
        let segments = self.segments();
        self.jobs.push(Job::Rebuild { upto: self.log.synced_lsn(), segments, generation: self.generation });
    }

    fn checkpoint_done(&mut self, generation: u64, result: Result<(), String>) {
        self.checkpoint_running = false;
        match result {
            Ok(()) => self.thaw(generation),
            Err(error) => {
                for topic in self.state.topics.values_mut() {
                    topic.rows.unfreeze();
                }
                self.state.count_unsaved();
                self.lose_index(&error);
            }
        }
    }

    fn thaw(&mut self, generation: u64) {
        self.generation = generation;
        self.checkpoint_lsn = self.checkpointing;
        self.front.look_now();
        let mut clean = Vec::new();
        for (no, topic) in &mut self.state.topics {
            clean.extend(topic.rows.thaw().into_iter().map(|block| (*no, block)));
        }
        self.cached.extend(clean);
        self.evict();
    }

    fn rebuilt(&mut self, generation: u64, result: Result<(), String>) {
        match result {
            Ok(()) => {
                // The new index kept no block that nobody needed any more.
                let floors: Vec<(TopicNo, u64)> =
                    self.state.topics.iter().map(|(no, topic)| (*no, self.state.floor(topic))).collect();
                for (no, floor) in floors {
                    if let Some(topic) = self.state.topics.get_mut(&no) {
                        topic.rows.set_floor(floor);
                    }
                }
                self.state.count_unsaved();
                self.rebuilding = false;
                self.rebuilds_failed = 0;
                self.generation = generation;
                self.runnable.extend(self.waiters.keys());
                let waiting: Vec<(TopicNo, u64)> = self.parked.keys().copied().collect();
                for (topic, block) in waiting {
                    self.loading.remove(&(topic, block));
                    self.ask_for(topic, block);
                }
            }
            Err(error) => {
                self.rebuilds_failed += 1;
                tracing::error!(%error, tries = self.rebuilds_failed, "the index could not be built again");
                if self.rebuilds_failed >= REBUILD_TRIES {
                    // Neither the index nor the log tells where the messages lie. The next start, which reads
                    // all of the log, says which file is damaged, and where.
                    self.failed = Some(self.log.give_up("build the index again from", error));
                    return;
                }
                self.checkpoint_at = self.boot;
                self.ask_for_rebuild();
            }
        }
    }

    /// Publishes are refused while the checkpoints lag behind.
    pub(super) fn lags(&self) -> bool {
        self.state.unsaved() > UNSAVED_ROWS_MAX
    }

    /// After each turn: checkpoints, spare segments, time stamps.
    pub(super) fn keep_house(&mut self) -> Result<(), Fatal> {
        let wanted = self.stopping.is_some()
            || self.written_bytes - self.checkpoint_log_mark >= self.options.checkpoint_log_bytes
            || self.state.unsaved() >= CHECKPOINT_ROWS
            || self.boot >= self.checkpoint_at + millis(self.options.checkpoint_interval);
        if wanted && self.changed && !self.checkpoint_running && !self.rebuilding {
            self.begin_checkpoint()?;
        }
        if self.leases_exist() && self.boot >= self.stamp_at {
            self.stamp_at = self.boot + STAMP_MS;
            if self.room(0, Urgency::Essential) == Room::NeedsRoll {
                self.commit_and_roll()?;
            }
            // A frame that is being built tells the time when it is written.
            if self.log.fits(0) && !self.is_building() {
                self.log.write(self.meta())?;
                self.state.boot = self.boot;
            }
        }
        if self.stopping.is_some() && !self.checkpoint_running && !self.changed {
            self.commit_durably()?;
            self.stopped = true;
        }
        Ok(())
    }

    fn begin_checkpoint(&mut self) -> Result<(), Fatal> {
        // A checkpoint must never know what the log could lose.
        self.commit_durably()?;
        let upto = self.log.synced_lsn();
        let delta = self.state.freeze(self.generation + 1, upto);
        self.checkpointing = upto;
        self.checkpoint_running = true;
        self.changed = false;
        self.checkpoint_at = self.boot;
        self.checkpoint_log_mark = self.written_bytes;
        self.jobs.push(Job::Checkpoint(Box::new(delta)));
        Ok(())
    }

    // ---- backups ----

    /// Ends the active segment. What is said before lies in segments that no longer change; the answer keeps
    /// them as they are.
    pub(super) fn seal(&mut self, reply: Reply<Result<Sealed, Refusal>>) -> Result<(), Fatal> {
        // The frame so far, and the answers that wait for it: an answer given now is in what is sealed.
        self.commit_durably()?;
        let refusal = self.refusal(Urgency::Ordinary, Room::Fits).or(self.stuck.then_some(Refusal::DiskFull));
        if let Some(refusal) = refusal {
            let _ = reply.send(Err(refusal));
            return Ok(());
        }
        let head = self.state.head_entries();
        match self.log.seal(&head, Urgency::Ordinary) {
            Ok(segments) => {
                let _ = reply.send(Ok(Sealed { segments, last: self.log.synced_lsn() }));
            }
            Err(RollError::Fatal(fatal)) => return Err(fatal),
            // A spare segment is being made: this waits for it.
            Err(RollError::NoSpare) if !self.log.space_state().no_space => {
                self.short_of_space.push_back(Command::Seal(reply));
            }
            Err(error @ (RollError::NoSpare | RollError::HeadTooLarge { .. })) => {
                tracing::warn!(%error, "no segment could be begun for a backup");
                let _ = reply.send(Err(Refusal::DiskFull));
            }
        }
        Ok(())
    }

    // ---- timers ----

    /// Whether any group has a message leased. Who leases one is touched, so that its timer is set.
    pub(super) fn leases_exist(&self) -> bool {
        self.leasing.iter().any(|no| self.state.groups.get(no).is_some_and(|group| group.leased_len() > 0))
    }

    /// Looks anew when each touched group needs a sweep.
    pub(super) fn settle_timers(&mut self) {
        for no in std::mem::take(&mut self.touched) {
            if let Some(old) = self.timer_of.remove(&no) {
                self.timers.remove(&(old, no));
            }
            self.leasing.remove(&no);
            let Some(group) = self.state.groups.get(&no) else {
                self.waiters.remove(&no);
                continue;
            };
            if group.leased_len() > 0 {
                self.leasing.insert(no);
            }
            let waits = self.waiters.get(&no).and_then(|waiters| waiters.iter().map(|waiter| waiter.until).min());
            let until = group.next_until().map(|until| self.boot_at(until));
            let earliest = if self.held_up.remove(&no) { self.boot + HELD_UP_MS } else { 0 };
            if let Some(at) = [group.next_deadline(), until, waits].into_iter().flatten().min() {
                let at = at.max(earliest);
                self.timers.insert((at, no));
                self.timer_of.insert(no, at);
            }
        }
    }

    /// Groups whose time has come.
    pub(super) fn due_groups(&mut self) -> Vec<GroupNo> {
        let due: Vec<GroupNo> =
            self.timers.iter().take_while(|(at, _)| *at <= self.boot).map(|(_, group)| *group).collect();
        self.touched.extend(&due);
        due
    }

    /// When the next delayed message is due or a topic must be trimmed (boot time).
    pub(super) fn next_topic_event(&self) -> Option<u64> {
        let topics = self.state.delaying.iter().filter_map(|no| self.state.topics.get(no));
        let due = topics.filter_map(|topic| topic.delayed.next_due(self.state.matured_to));
        let due = due.map(|due| self.boot_at(due));
        due.chain(self.next_trim().map(|at| self.boot_at(at))).min()
    }
}
