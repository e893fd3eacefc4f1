//! Reads that go through the writer: pages of rows, counts, totals.

use crate::engine::command::{Command, LookWork, Looked, LookedRow, Reply};
use crate::engine::entry::{GroupNo, PendingState, Sums, TopicNo};
use crate::engine::rows::{BLOCK_ROWS, Found, Row, block_of};
use crate::engine::writer::{Step, Writer};
use crate::engine::{Counts, GroupStatus, LookupError, MessageState, Status, TopicStatus};
use crate::model::{AccountName, GroupName, GroupRef, Millis, TopicRef};

impl Writer {
    /// A page of live rows, from an offset on: the rest of one block.
    pub(super) fn look(&mut self, work: LookWork, reply: Reply<Result<Looked, LookupError>>) -> Step {
        let found = match &work.group {
            Some(group) => {
                self.find_group(&work.account, &work.topic, group).map(|(topic, group)| (topic, Some(group)))
            }
            None => self.find(&work.account, &work.topic).map(|topic| (topic, None)),
        };
        let (no, group) = match found {
            Ok(found) => found,
            Err(error) => {
                self.answer_read(reply, Err(error));
                return Step::Done;
            }
        };
        let topic = &self.state.topics[&no];
        let tail = topic.visible;
        let floor = self.state.floor(topic);
        // A client may ask from beyond the tail, up to the largest number there is.
        let from = work.from.clamp(floor, tail.max(floor));
        let block = block_of(from);
        if from < tail && !topic.rows.is_loaded(block) {
            return Step::Need(Command::Look(work, reply), no, block);
        }
        let end = ((block + 1) * BLOCK_ROWS).min(tail);
        let mut rows = Vec::new();
        for offset in from..end.max(from) {
            let (row, gone) = match topic.rows.get(offset) {
                Found::Row(row) => (row, false),
                Found::Gone(row) => (row, true),
                Found::Absent | Found::Away(_) => continue,
            };
            if self.state.is_live(no, offset, row.due != 0) {
                let mut looked = self.looked_row(group, offset, row);
                if gone && looked.state == Some(MessageState::Ready) {
                    // Superseded, and in flight for another group only.
                    looked.state = Some(MessageState::Settled);
                }
                rows.push(looked);
            }
        }
        let mut segments: Vec<u64> = rows.iter().map(|row| row.row.loc.segment).collect();
        segments.sort_unstable();
        segments.dedup();
        let looked = Looked {
            rows,
            next: (end < tail && from < tail).then_some(end),
            head: floor,
            tail,
            rising: !topic.foreign,
            _pins: segments.into_iter().filter_map(|segment| self.reader.pin(segment)).collect(),
        };
        self.answer_read(reply, Ok(looked));
        Step::Done
    }

    fn looked_row(&self, group: Option<GroupNo>, offset: u64, row: Row) -> LookedRow {
        let Some(group) = group.map(|no| &self.state.groups[&no]) else {
            return LookedRow { offset, row, state: None, attempts: 0 };
        };
        let pending = group.pending(offset);
        let state = match pending.map(|pending| pending.state) {
            _ if offset < group.counts_from() => MessageState::Settled,
            Some(PendingState::Leased { .. }) => MessageState::InFlight,
            Some(PendingState::Waiting { .. }) => MessageState::Delayed,
            Some(PendingState::Ready | PendingState::Withheld) => MessageState::Ready,
            None if row.due != 0 => match (row.due, offset) {
                at if at <= group.progress.due || offset < group.first_delayed() => MessageState::Settled,
                (due, _) if due > self.state.matured_to => MessageState::Delayed,
                _ => MessageState::Ready,
            },
            None if offset >= group.progress.cursor => MessageState::Ready,
            None => MessageState::Settled,
        };
        LookedRow { offset, row, state: Some(state), attempts: pending.map_or(0, |pending| pending.attempt) }
    }

