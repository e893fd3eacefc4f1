//! The Sequin dialect over real TCP, the eras under `/api`: streams of messages (B1, B2), pull consumers and
//! sinks (C, D), the key patterns, and one consumer under every path.

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

const CONSUMERS: &str = "/api/streams/s/consumers";
const CONSUMER: &str = "/api/streams/s/consumers/c";
const RECEIVE: &str = "/api/streams/s/consumers/c/receive";
const ACK: &str = "/api/streams/s/consumers/c/ack";
const SINK: &str = "/api/http_pull_consumers/c/receive";
const NOW: &str = "2026-01-01T00:00:00.000000Z";

/// A stream `s` with the consumer `c` of era B.
fn stream(pattern: &str) -> Stream {
    let stream = Stream::bare();
    stream.rig.post(CONSUMERS, &json!({"name": "c", "filter_key_pattern": pattern, "kind": "pull"})).expect(200);
    stream
}

/// Keys of the messages in an answer of era B.
#[track_caller]
fn keys(answer: &Value) -> Vec<String> {
    data(answer).iter().map(|one| one["message"]["key"].as_str().expect("a key").to_owned()).collect()
}

#[test]
fn streams_are_counted_and_limits_are_not_looked_at() {
    let stream = Stream::bare();
    let seen = stream.rig.get("/api/streams/s").expect(200);
    let stats = |messages: u64, consumers: u64, bytes: u64| json!({"message_count": messages, "consumer_count": consumers, "storage_size": bytes});
    let expected = |stats: Value| {
        json!({
            "id": stream.id, "name": "s", "account_id": seen["account_id"], "stats": stats,
            "inserted_at": NOW, "updated_at": NOW,
        })
    };
    assert_eq!(seen, expected(stats(0, 0, 0)));
    assert!(uuid::Uuid::try_parse(seen["account_id"].as_str().expect("an id")).is_ok());
    stream.publish(&[("a", "12345")]);
    stream.rig.post(CONSUMERS, &json!({"name": "c", "filter_key_pattern": ">"})).expect(200);
    let by_id = format!("/api/streams/{}", stream.id);
    assert_eq!(stream.rig.get(&by_id).expect(200), expected(stats(1, 1, 5)));
    assert_eq!(stream.rig.get("/api/streams").expect(200), json!({"data": [expected(stats(1, 1, 5))]}));
    let options = json!({"name": "t", "one_message_per_key": false, "max_storage_gb": 10, "retain_up_to": 1});
    stream.rig.post("/api/streams", &options).expect(200);
    let taken = stream.refused("POST", "/api/streams", &json!({"name": "t"}), 422);
    assert_eq!(taken["validation_errors"], json!({"name": ["has already been taken"]}));
    for bad in [json!({}), json!({"name": ""}), json!({"name": "a b"}), json!({"name": "x".repeat(129)})] {
        stream.refused("POST", "/api/streams", &bad, 422);
    }
    stream.refused("POST", "/api/streams", &json!({"name": 1}), 400);
    assert_eq!(stream.rig.delete(&by_id).expect(200), json!({"id": stream.id, "deleted": true}));
    stream.refused("GET", "/api/streams/s", &json!({}), 404);
}

