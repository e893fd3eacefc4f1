//! The Cloudflare dialect over real TCP: the captured requests of its clients, and its errors.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "support/cloudflare.rs"]
mod cloudflare;
#[path = "support/http.rs"]
mod support;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloudflare::{QUEUES, Queue, queue, queue_of, result};
use serde_json::{Value, json};
use support::Rig;
use windlass::access::account_hex;
use windlass::config::JsonBody;
use windlass::model::{AccountName, Permissions};

#[test]
fn a_queue_is_made_listed_changed_and_deleted_as_the_clients_do_it() {
    let rig = Rig::start();
    let made = result(
        &rig,
        "POST",
        "",
        &json!({"queue_name": "n", "settings": {"delivery_delay": 3, "message_retention_period": 600}}),
    );
    let id = made["queue_id"].as_str().expect("an id").to_owned();
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(
        made["settings"],
        json!({"delivery_delay": 3, "delivery_paused": false, "message_retention_period": 600})
    );
    assert_eq!(made["created_on"], "2026-01-01T00:00:00.000000Z");
    assert_eq!((&made["producers"], &made["producers_total_count"]), (&json!([]), &json!(0)));
    assert_eq!((&made["consumers"], &made["consumers_total_count"]), (&json!([]), &json!(0)));
    assert_eq!(made.get("jurisdiction"), None);
    let other = result(&rig, "POST", "", &json!({"queue_name": "m", "jurisdiction": "eu"}));
    assert_eq!(other["jurisdiction"], "eu");
    assert_eq!(
        other["settings"],
        json!({"delivery_delay": 0, "delivery_paused": false, "message_retention_period": 345_600})
    );

    // A float, as Python sends them, and a name that comes along unchanged, as wrangler sends it.
    let edited =
        result(&rig, "PATCH", &format!("/{id}"), &json!({"queue_name": "n", "settings": {"delivery_delay": 5.0}}));
    assert_eq!(
        edited["settings"],
        json!({"delivery_delay": 5, "delivery_paused": false, "message_retention_period": 600})
    );
    let replaced =
        result(&rig, "PUT", &format!("/{id}"), &json!({"queue_name": "r", "settings": {"delivery_paused": true}}));
    assert_eq!(replaced["queue_name"], "r");
    assert_eq!(
        replaced["settings"],
        json!({"delivery_delay": 0, "delivery_paused": true, "message_retention_period": 345_600})
    );
    assert_eq!(result(&rig, "GET", &format!("/{id}"), &json!({}))["queue_name"], "r");

    let names = |query: &str| -> (Vec<String>, Value) {
        let envelope = rig.get(&format!("{QUEUES}{query}")).expect(200);
        let queues = envelope["result"].as_array().expect("queues").clone();
        let names = queues.iter().map(|queue| queue["queue_name"].as_str().expect("a name").to_owned());
        (names.collect(), envelope["result_info"].clone())
    };
    assert_eq!(names("").0, ["m", "r"]);
    assert_eq!(names("?page=1&name=r").0, ["r"]);
    assert_eq!(names("?name=r&name=m&name=x").0, ["m", "r"]);
    assert_eq!(names("?name=R").0, [""; 0]);
    let (page, info) = names("?page=2&per_page=1");
    assert_eq!(page, ["r"]);
    assert_eq!(info, json!({"page": 2, "per_page": 1, "count": 1, "total_count": 2, "total_pages": 2}));
    assert_eq!(names("?page=3&per_page=1").0, [""; 0]);
    for bad in ["?page=0", "?page=x", "?per_page=0", "?per_page=1001", "?page=-1"] {
        rig.get(&format!("{QUEUES}{bad}")).expect_fault(400, 10026);
    }
    // Python: a content type, no body, no length.
    let reply =
        rig.ask("DELETE", &format!("{QUEUES}/{id}")).header("content-type", "application/json").send().expect(200);
    assert_eq!((&reply["success"], &reply["result"]), (&json!(true), &Value::Null));
    rig.get(&format!("{QUEUES}/{id}")).expect_fault(404, 11000);
}

