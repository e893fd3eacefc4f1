//! The HTTP client of the commands: blocking, JSON in and out, problems as errors.

use std::io::Read as _;
#[cfg(feature = "tls")]
use std::path::{Path, PathBuf};
use std::time::Duration;

use form_urlencoded::byte_serialize;
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Method, Request};

use crate::cli::exit::Failure;
use crate::cli::show::Format;
use crate::http::NATIVE_PREFIX;

/// An answer beyond this is none of ours.
const ANSWER_BYTES_MAX: u64 = 1 << 30;
/// What a server's URL begins with.
const SCHEMES: &[&str] = if cfg!(feature = "tls") { &["http://", "https://"] } else { &["http://"] };
/// How long the server may take, beside what the request asks it to wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which server, as whom, and how to show what it says.
#[derive(Debug, Clone, clap::Args)]
pub struct ClientArguments {
    /// URL of the server.
    #[arg(long, global = true, env = "WINDLASS_SERVER", default_value = "http://127.0.0.1:7070", value_name = "URL")]
    server: String,
    /// Bearer token. Better in the environment, where other users of the machine do not see it.
    #[arg(
        id = "bearer",
        long = "token",
        global = true,
        env = "WINDLASS_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token: Option<String>,
    /// PEM file with the certificates to trust in the place of the public ones, for an https server.
    #[cfg(feature = "tls")]
    #[arg(long, global = true, env = "WINDLASS_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// How to print the answer, and a refusal.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// A server to ask.
pub struct Client {
    agent: Agent,
    server: String,
    token: Option<String>,
}

/// What goes into a request.
pub enum Sent<'a> {
    /// Nothing.
    Nothing,
    /// JSON.
    Json(&'a Value),
    /// Bytes, with headers that say what they are.
    Bytes(&'a [u8], &'a [(String, String)]),
}

impl Client {
    /// A client of the server that the arguments name.
    pub fn new(arguments: &ClientArguments) -> Result<Self, Failure> {
        let server = arguments.server.trim_end_matches('/').to_owned();
        if !SCHEMES.iter().any(|scheme| server.starts_with(scheme)) {
            let schemes = SCHEMES.join(" or ");
            let hint = if cfg!(feature = "tls") { "" } else { ": this windlass was built without TLS" };
            return Err(Failure::Usage(format!("--server must begin with {schemes} and not be `{server}`{hint}")));
        }
        // A proxy from the environment is not asked: the server is mostly on this machine.
        let config = Agent::config_builder().http_status_as_error(false).proxy(None);
        #[cfg(feature = "tls")]
        let config = match &arguments.ca_file {
            Some(path) => config.tls_config(trusting(path)?),
            None => config,
        };
        let token = arguments.token.clone().filter(|token| !token.is_empty());
        Ok(Self { agent: config.build().into(), server, token })
    }

    /// Asks, and waits for the answer. `path` begins behind the prefix of the native API.
    pub fn ask(&self, method: Method, path: &str, sent: &Sent<'_>) -> Result<Value, Failure> {
        self.ask_waiting(method, path, sent, Duration::ZERO)
    }

    /// The same, where the server is asked to wait.
    pub fn ask_waiting(&self, method: Method, path: &str, sent: &Sent<'_>, wait: Duration) -> Result<Value, Failure> {
        let mut response = self.send(method, path, sent, Some(wait + PATIENCE))?;
        let (status, mut text) = (response.status(), String::new());
        let mut body = response.body_mut().as_reader().take(ANSWER_BYTES_MAX);
        body.read_to_string(&mut text).map_err(|source| self.unreachable(source))?;
        let value = serde_json::from_str(&text);
        match (status.is_success(), value) {
            (true, Ok(value)) => Ok(value),
            (true, Err(_)) if text.is_empty() => Ok(Value::Null),
            (false, Ok(problem @ Value::Object(_))) => Err(Failure::Refused(problem)),
            (_, Ok(_) | Err(_)) => {
                Err(Failure::said(format!("{} answered {status} and not as windlass does", self.server)))
            }
        }
    }

    /// Reads an answer that is no JSON, as long as it comes.
    pub fn read_to(&self, path: &str, out: &mut dyn std::io::Write) -> Result<u64, Failure> {
        let mut response = self.send(Method::GET, path, &Sent::Nothing, None)?;
        if response.status().is_success() {
            return Ok(std::io::copy(&mut response.body_mut().as_reader(), out)?);
        }
        let mut text = String::new();
        response.body_mut().as_reader().take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
        Err(match serde_json::from_str(&text) {
            Ok(problem @ Value::Object(_)) => Failure::Refused(problem),
            _ => Failure::said(format!("{} answered {} and not as windlass does", self.server, response.status())),
        })
    }

    fn unreachable(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
        Failure::Unreachable { server: self.server.clone(), source: source.into() }
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        sent: &Sent<'_>,
        patience: Option<Duration>,
    ) -> Result<ureq::http::Response<ureq::Body>, Failure> {
        let mut request = Request::builder().method(method).uri(format!("{}{NATIVE_PREFIX}{path}", self.server));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = match sent {
            Sent::Nothing => Vec::new(),
            Sent::Json(value) => {
                request = request.header("content-type", "application/json");
                serde_json::to_vec(value)?
            }
            Sent::Bytes(bytes, headers) => {
                for (name, value) in *headers {
                    request = request.header(name.as_str(), value.as_str());
                }
                bytes.to_vec()
            }
        };
        let request = request.body(body).map_err(|error| Failure::Usage(error.to_string()))?;
        let request = self.agent.configure_request(request).timeout_global(patience).build();
        self.agent.run(request).map_err(|source| self.unreachable(source))
    }

    /// Reads.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::GET, path, &Sent::Nothing)
    }

    /// Sends JSON.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(Method::POST, path, &Sent::Json(body))
    }

    /// Puts in the place of what is there.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(Method::PUT, path, &Sent::Json(body))
    }

    /// Changes.
    pub fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(Method::PATCH, path, &Sent::Json(body))
    }

    /// Deletes.
    pub fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::DELETE, path, &Sent::Nothing)
    }
}

/// Trusts the certificates in a PEM file, and no others.
#[cfg(feature = "tls")]
fn trusting(path: &Path) -> Result<ureq::tls::TlsConfig, Failure> {
    use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

    let unusable = |why: &dyn std::fmt::Display| Failure::Usage(format!("--ca-file {}: {why}", path.display()));
    let text = std::fs::read(path).map_err(|error| unusable(&error))?;
    let mut trusted = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| unusable(&error))? {
            trusted.push(certificate);
        }
    }
    if trusted.is_empty() {
        return Err(unusable(&"there is no certificate in it"));
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&trusted)).build())
}

/// One name as a segment of a path.
pub fn segment(name: &str) -> String {
    // The form encoding writes a blank as `+`, which means itself in a path.
    byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

/// The path of a topic.
pub fn topic_path(topic: &str) -> String {
    format!("/topics/{}", segment(topic))
}

/// The path of a group.
pub fn group_path(topic: &str, group: &str) -> String {
    format!("{}/groups/{}", topic_path(topic), segment(group))
}

/// A query of those parameters that are there.
pub fn query(parameters: &[(&str, Option<String>)]) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            out.append_pair(name, value);
        }
    }
    match out.finish() {
        text if text.is_empty() => text,
        text => format!("?{text}"),
    }
}
