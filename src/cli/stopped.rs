//! A data directory whose server is stopped: opened for one command, and closed in good order.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::access::SealingKey;
use crate::cli::exit::Failure;
use crate::cli::serve::local_options;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, Flags};
use crate::engine::local::LocalEngine;
use crate::engine::{Engine as _, Home};

/// Which directory, and with which configuration.
#[derive(Debug, Clone, Args)]
pub struct StoppedArguments {
    /// Directory of a stopped server: work on it directly.
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pub data_dir: Option<PathBuf>,
    /// Configuration file of that server.
    #[arg(long, global = true, value_name = "FILE", requires = "data_dir")]
    pub config: Option<PathBuf>,
}

/// The engine of a stopped server, opened.
pub struct Stopped {
    /// The engine.
    pub engine: LocalEngine,
    /// Seals access keys.
    pub sealing: SealingKey,
    /// Time and chance.
    pub clock: Arc<dyn Clock>,
    runtime: tokio::runtime::Runtime,
    /// Keeps the data directory ours until the engine has ended.
    _home: Home,
}

/// Whether a directory that is not there may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It is made: credentials may come before the first start.
    Make,
    /// It is refused: there is nothing to work on.
    Refuse,
}

impl StoppedArguments {
    /// The configuration of the stopped server.
    pub fn config(&self) -> Result<Config, Failure> {
        let flags = Flags { config: self.config.clone(), data_dir: self.data_dir.clone(), ..Flags::default() };
        Ok(config::load(&flags, crate::cli::serve::variables())?.config)
    }
}

/// Refuses a directory that holds no data.
pub fn must_be_there(dir: &std::path::Path) -> Result<(), Failure> {
    if dir.join("FORMAT").exists() {
        return Ok(());
    }
    Err(Failure::said(format!("{} is not a data directory of windlass", dir.display())))
}

impl Stopped {
    /// Opens the engine; refused while a server holds the directory.
    pub fn open(arguments: &StoppedArguments, missing: Missing) -> Result<Self, Failure> {
        Self::open_after(arguments, missing, |_, _| Ok(()))
    }

    /// The same, with something to do to the directory before the engine opens.
    pub fn open_after(
        arguments: &StoppedArguments,
        missing: Missing,
        before: impl FnOnce(&Home, &Arc<dyn Clock>) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let config = arguments.config()?;
        if missing == Missing::Refuse {
            must_be_there(&config.data_dir)?;
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let home = Home::open(&config.data_dir, &*clock)?;
        before(&home, &clock)?;
        let sealing = SealingKey::new(*home.secret());
        let engine = home.engine(clock.clone(), &local_options(&config))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { engine, sealing, clock, runtime, _home: home })
    }

    /// Waits for an answer of the engine.
    pub fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.block_on(answer)
    }

    /// Makes everything durable and frees the directory.
    pub fn close(self) {
        self.wait(self.engine.stop());
        self.engine.join();
    }
}
