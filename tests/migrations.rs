//! Data directories of every old format open in this build, whole, whatever a crash did in between.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use windlass::clock::{Clock, SystemClock};
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
