//! Publish: checks first, then all or nothing.

use std::collections::HashSet;

use crate::engine::oracle::world::{Remembered, TopicState, World};
use crate::engine::{Publish, PublishError};
use crate::model::{Compaction, IdempotencyKey, Key, Message, MessageHead, NewMessage, Published, bounds};

impl World {
    pub fn publish(&mut self, request: Publish) -> Result<Vec<Published>, PublishError> {
        let t = self.find_topic(&request.account, &request.topic).map_err(|_| PublishError::NoSuchTopic)?;
        self.check_bounds(&request.messages)?;
        check_idempotency(&self.topics[t], &request.messages)?;
        self.check_tables(t, &request.messages)?;
        Ok(request.messages.into_iter().map(|message| self.publish_one(t, message)).collect())
    }

    fn check_bounds(&self, messages: &[NewMessage]) -> Result<(), PublishError> {
        if messages.is_empty() || messages.len() > bounds::PUBLISH_BATCH_MAX {
            return Err(PublishError::BatchCount { got: messages.len(), max: bounds::PUBLISH_BATCH_MAX });
        }
        let body_max = self.limits.body_bytes_max;
        for (index, message) in messages.iter().enumerate() {
            if message.body.len() > body_max {
                return Err(PublishError::BodyTooLarge { index, got: message.body.len(), max: body_max });
            }
            let (pairs_max, bytes_max) = (bounds::PROPERTIES_MAX, bounds::PROPERTIES_BYTES_MAX);
            if message.properties.len() > pairs_max || properties_bytes(message) > bytes_max {
                return Err(PublishError::Properties { index, pairs_max, bytes_max });
            }
            if message.delay.is_some_and(|delay| delay > bounds::DELAY_MAX) {
                return Err(PublishError::DelayTooLong { index, max_secs: bounds::DELAY_MAX.as_secs() });
            }
        }
        let got = messages.iter().map(|message| message.body.len() + head_bytes(message)).sum();
        let max = self.limits.batch_bytes_max;
        if got > max {
            return Err(PublishError::BatchTooLarge { got, max });
        }
        Ok(())
    }

    fn check_tables(&self, t: usize, messages: &[NewMessage]) -> Result<(), PublishError> {
        let topic = &self.topics[t];
        let known = |key: &&IdempotencyKey| topic.idempotency.contains_key(key);
        let news: HashSet<_> =
            messages.iter().filter_map(|message| message.idempotency_key.as_ref()).filter(|key| !known(key)).collect();
        let kept: usize = self.topics.iter().map(|topic| topic.idempotency.len()).sum();
        let max = self.limits.idempotency_keys_max;
        if !news.is_empty() && kept + news.len() > max {
            return Err(PublishError::TableFull { what: "idempotency keys", max });
        }
        if topic.topic.settings.compaction == Compaction::LatestPerKey {
            let kept: HashSet<&Key> = topic
                .messages
                .values()
                .filter(|kept| kept.moved_at.is_none())
                .filter_map(|kept| kept.message.head.key.as_ref())
                .collect();
            let news: HashSet<&Key> =
                messages.iter().filter_map(|message| message.key.as_ref()).filter(|key| !kept.contains(key)).collect();
            let max = self.limits.compaction_keys_max;
            if !news.is_empty() && kept.len() + news.len() > max {
                return Err(PublishError::TableFull { what: "compaction keys", max });
            }
        }
        Ok(())
    }

    fn publish_one(&mut self, t: usize, message: NewMessage) -> Published {
        if let Some(first) = message.idempotency_key.as_ref().and_then(|key| self.topics[t].idempotency.get(key)) {
            return Published { id: first.id, offset: first.offset, repeated: true };
        }
        let id = self.next_id();
        let published_at = self.now;
        let delay = message.delay.unwrap_or(self.topics[t].topic.settings.delay);
        let head = MessageHead {
            id,
            offset: self.topics[t].tail,
            content_type: message.content_type.clone(),
            key: message.key.clone(),
            tag: message.tag.clone(),
            properties: message.properties.clone(),
            published_at,
            ready_at: published_at.after(delay),
            origin: None,
        };
        let offset = self.add_message(t, Message { head, body: message.body.clone() });
        let topic = &mut self.topics[t];
        topic.published += 1;
        topic.published_bytes += message.body.len() as u64;
        if let Some(key) = message.idempotency_key.clone() {
            topic.idempotency.insert(key, Remembered { message, id, offset, published_at });
        }
        Published { id, offset, repeated: false }
    }
}

/// Refuses a key that was used for another message, before or earlier in the batch.
fn check_idempotency(topic: &TopicState, messages: &[NewMessage]) -> Result<(), PublishError> {
    for (index, message) in messages.iter().enumerate() {
        let Some(key) = &message.idempotency_key else { continue };
        let remembered = topic.idempotency.get(key).map(|first| &first.message);
        let in_batch = || messages[..index].iter().find(|earlier| earlier.idempotency_key.as_ref() == Some(key));
        if remembered.or_else(in_batch).is_some_and(|first| !is_repeat(first, message)) {
            return Err(PublishError::IdempotencyConflict { index });
        }
    }
    Ok(())
}

/// Whether `again` says the same as `first`. The delay may differ: it belongs to the first.
fn is_repeat(first: &NewMessage, again: &NewMessage) -> bool {
    first.body == again.body
        && first.content_type == again.content_type
        && first.key == again.key
        && first.tag == again.tag
        && first.properties == again.properties
}

fn properties_bytes(message: &NewMessage) -> usize {
    message.properties.iter().map(|(name, value)| name.len() + value.len()).sum()
}

fn head_bytes(message: &NewMessage) -> usize {
    let text = |text: Option<&str>| text.map_or(0, str::len);
    properties_bytes(message)
        + text(message.content_type.as_ref().map(AsRef::as_ref))
        + text(message.key.as_ref().map(AsRef::as_ref))
        + text(message.tag.as_ref().map(AsRef::as_ref))
        + text(message.idempotency_key.as_ref().map(AsRef::as_ref))
}
