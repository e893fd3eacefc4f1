//! Errors in JCQ's envelope: HTTP status, a status in words, a message. Every match over engine errors is
//! exhaustive. The manual's table has no 404: on the data plane what is not there is a 400.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::access::Denied;
use crate::engine::{
    CreateGroupError, CreateTopicError, LookupError, PeekError, PublishError, PullError, RedriveError, Refusal,
    SettleError, UpdateGroupError, UpdateTopicError,
};
use crate::http::edge::EdgeError;
use crate::http::jcq::wire::{ErrorView, failure};
use crate::http::json::JsonError;

/// Seconds after which to come back to a server that is busy, or whose disk is full.
const BUSY_SECS: u32 = 1;
const FULL_SECS: u32 = 10;

/// Which half of the API a route belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// Messages.
    Data,
    /// Topics and subscriptions.
    Management,
}

/// An error on its way to a client.
#[derive(Debug, Clone)]
pub struct Fault {
    status: StatusCode,
    word: &'static str,
    message: String,
    retry_after: Option<u32>,
    /// Whose headers it takes along.
    edge: Option<EdgeError>,
}

impl Fault {
    /// An error with this status, word and message.
    pub fn new(status: StatusCode, word: &'static str, message: impl Into<String>) -> Self {
        Self { status, word, message: message.into(), retry_after: None, edge: None }
    }

    /// An error that says no more than its word.
    fn word(status: StatusCode, word: &'static str) -> Self {
        Self::new(status, word, word)
    }

    /// A parameter is wrong.
    pub fn parameter(name: &str) -> Self {
        let message = format!("Invalid request parameters：[ {name}]");
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
    }

    /// A parameter is wrong, and why.
    pub fn rule(name: &str, rule: impl std::fmt::Display) -> Self {
        let message = format!("Invalid request parameters：[ {name}] {rule}");
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
    }

    /// The time to ack is over, or the batch is acked.
    pub fn ack_failed() -> Self {
        Self::word(StatusCode::BAD_REQUEST, "ACK_FAILED")
    }

    /// The group has as many dead letters as it may.
    pub fn suspended() -> Self {
        Self::word(StatusCode::BAD_REQUEST, "SUSPEND_CAUSE_DEAD_LETTER")
    }

    /// A management call names what is not there.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", format!("{what} not exist"))
    }

    /// What shall be made is there already.
    pub fn exists(what: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "ALREADY_EXISTS", format!("{what} already exists"))
    }

    /// The state of the topic stands against it.
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "FAILED_PRECONDITION", message)
    }

    /// A bound of the server is reached.
    fn quota(message: String) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "QUOTA_EXCEEDED", message)
    }

    fn after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Something that cannot happen, happened.
    pub fn internal(what: &str) -> Self {
        tracing::error!(what, "a request of the JCQ dialect failed inside");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "internal error")
    }

    fn no_topic(plane: Plane) -> Self {
        match plane {
            Plane::Data => Self::word(StatusCode::BAD_REQUEST, "TOPIC_NOT_EXIST"),
            Plane::Management => Self::not_found("topic"),
        }
    }

    /// A topic or group that is not there.
    pub fn lookup(error: LookupError, plane: Plane) -> Self {
        match (error, plane) {
            (LookupError::NoSuchTopic, plane) => Self::no_topic(plane),
            (LookupError::NoSuchGroup, Plane::Data) => {
                Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "subscription not exist")
            }
            (LookupError::NoSuchGroup, Plane::Management) => Self::not_found("subscription"),
            (LookupError::Refused(refusal), _) => refusal.into(),
        }
    }

    /// A topic that was not made.
    pub fn create_topic(error: CreateTopicError) -> Self {
        match error {
            CreateTopicError::Exists(_) => Self::exists("topic"),
            CreateTopicError::Settings(error) => Self::rule(error.field, error.rule),
            CreateTopicError::TooMany { .. } => Self::quota(error.to_string()),
            CreateTopicError::Refused(refusal) => refusal.into(),
        }
    }

    /// A group that was not made.
    pub fn create_group(error: CreateGroupError, plane: Plane) -> Self {
        match error {
            CreateGroupError::NoSuchTopic => Self::no_topic(plane),
            CreateGroupError::Exists(_) => Self::exists("subscription"),
            CreateGroupError::Settings(error) => Self::rule(error.field, error.rule),
            CreateGroupError::TooMany { .. } => Self::quota(error.to_string()),
            CreateGroupError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy | Refusal::Throttled => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT", refusal.to_string()).after(BUSY_SECS)
            }
            Refusal::Stopping => {
                Self::new(StatusCode::REQUEST_TIMEOUT, "SYNC_TIMEOUT", refusal.to_string()).after(BUSY_SECS)
            }
            Refusal::DiskFull => throughput(refusal.to_string()),
            Refusal::Unavailable => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", refusal.to_string()).after(BUSY_SECS)
            }
        }
    }
}

fn throughput(message: String) -> Fault {
    Fault::new(StatusCode::TOO_MANY_REQUESTS, "THROUGHPUT_UP_TO_LIMIT", message).after(FULL_SECS)
}

