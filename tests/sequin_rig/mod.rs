//! What the tests of the Sequin dialect share: a stream on a server of its own.

#![allow(dead_code, reason = "each test binary uses its own part")]

use serde_json::{Value, json};

use crate::support::Rig;

/// A server with the stream `s`.
pub struct Stream {
    pub rig: Rig,
    pub id: String,
}

impl Stream {
    pub fn bare() -> Self {
        let rig = Rig::start();
        let made = rig.post("/api/streams", &json!({"name": "s"})).expect(200);
        Self { id: made["id"].as_str().expect("an id").to_owned(), rig }
    }

    /// Publishes pairs of key and data.
    #[track_caller]
    pub fn publish(&self, pairs: &[(&str, &str)]) {
        let messages: Vec<Value> = pairs.iter().map(|(key, data)| json!({"key": key, "data": data})).collect();
        let answer = self.rig.post("/api/streams/s/messages", &json!({"messages": messages})).expect(200);
        assert_eq!(answer, json!({"data": {"published": pairs.len()}}));
    }

    /// Sees the envelope of an error.
    #[track_caller]
    pub fn refused(&self, method: &str, path: &str, body: &Value, status: u16) -> Value {
        let reply = self.rig.ask(method, path).json(body).send();
        assert_eq!(reply.header("content-type"), Some("application/json"), "{method} {path} {body}");
        let fault = reply.expect(status);
        assert!(fault["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{fault}");
        assert_eq!(fault.get("validation_errors").is_some(), status == 422, "{fault}");
        fault
    }

    /// Pulls waiting now.
    pub fn waiting(&self) -> u64 {
        waiting(&self.rig)
    }
}

pub fn waiting(rig: &Rig) -> u64 {
    use windlass::engine::Engine as _;
    let status = rig.engine(rig.engine.status());
    status.topics.iter().flat_map(|topic| &topic.groups).map(|group| group.waiting).sum()
}

/// Looks until so many pulls wait.
#[track_caller]
pub fn until_waiting(rig: &Rig, count: u64) {
    let begun = std::time::Instant::now();
    while waiting(rig) != count {
        assert!(begun.elapsed().as_secs() < 20, "there never were {count} waiting pulls");
        std::thread::yield_now();
    }
}

/// The list in an answer.
#[track_caller]
pub fn data(answer: &Value) -> &Vec<Value> {
    answer["data"].as_array().unwrap_or_else(|| panic!("a list under `data`: {answer}"))
}

/// The tokens or ids of an answer.
#[track_caller]
pub fn tokens(answer: &Value, name: &str) -> Vec<Value> {
    data(answer).iter().map(|one| one[name].clone()).collect()
}
