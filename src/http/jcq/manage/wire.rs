//! Shapes of the management plane, as the published clients type them.

use serde::{Deserialize, Serialize};

use crate::http::whole::Whole;

/// The result of a call that has none.
#[derive(Debug, Serialize)]
pub struct Nothing {}

/// A topic to make.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicIn {
    pub topic_name: Option<String>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub description: Option<String>,
}

/// Bounds and kind of a topic.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicConfigView {
    #[serde(rename = "maxMessageSizeKB")]
    pub max_message_size_kb: usize,
    /// 0: there is none.
    pub threshold: u64,
    pub topic_permission: &'static str,
    pub topic_type: &'static str,
}

/// A topic.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicView {
    pub topic_id: String,
    pub topic_name: String,
    pub description: String,
    pub create_time: String,
    pub last_update_time: String,
    pub topic_status: &'static str,
    pub subscription_count: usize,
    /// 0: for ever.
    pub message_life_time_in_hours: u64,
    pub topic_config: TopicConfigView,
    pub own: bool,
    pub authorized_permission: &'static str,
    pub tags: [(); 0],
}

/// One topic.
#[derive(Debug, Serialize)]
pub struct TopicResult {
    pub topic: TopicView,
}

/// A page of topics.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicsView {
    pub topics: Vec<TopicView>,
    pub total_count: usize,
}

/// Where a topic is reached.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessPointView {
    /// Empty: there is none.
    pub sdk_address: &'static str,
    pub http_address: String,
}

/// Where a topic is reached.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessPointResult {
    pub access_point: AccessPointView,
}

/// A subscription to make or change.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionIn {
    pub consumer_group_id: Option<String>,
    pub message_invisible_time_in_seconds: Option<Whole>,
    pub dlq_enable: Option<bool>,
    pub max_retry_times: Option<Whole>,
}

/// A subscription.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionView {
    pub consumer_group_id: String,
    pub end_point: &'static str,
    pub message_invisible_time_in_seconds: u64,
    pub subscription_type: &'static str,
    pub tags: Vec<String>,
    pub dlq_enable: bool,
    /// 0 where there are no dead letters: retries never end then.
    pub max_retry_times: u32,
    pub create_time: String,
    pub last_update_time: String,
    /// Pulls over HTTP leave nobody online.
    pub consumer_numbers: u64,
}

/// One subscription.
#[derive(Debug, Serialize)]
pub struct SubscriptionResult {
    pub subscription: SubscriptionView,
}

/// A page of subscriptions.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionsView {
    pub subscriptions: Vec<SubscriptionView>,
    pub total_count: usize,
}

/// Names of groups.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupIdsView {
    pub consumer_group_ids: Vec<String>,
}

/// Where to begin again.
#[derive(Debug, Deserialize)]
pub struct ResetIn {
    pub time: Option<String>,
}

/// A dead letter.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterView {
    pub message_id: String,
    /// Empty: never.
    pub expire_time: String,
}

/// A page of dead letters.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLettersView {
    pub dead_letters: Vec<DeadLetterView>,
    pub total_count: usize,
}

/// Which dead letters are meant; none named: all.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageIdsIn {
    pub message_ids: Option<String>,
}

/// Which dead letters it was done to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageIdsView {
    pub message_ids: Vec<String>,
}

/// How many dead letters a group has.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterNumberView {
    pub topic_id: String,
    pub topic_name: String,
    pub consumer_group_id: String,
    pub dead_letter_number: u64,
}

/// A page of numbers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterNumbersView {
    pub dead_letter_numbers: Vec<DeadLetterNumberView>,
    pub total_count: usize,
}

/// A message that was looked at.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LookedView {
    pub message_id: String,
    pub body: String,
    pub tags: String,
    /// JSON as text.
    pub properties: String,
    pub store_time: String,
}

/// One message.
#[derive(Debug, Serialize)]
pub struct MessageResult {
    pub message: LookedView,
}

/// Messages.
#[derive(Debug, Serialize)]
pub struct MessagesView {
    pub messages: Vec<LookedView>,
}

/// Which messages are looked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BusinessIdIn {
    pub business_id: Option<String>,
}

/// How a message came.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProduceView {
    /// Empty: not kept.
    pub address: &'static str,
    /// Milliseconds.
    pub time_stamp: u64,
    /// Milliseconds; 0: not kept.
    pub cost_time: u64,
    pub message_send_status: &'static str,
    /// Seconds.
    pub delay_time: u64,
}

/// How a message went with a group.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumeView {
    pub consumer_group_id: String,
    pub message_consume_status: &'static str,
    pub success_times: u32,
    pub failed_times: u32,
    /// Single consumers are not kept.
    pub consumer_info_detail_list: [(); 0],
}

/// What became of a message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceView {
    pub produce_info: ProduceView,
    pub consume_info_list: Vec<ConsumeView>,
}

/// What became of a message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceResult {
    pub message_trace_info: TraceView,
}

/// What a topic allows a credential.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PermissionView {
    pub user_id: String,
    pub permission: String,
}

/// What a topic allows.
#[derive(Debug, Serialize)]
pub struct PermissionsView {
    pub permissions: Vec<PermissionView>,
}
