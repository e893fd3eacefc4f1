//! From format 0 to 1. Format 0 was never released: it keeps this road open from the first day.
//!
//! Its directory holds `FORMAT` and `messages.0`, frames of: length of the rest (u32), crc32 of the rest
//! (u32), length of the topic (u16), topic, body. All messages belong to the account `default`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::disk::{Disk, RealDisk};
use crate::engine::{CreateTopic, Engine, Home, LocalOptions, Publish, put_format, take_lock};
use crate::migrations::MigrateError;
use crate::model::{AccountName, NewMessage, TopicName, TopicRef, TopicSettings};

const MESSAGES: &str = "messages.0";
const BESIDE: &str = "migrating.tmp";
/// Frames larger than this are damage.
const FRAME_BYTES_MAX: usize = 16 << 20;

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> MigrateError {
    move |source| MigrateError::Io { doing, source }
}

/// The frozen reader of format 0: topic and body of each message.
fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, MigrateError> {
    let mut messages = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let damaged = || MigrateError::Damaged { file: MESSAGES.to_owned(), at_byte: at as u64 };
        let number = |from: usize| bytes.get(from..from + 4)?.try_into().ok().map(u32::from_le_bytes);
        let (length, crc) = (number(at).ok_or_else(damaged)? as usize, number(at + 4).ok_or_else(damaged)?);
        if length > FRAME_BYTES_MAX {
            return Err(damaged());
        }
        let rest = bytes.get(at + 8..at + 8 + length).ok_or_else(damaged)?;
        let (name_length, rest_behind) = rest.split_first_chunk::<2>().ok_or_else(damaged)?;
        let (name, body) =
            rest_behind.split_at_checked(u16::from_le_bytes(*name_length) as usize).ok_or_else(damaged)?;
        let name = std::str::from_utf8(name).map_err(|_| damaged())?;
        if crc32fast::hash(rest) != crc {
            return Err(damaged());
        }
        messages.push((name.to_owned(), body.to_vec()));
        at += 8 + length;
    }
    Ok(messages)
}

/// The step. `pieces` bounds how much of it is done.
pub(super) fn migrate(dir: &Path, clock: &Arc<dyn Clock>, pieces: u32) -> Result<(), MigrateError> {
    let _lock = take_lock(dir)?;
    let disk = RealDisk;
    let reach = |piece: u32| if piece < pieces { Ok(()) } else { Err(MigrateError::CutShort) };
    if !dir.join(MESSAGES).exists() {
        return Err(MigrateError::Missing { format: 0, file: MESSAGES });
    }
    let messages = read(&std::fs::read(dir.join(MESSAGES)).map_err(failed("read the messages"))?)?;
    reach(0)?;
    // What a migration that was cut short left behind is worth nothing.
    for name in [BESIDE, "log", "index"] {
        if dir.join(name).exists() {
            std::fs::remove_dir_all(dir.join(name)).map_err(failed("remove an unfinished migration"))?;
        }
    }
    for name in ["secret.key", "CLEAN", "IDENTITY"] {
        if dir.join(name).exists() {
            disk.unlink(&dir.join(name)).map_err(failed("remove an unfinished migration"))?;
        }
    }
    disk.sync_dir(dir).map_err(failed("sync the directory"))?;
    reach(1)?;
    write_beside(&dir.join(BESIDE), clock, messages)?;
    reach(2)?;
    put_in_place(&disk, dir, &**clock, &reach)?;
    reach(6)?;
    disk.unlink(&dir.join(MESSAGES)).map_err(failed("remove the old messages"))?;
    std::fs::remove_dir_all(dir.join(BESIDE)).map_err(failed("remove what is left over"))?;
    disk.sync_dir(dir).map_err(failed("sync the directory"))
}

/// Moves what was written beside into its place, and says last that it is there. Before that the old messages
/// count, from then on the new ones.
fn put_in_place(
    disk: &dyn Disk,
    dir: &Path,
    clock: &dyn Clock,
    reach: &dyn Fn(u32) -> Result<(), MigrateError>,
) -> Result<(), MigrateError> {
    let beside = dir.join(BESIDE);
    let moved = |name: &Path| {
        disk.rename(&beside.join(name), &dir.join(name)).map_err(failed("move what was written into place"))
    };
    let synced = |dir: &Path| disk.sync_dir(dir).map_err(failed("sync the directory"));
    moved(Path::new("secret.key"))?;
    synced(dir)?;
    reach(3)?;
    disk.create_dir(&dir.join("log")).map_err(failed("make the log"))?;
    for name in disk.list(&beside.join("log")).map_err(failed("list what was written"))? {
        moved(&Path::new("log").join(name))?;
    }
    synced(&dir.join("log"))?;
    synced(dir)?;
    reach(4)?;
    moved(Path::new("CLEAN"))?;
    synced(dir)?;
    reach(5)?;
    put_format(disk, dir, clock)?;
    Ok(())
}

