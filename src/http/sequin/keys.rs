//! Keys of messages, in tokens joined by dots, and the patterns over them: `*` is one token, `>` at the end
//! is one or more.

use crate::http::sequin::fault::Fault;
use crate::model::Key;

const TOKENS_MAX: usize = 16;
/// Matches every key, and messages without one.
pub const ALL: &str = ">";

/// Reads the key of a message that is published here. Keys from elsewhere may break this rule.
pub fn read_key(text: &str) -> Result<Key, Fault> {
    let refuse = |message: String| Err(Fault::invalid("key", message));
    if text.split('.').count() > TOKENS_MAX {
        return refuse(format!("must have at most {TOKENS_MAX} tokens"));
    }
    if text.split('.').any(str::is_empty) {
        return refuse("must not be empty or have an empty token".to_owned());
    }
    if text.contains([' ', '*', '>']) {
        return refuse("must not contain spaces or the characters * and >".to_owned());
    }
    Key::parse(text).or_else(|error| refuse(error.to_string()))
}

/// Which keys a consumer wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let tokens: Vec<&str> = text.split('.').collect();
        if text.len() > Key::BYTES_MAX || tokens.len() > TOKENS_MAX {
            return Err("must have at most 16 tokens and 255 characters");
        }
        if tokens.iter().any(|token| token.is_empty() || token.contains([' ', '\0'])) {
            return Err("must be tokens joined by dots, without spaces");
        }
        if tokens.iter().any(|token| token.len() > 1 && token.contains(['*', '>'])) {
            return Err("must have * and > as tokens of their own");
        }
        if tokens.iter().rev().skip(1).any(|token| *token == ">") {
            return Err("must have > only as the last token");
        }
        Ok(Self(text.to_owned()))
    }

    /// The text it was read from.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it wants everything.
    pub fn is_all(&self) -> bool {
        self.0 == ALL
    }

    /// Whether it wants a message with this key.
    pub fn wants(&self, key: Option<&Key>) -> bool {
        let Some(key) = key else { return self.is_all() };
        let mut tokens = key.as_str().split('.');
        for wanted in self.0.split('.') {
            match (wanted, tokens.next()) {
                (">", rest) => return rest.is_some(),
                ("*", Some(_)) => {}
                (wanted, Some(token)) if wanted == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_want_what_nats_would() {
        let wants = |pattern: &str, key: &str| {
            Pattern::parse(pattern).expect("a pattern").wants(Some(&Key::parse(key).expect("a key")))
        };
        for (pattern, key) in [(">", "a"), (">", "a.b"), ("a.>", "a.b.c"), ("a.*", "a.b"), ("*.b", "a.b"), ("a", "a")] {
            assert!(wants(pattern, key), "{pattern} wants {key}");
        }
        for (pattern, key) in [("a.>", "a"), ("a.*", "a"), ("a.*", "a.b.c"), ("a", "a.b"), ("a.b", "a"), ("b.>", "a.b")]
        {
            assert!(!wants(pattern, key), "{pattern} does not want {key}");
        }
        assert!(Pattern::parse(ALL).expect("a pattern").wants(None));
        assert!(!Pattern::parse("*").expect("a pattern").wants(None));
    }

    #[test]
    fn keys_and_patterns_have_rules() {
        let longest = ["a"; TOKENS_MAX].join(".");
        assert!(read_key("a.b-c_1").is_ok() && read_key(&longest).is_ok() && Pattern::parse(&longest).is_ok());
        let too_long = format!("{longest}.a");
        for bad in ["", ".", "a.", "a b", "a.*", ">", "a\0", &too_long, &"x".repeat(256)] {
            assert!(read_key(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "a.", ">.a", "a>", "*a", "a b", &too_long, &"x".repeat(256)] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
    }
}
