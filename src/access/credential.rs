//! Making and proving credentials.
//!
//! A token is `wl_` and 256 random bits in base64url; kept is its SHA-256. Its public id is the head of
//! that hash, which makes the look-up one search by id and the proof one comparison in constant time.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::access::{Principal, SealingKey, Unsealable, to_hex};
use crate::clock::Clock;
use crate::engine::AccessTable;
use crate::model::{AccessId, AccessKind, AccessRecord, AccountName, Millis, Permissions, TopicPattern};

const TOKEN_PREFIX: &str = "wl_";
const TOKEN_ID_PREFIX: &str = "wlt_";
const TOKEN_ID_DIGITS: usize = 16;
/// Longer ones are refused without hashing them.
const TOKEN_BYTES_MAX: usize = 256;
const ACCESS_KEY_PREFIX: &str = "WLAK";

/// Text that opens something: shown to its maker once, never printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret")
    }
}

/// What a new credential shall open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The account.
    pub account: AccountName,
    /// What it allows.
    pub permissions: Permissions,
    /// Which topics it reaches.
    pub topics: TopicPattern,
    /// From when on it is refused. `None`: never.
    pub expires_at: Option<Millis>,
}

/// A new token: the record to keep and the text to hand over.
#[derive(Debug, Clone)]
pub struct MadeToken {
    /// To be kept.
    pub record: AccessRecord,
    /// To be shown once.
    pub token: Secret,
}

/// A new access key: the record to keep (its id is the key id) and the secret to hand over.
#[derive(Debug, Clone)]
pub struct MadeAccessKey {
    /// To be kept.
    pub record: AccessRecord,
    /// To be shown once.
    pub secret: Secret,
}

/// A credential that proves nothing. Deliberately says no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the credential is unknown, expired or revoked")]
pub struct BadCredential;

fn random_text(clock: &dyn Clock) -> String {
    URL_SAFE_NO_PAD.encode([clock.random().to_ne_bytes(), clock.random().to_ne_bytes()].concat())
}

fn token_id(sha256: &[u8; 32]) -> AccessId {
    let mut digits = to_hex(sha256);
    digits.truncate(TOKEN_ID_DIGITS);
    AccessId(format!("{TOKEN_ID_PREFIX}{digits}"))
}

fn record(id: AccessId, kind: AccessKind, grant: Grant, now: Millis) -> AccessRecord {
    let Grant { account, permissions, topics, expires_at } = grant;
    AccessRecord { id, account, kind, permissions, topics, created_at: now, expires_at }
}

/// Makes a bearer token.
pub fn make_token(clock: &dyn Clock, grant: Grant) -> MadeToken {
    let token = format!("{TOKEN_PREFIX}{}", random_text(clock));
    let sha256: [u8; 32] = Sha256::digest(&token).into();
    let record = record(token_id(&sha256), AccessKind::Token { sha256 }, grant, clock.wall());
    MadeToken { record, token: Secret(token) }
}

/// Makes an access key whose secret is kept sealed.
pub fn make_access_key(clock: &dyn Clock, sealing: &SealingKey, grant: Grant) -> MadeAccessKey {
    let id = AccessId(format!("{ACCESS_KEY_PREFIX}{:032X}", clock.random()));
    let secret = random_text(clock);
    let sealed_secret = sealing.seal(clock, &id, secret.as_bytes());
    let record = record(id, AccessKind::AccessKey { sealed_secret }, grant, clock.wall());
    MadeAccessKey { record, secret: Secret(secret) }
}

/// Finds whose token this is.
pub fn verify(table: &AccessTable, token: &str, now: Millis) -> Result<Principal, BadCredential> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(BadCredential);
    }
    let presented: [u8; 32] = Sha256::digest(token).into();
    let record = table.records.get(&token_id(&presented)).ok_or(BadCredential)?;
    let AccessKind::Token { sha256 } = &record.kind else {
        return Err(BadCredential);
    };
    if !bool::from(presented.ct_eq(sha256)) {
        return Err(BadCredential);
    }
    principal(record, now)
}

/// Finds an access key by its id and opens its secret, for a dialect that verifies signatures.
pub fn access_key_secret(
    table: &AccessTable,
    sealing: &SealingKey,
    id: &AccessId,
    now: Millis,
) -> Result<(Principal, Vec<u8>), BadCredential> {
    let record = table.records.get(id).ok_or(BadCredential)?;
    let AccessKind::AccessKey { sealed_secret } = &record.kind else {
        return Err(BadCredential);
    };
    let secret = sealing.open(id, sealed_secret).map_err(|Unsealable| {
        tracing::error!(access_key = %id, "the stored secret does not open: was secret.key replaced?");
        BadCredential
    })?;
    Ok((principal(record, now)?, secret))
}

fn principal(record: &AccessRecord, now: Millis) -> Result<Principal, BadCredential> {
    if record.expires_at.is_some_and(|end| now >= end) {
        return Err(BadCredential);
    }
    Ok(Principal {
        account: record.account.clone(),
        permissions: record.permissions,
        topics: record.topics.clone(),
        id: record.id.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn grant() -> Grant {
        Grant {
            account: AccountName::parse("shop").expect("a name"),
            permissions: Permissions { publish: true, ..Permissions::default() },
            topics: TopicPattern::all(),
            expires_at: Some(Millis::new(2_000_000_000_000)),
        }
    }

    fn table(records: Vec<AccessRecord>) -> AccessTable {
        AccessTable { records: records.into_iter().map(|record| (record.id.clone(), record)).collect() }
    }

    #[test]
    fn only_the_very_token_opens_and_only_until_it_expires() {
        let clock = ManualClock::new(3);
        let MadeToken { record, token } = make_token(&clock, grant());
        let table = table(vec![record.clone()]);
        let now = clock.wall();
        assert_eq!(verify(&table, token.reveal(), now).map(|who| who.account), Ok(record.account));
        let mut forged = token.reveal().to_owned();
        forged.pop();
        for bad in ["", "wl_", &forged, record.id.0.as_str(), &"x".repeat(10_000)] {
            assert_eq!(verify(&table, bad, now), Err(BadCredential));
        }
        assert_eq!(verify(&table, token.reveal(), Millis::new(2_000_000_000_000)), Err(BadCredential));
    }

    #[test]
    fn a_record_with_the_right_id_and_another_hash_does_not_open() {
        let clock = ManualClock::new(4);
        let MadeToken { mut record, token } = make_token(&clock, grant());
        let AccessKind::Token { sha256 } = &mut record.kind else { panic!("a token") };
        sha256[31] ^= 1;
        assert_eq!(verify(&table(vec![record]), token.reveal(), clock.wall()), Err(BadCredential));
    }

    #[test]
    fn an_access_key_gives_its_secret_back_and_is_no_token() {
        let clock = ManualClock::new(5);
        let key = SealingKey::new([1; 32]);
        let made = make_access_key(&clock, &key, grant());
        let id = made.record.id.clone();
        let table = table(vec![made.record]);
        let (who, secret) = access_key_secret(&table, &key, &id, clock.wall()).expect("the key opens");
        assert_eq!((who.account.as_str(), secret.as_slice()), ("shop", made.secret.reveal().as_bytes()));
        assert_eq!(verify(&table, &id.0, clock.wall()), Err(BadCredential));
        assert!(access_key_secret(&table, &SealingKey::new([2; 32]), &id, clock.wall()).is_err());
    }

    #[test]
    fn secrets_do_not_print() {
        let clock = ManualClock::new(6);
        let made = make_token(&clock, grant());
        assert!(!format!("{made:?}").contains(made.token.reveal()));
    }
}
