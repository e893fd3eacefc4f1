//! The load generator measures something, on servers of its own, and leaves nothing behind.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

mod cli_rig;

use cli_rig::{Ran, run, scratch, text};

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
