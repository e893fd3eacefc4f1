//! Dead letters of a group: listed, sent again, deleted, counted. They lie in a topic of their own.

use std::collections::BTreeSet;

use axum::response::Response;

use crate::engine::{Discard, LookupError, PeekFilter, Redrive};
use crate::http::jcq::fault::{Fault, Plane};
use crate::http::jcq::groups::dead_letter_topic;
use crate::http::jcq::manage::wire::{
    DeadLetterNumberView, DeadLetterNumbersView, DeadLetterView, DeadLettersView, MessageIdsIn, MessageIdsView,
};
use crate::http::jcq::manage::{Enough, ManagementCall};
use crate::http::jcq::wire::success;
use crate::http::time::seconds;
use crate::model::{MessageId, Millis, Offset, Topic, TopicName, TopicRef};

/// Dead letters of one command.
const AT_ONCE_MAX: usize = 100;
/// Ids that one request may name.
const IDS_MAX: usize = 1_000;

/// A dead letter, without its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Letter {
    offset: Offset,
    id: MessageId,
    died_at: Millis,
}

/// The topic of the dead letters of the group that the path names; `None`: there were never any.
async fn place(call: &ManagementCall) -> Result<Option<Topic>, Fault> {
    let (topic, group) = (call.topic().await?, call.group().await?);
    let Some(name) = dead_letter_topic(&topic, &group.name) else { return Ok(None) };
    match call.call.front.engine.topic(call.account(), TopicRef::Name(name)).await {
        Ok(place) => Ok(Some(place)),
        Err(LookupError::NoSuchTopic | LookupError::NoSuchGroup) => Ok(None),
        Err(error @ LookupError::Refused(_)) => Err(Fault::lookup(error, Plane::Management)),
    }
}

async fn letters(call: &ManagementCall, place: &Topic) -> Result<Vec<Letter>, Fault> {
    let mut letters = Vec::new();
    call.look(TopicRef::Id(place.id), PeekFilter::default(), |message| {
        let head = message.head;
        let died_at = head.origin.map_or(head.published_at, |origin| origin.moved_at);
        letters.push(Letter { offset: head.offset, id: head.id, died_at });
        Enough::No
    })
    .await?;
    Ok(letters)
}

/// `GET /topics/{topic}/subscriptions/{group}:listDeadLetters`: those that died between the two times.
pub async fn list(call: ManagementCall) -> Result<Response, Fault> {
    let (page, (from, to)) = (call.page()?, call.period()?);
    let place = place(&call).await?;
    let mut found = match &place {
        Some(place) => letters(&call, place).await?,
        None => Vec::new(),
    };
    found.retain(|letter| (from..=to).contains(&letter.died_at));
    let total_count = found.len();
    let age = place.and_then(|place| place.settings.retention.age);
    let view = |letter: Letter| DeadLetterView {
        message_id: letter.id.to_hex(),
        expire_time: age.map(|age| seconds(letter.died_at.after(age))).unwrap_or_default(),
    };
    let dead_letters = page.of(found).into_iter().map(view).collect();
    Ok(success(DeadLettersView { dead_letters, total_count }))
}

/// Those of the ids asked for that are there; all, if none is named.
async fn asked_for(call: &ManagementCall, place: &Topic, ids: Option<&str>) -> Result<Vec<Letter>, Fault> {
    let mut found = letters(call, place).await?;
    if let Some(ids) = ids {
        let ids: Vec<&str> = ids.split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
        let rule = || Fault::rule("messageIds", format_args!("1 to {IDS_MAX} ids with commas between them"));
        if ids.is_empty() || ids.len() > IDS_MAX {
            return Err(rule());
        }
        let ids = ids.into_iter().map(MessageId::parse).collect::<Result<BTreeSet<_>, _>>().map_err(|_| rule())?;
        found.retain(|letter| ids.contains(&letter.id));
    }
    Ok(found)
}

