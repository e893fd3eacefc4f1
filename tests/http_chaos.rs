//! Faults on purpose, over real HTTP: each one alone, in each dialect where it shows, by its seed; and none where
//! nobody asked for them.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

mod counts;
#[path = "support/http.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Reply, Rig};
use windlass::chaos::{Event, Judge, Line};
use windlass::model::Permissions;

const V1: &str = "/api/windlass/v1";
const T: &str = "/api/windlass/v1/topics/t";
const SECRET: &str = "body-that-nobody-else-may-see";

/// A server that may deal faults, with topic `t` and its group `g`.
struct Chaos {
    rig: Rig,
    dir: tempfile::TempDir,
}

impl Chaos {
    fn start() -> Self {
        Self::start_with(json!({}), json!({}))
    }

    fn start_with(topic: Value, group: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::start_with(|config| {
            config.chaos.enabled = true;
            config.data_dir = dir.path().to_owned();
        });
        rig.post(&format!("{V1}/topics"), &json!({"name": "t", "settings": topic})).expect(201);
        rig.post(&format!("{T}/groups"), &json!({"name": "g", "settings": group})).expect(201);
        Self { rig, dir }
    }

    fn faults(&self, faults: Value) -> Value {
        self.rig.ask("PUT", &format!("{T}/chaos")).json(&faults).send().expect(200)
    }

    fn publish(&self, key: Option<&str>, body: &str) -> String {
        let key = key.map(|key| format!("?key={key}")).unwrap_or_default();
        let path = format!("{T}/messages{key}");
        let made = self.rig.ask("POST", &path).header("content-type", "text/plain").body(body).send().expect(201);
        made["id"].as_str().unwrap().to_owned()
    }

    fn pull(&self, batch: u64) -> Vec<Value> {
        let pull = json!({"batch_max": batch, "lease_ms": 30_000, "encoding": "text"});
        let pulled = self.rig.post(&format!("{T}/groups/g/pull"), &pull).expect(200);
        pulled["messages"].as_array().unwrap().clone()
    }

    fn bodies(&self, batch: u64) -> Vec<String> {
        self.pull(batch).iter().map(|message| message["body"].as_str().unwrap().to_owned()).collect()
    }

    fn ack(&self, message: &Value) -> String {
        let acked = self.rig.post(&format!("{T}/groups/g/ack"), &json!({"tokens": [message["token"]]})).expect(200);
        acked["outcomes"][0].as_str().or_else(|| acked["outcomes"][0]["outcome"].as_str()).unwrap().to_owned()
    }

    fn unsettled(&self) -> u64 {
        let counts = self.rig.get(&format!("{T}/groups/g/counts")).expect(200);
        ["ready", "in_flight", "delayed"].iter().map(|name| counts[name].as_u64().unwrap()).sum()
    }

    fn history(&self) -> Vec<Line> {
        lines(&export(&self.rig.ask("GET", &format!("{T}/history"))))
    }
}

/// A body without a length, to its end.
fn export(ask: &support::Ask) -> String {
    let mut stream = ask.clone().begin().into_stream();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{text}");
    assert!(head.contains("application/x-ndjson"), "{head}");
    // In chunks: each with its length in a line before it.
    let is_length = |line: &&str| !line.starts_with('{') && !line.trim().is_empty();
    assert!(body.lines().filter(is_length).all(|line| usize::from_str_radix(line.trim(), 16).is_ok()), "{body}");
    body.lines().filter(|line| line.starts_with('{')).fold(String::new(), |text, line| text + line + "\n")
}

