//! Topics: made with JCQ's names, kinds and retention.

use axum::http::header;
use axum::response::Response;

use crate::access::{Right, Target, authorise};
use crate::engine::{CreateTopic, LookupError};
use crate::http::jcq::fault::{Fault, Plane};
use crate::http::jcq::groups::{dead_letter_topic, retention};
use crate::http::jcq::manage::ManagementCall;
use crate::http::jcq::manage::wire::{
    AccessPointResult, AccessPointView, Nothing, TopicConfigView, TopicIn, TopicResult, TopicView, TopicsView,
};
use crate::http::jcq::messages::BODY_BYTES_MAX;
use crate::http::jcq::wire::success;
use crate::http::time::seconds;
use crate::model::{Annotations, Flow, Ordering, Permission, Permissions, Topic, TopicName, TopicRef, TopicSettings};

const NAME_BYTES: std::ops::RangeInclusive<usize> = 3..=64;
const DESCRIPTION_CHARS_MAX: usize = 255;
const DESCRIPTION: &str = "jcq.description";
const NORMAL: &str = "normal";
const GLOBAL_ORDER: &str = "global_order";

/// Reads the name of a topic to make by JCQ's rule, which is stricter than a topic's.
fn new_topic_name(text: &str) -> Result<TopicName, Fault> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'+');
    let rule = || Fault::rule("topicName", "3 to 64 of A-Z a-z 0-9 - _ ~ +");
    if !NAME_BYTES.contains(&text.len()) || !text.bytes().all(allowed) {
        return Err(rule());
    }
    TopicName::parse(text).map_err(|_| rule())
}

/// `POST /topics`
pub async fn create(call: ManagementCall) -> Result<Response, Fault> {
    let request: TopicIn = call.read()?;
    let name = new_topic_name(request.topic_name.as_deref().ok_or_else(|| Fault::parameter("topicName"))?)?;
    authorise(&call.call.principal, Right::Do(Permission::Admin), Target::Topic(&name))?;
    let ordering = match request.kind.as_deref() {
        Some(NORMAL) => Ordering::None,
        Some(GLOBAL_ORDER) => Ordering::Strict,
        Some(_) | None => return Err(Fault::rule("type", "normal or global_order")),
    };
    let description = request.description.unwrap_or_default();
    if description.chars().count() > DESCRIPTION_CHARS_MAX {
        return Err(Fault::rule("description", "at most 255 characters"));
    }
    let mut annotations = Annotations::new();
    if !description.is_empty() {
        annotations.insert(DESCRIPTION.to_owned(), description);
    }
    let settings =
        TopicSettings { retention: retention(&call.call), ordering, annotations, ..TopicSettings::default() };
    let request = CreateTopic { account: call.account(), name, settings };
    call.call.front.engine.create_topic(request).await.map_err(Fault::create_topic)?;
    Ok(success(Nothing {}))
}

/// `GET /topics`
pub async fn list(call: ManagementCall) -> Result<Response, Fault> {
    let page = call.page()?;
    let wanted = call.parameter("topicFilter").unwrap_or_default().to_lowercase();
    // No topic has a label of JD Cloud's: whoever asks for one finds none.
    let has_labels = call.query.keys().any(|name| name.starts_with("tagFilters"));
    let mut topics = call.topics().await?;
    topics.retain(|topic| !has_labels && topic.name.as_str().to_lowercase().contains(&wanted));
    let total_count = topics.len();
    let mut views = Vec::new();
    for topic in page.of(topics) {
        views.push(topic_view(&call, topic).await?);
    }
    Ok(success(TopicsView { topics: views, total_count }))
}

/// `GET /topics/{topic}`
pub async fn get(call: ManagementCall) -> Result<Response, Fault> {
    let topic = call.topic().await?;
    Ok(success(TopicResult { topic: topic_view(&call, topic).await? }))
}

async fn topic_view(call: &ManagementCall, topic: Topic) -> Result<TopicView, Fault> {
    let subscription_count = call.groups(&topic).await?.len();
    let settings = topic.settings;
    Ok(TopicView {
        topic_id: topic.id.to_hex(),
        topic_name: topic.name.to_string(),
        description: settings.annotations.get(DESCRIPTION).cloned().unwrap_or_default(),
        create_time: seconds(topic.created_at),
        last_update_time: seconds(topic.modified_at),
        topic_status: if settings.flow == Flow::Paused { "PAUSED" } else { "NORMAL" },
        subscription_count,
        message_life_time_in_hours: settings.retention.age.map_or(0, |age| age.as_secs().div_ceil(3_600)),
        topic_config: TopicConfigView {
            max_message_size_kb: BODY_BYTES_MAX >> 10,
            threshold: 0,
            topic_permission: "PUBSUB",
            topic_type: if settings.ordering == Ordering::Strict { GLOBAL_ORDER } else { NORMAL },
        },
        own: true,
        authorized_permission: said(call.call.principal.permissions),
        tags: [],
    })
}

fn said(permissions: Permissions) -> &'static str {
    match permissions {
        Permissions { admin: true, .. } => "ADMIN",
        Permissions { publish: true, consume: true, .. } => "PUBSUB",
        Permissions { publish: true, .. } => "PUB",
        Permissions { consume: true, .. } => "SUB",
        Permissions { .. } => "READ_ONLY",
    }
}

/// `DELETE /topics/{topic}`: with its groups and their dead letters.
pub async fn delete(call: ManagementCall) -> Result<Response, Fault> {
    let topic = call.topic().await?;
    let groups = call.groups(&topic).await?;
    let engine = &call.call.front.engine;
    let deleted = engine.delete_topic(call.account(), TopicRef::Id(topic.id)).await;
    deleted.map_err(|error| Fault::lookup(error, Plane::Management))?;
    for group in groups {
        if let Some(name) = dead_letter_topic(&topic, &group.name) {
            delete_dead_letters(&call, name).await?;
        }
    }
    Ok(success(Nothing {}))
}

/// Deletes the topic of a group's dead letters, if there is one.
pub async fn delete_dead_letters(call: &ManagementCall, name: TopicName) -> Result<(), Fault> {
    match call.call.front.engine.delete_topic(call.account(), TopicRef::Name(name)).await {
        Ok(()) | Err(LookupError::NoSuchTopic | LookupError::NoSuchGroup) => Ok(()),
        Err(error @ LookupError::Refused(_)) => Err(Fault::lookup(error, Plane::Management)),
    }
}

/// `GET /topics/{topic}/accessPoints`: the address under which the server was asked.
pub async fn access_point(call: ManagementCall) -> Result<Response, Fault> {
    call.topic().await?;
    let host = call.call.parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let scheme = if call.call.front.config.tls.certificate.is_some() { "https" } else { "http" };
    let http_address = format!("{scheme}://{host}");
    Ok(success(AccessPointResult { access_point: AccessPointView { sdk_address: "", http_address } }))
}
