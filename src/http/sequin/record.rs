//! One message in the words of each era: as a record, as a message, as a change.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::http::json;
use crate::http::sequin::wire::{ChangeView, MessageView, MetadataConsumerView, MetadataView, RecordView};
use crate::http::time::rfc3339;
use crate::model::{Body, ContentType, Group, Message, MessageHead, Millis, Offset, TopicId};

/// Said of data that is not text.
const BASE64: &str = "base64";

/// The number of the message at an offset; the first is 1.
pub fn seq(offset: Offset) -> u64 {
    offset.get() + 1
}

/// `2023-12-15 01:29:29`, as era A writes instants.
pub fn plain_time(at: Millis) -> String {
    rfc3339(at).chars().take(19).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

/// A random-looking id in the form of a UUID.
pub fn uuid_text(bits: u128) -> String {
    uuid::Uuid::from_u128(bits).to_string()
}

/// The body as text, or in base64.
fn text(body: &Body) -> (Box<RawValue>, Option<&'static str>) {
    match std::str::from_utf8(body) {
        Ok(text) => (json::string(text), None),
        Err(_) => (json::base64(body), Some(BASE64)),
    }
}

/// The body as the JSON that it is: an object or a list whatever it is called, anything if it is called JSON.
fn value(body: &Body, content_type: Option<&ContentType>) -> (Box<RawValue>, Option<&'static str>) {
    let is_called_json = content_type.is_some_and(|name| {
        let media = name.as_str().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        media == "application/json" || media.ends_with("+json")
    });
    let looks_so = matches!(body.trim_ascii_start().first(), Some(b'{' | b'['));
    if (is_called_json || looks_so)
        && let Ok(value) = serde_json::from_slice::<Box<RawValue>>(body)
    {
        return (value, None);
    }
    text(body)
}

fn property(head: &MessageHead, name: &str) -> Option<String> {
    head.properties.get(name).cloned()
}

fn is_deleted(head: &MessageHead) -> bool {
    head.properties.get("deleted").is_some_and(|value| value == "true")
}

fn key(head: &MessageHead) -> Option<String> {
    head.key.as_ref().map(|key| key.as_str().to_owned())
}

/// Id of a record: the same for all versions of a key, so that it can be a primary key.
fn record_id(stream: TopicId, head: &MessageHead) -> String {
    let Some(key) = &head.key else { return head.id.to_string() };
    let digest = Sha256::new().chain_update(stream.get().to_be_bytes()).chain_update(key.as_str()).finalize();
    let bytes = digest.iter().take(16).fold(0, |bits: u128, byte| bits << 8 | u128::from(*byte));
    uuid::Builder::from_custom_bytes(bytes.to_be_bytes()).into_uuid().to_string()
}

/// A message as a record of era A.
pub fn record_view(stream: TopicId, consumer: &Group, message: &Message) -> RecordView {
    let head = &message.head;
    let (data, data_encoding) = value(&message.body, head.content_type.as_ref());
    RecordView {
        id: record_id(stream, head),
        stream_id: stream.to_string(),
        collection_id: property(head, "collection_id").unwrap_or_else(|| consumer.topic.to_string()),
        provider: property(head, "provider"),
        upstream_id: property(head, "upstream_id").or_else(|| key(head)),
        data,
        data_encoding,
        deleted: is_deleted(head),
        inserted_at: rfc3339(head.published_at),
        updated_idx: seq(head.offset),
    }
}

/// A message as a message.
pub fn message_view(stream: TopicId, message: &Message) -> MessageView {
    let head = &message.head;
    let (data, data_encoding) = text(&message.body);
    MessageView {
        key: key(head),
        stream_id: stream.to_string(),
        data_hash: STANDARD.encode(Sha256::digest(&message.body)),
        data,
        data_encoding,
        seq: seq(head.offset),
        inserted_at: rfc3339(head.published_at),
        updated_at: rfc3339(head.published_at),
    }
}

/// A message as a change of a row: the stream is the table, the key the row's.
pub fn change_view(consumer: &Group, message: &Message) -> ChangeView {
    let head = &message.head;
    let (record, _) = value(&message.body, head.content_type.as_ref());
    let action = match head.properties.get("action").map(String::as_str) {
        _ if is_deleted(head) => "delete",
        Some("delete") => "delete",
        Some("update") => "update",
        Some("read") => "read",
        Some(_) | None => "insert",
    };
    ChangeView {
        record,
        changes: None,
        action,
        metadata: MetadataView {
            table_schema: "public",
            table_name: consumer.topic.to_string(),
            commit_timestamp: rfc3339(head.published_at),
            commit_lsn: seq(head.offset),
            commit_idx: 0,
            transaction_annotations: None,
            idempotency_key: head.id.to_string(),
            record_pks: key(head).into_iter().collect(),
            consumer: MetadataConsumerView { id: consumer.id.to_string(), name: consumer.name.to_string() },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_shown_as_what_they_are() {
        let shown = |body: &'static [u8], kind: Option<&str>| {
            let kind = kind.map(|kind| ContentType::parse(kind).expect("a content type"));
            let (value, encoding) = value(&Body::from_static(body), kind.as_ref());
            (value.get().to_owned(), encoding)
        };
        let json = Some("application/json; charset=utf-8");
        assert_eq!(shown(br#" {"n":1.0} "#, None), (r#"{"n":1.0}"#.to_owned(), None));
        assert_eq!(shown(b"[1", Some("text/plain")), (r#""[1""#.to_owned(), None));
        assert_eq!(shown(b"12", Some("text/plain")), (r#""12""#.to_owned(), None));
        assert_eq!(shown(b"12", json), ("12".to_owned(), None));
        assert_eq!(shown(b"no", json), (r#""no""#.to_owned(), None));
        assert_eq!(shown(b"\xff", json), (r#""/w==""#.to_owned(), Some(BASE64)));
        assert_eq!(text(&Body::from_static(b"{}")).0.get(), r#""{}""#);
    }

    #[test]
    fn era_a_writes_instants_without_zone() {
        assert_eq!(plain_time(Millis::new(1_667_145_914_966)), "2022-10-30 16:05:14");
    }
}
