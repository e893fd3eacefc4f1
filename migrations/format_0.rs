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
    for (piece, name) in (3..).zip(["secret.key", "log", "CLEAN"]) {
        let (from, to) = (dir.join(BESIDE).join(name), dir.join(name));
        disk.rename(&from, &to).map_err(failed("move what was written into place"))?;
        disk.sync_dir(dir).map_err(failed("sync the directory"))?;
        reach(piece)?;
    }
    put_format(dir, &**clock)?;
    reach(6)?;
    disk.unlink(&dir.join(MESSAGES)).map_err(failed("remove the old messages"))?;
    std::fs::remove_dir_all(dir.join(BESIDE)).map_err(failed("remove what is left over"))?;
    disk.sync_dir(dir).map_err(failed("sync the directory"))
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
