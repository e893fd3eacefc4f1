//! The published Sequin client `sequin-py`, unmodified, against the real binary: in open mode and with a token
//! as the password of HTTP Basic. The script is in `tests/clients`; when it asks for it, the server is killed
//! with SIGKILL and started again on its directory.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "process/mod.rs"]
mod process;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use process::Process;
use serde_json::json;

/// Restarts that the script asks for.
const RESTARTS: usize = 2;

/// Makes the token that may do all, and one that only publishes.
fn make_tokens(server: &Process) -> (String, String) {
    let make = |client: &mut process::client::Client, permissions| {
        let grant = json!({"account": "default", "permissions": permissions});
        let made = client.post("/api/windlass/v1/tokens", &grant).expect("an answer").expect(201);
        made["secret"].as_str().expect("a secret").to_owned()
    };
    let all = make(&mut server.client(), json!(["publish", "consume", "admin"]));
    let publish = make(&mut server.client().with_token(&all), json!(["publish"]));
    (all, publish)
}

/// The script, without what the tester's shell says about proxies.
fn script(server: &Process) -> Command {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let python = clients.join(".venv/bin/python");
    assert!(python.exists(), "{} is not there: run tests/clients/install first", python.display());
    let mut script = Command::new(python);
    script.arg("streams.py").current_dir(clients);
    script.env("SERVER_URL", format!("http://{}", server.address)).env("no_proxy", "*");
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SERVER_TOKEN"] {
        script.env_remove(name);
    }
    script.stdin(Stdio::piped()).stdout(Stdio::piped());
    script
}

/// Runs the script to its end; everything that it prints is printed.
fn drive(tokens: fn(&Process) -> Option<(String, String)>) {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut server = Process::start(&data);
    let mut command = script(&server);
    if let Some((all, publish)) = tokens(&server) {
        command.env("SERVER_TOKEN", all).env("PUBLISH_TOKEN", publish);
    }
    let mut script = command.spawn().expect("python3 starts");
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
fn pypi_sequin_py_finds_its_streams_in_open_mode() {
    drive(|_| None);
}

#[test]
fn pypi_sequin_py_finds_its_streams_with_a_token() {
    drive(|server| Some(make_tokens(server)));
}
