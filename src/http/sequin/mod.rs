//! The HTTP APIs of Sequin, of all its eras, over the same streams and consumers. A stream is a topic that
//! keeps the latest message of each key, a consumer is a group, by id or by name.
//!
//! What differs between eras (paths, words, the wait rule, the answer to an ack) follows from [`Era`] and the
//! table of routes here. Shapes are in `wire`, errors in `fault`.

mod consume;
mod consumers;
mod fault;
mod keys;
mod messages;
mod record;
mod start;
mod streams;
mod wire;

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use crate::access::{Denied, Principal, Right, Target, authorise};
use crate::engine::LookupError;
use crate::http::auth;
use crate::http::call::Call;
use crate::http::edge::EdgeError;
use crate::http::json;
use crate::http::route::{ADMIN, CONSUME, Later, PUBLISH, SEE, add};
use crate::http::sequin::fault::Fault;
use crate::http::state::Front;
use crate::model::{AccountName, Group, GroupId, GroupName, GroupRef, Topic, TopicId, TopicName, TopicRef};

pub use fault::envelope;

/// Where this dialect begins; under the last of these, [`NOT_OURS`] is somebody else's.
pub const PREFIXES: [&str; 3] = ["/v1/http-consumers", "/v1/streams", "/api"];
/// The native API.
pub const NOT_OURS: &str = "/api/windlass";
/// Clients whose base address ends in `/api` put it twice.
const TWICE: &str = "/api";

/// Whose words a route speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Era {
    /// `/v1`: records, `ack_token`, a wait ends when the batch is full, 204.
    Records,
    /// `/api`, the first: messages, `ack_token`, 204.
    Tokens,
    /// `/api`, the second: messages, `ack_id`, 200.
    Messages,
    /// `/api`, since: changes of rows, `ack_id`, 200.
    Sinks,
}

/// One route.
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: &'static str,
    /// What it takes to ask.
    pub right: Right,
    era: Era,
    run: fn(SequinCall) -> Later<Result<Response, Fault>>,
}

macro_rules! routes {
    ($($method:ident $path:literal $right:ident $era:ident $run:path;)+) => {
        /// Every route of this dialect. Those under `/api` are served under `/api/api` as well.
        pub static ROUTES: &[Route] = &[$(Route {
            method: Method::$method,
            path: $path,
            right: $right,
            era: Era::$era,
            run: |call| Box::pin($run(call)),
        }),+];
    };
}

