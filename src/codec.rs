//! The one place that names bincode: fixed-width little-endian, bounded, trailing bytes refused.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bytes do not decode: {0}")]
pub struct DecodeError(String);

/// Largest value that is encoded or decoded: no length in damaged bytes makes us allocate more.
const BYTES_MAX: u64 = 1 << 30;

fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .with_limit(BYTES_MAX)
        .reject_trailing_bytes()
}

/// Appends the encoding of `value` to `out`.
pub fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    // Writing to memory cannot fail, and no value of ours comes near the limit.
    options().serialize_into(out, value).unwrap_or_else(|error| panic!("a value could not be encoded: {error}"));
}

/// The encoding of `value`.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(value, &mut out);
    out
}

/// The value that `bytes`, all of them, encode.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    options().deserialize(bytes).map_err(|error| DecodeError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_stay_the_same() {
        let value = (7u32, "ab".to_owned(), Some(1u8), vec![258u16], None::<u64>);
        let bytes = encode(&value);
        assert_eq!(bytes, [7, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0]);
        assert_eq!(decode::<(u32, String, Option<u8>, Vec<u16>, Option<u64>)>(&bytes), Ok(value));
    }

    #[test]
    fn a_huge_length_and_a_trailing_byte_are_refused() {
        let mut huge = u64::MAX.to_le_bytes().to_vec();
        huge.extend_from_slice(b"abc");
        assert!(decode::<String>(&huge).is_err());
        let mut long = encode(&5u32);
        long.push(0);
        assert!(decode::<u32>(&long).is_err());
    }
}
