//! The JCQ dialect over real TCP: its data plane, signed and open, and its errors.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "support/jcq.rs"]
mod jcq;
#[path = "support/http.rs"]
mod support;

use std::time::Duration;

use jcq::{Key, REGION, expect_error, result};
use serde_json::{Value, json};
use support::{Ask, Reply, Rig, single_permissions};
use windlass::http::{JCQ_DATA_ROUTES, JCQ_ROUTES};
use windlass::model::Permissions;

const GROUP: &str = "group-01";

/// A server with a topic `orders`.
fn shop() -> Rig {
    shop_of(Rig::start())
}

fn shop_of(rig: Rig) -> Rig {
    topic(&rig, "orders", "normal");
    rig
}

fn topic(rig: &Rig, name: &str, kind: &str) {
    let made = manage(rig, "POST", "/topics", &json!({"regionId": REGION, "topicName": name, "type": kind}));
    assert_eq!(made, json!({}));
}

#[track_caller]
fn manage(rig: &Rig, method: &str, path: &str, body: &Value) -> Value {
    result(&rig.ask(method, &format!("/v1/regions/{REGION}{path}")).json(body).send())
}

#[track_caller]
fn send(rig: &Rig, messages: Value) -> Vec<String> {
    let body = json!({"topic": "orders", "type": "NORMAL", "messages": messages});
    let ids = result(&rig.post("/v2/messages", &body))["messageIds"].clone();
    ids.as_array().expect("ids").iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
}

fn send_bodies(rig: &Rig, bodies: &[&str]) -> Vec<String> {
    send(rig, bodies.iter().map(|body| json!({"body": body})).collect())
}

fn receive_of(rig: &Rig, topic: &str, group: &str, more: &str) -> Reply {
    rig.get(&format!("/v2/messages?topic={topic}&consumerGroupId={group}{more}"))
}

#[track_caller]
fn receive(rig: &Rig, more: &str) -> Value {
    result(&receive_of(rig, "orders", GROUP, more))
}

fn bodies(pulled: &Value) -> Vec<&str> {
    let messages = pulled["messages"].as_array().expect("messages");
    messages.iter().map(|message| message["messageBody"].as_str().expect("a body")).collect()
}

fn ack_body(index: &Value, action: &str) -> Value {
    json!({"topic": "orders", "consumerGroupId": GROUP, "ackIndex": index, "ackAction": action})
}

fn ack(rig: &Rig, pulled: &Value, action: &str) -> Reply {
    rig.post("/v2/ack", &ack_body(&pulled["ackIndex"], action))
}

