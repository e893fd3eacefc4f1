//! Plays random histories on an engine and on the oracle, and compares every answer, and after every
//! step all there is to see. The same histories in every run: `WINDLASS_MODEL_SEED` draws others, and
//! `WINDLASS_MODEL_HISTORIES` says how many (500 if unset).

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

mod fixture;
mod model;

use fixture::{Fixture, LocalFixture, OracleFixture};
use model::{compare, history};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Histories are drawn and played in this many parts at a time.
const PARTS: u32 = 4;

/// Compares an implementer with the oracle.
fn agrees_with_the_oracle<F: Fixture>() {
    let histories = number("WINDLASS_MODEL_HISTORIES", 500).div_ceil(PARTS);
    let seed = number("WINDLASS_MODEL_SEED", 1);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..PARTS).map(|part| scope.spawn(move || play::<F>(seed, part, histories))).collect();
        parts.into_iter().map(|part| part.join().expect("a part should come to its end")).collect()
    });
    for outcome in outcomes {
        if let Err(difference) = outcome {
            panic!("{difference}");
        }
    }
}

/// Plays some histories of their own; says where engine and oracle part.
fn play<F: Fixture>(seed: u32, part: u32, histories: u32) -> Result<(), String> {
    let config = Config { cases: histories, failure_persistence: None, ..Config::default() };
    let mut bits = [0; 32];
    bits[..4].copy_from_slice(&seed.to_le_bytes());
    bits[4..8].copy_from_slice(&part.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bits);
    let outcome = TestRunner::new_with_rng(config, random).run(&history(), |history| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime should start").block_on(compare::<F>(&history));
        Ok(())
    });
    outcome.map_err(|difference| difference.to_string())
}

fn number(variable: &str, default: u32) -> u32 {
    let asked = std::env::var(variable).ok();
    asked.map_or(default, |asked| asked.parse().unwrap_or_else(|_| panic!("{variable} should be a number")))
}

#[test]
fn the_local_engine_agrees_with_the_oracle() {
    agrees_with_the_oracle::<LocalFixture>();
}

#[test]
fn an_oracle_agrees_with_the_oracle() {
    agrees_with_the_oracle::<OracleFixture>();
}
