//! The Cloudflare Queues HTTP API. A queue is a topic, its id the topic's; the consumer is the one group
//! named `http-pull`. Shapes are in `wire`, errors in `fault`; the table of routes is here.

mod accounts;
mod consumers;
mod content;
mod fault;
mod messages;
mod page;
mod peek;
mod purge;
mod queues;
mod subscriptions;
mod wire;

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use crate::access::{Denied, Principal, Right, Target, account_hex, authorise};
use crate::http::auth;
use crate::http::call::Call;
use crate::http::cloudflare::fault::{Fault, Plane};
use crate::http::edge::EdgeError;
use crate::http::json;
use crate::http::route::{ADMIN, CONSUME, Later, PUBLISH, SEE, add};
use crate::http::state::Front;
use crate::model::{AccountName, GroupName, GroupRef, Topic, TopicId, TopicRef};

pub use fault::envelope;

/// Where this dialect begins.
pub const PREFIX: &str = "/client/v4";
/// The one group of a queue that this dialect sees.
const CONSUMER: &str = "http-pull";
/// Ids on the wire: that many hexadecimal digits.
const ID_DIGITS: usize = 32;

/// One route.
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: &'static str,
    /// What it takes to ask.
    pub right: Right,
    plane: Plane,
    run: fn(Allowed) -> Later<Result<Response, Fault>>,
}

macro_rules! routes {
    ($($method:ident $path:literal $right:ident $plane:ident $run:path;)+) => {
        /// Every route of this dialect.
        pub static ROUTES: &[Route] = &[$(Route {
            method: Method::$method,
            path: concat!("/client/v4", $path),
            right: $right,
            plane: Plane::$plane,
            run: |call| Box::pin($run(call)),
        }),+];
    };
}

routes! {
    POST "/accounts/{account}/queues" ADMIN Control queues::create;
    GET "/accounts/{account}/queues" SEE Control queues::list;
    GET "/accounts/{account}/queues/{queue}" SEE Control queues::get;
    PUT "/accounts/{account}/queues/{queue}" ADMIN Control queues::replace;
    PATCH "/accounts/{account}/queues/{queue}" ADMIN Control queues::edit;
    DELETE "/accounts/{account}/queues/{queue}" ADMIN Control queues::delete;
    GET "/accounts/{account}/queues/{queue}/metrics" SEE Control queues::metrics;
    POST "/accounts/{account}/queues/{queue}/messages" PUBLISH Data messages::push;
    POST "/accounts/{account}/queues/{queue}/messages/batch" PUBLISH Data messages::push_batch;
    POST "/accounts/{account}/queues/{queue}/messages/pull" CONSUME Data messages::pull;
    POST "/accounts/{account}/queues/{queue}/messages/ack" CONSUME Data messages::ack;
    POST "/accounts/{account}/queues/{queue}/messages/peek" CONSUME Data peek::peek;
    POST "/accounts/{account}/queues/{queue}/messages/preview" CONSUME Data peek::peek;
    POST "/accounts/{account}/queues/{queue}/messages/purge" ADMIN Data peek::purge;
    POST "/accounts/{account}/queues/{queue}/purge" ADMIN Control purge::start;
    GET "/accounts/{account}/queues/{queue}/purge" SEE Control purge::status;
    POST "/accounts/{account}/queues/{queue}/consumers" ADMIN Control consumers::create;
    GET "/accounts/{account}/queues/{queue}/consumers" SEE Control consumers::list;
    GET "/accounts/{account}/queues/{queue}/consumers/{consumer}" SEE Control consumers::get;
    PUT "/accounts/{account}/queues/{queue}/consumers/{consumer}" ADMIN Control consumers::replace;
    DELETE "/accounts/{account}/queues/{queue}/consumers/{consumer}" ADMIN Control consumers::delete;
    GET "/accounts/{account}/event_subscriptions/subscriptions" SEE Control subscriptions::list;
    POST "/accounts/{account}/event_subscriptions/subscriptions" ADMIN Control subscriptions::create;
    GET "/accounts/{account}/event_subscriptions/subscriptions/{subscription}" SEE Control subscriptions::none;
    PATCH "/accounts/{account}/event_subscriptions/subscriptions/{subscription}" ADMIN Control subscriptions::none;
    DELETE "/accounts/{account}/event_subscriptions/subscriptions/{subscription}" ADMIN Control subscriptions::none;
    GET "/accounts" SEE Control accounts::list;
    GET "/memberships" SEE Control accounts::memberships;
    GET "/user" SEE Control accounts::user;
    GET "/user/tokens/verify" SEE Control accounts::verify;
}

