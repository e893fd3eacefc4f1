//! Every route of the Sequin dialect with every kind of wrong request: the answer is always its envelope, and
//! strangers learn nothing.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "support/http.rs"]
mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::{Ask, Reply, Rig, single_permissions};
use windlass::access::Right;
use windlass::http::SEQUIN_ROUTES;
use windlass::model::{Permission, Permissions};

/// Says whose data it is, wherever it turns up.
const MARK: &str = "marked";

struct Target {
    method: String,
    path: String,
    right: Right,
    /// Names a stream or a consumer.
    names: bool,
    body: String,
}

/// An account with a stream, a consumer and a message, and every route there is; deletes last.
fn rig() -> (Rig, String, Vec<Target>) {
    let rig = Rig::start();
    let own = rig.token("own", Permissions::ALL, "*");
    let post = |path: &str, body: Value| rig.ask("POST", path).token(&own).json(&body).send().expect(200);
    post("/api/streams", json!({"name": MARK}));
    post(&format!("/api/streams/{MARK}/consumers"), json!({"name": MARK, "filter_key_pattern": ">"}));
    post(&format!("/api/streams/{MARK}/messages"), json!({"messages": [{"key": MARK, "data": MARK}]}));
    let mut targets = Vec::new();
    for route in SEQUIN_ROUTES {
        let path = route.path.replace("{stream}", MARK).replace("{consumer}", MARK).replace("{key}", MARK);
        let body = match (route.method.as_str(), route.path.rsplit('/').next().unwrap()) {
            ("POST", "streams" | "http-consumers") => json!({"name": MARK, "stream_id": MARK}).to_string(),
            _ => String::new(),
        };
        let mut add = |path: String| {
            let names = route.path.contains('{');
            let (method, right) = (route.method.to_string(), route.right);
            targets.push(Target { method, path, right, names, body: body.clone() });
        };
        if path.starts_with("/api") {
            add(format!("/api{path}"));
        }
        add(path);
    }
    assert!(targets.len() > 80, "the table is walked: {}", targets.len());
    targets.sort_by_key(|target| (target.method == "DELETE", std::cmp::Reverse(target.path.len())));
    (rig, own, targets)
}

fn ask(rig: &Rig, target: &Target) -> Ask {
    rig.ask(&target.method, &target.path).body(target.body.clone())
}

/// Sees the envelope.
#[track_caller]
fn refused(reply: &Reply, status: u16, told: &str) -> Value {
    assert_eq!(reply.status, status, "{told}: {}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/json"), "{told}");
    let fault = reply.json();
    let fields = fault.as_object().expect("an object").len();
    assert!(fault["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{told}: {fault}");
    assert_eq!(
        fields,
        if status == 422 && fault.get("validation_errors").is_some() { 2 } else { 1 },
        "{told}: {fault}"
    );
    fault
}

#[test]
fn nobody_gets_in_without_a_good_token() {
    let (rig, _, targets) = rig();
    let forged = format!("wl_{}", "A".repeat(43));
    for target in &targets {
        let told = format!("{} {}", target.method, target.path);
        for reply in [
            ask(&rig, target).send(),
            ask(&rig, target).token(&forged).send(),
            ask(&rig, target).header("authorization", "Bearer ").send(),
            ask(&rig, target).header("authorization", "Basic !").send(),
        ] {
            refused(&reply, 401, &told);
            assert!(!reply.text().contains(MARK), "{told}");
        }
    }
    // Before the path is looked at.
    for path in ["/v1/http-consumers/none/next", "/v1/streams/a/b/c/d", "/api", "/api/nothing", "/api/api/x"] {
        refused(&rig.get(path), 401, path);
    }
}

#[test]
fn the_password_of_basic_is_a_token() {
    let (rig, own, _) = rig();
    let basic = |pair: String| {
        let pair = format!("Basic {}", STANDARD.encode(pair));
        rig.ask("GET", "/api/streams").header("authorization", &pair).send()
    };
    assert_eq!(basic(format!("anyone:{own}")).expect(200)["data"][0]["name"], MARK);
    assert_eq!(basic(format!(":{own}")).status, 200);
    refused(&basic(format!("{own}:")), 401, "the user is no token");
    refused(&basic(format!("anyone:{own}x")), 401, "another password");
    assert_eq!(basic(format!("{own}:wrong")).status, 401);
    // Of the native API it is none.
    let pair = format!("Basic {}", STANDARD.encode(format!("u:{own}")));
    assert_eq!(rig.ask("GET", "/api/windlass/v1/topics").header("authorization", &pair).send().status, 401);
}

