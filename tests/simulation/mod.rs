//! The engine in one thread on a machine that fails, and a checker that knows only what was answered.

pub mod apply;
pub mod calls;
pub mod check;
pub mod history;
pub mod machine;
pub mod workload;
pub mod world;
