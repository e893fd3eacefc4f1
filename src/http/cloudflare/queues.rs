//! Queues: topics with Cloudflare's names, defaults and bounds.

use std::time::Duration;

use axum::response::Response;

use crate::access::{Right, Target, authorise};
use crate::engine::{Counts, CreateTopic, LookupError};
use crate::http::cloudflare::consumers::consumer_view;
use crate::http::cloudflare::fault::{Fault, Plane};
use crate::http::cloudflare::page::Page;
use crate::http::cloudflare::wire::{
    MetricsView, QueueIn, QueueSettingsIn, QueueSettingsView, QueueView, success, success_page,
};
use crate::http::cloudflare::{Allowed, consumer_ref};
use crate::http::time::rfc3339;
use crate::http::whole::Whole;
use crate::model::{Flow, Permission, Retention, Settled, Topic, TopicName, TopicPatch, TopicRef, TopicSettings};

const NAME_BYTES_MAX: usize = 63;
const DELAY_SECS_MAX: u64 = 86_400;
const RETENTION_SECS_MIN: u64 = 60;
const RETENTION_SECS_MAX: u64 = 14 * 86_400;
const RETENTION_DEFAULT: Duration = Duration::from_secs(4 * 86_400);
const JURISDICTION: &str = "cloudflare.jurisdiction";
const JURISDICTIONS: [&str; 3] = ["eu", "us", "fedramp"];

/// Reads a queue's name by Cloudflare's rule, which is stricter than a topic's.
pub fn queue_name(text: &str) -> Result<TopicName, Fault> {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let fits = bytes.len() <= NAME_BYTES_MAX
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        && edge(bytes.first())
        && edge(bytes.last());
    let refused = || {
        let rule = "1 to 63 letters, digits and dashes, with a letter or digit at both ends";
        Fault::bad(11003, format!("invalid queue name: it must be {rule}"))
    };
    if !fits {
        return Err(refused());
    }
    TopicName::parse(text).map_err(|_| refused())
}

/// Settings of a topic that this dialect makes and that names none.
pub fn default_settings() -> TopicSettings {
    TopicSettings {
        retention: Retention { settled: Settled::Drop, age: Some(RETENTION_DEFAULT), bytes: None },
        ..TopicSettings::default()
    }
}

fn invalid_settings(rule: &str) -> Fault {
    Fault::bad(100_128, format!("invalid queue settings: {rule}"))
}

/// What a request asks to change, on top of `old`.
fn read_patch(request: QueueIn, old: &TopicSettings) -> Result<TopicPatch, Fault> {
    let settings = request.settings.unwrap_or_default();
    let mut patch = TopicPatch::default();
    if let Some(Whole(delay)) = settings.delivery_delay {
        if delay > DELAY_SECS_MAX {
            return Err(invalid_settings("delivery_delay must be 0 to 86400 seconds"));
        }
        patch.delay = Some(Duration::from_secs(delay));
    }
    if let Some(Whole(age)) = settings.message_retention_period {
        if !(RETENTION_SECS_MIN..=RETENTION_SECS_MAX).contains(&age) {
            return Err(invalid_settings("message_retention_period must be 60 to 1209600 seconds"));
        }
        patch.retention = Some(Retention { age: Some(Duration::from_secs(age)), ..old.retention });
    }
    patch.flow = settings.delivery_paused.map(|paused| if paused { Flow::Paused } else { Flow::Running });
    if let Some(jurisdiction) = request.jurisdiction {
        if !JURISDICTIONS.contains(&jurisdiction.as_str()) {
            return Err(invalid_settings("jurisdiction must be eu, us or fedramp"));
        }
        patch.annotate.insert(JURISDICTION.to_owned(), Some(jurisdiction));
    }
    Ok(patch)
}

/// `POST /queues`
pub async fn create(mut call: Allowed) -> Result<Response, Fault> {
    let request: QueueIn = call.read().await?;
    let name = queue_name(request.queue_name.as_deref().unwrap_or_default())?;
    authorise(&call.call.principal, Right::Do(Permission::Admin), Target::Topic(&name))?;
    let settings = default_settings();
    let settings = read_patch(request, &settings)?.applied_to(&settings);
    let request = CreateTopic { account: call.account(), name, settings };
    let topic = call.call.front.engine.create_topic(request).await?;
    Ok(success(queue_view(&call, topic).await?))
}

/// `GET /queues`: names are compared whole, for wrangler takes the first of what it is given.
pub async fn list(call: Allowed) -> Result<Response, Fault> {
    let names = call.parameters("name");
    let page = Page::read(&call)?;
    let topics =
        call.call.front.engine.topics(call.account()).await.map_err(|error| Fault::lookup(error, call.plane))?;
    let wanted = |topic: &Topic| {
        (names.is_empty() || names.iter().any(|name| name == topic.name.as_str()))
            && authorise(&call.call.principal, Right::See, Target::Topic(&topic.name)).is_ok()
    };
    let (topics, info) = page.cut(topics.into_iter().filter(wanted).collect());
    let mut views = Vec::with_capacity(topics.len());
    for topic in topics {
        views.push(queue_view(&call, topic).await?);
    }
    Ok(success_page(views, info))
}