routes! {
    GET "/v1/http-consumers" SEE Records consumers::list;
    POST "/v1/http-consumers" ADMIN Records consumers::create;
    GET "/v1/http-consumers/{consumer}" SEE Records consumers::get;
    PUT "/v1/http-consumers/{consumer}" ADMIN Records consumers::update;
    PATCH "/v1/http-consumers/{consumer}" ADMIN Records consumers::update;
    DELETE "/v1/http-consumers/{consumer}" ADMIN Records consumers::delete;
    POST "/v1/http-consumers/{consumer}/rewind" ADMIN Records consumers::rewind;
    GET "/v1/http-consumers/{consumer}/next" CONSUME Records consume::next;
    POST "/v1/http-consumers/{consumer}/next" CONSUME Records consume::next;
    POST "/v1/http-consumers/{consumer}/ack" CONSUME Records consume::ack;
    POST "/v1/http-consumers/{consumer}/nack" CONSUME Records consume::nack;
    GET "/v1/streams" SEE Records streams::list;
    POST "/v1/streams" ADMIN Records streams::create;
    GET "/v1/streams/{stream}" SEE Records streams::get;
    DELETE "/v1/streams/{stream}" ADMIN Records streams::delete;

    GET "/api/consumers/{consumer}/next" CONSUME Tokens consume::next;
    POST "/api/consumers/{consumer}/next" CONSUME Tokens consume::next;
    POST "/api/consumers/{consumer}/ack" CONSUME Tokens consume::ack;
    POST "/api/consumers/{consumer}/nack" CONSUME Tokens consume::nack;
    GET "/api/streams/{stream}/consumers/{consumer}/next" CONSUME Tokens consume::next;
    POST "/api/streams/{stream}/consumers/{consumer}/next" CONSUME Tokens consume::next;

    GET "/api/streams" SEE Messages streams::list;
    POST "/api/streams" ADMIN Messages streams::create;
    GET "/api/streams/{stream}" SEE Messages streams::get;
    DELETE "/api/streams/{stream}" ADMIN Messages streams::delete;
    POST "/api/streams/{stream}/messages" PUBLISH Messages messages::publish;
    GET "/api/streams/{stream}/messages" CONSUME Messages messages::list;
    GET "/api/streams/{stream}/messages/{key}" CONSUME Messages messages::get;
    GET "/api/streams/{stream}/messages/{key}/consumer_info" CONSUME Messages messages::consumer_info;
    GET "/api/streams/{stream}/consumers" SEE Messages consumers::list;
    POST "/api/streams/{stream}/consumers" ADMIN Messages consumers::create;
    GET "/api/streams/{stream}/consumers/{consumer}" SEE Messages consumers::get;
    PUT "/api/streams/{stream}/consumers/{consumer}" ADMIN Messages consumers::update;
    PATCH "/api/streams/{stream}/consumers/{consumer}" ADMIN Messages consumers::update;
    DELETE "/api/streams/{stream}/consumers/{consumer}" ADMIN Messages consumers::delete;
    POST "/api/streams/{stream}/consumers/{consumer}/rewind" ADMIN Messages consumers::rewind;
    GET "/api/streams/{stream}/consumers/{consumer}/messages" CONSUME Messages messages::list_of_consumer;
    GET "/api/streams/{stream}/consumers/{consumer}/receive" CONSUME Messages consume::next;
    POST "/api/streams/{stream}/consumers/{consumer}/receive" CONSUME Messages consume::next;
    POST "/api/streams/{stream}/consumers/{consumer}/ack" CONSUME Messages consume::ack;
    POST "/api/streams/{stream}/consumers/{consumer}/nack" CONSUME Messages consume::nack;

    GET "/api/http_pull_consumers/{consumer}/receive" CONSUME Sinks consume::next;
    POST "/api/http_pull_consumers/{consumer}/receive" CONSUME Sinks consume::next;
    POST "/api/http_pull_consumers/{consumer}/ack" CONSUME Sinks consume::ack;
    POST "/api/http_pull_consumers/{consumer}/nack" CONSUME Sinks consume::nack;
    GET "/api/sequin_streams/{consumer}/receive" CONSUME Sinks consume::next;
    POST "/api/sequin_streams/{consumer}/receive" CONSUME Sinks consume::next;
    POST "/api/sequin_streams/{consumer}/ack" CONSUME Sinks consume::ack;
    POST "/api/sequin_streams/{consumer}/nack" CONSUME Sinks consume::nack;
}

/// The routes of the table.
pub fn router() -> Router<Arc<Front>> {
    ROUTES.iter().fold(Router::new(), |router, route| {
        let handler = move |State(front): State<Arc<Front>>, request: Request| dispatch(route, front, request);
        let router = add(router, &route.method, route.path, handler);
        if route.path.starts_with(TWICE) {
            add(router, &route.method, &format!("{TWICE}{}", route.path), handler)
        } else {
            router
        }
    })
}

/// Finds who asks, by bearer token or by the password of HTTP Basic.
pub fn authenticate(front: &Front, headers: &HeaderMap) -> Result<Principal, EdgeError> {
    let token = auth::bearer_or_basic(headers);
    auth::authenticate(front, headers, token.as_ref().map(Option::as_deref).map_err(Clone::clone))
}

/// A request that its maker may make, with what its path names.
struct SequinCall {
    call: Call,
    era: Era,
    stream: Option<Topic>,
    consumer: Option<Group>,
}

async fn dispatch(route: &'static Route, front: Arc<Front>, request: Request) -> Response {
    match attempt(route, front, request).await {
        Ok(response) => response,
        Err(fault) => fault.into_response(),
    }
}

