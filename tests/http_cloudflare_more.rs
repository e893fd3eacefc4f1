//! The rest of the Cloudflare dialect over real TCP: looking, purging, subscriptions, accounts, and the finer
//! rules of delivery.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "support/cloudflare.rs"]
mod cloudflare;
#[path = "support/http.rs"]
mod support;

use std::time::Duration;

use cloudflare::{QUEUES, Queue, queue, queue_of, result};
use serde_json::{Value, json};
use support::Rig;
use windlass::access::account_hex;
use windlass::config::JsonBody;
use windlass::model::{AccountName, Permissions};

const SUBSCRIPTIONS: &str = "/client/v4/accounts/023e105f4ecef8ad9ca31a8372d0c353/event_subscriptions/subscriptions";

fn texts(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["body"].as_str().expect("a text")).collect()
}

impl Queue {
    #[track_caller]
    fn push_text(&self, text: &str) {
        self.push(&json!({"body": text, "content_type": "text"}));
    }

    #[track_caller]
    fn peek(&self, request: &Value) -> Vec<Value> {
        self.ok("POST", "/messages/peek", request)["messages"].as_array().expect("messages").clone()
    }
}

/// A second queue on the server of the first.
fn beside(queue: &Queue, name: &str) -> String {
    let made = result(&queue.rig, "POST", "", &json!({"queue_name": name}));
    made["queue_id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_peek_shows_what_is_not_acked_and_touches_nothing() {
    let queue = queue();
    assert!(queue.peek(&json!({})).is_empty());
    for text in ["acked", "leased", "returned", "fresh"] {
        queue.push_text(text);
    }
    queue.push(&json!({"body": "delayed", "content_type": "text", "delay_seconds": 60}));
    let taken = queue.pull(&json!({"batch_size": 3}));
    let lease = |place: usize| json!([{"lease_id": taken[place]["lease_id"]}]);
    queue.ok("POST", "/messages/ack", &json!({"acks": lease(0), "retries": lease(2)}));
    let before = queue.ok("GET", "/metrics", &json!({}));
    for path in ["/messages/peek", "/messages/preview", "/messages/peek"] {
        let seen = queue.ok("POST", path, &json!({}));
        let seen = seen["messages"].as_array().expect("messages");
        assert_eq!(texts(seen), ["leased", "returned", "fresh", "delayed"]);
        let attempts: Vec<_> = seen.iter().map(|message| message["attempts"].as_u64().expect("a count")).collect();
        assert_eq!(attempts, [1, 1, 0, 0]);
    }
    assert_eq!(texts(&queue.peek(&json!({"batch_size": 2.0}))), ["leased", "returned"]);
    assert_eq!(queue.ok("GET", "/metrics", &json!({})), before);
    assert_eq!(texts(&queue.pull(&json!({}))), ["returned", "fresh"], "nothing was leased by looking");
    for request in [json!({"batch_size": 0}), json!({"batch_size": 101}), json!({"batch_size": "5"})] {
        queue.fault("POST", "/messages/peek", &request, 400, 10207);
        queue.fault("POST", "/messages/preview", &request, 400, 10207);
    }
    // Pause stops deliveries, and a peek is none.
    queue.ok("PATCH", "", &json!({"settings": {"delivery_paused": true}}));
    assert_eq!(queue.peek(&json!({})).len(), 4);
}

#[test]
fn a_peek_has_a_default_size_and_goes_past_what_others_keep() {
    let queue = queue();
    let batch: Vec<Value> = (0..100).map(|n| json!({"body": n})).collect();
    for _ in 0..3 {
        queue.ok("POST", "/messages/batch", &json!({"messages": batch}));
    }
    assert_eq!(queue.peek(&json!({})).len(), 5);
    assert_eq!(queue.peek(&json!({"batch_size": 100})).len(), 100);
    // A second group keeps what the consumer has acked.
    queue.rig.post("/api/windlass/v1/topics/n/groups", &json!({"name": "slow"})).expect(201);
    queue.push_text("last");
    for _ in 0..3 {
        let leases: Vec<Value> = queue
            .pull(&json!({"batch_size": 100}))
            .iter()
            .map(|message| json!({"lease_id": message["lease_id"]}))
            .collect();
        assert_eq!(queue.ok("POST", "/messages/ack", &json!({"acks": leases}))["ackCount"], 100);
    }
    assert_eq!(texts(&queue.peek(&json!({}))), ["last"]);
    // Without a consumer everything that is kept is there to be seen.
    queue.ok("DELETE", &format!("/consumers/{}", queue.consumer), &json!({}));
    assert_eq!(queue.peek(&json!({"batch_size": 100})).len(), 100);
}

#[test]
fn a_peek_renders_bodies_as_a_pull_does() {
    for setting in [JsonBody::Base64, JsonBody::Plain] {
        let queue = queue_of(Rig::start_with(|config| config.cloudflare.json_body = setting));
        queue.push(&json!({"body": {"a": [1]}, "delay_seconds": 0}));
        let seen = queue.peek(&json!({})).remove(0);
        let pulled = queue.pull(&json!({})).remove(0);
        for field in ["id", "body", "metadata", "timestamp_ms"] {
            assert_eq!(seen[field], pulled[field], "{field}");
        }
        assert_eq!(seen["body"], if setting == JsonBody::Plain { "{\"a\":[1]}" } else { "eyJhIjpbMV19" });
    }
}

#[test]
fn messages_are_purged_by_the_ref_of_a_peek_and_by_no_other() {
    let queue = queue();
    for text in ["a", "b", "c"] {
        queue.push_text(text);
    }
    queue.push(&json!({"body": "delayed", "content_type": "text", "delay_seconds": 60}));
    let other = beside(&queue, "other");
    for _ in 0..4 {
        let push = json!({"body": "other", "content_type": "text"});
        result(&queue.rig, "POST", &format!("/{other}/messages"), &push);
    }
    let leased = queue.pull(&json!({"batch_size": 1})).remove(0);
    let refs: Vec<String> =
        queue.peek(&json!({})).iter().map(|message| message["ref"].as_str().expect("a ref").to_owned()).collect();
    // Leased, untouched and delayed ones; once is enough.
    let request = json!({"refs": [{"ref": refs[0]}, {"ref": refs[1]}, {"ref": refs[3]}, {"ref": refs[3]}]});
    assert_eq!(queue.ok("POST", "/messages/purge", &request), json!({"errors": [], "warnings": {}}));
    assert_eq!(texts(&queue.peek(&json!({}))), ["c"]);
    assert_eq!(queue.ok("GET", "/metrics", &json!({}))["backlog_count"], 1);
    let acked = queue.ok("POST", "/messages/ack", &json!({"acks": [{"lease_id": leased["lease_id"]}]}));
    assert_eq!(acked["ackCount"], 0, "the message is gone, with its lease");
    let warnings = |refs: &[&str]| {
        let refs: Vec<Value> = refs.iter().map(|text| json!({"ref": text})).collect();
        queue.ok("POST", "/messages/purge", &json!({"refs": refs}))["warnings"].clone()
    };
    assert_eq!(warnings(&[&refs[0]]), json!({refs[0].as_str(): "the message is already acknowledged or deleted"}));
    let foreign = result(&queue.rig, "POST", &format!("/{other}/messages/peek"), &json!({}))["messages"][2]["ref"]
        .as_str()
        .expect("a ref")
        .to_owned();
    assert_eq!(
        warnings(&["strange", &foreign]),
        json!({"strange": "unknown ref", foreign.as_str(): "unknown ref"}),
        "the ref of another queue means nothing here"
    );
    assert_eq!(texts(&queue.peek(&json!({}))), ["c"]);
    assert_eq!(warnings(&[]), json!({}));
    for request in [
        json!({}),
        json!({"refs": null}),
        json!({"refs": ["x"]}),
        json!({"refs": [{}]}),
        json!({"refs": [{"ref": null}]}),
        json!({"refs": vec![json!({"ref": "x"}); 1_001]}),
    ] {
        queue.fault("POST", "/messages/purge", &request, 400, 10207);
    }
    let many: Vec<Value> = (0..1_000).map(|_| json!({"ref": refs[2]})).collect();
    assert_eq!(queue.ok("POST", "/messages/purge", &json!({"refs": many}))["warnings"], json!({}));
    assert!(queue.peek(&json!({})).is_empty());
}

#[test]
fn a_purge_empties_the_queue_and_tells_when() {
    let queue = queue();
    queue.ok("PATCH", "", &json!({"jurisdiction": "eu"}));
    assert_eq!(queue.ok("GET", "/purge", &json!({})), json!({"completed": "", "started_at": ""}));
    queue.push_text("leased");
    let leased = queue.pull(&json!({})).remove(0);
    queue.push_text("ready");
    queue.push(&json!({"body": 1, "delay_seconds": 60}));
    for request in [json!({}), json!({"delete_messages_permanently": false}), json!({"delete_messages_permanently": 1})]
    {
        queue.fault("POST", "/purge", &request, 400, 10026);
    }
    assert_eq!(queue.ok("GET", "/metrics", &json!({}))["backlog_count"], 3);
    queue.rig.advance(Duration::from_secs(5));
    let purged = queue.ok("POST", "/purge", &json!({"delete_messages_permanently": true}));
    assert_eq!((&purged["queue_id"], &purged["consumers_total_count"]), (&json!(queue.id), &json!(1)));
    assert_eq!(purged["jurisdiction"], "eu", "noting the purge leaves what else is noted alone");
    let empty = json!({"backlog_bytes": 0, "backlog_count": 0, "oldest_message_timestamp_ms": 0});
    assert_eq!(queue.ok("GET", "/metrics", &json!({})), empty);
    queue.rig.advance(Duration::from_secs(60));
    assert!(queue.pull(&json!({})).is_empty(), "delayed ones are gone too");
    let acked = queue.ok("POST", "/messages/ack", &json!({"acks": [{"lease_id": leased["lease_id"]}]}));
    assert_eq!(acked["ackCount"], 0);
    let at = "2026-01-01T00:00:05.000000Z";
    assert_eq!(queue.ok("GET", "/purge", &json!({})), json!({"completed": at, "started_at": at}));
    queue.ok("PATCH", "", &json!({"jurisdiction": "us"}));
    assert_eq!(queue.ok("GET", "/purge", &json!({}))["completed"], at);
    queue.push_text("new");
    assert_eq!(texts(&queue.pull(&json!({}))), ["new"]);
}

#[test]
fn there_are_no_event_subscriptions_and_a_client_that_pages_on_ends() {
    let rig = Rig::start();
    for (query, page, per_page) in
        [("", 1, 1_000), ("?page=7&per_page=20&queue_id=x&order=name&direction=asc", 7, 20), ("?page=1", 1, 1_000)]
    {
        let envelope = rig.get(&format!("{SUBSCRIPTIONS}{query}")).expect(200);
        let info = json!({"page": page, "per_page": per_page, "count": 0, "total_count": 0, "total_pages": 0});
        assert_eq!(envelope, json!({"success": true, "errors": [], "messages": [], "result": [], "result_info": info}));
    }
    rig.get(&format!("{SUBSCRIPTIONS}?page=0")).expect_fault(400, 10026);
    let create = rig.post(SUBSCRIPTIONS, &json!({"name": "s"}));
    let envelope = create.expect_fault(501, 7001);
    assert!(envelope["errors"][0]["message"].as_str().expect("a text").contains("not supported"), "{envelope}");
    assert_eq!(create.header("x-should-retry"), Some("false"));
    for method in ["GET", "PATCH", "DELETE"] {
        rig.ask(method, &format!("{SUBSCRIPTIONS}/{}", "0".repeat(32))).send().expect_fault(404, 7003);
    }
}

#[test]
fn whoever_asks_finds_its_one_account() {
    let rig = Rig::start();
    let standard = account_hex(&AccountName::standard());
    let open = |path: &str| rig.get(&format!("/client/v4{path}")).expect(200);
    assert_eq!(open("/accounts?page=1")["result"], json!([{"id": standard, "name": "default", "type": "standard"}]));
    assert_eq!(open("/accounts?page=2")["result"], json!([]), "clients ask on until a page is empty");
    assert_eq!(open("/memberships")["result"][0]["account"]["id"], standard);
    assert_eq!(open("/user/tokens/verify")["result"], json!({"id": "open", "status": "active"}));
    rig.get(&format!("/client/v4/accounts/{standard}/queues")).expect(200);

    let token = rig.token("shop", Permissions { consume: true, publish: true, admin: false }, "orders*");
    let hex = account_hex(&AccountName::parse("shop").expect("a name"));
    let ask = |path: &str| rig.ask("GET", &format!("/client/v4{path}")).token(&token).send();
    let account = json!({"id": hex, "name": "shop", "type": "standard"});
    let one = json!({"page": 1, "per_page": 1_000, "count": 1, "total_count": 1, "total_pages": 1});
    let listed = ask("/accounts").expect(200);
    assert_eq!((&listed["result"], &listed["result_info"]), (&json!([account]), &one));
    let memberships = ask("/memberships").expect(200);
    let membership = json!({"id": hex, "account": account, "status": "accepted", "roles": ["publish", "consume"]});
    assert_eq!((&memberships["result"], &memberships["result_info"]), (&json!([membership]), &one));
    assert_eq!(ask("/memberships?page=2").expect(200)["result"], json!([]));
    let id = ask("/user").expect(200)["result"]["id"].as_str().expect("an id").to_owned();
    assert!(id.starts_with("wlt_") && id.len() <= 32, "{id}");
    assert_eq!(ask("/user").expect(200)["result"], json!({"id": id, "email": null}));
    assert_eq!(ask("/user/tokens/verify").expect(200)["result"], json!({"id": id, "status": "active"}));
    rig.get("/client/v4/user/tokens/verify").expect_fault(400, 9106);
    rig.ask("GET", "/client/v4/user/tokens/verify").token("wrong").send().expect_fault(401, 10000);
    let nobody = rig.token("shop", Permissions::default(), "*");
    rig.ask("GET", "/client/v4/accounts").token(&nobody).send().expect_fault(403, 10000);
    let malformed =
        rig.ask("GET", "/client/v4/user").header("authorization", "nonsense").send().expect_fault(400, 6003);
    assert_eq!(malformed["errors"][0]["error_chain"][0]["code"], 6111);
}

#[test]
fn a_token_tells_when_it_ends() {
    let rig = Rig::start();
    let tokens = "/api/windlass/v1/tokens";
    let all = json!(["publish", "consume", "admin"]);
    let admin = rig.post(tokens, &json!({"permissions": all})).expect(201)["secret"].as_str().expect("one").to_owned();
    let brief = json!({"permissions": ["publish"], "expires_in_ms": 60_000});
    let made = rig.ask("POST", tokens).token(&admin).json(&brief).send().expect(201);
    let verify = rig.ask("GET", "/client/v4/user/tokens/verify").token(made["secret"].as_str().expect("a secret"));
    let told = verify.clone().send().expect(200)["result"].clone();
    let expected = json!({"id": made["id"], "status": "active", "expires_on": "2026-01-01T00:01:00.000000Z"});
    assert_eq!(told, expected);
    rig.advance(Duration::from_secs(60));
    verify.send().expect_fault(401, 10000);
}

#[test]
fn a_lease_named_twice_counts_once_and_a_late_retry_is_warned_of() {
    let queue = queue();
    for text in ["a", "b", "c"] {
        queue.push_text(text);
    }
    let leases: Vec<String> = queue
        .pull(&json!({"visibility_timeout_ms": 1_000}))
        .iter()
        .map(|message| message["lease_id"].as_str().expect("a lease").to_owned())
        .collect();
    let settled = queue.ok(
        "POST",
        "/messages/ack",
        &json!({
            "acks": [{"lease_id": leases[0]}, {"lease_id": leases[0]}],
            "retries": [{"lease_id": leases[1]}, {"lease_id": leases[1], "delay_seconds": 9}],
        }),
    );
    assert_eq!(settled, json!({"ackCount": 1, "retryCount": 1, "warnings": {}}));
    queue.rig.advance(Duration::from_millis(1_001));
    // Nobody else has it: the retry sets its delay all the same, and says that it came late.
    let late = json!({"retries": [{"lease_id": leases[2], "delay_seconds": 5}]});
    let late = queue.ok("POST", "/messages/ack", &late);
    assert_eq!((&late["ackCount"], &late["retryCount"]), (&json!(0), &json!(1)));
    assert_eq!(late["warnings"], json!({leases[2].as_str(): "the lease had expired and nobody else had the message"}));
    assert_eq!(texts(&queue.pull(&json!({}))), ["b"]);
    queue.rig.advance(Duration::from_secs(5));
    assert_eq!(texts(&queue.pull(&json!({}))), ["c"]);
}

#[test]
fn ten_thousand_leases_are_settled_at_once_and_no_more() {
    let queue = queue();
    let leases = |count: usize| vec![json!({"lease_id": "strange"}); count];
    let many = queue.ok("POST", "/messages/ack", &json!({"acks": leases(10_000), "retries": leases(10_000)}));
    assert_eq!(many, json!({"ackCount": 0, "retryCount": 0, "warnings": {"strange": "unknown lease"}}));
    for list in ["acks", "retries"] {
        let fault = queue.fault("POST", "/messages/ack", &json!({list: leases(10_001)}), 400, 10207);
        assert_eq!(fault["errors"][0]["source"]["pointer"], format!("/{list}"));
    }
    let distinct =
        |from: usize| -> Vec<Value> { (from..from + 6_000).map(|n| json!({"lease_id": n.to_string()})).collect() };
    let both = json!({"acks": distinct(0), "retries": distinct(6_000)});
    queue.fault("POST", "/messages/ack", &both, 400, 10207);
}

#[test]
fn a_retry_waits_as_it_says_before_what_the_consumer_says() {
    let queue = queue();
    let consumer = json!({"type": "http_pull", "settings": {"retry_delay": 60}});
    queue.ok("PUT", &format!("/consumers/{}", queue.consumer), &consumer);
    queue.push_text("m");
    let retry = |delay: Value| {
        let lease = queue.pull(&json!({})).remove(0)["lease_id"].clone();
        let retry = json!({"retries": [{"lease_id": lease, "delay_seconds": delay}]});
        assert_eq!(queue.ok("POST", "/messages/ack", &retry)["retryCount"], 1);
    };
    retry(json!(0));
    retry(json!(2.0));
    queue.rig.advance(Duration::from_millis(1_999));
    assert!(queue.pull(&json!({})).is_empty());
    queue.rig.advance(Duration::from_millis(1));
    retry(Value::Null);
    queue.rig.advance(Duration::from_millis(59_999));
    assert!(queue.pull(&json!({})).is_empty());
    queue.rig.advance(Duration::from_millis(1));
    assert_eq!(queue.pull(&json!({}))[0]["attempts"], 4);
}

#[test]
fn max_retries_n_means_n_plus_one_deliveries_and_then_it_is_gone() {
    for retries in [0, 2] {
        let queue = queue();
        let consumer = json!({"type": "http_pull", "settings": {"max_retries": retries}});
        queue.ok("PUT", &format!("/consumers/{}", queue.consumer), &consumer);
        queue.push_text("m");
        for attempt in 1..=retries + 1 {
            let message = queue.pull(&json!({})).remove(0);
            assert_eq!(message["attempts"], attempt);
            // Half of them by a retry, half by a lapse.
            if attempt % 2 == 0 {
                queue.ok("POST", "/messages/ack", &json!({"retries": [{"lease_id": message["lease_id"]}]}));
            } else {
                queue.rig.advance(Duration::from_millis(30_001));
            }
        }
        assert_eq!(queue.ok("GET", "/metrics", &json!({}))["backlog_count"], 0);
        assert!(queue.pull(&json!({})).is_empty());
    }
}

#[test]
fn messages_too_old_go_leased_paused_or_neither() {
    let queue = queue();
    queue.ok("PATCH", "", &json!({"settings": {"message_retention_period": 60}}));
    queue.push_text("leased");
    let lease = queue.pull(&json!({"visibility_timeout_ms": 600_000})).remove(0)["lease_id"].clone();
    queue.push_text("ready");
    queue.push(&json!({"body": 1, "delay_seconds": 600}));
    queue.ok("PATCH", "", &json!({"settings": {"delivery_paused": true}}));
    queue.rig.advance(Duration::from_millis(59_999));
    assert_eq!(queue.ok("GET", "/metrics", &json!({}))["backlog_count"], 3);
    queue.rig.advance(Duration::from_millis(2));
    assert_eq!(queue.ok("GET", "/metrics", &json!({}))["backlog_count"], 0);
    assert_eq!(queue.ok("POST", "/messages/ack", &json!({"acks": [{"lease_id": lease}]}))["ackCount"], 0);
    assert!(queue.peek(&json!({})).is_empty());
}

#[test]
fn a_name_names_one_queue_and_none_that_begins_or_ends_like_it() {
    let rig = Rig::start();
    for name in ["a-job", "job", "job-2", "jobs"] {
        result(&rig, "POST", "", &json!({"queue_name": name}));
    }
    for (name, found) in [("job", &["job"][..]), ("jobs", &["jobs"]), ("jo", &[]), ("Job", &[]), ("", &[])] {
        let envelope = rig.get(&format!("{QUEUES}?page=1&name={name}")).expect(200);
        let names: Vec<&Value> =
            envelope["result"].as_array().expect("queues").iter().map(|queue| &queue["queue_name"]).collect();
        assert_eq!(names, found, "{name}");
        assert_eq!(envelope["result_info"]["total_count"], found.len());
    }
}

#[test]
fn consumers_are_listed_in_pages_too() {
    let queue = queue();
    let list = |query: &str| queue.rig.get(&queue.path(&format!("/consumers{query}"))).expect(200);
    assert_eq!(list("")["result"].as_array().map(Vec::len), Some(1));
    let past = list("?page=2");
    assert_eq!(past["result"], json!([]));
    let info = json!({"page": 2, "per_page": 1_000, "count": 0, "total_count": 1, "total_pages": 1});
    assert_eq!(past["result_info"], info);
    queue.rig.get(&queue.path("/consumers?page=0")).expect_fault(400, 10026);
    let none = result(&queue.rig, "POST", "", &json!({"queue_name": "m"}));
    let path = format!("{QUEUES}/{}/consumers", none["queue_id"].as_str().expect("an id"));
    assert_eq!(queue.rig.get(&path).expect(200)["result"], json!([]));
}

#[test]
fn replacing_a_consumer_leaves_what_other_dialects_noted_with_it() {
    let queue = queue();
    let noted = json!({"filter_key_pattern": "a.>", "metadata": {"team": "x"}});
    queue.rig.patch("/v1/http-consumers/http-pull", &noted).expect(200);
    let path = format!("/consumers/{}", queue.consumer);
    for (settings, batch_size) in [(json!({"batch_size": 7}), 7), (json!({}), 10)] {
        let replaced = queue.ok("PUT", &path, &json!({"type": "http_pull", "settings": settings}));
        assert_eq!(replaced["settings"]["batch_size"], batch_size);
        let seen = queue.rig.get("/v1/http-consumers/http-pull").expect(200);
        assert_eq!(seen["metadata"], noted["metadata"]);
        let seen = queue.rig.get("/api/streams/n/consumers/http-pull").expect(200);
        assert_eq!(seen["filter_key_pattern"], noted["filter_key_pattern"]);
    }
}