fn lines(text: &str) -> Vec<Line> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn a_server_that_was_not_started_for_it_deals_nothing_and_writes_nothing() {
    let rig = Rig::start();
    rig.post(&format!("{V1}/topics"), &json!({"name": "t"})).expect(201);
    rig.ask("PUT", &format!("{T}/chaos")).json(&json!({"duplicate": 10})).send().expect_problem(409, "chaos_off");
    for (method, path) in
        [("GET", format!("{T}/chaos")), ("DELETE", format!("{T}/chaos")), ("GET", format!("{T}/history"))]
    {
        rig.ask(method, &path).send().expect_problem(409, "chaos_off");
    }
    rig.get(&format!("{V1}/history")).expect_problem(409, "chaos_off");
    assert_eq!(rig.get("/readyz").expect(200)["chaos"], false);
    let chaos = Chaos::start();
    assert_eq!(chaos.rig.get("/readyz").expect(200)["chaos"], true);
    assert_eq!(chaos.rig.get(&format!("{T}/chaos")).expect(200)["dealt"], json!({}));
}

#[test]
fn faults_out_of_bounds_are_refused_and_change_nothing() {
    let chaos = Chaos::start();
    let set = |faults: Value| chaos.rig.ask("PUT", &format!("{T}/chaos")).json(&faults).send();
    chaos.faults(json!({"seed": 3, "lapse": 7}));
    for (faults, field) in [
        (json!({"duplicate": 1001}), "duplicate"),
        (json!({"delay_ms": 60_001}), "delay_ms"),
        (json!({"lapse_ms": 0}), "lapse_ms"),
        (json!({"restart_every": 3}), "restart_every"),
        // The server in this process has nobody to start it again.
        (json!({"restart_every": 100}), "restart_every"),
        (json!({"seed": 9_007_199_254_740_993_u64}), "seed"),
    ] {
        assert_eq!(set(faults).expect_problem(422, "out_of_bounds")["pointer"], field);
    }
    set(json!({"doubled": 1})).expect_problem(400, "invalid_request");
    set(json!({"duplicate": -1})).expect_problem(400, "invalid_request");
    let path = format!("{V1}/topics/none/chaos");
    chaos.rig.ask("PUT", &path).json(&json!({})).send().expect_problem(404, "no_such_topic");
    let shown = chaos.rig.get(&format!("{T}/chaos")).expect(200);
    assert_eq!((&shown["faults"]["seed"], &shown["faults"]["lapse"]), (&json!(3), &json!(7)));
    chaos.rig.delete(&format!("{T}/chaos")).expect(204);
    assert_eq!(chaos.rig.get(&format!("{T}/chaos")).expect(200)["faults"]["lapse"], 0);
}

#[test]
fn a_duplicate_goes_to_somebody_else_while_its_first_holder_works() {
    let chaos = Chaos::start();
    let id = chaos.publish(None, "one");
    chaos.faults(json!({"duplicate": 1000}));
    let first = chaos.pull(10);
    chaos.rig.delete(&format!("{T}/chaos")).expect(204);
    let second = chaos.pull(10);
    assert_eq!((&first[0]["id"], &second[0]["id"]), (&json!(id), &json!(id)));
    assert_eq!((&first[0]["attempt"], &second[0]["attempt"]), (&json!(1), &json!(2)));
    assert_eq!(first[0]["lease_ms"], 30_000, "its holder is told nothing");
    assert_eq!(chaos.ack(&first[0]), "taken_over");
    assert_eq!(chaos.ack(&second[0]), "settled");
    let told = chaos.history();
    let fault = told.iter().find(|line| line.event == Event::Delivery).unwrap();
    assert_eq!((fault.fault.unwrap().name(), fault.attempt, fault.held_ms), ("duplicate", Some(1), Some(0)));
}

#[test]
fn a_lease_that_lapses_early_ends_when_the_fault_says() {
    let chaos = Chaos::start();
    chaos.publish(None, "one");
    chaos.faults(json!({"lapse": 1000, "lapse_ms": 2_000}));
    let first = chaos.pull(1);
    assert_eq!(first[0]["lease_ms"], 30_000);
    chaos.rig.advance(Duration::from_millis(1_999));
    assert_eq!(chaos.bodies(1), [""; 0], "still held");
    chaos.rig.advance(Duration::from_millis(1));
    assert_eq!(chaos.bodies(1), ["one"]);
    assert_eq!(chaos.ack(&first[0]), "taken_over");
    let told = chaos.history();
    let lapse = told.iter().find(|line| line.event == Event::Lapse).unwrap();
    assert_eq!(lapse.token, told.iter().find(|line| line.event == Event::Delivery).unwrap().token);
}

