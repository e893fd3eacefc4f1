//! A power cut at every operation by which a directory of an old format is brought up and started: by the real binary,
//! index and all, on a disk that forgets what was not synced. Writes that only fill new files with zeros are no
//! operations of their own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use windlass::disk::sim::Dice;

use crate::fuse_disk::FuseDisk;
use crate::process::{PATIENCE, eventually, windlass as windlass_command};
use crate::{assert_goes_on, counts, format_0, stored, stored_text};

/// Cuts the power after every operation of `run` in turn, until it gets to its end. In the fast suite after some.
fn cut_everywhere(what: &str, make: &dyn Fn(&Path), run: &dyn Fn(&Path), is_whole: &dyn Fn(&Path, &str)) {
    let (begun, stride) = (Instant::now(), counts::rounds("WINDLASS_MIGRATION_CUTS_STRIDE", 25, 1));
    let (mut dice, mut cuts) = (Dice::new(stride), 0);
    let mut at = dice.below(stride);
    loop {
        let mut disk = match FuseDisk::make(at) {
            Ok(disk) => disk,
            Err(why) => return eprintln!("SKIPPED: no power cuts of a migration here: {why}"),
        };
        let mounted = disk.mounted();
        make(&mounted);
        disk.cut_after(at);
        run(&mounted.join("data"));
        let was_cut = disk.is_dark();
        disk.cut().unwrap();
        is_whole(&mounted.join("data"), &format!("{what}, cut at operation {at}"));
        if !was_cut {
            break;
        }
        cuts += 1;
        at += 1 + dice.below(2 * stride - 1);
    }
    eprintln!("{what}: {cuts} power cuts in {:.1} s, nothing lost", begun.elapsed().as_secs_f64());
    assert!(cuts >= 3, "{cuts} cuts");
}

/// Runs to its end, which comes by itself: a good one, or for want of a disk.
fn to_its_end(mut command: Command) {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("the binary starts");
    eventually(&format!("the end of {command:?} within {PATIENCE:?}"), || {
        child.try_wait().expect("it can be waited for")
    });
}

#[test]
fn a_power_cut_at_any_operation_of_the_migration_from_format_0_loses_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let make = |mounted: &Path| drop(format_0(mounted));
    let run = |dir: &Path| {
        let mut server = windlass_command();
        server.args(["serve", "--listen", &address, "--data-dir"]).arg(dir);
        to_its_end(server);
    };
    cut_everywhere("format 0", &make, &run, &assert_goes_on);
}

/// A start and a stop of the first build that finds the directory.
fn started(dir: &Path) -> Command {
    let mut command = windlass_command();
    command.args(["token", "list", "-o", "json", "--data-dir"]).arg(dir);
    command
}

/// Topics, groups and messages that are there, without what changes with the time at which one looks.
fn held(dir: &Path) -> Vec<String> {
    let dump = windlass_command().arg("dump").arg(dir).args(["--bodies", "-o", "json"]).output().unwrap();
    assert!(dump.status.success(), "{dump:?}");
    let lines = String::from_utf8(dump.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines = lines.filter(|line| line["kind"] != "end").map(|mut line| {
        for of_the_time in ["ready", "in_flight", "delayed", "ready_at_ms"] {
            line.as_object_mut().unwrap().remove(of_the_time);
        }
        for group in line["groups"].as_object_mut().into_iter().flat_map(|groups| groups.values_mut()) {
            let is_settled = group["state"] == "settled";
            group["state"] = is_settled.into();
        }
        line.to_string()
    });
    lines.collect()
}

#[test]
fn a_power_cut_at_any_operation_of_the_first_start_on_format_1_loses_nothing() {
    let make = |mounted: &Path| {
        let dir = mounted.join("data");
        stored::unpack(&stored_text("directory.txt"), &dir);
        // It is where it was made.
        std::fs::remove_file(dir.join("IDENTITY")).unwrap();
    };
    let scratch = tempfile::tempdir().unwrap();
    make(scratch.path());
    let dir = scratch.path().join("data");
    assert!(started(&dir).output().unwrap().status.success());
    let expected = held(&dir);
    assert!(expected.len() > 20, "{expected:?}");
    let is_whole = |dir: &Path, when: &str| {
        let again = started(dir).output().unwrap();
        assert!(again.status.success(), "{when}: {again:?}");
        let checked = windlass_command().arg("check").arg(dir).output().unwrap();
        assert!(checked.status.success(), "{when}: {checked:?}");
        assert_eq!(held(dir), expected, "{when}");
    };
    cut_everywhere("format 1", &make, &|dir| to_its_end(started(dir)), &is_whole);
}
