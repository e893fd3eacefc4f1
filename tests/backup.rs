//! Backups of the real server over real HTTP, under load, and what becomes of them: proven, damaged, restored
//! beside the server that they came from.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

mod backup_rig;
mod process;

use std::collections::HashSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use backup_rig::{Stage, V1, back_up, body, kept, publish, pull, text};
use process::{Process, eventually, serve_command};
use serde_json::{Value, json};

const BACKUPS: usize = 10;
/// Acks between two backups, so that each is taken under load and finds something new.
const ACKS_BETWEEN: usize = 200;

/// What clients have been told.
#[derive(Default)]
struct Told {
    published: Mutex<HashSet<String>>,
    acked: Mutex<HashSet<String>>,
    stop: AtomicBool,
}

impl Told {
    fn produce(&self, server: &Process, number: usize) {
        let mut client = server.client();
        for count in 0.. {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let body = format!("{number}-{count}-{}", "x".repeat(400));
            publish(&mut client, &body);
            self.published.lock().unwrap().insert(body);
        }
    }

    fn consume(&self, server: &Process) {
        let mut client = server.client();
        while !self.stop.load(Ordering::SeqCst) {
            let request = json!({"batch_max": 5, "lease_ms": 60_000, "wait_ms": 100, "encoding": "text"});
            // Every other message stays under its lease.
            for message in pull(&mut client, &request).iter().step_by(2) {
                let acked = client.post(&format!("{V1}/topics/t/groups/g/ack"), &json!({"tokens": [message["token"]]}));
                let outcomes = acked.unwrap().expect(200);
                assert_eq!(outcomes["outcomes"][0]["outcome"], "settled", "{outcomes}");
                self.acked.lock().unwrap().insert(body(message));
            }
        }
    }
}

/// Ends the work when it is dropped, so that a test that fails ends.
struct AtTheEnd<'a>(&'a Told);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_backup_under_load_holds_all_that_was_answered_before_it_began() {
    let stage = Stage::new();
    let server = stage.ready("keep");
    let told = Told::default();
    let mut before = Vec::new();
    std::thread::scope(|scope| {
        for number in 0..3 {
            let (told, server) = (&told, &server);
            scope.spawn(move || told.produce(server, number));
        }
        for _ in 0..2 {
            scope.spawn(|| told.consume(&server));
        }
        let _end = AtTheEnd(&told);
        for number in 0..BACKUPS {
            let target = number * ACKS_BETWEEN;
            eventually("work between backups", || (told.acked.lock().unwrap().len() >= target).then_some(()));
            let snapshot = (told.published.lock().unwrap().clone(), told.acked.lock().unwrap().clone());
            back_up(&mut server.client(), &format!("b{number}"));
            before.push(snapshot);
        }
        // Restored while the first server is at work.
        stage.restore("b9", "under-load");
    });
    let mut held = 0;
    for (number, (published, acked)) in before.iter().enumerate() {
        let data = stage.restore(&format!("b{number}"), &format!("r{number}"));
        let restored = stage.start(&data, &[]);
        let mut client = restored.client();
        let kept = kept(&mut client);
        let all: HashSet<&String> = kept.iter().map(|(body, _)| body).collect();
        let lost = published.iter().filter(|body| !all.contains(body)).count();
        assert_eq!(lost, 0, "backup {number} lost {lost} of {} messages", published.len());
        assert_eq!(all.len(), kept.len(), "backup {number} holds a message twice");
        let back = kept.iter().filter(|(body, state)| acked.contains(body) && state != "settled").count();
        assert_eq!(back, 0, "backup {number} forgot {back} of {} acks", acked.len());
        for message in pull(&mut client, &json!({"batch_max": 1_000, "encoding": "text"})) {
            assert!(!acked.contains(&body(&message)), "an acked message was delivered");
        }
        held += published.len();
    }
    assert!(before[BACKUPS - 1].1.len() >= (BACKUPS - 1) * ACKS_BETWEEN);
    println!("{BACKUPS} backups, {held} messages answered before them, none lost, none came back");
}

/// Names of the segments in a log directory.
fn segments(data: &Path) -> HashSet<String> {
    let names = std::fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    names.filter(|name| name.len() == 24 && name.ends_with(".seg")).collect()
}

