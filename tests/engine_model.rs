//! Plays random histories on an engine and on the oracle, and compares every answer, and after every
//! step all there is to see. `WINDLASS_MODEL_HISTORIES` says how many (100 if unset).

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

mod fixture;
mod model;

use fixture::{Fixture, LocalFixture, OracleFixture};
use model::{compare, histories, history};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Compares an implementer with the oracle.
fn agrees_with_the_oracle<F: Fixture>() {
    let config = Config { cases: histories(), failure_persistence: None, ..Config::default() };
    // The same histories in every run; WINDLASS_MODEL_SEED draws others.
    let seed: u64 = std::env::var("WINDLASS_MODEL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut bits = [0; 32];
    bits[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bits);
    let outcome = TestRunner::new_with_rng(config, random).run(&history(), |history| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime should start").block_on(compare::<F>(&history));
        Ok(())
    });
    if let Err(difference) = outcome {
        panic!("{difference}");
    }
}

#[test]
fn the_local_engine_agrees_with_the_oracle() {
    agrees_with_the_oracle::<LocalFixture>();
}

#[test]
fn an_oracle_agrees_with_the_oracle() {
    agrees_with_the_oracle::<OracleFixture>();
}
