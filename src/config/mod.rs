//! Configuration: flags over environment over file over defaults. Raw text becomes typed values here,
//! once; an unknown key or a bad value is refused with its name and the nearest right one.

mod keys;
mod load;
mod setting;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::engine::Limits;

pub use load::{ConfigError, Flags, Loaded, load};
pub use setting::{BackupDirectory, JsonBody, LeasePromise, LogFormat, LogLevel, Spans};

/// Everything that may be configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Address to serve on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where the data lives.
    pub data_dir: PathBuf,
    /// Whether connections are encrypted, and with what.
    pub tls: Tls,
    /// How much the engine holds.
    pub limits: Limits,
    /// Bounds of connections and requests.
    pub http: Http,
    /// The log on disk.
    pub log: Log,
    /// What replies promise.
    pub durability: Durability,
    /// Backups asked for over HTTP.
    pub backup: Backup,
    /// When the index is written.
    pub checkpoint: Checkpoint,
    /// The Cloudflare dialect.
    pub cloudflare: Cloudflare,
    /// The JCQ dialect.
    pub jcq: Jcq,
    /// Faults on purpose.
    pub chaos: Chaos,
    /// What is logged, and how.
    pub logging: Logging,
}

/// Whether connections are encrypted, and with what: both files, or neither.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tls {
    /// PEM file with the certificate of the server and those that vouch for it.
    pub certificate: Option<PathBuf>,
    /// PEM file with its private key.
    pub key: Option<PathBuf>,
}

/// Bounds of connections and requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// Longest a request head may take, from its first byte (for the first request: from the connect).
    pub header_timeout: Duration,
    /// Longest a request body may take.
    pub body_timeout: Duration,
    /// Longest a connection may lie idle between requests, and longest a client may leave an answer unread.
    pub idle_timeout: Duration,
    /// Longest a stop waits for requests under way.
    pub drain_timeout: Duration,
    /// Connections at once; further ones are answered 503.
    pub connections_max: usize,
    /// Bytes of a request head.
    pub header_bytes_max: usize,
    /// Bytes of a request body.
    pub request_bytes_max: usize,
    /// Bytes of request bodies in memory at once.
    pub buffer_bytes_max: usize,
    /// Pulls that one credential may have waiting at once.
    pub waiting_per_token_max: usize,
}

/// The log on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// Bytes of a segment file.
    pub segment_bytes: u64,
    /// How long a dropped segment is kept for copies under way.
    pub drop_keep: Duration,
    /// At most this many bytes are kept so.
    pub drop_keep_bytes: u64,
    /// Whatever their bytes, they are kept this long.
    pub drop_keep_min: Duration,
    /// Refuse to start where a torn tail would have to be cut.
    pub strict_recovery: bool,
}

/// What replies promise.
#[derive(Debug, Clone, PartialEq)]
pub struct Durability {
    /// What must have happened to a lease before its pull is answered.
    pub lease: LeasePromise,
}

/// Backups asked for over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Backup {
    /// Where they go.
    pub directory: BackupDirectory,
    /// How many may lie there.
    pub count_max: usize,
}

/// When the index is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// After this many bytes of log.
    pub log_bytes: u64,
    /// After this long, if anything changed.
    pub interval: Duration,
}

/// The Cloudflare dialect.
#[derive(Debug, Clone, PartialEq)]
pub struct Cloudflare {
    /// How a pull renders JSON bodies.
    pub json_body: JsonBody,
}

/// The JCQ dialect.
#[derive(Debug, Clone, PartialEq)]
pub struct Jcq {
    /// How far the time in a signature may lie from the server's.
    pub clock_window: Duration,
    /// How long topics made through it keep messages.
    pub retention: Duration,
    /// How long a message waits after each failed delivery, for groups made through it.
    pub retry_delays: Spans,
    /// Dead letters of a group from which on its pulls are suspended.
    pub dead_letters_max: usize,
}

/// Faults on purpose, for tests of consumers.
#[derive(Debug, Clone, PartialEq)]
pub struct Chaos {
    /// Whether topics may be given faults, and a history is written.
    pub enabled: bool,
    /// Bytes of the history; at the bound it ends.
    pub history_bytes: u64,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Logging {
    /// The least severe level that is logged.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// RocketMQ's table of waits.
const JCQ_RETRY_SECS: [u64; 16] = [10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200];
const MIB: u64 = 1 << 20;

impl Config {
    /// The directory that backups asked for over HTTP go below; `None`: there are none.
    pub fn backup_directory(&self) -> Option<PathBuf> {
        match &self.backup.directory {
            BackupDirectory::Off => None,
            BackupDirectory::At(path) => Some(path.clone()),
            BackupDirectory::Beside => {
                let mut name = self.data_dir.file_name()?.to_owned();
                name.push("-backups");
                Some(self.data_dir.with_file_name(name))
            }
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070),
            data_dir: PathBuf::from("./windlass-data"),
            tls: Tls::default(),
            limits: Limits::default(),
            http: Http::default(),
            log: Log {
                segment_bytes: 32 * MIB,
                drop_keep: Duration::from_secs(600),
                drop_keep_bytes: 1024 * MIB,
                drop_keep_min: Duration::from_secs(30),
                strict_recovery: false,
            },
            durability: Durability { lease: LeasePromise::Written },
            backup: Backup { directory: BackupDirectory::Beside, count_max: 100 },
            checkpoint: Checkpoint { log_bytes: 64 * MIB, interval: Duration::from_secs(5) },
            cloudflare: Cloudflare { json_body: JsonBody::Base64 },
            jcq: Jcq {
                clock_window: Duration::from_secs(15 * 60),
                retention: Duration::from_secs(3 * 86_400),
                retry_delays: Spans(JCQ_RETRY_SECS.map(Duration::from_secs).to_vec()),
                dead_letters_max: 10_000,
            },
            chaos: Chaos { enabled: false, history_bytes: 256 * MIB },
            logging: Logging { level: LogLevel::Info, format: LogFormat::Text },
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            drain_timeout: Duration::from_secs(10),
            connections_max: 16_384,
            header_bytes_max: 32 << 10,
            request_bytes_max: 16 << 20,
            buffer_bytes_max: 256 << 20,
            waiting_per_token_max: 10_000,
        }
    }
}
