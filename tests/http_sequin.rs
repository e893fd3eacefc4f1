//! The Sequin dialect over real TCP, era A: records pulled with `next`, consumers and streams under `/v1`.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "sequin_rig/mod.rs"]
mod sequin_rig;
#[path = "support/http.rs"]
mod support;

use std::time::Duration;

use sequin_rig::{Stream, data, tokens, until_waiting};
use serde_json::{Value, json};
use support::Rig;
use windlass::engine::{CreateTopic, Engine, Publish};
use windlass::model::{AccountName, ContentType, Key, NewMessage, Permissions, TopicName, TopicRef, TopicSettings};

const NEXT: &str = "/v1/http-consumers/c/next";

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// `num_pending` and `num_ack_pending` of an answer.
#[track_caller]
fn info(answer: &Value) -> (u64, u64) {
    let count = |name: &str| answer["info"][name].as_u64().expect("a count");
    assert_eq!(answer["info"].as_object().expect("an object").len(), 2);
    (count("num_pending"), count("num_ack_pending"))
}

/// A stream `s` with the consumer `c` of era A.
fn stream(settings: Value) -> Stream {
    let stream = Stream::bare();
    let mut request = json!({"stream_id": "s", "name": "c"});
    request.as_object_mut().unwrap().extend(settings.as_object().expect("settings").clone());
    stream.rig.post("/v1/http-consumers", &request).expect(200);
    stream
}

fn ack(rig: &Rig, tokens: &Value) {
    let reply = rig.post("/v1/http-consumers/c/ack", &json!({"ack_tokens": tokens}));
    assert_eq!((reply.status, reply.text().as_str()), (204, ""));
}

fn nack(rig: &Rig, tokens: &Value) {
    let reply = rig.post("/v1/http-consumers/c/nack", &json!({"ack_tokens": tokens}));
    assert_eq!((reply.status, reply.text().as_str()), (204, ""));
}

