//! Looking without touching: states, counts, peek, status.

use crate::engine::oracle::world::{Hold, Kept, TopicState, World};
use crate::engine::{
    Counts, GroupStatus, LookupError, MessageState, Peek, PeekError, PeekFilter, Peeked, PeekedMessage, Status,
    TopicStatus,
};
use crate::model::{AccountName, Attempt, GroupRef, Millis, Offset, SettingsError, TopicRef, bounds};

impl TopicState {
    /// Where a kept message stands with group `g`.
    fn state(&self, g: usize, offset: Offset, kept: &Kept, now: Millis) -> MessageState {
        let group = &self.groups[g];
        let by_time = |ready_at| if ready_at <= now { MessageState::Ready } else { MessageState::Delayed };
        match group.pending.get(&offset).map(|pending| pending.hold) {
            Some(Hold::Leased { .. }) => MessageState::InFlight,
            Some(Hold::Returned { ready_at }) => by_time(ready_at),
            None if kept.superseded || offset < self.start(g) || group.settled.contains(&offset) => {
                MessageState::Settled
            }
            None => by_time(kept.message.head.ready_at),
        }
    }

    pub fn counts_of_group(&self, g: usize, now: Millis) -> Counts {
        count(self.messages.iter().map(|(offset, kept)| (kept, self.state(g, *offset, kept, now))))
    }

    /// Of what is kept: leases do not matter.
    fn counts_of_topic(&self, now: Millis) -> Counts {
        count(self.messages.values().map(|kept| {
            let is_ready = kept.message.head.ready_at <= now;
            (kept, if is_ready { MessageState::Ready } else { MessageState::Delayed })
        }))
    }
}

fn count<'a>(states: impl Iterator<Item = (&'a Kept, MessageState)>) -> Counts {
    let mut counts = Counts::default();
    for (kept, state) in states {
        match state {
            MessageState::Ready => counts.ready += 1,
            MessageState::InFlight => counts.in_flight += 1,
            MessageState::Delayed => counts.delayed += 1,
            MessageState::Settled => continue,
        }
        let came_at = kept.moved_at.unwrap_or(kept.message.head.published_at);
        counts.bytes += kept.message.body.len() as u64;
        counts.oldest = Some(counts.oldest.map_or(came_at, |oldest| oldest.min(came_at)));
    }
    counts
}

impl World {
    pub fn counts(
        &self,
        account: &AccountName,
        topic: &TopicRef,
        group: Option<&GroupRef>,
    ) -> Result<Counts, LookupError> {
        match group {
            None => Ok(self.topics[self.find_topic(account, topic)?].counts_of_topic(self.now)),
            Some(group) => {
                let (t, g) = self.find_group(account, topic, group)?;
                Ok(self.topics[t].counts_of_group(g, self.now))
            }
        }
    }

    pub fn peek(&self, request: &Peek) -> Result<Peeked, PeekError> {
        let t = self.find_topic(&request.account, &request.topic)?;
        let group = match &request.group {
            Some(group) => Some(self.find_group(&request.account, &request.topic, group)?.1),
            None => None,
        };
        if request.limit == 0 || request.limit > bounds::PULL_BATCH_MAX {
            return Err(SettingsError { field: "limit", rule: "1 to 1000" }.into());
        }
        if request.filter.state.is_some() && group.is_none() {
            return Err(SettingsError { field: "state", rule: "asked for with a group" }.into());
        }
        let topic = &self.topics[t];
        let mut peeked = Peeked { tail: topic.tail, ..Peeked::default() };
        let mut bytes = 0;
        for (offset, kept) in topic.messages.range(request.from..) {
            if peeked.messages.len() == request.limit || bytes >= bounds::PULL_BYTES_MAX {
                peeked.next = Some(*offset);
                break;
            }
            let state = group.map(|g| topic.state(g, *offset, kept, self.now));
            if is_asked_for(&request.filter, kept, state) {
                let pending = group.and_then(|g| topic.groups[g].pending.get(offset));
                let attempts = pending.map_or(Attempt::NONE, |pending| pending.attempt);
                bytes += kept.message.body.len() as u64;
                peeked.messages.push(PeekedMessage { message: kept.message.clone(), state, attempts });
            }
        }
        Ok(peeked)
    }

    pub fn status(&self) -> Status {
        let mut topics: Vec<_> = self.topics.iter().map(|topic| topic_status(topic, self.now)).collect();
        topics.sort_by(|one, other| (&one.account, &one.topic).cmp(&(&other.account, &other.topic)));
        Status { topics, ..Status::default() }
    }
}

fn is_asked_for(filter: &PeekFilter, kept: &Kept, state: Option<MessageState>) -> bool {
    let head = &kept.message.head;
    let has_property = |(name, value): &(String, String)| head.properties.get(name) == Some(value);
    filter.state.is_none_or(|asked| state == Some(asked))
        && !(filter.unsettled && state == Some(MessageState::Settled))
        && filter.id.is_none_or(|id| head.id == id)
        && filter.tag.as_ref().is_none_or(|tag| head.tag.as_ref() == Some(tag))
        && filter.key.as_ref().is_none_or(|key| head.key.as_ref() == Some(key))
        && filter.property.as_ref().is_none_or(has_property)
        && filter.since.is_none_or(|since| head.published_at >= since)
        && filter.until.is_none_or(|until| head.published_at < until)
}

fn topic_status(topic: &TopicState, now: Millis) -> TopicStatus {
    let mut groups: Vec<_> = (0..topic.groups.len()).map(|g| group_status(topic, g, now)).collect();
    groups.sort_by(|one, other| one.group.cmp(&other.group));
    TopicStatus {
        account: Some(topic.topic.account.clone()),
        topic: Some(topic.topic.name.clone()),
        published: topic.published,
        published_bytes: topic.published_bytes,
        counts: topic.counts_of_topic(now),
        groups,
    }
}

fn group_status(topic: &TopicState, g: usize, now: Millis) -> GroupStatus {
    let group = &topic.groups[g];
    let totals = &group.totals;
    GroupStatus {
        group: Some(group.group.name.clone()),
        delivered: totals.delivered,
        acked: totals.acked,
        nacked: totals.nacked,
        lapsed: totals.lapsed,
        dead_lettered: totals.dead_lettered,
        discarded: totals.discarded,
        waiting: group.waiters.len() as u64,
        counts: topic.counts_of_group(g, now),
    }
}