/// `GET /queues/{queue}`
pub async fn get(call: Allowed) -> Result<Response, Fault> {
    let topic = call.topic().await?;
    Ok(success(queue_view(&call, topic).await?))
}

/// `PUT /queues/{queue}`: what the request leaves out goes back to its default.
pub async fn replace(mut call: Allowed) -> Result<Response, Fault> {
    let mut request: QueueIn = call.read().await?;
    let settings = request.settings.unwrap_or_default();
    request.settings = Some(QueueSettingsIn {
        delivery_delay: settings.delivery_delay.or(Some(Whole(0))),
        delivery_paused: settings.delivery_paused.or(Some(false)),
        message_retention_period: settings.message_retention_period.or(Some(Whole(RETENTION_DEFAULT.as_secs()))),
    });
    change(&call, request).await
}

/// `PATCH /queues/{queue}`: what the request leaves out stays.
pub async fn edit(mut call: Allowed) -> Result<Response, Fault> {
    let request = call.read().await?;
    change(&call, request).await
}

async fn change(call: &Allowed, request: QueueIn) -> Result<Response, Fault> {
    let topic = call.topic().await?;
    // The name comes along with every change of wrangler's; a topic's own name needs not fit Cloudflare's rule.
    let renamed = request.queue_name.as_deref().filter(|name| *name != topic.name.as_str());
    let renamed = renamed.map(queue_name).transpose()?;
    if let Some(name) = &renamed {
        authorise(&call.call.principal, Right::Do(Permission::Admin), Target::Topic(name))?;
    }
    let patch = TopicPatch { name: renamed, ..read_patch(request, &topic.settings)? };
    let topic = call.call.front.engine.update_topic(call.account(), call.queue()?, patch).await?;
    Ok(success(queue_view(call, topic).await?))
}

/// `DELETE /queues/{queue}`
pub async fn delete(call: Allowed) -> Result<Response, Fault> {
    let deleted = call.call.front.engine.delete_topic(call.account(), call.queue()?).await;
    deleted.map_err(|error| Fault::lookup(error, Plane::Control))?;
    Ok(success(()))
}

/// `GET /queues/{queue}/metrics`
pub async fn metrics(call: Allowed) -> Result<Response, Fault> {
    Ok(success(MetricsView::from(backlog(&call).await?)))
}

/// What is not acked: as the consumer sees it, or all that is kept while there is none.
pub async fn backlog(call: &Allowed) -> Result<Counts, Fault> {
    let engine = &call.call.front.engine;
    let counts = match engine.counts(call.account(), call.queue()?, Some(consumer_ref()?)).await {
        Err(LookupError::NoSuchGroup) => engine.counts(call.account(), call.queue()?, None).await,
        counts => counts,
    };
    counts.map_err(|error| Fault::lookup(error, call.plane))
}

/// A topic as a queue, with its consumer.
pub async fn queue_view(call: &Allowed, topic: Topic) -> Result<QueueView, Fault> {
    let group = call.call.front.engine.group(call.account(), TopicRef::Id(topic.id), consumer_ref()?).await;
    let consumers = match group {
        Ok(group) => vec![consumer_view(&topic, group)],
        Err(LookupError::NoSuchGroup | LookupError::NoSuchTopic) => Vec::new(),
        Err(error @ LookupError::Refused(_)) => return Err(Fault::lookup(error, Plane::Control)),
    };
    let settings = topic.settings;
    Ok(QueueView {
        queue_id: topic.id.to_hex(),
        queue_name: topic.name.to_string(),
        created_on: rfc3339(topic.created_at),
        modified_on: rfc3339(topic.modified_at),
        producers: [],
        producers_total_count: 0,
        consumers_total_count: consumers.len(),
        consumers,
        settings: QueueSettingsView {
            delivery_delay: settings.delay.as_secs(),
            delivery_paused: settings.flow == Flow::Paused,
            // A topic of the native API may keep its messages for ever: the longest that can be said here.
            message_retention_period: settings.retention.age.map_or(RETENTION_SECS_MAX, |age| age.as_secs()),
        },
        jurisdiction: settings.annotations.get(JURISDICTION).cloned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_names_follow_cloudflares_rule() {
        let longest = "a".repeat(63);
        for good in ["a", "A-1", "my-queue", longest.as_str()] {
            assert!(queue_name(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in ["", "-a", "a-", "a_b", "a.b", "a b", "ä", too_long.as_str()] {
            assert!(queue_name(bad).is_err(), "{bad}");
        }
    }
}
