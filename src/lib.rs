//! windlass: a durable queue server. See ARCHITECTURE.md for the layers and the walk of a message.

pub mod access;
mod bench;
pub mod chaos;
pub mod cli;
pub mod clock;
mod codec;
pub mod config;
pub mod disk;
pub mod engine;
pub mod http;
pub mod index;
pub mod log;
#[path = "../migrations/mod.rs"]
pub mod migrations;
pub mod model;
pub mod planted;
pub mod server;
pub mod torture;
