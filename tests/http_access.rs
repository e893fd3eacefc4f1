//! No token, no data: every route with every kind of caller.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "support/http.rs"]
mod support;

use serde_json::{Value, json};
use support::{Reply, Rig, single_permissions};
use windlass::access::{Right, account_hex};
use windlass::http::{CLOUDFLARE_ROUTES, NATIVE_ROUTES};
use windlass::model::{AccountName, Permission, Permissions};

/// Says whose data it is, wherever it turns up.
const MARK: &str = "marked-topic";

/// A route with its parameters filled in.
struct Target {
    method: String,
    path: String,
    /// `None`: anybody may ask.
    right: Option<Right>,
    /// Names a topic in its path.
    names_topic: bool,
    /// Works on the account as a whole.
    whole_account: bool,
    cloudflare: bool,
    body: String,
}

/// A server with an account that has one topic with a group and a message, and every route there is.
fn rig() -> (Rig, Vec<Target>) {
    let rig = Rig::start();
    let own = rig.token("own", Permissions::ALL, "*");
    let post = |path: &str, body: Value| rig.ask("POST", path).token(&own).json(&body).send().expect(201);
    let v1 = "/api/windlass/v1/topics";
    let topic = post(v1, json!({"name": MARK}));
    let group = post(&format!("{v1}/{MARK}/groups"), json!({"name": "http-pull"}));
    post(&format!("{v1}/{MARK}/messages"), json!({"secret": MARK}));
    let native = NATIVE_ROUTES.iter().map(|route| Target {
        method: route.method.to_string(),
        path: route
            .path
            .replace("{topic}", MARK)
            .replace("{group}", "http-pull")
            .replace("{id}", "wlt_none")
            .replace("{backup}", "none"),
        right: route.right(),
        names_topic: route.path.contains("{topic}"),
        whole_account: ["/tokens", "/backups", "/v1/history"].iter().any(|part| route.path.contains(part)),
        cloudflare: false,
        body: if route.path.ends_with("/topics") { json!({"name": MARK}).to_string() } else { String::new() },
    });
    let account = account_hex(&AccountName::parse("own").expect("a name"));
    let cloudflare = CLOUDFLARE_ROUTES.iter().map(|route| Target {
        method: route.method.to_string(),
        path: route
            .path
            .replace("{account}", &account)
            .replace("{queue}", topic["id"].as_str().expect("an id"))
            .replace("{consumer}", group["id"].as_str().expect("an id")),
        right: Some(route.right),
        names_topic: route.path.contains("{queue}"),
        whole_account: false,
        cloudflare: true,
        body: if route.path.ends_with("/queues") { json!({"queue_name": MARK}).to_string() } else { String::new() },
    });
    // Deletes come last: what they delete is needed before.
    let mut targets: Vec<Target> = native.chain(cloudflare).collect();
    targets.sort_by_key(|target| (target.method == "DELETE", std::cmp::Reverse(target.path.len())));
    (rig, targets)
}

fn send(rig: &Rig, target: &Target, token: Option<&str>) -> Reply {
    let ask = rig.ask(&target.method, &target.path).body(target.body.clone());
    match token {
        Some(token) => ask.token(token).send(),
        None => ask.send(),
    }
}

#[test]
fn nobody_gets_in_without_a_good_token_and_nobody_learns_anything() {
    let (rig, targets) = rig();
    let expired_or_forged = format!("wl_{}", "A".repeat(43));
    for target in &targets {
        let Target { method, path, right, cloudflare, .. } = target;
        let anonymous = send(&rig, target, None);
        let forged = send(&rig, target, Some(&expired_or_forged));
        if right.is_none() {
            assert_eq!((anonymous.status, forged.status), (200, 200), "{method} {path}");
            let document = path == "/openapi.json";
            assert!(document || !anonymous.text().contains(MARK), "{path}: {}", anonymous.text());
            continue;
        }
        // Cloudflare answers 400 where there is no token at all.
        let expected = if *cloudflare { (400, 401) } else { (401, 401) };
        assert_eq!((anonymous.status, forged.status), expected, "{method} {path}");
        assert!(!anonymous.text().contains(MARK) && !forged.text().contains(MARK));
    }
    // Before the path is looked at, and before the body is read.
    for path in ["/nothing", "/api/windlass/v1/nothing", "/api/windlass/v1/topics/..%2f", "/v1/http-consumers"] {
        assert_eq!(rig.get(path).status, 401, "{path}");
    }
    let mut bare = rig.connect();
    let head = "POST /api/windlass/v1/topics HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
    std::io::Write::write_all(&mut bare, head.as_bytes()).expect("a head");
    assert_eq!(Reply::read(&mut bare).status, 401, "no body was sent, none was waited for");
}

