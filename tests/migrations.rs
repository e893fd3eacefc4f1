//! Data directories of every old format open in this build, whole, whatever a crash did in between.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

mod counts;
#[path = "power_cuts/fuse_disk.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod fuse_disk;
#[path = "damage/on_files.rs"]
mod on_files;
#[path = "migrations/power_cuts.rs"]
mod power_cuts;
mod process;
mod scene;
#[path = "migrations/stored.rs"]
mod stored;
#[path = "migrations/told.rs"]
mod told;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use on_files::{END, copy_tree, files_below, tell};
use process::windlass as windlass_command;
use scene::Facts;

use windlass::clock::{Clock, SystemClock};
use windlass::disk::sim::Dice;
use windlass::engine::{Engine, Home, HomeError, LocalOptions, Peek, PeekFilter};
use windlass::migrations::{MigrateError, bring_up, bring_up_steps};
use windlass::model::{AccountName, Offset, TopicName, TopicRef};

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

/// A copy of the stored directory of format 0.
fn format_0(into: &Path) -> PathBuf {
    let dir = into.join("data");
    std::fs::create_dir(&dir).unwrap();
    for name in ["FORMAT", "messages.0"] {
        let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format_0").join(name);
        std::fs::copy(stored, dir.join(name)).unwrap();
    }
    dir
}

async fn bodies(engine: &dyn Engine, topic: &str) -> Vec<Vec<u8>> {
    let request = Peek {
        account: AccountName::standard(),
        topic: TopicRef::Name(TopicName::parse(topic).unwrap()),
        group: None,
        filter: PeekFilter::default(),
        from: Offset::ZERO,
        limit: 100,
    };
    let peeked = engine.peek(request).await.unwrap();
    peeked.messages.into_iter().map(|seen| seen.message.body.to_vec()).collect()
}

async fn assert_all_there(dir: &Path) {
    let home = Home::open(dir, &*clock()).unwrap();
    let engine = home.engine(clock(), &LocalOptions::default()).unwrap();
    let orders = vec![b"first".to_vec(), (0..=255).collect(), Vec::new()];
    assert_eq!(bodies(&engine, "orders").await, orders);
    assert_eq!(bodies(&engine, "mail").await, ["hello \u{2603}".as_bytes().to_vec()]);
    engine.stop().await;
    engine.join();
    assert!(!dir.join("messages.0").exists());
}

#[test]
fn a_directory_of_format_0_opens_with_all_its_messages() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = format_0(scratch.path());
    assert!(matches!(Home::open(&dir, &*clock()), Err(HomeError::Older { found: 0, .. })));
    assert_eq!(bring_up(&dir, &clock()).unwrap(), [0]);
    assert_eq!(bring_up(&dir, &clock()).unwrap(), Vec::<u32>::new());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(assert_all_there(&dir));
}

#[test]
fn a_migration_that_was_cut_short_anywhere_begins_again() {
    for pieces in 0..7 {
        let scratch = tempfile::tempdir().unwrap();
        let dir = format_0(scratch.path());
        let cut = bring_up_steps(&dir, &clock(), pieces);
        assert!(matches!(cut, Err(MigrateError::CutShort)), "piece {pieces}: {cut:?}");
        bring_up(&dir, &clock()).unwrap();
        let messages = dir.join("messages.0");
        if messages.exists() {
            // Cut behind the new format: only the clearing up is missing.
            std::fs::remove_file(messages).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(assert_all_there(&dir));
    }
}

#[test]
fn a_flipped_byte_of_format_0_refuses_the_migration_and_changes_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = format_0(scratch.path());
    let path = dir.join("messages.0");
    let whole = std::fs::read(&path).unwrap();
    for byte in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[byte] ^= 4;
        std::fs::write(&path, &flipped).unwrap();
        let refused = bring_up(&dir, &clock());
        assert!(matches!(refused, Err(MigrateError::Damaged { .. })), "byte {byte}: {refused:?}");
        assert!(!dir.join("log").exists());
    }
}

#[test]
fn a_newer_format_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("data");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("FORMAT"), "windlass format 2\n").unwrap();
    assert_eq!(bring_up(&dir, &clock()).unwrap(), Vec::<u32>::new());
    let refused = Home::open(&dir, &*clock());
    assert!(matches!(refused, Err(HomeError::Newer { found: 2, known: 1, .. })), "{refused:?}");
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format_1")
}

fn stored_text(name: &str) -> String {
    std::fs::read_to_string(fixture().join(name)).unwrap()
}

/// Looks at a directory and goes on where the clients were.
fn look_and_go_on(dir: &Path, facts: &Facts) -> String {
    let mut life = on_files::start(dir, END, 4).unwrap();
    assert!(life.engine.report().cut.is_empty(), "{:?}", life.engine.report());
    let seen = scene::seen::look(&mut life);
    let probed = scene::seen::probe(&mut life, facts);
    life.stop();
    told::told(&seen, &probed)
}

/// Ids and times of the machine's making differ from telling to telling; all else does not.
fn without_ids(text: &str) -> String {
    let words = text.lines().map(|line| {
        let kept = line.split(' ').filter(|word| !word.starts_with("id=") && !line.starts_with("repeated"));
        kept.collect::<Vec<_>>().join(" ")
    });
    words.collect::<Vec<_>>().join("\n")
}

