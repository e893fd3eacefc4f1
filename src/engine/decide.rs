//! Decides commands that make, change and read topics, groups and credentials; hands on the others.

use crate::engine::command::{Command, Reply};
use crate::engine::decide_move::GONE_BYTES;
use crate::engine::derived::count_gaps;
use crate::engine::entry::{
    AccessDisk, Entry, GoneDisk, GroupDisk, GroupNo, PendingDisk, Progress, TopicDisk, TopicNo,
};
use crate::engine::placing::{Placing, Then};
use crate::engine::rows::{BLOCK_ROWS, Found, block_of};
use crate::engine::writer::{Step, Writer};
use crate::engine::{
    AccessError, CreateGroup, CreateGroupError, CreateTopic, CreateTopicError, LookupError, Position, UpdateGroupError,
    UpdateTopicError,
};
use crate::log::{Room, Urgency, entry_bytes};
use crate::model::{
    AccessId, AccessRecord, AccountName, Annotations, Group, GroupId, GroupName, GroupPatch, GroupRef, GroupSettings,
    Millis, SettingsError, Settled, Start, TagFilter, Topic, TopicId, TopicName, TopicPatch, TopicRef, TopicSettings,
};

/// Settled messages that one entry says are gone.
const FORGET_PIECE: usize = 512;
/// Bytes of a fact of the catalog at most, but for its annotations, tags and secrets.
const CATALOG_BYTES: usize = 4096;
/// Bytes of one text in such a fact, beside the text.
const TEXT_BYTES: usize = 8;
/// Bytes that a fact of the catalog takes in the head of a segment, mostly: fewer than this make it worth no
/// look.
const HEAD_FACT_BYTES: usize = 4096;
/// Settings that a small segment cannot hold.
const TOO_LARGE: SettingsError =
    SettingsError { field: "annotations", rule: "fewer or shorter: a commit of this server does not hold them" };

impl Writer {
    pub(super) fn decide(&mut self, command: Command) -> Step {
        match command {
            Command::CreateTopic(request, reply) => self.create_topic(request, reply),
            Command::UpdateTopic(account, topic, patch, reply) => self.update_topic(account, topic, patch, reply),
            Command::DeleteTopic(account, topic, reply) => self.delete_topic(account, topic, reply),
            Command::Topic(account, topic, reply) => {
                let answer = self.find(&account, &topic).map(|no| self.state.topics[&no].to_model());
                self.answer_read(reply, answer);
                Step::Done
            }
            Command::Topics(account, reply) => {
                let topics = self.state.topics.values().filter(|topic| topic.account == account);
                let mut topics: Vec<Topic> = topics.map(|topic| topic.to_model()).collect();
                topics.sort_by(|a, b| a.name.cmp(&b.name));
                self.answer_read(reply, Ok(topics));
                Step::Done
            }
            Command::CreateGroup(request, reply) => self.create_group(request, reply),
            Command::UpdateGroup(account, topic, group, patch, reply) => {
                self.update_group(account, topic, group, patch, reply)
            }
            Command::DeleteGroup(account, topic, group, reply) => self.delete_group(account, topic, group, reply),
            Command::Group(account, topic, group, reply) => {
                let answer = self.find_group(&account, &topic, &group).map(|(_, no)| self.group_model(no));
                self.answer_read(reply, answer);
                Step::Done
            }
            Command::Groups(account, topic, reply) => {
                let answer = self.find(&account, &topic).map(|no| {
                    let mut groups: Vec<Group> = self.state.real_groups(no).map(|no| self.group_model(no)).collect();
                    groups.sort_by(|a, b| a.name.cmp(&b.name));
                    groups
                });
                self.answer_read(reply, answer);
                Step::Done
            }
            Command::FindGroups(account, group, reply) => {
                let own = self.state.topics.iter().filter(|(_, topic)| topic.account == account).map(|(no, _)| *no);
                let found = own.filter_map(|no| self.state.find_group(no, &group)).map(|no| self.group_model(no));
                let mut groups: Vec<Group> = found.collect();
                groups.sort_by(|a, b| a.topic.cmp(&b.topic));
                self.answer_read(reply, Ok(groups));
                Step::Done
            }
            Command::Publish(work, reply) => self.publish(work, reply),
            Command::Pull(work, reply) => self.pull(work, reply),
            Command::Settle(work, reply) => self.settle(work, reply),
            Command::Look(work, reply) => self.look(work, reply),
            Command::Seek(work, reply) => self.seek(work, reply),
            Command::Purge(account, topic, reply) => self.purge(account, topic, reply),
            Command::Discard(request, reply) => self.discard(request, reply),
            Command::Redrive(account, topic, offsets, reply) => self.redrive(account, topic, offsets, reply),
            Command::Counts(account, topic, group, reply) => self.counts(account, topic, group, reply),
            Command::Status(reply) => {
                let status = self.status();
                self.answer_read(reply, status);
                Step::Done
            }
            Command::PutAccess(record, reply) => self.put_access(record, reply),
            Command::RevokeAccess(account, id, reply) => self.revoke_access(account, id, reply),
            Command::Sweep(reply) => {
                self.answer_read(reply, ());
                Step::Done
            }
            Command::Seal(reply) => Step::Seal(reply),
            Command::Stop(reply) => {
                self.stop(reply);
                Step::Done
            }
            Command::Done(done) => {
                self.job_done(done);
                Step::Done
            }
        }
    }