impl From<PublishError> for Fault {
    fn from(error: PublishError) -> Self {
        let said = error.to_string();
        match error {
            PublishError::NoSuchTopic => Self::no_topic(Plane::Data),
            PublishError::BatchCount { .. } | PublishError::BatchTooLarge { .. } => Self::rule("messages", said),
            PublishError::BodyTooLarge { index, .. } => Self::rule(&format!("messages/{index}/body"), said),
            PublishError::Properties { index, .. } => Self::rule(&format!("messages/{index}/properties"), said),
            PublishError::DelayTooLong { index, .. } => Self::rule(&format!("messages/{index}/delaySeconds"), said),
            PublishError::IdempotencyConflict { .. } => Self::internal(&said),
            PublishError::TableFull { .. } => throughput(said),
            PublishError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<PullError> for Fault {
    fn from(error: PullError) -> Self {
        match error {
            PullError::Lookup(error) => Self::lookup(error, Plane::Data),
            PullError::Paused => Self::new(StatusCode::BAD_REQUEST, "FAILED_PRECONDITION", "delivery is paused"),
            PullError::Bounds(error) => Self::rule(error.field, error.rule),
            PullError::TooManyWaiting { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT", error.to_string()).after(BUSY_SECS)
            }
            PullError::Unreadable(reason) => Self::internal(&reason),
        }
    }
}

impl From<SettleError> for Fault {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Lookup(error) => Self::lookup(error, Plane::Data),
            SettleError::Bounds(error) => Self::rule(error.field, error.rule),
        }
    }
}

impl From<UpdateTopicError> for Fault {
    fn from(error: UpdateTopicError) -> Self {
        let said = error.to_string();
        match error {
            UpdateTopicError::NoSuchTopic => Self::no_topic(Plane::Management),
            UpdateTopicError::NameTaken(_) => Self::exists("topic"),
            UpdateTopicError::Settings(error) => Self::rule(error.field, error.rule),
            UpdateTopicError::InUse { .. } => Self::precondition(said),
            UpdateTopicError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<UpdateGroupError> for Fault {
    fn from(error: UpdateGroupError) -> Self {
        match error {
            UpdateGroupError::Lookup(error) => Self::lookup(error, Plane::Management),
            UpdateGroupError::Settings(error) => Self::rule(error.field, error.rule),
        }
    }
}

impl From<PeekError> for Fault {
    fn from(error: PeekError) -> Self {
        match error {
            PeekError::Lookup(error) => Self::lookup(error, Plane::Management),
            PeekError::Bounds(error) => Self::rule(error.field, error.rule),
            PeekError::Unreadable(reason) => Self::internal(&reason),
        }
    }
}

impl From<RedriveError> for Fault {
    fn from(error: RedriveError) -> Self {
        match error {
            RedriveError::Lookup(error) => Self::lookup(error, Plane::Management),
            RedriveError::Bounds(error) => Self::rule(error.field, error.rule),
        }
    }
}

impl From<JsonError> for Fault {
    fn from(error: JsonError) -> Self {
        let said = error.to_string();
        match error {
            JsonError::Syntax { .. } => Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", said),
            JsonError::TooMany { pointer, .. } | JsonError::Shape { pointer, .. } => {
                Self::rule(pointer.trim_start_matches('/'), said)
            }
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
        let (status, word, message) = match &error {
            EdgeError::NoCredential | EdgeError::MalformedCredential | EdgeError::BadCredential(_) => {
                (StatusCode::FORBIDDEN, "PERMISSION_DENIED", "Authentication failure".to_owned())
            }
            EdgeError::NotLocal => (error.status(), "PERMISSION_DENIED", said),
            EdgeError::Denied(Denied::Permission) => {
                (error.status(), "TOPIC_PERMISSION_DENIED", "TOPIC_PERMISSION_DENIED".to_owned())
            }
            EdgeError::Denied(Denied::Topic) => (error.status(), "TOPIC_AUTH_FAILED", "TOPIC_AUTH_FAILED".to_owned()),
            EdgeError::NoRoute => (error.status(), "NOT_FOUND", said),
            EdgeError::MethodNotAllowed => (error.status(), "METHOD_NOT_ALLOWED", said),
            EdgeError::BadPath | EdgeError::EncodedBody | EdgeError::TooLarge { .. } | EdgeError::BodyCut => {
                (error.status(), "INVALID_ARGUMENT", said)
            }
            EdgeError::Crowded => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT", said),
            EdgeError::BodyTimeout => (error.status(), "SYNC_TIMEOUT", said),
        };
        Self { edge: Some(error), ..Self::new(status, word, message) }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let error = ErrorView { code: self.status.as_u16(), message: self.message, status: self.word };
        let mut response = failure(self.status, error);
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(edge) = self.edge {
            edge.decorate(headers);
            // Nobody here asks for a bearer token.
            headers.remove(header::WWW_AUTHENTICATE);
        }
        response
    }
}

/// The envelope of this dialect for trouble at the edge.
pub fn envelope(error: &EdgeError) -> Response {
    Fault::from(error.clone()).into_response()
}
