//! The commands that work on a data directory: `token --data-dir`, `check`, `reindex`.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

mod cli_rig;

use std::path::{Path, PathBuf};

use serde_json::Value;

use cli_rig::{Server, run, scratch, text};

#[test]
fn tokens_are_made_listed_and_revoked_through_the_server() {
    let (_scratch, data) = scratch();
    let server = Server::start(&data);
    let weak = server.run(&["token", "create", "--permission", "publish"]);
    assert!(weak.ended(1).is_empty() && weak.said.contains("first_credential"), "{weak:?}");
    let made = server.run(&["token", "create", "--permission", "publish,consume,admin", "-o", "json"]).json(0);
    let admin = made["secret"].as_str().expect("a secret");
    let unknown = server.run(&["topic", "list"]);
    assert!(unknown.ended(1).is_empty() && unknown.said.contains("(no_credential)"), "{unknown:?}");
    let create = ["token", "create", "--permission", "publish", "--topics", "in-*", "--expires", "1h", "-o", "json"];
    let publisher = server.run_as(Some(admin), &create).json(0);
    let secret = publisher["secret"].as_str().expect("a secret");
    server.run_as(Some(admin), &["topic", "create", "in-1"]).ended(0);
    server.run_as(Some(admin), &["topic", "create", "out"]).ended(0);
    server.run_as(Some(secret), &["publish", "in-1", "x"]).ended(0);
    server.run_as(Some(secret), &["publish", "out", "x"]).ended(1);
    let listed = server.run_as(Some(admin), &["token", "list"]);
    assert!(listed.ended(0).contains("in-*") && !listed.out.contains(secret), "{listed:?}");
    let id = publisher["id"].as_str().expect("an id");
    server.run_as(Some(admin), &["token", "revoke", id]).ended(0);
    server.run_as(Some(secret), &["publish", "in-1", "x"]).ended(1);
}

#[test]
fn tokens_of_a_stopped_directory_open_the_server_that_starts_on_it() {
    let (_scratch, data) = scratch();
    let create = ["token", "create", "--permission", "publish,consume,admin", "-o", "json", "--data-dir", text(&data)];
    let made = run(&create).json(0);
    let key = run(&[&create[..], &["--kind", "access-key", "--account", "shop"]].concat()).json(0);
    assert_eq!((&key["kind"], &key["account"]), (&"access_key".into(), &"shop".into()));
    let server = Server::start(&data);
    server.run(&["topic", "list"]).ended(1);
    let secret = made["secret"].as_str().expect("a secret");
    server.run_as(Some(secret), &["topic", "list"]).ended(0);
    let held = run(&create);
    assert!(held.ended(1).is_empty() && held.said.contains("in use by another server"), "{held:?}");
    server.stop();
    let list = ["token", "list", "--data-dir", text(&data), "-o", "json"];
    assert_eq!(run(&list).json(0)["credentials"].as_array().expect("a list").len(), 2);
    let of_shop = run(&[&list[..], &["--account", "shop"]].concat()).json(0);
    assert_eq!(of_shop["credentials"][0]["id"], key["id"]);
    let id = made["id"].as_str().expect("an id");
    run(&["token", "revoke", id, "--data-dir", text(&data)]).ended(0);
    run(&["token", "revoke", id, "--data-dir", text(&data)]).ended(1);
    let server = Server::start(&data);
    server.run_as(Some(secret), &["topic", "list"]).ended(1);
}

#[test]
fn a_directory_that_is_none_is_neither_read_nor_made() {
    let (scratch, data) = scratch();
    for command in [
        &["check", text(&data)][..],
        &["reindex", text(&data)],
        &["token", "list", "--data-dir", text(&data)],
        &["check", text(scratch.path())],
    ] {
        let refused = run(command);
        assert!(refused.ended(1).is_empty() && refused.said.contains("not a data directory"), "{refused:?}");
    }
    assert!(!data.exists());
}

/// Fills a directory and stops its server: two messages settled of five, one under a lease.
fn filled(data: &Path) -> Server {
    let server = Server::start(data);
    server.run(&["topic", "create", "t", "--settled", "keep"]).ended(0);
    server.run(&["group", "create", "t", "g", "--start", "head"]).ended(0);
    server.feed(b"first body\nb\nc\nd\ne\n", &["publish", "t", "--lines"]).ended(0);
    server.run(&["pull", "t", "g", "--batch", "2", "--auto-ack"]).ended(0);
    server.run(&["pull", "t", "g", "--lease", "1h"]).ended(0);
    server
}

