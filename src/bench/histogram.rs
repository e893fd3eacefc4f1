//! A histogram of times with fixed buckets: eight per doubling, from a microsecond to over an hour.

use std::time::Duration;

/// Buckets per doubling, as a power of two.
const STEPS_LOG2: u32 = 3;
const STEPS: u64 = 1 << STEPS_LOG2;
const BUCKETS: usize = 32 * STEPS as usize;

/// Times, counted by size; at most 12.5 % off.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    /// Counts one time.
    pub fn add(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(micros)) {
            *count += 1;
            self.total += 1;
        }
    }

    /// Counts what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.total += other.total;
    }

    /// The time that this share of all times does not exceed, in ms; the middle of its bucket.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return f64::midpoint(lower(at) as f64, lower(at + 1) as f64) / 1_000.0;
            }
        }
        0.0
    }
}

/// The bucket of a time. Below 8 µs one bucket per microsecond.
fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let doubling = micros.ilog2() - STEPS_LOG2;
    let step = (micros >> doubling) - STEPS;
    ((u64::from(doubling) + 1) * STEPS + step).min(BUCKETS as u64 - 1) as usize
}

/// The least time of a bucket.
const fn lower(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let (doubling, step) = (bucket / STEPS - 1, bucket % STEPS);
    (STEPS + step) << doubling
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_falls_between_the_bounds_of_its_bucket() {
        for micros in (0..100_000).chain((17..31).map(|power| (1 << power) + 12_345)) {
            let at = bucket(micros);
            assert!(lower(at) <= micros && micros < lower(at + 1), "{micros} in {at}");
        }
    }

    #[test]
    fn quantiles_are_within_a_bucket_of_the_truth() {
        let mut times = Histogram::default();
        (1..=1000).for_each(|millis| times.add(Duration::from_millis(millis)));
        assert!((times.quantile_ms(0.5) - 500.0).abs() < 65.0, "{}", times.quantile_ms(0.5));
        assert!((times.quantile_ms(0.99) - 990.0).abs() < 125.0, "{}", times.quantile_ms(0.99));
    }
}
