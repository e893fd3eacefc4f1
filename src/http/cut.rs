//! Answers that do not arrive: the connection is cut in the place of an answer, or in the middle of its body.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame};

use crate::chaos::Fate;

/// Marks an answer in whose place the connection is cut.
#[derive(Debug, Clone, Copy)]
pub struct Cut;

/// Makes an answer go the way that was decided.
pub async fn dealt(mut response: Response, fate: Fate) -> Response {
    match fate {
        Fate::Sent => response,
        Fate::Lost => {
            response.extensions_mut().insert(Cut);
            response
        }
        Fate::CutBody => {
            let (head, body) = response.into_parts();
            let whole = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let mut response = Response::from_parts(head, Body::empty());
            if whole.is_empty() {
                response.extensions_mut().insert(Cut);
                return response;
            }
            // The length of the whole: who reads it knows that it is not.
            response.headers_mut().insert(hyper::header::CONTENT_LENGTH, whole.len().into());
            *response.body_mut() =
                Body::new(Half { half: Some(whole.slice(..whole.len().div_ceil(2))), flushed: false });
            response
        }
    }
}

/// Half a body, and then an error.
struct Half {
    half: Option<Bytes>,
    flushed: bool,
}

impl HttpBody for Half {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(half) = self.half.take() {
            return Poll::Ready(Some(Ok(Frame::data(half))));
        }
        if !std::mem::replace(&mut self.flushed, true) {
            // What was written goes out before the connection ends.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::Error::other("chaos: the answer is cut here"))))
    }
}
