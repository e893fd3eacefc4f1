//! What the generator says in each dialect: whole requests, made once where they never change, and the
//! few bytes it reads from the answers.

use std::io;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::access::account_hex;
use crate::bench::connection::{Connection, find, request};
use crate::bench::server::random_name;
use crate::model::AccountName;

const TOPIC: &str = "bench";
const GROUP: &str = "http-pull";
const JSON: &str = "content-type: application/json\r\n";

/// Whose requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// windlass's own; also that of the ceilings.
    Native,
    /// Cloudflare Queues.
    Cloudflare,
}

/// The requests of one run.
#[derive(Debug, Clone)]
pub struct Speech {
    dialect: Dialect,
    /// Host and authorization.
    headers: String,
    body_bytes: usize,
    /// Path of the topic (native) or of the queue (Cloudflare).
    topic: String,
    /// Who pulls and acks (native).
    group: String,
    /// What a pull asks for beside the group's defaults (native): nothing, or `,"lease_ms":...`.
    lease: String,
}

/// Text of `bytes` bytes: letters, so that no dialect has to escape anything.
pub fn text(bytes: usize) -> String {
    ('a'..='z').cycle().take(bytes).collect()
}

impl Speech {
    /// Makes a topic of a name that nobody used, and its group.
    pub async fn prepare(
        connection: &mut Connection,
        dialect: Dialect,
        token: Option<&str>,
        body_bytes: usize,
    ) -> io::Result<Self> {
        let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let own = format!("host: {}\r\n{authorization}", connection.peer()?);
        let name = random_name(TOPIC)?;
        let headers = format!("{own}{JSON}");
        let topics = "/api/windlass/v1/topics";
        let mut topic = format!("{topics}/{name}");
        let made = format!("{{\"name\":\"{name}\"}}");
        must(connection, &request("POST", topics, &headers, made.as_bytes())).await?;
        let id = between(connection.body(), b"\"id\":\"").unwrap_or_default();
        let (group, lease) = (GROUP.to_owned(), String::new());
        let mut speech = Self { dialect, headers: own, body_bytes, topic: topic.clone(), group, lease };
        speech.add_group(connection, GROUP, "\"pending_max\":100000").await?;
        if dialect == Dialect::Cloudflare {
            topic = format!("/client/v4/accounts/{}/queues/{id}", account_hex(&AccountName::standard()));
        }
        speech.topic = topic;
        Ok(speech)
    }

    /// A topic of the native API with its group, in a server without tokens.
    pub async fn native(connection: &mut Connection, body_bytes: usize) -> io::Result<Self> {
        Self::prepare(connection, Dialect::Native, None, body_bytes).await
    }

    /// Makes another group of the topic; `settings` are the fields of a JSON object.
    pub async fn add_group(&self, connection: &mut Connection, name: &str, settings: &str) -> io::Result<()> {
        let group = format!("{{\"name\":\"{name}\",\"start\":\"head\",\"settings\":{{{settings}}}}}");
        must(connection, &self.json("/groups", &group)).await?;
        Ok(())
    }

    /// Deletes the group.
    pub fn delete_group(&self) -> Vec<u8> {
        request("DELETE", &format!("{}/groups/{}", self.topic, self.group), &self.headers, b"")
    }

    /// The same words for another group.
    #[must_use]
    pub fn of_group(&self, name: &str) -> Self {
        Self { group: name.to_owned(), ..self.clone() }
    }

    /// The same words, with this lease in place of the group's.
    #[must_use]
    pub fn leasing(&self, lease_ms: u64) -> Self {
        Self { lease: format!(",\"lease_ms\":{lease_ms}"), ..self.clone() }
    }

    /// Asks for the server's metrics.
    pub fn metrics(&self) -> Vec<u8> {
        request("GET", "/metrics", &self.headers, b"")
    }

    fn json(&self, path: &str, body: &str) -> Vec<u8> {
        request("POST", &format!("{}{path}", self.topic), &format!("{}{JSON}", self.headers), body.as_bytes())
    }

    /// Publishes one message whose body is `body`.
    pub fn publish_body(&self, body: &str) -> Vec<u8> {
        match self.dialect {
            Dialect::Native => {
                let headers = format!("{}content-type: text/plain\r\n", self.headers);
                request("POST", &format!("{}/messages", self.topic), &headers, body.as_bytes())
            }
            Dialect::Cloudflare => {
                self.json("/messages", &format!("{{\"body\":\"{body}\",\"content_type\":\"text\"}}"))
            }
        }
    }

    /// Most messages of one publish.
    pub const fn publish_batch_max(&self) -> usize {
        match self.dialect {
            Dialect::Native => 1000,
            Dialect::Cloudflare => 100,
        }
    }

