//! What follows from the state: counts, what is due, what is still needed. Counts are kept up live and made
//! anew after a replay.

use std::collections::BTreeMap;

use crate::engine::entry::{GoneDisk, GroupNo, Sums, TopicNo};
use crate::engine::group_state::GroupState;
use crate::engine::rows::{BLOCK_ROWS, Found, block_of};
use crate::engine::state::{Loader, State, load_block};
use crate::engine::topic_state::TopicState;

impl State {
    /// Counts delayed messages as due up to now; answers the topics where some became so.
    pub fn mature(&mut self, now: u64) -> Vec<TopicNo> {
        let from = self.matured_to;
        self.matured_to = from.max(now);
        let mut matured = Vec::new();
        self.delaying.retain(|no| self.topics.get(no).is_some_and(|topic| topic.delayed.len() > 0));
        for no in &self.delaying {
            let Some(topic) = self.topics.get_mut(no) else { continue };
            topic.delayed.look_ahead(self.matured_to);
            let due: Vec<(u64, u64)> = topic.delayed.between((from, u64::MAX), self.matured_to).collect();
            if due.is_empty() {
                continue;
            }
            matured.push(*no);
            for group in &topic.groups {
                if let Some(group) = self.groups.get_mut(group) {
                    let first = group.first_delayed();
                    group.due_untaken += due.iter().filter(|(_, offset)| *offset >= first).count() as u64;
                }
            }
        }
        matured
    }

    /// Makes all derived counts right, reading blocks where it must.
    pub fn recount(&mut self, loader: Loader<'_>) {
        self.idempotency_keys = self.topics.values().map(|topic| topic.idempotency.len()).sum();
        let topics: Vec<TopicNo> = self.topics.keys().copied().collect();
        for no in topics {
            self.recount_topic(no, loader);
            self.drop_taken_delayed(no);
        }
        let groups: Vec<GroupNo> = self.groups.keys().copied().collect();
        for no in groups {
            self.recount_group(no);
        }
    }

    fn recount_topic(&mut self, no: TopicNo, loader: Loader<'_>) {
        let Some(topic) = self.topics.get_mut(&no) else { return };
        topic.visible = topic.tail();
        if !topic.compacts() && !topic.has_gone {
            return;
        }
        topic.gone.clear();
        topic.keys.clear();
        let mut known = topic.head_plain;
        for block in block_of(topic.head)..topic.tail().div_ceil(BLOCK_ROWS) {
            load_block(topic, block, loader);
            let first = block * BLOCK_ROWS;
            known = count_gaps(topic, first.max(topic.head)..(first + BLOCK_ROWS).min(topic.tail()), known);
            topic.rows.evict(block);
        }
        topic.gone.add(known, topic.plain);
        let floor = plain_floor(topic, &self.groups);
        topic.gone.forget_below(floor);
        topic.dirty |= topic.gone.is_empty() && topic.has_gone;
        topic.has_gone = !topic.gone.is_empty();
    }

    /// Makes the derived counts of one group right.
    pub fn recount_group(&mut self, no: GroupNo) {
        let Some(group) = self.groups.get_mut(&no) else { return };
        let Some(topic) = self.topics.get_mut(&group.disk.topic) else { return };
        let first = group.first_delayed();
        group.untaken = Sums::default();
        group.due_untaken = 0;
        for (offset, due, body_bytes) in topic.delayed.by_offset() {
            if (due, offset) > group.progress.due && offset >= first {
                group.untaken.count += 1;
                group.untaken.bytes += u64::from(body_bytes);
                group.due_untaken += u64::from(due <= self.matured_to);
            }
        }
        group.gone_ahead = topic.gone.beyond(group.progress.plain);
    }

    /// The lowest offset of a topic that anybody still needs: rows below may go.
    pub fn floor(&self, topic: &TopicState) -> u64 {
        if topic.groups.is_empty() || topic.keeps_settled() {
            return topic.head;
        }
        let groups = topic.groups.iter().filter_map(|group| self.groups.get(group));
        let lowest = groups.map(GroupState::floor).min().unwrap_or(topic.head);
        let delayed = topic.delayed.first_offset().unwrap_or(u64::MAX);
        lowest.min(delayed).max(topic.head)
    }

    /// Whether anybody still needs the message at `offset`, which was published with a delay or without.
    pub fn is_live(&self, no: TopicNo, offset: u64, delayed: bool) -> bool {
        let Some(topic) = self.topics.get(&no) else { return false };
        let groups = || topic.groups.iter().filter_map(|group| self.groups.get(group));
        if groups().any(|group| group.pending(offset).is_some()) {
            return true;
        }
        if offset < topic.head || matches!(topic.rows.get(offset), Found::Gone(_) | Found::Absent) {
            return false;
        }
        if delayed {
            return topic.delayed.get(offset).is_some();
        }
        topic.groups.is_empty() || topic.keeps_settled() || groups().any(|group| offset >= group.progress.cursor)
    }
}

/// Counts as given up what lies between the rows at these offsets; `known` are the sums before, the answer those
/// after them. With compaction the newest message of each key is noted on the way.
pub fn count_gaps(topic: &mut TopicState, offsets: std::ops::Range<u64>, mut known: Sums) -> Sums {
    let compacts = topic.compacts();
    for offset in offsets {
        let Found::Row(row) = topic.rows.get(offset) else { continue };
        if row.key != 0 && row.moved_at == 0 && compacts {
            topic.keys.insert(row.key, GoneDisk::new(offset, &row));
        }
        topic.gone.add(known, row.before);
        known = row.after();
    }
    known
}

/// The topic's sums below the lowest place that any group may still come to.
pub fn plain_floor(topic: &TopicState, groups: &BTreeMap<GroupNo, GroupState>) -> Sums {
    let stands = topic.groups.iter().filter_map(|group| groups.get(group)).map(|group| group.progress.plain);
    let lowest = stands.min_by_key(|plain| plain.count).filter(|_| !topic.keeps_settled());
    lowest.filter(|lowest| lowest.count > topic.head_plain.count).unwrap_or(topic.head_plain)
}
