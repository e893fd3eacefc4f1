//! windlass: a durable queue server. See ARCHITECTURE.md for the layers and the walk of a message.

pub mod clock;
mod codec;
pub mod disk;
pub mod engine;
pub mod index;
pub mod log;
pub mod model;
