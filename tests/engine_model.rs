//! Plays random histories on an engine and on the oracle, and compares every answer, and after every
//! step all there is to see. `WINDLASS_MODEL_HISTORIES` says how many (500 if unset).

mod fixture;
mod model;

use fixture::{Fixture, LocalFixture, OracleFixture};
use model::{compare, histories, history};
use proptest::test_runner::{Config, TestRunner};

/// Compares an implementer with the oracle.
fn agrees_with_the_oracle<F: Fixture>() {
    let config = Config { cases: histories(), failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&history(), |history| {
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