#[test]
fn traffic_that_recycles_segments_leaves_a_linked_backup_as_it_was() {
    let stage = Stage::new();
    let server = stage.ready("drop");
    let mut client = server.client();
    for number in 0..40 {
        publish(&mut client, &format!("{number}-{}", "y".repeat(60_000)));
    }
    let made = back_up(&mut client, "b");
    assert!(made["linked"].as_u64() > Some(1) && made["linked"] == made["segments"], "{made}");
    let log = stage.backups.join("b/log");
    let linked = segments(&stage.backups.join("b"));
    let inodes: HashSet<u64> = linked.iter().map(|name| std::fs::metadata(log.join(name)).unwrap().ino()).collect();
    let recycled = |name: &str| inodes.contains(&std::fs::metadata(stage.data.join("log").join(name)).unwrap().ino());
    let mut count = 0;
    eventually("the front to be dropped", || {
        for message in pull(&mut client, &json!({"batch_max": 20, "auto_ack": true})) {
            assert_eq!(message["token"], "");
        }
        for _ in 0..10 {
            publish(&mut client, &format!("later {count} {}", "z".repeat(60_000)));
            count += 1;
        }
        segments(&stage.data).is_disjoint(&linked).then_some(())
    });
    // Whatever is still written to shares no file with the backup.
    let left = segments(&stage.data);
    assert!(!left.is_empty() && left.iter().all(|name| !recycled(name)), "a linked segment was used again");
    let data = stage.restore("b", "restored");
    drop(server);
    let restored = stage.start(&data, &[]);
    let pulled = pull(&mut restored.client(), &json!({"batch_max": 1_000, "encoding": "text"}));
    let bodies: Vec<String> = pulled.iter().map(body).collect();
    assert_eq!(bodies.len(), 40, "of the messages before the backup");
    assert!((0..40).all(|number| bodies[number].starts_with(&format!("{number}-y"))));
}

/// A stopped directory with some messages, and a backup of it at `backups/b`.
fn backed_up() -> Stage {
    let stage = Stage::new();
    let mut server = stage.ready("keep");
    for number in 0..20 {
        publish(&mut server.client(), &format!("{number} {}", "w".repeat(60_000)));
    }
    let backup = text(&stage.backups.join("b")).to_owned();
    let (code, _, said) = stage.run(&["backup", &backup, "--data-dir", text(&stage.data)]);
    assert!(code == 1 && said.contains("in use by another server"), "{said}");
    server.signal("TERM");
    assert!(server.wait().success());
    let (code, out, said) = stage.run(&["backup", &backup, "--data-dir", text(&stage.data), "-o", "json"]);
    assert_eq!(code, 0, "{said}");
    let made: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&made["name"], &made["directory"]), (&json!("b"), &json!(backup)));
    stage
}

#[test]
fn a_backup_of_a_stopped_directory_is_private_whole_and_restored_in_a_place_of_its_own() {
    let stage = backed_up();
    let backup = stage.backups.join("b");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&backup), mode(&backup.join("secret.key")), mode(&backup.join("BACKUP"))), (0o700, 0o600, 0o600));
    assert!(!backup.join("index").exists() && !backup.join("LOCK").exists());
    let (code, out, said) = stage.run(&["restore", text(&backup), "--verify"]);
    assert!(code == 0 && out.contains("is whole"), "{out}{said}");
    let said = Process::try_start(serve_command(&backup), &backup).err().expect("the start is refused");
    assert!(said.contains("windlass restore"), "{said}");
    let (code, _, said) = stage.run(&["backup", text(&backup), "--data-dir", text(&stage.data)]);
    assert!(code == 1 && said.contains("not empty"), "{said}");

    let first = stage.start(&stage.data, &[]);
    let data = stage.restore("b", "deep/new");
    assert_ne!(std::fs::read(data.join("IDENTITY")).unwrap(), std::fs::read(stage.data.join("IDENTITY")).unwrap());
    let (code, out, said) = stage.run(&["check", text(&data), "-o", "json"]);
    assert_eq!(code, 0, "{out}{said}");
    let second = stage.start(&data, &[]);
    assert_eq!(kept(&mut second.client()), kept(&mut first.client()));
    assert!(!second.said().contains("torn"), "{}", second.said());
    let (code, _, said) = stage.run(&["restore", text(&backup), "deep/new"]);
    assert!(code == 1 && said.contains("not empty"), "{said}");
    std::fs::create_dir(stage.home.path().join("full")).unwrap();
    std::fs::write(stage.home.path().join("full/mine"), "x").unwrap();
    let (code, _, said) = stage.run(&["restore", text(&backup), "full"]);
    assert!(code == 1 && said.contains("not empty"), "{said}");
    assert_eq!(std::fs::read_dir(stage.home.path().join("full")).unwrap().count(), 1);
}

