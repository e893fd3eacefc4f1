//! The native API over real TCP: every operation, and what it refuses.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "support/http.rs"]
mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::Rig;

const V1: &str = "/api/windlass/v1";

fn topics(rest: &str) -> String {
    format!("{V1}/topics{rest}")
}

/// A server with a topic `t` and a group `g`.
fn rig() -> Rig {
    rig_with(|_| {})
}

fn rig_with(change: impl FnOnce(&mut windlass::config::Config)) -> Rig {
    let rig = Rig::start_with(change);
    rig.post(&topics(""), &json!({"name": "t"})).expect(201);
    rig.post(&topics("/t/groups"), &json!({"name": "g"})).expect(201);
    rig
}

fn publish(rig: &Rig, body: &str) -> Value {
    rig.ask("POST", &topics("/t/messages")).header("content-type", "text/plain").body(body).send().expect(201)
}

fn pull(rig: &Rig, request: &Value) -> Vec<Value> {
    let pulled = rig.post(&topics("/t/groups/g/pull"), request).expect(200);
    pulled["messages"].as_array().expect("messages").clone()
}

fn settle(rig: &Rig, action: &str, request: &Value) -> Value {
    rig.post(&topics(&format!("/t/groups/g/{action}")), request).expect(200)["outcomes"][0]["outcome"].clone()
}

#[test]
fn any_bytes_come_back_as_they_were_published() {
    let rig = rig();
    let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let published = rig.ask("POST", &topics("/t/messages")).body(body.clone()).send().expect(201);
    assert_eq!((&published["offset"], &published["repeated"]), (&json!(0), &json!(false)));
    let messages = pull(&rig, &json!({}));
    assert_eq!(messages[0]["id"], published["id"]);
    assert_eq!(messages[0]["attempt"], 1);
    assert_eq!(messages[0]["body_base64"], base64(&body));
    assert_eq!(messages[0].get("body"), None);
    assert_eq!(messages[0]["content_type"], Value::Null);
    publish(&rig, "");
    assert_eq!(pull(&rig, &json!({}))[0]["body_base64"], "");
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn labels_come_by_header_or_by_query_and_never_twice() {
    let rig = rig();
    let ask = |query: &str| rig.ask("POST", &topics(&format!("/t/messages{query}"))).body("x");
    ask("?tag=a%20b&property.who=j%C3%BCrgen").header("windlass-key", "k").send().expect(201);
    ask("?key=q").header("windlass-property-colour", "blue").header("windlass-tag", "t").send().expect(201);
    let messages = pull(&rig, &json!({}));
    assert_eq!(messages[0]["key"], "k");
    assert_eq!(messages[0]["tag"], "a b");
    assert_eq!(messages[0]["properties"], json!({"who": "jürgen"}));
    assert_eq!(messages[1]["properties"], json!({"colour": "blue"}));
    for (query, header) in [
        ("?key=a&key=b", ("x", "y")),
        ("?key=a", ("windlass-key", "b")),
        ("?kee=a", ("x", "y")),
        ("", ("windlass-kee", "a")),
        ("?delay_ms=-1", ("x", "y")),
        ("?delay_ms=1.5", ("x", "y")),
        ("?delay_ms=99999999999999999999", ("x", "y")),
        ("?delay_ms=", ("x", "y")),
        ("?property.=v", ("x", "y")),
        ("?tag=a%7Cb", ("x", "y")),
        ("?key=", ("x", "y")),
    ] {
        let reply = ask(query).header(header.0, header.1).send();
        assert_eq!(reply.status, 400, "{query} {header:?}: {}", reply.text());
    }
    ask("?delay_ms=99999999999").send().expect_problem(422, "out_of_bounds");
    assert!(pull(&rig, &json!({})).is_empty(), "nothing refused was published");
}

#[test]
fn a_batch_is_published_whole_or_not_at_all() {
    let rig = rig();
    let batch = topics("/t/messages/batch");
    let published = rig.post(
        &batch,
        &json!({"messages": [
            {"body": "ü", "content_type": "text/plain", "properties": {"a": "b"}},
            {"body_base64": "AP8=", "key": "k", "tag": "t", "delay_ms": 0},
        ]}),
    );
    let published = published.expect(201);
    assert_eq!(published["messages"][1]["offset"], 1);
    for (request, status) in [
        (json!({"messages": []}), 422),
        (json!({"messages": vec![json!({}); 10_001]}), 422),
        (json!({}), 400),
        (json!({"messages": [{"body": "good"}, {}]}), 400),
        (json!({"messages": [{"body": "good"}, {"body": "a", "body_base64": ""}]}), 400),
        (json!({"messages": [{"body": "good"}, {"body_base64": "?"}]}), 400),
        (json!({"messages": [{"body": "good"}, {"body": 5}]}), 400),
        (json!({"messages": [{"body": "good"}, {"body": "a", "dely_ms": 5}]}), 400),
        (json!({"messages": [{"body": "good"}, {"body": "a", "delay_ms": -5}]}), 400),
        (json!({"messages": [{"body": "good"}, {"body": "a", "delay_ms": 1e300}]}), 400),
        (json!({"messages": [{"body": "good"}, {"body": "a", "key": ""}]}), 400),
        (json!([]), 400),
    ] {
        let reply = rig.post(&batch, &request);
        assert_eq!(reply.status, status, "{request}: {}", reply.text());
    }
    rig.ask("POST", &batch).body("{\"messages\":[").send().expect_problem(400, "not_json");
    let problem = rig.post(&batch, &json!({"messages": [{"body": "a"}, {"body": 5}]})).expect(400);
    assert_eq!(problem["pointer"], "/messages/1/body");
    let messages = pull(&rig, &json!({"encoding": "text"}));
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0]["body"], "ü");
    assert_eq!(messages[1]["body_base64"], "AP8=");
}

