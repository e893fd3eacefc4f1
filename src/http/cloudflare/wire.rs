//! Shapes of the Cloudflare Queues API. Field names are Cloudflare's and go no further.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::engine::Counts;
use crate::http::bounded::Bounded;
use crate::http::whole::Whole;
use crate::model::Millis;
use crate::model::bounds::{PULL_BATCH_MAX, SETTLE_BATCH_MAX};

/// One error of the envelope.
#[derive(Debug, Serialize)]
pub struct ErrorView {
    code: u32,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SourceView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_chain: Option<[CauseView; 1]>,
}

#[derive(Debug, Serialize)]
struct CauseView {
    code: u32,
    message: String,
}

#[derive(Debug, Serialize)]
struct SourceView {
    pointer: String,
}

impl ErrorView {
    /// An error, where in the request it lies, and what lies behind it.
    pub fn new(code: u32, message: String, pointer: Option<String>, cause: Option<(u32, String)>) -> Self {
        let source = pointer.map(|pointer| SourceView { pointer });
        Self { code, message, source, error_chain: cause.map(|(code, message)| [CauseView { code, message }]) }
    }
}

/// The envelope of what failed.
#[derive(Debug, Serialize)]
pub struct Failure {
    success: bool,
    errors: [ErrorView; 1],
    messages: [&'static str; 0],
    result: Option<()>,
}

impl Failure {
    /// The envelope around one error.
    pub fn new(error: ErrorView) -> Self {
        Self { success: false, errors: [error], messages: [], result: None }
    }
}

#[derive(Debug, Serialize)]
struct Success<T> {
    success: bool,
    errors: [&'static str; 0],
    messages: [&'static str; 0],
    result: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_info: Option<PageView>,
}

/// Which part of a list this is.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct PageView {
    /// From 1.
    pub page: u64,
    /// Entries of a full page.
    pub per_page: u64,
    /// Entries of this page.
    pub count: usize,
    /// Entries of all pages.
    pub total_count: usize,
    /// Pages in all.
    pub total_pages: u64,
}

/// The envelope around a result: always 200, for the SDKs make nothing of a 204.
pub fn success<T: Serialize>(result: T) -> Response {
    axum::Json(Success { success: true, errors: [], messages: [], result, result_info: None }).into_response()
}

/// The envelope around a page of a list.
pub fn success_page<T: Serialize>(result: T, page: PageView) -> Response {
    axum::Json(Success { success: true, errors: [], messages: [], result, result_info: Some(page) }).into_response()
}

/// Settings of a queue to set.
#[derive(Debug, Default, Deserialize)]
pub struct QueueSettingsIn {
    /// Seconds.
    pub delivery_delay: Option<Whole>,
    pub delivery_paused: Option<bool>,
    /// Seconds.
    pub message_retention_period: Option<Whole>,
}

/// A queue to make or change.
#[derive(Debug, Deserialize)]
pub struct QueueIn {
    pub queue_name: Option<String>,
    pub jurisdiction: Option<String>,
    pub settings: Option<QueueSettingsIn>,
}

/// Settings of a queue.
#[derive(Debug, Serialize)]
pub struct QueueSettingsView {
    pub delivery_delay: u64,
    pub delivery_paused: bool,
    pub message_retention_period: u64,
}

/// A queue.
#[derive(Debug, Serialize)]
pub struct QueueView {
    pub queue_id: String,
    pub queue_name: String,
    pub created_on: String,
    pub modified_on: String,
    pub producers: [(); 0],
    pub producers_total_count: usize,
    pub consumers: Vec<ConsumerView>,
    pub consumers_total_count: usize,
    pub settings: QueueSettingsView,
    /// Not `null`: wrangler shows whatever is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jurisdiction: Option<String>,
}

/// Settings of a consumer to set.
#[derive(Debug, Default, Deserialize)]
pub struct ConsumerSettingsIn {
    pub batch_size: Option<Whole>,
    pub max_retries: Option<Whole>,
    /// Seconds.
    pub retry_delay: Option<Whole>,
    pub visibility_timeout_ms: Option<Whole>,
}

/// A consumer to make or change.
#[derive(Debug, Deserialize)]
pub struct ConsumerIn {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub dead_letter_queue: Option<String>,
    pub settings: Option<ConsumerSettingsIn>,
}

/// Settings of a consumer. Left out, never `null`: wrangler calls methods on what is there.
#[derive(Debug, Serialize)]
pub struct ConsumerSettingsView {
    pub batch_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    pub retry_delay: u64,
    pub visibility_timeout_ms: u64,
}

/// A consumer.
#[derive(Debug, Serialize)]
pub struct ConsumerView {
    pub consumer_id: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub created_on: String,
    pub queue_name: String,
    pub queue_id: String,
    /// Empty for none.
    pub dead_letter_queue: String,
    pub settings: ConsumerSettingsView,
}

/// Counts of a queue.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MetricsView {
    backlog_bytes: u64,
    backlog_count: u64,
    oldest_message_timestamp_ms: u64,
}

impl From<Counts> for MetricsView {
    fn from(counts: Counts) -> Self {
        Self {
            backlog_bytes: counts.bytes,
            backlog_count: counts.unsettled(),
            oldest_message_timestamp_ms: counts.oldest.map_or(0, Millis::get),
        }
    }
}

/// Counts beside a result.
#[derive(Debug, Serialize)]
pub struct MetadataView {
    metrics: MetricsView,
}

/// What a push answers.
#[derive(Debug, Serialize)]
pub struct PushView {
    metadata: MetadataView,
}

impl From<Counts> for PushView {
    fn from(counts: Counts) -> Self {
        Self { metadata: MetadataView { metrics: counts.into() } }
    }
}

/// Tells a `null` body (JSON) from a body that is missing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// A message to publish.
#[derive(Debug, Deserialize)]
pub struct MessageIn<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    pub body: Option<&'a RawValue>,
    #[serde(borrow)]
    pub content_type: Option<Cow<'a, str>>,
    pub delay_seconds: Option<Whole>,
}

