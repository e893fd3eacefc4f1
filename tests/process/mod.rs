//! The real binary as a process of its own, and what a test does to one: start, stop, kill.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod client;
pub mod script;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longest that a start or a stop may take before the test calls it hung.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that has no way to call.
const LOOK: Duration = Duration::from_millis(2);

/// A command that runs windlass with an environment of its own: what the tester's shell has set cannot
/// change a test.
pub fn windlass() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WINDLASS_")) {
        command.env_remove(name);
    }
    command
}

/// `windlass serve` on a port of the system's choosing, on `data_dir`.
pub fn serve_command(data_dir: &Path) -> Command {
    let mut command = windlass();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir);
    command
}

/// A server process that has said where it listens. Killed when dropped.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
    /// The first line of its standard output, as it came.
    pub first_line: String,
    /// From the start of the process to its first line.
    pub ready_in: Duration,
    stderr: PathBuf,
}

impl Process {
    /// Starts a server on `data_dir`; its standard error goes to a file beside it.
    pub fn start(data_dir: &Path) -> Self {
        Self::start_command(serve_command(data_dir), data_dir)
    }

    /// Starts `command`, which serves `data_dir`.
    pub fn start_command(command: Command, data_dir: &Path) -> Self {
        Self::try_start(command, data_dir).unwrap_or_else(|stderr| panic!("the server did not start: {stderr}"))
    }

    /// Starts `command`; gives back what it said on standard error if it ended without a first line.
    pub fn try_start(mut command: Command, data_dir: &Path) -> Result<Self, String> {
        let stderr = data_dir.with_extension("stderr");
        let log = File::options().create(true).append(true).open(&stderr).expect("a file for standard error");
        let begun = Instant::now();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("the binary starts");
        let stdout = child.stdout.take().expect("its standard output is piped");
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            let _ = sender.send(lines.next().and_then(Result::ok));
            // Goes on reading, so that the server never writes into a closed pipe.
            lines.for_each(drop);
        });
        let line = receiver.recv_timeout(PATIENCE);
        let ready_in = begun.elapsed();
        let address = line.as_ref().ok().and_then(Option::as_deref).and_then(address_of);
        match (address, line) {
            (Some(address), Ok(Some(first_line))) => Ok(Self { child, address, first_line, ready_in, stderr }),
            (_, line) => {
                let _ = child.kill();
                let status = child.wait();
                let said = std::fs::read_to_string(&stderr).unwrap_or_default();
                Err(format!("first line {line:?}, {status:?}, on standard error:\n{said}"))
            }
        }
    }

    /// Its number in the system.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL; returns when the process is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process takes a signal");
        self.child.wait().expect("the process ends");
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill runs");
        assert!(sent.success(), "SIG{name} was not sent");
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the process can be waited for") {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the server does not end; it said:\n{}", self.said());
            std::thread::sleep(LOOK);
        }
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("the process can be waited for").is_none()
    }

    /// Everything that servers on this directory have said on standard error.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// A client of it.
    pub fn client(&self) -> client::Client {
        client::Client::new(self.address)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address_of(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening on ")?.split_once("://")?.1.parse().ok()
}

/// Asks again and again until `look` finds something.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not come about within {PATIENCE:?}");
        std::thread::sleep(LOOK);
    }
}
