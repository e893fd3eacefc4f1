//! Credentials and what they allow: making them, proving them, and the one authorisation function.
//! Secrets live here only as long as a request; at rest they are hashed or sealed.

mod authorise;
mod credential;
mod seal;

use sha2::{Digest, Sha256};

use crate::model::AccountName;

pub use authorise::{Denied, Principal, Right, Target, authorise};
pub use credential::{
    BadCredential, Grant, MadeAccessKey, MadeToken, Secret, access_key_secret, make_access_key, make_token, verify,
};
pub use seal::{SealingKey, Unsealable};

/// The id of an account where the wire wants 32 hexadecimal digits: the first half of the SHA-256 of its
/// name behind a fixed prefix, so that it is the same on every server.
pub fn account_hex(account: &AccountName) -> String {
    let mut text = to_hex(&Sha256::digest(format!("windlass account:{account}")));
    text.truncate(32);
    text
}

/// Lower-case hexadecimal digits of `bytes`.
fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hex_id_of_an_account_never_changes() {
        assert_eq!(account_hex(&AccountName::standard()).len(), 32);
        assert_eq!(account_hex(&AccountName::standard()), "34f199b274e667cbca14da541ced1ef9");
    }
}
