//! Shapes of JD Cloud's message queue API. Field names are JCQ's and go no further.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::http::bounded::Bounded;
use crate::http::request_id;

/// Most messages of one send or pull.
pub const BATCH_MAX: usize = 32;
/// The id of the request again, where the management clients look for it.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-jdcloud-request-id");

#[derive(Serialize)]
struct Success<T> {
    #[serde(rename = "requestId")]
    request_id: String,
    result: T,
}

#[derive(Serialize)]
struct Failure {
    #[serde(rename = "requestId")]
    request_id: String,
    error: ErrorView,
}

/// An error.
#[derive(Debug, Serialize)]
pub struct ErrorView {
    /// The status of HTTP again.
    pub code: u16,
    pub message: String,
    pub status: &'static str,
}

/// The envelope around a result.
pub fn success<T: Serialize>(result: T) -> Response {
    let request_id = request_id::current();
    enveloped(StatusCode::OK, Success { request_id, result })
}

/// The envelope around an error.
pub fn failure(status: StatusCode, error: ErrorView) -> Response {
    let request_id = request_id::current();
    enveloped(status, Failure { request_id, error })
}

fn enveloped<T: Serialize>(status: StatusCode, envelope: T) -> Response {
    let mut response = (status, axum::Json(envelope)).into_response();
    if let Ok(id) = HeaderValue::from_str(&request_id::current()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// A JSON object in which no name comes twice.
#[derive(Debug)]
pub struct Unique<V>(pub BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Reader<V> {
            type Value = Unique<V>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object in which no name comes twice")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, V>()? {
                    if fields.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name comes twice"));
                    }
                }
                Ok(Unique(fields))
            }
        }
        deserializer.deserialize_map(Reader(PhantomData))
    }
}

/// A message to send.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageIn {
    pub body: Option<String>,
    pub delay_seconds: Option<i64>,
    pub tag: Option<String>,
    pub properties: Option<Unique<String>>,
}

/// Messages to send.
#[derive(Debug, Deserialize)]
pub struct SendIn {
    pub topic: Option<String>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub messages: Option<Bounded<MessageIn, BATCH_MAX>>,
}

/// What a send answers.
#[derive(Debug, Serialize)]
pub struct SentView {
    #[serde(rename = "messageIds")]
    pub message_ids: Vec<String>,
}

/// A message handed out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageView {
    pub message_id: String,
    pub message_body: String,
    pub properties: BTreeMap<String, String>,
}

/// Names a pulled batch: a text in v2, a number in v1.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum AckIndexView {
    Text(String),
    Number(u64),
}

/// What a pull took.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PulledView {
    pub topic_name: String,
    /// `null`: there is nothing to ack.
    pub ack_index: Option<AckIndexView>,
    pub messages: Vec<MessageView>,
}

/// What became of a batch.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AckIn<I> {
    pub topic: Option<String>,
    pub consumer_group_id: Option<String>,
    pub ack_action: Option<String>,
    pub ack_index: Option<I>,
}
