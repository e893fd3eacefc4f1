//! What every request sees: the engine, the clock, the bounds, and the counters of the front.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::access::SealingKey;
use crate::chaos::Chaos;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::Engine;
use crate::http::backup_desk::BackupDesk;
use crate::http::meters::Meters;
use crate::model::AccessId;

/// Bytes that a unit of [`Front::body_room`] stands for.
pub(super) const BODY_UNIT: usize = 1 << 10;

/// Who can reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Only this machine: without any credential it is open.
    Loopback,
    /// Others too: nothing without a credential.
    Network,
}

/// What the router is made from.
pub struct Front {
    /// The rules.
    pub engine: Arc<dyn Engine>,
    /// Time and chance.
    pub clock: Arc<dyn Clock>,
    /// The bounds.
    pub config: Config,
    /// Seals the secrets of access keys.
    pub sealing: SealingKey,
    /// Who can reach the server.
    pub exposure: Exposure,
    /// Faults and history; `None`: this server deals no faults.
    pub chaos: Option<Arc<Chaos>>,
    /// Counters of requests and connections.
    pub meters: Meters,
    /// The backup that is being made or proven.
    pub backups: BackupDesk,
    /// Room for the bodies of requests, in units of [`BODY_UNIT`].
    pub(super) body_room: Arc<Semaphore>,
    stopping: AtomicBool,
    waiting: WaitingPulls,
    /// Head of the ids of requests, drawn at the start.
    requests_prefix: u32,
    requests: AtomicU64,
}

impl Front {
    /// Puts it together.
    pub fn new(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        config: Config,
        sealing: SealingKey,
        exposure: Exposure,
    ) -> Arc<Self> {
        Self::with_chaos(engine, clock, config, sealing, exposure, None)
    }

    /// The same for a server that may deal faults; `engine` is then the one that deals them.
    pub fn with_chaos(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        config: Config,
        sealing: SealingKey,
        exposure: Exposure,
        chaos: Option<Arc<Chaos>>,
    ) -> Arc<Self> {
        let body_room = Arc::new(Semaphore::new(body_units(&config)));
        let requests_prefix = (clock.random() >> 96) as u32;
        Arc::new(Self {
            engine,
            clock,
            config,
            sealing,
            exposure,
            chaos,
            meters: Meters::default(),
            backups: BackupDesk::default(),
            body_room,
            stopping: AtomicBool::new(false),
            waiting: WaitingPulls::default(),
            requests_prefix,
            requests: AtomicU64::new(0),
        })
    }

    /// Bytes of request bodies in memory now, rounded up.
    pub fn body_bytes(&self) -> usize {
        let units = body_units(&self.config);
        units.saturating_sub(self.body_room.available_permits()) * BODY_UNIT
    }

    /// From now on, probes are told that the server is stopping.
    pub fn begin_stopping(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Whether the server is stopping.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// An id for a request that brought none; unique as far as one server's logs reach.
    pub fn next_request_id(&self) -> String {
        format!("{:08x}-{:x}", self.requests_prefix, self.requests.fetch_add(1, Ordering::Relaxed))
    }

    /// Counts a pull that will wait. `None`: the credential has as many waiting as it may.
    pub fn begin_waiting(self: &Arc<Self>, id: &AccessId) -> Option<WaitingPull> {
        let mut pulls = self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = pulls.entry(id.clone()).or_insert(0);
        if *count >= self.config.http.waiting_per_token_max {
            return None;
        }
        *count += 1;
        Some(WaitingPull { front: Arc::clone(self), id: id.clone() })
    }
}

fn body_units(config: &Config) -> usize {
    config.http.buffer_bytes_max.div_ceil(BODY_UNIT).min(Semaphore::MAX_PERMITS)
}

/// Waiting pulls per credential; those with none are not in it.
#[derive(Debug, Default)]
struct WaitingPulls(Mutex<HashMap<AccessId, usize>>);

/// A pull that waits; uncounted when dropped.
pub struct WaitingPull {
    front: Arc<Front>,
    id: AccessId,
}

impl Drop for WaitingPull {
    fn drop(&mut self) {
        let mut pulls = self.front.waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = pulls.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                pulls.remove(&self.id);
            }
        }
    }
}
