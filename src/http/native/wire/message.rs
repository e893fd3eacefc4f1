//! Messages, pulls and settles on the wire.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
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
#[derive(Debug, ToSchema)]
pub struct BodyView {
    #[schema(value_type = Option<String>)]
    body: Option<Body>,
    #[schema(value_type = Option<String>)]
    body_base64: Option<Body>,
}

impl BodyView {
    /// Appends the field to an object that is being written.
    fn write(&self, out: &mut Vec<u8>) {
        if let Some(text) = &self.body {
            out.extend_from_slice(br#","body":"#);
            json::write_string(out, text);
        }
        if let Some(bytes) = &self.body_base64 {
            out.extend_from_slice(br#","body_base64":"#);
            json::write_base64(out, bytes);
        }
    }
}

impl Serialize for BodyView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.body.as_deref().map(|text| json::string(std::str::from_utf8(text).unwrap_or_default()));
        let bytes = self.body_base64.as_deref().map(json::base64);
        let fields = [("body", text), ("body_base64", bytes)];
        serializer.collect_map(fields.into_iter().filter_map(|(name, value)| Some((name, value?))))
    }
}

/// Renders a body as asked.
pub fn render_body(body: &Body, content_type: Option<&str>, encoding: Encoding) -> BodyView {
    let is_text = match encoding {
        Encoding::Text => content_type.is_some_and(is_text) && std::str::from_utf8(body).is_ok(),
        Encoding::Base64 => false,
    };
    let body = Some(body.clone());
    if is_text { BodyView { body, body_base64: None } } else { BodyView { body: None, body_base64: body } }
}

fn is_text(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media.starts_with("text/") || media == "application/json" || media.ends_with("+json")
}

/// What a delivery is beside its body.
#[derive(Debug, Serialize, ToSchema)]
struct DeliveryHead {
    #[serde(flatten)]
    head: HeadView,
    /// Which delivery to this group this is; the first is 1.
    attempt: u32,
    /// Names the lease. Empty after `auto_ack`.
    token: String,
    /// How long the lease holds from now on.
    lease_ms: u64,
}

/// A message handed out.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryView {
    #[serde(flatten)]
    head: DeliveryHead,
    #[serde(flatten)]
    body: BodyView,
}

impl DeliveryView {
    fn new(delivery: Delivery, encoding: Encoding) -> Self {
        let message = delivery.message;
        let content_type = message.head.content_type.as_ref().map(AsRef::as_ref);
        Self {
            body: render_body(&message.body, content_type, encoding),
            head: DeliveryHead {
                head: message.head.into(),
                attempt: delivery.attempt.get(),
                token: delivery.token,
                lease_ms: millis(delivery.lease),
            },
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

    /// The JSON of it, as serde would write it but for the order of fields: bodies, most of all bytes, go straight into it.
    pub fn to_json(&self) -> Vec<u8> {
        /// Of a message beside its body, about.
        const HEAD_BYTES: usize = 512;
        let body = |view: &DeliveryView| {
            let base64 = view.body.body_base64.as_ref().map_or(0, |bytes| bytes.len().div_ceil(3) * 4);
            base64 + view.body.body.as_ref().map_or(0, Body::len)
        };
        let bytes: usize = self.messages.iter().map(|view| HEAD_BYTES + body(view)).sum();
        let mut out = Vec::with_capacity(bytes + HEAD_BYTES);
        out.extend_from_slice(br#"{"messages":["#);
        for (place, view) in self.messages.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            put(&mut out, &view.head);
            // The object goes on with the body.
            out.pop();
            view.body.write(&mut out);
            out.push(b'}');
        }
        out.extend_from_slice(br#"],"counts":"#);
        put(&mut out, &self.counts);
        out.push(b'}');
        out
    }
}

fn put(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).unwrap_or_else(|error| panic!("a view is always JSON: {error}"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::model::{Attempt, ContentType, Message, MessageId, Offset};

    fn delivery(body: &'static [u8], content_type: Option<&str>) -> Delivery {
        let head = MessageHead {
            id: MessageId::new(7),
            offset: Offset::new(3),
            content_type: content_type.map(|text| ContentType::parse(text).unwrap()),
            key: None,
            tag: None,
            properties: BTreeMap::from([("a \"b\"".to_owned(), "c".to_owned())]),
            published_at: Millis::new(1),
            ready_at: Millis::new(2),
            origin: None,
        };
        let message = Message { head, body: Body::from_static(body) };
        Delivery { message, attempt: Attempt::new(2), token: "t".to_owned(), handle: 0, lease: Duration::from_secs(1) }
    }

    #[test]
    fn a_pull_is_written_as_serde_writes_it() {
        let (text, binary) = (Some("text/plain"), Some("application/octet-stream"));
        let bodies: [&[u8]; 5] =
            [b"", b"plain", "h\u{e9}llo \u{1f980}".as_bytes(), b"\"quoted\"\\\n\x01", b"\xff\xfe\0"];
        for encoding in [Encoding::Base64, Encoding::Text] {
            let deliveries = bodies.iter().flat_map(|body| [delivery(body, text), delivery(body, binary)]);
            for deliveries in [Vec::new(), deliveries.collect()] {
                let view = PulledView::new(Pulled { deliveries, counts: Counts::default() }, encoding);
                let written: serde_json::Value = serde_json::from_slice(&view.to_json()).unwrap();
                assert_eq!(written, serde_json::to_value(&view).unwrap());
            }
        }
    }
}
