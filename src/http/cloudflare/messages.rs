//! Messages: pushed as text or JSON, pulled under a lease, acked or retried.
//!
//! Stored are the bytes: of the text, or of the JSON as it was sent without the blanks. The content
//! type says which, so that every other dialect can tell as well.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::config::JsonBody;
use crate::engine::{HandleKind, Lateness, LeaseRef, Publish, Pull, Settle, SettleAction, SettleOutcome, Wait};
use crate::http::cloudflare::consumers::{BATCH_MAX, DELAY_SECS_MAX, VISIBILITY_MS_MAX, batch_size};
use crate::http::cloudflare::fault::{Fault, Plane};
use crate::http::cloudflare::queues::backlog;
use crate::http::cloudflare::wire::{
    BatchIn, MessageIn, MessageView, PullIn, PullView, PushView, SettleIn, SettleView, success,
};
use crate::http::cloudflare::{QueueCall, consumer_ref};
use crate::http::json::{self, JsonError};
use crate::http::whole::Whole;
use crate::model::{Body, ContentType, Delivery, NewMessage};

/// Bytes of one body: 128 KB in Cloudflare's counting.
const BODY_BYTES_MAX: usize = 128_000;
/// Bytes of all bodies of a batch.
const BATCH_BYTES_MAX: usize = 256_000;
/// Bytes of a push as JSON, which may write every byte of a batch in six.
const REQUEST_BYTES_MAX: usize = 2 << 20;
const _: () = assert!(REQUEST_BYTES_MAX > 6 * BATCH_BYTES_MAX);
/// A pull that names no size, of a consumer that has none.
const PULL_DEFAULT: u64 = 5;
/// Code of a batch of too few or too many messages.
const BATCH_COUNT_INVALID: u32 = 10206;
/// Code of a batch whose delay is wrong.
const BATCH_DELAY_INVALID: u32 = 10202;
/// Code of a message whose delay or content type is wrong.
const METADATA_INVALID: u32 = 10203;
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// `POST /queues/{queue}/messages`
pub async fn push(mut call: QueueCall) -> Result<Response, Fault> {
    let body = call.call.body_within(REQUEST_BYTES_MAX.min(call.call.front.config.http.request_bytes_max)).await?;
    let message: MessageIn<'_> = json::read(&body).map_err(|error| shape_fault(&error))?;
    let message = read_message(&message, None)?;
    send(&call, vec![message]).await
}

/// `POST /queues/{queue}/messages/batch`
pub async fn push_batch(mut call: QueueCall) -> Result<Response, Fault> {
    let body = call.call.body_within(REQUEST_BYTES_MAX.min(call.call.front.config.http.request_bytes_max)).await?;
    let batch: BatchIn<'_> = json::read(&body).map_err(|error| batch_shape_fault(&error))?;
    let messages = batch.messages.0;
    let count = messages.len();
    if count == 0 || count as u64 > BATCH_MAX {
        return Err(Fault::bad(BATCH_COUNT_INVALID, format!("a batch has 1 to {BATCH_MAX} messages, not {count}")));
    }
    let delay = read_delay(batch.delay_seconds, BATCH_DELAY_INVALID)?;
    let messages = messages.iter().map(|message| read_message(message, delay));
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    let bytes: usize = messages.iter().map(|message| message.body.len()).sum();
    if bytes > BATCH_BYTES_MAX {
        return Err(Fault::bad(10205, format!("the batch has {bytes} bytes, the limit is {BATCH_BYTES_MAX}")));
    }
    send(&call, messages).await
}

/// JSON of the wrong shape; where a delay or content type is wrong, that has a code of its own.
fn shape_fault(error: &JsonError) -> Fault {
    match error {
        JsonError::Shape { pointer, .. } if is_metadata(pointer) => Fault::bad(METADATA_INVALID, error.to_string()),
        JsonError::Shape { .. } | JsonError::TooMany { .. } | JsonError::Syntax { .. } => {
            Fault::json(error, Plane::Data)
        }
    }
}

/// The same, of a batch, which has a delay itself.
fn batch_shape_fault(error: &JsonError) -> Fault {
    match error {
        JsonError::Shape { pointer, .. } if pointer == "/delay_seconds" => {
            Fault::bad(BATCH_DELAY_INVALID, error.to_string())
        }
        JsonError::TooMany { .. } => Fault::bad(BATCH_COUNT_INVALID, error.to_string()),
        JsonError::Shape { .. } | JsonError::Syntax { .. } => shape_fault(error),
    }
}

