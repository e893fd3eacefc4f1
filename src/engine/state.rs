//! The whole state, and [`State::apply`]: the only code that changes it, live and in replay alike.
//!
//! `apply` never asks the clock, never rolls dice, never refuses. Derived counts may be off after a
//! replay over a checkpoint that was cut short; [`State::recount`] makes them right again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::engine::block::BlockDisk;
use crate::engine::entry::{
    AccessDisk, Entry, GoneDisk, GroupDisk, GroupNo, PendingState, Progress, RewrittenDisk, RowDisk, Sums, TopicDisk,
    TopicNo,
};
use crate::engine::group_state::GroupState;
use crate::engine::pending::Pending;
use crate::engine::places::find_row;
use crate::engine::placing::Staged;
use crate::engine::rows::Row;
use crate::engine::topic_state::TopicState;
use crate::engine::{AccessTable, Limits};
use crate::log::Epoch;
use crate::model::{AccessId, GroupRef, Lsn, TopicRef};
use crate::planted::{Defect, planted};

/// Reads a block from the index; `None`: it cannot be read here, what is not in memory stays unknown.
pub type Loader<'a> = &'a mut dyn FnMut(TopicNo, u64) -> Option<BlockDisk>;

/// A message taken: its offset; attempt, lease and handle, if it was leased; its state.
type TakenFact = (u64, Option<(u32, u64, u128)>, PendingState);

/// Everything the writer decides by.
#[derive(Debug)]
pub struct State {
    pub topics: BTreeMap<TopicNo, TopicState>,
    pub groups: BTreeMap<GroupNo, GroupState>,
    topic_names: HashMap<(String, String), TopicNo>,
    topic_ids: HashMap<u128, TopicNo>,
    pub access: Arc<AccessTable>,
    pub access_dirty: bool,
    pub next_topic: TopicNo,
    pub next_group: GroupNo,
    pub last_id: u128,
    /// The log clock: never goes back.
    pub now: u64,
    /// Delayed messages due up to here are counted as such.
    pub matured_to: u64,
    pub boot_id: u128,
    /// Boot time of the last frame.
    pub boot: u64,
    /// The life of the server in which the places of records were learned.
    pub epoch: Epoch,
    pub limits: Limits,
    /// Topics and groups deleted since the last checkpoint began.
    pub deleted_topics: Vec<TopicNo>,
    pub deleted_groups: Vec<GroupNo>,
    pub idempotency_keys: usize,
    pub staged: Staged,
    /// What changed of all topics since the last checkpoint began, as `Rows::unsaved` counts it.
    unsaved: usize,
    /// Topics with delayed messages; some may have none any more.
    pub(super) delaying: BTreeSet<TopicNo>,
}

impl State {
    pub fn new(limits: Limits) -> Self {
        Self {
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            topic_names: HashMap::new(),
            topic_ids: HashMap::new(),
            access: Arc::default(),
            access_dirty: false,
            next_topic: 1,
            next_group: 1,
            last_id: 0,
            now: 0,
            matured_to: 0,
            boot_id: 0,
            boot: 0,
            epoch: Epoch::default(),
            limits,
            deleted_topics: Vec::new(),
            deleted_groups: Vec::new(),
            idempotency_keys: 0,
            staged: Staged::default(),
            unsaved: 0,
            delaying: BTreeSet::new(),
        }
    }

    /// The topic that `account` means by `topic`.
    pub fn find_topic(&self, account: &str, topic: &TopicRef) -> Option<TopicNo> {
        match topic {
            TopicRef::Name(name) => self.topic_names.get(&(account.to_owned(), name.as_str().to_owned())).copied(),
            TopicRef::Id(id) => {
                let no = *self.topic_ids.get(&id.get())?;
                (self.topics.get(&no)?.account.as_str() == account).then_some(no)
            }
        }
    }