#[test]
fn a_dropped_ack_is_answered_and_the_message_comes_again() {
    let chaos = Chaos::start();
    chaos.publish(None, "one");
    let first = chaos.pull(1);
    chaos.faults(json!({"drop_ack": 1000}));
    assert_eq!(chaos.ack(&first[0]), "settled");
    assert_eq!(chaos.bodies(1), ["one"]);
    assert_eq!(chaos.ack(&json!({"token": "forged"})), "unknown", "who has no lease is told so");
    let told = chaos.history();
    let ack = told.iter().find(|line| line.event == Event::Ack).unwrap();
    assert_eq!((ack.fault.unwrap().name(), ack.outcome.as_deref()), ("drop_ack", Some("settled")));
}

/// The last attempt belongs to the consumer: without a dead-letter topic the message would be gone.
#[test]
fn no_fault_uses_the_last_attempt_of_a_message() {
    let chaos = Chaos::start_with(json!({}), json!({"attempts_max": 2}));
    for body in ["one", "two", "three"] {
        chaos.publish(None, body);
    }
    let all = json!({"duplicate": 1000, "lapse": 1000, "reorder": 1000, "drop_ack": 1000});
    chaos.faults(all);
    let first = chaos.pull(3);
    assert!(first.iter().all(|message| message["attempt"] == 1));
    let last = chaos.pull(3);
    assert_eq!(last.len(), 3);
    assert!(last.iter().all(|message| message["attempt"] == 2), "{last:?}");
    chaos.faults(json!({"drop_ack": 1000, "lose_answer": 0}));
    for message in &last {
        assert_eq!(chaos.ack(message), "settled");
    }
    assert_eq!(chaos.unsettled(), 0);
    // An answer with such a message is always sent.
    chaos.publish(None, "four");
    chaos.faults(json!({"duplicate": 1000}));
    assert_eq!(chaos.bodies(1), ["four"]);
    chaos.faults(json!({"lose_answer": 1000, "cut_body": 1000}));
    let last = chaos.pull(1);
    assert_eq!(last[0]["attempt"], 2);
    chaos.faults(json!({}));
    assert_eq!(chaos.ack(&last[0]), "settled");
    let status = chaos.rig.get(&format!("{V1}/status")).expect(200);
    let group = &status["topics"][0]["groups"][0];
    assert_eq!((&group["discarded"], &group["dead_lettered"]), (&json!(0), &json!(0)));
}

#[test]
fn a_lost_answer_is_no_answer_and_the_call_is_done() {
    let chaos = Chaos::start();
    chaos.faults(json!({"lose_answer": 1000}));
    let publish = chaos.rig.ask("POST", &format!("{T}/messages")).header("content-type", "text/plain");
    let mut stream = publish.body("one").begin().into_stream();
    let mut got = Vec::new();
    // The end of the connection may come as an end or as a reset.
    let _ = stream.read_to_end(&mut got);
    assert_eq!(String::from_utf8_lossy(&got), "");
    // Lookups and settings are no calls of consumers: they are always answered.
    chaos.faults(json!({}));
    assert_eq!(chaos.bodies(5), ["one"]);
}

#[test]
fn a_cut_answer_ends_in_the_middle_of_its_body() {
    let chaos = Chaos::start();
    chaos.publish(None, "one");
    chaos.faults(json!({"cut_body": 1000}));
    let pull = chaos.rig.ask("POST", &format!("{T}/groups/g/pull")).json(&json!({}));
    let mut stream = pull.begin().into_stream();
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got);
    let text = String::from_utf8(got).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(body.len(), length.parse::<usize>().unwrap().div_ceil(2));
    chaos.faults(json!({}));
    assert_eq!(chaos.bodies(1), [""; 0], "the lease runs though nobody knows its token");
    chaos.rig.advance(Duration::from_secs(60));
    assert_eq!(chaos.bodies(1), ["one"]);
}

