//! Health for probes, and the status for people.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::{Principal, Right, Target, authorise};
use crate::engine::{GroupStatus, Status, TopicStatus};
use crate::http::call::Call;
use crate::http::native::answer;
use crate::http::native::wire::CountsView;
use crate::http::problem::Problem;
use crate::http::state::Front;

/// `GET /healthz`
pub async fn healthz() -> Response {
    "ok\n".into_response()
}

/// A torn tail that recovery cut off and kept aside.
#[derive(Debug, Serialize, ToSchema)]
struct TornView {
    file: String,
    at_byte: u64,
    bytes: u64,
}

/// Health of the engine.
#[derive(Debug, Serialize, ToSchema)]
struct EngineView {
    /// Whether new messages are refused for want of space; acks and reads go on.
    disk_full: bool,
    free_bytes: u64,
    log_bytes: u64,
    live_bytes: u64,
    last_lsn: u64,
    index_rebuilds: u64,
    /// Age trims stand still because the clocks disagree.
    clock_suspect: bool,
    /// What recovery cut from the end of the log.
    torn: Vec<TornView>,
}

impl From<&Status> for EngineView {
    fn from(status: &Status) -> Self {
        let torn = status.torn.iter();
        let torn = torn.map(|torn| TornView { file: torn.file.clone(), at_byte: torn.at_byte, bytes: torn.bytes });
        Self {
            disk_full: status.disk_full,
            free_bytes: status.free_bytes,
            log_bytes: status.log_bytes,
            live_bytes: status.live_bytes,
            last_lsn: status.last_lsn,
            index_rebuilds: status.index_rebuilds,
            clock_suspect: status.clock_suspect,
            torn: torn.collect(),
        }
    }
}

/// Whether the server takes requests.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReadyView {
    /// `ready`, or `stopping`.
    status: &'static str,
    /// Whether this server deals faults on purpose.
    chaos: bool,
    engine: EngineView,
}

/// `GET /readyz`: 503 while stopping. A full disk is told and is no 503, for consumers must still be
/// sent here: their acks make the space.
pub async fn readyz(front: Arc<Front>) -> Response {
    let engine = EngineView::from(&front.engine.status().await);
    let (code, status) =
        if front.is_stopping() { (StatusCode::SERVICE_UNAVAILABLE, "stopping") } else { (StatusCode::OK, "ready") };
    answer(code, &ReadyView { status, chaos: front.chaos.is_some(), engine })
}

/// Totals of a group since the start.
#[derive(Debug, Serialize, ToSchema)]
struct GroupStatusView {
    group: String,
    delivered: u64,
    acked: u64,
    nacked: u64,
    lapsed: u64,
    dead_lettered: u64,
    discarded: u64,
    waiting: u64,
    counts: CountsView,
}

impl From<GroupStatus> for GroupStatusView {
    fn from(status: GroupStatus) -> Self {
        Self {
            group: status.group.map(|name| name.to_string()).unwrap_or_default(),
            delivered: status.delivered,
            acked: status.acked,
            nacked: status.nacked,
            lapsed: status.lapsed,
            dead_lettered: status.dead_lettered,
            discarded: status.discarded,
            waiting: status.waiting,
            counts: status.counts.into(),
        }
    }
}

/// Totals of a topic since the start.
#[derive(Debug, Serialize, ToSchema)]
struct TopicStatusView {
    topic: String,
    published: u64,
    published_bytes: u64,
    counts: CountsView,
    groups: Vec<GroupStatusView>,
}

impl From<TopicStatus> for TopicStatusView {
    fn from(status: TopicStatus) -> Self {
        Self {
            topic: status.topic.map(|name| name.to_string()).unwrap_or_default(),
            published: status.published,
            published_bytes: status.published_bytes,
            counts: status.counts.into(),
            groups: status.groups.into_iter().map(Into::into).collect(),
        }
    }
}

/// Totals and health.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatusView {
    engine: EngineView,
    /// Those within reach of the credential.
    topics: Vec<TopicStatusView>,
}

/// `GET /status`
pub async fn status(call: Call) -> Result<Response, Problem> {
    let status = status_within_reach(&call.front, &call.principal).await;
    let engine = EngineView::from(&status);
    Ok(answer(StatusCode::OK, &StatusView { engine, topics: status.topics.into_iter().map(Into::into).collect() }))
}

/// The engine's status with only those topics that `principal` may see.
pub async fn status_within_reach(front: &Front, principal: &Principal) -> Status {
    let mut status = front.engine.status().await;
    status.topics.retain(|topic| {
        let reached = topic.topic.as_ref().map(|name| authorise(principal, Right::See, Target::Topic(name)));
        topic.account.as_ref() == Some(&principal.account) && reached.is_some_and(|reached| reached.is_ok())
    });
    status
}
