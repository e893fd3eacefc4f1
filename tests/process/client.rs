//! The blocking client of `windlass torture`, with answers that a test can insist on.

use std::net::SocketAddr;

use serde_json::Value;
use windlass::torture::client::{Answer as Given, Client as Asking};

/// No whole answer came: the request may have been carried out or not.
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
pub struct Client(Asking);

impl Client {
    pub const fn new(address: SocketAddr) -> Self {
        Self(Asking::new(address))
    }

    /// Says who it is from now on.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        Self(self.0.with_token(token))
    }

    pub fn get(&mut self, path: &str) -> Result<Answer, NoAnswer> {
        self.0.get(path).map(given).map_err(no_answer)
    }

    pub fn post(&mut self, path: &str, body: &Value) -> Result<Answer, NoAnswer> {
        self.0.post(path, body).map(given).map_err(no_answer)
    }

    /// Sends a request and reads its answer. `headers` are whole lines.
    pub fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<Answer, NoAnswer> {
        self.0.ask(method, path, headers, body).map(given).map_err(no_answer)
    }

    /// Sends a request and leaves its answer for [`Client::answer`].
    pub fn begin(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<(), NoAnswer> {
        self.0.begin(method, path, headers, body).map_err(no_answer)
    }

    /// Reads the answer to what was begun.
    pub fn answer(&mut self) -> Result<Answer, NoAnswer> {
        self.0.answer().map(given).map_err(no_answer)
    }
}

fn given(answer: Given) -> Answer {
    Answer { status: answer.status, body: answer.body }
}

/// A server that keeps a connection and says nothing is wrong wherever it happens.
fn no_answer(why: windlass::torture::client::NoAnswer) -> NoAnswer {
    assert_ne!(why, windlass::torture::client::NoAnswer::Hung, "{why}");
    NoAnswer
}
