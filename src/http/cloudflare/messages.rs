//! Messages: pushed as text or JSON, pulled under a lease, acked or retried.

use std::collections::HashSet;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;

use crate::config::JsonBody;
use crate::engine::{HandleKind, Lateness, LeaseRef, Publish, Pull, Settle, SettleAction, SettleOutcome, Wait};
use crate::http::cloudflare::consumers::{BATCH_MAX, DELAY_SECS_MAX, VISIBILITY_MS_MAX, batch_size};
use crate::http::cloudflare::content::{Content, JSON, TEXT, compact, content};
use crate::http::cloudflare::fault::{Fault, Plane};
use crate::http::cloudflare::queues::backlog;
use crate::http::cloudflare::wire::{
    BatchIn, MessageIn, MessageView, PullIn, PullView, PushView, SettleIn, SettleView, success,
};
use crate::http::cloudflare::{Allowed, consumer_ref};
use crate::http::json::{self, JsonError};
use crate::http::whole::Whole;
use crate::model::{ContentType, Delivery, NewMessage};

/// Bytes of one body: 128 KB in Cloudflare's counting.
const BODY_BYTES_MAX: usize = 128_000;
/// Bytes of all bodies of a batch.
const BATCH_BYTES_MAX: usize = 256_000;
/// Bytes of a push as JSON, which may write every byte of a batch in six.
const REQUEST_BYTES_MAX: usize = 2 << 20;
const _: () = assert!(REQUEST_BYTES_MAX > 6 * BATCH_BYTES_MAX);
/// Messages of a pull that names no size, of a consumer that has none; and of a peek.
pub const PULL_DEFAULT: u64 = 5;
/// Code of a batch of too few or too many messages.
const BATCH_COUNT_INVALID: u32 = 10206;
/// Code of a batch whose delay is wrong.
const BATCH_DELAY_INVALID: u32 = 10202;
/// Code of a message whose delay or content type is wrong.
const METADATA_INVALID: u32 = 10203;

/// `POST /queues/{queue}/messages`
pub async fn push(mut call: Allowed) -> Result<Response, Fault> {
    let body = call.call.body_within(REQUEST_BYTES_MAX.min(call.call.front.config.http.request_bytes_max)).await?;
    let message: MessageIn<'_> = json::read(&body).map_err(|error| shape_fault(&error))?;
    let message = read_message(&message, None)?;
    send(&call, vec![message]).await
}

/// `POST /queues/{queue}/messages/batch`
pub async fn push_batch(mut call: Allowed) -> Result<Response, Fault> {
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

async fn send(call: &Allowed, messages: Vec<NewMessage>) -> Result<Response, Fault> {
    let request = Publish { account: call.account(), topic: call.queue()?, messages };
    call.call.front.engine.publish(request).await?;
    Ok(success(PushView::from(backlog(call).await?)))
}

/// `POST /queues/{queue}/messages/pull`
pub async fn pull(mut call: Allowed) -> Result<Response, Fault> {
    let request: PullIn = call.read().await?;
    let size = match request.batch_size {
        Some(Whole(size)) => size,
        None => default_size(&call).await?,
    };
    let batch_max = read_size(size)?;
    let lease = request.visibility_timeout_ms.or(request.visibility_timeout);
    if lease.is_some_and(|Whole(millis)| millis == 0 || millis > VISIBILITY_MS_MAX) {
        return Err(Fault::bad(10207, format!("visibility_timeout_ms must be 1 to {VISIBILITY_MS_MAX}")));
    }
    let request = Pull {
        account: call.account(),
        topic: call.queue()?,
        group: consumer_ref()?,
        batch_max,
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

/// A number of messages that one answer may have.
pub fn read_size(size: u64) -> Result<usize, Fault> {
    let refused = || Fault::bad(10207, format!("batch_size must be 1 to {BATCH_MAX}"));
    usize::try_from(size).ok().filter(|_| (1..=BATCH_MAX).contains(&size)).ok_or_else(refused)
}

async fn default_size(call: &Allowed) -> Result<u64, Fault> {
    let group = call.call.front.engine.group(call.account(), call.queue()?, consumer_ref()?).await;
    let group = group.map_err(|error| Fault::lookup(error, Plane::Data))?;
    Ok(batch_size(&group).unwrap_or(PULL_DEFAULT))
}

fn message_view(delivery: Delivery, json_body: JsonBody) -> MessageView {
    let Content { id, body, metadata, timestamp_ms } = content(delivery.message, json_body);
    MessageView { id, attempts: delivery.attempt.get(), body, lease_id: delivery.token, metadata, timestamp_ms }
}

/// `POST /queues/{queue}/messages/ack`: each lease once; one in both lists is acked.
pub async fn ack(mut call: Allowed) -> Result<Response, Fault> {
    let request: SettleIn = call.read().await?;
    let (acks, retries) = (request.acks.unwrap_or_default().0, request.retries.unwrap_or_default().0);
    let mut named: HashSet<String> = HashSet::with_capacity(acks.len() + retries.len());
    let mut items: Vec<(String, SettleAction)> = Vec::with_capacity(acks.len() + retries.len());
    for ack in acks {
        if named.insert(ack.lease_id.clone()) {
            items.push((ack.lease_id, SettleAction::Ack));
        }
    }
    for retry in retries {
        let delay = read_delay(retry.delay_seconds, 10207)?;
        if named.insert(retry.lease_id.clone()) {
            items.push((retry.lease_id, SettleAction::Nack { delay }));
        }
    }
    let settle = Settle {
        account: call.account(),
        topic: call.queue()?,
        group: Some(consumer_ref()?),
        items: items.iter().map(|(lease, action)| (LeaseRef::Token(lease.clone()), action.clone())).collect(),
        lateness: Lateness::AckAlways,
    };
    let outcomes = call.call.front.engine.settle(settle).await?;
    let mut view = SettleView::default();
    for ((lease, action), outcome) in items.into_iter().zip(outcomes) {
        let acked = action == SettleAction::Ack;
        let done = matches!(outcome, SettleOutcome::Settled { .. } | SettleOutcome::SettledLate);
        view.ack_count += u64::from(done && acked);
        view.retry_count += u64::from(done && !acked);
        // A late ack is as good as one in time.
        if !(done && acked)
            && let Some(warning) = warning(outcome)
        {
            view.warnings.insert(lease, warning);
        }
    }
    Ok(success(view))
}

/// What to tell of a lease that did not settle in time.
fn warning(outcome: SettleOutcome) -> Option<&'static str> {
    match outcome {
        SettleOutcome::Settled { .. } => None,
        SettleOutcome::SettledLate => Some("the lease had expired and nobody else had the message"),
        SettleOutcome::Lapsed => Some("the lease has expired"),
        SettleOutcome::TakenOver => Some("the lease has expired and the message was delivered again"),
        SettleOutcome::AlreadySettled => Some("the message is already acknowledged or deleted"),
        SettleOutcome::Unknown => Some("unknown lease"),
    }
}
