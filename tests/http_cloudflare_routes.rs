//! A walk over every route of the Cloudflare dialect: what is wrong with a request is told in its envelope.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "support/http.rs"]
mod support;

use serde_json::{Value, json};
use support::{Reply, Rig};
use windlass::access::account_hex;
use windlass::http::CLOUDFLARE_ROUTES;
use windlass::model::{AccountName, Permissions};

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];
/// Queues, messages, purge, consumers, subscriptions; and who asks.
const ROUTES: usize = 30;

/// A server with one account that has a queue with a consumer.
struct Walk {
    rig: Rig,
    token: String,
    account: String,
    queue: String,
    consumer: String,
}

impl Walk {
    fn begin() -> Self {
        let rig = Rig::start();
        let token = rig.token("shop", Permissions::ALL, "*");
        let account = account_hex(&AccountName::parse("shop").expect("a name"));
        let queues = format!("/client/v4/accounts/{account}/queues");
        let post = |path: &str, body: Value| rig.ask("POST", path).token(&token).json(&body).send().expect(200);
        let id = |envelope: &Value, name: &str| envelope["result"][name].as_str().expect("an id").to_owned();
        let queue = id(&post(&queues, json!({"queue_name": "n"})), "queue_id");
        let consumer = id(&post(&format!("{queues}/{queue}/consumers"), json!({"type": "http_pull"})), "consumer_id");
        Self { rig, token, account, queue, consumer }
    }

    fn path(&self, template: &str) -> String {
        template
            .replace("{account}", &self.account)
            .replace("{queue}", &self.queue)
            .replace("{consumer}", &self.consumer)
            .replace("{subscription}", &"0".repeat(32))
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Reply {
        self.rig.ask(method, path).token(&self.token).body(body).send()
    }
}

/// Looks at the whole of the envelope, and gives its code.
#[track_caller]
fn code(reply: &Reply, status: u16, of: &str) -> u64 {
    assert_eq!(reply.status, status, "{of}: {}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/json"), "{of}");
    let envelope = reply.json();
    let names: Vec<&String> = envelope.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["errors", "messages", "result", "success"], "{of}");
    assert_eq!((&envelope["success"], &envelope["result"]), (&json!(false), &Value::Null), "{of}");
    assert_eq!(envelope["messages"], json!([]), "{of}");
    let errors = envelope["errors"].as_array().expect("errors");
    assert_eq!(errors.len(), 1, "{of}");
    assert!(errors[0]["message"].as_str().is_some_and(|message| !message.is_empty()), "{of}");
    errors[0]["code"].as_u64().expect("a code")
}

#[test]
fn the_table_has_all_routes() {
    assert_eq!(CLOUDFLARE_ROUTES.len(), ROUTES);
}

