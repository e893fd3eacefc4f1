//! The published Cloudflare clients, unmodified, against the real binary: npm's and PyPI's, in open mode
//! and with a bearer token. The scripts are in `tests/clients`; when they ask for it, the server is killed
//! with SIGKILL and started again on its directory.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "process/mod.rs"]
mod process;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use process::Process;
use serde_json::json;

/// An account as Cloudflare writes them.
const ACCOUNT: &str = "023e105f4ecef8ad9ca31a8372d0c353";
/// Restarts that each script asks for.
const RESTARTS: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    Token,
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

#[track_caller]
fn installed(what: &str) -> PathBuf {
    let path = clients().join(what);
    assert!(
        path.exists(),
        "{} is not there: run tests/clients/install first (it needs npm and python3), or run ./test, which does",
        path.display()
    );
    path
}

/// The npm client of this name in package.json: the latest, or one older major.
fn node(client: &str) -> Command {
    installed(&format!("node_modules/{client}/package.json"));
    let mut command = Command::new("node");
    command.arg("queues.mjs").env("CLIENT", client);
    command
}

fn python() -> Command {
    let mut command = Command::new(installed(".venv/bin/python"));
    command.arg("queues.py");
    command
}

/// Makes the token that administers, and one that only publishes.
fn make_tokens(server: &Process) -> (String, String) {
    let make = |client: &mut process::client::Client, permissions| {
        let grant = json!({"account": ACCOUNT, "permissions": permissions});
        let made = client.post("/api/windlass/v1/tokens", &grant).expect("an answer").expect(201);
        made["secret"].as_str().expect("a secret").to_owned()
    };
    let all = make(&mut server.client(), json!(["publish", "consume", "admin"]));
    let publish = make(&mut server.client().with_token(&all), json!(["publish"]));
    (all, publish)
}

/// Runs a script to its end; everything that it prints is printed.
fn drive(mut script: Command, mode: Mode) {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut server = Process::start(&data);
    let (token, publish_token) = match mode {
        Mode::Open => ("any".to_owned(), "any".to_owned()),
        Mode::Token => make_tokens(&server),
    };
    script
        .current_dir(clients())
        .env("SERVER_URL", format!("http://{}", server.address))
        .env("SERVER_MODE", if mode == Mode::Token { "token" } else { "open" })
        .env("SERVER_TOKEN", token)
        .env("PUBLISH_TOKEN", publish_token)
        .env("ACCOUNT", ACCOUNT)
        .env("no_proxy", "*")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        script.env_remove(name);
    }
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CLOUDFLARE_")) {
        script.env_remove(name);
    }
    let mut script = script.spawn().expect("the script starts: node and python3 are needed");
    let (mut answers, questions) = (script.stdin.take().expect("piped"), script.stdout.take().expect("piped"));
    let (mut restarts, mut done) = (0, false);
    for line in BufReader::new(questions).lines() {
        let line = line.expect("the script writes text");
        match line.as_str() {
            "restart" => {
                server.kill();
                server = Process::start(&data);
                writeln!(answers, "http://{}", server.address).expect("the script reads");
                restarts += 1;
            }
            "done" => done = true,
            line => println!("{line}"),
        }
    }
    let status = script.wait().expect("the script ends");
    assert!(status.success() && done, "the script failed ({status}); the server said:\n{}", server.said());
    assert_eq!(restarts, RESTARTS, "every restart was asked for");
}

#[test]
fn npm_cloudflare_finds_its_queues_in_open_mode() {
    drive(node("cloudflare"), Mode::Open);
}

#[test]
fn npm_cloudflare_finds_its_queues_with_a_token() {
    drive(node("cloudflare"), Mode::Token);
}

#[test]
fn an_older_npm_cloudflare_finds_its_queues_with_a_token() {
    drive(node("cloudflare-5"), Mode::Token);
}

#[test]
fn pypi_cloudflare_finds_its_queues_in_open_mode() {
    drive(python(), Mode::Open);
}

#[test]
fn pypi_cloudflare_finds_its_queues_with_a_token() {
    drive(python(), Mode::Token);
}