#[test]
fn queue_settings_out_of_bounds_and_bad_names_are_refused() {
    let queue = queue();
    let rig = &queue.rig;
    for name in ["", "a_b", "-a", "a.b", &"a".repeat(64)] {
        rig.post(QUEUES, &json!({"queue_name": name})).expect_fault(400, 11003);
        queue.fault("PATCH", "", &json!({"queue_name": name}), 400, 11003);
    }
    rig.post(QUEUES, &json!({})).expect_fault(400, 11003);
    rig.post(QUEUES, &json!({"queue_name": 5})).expect_fault(400, 10026);
    rig.ask("POST", QUEUES).body("{").send().expect_fault(400, 10026);
    let taken = rig.post(QUEUES, &json!({"queue_name": "n"}));
    taken.expect_fault(409, 11009);
    assert_eq!(taken.header("x-should-retry"), Some("false"));
    rig.post(QUEUES, &json!({"queue_name": "other"})).expect(200);
    queue.fault("PATCH", "", &json!({"queue_name": "other"}), 409, 11009);
    for settings in [
        json!({"delivery_delay": 86_401}),
        json!({"message_retention_period": 59}),
        json!({"message_retention_period": 1_209_601}),
    ] {
        queue.fault("PATCH", "", &json!({"settings": settings}), 400, 100_128);
    }
    queue.fault("PATCH", "", &json!({"jurisdiction": "moon"}), 400, 100_128);
    for settings in [json!({"delivery_delay": -1}), json!({"delivery_delay": 1.5}), json!({"delivery_paused": "no"})] {
        queue.fault("PATCH", "", &json!({"settings": settings}), 400, 10026);
    }
}

#[test]
fn text_and_json_go_through_and_come_back_with_their_encoding() {
    for (setting, rendered) in [
        (JsonBody::Base64, STANDARD.encode("{\"b\":[1,2.50],\"a\":\"é\"}")),
        (JsonBody::Plain, "{\"b\":[1,2.50],\"a\":\"é\"}".to_owned()),
    ] {
        let queue = queue_of(Rig::start_with(|config| config.cloudflare.json_body = setting));
        queue.push(&json!({"body": "héllo ☃", "content_type": "text", "delay_seconds": 0}));
        let json = "{\"body\": {\"b\": [1, 2.50], \"a\": \"é\"}}";
        for kind in ["application/json", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded"] {
            let ask = queue.rig.ask("POST", &queue.path("/messages")).header("content-type", kind);
            ask.body(json).send().expect(200);
        }
        queue.push(&json!({"body": null, "content_type": "json", "delay_seconds": null}));
        let messages = queue.pull(&json!({"batch_size": 10.0}));
        assert_eq!(messages.len(), 5);
        let first = &messages[0];
        assert_eq!((&first["body"], &first["attempts"]), (&json!("héllo ☃"), &json!(1)));
        assert_eq!(first["metadata"], json!({"CF-Content-Type": "text", "CF-sourceMessageSource": "api"}));
        assert_eq!(first["timestamp_ms"], queue.rig.now());
        let id = first["id"].as_str().expect("an id");
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        for message in &messages[1..4] {
            assert_eq!((&message["body"], &message["metadata"]["CF-Content-Type"]), (&json!(rendered), &json!("json")));
        }
        let null = if setting == JsonBody::Plain { "null".to_owned() } else { STANDARD.encode("null") };
        assert_eq!(messages[4]["body"], null);
        let other = queue.rig.ask("POST", "/api/windlass/v1/topics/n/messages").header("content-type", "image/png");
        other.body(vec![0, 255]).send().expect(201);
        let message = &queue.pull(&json!({}))[0];
        assert_eq!((&message["body"], &message["metadata"]["CF-Content-Type"]), (&json!("AP8="), &json!("bytes")));
    }
}

#[test]
fn a_batch_takes_the_delay_of_the_message_before_its_own_before_the_queues() {
    let queue = queue();
    queue.ok("PATCH", "", &json!({"settings": {"delivery_delay": 100}}));
    queue.ok(
        "POST",
        "/messages/batch",
        &json!({"delay_seconds": 2, "messages": [
            {"body": "now", "content_type": "text", "delay_seconds": 0},
            {"body": "soon", "content_type": "text"},
            {"body": "later", "content_type": "text", "delay_seconds": 5.0},
        ]}),
    );
    queue.push(&json!({"body": "last", "content_type": "text"}));
    let bodies = || -> Vec<(Value, Value)> {
        let messages = queue.pull(&json!({}));
        messages.iter().map(|m| (m["body"].clone(), m["metadata"]["CF-msg-delay-secs"].clone())).collect()
    };
    assert_eq!(bodies(), [(json!("now"), Value::Null)]);
    queue.rig.advance(Duration::from_secs(2));
    assert_eq!(bodies(), [(json!("soon"), json!("2"))]);
    queue.rig.advance(Duration::from_secs(3));
    assert_eq!(bodies(), [(json!("later"), json!("5"))]);
    queue.rig.advance(Duration::from_secs(95));
    assert!(bodies().contains(&(json!("last"), json!("100"))));
}

