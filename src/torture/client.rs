//! An HTTP client that blocks, keeps its connection, never tries again by itself, and tells an answer from none.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::bench::connection::{find, read_head, request};

/// Longer than any answer takes, a waiting pull and a paused server included.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The connection broke before a whole answer came: the request may have been carried out or not.
    #[error("the connection broke before the answer")]
    Broken,
    /// The server kept the connection and said nothing.
    #[error("no answer came within {ANSWER_PATIENCE:?}")]
    Hung,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; nothing where there is no body, or none that reads.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A client with at most one connection.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
    token: Option<String>,
}

impl Client {
    /// A client that connects when it first asks.
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, token: None }
    }

    /// Says who it is from now on.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Asks for something.
    pub fn get(&mut self, path: &str) -> Result<Answer, NoAnswer> {
        self.ask("GET", path, "", b"")
    }

    /// Sends JSON.
    pub fn post(&mut self, path: &str, body: &Value) -> Result<Answer, NoAnswer> {
        self.ask("POST", path, "content-type: application/json\r\n", body.to_string().as_bytes())
    }

    /// Sends a request and reads its answer. `headers` are whole lines.
    pub fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<Answer, NoAnswer> {
        self.begin(method, path, headers, body)?;
        self.answer()
    }

    /// Sends a request and leaves its answer for [`Client::answer`].
    pub fn begin(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<(), NoAnswer> {
        let token = self.token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let bytes = request(method, path, &format!("host: {}\r\n{token}{headers}", self.address), body);
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.address)?,
        };
        stream.write_all(&bytes).map_err(|_| NoAnswer::Broken)?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Reads the answer to what was begun.
    pub fn answer(&mut self) -> Result<Answer, NoAnswer> {
        let answer = self.stream.as_mut().ok_or(NoAnswer::Broken).and_then(read_answer);
        if answer.is_err() {
            self.stream = None;
        }
        answer
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream, NoAnswer> {
    let stream = TcpStream::connect(address).map_err(|_| NoAnswer::Broken)?;
    let set = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(ANSWER_PATIENCE)));
    set.map_err(|_| NoAnswer::Broken).map(|()| stream)
}

fn read_answer(stream: &mut TcpStream) -> Result<Answer, NoAnswer> {
    let (mut bytes, mut piece) = (Vec::new(), [0; READ_BYTES]);
    let mut head = None;
    loop {
        if head.is_none()
            && let Some(end) = find(&bytes, b"\r\n\r\n")
        {
            let (status, length) = read_head(bytes.get(..end).unwrap_or_default()).ok_or(NoAnswer::Broken)?;
            head = Some((status, end + 4, end + 4 + length));
        }
        if let Some((status, begin, end)) = head
            && let Some(body) = bytes.get(begin..end)
        {
            return Ok(Answer { status, body: body.to_vec() });
        }
        match stream.read(&mut piece) {
            Ok(0) => return Err(NoAnswer::Broken),
            Ok(count) => bytes.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(error) => {
                let hung = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                return Err(if hung { NoAnswer::Hung } else { NoAnswer::Broken });
            }
        }
    }
}
