//! An HTTP client that keeps its connection, never tries again by itself, and tells an answer from none.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than any answer takes, a waiting pull included.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// The connection broke before a whole answer came: the request may have been carried out or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoAnswer;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The JSON of an answer with this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
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
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, token: None }
    }

    /// Says who it is from now on.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    pub fn get(&mut self, path: &str) -> Result<Answer, NoAnswer> {
        self.ask("GET", path, "", b"")
    }

    pub fn post(&mut self, path: &str, body: &Value) -> Result<Answer, NoAnswer> {
        self.ask("POST", path, "content-type: application/json\r\n", body.to_string().as_bytes())
    }

    /// Sends a request and reads its answer. `headers` are whole lines.
    pub fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<Answer, NoAnswer> {
        let stream = self.send(method, path, headers, body)?;
        let answer = read_answer(stream);
        if answer.is_err() {
            self.stream = None;
        }
        answer
    }

    /// Sends a request and leaves its answer for [`Client::answer`].
    pub fn begin(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<(), NoAnswer> {
        self.send(method, path, headers, body).map(drop)
    }

    /// Reads the answer to what was begun.
    pub fn answer(&mut self) -> Result<Answer, NoAnswer> {
        self.stream.as_mut().ok_or(NoAnswer).and_then(read_answer)
    }

    fn send(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<&mut TcpStream, NoAnswer> {
        let token = self.token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\n{token}{headers}content-length: {length}\r\n\r\n",
            self.address
        );
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.address)?,
        };
        stream.write_all(&[head.as_bytes(), body].concat()).map_err(|_| NoAnswer)?;
        Ok(self.stream.insert(stream))
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream, NoAnswer> {
    let stream = TcpStream::connect(address).map_err(|_| NoAnswer)?;
    let set = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(ANSWER_PATIENCE)));
    set.map_err(|_| NoAnswer).map(|()| stream)
}

fn read_answer(stream: &mut TcpStream) -> Result<Answer, NoAnswer> {
    let mut bytes = Vec::new();
    let mut piece = [0; 64 * 1024];
    loop {
        if let Some(answer) = parse(&bytes) {
            return Ok(answer);
        }
        match stream.read(&mut piece) {
            Ok(0) => return Err(NoAnswer),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) => {
                let hung = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                assert!(!hung, "a request was not answered within {ANSWER_PATIENCE:?}");
                return Err(NoAnswer);
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).expect("a head in ASCII");
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.trim().parse().expect("a length"));
    let body = bytes.get(end + 4..end + 4 + length)?.to_vec();
    Some(Answer { status, body })
}