#[test]
fn what_cannot_be_pushed_has_its_own_code() {
    let queue = queue();
    let text = |body: String| json!({"body": body, "content_type": "text"});
    for (message, code) in [
        (json!({}), 10207),
        (json!([]), 10207),
        (json!({"body": 5, "content_type": "text"}), 10207),
        (json!({"body": "x", "content_type": "bytes"}), 10203),
        (json!({"body": "x", "content_type": 5}), 10203),
        (json!({"body": "x", "delay_seconds": 86_401}), 10203),
        (json!({"body": "x", "delay_seconds": -1}), 10203),
        (json!({"body": "x", "delay_seconds": 1.5}), 10203),
        (text("x".repeat(128_001)), 10204),
    ] {
        queue.fault("POST", "/messages", &message, 400, code);
    }
    queue.rig.ask("POST", &queue.path("/messages")).body("{\"body\":").send().expect_fault(400, 10208);
    queue.push(&text("x".repeat(128_000)));
    for (batch, code) in [
        (json!({}), 10207),
        (json!({"messages": []}), 10206),
        (json!({"messages": vec![json!({"body": 1}); 101]}), 10206),
        (json!({"messages": vec![json!({"body": 1}); 10_000]}), 10206),
        (json!({"messages": 5}), 10207),
        (json!({"messages": [{"body": 1}], "delay_seconds": 86_401}), 10202),
        (json!({"messages": [{"body": 1}], "delay_seconds": -1}), 10202),
        (json!({"messages": [{"body": 1}, {"body": 1, "delay_seconds": 1.5}]}), 10203),
        (json!({"messages": vec![text("x".repeat(100_000)); 3]}), 10205),
        (json!({"messages": [{"body": 1}, text("x".repeat(128_001))]}), 10204),
    ] {
        queue.fault("POST", "/messages/batch", &batch, 400, code);
    }
    assert_eq!(queue.ok("GET", "/metrics", &json!({}))["backlog_count"], 1, "nothing refused was published");
}

#[test]
fn pull_has_defaults_bounds_and_the_alias_of_cloudflares_examples() {
    let queue = queue();
    let batch: Vec<Value> = (0..100).map(|n| json!({"body": n})).collect();
    queue.ok("POST", "/messages/batch", &json!({"messages": batch}));
    // No body at all.
    let reply = queue.rig.ask("POST", &queue.path("/messages/pull")).send().expect(200);
    assert_eq!(reply["result"]["messages"].as_array().map(Vec::len), Some(5));
    assert_eq!(reply["result"]["message_backlog_count"], 100);
    assert_eq!(reply["result"]["metadata"]["metrics"]["backlog_count"], 100);
    for request in [
        json!({"batch_size": 0}),
        json!({"batch_size": 101}),
        json!({"batch_size": 1.5}),
        json!({"batch_size": "5"}),
        json!({"visibility_timeout_ms": 43_200_001}),
        json!({"visibility_timeout_ms": 0}),
        json!({"visibility_timeout_ms": -1}),
    ] {
        queue.fault("POST", "/messages/pull", &request, 400, 10207);
    }
    let taken = queue.pull(&json!({"batch_size": 1, "visibility_timeout": 1_000, "unknown": true}));
    queue.rig.advance(Duration::from_millis(1_001));
    let again = queue.pull(&json!({"batch_size": 1}));
    assert_eq!(again[0]["id"], taken[0]["id"]);
    assert_eq!(again[0]["attempts"], 2);
    assert_ne!(again[0]["lease_id"], taken[0]["lease_id"]);
    queue.rig.advance(Duration::from_millis(28_000));
    assert_ne!(queue.pull(&json!({"batch_size": 1}))[0]["id"], taken[0]["id"], "30 s is the default");
    // A consumer that was given a size pulls that many.
    let consumer = json!({"type": "http_pull", "settings": {"batch_size": 7}});
    queue.ok("PUT", &format!("/consumers/{}", queue.consumer), &consumer);
    assert_eq!(queue.pull(&json!({})).len(), 7);
    assert_eq!(queue.pull(&json!({"batch_size": 100})).len(), 100 - 5 - 1 - 1 - 7);
    assert!(queue.pull(&json!({})).is_empty(), "an empty queue answers at once");
}

