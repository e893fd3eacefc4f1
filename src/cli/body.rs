//! Bodies in answers: base64 on the wire, text to people where they are text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The bytes of a message's body.
pub fn bytes_of(message: &Value) -> Vec<u8> {
    match (message["body"].as_str(), message["body_base64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(text)) => STANDARD.decode(text).unwrap_or_default(),
        (None, None) => Vec::new(),
    }
}

/// Turns `body_base64` of every message into `body` where the bytes are UTF-8.
pub fn as_text(answer: &mut Value) {
    let Some(messages) = answer["messages"].as_array_mut() else { return };
    for message in messages {
        if let (Ok(text), Some(fields)) = (String::from_utf8(bytes_of(message)), message.as_object_mut()) {
            fields.remove("body_base64");
            fields.insert("body".to_owned(), text.into());
        }
    }
}

/// Rows for a table: every body as text, bytes that are none shown as they are in base64.
pub fn rows(answer: &Value) -> Vec<Value> {
    let mut rows = answer["messages"].as_array().cloned().unwrap_or_default();
    for row in &mut rows {
        if let Some(text) = row["body_base64"].as_str() {
            row["body"] = format!("base64:{text}").into();
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_text_and_bytes_stay_base64() {
        let mut answer = serde_json::json!({"messages": [{"body_base64": "aGk="}, {"body_base64": "/w=="}]});
        as_text(&mut answer);
        assert_eq!(answer["messages"][0], serde_json::json!({"body": "hi"}));
        assert_eq!(bytes_of(&answer["messages"][1]), [0xff]);
        assert_eq!(rows(&answer)[1]["body"], "base64:/w==");
    }
}
