//! Signatures of the data plane: HMAC-SHA1 over all parameters of a query, or all top-level fields of a
//! body, in the order of their names. Method and path are not covered.
//!
//! What has no defined text (a nested value, a float, a boolean, a name that comes twice) cannot be signed.

use std::collections::BTreeMap;
use std::fmt;

use axum::http::Method;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use sha1::Sha1;
use subtle::ConstantTimeEq;

use crate::access::{BadCredential, access_key_secret};
use crate::http::call::Claim;
use crate::http::edge::EdgeError;
use crate::http::jcq::wire::Unique;
use crate::http::state::Front;
use crate::http::time::parse_utc;
use crate::model::AccessId;

/// Messages of one signed body; far above what a batch may have, so that the batch's own bound answers.
const MESSAGES_MAX: usize = 1_024;

/// Reads what the head claims: the access key, the time, the signature.
pub fn claim(front: &Front, parts: &Parts) -> Result<Claim, EdgeError> {
    let header = |name| match parts.headers.get(name) {
        Some(value) => value.to_str().map(str::to_owned).map_err(|_| EdgeError::MalformedCredential),
        None => Err(EdgeError::NoCredential),
    };
    let (key, time, signature) = (header("accesskey")?, header("datetime")?, header("signature")?);
    let now = front.clock.wall();
    let said = parse_utc(&time).ok_or(EdgeError::MalformedCredential)?;
    if said.since(now).max(now.since(said)) > front.config.jcq.clock_window {
        tracing::debug!("the time of a signature lies outside the window");
        return Err(BadCredential.into());
    }
    let id = AccessId(key.clone());
    let (principal, secret) = access_key_secret(&front.engine.access(), &front.sealing, &id, now)?;
    Ok(Box::new(move |parts, body| {
        let source = source(parts, body, &key, &time).ok_or(BadCredential)?;
        let expected = sign(&secret, &source);
        let is_right = bool::from(expected.as_bytes().ct_eq(signature.as_bytes()));
        if is_right { Ok(principal) } else { Err(BadCredential.into()) }
    }))
}

/// The text that is signed; `None` if the request has something that cannot be.
fn source(parts: &Parts, body: &[u8], key: &str, time: &str) -> Option<String> {
    let mut fields = if parts.method == Method::GET {
        query_fields(parts.uri.query().unwrap_or_default())?
    } else {
        body_fields(body)?
    };
    for (name, value) in [("accessKey", key), ("dateTime", time)] {
        if fields.insert(name.to_owned(), value.to_owned()).is_some() {
            return None;
        }
    }
    Some(joined(&fields))
}

fn query_fields(query: &str) -> Option<BTreeMap<String, String>> {
    let mut fields = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if fields.insert(name.into_owned(), value.into_owned()).is_some() {
            return None;
        }
    }
    Some(fields)
}

fn body_fields(body: &[u8]) -> Option<BTreeMap<String, String>> {
    let Unique(fields) = serde_json::from_slice::<Unique<Field>>(body).ok()?;
    let text = |(name, field)| match field {
        Field::Text(text) => Some((name, text)),
        Field::Messages(digests) => (name == "messages").then(|| (name, digests.join(","))),
    };
    fields.into_iter().map(text).collect()
}

/// `name=value` of all fields by name, with `&` between them; nothing is escaped.
fn joined(fields: &BTreeMap<String, String>) -> String {
    fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// The signature of a text.
fn sign(secret: &[u8], source: &str) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret) else { return String::new() };
    mac.update(source.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// A field of a signed body.
enum Field {
    Text(String),
    /// Of each message, its digest.
    Messages(Vec<String>),
}

/// A value with a text: a string as it is, a whole number in decimal.
struct Text(String);

/// A field of a message.
enum MessageField {
    Text(String),
    Properties(BTreeMap<String, Text>),
}

/// MD5 of the fields of a message; its properties count as fields, and win.
struct MessageDigest(String);

impl<'de> Deserialize<'de> for MessageDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Unique(fields) = Unique::<MessageField>::deserialize(deserializer)?;
        let (mut plain, mut properties) = (BTreeMap::new(), BTreeMap::new());
        for (name, field) in fields {
            match field {
                MessageField::Text(text) => {
                    plain.insert(name, text);
                }
                MessageField::Properties(pairs) if name == "properties" => properties = pairs,
                MessageField::Properties(_) => return Err(D::Error::custom("a nested value")),
            }
        }
        plain.extend(properties.into_iter().map(|(name, Text(value))| (name, value)));
        let digest = Md5::digest(joined(&plain));
        Ok(Self(digest.iter().map(|byte| format!("{byte:02x}")).collect()))
    }
}