#[test]
fn pull_consumers_are_made_listed_changed_and_deleted() {
    let stream = Stream::bare();
    let rig = &stream.rig;
    let made = rig.post(CONSUMERS, &json!({"name": "c", "filter_key_pattern": "test.>", "kind": "pull"})).expect(200);
    let expected = json!({
        "id": made["id"], "name": "c", "stream_id": stream.id, "ack_wait_ms": 30_000,
        "filter_key_pattern": "test.>", "kind": "pull", "max_ack_pending": 10_000, "max_deliver": null,
        "max_waiting": 20, "status": "active", "inserted_at": NOW, "updated_at": NOW,
    });
    assert_eq!(made, expected);
    assert_eq!(rig.get(CONSUMERS).expect(200), json!({"data": [expected]}));
    let patch =
        json!({"max_deliver": 3, "status": "disabled", "filter_key_pattern": "*", "name": "c", "stream_id": "x"});
    let changed = rig.ask("PUT", &format!("{CONSUMERS}/c")).json(&patch).send().expect(200);
    assert_eq!((&changed["max_deliver"], &changed["status"]), (&json!(3), &json!("disabled")));
    assert_eq!((&changed["filter_key_pattern"], &changed["ack_wait_ms"]), (&json!("*"), &json!(30_000)));
    for (field, body) in [
        ("filter_key_pattern", json!({"name": "d"})),
        ("filter_key_pattern", json!({"name": "d", "filter_key_pattern": "a..b"})),
        ("kind", json!({"name": "d", "filter_key_pattern": ">", "kind": "push", "http_endpoint_id": "x"})),
        ("name", json!({"name": "c", "filter_key_pattern": ">"})),
        ("name", json!({"filter_key_pattern": ">"})),
    ] {
        let fault = stream.refused("POST", CONSUMERS, &body, 422);
        assert!(fault["validation_errors"][field][0].is_string(), "{field}: {fault}");
    }
    let id = made["id"].as_str().expect("an id");
    assert_eq!(rig.get(&format!("{CONSUMERS}/{id}")).expect(200), changed);
    // The consumer of one stream is none of another.
    rig.post("/api/streams", &json!({"name": "t"})).expect(200);
    let missing = json!({"summary": "Not found: No `consumer` found matching the provided ID or name"});
    assert_eq!(rig.get(&format!("/api/streams/t/consumers/{id}")).expect(404), missing);
    assert_eq!(rig.delete(&format!("{CONSUMERS}/c")).expect(200), json!({"id": id, "deleted": true}));
    assert_eq!(rig.get(RECEIVE).expect(404), missing);
}

