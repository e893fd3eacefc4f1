//! Signatures of the management plane: JDCLOUD3-HMAC-SHA256 over method, path, query, the headers that it
//! names, and the body.
//!
//! The published client signs its content type and the host, and sends time and nonce beside: the time is
//! covered all the same, because the text that is signed begins with it.

use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::access::{BadCredential, access_key_secret};
use crate::http::call::Claim;
use crate::http::edge::EdgeError;
use crate::http::state::Front;
use crate::http::time::parse_basic;
use crate::model::AccessId;

const ALGORITHM: &str = "JDCLOUD3-HMAC-SHA256";
const SERVICE: &str = "jcq";
const TERMINATOR: &str = "jdcloud3_request";
const DATE: &str = "x-jdcloud-date";
/// Headers that one signature may name.
const SIGNED_HEADERS_MAX: usize = 32;

/// What an `Authorization` header of this scheme says.
struct Credential {
    access_key: String,
    day: String,
    region: String,
    signed_headers: String,
    signature: String,
}

impl Credential {
    fn read(text: &str) -> Option<Self> {
        let mut fields = text.strip_prefix(ALGORITHM)?.trim_start().split(',').map(str::trim);
        let mut field = |name: &str| fields.next()?.strip_prefix(name)?.strip_prefix('=');
        let scope: Vec<&str> = field("Credential")?.split('/').collect();
        let signed_headers = field("SignedHeaders")?.to_owned();
        let signature = field("Signature")?.to_owned();
        let [access_key, day, region, SERVICE, TERMINATOR] = scope[..] else { return None };
        let names = signed_headers.split(';');
        let is_bounded = names.clone().count() <= SIGNED_HEADERS_MAX && names.clone().any(|name| name == "host");
        is_bounded.then(|| Self {
            access_key: access_key.to_owned(),
            day: day.to_owned(),
            region: region.to_owned(),
            signed_headers,
            signature,
        })
    }
}

/// Reads what the head claims.
pub fn claim(front: &Front, parts: &Parts) -> Result<Claim, EdgeError> {
    let text = parts.headers.get(header::AUTHORIZATION).ok_or(EdgeError::NoCredential)?;
    let text = text.to_str().map_err(|_| EdgeError::MalformedCredential)?;
    let credential = Credential::read(text).ok_or(EdgeError::MalformedCredential)?;
    let date = parts.headers.get(DATE).and_then(|date| date.to_str().ok()).ok_or(EdgeError::MalformedCredential)?;
    let date = date.to_owned();
    let said =
        parse_basic(&date).filter(|_| date.starts_with(&credential.day)).ok_or(EdgeError::MalformedCredential)?;
    let now = front.clock.wall();
    if said.since(now).max(now.since(said)) > front.config.jcq.clock_window {
        tracing::debug!("the time of a signature lies outside the window");
        return Err(BadCredential.into());
    }
    let id = AccessId(credential.access_key.clone());
    let (principal, secret) = access_key_secret(&front.engine.access(), &front.sealing, &id, now)?;
    Ok(Box::new(move |parts, body| {
        let request = canonical_request(parts, body, &credential.signed_headers).ok_or(BadCredential)?;
        let expected = sign(&secret, &credential.day, &credential.region, &date, &request);
        let is_right = bool::from(expected.as_bytes().ct_eq(credential.signature.as_bytes()));
        if is_right { Ok(principal) } else { Err(BadCredential.into()) }
    }))
}

/// The signature of a canonical request.
fn sign(secret: &[u8], day: &str, region: &str, date: &str, request: &str) -> String {
    let scope = format!("{day}/{region}/{SERVICE}/{TERMINATOR}");
    let text = format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex(&Sha256::digest(request)));
    let key = [b"JDCLOUD3", secret].concat();
    let key = [day, region, SERVICE, TERMINATOR].iter().fold(key, |key, part| mac(&key, part));
    hex(&mac(&key, &text))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `None`: a part of it is not UTF-8, a signed header is missing, or the query has what no signature covers.
fn canonical_request(parts: &Parts, body: &[u8], signed_headers: &str) -> Option<String> {
    let path = canonical_path(parts.uri.path())?;
    let query = canonical_query(parts.uri.query().unwrap_or_default())?;
    let headers = canonical_headers(&parts.headers, signed_headers)?;
    let digest = hex(&Sha256::digest(body));
    Some(format!("{}\n{path}\n{query}\n{headers}\n{signed_headers}\n{digest}", parts.method))
}

