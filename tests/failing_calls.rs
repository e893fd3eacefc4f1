//! System calls of the real server that fail, one in each life, injected by strace: a failed sync or write of the log
//! ends the process loudly, no space refuses, and after a restart nothing answered is missing.
//!
//! `WINDLASS_FAILING_CALLS` says how many places each kind of call fails at. Without strace the reason is printed and
//! the test shows nothing.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "counts/mod.rs"]
mod counts;
#[path = "process/mod.rs"]
mod process;
#[path = "torture_rig/mod.rs"]
mod torture_rig;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use counts::rounds;
use process::client::Client;
use process::{Process, windlass};
use serde_json::json;
use torture_rig::binary;

const TOPIC: &str = "/api/windlass/v1/topics/t";
/// Publishes of a life: by then the call has failed, or never will.
const PUBLISHES: usize = 60;

/// What was asked and answered.
#[derive(Default)]
struct Told {
    sent: BTreeSet<String>,
    published: BTreeSet<String>,
    asked_to_ack: BTreeSet<String>,
    acked: BTreeSet<String>,
    refused: u64,
}

/// A server on `data`, behind `through`. Small segments: new ones are made all the time.
fn start(data: &Path, through: &[String]) -> Result<Process, String> {
    let plain = windlass();
    let mut words = through.iter().cloned().chain([binary().display().to_string()]);
    let mut command = Command::new(words.next().expect("a command"));
    command.args(words).args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data);
    for (name, _) in plain.get_envs() {
        command.env_remove(name);
    }
    let settings = [
        ("WINDLASS_LIMITS_BODY_BYTES_MAX", "16 KiB"),
        ("WINDLASS_LIMITS_BATCH_BYTES_MAX", "32 KiB"),
        ("WINDLASS_LOG_SEGMENT_BYTES", "256 KiB"),
        ("WINDLASS_CHECKPOINT_INTERVAL", "100 ms"),
    ];
    command.envs(settings);
    Process::try_start(command, data)
}

/// Publishes, pulls and acks until there is no answer any more, or it has been enough.
fn load(client: &mut Client, life: &str, told: &mut Told) -> Option<()> {
    for number in 0..PUBLISHES {
        let name = format!("{life}-{number}");
        told.sent.insert(name.clone());
        let body = format!("{name}|{}", "x".repeat(9_000));
        let answer = client.ask("POST", &format!("{TOPIC}/messages"), "content-type: text/plain\r\n", body.as_bytes());
        match answer.ok()?.status {
            201 => drop(told.published.insert(name)),
            503 | 507 => told.refused += 1,
            other => panic!("a publish was answered {other}"),
        }
        if number % 3 == 0 {
            let pull = client.post(&format!("{TOPIC}/groups/g/pull"), &json!({"batch_max": 2, "encoding": "text"}));
            let pull = pull.ok()?;
            if pull.status == 503 {
                // It is about to end.
                continue;
            }
            for message in pull.expect(200)["messages"].as_array().expect("messages") {
                let name = message["body"].as_str().expect("text").split('|').next().expect("a name").to_owned();
                told.asked_to_ack.insert(name.clone());
                let ack = client.post(&format!("{TOPIC}/groups/g/ack"), &json!({"tokens": [message["token"]]}));
                let ack = ack.ok()?;
                if ack.status == 200 {
                    assert_eq!(ack.json()["outcomes"][0]["done"], true, "{name}");
                    told.acked.insert(name);
                }
            }
        }
    }
    Some(())
}

/// Everything answered is there, nothing acked is open, nothing is there that nobody sent.
fn check(client: &mut Client, told: &Told) {
    let mut open = BTreeSet::new();
    let mut from = Some(0);
    while let Some(at) = from {
        let page = client.get(&format!("{TOPIC}/messages?group=g&from={at}&limit=100")).expect("an answer").expect(200);
        for message in page["messages"].as_array().expect("messages").iter().filter(|one| one["state"] != "settled") {
            let body = base64::Engine::decode(
                &base64::engine::general_purpose::STANDARD,
                message["body_base64"].as_str().expect("a body"),
            );
            let body = String::from_utf8(body.expect("base64")).expect("text");
            assert_eq!(body.len(), body.split('|').next().expect("a name").len() + 9_001, "the body is whole");
            open.insert(body.split('|').next().expect("a name").to_owned());
        }
        from = page["next"].as_u64();
    }
    let lost: Vec<_> =
        told.published.iter().filter(|name| !open.contains(*name) && !told.asked_to_ack.contains(*name)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let back: Vec<_> = told.acked.intersection(&open).collect();
    assert!(back.is_empty(), "acked, and open again: {back:?}");
    let strange: Vec<_> = open.difference(&told.sent).collect();
    assert!(strange.is_empty(), "nobody sent: {strange:?}");
}

/// What a life with one failed call came to.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    /// The call was never made so often.
    Unharmed,
    /// The process ended, and said why.
    Ended,
    /// It went on.
    WentOn,
}

