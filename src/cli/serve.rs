//! `windlass serve`: opens the engine, serves, stops in good order.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::access::SealingKey;
use crate::chaos::{Chaos, ChaosOptions, Chaotic};
use crate::cli::exit::Failure;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, Flags, LeasePromise, Loaded, LogFormat, LogLevel};
use crate::engine::local::LocalEngine;
use crate::engine::{Engine, Home, HomeError, LocalOptions, RecoverError, WriterOptions};
use crate::http::{Front, router};
use crate::log::{OpenError, Options, Strictness};
use crate::migrations;
use crate::server::{Server, Tls, exposure};

/// How often a start on a full disk is tried again.
const SPACE_PAUSE: Duration = Duration::from_secs(1);
/// What a stop by a second signal exits with: 128 and SIGINT.
const EXIT_AT_ONCE: i32 = 130;

/// An engine that is open, and the key of its data directory.
struct Opened {
    engine: Arc<dyn Engine>,
    sealing: SealingKey,
    /// Keeps the data directory ours.
    _home: Home,
}

/// Opens the engine in the data directory.
fn open_engine(config: &Config, clock: &Arc<dyn Clock>) -> Result<Opened, Failure> {
    for format in migrations::bring_up(&config.data_dir, clock)? {
        tracing::info!(format, "the data directory was migrated from this format");
    }
    let home = Home::open(&config.data_dir, &**clock)?;
    let sealing = SealingKey::new(*home.secret());
    let engine = engine_when_there_is_space(&home, clock, config)?;
    let report = engine.report();
    tracing::info!(data_dir = %config.data_dir.display(), last_lsn = %report.last, clean = report.clean, "recovered");
    for cut in &report.cut {
        tracing::warn!(
            file = cut.file,
            at_byte = cut.at_byte,
            bytes = cut.bytes,
            kept_as = cut.kept_as,
            "a torn tail was cut off the log and kept aside"
        );
    }
    if let Some(why) = engine.index_lost() {
        tracing::warn!(why, "the index was set aside and built again from the log");
    }
    Ok(Opened { engine: Arc::new(engine), sealing, _home: home })
}

/// A start needs one segment. Where not even that is left it waits: whoever makes space need not know of it.
fn engine_when_there_is_space(home: &Home, clock: &Arc<dyn Clock>, config: &Config) -> Result<LocalEngine, Failure> {
    let mut said = false;
    loop {
        match home.engine(clock.clone(), &local_options(config)) {
            Err(HomeError::Recover(RecoverError::Log(error @ OpenError::NoSpace { .. }))) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::error!(%error, "the disk is full: the start waits for space");
                }
                std::thread::sleep(SPACE_PAUSE);
            }
            other => return Ok(other?),
        }
    }
}

/// What an engine under this configuration is opened with.
pub(super) fn local_options(config: &Config) -> LocalOptions {
    let strictness = if config.log.strict_recovery { Strictness::RefuseEveryCut } else { Strictness::CutTornTail };
    LocalOptions {
        log: Options {
            drop_keep: config.log.drop_keep,
            drop_keep_bytes: config.log.drop_keep_bytes,
            drop_keep_min: config.log.drop_keep_min,
            strictness,
            ..Options::with_segment_bytes(config.log.segment_bytes)
        },
        limits: config.limits,
        writer: WriterOptions {
            lease_synced: config.durability.lease == LeasePromise::Synced,
            checkpoint_log_bytes: config.checkpoint.log_bytes,
            checkpoint_interval: config.checkpoint.interval,
        },
    }
}

/// Serves until a signal.
pub fn serve(flags: &Flags) -> Result<(), Failure> {
    let Loaded { config, strange_variables } = config::load(flags, variables())?;
    start_logging(&config);
    if !strange_variables.is_empty() {
        tracing::warn!(variables = ?strange_variables, "these environment variables set nothing");
    }
    // They make nothing faster here that could be measured, and the memory of a quiet server larger by three quarters.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay in use");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(config, flags.config.clone()))
}