#[test]
fn each_permission_opens_its_own_routes_and_no_other() {
    let (rig, targets) = rig();
    for permissions in single_permissions() {
        let token = rig.token("own", permissions, "*");
        // Deletes are tried with the last of the three only, for they succeed.
        for target in targets.iter().filter(|target| permissions.admin || target.method != "DELETE") {
            let allowed = match target.right {
                Some(Right::Do(Permission::Publish)) => permissions.publish,
                Some(Right::Do(Permission::Consume)) => permissions.consume,
                Some(Right::Do(Permission::Admin)) => permissions.admin,
                Some(Right::See) | None => true,
            };
            let reply = send(&rig, target, Some(&token));
            let refused = matches!(reply.status, 401 | 403);
            assert_eq!(!refused, allowed, "{permissions:?} {} {}: {}", target.method, target.path, reply.text());
            if refused {
                assert_eq!(reply.status, 403);
                assert!(!reply.text().contains(MARK), "{}", reply.text());
            }
        }
    }
}

#[test]
fn another_account_sees_and_changes_nothing() {
    let (rig, targets) = rig();
    let own = rig.token("own", Permissions::ALL, "*");
    let foreign = rig.token("foreign", Permissions::ALL, "*");
    let before = rig.ask("GET", "/api/windlass/v1/status").token(&own).send().expect(200)["topics"].clone();
    for target in &targets {
        let reply = send(&rig, target, Some(&foreign));
        let told = format!("{} {}: {} {}", target.method, target.path, reply.status, reply.text());
        if target.path.starts_with("/client/v4/accounts/") {
            assert_eq!(reply.status, 403, "{told}");
        } else if target.names_topic {
            assert!(matches!(reply.status, 400 | 404), "{told}");
        }
        let made_itself = target.method == "POST" && target.path.ends_with("/topics");
        let listed = ["/openapi.json", "/api/windlass/v1/topics"].contains(&target.path.as_str());
        assert!(made_itself || listed || !reply.text().contains("own"), "{told}");
        if made_itself {
            // So that nothing that follows finds a topic of that name.
            let topic = format!("{}/{MARK}", target.path);
            assert_eq!(rig.ask("DELETE", &topic).token(&foreign).send().status, 204);
        }
    }
    let listed = rig.ask("GET", "/api/windlass/v1/topics").token(&foreign).send().expect(200);
    assert_eq!(listed["topics"], json!([]));
    let after = rig.ask("GET", "/api/windlass/v1/status").token(&own).send().expect(200)["topics"].clone();
    assert_eq!(after, before);
    // In its own account of the Cloudflare dialect, the ids of others lead nowhere.
    let hex = account_hex(&AccountName::parse("foreign").expect("a name"));
    let own_hex = account_hex(&AccountName::parse("own").expect("a name"));
    for target in targets.iter().filter(|target| target.cloudflare && target.names_topic) {
        let path = target.path.replace(&own_hex, &hex);
        let reply =
            rig.ask(&target.method, &path).token(&foreign).body("{\"body\":1,\"messages\":[{\"body\":1}]}").send();
        assert_eq!(reply.status, 404, "{} {path}: {}", target.method, reply.text());
    }
}

#[test]
fn a_token_for_other_topics_does_not_reach_this_one() {
    let (rig, targets) = rig();
    let token = rig.token("own", Permissions::ALL, "other*");
    for target in &targets {
        let reply = send(&rig, target, Some(&token));
        let told = format!("{} {}: {} {}", target.method, target.path, reply.status, reply.text());
        let makes = target.method == "POST" && (target.path.ends_with("/topics") || target.path.ends_with("/queues"));
        if target.names_topic || target.whole_account || makes {
            assert_eq!(reply.status, 403, "{told}");
        }
        assert!(target.right.is_none() || !reply.text().contains(MARK), "{told}");
    }
    // Nor by the back doors: a new name, a dead-letter topic.
    let ask = |method: &str, path: &str, body: Value| rig.ask(method, path).token(&token).json(&body).send();
    let v1 = "/api/windlass/v1/topics";
    ask("POST", v1, json!({"name": "other1"})).expect(201);
    ask("PATCH", &format!("{v1}/other1"), json!({"name": "elsewhere"})).expect_problem(403, "denied");
    let settings = json!({"name": "g", "settings": {"dead_letter": MARK}});
    ask("POST", &format!("{v1}/other1/groups"), settings.clone()).expect_problem(403, "denied");
    ask("POST", &format!("{v1}/other1/groups"), json!({"name": "g"})).expect(201);
    let change = json!({"settings": settings["settings"]});
    ask("PATCH", &format!("{v1}/other1/groups/g"), change).expect_problem(403, "denied");
    let account = account_hex(&AccountName::parse("own").expect("a name"));
    let queue = ask("GET", &format!("{v1}/other1"), json!({})).expect(200)["id"].as_str().expect("an id").to_owned();
    let queue = format!("/client/v4/accounts/{account}/queues/{queue}");
    ask("PATCH", &queue, json!({"queue_name": "elsewhere"})).expect_fault(403, 10000);
    let consumer = json!({"type": "http_pull", "dead_letter_queue": MARK});
    ask("POST", &format!("{queue}/consumers"), consumer).expect_fault(403, 10000);
}

