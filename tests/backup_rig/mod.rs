//! A server in a place of its own, its backups, and the calls by which tests of copies use it.

#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::process::client::Client;
use crate::process::{Process, serve_command, windlass};

pub const V1: &str = "/api/windlass/v1";
/// Small segments, and dropped ones are kept for a moment only.
pub const SETTINGS: &[(&str, &str)] = &[
    ("WINDLASS_LIMITS_BODY_BYTES_MAX", "64 KiB"),
    ("WINDLASS_LIMITS_BATCH_BYTES_MAX", "192 KiB"),
    ("WINDLASS_LOG_SEGMENT_BYTES", "1 MiB"),
    ("WINDLASS_LOG_DROP_KEEP", "1 ms"),
    ("WINDLASS_LOG_DROP_KEEP_MIN", "1 ms"),
    ("WINDLASS_CHECKPOINT_INTERVAL", "100 ms"),
];

/// A server on `home/data`, and the directory of its backups.
pub struct Stage {
    pub home: tempfile::TempDir,
    pub data: PathBuf,
    pub backups: PathBuf,
}

impl Stage {
    pub fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let (data, backups) = (home.path().join("data"), home.path().join("data-backups"));
        Self { home, data, backups }
    }

    pub fn start(&self, data: &Path, settings: &[(&str, &str)]) -> Process {
        let mut command = serve_command(data);
        command.envs(SETTINGS.iter().chain(settings).copied());
        Process::start_command(command, data)
    }

    /// A server with a topic `t` and a group `g`.
    pub fn ready(&self, settled: &str) -> Process {
        let server = self.start(&self.data, &[]);
        let topic = json!({"name": "t", "settings": {"retention": {"settled": settled}}});
        server.client().post(&format!("{V1}/topics"), &topic).unwrap().expect(201);
        server.client().post(&format!("{V1}/topics/t/groups"), &json!({"name": "g"})).unwrap().expect(201);
        server
    }

    /// Runs windlass; gives its exit code, its output and what it said.
    pub fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = windlass().args(arguments).current_dir(self.home.path()).output().expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code().expect("a code"), text(output.stdout), text(output.stderr))
    }

    pub fn restore(&self, name: &str, to: &str) -> PathBuf {
        let (code, _, said) = self.run(&["restore", text(&self.backups.join(name)), to]);
        assert_eq!(code, 0, "{said}");
        self.home.path().join(to)
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path in text")
}

pub fn back_up(client: &mut Client, name: &str) -> Value {
    client.post(&format!("{V1}/backups"), &json!({"directory": name})).unwrap().expect(201)
}

pub fn publish(client: &mut Client, body: &str) {
    client
        .ask("POST", &format!("{V1}/topics/t/messages"), "content-type: text/plain\r\n", body.as_bytes())
        .unwrap()
        .expect(201);
}

pub fn pull(client: &mut Client, request: &Value) -> Vec<Value> {
    let pulled = client.post(&format!("{V1}/topics/t/groups/g/pull"), request).unwrap().expect(200);
    pulled["messages"].as_array().expect("messages").clone()
}

pub fn body(message: &Value) -> String {
    message["body"].as_str().expect("text").to_owned()
}

/// Every message that a topic keeps, with its state for the group.
pub fn kept(client: &mut Client) -> Vec<(String, String)> {
    let (mut found, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        let path = format!("{V1}/topics/t/messages?group=g&limit=1000&encoding=text&from={at}");
        let page = client.get(&path).unwrap().expect(200);
        for message in page["messages"].as_array().expect("messages") {
            found.push((body(message), message["state"].as_str().expect("a state").to_owned()));
        }
        from = page["next"].as_u64();
    }
    found
}
