//! Credentials on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{AccessKind, AccessRecord, Permissions};

/// What proves a credential.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessKindWire {
    /// A bearer token.
    #[default]
    Token,
    /// A key id and a secret that signs requests.
    AccessKey,
}

/// One thing a credential may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum PermissionWire {
    Publish,
    Consume,
    Admin,
}

/// A credential to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessCreate {
    #[serde(default)]
    pub kind: AccessKindWire,
    /// What it allows; no more than the caller may.
    permissions: Vec<PermissionWire>,
    /// Topics it reaches: a name, a prefix and `*`, or `*`. Default: `*`.
    pub topics: Option<String>,
    /// How long it is good for. Missing: until it is revoked.
    pub expires_in_ms: Option<u64>,
    /// The account it opens. Default: the caller's; another only while the server has no credentials.
    pub account: Option<String>,
}

impl AccessCreate {
    /// The permissions asked for.
    pub fn permissions(&self) -> Permissions {
        let has = |permission| self.permissions.contains(&permission);
        Permissions {
            publish: has(PermissionWire::Publish),
            consume: has(PermissionWire::Consume),
            admin: has(PermissionWire::Admin),
        }
    }
}

/// A credential as kept, without what proves it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccessView {
    id: String,
    kind: AccessKindWire,
    account: String,
    permissions: Vec<PermissionWire>,
    topics: String,
    created_at_ms: u64,
    expires_at_ms: Option<u64>,
}

impl From<&AccessRecord> for AccessView {
    fn from(record: &AccessRecord) -> Self {
        let Permissions { publish, consume, admin } = record.permissions;
        let listed =
            [(publish, PermissionWire::Publish), (consume, PermissionWire::Consume), (admin, PermissionWire::Admin)];
        Self {
            id: record.id.to_string(),
            kind: match record.kind {
                AccessKind::Token { .. } => AccessKindWire::Token,
                AccessKind::AccessKey { .. } => AccessKindWire::AccessKey,
            },
            account: record.account.to_string(),
            permissions: listed.into_iter().filter(|(has, _)| *has).map(|(_, permission)| permission).collect(),
            topics: record.topics.as_str().to_owned(),
            created_at_ms: record.created_at.get(),
            expires_at_ms: record.expires_at.map(crate::model::Millis::get),
        }
    }
}

/// A new credential. The secret is shown this once.
#[derive(Serialize, ToSchema)]
pub struct AccessMade {
    #[serde(flatten)]
    pub credential: AccessView,
    /// The bearer token, or the secret of the access key.
    pub secret: String,
}

/// The credentials of the account.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccessList {
    pub credentials: Vec<AccessView>,
}
