//! The server that is measured: a child process of this binary on a scratch directory, or one that is
//! running already.

use std::io::{self, BufRead as _, BufReader};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What runs in the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// windlass.
    Windlass,
    /// axum and a group commit: what windlass could reach at best.
    GroupCommit,
    /// axum alone: what any server behind it could reach at best.
    Constant,
}

impl Kind {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Windlass => "windlass",
            Self::GroupCommit => "group commit",
            Self::Constant => "constant",
        }
    }
}

/// A name that begins like this and that nobody has used.
pub fn random_name(begins: &str) -> io::Result<String> {
    let mut bits = [0; 8];
    getrandom::fill(&mut bits).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!("{begins}-{:016x}", u64::from_ne_bytes(bits)))
}

/// A directory that is removed with everything in it when this is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new directory in `parent` (default: the system's temporary one), whose name begins like this.
    pub fn make(parent: Option<&Path>, name: &str) -> io::Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let dir = parent.join(random_name(name)?);
        std::fs::create_dir(&dir)?;
        Ok(Self(dir))
    }

    /// One to measure in.
    pub fn to_measure(parent: Option<&Path>) -> io::Result<Self> {
        let scratch = Self::make(parent, "windlass-bench")?;
        let kind = rustix::fs::statfs(scratch.path())?.f_type;
        if kind as u64 == TMPFS_MAGIC {
            let dir = scratch.path().display();
            eprintln!("warning: {dir} is in memory, where a sync costs nothing: give --scratch");
        }
        Ok(scratch)
    }

    /// Leaves it where it is.
    pub fn keep(mut self) {
        self.0 = PathBuf::new();
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

const TMPFS_MAGIC: u64 = 0x0102_1994;

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.0.as_os_str().is_empty() {
            return;
        }
        // Nothing depends on it, and there is nobody to tell.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server under load.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// From the start of the process to the line that says it is ready.
    pub ready_after: Duration,
    child: Option<Child>,
    /// Removed after the child has ended.
    _scratch: Option<Scratch>,
}

impl Server {
    /// Starts a child on a directory of its own.
    pub fn start(kind: Kind, parent: Option<&Path>) -> io::Result<Self> {
        let scratch = Scratch::to_measure(parent)?;
        let mut server = Self::start_in(kind, scratch.path())?;
        server._scratch = Some(scratch);
        Ok(server)
    }

    /// Starts a child on `dir`.
    pub fn start_in(kind: Kind, dir: &Path) -> io::Result<Self> {
        let begun = Instant::now();
        let mut command = Command::new(std::env::current_exe()?);
        match kind {
            Kind::Windlass => command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir),
            Kind::GroupCommit => command.args(["bench", "serve-group-commit"]).arg(dir.join("log")),
            Kind::Constant => command.args(["bench", "serve-constant"]),
        };
        for name in ["WINDLASS_LISTEN", "WINDLASS_DATA_DIR", "WINDLASS_CONFIG"] {
            command.env_remove(name);
        }
        command.env("WINDLASS_LOGGING_LEVEL", "error");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            let mut out = BufReader::new(out);
            out.read_line(&mut line)?;
            // Whatever else it says is read, so that it never waits for a reader.
            std::thread::spawn(move || io::copy(&mut out, &mut io::sink()));
        }
        let address = line.trim().strip_prefix("listening on http://").and_then(|text| text.parse().ok());
        let mut server = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            ready_after: begun.elapsed(),
            child: Some(child),
            _scratch: None,
        };
        server.address = address.ok_or_else(|| io::Error::other("the server did not start"))?;
        Ok(server)
    }

    /// A server that is running already.
    pub fn at(url: &str) -> io::Result<Self> {
        let wrong = || io::Error::other(format!("`{url}` is not http://HOST:PORT"));
        let host = url.trim_end_matches('/').strip_prefix("http://").ok_or_else(wrong)?;
        let address = host.to_socket_addrs()?.next().ok_or_else(wrong)?;
        Ok(Self { address, ready_after: Duration::ZERO, child: None, _scratch: None })
    }

    /// Its process, if it is a child.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills it, as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