#[test]
fn each_permission_opens_its_own_routes_and_no_other() {
    let (rig, _, targets) = rig();
    for permissions in single_permissions() {
        let token = rig.token("own", permissions, "*");
        for target in targets.iter().filter(|target| permissions.admin || target.method != "DELETE") {
            let allowed = match target.right {
                Right::Do(Permission::Publish) => permissions.publish,
                Right::Do(Permission::Consume) => permissions.consume,
                Right::Do(Permission::Admin) => permissions.admin,
                Right::See => true,
            };
            let reply = ask(&rig, target).token(&token).send();
            let told = format!("{permissions:?} {} {}", target.method, target.path);
            if allowed {
                assert!(!matches!(reply.status, 401 | 403), "{told}: {}", reply.text());
            } else {
                let fault = refused(&reply, 403, &told);
                assert!(!fault.to_string().contains(MARK), "{told}");
            }
        }
    }
}

#[test]
fn another_account_finds_nothing_and_changes_nothing() {
    let (rig, own, targets) = rig();
    let foreign = rig.token("foreign", Permissions::ALL, "*");
    let state = || {
        let status = rig.ask("GET", "/api/windlass/v1/status").token(&own).send().expect(200);
        status["topics"].clone()
    };
    let before = state();
    for target in targets.iter().filter(|target| target.names) {
        let told = format!("{} {}", target.method, target.path);
        let reply = ask(&rig, target).token(&foreign).send();
        refused(&reply, 404, &told);
        assert!(!reply.text().contains(MARK), "{told}");
    }
    for path in ["/v1/http-consumers", "/v1/streams", "/api/streams"] {
        assert_eq!(rig.ask("GET", path).token(&foreign).send().expect(200), json!({"data": []}), "{path}");
    }
    assert_eq!(state(), before);
}

#[test]
fn a_token_for_other_streams_does_not_reach_this_one() {
    let (rig, _, targets) = rig();
    let token = rig.token("own", Permissions::ALL, "other*");
    for target in &targets {
        let told = format!("{} {}", target.method, target.path);
        let reply = ask(&rig, target).token(&token).send();
        if target.names || target.method == "POST" {
            refused(&reply, 403, &told);
        } else {
            assert_eq!(reply.expect(200), json!({"data": []}), "{told}");
        }
        assert!(!reply.text().contains(MARK), "{told}");
    }
}

#[test]
fn what_is_not_there_or_wrong_is_told_in_the_envelope() {
    let (rig, own, targets) = rig();
    let with = |method: &str, path: &str| rig.ask(method, path).token(&own);
    for target in &targets {
        let told = format!("{} {}", target.method, target.path);
        refused(&with("OPTIONS", &target.path).send(), 405, &told);
        if target.names {
            let fault = refused(&with(&target.method, &target.path.replace(MARK, "none")).send(), 404, &told);
            assert!(fault["summary"].as_str().unwrap().starts_with("Not found"), "{told}: {fault}");
            refused(&with(&target.method, &target.path.replace(MARK, "%ff")).send(), 400, &told);
            refused(&with(&target.method, &target.path.replace(MARK, "a%2Fb")).send(), 404, &told);
        }
        refused(&ask(&rig, target).token(&own).header("content-encoding", "gzip").send(), 415, &told);
        let reads = matches!(target.method.as_str(), "POST" | "PUT" | "PATCH") || target.path.ends_with("/next");
        for body in ["{", " \n", "[1]", "\"x\"", "{} x"] {
            if reads {
                refused(&with(&target.method, &target.path).body(body).send(), 400, &format!("{told} {body}"));
            }
        }
        if target.method == "POST" {
            let over = vec![b' '; (16 << 20) + 1];
            refused(&with("POST", &target.path).body(over).send(), 413, &told);
        }
    }
    for path in ["/api", "/api/nothing", "/api/api/nothing", "/v1/streams/a/b", "/v1/http-consumers/a/b/c"] {
        refused(&with("GET", path).send(), 404, path);
    }
    // Paths of others, which only begin alike.
    for path in ["/v1", "/v1/streamsx", "/apix", "/api/windlass", "/api/windlass/v1/nothing"] {
        with("GET", path).send().expect_problem(404, "not_found");
    }
}

#[test]
fn an_open_server_answers_no_page_from_elsewhere() {
    let rig = Rig::start();
    let reply = rig.ask("GET", "/api/streams").header("origin", "https://evil.example").send();
    refused(&reply, 403, "a page from elsewhere");
    assert_eq!(rig.ask("GET", "/api/streams").header("authorization", "Bearer ").send().status, 200);
}
