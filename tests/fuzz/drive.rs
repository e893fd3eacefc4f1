//! Gives a target its inputs: first the corpus as it is (good examples, and whatever once broke something), then
//! mutations of it by seed. Says what came of them.
//!
//! Every input lies in `target/fuzz/<target>.input` while it is tried, so that it is there even if the process dies of
//! it. To keep a failing one, move it into `tests/fuzz/corpus/<target>`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use windlass::disk::sim::Dice;

use crate::counts;
use crate::mutate::mutated;

/// Longest that one input may take: far above what any does, far below a hang.
const CASE_MAX: Duration = Duration::from_secs(30);
/// Most that a process may take of memory for all its inputs, above what it began with.
const MEMORY_BYTES_MAX: u64 = 512 << 20;

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Refused,
    /// It never reached what is tested: the text was no request at all.
    Unsent,
}

fn corpus_dir(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target)
}

/// The files of a target's corpus, by name.
pub fn corpus(target: &str) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(corpus_dir(target)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// The seed: `WINDLASS_FUZZ_SEED`, or the same always in the fast suite and another each time in the long one.
pub fn seed() -> u64 {
    let drawn = if counts::long() { getrandom::u64().unwrap() } else { 1 };
    counts::rounds("WINDLASS_FUZZ_SEED", drawn, drawn)
}

/// The most memory that this process has had, where the system tells.
fn memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Tries the inputs of `good` as they are, then `short` or `many` mutations of them. Of these a share must be accepted
/// and a share refused: whoever is always turned away at the first byte has tested nothing.
pub fn drive(target: &str, good: &[Vec<u8>], (short, many): (u64, u64), mut case: impl FnMut(&[u8]) -> Verdict) {
    if std::env::var("WINDLASS_FUZZ_TARGET").is_ok_and(|only| only != target) {
        eprintln!("fuzz {target}: left out by WINDLASS_FUZZ_TARGET");
        return;
    }
    assert!(!good.is_empty(), "{target} has no corpus");
    let (seed, rounds) = (seed(), counts::rounds("WINDLASS_FUZZ_CASES", short, many));
    let (begun, memory) = (Instant::now(), memory_bytes());
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join(format!("{target}.input"));
    let mut attempt = |input: &[u8]| {
        std::fs::write(&file, input).unwrap();
        let begun = Instant::now();
        let verdict = catch_unwind(AssertUnwindSafe(|| case(input))).unwrap_or_else(|panic| {
            eprintln!("fuzz {target}: seed {seed} failed on {}", file.display());
            resume_unwind(panic)
        });
        assert!(begun.elapsed() < CASE_MAX, "{target} took {:?} for {}", begun.elapsed(), file.display());
        verdict
    };
    let taken = good.iter().filter(|input| attempt(input) == Verdict::Accepted).count();
    let (mut accepted, mut refused) = (0_u64, 0_u64);
    for round in 0..rounds {
        let mut dice = Dice::new(seed ^ round.wrapping_mul(0xd134_2543_de82_ef95));
        let mut pick = || &good[usize::try_from(dice.below(good.len() as u64)).unwrap()];
        let (one, other) = (pick().clone(), pick());
        match attempt(&mutated(&mut dice, one, other)) {
            Verdict::Accepted => accepted += 1,
            Verdict::Refused => refused += 1,
            Verdict::Unsent => {}
        }
    }
    let took = begun.elapsed();
    eprintln!(
        "fuzz {target}: seed {seed}, {taken} of {} of the corpus accepted; of {rounds} mutations {accepted}, and {refused} refused; {took:.1?}",
        good.len()
    );
    assert!(rounds < 100 || accepted >= rounds / 100, "{target}: only {accepted} of {rounds} were accepted");
    assert!(rounds < 100 || refused >= rounds / 100, "{target}: only {refused} of {rounds} were refused");
    if let (Some(before), Some(after)) = (memory, memory_bytes()) {
        assert!(after - before < MEMORY_BYTES_MAX, "{target} took {} bytes of memory", after - before);
    }
    std::fs::remove_file(&file).unwrap();
}