fn canonical_path(path: &str) -> Option<String> {
    let mut decoded = decode(path)?;
    while decoded.contains("//") {
        decoded = decoded.replace("//", "/");
    }
    Some(decoded.split('/').map(encode).collect::<Vec<_>>().join("/"))
}

fn canonical_query(query: &str) -> Option<String> {
    let mut pairs = Vec::new();
    for pair in query.split('&') {
        if pair.is_empty() {
            continue;
        }
        // The scheme leaves these out: they could be added to a request that somebody else has signed.
        let (name, value) = pair.split_once('=').filter(|(name, _)| !name.is_empty())?;
        pairs.push((encode(&decode(name)?), encode(&decode(value)?)));
    }
    pairs.sort();
    Some(pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&"))
}

fn canonical_headers(headers: &HeaderMap, signed: &str) -> Option<String> {
    let mut lines = String::new();
    for name in signed.split(';') {
        let values: Option<Vec<&str>> =
            headers.get_all(name).iter().map(|value| value.to_str().ok().map(str::trim)).collect();
        let values = values.filter(|values| !values.is_empty())?;
        lines.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    Some(lines)
}

/// Percent-decoded, with `+` for a blank.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                rest = after;
            }
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encoded but for letters, digits and `-_.~`.
fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    /// What the published client computed for these requests.
    #[test]
    fn requests_are_signed_as_the_published_client_signs_them() {
        let create = r#"{"regionId": "cn-north-1", "topicName": "orders", "type": "normal", "description": null}"#;
        for (method, path, body, expected) in [
            (
                "GET",
                "/topics?pageSize=20&topicFilter=ord%20er",
                "",
                "acf8e5086b5d18b8dbd53f3c94c30445e5220d6ed062b7c4e34bf3429e5a3df2",
            ),
            ("POST", "/topics", create, "87f4d3792a843ab58cf7aea9c551d2993396573a55139ae5f33457d072471c38"),
            (
                "DELETE",
                "/topics/orders/subscriptions/group-01:deleteDeadLetters?messageIds=a%2Cb",
                "",
                "74d4fdf33bb6535199a4424508eabdb503e58538dff1f3551de02d1ad4905681",
            ),
        ] {
            let request = Request::builder()
                .method(method)
                .uri(format!("/v1/regions/cn-north-1{path}"))
                .header("host", "127.0.0.1:8080")
                .header("content-type", "application/json")
                .body(());
            let parts = request.expect("a request").into_parts().0;
            let canonical = canonical_request(&parts, body.as_bytes(), "content-type;host").expect("all is there");
            let signature = sign(b"SKTEST0123456789abcdef", "20260101", "cn-north-1", "20260101T000000Z", &canonical);
            assert_eq!(signature, expected, "{method} {path}");
        }
    }

    #[test]
    fn paths_and_queries_are_written_in_one_way() {
        assert_eq!(canonical_path("/a//b+c:d%7e%2f").as_deref(), Some("/a/b%20c%3Ad~/"));
        assert_eq!(canonical_query("b=2&a=%2c&&a=1&c=").as_deref(), Some("a=%2C&a=1&b=2&c="));
        assert_eq!(canonical_path("/%ff"), None);
        assert_eq!(decode("100%+%4"), Some("100% %4".to_owned()));
    }

    #[test]
    fn only_whole_credentials_that_cover_the_host_are_read() {
        let good = "JDCLOUD3-HMAC-SHA256 Credential=AK/20260101/cn-north-1/jcq/jdcloud3_request, \
                    SignedHeaders=content-type;host, Signature=00";
        assert!(Credential::read(good).is_some());
        for (part, other) in [
            ("JDCLOUD3-", "JDCLOUD2-"),
            ("/jcq/", "/vm/"),
            ("jdcloud3_request", "jdcloud2_request"),
            (";host", ""),
            ("Signature=", "Sig="),
            ("AK/", ""),
        ] {
            assert!(Credential::read(&good.replace(part, other)).is_none(), "{other}");
        }
    }
}
