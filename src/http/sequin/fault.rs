//! Errors in Sequin's envelope: `summary`, which every client reads, and for wrong settings what is wrong with
//! which field. Every match over engine errors is exhaustive.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::access::Denied;
use crate::engine::{
    CreateGroupError, CreateTopicError, LookupError, PeekError, PublishError, PullError, Refusal, SettleError,
    UpdateGroupError,
};
use crate::http::edge::EdgeError;
use crate::http::json::JsonError;
use crate::http::sequin::wire::Failure;
use crate::model::SettingsError;

/// An error on its way to a client.
#[derive(Debug, Clone)]
pub struct Fault {
    status: StatusCode,
    summary: String,
    /// By field.
    validation_errors: BTreeMap<String, Vec<String>>,
    retry_after: Option<u32>,
    /// Whose headers it takes along.
    edge: Option<EdgeError>,
}

impl Fault {
    fn new(status: StatusCode, summary: impl Into<String>) -> Self {
        let summary = summary.into();
        Self { status, summary, validation_errors: BTreeMap::new(), retry_after: None, edge: None }
    }

    /// What is not there was named by a field of the body, not by the path.
    pub fn of_field(self, field: &str) -> Self {
        if self.status == StatusCode::NOT_FOUND { Self::invalid(field, "does not exist") } else { self }
    }

    fn after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// A request that is wrong whatever there is.
    pub fn bad(summary: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, summary)
    }

    /// A field of something to be made or changed is wrong.
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        let mut fault = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Validation failed");
        fault.validation_errors.insert(field.to_owned(), vec![message.into()]);
        fault
    }

    /// The path names a stream that is not there.
    pub fn no_stream() -> Self {
        Self::not_found("stream")
    }

    /// The path names a consumer that is not there.
    pub fn no_consumer() -> Self {
        Self::not_found("consumer")
    }

    /// The stream has no message with the key.
    pub fn no_message() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found: No `message` found matching the provided key")
    }

    fn not_found(kind: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("Not found: No `{kind}` found matching the provided ID or name"))
    }

    /// Consumers of several streams have the name.
    pub fn ambiguous() -> Self {
        Self::bad("Consumers of several streams have this name: use the id")
    }

    /// No leases were named, or not as this route names them.
    pub fn no_ack_ids() -> Self {
        Self::bad(
            "Invalid ack_ids. Must send a top-level `ack_ids` property that is a non-empty list of valid UUID strings",
        )
    }

    /// More pulls wait than may.
    pub fn too_many_waiting(summary: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, summary).after(1)
    }

    /// Something that cannot happen, happened.
    pub fn internal(what: &str) -> Self {
        tracing::error!(what, "a request of the Sequin dialect failed inside");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
    }
}

impl From<JsonError> for Fault {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Syntax { .. } => Self::bad(format!("The request body is {error}")),
            JsonError::Shape { pointer, message } | JsonError::TooMany { pointer, message } if pointer.is_empty() => {
                Self::bad(format!("Invalid request body: {message}"))
            }
            JsonError::Shape { pointer, message } | JsonError::TooMany { pointer, message } => {
                Self::bad(format!("Invalid request body at {pointer}: {message}"))
            }
        }
    }
}

/// A setting of the engine in Sequin's words.
impl From<SettingsError> for Fault {
    fn from(error: SettingsError) -> Self {
        let field = match error.field {
            "lease" => "ack_wait_ms",
            "pending_max" => "max_ack_pending",
            "attempts_max" => "max_deliver",
            "waiting_max" => "max_waiting",
            "annotations" => "metadata",
            "batch_max" => "batch_size",
            "delay" => "delay_ms",
            "wait" => "wait_for",
            "items" => "ack_ids",
            field => field,
        };
        Self::invalid(field, format!("must be {}", error.rule))
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let (status, seconds) = match refusal {
            Refusal::Busy | Refusal::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, 1),
            Refusal::Stopping => (StatusCode::SERVICE_UNAVAILABLE, 2),
            Refusal::DiskFull => (StatusCode::SERVICE_UNAVAILABLE, 10),
            Refusal::Throttled => (StatusCode::TOO_MANY_REQUESTS, 1),
        };
        Self::new(status, refusal.to_string()).after(seconds)
    }
}

