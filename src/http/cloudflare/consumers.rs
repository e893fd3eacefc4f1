//! The pull consumer of a queue: the group `http-pull`, with Cloudflare's settings and defaults.

use std::time::Duration;

use axum::response::Response;

use crate::access::{Right, Target, authorise};
use crate::engine::{CreateGroup, CreateTopic, CreateTopicError, LookupError, Position};
use crate::http::cloudflare::fault::{Fault, Plane};
use crate::http::cloudflare::page::Page;
use crate::http::cloudflare::queues::{default_settings, queue_name};
use crate::http::cloudflare::wire::{
    ConsumerIn, ConsumerSettingsIn, ConsumerSettingsView, ConsumerView, success, success_page,
};
use crate::http::cloudflare::{Allowed, CONSUMER, consumer_ref, hex_id};
use crate::http::time::rfc3339;
use crate::http::whole::Whole;
use crate::model::{
    Annotate, Annotations, Attempt, Group, GroupId, GroupName, GroupPatch, GroupSettings, Permission, RetryDelays,
    Start, Topic, TopicName,
};

/// Most messages of one pull or push batch.
pub const BATCH_MAX: u64 = 100;
/// Longest visibility timeout: 12 hours.
pub const VISIBILITY_MS_MAX: u64 = 43_200_000;
const VISIBILITY_MS_DEFAULT: u64 = 30_000;
/// Longest delay of a message or retry: a day.
pub const DELAY_SECS_MAX: u64 = 86_400;
const RETRIES_MAX: u64 = 100;
const RETRIES_DEFAULT: u64 = 3;
const BATCH_DEFAULT: u64 = 10;
const BATCH_SIZE: &str = "cloudflare.batch_size";

/// The batch size that the consumer was given, if any.
pub fn batch_size(group: &Group) -> Option<u64> {
    group.settings.annotations.get(BATCH_SIZE)?.parse().ok()
}

/// A group as the consumer of its queue.
pub fn consumer_view(topic: &Topic, group: Group) -> ConsumerView {
    let batch_size = batch_size(&group).unwrap_or(BATCH_DEFAULT);
    let settings = group.settings;
    ConsumerView {
        consumer_id: group.id.to_hex(),
        kind: "http_pull",
        created_on: rfc3339(group.created_at),
        queue_name: topic.name.to_string(),
        queue_id: topic.id.to_hex(),
        dead_letter_queue: settings.dead_letter.map(|name| name.to_string()).unwrap_or_default(),
        settings: ConsumerSettingsView {
            batch_size,
            max_retries: settings.attempts_max.map(|attempts| attempts.saturating_sub(1)),
            retry_delay: settings.retry.after(Attempt::new(1)).as_secs(),
            visibility_timeout_ms: u64::try_from(settings.lease.as_millis()).unwrap_or(u64::MAX),
        },
    }
}

fn within(name: &str, value: Option<Whole>, default: u64, min: u64, max: u64) -> Result<u64, Fault> {
    let value = value.map_or(default, |Whole(value)| value);
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(Fault::bad(100_127, format!("invalid consumer settings: {name} must be {min} to {max}")))
}

/// All settings of a consumer: what the request leaves out has its default.
fn read_settings(settings: &ConsumerSettingsIn, dead_letter: Option<TopicName>) -> Result<GroupSettings, Fault> {
    let batch_size = within("batch_size", settings.batch_size, BATCH_DEFAULT, 1, BATCH_MAX)?;
    let retries = within("max_retries", settings.max_retries, RETRIES_DEFAULT, 0, RETRIES_MAX)?;
    let retry_delay = within("retry_delay", settings.retry_delay, 0, 0, DELAY_SECS_MAX)?;
    let visibility = settings.visibility_timeout_ms;
    let visibility = within("visibility_timeout_ms", visibility, VISIBILITY_MS_DEFAULT, 1, VISIBILITY_MS_MAX)?;
    let mut annotations = Annotations::new();
    if settings.batch_size.is_some() {
        annotations.insert(BATCH_SIZE.to_owned(), batch_size.to_string());
    }
    Ok(GroupSettings {
        lease: Duration::from_millis(visibility),
        retry: RetryDelays::Fixed(Duration::from_secs(retry_delay)),
        // The first delivery is no retry.
        attempts_max: u32::try_from(retries + 1).ok(),
        dead_letter,
        annotations,
        ..GroupSettings::default()
    })
}

/// Refuses consumers of another kind, whatever else may be wrong.
fn check_kind(request: &ConsumerIn) -> Result<(), Fault> {
    match request.kind.as_deref() {
        Some("http_pull") => Ok(()),
        Some("worker") => Err(Fault::bad(11001, "queue handler is missing: this server runs no workers")),
        Some(_) => Err(Fault::bad(10026, "invalid request body: type must be http_pull")),
        None => Err(Fault::bad(10026, "invalid request body: type is missing")),
    }
}

/// Checks the settings and makes the dead-letter queue it names, if there is none yet.
async fn prepare(call: &Allowed, topic: &Topic, request: ConsumerIn) -> Result<GroupSettings, Fault> {
    let dead_letter = request.dead_letter_queue.as_deref().filter(|name| !name.is_empty());
    // One that is there already may have a name of the native API.
    let dead_letter = dead_letter.map(|name| TopicName::parse(name).or_else(|_| queue_name(name))).transpose()?;
    let settings = read_settings(&request.settings.unwrap_or_default(), dead_letter)?;
    if let Some(name) = &settings.dead_letter {
        authorise(&call.call.principal, Right::Do(Permission::Admin), Target::Topic(name))?;
        if *name == topic.name {
            return Err(Fault::bad(100_127, "invalid consumer settings: a queue cannot be its own dead_letter_queue"));
        }
        make_queue(call, name).await?;
    }
    Ok(settings)
}