async fn attempt(route: &'static Route, front: Arc<Front>, request: Request) -> Result<Response, Fault> {
    let call = Call::open(front, request, authenticate).await?;
    // axum takes a HEAD for a GET: a `next` would hand out messages that nobody gets.
    if call.parts.method != route.method {
        return Err(EdgeError::MethodNotAllowed.into());
    }
    authorise(&call.principal, route.right, Target::Unnamed)?;
    let mut call = SequinCall { call, era: route.era, stream: None, consumer: None };
    if route.path.contains("{stream}") {
        let stream = call.find_stream(call.call.param("stream")).await?;
        authorise(&call.call.principal, route.right, Target::Topic(&stream.name))?;
        call.stream = Some(stream);
    }
    if route.path.contains("{consumer}") {
        call.consumer = Some(call.find_consumer(route.right).await?);
    }
    (route.run)(call).await
}

impl SequinCall {
    fn account(&self) -> AccountName {
        self.call.principal.account.clone()
    }

    /// The stream with this id or name.
    async fn find_stream(&self, text: &str) -> Result<Topic, Fault> {
        let by_id = TopicId::parse(text).ok().map(TopicRef::Id);
        let by_name = TopicName::parse(text).ok().map(TopicRef::Name);
        for stream in [by_id, by_name].into_iter().flatten() {
            match self.call.front.engine.topic(self.account(), stream).await {
                Err(LookupError::NoSuchTopic | LookupError::NoSuchGroup) => {}
                found => return Ok(found?),
            }
        }
        Err(Fault::no_stream())
    }

    /// The consumer that the path names, by id or name: in its stream, or wherever it is. A name that
    /// consumers of several streams have names none of them.
    async fn find_consumer(&self, right: Right) -> Result<Group, Fault> {
        let text = self.call.param("consumer");
        let by_id = GroupId::parse(text).ok().map(GroupRef::Id);
        let by_name = GroupName::parse(text).ok().map(GroupRef::Name);
        for consumer in [by_id, by_name].into_iter().flatten() {
            let mut found = self.named(consumer).await?;
            if found.is_empty() {
                continue;
            }
            found.retain(|group| authorise(&self.call.principal, right, Target::Topic(&group.topic)).is_ok());
            if found.len() > 1 {
                return Err(Fault::ambiguous());
            }
            return found.pop().ok_or_else(|| Denied::Topic.into());
        }
        Err(Fault::no_consumer())
    }

    async fn named(&self, consumer: GroupRef) -> Result<Vec<Group>, Fault> {
        let engine = &self.call.front.engine;
        let Some(stream) = &self.stream else { return Ok(engine.find_groups(self.account(), consumer).await?) };
        match engine.group(self.account(), TopicRef::Id(stream.id), consumer).await {
            Ok(group) => Ok(vec![group]),
            Err(LookupError::NoSuchGroup) => Ok(Vec::new()),
            Err(error @ (LookupError::NoSuchTopic | LookupError::Refused(_))) => Err(error.into()),
        }
    }

    fn stream(&self) -> Result<&Topic, Fault> {
        self.stream.as_ref().ok_or_else(|| Fault::internal("a route without a stream"))
    }

    /// The consumer of the path, and where the engine finds it.
    fn consumer(&self) -> Result<(&Group, TopicRef, GroupRef), Fault> {
        let group = self.consumer.as_ref().ok_or_else(|| Fault::internal("a route without a consumer"))?;
        let topic = self.stream.as_ref().map(|stream| TopicRef::Id(stream.id));
        let topic = topic.unwrap_or_else(|| TopicRef::Name(group.topic.clone()));
        Ok((group, topic, GroupRef::Id(group.id)))
    }

    /// Reads the body as JSON, whatever its content type says and whatever the method; no body counts as `{}`.
    async fn read<T: DeserializeOwned>(&mut self) -> Result<T, Fault> {
        let body = self.call.body().await?;
        Ok(json::read(&body)?)
    }

    /// The last parameter of the query with this name.
    fn parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        self.call.query().into_iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}
