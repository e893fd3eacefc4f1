//! What holds up the writer: how long single publishes wait while a million leases lapse at once, while they are
//! checkpointed, and with a thousand topics of ten groups each. Percentiles in ms, of publishes one after the
//! other.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use windlass::clock::SystemClock;
use windlass::engine::local::LocalEngine;
use windlass::engine::{
    CreateGroup, CreateTopic, Engine, HandleKind, Home, LocalOptions, Position, Publish, Pull, Wait,
};
use windlass::model::{
    AccountName, GroupName, GroupRef, GroupSettings, NewMessage, Start, TopicName, TopicRef, TopicSettings,
};

/// Messages leased at once.
const LEASES: usize = 1_000_000;
/// Of one publish or pull of the preparation.
const BATCH: usize = 1_000;
const TOPICS: usize = 1_000;
const GROUPS: usize = 10;

fn main() {
    let rig = Rig::new();
    rig.topic("quiet", GroupSettings::default(), &[]);
    rig.measure("alone", "quiet", Duration::from_secs(6));
    rig.leases();
    drop(rig);
    let rig = Rig::new();
    for topic in 0..TOPICS {
        let groups: Vec<String> = (0..GROUPS).map(|group| format!("g{group}")).collect();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        rig.topic(&format!("t{topic}"), GroupSettings::default(), &groups);
    }
    rig.measure("with 1,000 topics and 10,000 groups", "t500", Duration::from_secs(12));
}

struct Rig {
    engine: LocalEngine,
    runtime: tokio::runtime::Runtime,
    _home: Home,
    _dir: tempfile::TempDir,
}

fn topic(name: &str) -> TopicRef {
    TopicRef::Name(TopicName::parse(name).expect("a name"))
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path: &Path = dir.path();
        let clock = Arc::new(SystemClock::new());
        let home = Home::open(&path.join("data"), &*clock).expect("a data directory");
        let engine = home.engine(clock, &LocalOptions::default()).expect("an engine");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { engine, runtime, _home: home, _dir: dir }
    }

    fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.block_on(answer)
    }

    fn topic(&self, name: &str, settings: GroupSettings, groups: &[&str]) {
        let account = AccountName::standard();
        let create = CreateTopic {
            account: account.clone(),
            name: TopicName::parse(name).expect("a name"),
            settings: TopicSettings::default(),
        };
        self.wait(self.engine.create_topic(create)).expect("a topic");
        for group in groups {
            let create = CreateGroup {
                account: account.clone(),
                topic: topic(name),
                name: GroupName::parse(group).expect("a name"),
                settings: settings.clone(),
                position: Position::Now(Start::Head),
            };
            self.wait(self.engine.create_group(create)).expect("a group");
        }
    }

    fn publish(&self, name: &str, messages: usize) {
        let message = NewMessage { body: Bytes::from_static(&[7; 200]), ..NewMessage::default() };
        let request =
            Publish { account: AccountName::standard(), topic: topic(name), messages: vec![message; messages] };
        self.wait(self.engine.publish(request)).expect("published");
    }

    fn leases(&self) {
        let settings = GroupSettings { pending_max: LEASES as u32, ..GroupSettings::default() };
        self.topic("leased", settings, &["g"]);
        for _ in 0..LEASES / BATCH {
            self.publish("leased", BATCH);
        }
        let lapse = Instant::now() + Duration::from_secs(30);
        for _ in 0..LEASES / BATCH {
            let pull = Pull {
                account: AccountName::standard(),
                topic: topic("leased"),
                group: GroupRef::Name(GroupName::parse("g").expect("a name")),
                batch_max: BATCH,
                lease: Some(lapse.saturating_duration_since(Instant::now())),
                wait: Wait::None,
                auto_ack: false,
                handles: HandleKind::None,
                filter: None,
                start: None,
            };
            let pulled = self.wait(self.engine.pull(pull)).expect("pulled");
            assert_eq!(pulled.deliveries.len(), BATCH);
        }
        self.measure("while a million leases are checkpointed", "quiet", Duration::from_secs(8));
        std::thread::sleep(lapse.saturating_duration_since(Instant::now() + Duration::from_secs(1)));
        self.measure("while they lapse", "quiet", Duration::from_secs(12));
    }

    fn measure(&self, what: &str, name: &str, span: Duration) {
        let begun = Instant::now();
        let mut taken = Vec::new();
        while begun.elapsed() < span {
            let start = Instant::now();
            self.publish(name, 1);
            taken.push(start.elapsed());
        }
        taken.sort_unstable();
        let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!(
            "{what}: {} publishes, p50 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2} ms",
            taken.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        );
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.wait(self.engine.stop());
        self.engine.join();
    }
}
