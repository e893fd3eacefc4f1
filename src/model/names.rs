//! Names and labels that clients choose. Parsed once, at the edge; never used as file names.

use std::fmt;
use std::sync::Arc;

/// Text that breaks the rule of its kind of name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or longer than the bound.
    #[error("{kind} is {got} bytes long, 1 to {max} are allowed")]
    Length {
        /// What is being named.
        kind: &'static str,
        /// Bytes received.
        got: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A character outside the allowed set.
    #[error("{kind} has the character {got:?}; allowed are {allowed}")]
    Character {
        /// What is being named.
        kind: &'static str,
        /// The offending character.
        got: char,
        /// The allowed set, in words.
        allowed: &'static str,
    },
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal, $allowed:literal, $rule:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Longest allowed, in bytes.
            pub const BYTES_MAX: usize = $max;

            /// Checks `text` against the rule of this name.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                if text.is_empty() || text.len() > Self::BYTES_MAX {
                    return Err(NameError::Length { kind: $kind, got: text.len(), max: Self::BYTES_MAX });
                }
                let rule: fn(char) -> bool = $rule;
                match text.chars().find(|c| !rule(*c)) {
                    Some(got) => Err(NameError::Character { kind: $kind, got, allowed: $allowed }),
                    None => Ok(Self(text.into())),
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

fn plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '+' | '-')
}

fn printable(c: char) -> bool {
    !c.is_control()
}

name! {
    /// Name of an account: a space of topics that no other account can see.
    AccountName, "account name", 64, "A-Z a-z 0-9 . _ ~ + -", plain
}
name! {
    /// Name of a topic, unique within its account.
    TopicName, "topic name", 128, "A-Z a-z 0-9 . _ ~ + -", plain
}
name! {
    /// Name of a group, unique within its topic.
    GroupName, "group name", 128, "A-Z a-z 0-9 . _ ~ + -", plain
}
name! {
    /// Label of a message that groups filter by.
    Tag, "tag", 128, "printable characters but `|`", |c| printable(c) && c != '|'
}
name! {
    /// Key of a message: order and compaction are per key.
    Key, "key", 255, "printable characters", printable
}
name! {
    /// Names one publish, so that a repeat of it is answered and not published again.
    IdempotencyKey, "idempotency key", 255, "printable characters", printable
}
name! {
    /// Media type of a body, kept as the producer gave it.
    ContentType, "content type", 255, "printable ASCII", |c| c.is_ascii() && printable(c)
}

impl AccountName {
    /// The account of a server without tokens.
    pub fn standard() -> Self {
        Self("default".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_name_that_is_a_path_is_refused() {
        for text in ["", "../etc", "a/b", "a b", "ü", &"x".repeat(129)] {
            assert!(TopicName::parse(text).is_err(), "{text:?}");
        }
        assert!(TopicName::parse("orders.eu-1_a~b+c").is_ok());
    }
}
