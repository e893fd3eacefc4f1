//! The native API: everything the engine can do, under [`NATIVE_PREFIX`], and the paths for operators.
//! Errors are RFC 9457 problems. `routes` is the table that router and document are made from.

mod backups;
mod chaos;
mod consume;
mod credentials;
mod fault;
mod groups;
mod health;
mod metrics;
mod openapi;
mod publish;
mod query;
mod routes;
mod topics;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::access::{Principal, Target, authorise};
use crate::http::auth;
use crate::http::call::Call;
use crate::http::edge::EdgeError;
use crate::http::json;
use crate::http::native::routes::{Reach, Run};
use crate::http::native::wire::bad_name;
use crate::http::problem::Problem;
use crate::http::route::add;
use crate::http::state::Front;
use crate::model::{GroupName, GroupRef, TopicName, TopicRef};

pub use routes::{NATIVE_PREFIX, ROUTES, Route};
pub use wire::AccessView as CredentialView;

/// Finds who asks, by bearer token.
pub fn authenticate(front: &Front, headers: &HeaderMap) -> Result<Principal, EdgeError> {
    auth::authenticate(front, headers, auth::bearer(headers))
}

/// The routes of the table.
pub fn router() -> Router<Arc<Front>> {
    ROUTES.iter().fold(Router::new(), |router, route| {
        let handler = move |State(front): State<Arc<Front>>, request: Request| dispatch(route, front, request);
        add(router, &route.method, route.path, handler)
    })
}

/// Finds who asks and whether they may, then runs the route.
async fn dispatch(route: &'static Route, front: Arc<Front>, request: Request) -> Response {
    match attempt(route, front, request).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn attempt(route: &'static Route, front: Arc<Front>, request: Request) -> Result<Response, Problem> {
    let (right, reach, run) = match route.run {
        Run::Public(run) => return Ok(run(front).await),
        Run::Known { right, reach, run } => (right, reach, run),
    };
    let call = Call::open(front, request, authenticate).await?;
    let topic = match reach {
        Reach::PathTopic => Some(topic_name(&call)?),
        Reach::Account | Reach::Unnamed => None,
    };
    let target = match (&topic, reach) {
        (Some(topic), _) => Target::Topic(topic),
        (None, Reach::Unnamed) => Target::Unnamed,
        (None, Reach::Account | Reach::PathTopic) => Target::Account,
    };
    authorise(&call.principal, right, target)?;
    run(call).await
}

fn topic_name(call: &Call) -> Result<TopicName, Problem> {
    TopicName::parse(call.param("topic")).map_err(bad_name("topic"))
}

fn topic_ref(call: &Call) -> Result<TopicRef, Problem> {
    topic_name(call).map(TopicRef::Name)
}

fn group_ref(call: &Call) -> Result<GroupRef, Problem> {
    GroupName::parse(call.param("group")).map(GroupRef::Name).map_err(bad_name("group"))
}

async fn read_json<T: DeserializeOwned>(call: &mut Call) -> Result<T, Problem> {
    Ok(json::read(&call.body().await?)?)
}

/// A count from the wire. One beyond this machine's memory is out of every bound and stays so.
fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn answer<T: Serialize>(status: StatusCode, value: &T) -> Response {
    (status, axum::Json(value)).into_response()
}

/// The same with JSON that is written already.
fn answer_json(status: StatusCode, json: Vec<u8>) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response()
}

fn empty_answer() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
