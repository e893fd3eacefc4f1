//! Random histories of an engine: what is in them (`history`), and what an engine answers to them, said
//! so that two engines can be compared (`player`).

mod history;
mod player;

pub use history::history;
pub use player::compare;

/// How many histories to play.
pub fn histories() -> u32 {
    let asked = std::env::var("WINDLASS_MODEL_HISTORIES").ok();
    asked.map_or(100, |asked| asked.parse().expect("WINDLASS_MODEL_HISTORIES should be a number"))
}
