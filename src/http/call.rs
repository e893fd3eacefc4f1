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
use tokio::sync::OwnedSemaphorePermit;

use crate::access::Principal;
use crate::http::edge::EdgeError;
use crate::http::state::{BODY_UNIT, Front};

/// A request whose maker is known.
pub struct Call {
    /// The server's state.
    pub front: Arc<Front>,
    /// Who asks.
    pub principal: Principal,
    /// Method, path, headers.
    pub parts: Parts,
    params: RawPathParams,
    incoming: Incoming,
}

/// How a dialect finds who asks.
#[derive(Clone, Copy)]
pub enum Authenticate {
    /// The head of a request proves it.
    Head(fn(&Front, &HeaderMap) -> Result<Principal, EdgeError>),
    /// The body is signed as well: the head makes a claim, which is proven once the body is there.
    Whole(fn(&Front, &Parts) -> Result<Claim, EdgeError>),
}

/// Proves who asks from a head and its whole body. Whoever has no claim worth a look has no body read.
pub type Claim = Box<dyn FnOnce(&Parts, &[u8]) -> Result<Principal, EdgeError> + Send>;

/// Finds who sends a request of which nothing else will be looked at.
pub async fn prove(front: &Arc<Front>, request: Request, authenticate: Authenticate) -> Result<Principal, EdgeError> {
    let (parts, body) = request.into_parts();
    match authenticate {
        Authenticate::Head(authenticate) => authenticate(front, &parts.headers),
        Authenticate::Whole(claim) => {
            let claim = claim(front, &parts)?;
            let mut incoming = Incoming::new(body);
            let body = incoming.read(front, &parts.headers, front.config.http.request_bytes_max).await?;
            claim(&parts, &body)
        }
    }
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
        Ok(Self { front, principal, parts, params, incoming: Incoming::new(body) })
    }

    /// Finds who asks by a signature over head and body; gives the body, which is read already.
    pub async fn open_signed(
        front: Arc<Front>,
        request: Request,
        claim: fn(&Front, &Parts) -> Result<Claim, EdgeError>,
    ) -> Result<(Self, Bytes), EdgeError> {
        let (mut parts, body) = request.into_parts();
        let claim = claim(&front, &parts)?;
        let mut incoming = Incoming::new(body);
        let body = incoming.read(&front, &parts.headers, front.config.http.request_bytes_max).await?;
        let principal = claim(&parts, &body)?;
        let params = RawPathParams::from_request_parts(&mut parts, &()).await.map_err(|_| EdgeError::BadPath)?;
        Ok((Self { front, principal, parts, params, incoming }, body))
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
        self.incoming.read(&self.front, &self.parts.headers, max).await
    }
}

/// A body that is still to be read, and the room that it takes in the server, given back when dropped.
struct Incoming {
    /// In a mutex because a body may be sent between threads but not shared, and calls are shared; never locked.
    body: Mutex<Body>,
    room: Option<OwnedSemaphorePermit>,
}

impl Incoming {
    fn new(body: Body) -> Self {
        Self { body: Mutex::new(body), room: None }
    }

    /// Reads it, once.
    async fn read(&mut self, front: &Front, headers: &HeaderMap, max: usize) -> Result<Bytes, EdgeError> {
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        if announced.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > max as u64) {
            return Err(EdgeError::TooLarge { max });
        }
        let body = std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner));
        let span = front.config.http.body_timeout;
        tokio::time::timeout(span, self.collect(front, Limited::new(body, max), max))
            .await
            .unwrap_or(Err(EdgeError::BodyTimeout))
    }

    /// Puts a body together while there is room for it in the server.
    async fn collect(&mut self, front: &Front, mut body: Limited<Body>, max: usize) -> Result<Bytes, EdgeError> {
        let (mut first, mut rest) = (Bytes::new(), Vec::new());
        let mut held = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                if error.is::<LengthLimitError>() { EdgeError::TooLarge { max } } else { EdgeError::BodyCut }
            })?;
            let Ok(data) = frame.into_data() else { continue };
            let units = (held + data.len()).div_ceil(BODY_UNIT) - held.div_ceil(BODY_UNIT);
            self.reserve(front, units)?;
            held += data.len();
            match (first.is_empty(), rest.is_empty()) {
                (true, true) => first = data,
                (_, true) => rest = [first.as_ref(), &data].concat(),
                (_, false) => rest.extend_from_slice(&data),
            }
        }
        // Most bodies are one frame: they are handed on as they were received.
        Ok(if rest.is_empty() { first } else { rest.into() })
    }

    fn reserve(&mut self, front: &Front, units: usize) -> Result<(), EdgeError> {
        let units = u32::try_from(units).map_err(|_| EdgeError::Crowded)?;
        let room = Arc::clone(&front.body_room).try_acquire_many_owned(units);
        let room = room.map_err(|_| EdgeError::Crowded)?;
        match &mut self.room {
            Some(held) => held.merge(room),
            None => self.room = Some(room),
        }
        Ok(())
    }
}