#[test]
fn a_late_answer_is_late_by_the_time_that_was_asked_for() {
    let chaos = Chaos::start();
    chaos.publish(None, "one");
    chaos.faults(json!({"delay": 1000, "delay_ms": 150}));
    let begun = Instant::now();
    assert_eq!(chaos.bodies(1), ["one"]);
    assert!(begun.elapsed() >= Duration::from_millis(150));
    let dealt = chaos.rig.get(&format!("{T}/chaos")).expect(200);
    assert_eq!(dealt["dealt"]["delay"], json!({"asked": 1, "dealt": 1}));
}

fn offsets(messages: &[Value]) -> Vec<u64> {
    messages.iter().map(|message| message["offset"].as_u64().unwrap()).collect()
}

#[test]
fn a_reordered_pull_has_the_same_messages_in_another_order() {
    let chaos = Chaos::start();
    let published: Vec<u64> = (0..21).inspect(|number| drop(chaos.publish(None, &number.to_string()))).collect();
    chaos.faults(json!({"seed": 5, "reorder": 1000}));
    let mut got = offsets(&chaos.pull(20));
    assert_eq!(got.len(), 20);
    assert!(!got.contains(&0) && got.contains(&20), "one further on overtook the first: {got:?}");
    assert!(!got.is_sorted(), "{got:?}");
    got.extend(offsets(&chaos.pull(20)));
    got.sort_unstable();
    assert_eq!(got, published, "nothing is missing and nothing came twice");
    // One at a time as well.
    let one = Chaos::start();
    one.publish(None, "first");
    one.publish(None, "second");
    one.faults(json!({"reorder": 1000}));
    assert_eq!([one.bodies(1), one.bodies(1)].concat(), ["second", "first"]);
}

#[test]
fn the_order_that_a_topic_promises_is_kept() {
    let per_key = Chaos::start_with(json!({"ordering": "per_key"}), json!({}));
    for number in 0..40 {
        per_key.publish(Some(["a", "b", "c", "d"][number % 4]), &number.to_string());
    }
    per_key.faults(json!({"seed": 1, "reorder": 1000}));
    let mut last = std::collections::HashMap::new();
    let mut got = Vec::new();
    while got.len() < 40 {
        let pulled = per_key.pull(3);
        assert!(!pulled.is_empty(), "after {got:?}");
        for message in pulled {
            let (key, offset) = (message["key"].as_str().unwrap().to_owned(), message["offset"].as_u64().unwrap());
            let before = last.insert(key.clone(), offset);
            assert!(before.is_none_or(|before| before < offset), "{key}: {offset} after {before:?}");
            got.push(offset);
            assert_eq!(per_key.ack(&message), "settled");
        }
    }
    assert!(!got.is_sorted(), "keys overtook each other");
    let strict = Chaos::start_with(json!({"ordering": "strict"}), json!({}));
    (0..10).for_each(|number| drop(strict.publish(None, &number.to_string())));
    strict.faults(json!({"seed": 1, "reorder": 1000}));
    assert_eq!(offsets(&strict.pull(10)), (0..10).collect::<Vec<u64>>());
}

