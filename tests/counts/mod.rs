//! How often a test repeats what it does: a share in the fast suite, the whole in the long one.
#![allow(dead_code, reason = "each test uses its own part of it")]

/// Whether this is the long suite: `./test long` sets `WINDLASS_LONG=1`.
pub fn long() -> bool {
    std::env::var("WINDLASS_LONG").is_ok_and(|value| value == "1")
}

/// The number in the environment variable `name`; without it `short`, or `many` in the long suite.
pub fn rounds(name: &str, short: u64, many: u64) -> u64 {
    let whole = |text: String| text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, which is no number"));
    std::env::var(name).ok().map_or(if long() { many } else { short }, whole)
}
