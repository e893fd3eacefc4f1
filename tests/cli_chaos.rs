//! Chaos as its users meet it: the commands, a server that kills itself, and the verdict about a consumer.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

mod counts;
mod process;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use process::client::Client;
use process::{Process, serve_command, windlass};
use serde_json::{Value, json};

const T: &str = "/api/windlass/v1/topics/t";

fn chaos_server(data: &Path) -> Process {
    let mut command = serve_command(data);
    command.arg("--chaos");
    Process::start_command(command, data)
}

fn ask(server: &Process, arguments: &[&str]) -> Output {
    let mut command: Command = windlass();
    command.args(arguments).env("WINDLASS_SERVER", format!("http://{}", server.address));
    command.output().unwrap()
}

#[track_caller]
fn code(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Asks until there is an answer that is no refusal for now.
fn insist(client: &mut Client, path: &str, body: &Value) -> Value {
    process::eventually("an answer", || {
        let answer = client.post(path, body).ok()?;
        (answer.status < 300).then(|| answer.json())
    })
}

#[test]
fn a_server_that_kills_itself_loses_nothing_and_the_history_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = chaos_server(&data);
    code(&ask(&server, &["topic", "create", "t"]), 0);
    code(&ask(&server, &["group", "create", "t", "g"]), 0);
    let set = ["chaos", "set", "t", "--seed", "3", "--restart-every", "40", "--duplicate", "10%", "--drop-ack", "10%"];
    let shown = code(&ask(&server, &set), 0);
    assert!(shown.contains("faults.restart_every") && shown.contains("faults.duplicate"), "{shown}");
    let mut client = Client::new(server.address);
    let mut published = BTreeSet::new();
    let begun = std::time::Instant::now();
    for number in 0..counts::rounds("WINDLASS_CHAOS_MESSAGES", 100, 4_000) {
        let message = json!({"messages": [{"body": number.to_string(), "key": (number % 7).to_string()}]});
        let made = insist(&mut client, &format!("{T}/messages/batch"), &message);
        published.insert(made["messages"][0]["id"].as_str().unwrap().to_owned());
    }
    let mut processed = Vec::new();
    let mut seen = BTreeSet::new();
    while !published.is_subset(&seen) {
        let pull = json!({"batch_max": 5, "lease_ms": 500, "wait_ms": 1_000});
        let pulled = insist(&mut client, &format!("{T}/groups/g/pull"), &pull);
        for message in pulled["messages"].as_array().unwrap() {
            let id = message["id"].as_str().unwrap().to_owned();
            if seen.insert(id.clone()) {
                processed.push(id);
            }
            insist(&mut client, &format!("{T}/groups/g/ack"), &json!({"tokens": [message["token"]]}));
        }
    }
    let history = dir.path().join("history.jsonl");
    code(&ask(&server, &["history", "export", "--topic", "t", "--to", history.to_str().unwrap()]), 0);
    let text = std::fs::read_to_string(&history).unwrap();
    let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    let (starts, restarts) = (count("\"event\":\"start\""), count("\"fault\":\"restart\""));
    assert!(restarts >= 5, "{restarts} restarts");
    assert_eq!(starts, restarts + 1, "each restart was a start of the same process");
    let list = dir.path().join("processed.txt");
    std::fs::write(&list, processed.join("\n")).unwrap();
    let check = ["history", "check", history.to_str().unwrap(), "--processed", list.to_str().unwrap(), "-o", "json"];
    let output = ask(&server, &check);
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = verdict["groups"][0]["findings"].as_array().unwrap();
    let wrong = ["lost", "doubled"];
    assert!(findings.iter().all(|one| !wrong.contains(&one["finding"].as_str().unwrap())), "{verdict:#}");
    let (messages, seconds) = (published.len(), begun.elapsed().as_secs_f64());
    println!(
        "chaos: {messages} messages, {restarts} restarts of the server by itself, seed 3, none lost, {seconds:.1} s"
    );
}

/// A history of three messages of one key, told line by line.
fn told(lines: &[Value], file: &Path) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(file, text).unwrap();
}

fn line(event: &str, offset: u64, more: Value) -> Value {
    let mut line = json!({
        "event": event, "wall_ms": 1, "boot_ms": 1, "account": "a", "topic": "t",
        "id": format!("00000000-0000-7000-8000-{offset:012}"), "offset": offset, "key": "k",
    });
    if event != "publish" {
        line["group"] = "g".into();
        line["token"] = format!("token-{offset}").into();
    }
    line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    line
}

