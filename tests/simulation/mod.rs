//! The engine in one thread on a machine that fails, and a checker that knows only what was answered.

pub mod apply;
pub mod calls;
pub mod check;
pub mod damage;
pub mod history;
#[allow(dead_code, reason = "shared with tests of single calls")]
pub mod machine;
pub mod workload;
pub mod world;
