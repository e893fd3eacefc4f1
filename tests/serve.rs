//! `windlass serve` as a process: what it says, what it refuses, how it stops, what it leaves behind.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "process/mod.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::process::Command;

use process::{Process, eventually, serve_command, windlass};
use serde_json::{Value, json};
use tempfile::TempDir;

const TOPICS: &str = "/api/windlass/v1/topics";

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    (dir, data)
}

/// Runs a command that must fail, and gives what it said.
#[track_caller]
fn refusal(command: &mut Command) -> String {
    let output = command.output().expect("the binary runs");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(output.stdout.is_empty(), "a server that does not serve has nothing to say on standard output");
    said
}

#[track_caller]
fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "`{part}` is missing in: {said}");
    }
}

/// A topic `t` with a group `g`.
fn make_group(server: &Process) {
    server.client().post(TOPICS, &json!({"name": "t"})).expect("an answer").expect(201);
    server.client().post(&format!("{TOPICS}/t/groups"), &json!({"name": "g"})).expect("an answer").expect(201);
}

fn publish(server: &Process, body: &str) {
    let path = format!("{TOPICS}/t/messages");
    server.client().ask("POST", &path, "", body.as_bytes()).expect("an answer").expect(201);
}

fn pull(server: &Process, batch_max: u64) -> Vec<Value> {
    let request = json!({"batch_max": batch_max, "lease_ms": 3_600_000, "encoding": "text"});
    let pulled = server.client().post(&format!("{TOPICS}/t/groups/g/pull"), &request).expect("an answer").expect(200);
    pulled["messages"].as_array().expect("a list").clone()
}

/// What the newest start said of the stop before it.
fn was_clean(server: &Process) -> bool {
    let said = server.said();
    let line = said.lines().rfind(|line| line.contains("recovered")).expect("it says that it recovered");
    assert!(!line.contains('\u{1b}'), "no colours in a file: {line:?}");
    line.contains("clean=true")
}

#[test]
fn the_first_line_says_where_and_port_0_is_any_port() {
    let ((_one, first), (_two, second)) = (place(), place());
    let (first, second) = (Process::start(&first), Process::start(&second));
    for server in [&first, &second] {
        assert_eq!(server.first_line, format!("listening on http://{}", server.address));
        assert_ne!(server.address.port(), 0);
        assert!(server.address.ip().is_loopback());
        server.client().get("/readyz").expect("an answer").expect(200);
    }
    assert_ne!(first.address.port(), second.address.port());
}

#[test]
fn a_second_server_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let (_dir, data) = place();
    let server = Process::start(&data);
    make_group(&server);
    assert_says(&refusal(&mut serve_command(&data)), &["in use by another server", &data.display().to_string()]);
    publish(&server, "still served");
    assert_eq!(pull(&server, 10).len(), 1);
}

#[test]
fn a_stop_answers_waiting_pulls_exits_0_and_leaves_a_clean_mark() {
    let (_dir, data) = place();
    let mut server = Process::start(&data);
    make_group(&server);
    publish(&server, "one");
    assert_eq!(pull(&server, 10).len(), 1);
    let mut waiting = server.client();
    let request = json!({"wait_ms": 300_000}).to_string();
    waiting
        .begin("POST", &format!("{TOPICS}/t/groups/g/pull"), "content-type: application/json\r\n", request.as_bytes())
        .expect("it is sent");
    eventually("the pull that waits", || {
        let status = server.client().get("/api/windlass/v1/status").expect("an answer").expect(200);
        (status["topics"][0]["groups"][0]["waiting"] == 1).then_some(())
    });
    server.signal("TERM");
    let answer = waiting.answer().expect("the pull that waits is answered");
    assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
    if answer.status == 200 {
        assert_eq!(answer.json()["messages"], json!([]));
    }
    assert_eq!(server.wait().code(), Some(0), "{}", server.said());

    let mut server = Process::start(&data);
    assert!(was_clean(&server));
    let ready = server.client().get("/readyz").expect("an answer").expect(200);
    assert_eq!(ready["engine"]["torn"], json!([]));
    assert!(pull(&server, 10).is_empty(), "the lease is still held");
    server.kill();
    assert!(!was_clean(&Process::start(&data)), "a kill is no clean stop");
}