    pub(super) fn find(&self, account: &AccountName, topic: &TopicRef) -> Result<TopicNo, LookupError> {
        self.state.find_topic(account.as_str(), topic).ok_or(LookupError::NoSuchTopic)
    }

    pub(super) fn find_group(
        &self,
        account: &AccountName,
        topic: &TopicRef,
        group: &GroupRef,
    ) -> Result<(TopicNo, GroupNo), LookupError> {
        let topic = self.find(account, topic)?;
        let group = self.state.find_group(topic, group).ok_or(LookupError::NoSuchGroup)?;
        Ok((topic, group))
    }

    pub(super) fn group_model(&self, no: GroupNo) -> Group {
        let group = &self.state.groups[&no];
        let topic = &self.state.topics[&group.disk.topic];
        let name = GroupName::parse(&group.disk.name);
        Group {
            account: topic.account.clone(),
            topic: topic.name.clone(),
            id: GroupId::new(group.disk.id),
            name: name.unwrap_or_else(|error| panic!("a group was kept under a name that does not read: {error}")),
            settings: group.settings.clone(),
            created_at: Millis::new(group.disk.created_at),
            modified_at: Millis::new(group.disk.modified_at),
        }
    }

    fn create_topic(&mut self, request: CreateTopic, reply: Reply<Result<Topic, CreateTopicError>>) -> Step {
        let bytes = CATALOG_BYTES + annotations_bytes(&request.settings.annotations);
        let room = self.room(bytes, Urgency::Ordinary);
        if room == Room::NeedsRoll {
            return Step::Roll(Command::CreateTopic(request, reply));
        }
        let answer = match self.refusal(Urgency::Ordinary, room) {
            _ if room == Room::TooLarge => Err(TOO_LARGE.into()),
            Some(refusal) => Err(refusal.into()),
            None if self.is_catalog_full(bytes) => Err(CreateTopicError::TooMany { max: self.state.topics.len() }),
            None => self.try_create_topic(&request.account, &request.name, &request.settings),
        };
        self.answer_synced(reply, answer);
        Step::Done
    }

    fn try_create_topic(
        &mut self,
        account: &AccountName,
        name: &TopicName,
        settings: &TopicSettings,
    ) -> Result<Topic, CreateTopicError> {
        settings.check()?;
        if let Ok(no) = self.find(account, &TopicRef::Name(name.clone())) {
            return Err(CreateTopicError::Exists(Box::new(self.state.topics[&no].to_model())));
        }
        let max = self.state.limits.topics_max;
        if self.state.topics.len() >= max {
            return Err(CreateTopicError::TooMany { max });
        }
        let no = self.put_topic(account, name, settings);
        Ok(self.state.topics[&no].to_model())
    }

    /// Makes a topic, whatever the bound on their number says.
    pub(super) fn put_topic(&mut self, account: &AccountName, name: &TopicName, settings: &TopicSettings) -> TopicNo {
        let no = self.state.next_topic;
        let now = Millis::new(self.state.now);
        let id = TopicId::new(self.clock.random());
        self.emit(&Entry::TopicPut(TopicDisk::new(no, account, id, name, now, settings)));
        self.plan_trim(no, self.state.now);
        no
    }