#[test]
fn a_refused_call_is_not_done_and_says_so_in_the_words_of_each_dialect() {
    let chaos = Chaos::start();
    let (rig, queues) = (&chaos.rig, "/client/v4/accounts/default/queues");
    let queue = rig.get(&format!("{queues}?name=t")).expect(200)["result"][0]["queue_id"].clone();
    let queue = format!("{queues}/{}/messages", queue.as_str().unwrap());
    let native = || rig.ask("POST", &format!("{T}/messages")).body("x").send();
    let cloudflare = || rig.post(&queue, &json!({"body": "x", "content_type": "text"}));
    let sequin = || rig.post("/api/streams/t/messages", &json!({"messages": [{"key": "k", "data": "x"}]}));
    let jcq = || rig.post("/v2/messages", &json!({"topic": "t", "type": "NORMAL", "messages": [{"body": "x"}]}));
    let again = |reply: &Reply| assert!(reply.header("retry-after").is_some(), "{reply:?}");
    for (fault, status) in [("unavailable", 503), ("throttle", 429)] {
        chaos.faults(json!({fault: 1000}));
        native().expect_problem(status, "chaos");
        cloudflare().expect_fault(status, 10250);
        assert!(sequin().expect(status)["summary"].as_str().unwrap().starts_with("chaos"));
        let word = if status == 503 { "SERVICE_UNAVAILABLE" } else { "RATE_LIMIT" };
        assert_eq!(jcq().expect(status)["error"]["status"], word);
        [native(), cloudflare(), sequin(), jcq()].iter().for_each(again);
        rig.post(&format!("{T}/groups/g/pull"), &json!({})).expect_problem(status, "chaos");
        rig.post(&format!("{T}/groups/g/ack"), &json!({"tokens": ["x"]})).expect_problem(status, "chaos");
    }
    chaos.faults(json!({}));
    assert_eq!(chaos.rig.get(&format!("{T}/counts")).expect(200)["ready"], 0, "nothing was published");
    for reply in [native(), cloudflare(), sequin(), jcq()] {
        assert!(reply.status < 300, "{reply:?}");
    }
}

/// What was dealt, without what differs between two runs.
fn dealt(seed: u64) -> Vec<(Event, Option<&'static str>, Option<u64>)> {
    let chaos = Chaos::start();
    chaos.faults(
        json!({"seed": seed, "duplicate": 200, "lapse": 200, "reorder": 300, "drop_ack": 200, "throttle": 100}),
    );
    for number in 0..30 {
        let _ = chaos.rig.ask("POST", &format!("{T}/messages")).body(number.to_string()).send();
    }
    for _ in 0..30 {
        let pulled = chaos.rig.post(&format!("{T}/groups/g/pull"), &json!({"batch_max": 3}));
        if pulled.status == 200 {
            let tokens: Vec<Value> =
                pulled.json()["messages"].as_array().unwrap().iter().map(|message| message["token"].clone()).collect();
            let _ = chaos.rig.post(&format!("{T}/groups/g/ack"), &json!({"tokens": tokens}));
        }
    }
    let told = chaos.history();
    told.iter().map(|line| (line.event, line.fault.map(|fault| fault.name()), line.offset)).collect()
}

#[test]
fn the_same_seed_deals_the_same_faults_to_the_same_calls() {
    let first = dealt(11);
    for fault in ["duplicate", "lapse", "drop_ack", "throttle"] {
        assert!(first.iter().any(|(_, dealt, _)| *dealt == Some(fault)), "no {fault} in {first:?}");
    }
    assert_eq!(dealt(11), first);
    assert_ne!(dealt(12), first);
}

#[test]
fn a_history_tells_no_body_and_no_token_and_only_its_own_account() {
    let chaos = Chaos::start();
    chaos.publish(Some("a-key"), SECRET);
    let message = chaos.pull(1).remove(0);
    chaos.ack(&message);
    let text = export(&chaos.rig.ask("GET", &format!("{V1}/history")));
    assert!(!text.contains(SECRET) && !text.contains(message["token"].as_str().unwrap()), "{text}");
    let kept = std::fs::read_to_string(chaos.dir.path().join("chaos/history.jsonl")).unwrap();
    assert!(!kept.contains(SECRET) && !kept.contains(message["token"].as_str().unwrap()));
    let told: Vec<Event> = lines(&text).iter().map(|line| line.event).collect();
    assert_eq!(told, [Event::Start, Event::Publish, Event::Delivery, Event::Ack]);
    let of_message = &lines(&text)[1..];
    assert!(of_message.iter().all(|line| line.id.as_deref() == message["id"].as_str() && line.offset == Some(0)));
    assert!(of_message.iter().all(|line| line.key.as_deref() == Some("a-key")));
    let other = chaos.rig.token("other", Permissions::ALL, "*");
    assert_eq!(
        lines(&export(&chaos.rig.ask("GET", &format!("{V1}/history")).token(&other))).len(),
        1,
        "the start alone"
    );
}

