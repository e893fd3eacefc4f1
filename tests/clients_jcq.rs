//! The published management client of JD Cloud, unmodified, and requests signed as its manual prescribes,
//! against the real binary: open, and with access keys. The script is `tests/clients/jcq.py`; when it asks
//! for it, the server is killed with SIGKILL and started again on its directory.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "process/mod.rs"]
mod process;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use process::Process;
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    Keys,
}

impl Mode {
    /// How often the script kills the server.
    const fn restarts(self) -> usize {
        match self {
            Self::Open => 2,
            Self::Keys => 3,
        }
    }
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Two access keys, as id and secret: one for everything, one for topics that begin with `none`.
fn make_keys(server: &Process) -> [(String, String); 2] {
    let made = |answer: Value| {
        let text = |field: &str| answer[field].as_str().expect("text").to_owned();
        (text("id"), text("secret"))
    };
    let all = json!(["publish", "consume", "admin"]);
    let tokens = "/api/windlass/v1/tokens";
    let token = server.client().post(tokens, &json!({"permissions": all})).expect("an answer").expect(201);
    let mut client = server.client().with_token(token["secret"].as_str().expect("a token"));
    let mut make = |topics: &str| {
        let grant = json!({"kind": "access_key", "permissions": all, "topics": topics});
        made(client.post(tokens, &grant).expect("an answer").expect(201))
    };
    [make("*"), make("none*")]
}

/// Runs the script to its end; everything that it prints is printed.
fn drive(mode: Mode) {
    let python = clients().join(".venv/bin/python");
    assert!(
        python.exists(),
        "{} is not there: run tests/clients/install first (it needs npm and python3), or run ./test, which does",
        python.display()
    );
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut server = Process::start(&data);
    let any = |name: &str| (name.to_owned(), "any".to_owned());
    let [key, other] = if mode == Mode::Keys { make_keys(&server) } else { [any("one"), any("other")] };
    let mut script = Command::new(python);
    script
        .arg("jcq.py")
        .current_dir(clients())
        .env("SERVER_URL", format!("http://{}", server.address))
        .env("SERVER_MODE", if mode == Mode::Keys { "keys" } else { "open" })
        .env("ACCESS_KEY", key.0)
        .env("SECRET_KEY", key.1)
        .env("OTHER_KEY", other.0)
        .env("OTHER_SECRET", other.1)
        .env("no_proxy", "*")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        script.env_remove(name);
    }
    let mut script = script.spawn().expect("the script starts: python3 is needed");
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
    assert_eq!(restarts, mode.restarts(), "every restart was asked for");
}

#[test]
fn pypi_jdcloud_sdk_finds_its_message_queue_on_an_open_server() {
    drive(Mode::Open);
}

#[test]
fn pypi_jdcloud_sdk_finds_its_message_queue_with_access_keys() {
    drive(Mode::Keys);
}
