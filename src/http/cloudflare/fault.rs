//! Errors in Cloudflare's envelope: the status, its numeric code and what clients shall do about it.
//! Every match over engine errors is exhaustive. Codes are Cloudflare's; where the same case has
//! different codes for messages and for settings, [`Plane`] tells which.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::access::Denied;
use crate::engine::{
    CreateGroupError, CreateTopicError, LookupError, PeekError, PublishError, PullError, Refusal, SettleError,
    UpdateGroupError, UpdateTopicError,
};
use crate::http::cloudflare::wire::{ErrorView, Failure};
use crate::http::edge::EdgeError;
use crate::http::json::JsonError;

/// Overrides what the SDKs think about trying again.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const NO_PULL_CONSUMER: &str = "messages cannot be pulled unless http_pull mode is enabled";

/// Which half of the API a route belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// Queues and consumers.
    Control,
    /// Messages.
    Data,
}

/// Whether the same request may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// What the status says.
    ByStatus,
    /// It will not: said aloud, for the SDKs would try a 409 or 429 again.
    Never,
    /// After that many seconds.
    After(u32),
}

/// An error on its way to a client.
#[derive(Debug, Clone)]
pub struct Fault {
    status: StatusCode,
    code: u32,
    message: String,
    pointer: Option<String>,
    /// What lies behind it: a code and a message of its own.
    cause: Option<(u32, String)>,
    again: Again,
    /// Whose headers it takes along.
    edge: Option<EdgeError>,
}

impl Fault {
    /// An error with this status and code.
    pub fn new(status: StatusCode, code: u32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), pointer: None, cause: None, again: Again::ByStatus, edge: None }
    }

    /// A request that is wrong whatever the state of the queue.
    pub fn bad(code: u32, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    fn never_again(mut self) -> Self {
        self.again = Again::Never;
        self
    }

    fn after(mut self, seconds: u32) -> Self {
        self.again = Again::After(seconds);
        self
    }

    /// Something that cannot happen, happened.
    pub fn internal(what: &str) -> Self {
        tracing::error!(what, "a request of the Cloudflare dialect failed inside");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, 15000, "unknown internal error")
    }

    /// The path names an object that is not there.
    pub fn no_object(kind: &str) -> Self {
        let message = format!("Could not route to /{kind}, perhaps your object identifier is invalid?");
        Self::new(StatusCode::NOT_FOUND, 7003, message)
    }

    /// The queue id is not 32 hexadecimal digits.
    pub fn malformed_queue_id(plane: Plane) -> Self {
        match plane {
            Plane::Control => Self::no_object("queues"),
            Plane::Data => Self::bad(10107, "queue id must be 32 hexadecimal digits"),
        }
    }

    /// The queue has no consumer that pulls.
    pub fn no_pull_consumer() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, 0, NO_PULL_CONSUMER)
    }

    /// JSON that cannot be used.
    pub fn json(error: &JsonError, plane: Plane) -> Self {
        let code = match (error, plane) {
            (JsonError::Syntax { .. }, Plane::Data) => 10208,
            (JsonError::Shape { .. } | JsonError::TooMany { .. }, Plane::Data) => 10207,
            (_, Plane::Control) => 10026,
        };
        let mut fault = Self::bad(code, error.to_string());
        if let JsonError::Shape { pointer, .. } | JsonError::TooMany { pointer, .. } = error {
            fault.pointer = Some(pointer.clone());
        }
        fault
    }

    /// Events of products that this server does not have.
    pub fn no_event_sources() -> Self {
        let message = "event subscriptions are not supported: this server has no products whose events a queue \
            could be subscribed to";
        Self::new(StatusCode::NOT_IMPLEMENTED, 7001, message).never_again()
    }

    fn no_queue(plane: Plane) -> Self {
        let code = match plane {
            Plane::Control => 11000,
            Plane::Data => 10104,
        };
        Self::new(StatusCode::NOT_FOUND, code, "queue not found")
    }

    /// A queue or consumer that is not there.
    pub fn lookup(error: LookupError, plane: Plane) -> Self {
        match (error, plane) {
            (LookupError::NoSuchTopic, plane) => Self::no_queue(plane),
            (LookupError::NoSuchGroup, Plane::Data) => Self::no_pull_consumer(),
            (LookupError::NoSuchGroup, Plane::Control) => Self::no_object("consumers"),
            (LookupError::Refused(refusal), _) => refusal.into(),
        }
    }
}