fn is_metadata(pointer: &str) -> bool {
    pointer.ends_with("/delay_seconds") || pointer.ends_with("/content_type")
}

fn read_delay(delay: Option<Whole>, code: u32) -> Result<Option<Duration>, Fault> {
    match delay {
        Some(Whole(seconds)) if seconds > DELAY_SECS_MAX => {
            Err(Fault::bad(code, format!("delay_seconds must be 0 to {DELAY_SECS_MAX}")))
        }
        delay => Ok(delay.map(|Whole(seconds)| Duration::from_secs(seconds))),
    }
}

fn read_message(message: &MessageIn<'_>, batch_delay: Option<Duration>) -> Result<NewMessage, Fault> {
    let raw = message.body.ok_or_else(|| Fault::bad(10207, "body is missing"))?;
    let (body, content_type) = match message.content_type.as_deref() {
        Some("text") => {
            let text: String = serde_json::from_str(raw.get())
                .map_err(|_| Fault::bad(10207, "the body of a text message is a string"))?;
            (Bytes::from(text), TEXT)
        }
        None | Some("json") => (Bytes::from(compact(raw.get())), JSON),
        Some(_) => return Err(Fault::bad(METADATA_INVALID, "content_type must be text or json")),
    };
    if body.len() > BODY_BYTES_MAX {
        return Err(Fault::bad(10204, format!("a message has {} bytes, the limit is {BODY_BYTES_MAX}", body.len())));
    }
    let delay = read_delay(message.delay_seconds, METADATA_INVALID)?.or(batch_delay);
    let content_type = ContentType::parse(content_type).ok();
    Ok(NewMessage { body, content_type, delay, ..NewMessage::default() })
}

/// JSON text without the blanks between its tokens. Numbers, escapes and the order of keys stay as sent.
fn compact(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        if !in_string && matches!(c, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        in_string ^= c == '"' && !escaped;
        escaped = in_string && c == '\\' && !escaped;
        text.push(c);
    }
    text
}

async fn send(call: &QueueCall, messages: Vec<NewMessage>) -> Result<Response, Fault> {
    let request = Publish { account: call.account(), topic: call.queue()?, messages };
    call.call.front.engine.publish(request).await?;
    Ok(success(PushView::from(backlog(call).await?)))
}

/// `POST /queues/{queue}/messages/pull`
pub async fn pull(mut call: QueueCall) -> Result<Response, Fault> {
    let request: PullIn = call.read().await?;
    let size = match request.batch_size {
        Some(Whole(size)) => size,
        None => default_size(&call).await?,
    };
    if !(1..=BATCH_MAX).contains(&size) {
        return Err(Fault::bad(10207, format!("batch_size must be 1 to {BATCH_MAX}")));
    }
    let lease = request.visibility_timeout_ms.or(request.visibility_timeout);
    if lease.is_some_and(|Whole(millis)| millis == 0 || millis > VISIBILITY_MS_MAX) {
        return Err(Fault::bad(10207, format!("visibility_timeout_ms must be 1 to {VISIBILITY_MS_MAX}")));
    }
    let request = Pull {
        account: call.account(),
        topic: call.queue()?,
        group: consumer_ref()?,
        batch_max: usize::try_from(size).unwrap_or(usize::MAX),
        lease: lease.map(|Whole(millis)| Duration::from_millis(millis)),
        wait: Wait::None,
        auto_ack: false,
        handles: HandleKind::None,
        filter: None,
        start: None,
    };
    let pulled = call.call.front.engine.pull(request).await?;
    let json_body = call.call.front.config.cloudflare.json_body;
    let messages = pulled.deliveries.into_iter().map(|delivery| message_view(delivery, json_body)).collect();
    Ok(success(PullView::new(messages, pulled.counts)))
}

async fn default_size(call: &QueueCall) -> Result<u64, Fault> {
    let group = call.call.front.engine.group(call.account(), call.queue()?, consumer_ref()?).await;
    let group = group.map_err(|error| Fault::lookup(error, Plane::Data))?;
    Ok(batch_size(&group).unwrap_or(PULL_DEFAULT))
}

fn message_view(delivery: Delivery, json_body: JsonBody) -> MessageView {
    let Delivery { message, attempt, token, .. } = delivery;
    let head = message.head;
    let (kind, body) = render(&message.body, head.content_type.as_ref(), json_body);
    // What producers of other dialects said about the message; Cloudflare's own words win.
    let mut metadata: BTreeMap<String, String> = head.properties;
    metadata.insert("CF-Content-Type".to_owned(), kind.to_owned());
    metadata.insert("CF-sourceMessageSource".to_owned(), "api".to_owned());
    let delay = head.ready_at.since(head.published_at).as_secs();
    if delay > 0 {
        metadata.insert("CF-msg-delay-secs".to_owned(), delay.to_string());
    }
    MessageView {
        id: head.id.to_hex(),
        attempts: attempt.get(),
        body,
        lease_id: token,
        metadata,
        timestamp_ms: head.published_at.get(),
    }
}

