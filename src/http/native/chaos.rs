//! The faults of a topic: given, shown, taken away; and the history, as lines of JSON.

use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;

use crate::chaos::{Chaos, Line, Place, lines};
use crate::http::call::Call;
use crate::http::native::wire::{ChaosView, FaultsWire};
use crate::http::native::{answer, empty_answer, read_json, topic_name, topic_ref};
use crate::http::problem::Problem;

/// Lines of a history are sent in pieces of about this many bytes.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that wait to be sent.
const PIECES_MAX: usize = 4;

/// `PUT /topics/{topic}/chaos`
pub async fn set(mut call: Call) -> Result<Response, Problem> {
    let (chaos, place) = chaos_of_topic(&call).await?;
    let faults: FaultsWire = read_json(&mut call).await?;
    chaos.set(&place, faults.into())?;
    let (account, topic, by) = (&place.account, &place.topic, &call.principal.id);
    tracing::warn!(%account, %topic, %by, "chaos: a topic was given faults");
    Ok(answer(StatusCode::OK, &view(&chaos, &place)))
}

/// `GET /topics/{topic}/chaos`
pub async fn get(call: Call) -> Result<Response, Problem> {
    let (chaos, place) = chaos_of_topic(&call).await?;
    Ok(answer(StatusCode::OK, &view(&chaos, &place)))
}

/// `DELETE /topics/{topic}/chaos`
pub async fn clear(call: Call) -> Result<Response, Problem> {
    let (chaos, place) = chaos_of_topic(&call).await?;
    chaos.clear(&place)?;
    Ok(empty_answer())
}

/// `GET /topics/{topic}/history`
pub async fn topic_history(call: Call) -> Result<Response, Problem> {
    let (chaos, place) = chaos_of_topic(&call).await?;
    let (account, topic) = (place.account.to_string(), place.topic.to_string());
    Ok(stream(&chaos, move |line| {
        line.account.is_none() || (line.account.as_ref() == Some(&account) && line.topic.as_ref() == Some(&topic))
    }))
}

/// `GET /history`
pub async fn history(call: Call) -> Result<Response, Problem> {
    let chaos = chaos_of(&call)?;
    let account = call.principal.account.to_string();
    Ok(stream(&chaos, move |line| line.account.as_ref().is_none_or(|other| *other == account)))
}

fn view(chaos: &Chaos, place: &Place) -> ChaosView {
    let (faults, dealt) = chaos.show(place);
    ChaosView::new(&faults, &dealt)
}

fn chaos_of(call: &Call) -> Result<Arc<Chaos>, Problem> {
    call.front.chaos.clone().ok_or_else(|| {
        let detail = "this server deals no faults and writes no history: it was not started with `--chaos`";
        Problem::new(StatusCode::CONFLICT, "chaos_off", detail)
    })
}

/// Chaos, and the topic of the path, which must be there.
async fn chaos_of_topic(call: &Call) -> Result<(Arc<Chaos>, Place), Problem> {
    let (account, topic) = (call.principal.account.clone(), topic_name(call)?);
    call.front.engine.topic(account.clone(), topic_ref(call)?).await?;
    Ok((chaos_of(call)?, Place { account, topic }))
}

/// Sends the lines of the history that are there now and that `wanted` chooses.
fn stream(chaos: &Chaos, wanted: impl Fn(&Line) -> bool + Send + 'static) -> Response {
    let (path, bytes) = (chaos.history().path().to_owned(), chaos.history().bytes());
    let (pieces, sent) = tokio::sync::mpsc::channel::<io::Result<Bytes>>(PIECES_MAX);
    tokio::task::spawn_blocking(move || {
        let read = read_pieces(path, bytes, wanted, |piece| pieces.blocking_send(Ok(piece)).is_ok());
        if let Err(error) = read {
            tracing::error!(%error, "the history could not be read");
            // Whoever has hung up needs no error.
            let _ = pieces.blocking_send(Err(error));
        }
    });
    let mut response = Body::new(Pieces(sent)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

/// Reads the first `bytes` bytes of a history; stops when `send` says that nobody listens.
fn read_pieces(
    path: PathBuf,
    bytes: u64,
    wanted: impl Fn(&Line) -> bool,
    mut send: impl FnMut(Bytes) -> bool,
) -> io::Result<()> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(0))?;
    let mut piece = Vec::new();
    for line in lines(BufReader::new(file.take(bytes))) {
        let Some(line) = line?.0.filter(|line| wanted(line)) else { continue };
        serde_json::to_writer(&mut piece, &line)?;
        piece.push(b'\n');
        if piece.len() >= PIECE_BYTES && !send(std::mem::take(&mut piece).into()) {
            return Ok(());
        }
    }
    if !piece.is_empty() {
        send(piece.into());
    }
    Ok(())
}

/// A body that comes in pieces.
struct Pieces(tokio::sync::mpsc::Receiver<io::Result<Bytes>>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<io::Result<hyper::body::Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(hyper::body::Frame::data)))
    }
}
