//! Streams: topics that keep the latest message of each key, in order per key, whatever is settled.

use axum::response::Response;

use crate::access::{Right, Target, account_hex, authorise};
use crate::engine::CreateTopic;
use crate::http::sequin::fault::Fault;
use crate::http::sequin::record::{plain_time, uuid_text};
use crate::http::sequin::wire::{CountedStreamView, DeletedView, StatsView, StreamIn, StreamView, answer, answer_data};
use crate::http::sequin::{Era, SequinCall};
use crate::http::time::rfc3339;
use crate::model::{
    AccountName, Compaction, Ordering, Permission, Retention, Settled, Topic, TopicName, TopicRef, TopicSettings,
};

/// A new consumer gets every key's latest message, however many have settled it.
fn settings() -> TopicSettings {
    TopicSettings {
        retention: Retention { settled: Settled::Keep, ..Retention::default() },
        ordering: Ordering::PerKey,
        compaction: Compaction::LatestPerKey,
        ..TopicSettings::default()
    }
}

/// The id of an account where the wire wants a UUID.
fn account_id(account: &AccountName) -> String {
    uuid_text(u128::from_str_radix(&account_hex(account), 16).unwrap_or_default())
}

/// `POST .../streams`. Limits that clients send along are not looked at: no server of this API has kept them.
pub async fn create(mut call: SequinCall) -> Result<Response, Fault> {
    let request: StreamIn = call.read().await?;
    let name = request.name.filter(|name| !name.is_empty()).ok_or_else(|| Fault::invalid("name", "can't be blank"))?;
    let name = TopicName::parse(&name).map_err(|error| Fault::invalid("name", error.to_string()))?;
    authorise(&call.call.principal, Right::Do(Permission::Admin), Target::Topic(&name))?;
    let request = CreateTopic { account: call.account(), name, settings: settings() };
    let stream = call.call.front.engine.create_topic(request).await?;
    view(&call, &stream).await
}

/// `GET .../streams`
pub async fn list(call: SequinCall) -> Result<Response, Fault> {
    let mut streams = call.call.front.engine.topics(call.account()).await?;
    streams.retain(|stream| authorise(&call.call.principal, Right::See, Target::Topic(&stream.name)).is_ok());
    if call.era == Era::Records {
        return Ok(answer_data(streams.iter().map(stream_view).collect::<Vec<_>>()));
    }
    let mut views = Vec::with_capacity(streams.len());
    for stream in &streams {
        views.push(counted_view(&call, stream).await?);
    }
    Ok(answer_data(views))
}

/// `GET .../streams/{stream}`
pub async fn get(call: SequinCall) -> Result<Response, Fault> {
    view(&call, call.stream()?).await
}

/// `DELETE .../streams/{stream}`, its messages and consumers as well.
pub async fn delete(call: SequinCall) -> Result<Response, Fault> {
    let stream = call.stream()?;
    call.call.front.engine.delete_topic(call.account(), TopicRef::Id(stream.id)).await?;
    Ok(answer(&DeletedView { id: stream.id.to_string(), deleted: true }))
}

async fn view(call: &SequinCall, stream: &Topic) -> Result<Response, Fault> {
    Ok(match call.era {
        Era::Records => answer(&stream_view(stream)),
        Era::Tokens | Era::Messages | Era::Sinks => answer(&counted_view(call, stream).await?),
    })
}

fn stream_view(stream: &Topic) -> StreamView {
    StreamView {
        id: stream.id.to_string(),
        name: stream.name.to_string(),
        created_at: plain_time(stream.created_at),
        updated_at: plain_time(stream.modified_at),
    }
}

async fn counted_view(call: &SequinCall, stream: &Topic) -> Result<CountedStreamView, Fault> {
    let engine = &call.call.front.engine;
    let counts = engine.counts(call.account(), TopicRef::Id(stream.id), None).await?;
    let consumers = engine.groups(call.account(), TopicRef::Id(stream.id)).await?;
    let stats =
        StatsView { message_count: counts.unsettled(), consumer_count: consumers.len(), storage_size: counts.bytes };
    Ok(CountedStreamView {
        id: stream.id.to_string(),
        name: stream.name.to_string(),
        account_id: account_id(&stream.account),
        stats,
        inserted_at: rfc3339(stream.created_at),
        updated_at: rfc3339(stream.modified_at),
    })
}
