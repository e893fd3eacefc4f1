//! `windlass torture` as users run it: what it says of a server that keeps its promises, and of one that cannot.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

mod cli_rig;

use std::path::Path;

use cli_rig::{run, scratch, text};

#[test]
fn a_good_server_passes_and_nothing_is_left_behind() {
    let (scratch, _) = scratch();
    let place = ["torture", "--dir", text(scratch.path()), "--seed", "7"];
    let ran = run(&[&place[..], &["--kills", "3", "-o", "json"]].concat());
    let verdict = ran.json(0);
    assert_eq!((&verdict["passed"], &verdict["kills"], &verdict["seed"]), (&true.into(), &3.into(), &7.into()));
    assert_eq!((&verdict["lost"], &verdict["doubled"]), (&0.into(), &0.into()));
    let figure = |name: &str| verdict[name].as_f64().unwrap();
    assert!(figure("publishes") > 0.0 && figure("acks") > 0.0 && figure("ready_max_ms") > 0.0, "{verdict}");
    let ran = run(&[&place[..], &["--kills", "2", "--dialects", "sequin,jcq"]].concat());
    let told = ran.ended(0);
    assert!(told.contains("kills          2 in ") && told.contains("every promise was kept"), "{told}");
    assert_eq!(std::fs::read_dir(scratch.path()).expect("the directory").count(), 0);
}

/// The end of the log is lost after each kill, so a promise must break: seed, promise, the message's own history and
/// everything else that happened are there.
#[test]
fn a_broken_promise_is_told_with_its_seed_and_the_message() {
    let (scratch, _) = scratch();
    let failing = ["torture", "--dir", text(scratch.path()), "--kills", "50", "--lying-disk", "-o", "json"];
    // What breaks first is chance: the server may also find out by itself. Some run ends with a lost message.
    let (ran, verdict) = (1..=20)
        .map(|seed: u32| {
            let ran = run(&[&failing[..], &["--seed", &seed.to_string()]].concat());
            let verdict = ran.json(5);
            (ran, verdict)
        })
        .find(|(_, verdict)| verdict["lost"] != 0)
        .expect("a run that loses a message");
    assert!(ran.said.is_empty(), "{ran:?}");
    let broken = &verdict["broken"];
    let first = &broken["violations"][0];
    let name = first["message"].as_str().expect("a message");
    assert!(first["promise"].as_str().is_some_and(|words| words.split(' ').count() > 4), "{first}");
    let lines = broken["message_history"].as_array().expect("lines");
    assert!(
        lines.iter().any(|line| line.as_str().unwrap().contains(&format!("publish {} ", topic_of(first)))),
        "{broken}"
    );
    assert!(lines.iter().any(|line| line.as_str().unwrap().contains("the server was killed")), "{broken}");
    let kept = Path::new(broken["history"].as_str().expect("a path"));
    let history = std::fs::read_to_string(kept).expect("the history");
    let events: Vec<serde_json::Value> =
        history.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    assert!(events.iter().any(|event| event["event"] == "publish" && event["name"] == name), "{name}");
    assert!(events.iter().any(|event| event["event"] == "ending"));
    assert!(Path::new(broken["data"].as_str().expect("a path")).join("FORMAT").exists());
}

/// `it is not open in orders/left` names the topic.
fn topic_of(violation: &serde_json::Value) -> String {
    let what = violation["what"].as_str().expect("words");
    what.rsplit(' ').next().and_then(|seat| seat.split('/').next()).expect("a topic").to_owned()
}

#[test]
fn a_binary_that_is_no_server_is_an_error_and_no_verdict() {
    let (scratch, _) = scratch();
    let ran = run(&["torture", "--dir", text(scratch.path()), "--kills", "1", "--binary", "/bin/false"]);
    ran.ended(1);
    assert!(ran.said.contains("did not become ready"), "{ran:?}");
    run(&["torture", "--kills", "0"]).ended(2);
}
