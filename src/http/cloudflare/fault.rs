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