#[test]
fn tokens_are_made_shown_once_and_revoked_at_once_and_give_no_more_than_their_maker_has() {
    let rig = Rig::start();
    let tokens = "/api/windlass/v1/tokens";
    let all = json!(["publish", "consume", "admin"]);
    rig.post(tokens, &json!({"permissions": ["publish"]})).expect_problem(409, "first_credential");
    rig.post(tokens, &json!({"permissions": all, "topics": "a*"})).expect_problem(409, "first_credential");
    rig.post(tokens, &json!({"permissions": []})).expect_problem(422, "out_of_bounds");
    let made = rig.post(tokens, &json!({"permissions": all, "account": "shop"})).expect(201);
    assert_eq!((&made["account"], &made["topics"], &made["kind"]), (&json!("shop"), &json!("*"), &json!("token")));
    let admin = made["secret"].as_str().expect("a token").to_owned();
    assert!(admin.starts_with("wl_") && admin.len() == 46);
    assert_eq!(rig.get(tokens).status, 401, "the server is open no more");
    let ask = |method: &str, path: &str, body: Value| rig.ask(method, path).token(&admin).json(&body).send();
    for (request, status) in [
        (json!({"permissions": all, "account": "other"}), 403),
        (json!({"permissions": ["fly"]}), 400),
        (json!({"permissions": ["admin"], "topics": "a b"}), 400),
        (json!({"permissions": ["admin"], "expires_in_ms": -1}), 400),
        (json!({}), 400),
    ] {
        let reply = ask("POST", tokens, request.clone());
        assert_eq!(reply.status, status, "{request}: {}", reply.text());
    }
    let request = json!({"permissions": ["publish", "admin"], "expires_in_ms": 1_000});
    let brief = ask("POST", tokens, request).expect(201);
    let secret = brief["secret"].as_str().expect("a token");
    let more = rig.ask("POST", tokens).token(secret).json(&json!({"permissions": ["consume"]})).send();
    more.expect_problem(403, "denied");
    let listed = ask("GET", tokens, json!({}));
    assert_eq!(listed.expect(200)["credentials"].as_array().map(Vec::len), Some(2));
    assert!(!listed.text().contains(secret) && !listed.text().contains(&admin) && !listed.text().contains("secret"));
    rig.ask("GET", tokens).token(secret).send().expect(200);
    rig.advance(std::time::Duration::from_millis(1_000));
    rig.ask("GET", tokens).token(secret).send().expect_problem(401, "bad_credential");
    let id = made["id"].as_str().expect("an id");
    ask("DELETE", &format!("{tokens}/wlt_nobody"), json!({})).expect_problem(404, "no_such_credential");
    assert_eq!(ask("DELETE", &format!("{tokens}/{id}"), json!({})).status, 204);
    ask("GET", tokens, json!({})).expect_problem(401, "bad_credential");
}

#[test]
fn an_open_server_answers_no_page_from_elsewhere() {
    let rig = Rig::start();
    let path = "/api/windlass/v1/topics";
    let origin = |origin: &str| rig.ask("GET", path).header("origin", origin).send().status;
    assert_eq!(origin("http://localhost:3000"), 200);
    assert_eq!(origin("https://evil.example"), 403);
    assert_eq!(origin("null"), 403);
    let mut bare = rig.connect();
    let head = format!("GET {path} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
    std::io::Write::write_all(&mut bare, head.as_bytes()).expect("a head");
    Reply::read(&mut bare).expect_problem(403, "not_local");
    let queues = rig.ask("GET", "/client/v4/accounts/default/queues").header("origin", "https://evil.example");
    queues.send().expect_fault(403, 10000);
}
