//! How a call tells the HTTP front that the answer to its request shall not arrive whole. The two meet in the
//! task that answers the request; outside of one nothing is told.

use std::cell::Cell;
use std::future::Future;

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Fate {
    /// It is sent.
    #[default]
    Sent,
    /// The connection is cut in the middle of its body.
    CutBody,
    /// The connection is cut instead.
    Lost,
}

tokio::task_local! {
    static FATE: Cell<Fate>;
}

/// Answers a request, and says what shall become of the answer.
pub async fn within<F: Future>(answer: F) -> (F::Output, Fate) {
    let told = async {
        let answer = answer.await;
        (answer, FATE.with(Cell::get))
    };
    FATE.scope(Cell::new(Fate::Sent), told).await
}

/// Tells what shall become of the answer to the request of this task; the worst that is told counts.
pub fn tell(fate: Fate) {
    // Whoever is not asked over HTTP has no connection to cut.
    let _ = FATE.try_with(|told| told.set(told.get().max(fate)));
}
