//! JSON of the native API. Durations are whole milliseconds, instants are Unix milliseconds.

mod access;
mod backup;
mod chaos;
mod group;
mod message;
mod topic;

use std::time::Duration;

use axum::http::StatusCode;
use serde::{Deserialize, Deserializer};

use crate::http::problem::Problem;
use crate::model::NameError;

pub use access::{AccessCreate, AccessKindWire, AccessList, AccessMade, AccessView};
pub use backup::{BackupCreate, BackupList, BackupView, UnderWayView, VerifiedView};
pub use chaos::{ChaosView, FaultsWire};
pub use group::{GroupCreate, GroupList, GroupUpdate, GroupView, SeekRequest, SeekView, StartWire, read_filter};
pub use message::{
    Batch, BatchMessage, BuryRequest, CountsView, Encoding, ExtendRequest, LatenessWire, NackRequest, OutcomesView,
    PeekView, PublishedView, PublishedViews, PullRequest, PulledView, SettleRequest, State, WaitFor,
};
pub use topic::{
    DiscardRequest, DiscardView, PurgeView, RedriveRequest, RedriveView, TopicCreate, TopicList, TopicUpdate, TopicView,
};

/// Whole milliseconds of `span`.
fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A name that breaks its rule, and where it stood.
pub fn bad_name(pointer: &str) -> impl FnOnce(NameError) -> Problem {
    let pointer = pointer.to_owned();
    move |error| Problem::new(StatusCode::BAD_REQUEST, "invalid_name", error.to_string()).at(pointer)
}

/// Tells `null` (there, and nothing) from a field that is not there.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
