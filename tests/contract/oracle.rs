//! The oracle under test.

use std::sync::Arc;

use windlass::clock::ManualClock;
use windlass::engine::oracle::Oracle;
use windlass::engine::{Engine, Limits};

use super::Fixture;

/// An oracle. It lives through restarts: it has nothing to forget.
pub struct OracleFixture {
    clock: Arc<ManualClock>,
    oracle: Arc<Oracle>,
}

impl Fixture for OracleFixture {
    async fn open(limits: Limits) -> Self {
        let clock = Arc::new(ManualClock::new(1));
        Self { oracle: Arc::new(Oracle::new(clock.clone(), limits)), clock }
    }

    fn engine(&self) -> Arc<dyn Engine> {
        self.oracle.clone()
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    async fn restart(&mut self) {}
}