#[test]
fn a_wrong_verb_is_405_in_the_envelope() {
    let walk = Walk::begin();
    let mut tried = 0;
    for route in CLOUDFLARE_ROUTES {
        for method in METHODS {
            let known = |other: &windlass::http::CloudflareRoute| other.path == route.path && other.method == method;
            if !CLOUDFLARE_ROUTES.iter().any(known) {
                let path = walk.path(route.path);
                assert_eq!(code(&walk.send(method, &path, ""), 405, &format!("{method} {path}")), 7001);
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn a_wrong_body_is_400_with_the_code_of_its_half() {
    let walk = Walk::begin();
    let with_body = ["/queues", "/messages", "/batch", "/pull", "/ack", "/peek", "/preview", "/purge", "/consumers"];
    let mut tried = 0;
    for route in CLOUDFLARE_ROUTES.iter().filter(|route| ["POST", "PUT", "PATCH"].contains(&route.method.as_str())) {
        // Refused whatever it says.
        if route.path.contains("event_subscriptions") {
            continue;
        }
        let reads = with_body.iter().any(|end| route.path.ends_with(end)) || route.path.ends_with('}');
        assert!(reads, "{} is not known to this test", route.path);
        let path = walk.path(route.path);
        let data = route.path.contains("/messages");
        for (body, expected) in [
            ("{", if data { 10208 } else { 10026 }),
            ("nonsense", if data { 10208 } else { 10026 }),
            (" \n", if data { 10208 } else { 10026 }),
            ("{\"body\":1,\"messages\":[{\"body\":1}],\"refs\":[]} {}", if data { 10208 } else { 10026 }),
            ("\u{0}", if data { 10208 } else { 10026 }),
            ("[]", if data { 10207 } else { 10026 }),
            ("5", if data { 10207 } else { 10026 }),
            ("\"text\"", if data { 10207 } else { 10026 }),
            ("null", if data { 10207 } else { 10026 }),
        ] {
            let of = format!("{} {path} {body}", route.method);
            assert_eq!(code(&walk.send(route.method.as_str(), &path, body), 400, &of), expected, "{of}");
            tried += 1;
        }
        let over = " ".repeat((16 << 20) + 1);
        assert_eq!(code(&walk.send(route.method.as_str(), &path, &over), 413, &path), 10205);
    }
    assert_eq!(tried, 9 * 13);
    let metrics = walk.send("GET", &walk.path("/client/v4/accounts/{account}/queues/{queue}/metrics"), "").expect(200);
    assert_eq!(metrics["result"]["backlog_count"], 0, "nothing was done by halves");
    let queues = walk.send("GET", &walk.path("/client/v4/accounts/{account}/queues"), "").expect(200);
    assert_eq!(queues["result_info"]["total_count"], 1);
}

#[test]
fn without_a_good_credential_nothing_is_told_before_that() {
    let walk = Walk::begin();
    for route in CLOUDFLARE_ROUTES {
        let (method, path) = (route.method.as_str(), walk.path(route.path));
        let of = format!("{method} {path}");
        let ask = || walk.rig.ask(method, &path).body("{");
        assert_eq!(code(&ask().send(), 400, &of), 9106);
        assert_eq!(code(&ask().token("wl_wrong").send(), 401, &of), 10000);
        assert_eq!(code(&ask().header("authorization", "Basic eDp5").send(), 400, &of), 6003);
        assert_eq!(code(&ask().header("x-auth-email", "a@b.example").send(), 400, &of), 9106);
        assert_eq!(code(&ask().header("x-auth-key", "wl_wrong").send(), 401, &of), 10000);
    }
    for path in ["/client/v4", "/client/v4/", "/client/v4/nothing", "/client/v4/accounts/x/queues/y/nothing"] {
        assert_eq!(code(&walk.rig.get(path), 400, path), 9106);
        assert_eq!(code(&walk.rig.ask("GET", path).token("wl_wrong").send(), 401, path), 10000);
    }
}

#[test]
fn another_account_is_403_and_its_ids_are_404_in_ones_own() {
    let walk = Walk::begin();
    let stranger = walk.rig.token("stranger", Permissions::ALL, "*");
    let hex = account_hex(&AccountName::parse("stranger").expect("a name"));
    let body = json!({"body": 1, "messages": [{"body": 1}], "type": "http_pull", "refs": []}).to_string();
    for route in CLOUDFLARE_ROUTES.iter().filter(|route| route.path.contains("{account}")) {
        let (method, path) = (route.method.as_str(), walk.path(route.path));
        let of = format!("{method} {path}");
        let ask = |path: &str| walk.rig.ask(method, path).token(&stranger).body(body.as_str()).send();
        assert_eq!(code(&ask(&path), 403, &of), 10000);
        if route.path.contains("{queue}") {
            let expected = if route.path.contains("/messages") { 10104 } else { 11000 };
            assert_eq!(code(&ask(&path.replace(&walk.account, &hex)), 404, &of), expected, "{of}");
        }
    }
}

#[test]
fn an_unknown_path_is_404_and_a_wrong_id_too() {
    let walk = Walk::begin();
    for route in CLOUDFLARE_ROUTES {
        let path = format!("{}/nothing/at/all", walk.path(route.path));
        assert_eq!(code(&walk.send(route.method.as_str(), &path, ""), 404, &path), 7000);
        if route.path.contains("{queue}") {
            let data = route.path.contains("/messages");
            let ask = |id: &str| {
                let path = walk.path(&route.path.replace("{queue}", id));
                (walk.send(route.method.as_str(), &path, "{\"body\":1,\"messages\":[{\"body\":1}],\"refs\":[]}"), path)
            };
            let (reply, path) = ask("short");
            let (status, expected) = if data { (400, 10107) } else { (404, 7003) };
            assert_eq!(code(&reply, status, &path), expected);
            let (reply, path) = ask(&"f".repeat(32));
            assert_eq!(code(&reply, 404, &path), if data { 10104 } else { 11000 });
        }
    }
}
