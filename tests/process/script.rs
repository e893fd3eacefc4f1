//! Scripts around published clients, as they are in `tests/clients`. When one asks for it, the server is killed
//! with SIGKILL and started again on its directory.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::process::Process;

/// Variables of the tester's shell that would lead a client elsewhere begin with these.
const ELSEWHERE: [&str; 8] =
    ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "CLOUDFLARE_", "SERVER_"];

/// What `tests/clients/install` has put there.
#[track_caller]
pub fn installed(what: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(what);
    assert!(
        path.exists(),
        "{} is not there: run tests/clients/install first (it needs npm and python3), or run ./test, which does",
        path.display()
    );
    path
}

/// A Python script, with the published clients at hand.
#[track_caller]
pub fn python(script: &str) -> Command {
    let mut command = Command::new(installed(".venv/bin/python"));
    command.arg(script);
    command
}

/// Makes a token of an account that may do all, and one that only publishes.
pub fn make_tokens(server: &Process, account: &str) -> (String, String) {
    let make = |token: Option<&str>, permissions: Value| {
        let client = server.client();
        let mut client = token.map_or_else(|| server.client(), |token| client.with_token(token));
        let grant = json!({"account": account, "permissions": permissions});
        let made = client.post("/api/windlass/v1/tokens", &grant).expect("an answer").expect(201);
        made["secret"].as_str().expect("a secret").to_owned()
    };
    let all = make(None, json!(["publish", "consume", "admin"]));
    let publish = make(Some(&all), json!(["publish"]));
    (all, publish)
}

/// Runs a script to its end on a server of its own; everything that it prints is printed. `prepare` makes what
/// it needs there and tells it. It has to ask for as many restarts as are said.
pub fn drive(mut script: Command, restarts: usize, prepare: impl FnOnce(&Process, &mut Command)) {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut server = Process::start(&data);
    for (name, _) in std::env::vars().filter(|(name, _)| ELSEWHERE.iter().any(|start| name.starts_with(start))) {
        script.env_remove(name);
    }
    script.current_dir(installed("")).env("SERVER_URL", format!("http://{}", server.address)).env("no_proxy", "*");
    prepare(&server, &mut script);
    let script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut script = script.expect("the script starts: node and python3 are needed");
    let (mut answers, questions) = (script.stdin.take().expect("piped"), script.stdout.take().expect("piped"));
    let (mut restarted, mut done) = (0, false);
    for line in BufReader::new(questions).lines() {
        let line = line.expect("the script writes text");
        match line.as_str() {
            "restart" => {
                server.kill();
                server = Process::start(&data);
                writeln!(answers, "http://{}", server.address).expect("the script reads");
                restarted += 1;
            }
            "done" => done = true,
            line => println!("{line}"),
        }
    }
    let status = script.wait().expect("the script ends");
    assert!(status.success() && done, "the script failed ({status}); the server said:\n{}", server.said());
    assert_eq!(restarted, restarts, "every restart was asked for");
}