#[test]
fn acks_and_retries_are_counted_late_ones_count_and_strange_ones_are_warned_of() {
    let queue = queue();
    for n in 0..4 {
        queue.push(&json!({"body": n}));
    }
    let leases = |messages: &[Value]| -> Vec<Value> { messages.iter().map(|m| m["lease_id"].clone()).collect() };
    let first = leases(&queue.pull(&json!({"visibility_timeout_ms": 1_000})));
    let request = json!({
        "acks": [{"lease_id": first[0]}, {"lease_id": "strange"}],
        "retries": [{"lease_id": first[1], "delay_seconds": 2}, {"lease_id": first[0]}],
    });
    let settled = queue.ok("POST", "/messages/ack", &request);
    assert_eq!((&settled["ackCount"], &settled["retryCount"]), (&json!(1), &json!(1)));
    assert_eq!(settled["warnings"].as_object().map(|w| w.keys().cloned().collect()), Some(vec!["strange".to_owned()]));
    let again = queue.ok("POST", "/messages/ack", &json!({"acks": [{"lease_id": first[0]}]}));
    assert_eq!(again["ackCount"], 0);
    assert_eq!(again["warnings"].as_object().map(serde_json::Map::len), Some(1));
    queue.rig.advance(Duration::from_millis(1_001));
    // Messages 2 and 3 lapsed and are taken by somebody else; an ack of the old lease counts all the same.
    assert_eq!(queue.pull(&json!({"batch_size": 100})).len(), 2);
    let late = queue.ok(
        "POST",
        "/messages/ack",
        &json!({"acks": [{"lease_id": first[2]}], "retries": [{"lease_id": first[3]}]}),
    );
    assert_eq!((&late["ackCount"], &late["retryCount"]), (&json!(1), &json!(0)));
    assert!(late["warnings"][first[3].as_str().expect("a lease")].is_string(), "{late}");
    queue.rig.advance(Duration::from_millis(1_000));
    assert_eq!(queue.pull(&json!({})).len(), 1, "the retry waited two seconds");
    for request in [json!({}), json!({"acks": []}), json!({"retries": []}), json!({"acks": null})] {
        assert_eq!(
            queue.ok("POST", "/messages/ack", &request),
            json!({"ackCount": 0, "retryCount": 0, "warnings": {}})
        );
    }
    for request in [
        json!({"acks": [{"lease_id": null}]}),
        json!({"acks": [{}]}),
        json!({"acks": ["x"]}),
        json!({"retries": [{"lease_id": "x", "delay_seconds": 86_401}]}),
        json!({"retries": [{"lease_id": "x", "delay_seconds": -1}]}),
    ] {
        queue.fault("POST", "/messages/ack", &request, 400, 10207);
    }
    let before = queue.ok("GET", "/metrics", &json!({}));
    assert_eq!(before["backlog_count"], 2);
    assert_eq!(before["oldest_message_timestamp_ms"], queue.rig.now() - 2_001);
    assert!(before["backlog_bytes"].is_u64());
}

#[test]
fn the_last_retry_goes_to_the_dead_letter_queue_that_was_made_for_it() {
    let rig = Rig::start();
    let made = result(&rig, "POST", "", &json!({"queue_name": "n"}));
    let queue = Queue { id: made["queue_id"].as_str().expect("an id").to_owned(), consumer: String::new(), rig };
    queue.fault("POST", "/messages/pull", &json!({}), 405, 0);
    queue.fault("POST", "/messages/ack", &json!({"acks": [{"lease_id": "x"}]}), 405, 0);
    queue.push(&json!({"body": "x", "content_type": "text"}));
    let request =
        json!({"type": "http_pull", "dead_letter_queue": "dlq", "settings": {"max_retries": 2, "retry_delay": 1}});
    let consumer = queue.ok("POST", "/consumers", &request);
    assert_eq!(consumer["dead_letter_queue"], "dlq");
    assert_eq!((&consumer["type"], &consumer["queue_id"]), (&json!("http_pull"), &json!(queue.id)));
    let settings = json!({"batch_size": 10, "max_retries": 2, "retry_delay": 1, "visibility_timeout_ms": 30_000});
    assert_eq!(consumer["settings"], settings);
    let dead = queue.rig.get(&format!("{QUEUES}?name=dlq")).expect(200)["result"][0].clone();
    assert_eq!(dead["settings"]["message_retention_period"], 345_600);
    let id = queue.pull(&json!({}))[0]["id"].clone();
    for attempt in 2..=3 {
        queue.rig.advance(Duration::from_millis(30_001));
        let messages = queue.pull(&json!({}));
        assert_eq!(messages[0]["attempts"], attempt);
    }
    // Nobody pulls any more: it moves all the same.
    queue.rig.advance(Duration::from_millis(30_001));
    assert_eq!(queue.ok("GET", "/metrics", &json!({}))["backlog_count"], 0);
    let dead =
        Queue { id: dead["queue_id"].as_str().expect("an id").to_owned(), consumer: String::new(), rig: queue.rig };
    dead.ok("POST", "/consumers", &json!({"type": "http_pull"}));
    let message = &dead.pull(&json!({}))[0];
    assert_eq!((&message["body"], &message["attempts"]), (&json!("x"), &json!(1)));
    assert_eq!(message["id"], id);
}