/// Messages to publish.
#[derive(Debug, Deserialize)]
pub struct BatchIn<'a> {
    #[serde(borrow)]
    pub messages: Bounded<MessageIn<'a>, 1_000>,
    pub delay_seconds: Option<Whole>,
}

/// Takes messages.
#[derive(Debug, Deserialize)]
pub struct PullIn {
    pub batch_size: Option<Whole>,
    pub visibility_timeout_ms: Option<Whole>,
    /// Cloudflare's own examples spell it so; milliseconds as well.
    pub visibility_timeout: Option<Whole>,
}

/// A message handed out.
#[derive(Debug, Serialize)]
pub struct MessageView {
    pub id: String,
    pub attempts: u32,
    pub body: String,
    pub lease_id: String,
    pub metadata: BTreeMap<String, String>,
    pub timestamp_ms: u64,
}

/// What a pull took.
#[derive(Debug, Serialize)]
pub struct PullView {
    message_backlog_count: u64,
    messages: Vec<MessageView>,
    metadata: MetadataView,
}

impl PullView {
    /// The messages, and the counts after the pull.
    pub fn new(messages: Vec<MessageView>, counts: Counts) -> Self {
        let metadata = MetadataView { metrics: counts.into() };
        Self { message_backlog_count: counts.unsettled(), messages, metadata }
    }
}

/// A lease to ack.
#[derive(Debug, Deserialize)]
pub struct AckIn {
    pub lease_id: String,
}

/// A lease to give back.
#[derive(Debug, Deserialize)]
pub struct RetryIn {
    pub lease_id: String,
    pub delay_seconds: Option<Whole>,
}

/// Leases to settle.
#[derive(Debug, Deserialize)]
pub struct SettleIn {
    pub acks: Option<Bounded<AckIn, SETTLE_BATCH_MAX>>,
    pub retries: Option<Bounded<RetryIn, SETTLE_BATCH_MAX>>,
}

/// What became of the leases.
#[derive(Debug, Default, Serialize)]
pub struct SettleView {
    #[serde(rename = "ackCount")]
    pub ack_count: u64,
    #[serde(rename = "retryCount")]
    pub retry_count: u64,
    /// By lease.
    pub warnings: BTreeMap<String, &'static str>,
}

/// How many messages to look at.
#[derive(Debug, Deserialize)]
pub struct PeekIn {
    pub batch_size: Option<Whole>,
}

/// A message looked at.
#[derive(Debug, Serialize)]
pub struct PeekedView {
    pub id: String,
    pub attempts: u32,
    pub body: String,
    pub metadata: BTreeMap<String, String>,
    /// Names the message in this queue.
    #[serde(rename = "ref")]
    pub reference: String,
    pub timestamp_ms: u64,
}

/// What a peek saw.
#[derive(Debug, Serialize)]
pub struct PeekView {
    pub messages: Vec<PeekedView>,
}

/// A message to give up.
#[derive(Debug, Deserialize)]
pub struct RefIn {
    #[serde(rename = "ref")]
    pub reference: String,
}

/// Messages to give up.
#[derive(Debug, Deserialize)]
pub struct RefsIn {
    pub refs: Bounded<RefIn, PULL_BATCH_MAX>,
}

/// What became of the messages to give up.
#[derive(Debug, Default, Serialize)]
pub struct PurgedView {
    pub errors: [(); 0],
    /// By reference.
    pub warnings: BTreeMap<String, &'static str>,
}

/// Confirms that all messages go.
#[derive(Debug, Deserialize)]
pub struct PurgeIn {
    pub delete_messages_permanently: Option<bool>,
}

/// The last purge of a queue; empty texts if there was none.
#[derive(Debug, Serialize)]
pub struct PurgeStatusView {
    pub completed: String,
    pub started_at: String,
}

/// An account.
#[derive(Debug, Serialize)]
pub struct AccountView {
    pub id: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// That whoever asks belongs to an account.
#[derive(Debug, Serialize)]
pub struct MembershipView {
    pub id: String,
    pub account: AccountView,
    pub status: &'static str,
    pub roles: Vec<&'static str>,
}

/// Whoever asks. Credentials have no address to write to.
#[derive(Debug, Serialize)]
pub struct UserView {
    pub id: String,
    pub email: Option<()>,
}

/// A token that is good.
#[derive(Debug, Serialize)]
pub struct TokenView {
    pub id: String,
    pub status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_on: Option<String>,
}
