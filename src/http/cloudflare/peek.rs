//! Looking at messages without a lease, and giving up single ones by what a look returned.

use std::collections::{BTreeMap, BTreeSet};

use axum::response::Response;

use crate::engine::{Discard, LookupError, Peek, PeekFilter};
use crate::http::cloudflare::content::{Content, content};
use crate::http::cloudflare::fault::Fault;
use crate::http::cloudflare::messages::{PULL_DEFAULT, read_size};
use crate::http::cloudflare::wire::{PeekIn, PeekView, PeekedView, PurgedView, RefsIn, success};
use crate::http::cloudflare::{Allowed, ID_DIGITS, consumer_ref};
use crate::http::whole::Whole;
use crate::model::{GroupRef, Offset, TopicId, TopicRef};

/// Reads of the engine that one look makes at most; each goes over thousands of messages that the consumer has
/// settled and another group has not.
const READS_MAX: usize = 32;
/// Digits of an offset in a reference.
const OFFSET_DIGITS: usize = 16;
/// Messages given up in one commit.
const DISCARD_MAX: usize = 100;

/// `POST /queues/{queue}/messages/peek` and `/preview`: what the consumer has not settled, oldest first, leased
/// and delayed messages included; all that is kept while there is no consumer.
pub async fn peek(mut call: Allowed) -> Result<Response, Fault> {
    let request: PeekIn = call.read().await?;
    let limit = read_size(request.batch_size.map_or(PULL_DEFAULT, |Whole(size)| size))?;
    let topic = call.topic().await?.id;
    let group = consumer(&call).await?;
    let json_body = call.call.front.config.cloudflare.json_body;
    let (mut messages, mut from) = (Vec::new(), Some(Offset::ZERO));
    for _ in 0..READS_MAX {
        let Some(at) = from.filter(|_| messages.len() < limit) else { break };
        let request = Peek {
            account: call.account(),
            topic: TopicRef::Id(topic),
            group: group.clone(),
            filter: PeekFilter { unsettled: true, ..PeekFilter::default() },
            from: at,
            limit: limit - messages.len(),
        };
        let peeked = call.call.front.engine.peek(request).await?;
        from = peeked.next;
        for seen in peeked.messages {
            let reference = write_reference(topic, seen.message.head.offset);
            let Content { id, body, metadata, timestamp_ms } = content(seen.message, json_body);
            messages.push(PeekedView { id, attempts: seen.attempts.get(), body, metadata, reference, timestamp_ms });
        }
    }
    Ok(success(PeekView { messages }))
}

/// The group of the consumer, if the queue has one.
async fn consumer(call: &Allowed) -> Result<Option<GroupRef>, Fault> {
    match call.call.front.engine.group(call.account(), call.queue()?, consumer_ref()?).await {
        Ok(group) => Ok(Some(GroupRef::Id(group.id))),
        Err(LookupError::NoSuchGroup) => Ok(None),
        Err(error @ (LookupError::NoSuchTopic | LookupError::Refused(_))) => Err(Fault::lookup(error, call.plane)),
    }
}

/// `POST /queues/{queue}/messages/purge`: what is not there any more, or never was, is warned of.
pub async fn purge(mut call: Allowed) -> Result<Response, Fault> {
    let topic = call.topic().await?;
    let request: RefsIn = call.read().await?;
    let (mut view, mut named) = (PurgedView::default(), BTreeMap::new());
    for reference in request.refs.0.into_iter().map(|entry| entry.reference) {
        match read_reference(&reference, topic.id) {
            Some(offset) => {
                named.insert(offset, reference);
            }
            None => {
                view.warnings.insert(reference, "unknown ref");
            }
        }
    }
    let offsets: Vec<Offset> = named.keys().copied().collect();
    let mut gone = BTreeSet::new();
    for offsets in offsets.chunks(DISCARD_MAX) {
        let request = Discard { account: call.account(), topic: TopicRef::Id(topic.id), offsets: offsets.to_vec() };
        let report = call.call.front.engine.discard(request).await;
        gone.extend(report.map_err(|error| Fault::lookup(error, call.plane))?.discarded);
    }
    tracing::info!(topic = %topic.name, by = %call.call.principal.id, messages = gone.len(), "discarded");
    for (offset, reference) in named {
        if !gone.contains(&offset) {
            view.warnings.insert(reference, "the message is already acknowledged or deleted");
        }
    }
    Ok(success(view))
}

/// The topic and the offset, in hexadecimal digits: offsets are never used twice, topic ids neither.
fn write_reference(topic: TopicId, offset: Offset) -> String {
    format!("{}{:0OFFSET_DIGITS$x}", topic.to_hex(), offset.get())
}

/// The offset, if the reference is one of this topic.
fn read_reference(reference: &str, topic: TopicId) -> Option<Offset> {
    let offset = reference.strip_prefix(&topic.to_hex())?;
    let fits = reference.len() == ID_DIGITS + OFFSET_DIGITS && offset.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(offset, 16).ok().filter(|_| fits).map(Offset::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_good_for_its_own_topic_only() {
        let (topic, other) = (TopicId::new(7), TopicId::new(8));
        let reference = write_reference(topic, Offset::new(300));
        assert_eq!(read_reference(&reference, topic), Some(Offset::new(300)));
        assert_eq!(read_reference(&reference, other), None);
        for bad in ["", "x", &reference[1..], &format!("{reference}0"), &topic.to_hex(), &reference.replace('c', "+")] {
            assert_eq!(read_reference(bad, topic), None, "{bad}");
        }
    }
}
