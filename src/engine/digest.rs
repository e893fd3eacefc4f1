//! Short digests: keys and tags are compared by them, so that rows have a fixed size.

use sha2::{Digest, Sha256};

use crate::model::NewMessage;

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn first_16(bytes: &[u8; 32]) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&bytes[..16]);
    u128::from_be_bytes(half)
}

/// Digest of a message key or an idempotency key. Never zero: zero means "none".
pub fn of_key(text: &str) -> u128 {
    first_16(&sha256(&[text.as_bytes()])).max(1)
}

/// Digest of a tag. Never zero: zero means "none".
pub fn of_tag(text: &str) -> u64 {
    ((first_16(&sha256(&[text.as_bytes()])) >> 64) as u64).max(1)
}

/// Digest of all that a repeat under one idempotency key must share with the first publish.
pub fn of_message(message: &NewMessage) -> u64 {
    let text = |part: Option<&str>| part.unwrap_or("\u{0}").as_bytes().to_vec();
    let content_type = text(message.content_type.as_ref().map(AsRef::as_ref));
    let key = text(message.key.as_ref().map(AsRef::as_ref));
    let tag = text(message.tag.as_ref().map(AsRef::as_ref));
    let mut parts: Vec<&[u8]> = vec![&message.body, &content_type, &key, &tag];
    for (name, value) in &message.properties {
        parts.push(name.as_bytes());
        parts.push(value.as_bytes());
    }
    (first_16(&sha256(&parts)) >> 64) as u64
}
