//! A server in a child process, and the commands that talk to it.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// The binary under test, without what the environment would tell it.
fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub said: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code().expect("an exit code"),
            out: String::from_utf8(output.stdout).expect("text"),
            said: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Standard output as JSON, of a command that was to end with `code`.
    #[track_caller]
    pub fn json(&self, code: i32) -> Value {
        assert_eq!(self.code, code, "{self:?}");
        serde_json::from_str(&self.out).expect("JSON")
    }

    /// Asserts the exit code; gives standard output.
    #[track_caller]
    pub fn ended(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{self:?}");
        &self.out
    }
}

/// Runs the binary without a server.
#[allow(dead_code, reason = "each test binary uses its part of the rig")]
pub fn run(arguments: &[&str]) -> Ran {
    Ran::new(binary().args(arguments).output().expect("the binary runs"))
}

/// A server on a directory; killed when dropped.
pub struct Server {
    child: Child,
    pub url: String,
}

impl Server {
    /// Starts one; ready when this returns.
    pub fn start(dir: &Path) -> Self {
        let mut command = binary();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir);
        command.env("WINDLASS_LOGGING_LEVEL", "error").stdout(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("its output");
        let mut out = BufReader::new(out);
        // The first line is there when the server is ready; if it fails, this is the end of its output.
        out.read_line(&mut line).expect("its first line");
        let url = line.trim().strip_prefix("listening on ").expect("the line that says it is ready").to_owned();
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        Self { child, url }
    }

    /// Runs a command against it.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_as(None, arguments)
    }

    /// Runs a command with a token.
    pub fn run_as(&self, token: Option<&str>, arguments: &[&str]) -> Ran {
        let mut command = binary();
        command.args(arguments).env("WINDLASS_SERVER", &self.url);
        if let Some(token) = token {
            command.env("WINDLASS_TOKEN", token);
        }
        Ran::new(command.output().expect("the binary runs"))
    }

    /// Runs a command with `input` on its standard input.
    #[allow(dead_code, reason = "each test binary uses its part of the rig")]
    pub fn feed(&self, input: &[u8], arguments: &[&str]) -> Ran {
        let mut command = binary();
        command.args(arguments).env("WINDLASS_SERVER", &self.url);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        child.stdin.take().expect("its input").write_all(input).expect("it reads");
        Ran::new(child.wait_with_output().expect("it ends"))
    }

    #[allow(dead_code, reason = "each test binary uses its part of the rig")]
    /// Stops it as an operator does, and waits until it has ended.
    pub fn stop(mut self) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("it takes the signal");
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory for one test, and the data directory in it (not made yet).
pub fn scratch() -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let data = scratch.path().join("data");
    (scratch, data)
}

/// A path as an argument.
#[allow(dead_code, reason = "each test binary uses its part of the rig")]
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}
