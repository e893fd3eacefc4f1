//! Identifiers: of messages (UUIDv7, rising), topics and groups (random 128 bits).

use std::fmt;

use crate::model::Millis;

/// Text that is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an identifier: 32 hexadecimal digits, with or without hyphens")]
pub struct IdError(String);

fn parse(text: &str) -> Result<u128, IdError> {
    let refused = || IdError(text.chars().take(64).collect());
    uuid::Uuid::try_parse(text).map(|id| id.as_u128()).map_err(|_| refused())
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u128);

        impl $name {
            /// The identifier with these bits.
            pub const fn new(bits: u128) -> Self {
                Self(bits)
            }

            /// The bits.
            pub const fn get(self) -> u128 {
                self.0
            }

            /// Reads 32 hexadecimal digits, with or without hyphens.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                parse(text).map(Self)
            }

            /// 32 lower-case hexadecimal digits.
            pub fn to_hex(self) -> String {
                format!("{:032x}", self.0)
            }
        }

        /// The hyphenated form of a UUID.
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                uuid::Uuid::from_u128(self.0).hyphenated().fmt(out)
            }
        }
    };
}

identifier! {
    /// Identifier of a message: a UUIDv7 that the writer mints, rising within the server.
    MessageId
}
identifier! {
    /// Identifier of a topic, random, kept over a rename.
    TopicId
}
identifier! {
    /// Identifier of a group, random.
    GroupId
}

impl MessageId {
    const VERSION_AND_VARIANT: u128 = (7 << 76) | (2 << 62);
    const RAND_BITS: u32 = 74;

    /// The id that follows `last` at log-clock time `now`: a later millisecond starts at `random`, the
    /// same (or an earlier) one counts on by a random step, so ids always rise.
    #[must_use]
    pub fn following(last: Self, now: Millis, random: u128) -> Self {
        let rand_mask = (1u128 << Self::RAND_BITS) - 1;
        let now = u128::from(now.get()) & ((1 << 48) - 1);
        if now > u128::from(last.published_at().get()) {
            // The top bit stays clear so that counting on cannot overflow within a millisecond.
            return Self::join(now, random & (rand_mask >> 1));
        }
        let step = 1 + (random & 0xffff_ffff);
        let next = ((u128::from(last.published_at().get()) << Self::RAND_BITS) | last.rand()) + step;
        Self::join(next >> Self::RAND_BITS, next & rand_mask)
    }

    /// Log-clock time at which the message was published.
    pub const fn published_at(self) -> Millis {
        Millis::new((self.0 >> 80) as u64)
    }

    fn rand(self) -> u128 {
        let high = (self.0 >> 64) & 0xfff;
        let low = self.0 & ((1 << 62) - 1);
        (high << 62) | low
    }

    fn join(millis: u128, rand: u128) -> Self {
        let high = rand >> 62;
        let low = rand & ((1 << 62) - 1);
        Self((millis << 80) | Self::VERSION_AND_VARIANT | (high << 64) | (2 << 62) | low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_within_a_millisecond_and_when_the_clock_stands_still() {
        let mut last = MessageId::default();
        for turn in 0..10_000u128 {
            let now = Millis::new(1_700_000_000_000 + (turn as u64) / 1000);
            let next = MessageId::following(last, now, u128::MAX);
            assert!(next > last);
            assert_eq!(next.published_at(), now);
            let id = uuid::Uuid::from_u128(next.get());
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
            last = next;
        }
    }

    #[test]
    fn an_id_reads_back_from_both_of_its_forms() {
        let id = MessageId::following(MessageId::default(), Millis::new(5), 77);
        assert_eq!(MessageId::parse(&id.to_hex()), Ok(id));
        assert_eq!(MessageId::parse(&id.to_string()), Ok(id));
        assert!(MessageId::parse("../../etc/passwd").is_err());
    }
}
