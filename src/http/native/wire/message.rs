//! Messages, pulls and settles on the wire.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::engine::{Counts, MessageState, Peeked, Pulled, SettleOutcome};
use crate::http::bounded::Bounded;
use crate::http::json;
use crate::http::native::wire::{StartWire, millis};
use crate::model::bounds::{PUBLISH_BATCH_MAX, SETTLE_BATCH_MAX};
use crate::model::{Body, Delivery, MessageHead, Millis, Published};

/// One message of a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchMessage<'a> {
    /// The body as text. Give this or `body_base64`.
    #[serde(borrow)]
    #[schema(value_type = Option<String>)]
    pub body: Option<Cow<'a, str>>,
    /// The body in base64 (standard alphabet, padded).
    #[serde(borrow)]
    #[schema(value_type = Option<String>)]
    pub body_base64: Option<Cow<'a, str>>,
    pub content_type: Option<String>,
    pub key: Option<String>,
    pub tag: Option<String>,
    /// Missing: the topic's default. 0: none.
    pub delay_ms: Option<u64>,
    pub idempotency_key: Option<String>,
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// Messages to publish: all of them or none.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch<'a> {
    /// 1 to 10000.
    #[serde(borrow)]
    #[schema(value_type = Vec<BatchMessage>)]
    pub messages: Bounded<BatchMessage<'a>, PUBLISH_BATCH_MAX>,
}

/// Where a message was put.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublishedView {
    pub id: String,
    pub offset: u64,
    /// The idempotency key was known: this is the first message, nothing new was published.
    pub repeated: bool,
}

impl From<Published> for PublishedView {
    fn from(published: Published) -> Self {
        let Published { id, offset, repeated } = published;
        Self { id: id.to_string(), offset: offset.get(), repeated }
    }
}

/// Where messages were put, in request order.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublishedViews {
    pub messages: Vec<PublishedView>,
}

/// How bodies are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Always as `body_base64`.
    #[default]
    Base64,
    /// As `body` where the content type is text or JSON and the bytes are UTF-8; else as `body_base64`.
    Text,
}

/// What ends a wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// Any message.
    #[default]
    Any,
    /// A full batch.
    Full,
}

/// Takes messages.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PullRequest {
    /// 1 to 1000. Default: 10.
    pub batch_max: Option<u64>,
    /// 1 ms to 12 hours. Default: the group's.
    pub lease_ms: Option<u64>,
    /// At most 300000. Default: 0, no wait.
    #[serde(default)]
    pub wait_ms: u64,
    #[serde(default)]
    pub wait_for: WaitFor,
    /// Ack at once, before the answer: at most once.
    #[serde(default)]
    pub auto_ack: bool,
    #[serde(default)]
    pub encoding: Encoding,
    /// In place of the group's filter, for this pull: what it does not want is passed over for good.
    pub filter_tags: Option<Vec<String>>,
    /// Where to begin if the group has no position yet.
    pub start: Option<StartWire>,
}

/// Where a dead letter was before it was moved.
#[derive(Debug, Serialize, ToSchema)]
struct OriginView {
    topic: String,
    group: String,
    offset: u64,
    attempts: u32,
    reason: String,
    moved_at_ms: u64,
}

/// A message without its body.
#[derive(Debug, Serialize, ToSchema)]
pub struct HeadView {
    id: String,
    offset: u64,
    content_type: Option<String>,
    key: Option<String>,
    tag: Option<String>,
    properties: BTreeMap<String, String>,
    published_at_ms: u64,
    ready_at_ms: u64,
    origin: Option<OriginView>,
}

impl From<MessageHead> for HeadView {
    fn from(head: MessageHead) -> Self {
        Self {
            id: head.id.to_string(),
            offset: head.offset.get(),
            content_type: head.content_type.map(|name| name.to_string()),
            key: head.key.map(|name| name.to_string()),
            tag: head.tag.map(|name| name.to_string()),
            properties: head.properties,
            published_at_ms: head.published_at.get(),
            ready_at_ms: head.ready_at.get(),
            origin: head.origin.map(|origin| OriginView {
                topic: origin.topic.to_string(),
                group: origin.group.to_string(),
                offset: origin.offset.get(),
                attempts: origin.attempts.get(),
                reason: origin.reason,
                moved_at_ms: origin.moved_at.get(),
            }),
        }
    }
}

