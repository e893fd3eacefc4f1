//! Every answer of the Sequin dialect in the words of each era, whole: no field more, none less. Ids, which are
//! random, are looked at and then put in by name.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "sequin_rig/mod.rs"]
mod sequin_rig;
#[path = "support/http.rs"]
mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sequin_rig::Stream;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{Reply, Rig};
use windlass::access::account_hex;
use windlass::model::{AccountName, Permissions};

/// When a server of these tests begins: as `/api` writes it, and as era A does.
const AT: &str = "2026-01-01T00:00:00.000000Z";
const PLAIN_AT: &str = "2026-01-01 00:00:00";

/// Checks that an answer is this and nothing else.
#[track_caller]
fn holds(reply: &Reply, expected: &Value) {
    assert_eq!(&reply.expect(200), expected);
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

/// Checks that an answer has no body.
#[track_caller]
fn holds_nothing(reply: &Reply) {
    assert_eq!((reply.status, reply.text().as_str()), (204, ""));
}

/// Checks that an answer is this error and nothing else.
#[track_caller]
fn fails(reply: &Reply, status: u16, expected: &Value) {
    assert_eq!(&reply.expect(status), expected);
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

/// Takes an id out of an answer, to be looked at by itself.
#[track_caller]
fn uuid(reply: &Reply, pointer: &str) -> Value {
    let answer = reply.json();
    let id = answer.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} in {answer}"));
    let lengths: Vec<usize> = id.split('-').map(str::len).collect();
    assert!(lengths == [8, 4, 4, 4, 12] && *id == id.to_lowercase(), "{id}");
    json!(id)
}

/// The account that a server without credentials has, as a UUID.
fn account() -> String {
    let hex = account_hex(&AccountName::parse("default").expect("a name"));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn message_json(stream: &Stream, key: &str, data: &str, seq: u64) -> Value {
    json!({
        "key": key,
        "stream_id": stream.id,
        "data_hash": STANDARD.encode(Sha256::digest(data)),
        "data": data,
        "seq": seq,
        "inserted_at": AT,
        "updated_at": AT,
    })
}

#[test]
fn streams() {
    let rig = Rig::start();
    let made = rig.post("/v1/streams", &json!({"name": "s"}));
    let id = uuid(&made, "/id");
    let plain = json!({"id": id, "name": "s", "created_at": PLAIN_AT, "updated_at": PLAIN_AT});
    holds(&made, &plain);
    holds(&rig.get("/v1/streams/s"), &plain);
    holds(&rig.get("/v1/streams"), &json!({"data": [plain]}));
    let counted = json!({
        "id": id,
        "name": "s",
        "account_id": account(),
        "stats": {"message_count": 0, "consumer_count": 0, "storage_size": 0},
        "inserted_at": AT,
        "updated_at": AT,
    });
    holds(&rig.get("/api/streams/s"), &counted);
    holds(&rig.get("/api/streams"), &json!({"data": [counted]}));
    holds(&rig.delete("/v1/streams/s"), &json!({"id": id, "deleted": true}));
    let made = rig.post("/api/streams", &json!({"name": "s"}));
    let mut counted = counted;
    counted["id"] = uuid(&made, "/id");
    holds(&made, &counted);
    holds(&rig.delete("/api/streams/s"), &json!({"id": counted["id"], "deleted": true}));
    holds(&rig.get("/api/streams"), &json!({"data": []}));
}

#[test]
fn consumers() {
    let stream = Stream::bare();
    let rig = &stream.rig;
    let path = "/v1/http-consumers";
    let made = rig.post(path, &json!({"stream_id": "s", "name": "c", "metadata": {"a": 1}}));
    let id = uuid(&made, "/id");
    let record = json!({
        "id": id,
        "name": "c",
        "stream_id": stream.id,
        "deliver_policy": "all",
        "ack_wait_ms": 30_000,
        "max_deliver": -1,
        "max_ack_pending": 1_000,
        "max_waiting": 10_000,
        "status": "active",
        "metadata": {"a": 1},
        "created_at": PLAIN_AT,
        "updated_at": PLAIN_AT,
    });
    holds(&made, &record);
    let one = format!("{path}/c");
    holds(&rig.get(&one), &record);
    holds(&rig.get(path), &json!({"data": [record]}));
    for method in ["PUT", "PATCH"] {
        holds(&rig.ask(method, &one).json(&json!({})).send(), &record);
    }
    let rewound =
        |dry_run: bool| json!({"from_seq": 1, "to_seq": 1, "num_dropped": 0, "num_pending": 0, "dry_run": dry_run});
    for dry_run in [true, false] {
        let request = json!({"to": "all", "dry_run": dry_run});
        holds(&rig.post(&format!("{one}/rewind"), &request), &rewound(dry_run));
    }
    holds(&rig.delete(&one), &json!({"id": id, "deleted": true}));
    holds(&rig.get(path), &json!({"data": []}));

    let path = "/api/streams/s/consumers";
    let made = rig.post(path, &json!({"name": "c", "filter_key_pattern": "a.>"}));
    let id = uuid(&made, "/id");
    let pulled = json!({
        "id": id,
        "name": "c",
        "stream_id": stream.id,
        "ack_wait_ms": 30_000,
        "filter_key_pattern": "a.>",
        "kind": "pull",
        "max_ack_pending": 10_000,
        "max_deliver": null,
        "max_waiting": 20,
        "status": "active",
        "inserted_at": AT,
        "updated_at": AT,
    });
    holds(&made, &pulled);
    let one = format!("{path}/c");
    holds(&rig.get(&one), &pulled);
    holds(&rig.get(path), &json!({"data": [pulled]}));
    for method in ["PUT", "PATCH"] {
        holds(&rig.ask(method, &one).json(&json!({})).send(), &pulled);
    }
    holds(&rig.post(&format!("{one}/rewind"), &json!({"to": "all"})), &rewound(false));
    holds(&rig.delete(&one), &json!({"id": id, "deleted": true}));
}

#[test]
fn messages_of_a_stream() {
    let stream = Stream::bare();
    let rig = &stream.rig;
    let path = "/api/streams/s/messages";
    holds(&rig.get(path), &json!({"data": []}));
    let made = rig.post("/api/streams/s/consumers", &json!({"name": "c", "filter_key_pattern": ">"}));
    let consumer = uuid(&made, "/id");
    let sent = rig.post(path, &json!({"messages": [{"key": "k", "data": "v"}]}));
    holds(&sent, &json!({"data": {"published": 1}}));
    let message = message_json(&stream, "k", "v", 1);
    holds(&rig.get(path), &json!({"data": [message]}));
    holds(&rig.get(&format!("{path}/k")), &message);
    let info = json!({
        "ack_id": null, "deliver_count": 0, "last_delivered_at": null, "not_visible_until": null, "state": "available",
    });
    let standing = json!({"message": message, "info": info});
    holds(&rig.get("/api/streams/s/consumers/c/messages"), &json!({"data": [standing]}));
    let mut of_consumer = info;
    let named = json!({"consumer_id": consumer, "consumer_name": "c", "consumer_filter_key_pattern": ">"});
    of_consumer.as_object_mut().unwrap().extend(named.as_object().unwrap().clone());
    let infos = json!({"data": {"message": message, "consumer_info": [of_consumer]}});
    holds(&rig.get(&format!("{path}/k/consumer_info")), &infos);
}

#[test]
fn deliveries_of_every_era() {
    let stream = Stream::bare();
    let rig = &stream.rig;
    let made = rig.post("/v1/http-consumers", &json!({"stream_id": "s", "name": "c"}));
    let consumer = uuid(&made, "/id");
    let empty = json!({"data": [], "info": {"num_pending": 0, "num_ack_pending": 0}});
    holds(&rig.get("/v1/http-consumers/c/next"), &empty);
    let mut seq = 0;
    let mut publish = || {
        stream.publish(&[("k", r#"{"n":1}"#)]);
        seq += 1;
        seq
    };

    let seq_a = publish();
    let taken = rig.get("/v1/http-consumers/c/next");
    let token = uuid(&taken, "/data/0/ack_token");
    let record = json!({
        "id": uuid(&taken, "/data/0/record/id"),
        "stream_id": stream.id,
        "collection_id": "s",
        "provider": null,
        "upstream_id": "k",
        "data": {"n": 1},
        "deleted": false,
        "inserted_at": AT,
        "updated_idx": seq_a,
    });
    let delivered = json!({"ack_token": token, "record": record, "key": "k", "seq": seq_a, "deliver_count": 1});
    holds(&taken, &json!({"data": [delivered], "info": {"num_pending": 0, "num_ack_pending": 1}}));
    holds_nothing(&rig.post("/v1/http-consumers/c/nack", &json!({"ack_tokens": []})));
    holds_nothing(&rig.post("/v1/http-consumers/c/ack", &json!({"ack_tokens": [token]})));

    for path in ["/api/consumers/c", "/api/streams/s/consumers/c"] {
        holds(&rig.get(&format!("{path}/next")), &json!({"data": []}));
        let message = message_json(&stream, "k", r#"{"n":1}"#, publish());
        let taken = rig.get(&format!("{path}/next"));
        let token = uuid(&taken, "/data/0/ack_token");
        holds(&taken, &json!({"data": [{"ack_token": token, "message": message}]}));
        holds_nothing(&rig.post(&format!("{path}/ack"), &json!({"ack_tokens": [token]})));
        holds_nothing(&rig.post(&format!("{path}/nack"), &json!({"ack_tokens": [token]})));
    }

    let success = json!({"success": true});
    let path = "/api/streams/s/consumers/c";
    holds(&rig.get(&format!("{path}/receive")), &json!({"data": []}));
    let message = message_json(&stream, "k", r#"{"n":1}"#, publish());
    let taken = rig.get(&format!("{path}/receive"));
    let id = uuid(&taken, "/data/0/ack_id");
    holds(&taken, &json!({"data": [{"ack_id": id, "message": message}]}));
    holds(&rig.post(&format!("{path}/nack"), &json!({"ack_ids": [id]})), &success);
    let again = uuid(&rig.get(&format!("{path}/receive")), "/data/0/ack_id");
    holds(&rig.post(&format!("{path}/ack"), &json!({"ack_ids": [again]})), &success);

    for path in ["/api/http_pull_consumers/c", "/api/sequin_streams/c"] {
        holds(&rig.get(&format!("{path}/receive")), &json!({"data": []}));
        let seq = publish();
        let taken = rig.get(&format!("{path}/receive"));
        let id = uuid(&taken, "/data/0/ack_id");
        let metadata = json!({
            "table_schema": "public",
            "table_name": "s",
            "commit_timestamp": AT,
            "commit_lsn": seq,
            "commit_idx": 0,
            "transaction_annotations": null,
            "idempotency_key": uuid(&taken, "/data/0/metadata/idempotency_key"),
            "record_pks": ["k"],
            "consumer": {"id": consumer, "name": "c"},
        });
        let change = json!({"record": {"n": 1}, "changes": null, "action": "insert", "metadata": metadata});
        let mut both = change.clone();
        both["ack_id"] = id.clone();
        both["data"] = change;
        holds(&taken, &json!({"data": [both]}));
        holds(&rig.post(&format!("{path}/nack"), &json!({"ack_ids": [id]})), &success);
        let again = uuid(&rig.get(&format!("{path}/receive")), "/data/0/ack_id");
        holds(&rig.post(&format!("{path}/ack"), &json!({"ack_ids": [again]})), &success);
    }
}

#[test]
fn failures() {
    let stream = Stream::bare();
    let rig = &stream.rig;
    let summary = |text: &str| json!({"summary": text});
    let invalid =
        |field: &str, text: &str| json!({"summary": "Validation failed", "validation_errors": {field: [text]}});
    let path = "/v1/http-consumers";
    fails(&rig.post(path, &json!({"stream_id": "s"})), 422, &invalid("name", "can't be blank"));
    rig.post(path, &json!({"stream_id": "s", "name": "c", "max_waiting": 0})).expect(200);
    let taken = invalid("name", "has already been taken");
    fails(&rig.post(path, &json!({"stream_id": "s", "name": "c"})), 422, &taken);
    fails(&rig.post("/api/streams", &json!({"name": "s"})), 422, &taken);
    let no = |kind: &str| summary(&format!("Not found: No `{kind}` found matching the provided ID or name"));
    fails(&rig.get("/v1/http-consumers/none/next"), 404, &no("consumer"));
    fails(&rig.get("/api/streams/none"), 404, &no("stream"));
    let message = summary("Not found: No `message` found matching the provided key");
    fails(&rig.get("/api/streams/s/messages/none"), 404, &message);
    fails(&rig.get("/api/none"), 404, &summary("Not found: no such path"));
    fails(&rig.ask("PUT", "/api/streams").send(), 405, &summary("this path does not know the method"));
    let size = summary("`batch_size` must be an integer from 1 to 1000");
    fails(&rig.get("/v1/http-consumers/c/next?batch_size=0"), 400, &size);
    let ids =
        "Invalid ack_ids. Must send a top-level `ack_ids` property that is a non-empty list of valid UUID strings";
    fails(&rig.post("/api/sequin_streams/c/ack", &json!({})), 400, &summary(ids));
    let waiting = rig.get("/v1/http-consumers/c/next?wait_for=1000");
    fails(&waiting, 429, &summary("max_waiting is reached: 0 requests are waiting already"));
    assert_eq!(waiting.header("retry-after"), Some("1"));
    let broken = rig.ask("POST", "/v1/http-consumers/c/next").body("null").send();
    fails(&broken, 400, &summary("Invalid request body: expected an object"));
    let token = rig.token("own", Permissions { consume: true, ..Permissions::default() }, "*");
    let missing = rig.get(path);
    fails(&missing, 401, &summary("Missing Authorization header: a token is needed"));
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    let denied = rig.ask("POST", path).token(&token).json(&json!({})).send();
    fails(&denied, 403, &summary("the credential does not allow this"));
}