/// Writes a directory of format 1, closed cleanly.
fn write_beside(beside: &Path, clock: &Arc<dyn Clock>, messages: Vec<(String, Vec<u8>)>) -> Result<(), MigrateError> {
    let wrong = |error: &dyn std::fmt::Display| MigrateError::Write(error.to_string());
    let home = Home::open(beside, &**clock)?;
    let engine = home.engine(clock.clone(), &LocalOptions::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(failed("start a runtime"))?;
    runtime.block_on(async {
        let account = AccountName::standard();
        for (topic, body) in messages {
            let name = TopicName::parse(&topic).map_err(|error| wrong(&error))?;
            let topic = TopicRef::Name(name.clone());
            if engine.topic(account.clone(), topic.clone()).await.is_err() {
                let request = CreateTopic { account: account.clone(), name, settings: TopicSettings::default() };
                engine.create_topic(request).await.map_err(|error| wrong(&error))?;
            }
            let messages = vec![NewMessage { body: body.into(), ..NewMessage::default() }];
            let request = Publish { account: account.clone(), topic, messages };
            engine.publish(request).await.map_err(|error| wrong(&error))?;
        }
        engine.stop().await;
        Ok::<(), MigrateError>(())
    })?;
    engine.join();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::disk::sim::{Fault, SimDisk};

    const WRITTEN: &[&str] = &["secret.key", "log/00000000000000000001.seg", "log/newest", "CLEAN"];

    /// A directory of format 0, with what was written beside it.
    fn written() -> SimDisk {
        let disk = SimDisk::new(3);
        disk.put(Path::new("/d/FORMAT"), b"windlass format 0\n".to_vec());
        disk.put(Path::new("/d/messages.0"), b"old".to_vec());
        for name in WRITTEN {
            disk.put(&Path::new("/d").join(BESIDE).join(name), name.as_bytes().to_vec());
        }
        disk
    }

    /// The old messages count, or all of the new ones are in place.
    fn assert_one_of_both(disk: &SimDisk, when: &str) -> bool {
        let format = disk.dump(Path::new("/d/FORMAT")).expect("a format");
        assert_eq!(disk.dump(Path::new("/d/messages.0")).as_deref(), Some(&b"old"[..]), "{when}");
        if format == b"windlass format 0\n" {
            return false;
        }
        assert_eq!(format, b"windlass format 1\n", "{when}");
        for name in WRITTEN {
            assert_eq!(disk.dump(&Path::new("/d").join(name)).as_deref(), Some(name.as_bytes()), "{when}: {name}");
        }
        true
    }

    #[test]
    fn a_power_cut_or_a_failure_at_any_operation_leaves_the_old_messages_or_all_of_the_new() {
        let (mut old, mut new) = (0, 0);
        for fault in [Fault::PowerOff, Fault::Io, Fault::NoSpace] {
            for at in 0.. {
                let mut hit = false;
                for seed in 0..32 {
                    let disk = written();
                    disk.fail(at, fault);
                    let clock = ManualClock::new(seed);
                    let done = put_in_place(&disk, Path::new("/d"), &clock, &|_| Ok(()));
                    hit = disk.hits() > 0;
                    assert_eq!(done.is_ok(), !hit, "{fault:?} at {at}: {done:?}");
                    let when = format!("{fault:?} at {at}, seed {seed}");
                    for after in [disk.kill(), disk.crash(seed)] {
                        let is_new = assert_one_of_both(&after, &when);
                        assert!(is_new || hit, "{when}: what was confirmed is gone");
                        *(if is_new { &mut new } else { &mut old }) += 1;
                    }
                }
                if !hit {
                    break;
                }
            }
        }
        assert!(old > 1_000 && new > 100, "{old} old, {new} new");
        println!("{old} times the old messages, {new} times the new");
    }
}