/// A body: one of the two fields.
#[derive(Debug, Serialize, ToSchema)]
pub struct BodyView {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    body: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    body_base64: Option<Box<RawValue>>,
}

/// Renders a body as asked.
pub fn render_body(body: &Body, content_type: Option<&str>, encoding: Encoding) -> BodyView {
    let text = match encoding {
        Encoding::Text if content_type.is_some_and(is_text) => std::str::from_utf8(body).ok(),
        Encoding::Text | Encoding::Base64 => None,
    };
    match text {
        Some(text) => BodyView { body: Some(json::string(text)), body_base64: None },
        None => BodyView { body: None, body_base64: Some(json::base64(body)) },
    }
}

fn is_text(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media.starts_with("text/") || media == "application/json" || media.ends_with("+json")
}

/// A message handed out.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryView {
    #[serde(flatten)]
    head: HeadView,
    #[serde(flatten)]
    body: BodyView,
    /// Which delivery to this group this is; the first is 1.
    attempt: u32,
    /// Names the lease. Empty after `auto_ack`.
    token: String,
    /// How long the lease holds from now on.
    lease_ms: u64,
}

impl DeliveryView {
    fn new(delivery: Delivery, encoding: Encoding) -> Self {
        let message = delivery.message;
        let content_type = message.head.content_type.as_ref().map(AsRef::as_ref);
        Self {
            body: render_body(&message.body, content_type, encoding),
            head: message.head.into(),
            attempt: delivery.attempt.get(),
            token: delivery.token,
            lease_ms: millis(delivery.lease),
        }
    }
}

/// Messages by where they stand.
#[derive(Debug, Serialize, ToSchema)]
pub struct CountsView {
    /// Deliverable now. With a tag filter, an upper bound.
    ready: u64,
    /// Under a lease.
    in_flight: u64,
    /// Waiting for their time.
    delayed: u64,
    /// Bytes of the bodies of all of these.
    bytes: u64,
    /// Publish time of the oldest of these.
    oldest_ms: Option<u64>,
}

impl From<Counts> for CountsView {
    fn from(counts: Counts) -> Self {
        let Counts { ready, in_flight, delayed, bytes, oldest } = counts;
        Self { ready, in_flight, delayed, bytes, oldest_ms: oldest.map(Millis::get) }
    }
}

/// What a pull took.
#[derive(Debug, Serialize, ToSchema)]
pub struct PulledView {
    messages: Vec<DeliveryView>,
    /// Of the group, right after the take.
    counts: CountsView,
}

impl PulledView {
    /// Renders what a pull took.
    pub fn new(pulled: Pulled, encoding: Encoding) -> Self {
        let messages = pulled.deliveries.into_iter().map(|delivery| DeliveryView::new(delivery, encoding)).collect();
        Self { messages, counts: pulled.counts.into() }
    }
}

/// What a lease is worth after its deadline.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LatenessWire {
    /// Nothing.
    Refuse,
    /// It still settles, unless somebody else holds the message.
    #[default]
    IfFree,
    /// An ack still settles, even if somebody else holds the message.
    AckAlways,
}

impl From<LatenessWire> for crate::engine::Lateness {
    fn from(lateness: LatenessWire) -> Self {
        match lateness {
            LatenessWire::Refuse => Self::Refuse,
            LatenessWire::IfFree => Self::IfFree,
            LatenessWire::AckAlways => Self::AckAlways,
        }
    }
}

/// Leases to ack.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleRequest {
    /// At most 10000.
    #[schema(value_type = Vec<String>)]
    pub tokens: Bounded<String, SETTLE_BATCH_MAX>,
    #[serde(default)]
    pub lateness: LatenessWire,
}

/// Leases to give back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NackRequest {
    /// At most 10000.
    #[schema(value_type = Vec<String>)]
    pub tokens: Bounded<String, SETTLE_BATCH_MAX>,
    /// Wait before the next delivery, at most 14 days. Default: the group's retry delay.
    pub delay_ms: Option<u64>,
    #[serde(default)]
    pub lateness: LatenessWire,
}

/// Leases to hold longer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendRequest {
    /// At most 10000.
    #[schema(value_type = Vec<String>)]
    pub tokens: Bounded<String, SETTLE_BATCH_MAX>,
    /// The new lease from now on, 1 ms to 12 hours.
    pub lease_ms: u64,
    #[serde(default)]
    pub lateness: LatenessWire,
}

