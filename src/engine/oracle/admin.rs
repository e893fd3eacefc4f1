//! Topics, groups, positions, dead letters, credentials.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::oracle::world::{GroupState, Pending, Standing, Totals, World};
use crate::engine::{
    AccessError, CreateGroup, CreateGroupError, CreateTopic, CreateTopicError, Discard, DiscardReport, LookupError,
    Position, PullError, PurgeReport, Redrive, RedriveError, RedriveReport, Seek, SeekReport, UpdateGroupError,
    UpdateTopicError,
};
use crate::model::Start;
use crate::model::{
    AccessId, AccessRecord, AccountName, Group, GroupId, GroupPatch, GroupRef, GroupSettings, Offset, SettingsError,
    Topic, TopicName, TopicPatch, TopicRef, bounds,
};

impl World {
    pub fn create_topic(&mut self, request: CreateTopic) -> Result<Topic, CreateTopicError> {
        request.settings.check()?;
        if let Ok(t) = self.find_topic(&request.account, &TopicRef::Name(request.name.clone())) {
            return Err(CreateTopicError::Exists(Box::new(self.topics[t].topic.clone())));
        }
        let max = self.limits.topics_max;
        if self.topics.len() >= max {
            return Err(CreateTopicError::TooMany { max });
        }
        let t = self.add_topic(request.account, request.name, request.settings);
        Ok(self.topics[t].topic.clone())
    }

    pub fn topics_of(&self, account: &AccountName) -> Vec<Topic> {
        let own = self.topics.iter().map(|topic| &topic.topic).filter(|topic| topic.account == *account);
        let mut topics: Vec<_> = own.cloned().collect();
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        topics
    }

    pub fn update_topic(
        &mut self,
        account: &AccountName,
        topic: &TopicRef,
        patch: &TopicPatch,
    ) -> Result<Topic, UpdateTopicError> {
        let t = self.find_topic(account, topic).map_err(|_| UpdateTopicError::NoSuchTopic)?;
        let state = &self.topics[t];
        let settings = patch.applied_to(&state.topic.settings);
        settings.check()?;
        if let Some(name) = &patch.name {
            if self.find_topic(account, &TopicRef::Name(name.clone())).is_ok_and(|other| other != t) {
                return Err(UpdateTopicError::NameTaken(name.clone()));
            }
            if state.groups.iter().any(|group| group.group.settings.dead_letter.as_ref() == Some(name)) {
                let rule = "not the dead-letter topic of one of its groups";
                return Err(SettingsError { field: "name", rule }.into());
            }
        }
        let in_flight = state.groups.iter().flat_map(|group| group.pending.values()).any(Pending::is_leased);
        if settings.ordering != state.topic.settings.ordering && in_flight {
            return Err(UpdateTopicError::InUse { field: "ordering", why: "messages are in flight" });
        }
        if settings.compaction != state.topic.settings.compaction && !state.messages.is_empty() {
            return Err(UpdateTopicError::InUse { field: "compaction", why: "the topic has messages" });
        }
        let now = self.now;
        let state = &mut self.topics[t];
        state.topic.settings = settings;
        state.topic.modified_at = now;
        if let Some(name) = &patch.name {
            state.topic.name = name.clone();
            state.groups.iter_mut().for_each(|group| group.group.topic = name.clone());
        }
        Ok(state.topic.clone())
    }

    pub fn delete_topic(&mut self, account: &AccountName, topic: &TopicRef) -> Result<(), LookupError> {
        let t = self.find_topic(account, topic)?;
        self.topics.remove(t).refuse_waiting();
        Ok(())
    }

    pub fn create_group(&mut self, request: CreateGroup) -> Result<Group, CreateGroupError> {
        let t = self.find_topic(&request.account, &request.topic).map_err(|_| CreateGroupError::NoSuchTopic)?;
        check_group(&request.settings, &self.topics[t].topic.name)?;
        let topic = &self.topics[t];
        if topic.groups.iter().any(|group| group.group.name == request.name) {
            return Err(CreateGroupError::Exists(request.name));
        }
        let (per_topic, in_all) = (self.limits.groups_per_topic_max, self.limits.groups_max);
        if topic.groups.len() >= per_topic {
            return Err(CreateGroupError::TooMany { max: per_topic });
        }
        if self.topics.iter().map(|topic| topic.groups.len()).sum::<usize>() >= in_all {
            return Err(CreateGroupError::TooMany { max: in_all });
        }
        let group = Group {
            account: request.account,
            topic: topic.topic.name.clone(),
            id: GroupId::new(self.clock.random()),
            name: request.name,
            settings: request.settings,
            created_at: self.now,
            modified_at: self.now,
        };
        let (standing, cursor) = match request.position {
            Position::Now(start) => (Standing::At(topic.resolve(start)), topic.resolve(start)),
            // A time is looked up when it is said.
            Position::FirstPull(start @ Start::Time(_)) => {
                (Standing::Open(Start::Offset(self.topics[t].resolve(start))), Offset::ZERO)
            }
            Position::FirstPull(start) => (Standing::Open(start), Offset::ZERO),
        };
        self.topics[t].groups.push(GroupState {
            group: group.clone(),
            standing,
            cursor,
            seeks: 0,
            pending: Default::default(),
            settled: BTreeSet::new(),
            waiters: Vec::new(),
            totals: Totals::default(),
        });
        Ok(group)
    }

    pub fn groups_of(&self, account: &AccountName, topic: &TopicRef) -> Result<Vec<Group>, LookupError> {
        let t = self.find_topic(account, topic)?;
        let mut groups: Vec<_> = self.topics[t].groups.iter().map(|group| group.group.clone()).collect();
        groups.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(groups)
    }