    /// Publishes `batch` messages.
    pub fn publish(&self, batch: usize) -> Vec<u8> {
        let body = text(self.body_bytes);
        if batch == 1 {
            return self.publish_body(&body);
        }
        let message = format!(
            "{{\"body\":\"{body}\",\"content_type\":\"{}\"}}",
            match self.dialect {
                Dialect::Native => "text/plain",
                Dialect::Cloudflare => "text",
            }
        );
        self.json("/messages/batch", &format!("{{\"messages\":[{}]}}", vec![message; batch].join(",")))
    }

    /// Takes up to `batch` messages, waiting up to `wait_ms` (native only).
    pub fn pull(&self, batch: usize, wait_ms: u64) -> Vec<u8> {
        match self.dialect {
            Dialect::Native => self.json(
                &format!("/groups/{}/pull", self.group),
                &format!("{{\"batch_max\":{batch},\"wait_ms\":{wait_ms},\"encoding\":\"text\"{}}}", self.lease),
            ),
            Dialect::Cloudflare => {
                self.json("/messages/pull", &format!("{{\"batch_size\":{batch},\"visibility_timeout_ms\":60000}}"))
            }
        }
    }

    /// The tokens in the answer to a pull.
    pub fn tokens(&self, body: &[u8]) -> Vec<String> {
        let mark: &[u8] = match self.dialect {
            Dialect::Native => b"\"token\":\"",
            Dialect::Cloudflare => b"\"lease_id\":\"",
        };
        let (mut tokens, mut rest) = (Vec::new(), body);
        while let Some(token) = between(rest, mark) {
            let at = find(rest, mark).unwrap_or_default() + mark.len() + token.len();
            // One body lies between two tokens, whatever the order of fields: it need not be searched.
            rest = rest.get((at + self.body_bytes).min(rest.len())..).unwrap_or_default();
            tokens.push(token);
        }
        tokens
    }

    /// Acks leases.
    pub fn ack(&self, tokens: &[String]) -> Vec<u8> {
        match self.dialect {
            Dialect::Native => {
                let tokens = format!("{{\"tokens\":[\"{}\"]}}", tokens.join("\",\""));
                self.json(&format!("/groups/{}/ack", self.group), &tokens)
            }
            Dialect::Cloudflare => {
                let acks: Vec<String> = tokens.iter().map(|token| format!("{{\"lease_id\":\"{token}\"}}")).collect();
                self.json("/messages/ack", &format!("{{\"acks\":[{}]}}", acks.join(",")))
            }
        }
    }

    /// How many leases the answer to an ack says it settled.
    pub fn acked(&self, body: &[u8]) -> u64 {
        let mark: &[u8] = match self.dialect {
            // The one of the whole answer stands last; those of single outcomes are no numbers.
            Dialect::Native => b"\"done\":",
            Dialect::Cloudflare => b"\"ackCount\":",
        };
        let at = memchr::memmem::rfind(body, mark).map(|at| at + mark.len());
        let digits = at.and_then(|at| body.get(at..)).unwrap_or_default();
        digits.iter().take_while(|byte| byte.is_ascii_digit()).fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0'))
    }
}

/// Asks for what cannot fail; a server that is busy or out of space is asked again. Says how often it was.
pub async fn must(connection: &mut Connection, request: &[u8]) -> io::Result<u64> {
    let (mut refused, patience) = (0, Instant::now() + PATIENCE);
    loop {
        match connection.ask(request).await? {
            200..300 => return Ok(refused),
            429 | 503 | 507 if Instant::now() < patience => {
                refused += 1;
                tokio::time::sleep(PAUSE).await;
            }
            status => return Err(unexpected(status, connection)),
        }
    }
}

/// How long a server may refuse.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

fn unexpected(status: u16, connection: &Connection) -> io::Error {
    let said = String::from_utf8_lossy(connection.body()).chars().take(300).collect::<String>();
    io::Error::other(format!("the server answered {status}: {said}"))
}

/// The text from behind `mark` up to the next quote.
pub fn between(bytes: &[u8], mark: &[u8]) -> Option<String> {
    let rest = bytes.get(find(bytes, mark)? + mark.len()..)?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    String::from_utf8(rest.get(..end)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speech(body_bytes: usize) -> Speech {
        let (topic, group) = ("/t".to_owned(), GROUP.to_owned());
        Speech { dialect: Dialect::Native, headers: String::new(), body_bytes, topic, group, lease: String::new() }
    }

    #[test]
    fn tokens_are_found_whatever_the_order_of_fields() {
        let first = br#"{"messages":[{"body":"aaaa","token":"x"},{"body":"aaaa","token":"y"}]}"#;
        let second = br#"{"messages":[{"token":"x","body":"aaaa"},{"token":"y","body":"aaaa"}]}"#;
        assert_eq!(speech(4).tokens(first), ["x", "y"]);
        assert_eq!(speech(4).tokens(second), ["x", "y"]);
    }

    #[test]
    fn the_count_of_acks_is_that_of_the_whole_answer() {
        assert_eq!(speech(1).acked(br#"{"outcomes":[{"outcome":"settled","done":true}],"done":12}"#), 12);
    }
}
