//! Who may do what: records of tokens and access keys. Secrets appear only hashed or sealed.

use std::fmt;

use crate::model::{AccountName, Millis, TopicName};

/// One thing a credential may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Put messages into topics.
    Publish,
    /// Pull, settle and peek.
    Consume,
    /// Make, change, purge and delete topics, groups and credentials.
    Admin,
}

/// The set of permissions of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Permissions {
    /// Includes [`Permission::Publish`].
    pub publish: bool,
    /// Includes [`Permission::Consume`].
    pub consume: bool,
    /// Includes [`Permission::Admin`].
    pub admin: bool,
}

impl Permissions {
    /// All of them.
    pub const ALL: Self = Self { publish: true, consume: true, admin: true };

    /// Whether `permission` is in the set.
    pub const fn allows(self, permission: Permission) -> bool {
        match permission {
            Permission::Publish => self.publish,
            Permission::Consume => self.consume,
            Permission::Admin => self.admin,
        }
    }
}

/// Which topics a credential reaches: `*` alone or at the end stands for anything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicPattern(String);

impl TopicPattern {
    /// Every topic of the account.
    pub fn all() -> Self {
        Self("*".to_owned())
    }

    /// Reads a topic name or a prefix followed by `*`.
    pub fn parse(text: &str) -> Result<Self, crate::model::NameError> {
        let stem = text.strip_suffix('*').unwrap_or(text);
        if !(stem.is_empty() && text == "*") {
            TopicName::parse(stem)?;
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether `topic` is reached.
    pub fn covers(&self, topic: &TopicName) -> bool {
        match self.0.strip_suffix('*') {
            Some(stem) => topic.as_str().starts_with(stem),
            None => self.0 == topic.as_str(),
        }
    }

    /// The text it was read from.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Public name of a credential: the text shown by `windlass token list` (for an access key, the key id).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessId(pub String);

impl fmt::Display for AccessId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// What proves the credential.
#[derive(Clone, PartialEq, Eq)]
pub enum AccessKind {
    /// A bearer token of 256 random bits; only its SHA-256 is kept.
    Token {
        /// SHA-256 of the token's text.
        sha256: [u8; 32],
    },
    /// An access key whose secret signs requests, sealed under the key of the data directory.
    AccessKey {
        /// The sealed secret.
        sealed_secret: Vec<u8>,
    },
}

/// Shows which kind it is and never what is inside.
impl fmt::Debug for AccessKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Token { .. } => "Token",
            Self::AccessKey { .. } => "AccessKey",
        })
    }
}

/// A credential as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRecord {
    /// Its public name, unique in the server.
    pub id: AccessId,
    /// The account it opens.
    pub account: AccountName,
    /// What proves it.
    pub kind: AccessKind,
    /// What it allows.
    pub permissions: Permissions,
    /// Which topics it reaches.
    pub topics: TopicPattern,
    /// Log-clock time of its making.
    pub created_at: Millis,
    /// Log-clock time from which on it is refused. `None`: never.
    pub expires_at: Option<Millis>,
}
