//! Every route of JCQ's management plane with every kind of caller, and with bodies that are none.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "support/jcq.rs"]
mod jcq;
#[path = "support/http.rs"]
mod support;

use jcq::{Key, expect_error, result};
use serde_json::{Value, json};
use support::{Ask, Reply, Rig, single_permissions};
use windlass::access::Right;
use windlass::http::JCQ_ROUTES;
use windlass::model::{Permission, Permissions};

/// Says whose data it is, wherever it turns up.
const MARK: &str = "marked-topic";
const GROUP: &str = "marked-group";
const PERIOD: &str = "endTime=2027-01-01T00%3A00%3A00Z&startTime=2026-01-01T00%3A00%3A00Z";

/// A server with a topic that has a group and a message, the key that made them, and the message's id.
fn rig() -> (Rig, Key, String) {
    let rig = Rig::start();
    let key = Key::made(&rig, "own", Permissions::ALL, "*");
    let topic = json!({"topicName": MARK, "type": "normal"}).to_string();
    result(&key.manage(&rig, "POST", "/topics", "", &topic).send());
    let group = json!({"consumerGroupId": GROUP}).to_string();
    result(&key.manage(&rig, "POST", &format!("/topics/{MARK}/subscriptions"), "", &group).send());
    let send = json!({"topic": MARK, "type": "NORMAL", "messages": [{"body": MARK}]});
    let sent = result(&key.post(&rig, "/v2/messages", &send).send());
    (rig, key, sent["messageIds"][0].as_str().expect("an id").to_owned())
}

/// A route with what it needs; deletes come last, for what they delete is needed before.
struct Target {
    method: String,
    path: String,
    right: Right,
    names_topic: bool,
}

fn targets(message: &str) -> Vec<Target> {
    let target = |route: &windlass::http::JcqRoute| Target {
        method: route.method.to_string(),
        path: route.path.replace("{topic}", MARK).replace("{group}", GROUP).replace("{message}", message),
        right: route.right,
        names_topic: route.path.contains("{topic}"),
    };
    let mut targets: Vec<Target> = JCQ_ROUTES.iter().map(target).collect();
    targets.sort_by_key(|target| (target.method == "DELETE", std::cmp::Reverse(target.path.len())));
    assert_eq!(targets.len(), 25);
    targets
}

fn ask(rig: &Rig, key: &Key, target: &Target, body: &str) -> Reply {
    let needs_period = target.path.ends_with("/messages") || target.path.ends_with(":listDeadLetters");
    let query = match target.path.rsplit('/').next() {
        Some("iam") => "permission=PUB&targetUserId=nobody",
        _ if needs_period => PERIOD,
        _ => "",
    };
    let query = if target.method == "POST" || target.method == "PATCH" { "" } else { query };
    key.manage(rig, &target.method, &target.path, query, body).send()
}

fn body_of(target: &Target) -> String {
    let last = target.path.rsplit(['/', ':']).next().unwrap_or_default();
    let body = match (target.method.as_str(), last) {
        ("POST", "topics") => json!({"topicName": "another", "type": "normal"}),
        ("POST", "subscriptions") => json!({"consumerGroupId": "another-group"}),
        ("POST", "resetConsumeOffset") => json!({"time": "2026-01-01T00:00:00Z"}),
        ("POST", "messagesWithBusinessId") => json!({"businessId": "7"}),
        ("POST", "iam") => json!({"permission": "PUB", "targetUserId": "nobody"}),
        ("POST" | "PATCH", _) => json!({}),
        (_, _) => Value::Null,
    };
    if body.is_null() { String::new() } else { body.to_string() }
}

#[test]
fn a_signature_is_good_for_its_secret_path_query_and_body_only() {
    let (rig, key, _) = rig();
    let refused = |ask: Ask| expect_error(&ask.send(), 403, "PERMISSION_DENIED");
    let create = |key: &Key| key.manage(&rig, "POST", "/topics", "", "{\"topicName\":\"abc\",\"type\":\"normal\"}");
    refused(key.with_secret_of(&Key::made(&rig, "own", Permissions::ALL, "*")).manage(&rig, "GET", "/topics", "", ""));
    refused(create(&key).body("{\"topicName\":\"abd\",\"type\":\"normal\"}"));
    refused(create(&key).replaced("/topics ", "/topics/abc/subscriptions "));
    refused(create(&key).replaced("POST", "PATCH"));
    refused(create(&key).replaced("x-jdcloud-date: 2026", "x-jdcloud-date: 2025"));
    refused(key.manage(&rig, "GET", "/topics", "pageSize=10", "").replaced("pageSize=10", "pageSize=20"));
    // What the scheme leaves out of the signed text cannot be put in.
    for query in ["tagFilters.1.key", "=x", "pageSize=10&topicFilter"] {
        let signed = if query.starts_with("pageSize") { "pageSize=10" } else { "" };
        let there = if signed.is_empty() { "/topics ".to_owned() } else { format!("/topics?{signed} ") };
        let ask = key.manage(&rig, "GET", "/topics", signed, "");
        result(&ask.clone().send());
        refused(ask.replaced(&there, &format!("/topics?{query} ")));
    }
    result(&create(&key).send());
}

