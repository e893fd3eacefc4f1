//! Real power cuts under a loaded server: ext4 and XFS on a loop device, shut down without a flush of their logs, and
//! a file system in memory that forgets what was not synced. The same workers and the same checks as under SIGKILL;
//! leases whose sync (it begins within 5 ms) was not over may be forgotten, nothing else.
//!
//! `WINDLASS_EXT4_CUTS`, `WINDLASS_XFS_CUTS` and `WINDLASS_FUSE_CUTS` make a run longer, `WINDLASS_KILL_SEED` tries one
//! again. Where a machine does not allow a method, the reason is printed and the test shows nothing.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "counts/mod.rs"]
mod counts;
#[path = "power_cuts/fuse_disk.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod fuse_disk;
#[path = "power_cuts/loop_disk.rs"]
mod loop_disk;
#[path = "process/mod.rs"]
mod process;
#[path = "torture_rig/mod.rs"]
mod torture_rig;

use std::path::{Path, PathBuf};

use counts::rounds;
use fuse_disk::FuseDisk;
use loop_disk::LoopDisk;
use process::{Process, serve_command, windlass};
use serde_json::{Value, json};
use torture_rig::{binary, passes, seed};
use windlass::torture::Plan;

fn plan(cuts: u64, mounted: PathBuf) -> Plan {
    Plan { data: Some(mounted.join("data")), copies_every: 0, pauses_every: 0, ..Plan::new(binary(), cuts, seed()) }
}

/// The disk, or why there is none, said aloud.
fn or_skipped<T>(what: &str, made: Result<T, String>) -> Option<T> {
    made.inspect_err(|why| eprintln!("SKIPPED: no power cuts on {what} here: {why}")).ok()
}

fn cut_loop_disk(kind: &str, cuts: u64) {
    let Some(mut disk) = or_skipped(kind, LoopDisk::make(kind)) else { return };
    let plan = plan(cuts, disk.mounted());
    let verdict = passes(&plan, &mut disk);
    assert_eq!(verdict.figures.kills, cuts);
}

#[test]
fn what_was_answered_survives_power_cuts_on_ext4() {
    cut_loop_disk("ext4", rounds("WINDLASS_EXT4_CUTS", 4, 60));
}

#[test]
fn what_was_answered_survives_power_cuts_on_xfs() {
    cut_loop_disk("xfs", rounds("WINDLASS_XFS_CUTS", 2, 20));
}

/// Sectors of 512 bytes and entries of directories survive in any subset of what was not synced.
#[test]
fn what_was_answered_survives_power_cuts_that_keep_any_subset_of_what_was_not_synced() {
    let cuts = rounds("WINDLASS_FUSE_CUTS", 8, 100);
    let Some(mut disk) = or_skipped("FUSE", FuseDisk::make(seed())) else { return };
    let plan = plan(cuts, disk.mounted());
    let verdict = passes(&plan, &mut disk);
    assert_eq!(verdict.figures.kills, cuts);
    let (sectors, entries) = disk.forgotten();
    eprintln!("forgotten in all: {sectors} sectors, {entries} changes of directories");
    assert!(sectors > 0, "a disk that forgets nothing shows nothing");
}

/// The binary of this test's build, with the defect that `tests/bite` has planted in this process.
fn planted_too(mut command: std::process::Command) -> std::process::Command {
    if let Some(defect) = std::env::var_os("WINDLASS_PLANTED") {
        command.env("WINDLASS_PLANTED", defect);
    }
    command
}

