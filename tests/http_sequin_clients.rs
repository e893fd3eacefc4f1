//! The call sequences of public Sequin clients, replayed exactly over real HTTP: paths, headers and bodies as
//! they send them, answers read as they read them. (`sequin-py` runs itself, in `clients_sequin.rs`.)

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "sequin_rig/mod.rs"]
mod sequin_rig;
#[path = "support/http.rs"]
mod support;

use std::time::Duration;

use sequin_rig::{Stream, data, until_waiting};
use serde_json::{Value, json};
use support::{Ask, Reply, Rig};
use windlass::model::Permissions;

/// A stream `s` with the consumer `c`.
fn stream() -> Stream {
    let stream = Stream::bare();
    stream.rig.post("/api/streams/s/consumers", &json!({"name": "c", "filter_key_pattern": ">"})).expect(200);
    stream
}

/// The two public programs that copy records of Airtable to Postgres: `next`, work, ack unless there was nothing,
/// a pause unless more is pending.
#[test]
fn the_era_a_loops_drain_a_stream() {
    let rig = Rig::start();
    let token = rig.token("default", Permissions::ALL, "*");
    let ask = |method: &str, path: &str| rig.ask(method, path).token(&token);
    ask("POST", "/v1/streams").json(&json!({"name": "s"})).send().expect(200);
    let made = ask("POST", "/v1/http-consumers").json(&json!({"stream_id": "s", "name": "c"})).send().expect(200);
    let messages: Vec<Value> =
        (0..45).map(|n| json!({"key": format!("rec{n}"), "data": json!({"fields": {"n": n}}).to_string()})).collect();
    ask("POST", "/api/streams/s/messages").json(&json!({"messages": messages})).send().expect(200);
    let consumer = format!("/v1/http-consumers/{}", made["id"].as_str().expect("an id"));
    let (mut seen, mut pauses) = (Vec::new(), 0);
    for _ in 0..4 {
        // raise_for_status() on both.
        let answer = ask("GET", &format!("{consumer}/next?batch_size=20")).send().expect(200);
        let mut ack_tokens = Vec::new();
        for message in data(&answer) {
            let record = &message["record"];
            assert!(record["collection_id"].is_string() && record["updated_idx"].is_u64());
            seen.push((
                record["upstream_id"].as_str().expect("an id").to_owned(),
                record["data"]["fields"]["n"].as_u64(),
            ));
            ack_tokens.push(message["ack_token"].clone());
        }
        if !ack_tokens.is_empty() {
            let reply = ask("POST", &format!("{consumer}/ack")).json(&json!({"ack_tokens": ack_tokens})).send();
            assert_eq!(reply.status, 204);
        }
        pauses += u64::from(answer["info"]["num_pending"].as_u64().expect("a number") == 0);
    }
    let expected: Vec<_> = (0..45).map(|n| (format!("rec{n}"), Some(n))).collect();
    assert_eq!((seen, pauses), (expected, 2));
}

/// Reads an answer as sequin-js does: a 204 is fine, errors have a `summary`, `data` is unwrapped.
fn js(reply: &Reply) -> Result<Value, String> {
    if !(200..300).contains(&reply.status) {
        return Err(reply.json()["summary"].as_str().expect("a summary").to_owned());
    }
    if reply.status == 204 {
        return Ok(Value::Null);
    }
    let answer = reply.json();
    Ok(answer.get("data").cloned().unwrap_or(answer))
}

