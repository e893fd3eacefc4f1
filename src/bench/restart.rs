//! How long a server with a backlog is away after `kill -9`, and how much memory it then has.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::bench::connection::Connection;
use crate::bench::load::fill;
use crate::bench::process::resident_bytes;
use crate::bench::server::{Kind, Scratch, Server};
use crate::bench::speech::{Dialect, Speech, must};

/// Requests that fill the server at once.
const FILLERS: u64 = 4;

/// What was measured.
#[derive(Debug)]
pub struct Restart {
    /// How long the fill took.
    pub filled_in: Duration,
    /// Memory of the server before the kill.
    pub resident_before: u64,
    /// From the start of the new process to its first line, which says that it serves.
    pub ready_after: Duration,
    /// Memory of the new process then.
    pub resident_ready: u64,
    /// From the start of the new process to the answer to a first pull.
    pub first_pull_after: Duration,
    /// Memory of the new process after that pull.
    pub resident_pulled: u64,
    /// Bytes of the data directory.
    pub disk_bytes: u64,
}

/// Fills a server, kills it and starts it again.
pub fn run(messages: u64, body_bytes: usize, parent: Option<&Path>) -> io::Result<Restart> {
    let scratch = Scratch::to_measure(parent)?;
    let dir = scratch.path().join("data");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut server = Server::start_in(Kind::Windlass, &dir)?;
    let begun = Instant::now();
    let speech = runtime.block_on(async {
        let mut first = Connection::open(server.address).await?;
        let speech = Speech::prepare(&mut first, Dialect::Native, None, body_bytes).await?;
        let mut fillers = Vec::new();
        for place in 0..FILLERS {
            let mut connection = Connection::open(server.address).await?;
            let (speech, share) = (speech.clone(), messages / FILLERS + u64::from(place < messages % FILLERS));
            let task = async move { fill(&mut connection, &speech, share, body_bytes).await };
            fillers.push(runtime.spawn(task));
        }
        for filler in fillers {
            filler.await.map_err(io::Error::other)??;
        }
        Ok::<_, io::Error>(speech)
    })?;
    let filled_in = begun.elapsed();
    let resident = |server: &Server| server.process().and_then(resident_bytes).unwrap_or(0);
    let resident_before = resident(&server);
    server.kill();
    let disk_bytes = disk_bytes(&dir)?;
    let begun = Instant::now();
    let server = Server::start_in(Kind::Windlass, &dir)?;
    let resident_ready = resident(&server);
    runtime.block_on(async {
        let mut connection = Connection::open(server.address).await?;
        must(&mut connection, &speech.pull(1, 0)).await?;
        match speech.tokens(connection.body()).len() {
            1 => Ok(()),
            got => Err(io::Error::other(format!("the first pull after the restart gave {got} messages"))),
        }
    })?;
    Ok(Restart {
        filled_in,
        resident_before,
        ready_after: server.ready_after,
        resident_ready,
        first_pull_after: begun.elapsed(),
        resident_pulled: resident(&server),
        disk_bytes,
    })
}

/// Bytes that the files below `dir` take on the disk. One that is removed meanwhile takes none.
pub fn disk_bytes(dir: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let about = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            about => about?,
        };
        sum += if about.is_dir() { disk_bytes(&entry.path())? } else { about.blocks() * 512 };
    }
    Ok(sum)
}
