//! Every answer of the JCQ dialect, whole: no field more, none less. Ids, which are random, are looked at and
//! then put in by name.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "support/jcq.rs"]
mod jcq;
#[path = "support/http.rs"]
mod support;

use jcq::{Key, expect_error, result};
use serde_json::{Value, json};
use support::{Reply, Rig};
use windlass::model::Permissions;

/// When a server of these tests begins.
const AT: &str = "2026-01-01T00:00:00Z";
const AT_MS: u64 = 1_767_225_600_000;
const MANAGE: &str = "/v1/regions/cn-north-1";
const GROUP: &str = "group-01";
const PERIOD: &str = "startTime=2026-01-01T00:00:00Z&endTime=2026-02-01T00:00:00Z";

/// A server with the topic `orders`.
fn shop() -> Rig {
    let rig = Rig::start();
    holds(&manage(&rig, "POST", "/topics", &json!({"topicName": "orders", "type": "normal"})), &json!({}));
    rig
}

fn manage(rig: &Rig, method: &str, path: &str, body: &Value) -> Reply {
    rig.ask(method, &format!("{MANAGE}{path}")).json(body).send()
}

fn look(rig: &Rig, path: &str) -> Reply {
    rig.get(&format!("{MANAGE}{path}"))
}

/// Checks that an answer is this result in the envelope of success.
#[track_caller]
fn holds(reply: &Reply, expected: &Value) {
    assert_eq!(&result(reply), expected);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("x-jdcloud-request-id"), reply.json()["requestId"].as_str());
}

