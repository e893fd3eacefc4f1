//! One topic, three dialects: what is published through any is pulled through any, each reader with a cursor
//! of its own, whoever made the topic.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "support/http.rs"]
mod support;

use serde_json::{Value, json};
use support::Rig;

const QUEUES: &str = "/client/v4/accounts/default/queues";
const NATIVE: &str = "/api/windlass/v1/topics";
/// A name that every dialect allows.
const TOPIC: &str = "orders";
const JCQ_GROUP: &str = "group-of-jcq";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Cloudflare,
    Sequin,
    Jcq,
}

const ALL: [Dialect; 3] = [Dialect::Cloudflare, Dialect::Sequin, Dialect::Jcq];

/// A topic that each dialect reads in a group of its own.
struct Shared {
    rig: Rig,
    queue: String,
}

impl Shared {
    fn made_by(maker: Dialect) -> Self {
        let rig = Rig::start();
        match maker {
            Dialect::Cloudflare => rig.post(QUEUES, &json!({"queue_name": TOPIC})).expect(200),
            Dialect::Sequin => rig.post("/api/streams", &json!({"name": TOPIC})).expect(200),
            Dialect::Jcq => {
                let topic = json!({"topicName": TOPIC, "type": "normal"});
                rig.post("/v1/regions/cn-north-1/topics", &topic).expect(200)
            }
        };
        let queues = rig.get(&format!("{QUEUES}?name={TOPIC}")).expect(200);
        let queue = queues["result"][0]["queue_id"].as_str().unwrap().to_owned();
        rig.post(&format!("{QUEUES}/{queue}/consumers"), &json!({"type": "http_pull"})).expect(200);
        let consumer = json!({"name": "reader", "filter_key_pattern": ">"});
        rig.post(&format!("/api/streams/{TOPIC}/consumers"), &consumer).expect(200);
        let shared = Self { rig, queue };
        assert_eq!(shared.pull(Dialect::Jcq), Vec::<String>::new(), "the first pull makes the group");
        shared
    }

    fn publish(&self, by: Dialect, text: &str) {
        match by {
            Dialect::Cloudflare => {
                let message = json!({"body": text, "content_type": "text"});
                self.rig.post(&format!("{QUEUES}/{}/messages", self.queue), &message).expect(200);
            }
            Dialect::Sequin => {
                let messages = json!({"messages": [{"key": format!("key.{text}"), "data": text}]});
                self.rig.post(&format!("/api/streams/{TOPIC}/messages"), &messages).expect(200);
            }
            Dialect::Jcq => {
                let messages = json!([{"body": text, "tag": "t", "properties": {"made": "by jcq"}}]);
                let send = json!({"topic": TOPIC, "type": "NORMAL", "messages": messages});
                self.rig.post("/v2/messages", &send).expect(200);
            }
        }
    }

    /// The messages there are, as the dialect shows them, with what acks them.
    fn take(&self, by: Dialect) -> (Vec<Value>, Value) {
        match by {
            Dialect::Cloudflare => {
                let pull = format!("{QUEUES}/{}/messages/pull", self.queue);
                let result = self.rig.post(&pull, &json!({"batch_size": 10})).expect(200)["result"].clone();
                let messages = result["messages"].as_array().unwrap().clone();
                let acks: Vec<Value> = messages.iter().map(|one| json!({"lease_id": one["lease_id"]})).collect();
                (messages, json!(acks))
            }
            Dialect::Sequin => {
                let receive = format!("/api/streams/{TOPIC}/consumers/reader/receive");
                let answer = self.rig.post(&receive, &json!({"batch_size": 10})).expect(200);
                let taken = answer["data"].as_array().unwrap();
                let acks: Vec<Value> = taken.iter().map(|one| one["ack_id"].clone()).collect();
                (taken.iter().map(|one| one["message"].clone()).collect(), json!(acks))
            }
            Dialect::Jcq => {
                let path = format!("/v2/messages?topic={TOPIC}&consumerGroupId={JCQ_GROUP}");
                let result = self.rig.get(&path).expect(200)["result"].clone();
                (result["messages"].as_array().unwrap().clone(), result["ackIndex"].clone())
            }
        }
    }

    fn ack(&self, by: Dialect, acks: &Value) {
        match by {
            Dialect::Cloudflare => {
                let path = format!("{QUEUES}/{}/messages/ack", self.queue);
                let answer = self.rig.post(&path, &json!({"acks": acks})).expect(200);
                assert_eq!(answer["result"]["ackCount"], acks.as_array().unwrap().len());
            }
            Dialect::Sequin => {
                let path = format!("/api/streams/{TOPIC}/consumers/reader/ack");
                self.rig.post(&path, &json!({"ack_ids": acks})).expect(200);
            }
            Dialect::Jcq => {
                let ack =
                    json!({"topic": TOPIC, "consumerGroupId": JCQ_GROUP, "ackAction": "SUCCESS", "ackIndex": acks});
                self.rig.post("/v2/ack", &ack).expect(200);
            }
        }
    }

    /// Bodies as the dialect shows them; the leases are left to lapse.
    fn pull(&self, by: Dialect) -> Vec<String> {
        self.take(by).0.iter().map(|message| body_in(by, message)).collect()
    }

