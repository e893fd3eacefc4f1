//! Errors as RFC 9457 problems: the envelope of the native API and of every path that no dialect owns.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::edge::EdgeError;
use crate::http::json::JsonError;

/// A problem document.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemDocument {
    /// A URN made from `code`.
    #[serde(rename = "type")]
    kind: String,
    /// The status again, in words.
    title: &'static str,
    /// The status again.
    status: u16,
    /// Stable name of the case, for programs.
    code: &'static str,
    /// What is wrong, for people.
    detail: String,
    /// JSON pointer of the wrong part of the request, or the name of the setting or parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
}

/// An error on its way to a client.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    pointer: Option<String>,
    retry_after: Option<u32>,
    /// Whose headers it takes along.
    edge: Option<EdgeError>,
}

impl Problem {
    /// A problem with this status, code and detail.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), pointer: None, retry_after: None, edge: None }
    }

    /// Says where in the request it lies.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// Says after how many seconds to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = ProblemDocument {
            kind: format!("urn:windlass:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            code: self.code,
            detail: self.detail,
            pointer: self.pointer,
        };
        let mut response = (self.status, axum::Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(edge) = self.edge {
            edge.decorate(headers);
        }
        response
    }
}

impl From<EdgeError> for Problem {
    fn from(error: EdgeError) -> Self {
        let code = match &error {
            EdgeError::NoCredential => "no_credential",
            EdgeError::MalformedCredential => "malformed_credential",
            EdgeError::BadCredential(_) => "bad_credential",
            EdgeError::Denied(_) => "denied",
            EdgeError::NotLocal => "not_local",
            EdgeError::NoRoute => "not_found",
            EdgeError::MethodNotAllowed => "method_not_allowed",
            EdgeError::BadPath => "bad_path",
            EdgeError::EncodedBody => "encoded_body",
            EdgeError::TooLarge { .. } => "too_large",
            EdgeError::Crowded => "busy",
            EdgeError::BodyTimeout => "body_timeout",
            EdgeError::BodyCut => "body_cut",
        };
        Self { edge: Some(error.clone()), ..Self::new(error.status(), code, error.to_string()) }
    }
}

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Self {
        let detail = error.to_string();
        match error {
            JsonError::Syntax { .. } => Self::new(StatusCode::BAD_REQUEST, "not_json", detail),
            JsonError::TooMany { pointer, .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "out_of_bounds", detail).at(pointer)
            }
            JsonError::Shape { pointer, .. } => {
                Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail).at(pointer)
            }
        }
    }
}

/// The envelope of every path that no dialect owns.
pub fn envelope(error: &EdgeError) -> Response {
    Problem::from(error.clone()).into_response()
}