#[test]
fn nothing_at_all_asks_for_what_is_the_default_and_white_space_is_no_json() {
    let rig = rig();
    publish(&rig, "x");
    let pull = topics("/t/groups/g/pull");
    rig.ask("POST", &pull).body(" \n").send().expect_problem(400, "not_json");
    let pulled = rig.ask("POST", &pull).send().expect(200);
    assert_eq!(pulled["messages"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_repeated_publish_is_answered_and_not_done_again() {
    let rig = rig();
    let ask = |body: &str| rig.ask("POST", &topics("/t/messages")).header("idempotency-key", "once").body(body).send();
    let first = ask("a").expect(201);
    let second = ask("a").expect(200);
    assert_eq!((&second["id"], &second["repeated"]), (&first["id"], &json!(true)));
    ask("b").expect_problem(409, "idempotency_conflict");
    assert_eq!(pull(&rig, &json!({})).len(), 1);
}

#[test]
fn a_lease_is_acked_nacked_extended_buried_and_goes_stale() {
    let rig = rig();
    rig.patch(&topics("/t/groups/g"), &json!({"settings": {"dead_letter": "dead"}})).expect(200);
    publish(&rig, "a");
    let take = || pull(&rig, &json!({"lease_ms": 1_000}))[0].clone();
    let first = take();
    assert_eq!((&first["attempt"], &first["lease_ms"]), (&json!(1), &json!(1_000)));
    assert_eq!(settle(&rig, "extend", &json!({"tokens": [first["token"]], "lease_ms": 5_000})), "settled");
    rig.advance(Duration::from_millis(4_000));
    assert!(pull(&rig, &json!({})).is_empty(), "the lease was extended");
    assert_eq!(settle(&rig, "nack", &json!({"tokens": [first["token"]], "delay_ms": 2_000})), "settled");
    assert!(pull(&rig, &json!({})).is_empty(), "it waits out its delay");
    rig.advance(Duration::from_millis(2_000));
    let second = take();
    assert_eq!(second["attempt"], 2);
    rig.advance(Duration::from_millis(1_001));
    let third = take();
    let late = json!({"tokens": [second["token"]]});
    assert_eq!(settle(&rig, "ack", &late), "taken_over");
    assert_eq!(settle(&rig, "bury", &json!({"tokens": [third["token"]], "reason": "sour"})), "settled");
    assert_eq!(settle(&rig, "ack", &late), "already_settled");
    assert_eq!(settle(&rig, "ack", &json!({"tokens": ["forged"]})), "unknown");
    let dead = rig.get(&topics("/dead/messages?encoding=text")).expect(200);
    assert_eq!(dead["messages"][0]["origin"]["reason"], "sour");
    assert_eq!(dead["messages"][0]["body"], "a");
    assert_eq!(rig.post(&topics("/dead/redrive"), &json!({})).expect(200), json!({"moved": 1, "left": 0}));
    let fourth = take();
    let reply = rig.post(&topics("/t/groups/g/ack"), &json!({"tokens": [fourth["token"], "forged"]})).expect(200);
    assert_eq!(reply["done"], 1);
    assert_eq!(reply["outcomes"][0], json!({"outcome": "settled", "done": true}));
    assert_eq!(reply["outcomes"][1], json!({"outcome": "unknown", "done": false}));
}

#[test]
fn numbers_out_of_bounds_are_refused_and_not_clamped() {
    let rig = rig();
    let pull = topics("/t/groups/g/pull");
    for request in [
        json!({"batch_max": 0}),
        json!({"batch_max": 1001}),
        json!({"batch_max": u64::MAX}),
        json!({"lease_ms": 0}),
        json!({"lease_ms": u64::MAX}),
        json!({"wait_ms": 300_001}),
    ] {
        let problem = rig.post(&pull, &request).expect_problem(422, "out_of_bounds");
        assert!(problem["pointer"].is_string(), "{problem}");
    }
    for request in [
        json!({"batch_max": -1}),
        json!({"batch_max": 1.5}),
        json!({"batch_max": "1"}),
        json!({"auto_ack": 1}),
        json!({"wait_for": "ever"}),
        json!({"batch_mx": 1}),
        json!({"filter_tags": ["a|b"]}),
    ] {
        let reply = rig.post(&pull, &request);
        assert_eq!(reply.status, 400, "{request}: {}", reply.text());
    }
    for settings in [
        json!({"lease_ms": 0}),
        json!({"lease_ms": u64::MAX}),
        json!({"attempts_max": 0}),
        json!({"retry_delay_ms": []}),
        json!({"retry_delay_ms": u64::MAX}),
        json!({"pending_max": 0}),
    ] {
        rig.patch(&topics("/t/groups/g"), &json!({"settings": settings})).expect_problem(422, "out_of_bounds");
    }
    for settings in [json!({"lease": 5}), json!({"attempts_max": -1}), json!({"flow": "stopped"}), json!(5)] {
        assert_eq!(rig.patch(&topics("/t/groups/g"), &json!({"settings": settings})).status, 400, "{settings}");
    }
    for settings in
        [json!({"delay_ms": u64::MAX}), json!({"retention": {"age_ms": 0}}), json!({"retention": {"bytes": 0}})]
    {
        rig.patch(&topics("/t"), &json!({"settings": settings})).expect_problem(422, "out_of_bounds");
    }
    let reply = rig.patch(&topics("/t"), &json!({"settings": {"retention": {"age": 1}}}));
    reply.expect_problem(400, "invalid_request");
}

#[test]
fn settings_change_one_by_one_and_null_clears() {
    let rig = rig();
    let made = rig.get(&topics("/t/groups/g")).expect(200);
    assert_eq!(made["settings"]["attempts_max"], Value::Null);
    let change = json!({"settings": {"attempts_max": 3, "retry_delay_ms": [1_000, 5_000], "filter_tags": ["a", "b"]}});
    let changed = rig.patch(&topics("/t/groups/g"), &change).expect(200);
    assert_eq!(changed["settings"]["attempts_max"], 3);
    assert_eq!(changed["settings"]["retry_delay_ms"], json!([1_000, 5_000]));
    assert_eq!(changed["settings"]["filter_tags"], json!(["a", "b"]));
    assert_eq!(changed["settings"]["lease_ms"], made["settings"]["lease_ms"]);
    let cleared = rig.patch(&topics("/t/groups/g"), &json!({"settings": {"attempts_max": null}})).expect(200);
    assert_eq!(cleared["settings"]["attempts_max"], Value::Null);
    assert_eq!(cleared["settings"]["filter_tags"], json!(["a", "b"]));
    let settings = json!({"flow": "paused", "retention": {"settled": "keep", "age_ms": 60_000}});
    let topic = rig.patch(&topics("/t"), &json!({"name": "u", "settings": settings})).expect(200);
    assert_eq!((&topic["name"], &topic["settings"]["flow"]), (&json!("u"), &json!("paused")));
    assert_eq!(topic["settings"]["retention"], json!({"settled": "keep", "age_ms": 60_000, "bytes": null}));
    rig.get(&topics("/t")).expect_problem(404, "no_such_topic");
    rig.post(&topics("/u/groups/g/pull"), &json!({})).expect_problem(409, "paused");
}

#[test]
fn topics_and_groups_are_listed_in_pages_made_once_and_deleted() {
    let rig = rig();
    rig.post(&topics(""), &json!({"name": "t"})).expect_problem(409, "topic_exists");
    rig.post(&topics("/t/groups"), &json!({"name": "g"})).expect_problem(409, "group_exists");
    rig.post(&topics(""), &json!({"name": "a"})).expect(201);
    rig.post(&topics(""), &json!({"name": "z"})).expect(201);
    let page = rig.get(&topics("?limit=2")).expect(200);
    let names = |page: &Value| -> Vec<Value> {
        page["topics"].as_array().expect("topics").iter().map(|topic| topic["name"].clone()).collect()
    };
    assert_eq!((names(&page), &page["next"]), (vec![json!("a"), json!("t")], &json!("t")));
    let page = rig.get(&topics("?limit=2&after=t")).expect(200);
    assert_eq!((names(&page), &page["next"]), (vec![json!("z")], &Value::Null));
    assert_eq!(rig.get(&topics("?limit=0")).status, 422);
    assert_eq!(rig.get(&topics("?limit=x")).status, 400);
    assert_eq!(rig.get(&topics("?page=1")).status, 400);
    assert_eq!(rig.get(&topics("/t/groups")).expect(200)["groups"][0]["name"], "g");
    assert_eq!(rig.delete(&topics("/t/groups/g")).status, 204);
    rig.delete(&topics("/t/groups/g")).expect_problem(404, "no_such_group");
    assert_eq!(rig.delete(&topics("/t")).status, 204);
    rig.delete(&topics("/t")).expect_problem(404, "no_such_topic");
    rig.post(&topics("/t/messages"), &json!({})).expect_problem(404, "no_such_topic");
}

#[test]
fn a_name_in_the_path_that_is_none_is_refused() {
    let rig = rig();
    for name in ["..%2f..%2fetc", "a%20b", "%00", "%2e%2e%2f", &"x".repeat(129)] {
        let reply = rig.get(&topics(&format!("/{name}")));
        assert_eq!(reply.status, 400, "{name}: {}", reply.text());
    }
    assert_eq!(rig.get(&topics("/%ff")).status, 400);
    rig.get(&topics("/%74")).expect(200);
    rig.get(&topics("/t/groups/a%2fb")).expect_problem(400, "invalid_name");
}

#[test]
fn messages_are_looked_at_counted_moved_discarded_and_purged() {
    let rig = rig();
    for (tag, text) in [("a", "one"), ("b", "two"), ("a", "three")] {
        let path = topics(&format!("/t/messages?tag={tag}&property.n={text}"));
        rig.ask("POST", &path).header("content-type", "text/plain").body(text).send().expect(201);
    }
    let bodies = |query: &str| -> Vec<String> {
        let page = rig.get(&topics(&format!("/t/messages?encoding=text&{query}"))).expect(200);
        let messages = page["messages"].as_array().expect("messages").clone();
        messages.iter().map(|message| message["body"].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(bodies("tag=a"), ["one", "three"]);
    assert_eq!(bodies("property.n=two"), ["two"]);
    assert_eq!(bodies("from=1&limit=1"), ["two"]);
    let taken = pull(&rig, &json!({"batch_max": 1}));
    assert_eq!(bodies("group=g&state=in_flight"), ["one"]);
    assert_eq!(bodies("group=g&state=ready"), ["two", "three"]);
    assert_eq!(bodies(&format!("id={}", taken[0]["id"].as_str().expect("an id"))), ["one"]);
    assert_eq!(rig.get(&topics("/t/messages?state=ready")).status, 422);
    for bad in ["state=odd&group=g", "id=x", "from=-1", "encoding=utf8", "sort=up", "property.a=1&property.b=2"] {
        assert_eq!(rig.get(&topics(&format!("/t/messages?{bad}"))).status, 400, "{bad}");
    }
    let counts = rig.get(&topics("/t/groups/g/counts")).expect(200);
    assert_eq!((&counts["ready"], &counts["in_flight"]), (&json!(2), &json!(1)));
    assert_eq!(rig.get(&topics("/t/counts")).expect(200)["ready"], 3);

    let seek = |request: Value| rig.post(&topics("/t/groups/g/seek"), &request);
    let dry = seek(json!({"to": "tail", "dry_run": true})).expect(200);
    assert_eq!((&dry["to"], &dry["pending_dropped"], &dry["dry_run"]), (&json!(3), &json!(1), &json!(true)));
    assert_eq!(rig.get(&topics("/t/groups/g/counts")).expect(200), counts);
    seek(json!({"to": {"offset": 1}})).expect(200);
    assert_eq!(pull(&rig, &json!({"encoding": "text"}))[0]["body"], "two");
    seek(json!({"to": {"time_ms": rig.now()}})).expect(200);
    for bad in [json!({}), json!({"to": "middle"}), json!({"to": {"offset": -1}}), json!({"to": "head", "dry": true})] {
        assert_eq!(seek(bad.clone()).status, 400, "{bad}");
    }
    let discarded = rig.post(&topics("/t/discard"), &json!({"offsets": [1, 99]})).expect(200);
    assert_eq!(discarded, json!({"discarded": [1]}));
    let too_many: Vec<u64> = (0..1_001).collect();
    assert_eq!(rig.post(&topics("/t/discard"), &json!({"offsets": too_many})).status, 422);
    assert_eq!(rig.post(&topics("/t/purge"), &json!({})).expect(200), json!({"messages": 1}));
    assert_eq!(rig.get(&topics("/t/counts")).expect(200)["ready"], 0);
}

/// Arrivals and hang-ups are seen by the server a moment later.
fn until_waiting(rig: &Rig, count: u64) {
    let seen = (0..20_000).any(|_| {
        let status = rig.get(&format!("{V1}/status")).expect(200);
        status["topics"][0]["groups"][0]["waiting"] == count
    });
    assert!(seen, "there never were {count} waiting pulls");
}

#[test]
fn a_waiting_pull_is_answered_by_a_publish_and_forgotten_when_its_client_hangs_up() {
    let rig = rig();
    let ask = || rig.ask("POST", &topics("/t/groups/g/pull")).json(&json!({"wait_ms": 300_000})).begin();
    let gone = ask();
    until_waiting(&rig, 1);
    drop(gone);
    until_waiting(&rig, 0);
    let kept = ask();
    until_waiting(&rig, 1);
    publish(&rig, "now");
    let messages = kept.reply().expect(200)["messages"].clone();
    assert_eq!(messages[0]["attempt"], 1, "the client that hung up was given no lease");
}

#[test]
fn a_credential_may_have_only_so_many_pulls_waiting() {
    let rig = Rig::start_with(|config| config.http.waiting_per_token_max = 1);
    rig.post(&topics(""), &json!({"name": "t"})).expect(201);
    rig.post(&topics("/t/groups"), &json!({"name": "g"})).expect(201);
    let ask = || rig.ask("POST", &topics("/t/groups/g/pull")).json(&json!({"wait_ms": 300_000}));
    let first = ask().begin();
    until_waiting(&rig, 1);
    ask().send().expect_problem(429, "too_many_waiting");
    pull(&rig, &json!({}));
    publish(&rig, "x");
    first.reply().expect(200);
    let again = ask().begin();
    until_waiting(&rig, 1);
    drop(again);
}

#[test]
fn the_document_names_exactly_the_routes_and_every_operation_answers_as_documented() {
    let scratch = tempfile::tempdir().expect("a directory");
    // With chaos, or its routes would only say that there is none.
    let rig = rig_with(|config| {
        config.chaos.enabled = true;
        config.data_dir = scratch.path().to_owned();
    });
    let document = rig.get("/openapi.json").expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    let documented: usize = paths.values().map(|path| path.as_object().expect("operations").len()).sum();
    assert_eq!(documented, windlass::http::NATIVE_ROUTES.len());
    let token = rig.post(&format!("{V1}/tokens"), &json!({"permissions": ["publish", "consume", "admin"]})).expect(201);
    let secret = token["secret"].as_str().expect("a token");
    // Deletes come last: what they delete is needed before.
    let mut operations: Vec<(&String, &String, &Value)> = Vec::new();
    for (path, methods) in paths {
        operations.extend(methods.as_object().expect("operations").iter().map(|(method, told)| (path, method, told)));
    }
    operations.sort_by_key(|(path, method, _)| (*method == "delete", std::cmp::Reverse(path.len())));
    for (path, method, told) in operations {
        let id = told["operationId"].as_str().expect("an id");
        let target = path
            .replace("{topic}", "t")
            .replace("{group}", "g")
            .replace("{backup}", "none")
            .replace("{id}", token["id"].as_str().unwrap());
        let reply = rig.ask(&method.to_uppercase(), &target).token(secret).body(example(id)).send();
        if id == "createBackup" {
            // The engine of this test is in memory.
            reply.expect_problem(501, "no_files");
            continue;
        }
        if id == "verifyBackup" {
            reply.expect_problem(404, "no_such_backup");
            continue;
        }
        let answers = told["responses"].as_object().expect("responses");
        let answer = answers.get(&reply.status.to_string());
        let answer = answer.unwrap_or_else(|| panic!("{id} answered {}: {}", reply.status, reply.text()));
        if let Some(content) = answer.get("content") {
            let kind = reply.header("content-type").expect("a content type").split(';').next().unwrap();
            let content = content.get(kind).unwrap_or_else(|| panic!("{id} answered {kind}"));
            if let Some(schema) = content.get("schema") {
                assert_fits(&document, schema, &reply.json(), id);
            }
        }
    }
}

/// A request that each operation carries out.
fn example(id: &str) -> String {
    let body = match id {
        "createTopic" => json!({"name": "new"}),
        "createBackup" => json!({"directory": "b"}),
        "createGroup" => json!({"name": "new", "start": "tail", "position_at": "first_pull"}),
        "discardMessages" => json!({"offsets": [0]}),
        "publish" => return "raw".to_owned(),
        "publishBatch" => json!({"messages": [{"body": "a"}]}),
        "seek" => json!({"to": "head"}),
        "ack" | "nack" => json!({"tokens": ["x"]}),
        "extend" => json!({"tokens": ["x"], "lease_ms": 5}),
        "bury" => json!({"tokens": ["x"], "reason": "r"}),
        "createCredential" => json!({"permissions": ["publish"], "kind": "access_key", "expires_in_ms": 1_000}),
        _ => return String::new(),
    };
    body.to_string()
}

/// Whether `value` has the fields that `schema` says, all the way down.
fn assert_fits(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().expect("a name");
        return assert_fits(document, &document["components"]["schemas"][name], value, place);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        if !value.is_null() {
            let choice = choices.iter().find(|choice| choice["type"] != "null").expect("a choice");
            assert_fits(document, choice, value, place);
        }
        return;
    }
    if let Some(items) = schema.get("items") {
        for item in value.as_array().into_iter().flatten() {
            assert_fits(document, items, item, place);
        }
    }
    let (mut known, mut required) = (serde_json::Map::new(), Vec::new());
    collect(document, schema, &mut known, &mut required);
    let Some(fields) = value.as_object().filter(|_| !known.is_empty()) else { return };
    for (name, field) in fields {
        let told = known.get(name).unwrap_or_else(|| panic!("{place}: field {name} is not documented"));
        assert_fits(document, told, field, &format!("{place}/{name}"));
    }
    for name in required {
        assert!(fields.contains_key(&name), "{place}: field {name} is missing");
    }
}

fn collect(document: &Value, schema: &Value, known: &mut serde_json::Map<String, Value>, required: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().expect("a name");
        return collect(document, &document["components"]["schemas"][name], known, required);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        collect(document, part, known, required);
    }
    known.extend(schema["properties"].as_object().cloned().unwrap_or_default());
    let names = schema["required"].as_array().cloned().unwrap_or_default();
    required.extend(names.iter().filter_map(Value::as_str).map(str::to_owned));
}

#[test]
fn probes_and_metrics_tell_what_happened() {
    let rig = rig();
    publish(&rig, "a");
    pull(&rig, &json!({}));
    assert_eq!(rig.get("/healthz").text(), "ok\n");
    assert_eq!(rig.get("/readyz").expect(200)["status"], "ready");
    let page = rig.get("/metrics").text();
    for line in [
        "windlass_messages_published_total{account=\"default\",topic=\"t\"} 1",
        "windlass_messages_delivered_total{account=\"default\",topic=\"t\",group=\"g\"} 1",
        "windlass_messages_in_flight{account=\"default\",topic=\"t\",group=\"g\"} 1",
        "windlass_sync_duration_seconds_bucket{le=\"+Inf\"}",
        "windlass_http_requests_total{dialect=\"native\",status=\"2xx\"}",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').expect("a sample");
        value.parse::<f64>().expect(line);
    }
}
