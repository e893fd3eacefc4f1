//! A server that speaks TLS, with clients that check its certificate.
#![cfg(feature = "tls")]
// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "process/mod.rs"]
mod process;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use process::{PATIENCE, Process, serve_command, windlass};
use tempfile::TempDir;

const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/certificate.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/key.pem");

fn serve_tls(data: &Path, certificate: &str, key: &str) -> Command {
    let mut command = serve_command(data);
    command.env("WINDLASS_TLS_CERTIFICATE", certificate).env("WINDLASS_TLS_KEY", key);
    command
}

fn start(dir: &TempDir) -> Process {
    let data = dir.path().join("data");
    let mut command = serve_tls(&data, CERTIFICATE, KEY);
    command.env("WINDLASS_HTTP_HEADER_TIMEOUT", "200 ms");
    Process::start_command(command, &data)
}

/// Runs a client command that trusts the server's certificate.
fn client(server: &Process, arguments: &[&str]) -> Output {
    let mut command = windlass();
    command.args(arguments).args(["--ca-file", CERTIFICATE, "--server", &format!("https://{}", server.address)]);
    command.output().expect("the binary runs")
}

#[track_caller]
fn done(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// What the server sends on `stream` until it closes it.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut said = Vec::new();
    // A reset ends the connection just as well.
    let _ = stream.read_to_end(&mut said);
    said
}

#[test]
fn a_message_travels_encrypted_and_only_a_client_that_trusts_the_server_sends_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(&dir);
    assert!(server.first_line.starts_with("listening on https://127.0.0.1:"), "{}", server.first_line);
    done(client(&server, &["topic", "create", "t"]));
    done(client(&server, &["group", "create", "t", "g"]));
    // More than a record of TLS carries.
    let body = "windlass ".repeat(50_000);
    let file = dir.path().join("body");
    std::fs::write(&file, &body).expect("a file");
    done(client(&server, &["publish", "t", "--file", file.to_str().expect("text")]));
    let pulled: serde_json::Value =
        serde_json::from_str(&done(client(&server, &["pull", "t", "g", "-o", "json"]))).expect("JSON");
    assert!(pulled.to_string().contains(body.trim_end()), "the body came back");

    let url = format!("https://{}", server.address);
    let strange = windlass().args(["topic", "list", "--server", &url]).output().expect("the binary runs");
    assert_eq!(strange.status.code(), Some(4), "a certificate that nobody vouches for is not trusted");

    let script = "import ssl, sys, urllib.request as r
print(r.urlopen(sys.argv[1], context=ssl.create_default_context(cafile=sys.argv[2])).status)";
    let mut python = Command::new("python3");
    python.args(["-c", script, &format!("{url}/healthz"), CERTIFICATE]);
    assert_eq!(done(python.output().expect("python3 runs")).trim(), "200");
}

#[test]
fn who_does_not_shake_hands_is_let_go_and_hinders_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(&dir);
    let mut plain = TcpStream::connect(server.address).expect("a connection");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").expect("it takes the request");
    let said = rest(&mut plain);
    assert!(!said.starts_with(b"HTTP/"), "plain HTTP is not answered");
    let begun = Instant::now();
    let mut silent = TcpStream::connect(server.address).expect("a connection");
    assert!(rest(&mut silent).is_empty());
    assert!(begun.elapsed() >= Duration::from_millis(200), "the header time-out holds for the handshake");
    done(client(&server, &["topic", "create", "t"]));
}

#[test]
fn files_that_cannot_serve_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let no_pem = dir.path().join("no.pem");
    std::fs::write(&no_pem, "neither certificate nor key").expect("a file");
    let no_pem = no_pem.to_str().expect("text");
    for (certificate, key, parts) in [
        ("/there/is/none", KEY, ["tls.certificate", "/there/is/none"]),
        (CERTIFICATE, no_pem, ["tls.key", no_pem]),
        (no_pem, KEY, ["tls.certificate", no_pem]),
        (CERTIFICATE, "", ["tls.key", "set where tls.certificate is"]),
        ("", KEY, ["tls.certificate", "set where tls.key is"]),
    ] {
        let output = serve_tls(&data, certificate, key).output().expect("the binary runs");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} in: {said}");
        assert!(!data.exists(), "a server that does not start leaves no directory behind");
    }
}
