//! Faults on the wire. Shares are per mille, so that they are whole numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::chaos::{Dealt, Fault, Faults};

/// The faults of a topic. Shares are per mille, 0 to 1000; what is left out is off.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FaultsWire {
    /// Where the dice begin, 0 to 2^53: the same seed deals the same faults to the same calls.
    seed: u64,
    /// Of deliveries: given back at once, so that another consumer gets the message meanwhile.
    duplicate: u16,
    /// Of pulls that found something: answered late, while the leases run.
    delay: u16,
    /// How late, 1 to 60000.
    delay_ms: u64,
    /// Of pulls that found something: reordered. Neither the order per key nor the strict order is broken.
    reorder: u16,
    /// Of deliveries: the lease ends after `lapse_ms`, whatever the consumer is told.
    lapse: u16,
    /// How long such a lease holds, 1 to 43200000.
    lapse_ms: u64,
    /// Of acks: answered and not done; the message comes again.
    drop_ack: u16,
    /// Of publishes, pulls and settles: done, and the connection cut without an answer.
    lose_answer: u16,
    /// Of the same: done, and the connection cut in the middle of the answer.
    cut_body: u16,
    /// Of the same: not done, refused as an overloaded server refuses (503 where the dialect has it).
    unavailable: u16,
    /// Of the same: not done, refused as one too many (429).
    throttle: u16,
    /// After so many of the same the server ends as by SIGKILL and starts again. 0: never; else 10 or more.
    restart_every: u64,
}

impl Default for FaultsWire {
    fn default() -> Self {
        Self::from(&Faults::default())
    }
}

impl From<FaultsWire> for Faults {
    fn from(wire: FaultsWire) -> Self {
        Self {
            seed: wire.seed,
            duplicate: wire.duplicate,
            delay: wire.delay,
            delay_ms: wire.delay_ms,
            reorder: wire.reorder,
            lapse: wire.lapse,
            lapse_ms: wire.lapse_ms,
            drop_ack: wire.drop_ack,
            lose_answer: wire.lose_answer,
            cut_body: wire.cut_body,
            unavailable: wire.unavailable,
            throttle: wire.throttle,
            restart_every: wire.restart_every,
        }
    }
}

impl From<&Faults> for FaultsWire {
    fn from(faults: &Faults) -> Self {
        Self {
            seed: faults.seed,
            duplicate: faults.duplicate,
            delay: faults.delay,
            delay_ms: faults.delay_ms,
            reorder: faults.reorder,
            lapse: faults.lapse,
            lapse_ms: faults.lapse_ms,
            drop_ack: faults.drop_ack,
            lose_answer: faults.lose_answer,
            cut_body: faults.cut_body,
            unavailable: faults.unavailable,
            throttle: faults.throttle,
            restart_every: faults.restart_every,
        }
    }
}

/// Decisions about one fault.
#[derive(Debug, Serialize, ToSchema)]
struct DealtView {
    /// Decisions taken since the faults were given.
    asked: u64,
    /// How many of them fell.
    dealt: u64,
}

/// The faults of a topic, and how often each was dealt.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChaosView {
    faults: FaultsWire,
    /// By the name of the fault; those never asked for are not in it.
    dealt: BTreeMap<&'static str, DealtView>,
}

impl ChaosView {
    pub fn new(faults: &Faults, dealt: &BTreeMap<Fault, Dealt>) -> Self {
        let dealt =
            dealt.iter().map(|(fault, dealt)| (fault.name(), DealtView { asked: dealt.asked, dealt: dealt.dealt }));
        Self { faults: FaultsWire::from(faults), dealt: dealt.collect() }
    }
}