/// Leases to give up: their messages go to the dead letters.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BuryRequest {
    /// At most 10000.
    #[schema(value_type = Vec<String>)]
    pub tokens: Bounded<String, SETTLE_BATCH_MAX>,
    /// Kept in the dead letter's origin; at most 1024 bytes.
    pub reason: String,
    #[serde(default)]
    pub lateness: LatenessWire,
}

/// What became of one lease.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum OutcomeWire {
    /// Done, within the lease.
    Settled,
    /// Done, after the lease had lapsed.
    SettledLate,
    /// Nothing changed: the lease had lapsed and `refuse` was asked for.
    Lapsed,
    /// Nothing changed: the lease had lapsed and somebody else holds the message.
    TakenOver,
    /// Nothing changed: the message is settled (or gone) already.
    AlreadySettled,
    /// Nothing changed: no lease of this group.
    Unknown,
}

/// What became of one lease.
#[derive(Debug, Serialize, ToSchema)]
struct OutcomeView {
    outcome: OutcomeWire,
    /// Whether the request was carried out.
    done: bool,
}

impl From<SettleOutcome> for OutcomeView {
    fn from(outcome: SettleOutcome) -> Self {
        let (outcome, done) = match outcome {
            SettleOutcome::Settled { .. } => (OutcomeWire::Settled, true),
            SettleOutcome::SettledLate => (OutcomeWire::SettledLate, true),
            SettleOutcome::Lapsed => (OutcomeWire::Lapsed, false),
            SettleOutcome::TakenOver => (OutcomeWire::TakenOver, false),
            SettleOutcome::AlreadySettled => (OutcomeWire::AlreadySettled, false),
            SettleOutcome::Unknown => (OutcomeWire::Unknown, false),
        };
        Self { outcome, done }
    }
}

/// What became of each lease, in request order.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutcomesView {
    outcomes: Vec<OutcomeView>,
    /// How many were carried out.
    done: usize,
}

impl From<Vec<SettleOutcome>> for OutcomesView {
    fn from(outcomes: Vec<SettleOutcome>) -> Self {
        let outcomes: Vec<OutcomeView> = outcomes.into_iter().map(Into::into).collect();
        let done = outcomes.iter().filter(|outcome| outcome.done).count();
        Self { outcomes, done }
    }
}

/// Where a message stands with a group.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Ready,
    InFlight,
    Delayed,
    Settled,
}

impl From<MessageState> for State {
    fn from(state: MessageState) -> Self {
        match state {
            MessageState::Ready => Self::Ready,
            MessageState::InFlight => Self::InFlight,
            MessageState::Delayed => Self::Delayed,
            MessageState::Settled => Self::Settled,
        }
    }
}

impl From<State> for MessageState {
    fn from(state: State) -> Self {
        match state {
            State::Ready => Self::Ready,
            State::InFlight => Self::InFlight,
            State::Delayed => Self::Delayed,
            State::Settled => Self::Settled,
        }
    }
}

/// A message that was looked at.
#[derive(Debug, Serialize, ToSchema)]
pub struct PeekedView {
    #[serde(flatten)]
    head: HeadView,
    #[serde(flatten)]
    body: BodyView,
    /// `null` without a group.
    state: Option<State>,
    /// Deliveries so far to the group.
    attempts: u32,
}

/// A page of messages.
#[derive(Debug, Serialize, ToSchema)]
pub struct PeekView {
    messages: Vec<PeekedView>,
    /// What to give as `from` for the next page; `null` at the end. A page may be empty before that.
    next: Option<u64>,
}

impl PeekView {
    /// Renders what a peek saw.
    pub fn new(peeked: Peeked, encoding: Encoding) -> Self {
        let view = |peeked: crate::engine::PeekedMessage| {
            let content_type = peeked.message.head.content_type.as_ref().map(AsRef::as_ref);
            PeekedView {
                body: render_body(&peeked.message.body, content_type, encoding),
                head: peeked.message.head.into(),
                state: peeked.state.map(Into::into),
                attempts: peeked.attempts.get(),
            }
        };
        Self { messages: peeked.messages.into_iter().map(view).collect(), next: peeked.next.map(|at| at.get()) }
    }
}