#[test]
fn a_queue_has_one_consumer_and_its_settings_are_bounded() {
    let queue = queue();
    let consumer = format!("/consumers/{}", queue.consumer);
    queue.fault("POST", "/consumers", &json!({"type": "http_pull"}), 400, 11004);
    let worker = queue.fault("POST", "/consumers", &json!({"type": "worker", "script_name": "s"}), 400, 11001);
    assert!(worker["errors"][0]["message"].as_str().expect("a text").contains("no workers"), "{worker}");
    let envelope = queue.rig.get(&queue.path("/consumers")).expect(200);
    assert_eq!(envelope["result_info"]["total_count"], 1);
    assert_eq!(envelope["result"][0]["consumer_id"], queue.consumer);
    let got = queue.ok("GET", &consumer, &json!({}));
    let settings = json!({"batch_size": 10, "max_retries": 3, "retry_delay": 0, "visibility_timeout_ms": 30_000});
    assert_eq!((&got["settings"], &got["dead_letter_queue"]), (&settings, &json!("")));
    let listed = queue.ok("GET", "", &json!({}));
    assert_eq!((&listed["consumers"][0], &listed["consumers_total_count"]), (&got, &json!(1)));
    let settings = json!({"batch_size": 7, "max_retries": 4, "visibility_timeout_ms": 12_000, "retry_delay": 1});
    let put = queue.ok("PUT", &consumer, &json!({"type": "http_pull", "settings": settings, "dead_letter_queue": "d"}));
    assert_eq!((&put["settings"], &put["dead_letter_queue"]), (&settings, &json!("d")));
    assert_eq!(put["consumer_id"], queue.consumer);
    for settings in [
        json!({"batch_size": 0}),
        json!({"batch_size": 101}),
        json!({"max_retries": 101}),
        json!({"retry_delay": 86_401}),
        json!({"visibility_timeout_ms": 43_200_001}),
        json!({"visibility_timeout_ms": 0}),
    ] {
        queue.fault("PUT", &consumer, &json!({"type": "http_pull", "settings": settings}), 400, 100_127);
    }
    queue.fault("PUT", &consumer, &json!({"type": "http_pull", "dead_letter_queue": "n"}), 400, 100_127);
    queue.fault("PUT", &consumer, &json!({"type": "http_pull", "dead_letter_queue": "a/b"}), 400, 11003);
    queue.fault("PUT", &consumer, &json!({"type": "http_pull", "settings": {"max_retries": -1}}), 400, 10026);
    queue.fault("PUT", &consumer, &json!({}), 400, 10026);
    queue.fault("PUT", &consumer, &json!({"type": "worker", "script_name": "s"}), 400, 11001);
    queue.fault("PUT", &consumer, &json!({"type": "pigeon"}), 400, 10026);
    let strange = format!("/consumers/{}", "0".repeat(32));
    queue.fault("GET", &strange, &json!({}), 404, 7003);
    queue.fault("PUT", &strange, &json!({"type": "http_pull"}), 404, 7003);
    queue.fault("DELETE", &strange, &json!({}), 404, 7003);
    queue.fault("GET", "/consumers/short", &json!({}), 404, 7003);
    assert_eq!(queue.ok("DELETE", &consumer, &json!({})), Value::Null);
    queue.fault("POST", "/messages/pull", &json!({}), 405, 0);
    queue.ok("PUT", &consumer, &json!({"type": "http_pull"}));
    queue.pull(&json!({}));
}