#[test]
fn each_permission_opens_its_own_routes_and_no_other() {
    let (rig, _, message) = rig();
    let targets = targets(&message);
    for permissions in single_permissions() {
        let key = Key::made(&rig, "own", permissions, "*");
        let elsewhere = Key::made(&rig, "own", permissions, "other*");
        // Deletes are tried with the last of the three only, for they succeed.
        for target in targets.iter().filter(|target| permissions.admin || target.method != "DELETE") {
            let allowed = match target.right {
                Right::Do(Permission::Publish) => permissions.publish,
                Right::Do(Permission::Consume) => permissions.consume,
                Right::Do(Permission::Admin) => permissions.admin,
                Right::See => true,
            };
            let told = |reply: &Reply| format!("{permissions:?} {} {}: {}", target.method, target.path, reply.text());
            let reply = ask(&rig, &elsewhere, target, &body_of(target));
            assert!(!target.names_topic || reply.status == 403, "{}", told(&reply));
            assert!(!reply.text().contains(MARK), "{}", told(&reply));
            let reply = ask(&rig, &key, target, &body_of(target));
            let gives_itself = target.path.ends_with("/iam") && target.method == "POST" && permissions.admin;
            assert_eq!(reply.status != 403, allowed && !gives_itself, "{}", told(&reply));
            assert!(allowed || !reply.text().contains(MARK), "{}", told(&reply));
        }
    }
}

#[test]
fn another_account_finds_nothing_on_any_route() {
    let (rig, key, message) = rig();
    let foreign = Key::made(&rig, "foreign", Permissions::ALL, "*");
    let before = result(&key.manage(&rig, "GET", "/topics", "", "").send());
    for target in targets(&message) {
        let reply = ask(&rig, &foreign, &target, &body_of(&target));
        let told = format!("{} {}", target.method, target.path);
        if target.names_topic {
            expect_error(&reply, 404, "NOT_FOUND");
        }
        assert!(!reply.text().contains(MARK) && !reply.text().contains(GROUP), "{told}: {}", reply.text());
    }
    assert_eq!(result(&key.manage(&rig, "GET", "/topics", "", "").send()), before);
    // Its own topic of the same name shows nothing of the other one, and takes no index of it.
    let topic = json!({"topicName": MARK, "type": "normal"}).to_string();
    result(&foreign.manage(&rig, "POST", "/topics", "", &topic).send());
    let query = [("topic", MARK), ("consumerGroupId", GROUP)];
    let own = result(&key.get(&rig, "/v2/messages", &query).send());
    assert_eq!(result(&foreign.get(&rig, "/v2/messages", &query).send())["messages"], json!([]));
    let index = &own["ackIndex"];
    let ack = json!({"topic": MARK, "consumerGroupId": GROUP, "ackIndex": index, "ackAction": "SUCCESS"});
    expect_error(&foreign.post(&rig, "/v2/ack", &ack).send(), 400, "ACK_FAILED");
    assert_eq!(result(&key.post(&rig, "/v2/ack", &ack).send()), Value::Null);
    // Nor may a topic be opened to a key of another account.
    let grant = json!({"permission": "PUB", "targetUserId": foreign.id}).to_string();
    let granted = key.manage(&rig, "POST", &format!("/topics/{MARK}/iam"), "", &grant).send();
    expect_error(&granted, 404, "NOT_FOUND");
}

#[test]
fn bodies_that_are_none_are_refused_and_change_nothing() {
    let (rig, key, message) = rig();
    let takes_no_body = [":cleanMessages"];
    let posts = targets(&message).into_iter().filter(|target| matches!(target.method.as_str(), "POST" | "PATCH"));
    for target in posts.filter(|target| !takes_no_body.iter().any(|end| target.path.ends_with(end))) {
        for body in [
            "{",
            " \n",
            "[]",
            "5",
            "{\"topicName\":5,\"consumerGroupId\":5,\"dlqEnable\":5,\"messageIds\":5,\"time\":5,\"businessId\":5,\"permission\":5}",
        ] {
            expect_error(&ask(&rig, &key, &target, body), 400, "INVALID_ARGUMENT");
        }
    }
    let topics = result(&key.manage(&rig, "GET", "/topics", "", "").send());
    assert_eq!((&topics["totalCount"], &topics["topics"][0]["subscriptionCount"]), (&json!(1), &json!(1)));
}