macro_rules! texts {
    ($value:ty, $make:expr) => {
        type Value = $value;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a value that can be signed")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<$value, E> {
            Ok($make(text.to_owned()))
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<$value, E> {
            Ok($make(number.to_string()))
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<$value, E> {
            Ok($make(number.to_string()))
        }
    };
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            texts!(Text, Text);
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            texts!(Field, Field::Text);

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Field, A::Error> {
                let mut digests = Vec::new();
                while let Some(MessageDigest(digest)) = list.next_element()? {
                    if digests.len() == MESSAGES_MAX {
                        return Err(A::Error::invalid_length(MESSAGES_MAX + 1, &self));
                    }
                    digests.push(digest);
                }
                Ok(Field::Messages(digests))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for MessageField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            texts!(MessageField, MessageField::Text);

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<MessageField, A::Error> {
                let Unique(pairs) = Unique::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(MessageField::Properties(pairs))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    const VECTORS: &str = include_str!("../../../tests/fixtures/jcq-signature-vectors.json");

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Vector {
        name: String,
        access_key: String,
        secret_key: String,
        date_time: String,
        params: serde_json::Value,
        sign_source: String,
        signature: String,
    }

    fn parts(method: &str, query: &str) -> Parts {
        let request = Request::builder().method(method).uri(format!("/v2/messages?{query}")).body(());
        request.expect("a request").into_parts().0
    }

    #[test]
    fn every_published_vector_is_signed_as_written() {
        let vectors: Vec<Vector> = serde_json::from_str(VECTORS).expect("the vectors");
        assert_eq!(vectors.len(), 11);
        for Vector { name, access_key, secret_key, date_time, params, sign_source, signature } in vectors {
            let (parts, body) = if name.starts_with("receive") {
                let mut query = form_urlencoded::Serializer::new(String::new());
                for (name, value) in params.as_object().expect("an object") {
                    query.append_pair(name, value.as_str().expect("text"));
                }
                (parts("GET", &query.finish()), Vec::new())
            } else {
                (parts("POST", ""), serde_json::to_vec(&params).expect("JSON"))
            };
            let source = source(&parts, &body, &access_key, &date_time);
            assert_eq!(source.as_deref(), Some(sign_source.as_str()), "{name}");
            assert_eq!(sign(secret_key.as_bytes(), &sign_source), signature, "{name}");
        }
    }

    #[test]
    fn what_has_no_defined_text_is_not_signed() {
        let of = |body: &str| source(&parts("POST", ""), body.as_bytes(), "k", "t");
        assert!(of(r#"{"a":1,"b":"x"}"#).is_some());
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":true}"#,
            r#"{"a":null}"#,
            r#"{"a":{"b":"c"}}"#,
            r#"{"other":[{"body":"x"}]}"#,
            r#"{"messages":[{"body":"x","body":"y"}]}"#,
            r#"{"messages":[{"body":"x","properties":{"p":"1","p":"2"}}]}"#,
            r#"{"messages":[{"body":"x","other":{"p":"1"}}]}"#,
            r#"{"messages":[{"body":"x","properties":{"p":{}}}]}"#,
            r#"{"accessKey":"k"}"#,
            r#"{"a":1} x"#,
            "[]",
            "",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert_eq!(source(&parts("GET", "a=1&a=1"), b"", "k", "t"), None);
        assert_eq!(source(&parts("GET", "dateTime=1"), b"", "k", "t"), None);
    }
}
