//! The faults that a topic may be given, and the dice. The n-th decision about one fault of a topic depends
//! on the seed, the account, the topic, the fault and n, and on nothing else.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::model::bounds::LEASE_MAX;
use crate::model::{AccountName, SettingsError, TopicName};

/// A share is so many of this.
pub const SHARE_MAX: u16 = 1000;
/// Longest that an answer is held back.
pub const DELAY_MAX: Duration = Duration::from_secs(60);
/// A server that restarts itself more often than this does nothing else.
pub const RESTART_EVERY_MIN: u64 = 10;
/// Most calls between two restarts.
pub const RESTART_EVERY_MAX: u64 = 1_000_000_000;
/// Largest seed: every program's JSON can carry it.
pub const SEED_MAX: u64 = 1 << 53;

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A message is given back at once, so that somebody else gets it while its first holder works on it.
    Duplicate,
    /// The answer of a pull is held back while its leases run.
    Delay,
    /// The messages of a pull are shuffled, and one further on may overtake the first.
    Reorder,
    /// A lease ends long before the deadline that its holder was told.
    Lapse,
    /// An ack is answered and not done.
    DropAck,
    /// A call is done and the connection cut instead of an answer.
    LoseAnswer,
    /// A call is done and the connection cut in the middle of the answer's body.
    CutBody,
    /// A call is refused as an overloaded server refuses (503 where the dialect has it), and not done.
    Unavailable,
    /// A call is refused as one too many (429), and not done.
    Throttle,
    /// The server ends as by SIGKILL, and starts again.
    Restart,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Duplicate,
        Self::Delay,
        Self::Reorder,
        Self::Lapse,
        Self::DropAck,
        Self::LoseAnswer,
        Self::CutBody,
        Self::Unavailable,
        Self::Throttle,
        Self::Restart,
    ];

    /// Its name in histories and settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Delay => "delay",
            Self::Reorder => "reorder",
            Self::Lapse => "lapse",
            Self::DropAck => "drop_ack",
            Self::LoseAnswer => "lose_answer",
            Self::CutBody => "cut_body",
            Self::Unavailable => "unavailable",
            Self::Throttle => "throttle",
            Self::Restart => "restart",
        }
    }
}

/// The faults of a topic. Shares are per mille; zero is off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Where the dice begin.
    pub seed: u64,
    /// Of deliveries: given back at once.
    pub duplicate: u16,
    /// Of pulls that found something: answered late.
    pub delay: u16,
    /// How late.
    pub delay_ms: u64,
    /// Of pulls that found something: reordered.
    pub reorder: u16,
    /// Of deliveries: their lease ends early.
    pub lapse: u16,
    /// How long such a lease holds.
    pub lapse_ms: u64,
    /// Of acks: answered and not done.
    pub drop_ack: u16,
    /// Of calls: done and not answered.
    pub lose_answer: u16,
    /// Of calls: done, and the answer cut.
    pub cut_body: u16,
    /// Of calls: refused as by an overloaded server.
    pub unavailable: u16,
    /// Of calls: refused as one too many.
    pub throttle: u16,
    /// After so many calls the server ends and starts again; zero is off.
    pub restart_every: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            seed: 0,
            duplicate: 0,
            delay: 0,
            delay_ms: 1_000,
            reorder: 0,
            lapse: 0,
            lapse_ms: 1_000,
            drop_ack: 0,
            lose_answer: 0,
            cut_body: 0,
            unavailable: 0,
            throttle: 0,
            restart_every: 0,
        }
    }
}

impl Faults {
    /// The share of a fault; the one of restarts is no share.
    pub const fn share(&self, fault: Fault) -> u16 {
        match fault {
            Fault::Duplicate => self.duplicate,
            Fault::Delay => self.delay,
            Fault::Reorder => self.reorder,
            Fault::Lapse => self.lapse,
            Fault::DropAck => self.drop_ack,
            Fault::LoseAnswer => self.lose_answer,
            Fault::CutBody => self.cut_body,
            Fault::Unavailable => self.unavailable,
            Fault::Throttle => self.throttle,
            Fault::Restart => 0,
        }
    }

