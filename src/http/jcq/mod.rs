//! JD Cloud's message queue (JCQ) over HTTP. The data plane sends, receives and acks, in two versions; the
//! management plane works on topics, subscriptions and what lies in them. A topic is a topic, a consumer
//! group (or subscription) a group. Shapes are in `wire` and `manage::wire`, errors in `fault`; the tables
//! of routes are here.

mod fault;
mod groups;
mod jdcloud;
mod manage;
mod messages;
mod permissions;
mod signature;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use crate::access::Right;
use crate::http::auth;
use crate::http::call::{Call, Claim};
use crate::http::edge::EdgeError;
use crate::http::jcq::fault::Fault;
use crate::http::jcq::manage::ManagementCall;
use crate::http::jcq::messages::{DataCall, Version};
use crate::http::route::{ADMIN, CONSUME, Later, SEE, add};
use crate::http::state::Front;

pub use fault::envelope;

/// Where this dialect's paths begin.
pub const PREFIXES: [&str; 4] = ["/v2", "/v1/messages", "/v1/ack", MANAGEMENT];
const MANAGEMENT: &str = "/v1/regions";

/// One route of the data plane.
pub struct DataRoute {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: &'static str,
    version: Version,
    run: fn(DataCall) -> Later<Result<Response, Fault>>,
}

/// One route of the management plane.
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path behind the region; `:verb` may end it.
    pub path: &'static str,
    /// What it takes to ask.
    pub right: Right,
    run: fn(ManagementCall) -> Later<Result<Response, Fault>>,
}

macro_rules! data_routes {
    ($($method:ident $path:literal $version:ident $run:path;)+) => {
        /// Every route of the data plane.
        pub static DATA_ROUTES: &[DataRoute] = &[$(DataRoute {
            method: Method::$method,
            path: $path,
            version: Version::$version,
            run: |call| Box::pin($run(call)),
        }),+];
    };
}

data_routes! {
    POST "/v2/messages" V2 messages::send;
    GET "/v2/messages" V2 messages::receive;
    POST "/v2/ack" V2 messages::ack;
    POST "/v1/messages" V1 messages::send;
    GET "/v1/messages" V1 messages::receive;
    POST "/v1/ack" V1 messages::ack;
}

macro_rules! routes {
    ($($method:ident $path:literal $right:ident $run:path;)+) => {
        /// Every route of the management plane.
        pub static ROUTES: &[Route] = &[$(Route {
            method: Method::$method,
            path: $path,
            right: $right,
            run: |call| Box::pin($run(call)),
        }),+];
    };
}

routes! {
    POST "/topics" ADMIN manage::topics::create;
    GET "/topics" SEE manage::topics::list;
    GET "/topics/{topic}" SEE manage::topics::get;
    DELETE "/topics/{topic}" ADMIN manage::topics::delete;
    GET "/topics/{topic}/accessPoints" SEE manage::topics::access_point;
    POST "/topics/{topic}/subscriptions" ADMIN manage::subscriptions::create;
    GET "/topics/{topic}/subscriptions" SEE manage::subscriptions::list;
    GET "/topics/{topic}/subscriptions/{group}" SEE manage::subscriptions::get;
    PATCH "/topics/{topic}/subscriptions/{group}" ADMIN manage::subscriptions::change;
    DELETE "/topics/{topic}/subscriptions/{group}" ADMIN manage::subscriptions::delete;
    POST "/topics/{topic}/subscriptions/{group}:resetConsumeOffset" ADMIN manage::subscriptions::reset;
    POST "/topics/{topic}/subscriptions/{group}:cleanMessages" ADMIN manage::subscriptions::clean;
    GET "/consumerGroupIds" SEE manage::subscriptions::group_ids;
    GET "/topics/{topic}/subscriptions/{group}:listDeadLetters" CONSUME manage::dead_letters::list;
    POST "/topics/{topic}/subscriptions/{group}:resendDeadLetters" ADMIN manage::dead_letters::resend;
    DELETE "/topics/{topic}/subscriptions/{group}:deleteDeadLetters" ADMIN manage::dead_letters::delete;
    GET "/deadLetterNumbers" SEE manage::dead_letters::numbers;
    GET "/topics/{topic}/deadLetterNumbers" SEE manage::dead_letters::numbers_of_topic;
    GET "/topics/{topic}/messages" CONSUME manage::look::by_time;
    GET "/topics/{topic}/messages/{message}" CONSUME manage::look::by_id;
    POST "/topics/{topic}/messagesWithBusinessId" CONSUME manage::look::by_business_id;
    GET "/topics/{topic}/messageTrace/{message}" CONSUME manage::trace::trace;
    POST "/topics/{topic}/iam" ADMIN permissions::add;
    GET "/topics/{topic}/iam" SEE permissions::list;
    DELETE "/topics/{topic}/iam" ADMIN permissions::remove;
}