#[test]
fn a_dead_letter_sent_again_comes_back_with_its_id() {
    let (rig, key, message) = rig();
    let patch = json!({"maxRetryTimes": 0}).to_string();
    let group = format!("/topics/{MARK}/subscriptions/{GROUP}");
    result(&key.manage(&rig, "PATCH", &group, "", &patch).send());
    let pull = || result(&key.get(&rig, "/v2/messages", &[("topic", MARK), ("consumerGroupId", GROUP)]).send());
    let pulled = pull();
    let failed =
        json!({"topic": MARK, "consumerGroupId": GROUP, "ackIndex": pulled["ackIndex"], "ackAction": "CONSUME_FAILED"});
    assert_eq!(result(&key.post(&rig, "/v2/ack", &failed).send()), Value::Null);
    assert_eq!(pull()["messages"], json!([]));
    let listed = result(&key.manage(&rig, "GET", &format!("{group}:listDeadLetters"), PERIOD, "").send());
    let expected = json!({"messageId": message, "expireTime": "2026-01-04T00:00:00Z"});
    assert_eq!(listed, json!({"deadLetters": [expected], "totalCount": 1}));
    let trace = key.manage(&rig, "GET", &format!("/topics/{MARK}/messageTrace/{message}"), "", "").send();
    let consumed = &result(&trace)["messageTraceInfo"]["consumeInfoList"][0];
    assert_eq!(
        *consumed,
        json!({"consumerGroupId": GROUP, "messageConsumeStatus": "ALL_FAILED", "successTimes": 0, "failedTimes": 1,
               "consumerInfoDetailList": []})
    );
    let again = result(&key.manage(&rig, "POST", &format!("{group}:resendDeadLetters"), "", "{}").send());
    assert_eq!(again, json!({"messageIds": [message]}));
    assert_eq!(pull()["messages"][0]["messageId"], json!(message));
}

#[test]
fn groups_of_other_dialects_are_shown_whatever_their_names() {
    let rig = Rig::start();
    let topics = "/api/windlass/v1/topics";
    rig.post(topics, &json!({"name": "t"})).expect(201);
    let name = "g".repeat(128);
    rig.post(&format!("{topics}/t/groups"), &json!({"name": name, "settings": {"dead_letter": "dead"}})).expect(201);
    // It keeps what the first has settled.
    rig.post(&format!("{topics}/t/groups"), &json!({"name": "other"})).expect(201);
    rig.ask("POST", &format!("{topics}/t/messages")).body("x").send().expect(201);
    let manage = |method: &str, path: &str, body: Value| {
        rig.ask(method, &format!("/v1/regions/cn-north-1{path}")).json(&body).send()
    };
    let group = format!("/topics/t/subscriptions/{name}");
    assert_eq!(result(&manage("GET", &group, json!({})))["subscription"]["dlqEnable"], true);
    let numbers = result(&manage("GET", "/deadLetterNumbers", json!({})));
    assert_eq!(numbers["deadLetterNumbers"][0]["deadLetterNumber"], 0);
    let path = format!("{group}:listDeadLetters?{PERIOD}");
    assert_eq!(result(&manage("GET", &path, json!({}))), json!({"deadLetters": [], "totalCount": 0}));
    let pulled = result(&rig.get(&format!("/v2/messages?topic=t&consumerGroupId={name}")));
    let message = pulled["messages"][0]["messageId"].as_str().expect("an id");
    let ack = json!({"topic": "t", "consumerGroupId": name, "ackIndex": pulled["ackIndex"], "ackAction": "SUCCESS"});
    result(&rig.post("/v2/ack", &ack));
    let trace = result(&manage("GET", &format!("/topics/t/messageTrace/{message}"), json!({})));
    assert_eq!(trace["messageTraceInfo"]["consumeInfoList"][0]["messageConsumeStatus"], "SUCCESS");
    result(&manage("PATCH", &group, json!({"dlqEnable": false})));
    expect_error(&manage("PATCH", &group, json!({"dlqEnable": true})), 400, "INVALID_ARGUMENT");
    result(&manage("DELETE", &group, json!({})));
}
