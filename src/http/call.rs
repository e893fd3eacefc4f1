//! A request whose maker is known: its path parameters, its query, its body. Bodies are read last,
//! within their bound and their time.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::access::Principal;
use crate::http::edge::EdgeError;
use crate::http::state::Front;

/// A request whose maker is known.
pub struct Call {
    /// The server's state.
    pub front: Arc<Front>,
    /// Who asks.
    pub principal: Principal,
    /// Method, path, headers.
    pub parts: Parts,
    params: RawPathParams,
    /// In a mutex because a body may be sent between threads but not shared, and calls are shared; never locked.
    body: Mutex<Body>,
}

impl Call {
    /// Finds who asks with `authenticate`, and only then looks at the path.
    pub async fn open(
        front: Arc<Front>,
        request: Request,
        authenticate: fn(&Front, &HeaderMap) -> Result<Principal, EdgeError>,
    ) -> Result<Self, EdgeError> {
        let (mut parts, body) = request.into_parts();
        let principal = authenticate(&front, &parts.headers)?;
        let params = RawPathParams::from_request_parts(&mut parts, &()).await.map_err(|_| EdgeError::BadPath)?;
        Ok(Self { front, principal, parts, params, body: Mutex::new(body) })
    }

    /// A parameter of the path, percent-decoded. Empty if the route has no such parameter.
    pub fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    /// The whole query, decoded, in order.
    pub fn query(&self) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
        form_urlencoded::parse(self.parts.uri.query().unwrap_or_default().as_bytes()).collect()
    }

    /// Reads the body, once.
    pub async fn body(&mut self) -> Result<Bytes, EdgeError> {
        self.body_within(self.front.config.http.request_bytes_max).await
    }

    /// Reads the body, once, within a bound of its own.
    pub async fn body_within(&mut self, max: usize) -> Result<Bytes, EdgeError> {
        let announced = self.parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        if announced.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > max as u64) {
            return Err(EdgeError::TooLarge { max });
        }
        let body = std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner));
        let collected = tokio::time::timeout(self.front.config.http.body_timeout, Limited::new(body, max).collect());
        match collected.await {
            Err(_) => Err(EdgeError::BodyTimeout),
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(EdgeError::TooLarge { max }),
            Ok(Err(_)) => Err(EdgeError::BodyCut),
        }
    }
}