/// One life on a directory with something in it, in which the `when`th call of each thread fails; then another
/// without faults.
fn fail(call: &str, error: &str, when: u64) -> (Came, u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut told = Told::default();
    let mut first = start(&data, &[]).expect("a good start");
    let mut client = first.client();
    client.post("/api/windlass/v1/topics", &json!({"name": "t"})).expect("an answer").expect(201);
    client.post(&format!("{TOPIC}/groups"), &json!({"name": "g"})).expect("an answer").expect(201);
    load(&mut client, "first", &mut told).expect("nobody kills it");
    first.kill();

    let trace = dir.path().join("trace");
    let inject = format!("inject={call}:error={error}:when={when}");
    let through =
        ["strace", "-D", "-f", "-qq", "-y", "-o", &trace.display().to_string(), "-e", &format!("trace={call}")];
    let through: Vec<String> = through.iter().map(|word| (*word).to_owned()).chain(["-e".to_owned(), inject]).collect();
    let (ended, said) = match start(&data, &through) {
        Err(said) => (true, said),
        Ok(mut server) => {
            let whole = load(&mut server.client(), "second", &mut told);
            let ended = whole.is_none();
            if ended {
                assert!(!server.wait().success(), "an end for a reason is no success");
            } else {
                server.kill();
            }
            (ended, server.said())
        }
    };
    let traced = std::fs::read_to_string(&trace).unwrap_or_default();
    let injected: Vec<&str> = traced.lines().filter(|line| line.contains("(INJECTED)")).collect();
    let in_log = injected.iter().any(|line| line.contains("/data/log/"));
    let came = match (ended, injected.is_empty()) {
        (false, true) => Came::Unharmed,
        (false, false) => Came::WentOn,
        (true, false) => Came::Ended,
        (true, true) => panic!("{call} {error} {when}: it ended without a fault: {said}"),
    };
    if came == Came::Ended {
        assert!(
            said.contains("ERROR") || said.contains("windlass:"),
            "{call} {error} {when}: it ended in silence: {said}"
        );
    }
    if call == "fdatasync" && in_log {
        assert_eq!(came, Came::Ended, "{when}: a sync of the log failed, and the server went on: {injected:?}");
    }
    let again = start(&data, &[]).expect("a good start");
    check(&mut again.client(), &told);
    (came, told.refused)
}

#[test]
fn a_call_that_fails_ends_the_server_or_is_refused_and_nothing_answered_is_lost() {
    if let Err(error) = Command::new("strace").arg("--version").output() {
        eprintln!("SKIPPED: no system call can be made to fail here: strace: {error}");
        return;
    }
    let (places, begun) = (rounds("WINDLASS_FAILING_CALLS", 2, 16), Instant::now());
    let kinds = [("fdatasync", "EIO"), ("pwrite64", "EIO"), ("pwrite64", "ENOSPC"), ("fsync", "EIO")];
    for (call, error) in kinds {
        // Every call at first, then sparser: the first ones belong to the start.
        let spread: Vec<u64> = (0..places).map(|place| 1 + place + place * place / 4).collect();
        let came: Vec<(Came, u64)> = spread.iter().map(|when| fail(call, error, *when)).collect();
        let count = |wanted: &Came| came.iter().filter(|(one, _)| one == wanted).count();
        let refused: u64 = came.iter().map(|(_, refused)| refused).sum();
        eprintln!(
            "{call} {error} at {spread:?} of each thread: {} ended loudly, {} went on, {} never reached it; {refused} \
             publishes refused; lost 0",
            count(&Came::Ended),
            count(&Came::WentOn),
            count(&Came::Unharmed)
        );
        assert!(count(&Came::Unharmed) < came.len(), "{call} {error}: no call failed, which shows nothing");
    }
    eprintln!("in {:.1?}", begun.elapsed());
}
