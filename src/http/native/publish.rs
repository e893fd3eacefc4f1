//! Publishing: one message as the raw body of a request, or a batch as JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::engine::Publish;
use crate::http::call::Call;
use crate::http::json;
use crate::http::native::query::{PROPERTY, Query, read_number};
use crate::http::native::wire::{Batch, BatchMessage, PublishedView, PublishedViews, bad_name};
use crate::http::native::{answer, topic_ref};
use crate::http::problem::Problem;
use crate::model::{Body, ContentType, IdempotencyKey, Key, NewMessage, Published, Tag};

/// Headers of a message start so.
const HEADER: &str = "windlass-";
const HEADER_PROPERTY: &str = "windlass-property-";
/// Names that a header or the query may give, in the query's spelling.
const FIELDS: [&str; 4] = ["key", "tag", "delay_ms", "idempotency_key"];

/// Where a message's labels stand in a request, each at most once.
#[derive(Default)]
struct Labels {
    fields: BTreeMap<&'static str, String>,
    properties: BTreeMap<String, String>,
}

impl Labels {
    /// Reads headers (`windlass-key`, `windlass-tag`, `windlass-delay-ms`, `windlass-property-*`,
    /// `idempotency-key`) and query (`key`, `tag`, `delay_ms`, `property.*`, `idempotency_key`).
    fn read(call: &Call) -> Result<Self, Problem> {
        let mut labels = Self::default();
        for (name, value) in &call.parts.headers {
            let name = name.as_str();
            if !name.starts_with(HEADER) && name != "idempotency-key" {
                continue;
            }
            let value = std::str::from_utf8(value.as_bytes()).map_err(|_| invalid(name, "must be UTF-8"))?;
            match name.strip_prefix(HEADER_PROPERTY) {
                Some(property) => labels.property(property, value)?,
                None => labels.field(&name.strip_prefix(HEADER).unwrap_or(name).replace('-', "_"), name, value)?,
            }
        }
        let [key, tag, delay_ms, idempotency_key] = FIELDS;
        let query = Query::read(call, &[key, tag, delay_ms, idempotency_key, PROPERTY])?;
        for field in FIELDS {
            query.get(field).map(|value| labels.field(field, field, value)).transpose()?;
        }
        query.properties().try_for_each(|(name, value)| labels.property(name, value))?;
        Ok(labels)
    }

    fn field(&mut self, field: &str, shown: &str, value: &str) -> Result<(), Problem> {
        let field = FIELDS.into_iter().find(|known| *known == field).ok_or_else(|| invalid(shown, "is not known"))?;
        match self.fields.insert(field, value.to_owned()) {
            None => Ok(()),
            Some(_) => Err(invalid(shown, "is given twice")),
        }
    }

    fn property(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        if name.is_empty() {
            return Err(invalid(PROPERTY, "needs a name"));
        }
        match self.properties.insert(name.to_owned(), value.to_owned()) {
            None => Ok(()),
            Some(_) => Err(invalid(name, "is given twice")),
        }
    }
}

fn invalid(name: &str, what: &str) -> Problem {
    let name: String = name.chars().take(100).collect();
    Problem::new(StatusCode::BAD_REQUEST, "invalid_parameter", format!("`{name}` {what}")).at(name)
}

/// `POST /topics/{topic}/messages`
pub async fn publish(mut call: Call) -> Result<Response, Problem> {
    let mut message = NewMessage::default();
    if let Some(value) = call.parts.headers.get(header::CONTENT_TYPE) {
        let text = value.to_str().map_err(|_| invalid("content-type", "must be printable ASCII"))?;
        message.content_type = Some(ContentType::parse(text).map_err(bad_name("content-type"))?);
    }
    let labels = Labels::read(&call)?;
    let field = |name: &str| labels.fields.get(name).map(String::as_str);
    message.key = field("key").map(Key::parse).transpose().map_err(bad_name("key"))?;
    message.tag = field("tag").map(Tag::parse).transpose().map_err(bad_name("tag"))?;
    message.idempotency_key =
        field("idempotency_key").map(IdempotencyKey::parse).transpose().map_err(bad_name("idempotency_key"))?;
    let delay = field("delay_ms").map(|text| read_number("delay_ms", text)).transpose()?;
    message.delay = delay.map(Duration::from_millis);
    message.properties = labels.properties;
    let max = call.front.config.limits.body_bytes_max.min(call.front.config.http.request_bytes_max);
    message.body = call.body_within(max).await?;

    let published = send(&call, vec![message]).await?;
    let first = published.into_iter().next();
    let first = first.ok_or_else(|| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the message was published without an answer")
    })?;
    Ok(answer(status(&[first]), &PublishedView::from(first)))
}

/// `POST /topics/{topic}/messages/batch`
pub async fn publish_batch(mut call: Call) -> Result<Response, Problem> {
    let body = call.body().await?;
    let batch: Batch<'_> = json::read(&body)?;
    let messages = batch.messages.0.into_iter().enumerate().map(|(place, message)| read_message(&body, place, message));
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    let published = send(&call, messages).await?;
    let status = status(&published);
    Ok(answer(status, &PublishedViews { messages: published.into_iter().map(PublishedView::from).collect() }))
}

/// Reads a message of the batch that is in `request`.
fn read_message(request: &Body, place: usize, message: BatchMessage<'_>) -> Result<NewMessage, Problem> {
    let at = |field: &str| format!("/messages/{place}/{field}");
    let named = |field: &'static str| move |error| bad_name(&at(field))(error);
    let wrong = |field, detail: &str| Problem::new(StatusCode::BAD_REQUEST, "invalid_request", detail).at(at(field));
    let body = match (message.body, message.body_base64) {
        (Some(Cow::Borrowed(text)), None) => request.slice_ref(text.as_bytes()),
        (Some(Cow::Owned(text)), None) => Body::from(text),
        (None, Some(text)) => {
            let bytes = STANDARD.decode(text.as_bytes());
            Body::from(bytes.map_err(|_| wrong("body_base64", "not base64 (standard alphabet, padded)"))?)
        }
        (Some(_), Some(_)) => return Err(wrong("body", "give `body` or `body_base64`, not both")),
        (None, None) => return Err(wrong("body", "give `body` or `body_base64`")),
    };
    Ok(NewMessage {
        body,
        content_type: message
            .content_type
            .map(|text| ContentType::parse(&text))
            .transpose()
            .map_err(named("content_type"))?,
        key: message.key.map(|text| Key::parse(&text)).transpose().map_err(named("key"))?,
        tag: message.tag.map(|text| Tag::parse(&text)).transpose().map_err(named("tag"))?,
        properties: message.properties,
        delay: message.delay_ms.map(Duration::from_millis),
        idempotency_key: message
            .idempotency_key
            .map(|text| IdempotencyKey::parse(&text))
            .transpose()
            .map_err(named("idempotency_key"))?,
    })
}

async fn send(call: &Call, messages: Vec<NewMessage>) -> Result<Vec<Published>, Problem> {
    let request = Publish { account: call.principal.account.clone(), topic: topic_ref(call)?, messages };
    Ok(call.front.engine.publish(request).await?)
}

/// 201 if anything new was published, 200 if all of it was there already.
fn status(published: &[Published]) -> StatusCode {
    if published.iter().all(|one| one.repeated) { StatusCode::OK } else { StatusCode::CREATED }
}