#[test]
fn a_restored_log_that_lost_its_end_is_damaged_and_not_torn() {
    let stage = backed_up();
    let data = stage.restore("b", "r");
    let last = segments(&data).into_iter().max().unwrap();
    std::fs::remove_file(data.join("log").join(&last)).unwrap();
    let said = Process::try_start(serve_command(&data), &data).err().expect("the start is refused");
    assert!(said.contains("damaged"), "{said}");
}

#[test]
fn a_damaged_backup_is_refused_by_the_name_of_the_file_and_nothing_is_made() {
    let stage = backed_up();
    let backup = stage.backups.join("b");
    let segment = format!("log/{}", segments(&backup).into_iter().max().unwrap());
    let refused = |file: &str, code: i32| {
        for arguments in [&["restore", text(&backup), "--verify"][..], &["restore", text(&backup), "target"]] {
            let (got, out, said) = stage.run(arguments);
            assert!(got == code && out.is_empty() && said.contains(file), "{file}: {got} {said}");
        }
        assert!(!stage.home.path().join("target").exists());
    };
    for file in [segment.as_str(), "secret.key", "FORMAT", "BACKUP"] {
        let path = backup.join(file);
        // Written to a file of its own: a linked one is the original's as well.
        let whole = std::fs::read(&path).unwrap();
        let put = |bytes: &[u8]| {
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, bytes).unwrap();
        };
        let mut flipped = whole.clone();
        let at = whole.len() / 3;
        flipped[at] ^= 4;
        put(&flipped);
        refused(file, 5);
        put(&whole[..whole.len() - 1]);
        refused(file, 5);
        std::fs::remove_file(&path).unwrap();
        refused(file, if file == "BACKUP" { 1 } else { 5 });
        std::fs::write(&path, &whole).unwrap();
    }
    for stray in ["log/00000000000099999999.seg", "log/spare-1.seg"] {
        std::fs::write(backup.join(stray), "x").unwrap();
        refused(stray, 5);
        std::fs::remove_file(backup.join(stray)).unwrap();
    }
    let (code, _, said) = stage.run(&["restore", text(&backup), "--verify"]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn on_another_file_system_the_segments_are_copied() {
    let elsewhere = tempfile::tempdir_in("/dev/shm");
    let stage = Stage::new();
    let there = |path: &Path| std::fs::metadata(path).unwrap().dev();
    let Some(elsewhere) = elsewhere.ok().filter(|dir| there(dir.path()) != there(stage.home.path())) else {
        println!("SKIPPED: /dev/shm is no other file system here");
        return;
    };
    let root = elsewhere.path().join("backups");
    drop(stage.ready("keep"));
    let server = stage.start(&stage.data, &[("WINDLASS_BACKUP_DIRECTORY", text(&root))]);
    publish(&mut server.client(), "carried");
    let made = back_up(&mut server.client(), "b");
    assert!(made["linked"] == 0 && made["segments"].as_u64() >= Some(1), "{made}");
    let (code, _, said) = stage.run(&["restore", text(&root.join("b")), "r"]);
    assert_eq!(code, 0, "{said}");
    let restored = stage.start(&stage.home.path().join("r"), &[]);
    assert_eq!(kept(&mut restored.client())[0].0, "carried");
}

#[test]
fn a_backup_over_http_goes_below_the_configured_directory_once_and_only_for_admins() {
    let stage = Stage::new();
    let server = stage.start(&stage.data, &[("WINDLASS_BACKUP_COUNT_MAX", "2")]);
    let token = |permissions: Value, topics: &str, as_whom: &str| -> String {
        let mut client = server.client();
        if !as_whom.is_empty() {
            client = client.with_token(as_whom);
        }
        let made = client.post(&format!("{V1}/tokens"), &json!({"permissions": permissions, "topics": topics}));
        made.unwrap().expect(201)["secret"].as_str().expect("a secret").to_owned()
    };
    let admin = token(json!(["publish", "consume", "admin"]), "*", "");
    let path = format!("{V1}/backups");
    let code = |answer: process::client::Answer, status: u16| answer.expect(status)["code"].clone();
    let asked = json!({"directory": "b"});
    assert_eq!(server.client().post(&path, &asked).unwrap().status, 401);
    for (permissions, topics) in [(json!(["publish", "consume"]), "*"), (json!(["admin"]), "in-*")] {
        let weak = token(permissions, topics, &admin);
        for target in [path.clone(), format!("{path}/b/verify")] {
            assert_eq!(server.client().with_token(&weak).post(&target, &asked).unwrap().status, 403, "{target}");
        }
        assert_eq!(server.client().with_token(&weak).get(&path).unwrap().status, 403);
    }
    let mut client = server.client().with_token(&admin);
    let parent = text(stage.home.path());
    for bad in
        ["", ".", "..", "../x", "a/b", "/etc/windlass", ".x", "a b", parent, &format!("{parent}/data-backups/../x")]
    {
        assert_eq!(code(client.post(&path, &json!({"directory": bad})).unwrap(), 422), "out_of_bounds", "{bad}");
    }
    assert_eq!(client.post(&path, &json!({"directory": "b", "overwrite": true})).unwrap().status, 400);
    assert!(!stage.backups.exists(), "a refused backup made something");
    assert_eq!(client.get(&path).unwrap().expect(200)["backups"], json!([]));
    assert_eq!(code(client.post(&format!("{path}/b/verify"), &json!({})).unwrap(), 404), "no_such_backup");
    assert_eq!(code(client.post(&format!("{path}/..%2fdata/verify"), &json!({})).unwrap(), 404), "no_such_backup");

    let made = client.post(&path, &asked).unwrap().expect(201);
    assert_eq!(made["directory"].as_str(), stage.backups.join("b").to_str());
    assert_eq!(code(client.post(&path, &asked).unwrap(), 409), "backup_exists");
    let whole = client.post(&format!("{path}/b/verify"), &json!({})).unwrap().expect(200);
    for field in ["segments", "bytes", "last_lsn", "made_at_ms", "name", "directory"] {
        assert_eq!(whole[field], made[field], "{field}");
    }
    let by_path = json!({"directory": stage.backups.join("c").to_str()});
    client.post(&path, &by_path).unwrap().expect(201);
    assert_eq!(code(client.post(&path, &json!({"directory": "d"})).unwrap(), 507), "limit_reached");
    let list = client.get(&path).unwrap().expect(200);
    assert_eq!((&list["backups"], &list["under_way"]), (&json!(["b", "c"]), &Value::Null));
    std::fs::remove_file(stage.backups.join("b/secret.key")).unwrap();
    let damaged = client.post(&format!("{path}/b/verify"), &json!({})).unwrap().expect(422);
    assert_eq!((&damaged["code"], &damaged["detail"]), (&json!("backup_damaged"), &json!("secret.key is missing")));
}

#[test]
fn backups_over_http_can_be_off_and_the_command_asks_the_server() {
    let stage = Stage::new();
    let server = stage.ready("keep");
    let url = format!("http://{}", server.address);
    publish(&mut server.client(), "m");
    let (code, out, said) = stage.run(&["backup", "monday", "--server", &url]);
    assert!(code == 0 && out.starts_with(text(&stage.backups.join("monday"))), "{out}{said}");
    // A path as it is seen from where the command runs.
    let (code, _, said) = stage.run(&["backup", "data-backups/tuesday", "--server", &url]);
    assert_eq!(code, 0, "{said}");
    let (code, out, said) = stage.run(&["backup", "elsewhere/tuesday", "--server", &url]);
    assert!(code == 1 && out.is_empty() && said.contains("out_of_bounds"), "{said}");
    drop(server);
    let server = stage.start(&stage.data, &[("WINDLASS_BACKUP_DIRECTORY", "off")]);
    let mut client = server.client();
    for answer in [
        client.post(&format!("{V1}/backups"), &json!({"directory": "b"})),
        client.get(&format!("{V1}/backups")),
        client.post(&format!("{V1}/backups/monday/verify"), &json!({})),
    ] {
        assert_eq!(answer.unwrap().expect(403)["code"], "backups_off");
    }
}
