//! The load generator measures something, on servers of its own, and leaves nothing behind.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

mod cli_rig;

use cli_rig::{Ran, run, scratch, text};
use serde_json::{Value, json};

/// The number behind a name in a report.
#[track_caller]
fn figure(ran: &Ran, name: &str) -> f64 {
    let line = ran.ended(0).lines().find_map(|line| line.strip_prefix(name)).expect("the line");
    line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}

#[test]
fn every_scenario_counts_its_messages_in_both_dialects() {
    let (scratch, _) = scratch();
    let place = ["--duration", "1", "--scratch", text(scratch.path())];
    for dialect in ["native", "cloudflare"] {
        let load = [&place[..], &["--connections", "2", "--dialect", dialect]].concat();
        let published = run(&[&["bench", "publish", "--batch", "2"], &load[..]].concat());
        assert!(figure(&published, "messages/s") > 1.0 && figure(&published, "errors") == 0.0, "{published:?}");
        let acked = run(&[&["bench", "pull-ack", "--batch", "7", "--backlog", "100"], &load[..]].concat());
        assert!(figure(&acked, "messages  ") == 100.0 && figure(&acked, "errors") == 0.0, "{acked:?}");
    }
    let received = run(&[&["bench", "latency", "--rate", "50"], &place[..]].concat());
    assert!(figure(&received, "messages  ") >= 45.0 && figure(&received, "errors") == 0.0, "{received:?}");
    assert_eq!(std::fs::read_dir(scratch.path()).expect("the directory").count(), 0);
}

#[test]
fn a_killed_server_comes_back_with_what_it_had() {
    let (scratch, _) = scratch();
    let restart = ["bench", "restart", "--messages", "500", "--body-bytes", "100", "--scratch", text(scratch.path())];
    let ran = run(&restart);
    assert!(figure(&ran, "ready after") > 0.0 && figure(&ran, "RSS when ready") > 0.0, "{ran:?}");
}

/// Few of each, so that every part of `flat` is over in seconds.
const FEW: [&str; 22] = [
    "--rounds",
    "1",
    "--topics",
    "3",
    "--groups",
    "3",
    "--polls",
    "5",
    "--leases",
    "50",
    "--backlog",
    "200",
    "--steady",
    "1",
    "--rate",
    "50",
    "--watch",
    "1",
    "--duration",
    "1",
    "--body-bytes",
    "50",
];

