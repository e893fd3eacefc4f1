//! Sealing of secrets that must be read again: XChaCha20-Poly1305 under the key of the data directory.
//!
//! Layout: format (1 byte, is 1), nonce (24), ciphertext with its tag. The public id of the credential
//! is bound in, so that a sealed secret cannot be moved to another record.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};

use crate::clock::Clock;
use crate::model::AccessId;

const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 24;

/// The key that seals stored secrets.
#[derive(Clone)]
pub struct SealingKey([u8; 32]);

impl SealingKey {
    /// The key with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(self.0))
    }

    /// Seals `secret` for the credential `id`.
    pub(super) fn seal(&self, clock: &dyn Clock, id: &AccessId, secret: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        let random = [clock.random().to_ne_bytes(), clock.random().to_ne_bytes()].concat();
        nonce.iter_mut().zip(random).for_each(|(place, byte)| *place = byte);
        let payload = Payload { msg: secret, aad: id.0.as_bytes() };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.unwrap_or_else(|_| unreachable!("a short secret is within the cipher's bounds"));
        [&[FORMAT][..], &nonce, &sealed].concat()
    }

    /// Opens what [`SealingKey::seal`] made for the same `id` under the same key.
    pub(super) fn open(&self, id: &AccessId, sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let (format, rest) = sealed.split_first().ok_or(Unsealable)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(Unsealable)?;
        if *format != FORMAT {
            return Err(Unsealable);
        }
        let payload = Payload { msg: sealed, aad: id.0.as_bytes() };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).map_err(|_| Unsealable)
    }
}

/// Never shows the key.
impl fmt::Debug for SealingKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SealingKey")
    }
}

/// A sealed secret that this key does not open: made under another key, for another id, or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored secret cannot be opened with this data directory's key")]
pub struct Unsealable;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_sealed_secret_opens_only_for_its_id_and_key_and_undamaged() {
        let clock = ManualClock::new(1);
        let key = SealingKey::new([7; 32]);
        let id = AccessId("A".to_owned());
        let sealed = key.seal(&clock, &id, b"secret");
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(key.open(&id, &sealed), Ok(b"secret".to_vec()));
        assert_eq!(key.open(&AccessId("B".to_owned()), &sealed), Err(Unsealable));
        assert_eq!(SealingKey::new([8; 32]).open(&id, &sealed), Err(Unsealable));
        for place in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[place] ^= 1;
            assert_eq!(key.open(&id, &bad), Err(Unsealable), "byte {place}");
            assert_eq!(key.open(&id, &sealed[..place]), Err(Unsealable), "cut at {place}");
        }
    }
}