#[test]
fn next_answers_records_with_tokens_and_the_counts_of_that_moment() {
    let stream = stream(json!({}));
    stream.publish(&[("contact.1", r#"{"FirstName": "Paul", "n": 1.0}"#), ("contact.2", "plain"), ("contact.3", "x")]);
    let answer = stream.rig.get(&format!("{NEXT}?batch_size=2")).expect(200);
    assert_eq!(info(&answer), (1, 2));
    let first = &answer["data"][0];
    let record = &first["record"];
    let expected = json!({
        "ack_token": first["ack_token"],
        "record": {
            "id": record["id"],
            "stream_id": stream.id,
            "collection_id": "s",
            "provider": null,
            "upstream_id": "contact.1",
            "data": {"FirstName": "Paul", "n": 1.0},
            "deleted": false,
            "inserted_at": "2026-01-01T00:00:00.000000Z",
            "updated_idx": 1,
        },
        "key": "contact.1",
        "seq": 1,
        "deliver_count": 1,
    });
    assert_eq!(*first, expected);
    assert!(uuid::Uuid::try_parse(first["ack_token"].as_str().expect("a token")).is_ok());
    assert_eq!(answer["data"][1]["record"]["data"], "plain");
    // The default takes one; an empty answer has the same shape.
    let answer = stream.rig.post(NEXT, &json!({})).expect(200);
    assert_eq!((data(&answer).len(), info(&answer)), (1, (0, 3)));
    let answer = stream.rig.post(NEXT, &json!({"batch_size": 10})).expect(200);
    assert_eq!(answer, json!({"data": [], "info": {"num_pending": 0, "num_ack_pending": 3}}));
}

#[test]
fn a_head_takes_nothing() {
    let stream = stream(json!({}));
    stream.publish(&[("a", "1")]);
    let mut bare = stream.rig.connect();
    let head = format!("HEAD {NEXT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    std::io::Write::write_all(&mut bare, head.as_bytes()).expect("a head");
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut bare, &mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert_eq!(stream.rig.get(NEXT).expect(200)["data"][0]["deliver_count"], 1);
}

#[test]
fn acked_records_stay_away_and_nacked_ones_come_back_at_once() {
    let stream = stream(json!({}));
    stream.publish(&[("a", "1"), ("b", "2"), ("c", "3")]);
    let taken = tokens(&stream.rig.post(NEXT, &json!({"batch_size": 3})).expect(200), "ack_token");
    ack(&stream.rig, &json!([taken[0]]));
    nack(&stream.rig, &json!([taken[1]]));
    let answer = stream.rig.post(NEXT, &json!({"batch_size": 3})).expect(200);
    assert_eq!(info(&answer), (0, 2));
    assert_eq!((&answer["data"][0]["key"], &answer["data"][0]["deliver_count"]), (&json!("b"), &json!(2)));
    // Twice, unknown, or nothing at all: no error.
    ack(&stream.rig, &json!([taken[0], "MTYyeJ7abUjl1pO", "0b4c8b9e-0000-4000-8000-000000000000"]));
    ack(&stream.rig, &json!([]));
    assert_eq!(info(&stream.rig.get(NEXT).expect(200)), (0, 2));
    for body in [json!({}), json!({"ack_tokens": null}), json!({"ack_tokens": "x"}), json!({"ack_tokens": [1]})] {
        stream.refused("POST", "/v1/http-consumers/c/ack", &body, 400);
    }
}

#[test]
fn a_late_ack_counts_until_somebody_else_has_the_record() {
    let stream = stream(json!({"ack_wait_ms": 2_000}));
    stream.publish(&[("a", "1"), ("b", "2")]);
    let taken = tokens(&stream.rig.post(NEXT, &json!({"batch_size": 2})).expect(200), "ack_token");
    stream.rig.advance(secs(2));
    ack(&stream.rig, &json!([taken[0]]));
    let again = stream.rig.post(NEXT, &json!({"batch_size": 2})).expect(200);
    assert_eq!((data(&again).len(), info(&again)), (1, (0, 1)));
    assert_eq!(again["data"][0]["key"], "b");
    // The old token: success, and nothing changes.
    ack(&stream.rig, &json!([taken[1]]));
    assert_eq!(info(&stream.rig.get(NEXT).expect(200)), (0, 1));
    ack(&stream.rig, &json!([again["data"][0]["ack_token"]]));
    assert_eq!(info(&stream.rig.get(NEXT).expect(200)), (0, 0));
}

#[test]
fn a_wait_ends_when_the_batch_is_full_and_not_before() {
    let stream = stream(json!({"ack_wait_ms": 600_000}));
    let wait = || stream.rig.ask("GET", &format!("{NEXT}?batch_size=2&wait_for=30000")).begin();
    let waiting = wait();
    until_waiting(&stream.rig, 1);
    stream.publish(&[("a", "1")]);
    assert_eq!(stream.waiting(), 1, "one message is no batch of two");
    stream.publish(&[("b", "2")]);
    let answer = waiting.reply().expect(200);
    assert_eq!((data(&answer).len(), info(&answer)), (2, (0, 2)));
    // Time is up: with what there is.
    let waiting = wait();
    until_waiting(&stream.rig, 1);
    stream.publish(&[("c", "3")]);
    stream.rig.advance(Duration::from_millis(29_999));
    assert_eq!(stream.waiting(), 1);
    stream.rig.advance(Duration::from_millis(1));
    assert_eq!(data(&waiting.reply().expect(200)).len(), 1);
    // Zero is legal, and a client that hangs up is forgotten.
    assert_eq!(data(&stream.rig.get(&format!("{NEXT}?wait_for=0")).expect(200)).len(), 0);
    let gone = wait();
    until_waiting(&stream.rig, 1);
    drop(gone);
    until_waiting(&stream.rig, 0);
}

#[test]
fn a_stream_renamed_during_a_wait_loses_nothing() {
    let stream = stream(json!({}));
    let waiting = stream.rig.ask("GET", &format!("{NEXT}?wait_for=20000&auto_ack=true")).begin();
    until_waiting(&stream.rig, 1);
    let queue = format!("/client/v4/accounts/any/queues/{}", stream.id.replace('-', ""));
    stream.rig.patch(&queue, &json!({"queue_name": "renamed"})).expect(200);
    let messages = json!({"messages": [{"key": "k", "data": "v"}]});
    stream.rig.post("/api/streams/renamed/messages", &messages).expect(200);
    let answer = waiting.reply().expect(200);
    assert_eq!((&answer["data"][0]["record"]["data"], info(&answer)), (&json!("v"), (0, 0)));
}

#[test]
fn a_nack_and_a_lapse_wake_a_wait() {
    let stream = stream(json!({"ack_wait_ms": 5_000}));
    stream.publish(&[("a", "1")]);
    let taken = stream.rig.get(NEXT).expect(200);
    let waiting = stream.rig.ask("GET", &format!("{NEXT}?wait_for=20s")).begin();
    until_waiting(&stream.rig, 1);
    nack(&stream.rig, &json!([taken["data"][0]["ack_token"]]));
    assert_eq!(data(&waiting.reply().expect(200)).len(), 1);
    let waiting = stream.rig.ask("POST", NEXT).json(&json!({"wait_for": "1m"})).begin();
    until_waiting(&stream.rig, 1);
    stream.rig.advance(secs(5));
    assert_eq!(waiting.reply().expect(200)["data"][0]["deliver_count"], 3);
}

#[test]
fn a_stream_keeps_the_latest_message_of_a_key_and_one_of_a_key_in_flight() {
    let stream = stream(json!({}));
    stream.publish(&[("a", "old"), ("b", "1"), ("a", "new")]);
    let answer = stream.rig.post(NEXT, &json!({"batch_size": 10})).expect(200);
    let seen: Vec<_> = data(&answer).iter().map(|one| one["record"]["data"].clone()).collect();
    assert_eq!((seen, info(&answer)), (vec![json!("1"), json!("new")], (0, 2)));
    let id = answer["data"][1]["record"]["id"].clone();
    // A newer version waits for the ack of the one in flight, and an ack wakes who waits for it.
    stream.publish(&[("a", "newer")]);
    let waiting = stream.rig.ask("GET", &format!("{NEXT}?wait_for=60000")).begin();
    until_waiting(&stream.rig, 1);
    ack(&stream.rig, &json!([answer["data"][1]["ack_token"]]));
    let newer = waiting.reply().expect(200);
    assert_eq!(newer["data"][0]["record"]["data"], "newer");
    assert_eq!(newer["data"][0]["record"]["id"], id, "all versions of a key are one record");
    assert_ne!(newer["data"][0]["ack_token"], answer["data"][1]["ack_token"]);
    // A consumer that comes later gets the latest of everything, acked by others or not.
    stream.rig.post("/v1/http-consumers", &json!({"stream_id": "s", "name": "late"})).expect(200);
    let late = stream.rig.get("/v1/http-consumers/late/next?batch_size=10").expect(200);
    let seen: Vec<_> = data(&late).iter().map(|one| one["record"]["data"].clone()).collect();
    assert_eq!(seen, [json!("1"), json!("newer")]);
}

#[test]
fn what_waits_for_its_key_or_for_the_cap_is_pending() {
    let stream = stream(json!({"max_ack_pending": 2}));
    stream.publish(&[("a", "1")]);
    let taken = stream.rig.get(NEXT).expect(200);
    stream.publish(&[("a", "2")]);
    let answer = stream.rig.get(NEXT).expect(200);
    assert_eq!((data(&answer).len(), info(&answer)), (0, (1, 1)), "its key is in flight");
    stream.publish(&[("b", "1"), ("c", "1")]);
    let answer = stream.rig.get(&format!("{NEXT}?batch_size=9")).expect(200);
    assert_eq!((data(&answer).len(), info(&answer)), (1, (2, 2)), "the cap is reached");
    // What waits for its time does not count.
    nack_later(&stream.rig, &json!([taken["data"][0]["ack_token"]]));
    let answer = stream.rig.get(&format!("{NEXT}?batch_size=9")).expect(200);
    assert_eq!((data(&answer).len(), info(&answer)), (1, (1, 2)));
}

fn nack_later(rig: &Rig, tokens: &Value) {
    rig.post("/v1/http-consumers/c/nack", &json!({"ack_tokens": tokens, "delay_ms": 1_000})).expect(204);
}

#[test]
fn caps_of_deliveries_and_of_records_in_flight_hold() {
    let stream = stream(json!({"max_ack_pending": 2, "max_deliver": 2}));
    stream.publish(&[("a", "1"), ("b", "2"), ("c", "3")]);
    let answer = stream.rig.post(NEXT, &json!({"batch_size": 10})).expect(200);
    assert_eq!((data(&answer).len(), info(&answer)), (2, (1, 2)));
    assert_eq!(data(&stream.rig.get(NEXT).expect(200)).len(), 0, "the cap holds");
    nack(&stream.rig, &json!([answer["data"][0]["ack_token"]]));
    let again = stream.rig.get(NEXT).expect(200);
    assert_eq!((&again["data"][0]["key"], info(&again)), (&json!("a"), (1, 2)), "redelivery goes on at the cap");
    // The second delivery was the last: the record is given up, and there is room for the next.
    nack(&stream.rig, &json!([again["data"][0]["ack_token"]]));
    let next = stream.rig.post(NEXT, &json!({"batch_size": 10})).expect(200);
    assert_eq!((&next["data"][0]["key"], info(&next)), (&json!("c"), (0, 2)));
}

#[test]
fn deliver_policies_begin_where_they_say() {
    let stream = Stream::bare();
    stream.publish(&[("a", "1")]);
    stream.rig.advance(secs(7_200));
    stream.publish(&[("b", "2"), ("c", "3")]);
    let cases: [(&str, &[&str]); 7] = [
        ("all", &["a", "b", "c"]),
        ("new", &[]),
        ("last", &["c"]),
        ("1h", &["b", "c"]),
        ("3h", &["a", "b", "c"]),
        ("seq:2", &["b", "c"]),
        ("time_ms:99999999999999", &[]),
    ];
    for (place, (policy, keys)) in cases.into_iter().enumerate() {
        let name = format!("c{place}");
        let request = json!({"stream_id": stream.id, "name": name, "deliver_policy": policy});
        let made = stream.rig.post("/v1/http-consumers", &request).expect(200);
        assert_eq!(made["deliver_policy"], policy);
        let answer = stream.rig.get(&format!("/v1/http-consumers/{name}/next?batch_size=10")).expect(200);
        let seen: Vec<_> = data(&answer).iter().map(|one| one["key"].as_str().expect("a key").to_owned()).collect();
        assert_eq!(seen, keys, "{policy}");
    }
    stream.publish(&[("d", "4")]);
    let answer = stream.rig.get("/v1/http-consumers/c1/next?batch_size=10").expect(200);
    assert_eq!(answer["data"][0]["key"], "d");
}

#[test]
fn consumers_are_made_listed_changed_and_deleted() {
    let stream = Stream::bare();
    let rig = &stream.rig;
    let request = json!({"stream_id": "s", "name": "c", "metadata": {"team": "a", "n": 1}});
    let made = rig.post("/v1/http-consumers", &request).expect(200);
    let id = made["id"].as_str().expect("an id").to_owned();
    let expected = json!({
        "id": id, "name": "c", "stream_id": stream.id, "deliver_policy": "all", "ack_wait_ms": 30_000,
        "max_deliver": -1, "max_ack_pending": 1_000, "max_waiting": 10_000, "status": "active",
        "metadata": {"team": "a", "n": 1},
        "created_at": "2026-01-01 00:00:00", "updated_at": "2026-01-01 00:00:00",
    });
    assert_eq!(made, expected);
    for by in [id.as_str(), "c", &id.replace('-', "").to_uppercase()] {
        assert_eq!(rig.get(&format!("/v1/http-consumers/{by}")).expect(200), expected, "{by}");
    }
    rig.post("/v1/http-consumers", &json!({"stream_id": "s", "name": "d"})).expect(200);
    let names = |path: &str, body: &Value| {
        let listed = rig.ask("GET", path).json(body).send().expect(200);
        data(&listed).iter().map(|one| one["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("/v1/http-consumers", &json!({})), ["c", "d"]);
    // A public client names the stream in the body of its GET.
    assert_eq!(names("/v1/http-consumers", &json!({"stream_id": stream.id})), ["c", "d"]);
    assert_eq!(names("/v1/http-consumers?metadata=%7B%22team%22%3A%22a%22%7D", &json!({})), ["c"]);
    stream.refused("GET", "/v1/http-consumers?stream_id=none", &json!({}), 404);
    stream.refused("GET", "/v1/http-consumers?metadata=1", &json!({}), 400);

    rig.advance(secs(61));
    let patch = json!({"ack_wait_ms": "1000", "max_deliver": 5, "max_ack_pending": 7.0, "status": "paused"});
    let changed = rig.patch("/v1/http-consumers/c", &patch).expect(200);
    assert_eq!(
        (&changed["ack_wait_ms"], &changed["max_deliver"], &changed["max_ack_pending"], &changed["status"]),
        (&json!(1_000), &json!(5), &json!(7), &json!("paused"))
    );
    assert_eq!((&changed["metadata"]["team"], &changed["updated_at"]), (&json!("a"), &json!("2026-01-01 00:01:01")));
    let unlimited = rig.ask("PUT", "/v1/http-consumers/c").json(&json!({"max_deliver": -1})).send().expect(200);
    assert_eq!(unlimited["max_deliver"], -1);
    assert_eq!(rig.delete("/v1/http-consumers/c").expect(200), json!({"id": id, "deleted": true}));
    stream.refused("GET", &format!("/v1/http-consumers/{id}"), &json!({}), 404);
}

#[test]
fn wrong_settings_are_told_by_field_and_nothing_is_made() {
    let stream = Stream::bare();
    let good = json!({"stream_id": "s", "name": "c"});
    let with = |name: &str, value: Value| {
        let mut request = good.clone();
        request[name] = value;
        request
    };
    for (field, request) in [
        ("stream_id", json!({"name": "c"})),
        ("stream_id", with("stream_id", json!("none"))),
        ("name", json!({"stream_id": "s"})),
        ("name", with("name", json!(""))),
        ("name", with("name", json!("a/b"))),
        ("deliver_policy", with("deliver_policy", json!("first"))),
        ("ack_wait_ms", with("ack_wait_ms", json!(0))),
        ("ack_wait_ms", with("ack_wait_ms", json!(43_200_001))),
        ("ack_wait_ms", with("ack_wait_ms", json!("soon"))),
        ("max_deliver", with("max_deliver", json!(0))),
        ("max_deliver", with("max_deliver", json!(-2))),
        ("max_ack_pending", with("max_ack_pending", json!(0))),
        ("max_ack_pending", with("max_ack_pending", json!(-1))),
        ("max_waiting", with("max_waiting", json!(100_001))),
        ("status", with("status", json!("idle"))),
        ("kind", with("kind", json!("push"))),
        ("filter_key_pattern", with("filter_key_pattern", json!("a.>.b"))),
        ("metadata", with("metadata", json!({"x": "y".repeat(20_000)}))),
    ] {
        let fault = stream.refused("POST", "/v1/http-consumers", &request, 422);
        assert_eq!(fault["summary"], "Validation failed");
        assert!(fault["validation_errors"][field][0].is_string(), "{field}: {fault}");
    }
    stream.refused("POST", "/v1/http-consumers", &with("metadata", json!("x")), 400);
    assert_eq!(stream.rig.get("/v1/http-consumers").expect(200), json!({"data": []}));
    stream.rig.post("/v1/http-consumers", &good).expect(200);
    let taken = stream.refused("POST", "/v1/http-consumers", &good, 422);
    assert_eq!(taken["validation_errors"], json!({"name": ["has already been taken"]}));
    for fixed in [json!({"name": "other"}), json!({"deliver_policy": "new"}), json!({"max_deliver": 0})] {
        stream.refused("PATCH", "/v1/http-consumers/c", &fixed, 422);
    }
}

#[test]
fn streams_are_made_listed_and_deleted() {
    let rig = Rig::start();
    let made = rig.post("/v1/streams", &json!({"name": "s"})).expect(200);
    let times = "2026-01-01 00:00:00";
    assert_eq!(made, json!({"id": made["id"], "name": "s", "created_at": times, "updated_at": times}));
    assert_eq!(rig.get("/v1/streams").expect(200), json!({"data": [made]}));
    let id = made["id"].as_str().expect("an id");
    assert_eq!(rig.get(&format!("/v1/streams/{id}")).expect(200), made);
    assert_eq!(rig.delete("/v1/streams/s").expect(200), json!({"id": id, "deleted": true}));
    let gone = rig.get(&format!("/v1/streams/{id}")).expect(404);
    assert_eq!(gone, json!({"summary": "Not found: No `stream` found matching the provided ID or name"}));
}

#[test]
fn parameters_out_of_bounds_are_refused_and_nothing_is_taken() {
    let stream = stream(json!({}));
    stream.publish(&[("a", "1")]);
    for bad in ["batch_size=0", "batch_size=1001", "batch_size=-1", "batch_size=x", "batch_size=1.5", "wait_for=-1"] {
        stream.refused("GET", &format!("{NEXT}?{bad}"), &json!({}), 400);
    }
    for bad in ["wait_for=300001", "wait_for=6m", "wait_for=x", "auto_ack=yes"] {
        stream.refused("GET", &format!("{NEXT}?{bad}"), &json!({}), 400);
    }
    for bad in [json!({"batch_size": true}), json!({"batch_size": 1.5}), json!({"wait_for": []}), json!([1])] {
        stream.refused("POST", NEXT, &bad, 400);
    }
    let fault = stream.rig.ask("POST", NEXT).body("{").send().expect(400);
    assert!(fault["summary"].as_str().expect("a summary").contains("not JSON"), "{fault}");
    let delay = json!({"ack_tokens": [], "delay_ms": 1_209_600_001_u64});
    stream.refused("POST", "/v1/http-consumers/c/nack", &delay, 400);
    let answer = stream.rig.get(&format!("{NEXT}?batch_size=1000&wait_for=0s&auto_ack=false")).expect(200);
    assert_eq!(data(&answer).len(), 1, "numbers may be texts, and the bounds belong to them");
}

#[test]
fn a_nack_may_wait_and_a_pull_may_ack_by_itself() {
    let stream = stream(json!({}));
    stream.publish(&[("a", "1"), ("b", "2")]);
    let taken = stream.rig.get(NEXT).expect(200);
    let delayed = json!({"ack_tokens": tokens(&taken, "ack_token"), "delay_ms": 10_000});
    assert_eq!(stream.rig.post("/v1/http-consumers/c/nack", &delayed).status, 204);
    let acked = stream.rig.get(&format!("{NEXT}?auto_ack=true")).expect(200);
    assert_eq!((&acked["data"][0]["key"], &acked["data"][0]["ack_token"]), (&json!("b"), &Value::Null));
    assert_eq!(info(&acked), (0, 0));
    stream.rig.advance(Duration::from_millis(9_999));
    assert_eq!(data(&stream.rig.get(NEXT).expect(200)).len(), 0);
    stream.rig.advance(Duration::from_millis(1));
    assert_eq!(stream.rig.post(NEXT, &json!({"auto_ack": true})).expect(200)["data"][0]["key"], "a");
    stream.rig.advance(secs(3_600));
    assert_eq!(info(&stream.rig.get(NEXT).expect(200)), (0, 0));
}

#[test]
fn a_consumer_is_rewound_and_a_dry_run_says_so_before() {
    let stream = stream(json!({}));
    stream.publish(&[("a", "1"), ("b", "2"), ("c", "3")]);
    let taken = stream.rig.get(&format!("{NEXT}?batch_size=2")).expect(200);
    ack(&stream.rig, &json!([taken["data"][0]["ack_token"]]));
    let rewind = |body: Value| stream.rig.post("/v1/http-consumers/c/rewind", &body).expect(200);
    let report = |dry_run| json!({"from_seq": 3, "to_seq": 1, "num_dropped": 1, "num_pending": 3, "dry_run": dry_run});
    assert_eq!(rewind(json!({"to": "all", "dry_run": true})), report(true));
    assert_eq!(info(&stream.rig.get(&format!("{NEXT}?batch_size=1")).expect(200)), (0, 2));
    assert_eq!(rewind(json!({"to": "seq:1"}))["to_seq"], 1);
    assert_eq!(info(&stream.rig.get(&format!("{NEXT}?batch_size=3")).expect(200)), (0, 3));
    rewind(json!({"to": "new"}));
    assert_eq!(info(&stream.rig.get(NEXT).expect(200)), (0, 0));
    rewind(json!({"to": "last"}));
    assert_eq!(stream.rig.get(NEXT).expect(200)["data"][0]["key"], "c");
    stream.refused("POST", "/v1/http-consumers/c/rewind", &json!({}), 422);
    stream.refused("POST", "/v1/http-consumers/c/rewind", &json!({"to": "x"}), 422);
}

#[test]
fn a_paused_consumer_gives_nothing_and_goes_on_where_it_was() {
    let stream = stream(json!({}));
    stream.publish(&[("a", "1")]);
    let waiting = stream.rig.ask("GET", &format!("{NEXT}?batch_size=2&wait_for=60000")).begin();
    until_waiting(&stream.rig, 1);
    stream.rig.patch("/v1/http-consumers/c", &json!({"status": "paused"})).expect(200);
    let empty = json!({"data": [], "info": {"num_pending": 1, "num_ack_pending": 0}});
    assert_eq!(waiting.reply().expect(200), empty, "a wait is not left hanging");
    assert_eq!(stream.rig.get(NEXT).expect(200), empty);
    stream.rig.patch("/v1/http-consumers/c", &json!({"status": "active"})).expect(200);
    assert_eq!(data(&stream.rig.get(NEXT).expect(200)).len(), 1);
}

#[test]
fn more_waits_than_a_consumer_or_a_token_may_have_are_told_so() {
    let stream = stream(json!({"max_waiting": 1}));
    let wait = format!("{NEXT}?wait_for=60000");
    let first = stream.rig.ask("GET", &wait).begin();
    until_waiting(&stream.rig, 1);
    let reply = stream.rig.get(&wait);
    assert_eq!(reply.header("retry-after"), Some("1"));
    let summary = reply.expect(429)["summary"].as_str().expect("a summary").to_owned();
    assert!(summary.contains("max_waiting"), "{summary}");
    assert_eq!(stream.rig.get(NEXT).status, 200, "who does not wait is served");
    drop(first);
    until_waiting(&stream.rig, 0);
    let rig = Rig::start_with(|config| config.http.waiting_per_token_max = 0);
    rig.post("/v1/streams", &json!({"name": "s"})).expect(200);
    rig.post("/v1/http-consumers", &json!({"stream_id": "s", "name": "c"})).expect(200);
    rig.get(&wait).expect(429);
}

#[test]
fn messages_of_other_makers_are_records_too() {
    let rig = Rig::start();
    let (account, name) = (AccountName::standard(), TopicName::parse("t").unwrap());
    let settings = TopicSettings::default();
    rig.engine(rig.engine.create_topic(CreateTopic { account: account.clone(), name: name.clone(), settings }))
        .unwrap();
    let properties = [("collection_id", "stripe:invoice"), ("provider", "stripe"), ("deleted", "true")];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
    let of_action = |action: &str| {
        let properties = [("action".to_owned(), action.to_owned())].into();
        NewMessage { body: "{}".into(), properties, ..NewMessage::default() }
    };
    let messages = vec![
        NewMessage {
            body: "12".into(),
            content_type: ContentType::parse("application/json").ok(),
            key: Key::parse("in_1").ok(),
            properties,
            ..NewMessage::default()
        },
        NewMessage { body: vec![0xff, 0].into(), ..NewMessage::default() },
        of_action("update"),
        of_action("read"),
        of_action("anything"),
    ];
    let published = rig.engine(rig.engine.publish(Publish { account, topic: TopicRef::Name(name), messages })).unwrap();
    rig.post("/v1/http-consumers", &json!({"stream_id": "t", "name": "c"})).expect(200);
    let answer = rig.get(&format!("{NEXT}?batch_size=2")).expect(200);
    let record = &answer["data"][0]["record"];
    assert_eq!(
        (&record["data"], &record["deleted"], &record["provider"]),
        (&json!(12), &json!(true), &json!("stripe"))
    );
    assert_eq!((&record["collection_id"], &record["upstream_id"]), (&json!("stripe:invoice"), &json!("in_1")));
    let binary = &answer["data"][1]["record"];
    assert_eq!((&binary["data"], &binary["data_encoding"]), (&json!("/wA="), &json!("base64")));
    assert_eq!((&binary["id"], &binary["upstream_id"]), (&json!(published[1].id.to_string()), &Value::Null));
    // As changes of rows, they say what was done.
    rig.post("/v1/http-consumers", &json!({"stream_id": "t", "name": "sink"})).expect(200);
    let answer = rig.get("/api/sequin_streams/sink/receive?batch_size=5").expect(200);
    let actions: Vec<Value> = data(&answer).iter().map(|one| one["data"]["action"].clone()).collect();
    assert_eq!(actions, ["delete", "insert", "update", "read", "insert"]);
}

#[test]
fn one_name_in_two_streams_names_no_consumer() {
    let stream = stream(json!({}));
    stream.rig.post("/v1/streams", &json!({"name": "other"})).expect(200);
    let other = stream.rig.post("/v1/http-consumers", &json!({"stream_id": "other", "name": "c"})).expect(200);
    let fault = stream.refused("GET", NEXT, &json!({}), 400);
    assert!(fault["summary"].as_str().expect("a summary").contains("use the id"));
    stream.rig.get(&format!("/v1/http-consumers/{}/next", other["id"].as_str().expect("an id"))).expect(200);
    // A token that reaches only one of them means that one.
    let token = stream.rig.token("default", Permissions::ALL, "other");
    let seen = stream.rig.ask("GET", "/v1/http-consumers/c").token(&token).send().expect(200);
    assert_eq!(seen["id"], other["id"]);
}

#[test]
fn accounts_do_not_see_each_other() {
    let rig = Rig::start();
    let [own, other] = ["own", "other"].map(|account| rig.token(account, Permissions::ALL, "*"));
    let ask = |method: &str, path: &str, token: &str| rig.ask(method, path).token(token);
    ask("POST", "/v1/streams", &own).json(&json!({"name": "s"})).send().expect(200);
    let made = ask("POST", "/v1/http-consumers", &own).json(&json!({"stream_id": "s", "name": "c"})).send().expect(200);
    ask("POST", "/api/streams/s/messages", &own)
        .json(&json!({"messages": [{"key": "a", "data": "1"}]}))
        .send()
        .expect(200);
    let id = made["id"].as_str().expect("an id");
    let missing = json!({"summary": "Not found: No `consumer` found matching the provided ID or name"});
    for by in ["c", id] {
        let path = format!("/v1/http-consumers/{by}/next");
        assert_eq!(ask("GET", &path, &other).send().expect(404), missing);
        assert_eq!(rig.get(&path).status, 401);
    }
    assert_eq!(ask("GET", "/v1/http-consumers", &other).send().expect(200), json!({"data": []}));
    // A token of the own account's lease means nothing to a consumer of the same name elsewhere.
    let taken = tokens(&ask("GET", NEXT, &own).send().expect(200), "ack_token");
    ask("POST", "/v1/streams", &other).json(&json!({"name": "s"})).send().expect(200);
    ask("POST", "/v1/http-consumers", &other).json(&json!({"stream_id": "s", "name": "c"})).send().expect(200);
    let reply = ask("POST", "/v1/http-consumers/c/ack", &other).json(&json!({"ack_tokens": taken})).send();
    assert_eq!(reply.status, 204);
    assert_eq!(info(&ask("GET", NEXT, &own).send().expect(200)), (0, 1));
}