/// One handle names all leases of a JCQ pull; those that a fault has ended are not among them any more.
#[test]
fn an_ack_of_a_batch_is_told_of_those_messages_that_it_settled() {
    let mut mixed = 0;
    for seed in 0..6 {
        let chaos = Chaos::start();
        let rig = &chaos.rig;
        let jcq = "/v2/messages?topic=t&consumerGroupId=group-of-jcq";
        rig.get(jcq).expect(200);
        (0..4).for_each(|number| drop(chaos.publish(None, &number.to_string())));
        chaos.faults(json!({"seed": seed, "duplicate": 500}));
        let result = rig.get(jcq).expect(200)["result"].clone();
        rig.delete(&format!("{T}/chaos")).expect(204);
        let ack = json!({"topic": "t", "consumerGroupId": "group-of-jcq", "ackAction": "SUCCESS",
            "ackIndex": result["ackIndex"]});
        rig.post("/v2/ack", &ack);
        let told = chaos.history();
        let handed = told.iter().filter(|line| line.event == Event::Delivery);
        let kept: BTreeSet<_> =
            handed.clone().filter(|line| line.fault.is_none()).map(|line| line.id.clone()).collect();
        let acked = told.iter().filter(|line| line.event == Event::Ack && line.id.is_some());
        let acked: BTreeSet<_> = acked.map(|line| line.id.clone()).collect();
        assert!(acked.is_subset(&kept), "seed {seed}: {told:#?}");
        let counts = rig.get(&format!("{T}/groups/group-of-jcq/counts")).expect(200);
        let left: u64 = ["ready", "in_flight", "delayed"].iter().map(|name| counts[name].as_u64().unwrap()).sum();
        assert_eq!(left, 4 - acked.len() as u64, "seed {seed}: what is told as acked is what is gone");
        mixed += u64::from(!acked.is_empty() && left > 0);
    }
    assert!(mixed > 0, "some batches had both");
}

