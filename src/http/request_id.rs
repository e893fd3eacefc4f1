//! The id of the request that this task answers, for envelopes that carry it.

use std::future::Future;

tokio::task_local! {
    static CURRENT: String;
}

/// Answers a request under this id.
pub fn within<F: Future>(id: String, answer: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(id, answer)
}

/// The id of the request that is being answered; empty outside of one.
pub fn current() -> String {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}