/// A clean stop has called its checkpoint durable: after the cut the index is the one that it wrote, whole, and no start
/// has to build it again.
#[test]
fn an_index_that_was_called_durable_is_there_after_a_power_cut() {
    let Some(mut disk) = or_skipped("FUSE", FuseDisk::make(seed())) else { return };
    let scratch = tempfile::tempdir().unwrap();
    let data = disk.mounted().join("data");
    let v1 = |rest: &str| format!("/api/windlass/v1/topics{rest}");
    let cuts = rounds("WINDLASS_INDEX_CUTS", 4, 20);
    for cut in 0..cuts {
        let mut command = planted_too(serve_command(&data));
        command.env("WINDLASS_LOGGING_LEVEL", "warn");
        let mut server = Process::start_command(command, &scratch.path().join(cut.to_string()));
        let mut client = server.client();
        if cut == 0 {
            client.post(&v1(""), &json!({"name": "t"})).unwrap().expect(201);
            client.post(&v1("/t/groups"), &json!({"name": "g"})).unwrap().expect(201);
        }
        assert!(!server.said().contains("set aside"), "cut {cut}: {}", server.said());
        let messages = vec![json!({"body": "x".repeat(200)}); 300];
        client.post(&v1("/t/messages/batch"), &json!({"messages": messages})).unwrap().expect(201);
        let request = json!({"batch_max": 100, "auto_ack": true});
        client.post(&v1("/t/groups/g/pull"), &request).unwrap().expect(200);
        server.signal("TERM");
        assert!(server.wait().success(), "{}", server.said());
        disk.cut().unwrap();
        let report = checked(&data, scratch.path());
        assert_eq!(
            (&report["whole"], &report["index"]["state"]),
            (&json!(true), &json!("agrees")),
            "cut {cut}: {report}"
        );
        assert_eq!(report["index"]["lsn"], report["last_lsn"], "cut {cut}: {report}");
        assert_eq!(report["index"]["live_messages"], json!(200 * (cut + 1)), "cut {cut}: {report}");
    }
    let (sectors, entries) = disk.forgotten();
    eprintln!("{cuts} cuts after a clean stop: {sectors} sectors and {entries} changes of directories forgotten");
}

/// What `windlass check` finds, whatever it is.
fn checked(data: &Path, scratch: &Path) -> Value {
    let mut check = windlass();
    check.arg("check").arg(data).args(["-o", "json", "--scratch"]).arg(scratch);
    let said = check.output().unwrap();
    serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"))
}

/// The methods bite: a server that answers before it syncs stands every kill, and no power cut.
#[cfg(feature = "planted")]
mod planted {
    use super::*;

    use torture_rig::run;
    use windlass::torture::wreck::{Killer, Reaper};

    const DEFECT: (&str, &str) = ("WINDLASS_PLANTED", "answer-before-sync");

    /// The release binary has no defects in it.
    fn planted(plan: Plan) -> Plan {
        let variables = vec![(DEFECT.0.to_owned(), DEFECT.1.to_owned())];
        Plan { binary: env!("CARGO_BIN_EXE_windlass").into(), variables, ..plan }
    }

    #[track_caller]
    fn is_found_out(what: &str, disk: &mut dyn Reaper, plan: Plan) {
        let scratch = tempfile::tempdir().expect("a directory");
        let plan = Plan { parent: Some(scratch.path().to_owned()), ..planted(plan) };
        let broken = run(&plan, disk).broken.expect("lost messages are seen");
        let first = &broken.violations[0];
        eprintln!("{what}: found out at cut {}: {} {}", broken.round, first.rule, first.what);
        assert!(matches!(first.rule, "I1" | "I3" | "I5" | "I8" | "I9"), "{first:?}");
    }

    /// On a loop device everything that is on its way counts as written, so that only a sync that has not begun yet
    /// can be cut: strace holds each up for 3 ms, as a busy disk would.
    fn is_found_out_on(kind: &str) {
        let Some(mut disk) = or_skipped(kind, LoopDisk::make(kind)) else { return };
        let strace = std::process::Command::new("strace").arg("--version").output();
        if or_skipped(kind, strace.map_err(|error| format!("strace: {error}"))).is_none() {
            return;
        }
        let words =
            "strace -D -f --seccomp-bpf -qq -o /dev/null -e trace=fdatasync -e inject=fdatasync:delay_enter=3000";
        let through = words.split(' ').map(Into::into).collect();
        let plan = Plan { through, ..plan(60, disk.mounted()) };
        is_found_out(kind, &mut disk, plan);
    }

    #[test]
    fn a_server_that_answers_before_it_syncs_is_found_out_on_ext4() {
        is_found_out_on("ext4");
    }

    #[test]
    fn a_server_that_answers_before_it_syncs_is_found_out_on_xfs() {
        is_found_out_on("xfs");
    }

    #[test]
    fn a_server_that_answers_before_it_syncs_is_found_out_on_a_disk_that_forgets() {
        let Some(mut disk) = or_skipped("FUSE", FuseDisk::make(seed())) else { return };
        let plan = plan(60, disk.mounted());
        is_found_out("FUSE", &mut disk, plan);
    }

    /// So a kill shows nothing about syncs, and both kinds are needed.
    #[test]
    fn a_server_that_answers_before_it_syncs_stands_every_kill() {
        passes(&planted(Plan::new(PathBuf::new(), 5, seed())), &mut Killer);
    }
}