/// Takes an id out of an answer, to be looked at by itself.
#[track_caller]
fn hex_id(value: &Value) -> String {
    let id = value.as_str().unwrap_or_else(|| panic!("an id: {value}"));
    assert!(id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{id}");
    id.to_owned()
}

fn send(rig: &Rig, messages: &Value) -> Vec<String> {
    let sent = rig.post("/v2/messages", &json!({"topic": "orders", "type": "NORMAL", "messages": messages}));
    let ids: Vec<String> = result(&sent)["messageIds"].as_array().expect("ids").iter().map(hex_id).collect();
    holds(&sent, &json!({"messageIds": ids}));
    ids
}

fn receive(rig: &Rig, version: &str) -> Reply {
    rig.get(&format!("/{version}/messages?topic=orders&consumerGroupId={GROUP}&size=1"))
}

fn ack(rig: &Rig, version: &str, index: &Value, action: &str) -> Reply {
    let body = json!({"topic": "orders", "consumerGroupId": GROUP, "ackAction": action, "ackIndex": index});
    rig.post(&format!("/{version}/ack"), &body)
}

/// Makes a dead letter of the message that the group is given next.
fn bury(rig: &Rig) {
    let index = result(&receive(rig, "v2"))["ackIndex"].clone();
    holds(&ack(rig, "v2", &index, "CONSUME_FAILED"), &Value::Null);
}

#[test]
fn messages_in_both_versions() {
    let rig = shop();
    let messages = json!([{"body": "a", "tag": "t", "properties": {"p": "q"}}, {"body": "b"}]);
    let ids = send(&rig, &messages);
    let empty = json!({"topicName": "orders", "ackIndex": null, "messages": []});
    let first = json!([{"messageId": ids[0], "messageBody": "a", "properties": {"TAGS": "t", "p": "q"}}]);
    let second = json!([{"messageId": ids[1], "messageBody": "b", "properties": {}}]);
    for (version, messages) in [("v2", first), ("v1", second)] {
        let pulled = receive(&rig, version);
        let index = result(&pulled)["ackIndex"].clone();
        let number = match version {
            "v1" => index.as_u64(),
            _ => index.as_str().and_then(|text| text.strip_prefix("broker-")?.parse().ok()),
        };
        assert!(number.is_some_and(|number| number > 0 && number < 1 << 53), "{index}");
        holds(&pulled, &json!({"topicName": "orders", "ackIndex": index, "messages": messages}));
        holds(&ack(&rig, version, &index, "SUCCESS"), &Value::Null);
        let again = expect_error(&ack(&rig, version, &index, "SUCCESS"), 400, "ACK_FAILED");
        assert_eq!(again["message"], "ACK_FAILED");
    }
    holds(&receive(&rig, "v1"), &empty);
    holds(&receive(&rig, "v2"), &empty);
    let ids = send(&rig, &json!([{"body": "c"}]));
    let reply = rig.get(&format!("/v2/messages?topic=orders&consumerGroupId={GROUP}&ack=true"));
    let taken = json!([{"messageId": ids[0], "messageBody": "c", "properties": {}}]);
    holds(&reply, &json!({"topicName": "orders", "ackIndex": null, "messages": taken}));
}

#[test]
fn topics() {
    let rig = shop();
    let shown = |id: &str, name: &str, kind: &str, description: &str, groups: usize| {
        json!({
            "topicId": id,
            "topicName": name,
            "description": description,
            "createTime": AT,
            "lastUpdateTime": AT,
            "topicStatus": "NORMAL",
            "subscriptionCount": groups,
            "messageLifeTimeInHours": 72,
            "topicConfig": {
                "maxMessageSizeKB": 256, "threshold": 0, "topicPermission": "PUBSUB", "topicType": kind,
            },
            "own": true,
            "authorizedPermission": "ADMIN",
            "tags": [],
        })
    };
    let first = look(&rig, "/topics/orders");
    let id = hex_id(&result(&first)["topic"]["topicId"]);
    holds(&first, &json!({"topic": shown(&id, "orders", "normal", "", 0)}));
    let request = json!({"topicName": "sorted", "type": "global_order", "description": "in order"});
    holds(&manage(&rig, "POST", "/topics", &request), &json!({}));
    holds(&manage(&rig, "POST", "/topics/sorted/subscriptions", &json!({"consumerGroupId": GROUP})), &json!({}));
    let second = look(&rig, "/topics/sorted");
    let other = hex_id(&result(&second)["topic"]["topicId"]);
    let sorted = shown(&other, "sorted", "global_order", "in order", 1);
    holds(&second, &json!({"topic": sorted}));
    let topics = json!([shown(&id, "orders", "normal", "", 0), sorted]);
    holds(&look(&rig, "/topics"), &json!({"topics": topics, "totalCount": 2}));
    holds(&look(&rig, "/topics?topicFilter=none"), &json!({"topics": [], "totalCount": 0}));
    let point = json!({"sdkAddress": "", "httpAddress": format!("http://{}", rig.address)});
    holds(&look(&rig, "/topics/orders/accessPoints"), &json!({"accessPoint": point}));
    holds(&look(&rig, "/consumerGroupIds"), &json!({"consumerGroupIds": [GROUP]}));
    holds(&manage(&rig, "DELETE", "/topics/sorted", &json!({})), &json!({}));
}

#[test]
fn subscriptions() {
    let rig = shop();
    let path = "/topics/orders/subscriptions";
    let one = format!("{path}/{GROUP}");
    let shown = |lease: u64, dead_letters: bool, retries: u32| {
        json!({
            "consumerGroupId": GROUP,
            "endPoint": "",
            "messageInvisibleTimeInSeconds": lease,
            "subscriptionType": "PULL",
            "tags": [],
            "dlqEnable": dead_letters,
            "maxRetryTimes": retries,
            "createTime": AT,
            "lastUpdateTime": AT,
            "consumerNumbers": 0,
        })
    };
    holds(&look(&rig, path), &json!({"subscriptions": [], "totalCount": 0}));
    holds(&manage(&rig, "POST", path, &json!({"consumerGroupId": GROUP})), &json!({}));
    holds(&look(&rig, &one), &json!({"subscription": shown(30, true, 16)}));
    holds(&look(&rig, path), &json!({"subscriptions": [shown(30, true, 16)], "totalCount": 1}));
    let change = json!({"messageInvisibleTimeInSeconds": 600, "dlqEnable": false});
    holds(&manage(&rig, "PATCH", &one, &change), &json!({}));
    holds(&look(&rig, &one), &json!({"subscription": shown(600, false, 0)}));
    holds(&manage(&rig, "POST", &format!("{one}:resetConsumeOffset"), &json!({"time": AT})), &json!({}));
    holds(&manage(&rig, "POST", &format!("{one}:cleanMessages"), &json!({})), &json!({}));
    holds(&manage(&rig, "DELETE", &one, &json!({})), &json!({}));
}

#[test]
fn dead_letters() {
    let rig = shop();
    let path = "/topics/orders/subscriptions";
    let request = json!({"consumerGroupId": GROUP, "maxRetryTimes": 0, "dlqEnable": true});
    holds(&manage(&rig, "POST", path, &request), &json!({}));
    let ids = send(&rig, &json!([{"body": "a"}, {"body": "b"}]));
    bury(&rig);
    bury(&rig);
    let one = format!("{path}/{GROUP}");
    let list = || look(&rig, &format!("{one}:listDeadLetters?{PERIOD}"));
    let letter = |id: &str| json!({"messageId": id, "expireTime": "2026-01-04T00:00:00Z"});
    holds(&list(), &json!({"deadLetters": [letter(&ids[0]), letter(&ids[1])], "totalCount": 2}));
    let topic = hex_id(&result(&look(&rig, "/topics/orders"))["topic"]["topicId"]);
    let numbers = json!({
        "deadLetterNumbers": [
            {"topicId": topic, "topicName": "orders", "consumerGroupId": GROUP, "deadLetterNumber": 2},
        ],
        "totalCount": 1,
    });
    holds(&look(&rig, "/deadLetterNumbers"), &numbers);
    holds(&look(&rig, "/topics/orders/deadLetterNumbers"), &numbers);
    let none = json!({"deadLetterNumbers": [], "totalCount": 0});
    holds(&look(&rig, "/deadLetterNumbers?consumerGroupId=nobody-1"), &none);
    let resend = json!({"messageIds": ids[0]});
    let done = |ids: &[String]| json!({"messageIds": ids});
    holds(&manage(&rig, "POST", &format!("{one}:resendDeadLetters"), &resend), &done(&ids[..1]));
    holds(&rig.delete(&format!("{MANAGE}{one}:deleteDeadLetters")), &done(&ids[1..]));
    holds(&rig.delete(&format!("{MANAGE}{one}:deleteDeadLetters")), &done(&[]));
    holds(&list(), &json!({"deadLetters": [], "totalCount": 0}));
}

#[test]
fn looks_at_messages() {
    let rig = shop();
    let ids = send(&rig, &json!([{"body": "a", "tag": "t", "properties": {"BUSINESS_ID": "7"}}]));
    let path = "/topics/orders/messages";
    let shown = json!({
        "messageId": ids[0], "body": "a", "tags": "t", "properties": "{\"BUSINESS_ID\":\"7\"}", "storeTime": AT,
    });
    holds(&look(&rig, &format!("{path}/{}", ids[0])), &json!({"message": shown}));
    holds(&look(&rig, &format!("{path}?{PERIOD}")), &json!({"messages": [shown]}));
    let by_business_id =
        |id: &str| manage(&rig, "POST", "/topics/orders/messagesWithBusinessId", &json!({"businessId": id}));
    holds(&by_business_id("7"), &json!({"messages": [shown]}));
    holds(&by_business_id("8"), &json!({"messages": []}));
}

#[test]
fn traces() {
    let rig = shop();
    let request = json!({"consumerGroupId": GROUP, "maxRetryTimes": 1, "dlqEnable": true});
    holds(&manage(&rig, "POST", "/topics/orders/subscriptions", &request), &json!({}));
    let ids = send(&rig, &json!([{"body": "a"}, {"body": "later", "delaySeconds": 60}]));
    let holds_trace = |id: &str, delay: u64, status: &str, successes: u32, failures: u32| {
        let produced = json!({
            "address": "",
            "timeStamp": AT_MS,
            "costTime": 0,
            "messageSendStatus": if delay > 0 { "SUCCESS_DELAY" } else { "SUCCESS_NORMAL" },
            "delayTime": delay,
        });
        let consumed = json!({
            "consumerGroupId": GROUP,
            "messageConsumeStatus": status,
            "successTimes": successes,
            "failedTimes": failures,
            "consumerInfoDetailList": [],
        });
        let trace = json!({"produceInfo": produced, "consumeInfoList": [consumed]});
        holds(&look(&rig, &format!("/topics/orders/messageTrace/{id}")), &json!({"messageTraceInfo": trace}));
    };
    holds_trace(&ids[0], 0, "UNCONSUMED", 0, 0);
    holds_trace(&ids[1], 60, "UNCONSUMED", 0, 0);
    let index = result(&receive(&rig, "v2"))["ackIndex"].clone();
    holds(&ack(&rig, "v2", &index, "RESEND"), &Value::Null);
    holds_trace(&ids[0], 0, "FAILED_RETRY", 0, 1);
    bury(&rig);
    holds_trace(&ids[0], 0, "ALL_FAILED", 0, 2);
    rig.advance(std::time::Duration::from_secs(60));
    let index = result(&receive(&rig, "v2"))["ackIndex"].clone();
    holds(&ack(&rig, "v2", &index, "SUCCESS"), &Value::Null);
    holds_trace(&ids[1], 60, "SUCCESS", 1, 0);
}

#[test]
fn permissions() {
    let rig = Rig::start();
    let (own, other) = (Key::made(&rig, "a", Permissions::ALL, "*"), Key::made(&rig, "a", Permissions::ALL, "x*"));
    let ask = |method: &str, path: &str, query: &str, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        own.manage(&rig, method, path, query, &body).send()
    };
    holds(&ask("POST", "/topics", "", json!({"topicName": "orders", "type": "normal"})), &json!({}));
    let path = "/topics/orders/iam";
    holds(&ask("GET", path, "", Value::Null), &json!({"permissions": []}));
    holds(&ask("POST", path, "", json!({"permission": "PUBSUB", "targetUserId": other.id})), &json!({}));
    let held = json!({"permissions": [{"userId": other.id, "permission": "PUBSUB"}]});
    holds(&ask("GET", path, "", Value::Null), &held);
    let query = format!("permission=PUBSUB&targetUserId={}", other.id);
    holds(&ask("DELETE", path, &query, Value::Null), &json!({}));
    holds(&ask("GET", path, "", Value::Null), &json!({"permissions": []}));
}

