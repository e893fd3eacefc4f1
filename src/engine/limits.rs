//! Bounds of an engine that a server may choose. Those that nobody may change are in
//! [`bounds`](crate::model::bounds).

/// How much one engine holds at most. Whoever meets a bound is told which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Topics in the server, of all accounts. Dead-letter topics that the engine makes by itself do not ask.
    pub topics_max: usize,
    /// Groups in the server, of all topics.
    pub groups_max: usize,
    /// Groups of one topic.
    pub groups_per_topic_max: usize,
    /// Bytes of one body.
    pub body_bytes_max: usize,
    /// Bytes of all bodies and heads of one publish. A head is the text a producer chose: content type,
    /// key, tag, idempotency key, names and values of properties.
    pub batch_bytes_max: usize,
    /// Idempotency keys remembered in the server; at the bound, a publish with a new one is refused.
    pub idempotency_keys_max: usize,
    /// Different keys among the kept messages of one topic with compaction; at the bound, a publish with a
    /// new one is refused.
    pub compaction_keys_max: usize,
    /// Credentials in the server, of all accounts.
    pub access_max: usize,
    /// Messages of one group that wait out a nack delay; at the bound, only returned ones are delivered. Also
    /// how many messages that wait for another of their key one pull looks past.
    pub returned_max: usize,
    /// Messages of one topic that were published with a delay and not taken by every group; at the bound, a
    /// publish with a delay is refused.
    pub delayed_max: usize,
    /// Messages that are held in memory while an index is built from the log, before they are written to it; each
    /// block of them counts as 32 more.
    pub rebuild_rows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            topics_max: 10_000,
            groups_max: 10_000,
            groups_per_topic_max: 1_000,
            body_bytes_max: 4 << 20,
            batch_bytes_max: 8 << 20,
            idempotency_keys_max: 1_000_000,
            compaction_keys_max: 1_000_000,
            access_max: 10_000,
            returned_max: 100_000,
            delayed_max: 1_000_000,
            rebuild_rows: 1 << 17,
        }
    }
}