impl From<LookupError> for Fault {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::NoSuchTopic => Self::no_stream(),
            LookupError::NoSuchGroup => Self::no_consumer(),
            LookupError::Refused(refusal) => refusal.into(),
        }
    }
}

fn name_taken() -> Fault {
    Fault::invalid("name", "has already been taken")
}

impl From<CreateTopicError> for Fault {
    fn from(error: CreateTopicError) -> Self {
        let message = error.to_string();
        match error {
            CreateTopicError::Exists(_) => name_taken(),
            CreateTopicError::Settings(error) => error.into(),
            CreateTopicError::TooMany { .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, message),
            CreateTopicError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<CreateGroupError> for Fault {
    fn from(error: CreateGroupError) -> Self {
        let message = error.to_string();
        match error {
            CreateGroupError::NoSuchTopic => Self::no_stream(),
            CreateGroupError::Exists(_) => name_taken(),
            CreateGroupError::Settings(error) => error.into(),
            CreateGroupError::TooMany { .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, message),
            CreateGroupError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<UpdateGroupError> for Fault {
    fn from(error: UpdateGroupError) -> Self {
        match error {
            UpdateGroupError::Lookup(error) => error.into(),
            UpdateGroupError::Settings(error) => error.into(),
        }
    }
}

impl From<PublishError> for Fault {
    fn from(error: PublishError) -> Self {
        let message = error.to_string();
        match error {
            PublishError::NoSuchTopic => Self::no_stream(),
            PublishError::BodyTooLarge { .. } | PublishError::BatchTooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
            }
            PublishError::BatchCount { .. } | PublishError::Properties { .. } | PublishError::DelayTooLong { .. } => {
                Self::bad(message)
            }
            PublishError::IdempotencyConflict { .. } => Self::new(StatusCode::CONFLICT, message),
            PublishError::TableFull { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, message).after(10),
            PublishError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<PullError> for Fault {
    fn from(error: PullError) -> Self {
        let message = error.to_string();
        match error {
            PullError::Lookup(error) => error.into(),
            // Callers answer it with an empty list.
            PullError::Paused => Self::internal("a pause that no call expects"),
            PullError::Bounds(error) => Self::bad(error.to_string()),
            PullError::TooManyWaiting { .. } => Self::too_many_waiting(message),
            PullError::Unreadable(reason) => Self::internal(&reason),
        }
    }
}

impl From<SettleError> for Fault {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Lookup(error) => error.into(),
            SettleError::Bounds(error) => Self::bad(error.to_string()),
        }
    }
}

impl From<PeekError> for Fault {
    fn from(error: PeekError) -> Self {
        match error {
            PeekError::Lookup(error) => error.into(),
            PeekError::Bounds(error) => Self::bad(error.to_string()),
            PeekError::Unreadable(reason) => Self::internal(&reason),
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
        let summary = match &error {
            EdgeError::NoCredential => "Missing Authorization header: a token is needed".to_owned(),
            EdgeError::MalformedCredential => {
                "Invalid Authorization header: must be `Bearer` and a token, or `Basic` with it as the password"
                    .to_owned()
            }
            EdgeError::NoRoute => "Not found: no such path".to_owned(),
            EdgeError::BadCredential(_)
            | EdgeError::Denied(_)
            | EdgeError::NotLocal
            | EdgeError::MethodNotAllowed
            | EdgeError::BadPath
            | EdgeError::EncodedBody
            | EdgeError::TooLarge { .. }
            | EdgeError::Crowded
            | EdgeError::BodyTimeout
            | EdgeError::BodyCut => error.to_string(),
        };
        Self { edge: Some(error.clone()), ..Self::new(error.status(), summary) }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let failure = Failure::new(self.summary, self.validation_errors);
        let mut response = (self.status, axum::Json(failure)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
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
