//! Runs of torture in tests: which binary, which seed, and how a broken promise fails a test.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use windlass::torture::verdict::Verdict;
use windlass::torture::wreck::Reaper;
use windlass::torture::{Plan, torture};

use crate::counts::long;

/// The server that is tortured: in the long suite the release binary, built if it is not there yet.
pub fn binary() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| if long() { release_binary() } else { env!("CARGO_BIN_EXE_windlass").into() }).clone()
}

/// Where `cargo build --release` puts it, or what `WINDLASS_RELEASE_BINARY` names.
fn release_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("WINDLASS_RELEASE_BINARY") {
        return path.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let mut build = Command::new(env!("CARGO"));
    build.current_dir(root).args(["build", "--release", "--locked", "--bin", "windlass", "--target-dir"]).arg(&target);
    assert!(build.status().expect("cargo runs").success(), "the release binary is built");
    target.join("release/windlass")
}

/// The seed of `WINDLASS_KILL_SEED`, or a new one.
pub fn seed() -> u64 {
    match std::env::var("WINDLASS_KILL_SEED") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("WINDLASS_KILL_SEED is `{text}`, which is no number")),
        Err(_) => std::time::UNIX_EPOCH.elapsed().map_or(0, |span| span.as_nanos() as u64),
    }
}

/// Tortures; whatever it finds is the verdict.
pub fn run(plan: &Plan, reaper: &mut dyn Reaper) -> Verdict {
    eprintln!("{} rounds with seed {}", plan.kills, plan.seed);
    torture(plan, reaper, &mut |_| ()).expect("the run comes to a verdict")
}

/// Tortures a server that must stand it; the figures are printed.
#[track_caller]
pub fn passes(plan: &Plan, reaper: &mut dyn Reaper) -> Verdict {
    let verdict = run(plan, reaper);
    assert!(verdict.broken.is_none(), "{}", verdict.told());
    eprintln!("{}", verdict.told());
    verdict
}
