//! Puts a group somewhere else: a seek, a new group, the first pull of one without a position.
//!
//! What is then pending for it may be more than a frame holds. It is said in parts, which mean nothing
//! before the last fact says that the group stands there: after a crash it does wholly or not at all. No
//! other fact comes between them, and no checkpoint.

use std::collections::VecDeque;

use crate::codec;
use crate::engine::command::{Command, PullWork, Reply, Taken};
use crate::engine::entry::{Entry, GroupNo, PendingDisk, Progress};
use crate::engine::pending::Pending;
use crate::engine::state::{State, note_delayed};
use crate::engine::writer::Writer;
use crate::engine::{CreateGroupError, LookupError, PullError, Refusal, SeekReport};
use crate::log::{Fatal, Room, Step, Urgency, entry_bytes};
use crate::model::{Group, Lsn};

/// Bytes of a `PlacedPart` or `PlacedWhole` beside its messages, at most.
const PART_BYTES: usize = 128;

/// A group that is to stand somewhere else.
pub(super) struct Placing {
    pub group: GroupNo,
    pub progress: Progress,
    pub pending: Vec<PendingDisk>,
    /// Facts of the same commit: said before it stands there, and after.
    pub before: Vec<Entry>,
    pub after: Vec<Entry>,
    pub then: Then,
}

/// What follows when the group stands there.
pub(super) enum Then {
    Sought(SeekReport, Reply<Result<SeekReport, LookupError>>),
    Created(Reply<Result<Group, CreateGroupError>>),
    /// The pull that came first goes on.
    Pull(PullWork, Reply<Result<Taken, PullError>>),
}

/// Parts that have been said of a group that does not stand there yet.
#[derive(Debug, Default)]
pub struct Staged {
    group: GroupNo,
    /// The first part that is here, and the next one.
    first: u32,
    next: u32,
    pending: Vec<(PendingDisk, Lsn)>,
}

impl Staged {
    /// Parts were said, and what they mean was not.
    pub const fn is_open(&self) -> bool {
        self.next > 0
    }

    pub fn add(&mut self, group: GroupNo, part: u32, pending: &[PendingDisk], lsn: Lsn) {
        if part == 0 || group != self.group || part != self.next {
            *self = Self { group, first: part, ..Self::default() };
        }
        self.next = part + 1;
        self.pending.extend(pending.iter().map(|item| (item.clone(), lsn)));
    }
}

impl State {
    /// The group stands here, and the parts before said what is pending for it.
    pub(super) fn apply_placed_whole(&mut self, no: GroupNo, progress: Progress, parts: u32) {
        let staged = std::mem::take(&mut self.staged);
        let is_here = staged.group == no && staged.next == parts;
        let Some(group) = self.groups.get(&no) else { return };
        let stands_there = |at: &Progress| (at.placing, at.positioned) >= (progress.placing, progress.positioned);
        if !(is_here && staged.first == 0) && stands_there(&group.progress) {
            // The replay began between the parts, over a state that knows all this and more.
            return;
        }
        // If it began there with nothing, what the earlier parts said was said again before they went.
        let pending = if is_here { staged.pending } else { Vec::new() };
        self.apply_placed(no, progress, pending.iter().map(|(item, lsn)| (item, *lsn)));
    }

    /// The group stands here, and nothing else is pending for it.
    pub(super) fn apply_placed<'a>(
        &mut self,
        no: GroupNo,
        progress: Progress,
        pending: impl Iterator<Item = (&'a PendingDisk, Lsn)>,
    ) {
        let Some(group) = self.groups.get_mut(&no) else { return };
        group.clear();
        group.progress = progress;
        let of_topic = group.disk.topic;
        let Some(topic) = self.topics.get_mut(&of_topic) else { return };
        for (item, lsn) in pending {
            match item.row.due {
                // Not delivered since the group came here: it is taken by its time again.
                Some(due) if item.attempt == 0 => {
                    topic.delayed.insert(item.offset, due, item.row.body_bytes);
                    note_delayed(&mut self.delaying, topic, self.matured_to);
                }
                _ => group.set(item.offset, Pending::from_disk(item, lsn)),
            }
        }
        self.drop_taken_delayed(of_topic);
        self.recount_group(no);
    }
}