/// Every file below `dir` but the index, with its bytes.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry")) {
        match entry.file_type().expect("a type").is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push((entry.path(), std::fs::read(entry.path()).expect("a file"))),
        }
    }
    found.sort();
    found
}

#[test]
fn check_finds_a_good_directory_whole_and_changes_nothing() {
    let (_scratch, data) = scratch();
    let server = filled(&data);
    let held = run(&["check", text(&data)]);
    assert!(held.ended(1).is_empty() && held.said.contains("in use"), "{held:?}");
    server.stop();
    let before = files(&data);
    let report = run(&["check", text(&data), "-o", "json"]).json(0);
    assert_eq!((&report["whole"], &report["records"], &report["torn"]), (&true.into(), &5.into(), &Value::Null));
    assert!(run(&["check", text(&data)]).ended(0).ends_with("the log is whole\n"));
    assert!(files(&data) == before, "the check changed the directory");
}

#[test]
fn check_names_file_and_byte_of_a_flipped_bit() {
    let (_scratch, data) = scratch();
    filled(&data).stop();
    let flipped = files(&data.join("log")).into_iter().find_map(|(path, mut bytes)| {
        let at = bytes.windows(10).position(|window| window == b"first body")?;
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).expect("the file is written");
        Some((path, at as u64))
    });
    let (path, at) = flipped.expect("the body is in the log");
    let report = run(&["check", text(&data), "-o", "json"]).json(5);
    let damage = &report["damage"];
    assert_eq!(damage["file"].as_str(), path.file_name().and_then(|name| name.to_str()), "{report}");
    let near = damage["at_byte"].as_u64().expect("a byte");
    assert!(near <= at && at < near + 1024, "{report}: the flip is at {at}");
    assert!(run(&["check", text(&data)]).ended(5).contains("the log is damaged"));
}

/// Lines of JSON of a command that was to end with `code`.
fn printed(arguments: &[&str], code: i32) -> Vec<Value> {
    let ran = run(&[arguments, &["-o", "json"]].concat());
    let lines = ran.ended(code).lines().map(|line| serde_json::from_str(line).expect("a line of JSON"));
    lines.collect()
}

fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["kind"] == kind).collect()
}

#[test]
fn dump_prints_what_is_there_and_changes_nothing() {
    let (_scratch, data) = scratch();
    let server = filled(&data);
    let held = run(&["dump", text(&data)]);
    assert!(held.ended(1).is_empty() && held.said.contains("in use"), "{held:?}");
    server.stop();
    let before = files(&data);
    let lines = printed(&["dump", text(&data)], 0);
    let topic = of_kind(&lines, "topic")[0];
    assert_eq!((&topic["topic"], &topic["messages"], &topic["tail"]), (&"t".into(), &5.into(), &5.into()));
    let group = of_kind(&lines, "group")[0];
    assert_eq!((&group["cursor"], &group["ready"], &group["in_flight"]), (&3.into(), &2.into(), &1.into()), "{group}");
    let messages = of_kind(&lines, "message");
    let states: Vec<&str> = messages.iter().map(|one| one["groups"]["g"]["state"].as_str().expect("a state")).collect();
    assert_eq!(states, ["settled", "settled", "in_flight", "ready", "ready"], "the lease of an hour ran on");
    assert!(messages.iter().all(|one| one.get("body").is_none()));
    assert_eq!(messages[0]["bytes"], 10);
    let bodies = printed(&["dump", text(&data), "--bodies"], 0);
    let bodies: Vec<&Value> = of_kind(&bodies, "message").iter().map(|one| &one["body"]).collect();
    assert_eq!(bodies, ["first body", "b", "c", "d", "e"]);
    let words = run(&["dump", text(&data)]);
    assert!(words.ended(0).contains("group g: cursor 3, 2 ready, 1 leased, 0 delayed"), "{words:?}");
    let log = printed(&["dump", text(&data), "--log"], 0);
    let lsns: Vec<u64> = of_kind(&log, "entry").iter().filter_map(|entry| entry["lsn"].as_u64()).collect();
    let last = log.last().expect("an end")["last_lsn"].as_u64();
    assert!(lsns.iter().copied().eq(1..=last.expect("a number")), "{lsns:?}");
    for kind in ["Epoch", "TopicPut", "GroupPut", "Published", "Settled", "Leased"] {
        let entries = of_kind(&log, "entry");
        assert!(entries.iter().any(|entry| entry["entry"][kind].is_object()), "no {kind} in the log");
    }
    assert!(!run(&["dump", text(&data), "--log"]).ended(0).contains("first body"));
    let copy = data.with_file_name("copy");
    let copied = std::process::Command::new("cp").arg("-r").arg(&data).arg(&copy).status();
    assert!(copied.expect("cp runs").success());
    assert_eq!(printed(&["dump", text(&copy)], 0), lines, "a copy shows the same");
    assert!(files(&data) == before, "the dump changed the directory");
}

