//! The client commands against a server: what they print, and how they end.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

mod cli_rig;

use cli_rig::{Server, run, scratch};

#[test]
fn topics_are_made_listed_changed_emptied_and_deleted() {
    let (_scratch, data) = scratch();
    let server = Server::start(&data);
    assert_eq!(server.run(&["topic", "create", "orders", "--settled", "keep"]).ended(0), "created topic orders\n");
    let listed = server.run(&["topic", "list", "-o", "json"]).json(0);
    assert_eq!(listed["topics"][0]["settings"]["retention"]["settled"], "keep");
    let table = server.run(&["topic", "list"]);
    let lines: Vec<&str> = table.ended(0).lines().collect();
    assert!(lines[0].starts_with("NAME") && lines[1].starts_with("orders"), "{lines:?}");
    assert_eq!(server.run(&["topic", "update", "orders", "--pause", "--delay", "2s"]).code, 0);
    let got = server.run(&["topic", "get", "orders", "-o", "json"]).json(0);
    assert_eq!((&got["settings"]["flow"], &got["settings"]["delay_ms"]), (&"paused".into(), &2000.into()));
    assert!(server.run(&["topic", "get", "orders"]).ended(0).contains("settings.flow"));
    assert_eq!(server.run(&["topic", "update", "orders", "--resume", "--delay", "0", "--rename", "sales"]).code, 0);
    server.run(&["publish", "sales", "one"]).ended(0);
    assert_eq!(server.run(&["topic", "purge", "sales", "-o", "json"]).json(0)["messages"], 1);
    server.run(&["topic", "delete", "sales"]).ended(0);
    assert_eq!(server.run(&["topic", "list", "-o", "json"]).json(0)["topics"], serde_json::json!([]));
}

#[test]
fn groups_are_made_listed_changed_moved_and_deleted() {
    let (_scratch, data) = scratch();
    let server = Server::start(&data);
    server.run(&["topic", "create", "t", "--settled", "keep"]).ended(0);
    server.run(&["group", "create", "t", "g", "--start", "head", "--retry-delay", "1s,1m"]).ended(0);
    let got = server.run(&["group", "get", "t", "g", "-o", "json"]).json(0);
    assert_eq!(got["settings"]["retry_delay_ms"], serde_json::json!([1000, 60000]));
    server.run(&["group", "update", "t", "g", "--attempts-max", "3", "--lease", "5s"]).ended(0);
    let got = server.run(&["group", "update", "t", "g", "--attempts-max", "0", "-o", "json"]).json(0);
    assert_eq!((&got["settings"]["lease_ms"], &got["settings"]["attempts_max"]), (&5000.into(), &().into()));
    server.feed(b"a\nb\nc\n", &["publish", "t", "--lines"]).ended(0);
    server.run(&["pull", "t", "g", "--batch", "3", "--auto-ack"]).ended(0);
    let tried = server.run(&["group", "seek", "t", "g", "1", "--dry-run", "-o", "json"]).json(0);
    assert_eq!((&tried["dry_run"], &tried["ahead"]), (&true.into(), &2.into()));
    server.run(&["pull", "t", "g"]).ended(3);
    server.run(&["group", "seek", "t", "g", "1"]).ended(0);
    assert_eq!(server.run(&["pull", "t", "g", "--body-only", "--auto-ack"]).ended(0), "b\n");
    assert!(server.run(&["group", "list", "t"]).ended(0).contains("\ng "));
    server.run(&["group", "delete", "t", "g"]).ended(0);
    server.run(&["group", "get", "t", "g"]).ended(1);
}

#[test]
fn a_message_goes_in_with_its_labels_and_comes_out_with_them() {
    let (_scratch, data) = scratch();
    let server = Server::start(&data);
    server.run(&["topic", "create", "t"]).ended(0);
    server.run(&["group", "create", "t", "g"]).ended(0);
    let publish = ["publish", "t", "hello", "--key", "k 1", "--tag", "red", "--property", "who=Zoë & co"];
    let more = ["--content-type", "text/plain", "--idempotency-key", "once", "-o", "json"];
    let first = server.run(&[&publish[..], &more].concat()).json(0);
    let again = server.run(&[&publish[..], &more].concat()).json(0);
    assert_eq!((&again["id"], &again["repeated"]), (&first["id"], &true.into()));
    let conflict = server.run(&["publish", "t", "other", "--idempotency-key", "once"]);
    assert!(conflict.ended(1).is_empty() && conflict.said.contains("idempotency_conflict"), "{conflict:?}");
    let pulled = server.run(&["pull", "t", "g", "-o", "json"]).json(0);
    let message = &pulled["messages"][0];
    assert_eq!((&message["body"], &message["key"], &message["tag"]), (&"hello".into(), &"k 1".into(), &"red".into()));
    assert_eq!(message["properties"]["who"], "Zoë & co");
    assert_eq!(message["content_type"], "text/plain");
    let delayed = server.run(&["publish", "t", "later", "--delay", "1h", "-o", "json"]).json(0);
    let seen = server.run(&["peek", "t", "--group", "g", "--state", "delayed", "-o", "json"]).json(0);
    assert_eq!(seen["messages"][0]["id"], delayed["id"]);
}