    /// Refuses what is out of bounds.
    pub fn check(&self) -> Result<(), SettingsError> {
        let refuse = |field, rule| Err(SettingsError { field, rule });
        if let Some(fault) = Fault::ALL.into_iter().find(|fault| self.share(*fault) > SHARE_MAX) {
            return refuse(fault.name(), "0 to 1000 (per mille)");
        }
        if self.seed > SEED_MAX {
            return refuse("seed", "0 to 2^53");
        }
        if self.delay_ms == 0 || self.delay_ms > DELAY_MAX.as_millis() as u64 {
            return refuse("delay_ms", "1 to 60000");
        }
        if self.lapse_ms == 0 || self.lapse_ms > LEASE_MAX.as_millis() as u64 {
            return refuse("lapse_ms", "1 to 43200000 (12 hours)");
        }
        if self.restart_every != 0 && !(RESTART_EVERY_MIN..=RESTART_EVERY_MAX).contains(&self.restart_every) {
            return refuse("restart_every", "0 (never), or 10 to 1000000000 calls");
        }
        Ok(())
    }

    /// Decision number `turn` about a fault.
    pub fn falls(&self, place: &Place, fault: Fault, turn: u64) -> bool {
        match fault {
            Fault::Restart => self.restart_every != 0 && (turn + 1).is_multiple_of(self.restart_every),
            _ => self.dice(place, fault, turn) % u64::from(SHARE_MAX) < u64::from(self.share(fault)),
        }
    }

    /// Even dice for decision number `turn` about a fault.
    pub fn dice(&self, place: &Place, fault: Fault, turn: u64) -> u64 {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update(turn.to_le_bytes());
        for text in [fault.name(), place.account.as_str(), place.topic.as_str()] {
            hash.update(text);
            hash.update([0]);
        }
        hash.finalize().iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
    }
}

/// A topic, as clients name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Its account.
    pub account: AccountName,
    /// Its name.
    pub topic: TopicName,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(topic: &str) -> Place {
        Place { account: AccountName::standard(), topic: TopicName::parse(topic).expect("a name") }
    }

    #[test]
    fn a_share_is_met_and_the_same_seed_falls_the_same_way() {
        let faults = Faults { seed: 7, duplicate: 100, lapse: 100, ..Faults::default() };
        let fallen = |faults: &Faults, topic: &str, fault| -> Vec<u64> {
            (0..10_000).filter(|turn| faults.falls(&place(topic), fault, *turn)).collect()
        };
        let first = fallen(&faults, "t", Fault::Duplicate);
        assert!((900..1_100).contains(&first.len()), "{}", first.len());
        assert_eq!(first, fallen(&faults, "t", Fault::Duplicate));
        assert_ne!(first, fallen(&faults, "u", Fault::Duplicate), "topics fall apart");
        assert_ne!(first, fallen(&faults, "t", Fault::Lapse), "faults fall apart");
        assert_ne!(first, fallen(&Faults { seed: 8, ..faults.clone() }, "t", Fault::Duplicate), "seeds fall apart");
        assert!(fallen(&faults, "t", Fault::DropAck).is_empty());
        let all = Faults { drop_ack: SHARE_MAX, ..faults };
        assert_eq!(fallen(&all, "t", Fault::DropAck).len(), 10_000);
    }

    #[test]
    fn numbers_out_of_bounds_are_refused_by_name() {
        let good = Faults::default();
        assert_eq!(good.check(), Ok(()));
        for (bad, field) in [
            (Faults { cut_body: 1001, ..good.clone() }, "cut_body"),
            (Faults { seed: SEED_MAX + 1, ..good.clone() }, "seed"),
            (Faults { delay_ms: 0, ..good.clone() }, "delay_ms"),
            (Faults { delay_ms: 60_001, ..good.clone() }, "delay_ms"),
            (Faults { lapse_ms: 0, ..good.clone() }, "lapse_ms"),
            (Faults { lapse_ms: u64::MAX, ..good.clone() }, "lapse_ms"),
            (Faults { restart_every: 9, ..good.clone() }, "restart_every"),
            (Faults { restart_every: u64::MAX, ..good.clone() }, "restart_every"),
        ] {
            assert_eq!(bad.check().map_err(|error| error.field), Err(field));
        }
    }
}
