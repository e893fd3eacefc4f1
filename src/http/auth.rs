//! Who asks: reads the credential of a request, before its body.

use std::borrow::Cow;
use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::access::{self, Principal};
use crate::http::edge::EdgeError;
use crate::http::state::{Exposure, Front};

/// The token of `Authorization: Bearer`, if the header is there.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, EdgeError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(EdgeError::MalformedCredential);
    }
    let text = value.to_str().map_err(|_| EdgeError::MalformedCredential)?;
    let (scheme, token) = text.split_once(' ').ok_or(EdgeError::MalformedCredential)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(EdgeError::MalformedCredential);
    }
    Ok(Some(token))
}

/// The token of `Authorization: Bearer`, or the password of `Basic` for clients that know only that; the user is
/// not looked at.
pub fn bearer_or_basic(headers: &HeaderMap) -> Result<Option<Cow<'_, str>>, EdgeError> {
    let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match text.split_once(' ') {
        Some((scheme, pair)) if scheme.eq_ignore_ascii_case("basic") => {
            if headers.get_all(header::AUTHORIZATION).iter().nth(1).is_some() {
                return Err(EdgeError::MalformedCredential);
            }
            basic_password(pair.trim()).map(Cow::Owned).map(Some).ok_or(EdgeError::MalformedCredential)
        }
        Some(_) | None => Ok(bearer(headers)?.map(Cow::Borrowed)),
    }
}

/// The password of `user:password` in base64; an empty one is none.
fn basic_password(pair: &str) -> Option<String> {
    let pair = String::from_utf8(STANDARD.decode(pair).ok()?).ok()?;
    let (_, password) = pair.split_once(':')?;
    (!password.is_empty()).then(|| password.to_owned())
}

/// Finds who asks. `token` is what the dialect found in `headers`, or why it found none: a server
/// without any credential, on loopback, does not look at it.
pub fn authenticate(
    front: &Front,
    headers: &HeaderMap,
    token: Result<Option<&str>, EdgeError>,
) -> Result<Principal, EdgeError> {
    if let Some(open) = open(front, headers) {
        return open;
    }
    let token = token?.ok_or(EdgeError::NoCredential)?;
    Ok(access::verify(&front.engine.access(), token, front.clock.wall())?)
}

/// Who asks, where no credential is looked at: on loopback, as long as the server has none. `None`: there
/// it is looked at.
pub fn open(front: &Front, headers: &HeaderMap) -> Option<Result<Principal, EdgeError>> {
    let is_open = front.engine.access().records.is_empty() && front.exposure == Exposure::Loopback;
    is_open.then(|| if is_local(headers) { Ok(Principal::open()) } else { Err(EdgeError::NotLocal) })
}

/// Whether a request was made to this machine by name, and not by a page from elsewhere: without
/// credentials, any page that a browser on this machine shows could otherwise reach the queues.
fn is_local(headers: &HeaderMap) -> bool {
    let hosts = headers.get_all(header::HOST).iter().map(HeaderValue::to_str);
    let origins = headers.get_all(header::ORIGIN).iter().map(HeaderValue::to_str);
    let authority = |origin: &str| origin.split_once("://").is_some_and(|(_, authority)| is_local_authority(authority));
    hosts.into_iter().all(|host| host.is_ok_and(is_local_authority))
        && origins.into_iter().all(|origin| origin.is_ok_and(authority))
}

fn is_local_authority(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(host, _)| host),
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        || host.to_ascii_lowercase().ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_is_read() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(text));
            bearer(&headers).map(|token| token.map(str::to_owned))
        };
        assert_eq!(read("Bearer abc"), Ok(Some("abc".to_owned())));
        assert_eq!(read("bearer  abc "), Ok(Some("abc".to_owned())));
        for bad in ["abc", "Bearer", "Bearer ", "Basic abc", ""] {
            assert_eq!(read(bad), Err(EdgeError::MalformedCredential), "{bad}");
        }
        assert_eq!(bearer(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn the_password_of_basic_stands_for_a_token() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(text).expect("a header"));
            bearer_or_basic(&headers).map(|token| token.map(Cow::into_owned))
        };
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for good in [basic("u:abc"), basic(":abc"), basic("u:abc").replace("Basic", "bASIC"), "Bearer abc".to_owned()] {
            assert_eq!(read(&good), Ok(Some("abc".to_owned())), "{good}");
        }
        assert_eq!(read(&basic("u:a:c")), Ok(Some("a:c".to_owned())));
        for bad in [basic("u:"), basic("abc"), "Basic".to_owned(), "Basic *".to_owned(), "Digest abc".to_owned()] {
            assert_eq!(read(&bad), Err(EdgeError::MalformedCredential), "{bad}");
        }
        let mut twice = HeaderMap::new();
        twice.append(header::AUTHORIZATION, HeaderValue::from_str(&basic("u:abc")).expect("a header"));
        twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
        assert_eq!(bearer_or_basic(&twice), Err(EdgeError::MalformedCredential));
        assert_eq!(bearer_or_basic(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn a_page_from_elsewhere_is_not_local() {
        for local in ["localhost", "localhost:7070", "127.0.0.1:7070", "[::1]:7070", "q.localhost:1", "127.9.9.9"] {
            assert!(is_local_authority(local), "{local}");
        }
        for foreign in ["evil.example", "evil.example:7070", "localhost.evil.example", "192.168.1.5", "", "[::1"] {
            assert!(!is_local_authority(foreign), "{foreign}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:7070"));
        assert!(is_local(&headers));
        for (origin, expected) in [("http://localhost:3000", true), ("https://evil.example", false), ("null", false)] {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            assert_eq!(is_local(&headers), expected, "{origin}");
        }
    }
}
