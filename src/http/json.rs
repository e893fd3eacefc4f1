//! JSON of requests: read with the place of the mistake, and without repeating what was sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

/// JSON that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON.
    #[error("not JSON: line {line}, column {column}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// A list in it is too long.
    #[error("{message}")]
    TooMany {
        /// JSON pointer of the place.
        pointer: String,
        /// What was expected there.
        message: String,
    },
    /// It is JSON of another shape.
    #[error("{message}")]
    Shape {
        /// JSON pointer of the place.
        pointer: String,
        /// What was expected there.
        message: String,
    },
}

/// Reads `body`, an object. A request without a body counts as `{}`; white space is a body, and no JSON.
pub fn read<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, JsonError> {
    let body = if body.is_empty() { b"{}" } else { body };
    // serde would take a list for the fields in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(JsonError::Shape { pointer: String::new(), message: "expected an object".to_owned() });
    }
    // Finding the place of a mistake costs as much again as reading: only where there is one.
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let pointer = pointer(error.path());
        told(error.inner(), pointer)
    })?;
    reader.end().map_err(|error| told(&error, String::new()))?;
    Ok(value)
}

/// `text` as a JSON string. Long texts rarely need an escape, and are then taken over whole instead of byte by
/// byte.
pub fn string(text: &str) -> Box<RawValue> {
    if text.as_bytes().chunks(64).any(needs_escape) {
        return serde_json::value::to_raw_value(text).unwrap_or_else(|error| panic!("text is always JSON: {error}"));
    }
    quoted(text.len(), |out| out.push_str(text))
}

/// Appends UTF-8 text as a JSON string, without a copy in between.
pub fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    if text.chunks(64).any(needs_escape) {
        let text = std::str::from_utf8(text).unwrap_or_default();
        // Writing to memory cannot fail.
        let _ = serde_json::to_writer(out, text);
        return;
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

/// Appends `bytes` in base64 (standard alphabet, padded) as a JSON string.
pub fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let from = out.len();
    out.resize(from + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, out.get_mut(from..).unwrap_or_default());
    debug_assert!(written.is_ok(), "base64 takes four bytes for three");
    out.push(b'"');
}

/// `bytes` in base64 (standard alphabet, padded) as a JSON string.
pub fn base64(bytes: &[u8]) -> Box<RawValue> {
    quoted(bytes.len().div_ceil(3) * 4, |out| STANDARD.encode_string(bytes, out))
}

/// What `write` writes, in quotes: `bytes` bytes, none of which needs an escape.
fn quoted(bytes: usize, write: impl FnOnce(&mut String)) -> Box<RawValue> {
    let mut json = String::with_capacity(bytes + 2);
    json.push('"');
    write(&mut json);
    json.push('"');
    RawValue::from_string(json).unwrap_or_else(|error| panic!("what is quoted needs no escape: {error}"))
}

/// Looks at all bytes without a branch, so that the compiler takes many at a time.
fn needs_escape(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |found, byte| found | (*byte < b' ') | (*byte == b'"') | (*byte == b'\\'))
}

fn told(error: &serde_json::Error, pointer: String) -> JsonError {
    use serde_json::error::Category;
    match error.classify() {
        Category::Data => {
            let text = error.to_string();
            let message = without_input(&text);
            // Only `Bounded` says both.
            if text.starts_with("invalid length") && message.starts_with("expected a list of at most") {
                JsonError::TooMany { pointer, message }
            } else {
                JsonError::Shape { pointer, message }
            }
        }
        Category::Syntax | Category::Eof | Category::Io => {
            JsonError::Syntax { line: error.line(), column: error.column() }
        }
    }
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |mut pointer, segment| {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                let key: String = key.chars().take(100).collect();
                pointer.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1")));
            }
            Segment::Unknown => {}
        }
        pointer
    })
}

/// What serde says, without the value it quotes (a body or a secret must not come back in an error)
/// and without the line number.
fn without_input(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(text, _)| text);
    let quotes_input = ["invalid type", "invalid value", "invalid length", "unknown variant"];
    if quotes_input.iter().any(|start| message.starts_with(start)) {
        return match message.rsplit_once(", expected ") {
            // What a type is called inside helps nobody outside.
            Some((_, expected)) if expected.starts_with("struct ") => "expected an object".to_owned(),
            Some((_, "i64" | "u64" | "u32")) => "expected a whole number".to_owned(),
            Some((_, expected)) => format!("expected {expected}"),
            None => "not of the expected form".to_owned(),
        };
    }
    message.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Shape {
        list: Option<Vec<u64>>,
    }

    #[test]
    fn a_string_is_what_serde_makes_of_it() {
        let long = "x".repeat(200);
        for text in ["", "plain", "a \"quote\"", "back\\slash", "line\nbreak", "\u{0}", "\u{1f}", "\u{7f}ü🦀", &long]
        {
            assert_eq!(string(text).get(), serde_json::to_string(text).expect("text"));
            let late = format!("{long}{text}");
            assert_eq!(string(&late).get(), serde_json::to_string(&late).expect("text"));
        }
    }

    #[test]
    fn a_mistake_is_told_by_place_and_never_quotes_the_value() {
        let error = read::<Shape>(br#"{"list":[1,"a secret, expected or not"]}"#).expect_err("a string is no number");
        assert_eq!(error, JsonError::Shape { pointer: "/list/1".into(), message: "expected a whole number".into() });
        assert!(matches!(read::<Shape>(b"{\"lost\":1}"), Err(JsonError::Shape { .. })));
        assert!(matches!(read::<Shape>(b" [[1]]"), Err(JsonError::Shape { .. })));
        let none = JsonError::Shape { pointer: String::new(), message: "expected an object".into() };
        assert_eq!(read::<Shape>(b"null"), Err(none.clone()));
        assert_eq!(read::<Shape>(b"5"), Err(none));
        assert!(matches!(read::<Shape>(b"{"), Err(JsonError::Syntax { .. })));
        assert!(matches!(read::<Shape>(b"{} x"), Err(JsonError::Syntax { .. })));
        assert!(matches!(read::<Shape>(b"{\"list\":[-1]}"), Err(JsonError::Shape { .. })));
    }

    #[test]
    fn a_request_may_leave_its_body_out_but_white_space_is_no_json() {
        assert_eq!(read::<Shape>(b""), Ok(Shape { list: None }));
        assert_eq!(read::<Shape>(b" \n{}\t"), Ok(Shape { list: None }));
        for white in [&b" "[..], b"\n", b"\r\n\t "] {
            assert!(matches!(read::<Shape>(white), Err(JsonError::Syntax { .. })), "{white:?}");
        }
    }
}