    /// The group of `topic` that is meant.
    pub fn find_group(&self, topic: TopicNo, group: &GroupRef) -> Option<GroupNo> {
        match group {
            GroupRef::Name(name) => self.topics.get(&topic)?.group_names.get(name.as_str()).copied(),
            GroupRef::Id(id) => {
                self.real_groups(topic).find(|no| self.groups.get(no).is_some_and(|found| found.disk.id == id.get()))
            }
        }
    }

    /// The groups of a topic, its ghost aside.
    pub fn real_groups(&self, topic: TopicNo) -> impl Iterator<Item = GroupNo> + '_ {
        let groups = self.topics.get(&topic).into_iter().flat_map(|topic| topic.groups.iter().copied());
        groups.filter(|no| self.groups.get(no).is_some_and(|group| !group.disk.ghost))
    }

    /// The frame that follows was written at these times.
    pub fn saw_frame(&mut self, time: u64, boot: u64) {
        self.now = self.now.max(time);
        self.boot = boot;
    }

    /// Takes in one fact. `loader` reads blocks in replay; live, what is needed is in memory already.
    pub fn apply(&mut self, entry: &Entry, lsn: Lsn, loader: Loader<'_>) {
        match entry {
            Entry::Epoch { boot_id, boot, before } => self.apply_epoch(*boot_id, *boot, *before),
            Entry::TopicPut(disk) => self.apply_topic_put(disk),
            Entry::TopicDeleted { topic } => self.apply_topic_deleted(*topic),
            Entry::GroupPut(disk) => self.apply_group_put(disk),
            Entry::GroupDeleted { group, leaves_ghost } => self.apply_group_deleted(*group, *leaves_ghost),
            Entry::Published { topic, first_offset, before, rows } => {
                self.apply_published(*topic, *first_offset, *before, rows, lsn);
            }
            Entry::Leased { group, progress, leases, withheld } => {
                let taken: Vec<_> = leases
                    .iter()
                    .map(|lease| {
                        let state = PendingState::Leased { deadline: lease.deadline };
                        (lease.offset, Some((lease.attempt, lease.lease, lease.handle)), state)
                    })
                    .chain(withheld.iter().map(|offset| (*offset, None, PendingState::Withheld)))
                    .collect();
                self.apply_taken(*group, &taken, lsn, loader);
                self.apply_progress(*group, *progress);
            }
            Entry::Settled { group, offsets } => {
                if let Some(group) = self.groups.get_mut(group) {
                    for offset in offsets {
                        group.remove(*offset);
                    }
                }
            }
            Entry::Returned { group, items } => {
                for item in items {
                    self.apply_returned(*group, item.offset, item.until);
                }
            }
            Entry::Placed { group, progress, pending } => {
                self.apply_placed(*group, *progress, pending.iter().map(|item| (item, lsn)));
            }
            Entry::PlacedPart { group, part, pending } => self.staged.add(*group, *part, pending, lsn),
            Entry::PlacedWhole { group, progress, parts } => {
                self.apply_placed_whole(*group, *progress, *parts);
            }
            Entry::Progressed { group, progress } => self.apply_progress(*group, *progress),
            Entry::Trimmed { topic, head, plain } => self.apply_trimmed(*topic, *head, *plain),
            Entry::Gone { topic, items, leased_too } => {
                for item in items {
                    self.apply_gone(*topic, *item, *leased_too);
                }
            }
            Entry::Moved { from_group, from_topic, from_offset, from_before, to_topic, to_offset, before, row } => {
                self.apply_moved_in(*to_topic, *to_offset, *before, row);
                match from_group {
                    Some(group) => {
                        if let Some(group) = self.groups.get_mut(group) {
                            group.remove(*from_offset);
                        }
                    }
                    None => {
                        let (offset, before, body_bytes) = (*from_offset, *from_before, row.body_bytes);
                        let item = GoneDisk { offset, before, body_bytes, delayed: false };
                        self.apply_gone(*from_topic, item, true);
                    }
                }
            }
            Entry::Rewritten { topic, rows } => self.apply_rewritten(*topic, rows),
            Entry::PendingKept { group, pending } => {
                if let Some(state) = self.groups.get_mut(group) {
                    for item in pending {
                        state.set(item.offset, Pending::from_disk(item, lsn));
                    }
                }
            }
            Entry::IdempotencyKept { topic, keys } => {
                if let Some(topic) = self.topics.get_mut(topic) {
                    for known in keys {
                        topic.idempotency.put(*known, lsn);
                    }
                }
            }
            Entry::AccessPut(disk) => {
                if let Some(record) = disk.to_model() {
                    Arc::make_mut(&mut self.access).records.insert(record.id.clone(), record);
                    self.access_dirty = true;
                }
            }
            Entry::AccessRevoked { id } => {
                Arc::make_mut(&mut self.access).records.remove(&AccessId(id.clone()));
                self.access_dirty = true;
            }
            Entry::TopicStands { topic, head, head_plain, tail, plain, last_id, foreign } => {
                let Some(state) = self.topics.get_mut(topic) else { return };
                state.head = *head;
                state.head_plain = *head_plain;
                state.rows.set_tail(*tail);
                state.visible = *tail;
                state.plain = *plain;
                state.last_id = *last_id;
                state.foreign = *foreign;
                // What was given up before is not said again: gaps in the rows that follow tell.
                state.has_gone = true;
                self.last_id = self.last_id.max(*last_id);
            }
        }
    }

    /// Whether single values that know of this fact already would make those before it mean something else:
    /// deadlines count from its boot, and what a group has not taken depends on which groups there are.
    pub fn is_turning_point(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Epoch { boot_id, .. } => *boot_id != self.boot_id,
            Entry::TopicPut(_)
            | Entry::TopicDeleted { .. }
            | Entry::GroupPut(_)
            | Entry::GroupDeleted { .. }
            | Entry::Placed { .. } => true,
            _ => false,
        }
    }

    fn apply_epoch(&mut self, boot_id: u128, boot: u64, before: u64) {
        let lapse = planted(Defect::LeasesLapseAtStart);
        if boot_id != self.boot_id || lapse {
            for group in self.groups.values_mut() {
                group.rebase(if lapse { u64::MAX } else { before }, boot);
            }
        }
        self.boot_id = boot_id;
        self.boot = boot;
    }

    fn apply_topic_put(&mut self, disk: &TopicDisk) {
        self.next_topic = self.next_topic.max(disk.no + 1);
        if let Some(topic) = self.topics.get_mut(&disk.no) {
            self.topic_names.remove(&(topic.disk.account.clone(), topic.disk.name.clone()));
            let Ok(renamed) = TopicState::new(disk.clone()) else { return };
            // Those that every group had settled are not kept any more, said or not.
            topic.has_gone |= renamed.keeps_settled() && !topic.keeps_settled();
            topic.name = renamed.name;
            topic.settings = renamed.settings;
            topic.disk = renamed.disk;
            topic.dirty = true;
        } else {
            let Ok(topic) = TopicState::new(disk.clone()) else { return };
            self.topics.insert(disk.no, topic);
        }
        self.topic_names.insert((disk.account.clone(), disk.name.clone()), disk.no);
        self.topic_ids.insert(disk.id, disk.no);
        // Settled messages may go now that could not before, or have to stay.
        self.drop_taken_delayed(disk.no);
        self.keep_taken_delayed(disk.no);
    }

    /// Where settled messages are kept, so are delayed ones that every group has taken, by their time.
    fn keep_taken_delayed(&mut self, no: TopicNo) {
        let Some(topic) = self.topics.get_mut(&no).filter(|topic| topic.keeps_settled()) else { return };
        note_delayed(&mut self.delaying, topic, self.matured_to);
        for group in topic.groups.iter().filter_map(|group| self.groups.get(group)) {
            for (offset, pending) in group.pendings().filter(|(_, pending)| pending.row.due != 0 && !pending.superseded)
            {
                topic.delayed.insert(offset, pending.row.due, pending.row.body_bytes);
            }
        }
    }

    fn apply_topic_deleted(&mut self, no: TopicNo) {
        let Some(topic) = self.topics.remove(&no) else { return };
        self.topic_names.remove(&(topic.disk.account, topic.disk.name));
        self.topic_ids.remove(&topic.disk.id);
        self.unsaved -= topic.rows.unsaved();
        self.delaying.remove(&no);
        self.deleted_topics.push(no);
        for group in topic.groups {
            self.groups.remove(&group);
            self.deleted_groups.push(group);
        }
    }

    fn apply_group_put(&mut self, disk: &GroupDisk) {
        self.next_group = self.next_group.max(disk.no + 1);
        let Ok(fresh) = GroupState::new(disk.clone()) else { return };
        if let Some(group) = self.groups.get_mut(&disk.no) {
            group.settings = fresh.settings;
            group.disk = fresh.disk;
            group.dirty = true;
            return;
        }
        let Some(topic) = self.topics.get_mut(&disk.topic) else { return };
        topic.groups.push(disk.no);
        if !disk.ghost {
            topic.group_names.insert(disk.name.clone(), disk.no);
        }
        topic.dirty = true;
        self.groups.insert(disk.no, fresh);
    }

    fn apply_group_deleted(&mut self, no: GroupNo, leaves_ghost: bool) {
        let Some(group) = self.groups.get_mut(&no) else { return };
        let topic_no = group.disk.topic;
        if let Some(topic) = self.topics.get_mut(&topic_no)
            && topic.group_names.get(&group.disk.name) == Some(&no)
        {
            topic.group_names.remove(&group.disk.name);
        }
        if leaves_ghost {
            group.disk.ghost = true;
            group.dirty = true;
            let all: Vec<u64> = group.pendings().map(|(offset, _)| offset).collect();
            for offset in all {
                group.make_ready(offset);
            }
            return;
        }
        self.groups.remove(&no);
        self.deleted_groups.push(no);
        if let Some(topic) = self.topics.get_mut(&topic_no) {
            topic.groups.retain(|other| *other != no);
            topic.dirty = true;
        }
        self.drop_taken_delayed(topic_no);
    }

    fn apply_published(&mut self, no: TopicNo, first: u64, before: Sums, rows: &[RowDisk], lsn: Lsn) {
        let Some(topic) = self.topics.get_mut(&no) else { return };
        topic.dirty = true;
        let (tail_before, unsaved_before) = (topic.tail(), topic.rows.unsaved());
        let mut sums = before;
        for (place, disk) in rows.iter().enumerate() {
            let offset = first + place as u64;
            let row = Row::from_disk(disk, sums);
            sums = row.after();
            if row.due != 0 && offset >= topic.head && topic.delayed.insert(offset, row.due, row.body_bytes) {
                note_delayed(&mut self.delaying, topic, self.matured_to);
                for group in &topic.groups {
                    if let Some(group) = self.groups.get_mut(group)
                        && offset >= group.first_delayed()
                    {
                        group.untaken.count += 1;
                        group.untaken.bytes += u64::from(row.body_bytes);
                    }
                }
            }
            if let Some((key, fingerprint)) = disk.idempotency {
                let known = crate::engine::entry::IdempotencyDisk { key, fingerprint, id: disk.id, offset };
                let before = topic.idempotency.len();
                topic.idempotency.put(known, lsn);
                self.idempotency_keys += topic.idempotency.len() - before;
            }
            if row.key != 0 && topic.compacts() {
                topic.keys.insert(row.key, GoneDisk::new(offset, &row));
            }
            topic.last_id = topic.last_id.max(disk.id);
            self.last_id = self.last_id.max(disk.id);
            topic.rows.put(offset, &row, false);
        }
        self.unsaved += topic.rows.unsaved() - unsaved_before;
        if topic.tail() > tail_before {
            topic.plain = sums;
        }
    }

    fn apply_moved_in(&mut self, no: TopicNo, offset: u64, before: Sums, disk: &RowDisk) {
        let Some(topic) = self.topics.get_mut(&no) else { return };
        topic.dirty = true;
        topic.foreign = true;
        let row = Row::from_disk(disk, before);
        if offset >= topic.tail() {
            topic.plain = row.after();
        }
        let unsaved_before = topic.rows.unsaved();
        topic.rows.put(offset, &row, false);
        self.unsaved += topic.rows.unsaved() - unsaved_before;
    }

    fn apply_taken(&mut self, no: GroupNo, taken: &[TakenFact], lsn: Lsn, loader: Loader<'_>) {
        let Some(group) = self.groups.get_mut(&no) else { return };
        let Some(topic) = self.topics.get_mut(&group.disk.topic) else { return };
        for (offset, lease, state) in taken {
            let mut pending = match group.pending(*offset) {
                Some(pending) => pending.clone(),
                None => {
                    let row = find_row(topic, *offset, loader)
                        .unwrap_or_else(|| Row::from_disk(&RowDisk::unknown(), Sums::default()));
                    Pending { row, attempt: 0, lease: 0, handle: 0, state: *state, superseded: false, said_at: lsn }
                }
            };
            if let Some((attempt, lease, handle)) = lease {
                (pending.attempt, pending.lease, pending.handle) = (*attempt, *lease, *handle);
            }
            pending.state = *state;
            // That it is superseded is not said by this.
            pending.said_at = if pending.superseded { pending.said_at } else { lsn };
            group.set(*offset, pending);
        }
    }

    fn apply_progress(&mut self, no: GroupNo, progress: Progress) {
        let Some(group) = self.groups.get_mut(&no) else { return };
        let Some(topic) = self.topics.get_mut(&group.disk.topic) else { return };
        let old = std::mem::replace(&mut group.progress, progress);
        group.dirty = true;
        group.gone_ahead = group.gone_ahead.since(topic.gone.between(old.plain, progress.plain));
        let (first, upto) = (group.first_delayed(), progress.due);
        topic.delayed.look_ahead(upto.0);
        let passed: Vec<(u64, u64)> = topic.delayed.between(old.due, upto.0).take_while(|at| *at <= upto).collect();
        for (due, offset) in passed.iter().filter(|(_, offset)| *offset >= first) {
            let bytes = topic.delayed.get(*offset).map_or(0, |(_, bytes)| u64::from(bytes));
            group.untaken = group.untaken.since(Sums { count: 1, bytes });
            group.due_untaken = group.due_untaken.saturating_sub(u64::from(*due <= self.matured_to));
        }
        self.drop_taken_of(state_topic(&self.groups, no), &passed);
    }

    fn apply_returned(&mut self, no: GroupNo, offset: u64, until: u64) {
        let Some(group) = self.groups.get_mut(&no) else { return };
        let Some(mut pending) = group.pending(offset).cloned() else { return };
        if pending.superseded {
            group.remove(offset);
            return;
        }
        pending.state = if until == 0 { PendingState::Ready } else { PendingState::Waiting { until } };
        group.set(offset, pending);
    }

    fn apply_trimmed(&mut self, no: TopicNo, head: u64, plain: Sums) {
        let Some(topic) = self.topics.get_mut(&no) else { return };
        // A checkpoint that was cut short may know the new head and not what follows from it for the groups.
        if head > topic.head {
            topic.head = head;
            topic.head_plain = plain;
            topic.dirty = true;
        }
        for offset in topic.delayed.below(head) {
            forget_delayed(topic, &mut self.groups, offset, self.matured_to);
        }
        topic.keys.retain(|_, newest| newest.offset >= head);
        for group in &topic.groups {
            let Some(group) = self.groups.get_mut(group) else { continue };
            let below: Vec<u64> =
                group.pendings().map(|(offset, _)| offset).take_while(|offset| *offset < head).collect();
            for offset in below {
                group.remove(offset);
            }
            // Its cursor may have passed what is gone, whose sums only the next message tells.
            if group.progress.cursor < head || group.progress.plain.count < plain.count {
                group.gone_ahead = group.gone_ahead.since(topic.gone.between(group.progress.plain, plain));
                group.progress.cursor = group.progress.cursor.max(head);
                group.progress.plain = plain;
                group.dirty = true;
            }
        }
        topic.gone.forget_below(topic.head_plain);
    }

    fn apply_gone(&mut self, no: TopicNo, item: GoneDisk, leased_too: bool) {
        let Some(topic) = self.topics.get_mut(&no) else { return };
        let offset = item.offset;
        if offset < topic.head {
            return;
        }
        topic.dirty = true;
        let unsaved_before = topic.rows.unsaved();
        topic.rows.mark_gone(offset);
        self.unsaved += topic.rows.unsaved() - unsaved_before;
        let this = Sums { count: 1, bytes: u64::from(item.body_bytes) };
        if item.delayed {
            forget_delayed(topic, &mut self.groups, offset, self.matured_to);
        } else {
            topic.has_gone = true;
        }
        let new = !item.delayed && topic.gone.add(item.before, item.before.plus(this));
        for group in topic.groups.clone() {
            let Some(group) = self.groups.get_mut(&group) else { continue };
            match group.pending(offset).map(|pending| pending.state) {
                Some(PendingState::Leased { .. }) if !leased_too => {
                    if let Some(mut pending) = group.pending(offset).cloned() {
                        pending.superseded = true;
                        group.set(offset, pending);
                    }
                }
                Some(_) => {
                    group.remove(offset);
                }
                None => {}
            }
            if new && item.before.count >= group.progress.plain.count {
                group.gone_ahead = group.gone_ahead.plus(this);
            }
        }
    }

    fn apply_rewritten(&mut self, no: TopicNo, rows: &[RewrittenDisk]) {
        let Some(topic) = self.topics.get_mut(&no) else { return };
        let unsaved_before = topic.rows.unsaved();
        for RewrittenDisk { offset, before, untaken, gone, row } in rows {
            let row = Row::from_disk(row, *before);
            for group in &topic.groups {
                if let Some(group) = self.groups.get_mut(group) {
                    group.relocate(*offset, &row);
                }
            }
            let gone = *gone || topic.rows.is_gone(*offset);
            if *untaken && !gone && *offset >= topic.head {
                topic.delayed.insert(*offset, row.due, row.body_bytes);
                note_delayed(&mut self.delaying, topic, self.matured_to);
            }
            topic.rows.put(*offset, &row, gone);
        }
        self.unsaved += topic.rows.unsaved() - unsaved_before;
        let untaken = rows.iter().filter(|kept| kept.untaken).filter_map(|kept| Some((kept.row.due?, kept.offset)));
        self.drop_taken_of(no, &untaken.collect::<Vec<_>>());
    }

    /// Forgets delayed messages that every group has taken. None may stay: what a group is given when it is
    /// placed depends on it, and must be the same in a replay.
    pub(super) fn drop_taken_delayed(&mut self, no: TopicNo) {
        let Some(topic) = self.topics.get(&no) else { return };
        let all = topic.delayed.by_offset().map(|(offset, due, _)| (due, offset));
        let taken: Vec<_> = all.filter(|at| self.is_taken(topic, *at)).collect();
        self.drop_taken_of(no, &taken);
    }

    /// The same for those of these delayed messages.
    fn drop_taken_of(&mut self, no: TopicNo, delayed: &[(u64, u64)]) {
        let Some(topic) = self.topics.get(&no) else { return };
        let taken: Vec<u64> =
            delayed.iter().filter(|at| self.is_taken(topic, **at)).map(|(_, offset)| *offset).collect();
        let Some(topic) = self.topics.get_mut(&no) else { return };
        for offset in taken {
            topic.delayed.remove(offset);
        }
    }

    /// Whether every group has taken the delayed message with this due time and offset.
    fn is_taken(&self, topic: &TopicState, at: (u64, u64)) -> bool {
        let mut groups = topic.groups.iter().filter_map(|group| self.groups.get(group));
        !topic.groups.is_empty()
            && !topic.keeps_settled()
            && groups.all(|group| at <= group.progress.due || at.1 < group.first_delayed())
    }

    /// What the head of a segment says: the catalog and where everything stands, so that the log can
    /// begin there.
    pub fn head_entries(&self) -> Vec<Vec<u8>> {
        let state = self;
        let mut entries = vec![Entry::Epoch { boot_id: state.boot_id, boot: state.boot, before: state.boot }];
        for topic in state.topics.values() {
            entries.push(Entry::TopicPut(topic.disk.clone()));
            entries.push(Entry::TopicStands {
                topic: topic.disk.no,
                head: topic.head,
                head_plain: topic.head_plain,
                tail: topic.tail(),
                plain: topic.plain,
                last_id: topic.last_id,
                foreign: topic.foreign,
            });
        }
        for group in state.groups.values() {
            entries.push(Entry::GroupPut(group.disk.clone()));
            entries.push(Entry::Progressed { group: group.disk.no, progress: group.progress });
        }
        entries.extend(state.access.records.values().map(|record| Entry::AccessPut(AccessDisk::from_model(record))));
        entries.iter().map(crate::codec::encode).collect()
    }

    /// What changed since the last checkpoint began, in messages.
    pub const fn unsaved(&self) -> usize {
        self.unsaved
    }

    /// Makes that number right after anything but an entry changed it.
    pub fn count_unsaved(&mut self) {
        self.unsaved = self.topics.values().map(|topic| topic.rows.unsaved()).sum();
    }

    /// During a rebuild a pending message may be told of before its record is; one whose record never
    /// came was settled by something that is not in the log any more.
    pub fn drop_placeholders(&mut self) {
        for group in self.groups.values_mut() {
            let unknown: Vec<u64> =
                group.pendings().filter(|(_, pending)| pending.row.id == 0).map(|(offset, _)| offset).collect();
            for offset in unknown {
                group.remove(offset);
            }
        }
    }
}

