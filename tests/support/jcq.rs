//! A client of the JCQ dialect: signs as the manual says, apart from the server's own code.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use serde_json::Value;
use sha1::Sha1;
use sha2::Sha256;
use windlass::access::{Grant, SealingKey, make_access_key};
use windlass::engine::Engine;
use windlass::model::{AccountName, Permissions, TopicPattern};

use crate::support::{Ask, Reply, Rig};

pub const REGION: &str = "cn-north-1";

/// The result of a request that succeeds; looks at the envelope.
#[track_caller]
pub fn result(reply: &Reply) -> Value {
    let envelope = reply.expect(200);
    let fields: Vec<&String> = envelope.as_object().expect("an envelope").keys().collect();
    assert_eq!(fields, ["requestId", "result"], "{envelope}");
    assert!(envelope["requestId"].as_str().is_some_and(|id| !id.is_empty()));
    envelope["result"].clone()
}

/// The error of a request that fails with this status and word; looks at the envelope.
#[track_caller]
pub fn expect_error(reply: &Reply, status: u16, word: &str) -> Value {
    let envelope = reply.expect(status);
    let fields: Vec<&String> = envelope.as_object().expect("an envelope").keys().collect();
    assert_eq!(fields, ["error", "requestId"], "{envelope}");
    assert!(envelope["requestId"].as_str().is_some_and(|id| !id.is_empty()));
    let error = envelope["error"].clone();
    assert_eq!((&error["code"], &error["status"]), (&Value::from(status), &Value::from(word)), "{error}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
    assert_eq!(error.as_object().expect("an error").len(), 3);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    error
}

/// The server's time, as a signature says it.
pub fn now(rig: &Rig) -> String {
    time_text(rig.now())
}

/// A wall time in ms, as a signature says it.
pub fn time_text(wall_ms: u64) -> String {
    let seconds = (wall_ms - 1_767_225_600_000) / 1_000;
    let (day, second) = (1 + seconds / 86_400, seconds % 86_400);
    assert!(day <= 31, "the tests live in January");
    format!("2026-01-{day:02}T{:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

/// An access key and its secret.
pub struct Key {
    pub id: String,
    secret: String,
}

fn kv(fields: &BTreeMap<String, String>) -> String {
    fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Key {
    /// Makes one in the server. Its sealing key is the rig's.
    pub fn made(rig: &Rig, account: &str, permissions: Permissions, topics: &str) -> Self {
        let account = AccountName::parse(account).expect("a name");
        let topics = TopicPattern::parse(topics).expect("a pattern");
        let grant = Grant { account, permissions, topics, expires_at: None };
        let made = make_access_key(&*rig.clock, &SealingKey::new([9; 32]), grant);
        let id = made.record.id.to_string();
        rig.engine(rig.engine.put_access(made.record)).expect("a new id");
        Self { id, secret: made.secret.reveal().to_owned() }
    }

    /// The id of this one with the secret of another.
    pub fn with_secret_of(&self, other: &Self) -> Self {
        Self { id: self.id.clone(), secret: other.secret.clone() }
    }

    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// One that was made elsewhere.
    pub fn new(id: String, secret: String) -> Self {
        Self { id, secret }
    }

    /// The signature over these fields of a query or a body.
    pub fn sign(&self, mut fields: BTreeMap<String, String>, time: &str) -> String {
        fields.insert("accessKey".to_owned(), self.id.clone());
        fields.insert("dateTime".to_owned(), time.to_owned());
        let mut mac = Hmac::<Sha1>::new_from_slice(self.secret.as_bytes()).expect("a key");
        mac.update(kv(&fields).as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    }

    pub fn sign_body(&self, body: &Value, time: &str) -> String {
        let mut fields = BTreeMap::new();
        for (name, value) in body.as_object().expect("an object") {
            let value = match value.as_array() {
                None => text(value),
                Some(messages) => messages.iter().map(digest).collect::<Vec<_>>().join(","),
            };
            fields.insert(name.clone(), value);
        }
        self.sign(fields, time)
    }

    fn head(&self, ask: Ask, time: &str, signature: &str) -> Ask {
        ask.header("accessKey", &self.id).header("dateTime", time).header("signature", signature)
    }

    /// A signed request of the data plane.
    pub fn post(&self, rig: &Rig, path: &str, body: &Value) -> Ask {
        let time = now(rig);
        let signature = self.sign_body(body, &time);
        self.head(rig.ask("POST", path), &time, &signature).json(body)
    }

    /// A signed request of the data plane.
    pub fn get(&self, rig: &Rig, path: &str, query: &[(&str, &str)]) -> Ask {
        self.get_at(rig, path, query, &now(rig))
    }

    /// The same, said to be of another time.
    pub fn get_at(&self, rig: &Rig, path: &str, query: &[(&str, &str)], time: &str) -> Ask {
        let fields = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let signature = self.sign(fields, time);
        let mut encoded = form_urlencoded::Serializer::new(String::new());
        encoded.extend_pairs(query);
        self.head(rig.ask("GET", &format!("{path}?{}", encoded.finish())), time, &signature)
    }

    /// A signed request of the management plane. `query` is sorted and encoded already.
    pub fn manage(&self, rig: &Rig, method: &str, path: &str, query: &str, body: &str) -> Ask {
        let time = now(rig).replace(['-', ':'], "");
        let path = format!("/v1/regions/{REGION}{path}");
        let host = rig.address.to_string();
        let authorization = self.authorization(method, (&path, query), &host, body.as_bytes(), &time);
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        rig.ask(method, &format!("{path}{query}"))
            .header("authorization", &authorization)
            .header("x-jdcloud-date", &time)
            .header("content-type", "application/json")
            .body(body)
    }

    /// The header that signs a request of the management plane: of JSON, at a time without dashes and colons.
    pub fn authorization(
        &self,
        method: &str,
        (path, query): (&str, &str),
        host: &str,
        body: &[u8],
        time: &str,
    ) -> String {
        let day = &time[..8];
        let scope = format!("{day}/{REGION}/jcq/jdcloud3_request");
        let canonical = format!(
            "{method}\n{}\n{query}\ncontent-type:application/json\nhost:{host}\n\ncontent-type;host\n{}",
            path.replace(':', "%3A"),
            hex(&Sha256::digest(body)),
        );
        let text = format!("JDCLOUD3-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let mut key = format!("JDCLOUD3{}", self.secret).into_bytes();
        for part in [day, REGION, "jcq", "jdcloud3_request", &text] {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key");
            mac.update(part.as_bytes());
            key = mac.finalize().into_bytes().to_vec();
        }
        format!(
            "JDCLOUD3-HMAC-SHA256 Credential={}/{scope}, SignedHeaders=content-type;host, Signature={}",
            self.id,
            hex(&key)
        )
    }
}

fn digest(message: &Value) -> String {
    let mut fields = BTreeMap::new();
    let message = message.as_object().expect("an object");
    for (name, value) in message.iter().filter(|(name, _)| *name != "properties") {
        fields.insert(name.clone(), text(value));
    }
    for (name, value) in message.get("properties").and_then(Value::as_object).into_iter().flatten() {
        fields.insert(name.clone(), text(value));
    }
    hex(&Md5::digest(kv(&fields)))
}
