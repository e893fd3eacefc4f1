//! Bodies and metadata between the wire and what is kept.
//!
//! Kept are the bytes: of the text, or of the JSON as it was sent without the blanks. The content type
//! says which, so that every other dialect can tell as well.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::JsonBody;
use crate::model::{Body, ContentType, Message};

/// Content type of a text.
pub const TEXT: &str = "text/plain; charset=utf-8";
/// Content type of JSON.
pub const JSON: &str = "application/json";

/// What every look at a message tells, with a lease or without.
pub struct Content {
    /// 32 hexadecimal digits.
    pub id: String,
    /// As it goes with the content type in `metadata`.
    pub body: String,
    /// Cloudflare's words about the message, and the properties that producers of other dialects gave it.
    pub metadata: BTreeMap<String, String>,
    /// When it was published.
    pub timestamp_ms: u64,
}

/// What is told of `message`.
pub fn content(message: Message, json_body: JsonBody) -> Content {
    let head = message.head;
    let (kind, body) = render(&message.body, head.content_type.as_ref(), json_body);
    // Cloudflare's own words win over properties of the same name.
    let mut metadata: BTreeMap<String, String> = head.properties;
    metadata.insert("CF-Content-Type".to_owned(), kind.to_owned());
    metadata.insert("CF-sourceMessageSource".to_owned(), "api".to_owned());
    let delay = head.ready_at.since(head.published_at).as_secs();
    if delay > 0 {
        metadata.insert("CF-msg-delay-secs".to_owned(), delay.to_string());
    }
    Content { id: head.id.to_hex(), body, metadata, timestamp_ms: head.published_at.get() }
}

/// JSON text without the blanks between its tokens. Numbers, escapes and the order of keys stay as sent.
pub fn compact(json: &str) -> String {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

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
