//! Shapes of Sequin's APIs. Field names are Sequin's and go no further.

use std::collections::BTreeMap;
use std::fmt;

use axum::response::{IntoResponse, Response};
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::http::bounded::Bounded;
use crate::http::sequin::start::read_span;
use crate::http::whole::digits;
use crate::model::bounds::{PUBLISH_BATCH_MAX, SETTLE_BATCH_MAX};

/// The envelope of what failed.
#[derive(Debug, Serialize)]
pub struct Failure {
    summary: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    validation_errors: BTreeMap<String, Vec<String>>,
}

impl Failure {
    /// The envelope around one error.
    pub fn new(summary: String, validation_errors: BTreeMap<String, Vec<String>>) -> Self {
        Self { summary, validation_errors }
    }
}

/// A bare object.
pub fn answer<T: Serialize>(value: &T) -> Response {
    axum::Json(value).into_response()
}

#[derive(Debug, Serialize)]
struct Data<T> {
    data: T,
}

/// A list, or what else goes under `data`.
pub fn answer_data<T: Serialize>(data: T) -> Response {
    answer(&Data { data })
}

/// What a delete answers.
#[derive(Debug, Serialize)]
pub struct DeletedView {
    pub id: String,
    pub deleted: bool,
}

/// What an ack answers, in the eras that say anything.
#[derive(Debug, Serialize)]
pub struct SuccessView {
    pub success: bool,
}

/// A number, a text with a number in it, or a switch: clients send all of these, in queries and bodies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    Number(i64),
    Text(String),
    Switch(bool),
}

