//! The real server on a small disk that is full: starts on it, serves what the reserve allows, gets going again.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "process/mod.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::process::Command;

use process::client::Client;
use process::{Process, eventually, serve_command};
use serde_json::json;

const TOPIC: &str = "/api/windlass/v1/topics/t";

/// A file system of its own in memory; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where it may not be mounted.
    fn mount(at: &Path, mebibytes: u32) -> Option<Self> {
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        mounted.ok()?.status.success().then(|| Self(at.to_owned()))
    }

    /// Somebody else takes some of it.
    fn take(&self, mebibytes: usize) {
        std::fs::write(self.0.join("others"), vec![1; mebibytes << 20]).unwrap();
    }

    /// Somebody else takes all that is left.
    fn fill(&self) {
        let path = self.0.join("others");
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("others")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn start(data: &Path) -> Process {
    let mut command = serve_command(data);
    command.envs([
        ("WINDLASS_LIMITS_BODY_BYTES_MAX", "64 KiB"),
        ("WINDLASS_LIMITS_BATCH_BYTES_MAX", "64 KiB"),
        ("WINDLASS_LOG_SEGMENT_BYTES", "512 KiB"),
    ]);
    Process::start_command(command, data)
}

/// Publishes into the space that is there; answers how many found some.
fn publish_until_refused(client: &mut Client) -> u64 {
    for published in 0..4_000 {
        match publish(client) {
            200 | 201 => {}
            507 => return published,
            other => panic!("a publish was answered {other}"),
        }
    }
    panic!("the disk never filled");
}

fn publish(client: &mut Client) -> u16 {
    let message = json!({"body": "x".repeat(4_000)});
    let answer = client.post(&format!("{TOPIC}/messages"), &json!({"messages": [message]})).expect("an answer");
    if answer.status == 507 {
        assert!(answer.text().contains("disk_full"), "{}", answer.text());
    }
    answer.status
}

/// Pulls and acks this many at most; answers how many there were.
fn take(client: &mut Client, batch: u64) -> u64 {
    let pull = json!({"batch_max": batch, "lease_ms": 60_000});
    let pulled = client.post(&format!("{TOPIC}/groups/g/pull"), &pull).expect("an answer").expect(200);
    let messages = pulled["messages"].as_array().expect("messages");
    let tokens: Vec<_> = messages.iter().map(|one| one["token"].clone()).collect();
    if !tokens.is_empty() {
        let acked = client.post(&format!("{TOPIC}/groups/g/ack"), &json!({"tokens": tokens})).expect("an answer");
        for one in acked.expect(200)["outcomes"].as_array().expect("outcomes") {
            assert_eq!(one["outcome"], "settled");
        }
    }
    messages.len() as u64
}

#[test]
fn a_server_starts_on_a_full_disk_and_gets_going_when_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("disk");
    std::fs::create_dir(&at).unwrap();
    let Some(disk) = SmallDisk::mount(&at, 16) else {
        println!("SKIPPED: a small file system can be mounted by root only");
        return;
    };
    disk.take(4);
    let data = at.join("data");
    let mut server = start(&data);
    let mut client = server.client();
    client.post("/api/windlass/v1/topics", &json!({"name": "t"})).expect("an answer").expect(201);
    client.post(&format!("{TOPIC}/groups"), &json!({"name": "g"})).expect("an answer").expect(201);
    let mut published = publish_until_refused(&mut client);
    assert!(published > 300, "only {published} fit");
    let mut taken = 0;
    for _ in 0..2 {
        disk.fill();
        server.kill();
        server = start(&data);
        client = server.client();
        disk.fill();
        published += publish_until_refused(&mut client);
        taken += take(&mut client, 10);
    }
    assert_eq!(taken, 20, "pulls and acks go on");
    disk.fill();
    disk.free();
    eventually("a publish", || (publish(&mut client) < 300).then_some(()));
    published += 1;
    while taken < published {
        let got = take(&mut client, 100);
        assert!(got > 0, "{taken} of {published}");
        taken += got;
    }
    assert_eq!((taken, take(&mut client, 100)), (published, 0));
}
