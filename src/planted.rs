//! Defects planted on purpose, so that the tests can be seen to bite.
//!
//! Without the feature `planted` no build has any of them: every question is answered "no" when it is
//! compiled. With it the environment variable `WINDLASS_PLANTED` names the one that a process has.

/// What is done wrong. `tests/bite` names the test that catches each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Answers leave before the sync that they promise.
    AnswerBeforeSync,
    /// A new segment's name is not made durable.
    NoDirectorySync,
    /// A checkpoint of the index is never synced.
    CheckpointNotSynced,
    /// Leases are kept in memory only.
    LeaseNotLogged,
    /// Acks are kept in memory only.
    AckNotLogged,
    /// A write that found no space counts as written.
    GoOnWithoutSpace,
    /// A failed sync is tried again, and believed then.
    RetryFailedSync,
    /// Recovery takes what it can read for durable.
    TrustPageCache,
    /// The front of the log goes before a checkpoint covers it.
    DropBeforeCheckpoint,
    /// The front of the log goes one segment too far.
    DropOneTooMany,
    /// The log goes on behind a torn frame, with a hole.
    NoTailCut,
    /// Checksums of frames are not compared.
    NoChecksum,
    /// A start goes on in the epoch of the life before.
    EpochReused,
    /// The delay of a nack is kept in memory only.
    NackDelayForgotten,
    /// A dead letter leaves its group in one commit and arrives in another.
    DeadLetterInTwoCommits,
    /// A block of the index is written one place off.
    BlockOffByOne,
    /// A restart takes every lease for lapsed.
    LeasesLapseAtStart,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::AnswerBeforeSync,
        Self::NoDirectorySync,
        Self::CheckpointNotSynced,
        Self::LeaseNotLogged,
        Self::AckNotLogged,
        Self::GoOnWithoutSpace,
        Self::RetryFailedSync,
        Self::TrustPageCache,
        Self::DropBeforeCheckpoint,
        Self::DropOneTooMany,
        Self::NoTailCut,
        Self::NoChecksum,
        Self::EpochReused,
        Self::NackDelayForgotten,
        Self::DeadLetterInTwoCommits,
        Self::BlockOffByOne,
        Self::LeasesLapseAtStart,
    ];

    /// Its name in `WINDLASS_PLANTED`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AnswerBeforeSync => "answer-before-sync",
            Self::NoDirectorySync => "no-directory-sync",
            Self::CheckpointNotSynced => "checkpoint-not-synced",
            Self::LeaseNotLogged => "lease-not-logged",
            Self::AckNotLogged => "ack-not-logged",
            Self::GoOnWithoutSpace => "go-on-without-space",
            Self::RetryFailedSync => "retry-failed-sync",
            Self::TrustPageCache => "trust-page-cache",
            Self::DropBeforeCheckpoint => "drop-before-checkpoint",
            Self::DropOneTooMany => "drop-one-too-many",
            Self::NoTailCut => "no-tail-cut",
            Self::NoChecksum => "no-checksum",
            Self::EpochReused => "epoch-reused",
            Self::NackDelayForgotten => "nack-delay-forgotten",
            Self::DeadLetterInTwoCommits => "dead-letter-in-two-commits",
            Self::BlockOffByOne => "block-off-by-one",
            Self::LeasesLapseAtStart => "leases-lapse-at-start",
        }
    }
}

/// Whether this defect is planted in this process.
#[cfg(not(feature = "planted"))]
#[inline]
pub const fn planted(_: Defect) -> bool {
    false
}

/// Whether this defect is planted in this process.
#[cfg(feature = "planted")]
pub fn planted(defect: Defect) -> bool {
    use std::sync::OnceLock;
    static PLANTED: OnceLock<Option<Defect>> = OnceLock::new();
    let named = || {
        let name = std::env::var("WINDLASS_PLANTED").ok()?;
        let found = Defect::ALL.into_iter().find(|defect| defect.name() == name);
        Some(found.unwrap_or_else(|| panic!("WINDLASS_PLANTED is `{name}`, which is no defect")))
    };
    *PLANTED.get_or_init(named) == Some(defect)
}