impl Scalar {
    /// The whole number it is.
    pub fn whole(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => {
                text.strip_prefix('-').map_or_else(|| digits(text), |rest| digits(rest).map(|n: i64| -n))
            }
            Self::Switch(_) => None,
        }
    }

    /// The milliseconds it is: a number, or a span such as `30s`.
    pub fn millis(&self) -> Option<u64> {
        match self {
            Self::Number(number) => u64::try_from(*number).ok(),
            Self::Text(text) => read_span(text).and_then(|span| u64::try_from(span.as_millis()).ok()),
            Self::Switch(_) => None,
        }
    }

    /// The switch it is.
    pub fn switch(&self) -> Option<bool> {
        match self {
            Self::Switch(on) => Some(*on),
            Self::Text(text) if text == "true" => Some(true),
            Self::Text(text) if text == "false" => Some(false),
            Self::Text(_) | Self::Number(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Scalar;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a whole number, a text or a switch")
            }

            fn visit_bool<E: Error>(self, on: bool) -> Result<Scalar, E> {
                Ok(Scalar::Switch(on))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar::Number(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(i64::try_from(number).unwrap_or(i64::MAX)))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Scalar, E> {
                // Within the whole numbers that a float holds exactly.
                let fits = number.fract() == 0.0 && number.abs() <= (1_u64 << 53) as f64;
                let out = || E::invalid_value(serde::de::Unexpected::Float(number), &self);
                if fits { Ok(Scalar::Number(number as i64)) } else { Err(out()) }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Takes messages.
#[derive(Debug, Default, Deserialize)]
pub struct ReceiveIn {
    pub batch_size: Option<Scalar>,
    pub max_batch_size: Option<Scalar>,
    /// Milliseconds, or a span.
    pub wait_for: Option<Scalar>,
    pub auto_ack: Option<Scalar>,
}

/// Settles leases.
#[derive(Debug, Default, Deserialize)]
pub struct SettleIn {
    pub ack_tokens: Option<Bounded<String, SETTLE_BATCH_MAX>>,
    pub ack_ids: Option<Bounded<String, SETTLE_BATCH_MAX>>,
    /// Of a nack: milliseconds, or a span.
    pub delay_ms: Option<Scalar>,
}

/// A stream to make. Clients send limits as well, which no server of theirs has kept.
#[derive(Debug, Deserialize)]
pub struct StreamIn {
    pub name: Option<String>,
}

/// A consumer to make or change.
#[derive(Debug, Default, Deserialize)]
pub struct ConsumerIn {
    pub stream_id: Option<String>,
    pub name: Option<String>,
    pub deliver_policy: Option<String>,
    pub filter_key_pattern: Option<String>,
    pub kind: Option<String>,
    pub status: Option<String>,
    pub ack_wait_ms: Option<Scalar>,
    /// The same, as the first era spelt it.
    pub ack_wait: Option<Scalar>,
    pub max_deliver: Option<Scalar>,
    pub max_ack_pending: Option<Scalar>,
    pub max_waiting: Option<Scalar>,
    pub metadata: Option<BTreeMap<String, serde_json::Value>>,
}

/// Which consumers to list.
#[derive(Debug, Default, Deserialize)]
pub struct ConsumersIn {
    pub stream_id: Option<String>,
    pub metadata: Option<BTreeMap<String, serde_json::Value>>,
}

/// Moves a consumer.
#[derive(Debug, Deserialize)]
pub struct RewindIn {
    /// A `deliver_policy`.
    pub to: Option<String>,
    #[serde(default)]
    pub dry_run: bool,
}

/// What a rewind did, or would do.
#[derive(Debug, Serialize)]
pub struct RewoundView {
    pub from_seq: u64,
    pub to_seq: u64,
    pub num_dropped: u64,
    pub num_pending: u64,
    pub dry_run: bool,
}

/// A message to publish.
#[derive(Debug, Deserialize)]
pub struct MessageIn {
    pub key: String,
    pub data: String,
}

/// Messages to publish.
#[derive(Debug, Deserialize)]
pub struct MessagesIn {
    pub messages: Bounded<MessageIn, PUBLISH_BATCH_MAX>,
}

/// What a publish answers.
#[derive(Debug, Serialize)]
pub struct PublishedView {
    pub published: usize,
}

/// A stream, in era A.
#[derive(Debug, Serialize)]
pub struct StreamView {
    pub id: String,
    pub name: String,
    pub created_at: String,
    pub updated_at: String,
}

/// Counts of a stream.
#[derive(Debug, Serialize)]
pub struct StatsView {
    pub message_count: u64,
    pub consumer_count: usize,
    pub storage_size: u64,
}

/// A stream, in the eras of `/api`.
#[derive(Debug, Serialize)]
pub struct CountedStreamView {
    pub id: String,
    pub name: String,
    pub account_id: String,
    pub stats: StatsView,
    pub inserted_at: String,
    pub updated_at: String,
}

/// A consumer, in era A.
#[derive(Debug, Serialize)]
pub struct ConsumerView {
    pub id: String,
    pub name: String,
    pub stream_id: String,
    pub deliver_policy: String,
    pub ack_wait_ms: u64,
    /// -1 for no limit.
    pub max_deliver: i64,
    pub max_ack_pending: u32,
    pub max_waiting: u32,
    pub status: &'static str,
    pub metadata: Option<Box<RawValue>>,
    pub created_at: String,
    pub updated_at: String,
}

/// A consumer, in the eras of `/api`.
#[derive(Debug, Serialize)]
pub struct PullConsumerView {
    pub id: String,
    pub name: String,
    pub stream_id: String,
    pub ack_wait_ms: u64,
    pub filter_key_pattern: String,
    pub kind: &'static str,
    pub max_ack_pending: u32,
    pub max_deliver: Option<u32>,
    pub max_waiting: u32,
    pub status: &'static str,
    pub inserted_at: String,
    pub updated_at: String,
}

/// A message, in the eras of streams of messages.
#[derive(Debug, Serialize)]
pub struct MessageView {
    pub key: Option<String>,
    pub stream_id: String,
    pub data_hash: String,
    pub data: Box<RawValue>,
    /// Only where the data is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_encoding: Option<&'static str>,
    pub seq: u64,
    pub inserted_at: String,
    pub updated_at: String,
}

/// A message handed out, in the era of `ack_id`.
#[derive(Debug, Serialize)]
pub struct ReceivedView {
    pub ack_id: Option<String>,
    pub message: MessageView,
}

/// A message handed out, in the era of `ack_token`.
#[derive(Debug, Serialize)]
pub struct TokenView {
    pub ack_token: Option<String>,
    pub message: MessageView,
}

/// A message as a consumer sees it.
#[derive(Debug, Serialize)]
pub struct StandingView {
    pub message: MessageView,
    pub info: InfoView,
}

/// Where a message stands with a consumer. What a look does not tell is `null`.
#[derive(Debug, Serialize)]
pub struct InfoView {
    pub ack_id: Option<String>,
    pub deliver_count: u32,
    pub last_delivered_at: Option<String>,
    pub not_visible_until: Option<String>,
    pub state: &'static str,
}

/// Where a message stands with one of the stream's consumers.
#[derive(Debug, Serialize)]
pub struct ConsumerInfoView {
    pub consumer_id: String,
    pub consumer_name: String,
    pub consumer_filter_key_pattern: String,
    #[serde(flatten)]
    pub info: InfoView,
}

/// Where a message stands with every consumer that wants it.
#[derive(Debug, Serialize)]
pub struct ConsumerInfosView {
    pub message: MessageView,
    pub consumer_info: Vec<ConsumerInfoView>,
}

/// A record, in era A.
#[derive(Debug, Serialize)]
pub struct RecordView {
    pub id: String,
    pub stream_id: String,
    pub collection_id: String,
    pub provider: Option<String>,
    pub upstream_id: Option<String>,
    pub data: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_encoding: Option<&'static str>,
    pub deleted: bool,
    pub inserted_at: String,
    pub updated_idx: u64,
}

/// A record handed out.
#[derive(Debug, Serialize)]
pub struct DeliveredView {
    pub ack_token: Option<String>,
    pub record: RecordView,
    pub key: Option<String>,
    pub seq: u64,
    pub deliver_count: u32,
}

/// Counts of a consumer.
#[derive(Debug, Serialize)]
pub struct CountsView {
    pub num_pending: u64,
    pub num_ack_pending: u64,
}

/// What a `next` of era A took.
#[derive(Debug, Serialize)]
pub struct NextView {
    pub data: Vec<DeliveredView>,
    pub info: CountsView,
}

/// A consumer, in the metadata of a change.
#[derive(Debug, Clone, Serialize)]
pub struct MetadataConsumerView {
    pub id: String,
    pub name: String,
}

/// Where a change comes from.
#[derive(Debug, Serialize)]
pub struct MetadataView {
    pub table_schema: &'static str,
    pub table_name: String,
    pub commit_timestamp: String,
    pub commit_lsn: u64,
    pub commit_idx: u64,
    pub transaction_annotations: Option<()>,
    pub idempotency_key: String,
    pub record_pks: Vec<String>,
    pub consumer: MetadataConsumerView,
}

/// A change, in the eras of sinks.
#[derive(Debug, Serialize)]
pub struct ChangeView {
    pub record: Box<RawValue>,
    pub changes: Option<()>,
    pub action: &'static str,
    pub metadata: MetadataView,
}

/// A change handed out: nested, as servers have sent it, and flat, as their documents show it. There are
/// clients of both.
#[derive(Debug, Serialize)]
pub struct ChangedView<'a> {
    pub ack_id: Option<&'a str>,
    pub data: &'a ChangeView,
    pub record: &'a RawValue,
    pub changes: Option<()>,
    pub action: &'a str,
    pub metadata: &'a MetadataView,
}