    /// How many messages a group has not settled.
    fn unsettled(&self, group: &str) -> u64 {
        let counts = self.rig.get(&format!("{NATIVE}/{TOPIC}/groups/{group}/counts")).expect(200);
        ["ready", "in_flight", "delayed"].iter().map(|name| counts[name].as_u64().unwrap()).sum()
    }
}

fn body_in(dialect: Dialect, message: &Value) -> String {
    let name = match dialect {
        Dialect::Cloudflare => "body",
        Dialect::Sequin => "data",
        Dialect::Jcq => "messageBody",
    };
    message[name].as_str().unwrap_or_else(|| panic!("a body: {message}")).to_owned()
}

/// The group in which a dialect reads.
const fn group_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Cloudflare => "http-pull",
        Dialect::Sequin => "reader",
        Dialect::Jcq => JCQ_GROUP,
    }
}

#[test]
fn each_dialect_publishes_to_each() {
    for maker in ALL {
        let shared = Shared::made_by(maker);
        for publisher in ALL {
            shared.publish(publisher, &format!("{publisher:?}"));
        }
        for reader in ALL {
            let (messages, acks) = shared.take(reader);
            let bodies: Vec<String> = messages.iter().map(|message| body_in(reader, message)).collect();
            assert_eq!(bodies, ["Cloudflare", "Sequin", "Jcq"], "pulled by {reader:?} from a topic of {maker:?}");
            shared.ack(reader, &acks);
            assert_eq!(shared.pull(reader), Vec::<String>::new(), "{reader:?} has acked everything");
            assert_eq!(shared.unsettled(group_of(reader)), 0);
        }
    }
}

/// What a reader leaves alone is nobody else's business.
#[test]
fn an_ack_of_one_dialect_leaves_the_others_alone() {
    let shared = Shared::made_by(Dialect::Cloudflare);
    shared.publish(Dialect::Sequin, "one");
    let (_, acks) = shared.take(Dialect::Cloudflare);
    shared.ack(Dialect::Cloudflare, &acks);
    assert_eq!((shared.unsettled("http-pull"), shared.unsettled("reader"), shared.unsettled(JCQ_GROUP)), (0, 1, 1));
    let (_, index) = shared.take(Dialect::Jcq);
    shared.ack(Dialect::Jcq, &index);
    assert_eq!((shared.unsettled("reader"), shared.unsettled(JCQ_GROUP)), (1, 0));
    assert_eq!(shared.pull(Dialect::Sequin), ["one"]);
}

/// docs/dialects/mapping.md has this as a table.
#[test]
fn what_a_dialect_cannot_say_is_said_in_its_own_way() {
    let shared = Shared::made_by(Dialect::Cloudflare);
    let publish = format!("{NATIVE}/{TOPIC}/messages/batch");
    let message = json!({
        "body_base64": "/wA=", "content_type": "application/octet-stream", "key": "k.1", "tag": "red",
        "properties": {"colour": "blue"},
    });
    shared.rig.post(&publish, &json!({"messages": [message]})).expect(201);
    let message = json!({"body": "{\"n\":1}", "content_type": "application/json"});
    shared.rig.post(&publish, &json!({"messages": [message]})).expect(201);

    let (cloudflare, _) = shared.take(Dialect::Cloudflare);
    assert_eq!(cloudflare[0]["body"], "/wA=");
    assert_eq!(cloudflare[0]["metadata"]["CF-Content-Type"], "bytes");
    assert_eq!(cloudflare[0]["metadata"]["colour"], "blue");
    assert_eq!(cloudflare[1]["body"], "eyJuIjoxfQ==", "JSON is shown in base64, as Cloudflare does");
    assert_eq!(cloudflare[1]["metadata"]["CF-Content-Type"], "json");

    let (sequin, _) = shared.take(Dialect::Sequin);
    assert_eq!((&sequin[0]["data"], &sequin[0]["data_encoding"]), (&json!("/wA="), &json!("base64")));
    assert_eq!(sequin[0]["key"], "k.1");
    assert_eq!((&sequin[1]["data"], &sequin[1]["key"]), (&json!("{\"n\":1}"), &Value::Null));

    let (jcq, _) = shared.take(Dialect::Jcq);
    assert_eq!(jcq[0]["messageBody"], "/wA=");
    let said = json!({"BODY_ENCODING": "base64", "KEYS": "k.1", "TAGS": "red", "colour": "blue"});
    assert_eq!(jcq[0]["properties"], said);
    assert_eq!((&jcq[1]["messageBody"], &jcq[1]["properties"]), (&json!("{\"n\":1}"), &json!({})));
}

/// The id is the same message's everywhere, though each dialect writes it in its own way.
#[test]
fn a_message_has_one_id() {
    let shared = Shared::made_by(Dialect::Jcq);
    shared.publish(Dialect::Jcq, "one");
    let hex = |message: &Value, name: &str| message[name].as_str().unwrap().replace('-', "");
    let (cloudflare, jcq) = (shared.take(Dialect::Cloudflare).0, shared.take(Dialect::Jcq).0);
    assert_eq!(hex(&cloudflare[0], "id"), hex(&jcq[0], "messageId"));
}
