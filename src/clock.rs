//! Time and chance. The only place that asks the system for either; tests put their own here.
//!
//! Two clocks: the wall (Unix time, may jump) and boot time (since boot, suspend included, never
//! jumps; comparable only within one boot). Deadlines of leases use boot time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::Millis;

/// Names one boot of the machine: boot times compare only within one.
pub type BootId = u128;

/// Where time and random bits come from.
pub trait Clock: Send + Sync + 'static {
    /// Unix time in milliseconds. May jump either way.
    fn wall(&self) -> Millis;
    /// Milliseconds since boot, suspend included. Never goes back while the machine is up.
    fn boot(&self) -> Millis;
    /// The boot that [`Clock::boot`] counts from.
    fn boot_id(&self) -> BootId;
    /// 128 random bits, fit for secrets.
    fn random(&self) -> u128;
}

/// The machine's own clocks and random source.
#[derive(Debug)]
pub struct SystemClock {
    boot_id: BootId,
    /// Random bits fetched in one system call and handed out piece by piece.
    pool: Mutex<Vec<u128>>,
}

impl SystemClock {
    /// Reads the boot id of the kernel; where there is none, every process counts as a boot of its own.
    pub fn new() -> Self {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .ok()
            .and_then(|text| uuid::Uuid::try_parse(text.trim()).ok())
            .map_or_else(system_random, |id| id.as_u128());
        Self { boot_id, pool: Mutex::new(Vec::new()) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

fn system_random() -> u128 {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).unwrap_or_else(|error| panic!("the kernel gave no random bits: {error}"));
    u128::from_ne_bytes(bits)
}

impl Clock for SystemClock {
    fn wall(&self) -> Millis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Millis::ZERO.after(since)
    }

    fn boot(&self) -> Millis {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
        Millis::ZERO.after(Duration::new(seconds, nanos))
    }

    fn boot_id(&self) -> BootId {
        self.boot_id
    }

    fn random(&self) -> u128 {
        const POOL: usize = 64;
        let mut pool = self.pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if pool.is_empty() {
            let mut bits = [0; POOL * 16];
            getrandom::fill(&mut bits).unwrap_or_else(|error| panic!("the kernel gave no random bits: {error}"));
            pool.extend(bits.chunks_exact(16).filter_map(|piece| piece.try_into().ok()).map(u128::from_ne_bytes));
        }
        pool.pop().unwrap_or_else(system_random)
    }
}

/// A clock that stands still until it is moved, with random bits from a seed: for tests and the
/// simulator, where one seed must give one history.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicU64,
    boot: AtomicU64,
    boot_id: AtomicU64,
    seed: AtomicU64,
}

impl ManualClock {
    /// Starts at 2026-01-01 on the wall and one minute after boot.
    pub fn new(seed: u64) -> Self {
        Self {
            wall: AtomicU64::new(1_767_225_600_000),
            boot: AtomicU64::new(60_000),
            boot_id: AtomicU64::new(1),
            seed: AtomicU64::new(seed),
        }
    }

    /// Moves both clocks on.
    pub fn advance(&self, span: Duration) {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.wall.fetch_add(millis, Ordering::SeqCst);
        self.boot.fetch_add(millis, Ordering::SeqCst);
    }

    /// Makes the wall clock jump and leaves boot time alone.
    pub fn jump_wall(&self, to: Millis) {
        self.wall.store(to.get(), Ordering::SeqCst);
    }

    /// As after a reboot: a new boot id, and boot time starts again.
    pub fn reboot(&self) {
        self.boot_id.fetch_add(1, Ordering::SeqCst);
        self.boot.store(1_000, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Millis {
        Millis::new(self.wall.load(Ordering::SeqCst))
    }

    fn boot(&self) -> Millis {
        Millis::new(self.boot.load(Ordering::SeqCst))
    }

    fn boot_id(&self) -> BootId {
        u128::from(self.boot_id.load(Ordering::SeqCst))
    }

    fn random(&self) -> u128 {
        let step = || {
            let mut z =
                self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).wrapping_add(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            u128::from(z ^ (z >> 31))
        };
        (step() << 64) | step()
    }
}
