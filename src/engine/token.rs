//! Lease tokens: opaque text with a MAC, made and read only here.
//!
//! 28 bytes name topic, group, placing, offset, lease; 16 the message; 16 are the first half of an HMAC-SHA256
//! under the key of the data directory. base64url without padding.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::engine::command::LeaseName;

const NAMED_BYTES: usize = 44;
const MAC_BYTES: usize = 16;
/// Longest text that can be a token: whatever is longer is not even decoded.
const TEXT_BYTES_MAX: usize = 96;

/// Makes and reads tokens under one key.
#[derive(Clone)]
pub struct Tokens {
    keyed: Hmac<Sha256>,
}

impl Tokens {
    pub fn new(key: &[u8; 32]) -> Self {
        let keyed = Hmac::new_from_slice(key).unwrap_or_else(|_| panic!("HMAC takes a key of any length"));
        Self { keyed }
    }

    fn mac(&self, named: &[u8]) -> [u8; 32] {
        let mut mac = self.keyed.clone();
        mac.update(b"windlass lease");
        mac.update(named);
        mac.finalize().into_bytes().into()
    }

    /// The token of a lease.
    pub fn make(&self, (topic, group, placing): (u32, u32, u32), offset: u64, id: u128, lease: u64) -> String {
        let mut bytes = Vec::with_capacity(NAMED_BYTES + MAC_BYTES);
        bytes.extend_from_slice(&topic.to_le_bytes());
        bytes.extend_from_slice(&group.to_le_bytes());
        bytes.extend_from_slice(&placing.to_le_bytes());
        bytes.extend_from_slice(&offset.to_le_bytes());
        bytes.extend_from_slice(&lease.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
        let mac = self.mac(&bytes);
        bytes.extend_from_slice(&mac[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The lease that a token names, if it is one of ours.
    pub fn read(&self, text: &str) -> LeaseName {
        self.try_read(text).unwrap_or(LeaseName::Forged)
    }

    fn try_read(&self, text: &str) -> Option<LeaseName> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (named, said) = bytes.split_at_checked(NAMED_BYTES)?;
        let mac = self.mac(named);
        if said.len() != MAC_BYTES || !bool::from(subtle::ConstantTimeEq::ct_eq(said, &mac[..MAC_BYTES])) {
            return None;
        }
        Some(LeaseName::Token {
            topic: u32::from_le_bytes(named.get(..4)?.try_into().ok()?),
            group: u32::from_le_bytes(named.get(4..8)?.try_into().ok()?),
            placing: u32::from_le_bytes(named.get(8..12)?.try_into().ok()?),
            offset: u64::from_le_bytes(named.get(12..20)?.try_into().ok()?),
            lease: u64::from_le_bytes(named.get(20..28)?.try_into().ok()?),
            id: u128::from_le_bytes(named.get(28..44)?.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_no_changed_or_foreign_one_does() {
        let (ours, theirs) = (Tokens::new(&[7; 32]), Tokens::new(&[8; 32]));
        let text = ours.make((3, 5, 1), 77, 1 << 100, 99);
        let name = LeaseName::Token { topic: 3, group: 5, placing: 1, offset: 77, id: 1 << 100, lease: 99 };
        assert_eq!(ours.read(&text), name);
        assert_eq!(theirs.read(&text), LeaseName::Forged);
        for place in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(ours.read(&changed), LeaseName::Forged, "byte {place}");
        }
        for text in ["", "abc", "🦀", &"A".repeat(75), &"A".repeat(10_000)] {
            assert_eq!(ours.read(text), LeaseName::Forged);
        }
    }
}