/// The environment.
pub(super) fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(as_text)
}

/// A variable whose name and value are text; no other can be ours.
fn as_text((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

async fn run(config: Config, file: Option<PathBuf>) -> Result<(), Failure> {
    let tls = Tls::load(&config.tls)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let Opened { mut engine, sealing, _home } = open_engine(&config, &clock)?;
    let again = Arc::new(OnceLock::new());
    let chaos = open_chaos(&config, &clock, again.clone())?;
    if let Some(chaos) = &chaos {
        engine = Arc::new(Chaotic::new(engine, chaos.clone()));
    }
    let server = Server::bind(config.listen, &*engine, tls).await?;
    let address = server.address();
    // Nothing is asked before this, and nothing else sets it.
    let _ = again.set(Again { address, data_dir: config.data_dir.clone(), file });
    announce(&server.url(), engine.access().records.is_empty());
    let front = Front::with_chaos(engine, clock, config, sealing, exposure(address), chaos);
    let router = router(Arc::clone(&front));
    server.serve(front, router, stop_signal()?).await;
    tracing::info!("stopped");
    Ok(())
}

/// What a server that ends itself starts again with.
struct Again {
    /// The address that it has, also where the system chose it.
    address: SocketAddr,
    data_dir: PathBuf,
    file: Option<PathBuf>,
}

impl Again {
    /// Becomes a new process of the same program, under the same id: every thread ends where it is, as by SIGKILL.
    fn exec(&self) {
        let program = std::env::current_exe().ok().filter(|path| path.exists());
        let mut command = Command::new(program.unwrap_or_else(|| PathBuf::from("/proc/self/exe")));
        command.args(["serve", "--chaos", "--listen", &self.address.to_string(), "--data-dir"]).arg(&self.data_dir);
        if let Some(file) = &self.file {
            command.arg("--config").arg(file);
        }
        let error = command.exec();
        tracing::error!(%error, "chaos: the server could not start again");
        std::process::abort();
    }
}

/// Opens chaos, where this server was started for it.
fn open_chaos(
    config: &Config,
    clock: &Arc<dyn Clock>,
    again: Arc<OnceLock<Again>>,
) -> Result<Option<Arc<Chaos>>, Failure> {
    if !config.chaos.enabled {
        return Ok(None);
    }
    let options = ChaosOptions {
        dir: config.data_dir.join("chaos"),
        history_bytes_max: config.chaos.history_bytes,
        restart: Some(Box::new(move || again.get().into_iter().for_each(Again::exec))),
    };
    tracing::warn!("chaos is on: this server deals faults to the consumers of topics that are given some");
    Ok(Some(Chaos::open(options, clock.clone())?))
}

/// Says on standard output where the server is and what to try; the first line is for programs.
fn announce(url: &str, open: bool) {
    let token = if open { "" } else { " -H \"Authorization: Bearer $WINDLASS_TOKEN\"" };
    let mut out = std::io::stdout().lock();
    // Nobody may be listening; the server serves all the same.
    let _ = writeln!(out, "listening on {url}");
    let _ = writeln!(out, "try: curl{token} --json '{{\"name\":\"hello\"}}' {url}/api/windlass/v1/topics");
    let _ = out.flush();
    if open {
        tracing::warn!("no credential is configured: everybody on this machine may do everything");
    }
}

/// Done at the first SIGTERM or SIGINT. The second one ends the process at once.
fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping; a second signal ends the process at once");
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(EXIT_AT_ONCE);
        });
    })
}

/// Logs go to standard error, so that standard output stays for programs.
fn start_logging(config: &Config) {
    let level = match config.logging.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // Others' lines only when something is wrong: what they would say of a request is not ours to vouch for.
    let filter = EnvFilter::new(format!("warn,windlass={level}"));
    // Colours are for eyes: a file or a pipe gets none (https://no-color.org for those who want none either).
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match config.logging.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