/// With `WINDLASS_FIXTURE_INTO` set, what was told becomes the fixture: once per format, when it is new.
#[test]
fn the_story_told_anew_is_the_one_that_the_fixture_of_format_1_tells() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, killed) = (scratch.path().join("data"), scratch.path().join("killed"));
    let (life, facts) = tell(&dir);
    copy_tree(&dir, &killed);
    life.stop();
    let names = files_below(&killed);
    let names: Vec<PathBuf> = names.into_iter().filter(|name| !name.to_string_lossy().contains("spare-")).collect();
    let packed = stored::pack(&killed, &names);
    let anew = look_and_go_on(&killed, &facts);
    if let Ok(into) = std::env::var("WINDLASS_FIXTURE_INTO") {
        for (name, text) in [("directory.txt", &packed), ("facts.txt", &told::facts_text(&facts)), ("told.txt", &anew)]
        {
            std::fs::write(Path::new(&into).join(name), text).unwrap();
        }
    }
    assert_eq!(without_ids(&anew), without_ids(&stored_text("told.txt")));
}

#[test]
fn a_directory_of_format_1_holds_everything_as_original_as_copy_and_without_its_index() {
    let (_, facts) = tell_in_scratch();
    let facts = told::read_facts(&stored_text("facts.txt"), &facts);
    assert!(facts.held.len() >= 6 && facts.spent.len() >= 3 && facts.known.len() >= 4, "{facts:?}");
    let scratch = tempfile::tempdir().unwrap();
    for (name, removed) in [("copy", ""), ("original", "IDENTITY"), ("without-index", "index")] {
        let dir = scratch.path().join(name);
        stored::unpack(&stored_text("directory.txt"), &dir);
        match removed {
            "" => {}
            // An index that knows nothing, in a directory that is not taken for a copy.
            "index" => {
                std::fs::remove_dir_all(dir.join("index")).unwrap();
                std::fs::remove_file(dir.join("IDENTITY")).unwrap();
            }
            file => std::fs::remove_file(dir.join(file)).unwrap(),
        }
        let checked = windlass_command().args(["check", dir.to_str().unwrap()]).output().unwrap();
        assert!(checked.status.success(), "{checked:?}");
        assert_eq!(bring_up(&dir, &clock()).unwrap(), Vec::<u32>::new());
        assert_eq!(look_and_go_on(&dir, &facts), stored_text("told.txt"), "{name}");
    }
}

/// The story, for what its clients have published.
fn tell_in_scratch() -> (tempfile::TempDir, Facts) {
    let scratch = tempfile::tempdir().unwrap();
    let (life, facts) = tell(&scratch.path().join("data"));
    life.stop();
    (scratch, facts)
}

/// Lets the server migrate a directory of format 0 while `inject` happens to a system call; answers the trace. The
/// server ends by itself: its address is taken.
fn migrate_under(dir: &Path, inject: &str, trace: &Path) -> String {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut server = windlass_command();
    server.args(["serve", "--listen", &address, "--data-dir"]).arg(dir);
    let mut strace = Command::new("strace");
    let (call, _) = inject.split_once(':').unwrap();
    strace.args(["-f", "-qq", "-e", &format!("trace={call}"), "-e", &format!("inject={inject}"), "-o"]).arg(trace);
    strace.arg(server.get_program()).args(server.get_args());
    for (name, _) in server.get_envs() {
        strace.env_remove(name);
    }
    strace.output().expect("strace runs");
    std::fs::read_to_string(trace).unwrap()
}

fn may_inject() -> bool {
    let tried = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-e", "trace=mkdir", "-e", "inject=mkdir:error=EIO", "true"])
        .output();
    let may = tried.is_ok_and(|output| output.status.success());
    if !may {
        println!("SKIPPED: strace is not there, or may not trace");
    }
    may
}

/// System calls by which a migration changes the disk.
const CALLS: &[&str] =
    &["pwrite64", "rename", "fsync", "fdatasync", "mkdir", "unlink", "unlinkat", "ftruncate", "openat"];
const HARMS: &[&str] = &["signal=KILL", "error=EIO", "error=ENOSPC"];

/// Whatever became of a migration, the next start brings it to its end.
fn assert_goes_on(dir: &Path, when: &str) {
    bring_up(dir, &clock()).unwrap_or_else(|error| panic!("{when}: {error}"));
    let messages = dir.join("messages.0");
    if messages.exists() {
        // Cut behind the new format: only the clearing up is missing.
        std::fs::remove_file(messages).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(assert_all_there(dir));
}

#[test]
fn a_migration_killed_or_failed_at_any_system_call_that_changes_the_disk_loses_nothing() {
    if !may_inject() {
        return;
    }
    let stride = counts::rounds("WINDLASS_MIGRATION_STRIDE", 60, 1);
    // In the fast suite a sample of kills.
    let (calls, harms) = if stride > 1 { (&CALLS[..3], &HARMS[..1]) } else { (CALLS, HARMS) };
    let (begun, mut dice, mut hits) = (Instant::now(), Dice::new(1), 0);
    for (call, harm) in calls.iter().flat_map(|call| harms.iter().map(move |harm| (call, harm))) {
        let mut number = 1 + dice.below(stride.min(4));
        loop {
            let scratch = tempfile::tempdir().unwrap();
            let dir = format_0(scratch.path());
            let when = format!("{call}:{harm}:when={number}");
            let trace = migrate_under(&dir, &when, &scratch.path().join("trace"));
            assert_goes_on(&dir, &when);
            if !trace.contains("(INJECTED)") && !trace.contains("killed by SIGKILL") {
                break;
            }
            hits += 1;
            // Most files are only opened to be read.
            number += 1 + dice.below(if *call == "openat" { stride.max(10) } else { stride });
        }
    }
    println!("{hits} kills and faults in {:.1} s, nothing lost", begun.elapsed().as_secs_f64());
    assert!(hits >= 3, "{hits}");
}