/// Says which letters are gone from where they were.
async fn gone(call: &ManagementCall, place: &Topic, letters_before: Vec<Letter>) -> Result<Response, Fault> {
    let left: BTreeSet<Letter> = letters(call, place).await?.into_iter().collect();
    let gone = letters_before.into_iter().filter(|letter| !left.contains(letter));
    Ok(success(MessageIdsView { message_ids: gone.map(|letter| letter.id.to_hex()).collect() }))
}

/// `POST /topics/{topic}/subscriptions/{group}:resendDeadLetters`
pub async fn resend(call: ManagementCall) -> Result<Response, Fault> {
    let request: MessageIdsIn = call.read()?;
    let Some(place) = place(&call).await? else { return Ok(success(MessageIdsView { message_ids: Vec::new() })) };
    let found = asked_for(&call, &place, request.message_ids.as_deref()).await?;
    for some in found.chunks(AT_ONCE_MAX) {
        let offsets: Vec<Offset> = some.iter().map(|letter| letter.offset).collect();
        let limit = offsets.len();
        let redrive = Redrive { account: call.account(), topic: TopicRef::Id(place.id), offsets, limit };
        call.call.front.engine.redrive(redrive).await?;
    }
    gone(&call, &place, found).await
}

/// `DELETE /topics/{topic}/subscriptions/{group}:deleteDeadLetters`
pub async fn delete(call: ManagementCall) -> Result<Response, Fault> {
    let ids = call.parameter("messageIds").map(str::to_owned);
    let Some(place) = place(&call).await? else { return Ok(success(MessageIdsView { message_ids: Vec::new() })) };
    let found = asked_for(&call, &place, ids.as_deref()).await?;
    for some in found.chunks(AT_ONCE_MAX) {
        let offsets = some.iter().map(|letter| letter.offset).collect();
        let discard = Discard { account: call.account(), topic: TopicRef::Id(place.id), offsets };
        let done = call.call.front.engine.discard(discard).await;
        done.map_err(|error| Fault::lookup(error, Plane::Management))?;
    }
    gone(&call, &place, found).await
}

/// `GET /deadLetterNumbers`
pub async fn numbers(call: ManagementCall) -> Result<Response, Fault> {
    let topics = call.topics().await?;
    numbers_of(&call, topics).await
}

/// `GET /topics/{topic}/deadLetterNumbers`
pub async fn numbers_of_topic(call: ManagementCall) -> Result<Response, Fault> {
    let topic = call.topic().await?;
    numbers_of(&call, vec![topic]).await
}

async fn numbers_of(call: &ManagementCall, topics: Vec<Topic>) -> Result<Response, Fault> {
    let page = call.page()?;
    let wanted = call.parameter("consumerGroupId").filter(|name| !name.is_empty());
    let mut places = Vec::new();
    for topic in topics {
        for group in call.groups(&topic).await? {
            if wanted.is_none_or(|wanted| wanted == group.name.as_str()) {
                places.push((topic.clone(), group));
            }
        }
    }
    let total_count = places.len();
    let mut dead_letter_numbers = Vec::new();
    for (topic, group) in page.of(places) {
        dead_letter_numbers.push(DeadLetterNumberView {
            topic_id: topic.id.to_hex(),
            topic_name: topic.name.to_string(),
            consumer_group_id: group.name.to_string(),
            dead_letter_number: count(call, dead_letter_topic(&topic, &group.name)).await?,
        });
    }
    Ok(success(DeadLetterNumbersView { dead_letter_numbers, total_count }))
}

async fn count(call: &ManagementCall, place: Option<TopicName>) -> Result<u64, Fault> {
    let Some(place) = place else { return Ok(0) };
    match call.call.front.engine.counts(call.account(), TopicRef::Name(place), None).await {
        Ok(counts) => Ok(counts.unsettled()),
        Err(LookupError::NoSuchTopic | LookupError::NoSuchGroup) => Ok(0),
        Err(error @ LookupError::Refused(_)) => Err(Fault::lookup(error, Plane::Management)),
    }
}
