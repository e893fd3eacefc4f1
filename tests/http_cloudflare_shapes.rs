//! Every answer of the Cloudflare dialect, whole: no field more, none less. Ids, which are random, are looked at
//! and then put in by name.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "support/cloudflare.rs"]
mod cloudflare;
#[path = "support/http.rs"]
mod support;

use cloudflare::{QUEUES, Queue, queue};
use serde_json::{Value, json};
use support::{Reply, Rig};

/// When a server of these tests begins.
const AT: &str = "2026-01-01T00:00:00.000000Z";
const AT_MS: u64 = 1_767_225_600_000;

/// Checks that an answer is this result in the envelope of success.
#[track_caller]
fn holds(reply: &Reply, result: &Value) {
    let expected = json!({"success": true, "errors": [], "messages": [], "result": result});
    assert_eq!(reply.expect(200), expected);
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

/// Checks that an answer is this whole list in the envelope of success.
#[track_caller]
fn lists(reply: &Reply, result: &[Value]) {
    let count = result.len();
    let info = json!({
        "page": 1, "per_page": 1_000, "count": count, "total_count": count, "total_pages": count.div_ceil(1_000),
    });
    let expected = json!({"success": true, "errors": [], "messages": [], "result": result, "result_info": info});
    assert_eq!(reply.expect(200), expected);
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

/// Takes a text out of an answer, to be looked at by itself.
#[track_caller]
fn text(reply: &Reply, pointer: &str) -> String {
    let answer = reply.json();
    answer.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} in {answer}")).to_owned()
}

#[track_caller]
fn hex_id(reply: &Reply, pointer: &str) -> String {
    let id = text(reply, pointer);
    assert!(id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{id}");
    id
}

fn queue_json(id: &str, name: &str, consumers: &[Value]) -> Value {
    json!({
        "queue_id": id,
        "queue_name": name,
        "created_on": AT,
        "modified_on": AT,
        "producers": [],
        "producers_total_count": 0,
        "consumers": consumers,
        "consumers_total_count": consumers.len(),
        "settings": {"delivery_delay": 0, "delivery_paused": false, "message_retention_period": 345_600},
    })
}

fn consumer_json(queue: &Queue) -> Value {
    json!({
        "consumer_id": queue.consumer,
        "type": "http_pull",
        "created_on": AT,
        "queue_name": "n",
        "queue_id": queue.id,
        "dead_letter_queue": "",
        "settings": {"batch_size": 10, "max_retries": 3, "retry_delay": 0, "visibility_timeout_ms": 30_000},
    })
}

fn metrics_json(bytes: u64, count: u64) -> Value {
    let oldest = if count == 0 { 0 } else { AT_MS };
    json!({"backlog_bytes": bytes, "backlog_count": count, "oldest_message_timestamp_ms": oldest})
}

#[test]
fn queues() {
    let rig = Rig::start();
    let made = rig.post(QUEUES, &json!({"queue_name": "n"}));
    let id = hex_id(&made, "/result/queue_id");
    let path = format!("{QUEUES}/{id}");
    let shown = queue_json(&id, "n", &[]);
    holds(&made, &shown);
    holds(&rig.get(&path), &shown);
    lists(&rig.get(QUEUES), std::slice::from_ref(&shown));
    lists(&rig.get(&format!("{QUEUES}?name=none")), &[]);
    holds(&rig.patch(&path, &json!({})), &shown);
    holds(&rig.ask("PUT", &path).json(&json!({})).send(), &shown);
    let mut eu = shown;
    eu["jurisdiction"] = json!("eu");
    eu["queue_name"] = json!("m");
    eu["settings"] = json!({"delivery_delay": 1, "delivery_paused": true, "message_retention_period": 60});
    let change = json!({"queue_name": "m", "jurisdiction": "eu", "settings": eu["settings"]});
    holds(&rig.ask("PUT", &path).json(&change).send(), &eu);
    holds(&rig.get(&format!("{path}/metrics")), &metrics_json(0, 0));
    holds(&rig.delete(&path), &Value::Null);
}

#[test]
fn consumers() {
    let queue = queue();
    let consumer = consumer_json(&queue);
    let path = queue.path(&format!("/consumers/{}", queue.consumer));
    let rig = &queue.rig;
    holds(&rig.get(&path), &consumer);
    lists(&rig.get(&queue.path("/consumers")), std::slice::from_ref(&consumer));
    lists(&rig.get(QUEUES), &[queue_json(&queue.id, "n", std::slice::from_ref(&consumer))]);
    let mut other = consumer;
    other["dead_letter_queue"] = json!("dead");
    other["settings"] =
        json!({"batch_size": 1, "max_retries": 0, "retry_delay": 86_400, "visibility_timeout_ms": 43_200_000});
    let request = json!({"type": "http_pull", "dead_letter_queue": "dead", "settings": other["settings"]});
    holds(&rig.ask("PUT", &path).json(&request).send(), &other);
    holds(&rig.delete(&path), &Value::Null);
    let made = rig.post(&queue.path("/consumers"), &request);
    other["consumer_id"] = json!(hex_id(&made, "/result/consumer_id"));
    holds(&made, &other);
}

#[test]
fn messages() {
    let queue = queue();
    let post = |rest: &str, body: Value| queue.rig.post(&queue.path(rest), &body);
    let pushed = |bytes, count| json!({"metadata": {"metrics": metrics_json(bytes, count)}});
    let empty = json!({
        "message_backlog_count": 0, "messages": [], "metadata": {"metrics": metrics_json(0, 0)},
    });
    holds(&post("/messages/pull", json!({})), &empty);
    holds(&post("/messages/peek", json!({})), &json!({"messages": []}));
    holds(&post("/messages", json!({"body": "text", "content_type": "text"})), &pushed(4, 1));
    let batch =
        json!({"messages": [{"body": {"a": 1}}, {"body": "later", "content_type": "text", "delay_seconds": 20}]});
    holds(&post("/messages/batch", batch), &pushed(4 + 7 + 5, 3));
    holds(&queue.rig.get(&queue.path("/metrics")), &metrics_json(16, 3));

    let peeked = post("/messages/peek", json!({}));
    let at = |place: usize, field: &str| format!("/result/messages/{place}/{field}");
    let seen = |place: usize, body: &str, metadata: Value| {
        json!({
            "id": hex_id(&peeked, &at(place, "id")),
            "attempts": 0,
            "body": body,
            "metadata": metadata,
            "ref": text(&peeked, &at(place, "ref")),
            "timestamp_ms": AT_MS,
        })
    };
    let of_text = json!({"CF-Content-Type": "text", "CF-sourceMessageSource": "api"});
    let of_json = json!({"CF-Content-Type": "json", "CF-sourceMessageSource": "api"});
    let delayed = json!({"CF-Content-Type": "text", "CF-sourceMessageSource": "api", "CF-msg-delay-secs": "20"});
    let messages = [seen(0, "text", of_text), seen(1, "eyJhIjoxfQ==", of_json), seen(2, "later", delayed)];
    holds(&peeked, &json!({"messages": messages}));
    holds(&post("/messages/preview", json!({})), &json!({"messages": messages}));

    let pulled = post("/messages/pull", json!({}));
    let taken = |place: usize| {
        let mut message = messages[place].clone();
        message.as_object_mut().expect("an object").remove("ref");
        message["attempts"] = json!(1);
        message["lease_id"] = json!(text(&pulled, &at(place, "lease_id")));
        message
    };
    holds(
        &pulled,
        &json!({
            "message_backlog_count": 3,
            "messages": [taken(0), taken(1)],
            "metadata": {"metrics": metrics_json(16, 3)},
        }),
    );
    let lease = |place: usize| json!([{"lease_id": text(&pulled, &at(place, "lease_id"))}]);
    let settled = post("/messages/ack", json!({"acks": lease(0), "retries": [{"lease_id": "strange"}]}));
    holds(&settled, &json!({"ackCount": 1, "retryCount": 0, "warnings": {"strange": "unknown lease"}}));
    let settled = post("/messages/ack", json!({"retries": lease(1)}));
    holds(&settled, &json!({"ackCount": 0, "retryCount": 1, "warnings": {}}));
    let refs = json!({"refs": [{"ref": messages[1]["ref"]}, {"ref": "strange"}]});
    holds(&post("/messages/purge", refs), &json!({"errors": [], "warnings": {"strange": "unknown ref"}}));
}

#[test]
fn purges() {
    let queue = queue();
    let path = queue.path("/purge");
    holds(&queue.rig.get(&path), &json!({"completed": "", "started_at": ""}));
    let shown = queue_json(&queue.id, "n", &[consumer_json(&queue)]);
    holds(&queue.rig.post(&path, &json!({"delete_messages_permanently": true})), &shown);
    holds(&queue.rig.get(&path), &json!({"completed": AT, "started_at": AT}));
}

#[test]
fn failures() {
    let queue = queue();
    let fault = |reply: &Reply, status: u16, error: Value| {
        let expected = json!({"success": false, "errors": [error], "messages": [], "result": null});
        assert_eq!(reply.expect(status), expected);
        assert_eq!(reply.header("content-type"), Some("application/json"));
    };
    let ask = |method: &str, rest: &str, body: Value| queue.rig.ask(method, &queue.path(rest)).json(&body).send();
    let post = |rest: &str, body: Value| ask("POST", rest, body);
    let error = |code: u32, message: &str| json!({"code": code, "message": message});
    let at = |code: u32, message: &str, pointer: &str| json!({"code": code, "message": message, "source": {"pointer": pointer}});
    fault(&queue.rig.post(QUEUES, &json!({"queue_name": "n"})), 409, error(11009, "queue name is already taken"));
    fault(&queue.rig.get(&format!("{QUEUES}/{}", "0".repeat(32))), 404, error(11000, "queue not found"));
    fault(
        &queue.rig.post(&format!("{QUEUES}/{}/messages", "0".repeat(32)), &json!({"body": 1})),
        404,
        error(10104, "queue not found"),
    );
    fault(&post("/consumers", json!({"type": "http_pull"})), 400, error(11004, "workers.api.error.consumer_exists"));
    fault(&post("/consumers", json!({"type": 5})), 400, at(10026, "expected a string", "/type"));
    fault(
        &post("/messages/ack", json!({"acks": [{"lease_id": null}]})),
        400,
        at(10207, "expected a string", "/acks/0/lease_id"),
    );
    fault(
        &queue.rig.ask("POST", &queue.path("/messages")).body("{").send(),
        400,
        error(10208, "not JSON: line 1, column 1"),
    );
    ask("PATCH", "", json!({"settings": {"delivery_paused": true}})).expect(200);
    fault(&post("/messages/pull", json!({})), 409, error(0, "queue_delivery_paused"));
    ask("DELETE", &format!("/consumers/{}", queue.consumer), json!({})).expect(200);
    let message = "messages cannot be pulled unless http_pull mode is enabled";
    fault(&post("/messages/pull", json!({})), 405, error(0, message));
    fault(&queue.rig.get("/client/v4/nothing"), 404, error(7000, "No route for that URI"));
    fault(&queue.rig.ask("PATCH", QUEUES).send(), 405, error(7001, "Method not available for that URI"));
    let message = "Could not route to /queues, perhaps your object identifier is invalid?";
    fault(&queue.rig.get(&format!("{QUEUES}/short")), 404, error(7003, message));
    let message = "page must be a whole number from 1 to 9007199254740992";
    fault(&queue.rig.get(&format!("{QUEUES}?page=9007199254740993")), 400, error(10026, message));
    let token = queue.rig.token("shop", windlass::model::Permissions::ALL, "*");
    let message = "Missing X-Auth-Key, X-Auth-Email or Authorization headers";
    fault(&queue.rig.get(QUEUES), 400, error(9106, message));
    let malformed = queue.rig.ask("GET", QUEUES).header("authorization", "nonsense").send();
    let cause = "Invalid format for Authorization header";
    let chain = json!({
        "code": 6003, "message": "Invalid request headers", "error_chain": [{"code": 6111, "message": cause}],
    });
    fault(&malformed, 400, chain);
    let message = "Authentication error: the credential is unknown, expired or revoked";
    fault(&queue.rig.ask("GET", QUEUES).token("x").send(), 401, error(10000, message));
    let message = "Authentication error: the credential does not allow this";
    fault(&queue.rig.ask("GET", QUEUES).token(&token).send(), 403, error(10000, message));
}