    pub(super) fn counts(
        &mut self,
        account: AccountName,
        topic: TopicRef,
        group: Option<GroupRef>,
        reply: Reply<Result<Counts, LookupError>>,
    ) -> Step {
        let found = match &group {
            Some(group) => self.find_group(&account, &topic, group).map(|(topic, group)| (topic, Some(group))),
            None => self.find(&account, &topic).map(|topic| (topic, None)),
        };
        let (no, of) = match found {
            Ok(found) => found,
            Err(error) => {
                self.answer_read(reply, Err(error));
                return Step::Done;
            }
        };
        let state = &self.state.topics[&no];
        let cursor = of.map_or(self.state.floor(state), |group| self.state.groups[&group].progress.cursor);
        if cursor < state.tail() && !state.rows.is_loaded(block_of(cursor)) && !self.rebuilding {
            return Step::Need(Command::Counts(account, topic, group, reply), no, block_of(cursor));
        }
        let counts = of.map_or_else(|| self.topic_counts(no), |group| self.group_counts(group));
        self.answer_read(reply, Ok(counts));
        Step::Done
    }

    /// Counts of a group.
    pub(super) fn group_counts(&self, no: GroupNo) -> Counts {
        let group = &self.state.groups[&no];
        let topic = &self.state.topics[&group.disk.topic];
        let from = group.counts_from();
        let cursor = group.progress.cursor.max(from).min(topic.tail());
        let (below, gone) = if cursor == group.progress.cursor {
            (group.progress.plain, group.gone_ahead)
        } else {
            let below = self.sums_at(group.disk.topic, cursor).unwrap_or(group.progress.plain);
            (below, topic.gone.beyond(below))
        };
        let ahead = topic.plain.since(below).since(gone);
        let mut untaken = (group.untaken, group.due_untaken);
        let mut pending = (group.pending_bytes(), (group.ready_len() + group.unstarted_len()) as u64);
        if from > 0 {
            untaken = (Sums::default(), 0);
            for (_, due, bytes) in topic.delayed.by_offset().filter(|(offset, ..)| *offset >= from) {
                untaken.0.count += 1;
                untaken.0.bytes += u64::from(bytes);
                untaken.1 += u64::from(due <= self.state.matured_to);
            }
            pending = (0, 0);
            for (_, kept) in group.pendings_from(from) {
                pending.0 += u64::from(kept.row.body_bytes);
                pending.1 += 1;
            }
        }
        let oldest_pending = group.pendings_from(from).next().map(|(_, pending)| pending.row.arrived_at());
        let oldest_ahead = self.first_live(group.disk.topic, cursor);
        let oldest_delayed = topic
            .delayed
            .by_offset()
            .find(|(offset, due, _)| (*due, *offset) > group.progress.due && *offset >= group.first_delayed().max(from))
            .and_then(|(offset, ..)| arrived_at(topic, offset));
        Counts {
            ready: pending.1 + untaken.1 + ahead.count,
            in_flight: group.leased_len() as u64,
            delayed: group.waiting_len() as u64 + untaken.0.count.saturating_sub(untaken.1),
            bytes: pending.0 + untaken.0.bytes + ahead.bytes,
            oldest: [oldest_pending, oldest_ahead, oldest_delayed].into_iter().flatten().min().map(Millis::new),
        }
    }

    /// Publish time of the first live message without delay from `offset` on, as far as it is in memory.
    fn first_live(&self, no: TopicNo, offset: u64) -> Option<u64> {
        let topic = &self.state.topics[&no];
        for at in offset..topic.tail().min(offset + BLOCK_ROWS) {
            match topic.rows.get(at) {
                Found::Row(row) if row.due == 0 => return Some(row.arrived_at()),
                Found::Away(_) => return None,
                _ => {}
            }
        }
        None
    }