#[test]
fn a_paused_queue_takes_pushes_and_gives_nothing() {
    let queue = queue();
    queue.ok("PATCH", "", &json!({"queue_name": "n", "settings": {"delivery_paused": true}}));
    queue.push(&json!({"body": 1}));
    let reply = queue.rig.ask("POST", &queue.path("/messages/pull")).send();
    let envelope = reply.expect_fault(409, 0);
    assert_eq!(envelope["errors"][0]["message"], "queue_delivery_paused");
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    queue.ok("PATCH", "", &json!({"queue_name": "n", "settings": {"delivery_paused": false}}));
    assert_eq!(queue.pull(&json!({})).len(), 1);
}

#[test]
fn what_is_not_there_is_told_in_the_envelope() {
    let queue = queue();
    let none = format!("{QUEUES}/{}", "0".repeat(32));
    queue.rig.get(&none).expect_fault(404, 11000);
    for rest in ["/messages", "/messages/pull", "/messages/ack"] {
        queue.rig.post(&format!("{none}{rest}"), &json!({"body": 1})).expect_fault(404, 10104);
        queue.rig.post(&format!("{QUEUES}/short{rest}"), &json!({"body": 1})).expect_fault(400, 10107);
    }
    queue.rig.get(&format!("{QUEUES}/short")).expect_fault(404, 7003);
    queue.rig.get(&format!("{QUEUES}/{}", "{-}".repeat(10))).expect_fault(404, 7003);
    queue.rig.get("/client/v4").expect_fault(404, 7000);
    queue.rig.get("/client/v4/nothing").expect_fault(404, 7000);
    queue.rig.ask("PATCH", QUEUES).send().expect_fault(405, 7001);
    queue.rig.get("/client/v4/accounts/%ff/queues").expect_fault(400, 7003);
    queue.rig.get("/client/v4/accounts/a%20b/queues").expect_fault(404, 7003);
    queue.rig.get("/client/v4/accounts/my-account/queues").expect(200);
    queue.rig.ask("POST", QUEUES).header("content-encoding", "gzip").body("x").send().expect_fault(415, 10026);
    let over = vec![b' '; (16 << 20) + 1];
    queue.rig.ask("POST", &queue.path("/messages")).body(over).send().expect_fault(413, 10205);
    // No prefix of ours: somebody else's path.
    queue.rig.get("/client/v40").expect_problem(404, "not_found");
}

#[test]
fn a_token_opens_its_account_by_name_and_by_hex_id_and_no_other() {
    let rig = Rig::start();
    let token = rig.token("shop", Permissions::ALL, "*");
    let hex = account_hex(&AccountName::parse("shop").expect("a name"));
    let list = |account: &str| rig.ask("GET", &format!("/client/v4/accounts/{account}/queues"));
    for account in ["shop", &hex, &hex.to_uppercase()] {
        list(account).token(&token).send().expect(200);
    }
    for account in ["default", "023e105f4ecef8ad9ca31a8372d0c353", "%2e"] {
        list(account).token(&token).send().expect_fault(403, 10000);
    }
    list("shop").header("x-auth-email", "a@b.example").header("x-auth-key", &token).send().expect(200);
    list("shop").header("x-auth-user-service-key", &token).send().expect(200);
    // A bearer token wins over a key that comes along.
    list("shop").token(&token).header("x-auth-key", "wrong").send().expect(200);
    list("shop").token("wrong").header("x-auth-key", &token).send().expect_fault(401, 10000);
    list("shop").send().expect_fault(400, 9106);
    list("shop").header("authorization", &format!("Token {token}")).send().expect_fault(400, 6003);
    rig.get("/client/v4/nothing").expect_fault(400, 9106);
}

#[test]
fn topics_of_the_native_api_are_queues_whatever_their_name() {
    let rig = Rig::start();
    rig.post("/api/windlass/v1/topics", &json!({"name": "a.b_c"})).expect(201);
    let listed = rig.get(QUEUES).expect(200)["result"][0].clone();
    assert_eq!(listed["queue_name"], "a.b_c");
    let id = listed["queue_id"].as_str().expect("an id");
    let paused = json!({"queue_name": "a.b_c", "settings": {"delivery_paused": true}});
    assert_eq!(result(&rig, "PATCH", &format!("/{id}"), &paused)["settings"]["delivery_paused"], true);
    result(&rig, "POST", &format!("/{id}/consumers"), &json!({"type": "http_pull"}));
}