#[test]
fn lines_of_standard_input_become_messages_byte_for_byte() {
    let (scratch, data) = scratch();
    let server = Server::start(&data);
    server.run(&["topic", "create", "t"]).ended(0);
    let mut input: Vec<u8> = (0..1200).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
    input.extend_from_slice(b"\xff\x00\n\nlast, without a newline");
    let report = server.feed(&input, &["publish", "t", "--lines", "--tag", "x", "-o", "json"]).json(0);
    assert_eq!(report, serde_json::json!({"published": 1203, "first_offset": 0, "last_offset": 1202}));
    let seen = server.run(&["peek", "t", "--limit", "2000", "-o", "json"]).json(0);
    let messages = seen["messages"].as_array().expect("messages");
    assert_eq!((messages.len(), &messages[1199]["body"]), (1203, &"line 1199".into()));
    assert_eq!(messages[1200]["body_base64"], "/wA=");
    assert_eq!((&messages[1201]["body"], &messages[1202]["body"]), (&"".into(), &"last, without a newline".into()));
    assert_eq!(messages[7]["tag"], "x");
    let file = scratch.path().join("lines");
    std::fs::write(&file, "a\nb\n").expect("a file");
    let said = server.run(&["publish", "t", "--lines", "--file", cli_rig::text(&file)]);
    assert_eq!(said.ended(0), "published 2 messages, offsets 1203 to 1204\n");
    assert_eq!(server.feed(b"", &["publish", "t", "--lines"]).ended(0), "published nothing: there were no lines\n");
    server.feed(b"\x00raw", &["publish", "t", "-"]).ended(0);
    let seen = server.run(&["peek", "t", "--from", "1205"]);
    assert!(seen.ended(0).contains("\\u{0}raw"), "{seen:?}");
    server.run(&["peek", "t", "--from", "9999"]).ended(3);
}

#[test]
fn leases_are_acked_returned_extended_and_buried() {
    let (_scratch, data) = scratch();
    let server = Server::start(&data);
    server.run(&["topic", "create", "t"]).ended(0);
    server.run(&["topic", "create", "dead"]).ended(0);
    server.run(&["group", "create", "t", "g", "--dead-letter", "dead", "--retry-delay", "0"]).ended(0);
    server.feed(b"a\nb\nc\n", &["publish", "t", "--lines"]).ended(0);
    let pulled = server.run(&["pull", "t", "g", "--batch", "3", "--lease", "1h", "-o", "json"]).json(0);
    let token = |at: usize| pulled["messages"][at]["token"].as_str().expect("a token").to_owned();
    assert!(server.run(&["extend", "t", "g", &token(0), "--lease", "2h"]).ended(0).contains("settled  true"));
    server.run(&["ack", "t", "g", &token(0)]).ended(0);
    let twice = server.run(&["ack", "t", "g", &token(0), "-o", "json"]).json(1);
    assert_eq!(twice["outcomes"][0]["outcome"], "already_settled");
    server.run(&["nack", "t", "g", &token(1)]).ended(0);
    let returned = server.run(&["pull", "t", "g", "--wait", "10s", "-o", "json"]).json(0);
    assert_eq!((&returned["messages"][0]["body"], &returned["messages"][0]["attempt"]), (&"b".into(), &2.into()));
    server.feed(token(2).as_bytes(), &["bury", "t", "g", "-", "--reason", "rotten"]).ended(0);
    let dead = server.run(&["peek", "dead", "-o", "json"]).json(0);
    assert_eq!(
        (&dead["messages"][0]["body"], &dead["messages"][0]["origin"]["reason"]),
        (&"c".into(), &"rotten".into())
    );
}

#[test]
fn refusals_and_wrong_usage_have_their_exit_codes() {
    let (_scratch, data) = scratch();
    let server = Server::start(&data);
    let refused = server.run(&["publish", "nowhere", "x"]);
    assert_eq!(refused.ended(1), "");
    assert_eq!(refused.said, "windlass: Not Found: no such topic (no_such_topic)\n");
    let refused = server.run(&["publish", "nowhere", "x", "-o", "json"]);
    let problem: serde_json::Value = serde_json::from_str(&refused.said).expect("a problem");
    assert_eq!((refused.code, &problem["code"], &problem["status"]), (1, &"no_such_topic".into(), &404.into()));
    server.run(&["topic", "create", "a/b"]).ended(1);
    server.run(&["topic", "create"]).ended(2);
    server.run(&["topic", "create", "t", "--delay", "5"]).ended(2);
    server.run(&["publish", "t", "x", "--lines"]).ended(2);
    server.run(&["topic", "list", "--server", "ftp://localhost"]).ended(2);
    // Port 1 is nobody's; binding port 0 and closing it would leave a port that somebody else may take.
    let nobody = run(&["topic", "list", "--server", "http://127.0.0.1:1"]);
    assert!(nobody.code == 4 && nobody.said.contains("cannot reach http://127.0.0.1:1"), "{nobody:?}");
}

#[test]
fn help_documents_the_exit_codes_and_completions_are_printed() {
    assert!(run(&["--help"]).ended(0).contains("Exit codes:"));
    assert!(run(&["completions", "bash"]).ended(0).contains("complete -F"));
}
