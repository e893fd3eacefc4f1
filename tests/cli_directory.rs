//! The commands that work on a data directory: `token --data-dir`, `check`, `reindex`.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

mod cli_rig;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use windlass::index::{Change, Index as _, Mark, SledIndex, Tree};

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
    let (index, last) = (&report["index"], &report["last_lsn"]);
    assert_eq!(
        (&index["state"], &index["lsn"], &index["live_messages"]),
        (&"agrees".into(), last, &5.into()),
        "{index}"
    );
    let scratch = data.with_file_name("scratch");
    std::fs::create_dir(&scratch).expect("a directory");
    let said = run(&["check", text(&data), "--scratch", text(&scratch)]);
    assert!(said.ended(0).ends_with("the log is whole\nthe index says the same as the log\n"), "{said:?}");
    assert!(files(&scratch).is_empty(), "what was copied is removed");
    assert!(files(&data) == before, "the check changed the directory");
}

/// Changes an index by hand: `edit` is shown every value of a tree, and says what becomes of it. Gives back what undoes
/// it.
fn edit_index(data: &Path, tree: Tree, edit: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<Change> {
    let mut index = SledIndex::open(&data.join("index")).expect("an index");
    let mark = index.mark().expect("a mark").expect("a checkpoint");
    let (mut changes, mut undo) = (Vec::new(), Vec::new());
    let mut look = |key: &[u8], value: &[u8]| {
        let key = key.to_vec();
        let old = Change::Put { tree, key: key.clone(), value: value.to_vec() };
        match edit(value) {
            Some(new) if new == value => return true,
            Some(new) => changes.push(Change::Put { tree, key, value: new }),
            None => changes.push(Change::Delete { tree, key }),
        }
        undo.push(old);
        true
    };
    index.scan(tree, b"", &mut look).expect("all of it");
    index.commit(mark, &mut changes.into_iter().map(Ok)).expect("a checkpoint");
    undo
}

fn undo_in_index(data: &Path, undo: Vec<Change>) {
    let mut index = SledIndex::open(&data.join("index")).expect("an index");
    let mark = index.mark().expect("a mark").expect("a checkpoint");
    index.commit(mark, &mut undo.into_iter().map(Ok)).expect("a checkpoint");
}

/// A value with one byte changed.
fn with_byte(value: &[u8], at: usize) -> Option<Vec<u8>> {
    let mut value = value.to_vec();
    value[at] ^= 1;
    Some(value)
}

/// The places of bytes are those of docs/FORMAT.md, "Index values".
#[test]
fn check_tells_what_the_index_says_else_than_the_log() {
    let (_scratch, data) = scratch();
    filled(&data).stop();
    // A block is a list of rows: its length, then of each row place, gone, sums before, id, segment, position.
    const ID: usize = 8 + 2 + 1 + 16;
    const POSITION: usize = ID + 16 + 8;
    /// The tree, what is done to its value, the offset that is told, and what is said of it.
    type Case<'a> = (Tree, &'a dyn Fn(&[u8]) -> Option<Vec<u8>>, Option<u64>, &'a str);
    let cases: [Case<'_>; 5] = [
        (Tree::Cursors, &|value| with_byte(value, 0), None, "its cursor (2 in the index, 3 in the log)"),
        (Tree::Messages, &|value| with_byte(value, ID), Some(0), "the id of this message: "),
        (Tree::Messages, &|value| with_byte(value, POSITION), Some(0), "the place of this message: "),
        (Tree::Messages, &|value| with_byte(value, 8 + 2), Some(0), "the index does not have this message"),
        (Tree::Leases, &|_| None, Some(2), "it is pending in the log, not in the index"),
    ];
    for (tree, edit, offset, what) in cases {
        let undo = edit_index(&data, tree, edit);
        let report = run(&["check", text(&data), "-o", "json"]).json(5);
        assert_eq!((&report["whole"], &report["index"]["state"]), (&true.into(), &"differs".into()), "{report}");
        let found = report["index"]["first_differences"].as_array().expect("a list");
        let one = found.iter().find(|one| one["what"].as_str().is_some_and(|said| said.starts_with(what)));
        let one = one.unwrap_or_else(|| panic!("{what}: {report}"));
        assert_eq!((&one["topic"], one["offset"].as_u64()), (&"t".into(), offset), "{report}");
        let told = run(&["check", text(&data)]);
        assert!(told.ended(5).contains(what) && told.out.contains("windlass reindex"), "{told:?}");
        undo_in_index(&data, undo);
        run(&["check", text(&data)]).ended(0);
    }
}

#[test]
fn check_warns_of_an_index_that_a_start_would_not_use() {
    let (_scratch, data) = scratch();
    filled(&data).stop();
    let state = || {
        let report = run(&["check", text(&data), "-o", "json"]).json(0);
        assert!(report["whole"] == true, "{report}");
        (report["index"]["state"].clone(), report["index"]["why"].clone())
    };
    let copy = data.with_file_name("copy");
    assert!(Command::new("cp").arg("-r").arg(&data).arg(&copy).status().expect("cp runs").success());
    let of_copy = run(&["check", text(&copy)]);
    assert!(
        of_copy.ended(0).contains("warning: the next start sets the index aside") && of_copy.out.contains("a copy")
    );
    // Its marks say a generation of which nothing else is there.
    let mut index = SledIndex::open(&data.join("index")).expect("an index");
    let mark = index.mark().expect("a mark").expect("a checkpoint");
    index.commit(Mark { generation: mark.generation + 1, ..mark }, &mut std::iter::empty()).expect("a checkpoint");
    drop(index);
    let before = files(&data);
    let (found, why) = state();
    assert!(found == "set_aside" && why.as_str().is_some_and(|why| why.contains("the record of the server")), "{why}");
    assert!(files(&data) == before, "the check changed the directory");
    // Cut short: sled calls it damaged, or opens it empty.
    let db = data.join("index/db");
    let bytes = std::fs::read(&db).expect("sled's file");
    std::fs::write(&db, &bytes[..bytes.len() / 3]).expect("the file is written");
    let (found, why) = state();
    assert!(found == "set_aside" || found == "empty", "{found} {why}");
    std::fs::remove_dir_all(data.join("index")).expect("the index goes");
    assert_eq!(state().0, "empty");
}

/// Without the index the end of this log is torn and may be cut. The index knows what was there: then it is damage, for
/// the check as for the start.
#[test]
fn check_and_start_agree_that_a_torn_tail_which_the_index_covers_is_damage() {
    let (_scratch, data) = scratch();
    filled(&data).stop();
    let lines = printed(&["dump", text(&data), "--log"], 0);
    let last = lines.iter().rposition(|line| line["kind"] == "entry").expect("an entry");
    let frame = lines[..last].iter().rfind(|line| line["kind"] == "frame").expect("its frame");
    let file = frame["file"].as_str().expect("a name");
    let path = data.join("log").join(file);
    let mut bytes = std::fs::read(&path).expect("a segment");
    let from = frame["at_byte"].as_u64().expect("a byte") as usize + 100;
    bytes[from..].fill(0);
    std::fs::write(&path, bytes).expect("the segment is written");
    std::fs::remove_file(data.join("CLEAN")).expect("the mark goes");
    let report = run(&["check", text(&data), "-o", "json"]).json(5);
    assert_eq!((&report["damage"]["file"], &report["torn"]), (&file.into(), &Value::Null), "{report}");
    let start = run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", text(&data)]);
    assert!(start.ended(1).is_empty() && start.said.contains(file), "{start:?}");
    std::fs::remove_dir_all(data.join("index")).expect("the index goes");
    let report = run(&["check", text(&data), "-o", "json"]).json(0);
    assert_eq!((&report["damage"], &report["torn"]["file"]), (&Value::Null, &file.into()), "{report}");
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
    let copied = Command::new("cp").arg("-r").arg(&data).arg(&copy).status();
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