/// Runs `bench COMMAND ... --scratch ... --json`, which must leave nothing but the numbers.
#[track_caller]
fn kept(arguments: &[&str]) -> (Ran, Value) {
    let (scratch, _) = scratch();
    let json = scratch.path().join("numbers.json");
    let place = ["--scratch", text(scratch.path()), "--json", text(&json)];
    let ran = run(&[&["bench"], arguments, &place[..]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(std::fs::read_dir(scratch.path()).expect("the directory").count(), 1, "{ran:?}");
    let numbers = serde_json::from_slice(&std::fs::read(&json).expect("the numbers")).expect("JSON");
    (ran, numbers)
}

#[test]
fn every_backlog_is_measured_and_started_again() {
    let (ran, numbers) = kept(&[&["flat", "--only", "sizes", "--sizes", "300,600"], &FEW[..]].concat());
    let waiting: Vec<_> = numbers["sizes"].as_array().expect("sizes").iter().map(|size| &size["waiting"]).collect();
    assert_eq!(waiting, [300, 600], "{ran:?}");
    for size in numbers["sizes"].as_array().expect("sizes") {
        for rates in ["publish", "take_single", "take_batch", "resident"] {
            assert!(size[rates][0].as_f64().expect("a figure") > 0.0, "{rates}: {ran:?}");
        }
        assert_eq!(size["ready_seconds"].as_array().expect("restarts").len(), 3, "{ran:?}");
    }
    assert_eq!(ran.out.lines().count(), 2, "{ran:?}");
}

#[test]
fn what_should_not_be_felt_is_measured_in_a_line_each() {
    let parts = "topics,groups,polls,slow,stragglers,pauses";
    let (ran, numbers) = kept(&[&["flat", "--only", parts], &FEW[..]].concat());
    assert_eq!(numbers["trials"].as_array().expect("trials").len(), 6, "{ran:?}");
    assert!(ran.out.contains("while 5 pulls wait") && ran.out.contains("; 20 left behind"), "{ran:?}");
    assert!(ran.out.lines().all(|line| line.contains("(aim ")), "{ran:?}");
}

#[test]
fn leases_that_lapse_at_once_are_watched_until_all_are_swept() {
    let (ran, numbers) = kept(&[&["flat", "--only", "lapse"], &FEW[..]].concat());
    assert_eq!(numbers["trials"].as_array().expect("trials").len(), 2, "{ran:?}");
    assert!(ran.out.contains("while 50 leases lapse at once and become dead letters"), "{ran:?}");
}

#[test]
fn space_is_measured_over_the_second_half_of_a_steady_run() {
    let (ran, numbers) = kept(&["space", "--duration", "3", "--connections", "4", "--consumers", "2"]);
    assert_eq!(numbers["trials"].as_array().expect("trials").len(), 2, "{ran:?}");
    let written = ran.out.strip_prefix("bytes written per body byte, 1024 B each: ").expect("the line");
    if written.starts_with("unknown: the device does not say") {
        eprintln!("the device below the directory for temporary files counts nothing: the figure is not looked at");
        return;
    }
    let ratio: f64 = written.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
    assert!(ratio > 1.0, "what was published was written, and more: {ran:?}");
}

#[test]
fn a_report_is_drawn_from_what_was_kept() {
    let (scratch, _) = scratch();
    let file = |name: &str| scratch.path().join(name);
    let run_of = |who: &str, rate: u32| {
        json!({"case": "publish", "connections": 64, "batch": 1, "who": who, "rate": rate, "p50_ms": 1.0, "p99_ms": 2.0,
               "p999_ms": 3.0, "errors": 0})
    };
    let own = json!({
        "about": {"version": "9.9", "at": "then", "machine": "a <machine>", "command": "windlass bench"},
        "runs": [run_of("windlass", 300), run_of("windlass", 200), run_of("windlass", 100)],
        "sizes": [{"waiting": 10_000, "body_bytes": 200, "publish": [5.0], "ready_seconds": [0.1]}],
        "trials": [{"name": "a trial", "figures": "7", "aim": "8", "met": false}],
    });
    std::fs::write(file("own.json"), own.to_string()).unwrap();
    std::fs::write(file("peers.json"), json!({"runs": [run_of("redis", 400)]}).to_string()).unwrap();
    let page = file("page.html");
    let ran =
        run(&["bench", "report", text(&page), "--from", text(&file("own.json")), "--from", text(&file("peers.json"))]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let html = std::fs::read_to_string(&page).unwrap();
    for said in ["a &lt;machine&gt;", "windlass 9.9", "200 (100 to 300)", "<td>0.50</td>", "Redis", "a trial", "missed"]
    {
        assert!(html.contains(said), "{said}");
    }
    assert_eq!(html.matches("<svg").count(), 6);
    assert!(!html.contains("<script") && !html.contains("NaN") && !html.contains("inf"));
    assert!(std::fs::read_to_string(file("page.svg")).unwrap().starts_with("<svg"));
    let kept: Value = serde_json::from_slice(&std::fs::read(file("page.json")).unwrap()).unwrap();
    assert_eq!(kept["runs"].as_array().unwrap().len(), 4);

    std::fs::write(file("own.json"), "{").unwrap();
    let ran = run(&["bench", "report", text(&page), "--from", text(&file("own.json"))]);
    assert!(ran.code == 1 && ran.said.contains("own.json"), "{ran:?}");
}
