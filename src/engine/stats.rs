//! Totals of the writer: how long syncs take, how much one commit carries.

use std::time::Duration;

use crate::engine::Histogram;

/// Upper bounds of the sync histogram, in seconds.
const SYNC_BOUNDS: [f64; 12] = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];
/// Upper bounds of the commit histogram, in commands.
const COMMIT_BOUNDS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0];

/// See the module.
#[derive(Debug, Default)]
pub struct Stats {
    syncs: Counted,
    commits: Counted,
    pub index_rebuilds: u64,
}

#[derive(Debug, Default)]
struct Counted {
    buckets: [u64; 12],
    count: u64,
    sum: f64,
}

impl Counted {
    fn add(&mut self, bounds: &[f64], value: f64) {
        if let Some(place) = bounds.iter().position(|bound| value <= *bound) {
            self.buckets[place] += 1;
        }
        self.count += 1;
        self.sum += value;
    }

    fn to_histogram(&self, bounds: &[f64]) -> Histogram {
        let mut sum = 0;
        let cumulate = |count: &u64| {
            sum += count;
            sum
        };
        let counts = self.buckets.iter().take(bounds.len()).map(cumulate).collect();
        Histogram { bounds: bounds.to_vec(), counts, count: self.count, sum: self.sum }
    }
}

impl Stats {
    pub fn sync(&mut self, took: Duration) {
        self.syncs.add(&SYNC_BOUNDS, took.as_secs_f64());
    }

    pub fn commit(&mut self, commands: u64) {
        self.commits.add(&COMMIT_BOUNDS, commands as f64);
    }

    pub fn sync_seconds(&self) -> Histogram {
        self.syncs.to_histogram(&SYNC_BOUNDS)
    }

    pub fn commit_commands(&self) -> Histogram {
        self.commits.to_histogram(&COMMIT_BOUNDS)
    }
}
