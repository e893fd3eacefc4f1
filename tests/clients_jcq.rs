//! The published management client of JD Cloud, unmodified, and requests signed as its manual prescribes,
//! against the real binary: open, and with access keys. The script is `tests/clients/jcq.py`; when it asks
//! for it, the server is killed with SIGKILL and started again on its directory.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "process/mod.rs"]
mod process;

use process::Process;
use process::script::{drive, python};
use serde_json::{Value, json};

/// Two access keys, as id and secret: one for everything, one for topics that begin with `none`.
fn make_keys(server: &Process) -> [(String, String); 2] {
    let made = |answer: Value| {
        let text = |field: &str| answer[field].as_str().expect("text").to_owned();
        (text("id"), text("secret"))
    };
    let all = json!(["publish", "consume", "admin"]);
    let tokens = "/api/windlass/v1/tokens";
    let token = server.client().post(tokens, &json!({"permissions": all})).expect("an answer").expect(201);
    let mut client = server.client().with_token(token["secret"].as_str().expect("a token"));
    let mut make = |topics: &str| {
        let grant = json!({"kind": "access_key", "permissions": all, "topics": topics});
        made(client.post(tokens, &grant).expect("an answer").expect(201))
    };
    [make("*"), make("none*")]
}

/// Runs the script with a key, another one, and what their secrets are.
fn drive_in(mode: &str, restarts: usize, keys: impl FnOnce(&Process) -> [(String, String); 2]) {
    drive(python("jcq.py"), restarts, |server, script| {
        let [key, other] = keys(server);
        script.env("SERVER_MODE", mode).env("ACCESS_KEY", key.0).env("SECRET_KEY", key.1);
        script.env("OTHER_KEY", other.0).env("OTHER_SECRET", other.1);
    });
}

#[test]
fn pypi_jdcloud_sdk_finds_its_message_queue_on_an_open_server() {
    let any = |name: &str| (name.to_owned(), "any".to_owned());
    drive_in("open", 2, |_| [any("one"), any("other")]);
}

#[test]
fn pypi_jdcloud_sdk_finds_its_message_queue_with_access_keys() {
    drive_in("keys", 3, make_keys);
}