    fn update_topic(
        &mut self,
        account: AccountName,
        topic: TopicRef,
        patch: TopicPatch,
        reply: Reply<Result<Topic, UpdateTopicError>>,
    ) -> Step {
        let found = self.find(&account, &topic).ok();
        let settings = found.map(|no| patch.applied_to(&self.state.topics[&no].settings));
        let bytes = CATALOG_BYTES + settings.map_or(0, |settings| annotations_bytes(&settings.annotations));
        let room = self.room_soon(bytes, Urgency::Essential);
        if room == Room::NeedsRoll {
            return Step::Roll(Command::UpdateTopic(account, topic, patch, reply));
        }
        let kept_from_now = found.filter(|no| {
            let retention = patch.retention.map(|retention| retention.settled);
            retention == Some(Settled::Keep) && !self.state.topics[no].keeps_settled()
        });
        if let Some(no) = kept_from_now
            && let Some(block) = self.block_to_forget(no)
        {
            return Step::Need(Command::UpdateTopic(account, topic, patch, reply), no, block);
        }
        let answer = match self.refusal(Urgency::Essential, room) {
            _ if room == Room::TooLarge => Err(TOO_LARGE.into()),
            Some(refusal) => Err(refusal.into()),
            None => self.try_update_topic(&account, &topic, &patch),
        };
        if let (Some(no), true) = (kept_from_now, answer.is_ok()) {
            self.forget_settled(no);
        }
        self.answer_synced(reply, answer);
        Step::Done
    }

    fn try_update_topic(
        &mut self,
        account: &AccountName,
        topic: &TopicRef,
        patch: &TopicPatch,
    ) -> Result<Topic, UpdateTopicError> {
        let no = self.find(account, topic).map_err(|_| UpdateTopicError::NoSuchTopic)?;
        let state = &self.state.topics[&no];
        let settings = patch.applied_to(&state.settings);
        settings.check()?;
        if let Some(name) = patch.name.as_ref().filter(|name| **name != state.name)
            && self.find(account, &TopicRef::Name(name.clone())).is_ok()
        {
            return Err(UpdateTopicError::NameTaken(name.clone()));
        }
        let groups = || self.state.real_groups(no).map(|group| &self.state.groups[&group]);
        if let Some(name) = &patch.name
            && groups().any(|group| group.settings.dead_letter.as_ref() == Some(name))
        {
            return Err(
                SettingsError { field: "name", rule: "another than the dead-letter topic of its groups" }.into()
            );
        }
        let in_flight = state.groups.iter().any(|group| self.state.groups[group].leased_len() > 0);
        if settings.ordering != state.settings.ordering && in_flight {
            return Err(UpdateTopicError::InUse { field: "ordering", why: "messages are in flight" });
        }
        if settings.compaction != state.settings.compaction && self.topic_counts(no).unsettled() > 0 {
            return Err(UpdateTopicError::InUse { field: "compaction", why: "the topic has messages" });
        }
        if settings.idempotency_window != state.settings.idempotency_window {
            // A wider window revives nothing that the old one let go.
            self.expire_keys(no, usize::MAX);
        }
        let mut disk = self.state.topics[&no].disk.clone();
        if let Some(name) = &patch.name {
            name.as_str().clone_into(&mut disk.name);
        }
        disk.set(&settings);
        disk.modified_at = self.state.now;
        self.emit(&Entry::TopicPut(disk));
        self.plan_trim(no, self.state.now);
        let groups = self.state.topics[&no].groups.clone();
        self.touch_groups(&groups);
        Ok(self.state.topics[&no].to_model())
    }

    /// The block that must be in memory to say which messages are gone for good.
    fn block_to_forget(&self, no: TopicNo) -> Option<u64> {
        let topic = &self.state.topics[&no];
        let lowest = topic.groups.iter().map(|group| self.state.groups[group].progress.cursor).min()?;
        let floor = self.settled_floor(no);
        (block_of(floor)..=block_of(lowest))
            .find(|block| *block * BLOCK_ROWS < topic.tail() && !topic.rows.is_loaded(*block))
    }

    fn settled_floor(&self, no: TopicNo) -> u64 {
        let topic = &self.state.topics[&no];
        let groups = topic.groups.iter().map(|group| self.state.groups[group].floor()).min();
        groups.unwrap_or(topic.head).min(topic.delayed.first_offset().unwrap_or(u64::MAX)).max(topic.head)
    }