    /// Counts of what a topic keeps.
    pub(super) fn topic_counts(&self, no: TopicNo) -> Counts {
        let topic = &self.state.topics[&no];
        let groups = || topic.groups.iter().map(|group| &self.state.groups[group]);
        let lowest = if topic.keeps_settled() { None } else { groups().min_by_key(|group| group.progress.cursor) };
        let (cursor, below, gone) = match lowest {
            Some(group) => (group.progress.cursor, group.progress.plain, group.gone_ahead),
            None => (topic.head, topic.head_plain, topic.gone.beyond(topic.head_plain)),
        };
        let ahead = topic.plain.since(below).since(gone);
        // What some group has not settled, and is neither ahead of every cursor nor delayed, each once.
        let mut pending = std::collections::BTreeMap::new();
        for group in groups() {
            let counted =
                group.pendings().filter(|(offset, kept)| *offset < cursor || kept.row.due != 0 || kept.superseded);
            let untaken = counted.filter(|(offset, _)| topic.delayed.get(*offset).is_none());
            pending.extend(untaken.map(|(offset, kept)| (offset, kept.row.body_bytes)));
        }
        let due = topic.delayed.between((0, 0), self.state.matured_to).count() as u64;
        let oldest_pending =
            groups().filter_map(|group| group.pendings().next()).map(|(_, kept)| kept.row.arrived_at()).min();
        let oldest_delayed = topic.delayed.first_offset().and_then(|offset| arrived_at(topic, offset));
        let oldest = [oldest_pending, oldest_delayed, self.first_live(no, cursor)];
        Counts {
            ready: ahead.count + pending.len() as u64 + due,
            in_flight: 0,
            delayed: topic.delayed.len() as u64 - due,
            bytes: ahead.bytes + topic.delayed.bytes() + pending.values().map(|bytes| u64::from(*bytes)).sum::<u64>(),
            oldest: oldest.into_iter().flatten().min().map(Millis::new),
        }
    }

    /// Bytes that the log must keep, an upper bound.
    pub(super) fn live_bytes(&self) -> u64 {
        let overhead = 192;
        self.state
            .topics
            .keys()
            .map(|no| {
                let counts = self.topic_counts(*no);
                counts.bytes + counts.unsettled() * overhead
            })
            .sum()
    }

    pub(super) fn status(&self) -> Status {
        let topics = self.state.topics.iter().map(|(no, topic)| {
            let groups = self.state.real_groups(*no).map(|no| {
                let group = &self.state.groups[&no];
                GroupStatus {
                    group: GroupName::parse(&group.disk.name).ok(),
                    waiting: self
                        .waiters
                        .get(&no)
                        .map_or(0, |all| all.iter().filter(|one| !one.reply.is_closed()).count() as u64),
                    counts: self.group_counts(no),
                    ..group.totals.clone()
                }
            });
            TopicStatus {
                account: Some(topic.account.clone()),
                topic: Some(topic.name.clone()),
                published: topic.published,
                published_bytes: topic.published_bytes,
                counts: self.topic_counts(*no),
                groups: groups.collect(),
            }
        });
        let space = self.log.space_state();
        Status {
            topics: topics.collect(),
            sync_seconds: self.stats.sync_seconds(),
            commit_commands: self.stats.commit_commands(),
            disk_full: space.no_space && space.spares <= self.log.options().reserve,
            log_bytes: self.log.segments().iter().map(|segment| segment.file_bytes).sum(),
            live_bytes: self.live_bytes(),
            free_bytes: 0,
            torn: self.torn.clone(),
            index_rebuilds: self.stats.index_rebuilds,
            last_lsn: self.log.last_lsn().get(),
            clock_suspect: self.clock_suspect,
        }
    }
}

fn arrived_at(topic: &crate::engine::topic_state::TopicState, offset: u64) -> Option<u64> {
    match topic.rows.get(offset) {
        Found::Row(row) => Some(row.arrived_at()),
        _ => None,
    }
}