fn storage_limit(message: String) -> Fault {
    Fault::new(StatusCode::TOO_MANY_REQUESTS, 10251, message)
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Busy => Self::new(StatusCode::TOO_MANY_REQUESTS, 10250, message).after(1),
            Refusal::Stopping => Self::new(StatusCode::SERVICE_UNAVAILABLE, 10250, message).after(2),
            Refusal::DiskFull => storage_limit(message).after(10),
            Refusal::Unavailable => Self::new(StatusCode::SERVICE_UNAVAILABLE, 10250, message).after(1),
            Refusal::Throttled => Self::new(StatusCode::TOO_MANY_REQUESTS, 10250, message).after(1),
        }
    }
}

impl From<CreateTopicError> for Fault {
    fn from(error: CreateTopicError) -> Self {
        let message = error.to_string();
        match error {
            CreateTopicError::Exists(_) => name_taken(),
            CreateTopicError::Settings(_) => Self::bad(100_128, message),
            CreateTopicError::TooMany { .. } => storage_limit(message).never_again(),
            CreateTopicError::Refused(refusal) => refusal.into(),
        }
    }
}

fn name_taken() -> Fault {
    Fault::new(StatusCode::CONFLICT, 11009, "queue name is already taken").never_again()
}

impl From<UpdateTopicError> for Fault {
    fn from(error: UpdateTopicError) -> Self {
        let message = error.to_string();
        match error {
            UpdateTopicError::NoSuchTopic => Self::no_queue(Plane::Control),
            UpdateTopicError::NameTaken(_) => name_taken(),
            UpdateTopicError::Settings(_) => Self::bad(100_128, message),
            UpdateTopicError::InUse { .. } => Self::new(StatusCode::CONFLICT, 100_128, message).never_again(),
            UpdateTopicError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<CreateGroupError> for Fault {
    fn from(error: CreateGroupError) -> Self {
        let message = error.to_string();
        match error {
            CreateGroupError::NoSuchTopic => Self::no_queue(Plane::Control),
            CreateGroupError::Exists(_) => Self::bad(11004, "workers.api.error.consumer_exists"),
            CreateGroupError::Settings(_) => Self::bad(100_127, message),
            CreateGroupError::TooMany { .. } => storage_limit(message).never_again(),
            CreateGroupError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<UpdateGroupError> for Fault {
    fn from(error: UpdateGroupError) -> Self {
        let message = error.to_string();
        match error {
            UpdateGroupError::Lookup(error) => Self::lookup(error, Plane::Control),
            UpdateGroupError::Settings(_) => Self::bad(100_127, message),
        }
    }
}

impl From<PublishError> for Fault {
    fn from(error: PublishError) -> Self {
        let message = error.to_string();
        match error {
            PublishError::NoSuchTopic => Self::no_queue(Plane::Data),
            PublishError::BatchCount { .. } => Self::bad(10206, message),
            PublishError::BodyTooLarge { .. } => Self::bad(10204, message),
            PublishError::BatchTooLarge { .. } => Self::bad(10205, message),
            PublishError::Properties { .. } | PublishError::DelayTooLong { .. } => Self::bad(10203, message),
            PublishError::IdempotencyConflict { .. } => Self::new(StatusCode::CONFLICT, 10203, message).never_again(),
            PublishError::TableFull { .. } => storage_limit(message).after(10),
            PublishError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<PullError> for Fault {
    fn from(error: PullError) -> Self {
        let message = error.to_string();
        match error {
            PullError::Lookup(error) => Self::lookup(error, Plane::Data),
            PullError::Paused => Self::new(StatusCode::CONFLICT, 0, "queue_delivery_paused").never_again(),
            PullError::Bounds(_) => Self::bad(10207, message),
            PullError::TooManyWaiting { .. } => Self::new(StatusCode::TOO_MANY_REQUESTS, 10250, message).after(1),
            PullError::Unreadable(reason) => Self::internal(&reason),
        }
    }
}

impl From<PeekError> for Fault {
    fn from(error: PeekError) -> Self {
        let message = error.to_string();
        match error {
            PeekError::Lookup(error) => Self::lookup(error, Plane::Data),
            PeekError::Bounds(_) => Self::bad(10207, message),
            PeekError::Unreadable(reason) => Self::internal(&reason),
        }
    }
}

impl From<SettleError> for Fault {
    fn from(error: SettleError) -> Self {
        let message = error.to_string();
        match error {
            SettleError::Lookup(error) => Self::lookup(error, Plane::Data),
            SettleError::Bounds(_) => Self::bad(10207, message),
        }
    }
}

impl From<Denied> for Fault {
    fn from(denied: Denied) -> Self {
        EdgeError::Denied(denied).into()
    }
}

impl From<EdgeError> for Fault {
    fn from(error: EdgeError) -> Self {
        let said = error.to_string();
        let (status, code, message) = match &error {
            EdgeError::NoCredential => {
                let message = "Missing X-Auth-Key, X-Auth-Email or Authorization headers";
                (StatusCode::BAD_REQUEST, 9106, message.to_owned())
            }
            EdgeError::MalformedCredential => (StatusCode::BAD_REQUEST, 6003, "Invalid request headers".to_owned()),
            EdgeError::BadCredential(_) | EdgeError::Denied(_) => {
                (error.status(), 10000, format!("Authentication error: {said}"))
            }
            EdgeError::NotLocal => (error.status(), 10000, said),
            EdgeError::NoRoute => (error.status(), 7000, "No route for that URI".to_owned()),
            EdgeError::MethodNotAllowed => (error.status(), 7001, "Method not available for that URI".to_owned()),
            EdgeError::BadPath => (error.status(), 7003, said),
            EdgeError::EncodedBody | EdgeError::BodyTimeout | EdgeError::BodyCut => (error.status(), 10026, said),
            EdgeError::TooLarge { .. } => (error.status(), 10205, said),
            EdgeError::Crowded => (error.status(), 10250, said),
        };
        let cause = (code == 6003).then(|| (6111, "Invalid format for Authorization header".to_owned()));
        Self { edge: Some(error), cause, ..Self::new(status, code, message) }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let error = ErrorView::new(self.code, self.message, self.pointer, self.cause);
        let mut response = (self.status, axum::Json(Failure::new(error))).into_response();
        let headers = response.headers_mut();
        match self.again {
            Again::ByStatus => {}
            Again::Never => {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            }
            Again::After(seconds) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
        }
        if let Some(edge) = self.edge {
            edge.decorate(headers);
        }
        response
    }
}

/// The envelope of this dialect for trouble at the edge.
pub fn envelope(error: &EdgeError) -> Response {
    Fault::from(error.clone()).into_response()
}

#[cfg(test)]
mod tests {
    use crate::model::{GroupName, SettingsError, TopicName};

    use super::*;

    /// Status, code, and what the headers say about trying again.
    fn told(fault: impl Into<Fault>) -> (u16, u32, Option<String>) {
        let fault: Fault = fault.into();
        let code = fault.code;
        let response = fault.into_response();
        let header = |name: HeaderName| {
            let value = response.headers().get(&name)?.to_str().ok()?;
            Some(format!("{name}: {value}"))
        };
        (response.status().as_u16(), code, header(SHOULD_RETRY).or_else(|| header(header::RETRY_AFTER)))
    }

    #[track_caller]
    fn is(fault: impl Into<Fault>, status: u16, code: u32, again: Option<&str>) {
        assert_eq!(told(fault), (status, code, again.map(str::to_owned)));
    }

    const NEVER: Option<&str> = Some("x-should-retry: false");

    fn settings() -> SettingsError {
        SettingsError { field: "f", rule: "r" }
    }

    #[test]
    fn what_keeps_the_engine_from_working_says_when_to_come_back() {
        is(Refusal::Busy, 429, 10250, Some("retry-after: 1"));
        is(Refusal::Stopping, 503, 10250, Some("retry-after: 2"));
        is(Refusal::DiskFull, 429, 10251, Some("retry-after: 10"));
        is(EdgeError::Crowded, 503, 10250, Some("retry-after: 1"));
        is(PublishError::TableFull { what: "w", max: 1 }, 429, 10251, Some("retry-after: 10"));
        is(PullError::TooManyWaiting { max: 1 }, 429, 10250, Some("retry-after: 1"));
        is(PublishError::Refused(Refusal::DiskFull), 429, 10251, Some("retry-after: 10"));
    }

    #[test]
    fn clients_are_told_not_to_repeat_what_cannot_succeed() {
        let name = || TopicName::parse("t").expect("a name");
        is(UpdateTopicError::NameTaken(name()), 409, 11009, NEVER);
        is(UpdateTopicError::InUse { field: "f", why: "w" }, 409, 100_128, NEVER);
        is(CreateTopicError::TooMany { max: 1 }, 429, 10251, NEVER);
        is(CreateGroupError::TooMany { max: 1 }, 429, 10251, NEVER);
        is(PullError::Paused, 409, 0, NEVER);
        is(PublishError::IdempotencyConflict { index: 0 }, 409, 10203, NEVER);
        is(Fault::no_event_sources(), 501, 7001, NEVER);
    }

    #[test]
    fn every_other_error_has_its_status_and_code() {
        is(CreateTopicError::Settings(settings()), 400, 100_128, None);
        is(UpdateTopicError::Settings(settings()), 400, 100_128, None);
        is(UpdateTopicError::NoSuchTopic, 404, 11000, None);
        is(CreateGroupError::NoSuchTopic, 404, 11000, None);
        is(CreateGroupError::Exists(GroupName::parse("g").expect("a name")), 400, 11004, None);
        is(CreateGroupError::Settings(settings()), 400, 100_127, None);
        is(UpdateGroupError::Lookup(LookupError::NoSuchGroup), 404, 7003, None);
        is(UpdateGroupError::Settings(settings()), 400, 100_127, None);
        is(PublishError::NoSuchTopic, 404, 10104, None);
        is(PublishError::BatchCount { got: 0, max: 1 }, 400, 10206, None);
        is(PublishError::BodyTooLarge { index: 0, got: 2, max: 1 }, 400, 10204, None);
        is(PublishError::BatchTooLarge { got: 2, max: 1 }, 400, 10205, None);
        is(PublishError::Properties { index: 0, pairs_max: 1, bytes_max: 1 }, 400, 10203, None);
        is(PublishError::DelayTooLong { index: 0, max_secs: 1 }, 400, 10203, None);
        is(PullError::Lookup(LookupError::NoSuchGroup), 405, 0, None);
        is(PullError::Bounds(settings()), 400, 10207, None);
        is(PullError::Unreadable(String::new()), 500, 15000, None);
        is(SettleError::Lookup(LookupError::NoSuchTopic), 404, 10104, None);
        is(SettleError::Bounds(settings()), 400, 10207, None);
        is(PeekError::Bounds(settings()), 400, 10207, None);
        is(PeekError::Unreadable(String::new()), 500, 15000, None);
        is(EdgeError::NoCredential, 400, 9106, None);
        is(EdgeError::MalformedCredential, 400, 6003, None);
        is(EdgeError::BadCredential(crate::access::BadCredential), 401, 10000, None);
        is(EdgeError::Denied(Denied::Topic), 403, 10000, None);
        is(EdgeError::NotLocal, 403, 10000, None);
        is(EdgeError::NoRoute, 404, 7000, None);
        is(EdgeError::MethodNotAllowed, 405, 7001, None);
        is(EdgeError::BadPath, 400, 7003, None);
        is(EdgeError::EncodedBody, 415, 10026, None);
        is(EdgeError::TooLarge { max: 1 }, 413, 10205, None);
        is(EdgeError::BodyTimeout, 408, 10026, None);
        is(EdgeError::BodyCut, 400, 10026, None);
    }
}
