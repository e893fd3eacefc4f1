//! Bodies and secrets reach no log line, at any level, whatever goes wrong.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "support/jcq.rs"]
mod jcq;
#[path = "support/http.rs"]
mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};

use jcq::Key;
use serde_json::json;
use support::Rig;
use windlass::model::Permissions;

/// Everything that was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the lines").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn bodies_and_secrets_reach_no_log_line() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).init();

    let rig = Rig::start();
    let token = rig.token("default", Permissions::ALL, "*");
    let v1 = "/api/windlass/v1";
    let ask = |method: &str, path: &str| rig.ask(method, &format!("{v1}{path}")).token(&token);
    ask("POST", "/topics").json(&json!({"name": "named"})).send().expect(201);
    ask("POST", "/topics/named/groups").json(&json!({"name": "g"})).send().expect(201);
    ask("POST", "/topics/named/messages?property.p=PROPERTYVALUE").body("BODYTEXT").send().expect(201);
    ask("POST", "/topics/named/messages/batch").body("{\"messages\":[{\"body\":\"BODYTEXT\",\"x\":1}]}").send();
    ask("POST", "/topics/named/messages/batch").body("{\"messages\":\"BODYTEXT\"}").send();
    let pulled = ask("POST", "/topics/named/groups/g/pull").json(&json!({})).send().expect(200);
    let lease = pulled["messages"][0]["token"].as_str().expect("a lease").to_owned();
    ask("POST", "/topics/named/groups/g/ack").json(&json!({"tokens": [lease]})).send().expect(200);
    let made = ask("POST", "/tokens").json(&json!({"permissions": ["admin"], "kind": "access_key"})).send().expect(201);
    rig.ask("GET", &format!("{v1}/topics")).token("wl_FORGEDTOKEN").send().expect(401);
    rig.ask("GET", "/client/v4/accounts/default/queues").header("x-auth-key", "wl_FORGEDTOKEN").send().expect(401);
    let id = ask("GET", "/topics/named").send().expect(200)["id"].as_str().expect("an id").to_owned();
    let mut secrets = speak_cloudflare(&rig, &token, &id);
    secrets.extend(speak_sequin(&rig, &token));
    secrets.extend(speak_jcq(&rig));

    let logged = String::from_utf8(lines.0.lock().expect("the lines").clone()).expect("text");
    assert!(logged.contains("/api/windlass/v1/topics/named/messages"), "requests are logged at debug:\n{logged}");
    assert!(logged.contains("credential made"));
    secrets.extend([token, lease, made["secret"].as_str().expect("a secret").to_owned()]);
    let base64 = ["Qk9EWVRFWFQ", "IkJPRFlURVhU", "dTpGT1JHRURUT0tFTg"];
    let texts = ["BODYTEXT", "FORGEDTOKEN", "PROPERTYVALUE"].into_iter().chain(base64);
    for hidden in texts.chain(secrets.iter().map(String::as_str)) {
        let line = logged.lines().find(|line| line.contains(hidden));
        assert!(line.is_none(), "{hidden} was logged: {line:?}");
    }
}

/// Each of these answers the secrets that it met.
fn speak_cloudflare(rig: &Rig, token: &str, id: &str) -> Vec<String> {
    let queue = |rest: &str, body| {
        let ask = rig.ask("POST", &format!("/client/v4/accounts/default/queues/{id}{rest}")).token(token);
        ask.json(&body).send().expect(200)
    };
    queue("/messages", json!({"body": "BODYTEXT"}));
    queue("/consumers", json!({"type": "http_pull"}));
    queue("/messages/peek", json!({}));
    let pulled = queue("/messages/pull", json!({}));
    let lease_id = pulled["result"]["messages"][0]["lease_id"].as_str().expect("a lease").to_owned();
    queue("/messages/ack", json!({"acks": [{"lease_id": lease_id}]}));
    queue("/messages/purge", json!({"refs": []}));
    queue("/purge", json!({"delete_messages_permanently": true}));
    vec![lease_id]
}

fn speak_sequin(rig: &Rig, token: &str) -> Vec<String> {
    let sequin = |method: &str, path: &str| rig.ask(method, path).token(token);
    sequin("POST", "/v1/streams").json(&json!({"name": "s"})).send().expect(200);
    sequin("POST", "/v1/http-consumers").json(&json!({"stream_id": "s", "name": "c"})).send().expect(200);
    let messages = json!({"messages": [{"key": "k", "data": "BODYTEXT"}]});
    sequin("POST", "/api/streams/s/messages").json(&messages).send().expect(200);
    sequin("POST", "/api/streams/s/messages").body("{\"messages\":[{\"key\":\"BODYTEXT\",\"data\":1}]}").send();
    let taken = sequin("GET", "/v1/http-consumers/c/next").send().expect(200);
    let ack_token = taken["data"][0]["ack_token"].as_str().expect("a token").to_owned();
    sequin("POST", "/v1/http-consumers/c/nack").json(&json!({"ack_tokens": [ack_token]})).send();
    // The password is FORGEDTOKEN.
    rig.ask("GET", "/v1/streams").header("authorization", "Basic dTpGT1JHRURUT0tFTg==").send().expect(401);
    vec![ack_token]
}

fn speak_jcq(rig: &Rig) -> Vec<String> {
    let key = Key::made(rig, "default", Permissions::ALL, "*");
    let message = json!({"body": "BODYTEXT", "properties": {"p": "PROPERTYVALUE"}});
    let send = json!({"topic": "named", "type": "NORMAL", "messages": [message]});
    key.post(rig, "/v2/messages", &send).send().expect(200);
    rig.ask("POST", "/v2/messages").header("accessKey", "FORGEDTOKEN").json(&send).send().expect(403);
    let query = [("topic", "named"), ("consumerGroupId", "group-01")];
    let pulled = key.get(rig, "/v2/messages", &query).send().expect(200);
    vec![key.secret().to_owned(), pulled["result"]["ackIndex"].as_str().expect("an index").to_owned()]
}
