//! What happens to every request, whatever its dialect: an id, a span, a count; and the refusal of
//! compressed bodies.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;

use crate::chaos;
use crate::http::cut;
use crate::http::edge::EdgeError;
use crate::http::meters::Speech;
use crate::http::owner_of;
use crate::http::request_id;
use crate::http::state::Front;

/// Names a request in the answer and in the logs.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_BYTES_MAX: usize = 64;

/// Wraps a request.
pub async fn around(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    let owner = owner_of(request.uri().path());
    let given = match owner.speech {
        // Its answers promise an id that no other request has.
        Speech::Jcq => None,
        Speech::Native | Speech::Cloudflare | Speech::Sequin => given_id(request.headers()),
    };
    let id = given.unwrap_or_else(|| front.next_request_id());
    // The query stays out of the log: it may carry keys and properties.
    let span = tracing::debug_span!("request", %id, method = %request.method(), path = request.uri().path());
    let mut response = if is_encoded(request.headers()) {
        request_id::within(id.clone(), async { (owner.envelope)(&EdgeError::EncodedBody) }).await
    } else {
        request_id::within(id.clone(), answer(&front, request, next)).instrument(span.clone()).await
    };
    front.meters.answered(owner.speech, response.status());
    tracing::debug!(parent: &span, status = response.status().as_u16(), "answered");
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Answers; where faults are dealt, the answer may not arrive.
async fn answer(front: &Front, request: Request, next: Next) -> Response {
    if front.chaos.is_none() {
        return next.run(request).await;
    }
    let (response, fate) = chaos::within(next.run(request)).await;
    cut::dealt(response, fate).await
}

/// The id a client or proxy gave, if it is fit for a log line.
fn given_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (!id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.chars().all(fits)).then(|| id.to_owned())
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity") && !encoding.is_empty())
}
