//! The two ceilings, as servers of their own: axum that answers a constant, and axum with a group commit
//! and a queue in memory. They know the few native routes that the generator asks for, check nothing,
//! and recover nothing: what a durable queue server on this stack could reach at best.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Deserialize;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::bench::histogram::Histogram;
use crate::disk::{Disk as _, RealDisk};

const PAGE_BYTES: usize = 4096;
/// The log is written round and round in a file of this size, which is all there before the start.
const LOG_BYTES: u64 = 256 << 20;
/// Commands that wait for the writer at most.
const INBOX_MAX: usize = 16 * 1024;
/// Commands of one commit.
const BATCH_MAX: usize = 4096;
/// Bytes that a commit of an ack writes per lease.
const ACK_BYTES: usize = 16;

const TOPICS: &str = "/api/windlass/v1/topics";
const PUBLISHED: &str = r#"{"id":"00000000-0000-0000-0000-000000000000","offset":0,"repeated":false}"#;

fn json(status: StatusCode, body: impl IntoResponse) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

/// Says where it listens, like `windlass serve`, and serves until it is killed.
fn serve(router: Router) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("listening on http://{}", listener.local_addr()?);
        let nodelay = axum::serve::ListenerExt::tap_io(listener, |stream| {
            // Without it answers only come later.
            let _ = stream.set_nodelay(true);
        });
        axum::serve(nodelay, router).await
    })
}

