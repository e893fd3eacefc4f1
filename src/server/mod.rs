//! Serves a router over TCP: accepts, bounds, drains. Requests and answers are hyper's; what is said in
//! them is the router's.

mod files;
mod io;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower_service::Service as _;

use crate::engine::Engine;
use crate::http::{Cut, Exposure, Front};
use crate::server::io::{Pace, Paced, Tracked};

pub use tls::{Tls, TlsError};

/// What a connection above the bound is told, before it is closed.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// Enough to read large bodies at full speed.
const BUFFER_BYTES_MIN: usize = 64 << 10;
/// How long accepting rests when the system has no socket to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Strangers could reach a server without credentials.
    #[error(
        "refusing to listen on {0}: others can reach it and no credential is configured. \
         Make one with `windlass token`, or listen on 127.0.0.1"
    )]
    OpenToStrangers(SocketAddr),
    /// The address is taken, or not of this machine.
    #[error("listening on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A bound socket that does not answer yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
}

/// Who can reach a server at `address`.
pub fn exposure(address: SocketAddr) -> Exposure {
    if address.ip().to_canonical().is_loopback() { Exposure::Loopback } else { Exposure::Network }
}

impl Server {
    /// Takes the address; with port 0 the system chooses one. Refuses an address that others can reach
    /// while `engine` has no credential. With `tls`, every connection is encrypted.
    pub async fn bind(address: SocketAddr, engine: &dyn Engine, tls: Option<Tls>) -> Result<Self, BindError> {
        if exposure(address) == Exposure::Network && engine.access().records.is_empty() {
            return Err(BindError::OpenToStrangers(address));
        }
        let failed = |source| BindError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, tls })
    }

    /// The address taken.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a client puts before its paths.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Serves until `stop` is done; then accepts no more, stops the engine (which answers the pulls that
    /// wait), and lets requests under way finish, for as long as the configuration says.
    pub async fn serve(self, front: Arc<Front>, router: Router, stop: impl Future<Output = ()>) {
        let (drain, draining) = watch::channel(());
        let mut connections = JoinSet::new();
        let connections_max = files::connections_max(front.config.http.connections_max);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) if connections.len() >= connections_max => {
                        front.meters.connections_refused.fetch_add(1, Ordering::Relaxed);
                        turn_away(stream);
                    }
                    Ok((stream, _)) => admit(&front, &router, &mut connections, &draining, stream, self.tls.as_ref()),
                    Err(error) => {
                        tracing::warn!(%error, "accepting a connection failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(self.listener);
        front.begin_stopping();
        drop(draining);
        // A receiver may be gone already: its connection is, too.
        let _ = drain.send(());
        front.engine.stop().await;
        let finished = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(front.config.http.drain_timeout, finished).await.is_err() {
            tracing::warn!(left = connections.len(), "connections were still busy at the end of the drain time");
        }
    }
}

/// An open connection in the meters.
struct Counted(Arc<Front>);

impl Counted {
    fn new(front: Arc<Front>) -> Self {
        front.meters.connections.fetch_add(1, Ordering::Relaxed);
        Self(front)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.meters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes a connection in.
fn admit(
    front: &Arc<Front>,
    router: &Router,
    connections: &mut JoinSet<()>,
    draining: &watch::Receiver<()>,
    stream: TcpStream,
    tls: Option<&Tls>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "setting TCP_NODELAY failed");
    }
    let (counted, router, draining) = (Counted::new(Arc::clone(front)), router.clone(), draining.clone());
    let Some(tls) = tls.cloned() else {
        connections.spawn(async move { converse(&counted.0, router, draining, stream).await });
        return;
    };
    connections.spawn(async move {
        match tokio::time::timeout(counted.0.config.http.header_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => converse(&counted.0, router, draining, stream).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    });
}

/// Says that the server is full. A socket just accepted takes these few bytes at once.
fn turn_away(mut stream: TcpStream) {
    tokio::spawn(async move {
        let _ = tokio::time::timeout(ACCEPT_PAUSE, async {
            let _ = stream.write_all(FULL).await;
            let _ = stream.shutdown().await;
        })
        .await;
    });
}

/// Serves one connection to its end.
async fn converse(
    front: &Front,
    router: Router,
    mut draining: watch::Receiver<()>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
) {
    let bounds = &front.config.http;
    let pace = Arc::new(Pace::default());
    let io = TokioIo::new(Paced::new(stream, Arc::clone(&pace), bounds.header_timeout, bounds.idle_timeout));
    let service = service_fn(move |request: Request<Incoming>| {
        let (mut router, busy) = (router.clone(), pace.begin());
        let request = request.map(|body| Tracked::new(body, Arc::clone(&pace)));
        async move {
            let response = router.call(request).await;
            drop(busy);
            let Ok(response) = response;
            match response.extensions().get::<Cut>() {
                Some(_) => Err(std::io::Error::other("chaos: no answer is sent")),
                None => Ok(response),
            }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Paced tells a slow head from an idle connection and is always earlier. But only with a time-out of
        // its own does hyper look at the stream after an answer, which is what starts Paced's.
        .header_read_timeout(bounds.idle_timeout + bounds.header_timeout)
        .max_header_size(bounds.header_bytes_max)
        // What a client sends before the router reads it waits here: little, for there are many clients.
        .max_buf_size(bounds.header_bytes_max.max(BUFFER_BYTES_MIN))
        .serve_connection(io, service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = draining.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}
