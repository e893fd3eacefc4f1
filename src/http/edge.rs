//! Trouble that every dialect may meet before its own rules begin. Each dialect says it in its own
//! envelope; the cases stand here once.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

use crate::access::{BadCredential, Denied};

/// How a dialect says [`EdgeError`].
pub type Envelope = fn(&EdgeError) -> Response;

/// A request refused before, or beside, the rules of its dialect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EdgeError {
    /// No credential came with it.
    #[error("a credential is needed")]
    NoCredential,
    /// The credential's header is not of the right form.
    #[error("the Authorization header must be `Bearer` and a token")]
    MalformedCredential,
    /// The credential proves nothing.
    #[error(transparent)]
    BadCredential(#[from] BadCredential),
    /// The credential does not allow it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A server without credentials was asked under a name, or from a page, that is not local.
    #[error("without credentials this server answers only requests to localhost from localhost")]
    NotLocal,
    /// Nothing is at this path.
    #[error("nothing is here")]
    NoRoute,
    /// Something is at this path, for another method.
    #[error("this path does not know the method")]
    MethodNotAllowed,
    /// A part of the path is not UTF-8 once decoded.
    #[error("the path is not UTF-8")]
    BadPath,
    /// The body is compressed.
    #[error("bodies with a content encoding are not accepted")]
    EncodedBody,
    /// The body is too large to be read.
    #[error("the request body is over the limit of {max} bytes")]
    TooLarge {
        /// Bytes allowed.
        max: usize,
    },
    /// Too many bytes of bodies are in memory already.
    #[error("the server is busy with other requests")]
    Crowded,
    /// The body did not arrive in time.
    #[error("the request body did not arrive in time")]
    BodyTimeout,
    /// The body broke off.
    #[error("the request body broke off")]
    BodyCut,
}

impl EdgeError {
    /// The status that fits it, unless a dialect has its own.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoCredential | Self::MalformedCredential | Self::BadCredential(_) => StatusCode::UNAUTHORIZED,
            Self::Denied(_) | Self::NotLocal => StatusCode::FORBIDDEN,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BadPath | Self::BodyCut => StatusCode::BAD_REQUEST,
            Self::EncodedBody => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Crowded => StatusCode::SERVICE_UNAVAILABLE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// Adds the headers that HTTP wants with it, whatever the dialect.
    pub fn decorate(&self, headers: &mut HeaderMap) {
        match self {
            Self::NoCredential | Self::MalformedCredential | Self::BadCredential(_) => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // What is left of the body would be taken for the next request.
            Self::TooLarge { .. } | Self::Crowded | Self::BodyTimeout | Self::BodyCut => {
                if *self == Self::Crowded {
                    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                }
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Self::EncodedBody => {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            Self::Denied(_) | Self::NotLocal | Self::NoRoute | Self::MethodNotAllowed | Self::BadPath => {}
        }
    }
}