#[test]
fn sequin_js_manages_and_consumes() {
    let rig = Rig::start();
    let call = |method: &str, path: &str, body: Option<Value>| {
        let ask = rig.ask(method, path).header("content-type", "application/json");
        js(&body.map_or_else(|| ask.clone(), |body| ask.clone().body(body.to_string())).send())
    };
    let made = call("POST", "/api/streams", Some(json!({"name": "s"}))).expect("a stream");
    assert!(made["id"].is_string());
    let request = json!({"name": "c", "filter_key_pattern": "test.>", "kind": "pull"});
    call("POST", "/api/streams/s/consumers", Some(request)).expect("a consumer");
    let sent = json!({"messages": [{"key": "test.1", "data": "Hello, Sequin!"}]});
    assert_eq!(call("POST", "/api/streams/s/messages", Some(sent)), Ok(json!({"published": 1})));
    let messages = call("GET", "/api/streams/s/consumers/c/receive?batch_size=10", None).expect("messages");
    assert_eq!(messages[0]["message"]["data"], "Hello, Sequin!");
    let ids = json!({"ack_ids": [messages[0]["ack_id"]]});
    assert_eq!(call("POST", "/api/streams/s/consumers/c/nack", Some(ids.clone())), Ok(json!({"success": true})));
    call("GET", "/api/streams/s/consumers/c/receive?batch_size=10", None).expect("messages");
    let missing = call("DELETE", "/api/streams/s/consumers/d", None);
    assert_eq!(missing, Err("Not found: No `consumer` found matching the provided ID or name".to_owned()));
    assert_eq!(call("DELETE", "/api/streams/s/consumers/c", None).expect("gone")["deleted"], true);
    assert_eq!(call("DELETE", "/api/streams/s", None).expect("gone")["deleted"], true);
}

#[test]
fn the_elixir_client_receives_by_post() {
    let stream = stream();
    stream.publish(&[("a.1", "1")]);
    let post = |path: &str, body: Value| stream.rig.post(&format!("/api/streams/s/consumers/c/{path}"), &body);
    let answer = post("receive", json!({"batch_size": 10})).expect(200);
    let one = &answer["data"][0];
    assert!(one["ack_id"].is_string() && one["message"]["seq"].is_u64());
    assert!([200, 204].contains(&post("ack", json!({"ack_ids": [one["ack_id"]]})).status));
    assert_eq!(post("receive", json!({"batch_size": 10})).expect(200), json!({"data": []}));
}

/// The first sequin-go, and the command line made with it: an empty bearer, a `stream_id` in the body, PUT.
#[test]
fn the_first_go_client_and_command_line_work_with_an_empty_bearer() {
    let rig = Rig::start();
    let ask = |method: &str, path: &str, body: Value| {
        let ask = rig.ask(method, path).header("authorization", "Bearer ").header("content-type", "application/json");
        if body.is_null() { ask.send() } else { ask.body(body.to_string()).send() }
    };
    let stream = ask("POST", "/api/streams", json!({"name": "s"})).expect(200);
    assert!(stream["stats"]["message_count"].is_u64());
    let id = stream["id"].as_str().expect("an id");
    let create = json!({
        "stream_id": id, "name": "c", "ack_wait_ms": 30_000, "max_ack_pending": 10_000, "filter_key_pattern": ">",
        "kind": "pull",
    });
    let consumer = ask("POST", &format!("/api/streams/{id}/consumers"), create).expect(200);
    let path = format!("/api/streams/{id}/consumers/{}", consumer["id"].as_str().expect("an id"));
    let edited = ask("PUT", &path, json!({"name": "c", "ack_wait_ms": 60_000})).expect(200);
    assert_eq!(edited["ack_wait_ms"], 60_000);
    ask("POST", &format!("/api/streams/{id}/messages"), json!({"messages": [{"key": "a", "data": "1"}]})).expect(200);
    let seen = ask("GET", &format!("{path}/messages?limit=10&sort=seq_desc&visible=true"), Value::Null).expect(200);
    assert_eq!(seen["data"][0]["info"]["state"], "available");
    let received = ask("GET", &format!("{path}/receive?batch_size=1"), Value::Null).expect(200);
    assert_eq!(received["data"][0]["message"]["key"], "a");
    let seen = ask("GET", &format!("{path}/messages?visible=false"), Value::Null).expect(200);
    assert_eq!(data(&seen).len(), 1);
    assert_eq!(ask("DELETE", &path, Value::Null).expect(200)["deleted"], true);
}

