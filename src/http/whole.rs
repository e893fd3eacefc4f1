//! Whole numbers from clients that know only floats: `5` and `5.0` are the same, `5.5` and `-1` are none.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A whole number from 0 to 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whole(pub u64);

/// Above this, not every whole number is a float.
const MAX: u64 = 1 << 53;

impl Whole {
    /// Reads a parameter of a query.
    pub fn parse(text: &str) -> Option<Self> {
        digits(text.strip_suffix(".0").unwrap_or(text)).filter(|number| *number <= MAX).map(Self)
    }
}

/// Reads a number written in digits alone: no sign, no space, not empty.
pub fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Whole;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a whole number from 0 on")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
                let out = || E::invalid_value(serde::de::Unexpected::Unsigned(number), &self);
                if number <= MAX { Ok(Whole(number)) } else { Err(out()) }
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Whole, E> {
                let fits = number.fract() == 0.0 && (0.0..=MAX as f64).contains(&number);
                let out = || E::invalid_value(serde::de::Unexpected::Float(number), &self);
                // Checked above: whole, and within the numbers that a float holds exactly.
                if fits { Ok(Whole(number as u64)) } else { Err(out()) }
            }
        }
        deserializer.deserialize_u64(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_floats_count_and_others_do_not() {
        for (text, number) in [("5", 5), ("5.0", 5), ("0", 0), ("1e3", 1000), ("9007199254740992", MAX)] {
            assert_eq!(serde_json::from_str::<Whole>(text).map_err(drop), Ok(Whole(number)), "{text}");
        }
        for text in ["5.5", "-1", "-1.0", "\"5\"", "true", "9007199254740993", "1e300", "18446744073709551616"] {
            assert!(serde_json::from_str::<Whole>(text).is_err(), "{text}");
        }
        assert_eq!(Whole::parse("7"), Some(Whole(7)));
        for text in ["", "-1", "+1", " 1", "x", "1e3", "99999999999999999999"] {
            assert_eq!(Whole::parse(text), None, "{text}");
            assert_eq!(digits::<u64>(text), None, "{text}");
        }
    }
}