#[test]
fn a_second_signal_exits_at_once_and_loses_nothing() {
    let (_dir, data) = place();
    let mut command = serve_command(&data);
    // Of itself the stop would not end within the time of any test.
    command.env("WINDLASS_HTTP_DRAIN_TIMEOUT", "1 h").env("WINDLASS_HTTP_BODY_TIMEOUT", "1 h");
    let mut server = Process::start_command(command, &data);
    make_group(&server);
    for number in 0..20 {
        publish(&server, &format!("m{number}"));
    }
    let held = pull(&server, 1);
    let token = held[0]["token"].as_str().expect("a token");
    let acked = server.client().post(&format!("{TOPICS}/t/groups/g/ack"), &json!({"tokens": [token]}));
    assert_eq!(acked.expect("an answer").expect(200)["done"], 1);
    // A request whose body never ends keeps the stop from finishing.
    let endless = std::net::TcpStream::connect(server.address).expect("a connection");
    let head = format!("POST {TOPICS}/t/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nxx");
    std::io::Write::write_all(&mut &endless, head.as_bytes()).expect("it is sent");
    // Answered after the one before was read from its socket: requests of one server are accepted in turn.
    server.client().get("/readyz").expect("an answer").expect(200);
    server.signal("TERM");
    eventually("the stop to begin", || server.said().contains("a second signal").then_some(()));
    assert!(server.runs(), "it waits for the request");
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(130));
    drop(endless);

    let server = Process::start(&data);
    let bodies: Vec<String> =
        pull(&server, 100).iter().map(|one| one["body_base64"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(bodies.len(), 19, "all but the one that was acked");
}

#[test]
fn an_unknown_key_or_a_bad_value_is_refused_with_the_right_one() {
    let (dir, data) = place();
    let file = dir.path().join("config.toml");
    let configured = |text: &str| {
        std::fs::write(&file, text).expect("a file");
        let mut command = serve_command(&data);
        command.arg("--config").arg(&file);
        refusal(&mut command)
    };
    let name = file.display().to_string();
    let said = configured("[http]\nheader_timeot = \"7 s\"\n");
    assert_says(&said, &[&name, "http.header_timeot", "7 s", "http.header_timeout"]);
    assert_says(&configured("[log]\nsegment_bytes = \"many\"\n"), &[&name, "log.segment_bytes", "many", "MiB"]);
    assert_says(&configured("[durability]\nlease = \"never\"\n"), &["durability.lease", "never", "written", "synced"]);
    assert_says(&configured("listen = \n"), &[&name, "TOML"]);
    let mut slip = serve_command(&data);
    let said = refusal(slip.env("WINDLASS_CHECKPOINT_INTERVALL", "1 s"));
    assert_says(&said, &["WINDLASS_CHECKPOINT_INTERVALL", "1 s", "WINDLASS_CHECKPOINT_INTERVAL`"]);
    let mut bad = serve_command(&data);
    assert_says(&refusal(bad.env("WINDLASS_CHECKPOINT_INTERVAL", "soon")), &["checkpoint.interval", "soon"]);
    let mut missing = serve_command(&data);
    assert_says(&refusal(missing.args(["--config", "/there/is/none"])), &["/there/is/none"]);
    assert!(!data.exists(), "nothing was made for a configuration that is refused");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("config.toml");
    let path = |name: &str| dir.path().join(name);
    let text = format!("data_dir = {:?}\nlisten = \"127.0.0.1:0\"\n[limits]\nbody_bytes_max = 100\n", path("file"));
    std::fs::write(&file, text).expect("a file");
    let command = || {
        let mut command = windlass();
        command.arg("serve").env("WINDLASS_CONFIG", &file);
        command
    };
    let body_status = |server: &Process, bytes: usize| {
        make_group(server);
        let asked = server.client().ask("POST", &format!("{TOPICS}/t/messages"), "", &vec![b'x'; bytes]);
        asked.expect("an answer").status
    };

    let server = Process::start_command(command(), &path("file"));
    assert!(path("file").join("FORMAT").exists());
    assert_eq!(body_status(&server, 101), 413, "the file's limit");

    let mut by_environment = command();
    by_environment.env("WINDLASS_DATA_DIR", path("environment")).env("WINDLASS_LIMITS_BODY_BYTES_MAX", "200");
    let server = Process::start_command(by_environment, &path("environment"));
    assert!(path("environment").join("FORMAT").exists());
    assert_eq!(body_status(&server, 101), 201, "the environment's limit");

    let mut by_flag = command();
    by_flag.env("WINDLASS_DATA_DIR", path("environment")).env("WINDLASS_LISTEN", "192.0.2.1:1");
    by_flag.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(path("flag"));
    let _server = Process::start_command(by_flag, &path("flag"));
    assert!(path("flag").join("FORMAT").exists());
}

#[test]
fn strangers_are_served_only_with_credentials() {
    let (_dir, data) = place();
    let exposed = |data: &Path| {
        let mut command = windlass();
        command.args(["serve", "--listen", "0.0.0.0:0", "--data-dir"]).arg(data);
        command
    };
    assert_says(&refusal(&mut exposed(&data)), &["0.0.0.0:0", "no credential", "127.0.0.1"]);
    let server = Process::start(&data);
    let grant = json!({"permissions": ["publish", "consume", "admin"]});
    let made = server.client().post("/api/windlass/v1/tokens", &grant).expect("an answer").expect(201);
    let token = made["secret"].as_str().expect("a secret").to_owned();
    drop(server);
    let server = Process::start_command(exposed(&data), &data);
    assert!(server.first_line.starts_with("listening on http://0.0.0.0:"), "{}", server.first_line);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], server.address.port()));
    let mut client = process::client::Client::new(address);
    assert_eq!(client.get(TOPICS).expect("an answer").status, 401);
    client.with_token(&token).get(TOPICS).expect("an answer").expect(200);
}