/// The routes of the table.
pub fn router() -> Router<Arc<Front>> {
    ROUTES.iter().fold(Router::new(), |router, route| {
        let handler = move |State(front): State<Arc<Front>>, request: Request| dispatch(route, front, request);
        add(router, &route.method, route.path, handler)
    })
}

/// Finds who asks: by bearer token, or by the key headers that the same clients may send instead.
pub fn authenticate(front: &Front, headers: &HeaderMap) -> Result<Principal, EdgeError> {
    let key = ["x-auth-key", "x-auth-user-service-key"].iter().find_map(|name| headers.get(*name));
    let token = match key {
        Some(key) if !headers.contains_key(header::AUTHORIZATION) => {
            key.to_str().map(Some).map_err(|_| EdgeError::MalformedCredential)
        }
        Some(_) | None => auth::bearer(headers),
    };
    auth::authenticate(front, headers, token)
}

/// A request that the principal may make, in its own account.
struct Allowed {
    call: Call,
    plane: Plane,
    /// The queue that the path names, if the route has one.
    queue: Option<TopicId>,
    /// Looked up already where the right depends on its name, and for the control plane.
    topic: Option<Topic>,
}

async fn dispatch(route: &'static Route, front: Arc<Front>, request: Request) -> Response {
    match attempt(route, front, request).await {
        Ok(response) => response,
        Err(fault) => fault.into_response(),
    }
}

async fn attempt(route: &'static Route, front: Arc<Front>, request: Request) -> Result<Response, Fault> {
    let call = Call::open(front, request, authenticate).await?;
    if route.path.contains("{account}") {
        check_account(&call)?;
    }
    authorise(&call.principal, route.right, Target::Unnamed)?;
    let plane = route.plane;
    let mut call = Allowed { call, plane, queue: None, topic: None };
    if route.path.contains("{queue}") {
        let id = hex_id(call.call.param("queue")).ok_or_else(|| Fault::malformed_queue_id(plane))?;
        let id = TopicId::parse(id).map_err(|_| Fault::malformed_queue_id(plane))?;
        call.queue = Some(id);
        if plane == Plane::Control || !call.call.principal.reaches_all() {
            let topic = call.call.front.engine.topic(call.account(), TopicRef::Id(id)).await;
            let topic = topic.map_err(|error| Fault::lookup(error, plane))?;
            authorise(&call.call.principal, route.right, Target::Topic(&topic.name))?;
            call.topic = Some(topic);
        }
    }
    (route.run)(call).await
}

/// The account in the path must be the principal's: by name, or by the id made from it. A server
/// without credentials has one account, whatever clients call it.
fn check_account(call: &Call) -> Result<(), Fault> {
    let asked = call.param("account");
    let own = &call.principal.account;
    if call.principal.is_open() {
        return AccountName::parse(asked).map(drop).map_err(|_| Fault::no_object("accounts"));
    }
    if asked == own.as_str() || asked.eq_ignore_ascii_case(&account_hex(own)) {
        return Ok(());
    }
    Err(EdgeError::Denied(Denied::Permission).into())
}

/// `text`, if it is an id: exactly 32 hexadecimal digits.
fn hex_id(text: &str) -> Option<&str> {
    (text.len() == ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(text)
}

fn consumer_ref() -> Result<GroupRef, Fault> {
    GroupName::parse(CONSUMER).map(GroupRef::Name).map_err(|_| Fault::internal("the consumer's name"))
}

impl Allowed {
    fn account(&self) -> AccountName {
        self.call.principal.account.clone()
    }

    fn queue(&self) -> Result<TopicRef, Fault> {
        self.queue.map(TopicRef::Id).ok_or_else(|| Fault::internal("a route without a queue"))
    }

    async fn topic(&self) -> Result<Topic, Fault> {
        match &self.topic {
            Some(topic) => Ok(topic.clone()),
            None => {
                let topic = self.call.front.engine.topic(self.account(), self.queue()?).await;
                topic.map_err(|error| Fault::lookup(error, self.plane))
            }
        }
    }

    /// Reads the body as JSON, whatever its content type says; no body counts as `{}`.
    async fn read<T: DeserializeOwned>(&mut self) -> Result<T, Fault> {
        let body = self.call.body().await?;
        json::read(&body).map_err(|error| Fault::json(&error, self.plane))
    }

    /// Parameters of the query with this name.
    fn parameters(&self, name: &str) -> Vec<Cow<'_, str>> {
        self.call.query().into_iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect()
    }
}