async fn make_queue(call: &Allowed, name: &TopicName) -> Result<(), Fault> {
    let engine = &call.call.front.engine;
    let found = engine.topic(call.account(), crate::model::TopicRef::Name(name.clone())).await;
    match found {
        Ok(_) => return Ok(()),
        Err(LookupError::NoSuchTopic | LookupError::NoSuchGroup) => {}
        Err(error @ LookupError::Refused(_)) => return Err(Fault::lookup(error, Plane::Control)),
    }
    let name = queue_name(name.as_str())?;
    match engine.create_topic(CreateTopic { account: call.account(), name, settings: default_settings() }).await {
        // Somebody else was faster.
        Ok(_) | Err(CreateTopicError::Exists(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// `POST /queues/{queue}/consumers`
pub async fn create(mut call: Allowed) -> Result<Response, Fault> {
    let request: ConsumerIn = call.read().await?;
    check_kind(&request)?;
    let topic = call.topic().await?;
    if call.call.front.engine.group(call.account(), call.queue()?, consumer_ref()?).await.is_ok() {
        return Err(crate::engine::CreateGroupError::Exists(consumer_name()?).into());
    }
    let settings = prepare(&call, &topic, request).await?;
    make(&call, &topic, settings).await
}

fn consumer_name() -> Result<GroupName, Fault> {
    GroupName::parse(CONSUMER).map_err(|_| Fault::internal("the consumer's name"))
}

async fn make(call: &Allowed, topic: &Topic, settings: GroupSettings) -> Result<Response, Fault> {
    let request = CreateGroup {
        account: call.account(),
        topic: call.queue()?,
        name: consumer_name()?,
        settings,
        // What was pushed before there was a consumer is its backlog.
        position: Position::Now(Start::Head),
    };
    let group = call.call.front.engine.create_group(request).await?;
    Ok(success(consumer_view(topic, group)))
}

/// The consumer of the queue, whatever the path names.
async fn consumer(call: &Allowed) -> Result<Option<Group>, Fault> {
    match call.call.front.engine.group(call.account(), call.queue()?, consumer_ref()?).await {
        Ok(group) => Ok(Some(group)),
        Err(LookupError::NoSuchGroup) => Ok(None),
        Err(error @ (LookupError::NoSuchTopic | LookupError::Refused(_))) => Err(Fault::lookup(error, Plane::Control)),
    }
}

/// The id of a consumer in the path.
fn consumer_id(call: &Allowed) -> Result<GroupId, Fault> {
    let id = hex_id(call.call.param("consumer")).and_then(|text| GroupId::parse(text).ok());
    id.ok_or_else(|| Fault::no_object("consumers"))
}

/// The consumer that the path names.
async fn named_consumer(call: &Allowed) -> Result<Group, Fault> {
    let id = consumer_id(call)?;
    let group = consumer(call).await?.filter(|group| group.id == id);
    group.ok_or_else(|| Fault::no_object("consumers"))
}

/// `GET /queues/{queue}/consumers`
pub async fn list(call: Allowed) -> Result<Response, Fault> {
    let topic = call.topic().await?;
    let page = Page::read(&call)?;
    let consumers = consumer(&call).await?.into_iter().map(|group| consumer_view(&topic, group)).collect();
    let (consumers, info) = page.cut(consumers);
    Ok(success_page(consumers, info))
}

/// `GET /queues/{queue}/consumers/{consumer}`
pub async fn get(call: Allowed) -> Result<Response, Fault> {
    let group = named_consumer(&call).await?;
    Ok(success(consumer_view(&call.topic().await?, group)))
}

/// `PUT /queues/{queue}/consumers/{consumer}`: replaces it; makes one where the queue has none.
pub async fn replace(mut call: Allowed) -> Result<Response, Fault> {
    let request: ConsumerIn = call.read().await?;
    check_kind(&request)?;
    let id = consumer_id(&call)?;
    let topic = call.topic().await?;
    let old = consumer(&call).await?;
    if old.as_ref().is_some_and(|group| group.id != id) {
        return Err(Fault::no_object("consumers"));
    }
    let settings = prepare(&call, &topic, request).await?;
    if old.is_none() {
        return make(&call, &topic, settings).await;
    }
    // What other dialects noted with the group is not Cloudflare's to replace.
    let mut annotate = Annotate::from([(BATCH_SIZE.to_owned(), None)]);
    annotate.extend(settings.annotations.into_iter().map(|(name, value)| (name, Some(value))));
    let patch = GroupPatch {
        lease: Some(settings.lease),
        retry: Some(settings.retry),
        attempts_max: Some(settings.attempts_max),
        dead_letter: Some(settings.dead_letter),
        annotate,
        ..GroupPatch::default()
    };
    let group = call.call.front.engine.update_group(call.account(), call.queue()?, consumer_ref()?, patch).await?;
    Ok(success(consumer_view(&topic, group)))
}

/// `DELETE /queues/{queue}/consumers/{consumer}`
pub async fn delete(call: Allowed) -> Result<Response, Fault> {
    let group = named_consumer(&call).await?;
    let group = crate::model::GroupRef::Id(group.id);
    let deleted = call.call.front.engine.delete_group(call.account(), call.queue()?, group).await;
    deleted.map_err(|error| Fault::lookup(error, Plane::Control))?;
    Ok(success(()))
}