/// sequin-go since November 2024: its base address ends in `/api`, its parameters may be nil.
#[test]
fn the_current_go_client_sends_no_body_and_says_api_twice() {
    let stream = stream();
    stream.publish(&[("a", "{\"id\": 7}"), ("b", "{\"id\": 8}")]);
    let base = "/api/api/http_pull_consumers/c";
    let empty = stream.rig.ask("POST", &format!("{base}/receive")).header("content-type", "application/json").send();
    let answer = empty.expect(200);
    assert_eq!(data(&answer).len(), 1, "one is the default");
    assert_eq!(answer["data"][0]["data"]["record"], json!({"id": 7}));
    let ids = json!({"ack_ids": [answer["data"][0]["ack_id"]]});
    assert_eq!(stream.rig.post(&format!("{base}/ack"), &ids).expect(200), json!({"success": true}));
    // Its processor waits two minutes at a time.
    let request = json!({"max_batch_size": 10, "wait_for": 120_000});
    assert_eq!(data(&stream.rig.post(&format!("{base}/receive"), &request).expect(200)).len(), 1);
    let waiting = stream.rig.ask("POST", &format!("{base}/receive")).json(&request).begin();
    until_waiting(&stream.rig, 1);
    stream.rig.advance(Duration::from_secs(120));
    // The lease of thirty seconds has lapsed in that time.
    assert_eq!(data(&waiting.reply().expect(200)).len(), 1);
}

#[test]
fn the_first_broadway_producer_gets_its_204() {
    let stream = stream();
    stream.publish(&[("a", "1"), ("b", "2")]);
    let answer = stream.rig.get("/api/streams/s/consumers/c/next?batch_size=10").expect(200);
    let taken: Vec<Value> = data(&answer).iter().map(|one| one["ack_token"].clone()).collect();
    assert_eq!((taken.len(), &answer["data"][0]["message"]["key"]), (2, &json!("a")));
    let reply = stream.rig.post("/api/streams/s/consumers/c/ack", &json!({"ack_tokens": taken}));
    assert_eq!((reply.status, reply.body.len()), (204, 0));
    assert_eq!(stream.rig.get("/api/streams/s/consumers/c/next?batch_size=10").expect(200), json!({"data": []}));
}

#[test]
fn the_later_broadway_producers_get_their_200() {
    let stream = stream();
    stream.publish(&[("a", "1"), ("b", "2")]);
    for base in ["/api/http_pull_consumers/c", "/api/api/http_pull_consumers/c"] {
        let demand = json!({"max_batch_size": 1, "wait_for": 120_000});
        let answer = stream.rig.post(&format!("{base}/receive"), &demand).expect(200);
        let ids = json!({"ack_ids": [answer["data"][0]["ack_id"]]});
        assert_eq!(stream.rig.post(&format!("{base}/ack"), &ids).status, 200);
    }
    // Its demand may pass what a batch may have: an error that it tries again, not a crash of the consumer.
    let demand = json!({"max_batch_size": 1_001, "wait_for": 120_000});
    stream.refused("POST", "/api/http_pull_consumers/c/receive", &demand, 400);
}

#[test]
fn a_workflow_connector_settles_each_message_by_itself() {
    let stream = stream();
    stream.publish(&[("a", "{\"id\": 1}"), ("b", "{\"id\": 2}"), ("c", "{\"id\": 3}")]);
    let base = "/api/http_pull_consumers/c";
    let receive = || stream.rig.post(&format!("{base}/receive"), &json!({"batch_size": 20, "wait_for": 5_000}));
    let answer = receive().expect(200);
    for one in data(&answer) {
        let verb = if one["data"]["record"]["id"] == 2 { "nack" } else { "ack" };
        stream.rig.post(&format!("{base}/{verb}"), &json!({"ack_ids": [one["ack_id"]]})).expect(200);
    }
    let again = receive().expect(200);
    assert_eq!((data(&again).len(), &again["data"][0]["data"]["record"]["id"]), (1, &json!(2)));
}

#[test]
fn a_change_capture_client_reads_the_flat_shape() {
    let stream = stream();
    stream.publish(&[("jobs.1", "{\"id\": 1, \"state\": \"queued\"}")]);
    let base = "/api/http_pull_consumers/c";
    let answer = stream.rig.post(&format!("{base}/receive"), &json!({"batch_size": 10})).expect(200);
    let one = &answer["data"][0];
    assert_eq!((&one["record"]["state"], &one["action"]), (&json!("queued"), &json!("insert")));
    assert!(one["metadata"]["idempotency_key"].is_string() && one["metadata"]["table_name"] == "s");
    stream.rig.post(&format!("{base}/ack"), &json!({"ack_ids": [one["ack_id"]]})).expect(200);
    // It tries again at 500 and above: nothing that it can do wrong is answered so.
    let wrong = Ask::new(stream.rig.address, "POST", &format!("{base}/ack")).body("{\"ack_ids\":[\"x\"]}").send();
    assert_eq!(wrong.status, 400);
}