#[track_caller]
fn acked(rig: &Rig, pulled: &Value, action: &str) {
    assert_eq!(result(&ack(rig, pulled, action)), Value::Null);
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_message_is_sent_received_and_acked_in_the_shapes_of_the_manual() {
    let rig = shop();
    let body = json!({"topic": "orders", "type": "NORMAL", "messages": [
        {"body": "hello", "tag": "world", "properties": {"k": "v"}},
        {"body": "plain"},
    ]});
    let reply = rig.post("/v2/messages", &body);
    let sent = reply.expect(200);
    let request_id = sent["requestId"].as_str().expect("an id");
    assert_eq!(reply.header("x-request-id"), Some(request_id));
    assert_eq!(reply.header("x-jdcloud-request-id"), Some(request_id));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let ids = sent["result"]["messageIds"].clone();
    assert_eq!(sent, json!({"requestId": request_id, "result": {"messageIds": [ids[0], ids[1]]}}));

    let pulled = receive(&rig, "");
    let index = pulled["ackIndex"].as_str().expect("text in v2").to_owned();
    assert!(index.strip_prefix("broker-").is_some_and(|number| number.parse::<u64>().is_ok_and(|n| n > 0)), "{index}");
    assert_eq!(
        pulled,
        json!({"topicName": "orders", "ackIndex": index, "messages": [
            {"messageId": ids[0], "messageBody": "hello", "properties": {"k": "v", "TAGS": "world"}},
            {"messageId": ids[1], "messageBody": "plain", "properties": {}},
        ]})
    );
    acked(&rig, &pulled, "SUCCESS");
    let empty = json!({"topicName": "orders", "ackIndex": null, "messages": []});
    assert_eq!(receive(&rig, ""), empty);
    rig.advance(secs(100_000));
    assert_eq!(receive(&rig, ""), empty, "acked is acked");
    expect_error(&ack(&rig, &pulled, "SUCCESS"), 400, "ACK_FAILED");
}

#[test]
fn v1_names_a_batch_by_a_number_and_both_versions_mean_the_same_batch() {
    let rig = shop();
    send_bodies(&rig, &["a", "b"]);
    let v1 = |more: &str| result(&rig.get(&format!("/v1/messages?topic=orders&consumerGroupId={GROUP}{more}")));
    let pulled = v1("&size=1");
    let number = pulled["ackIndex"].as_u64().expect("a number in v1");
    assert!(number > 0 && number < 1 << 53);
    assert_eq!(bodies(&pulled), ["a"]);
    expect_error(
        &rig.post("/v1/ack", &ack_body(&json!(format!("broker-{number}")), "SUCCESS")),
        400,
        "INVALID_ARGUMENT",
    );
    expect_error(&rig.post("/v2/ack", &ack_body(&json!(number), "SUCCESS")), 400, "INVALID_ARGUMENT");
    expect_error(&rig.post("/v1/ack", &ack_body(&json!(-1), "SUCCESS")), 400, "INVALID_ARGUMENT");
    assert_eq!(result(&rig.post("/v1/ack", &ack_body(&json!(number), "SUCCESS"))), Value::Null);
    let pulled = v1("");
    let text = json!(format!("broker-{}", pulled["ackIndex"].as_u64().expect("a number")));
    assert_eq!(result(&rig.post("/v2/ack", &ack_body(&text, "SUCCESS"))), Value::Null);
    let body = json!({"topic": "orders", "type": "NORMAL", "messages": [{"body": "c"}]});
    assert!(result(&rig.post("/v1/messages", &body))["messageIds"][0].is_string());
    assert_eq!(bodies(&v1("&ack=true")), ["c"]);
}

#[test]
fn one_index_stands_for_the_whole_batch_and_batches_do_not_block_each_other() {
    let rig = shop();
    send_bodies(&rig, &["a", "b", "c"]);
    let (first, second) = (receive(&rig, "&size=2"), receive(&rig, "&size=2"));
    assert_eq!((bodies(&first), bodies(&second)), (vec!["a", "b"], vec!["c"]));
    assert_ne!(first["ackIndex"], second["ackIndex"]);
    acked(&rig, &second, "SUCCESS");
    rig.advance(secs(30));
    let again = receive(&rig, "");
    assert_eq!(bodies(&again), ["a", "b"], "what was not acked in 30 s comes back as a whole");
    expect_error(&ack(&rig, &first, "SUCCESS"), 400, "ACK_FAILED");
    acked(&rig, &again, "SUCCESS");
}

#[test]
fn a_late_ack_fails_and_changes_nothing() {
    let rig = shop();
    send_bodies(&rig, &["a"]);
    let pulled = receive(&rig, "");
    rig.advance(Duration::from_millis(29_999));
    assert!(bodies(&receive(&rig, "")).is_empty());
    rig.advance(Duration::from_millis(1));
    let error = expect_error(&ack(&rig, &pulled, "SUCCESS"), 400, "ACK_FAILED");
    assert_eq!(error, json!({"code": 400, "message": "ACK_FAILED", "status": "ACK_FAILED"}));
    assert_eq!(bodies(&receive(&rig, "")), ["a"]);
}

#[test]
fn each_action_does_what_it_says() {
    let rig = shop();
    send_bodies(&rig, &["a"]);
    acked(&rig, &receive(&rig, ""), "CONSUME_FAILED");
    rig.advance(Duration::from_millis(9_999));
    assert!(bodies(&receive(&rig, "")).is_empty(), "it waits out the retry interval");
    rig.advance(Duration::from_millis(1));
    let pulled = receive(&rig, "");
    assert_eq!(bodies(&pulled), ["a"]);
    acked(&rig, &pulled, "RESEND");
    let pulled = receive(&rig, "");
    assert_eq!(bodies(&pulled), ["a"], "at once");
    acked(&rig, &pulled, "CONSUME_FAILED");
    rig.advance(Duration::from_millis(59_999));
    assert!(bodies(&receive(&rig, "")).is_empty(), "three deliveries: the third interval");
    rig.advance(Duration::from_millis(1));
    acked(&rig, &receive(&rig, ""), "DISCARD");
    rig.advance(secs(7_200));
    assert!(bodies(&receive(&rig, "")).is_empty());
    assert_eq!(numbers(&rig)[0]["deadLetterNumber"], 0, "what is discarded is no dead letter");
}

fn numbers(rig: &Rig) -> Value {
    manage(rig, "GET", "/deadLetterNumbers", &Value::Null)["deadLetterNumbers"].clone()
}

#[test]
fn sixteen_retries_make_seventeen_deliveries_and_then_a_dead_letter() {
    let rig = shop();
    let ids = send_bodies(&rig, &["poison"]);
    let waits = [10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200];
    for (delivery, wait) in waits.into_iter().chain([7_200]).enumerate() {
        let pulled = receive(&rig, "");
        assert_eq!(bodies(&pulled), ["poison"], "delivery {}", delivery + 1);
        acked(&rig, &pulled, "CONSUME_FAILED");
        rig.advance(secs(wait - 1));
        assert!(bodies(&receive(&rig, "")).is_empty(), "before the wait of delivery {} is over", delivery + 1);
        rig.advance(secs(1));
    }
    assert!(bodies(&receive(&rig, "")).is_empty());
    assert_eq!(numbers(&rig)[0]["deadLetterNumber"], 1);
    let period = "startTime=2026-01-01T00:00:00Z&endTime=2027-01-01T00:00:00Z";
    let path = format!("/topics/orders/subscriptions/{GROUP}:listDeadLetters?{period}");
    let listed = manage(&rig, "GET", &path, &Value::Null);
    assert_eq!((&listed["deadLetters"][0]["messageId"], &listed["totalCount"]), (&json!(ids[0]), &json!(1)));
}

#[test]
fn a_group_with_too_many_dead_letters_is_suspended_until_some_are_gone() {
    let rig = shop_of(Rig::start_with(|config| config.jcq.dead_letters_max = 2));
    let subscription = json!({"consumerGroupId": GROUP, "dlqEnable": true, "maxRetryTimes": 0});
    manage(&rig, "POST", "/topics/orders/subscriptions", &subscription);
    let ids = send_bodies(&rig, &["a", "b", "c"]);
    acked(&rig, &receive(&rig, "&size=2"), "CONSUME_FAILED");
    let reply = receive_of(&rig, "orders", GROUP, "");
    let error = expect_error(&reply, 400, "SUSPEND_CAUSE_DEAD_LETTER");
    assert_eq!(error["message"], "SUSPEND_CAUSE_DEAD_LETTER");
    send_bodies(&rig, &["d"]);
    assert_eq!(bodies(&result(&receive_of(&rig, "orders", "group-02", ""))).len(), 4, "no other group is held up");
    let delete = format!("/topics/orders/subscriptions/{GROUP}:deleteDeadLetters?messageIds={}", ids[0]);
    assert_eq!(manage(&rig, "DELETE", &delete, &Value::Null), json!({"messageIds": [ids[0]]}));
    assert_eq!(bodies(&receive(&rig, "")), ["c", "d"]);
}

#[test]
fn head_and_tail_count_at_the_first_pull_only() {
    let rig = shop();
    send_bodies(&rig, &["a"]);
    assert!(bodies(&receive(&rig, "&consumeFromWhere=TAIL")).is_empty());
    send_bodies(&rig, &["b"]);
    assert_eq!(bodies(&receive(&rig, "&consumeFromWhere=HEAD&ack=true")), ["b"]);
    let head = |group: &str, more: &str| result(&receive_of(&rig, "orders", group, more));
    assert_eq!(bodies(&head("group-head", "")), ["a", "b"], "HEAD is the default");
    // Made by management: the first pull still says where it begins.
    manage(&rig, "POST", "/topics/orders/subscriptions", &json!({"consumerGroupId": "group-tail"}));
    assert!(bodies(&head("group-tail", "&consumeFromWhere=TAIL")).is_empty());
    assert!(bodies(&head("group-tail", "&consumeFromWhere=HEAD")).is_empty());
}

#[test]
fn tags_are_filtered_and_what_is_not_wanted_is_passed_over_for_good() {
    let rig = shop();
    send(&rig, json!([{"body": "1", "tag": "a"}, {"body": "2", "tag": "b"}, {"body": "3"}, {"body": "4", "tag": "c"}]));
    let filtered = receive(&rig, "&filterExpressionType=TAG&filterExpression=a%20%7C%7C%20c&ack=true");
    assert_eq!(bodies(&filtered), ["1", "4"]);
    assert!(bodies(&receive(&rig, "")).is_empty());
    let all = result(&receive_of(&rig, "orders", "group-02", "&filterExpressionType=TAG&filterExpression=*"));
    assert_eq!(bodies(&all), ["1", "2", "3", "4"]);
    for bad in ["&filterExpression=a", "&filterExpressionType=TAG", "&filterExpressionType=SQL92&filterExpression=a"] {
        expect_error(&receive_of(&rig, "orders", GROUP, bad), 400, "INVALID_ARGUMENT");
    }
    // What was received may be sent as it came.
    send(&rig, json!([{"body": "5", "properties": {"TAGS": "t"}}]));
    assert_eq!(receive(&rig, "")["messages"][0]["properties"], json!({"TAGS": "t"}));
}

#[test]
fn a_pull_with_ack_is_acked_by_the_server() {
    let rig = shop();
    send_bodies(&rig, &["a"]);
    let pulled = receive(&rig, "&ack=true");
    assert_eq!((bodies(&pulled), &pulled["ackIndex"]), (vec!["a"], &Value::Null));
    rig.advance(secs(3_600));
    assert!(bodies(&receive(&rig, "")).is_empty());
}

#[test]
fn a_delayed_message_comes_when_it_is_due() {
    let rig = shop();
    send(&rig, json!([{"body": "late", "delaySeconds": 86_400}, {"body": "now", "delaySeconds": 0}]));
    assert_eq!(bodies(&receive(&rig, "&ack=true")), ["now"]);
    rig.advance(secs(86_399));
    assert!(bodies(&receive(&rig, "")).is_empty());
    rig.advance(secs(1));
    assert_eq!(bodies(&receive(&rig, "")), ["late"]);
}

#[test]
fn an_ordered_topic_hands_out_one_batch_at_a_time_and_waits_for_it() {
    let rig = Rig::start();
    topic(&rig, "orders", "global_order");
    let order = |body: &str| {
        let body = json!({"topic": "orders", "type": "ORDER", "messages": [{"body": body}]});
        result(&rig.post("/v2/messages", &body));
    };
    for body in ["a", "b", "c"] {
        order(body);
    }
    let first = receive(&rig, "&size=2");
    assert_eq!(bodies(&first), ["a", "b"]);
    assert!(bodies(&receive(&rig, "")).is_empty(), "one batch in flight");
    acked(&rig, &first, "CONSUME_FAILED");
    assert!(bodies(&receive(&rig, "")).is_empty(), "nothing overtakes what failed");
    rig.advance(secs(10));
    let again = receive(&rig, "&size=2");
    assert_eq!(bodies(&again), ["a", "b"]);
    acked(&rig, &again, "DISCARD");
    assert_eq!(bodies(&receive(&rig, "")), ["c"]);
    let view = manage(&rig, "GET", &format!("/topics/orders/subscriptions/{GROUP}"), &Value::Null);
    assert_eq!(view["subscription"]["dlqEnable"], false);
    let delayed = json!({"topic": "orders", "type": "ORDER", "messages": [{"body": "x", "delaySeconds": 1}]});
    expect_error(&rig.post("/v2/messages", &delayed), 400, "INVALID_ARGUMENT");
}

#[test]
fn topics_keep_messages_for_three_days_settled_or_not() {
    let rig = shop();
    let ids = send_bodies(&rig, &["a"]);
    acked(&rig, &receive(&rig, ""), "SUCCESS");
    let path = format!("/topics/orders/messages/{}", ids[0]);
    rig.advance(secs(3 * 86_400 - 1));
    assert_eq!(manage(&rig, "GET", &path, &Value::Null)["message"]["body"], "a");
    assert_eq!(bodies(&result(&receive_of(&rig, "orders", "group-02", "&ack=true"))), ["a"]);
    rig.advance(secs(1));
    expect_error(&rig.get(&format!("/v1/regions/{REGION}{path}")), 404, "NOT_FOUND");
    assert!(bodies(&result(&receive_of(&rig, "orders", "group-03", ""))).is_empty());
}

#[test]
fn bad_requests_are_told_what_is_wrong_and_nothing_is_half_done() {
    let rig = shop();
    let message =
        |message: Value| json!({"topic": "orders", "type": "NORMAL", "messages": [{"body": "good"}, message]});
    let large = "x".repeat((256 << 10) + 1);
    for (body, wrong) in [
        (json!({}), "topic"),
        (json!({"topic": "a b", "type": "NORMAL", "messages": [{"body": "x"}]}), "topic"),
        (json!({"topic": "orders", "messages": [{"body": "x"}]}), "type"),
        (json!({"topic": "orders", "type": "TRANSACTION", "messages": [{"body": "x"}]}), "type"),
        (json!({"topic": "orders", "type": "ORDER", "messages": [{"body": "x"}]}), "type"),
        (json!({"topic": "orders", "type": "NORMAL"}), "messages"),
        (json!({"topic": "orders", "type": "NORMAL", "messages": []}), "messages"),
        (json!({"topic": "orders", "type": "NORMAL", "messages": vec![json!({"body": "x"}); 33]}), "messages"),
        (message(json!({})), "messages/1/body"),
        (message(json!({"body": 5})), "messages/1/body"),
        (message(json!({"body": large})), "messages/1/body"),
        (message(json!({"body": "x", "delaySeconds": -1})), "messages/1/delaySeconds"),
        (message(json!({"body": "x", "delaySeconds": 86_401})), "messages/1/delaySeconds"),
        (message(json!({"body": "x", "delaySeconds": 1.5})), "messages/1/delaySeconds"),
        (message(json!({"body": "x", "tag": "a|b"})), "messages/1/tag"),
        (message(json!({"body": "x", "tag": "a", "properties": {"TAGS": "b"}})), "messages/1/properties"),
        (message(json!({"body": "x", "properties": {"body": "shadow"}})), "messages/1/properties"),
        (message(json!({"body": "x", "properties": {"tag": "shadow"}})), "messages/1/properties"),
        (message(json!({"body": "x", "properties": {"delaySeconds": "9"}})), "messages/1/properties"),
        (message(json!({"body": "x", "properties": {"p": 5}})), "messages/1/properties"),
    ] {
        let error = expect_error(&rig.post("/v2/messages", &body), 400, "INVALID_ARGUMENT");
        let said = error["message"].as_str().expect("a message");
        assert!(said.starts_with(&format!("Invalid request parameters：[ {wrong}")), "{said}");
    }
    let twice = r#"{"topic":"orders","type":"NORMAL","messages":[{"body":"x","properties":{"a":"1","a":"2"}}]}"#;
    for body in [twice, "{", "[]", "{\"topic\":\"orders\",\"topic\":\"orders\"}"] {
        expect_error(&rig.ask("POST", "/v2/messages").body(body).send(), 400, "INVALID_ARGUMENT");
    }
    let longest = "x".repeat(256 << 10);
    send_bodies(&rig, &[&longest]);
    assert_eq!(bodies(&receive(&rig, "&ack=true")), [longest.as_str()], "and of the refused nothing");
    for bad in [
        "&size=0",
        "&size=33",
        "&size=x",
        "&size=%2B1",
        "&consumeFromWhere=MIDDLE",
        "&ack=1",
        "&topic=orders",
        "&ackAction=SUCCESS",
    ] {
        expect_error(&receive_of(&rig, "orders", GROUP, bad), 400, "INVALID_ARGUMENT");
    }
    expect_error(&rig.get("/v2/messages?topic=orders"), 400, "INVALID_ARGUMENT");
    expect_error(&receive_of(&rig, "orders", "short", ""), 400, "INVALID_ARGUMENT");
    let error = expect_error(&receive_of(&rig, "nothing", GROUP, ""), 400, "TOPIC_NOT_EXIST");
    assert_eq!(error, json!({"code": 400, "message": "TOPIC_NOT_EXIST", "status": "TOPIC_NOT_EXIST"}));
    let nowhere = json!({"topic": "nothing", "type": "NORMAL", "messages": [{"body": "x"}]});
    expect_error(&rig.post("/v2/messages", &nowhere), 400, "TOPIC_NOT_EXIST");
    let index = json!("broker-7");
    let mut unknown = ack_body(&index, "SUCCESS");
    expect_error(&rig.post("/v2/ack", &unknown), 400, "ACK_FAILED");
    unknown["consumerGroupId"] = json!("group-99");
    let error = expect_error(&rig.post("/v2/ack", &unknown), 400, "INVALID_ARGUMENT");
    assert_eq!(error["message"], "subscription not exist");
    for (index, action) in [(json!("broker-7"), "FINE"), (json!("7"), "SUCCESS"), (json!("broker-x"), "SUCCESS")] {
        expect_error(&rig.post("/v2/ack", &ack_body(&index, action)), 400, "INVALID_ARGUMENT");
    }
}

#[test]
fn every_answer_has_an_id_of_its_own_whatever_the_client_sends() {
    let rig = shop();
    let mut ids = std::collections::BTreeSet::new();
    for path in ["/v2/messages", "/v2/nothing", "/v1/ack", "/v1/regions/x/topics", "/v1/regions/x/nothing"] {
        for encoding in ["identity", "gzip"] {
            let ask = rig.ask("GET", path).header("x-request-id", "mine").header("content-encoding", encoding);
            let reply = ask.send();
            let id = reply.json()["requestId"].as_str().expect("an id").to_owned();
            assert_eq!(reply.header("x-request-id"), Some(id.as_str()));
            assert!(!id.is_empty() && id != "mine" && ids.insert(id), "{path}");
        }
    }
}

#[test]
fn messages_of_other_dialects_are_received_too() {
    let rig = shop();
    let native = "/api/windlass/v1/topics/orders/messages";
    rig.ask("POST", &format!("{native}?key=k1&tag=t1")).body(b"\xff\x00".to_vec()).send().expect(201);
    let pulled = receive(&rig, "");
    assert_eq!(pulled["messages"][0]["messageBody"], "/wA=");
    let properties = json!({"TAGS": "t1", "KEYS": "k1", "BODY_ENCODING": "base64"});
    assert_eq!(pulled["messages"][0]["properties"], properties);
}

#[test]
fn a_topic_is_a_queue_of_the_other_dialect_too() {
    let rig = Rig::start();
    let queues = "/client/v4/accounts/default/queues";
    let queue = rig.post(queues, &json!({"queue_name": "orders"})).expect(200)["result"]["queue_id"].clone();
    let queue = format!("{queues}/{}", queue.as_str().expect("an id"));
    rig.post(&format!("{queue}/consumers"), &json!({"type": "http_pull"})).expect(200);
    send(&rig, json!([{"body": "from here", "tag": "t", "properties": {"p": "v"}}]));
    rig.post(&format!("{queue}/messages"), &json!({"body": "from there", "content_type": "text"})).expect(200);
    rig.post(&format!("{queue}/messages"), &json!({"body": {"a": 1}})).expect(200);
    assert_eq!(bodies(&receive(&rig, "")), ["from here", "from there", "{\"a\":1}"]);
    let pulled = rig.post(&format!("{queue}/messages/pull"), &json!({})).expect(200)["result"]["messages"].clone();
    assert_eq!((&pulled[0]["body"], &pulled[0]["metadata"]["CF-Content-Type"]), (&json!("from here"), &json!("text")));
    assert_eq!(pulled[0]["metadata"]["p"], "v");
}

#[test]
fn a_head_request_takes_no_messages() {
    let rig = shop();
    send_bodies(&rig, &["a"]);
    let mut bare = rig.connect();
    let path = format!("/v2/messages?topic=orders&consumerGroupId={GROUP}&ack=true");
    let head = format!("HEAD {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", rig.address);
    std::io::Write::write_all(&mut bare, head.as_bytes()).expect("a head");
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut bare, &mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert_eq!(bodies(&receive(&rig, "")), ["a"]);
}

/// A server with one access key that may do everything.
fn locked() -> (Rig, Key) {
    let rig = shop();
    let key = Key::made(&rig, "default", Permissions::ALL, "*");
    (rig, key)
}

fn send_one(rig: &Rig, key: &Key) -> Ask {
    let body = json!({"topic": "orders", "type": "NORMAL", "messages": [
        {"body": "京东 a=1&b=2", "tag": "t", "delaySeconds": 0, "properties": {"K1": "v1", "k2": "v2"}}]});
    key.post(rig, "/v2/messages", &body)
}

#[test]
fn requests_signed_as_the_manual_says_are_served_and_no_others() {
    let (rig, key) = locked();
    for version in ["v1", "v2"] {
        result(&send_one(&rig, &key).send());
        let query = [
            ("topic", "orders"),
            ("consumerGroupId", GROUP),
            ("filterExpressionType", "TAG"),
            ("filterExpression", "t || ü"),
        ];
        let pulled = result(&key.get(&rig, &format!("/{version}/messages"), &query).send());
        assert_eq!(bodies(&pulled), ["京东 a=1&b=2"]);
        let ack = ack_body(&pulled["ackIndex"], "SUCCESS");
        assert_eq!(result(&key.post(&rig, &format!("/{version}/ack"), &ack).send()), Value::Null);
    }
    let failed = json!({"code": 403, "message": "Authentication failure", "status": "PERMISSION_DENIED"});
    let refused = |ask: Ask| assert_eq!(expect_error(&ask.send(), 403, "PERMISSION_DENIED"), failed);
    let body = json!({"topic": "orders", "type": "NORMAL", "messages": [{"body": "x"}]});
    let other = json!({"topic": "orders", "type": "NORMAL", "messages": [{"body": "y"}]});
    let signature = key.sign_body(&body, &jcq::now(&rig));
    let with = |id: &str, time: &str, signature: &str| {
        let ask = rig.ask("POST", "/v2/messages").header("accessKey", id);
        ask.header("dateTime", time).header("signature", signature)
    };
    let now = jcq::now(&rig);
    result(&with(&key.id, &now, &signature).json(&body).send());
    refused(with(&key.id, &now, &signature).json(&other));
    refused(with(&key.id, "2026-01-01T00:00:01Z", &signature).json(&body));
    refused(with("WLAKNOBODY", &now, &signature).json(&body));
    refused(with(&key.id, &now, "").json(&body));
    refused(with(&key.id, "yesterday", &signature).json(&body));
    refused(rig.ask("POST", "/v2/messages").json(&body));
    refused(rig.ask("POST", "/v2/messages").header("accessKey", &key.id).json(&body));
    refused(rig.ask("GET", "/v2/messages?topic=orders&consumerGroupId=group-01"));
    let mut query = key.get(&rig, "/v2/messages", &[("topic", "orders"), ("consumerGroupId", GROUP)]);
    query = query.replaced("topic=orders", "topic=others");
    refused(query);
    // A bearer token is no access key.
    let token = rig.token("default", Permissions::ALL, "*");
    refused(rig.ask("POST", "/v2/messages").token(&token).json(&body));
    // What would stand for the body in the digest is refused although it is signed.
    let shadow =
        json!({"topic": "orders", "type": "NORMAL", "messages": [{"body": "real", "properties": {"body": "x"}}]});
    expect_error(&key.post(&rig, "/v2/messages", &shadow).send(), 400, "INVALID_ARGUMENT");
}

#[test]
fn a_signature_is_worth_nothing_outside_its_window() {
    let (rig, key) = locked();
    let query = [("topic", "orders"), ("consumerGroupId", GROUP)];
    let ask = key.get(&rig, "/v2/messages", &query);
    let short = key.get_at(&rig, "/v2/messages", &query, "2026-01-01T00:00Z");
    result(&short.send());
    rig.advance(secs(900));
    result(&ask.clone().send());
    let manage = key.manage(&rig, "GET", "/topics", "", "");
    rig.advance(secs(1));
    expect_error(&ask.send(), 403, "PERMISSION_DENIED");
    let future = key.get_at(&rig, "/v2/messages", &query, "2026-01-01T00:30:02Z");
    expect_error(&future.send(), 403, "PERMISSION_DENIED");
    rig.advance(secs(899));
    result(&manage.clone().send());
    rig.advance(secs(1));
    expect_error(&manage.send(), 403, "PERMISSION_DENIED");
}

#[test]
fn every_path_asks_who_it_is_before_it_says_anything() {
    let (rig, key) = locked();
    let management = JCQ_ROUTES.iter().map(|route| {
        let path = route.path.replace("{topic}", "orders").replace("{group}", GROUP).replace("{message}", "0");
        (route.method.to_string(), format!("/v1/regions/{REGION}{path}"))
    });
    let data = JCQ_DATA_ROUTES.iter().map(|route| (route.method.to_string(), route.path.to_owned()));
    let mut paths: Vec<(String, String)> = management.chain(data).collect();
    for nowhere in
        ["/v2", "/v2/nothing", "/v1/ack/x", "/v1/messages/x", "/v1/regions", "/v1/regions/x", "/v1/regions/x/y"]
    {
        paths.push(("GET".to_owned(), nowhere.to_owned()));
    }
    for (method, path) in &paths {
        let reply = rig.ask(method, path).body("{}").send();
        expect_error(&reply, 403, "PERMISSION_DENIED");
        assert!(reply.header("www-authenticate").is_none());
        let foreign = rig.ask(method, path).header("authorization", "JDCLOUD3-HMAC-SHA256 x").body("{}").send();
        expect_error(&foreign, 403, "PERMISSION_DENIED");
        let wrong_verb = rig.ask("PUT", path).body("{}").send();
        expect_error(&wrong_verb, 403, "PERMISSION_DENIED");
    }
    expect_error(&key.get(&rig, "/v2/nothing", &[]).send(), 404, "NOT_FOUND");
    expect_error(&key.get(&rig, "/v2/ack", &[]).send(), 405, "METHOD_NOT_ALLOWED");
    expect_error(&key.manage(&rig, "GET", "/nothing", "", "").send(), 404, "NOT_FOUND");
    expect_error(&key.manage(&rig, "PUT", "/topics", "", "").send(), 405, "METHOD_NOT_ALLOWED");
    // No body is waited for from whoever claims nothing.
    let mut bare = rig.connect();
    let head = "POST /v2/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
    std::io::Write::write_all(&mut bare, head.as_bytes()).expect("a head");
    expect_error(&Reply::read(&mut bare), 403, "PERMISSION_DENIED");
}

#[test]
fn a_credential_does_what_it_is_for_and_sees_its_own_account_only() {
    let (rig, _) = locked();
    let query = [("topic", "orders"), ("consumerGroupId", GROUP)];
    for permissions in single_permissions() {
        let key = Key::made(&rig, "default", permissions, "*");
        let receive = key.get(&rig, "/v2/messages", &query).send();
        let send = send_one(&rig, &key).send();
        let ack = key.post(&rig, "/v2/ack", &ack_body(&json!("broker-1"), "SUCCESS")).send();
        if !permissions.publish {
            expect_error(&send, 403, "TOPIC_PERMISSION_DENIED");
        }
        if !permissions.consume {
            expect_error(&receive, 403, "TOPIC_PERMISSION_DENIED");
            expect_error(&ack, 403, "TOPIC_PERMISSION_DENIED");
        }
        assert_eq!(send.status == 200, permissions.publish);
        assert_eq!(receive.status == 200, permissions.consume);
        let made = key.manage(&rig, "POST", "/topics", "", r#"{"topicName":"made","type":"normal"}"#).send();
        assert_eq!(made.status == 200, permissions.admin, "{}", made.text());
        if !permissions.admin {
            expect_error(&made, 403, "USER_AUTH_FAILED");
        }
        assert_eq!(key.manage(&rig, "GET", "/topics", "", "").send().status, 200);
    }
    let elsewhere = Key::made(&rig, "default", Permissions::ALL, "other*");
    expect_error(&send_one(&rig, &elsewhere).send(), 403, "TOPIC_AUTH_FAILED");
    expect_error(&elsewhere.get(&rig, "/v2/messages", &query).send(), 403, "TOPIC_AUTH_FAILED");
    let made = elsewhere.manage(&rig, "POST", "/topics", "", r#"{"topicName":"orders2","type":"normal"}"#);
    expect_error(&made.send(), 403, "TOPIC_AUTH_FAILED");
    let foreign = Key::made(&rig, "foreign", Permissions::ALL, "*");
    expect_error(&send_one(&rig, &foreign).send(), 400, "TOPIC_NOT_EXIST");
    let listed = result(&foreign.manage(&rig, "GET", "/topics", "", "").send());
    assert_eq!(listed, json!({"topics": [], "totalCount": 0}));
}

#[test]
fn an_open_server_looks_at_no_signature_but_at_where_the_page_is_from() {
    let rig = shop();
    let forged = rig.ask("GET", "/v2/messages?topic=orders&consumerGroupId=group-01");
    let forged = forged.header("accessKey", "any").header("dateTime", "x").header("signature", "forged");
    result(&forged.clone().send());
    let error = expect_error(&forged.header("origin", "https://evil.example").send(), 403, "PERMISSION_DENIED");
    assert!(error["message"].as_str().is_some_and(|message| message.contains("localhost")));
}
