//! What became of a message: how it came, and how it went with each group of its topic. Told from what the
//! engine keeps, so it is there for every message and costs nothing before it is asked for.

use axum::response::Response;

use crate::engine::{LookupError, MessageState, Peek, PeekError, PeekFilter};
use crate::http::jcq::fault::Fault;
use crate::http::jcq::groups::dead_letter_topic;
use crate::http::jcq::manage::look::{message_id, with_id};
use crate::http::jcq::manage::wire::{ConsumeView, ProduceView, TraceResult, TraceView};
use crate::http::jcq::manage::{Enough, ManagementCall};
use crate::http::jcq::wire::success;
use crate::model::{Attempt, Group, GroupRef, Message, MessageId, Topic, TopicRef};

/// `GET /topics/{topic}/messageTrace/{message}`
pub async fn trace(call: ManagementCall) -> Result<Response, Fault> {
    let (topic, id) = (call.topic().await?, message_id(&call)?);
    let mut found = None;
    // The last copy is the one that was sent again.
    call.look(TopicRef::Id(topic.id), with_id(id), |message| {
        found = Some(message);
        Enough::No
    })
    .await?;
    let message = found.ok_or_else(|| Fault::not_found("message"))?;
    let mut consume_info_list = Vec::new();
    for group in call.groups(&topic).await? {
        consume_info_list.push(consumed(&call, &topic, &group, &message).await?);
    }
    let trace = TraceView { produce_info: produced(&message), consume_info_list };
    Ok(success(TraceResult { message_trace_info: trace }))
}

fn produced(message: &Message) -> ProduceView {
    let delay_time = message.head.ready_at.since(message.head.published_at).as_secs();
    ProduceView {
        address: "",
        time_stamp: message.head.published_at.get(),
        cost_time: 0,
        message_send_status: if delay_time > 0 { "SUCCESS_DELAY" } else { "SUCCESS_NORMAL" },
        delay_time,
    }
}

async fn consumed(
    call: &ManagementCall,
    topic: &Topic,
    group: &Group,
    message: &Message,
) -> Result<ConsumeView, Fault> {
    let (status, success_times, failed_times) = match state(call, topic, group, message).await? {
        // Under its first lease it is neither consumed nor failed.
        Some((MessageState::InFlight, attempts)) => retried(attempts.get().saturating_sub(1)),
        Some((MessageState::Ready | MessageState::Delayed, attempts)) => retried(attempts.get()),
        Some((MessageState::Settled, _)) => match died_after(call, topic, group, message.head.id).await? {
            Some(attempts) => ("ALL_FAILED", 0, attempts.get()),
            None => ("SUCCESS", 1, 0),
        },
        None => ("UNKNOWN", 0, 0),
    };
    Ok(ConsumeView {
        consumer_group_id: group.name.to_string(),
        message_consume_status: status,
        success_times,
        failed_times,
        consumer_info_detail_list: [],
    })
}

fn retried(failures: u32) -> (&'static str, u32, u32) {
    (if failures > 0 { "FAILED_RETRY" } else { "UNCONSUMED" }, 0, failures)
}

/// Where the message stands with the group, and how often it was delivered to it.
async fn state(
    call: &ManagementCall,
    topic: &Topic,
    group: &Group,
    message: &Message,
) -> Result<Option<(MessageState, Attempt)>, Fault> {
    let peek = Peek {
        account: call.account(),
        topic: TopicRef::Id(topic.id),
        group: Some(GroupRef::Id(group.id)),
        filter: PeekFilter { id: Some(message.head.id), ..PeekFilter::default() },
        from: message.head.offset,
        limit: 1,
    };
    match call.call.front.engine.peek(peek).await {
        Ok(peeked) => Ok(peeked.messages.first().and_then(|peeked| Some((peeked.state?, peeked.attempts)))),
        // Deleted in between.
        Err(PeekError::Lookup(LookupError::NoSuchGroup | LookupError::NoSuchTopic)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The deliveries after which the group gave the message up, if it is among its dead letters.
async fn died_after(
    call: &ManagementCall,
    topic: &Topic,
    group: &Group,
    id: MessageId,
) -> Result<Option<Attempt>, Fault> {
    let Some(place) = dead_letter_topic(topic, &group.name).map(TopicRef::Name) else { return Ok(None) };
    match call.call.front.engine.topic(call.account(), place.clone()).await {
        Ok(_) => {}
        Err(LookupError::NoSuchTopic | LookupError::NoSuchGroup) => return Ok(None),
        Err(error @ LookupError::Refused(_)) => return Err(PeekError::Lookup(error).into()),
    }
    let mut attempts = None;
    call.look(place, with_id(id), |message| {
        attempts = message.head.origin.map(|origin| origin.attempts);
        Enough::Yes
    })
    .await?;
    Ok(attempts)
}