#[test]
fn messages_are_published_by_key_and_looked_up() {
    let stream = Stream::bare();
    stream.publish(&[("a.1", "old"), ("b.1", "{\"n\": 1}"), ("a.1", "new"), ("a.2", "ü")]);
    let message = stream.rig.get("/api/streams/s/messages/a.1").expect(200);
    let hash = "EVBwwBB7bgvhEGeBE3H3Xf+EIjEd7Qlhhxa4XDn2PRI=";
    assert_eq!(message["data_hash"].as_str().map(str::len), Some(hash.len()));
    let expected = json!({
        "key": "a.1", "stream_id": stream.id, "data_hash": message["data_hash"], "data": "new", "seq": 3,
        "inserted_at": NOW, "updated_at": NOW,
    });
    assert_eq!(message, expected);
    let listed = |query: &str| {
        let answer = stream.rig.get(&format!("/api/streams/s/messages{query}")).expect(200);
        data(&answer).iter().map(|one| one["data"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(""), ["{\"n\": 1}", "new", "ü"]);
    assert_eq!(listed("?sort=seq_desc"), ["ü", "new", "{\"n\": 1}"]);
    assert_eq!(listed("?sort=seq_desc&limit=1"), ["ü"]);
    assert_eq!(listed("?limit=2&sort=seq_asc"), ["{\"n\": 1}", "new"]);
    assert_eq!(listed("?key_pattern=a.*"), ["new", "ü"]);
    for bad in ["limit=0", "limit=10001", "limit=x", "sort=up", "key_pattern=a..b"] {
        stream.refused("GET", &format!("/api/streams/s/messages?{bad}"), &json!({}), 400);
    }
    stream.refused("GET", "/api/streams/s/messages/none", &json!({}), 404);
    stream.refused("GET", "/api/streams/s/messages/none/consumer_info", &json!({}), 404);
}

#[test]
fn long_lists_are_read_from_both_ends() {
    let stream = Stream::bare();
    let pairs: Vec<(String, String)> = (0..450).map(|n| (format!("k.{n}"), n.to_string())).collect();
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, data)| (key.as_str(), data.as_str())).collect();
    stream.publish(&pairs);
    // Most of the stream is superseded now: what is left lies far apart.
    let again: Vec<(&str, &str)> = pairs[10..].to_vec();
    stream.publish(&again);
    stream.publish(&again);
    let listed = |query: &str| {
        let answer = stream.rig.get(&format!("/api/streams/s/messages?{query}")).expect(200);
        data(&answer).iter().map(|one| one["seq"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    let up: Vec<u64> = (1..=10).chain(891..=1330).collect();
    let down: Vec<u64> = up.iter().rev().copied().collect();
    assert_eq!(listed("limit=10000"), up);
    assert_eq!(listed("limit=10000&sort=seq_desc"), down);
    assert_eq!(listed("limit=445&sort=seq_desc"), down[..445]);
    assert_eq!(listed("limit=5&key_pattern=k.3"), [4]);
    assert_eq!(listed("limit=5&key_pattern=k.3&sort=seq_desc"), [4]);
}

#[test]
fn a_bad_message_refuses_the_whole_publish() {
    let stream = Stream::bare();
    let path = "/api/streams/s/messages";
    let good = json!({"key": "a", "data": "1"});
    for bad in [json!({"key": "a", "data": {"n": 1}}), json!({"key": "a"}), json!({"data": "1"}), json!("x")] {
        let fault = stream.refused("POST", path, &json!({"messages": [good, bad]}), 400);
        assert!(fault["summary"].as_str().expect("a summary").starts_with("Invalid message format"), "{fault}");
    }
    for key in ["", "a..b", "a b", "a.*", "a.>", &["x"; 17].join("."), &"x".repeat(256)] {
        let fault = stream.refused("POST", path, &json!({"messages": [good, {"key": key, "data": "1"}]}), 422);
        assert!(fault["validation_errors"]["key"][0].is_string(), "{fault}");
    }
    for bad in [json!({}), json!({"messages": []}), json!({"messages": {}})] {
        stream.refused("POST", path, &bad, 400);
    }
    let many: Vec<&Value> = std::iter::repeat_n(&good, 10_001).collect();
    stream.refused("POST", path, &json!({"messages": many}), 400);
    let large = json!({"messages": [good, {"key": "b", "data": "x".repeat((4 << 20) + 1)}]});
    stream.refused("POST", path, &large, 413);
    assert_eq!(stream.rig.get(path).expect(200), json!({"data": []}));
}

#[test]
fn receive_answers_ids_and_messages_and_ack_says_success() {
    let stream = stream(">");
    stream.publish(&[("a", "1"), ("b", "{}")]);
    let answer = stream.rig.get(&format!("{RECEIVE}?batch_size=10")).expect(200);
    let first = &answer["data"][0];
    let message = stream.rig.get("/api/streams/s/messages/a").expect(200);
    assert_eq!(*first, json!({"ack_id": first["ack_id"], "message": message}));
    assert_eq!(answer["data"][1]["message"]["data"], "{}", "data is the text that was published");
    assert_eq!(stream.rig.get(RECEIVE).expect(200), json!({"data": []}));
    let ids = tokens(&answer, "ack_id");
    let success = json!({"success": true});
    assert_eq!(stream.rig.post(ACK, &json!({"ack_ids": [ids[0]]})).expect(200), success);
    assert_eq!(stream.rig.post(ACK, &json!({"ack_ids": [ids[0]]})).expect(200), success, "twice");
    let nack = "/api/streams/s/consumers/c/nack";
    assert_eq!(stream.rig.post(nack, &json!({"ack_ids": [ids[1]]})).expect(200), success);
    assert_eq!(keys(&stream.rig.post(RECEIVE, &json!({"batch_size": 10})).expect(200)), ["b"]);
    let told =
        "Invalid ack_ids. Must send a top-level `ack_ids` property that is a non-empty list of valid UUID strings";
    for bad in [json!({}), json!({"ack_ids": []}), json!({"ack_ids": [ids[1], "x"]}), json!({"ack_ids": [1]})] {
        assert_eq!(stream.refused("POST", ACK, &bad, 400), json!({"summary": told}), "{bad}");
    }
    let many = vec![json!("0b4c8b9e-0000-4000-8000-000000000000"); 10_001];
    stream.refused("POST", ACK, &json!({"ack_ids": many}), 400);
}

#[test]
fn a_wait_of_the_later_eras_ends_with_any_message() {
    let stream = stream(">");
    for path in [RECEIVE, SINK, "/api/sequin_streams/c/receive", "/api/streams/s/consumers/c/next"] {
        let request = json!({"max_batch_size": 10, "wait_for": 120_000});
        let waiting = stream.rig.ask("POST", path).json(&request).begin();
        until_waiting(&stream.rig, 1);
        stream.publish(&[("a", path)]);
        let answer = waiting.reply().expect(200);
        assert_eq!(data(&answer).len(), 1, "{path}");
        let id = ["ack_id", "ack_token"].into_iter().find_map(|name| answer["data"][0].get(name)).expect("an id");
        stream.rig.post(ACK, &json!({"ack_ids": [id]})).expect(200);
        let waiting = stream.rig.ask("POST", path).json(&json!({"wait_for": "2s"})).begin();
        until_waiting(&stream.rig, 1);
        stream.rig.advance(Duration::from_secs(2));
        assert_eq!(waiting.reply().expect(200), json!({"data": []}), "{path}");
    }
}

#[test]
fn a_pattern_passes_what_it_does_not_want() {
    let stream = stream("order.*.eu");
    stream.publish(&[("order.1.us", "1"), ("order.2.eu", "2"), ("order", "3"), ("order.4.eu", "4"), ("x", "5")]);
    assert_eq!(keys(&stream.rig.get(RECEIVE).expect(200)), ["order.2.eu"]);
    assert_eq!(keys(&stream.rig.get(&format!("{RECEIVE}?batch_size=10")).expect(200)), ["order.4.eu"]);
    let next = stream.rig.get("/v1/http-consumers/c/next").expect(200);
    assert_eq!(next["info"], json!({"num_pending": 0, "num_ack_pending": 2}), "what was passed is settled");
    // A wait goes on over messages that are not wanted, until its time is up.
    let waiting = stream.rig.ask("GET", &format!("{RECEIVE}?batch_size=5&wait_for=60s")).begin();
    until_waiting(&stream.rig, 1);
    stream.publish(&[("y", "6")]);
    stream.publish(&[("order.7.eu", "7")]);
    assert_eq!(keys(&waiting.reply().expect(200)), ["order.7.eu"]);
    let waiting = stream.rig.ask("GET", &format!("{RECEIVE}?wait_for=60s")).begin();
    until_waiting(&stream.rig, 1);
    stream.rig.advance(Duration::from_secs(60));
    // The leases taken before have lapsed meanwhile.
    assert_eq!(data(&waiting.reply().expect(200)).len(), 1);
    // Era A's rule holds with a pattern, too: until the batch is full of what is wanted.
    stream
        .rig
        .post(
            "/v1/http-consumers",
            &json!({"stream_id": "s", "name": "full", "filter_key_pattern": "f.>",
        "deliver_policy": "new"}),
        )
        .expect(200);
    let waiting = stream.rig.ask("GET", "/v1/http-consumers/full/next?batch_size=2&wait_for=20000").begin();
    until_waiting(&stream.rig, 1);
    stream.publish(&[("f.1", "1"), ("g.1", "2")]);
    until_waiting(&stream.rig, 1);
    stream.publish(&[("f.2", "3")]);
    let answer = waiting.reply().expect(200);
    assert_eq!((data(&answer).len(), &answer["info"]["num_pending"]), (2, &json!(0)));
    // Acked by the pull itself, wanted or not.
    stream.publish(&[("f.3", "1"), ("g.3", "2")]);
    let acked = stream.rig.get("/v1/http-consumers/full/next?batch_size=5&auto_ack=true").expect(200);
    assert_eq!((data(&acked).len(), &acked["data"][0]["ack_token"]), (1, &Value::Null));
    assert_eq!(acked["info"], json!({"num_pending": 0, "num_ack_pending": 2}));
}

#[test]
fn what_was_gathered_for_a_batch_goes_back_when_its_client_hangs_up() {
    use windlass::engine::Engine as _;
    let stream = Stream::bare();
    let request = json!({"stream_id": "s", "name": "c", "filter_key_pattern": "f.>"});
    stream.rig.post("/v1/http-consumers", &request).expect(200);
    let waiting = stream.rig.ask("GET", "/v1/http-consumers/c/next?batch_size=2&wait_for=60000").begin();
    until_waiting(&stream.rig, 1);
    stream.publish(&[("g.1", "1"), ("f.1", "2")]);
    until_waiting(&stream.rig, 1);
    let counts = || stream.rig.engine(stream.rig.engine.status()).topics[0].groups[0].counts;
    assert_eq!((counts().ready, counts().in_flight), (0, 1));
    drop(waiting);
    let begun = std::time::Instant::now();
    while counts().in_flight > 0 {
        assert!(begun.elapsed().as_secs() < 20, "it was not given back");
        std::thread::yield_now();
    }
    let again = stream.rig.get("/v1/http-consumers/c/next").expect(200);
    assert_eq!((&again["data"][0]["key"], &again["data"][0]["deliver_count"]), (&json!("f.1"), &json!(2)));
}

#[test]
fn a_consumer_shows_what_it_has_not_acked() {
    let stream = stream("a.>");
    stream.publish(&[("a.1", "1"), ("a.2", "2"), ("b.1", "3"), ("a.3", "4")]);
    let taken = stream.rig.get(&format!("{RECEIVE}?batch_size=2")).expect(200);
    stream.rig.post(ACK, &json!({"ack_ids": [taken["data"][0]["ack_id"]]})).expect(200);
    let path = format!("{CONSUMERS}/c/messages");
    let answer = stream.rig.get(&path).expect(200);
    let info = json!({
        "ack_id": null, "deliver_count": 1, "last_delivered_at": null, "not_visible_until": null, "state": "delivered",
    });
    assert_eq!((keys(&answer), &answer["data"][0]["info"]), (vec!["a.2".to_owned(), "a.3".to_owned()], &info));
    assert_eq!(keys(&stream.rig.get(&format!("{path}?visible=true")).expect(200)), ["a.3"]);
    assert_eq!(keys(&stream.rig.get(&format!("{path}?visible=false")).expect(200)), ["a.2"]);
    assert_eq!(keys(&stream.rig.get(&format!("{path}?sort=seq_desc&limit=1")).expect(200)), ["a.3"]);
    assert_eq!(keys(&stream.rig.get(&format!("{path}?key_pattern=*.2")).expect(200)), ["a.2"]);
    stream.refused("GET", &format!("{path}?visible=perhaps"), &json!({}), 400);
    let about = stream.rig.get("/api/streams/s/messages/a.2/consumer_info").expect(200)["data"].clone();
    assert_eq!(about["message"]["data"], "2");
    let about = &about["consumer_info"][0];
    assert_eq!(
        (&about["consumer_name"], &about["state"], &about["deliver_count"]),
        (&json!("c"), &json!("delivered"), &json!(1))
    );
    assert_eq!(about["consumer_filter_key_pattern"], "a.>");
    let none = stream.rig.get("/api/streams/s/messages/b.1/consumer_info").expect(200);
    assert_eq!(none["data"]["consumer_info"], json!([]), "its pattern does not want the key");
}

#[test]
fn a_sink_answers_nested_and_flat_at_once() {
    let stream = stream(">");
    let consumer = stream.rig.get(&format!("{CONSUMERS}/c")).expect(200);
    stream.publish(&[("jobs.1", "{\"id\": 1}")]);
    let answer = stream.rig.post(SINK, &json!({"batch_size": "5"})).expect(200);
    let one = &answer["data"][0];
    let key = &one["metadata"]["idempotency_key"];
    assert!(uuid::Uuid::try_parse(key.as_str().expect("a key")).is_ok());
    let change = json!({
        "record": {"id": 1},
        "changes": null,
        "action": "insert",
        "metadata": {
            "table_schema": "public", "table_name": "s", "commit_timestamp": NOW, "commit_lsn": 1, "commit_idx": 0,
            "transaction_annotations": null, "idempotency_key": key, "record_pks": ["jobs.1"],
            "consumer": {"id": consumer["id"], "name": "c"},
        },
    });
    let mut expected = change.clone();
    expected["data"] = change;
    expected["ack_id"] = one["ack_id"].clone();
    assert_eq!(*one, expected);
    let ack = stream.rig.post("/api/sequin_streams/c/ack", &json!({"ack_ids": [one["ack_id"]]}));
    assert_eq!(ack.expect(200), json!({"success": true}));
    assert_eq!(stream.rig.post(SINK, &json!({})).expect(200), json!({"data": []}));
}

#[test]
fn one_consumer_has_all_paths_and_each_path_its_own_words() {
    let stream = stream(">");
    let id = stream.rig.get(&format!("{CONSUMERS}/c")).expect(200)["id"].as_str().expect("an id").to_owned();
    let paths = [
        (format!("/v1/http-consumers/{id}/next"), format!("/v1/http-consumers/{id}/ack"), "ack_token", 204),
        (format!("/api/consumers/{id}/next"), format!("/api/consumers/{id}/ack"), "ack_token", 204),
        (format!("{CONSUMERS}/{id}/next"), ACK.to_owned(), "ack_token", 204),
        (RECEIVE.to_owned(), ACK.to_owned(), "ack_id", 200),
        (SINK.to_owned(), "/api/http_pull_consumers/c/ack".to_owned(), "ack_id", 200),
        (format!("/api/api/sequin_streams/{id}/receive"), format!("/api/api/sequin_streams/{id}/ack"), "ack_id", 200),
    ];
    for (next, ack, word, status) in &paths {
        stream.publish(&[("k", next)]);
        for method in ["GET", "POST"] {
            let answer = stream.rig.ask(method, next).send().expect(200);
            let taken = tokens(&answer, word);
            assert_eq!(taken.len(), 1, "{method} {next}");
            // Given back under another path than it was taken.
            let nack = stream.rig.post("/v1/http-consumers/c/nack", &json!({"ack_ids": taken}));
            assert_eq!(nack.status, 204);
        }
        let taken = tokens(&stream.rig.get(next).expect(200), word);
        let reply = stream.rig.post(ack, &json!({format!("{word}s"): taken}));
        assert_eq!(reply.status, *status, "{ack}: {}", reply.text());
        assert_eq!(data(&stream.rig.get(RECEIVE).expect(200)).len(), 0, "{ack}");
    }
}

#[test]
fn a_consumer_that_is_disabled_answers_an_empty_list() {
    let stream = stream(">");
    stream.publish(&[("a", "1")]);
    stream.rig.patch(&format!("{CONSUMERS}/c"), &json!({"status": "disabled"})).expect(200);
    for path in [RECEIVE, SINK] {
        assert_eq!(stream.rig.get(path).expect(200), json!({"data": []}));
    }
}

#[test]
fn a_wait_that_its_consumer_does_not_outlive_is_told_so() {
    let rig = Rig::start();
    rig.post("/api/streams", &json!({"name": "s"})).expect(200);
    rig.post(CONSUMERS, &json!({"name": "c", "filter_key_pattern": ">"})).expect(200);
    let waiting = rig.ask("GET", &format!("{SINK}?wait_for=60000")).begin();
    until_waiting(&rig, 1);
    rig.delete(&format!("{CONSUMERS}/c")).expect(200);
    waiting.reply().expect(404);
}

#[test]
fn a_list_with_an_id_that_is_none_settles_nothing() {
    let stream = stream(">");
    stream.publish(&[("a", "1")]);
    let taken = stream.rig.get(RECEIVE).expect(200);
    let id = &taken["data"][0]["ack_id"];
    for path in ["/api/consumers/c", CONSUMER, "/api/http_pull_consumers/c", "/api/sequin_streams/c"] {
        for words in ["ack_ids", "ack_tokens"] {
            stream.refused("POST", &format!("{path}/ack"), &json!({words: [id, "none"]}), 400);
        }
    }
    let shown = stream.rig.get(&format!("{CONSUMER}/messages")).expect(200);
    assert_eq!(shown["data"][0]["info"]["state"], "delivered");
}
