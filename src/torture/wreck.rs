//! How a life of the server ends, what happens to its directory while it is dead, and copies taken under load.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::torture::dice::Dice;
use crate::torture::history::Death;
use crate::torture::server::Server;

/// One death in so many is followed by an attack on the index.
const INDEX_ROUNDS: u64 = 10;
/// What a disk that lies has never written.
const FORGOTTEN_BYTES: usize = 6_000;

/// Ends lives.
pub trait Reaper {
    /// How: it says what may be missing afterwards.
    fn death(&self) -> Death;
    /// Ends the server in the middle of its work; it is gone when this returns. Gives the last moment at which an
    /// answer counted.
    fn strike(&mut self, server: &mut Server) -> io::Result<Instant>;
    /// What happens to the directory before the next start. Says whether the index was attacked.
    fn meanwhile(&mut self, data: &Path, dice: &mut Dice) -> io::Result<bool>;
}

/// SIGKILL, and now and then an attack on the index.
#[derive(Debug, Clone, Copy)]
pub struct Killer;

impl Reaper for Killer {
    fn death(&self) -> Death {
        Death::Kill
    }

    fn strike(&mut self, server: &mut Server) -> io::Result<Instant> {
        server.kill().map(|()| Instant::now())
    }

    fn meanwhile(&mut self, data: &Path, dice: &mut Dice) -> io::Result<bool> {
        if dice.below(INDEX_ROUNDS) != 0 {
            return Ok(false);
        }
        attack_index(data, dice).map(|()| true)
    }
}

/// SIGKILL, and the end of the log is lost although the server was told that it is durable. No server can pass
/// this: it shows that the check bites.
#[derive(Debug, Clone, Copy)]
pub struct LyingDisk;

impl Reaper for LyingDisk {
    fn death(&self) -> Death {
        Death::Kill
    }

    fn strike(&mut self, server: &mut Server) -> io::Result<Instant> {
        server.kill().map(|()| Instant::now())
    }

    fn meanwhile(&mut self, data: &Path, _: &mut Dice) -> io::Result<bool> {
        lose_the_tail(data).map(|()| false)
    }
}

/// Deletes the index, cuts a file of it, or flips a bit in one.
fn attack_index(data: &Path, dice: &mut Dice) -> io::Result<()> {
    let index = data.join("index");
    let mut files = files_below(&index);
    files.retain(|path| std::fs::metadata(path).is_ok_and(|about| about.len() > 0));
    files.sort();
    let kind = dice.below(3);
    let (Some(path), true) = (dice.pick(&files), kind > 0) else {
        return match std::fs::remove_dir_all(&index) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
    };
    let mut bytes = std::fs::read(path)?;
    let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap_or_default();
    if kind == 1 {
        bytes.truncate(at);
    } else if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << dice.below(8);
    }
    std::fs::write(path, bytes)
}

/// Forgets the last kilobytes that were written to the log.
fn lose_the_tail(data: &Path) -> io::Result<()> {
    let is_segment =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == "00000000000000000001.seg".len());
    let newest = files_below(&data.join("log")).into_iter().filter(is_segment).max();
    let newest = newest.ok_or_else(|| io::Error::other("there is no segment"))?;
    let mut bytes = std::fs::read(&newest)?;
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if let Some(tail) = bytes.get_mut(end.saturating_sub(FORGOTTEN_BYTES)..end) {
        tail.fill(0);
    }
    std::fs::write(newest, bytes)
}

/// `cp -r` of the directory of a server that works.
pub fn copy(data: &Path, to: &Path) -> io::Result<()> {
    // cp reports files that vanish under its hands (old indexes do) and goes on; what counts is that the
    // copy opens.
    let output = Command::new("cp").arg("-r").arg(data).arg(to).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let only_vanished = said.lines().all(|line| line.contains("No such file"));
    if output.status.success() || only_vanished {
        return Ok(());
    }
    Err(io::Error::other(format!("cp failed: {said}")))
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