#[test]
fn a_directory_that_is_not_ours_or_too_new_is_refused_and_left_alone() {
    let (_dir, data) = place();
    std::fs::create_dir(&data).expect("a directory");
    std::fs::write(data.join("notes.txt"), "mine").expect("a file");
    assert_says(
        &refusal(&mut serve_command(&data)),
        &[&data.display().to_string(), "not a data directory of windlass"],
    );
    assert_eq!(std::fs::read_to_string(data.join("notes.txt")).expect("it is there"), "mine");

    let (_dir, data) = place();
    drop(Process::start(&data));
    std::fs::write(data.join("FORMAT"), "windlass format 4711\n").expect("a file");
    assert_says(&refusal(&mut serve_command(&data)), &["format 4711", "newer windlass", &data.display().to_string()]);
    std::fs::write(data.join("FORMAT"), "something else\n").expect("a file");
    assert_says(&refusal(&mut serve_command(&data)), &["FORMAT", "damaged"]);
}

#[test]
fn after_a_clean_stop_sled_alone_shows_messages_leases_and_cursors() {
    let (_dir, data) = place();
    let mut server = Process::start(&data);
    make_group(&server);
    for number in 0..10 {
        publish(&server, &format!("m{number}"));
    }
    assert_eq!(pull(&server, 3).len(), 3);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.said());
    let db = sled::open(data.join("index")).expect("sled opens it");
    for name in ["messages", "leases", "cursors"] {
        assert!(db.tree_names().iter().any(|tree| tree == name.as_bytes()), "there is a tree `{name}`");
        let tree = db.open_tree(name).expect("a tree");
        // The mark that every tree carries is no content.
        let rows = tree.iter().keys().filter(|key| key.as_ref().is_ok_and(|key| key.len() > 1)).count();
        assert!(rows > 0, "the tree `{name}` is empty");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_build_without_tls_says_how_to_get_one() {
    let (_dir, data) = place();
    let mut command = serve_command(&data);
    command.env("WINDLASS_TLS_CERTIFICATE", "c.pem").env("WINDLASS_TLS_KEY", "k.pem");
    assert_says(&refusal(&mut command), &["tls.certificate", "--features tls"]);
}
