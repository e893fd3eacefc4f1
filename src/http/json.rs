//! JSON of requests: read with the place of the mistake, and without repeating what was sent.

use serde::Deserialize;

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

/// Reads `body`, an object; nothing at all counts as `{}`.
pub fn read<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, JsonError> {
    let body = if body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { body };
    // serde would take a list for the fields in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(JsonError::Shape { pointer: String::new(), message: "expected an object".to_owned() });
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let pointer = pointer(error.path());
        told(error.inner(), pointer)
    })?;
    reader.end().map_err(|error| told(&error, String::new()))?;
    Ok(value)
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
    fn a_mistake_is_told_by_place_and_never_quotes_the_value() {
        let error = read::<Shape>(br#"{"list":[1,"a secret, expected or not"]}"#).expect_err("a string is no number");
        assert_eq!(error, JsonError::Shape { pointer: "/list/1".into(), message: "expected u64".into() });
        assert!(matches!(read::<Shape>(b"{\"lost\":1}"), Err(JsonError::Shape { .. })));
        assert!(matches!(read::<Shape>(b" [[1]]"), Err(JsonError::Shape { .. })));
        assert!(matches!(read::<Shape>(b"{"), Err(JsonError::Syntax { .. })));
        assert!(matches!(read::<Shape>(b"{} x"), Err(JsonError::Syntax { .. })));
        assert!(matches!(read::<Shape>(b"{\"list\":[-1]}"), Err(JsonError::Shape { .. })));
        assert_eq!(read::<Shape>(b" \n"), Ok(Shape { list: None }));
    }
}