#[test]
fn a_consumer_that_loses_doubles_or_reorders_is_told_which_message() {
    let dir = tempfile::tempdir().unwrap();
    let (history, list) = (dir.path().join("history.jsonl"), dir.path().join("processed.txt"));
    let mut lines: Vec<Value> = (0..5).map(|offset| line("publish", offset, json!({}))).collect();
    lines.extend((0..4).map(|offset| line("delivery", offset, json!({"attempt": 1, "lease_ms": 5}))));
    lines.extend((0..3).map(|offset| line("ack", offset, json!({"outcome": "settled"}))));
    lines.push(line("ack", 1, json!({"outcome": "already_settled"})));
    told(&lines, &history);
    let check = |processed: &[u64]| {
        let ids = processed.iter().map(|offset| format!("00000000000070008000{offset:012}\n"));
        std::fs::write(&list, ids.collect::<String>()).unwrap();
        let mut command = windlass();
        command.args(["history", "check"]).arg(&history).arg("--processed").arg(&list).args(["-o", "json"]);
        let output = command.output().unwrap();
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = verdict["groups"][0]["findings"].as_array().unwrap().iter();
        let found: Vec<(String, u64)> = findings
            .map(|one| (one["finding"].as_str().unwrap().to_owned(), one["offset"].as_u64().unwrap()))
            .collect();
        (output.status.code(), found)
    };
    let found = |list: &[(&str, u64)]| {
        let list: Vec<(String, u64)> = list.iter().map(|(finding, offset)| ((*finding).to_owned(), *offset)).collect();
        (Some(6), list)
    };
    // Message 3 was delivered and never settled, whatever was processed; message 4 still waits.
    assert_eq!(check(&[0, 1, 2]), found(&[("unsettled", 3)]));
    assert_eq!(check(&[0, 2]), found(&[("lost", 1), ("unsettled", 3)]));
    assert_eq!(check(&[0, 1, 1, 2]), found(&[("doubled", 1), ("unsettled", 3)]));
    assert_eq!(check(&[1, 0, 2]), found(&[("reordered", 0), ("unsettled", 3)]));
    lines.push(line("lapse", 3, json!({"attempt": 1})));
    lines.push(line("ack", 3, json!({"outcome": "settled_late"})));
    told(&lines, &history);
    assert_eq!(check(&[0, 1, 2, 3]), (Some(0), Vec::new()));
    // An ack that a fault dropped settles nothing.
    lines.push(line("delivery", 4, json!({"attempt": 1, "lease_ms": 5})));
    lines.push(line("ack", 4, json!({"outcome": "settled", "fault": "drop_ack"})));
    told(&lines, &history);
    assert_eq!(check(&[0, 1, 2, 3, 4]), found(&[("unsettled", 4)]));
    lines.push(line("purge", 0, json!({})));
    told(&lines, &history);
    assert_eq!(check(&[0, 1, 2, 3]), (Some(0), Vec::new()), "nobody waits for what was purged");
    // In words; and a history that is not whole is no good one.
    let text =
        |arguments: &[&str]| windlass().args(["history", "check"]).arg(&history).args(arguments).output().unwrap();
    let words = code(&text(&["--group", "g"]), 0);
    assert!(words.contains("1 acks came late") && words.contains("1 acks were dropped by a fault"), "{words}");
    assert!(code(&text(&["--group", "none"]), 1).is_empty());
    lines.push(json!({"event": "full", "wall_ms": 1, "boot_ms": 1}));
    told(&lines, &history);
    assert!(code(&text(&[]), 6).contains("full"));
    std::fs::write(&history, "no history\n").unwrap();
    code(&text(&[]), 5);
}

#[test]
fn without_the_flag_the_commands_say_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    code(&ask(&server, &["topic", "create", "t"]), 0);
    for arguments in [
        ["chaos", "set", "t", "--lapse", "5%"].as_slice(),
        &["chaos", "show", "t"],
        &["chaos", "clear", "t"],
        &["history", "export"],
    ] {
        let output = ask(&server, arguments);
        code(&output, 1);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("--chaos") && said.contains("chaos_off"), "{said}");
    }
    code(&ask(&server, &["chaos", "set", "t", "--lapse", "101%"]), 2);
}
