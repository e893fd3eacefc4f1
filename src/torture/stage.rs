//! What all workers of a life share, and how they ask the server.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Instant;

use serde_json::Value;

use crate::torture::client::{Answer, Client, NoAnswer};

/// Why a worker stops what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// There is no answer that counts: the server is gone, or is about to be.
    Gone,
    /// The server has no room or no time; nothing came of the request.
    Busy,
    /// The server answered what it must not, or not at all though nobody killed it.
    Strange(String),
}

impl Halt {
    /// An answer that does not have what it must have.
    pub fn without(what: &str, value: &Value) -> Self {
        Self::Strange(format!("an answer without {what}: {value}"))
    }
}

/// Where a run is.
#[derive(Debug)]
pub struct Stage {
    started: Instant,
    /// The server is about to end: a broken connection is no surprise any more.
    pub ending: AtomicBool,
    /// Everybody stops. Not before the end: a cut is to come in the middle of work.
    pub over: AtomicBool,
    /// Only settle; nothing is held back.
    pub draining: AtomicBool,
    /// Deliveries owed, roughly.
    pub open: AtomicI64,
}

impl Stage {
    /// A run that begins now.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            ending: AtomicBool::new(false),
            over: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            open: AtomicI64::new(0),
        }
    }

    /// Microseconds since it began.
    pub fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    /// The same of a moment.
    pub fn at(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.started).as_micros()).unwrap_or(u64::MAX)
    }

    /// A life begins.
    pub fn begin(&self) {
        self.ending.store(false, Ordering::SeqCst);
        self.over.store(false, Ordering::SeqCst);
    }

    /// Judges what came back for a request.
    pub fn hear(&self, answer: Result<Answer, NoAnswer>) -> Result<Answer, Halt> {
        match answer {
            Ok(answer) if matches!(answer.status, 429 | 503 | 507) => Err(Halt::Busy),
            Ok(answer) => Ok(answer),
            Err(NoAnswer::Broken) if self.ending.load(Ordering::SeqCst) => Err(Halt::Gone),
            Err(error) => Err(Halt::Strange(format!("{error}, and nobody had killed the server"))),
        }
    }

    /// Sends JSON and reads the answer that there must be.
    pub fn post(&self, client: &mut Client, path: &str, body: &Value) -> Result<Value, Halt> {
        let answer = self.hear(client.post(path, body))?;
        well(path, &answer)
    }

    /// Asks for what must be there.
    pub fn get(&self, client: &mut Client, path: &str) -> Result<Value, Halt> {
        let answer = self.hear(client.get(path))?;
        well(path, &answer)
    }
}

/// The JSON of an answer that says that all went well.
pub fn well(path: &str, answer: &Answer) -> Result<Value, Halt> {
    match answer.status {
        200..300 => Ok(answer.json()),
        status => Err(Halt::Strange(format!("{path} was answered {status}: {}", answer.text()))),
    }
}

/// A list in an answer.
pub fn list<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>, Halt> {
    value.pointer(name).and_then(Value::as_array).ok_or_else(|| Halt::without(name, value))
}

/// A text in an answer.
pub fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str, Halt> {
    value.pointer(name).and_then(Value::as_str).ok_or_else(|| Halt::without(name, value))
}

/// A number in an answer.
pub fn number(value: &Value, name: &str) -> Result<u64, Halt> {
    value.pointer(name).and_then(Value::as_u64).ok_or_else(|| Halt::without(name, value))
}