    /// The topic keeps settled messages from now on; those that every group has settled already are gone,
    /// and that has to be said, because nothing else would tell them apart any more.
    fn forget_settled(&mut self, no: TopicNo) {
        let floor = self.settled_floor(no);
        let topic = &self.state.topics[&no];
        let groups = || topic.groups.iter().map(|group| &self.state.groups[group]);
        let Some(lowest) = groups().map(|group| group.progress).min_by_key(|progress| progress.cursor) else { return };
        let (lowest, lowest_plain) = (lowest.cursor, lowest.plain);
        let plain = self.sums_at(no, floor).unwrap_or_default();
        let mut items = Vec::new();
        for offset in floor..lowest {
            // What was given up below all cursors is counted no more, so that it is said again. Delayed ones
            // tell by themselves whether they were taken.
            match topic.rows.get(offset) {
                Found::Row(row) if row.due != 0 || groups().any(|group| group.pending(offset).is_some()) => {}
                Found::Gone(row) if row.due != 0 => {}
                Found::Row(row) | Found::Gone(row) => items.push(GoneDisk::new(offset, &row)),
                Found::Absent | Found::Away(_) => {}
            }
        }
        self.emit(&Entry::Trimmed { topic: no, head: floor, plain });
        for piece in items.chunks(FORGET_PIECE) {
            if !self.log.fits((piece.len() + 4) * GONE_BYTES) {
                // More than one commit holds: the rest stays, as if it had been kept all along.
                tracing::warn!(topic = %self.state.topics[&no].name, "settled messages are kept from before the change");
                break;
            }
            self.emit(&Entry::Gone { topic: no, items: piece.to_vec(), leased_too: false });
        }
        // What is not there at all cannot be said, and need not be: the rows around it tell.
        if let Some(topic) = self.state.topics.get_mut(&no) {
            let known = count_gaps(topic, floor..lowest, plain);
            topic.gone.add(known, lowest_plain);
        }
    }

    fn delete_topic(&mut self, account: AccountName, topic: TopicRef, reply: Reply<Result<(), LookupError>>) -> Step {
        let room = self.room_soon(CATALOG_BYTES, Urgency::Essential);
        if room == Room::NeedsRoll {
            return Step::Roll(Command::DeleteTopic(account, topic, reply));
        }
        let answer = match (self.refusal(Urgency::Essential, room), self.find(&account, &topic)) {
            (Some(refusal), _) => Err(refusal.into()),
            (None, Err(error)) => Err(error),
            (None, Ok(no)) => {
                let groups = self.state.topics[&no].groups.clone();
                self.emit(&Entry::TopicDeleted { topic: no });
                for group in groups {
                    self.turn_away(group, &LookupError::NoSuchTopic);
                }
                Ok(())
            }
        };
        self.answer_synced(reply, answer);
        Step::Done
    }

    fn create_group(&mut self, request: CreateGroup, reply: Reply<Result<Group, CreateGroupError>>) -> Step {
        let bytes = group_bytes(&request.settings);
        let room = self.room(bytes, Urgency::Ordinary);
        if room == Room::NeedsRoll {
            return Step::Roll(Command::CreateGroup(request, reply));
        }
        if room == Room::TooLarge {
            self.answer_synced(reply, Err(TOO_LARGE.into()));
            return Step::Done;
        }
        if let Some(refusal) = self.refusal(Urgency::Ordinary, room) {
            self.answer_synced(reply, Err(refusal.into()));
            return Step::Done;
        }
        let start = match request.position {
            Position::Now(start) | Position::FirstPull(start) => start,
        };
        if let Ok(topic) = self.find(&request.account, &request.topic)
            && let Some(block) = self.block_needed_for(topic, start)
        {
            return Step::Need(Command::CreateGroup(request, reply), topic, block);
        }
        match self.try_create_group(&request, start, bytes) {
            Ok((group, (progress, pending), before, after)) => {
                let then = Then::Created(reply);
                Step::Place(Box::new(Placing { group, progress, pending, before, after, then }))
            }
            Err(error) => {
                self.answer_synced(reply, Err(error));
                Step::Done
            }
        }
    }