/// What a run of consumers was dealt, by fault, and how many leases were ended by a fault.
fn consumers_get_everything(seed: u64) -> (BTreeMap<String, u64>, u64) {
    let chaos = Chaos::start();
    let rig = &chaos.rig;
    let queues = "/client/v4/accounts/default/queues";
    let queue = rig.get(&format!("{queues}?name=t")).expect(200)["result"][0]["queue_id"].clone();
    let queue = format!("{queues}/{}", queue.as_str().unwrap());
    rig.post(&format!("{queue}/consumers"), &json!({"type": "http_pull"})).expect(200);
    rig.post("/api/streams/t/consumers", &json!({"name": "reader", "filter_key_pattern": ">"})).expect(200);
    let jcq = "/v2/messages?topic=t&consumerGroupId=group-of-jcq";
    rig.get(jcq).expect(200);
    for number in 0..30 {
        chaos.publish(Some(&format!("k.{number}")), &number.to_string());
    }
    chaos.faults(json!({"seed": seed, "duplicate": 100, "lapse": 100, "reorder": 300, "drop_ack": 100,
        "unavailable": 50, "throttle": 50}));
    let mut got: [BTreeSet<String>; 4] = Default::default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let ask = |path: &str, body: &Value| {
        Some(rig.post(path, body)).filter(|reply| reply.status == 200).map(|reply| reply.json())
    };
    let mut rounds = 0;
    while got.iter().any(|set| set.len() < 30) {
        let [native, of_cloudflare, sequin, of_jcq] = &mut got;
        rounds += 1;
        assert!(rounds < 500, "seed {seed}: {native:?} {of_cloudflare:?} {sequin:?} {of_jcq:?}");
        rig.advance(Duration::from_secs(61));
        let pulled = ask(&format!("{T}/groups/g/pull"), &json!({"batch_max": 4, "encoding": "text"}));
        for message in pulled.iter().flat_map(|pulled| pulled["messages"].as_array().unwrap()) {
            native.insert(text(&message["body"]));
            ask(&format!("{T}/groups/g/ack"), &json!({"tokens": [message["token"]]}));
        }
        let pulled = ask(&format!("{queue}/messages/pull"), &json!({"batch_size": 4}));
        for message in pulled.iter().flat_map(|pulled| pulled["result"]["messages"].as_array().unwrap()) {
            of_cloudflare.insert(text(&message["id"]));
            ask(&format!("{queue}/messages/ack"), &json!({"acks": [{"lease_id": message["lease_id"]}]}));
        }
        let pulled = ask("/api/streams/t/consumers/reader/receive", &json!({"batch_size": 4}));
        for message in pulled.iter().flat_map(|pulled| pulled["data"].as_array().unwrap()) {
            sequin.insert(text(&message["message"]["data"]));
            ask("/api/streams/t/consumers/reader/ack", &json!({"ack_ids": [message["ack_id"]]}));
        }
        let pulled = rig.get(jcq);
        if pulled.status == 200 {
            let result = &pulled.json()["result"];
            let messages = result["messages"].as_array().unwrap();
            of_jcq.extend(messages.iter().map(|message| text(&message["messageBody"])));
            let ack = json!({"topic": "t", "consumerGroupId": "group-of-jcq", "ackAction": "SUCCESS",
                "ackIndex": result["ackIndex"]});
            ask("/v2/ack", &ack);
        }
    }
    // The same from the history: every group was handed everything, and no ack went for nothing.
    let mut judge = Judge::default();
    chaos.history().iter().for_each(|line| judge.read(line));
    let verdicts = judge.judge(|_, _| true, None);
    assert_eq!(verdicts.len(), 4);
    assert!(verdicts.iter().all(|verdict| (verdict.published, verdict.waiting) == (30, 0)), "{verdicts:?}");
    let dealt = rig.get(&format!("{T}/chaos")).expect(200)["dealt"].clone();
    let dealt = dealt.as_object().unwrap().iter();
    let dealt = dealt.map(|(fault, dealt)| (fault.clone(), dealt["dealt"].as_u64().unwrap())).collect();
    (dealt, verdicts.iter().map(|verdict| verdict.lapsed_by_fault).sum())
}

/// The consumers of all dialects, with every fault of deliveries and acks at once: each message is processed.
#[test]
fn consumers_of_every_dialect_get_every_message_whatever_is_dealt() {
    let (begun, mut all, mut lapsed) = (Instant::now(), BTreeMap::<String, u64>::new(), 0);
    let seeds = counts::rounds("WINDLASS_CHAOS_SEEDS", 2, 300);
    for seed in 0..seeds {
        let (dealt, ended) = consumers_get_everything(seed);
        dealt.into_iter().for_each(|(fault, count)| *all.entry(fault).or_default() += count);
        lapsed += ended;
    }
    for fault in ["duplicate", "lapse", "reorder", "drop_ack", "unavailable", "throttle"] {
        assert!(all.get(fault).is_some_and(|count| *count > 0), "{fault}: {all:?}");
    }
    assert!(lapsed > 0, "the history tells of leases that faults ended");
    let seconds = begun.elapsed().as_secs_f64();
    println!("chaos: 30 messages to 4 dialects, {seeds} seeds from 0, dealt {all:?}, none lost, {seconds:.1} s");
}