/// Answers every publish with a constant.
pub fn serve_constant() -> io::Result<()> {
    let made = || async { json(StatusCode::CREATED, r#"{"id":"0"}"#) };
    let publish = |_: Bytes| async { json(StatusCode::CREATED, PUBLISHED) };
    let router = Router::new()
        .route(TOPICS, post(made))
        .route(&format!("{TOPICS}/{{topic}}/groups"), post(made))
        .route(&format!("{TOPICS}/{{topic}}/messages"), post(publish))
        .route(&format!("{TOPICS}/{{topic}}/messages/batch"), post(publish));
    serve(router.layer(axum::extract::DefaultBodyLimit::disable()))
}

/// What the writer is asked to make durable, and whom to tell.
struct Commit {
    bytes: Bytes,
    done: oneshot::Sender<()>,
}

/// The queue: all in memory.
#[derive(Default)]
struct Queue {
    ready: VecDeque<(u64, Bytes)>,
    leased: HashMap<u64, Bytes>,
    last: u64,
}

struct Shared {
    commits: mpsc::Sender<Commit>,
    queue: Mutex<Queue>,
    arrived: Notify,
}

impl Shared {
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when `bytes` are durable.
    async fn commit(&self, bytes: Bytes) {
        let (done, told) = oneshot::channel();
        if self.commits.send(Commit { bytes, done }).await.is_ok() {
            // The writer ends the process if it fails.
            let _ = told.await;
        }
    }

    fn put(&self, bodies: impl Iterator<Item = Bytes>) {
        let mut queue = self.queue();
        for body in bodies {
            queue.last += 1;
            let id = queue.last;
            queue.ready.push_back((id, body));
        }
        drop(queue);
        self.arrived.notify_one();
    }
}

/// Publishes, takes and acks with a group commit into the file `log`.
pub fn serve_group_commit(log: &Path) -> io::Result<()> {
    let file = prepared(log, LOG_BYTES)?;
    let (commits, inbox) = mpsc::channel(INBOX_MAX);
    std::thread::Builder::new().name("writer".to_owned()).spawn(move || write(&file, inbox))?;
    let shared = Arc::new(Shared { commits, queue: Mutex::default(), arrived: Notify::new() });
    let made = || async { json(StatusCode::CREATED, r#"{"id":"0"}"#) };
    let router = Router::new()
        .route(TOPICS, post(made))
        .route(&format!("{TOPICS}/{{topic}}/groups"), post(made))
        .route(&format!("{TOPICS}/{{topic}}/messages"), post(publish))
        .route(&format!("{TOPICS}/{{topic}}/messages/batch"), post(publish_batch))
        .route(&format!("{TOPICS}/{{topic}}/groups/{{group}}/pull"), post(pull))
        .route(&format!("{TOPICS}/{{topic}}/groups/{{group}}/ack"), post(ack))
        .with_state(shared);
    serve(router.layer(axum::extract::DefaultBodyLimit::disable()))
}

/// A file whose blocks are all there and written, so that a sync has no metadata to write: past the page cache where
/// that can be, as the log's segments are, because small writes into the large folios of a cached file sync slowly.
fn prepared(path: &Path, bytes: u64) -> io::Result<File> {
    let zeros = RealDisk.create(path)?;
    for at in 0..bytes.div_ceil(1 << 20) {
        zeros.write_zeros(at << 20, 1 << 20)?;
    }
    zeros.sync_data()?;
    File::options().read(true).write(true).open(path)
}

/// Bytes of a write whose sync is measured: about what a small commit has.
const PROBE_BYTES: u64 = 4096;
const PROBES: u64 = 2000;

/// Times of a write and its sync, in a file whose blocks are all there, while nothing else goes on.
pub fn sync_times(dir: &Path) -> io::Result<Histogram> {
    let path = dir.join("sync-probe");
    let file = prepared(&path, PROBES * PROBE_BYTES)?;
    let block = vec![1; PROBE_BYTES as usize];
    let mut times = Histogram::default();
    for at in 0..PROBES {
        let begun = Instant::now();
        file.write_all_at(&block, at * PROBE_BYTES)?;
        file.sync_data()?;
        times.add(begun.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(times)
}

/// One write and one sync for all that came meanwhile.
fn write(file: &File, mut inbox: mpsc::Receiver<Commit>) {
    let (mut batch, mut frame, mut at) = (Vec::new(), Vec::new(), 0_u64);
    while inbox.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        frame.clear();
        for commit in &batch {
            frame.extend_from_slice(&commit.bytes);
        }
        // Whole pages: what else is in one would be read from the disk first.
        frame.resize(frame.len().next_multiple_of(PAGE_BYTES), 0);
        if at + frame.len() as u64 > LOG_BYTES {
            at = 0;
        }
        if let Err(error) = file.write_all_at(&frame, at).and_then(|()| file.sync_data()) {
            eprintln!("the log failed: {error}");
            std::process::exit(1);
        }
        at += frame.len() as u64;
        for commit in batch.drain(..) {
            // A client that went away.
            let _ = commit.done.send(());
        }
    }
}

async fn publish(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    shared.commit(body.clone()).await;
    shared.put(std::iter::once(body));
    json(StatusCode::CREATED, PUBLISHED)
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    messages: Vec<BatchMessage<'a>>,
}

#[derive(Deserialize)]
struct BatchMessage<'a> {
    body: &'a str,
}

/// Reads the JSON, because no server could do without; keeps it whole as one record.
async fn publish_batch(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let Ok(batch) = serde_json::from_slice::<Batch<'_>>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let bodies: Vec<Bytes> = batch.messages.iter().map(|message| body.slice_ref(message.body.as_bytes())).collect();
    shared.commit(body.clone()).await;
    let answer = format!("{{\"messages\":[{}]}}", vec![PUBLISHED; bodies.len()].join(","));
    shared.put(bodies.into_iter());
    json(StatusCode::CREATED, answer)
}

#[derive(Deserialize)]
struct PullRequest {
    batch_max: usize,
    wait_ms: u64,
}

async fn pull(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let Ok(request) = serde_json::from_slice::<PullRequest>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut answer = take(&shared, request.batch_max);
    if answer.is_none() && request.wait_ms > 0 {
        let waited = async {
            loop {
                shared.arrived.notified().await;
                if let Some(answer) = take(&shared, request.batch_max) {
                    return answer;
                }
            }
        };
        answer = tokio::time::timeout(Duration::from_millis(request.wait_ms), waited).await.ok();
    }
    json(StatusCode::OK, answer.unwrap_or_else(|| r#"{"messages":[]}"#.to_owned()))
}

/// Leases messages and renders them; `None` if there are none. Bodies are those of the generator, which
/// need no escapes.
fn take(shared: &Shared, batch_max: usize) -> Option<String> {
    let mut taken = Vec::with_capacity(batch_max);
    {
        let mut queue = shared.queue();
        while taken.len() < batch_max {
            let Some((id, body)) = queue.ready.pop_front() else { break };
            queue.leased.insert(id, body.clone());
            taken.push((id, body));
        }
        if !queue.ready.is_empty() {
            shared.arrived.notify_one();
        }
    }
    if taken.is_empty() {
        return None;
    }
    let mut answer = String::with_capacity(taken.iter().map(|(_, body)| body.len() + 64).sum());
    answer.push_str("{\"messages\":[");
    for (place, (id, body)) in taken.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        let text = std::str::from_utf8(body).unwrap_or_default();
        answer.push_str(&format!("{comma}{{\"body\":\"{text}\",\"token\":\"{id:020}\"}}"));
    }
    answer.push_str("]}");
    Some(answer)
}

#[derive(Deserialize)]
struct AckRequest<'a> {
    #[serde(borrow)]
    tokens: Vec<&'a str>,
}

async fn ack(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let Ok(request) = serde_json::from_slice::<AckRequest<'_>>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let ids: Vec<u64> = request.tokens.iter().filter_map(|token| token.parse().ok()).collect();
    shared.commit(vec![1; ids.len() * ACK_BYTES].into()).await;
    let mut queue = shared.queue();
    let done = ids.iter().filter(|id| queue.leased.remove(id).is_some()).count();
    drop(queue);
    json(StatusCode::OK, format!("{{\"done\":{done}}}"))
}