    /// The group, where it stands, and the facts before and after that.
    #[allow(clippy::type_complexity, reason = "taken apart at once")]
    fn try_create_group(
        &self,
        request: &CreateGroup,
        start: Start,
        bytes: usize,
    ) -> Result<(GroupNo, (Progress, Vec<PendingDisk>), Vec<Entry>, Vec<Entry>), CreateGroupError> {
        let topic = self.find(&request.account, &request.topic).map_err(|_| CreateGroupError::NoSuchTopic)?;
        self.check_group(topic, &request.settings)?;
        if self.state.find_group(topic, &GroupRef::Name(request.name.clone())).is_some() {
            return Err(CreateGroupError::Exists(request.name.clone()));
        }
        let (of_topic, of_all) = (self.state.limits.groups_per_topic_max, self.state.limits.groups_max);
        if self.state.real_groups(topic).count() >= of_topic {
            return Err(CreateGroupError::TooMany { max: of_topic });
        }
        if self.state.groups.len() >= of_all {
            return Err(CreateGroupError::TooMany { max: of_all });
        }
        if self.is_catalog_full(bytes) {
            return Err(CreateGroupError::TooMany { max: self.state.groups.len() });
        }
        let now = Millis::new(self.state.now);
        let no = self.state.next_group;
        let id = GroupId::new(self.clock.random());
        let mut disk = GroupDisk::new(no, topic, id, &request.name, now, &request.settings);
        disk.start = start_disk(start);
        let ghosts: Vec<GroupNo> =
            self.state.topics[&topic].groups.iter().copied().filter(|no| self.state.groups[no].disk.ghost).collect();
        // Without a position it holds what there is: its first pull may choose any start.
        let placed = match request.position {
            Position::Now(_) => self.placed(topic, start, true, 1),
            Position::FirstPull(_) => self.placed(topic, Start::Head, false, 1),
        };
        let ghosts = ghosts.into_iter().map(|group| Entry::GroupDeleted { group, leaves_ghost: false }).collect();
        Ok((no, placed, vec![Entry::GroupPut(disk)], ghosts))
    }

    /// The head of a segment holds all of the catalog, and no more of it.
    fn is_catalog_full(&self, more_bytes: usize) -> bool {
        let max = self.log.head_bytes_max();
        let facts = self.state.topics.len() + self.state.groups.len() + self.state.access.records.len();
        if (facts * HEAD_FACT_BYTES + more_bytes) as u64 <= max {
            return false;
        }
        let head: usize = self.state.head_entries().iter().map(|entry| entry_bytes(entry.len())).sum();
        (head + more_bytes) as u64 > max
    }

    fn check_group(&self, topic: TopicNo, settings: &GroupSettings) -> Result<(), SettingsError> {
        settings.check()?;
        if settings.dead_letter.as_ref().is_some_and(|name| *name == self.state.topics[&topic].name) {
            return Err(SettingsError { field: "dead_letter", rule: "another topic than the one the group reads" });
        }
        Ok(())
    }

    fn update_group(
        &mut self,
        account: AccountName,
        topic: TopicRef,
        group: GroupRef,
        patch: GroupPatch,
        reply: Reply<Result<Group, UpdateGroupError>>,
    ) -> Step {
        let found = self.find_group(&account, &topic, &group).ok();
        let settings = found.map(|(_, no)| patch.applied_to(&self.state.groups[&no].settings));
        let room = self.room_soon(settings.as_ref().map_or(CATALOG_BYTES, group_bytes), Urgency::Essential);
        if room == Room::NeedsRoll {
            return Step::Roll(Command::UpdateGroup(account, topic, group, patch, reply));
        }
        let answer = match self.refusal(Urgency::Essential, room) {
            _ if room == Room::TooLarge => Err(TOO_LARGE.into()),
            Some(refusal) => Err(LookupError::from(refusal).into()),
            None => self.try_update_group(&account, &topic, &group, &patch),
        };
        self.answer_synced(reply, answer);
        Step::Done
    }

    fn try_update_group(
        &mut self,
        account: &AccountName,
        topic: &TopicRef,
        group: &GroupRef,
        patch: &GroupPatch,
    ) -> Result<Group, UpdateGroupError> {
        let (topic, no) = self.find_group(account, topic, group)?;
        let settings = patch.applied_to(&self.state.groups[&no].settings);
        self.check_group(topic, &settings)?;
        let mut disk = self.state.groups[&no].disk.clone();
        disk.set(&settings);
        disk.modified_at = self.state.now;
        self.emit(&Entry::GroupPut(disk));
        self.touch_groups(&[no]);
        Ok(self.group_model(no))
    }

