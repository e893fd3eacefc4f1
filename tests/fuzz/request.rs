//! The dialects: any request at all gets an answer, in the envelope of whoever owns its path, and never "the server is
//! broken". The router is called in process, around the local engine on a simulated disk.
//!
//! A server with an access key is asked by JCQ requests that are signed as they were mutated, so that what lies behind the
//! signature is reached.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri};
use serde_json::Value;
use tokio::runtime::Runtime;
use tower_service::Service;
use windlass::access::{Grant, SealingKey, make_access_key};
use windlass::clock::{Clock as _, ManualClock};
use windlass::config::Config;
use windlass::engine::Limits;
use windlass::http::{Exposure, Front, router};
use windlass::model::{AccountName, Permissions, TopicPattern};

use crate::drive::Verdict;
use crate::fixture::{Fixture, LocalFixture};
use crate::jcq_client::{Key, time_text};

/// After so many requests they get a new server, so that what they made does not pile up.
const REQUESTS_PER_SERVER: u64 = 250;
/// Longest answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What every server has before the first request of a case, by any dialect: a topic `t`, a group `g`, a message.
const BEFORE: [&str; 6] = [
    "POST /api/windlass/v1/topics\n\n{\"name\":\"t\"}",
    "POST /api/windlass/v1/topics/t/groups\n\n{\"name\":\"g\"}",
    "POST /api/windlass/v1/topics/t/messages\n\nhello",
    "POST /client/v4/accounts/default/queues\n\n{\"queue_name\":\"n\"}",
    "POST /client/v4/accounts/default/queues/{queue}/consumers\n\n{\"type\":\"http_pull\"}",
    "POST /client/v4/accounts/default/queues/{queue}/messages\n\n{\"body\":\"hello\"}",
];

/// A server, and what cases call by a word: the ids that it made.
struct Served {
    fixture: LocalFixture,
    router: Router,
    queue: String,
    consumer: String,
    key: Option<Key>,
}

/// Whether requests are signed before they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    AsTheyAre,
    Signed,
}

/// Takes requests, and servers for them.
pub struct Target {
    runtime: Runtime,
    data: tempfile::TempDir,
    served: Option<Served>,
    requests: u64,
    signing: Signing,
}

/// An answer.
struct Reply {
    status: u16,
    content_type: String,
    body: Vec<u8>,
}