/// The routes of both planes. Management paths are matched here and not by axum, which knows no `:verb`.
pub fn router() -> Router<Arc<Front>> {
    let handler =
        |State(front): State<Arc<Front>>, request: Request| async move { answered(manage(front, request).await) };
    let router = Router::new().route("/v1/regions/{*rest}", any(handler));
    DATA_ROUTES.iter().fold(router, |router, route| {
        let handler = move |State(front): State<Arc<Front>>, request: Request| async move {
            answered(serve(route, front, request).await)
        };
        add(router, &route.method, route.path, handler)
    })
}

/// Reads who asks from the head, to be proven with the body. The planes sign in different ways.
pub fn authenticate(front: &Front, parts: &Parts) -> Result<Claim, EdgeError> {
    if let Some(open) = auth::open(front, &parts.headers) {
        let principal = open?;
        return Ok(Box::new(|_, _| Ok(principal)));
    }
    match parts.uri.path().strip_prefix(MANAGEMENT) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => jdcloud::claim(front, parts),
        Some(_) | None => signature::claim(front, parts),
    }
}

fn answered(result: Result<Response, Fault>) -> Response {
    result.unwrap_or_else(IntoResponse::into_response)
}

async fn serve(route: &'static DataRoute, front: Arc<Front>, request: Request) -> Result<Response, Fault> {
    let (call, body) = Call::open_signed(front, request, authenticate).await?;
    // axum takes a HEAD for a GET: a receive would hand out messages that nobody gets.
    if call.parts.method != route.method {
        return Err(EdgeError::MethodNotAllowed.into());
    }
    (route.run)(DataCall { call, body, version: route.version }).await
}

async fn manage(front: Arc<Front>, request: Request) -> Result<Response, Fault> {
    let (call, body) = Call::open_signed(front, request, authenticate).await?;
    let path = call.param("rest").to_owned();
    let behind_region = path.split_once('/').map_or("", |(_, rest)| rest);
    let matching = |route: &&Route| matched(route.path, behind_region).is_some();
    let mut routes = ROUTES.iter().filter(matching).peekable();
    if routes.peek().is_none() {
        return Err(EdgeError::NoRoute.into());
    }
    let route = routes.find(|route| route.method == call.parts.method).ok_or(EdgeError::MethodNotAllowed)?;
    let params = matched(route.path, behind_region).unwrap_or_default();
    let call = ManagementCall::open(call, body, params, route.right)?;
    (route.run)(call).await
}

/// The parameters of `path`, if it fits the pattern of a route.
fn matched(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let mut params = Vec::new();
    let mut parts = path.split('/');
    for expected in pattern.trim_start_matches('/').split('/') {
        let part = parts.next()?;
        let (expected, expected_verb) = expected.split_once(':').unwrap_or((expected, ""));
        let (part, verb) = part.split_once(':').unwrap_or((part, ""));
        if verb != expected_verb {
            return None;
        }
        match expected.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(name) if !part.is_empty() => params.push((name, part.to_owned())),
            Some(_) => return None,
            None if part == expected => {}
            None => return None,
        }
    }
    parts.next().is_none().then_some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_meet_the_one_route_that_fits() {
        let route = |method: &str, path: &str| {
            let routes = ROUTES.iter().filter(|route| route.method == method);
            let found: Vec<_> = routes.filter_map(|route| Some((route.path, matched(route.path, path)?))).collect();
            assert!(found.len() <= 1, "{found:?}");
            found.into_iter().next()
        };
        let (path, params) = route("POST", "topics/t/subscriptions/g:cleanMessages").expect("a route");
        assert!(path.ends_with(":cleanMessages"));
        assert_eq!(params, [("topic", "t".to_owned()), ("group", "g".to_owned())]);
        assert!(route("GET", "topics/t/subscriptions/g").expect("a route").0.ends_with("{group}"));
        for nowhere in [
            "",
            "topics/",
            "topics/t/",
            "topics/t/x",
            "topics/t/subscriptions/g:fly",
            "topics:fly",
            "topics/t/subscriptions/:cleanMessages",
        ] {
            assert!(route("POST", nowhere).is_none(), "{nowhere}");
        }
        assert_eq!(ROUTES.len(), 25);
    }
}
