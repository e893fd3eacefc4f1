//! A stream that gives up on a peer that is too slow: with the head of a request, between two
//! requests, or in taking an answer. hyper has one time-out for the first two.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The requests of a connection: begun and done with. While one is with the router, reading has no
/// deadline here: the router bounds the body, and a pull may wait.
#[derive(Debug, Default)]
pub struct Pace {
    begun: AtomicU64,
    done: AtomicU64,
    /// A body was refused before all of it was read.
    unread: AtomicBool,
}

impl Pace {
    /// A request goes to the router.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Busy(Arc::clone(self))
    }
}

/// The body of a request. Tells its connection if it is given up before its end.
pub struct Tracked {
    body: Incoming,
    pace: Arc<Pace>,
}

impl Tracked {
    /// A body that came over the connection of `pace`.
    pub const fn new(body: Incoming, pace: Arc<Pace>) -> Self {
        Self { body, pace }
    }
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            self.pace.unread.store(true, Ordering::SeqCst);
        }
    }
}

/// A request that is with the router, until dropped (answered, or given up).
pub struct Busy(Arc<Pace>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.done.fetch_add(1, Ordering::SeqCst);
    }
}

/// What is being waited for from the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// The first byte of the next request.
    Next,
    /// The rest of a head.
    Head,
    /// Nothing that this type bounds.
    Nothing,
}

/// A stream with deadlines.
pub struct Paced<S> {
    stream: S,
    pace: Arc<Pace>,
    header_timeout: Duration,
    idle_timeout: Duration,
    waiting: Waiting,
    /// The requests begun when `waiting` was last set.
    begun: u64,
    read_deadline: Pin<Box<Sleep>>,
    /// Set while the peer takes nothing.
    write_deadline: Option<Pin<Box<Sleep>>>,
    /// Set while a closed connection lingers: until when, and how many bytes it still takes.
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
}

/// How long, and how many bytes, a connection still takes of a body that was refused. Closed before its
/// peer has sent all, it would be reset, and the peer might never see the answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 64 << 20;

impl<S> Paced<S> {
    /// The first request has to come at once: its head's time begins now.
    pub fn new(stream: S, pace: Arc<Pace>, header_timeout: Duration, idle_timeout: Duration) -> Self {
        let read_deadline = Box::pin(tokio::time::sleep(header_timeout));
        let (waiting, begun, write_deadline, lingering) = (Waiting::Head, 0, None, None);
        Self { stream, pace, header_timeout, idle_timeout, waiting, begun, read_deadline, write_deadline, lingering }
    }

    fn wait_for(&mut self, waiting: Waiting) {
        self.waiting = waiting;
        let span = match waiting {
            Waiting::Next => self.idle_timeout,
            Waiting::Head => self.header_timeout,
            Waiting::Nothing => return,
        };
        self.read_deadline.as_mut().reset(Instant::now() + span);
    }

    /// Passes `written` on, unless the peer has taken nothing for too long.
    fn bound_write<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_deadline = None;
            return written;
        }
        let idle_timeout = self.idle_timeout;
        let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle_timeout)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        // A request may have come and gone since the last look: the head that was waited for is complete.
        let begun = this.pace.begun.load(Ordering::SeqCst);
        if this.begun != begun {
            (this.begun, this.waiting) = (begun, Waiting::Nothing);
        }
        if this.pace.done.load(Ordering::SeqCst) != begun {
            return read;
        }
        match (this.waiting, &read) {
            (Waiting::Nothing, Poll::Pending) => this.wait_for(Waiting::Next),
            (Waiting::Next | Waiting::Nothing, Poll::Ready(Ok(()))) if buffer.filled().len() > before => {
                this.wait_for(Waiting::Head);
            }
            _ => {}
        }
        if read.is_ready() {
            return read;
        }
        ready!(this.read_deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer sends no request")))
    }
}

impl<S: AsyncRead + Unpin> Paced<S> {
    /// Done when the peer has sent what it wanted to, or enough.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (deadline, left) =
            self.lingering.get_or_insert_with(|| (Box::pin(tokio::time::sleep(LINGER)), LINGER_BYTES_MAX));
        let mut thrown_away = [0; 16 << 10];
        while *left > 0 {
            let mut buffer = ReadBuf::new(&mut thrown_away);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    *left = left.saturating_sub(buffer.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return deadline.as_mut().poll(context),
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bound_write(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.bound_write(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Through TLS, an answer may be written out only here.
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.bound_write(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        }
        if self.pace.unread.load(Ordering::SeqCst) {
            ready!(self.poll_linger(context));
        }
        Poll::Ready(Ok(()))
    }
}
