//! One flipped bit in a file of a machine that is down. The machine itself is left as it is: its twin starts.

use std::path::{Path, PathBuf};

use windlass::disk::Disk;
use windlass::disk::sim::Dice;
use windlass::engine::Engine;

use super::check::{Ended, look};
use super::machine::{Dead, Machine};
use super::world::World;

/// Flips a bit, starts, and looks. Answers which of the three outcomes it was: everything is there; the start, or
/// the read of a body that no start looks at, is refused by name; or the end of the log, from the flipped byte's
/// frame on, is cut and counted.
pub fn flip_and_look(
    machine: &Machine,
    world: &World,
    ended: Ended,
    dice: &mut Dice,
) -> Result<Option<&'static str>, String> {
    let disk = machine.disk.kill();
    let Some((path, byte)) = pick(&disk, dice) else { return Ok(None) };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let flipped = disk.flip(&path, byte as usize, dice.below(8) as u32);
    assert!(flipped, "the byte was there to be picked");
    let mut twin = machine.twin(disk);
    let at = format!("after a flipped bit in byte {byte} of {}", path.display());
    if let Err(error) = twin.start() {
        let error = error.to_string();
        let named = error.contains(&name) || error.contains(name.trim_end_matches(".seg"));
        return if named {
            Ok(Some("damage refused"))
        } else {
            Err(format!("I14: {at}: refused without its name: {error}"))
        };
    }
    let dead = |Dead(why)| format!("I14: {at}: it ended: {why}");
    let segment = format!("segment {}", name.trim_start_matches('0').trim_end_matches(".seg"));
    let seen = match look(&mut twin) {
        Ok(Ok(seen)) => seen,
        // Without index and log nobody knows where the messages lie; the next start names file and byte.
        Err(Dead(why)) if why.contains("build the index again") => {
            twin.kill();
            return match twin.start() {
                Err(error) if error.to_string().contains(&name) => Ok(Some("damage ended it")),
                other => Err(format!("I14: {at}: it ended ({why}), and then started: {other:?}")),
            };
        }
        Err(other) => return Err(dead(other)),
        Ok(Err(why)) => {
            let named = why.contains("could not be read") && why.contains(&segment);
            return if named { Ok(Some("damage refused when read")) } else { Err(format!("I14: {at}: {why}")) };
        }
    };
    let engine = twin.engine();
    let status = twin.wait(async move { engine.status().await }).map_err(dead)?;
    let mut truth = world.clone();
    let Err(why) = truth.check(&seen, ended, twin.lease_clock) else { return Ok(Some("damage: all served")) };
    let cut_there = status.torn.iter().any(|torn| torn.file == name && torn.at_byte <= byte);
    if cut_there && ended != Ended::Stopped {
        return Ok(Some("damage: tail cut"));
    }
    Err(format!("I14: {at}: {why}; cut: {:?}", status.torn))
}

/// A byte that is in use, of any file of the log or beside it; rather near the end, where cuts are decided.
fn pick(disk: &windlass::disk::sim::SimDisk, dice: &mut Dice) -> Option<(PathBuf, u64)> {
    let mut files = Vec::new();
    for dir in ["/", "/log"] {
        for name in disk.list(Path::new(dir)).unwrap_or_default() {
            let path = Path::new(dir).join(name);
            // What the next start removes; a crash may leave a file under such a name and its own.
            let spare = path.to_string_lossy().contains("spare-") || path.extension().is_some_and(|end| end == "tmp");
            if let Some(bytes) = disk.dump(&path).filter(|_| !spare) {
                files.push((path, bytes));
            }
        }
    }
    let last_segment = files.iter().rposition(|(path, _)| path.extension().is_some_and(|kind| kind == "seg"));
    let place = last_segment.filter(|_| dice.one_in(2)).unwrap_or(dice.below(files.len() as u64) as usize);
    let (path, bytes) = files.into_iter().nth(place)?;
    let used = bytes.iter().rposition(|byte| *byte != 0)? as u64 + 1;
    let byte = if dice.one_in(2) { used - 1 - dice.below(used.min(400)) } else { dice.below(used) };
    Some((path, byte))
}