#[test]
fn dump_of_a_damaged_directory_prints_what_lies_before_the_damage_and_names_it() {
    let (_scratch, data) = scratch();
    let server = filled(&data);
    server.run(&["topic", "create", "later"]).ended(0);
    server.run(&["publish", "later", "behind the damage"]).ended(0);
    server.stop();
    let flipped = files(&data.join("log")).into_iter().find_map(|(path, mut bytes)| {
        let at = bytes.windows(17).position(|window| window == b"behind the damage")?;
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).expect("the file is written");
        Some(path)
    });
    let path = flipped.expect("the body is in the log");
    for arguments in [["dump", text(&data)].as_slice(), &["dump", text(&data), "--log"]] {
        let lines = printed(arguments, 5);
        let end = lines.last().expect("an end");
        assert_eq!((&end["kind"], &end["whole"]), (&"end".into(), &false.into()));
        assert_eq!(end["damage"]["file"].as_str(), path.file_name().and_then(|name| name.to_str()), "{end}");
        assert!(lines.iter().all(|line| line["topic"] != "later" || line["messages"] == 0), "{lines:?}");
        let before = lines.iter().filter(|line| line["kind"] == "message" || line["entry"]["Published"].is_object());
        assert!(before.count() >= 1, "what lies before is printed: {lines:?}");
    }
    assert_eq!(of_kind(&printed(&["dump", text(&data)], 5), "message").len(), 5);
}

#[test]
fn dump_of_a_directory_with_damage_in_an_older_segment_shows_the_state_before_it() {
    let (_scratch, data) = scratch();
    filled(&data).stop();
    let server = Server::start(&data);
    server.run(&["topic", "create", "later"]).ended(0);
    server.stop();
    let flipped = files(&data.join("log")).into_iter().find_map(|(path, mut bytes)| {
        let at = bytes.windows(10).position(|window| window == b"first body")?;
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).expect("the file is written");
        Some(path)
    });
    let path = flipped.expect("the body is in the log");
    let lines = printed(&["dump", text(&data)], 5);
    let topics = of_kind(&lines, "topic");
    assert_eq!((topics.len(), &topics[0]["topic"], &topics[0]["messages"]), (1, &"t".into(), &0.into()), "{lines:?}");
    let damage = &lines.last().expect("an end")["damage"];
    assert_eq!(damage["file"].as_str(), path.file_name().and_then(|name| name.to_str()));
    let log = printed(&["dump", text(&data), "--log"], 5);
    assert!(of_kind(&log, "entry").iter().any(|entry| entry["entry"]["GroupPut"].is_object()));
    assert!(of_kind(&log, "entry").iter().all(|entry| entry["entry"]["Published"].is_null()));
}

/// All that a client can see of the directory.
fn seen(server: &Server) -> Vec<Value> {
    let looks: [&[&str]; 4] = [
        &["topic", "get", "t", "-o", "json"],
        &["group", "get", "t", "g", "-o", "json"],
        &["peek", "t", "-o", "json"],
        &["peek", "t", "--group", "g", "-o", "json"],
    ];
    looks.iter().map(|look| server.run(look).json(0)).collect()
}

#[test]
fn an_index_built_again_shows_the_same() {
    let (_scratch, data) = scratch();
    let server = filled(&data);
    let before = seen(&server);
    server.stop();
    run(&["reindex", text(&data)]).ended(0);
    let aside = std::fs::read_dir(&data).expect("a directory").filter_map(Result::ok);
    let aside = aside.filter(|entry| entry.file_name().to_string_lossy().starts_with("index-aside-"));
    assert_eq!(aside.count(), 1);
    run(&["check", text(&data)]).ended(0);
    let server = Server::start(&data);
    assert_eq!(seen(&server), before);
    let held = run(&["reindex", text(&data)]);
    assert!(held.ended(1).is_empty() && held.said.contains("in use"), "{held:?}");
}