impl Writer {
    /// Puts the group there, in as many frames as it takes, and answers.
    pub(super) fn place(&mut self, placing: Placing, commands: &mut VecDeque<Command>) -> Result<(), Fatal> {
        let Placing { group, progress, pending, before, after, then } = placing;
        let refused = self.say_placing((group, progress), pending, (&before, &after))?;
        self.touch_groups(&[group]);
        match (then, refused) {
            (Then::Sought(report, reply), None) => self.answer_synced(reply, Ok(report)),
            (Then::Sought(_, reply), Some(refusal)) => self.answer_synced(reply, Err(refusal.into())),
            (Then::Created(reply), None) => {
                let answer = Ok(self.group_model(group));
                self.answer_synced(reply, answer);
            }
            (Then::Created(reply), Some(refusal)) => self.answer_synced(reply, Err(refusal.into())),
            (Then::Pull(work, reply), None) => {
                // Once for all: a power cut must not let another pull choose another place.
                self.commit_durably()?;
                commands.push_front(Command::Pull(work, reply));
            }
            (Then::Pull(_, reply), Some(refusal)) => {
                self.answer_synced(reply, Err(LookupError::from(refusal).into()));
            }
        }
        Ok(())
    }

    fn say_placing(
        &mut self,
        (group, progress): (GroupNo, Progress),
        pending: Vec<PendingDisk>,
        (before, after): (&[Entry], &[Entry]),
    ) -> Result<Option<Refusal>, Fatal> {
        let max = self.payload_bytes_max();
        let around = before.iter().chain(after).map(|entry| entry_bytes(codec::encode(entry).len())).sum::<usize>();
        let sizes: Vec<usize> = pending.iter().map(|item| codec::encode(item).len()).collect();
        let whole = around + PART_BYTES + sizes.iter().sum::<usize>();
        if whole <= max {
            let room = self.make_room(whole)?;
            if room == Room::Fits {
                let placed = Entry::Placed { group, progress, pending };
                before.iter().chain([&placed]).chain(after).for_each(|entry| self.emit(entry));
            }
            return Ok(self.refusal(Urgency::Essential, room));
        }
        let mut left = pending.into_iter().zip(sizes).peekable();
        let mut parts = 0;
        while left.peek().is_some() {
            let (mut part, mut bytes) = (Vec::new(), PART_BYTES);
            while let Some((item, size)) = left.next_if(|(_, size)| part.is_empty() || bytes + size <= max) {
                part.push(item);
                bytes += size;
            }
            let room = self.make_room(bytes)?;
            if room != Room::Fits {
                self.state.staged = Staged::default();
                return Ok(self.refusal(Urgency::Essential, room));
            }
            self.emit(&Entry::PlacedPart { group, part: parts, pending: part });
            parts += 1;
        }
        let room = self.make_room(around + PART_BYTES)?;
        if room == Room::Fits {
            let placed = Entry::PlacedWhole { group, progress, parts };
            before.iter().chain([&placed]).chain(after).for_each(|entry| self.emit(entry));
            // Nothing that begins after this commit may take the log to end between the parts.
            self.commit_durably()?;
        } else {
            self.state.staged = Staged::default();
        }
        Ok(self.refusal(Urgency::Essential, room))
    }

    /// Makes room for one frame of many, with a new segment if need be.
    fn make_room(&mut self, bytes: usize) -> Result<Room, Fatal> {
        loop {
            match self.room(bytes, Urgency::Essential) {
                Room::NeedsRoll => self.commit_and_roll()?,
                // More segments than there are spares: one is made here and now.
                Room::Full
                    if !self.stuck
                        && !matches!(self.log.prepare_spares(self.boot_time())?, Step::Idle | Step::NoSpace) => {}
                room => return Ok(room),
            }
        }
    }
}
