//! The server under torture: a child process that is killed, held up and started again.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::torture::client::Client;

/// Longest that a start may take before it counts as hung.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a process that is to end.
const LOOK: Duration = Duration::from_millis(2);

/// How a server is started. Its environment is empty but for these settings.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The binary.
    pub binary: PathBuf,
    /// A command in front of it, such as a tracer; the server has to stay the child that is started.
    pub through: Vec<OsString>,
    /// Settings, by environment variable.
    pub settings: Vec<(String, String)>,
    /// Where standard error goes, one life after the other.
    pub stderr: PathBuf,
}

impl Launch {
    fn command(&self, data: &Path) -> Command {
        let mut words = self.through.iter().cloned().chain([self.binary.clone().into_os_string()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data);
        command.env_clear().envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It could not even be tried.
    #[error("starting {}", binary.display())]
    Spawn {
        /// What was to be started.
        binary: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It ended, or said nothing for too long.
    #[error("the server did not become ready ({ended}); it said:\n{said}")]
    NotReady {
        /// How it ended.
        ended: String,
        /// The end of its standard error.
        said: String,
    },
}

/// A server that has said where it listens. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// From the start of the process to the line that says it is ready.
    pub ready_in: Duration,
}

impl Server {
    /// Starts one on `data`; ready when this returns.
    pub fn start(launch: &Launch, data: &Path) -> Result<Self, StartError> {
        let spawn = |source| StartError::Spawn { binary: launch.binary.clone(), source };
        let log = File::options().create(true).append(true).open(&launch.stderr).map_err(spawn)?;
        let begun = Instant::now();
        let mut command = launch.command(data);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().map_err(spawn)?;
        let (sender, receiver) = mpsc::channel();
        if let Some(out) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(out).lines();
                // The receiver may have given up.
                let _ = sender.send(lines.next().and_then(Result::ok));
                // Goes on reading, so that the server never writes into a closed pipe.
                lines.for_each(drop);
            });
        }
        let line = receiver.recv_timeout(START_PATIENCE).ok().flatten();
        let ready_in = begun.elapsed();
        if let Some(address) = line.as_deref().and_then(address_of) {
            return Ok(Self { child, address, ready_in });
        }
        let _ = child.kill();
        let ended = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        Err(StartError::NotReady { ended, said: last_lines(&launch.stderr).join("\n") })
    }

    /// SIGKILL; returns when the process is gone.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// SIGSTOP: it does nothing until [`Server::resume`].
    pub fn pause(&self) -> io::Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// How it ended, if it ended within `patience`.
    pub fn ended_within(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let begun = Instant::now();
        loop {
            let status = self.child.try_wait()?;
            if status.is_some() || begun.elapsed() >= patience {
                return Ok(status);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// A client of it.
    pub const fn client(&self) -> Client {
        Client::new(self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address_of(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening on http://")?.parse().ok()
}

/// The end of what servers have said on standard error.
pub fn last_lines(stderr: &Path) -> Vec<String> {
    const LINES_MAX: usize = 20;
    let said = std::fs::read(stderr).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    let from = lines.len().saturating_sub(LINES_MAX);
    lines.into_iter().skip(from).map(str::to_owned).collect()
}
