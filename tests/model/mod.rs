//! Random histories of an engine: what is in them (`history`), and what an engine answers to them, said
//! so that two engines can be compared (`player`).

mod history;
mod player;

pub use history::history;
pub use player::compare;
