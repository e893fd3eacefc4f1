//! windlass: a durable queue server. See ARCHITECTURE.md for the layers and the walk of a message.

pub mod clock;
pub mod disk;
pub mod engine;
pub mod log;
pub mod model;