/// The content type in Cloudflare's words, and the body as it goes with that.
fn render(body: &Body, content_type: Option<&ContentType>, json_body: JsonBody) -> (&'static str, String) {
    let media =
        content_type.map(|name| name.as_str().split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let text = std::str::from_utf8(body).ok();
    match (media.as_deref(), text) {
        (Some("text/plain"), Some(text)) => ("text", text.to_owned()),
        (Some(JSON), Some(text)) if json_body == JsonBody::Plain => ("json", text.to_owned()),
        (Some(JSON), _) => ("json", STANDARD.encode(body)),
        _ => ("bytes", STANDARD.encode(body)),
    }
}

/// `POST /queues/{queue}/messages/ack`
pub async fn ack(mut call: QueueCall) -> Result<Response, Fault> {
    let request: SettleIn = call.read().await?;
    let (acks, retries) = (request.acks.unwrap_or_default().0, request.retries.unwrap_or_default().0);
    let acked: HashSet<String> = acks.iter().map(|ack| ack.lease_id.clone()).collect();
    let mut items: Vec<(String, SettleAction)> = Vec::with_capacity(acks.len() + retries.len());
    items.extend(acks.into_iter().map(|ack| (ack.lease_id, SettleAction::Ack)));
    let ack_items = items.len();
    for retry in retries {
        let delay = read_delay(retry.delay_seconds, 10207)?;
        // A lease in both lists is acked.
        if !acked.contains(&retry.lease_id) {
            items.push((retry.lease_id, SettleAction::Nack { delay }));
        }
    }
    let leases: Vec<String> = items.iter().map(|(lease, _)| lease.clone()).collect();
    let settle = Settle {
        account: call.account(),
        topic: call.queue()?,
        group: Some(consumer_ref()?),
        items: items.into_iter().map(|(lease, action)| (LeaseRef::Token(lease), action)).collect(),
        lateness: Lateness::AckAlways,
    };
    let outcomes = call.call.front.engine.settle(settle).await?;
    let mut view = SettleView::default();
    for (place, (lease, outcome)) in leases.into_iter().zip(outcomes).enumerate() {
        match warning(outcome) {
            Some(warning) => {
                view.warnings.insert(lease, warning);
            }
            None if place < ack_items => view.ack_count += 1,
            None => view.retry_count += 1,
        }
    }
    Ok(success(view))
}

/// What to tell of a lease that did not settle.
fn warning(outcome: SettleOutcome) -> Option<&'static str> {
    match outcome {
        SettleOutcome::Settled { .. } | SettleOutcome::SettledLate => None,
        SettleOutcome::Lapsed => Some("the lease has expired"),
        SettleOutcome::TakenOver => Some("the lease has expired and the message was delivered again"),
        SettleOutcome::AlreadySettled => Some("the message is already acknowledged or deleted"),
        SettleOutcome::Unknown => Some("unknown lease"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_compacted_without_touching_strings_numbers_or_order() {
        let json = "{ \"b\" : [ 1.0 , 12345678901234567890123 ] ,\n \"a\\\" \\\\\" : \" x\\u00e9 \" }";
        assert_eq!(compact(json), "{\"b\":[1.0,12345678901234567890123],\"a\\\" \\\\\":\" x\\u00e9 \"}");
    }

    #[test]
    fn bodies_are_rendered_by_their_content_type() {
        let render = |body: &'static [u8], kind: Option<&str>, json_body| {
            let kind = kind.map(|text| ContentType::parse(text).expect("a content type"));
            render(&Bytes::from_static(body), kind.as_ref(), json_body)
        };
        assert_eq!(render(b"hi", Some(TEXT), JsonBody::Base64), ("text", "hi".to_owned()));
        assert_eq!(render(b"{}", Some(JSON), JsonBody::Base64), ("json", "e30=".to_owned()));
        assert_eq!(render(b"{}", Some(JSON), JsonBody::Plain), ("json", "{}".to_owned()));
        assert_eq!(render(b"\xff", Some("text/plain"), JsonBody::Base64), ("bytes", "/w==".to_owned()));
        assert_eq!(render(b"hi", None, JsonBody::Base64), ("bytes", "aGk=".to_owned()));
    }
}