impl Target {
    pub fn new(signing: Signing) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, data: tempfile::tempdir().unwrap(), served: None, requests: 0, signing }
    }

    /// Sends what `input` says: a line with method and path, lines of headers, an empty line, the body.
    pub fn case(&mut self, input: &[u8]) -> Verdict {
        if self.requests.is_multiple_of(REQUESTS_PER_SERVER) {
            self.stop();
            self.served = Some(self.start());
        }
        self.requests += 1;
        let served = self.served.as_mut().unwrap();
        let Some(mut request) = request_of(&served.with_ids(input)) else { return Verdict::Unsent };
        if !served.sign(&mut request) {
            return Verdict::Unsent;
        }
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let reply = self.runtime.block_on(served.ask(request));
        judge(&method, &path, &reply);
        if reply.status < 400 { Verdict::Accepted } else { Verdict::Refused }
    }

    fn start(&self) -> Served {
        self.runtime.block_on(async {
            let fixture = LocalFixture::open(Limits::default()).await;
            let clock: Arc<ManualClock> = fixture.shared_clock();
            let config = Config { data_dir: self.data.path().join("data"), ..Config::default() };
            let front = Front::new(fixture.engine(), clock, config, SealingKey::new([9; 32]), Exposure::Loopback);
            let (queue, consumer) = (String::new(), String::new());
            let mut served = Served { fixture, router: router(front), queue, consumer, key: None };
            for text in BEFORE {
                let reply = served.ask(request_of(&served.with_ids(text.as_bytes())).unwrap()).await;
                assert!(reply.status < 300, "{text}: {}", String::from_utf8_lossy(&reply.body));
                let result = serde_json::from_slice::<Value>(&reply.body).unwrap()["result"].clone();
                let id = |name: &str| result[name].as_str().unwrap_or_default().to_owned();
                if served.queue.is_empty() {
                    served.queue = id("queue_id");
                } else if served.consumer.is_empty() {
                    served.consumer = id("consumer_id");
                }
            }
            if self.signing == Signing::Signed {
                let permissions = Permissions { publish: true, consume: true, admin: true };
                let (account, topics) = (AccountName::standard(), TopicPattern::parse("*").unwrap());
                let grant = Grant { account, permissions, topics, expires_at: None };
                let made = make_access_key(served.fixture.clock(), &SealingKey::new([9; 32]), grant);
                served.key = Some(Key::new(made.record.id.to_string(), made.secret.reveal().to_owned()));
                served.fixture.engine().put_access(made.record).await.unwrap();
            }
            served
        })
    }

    fn stop(&mut self) {
        if let Some(mut served) = self.served.take() {
            served.router = Router::new();
            self.runtime.block_on(served.fixture.stop());
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Not while a failing input unwinds: a second panic would hide the first.
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

impl Served {
    fn with_ids(&self, input: &[u8]) -> Vec<u8> {
        let replaced = |text: Vec<u8>, word: &[u8], id: &str| match memchr::memmem::find(&text, word) {
            Some(at) => [&text[..at], id.as_bytes(), &text[at + word.len()..]].concat(),
            None => text,
        };
        replaced(replaced(input.to_vec(), b"{queue}", &self.queue), b"{consumer}", &self.consumer)
    }

    /// Signs a request, if there is a key; `false` if no client could, because its body has no fields.
    fn sign(&self, request: &mut Request<Vec<u8>>) -> bool {
        let Some(key) = &self.key else { return true };
        let time = time_text(self.fixture.clock().wall().get());
        let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
        let headers: Vec<(&str, String)> = if path.starts_with("/v1/regions") {
            let time = time.replace(['-', ':'], "");
            let method = request.method().as_str();
            let authorization = key.authorization(method, (&path, &query), "localhost", request.body(), &time);
            let json = "application/json".to_owned();
            vec![("authorization", authorization), ("x-jdcloud-date", time), ("content-type", json)]
        } else {
            let signature = if request.method() == Method::GET {
                key.sign(form_urlencoded::parse(query.as_bytes()).into_owned().collect(), &time)
            } else {
                let Ok(body) = serde_json::from_slice::<Value>(request.body()) else { return false };
                let lists = body.as_object().into_iter().flat_map(|fields| fields.values()).filter_map(Value::as_array);
                if !body.is_object() || lists.flatten().any(|message| !message.is_object()) {
                    return false;
                }
                key.sign_body(&body, &time)
            };
            vec![("accesskey", key.id.clone()), ("datetime", time), ("signature", signature)]
        };
        for (name, value) in headers {
            request.headers_mut().insert(name, HeaderValue::from_str(&value).unwrap());
        }
        true
    }

    /// The answer. Whoever waits sees the time pass until it comes.
    async fn ask(&mut self, request: Request<Vec<u8>>) -> Reply {
        let request = request.map(Body::from);
        let told = format!("{} {}", request.method(), request.uri());
        let mut answer = pin!(self.router.call(request));
        let mut looks = 0;
        let response = loop {
            if let Ok(response) = tokio::time::timeout(Duration::from_millis(50), &mut answer).await {
                break response.unwrap();
            }
            looks += 1;
            assert!(looks < 200, "no answer to {told}");
            self.fixture.clock().advance(Duration::from_secs(301));
            self.fixture.engine().sweep().await;
        };
        let status = response.status().as_u16();
        let content_type = response.headers().get("content-type").map_or(Ok(""), HeaderValue::to_str);
        let content_type = content_type.unwrap().to_owned();
        let body = to_bytes(response.into_body(), ANSWER_BYTES_MAX).await.unwrap().to_vec();
        Reply { status, content_type, body }
    }
}

/// The request that a text is; `None` if no client could send it.
fn request_of(text: &[u8]) -> Option<Request<Vec<u8>>> {
    let end = memchr::memmem::find(text, b"\n\n")?;
    let (head, body) = (&text[..end], &text[end + 2..]);
    let mut lines = head.split(|byte| *byte == b'\n');
    let (method, uri) = split_at_byte(lines.next()?, b' ')?;
    let mut request = Request::new(body.to_vec());
    *request.method_mut() = Method::from_bytes(method).ok()?;
    *request.uri_mut() = Uri::try_from(uri).ok().filter(|uri| uri.path().starts_with('/'))?;
    let headers = request.headers_mut();
    headers.insert("host", HeaderValue::from_static("localhost"));
    for line in lines {
        let (name, value) = split_at_byte(line, b':')?;
        headers.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value.trim_ascii()).ok()?);
    }
    Some(request)
}

fn split_at_byte(bytes: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(byte, bytes)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// Fails unless the answer is one that the owner of the path may give.
fn judge(method: &Method, path: &str, reply: &Reply) {
    let text = String::from_utf8_lossy(&reply.body);
    let told = format!("{method} {path}: {} {} {text:.300}", reply.status, reply.content_type);
    // What is not there is said to be so: event subscriptions, and backups of a server without files.
    let not_there = reply.status == 501 && (path.contains("event_subscriptions") || path.contains("/backups"));
    assert!(reply.status < 500 || not_there, "{told}");
    if method == Method::HEAD {
        return;
    }
    let json = || serde_json::from_slice::<Value>(&reply.body).unwrap_or_else(|error| panic!("{error}: {told}"));
    let under = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let failed = reply.status >= 400;
    if under("/client/v4") {
        let envelope = json();
        assert_eq!(envelope["success"], !failed, "{told}");
        assert_eq!(envelope["errors"].as_array().is_some_and(|errors| !errors.is_empty()), failed, "{told}");
        assert!(envelope["messages"].is_array() && envelope.get("result").is_some(), "{told}");
    } else if ["/v2", "/v1/messages", "/v1/ack", "/v1/regions"].into_iter().any(under) {
        let envelope = json();
        assert!(envelope["requestId"].is_string(), "{told}");
        assert_eq!((envelope.get("error").is_some(), envelope.get("result").is_some()), (failed, !failed), "{told}");
        assert!(!failed || envelope["error"]["code"] == reply.status, "{told}");
    } else if ["/v1/http-consumers", "/v1/streams", "/api"].into_iter().any(under) && !under("/api/windlass") {
        assert!(!failed || json()["summary"].is_string(), "{told}");
        assert!(failed || reply.body.is_empty() || !json().is_null(), "{told}");
    } else if failed {
        assert_eq!(reply.content_type, "application/problem+json", "{told}");
        let problem = json();
        assert!(problem["status"] == reply.status && problem["code"].is_string(), "{told}");
    } else if reply.content_type == "application/json" {
        json();
    }
}