#[test]
fn failures() {
    let rig = shop();
    let fails = |reply: &Reply, status: u16, word: &str, message: &str| {
        assert_eq!(expect_error(reply, status, word)["message"], message);
    };
    let send = |body: Value| rig.post("/v2/messages", &body);
    fails(
        &send(json!({"topic": "none", "type": "NORMAL", "messages": [{"body": "a"}]})),
        400,
        "TOPIC_NOT_EXIST",
        "TOPIC_NOT_EXIST",
    );
    let missing = "Invalid request parameters：[ topic]";
    fails(&send(json!({"type": "NORMAL"})), 400, "INVALID_ARGUMENT", missing);
    let nobody = ack(&rig, "v2", &json!("broker-1"), "SUCCESS");
    fails(&nobody, 400, "INVALID_ARGUMENT", "subscription not exist");
    fails(&look(&rig, "/topics/none"), 404, "NOT_FOUND", "topic not exist");
    fails(&look(&rig, "/topics/orders/subscriptions/none"), 404, "NOT_FOUND", "subscription not exist");
    let again = manage(&rig, "POST", "/topics", &json!({"topicName": "orders", "type": "normal"}));
    fails(&again, 409, "ALREADY_EXISTS", "topic already exists");
    fails(&rig.get("/v2/nothing"), 404, "NOT_FOUND", "nothing is here");
    let method = "this path does not know the method";
    fails(&rig.delete("/v2/ack"), 405, "METHOD_NOT_ALLOWED", method);
    fails(&rig.ask("POST", "/v2/ack").body("{").send(), 400, "INVALID_ARGUMENT", "not JSON: line 1, column 1");
    let object = "Invalid request parameters：[ ] expected an object";
    fails(&rig.ask("POST", "/v2/ack").body("null").send(), 400, "INVALID_ARGUMENT", object);
    Key::made(&rig, "own", Permissions::ALL, "*");
    fails(&rig.get("/v2/messages"), 403, "PERMISSION_DENIED", "Authentication failure");
}