    fn delete_group(
        &mut self,
        account: AccountName,
        topic: TopicRef,
        group: GroupRef,
        reply: Reply<Result<(), LookupError>>,
    ) -> Step {
        let room = self.room_soon(CATALOG_BYTES, Urgency::Essential);
        if room == Room::NeedsRoll {
            return Step::Roll(Command::DeleteGroup(account, topic, group, reply));
        }
        let answer = match (self.refusal(Urgency::Essential, room), self.find_group(&account, &topic, &group)) {
            (Some(refusal), _) => Err(refusal.into()),
            (None, Err(error)) => Err(error),
            (None, Ok((topic, no))) => {
                let topic = &self.state.topics[&topic];
                let leaves_ghost = topic.groups.len() == 1 && !topic.keeps_settled();
                self.emit(&Entry::GroupDeleted { group: no, leaves_ghost });
                self.turn_away(no, &LookupError::NoSuchGroup);
                Ok(())
            }
        };
        self.answer_synced(reply, answer);
        Step::Done
    }

    /// Tells the pulls that wait in a group which is gone.
    fn turn_away(&mut self, no: GroupNo, error: &LookupError) {
        for waiter in self.waiters.remove(&no).into_iter().flatten() {
            self.answer_synced(waiter.reply, Err(error.clone().into()));
        }
        self.touched.insert(no);
    }

    /// Their timers are looked at again, and their waiting pulls served if they can be.
    pub(super) fn touch_groups(&mut self, groups: &[GroupNo]) {
        self.touched.extend(groups);
        self.runnable.extend(groups.iter().filter(|group| self.waiters.contains_key(group)));
    }

    fn put_access(&mut self, record: AccessRecord, reply: Reply<Result<(), AccessError>>) -> Step {
        let room = self.room(CATALOG_BYTES, Urgency::Ordinary);
        if room == Room::NeedsRoll {
            return Step::Roll(Command::PutAccess(record, reply));
        }
        let max = self.state.limits.access_max;
        let answer = match self.refusal(Urgency::Ordinary, room) {
            Some(refusal) => Err(refusal.into()),
            None if self.is_catalog_full(CATALOG_BYTES) => {
                Err(AccessError::TooMany { max: self.state.access.records.len() })
            }
            None if self.state.access.records.contains_key(&record.id) => Err(AccessError::Exists(record.id)),
            None if self.state.access.records.len() >= max => Err(AccessError::TooMany { max }),
            None => {
                self.emit(&Entry::AccessPut(AccessDisk::from_model(&record)));
                Ok(())
            }
        };
        self.answer_synced(reply, answer);
        Step::Done
    }

    fn revoke_access(&mut self, account: AccountName, id: AccessId, reply: Reply<Result<(), AccessError>>) -> Step {
        let room = self.room_soon(CATALOG_BYTES, Urgency::Essential);
        if room == Room::NeedsRoll {
            return Step::Roll(Command::RevokeAccess(account, id, reply));
        }
        let known = self.state.access.records.get(&id).is_some_and(|record| record.account == account);
        let answer = match self.refusal(Urgency::Essential, room) {
            Some(refusal) => Err(refusal.into()),
            None if !known => Err(AccessError::NoSuchCredential(id)),
            None => {
                self.emit(&Entry::AccessRevoked { id: id.0 });
                Ok(())
            }
        };
        self.answer_synced(reply, answer);
        Step::Done
    }
}

/// Bytes of a fact that puts a group, at most.
fn group_bytes(settings: &GroupSettings) -> usize {
    let tags = match &settings.filter {
        TagFilter::All => 0,
        TagFilter::AnyOf(tags) => tags.iter().map(|tag| tag.as_str().len() + TEXT_BYTES).sum(),
    };
    CATALOG_BYTES + annotations_bytes(&settings.annotations) + tags
}

fn annotations_bytes(annotations: &Annotations) -> usize {
    annotations.iter().map(|(name, value)| name.len() + value.len() + 2 * TEXT_BYTES).sum()
}

fn start_disk(start: Start) -> (u8, u64) {
    match start {
        Start::Head => (0, 0),
        Start::Tail => (1, 0),
        Start::Offset(offset) => (2, offset.get()),
        Start::Time(time) => (3, time.get()),
    }
}
