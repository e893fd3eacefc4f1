//! A queue of the Cloudflare dialect and its consumer, on a server around the oracle.

#![allow(dead_code, reason = "each test binary uses its own part")]

use serde_json::{Value, json};

use crate::support::Rig;

pub const QUEUES: &str = "/client/v4/accounts/023e105f4ecef8ad9ca31a8372d0c353/queues";

/// A queue of the standard account.
pub struct Queue {
    pub rig: Rig,
    pub id: String,
    pub consumer: String,
}

pub fn queue() -> Queue {
    queue_of(Rig::start())
}

pub fn queue_of(rig: Rig) -> Queue {
    let made = result(&rig, "POST", "", &json!({"queue_name": "n"}));
    let id = made["queue_id"].as_str().expect("an id").to_owned();
    let consumer = result(&rig, "POST", &format!("/{id}/consumers"), &json!({"type": "http_pull"}));
    Queue { id, consumer: consumer["consumer_id"].as_str().expect("an id").to_owned(), rig }
}

/// The result of a request that succeeds; looks at the envelope.
#[track_caller]
pub fn result(rig: &Rig, method: &str, rest: &str, body: &Value) -> Value {
    let reply = rig.ask(method, &format!("{QUEUES}{rest}")).json(body).send();
    assert_eq!(reply.header("content-type"), Some("application/json"), "{}", reply.text());
    let envelope = reply.expect(200);
    assert_eq!(envelope["success"], true);
    assert_eq!((&envelope["errors"], &envelope["messages"]), (&json!([]), &json!([])));
    envelope["result"].clone()
}

impl Queue {
    pub fn path(&self, rest: &str) -> String {
        format!("{QUEUES}/{}{rest}", self.id)
    }

    #[track_caller]
    pub fn ok(&self, method: &str, rest: &str, body: &Value) -> Value {
        result(&self.rig, method, &format!("/{}{rest}", self.id), body)
    }

    #[track_caller]
    pub fn push(&self, message: &Value) {
        let metrics = self.ok("POST", "/messages", message);
        assert!(metrics["metadata"]["metrics"]["backlog_count"].is_u64(), "{metrics}");
    }

    #[track_caller]
    pub fn pull(&self, request: &Value) -> Vec<Value> {
        self.ok("POST", "/messages/pull", request)["messages"].as_array().expect("messages").clone()
    }

    #[track_caller]
    pub fn fault(&self, method: &str, rest: &str, body: &Value, status: u16, code: u32) -> Value {
        self.rig.ask(method, &self.path(rest)).json(body).send().expect_fault(status, code)
    }
}
