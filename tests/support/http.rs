//! A server around the oracle on a port of the system's choosing, and a client of the plainest kind:
//! one connection per request, bytes as they are.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use windlass::access::{Grant, SealingKey, make_token};
use windlass::chaos::{Chaos, ChaosOptions, Chaotic};
use windlass::clock::{Clock, ManualClock};
use windlass::config::Config;
use windlass::engine::oracle::Oracle;
use windlass::engine::{Answer, Engine};
use windlass::http::{Front, router};
use windlass::model::{AccountName, Permissions, TopicPattern};
use windlass::server::{Server, exposure};

/// Long enough for any answer, short enough to see a hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
pub struct Rig {
    pub address: SocketAddr,
    pub clock: Arc<ManualClock>,
    pub engine: Arc<Oracle>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
    runtime: Runtime,
}

impl Rig {
    /// A server with the default configuration.
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// A server with a configuration of the test's own.
    pub fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { listen: "127.0.0.1:0".parse().expect("an address"), ..Config::default() };
        change(&mut config);
        let clock = Arc::new(ManualClock::new(1));
        let engine = Arc::new(Oracle::new(clock.clone(), config.limits));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let mut shared: Arc<dyn Engine> = engine.clone();
        let chaos = config.chaos.enabled.then(|| {
            let dir = config.data_dir.join("chaos");
            let options = ChaosOptions { dir, history_bytes_max: config.chaos.history_bytes, restart: None };
            Chaos::open(options, clock.clone()).expect("a directory for the history")
        });
        if let Some(chaos) = &chaos {
            shared = Arc::new(Chaotic::new(shared, chaos.clone()));
        }
        let server = runtime.block_on(Server::bind(config.listen, &*shared, None)).expect("a port");
        let address = server.address();
        let sealing = SealingKey::new([9; 32]);
        let front = Front::with_chaos(shared, clock.clone(), config, sealing, exposure(address), chaos);
        let (stop, stopped) = oneshot::channel();
        let handle = runtime.handle().clone();
        let serving = std::thread::spawn(move || {
            let router = router(Arc::clone(&front));
            handle.block_on(server.serve(front, router, async move { stopped.await.unwrap_or_default() }));
        });
        Self { address, clock, engine, stop: Some(stop), serving: Some(serving), runtime }
    }

    /// Waits for an answer of the engine.
    pub fn engine<T>(&self, answer: Answer<'_, T>) -> T {
        self.runtime.block_on(answer)
    }

    /// Begins a stop; [`Rig::join`] waits for its end.
    pub fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Waits until the server has stopped.
    pub fn join(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.join().expect("the server ends well");
        }
    }

    /// Makes a token.
    pub fn token(&self, account: &str, permissions: Permissions, topics: &str) -> String {
        let account = AccountName::parse(account).expect("a name");
        let topics = TopicPattern::parse(topics).expect("a pattern");
        let made = make_token(&*self.clock, Grant { account, permissions, topics, expires_at: None });
        self.engine(self.engine.put_access(made.record)).expect("a new id");
        made.token.reveal().to_owned()
    }

    /// Moves time, and lets the engine see it.
    pub fn advance(&self, span: Duration) {
        self.clock.advance(span);
        self.engine(self.engine.sweep());
    }

    /// Wall time of the clock.
    pub fn now(&self) -> u64 {
        self.clock.wall().get()
    }

    pub fn ask(&self, method: &str, path: &str) -> Ask {
        Ask::new(self.address, method, path)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path).send()
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.ask("POST", path).json(body).send()
    }

    pub fn patch(&self, path: &str, body: &Value) -> Reply {
        self.ask("PATCH", path).json(body).send()
    }

    pub fn delete(&self, path: &str) -> Reply {
        self.ask("DELETE", path).send()
    }

    /// A bare connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        stream
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.begin_stop();
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

/// A request being put together.
#[derive(Clone)]
pub struct Ask {
    address: SocketAddr,
    head: String,
    body: Vec<u8>,
}

impl Ask {
    pub fn new(address: SocketAddr, method: &str, path: &str) -> Self {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
        Self { address, head, body: Vec::new() }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// The same with a part of its head replaced.
    #[must_use]
    pub fn replaced(mut self, part: &str, other: &str) -> Self {
        assert!(self.head.contains(part));
        self.head = self.head.replace(part, other);
        self
    }

    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Sends it and does not wait for the answer.
    pub fn begin(self) -> Pending {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let head = format!("{}content-length: {}\r\n\r\n", self.head, self.body.len());
        // The server may answer and close before it has read all of it.
        let _ = (&stream).write_all(&[head.as_bytes(), &self.body].concat());
        Pending(stream)
    }

    pub fn send(self) -> Reply {
        self.begin().reply()
    }
}

/// A request whose answer is still to come. Dropping it hangs up.
pub struct Pending(TcpStream);

impl Pending {
    pub fn reply(mut self) -> Reply {
        Reply::read(&mut self.0)
    }

    /// The connection, for whoever wants to see every byte.
    pub fn into_stream(self) -> TcpStream {
        self.0
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// Reads an answer to the end of its body.
    pub fn read(stream: &mut TcpStream) -> Self {
        Self::try_read(stream).expect("an answer")
    }

    /// Reads an answer, if there is a whole one.
    pub fn try_read(stream: &mut TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let mut piece = [0; 64 * 1024];
        loop {
            if let Some(reply) = Self::parse(&bytes) {
                return Some(reply);
            }
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
            }
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).expect("a head in ASCII");
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length").map_or("0", |(_, value)| value);
        let length: usize = length.parse().expect("a length");
        let body = bytes.get(end + 4..end + 4 + length)?.to_vec();
        Some(Self { status, headers, body })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The JSON, after a look at the status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// Checks that this is a problem with this status and code.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, code: &str) -> Value {
        let problem = self.expect(status);
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        problem
    }

    /// Checks that this is Cloudflare's envelope around this error.
    #[track_caller]
    pub fn expect_fault(&self, status: u16, code: u32) -> Value {
        let envelope = self.expect(status);
        assert_eq!(envelope["success"], false);
        assert_eq!(envelope["errors"][0]["code"], code, "{envelope}");
        assert!(envelope["errors"][0]["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert_eq!(envelope["messages"], serde_json::json!([]));
        assert_eq!(envelope["result"], Value::Null);
        assert_eq!(self.header("content-type"), Some("application/json"));
        envelope
    }
}

/// Each of the three permissions, alone.
pub fn single_permissions() -> [Permissions; 3] {
    let none = Permissions::default();
    [Permissions { publish: true, ..none }, Permissions { consume: true, ..none }, Permissions { admin: true, ..none }]
}
