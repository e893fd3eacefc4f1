//! Counters of requests and connections.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;

/// Which dialect a request spoke, for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// The native API, health, and whatever belongs to nobody.
    Native,
    /// Cloudflare Queues.
    Cloudflare,
    /// Sequin.
    Sequin,
    /// JD Cloud's message queue.
    Jcq,
}

impl Speech {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Native, Self::Cloudflare, Self::Sequin, Self::Jcq];

    /// Its name in the metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Cloudflare => "cloudflare",
            Self::Sequin => "sequin",
            Self::Jcq => "jcq",
        }
    }
}

/// Status classes 1xx to 5xx.
const CLASSES: usize = 5;

/// Counters of requests and connections.
#[derive(Debug, Default)]
pub struct Meters {
    answers: [[AtomicU64; CLASSES]; Speech::ALL.len()],
    /// Connections open now.
    pub connections: AtomicU64,
    /// Connections turned away at the bound.
    pub connections_refused: AtomicU64,
}

impl Meters {
    /// Counts an answer.
    pub fn answered(&self, speech: Speech, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1).min(CLASSES - 1);
        self.answers[speech as usize][class].fetch_add(1, Ordering::Relaxed);
    }

    /// Answers so far, by dialect and first digit of the status.
    pub fn answers(&self) -> impl Iterator<Item = (Speech, usize, u64)> + '_ {
        Speech::ALL.into_iter().zip(&self.answers).flat_map(|(speech, classes)| {
            classes.iter().enumerate().map(move |(class, count)| (speech, class + 1, count.load(Ordering::Relaxed)))
        })
    }
}