fn state_topic(groups: &BTreeMap<GroupNo, GroupState>, no: GroupNo) -> TopicNo {
    groups.get(&no).map_or(0, |group| group.disk.topic)
}

pub(super) fn load_block(topic: &mut TopicState, block: u64, loader: Loader<'_>) {
    if !topic.rows.is_loaded(block)
        && let Some(stored) = loader(topic.disk.no, block)
    {
        topic.rows.load(block, &stored);
    }
}

/// The topic has delayed messages: from now on it is looked ahead for it.
pub(super) fn note_delayed(delaying: &mut BTreeSet<TopicNo>, topic: &mut TopicState, matured_to: u64) {
    if delaying.insert(topic.disk.no) {
        topic.delayed.look_ahead(matured_to);
    }
}

/// Takes a delayed message away from everybody who has not taken it.
fn forget_delayed(topic: &mut TopicState, groups: &mut BTreeMap<GroupNo, GroupState>, offset: u64, matured_to: u64) {
    let Some((due, body_bytes)) = topic.delayed.remove(offset) else { return };
    for group in &topic.groups {
        let Some(group) = groups.get_mut(group) else { continue };
        if (due, offset) > group.progress.due && offset >= group.first_delayed() {
            group.untaken.count = group.untaken.count.saturating_sub(1);
            group.untaken.bytes = group.untaken.bytes.saturating_sub(u64::from(body_bytes));
            if due <= matured_to {
                group.due_untaken = group.due_untaken.saturating_sub(1);
            }
        }
    }
}
