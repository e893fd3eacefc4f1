//! Clients that flood, dawdle or break off, and a server that stops.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "support/http.rs"]
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;
use support::{Reply, Rig};

const BRIEF: Duration = Duration::from_millis(200);

fn write(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).expect("the server reads");
}

/// Whether the server closes the connection (with or without an answer) by itself.
fn is_closed_by_the_server(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_flood_of_headers_is_answered_431() {
    let rig = Rig::start();
    let mut many = rig.connect();
    let headers: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    write(&mut many, &format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n"));
    assert_eq!(Reply::read(&mut many).status, 431);
    let mut large = rig.connect();
    let value = "y".repeat(40_000);
    // It may answer before all is written.
    let _ = large.write_all(format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: {value}\r\n\r\n").as_bytes());
    assert_eq!(Reply::read(&mut large).status, 431);
    assert_eq!(rig.get("/healthz").status, 200);
}

#[test]
fn a_slow_head_is_cut_off_and_a_busy_connection_is_not() {
    let rig = Rig::start_with(|config| config.http.header_timeout = BRIEF);
    let mut silent = rig.connect();
    let mut slow = rig.connect();
    write(&mut slow, "GET /healthz HTTP/1.1\r\nhost: loc");
    let mut busy = rig.connect();
    let begin = Instant::now();
    while begin.elapsed() < 4 * BRIEF {
        write(&mut busy, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert_eq!(Reply::read(&mut busy).status, 200);
    }
    let begin = Instant::now();
    assert!(is_closed_by_the_server(&mut silent));
    assert!(is_closed_by_the_server(&mut slow));
    assert!(begin.elapsed() < 10 * BRIEF, "they were closed long ago");
    // The second request of a connection has its time as well.
    write(&mut busy, "GET /healthz HT");
    assert!(is_closed_by_the_server(&mut busy));
}

#[test]
fn an_idle_connection_outlives_the_time_of_a_head_and_not_its_own() {
    let rig = Rig::start_with(|config| {
        config.http.header_timeout = BRIEF;
        config.http.idle_timeout = 5 * BRIEF;
    });
    let mut idle = rig.connect();
    write(&mut idle, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!(Reply::read(&mut idle).status, 200);
    let begin = Instant::now();
    assert!(is_closed_by_the_server(&mut idle));
    let lived = begin.elapsed();
    assert!(lived > 3 * BRIEF && lived < 50 * BRIEF, "{lived:?}");
}

#[test]
fn a_waiting_pull_outlives_every_time_out_of_its_connection() {
    let rig = Rig::start_with(|config| {
        config.http.header_timeout = BRIEF;
        config.http.idle_timeout = BRIEF;
        config.http.body_timeout = BRIEF;
    });
    rig.post("/api/windlass/v1/topics", &json!({"name": "t"})).expect(201);
    rig.post("/api/windlass/v1/topics/t/groups", &json!({"name": "g"})).expect(201);
    let pull = rig.ask("POST", "/api/windlass/v1/topics/t/groups/g/pull").json(&json!({"wait_ms": 60_000})).begin();
    let mut clock = rig.connect();
    assert!(is_closed_by_the_server(&mut clock));
    let mut clock = rig.connect();
    assert!(is_closed_by_the_server(&mut clock));
    rig.ask("POST", "/api/windlass/v1/topics/t/messages").body("x").send().expect(201);
    assert_eq!(pull.reply().expect(200)["messages"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_body_too_large_too_slow_or_broken_off_leaves_nothing() {
    let rig = Rig::start_with(|config| {
        config.http.body_timeout = BRIEF;
        config.limits.body_bytes_max = 1_000;
        config.http.request_bytes_max = 2_000;
    });
    rig.post("/api/windlass/v1/topics", &json!({"name": "t"})).expect(201);
    let messages = "/api/windlass/v1/topics/t/messages";
    rig.ask("POST", messages).body(vec![0; 1_001]).send().expect_problem(413, "too_large");
    rig.ask("POST", &format!("{messages}/batch")).body(vec![b' '; 2_001]).send().expect_problem(413, "too_large");
    let head = |rest: &str| format!("POST {messages} HTTP/1.1\r\nhost: localhost\r\n{rest}\r\n\r\n");

    // Announced only: it is refused without being read.
    let mut announced = rig.connect();
    write(&mut announced, &head("content-length: 99999999999999"));
    Reply::read(&mut announced).expect_problem(413, "too_large");

    let mut chunked = rig.connect();
    write(&mut chunked, &head("transfer-encoding: chunked"));
    for _ in 0..5 {
        let _ = chunked.write_all(format!("ff\r\n{}\r\n", "x".repeat(255)).as_bytes());
    }
    Reply::read(&mut chunked).expect_problem(413, "too_large");

    let mut slow = rig.connect();
    write(&mut slow, &head("content-length: 10"));
    write(&mut slow, "half");
    Reply::read(&mut slow).expect_problem(408, "body_timeout");
    assert!(is_closed_by_the_server(&mut slow));

    let mut cut = rig.connect();
    write(&mut cut, &head("content-length: 10"));
    write(&mut cut, "half");
    cut.shutdown(std::net::Shutdown::Write).expect("a half-closed connection");
    let told = Reply::try_read(&mut cut).map(|reply| reply.status);
    assert!(matches!(told, None | Some(400)), "{told:?}");
    drop(cut);

    rig.ask("POST", messages).header("content-encoding", "gzip").body("x").send().expect_problem(415, "encoded_body");
    assert_eq!(rig.get("/api/windlass/v1/topics/t/counts").expect(200)["ready"], 0);
    rig.ask("POST", messages).header("content-encoding", "identity").body(vec![0; 1_000]).send().expect(201);
}

/// Many clients look for an answer only when they have sent everything.
#[test]
fn whoever_sends_all_of_a_refused_body_sees_why() {
    let rig = Rig::start_with(|config| {
        config.limits.body_bytes_max = 1_000;
        config.http.request_bytes_max = 2_000;
    });
    rig.post("/api/windlass/v1/topics", &json!({"name": "t"})).expect(201);
    let body = vec![b'x'; 8 << 20];
    let length = body.len();
    for (path, status, code) in [("topics/t/messages", 413, "too_large"), ("nowhere", 404, "not_found")] {
        let mut client = rig.connect();
        write(
            &mut client,
            &format!("POST /api/windlass/v1/{path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"),
        );
        client.write_all(&body).expect("the server lets it finish");
        Reply::read(&mut client).expect_problem(status, code);
        assert!(is_closed_by_the_server(&mut client));
    }
}

#[test]
fn bodies_share_the_memory_there_is_and_give_it_back() {
    let rig = Rig::start_with(|config| {
        config.limits.body_bytes_max = 100_000;
        config.http.buffer_bytes_max = 150_000;
    });
    rig.post("/api/windlass/v1/topics", &json!({"name": "t"})).expect(201);
    let messages = "/api/windlass/v1/topics/t/messages";
    let mut held = rig.connect();
    write(&mut held, &format!("POST {messages} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n"));
    held.write_all(&[0; 99_999]).expect("the server reads");
    let publish = || rig.ask("POST", messages).body(vec![0; 60_000]).send();
    let held_bytes = format!("windlass_http_body_bytes {}", 98 << 10);
    let all_read = (0..20_000).any(|_| rig.get("/metrics").text().contains(&held_bytes));
    assert!(all_read, "the server reads what is sent");
    let refused = publish();
    refused.expect_problem(503, "busy");
    assert_eq!(refused.header("retry-after"), Some("1"));
    held.write_all(&[0]).expect("the server reads");
    assert_eq!(Reply::read(&mut held).status, 201);
    publish().expect(201);
}

#[test]
fn connections_above_the_bound_are_told_so() {
    let rig = Rig::start_with(|config| config.http.connections_max = 2);
    let mut held: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut stream = rig.connect();
            write(&mut stream, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
            assert_eq!(Reply::read(&mut stream).status, 200);
            stream
        })
        .collect();
    let mut above = rig.connect();
    let reply = Reply::read(&mut above);
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    held.pop();
    let freed = (0..1_000).any(|_| {
        let mut stream = rig.connect();
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
        Reply::try_read(&mut stream).is_some_and(|reply| reply.status == 200)
    });
    assert!(freed, "a place that is left is given again");
}

#[test]
fn a_stop_answers_the_pulls_that_wait_and_takes_no_more() {
    let mut rig = Rig::start();
    rig.post("/api/windlass/v1/topics", &json!({"name": "t"})).expect(201);
    rig.post("/api/windlass/v1/topics/t/groups", &json!({"name": "g"})).expect(201);
    let mut idle = rig.connect();
    write(&mut idle, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!(Reply::read(&mut idle).status, 200);
    let pull = rig.ask("POST", "/api/windlass/v1/topics/t/groups/g/pull").json(&json!({"wait_ms": 300_000})).begin();
    let waits = |rig: &Rig| {
        let status = rig.get("/api/windlass/v1/status").expect(200);
        status["topics"][0]["groups"][0]["waiting"] == 1
    };
    assert!((0..20_000).any(|_| waits(&rig)));
    rig.begin_stop();
    assert_eq!(pull.reply().expect(200)["messages"], json!([]));
    rig.join();
    assert!(is_closed_by_the_server(&mut idle));
    assert!(TcpStream::connect(rig.address).is_err());
}

#[test]
fn an_address_that_others_reach_is_refused_without_a_credential() {
    use std::sync::Arc;
    use windlass::clock::ManualClock;
    use windlass::engine::{Limits, oracle::Oracle};
    use windlass::server::{BindError, Server};
    let oracle = Oracle::new(Arc::new(ManualClock::new(1)), Limits::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for address in ["0.0.0.0:0", "[::]:0"] {
        let address = address.parse().expect("an address");
        let refused = runtime.block_on(Server::bind(address, &oracle, None)).err();
        assert!(matches!(refused, Some(BindError::OpenToStrangers(at)) if at == address), "{refused:?}");
    }
}

#[test]
fn every_answer_names_its_request() {
    let rig = Rig::start();
    let id = |ask: support::Ask| ask.send().header("x-request-id").expect("an id").to_owned();
    assert_eq!(id(rig.ask("GET", "/healthz").header("x-request-id", "mine-1")), "mine-1");
    let made = id(rig.ask("GET", "/healthz"));
    assert_ne!(made, id(rig.ask("GET", "/nothing")));
    assert_ne!(id(rig.ask("GET", "/healthz").header("x-request-id", "a b")), "a b");
}