    pub fn groups_named(&self, account: &AccountName, group: &GroupRef) -> Vec<Group> {
        let own = self.topics.iter().filter(|topic| topic.topic.account == *account);
        let is_it = |found: &Group| match group {
            GroupRef::Name(name) => found.name == *name,
            GroupRef::Id(id) => found.id == *id,
        };
        let groups = own.flat_map(|topic| &topic.groups).map(|group| &group.group);
        let mut groups: Vec<_> = groups.filter(|group| is_it(group)).cloned().collect();
        groups.sort_by(|one, other| one.topic.cmp(&other.topic));
        groups
    }

    pub fn update_group(
        &mut self,
        account: &AccountName,
        topic: &TopicRef,
        group: &GroupRef,
        patch: &GroupPatch,
    ) -> Result<Group, UpdateGroupError> {
        let (t, g) = self.find_group(account, topic, group)?;
        let now = self.now;
        let topic = &mut self.topics[t];
        let group = &mut topic.groups[g].group;
        let settings = patch.applied_to(&group.settings);
        check_group(&settings, &topic.topic.name)?;
        group.settings = settings;
        group.modified_at = now;
        Ok(group.clone())
    }

    pub fn delete_group(
        &mut self,
        account: &AccountName,
        topic: &TopicRef,
        group: &GroupRef,
    ) -> Result<(), LookupError> {
        let (t, g) = self.find_group(account, topic, group)?;
        for waiter in self.topics[t].groups.remove(g).waiters {
            waiter.refuse(PullError::Lookup(LookupError::NoSuchGroup));
        }
        Ok(())
    }

    pub fn seek(&mut self, request: &Seek) -> Result<SeekReport, LookupError> {
        let (t, g) = self.find_group(&request.account, &request.topic, &request.group)?;
        let topic = &self.topics[t];
        let to = topic.resolve(request.to);
        let report = SeekReport {
            from: topic.cursor(g),
            to,
            pending_dropped: topic.groups[g].pending.len() as u64,
            ahead: topic.messages.range(to..).filter(|(_, kept)| !kept.superseded).count() as u64,
        };
        if !request.dry_run {
            let group = &mut self.topics[t].groups[g];
            group.standing = Standing::At(to);
            group.cursor = to;
            group.seeks += 1;
            group.pending.clear();
            group.settled.clear();
        }
        Ok(report)
    }

    pub fn purge(&mut self, account: &AccountName, topic: &TopicRef) -> Result<PurgeReport, LookupError> {
        let t = self.find_topic(account, topic)?;
        let topic = &mut self.topics[t];
        let offsets: Vec<_> = topic.messages.keys().copied().collect();
        offsets.iter().for_each(|offset| topic.remove(*offset));
        Ok(PurgeReport { messages: offsets.len() as u64 })
    }

    pub fn discard(&mut self, request: &Discard) -> Result<DiscardReport, LookupError> {
        let t = self.find_topic(&request.account, &request.topic)?;
        let topic = &mut self.topics[t];
        let mut discarded = Vec::new();
        for offset in &request.offsets {
            if topic.messages.contains_key(offset) {
                topic.remove(*offset);
                discarded.push(*offset);
            }
        }
        Ok(DiscardReport { discarded })
    }

    /// Goes through the dead letters asked for, by offset, until `limit` are moved.
    pub fn redrive(&mut self, request: &Redrive) -> Result<RedriveReport, RedriveError> {
        let t = self.find_topic(&request.account, &request.topic)?;
        if request.limit == 0 || request.limit > bounds::PULL_BATCH_MAX {
            return Err(SettingsError { field: "limit", rule: "1 to 1000" }.into());
        }
        if request.offsets.len() > bounds::PULL_BATCH_MAX {
            return Err(SettingsError { field: "offsets", rule: "at most 1000" }.into());
        }
        let is_asked_for = |offset: &Offset| request.offsets.is_empty() || request.offsets.contains(offset);
        let offsets: Vec<_> = self.topics[t].messages.keys().copied().filter(is_asked_for).collect();
        let mut report = RedriveReport { moved: 0, left: 0 };
        for offset in offsets {
            if report.moved == request.limit as u64 {
                break;
            }
            let message = self.topics[t].messages[&offset].message.clone();
            let home = message.head.origin.as_ref().map(|origin| TopicRef::Name(origin.topic.clone()));
            let home = home.and_then(|home| self.find_topic(&request.account, &home).ok()).filter(|home| *home != t);
            match home {
                Some(home) => {
                    self.topics[t].remove(offset);
                    self.move_to(home, message, None);
                    report.moved += 1;
                }
                None => report.left += 1,
            }
        }
        Ok(report)
    }

    pub fn put_access(&mut self, record: AccessRecord) -> Result<(), AccessError> {
        if self.access.records.contains_key(&record.id) {
            return Err(AccessError::Exists(record.id));
        }
        let max = self.limits.access_max;
        if self.access.records.len() >= max {
            return Err(AccessError::TooMany { max });
        }
        Arc::make_mut(&mut self.access).records.insert(record.id.clone(), record);
        Ok(())
    }

    pub fn revoke_access(&mut self, account: &AccountName, id: AccessId) -> Result<(), AccessError> {
        if self.access.records.get(&id).is_none_or(|record| record.account != *account) {
            return Err(AccessError::NoSuchCredential(id));
        }
        Arc::make_mut(&mut self.access).records.remove(&id);
        Ok(())
    }
}

/// A group may not send its dead letters back into its own topic: they would go round for ever.
fn check_group(settings: &GroupSettings, topic: &TopicName) -> Result<(), SettingsError> {
    settings.check()?;
    if settings.dead_letter.as_ref() == Some(topic) {
        return Err(SettingsError { field: "dead_letter", rule: "another topic" });
    }
    Ok(())
}
