//! The local engine on a real directory: publish, and pull with ack, without HTTP.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use windlass::clock::SystemClock;
use windlass::engine::local::LocalEngine;
use windlass::engine::{
    CreateGroup, CreateTopic, Engine, HandleKind, Home, Lateness, LeaseRef, LocalOptions, Position, Publish, Pull,
    Settle, SettleAction, Wait,
};
use windlass::model::{
    AccountName, GroupName, GroupRef, GroupSettings, NewMessage, Start, TopicName, TopicRef, TopicSettings,
};

fn main() {
    divan::main();
}

/// An engine with a topic and a group.
struct Rig {
    engine: LocalEngine,
    runtime: tokio::runtime::Runtime,
    _home: Home,
    _dir: tempfile::TempDir,
}

fn topic() -> TopicRef {
    TopicRef::Name(TopicName::parse("t").expect("a name"))
}

fn group() -> GroupRef {
    GroupRef::Name(GroupName::parse("g").expect("a name"))
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path: &Path = dir.path();
        let clock = Arc::new(SystemClock::new());
        let home = Home::open(&path.join("data"), &*clock).expect("a data directory");
        let engine = home.engine(clock, &LocalOptions::default()).expect("an engine");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let rig = Self { engine, runtime, _home: home, _dir: dir };
        let account = AccountName::standard();
        let name = TopicName::parse("t").expect("a name");
        let create = CreateTopic { account: account.clone(), name, settings: TopicSettings::default() };
        rig.wait(rig.engine.create_topic(create)).expect("a topic");
        let create = CreateGroup {
            account,
            topic: topic(),
            name: GroupName::parse("g").expect("a name"),
            settings: GroupSettings::default(),
            position: Position::Now(Start::Head),
        };
        rig.wait(rig.engine.create_group(create)).expect("a group");
        rig
    }

    fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.block_on(answer)
    }

    fn publish(&self, messages: usize) {
        let message = NewMessage { body: Bytes::from_static(&[7; 1024]), ..NewMessage::default() };
        let request = Publish { account: AccountName::standard(), topic: topic(), messages: vec![message; messages] };
        self.wait(self.engine.publish(request)).expect("published");
    }

    fn pull_and_ack(&self, messages: usize) {
        let pull = Pull {
            account: AccountName::standard(),
            topic: topic(),
            group: group(),
            batch_max: messages,
            lease: None,
            wait: Wait::None,
            auto_ack: false,
            handles: HandleKind::None,
            filter: None,
            start: None,
        };
        let pulled = self.wait(self.engine.pull(pull)).expect("pulled");
        assert_eq!(pulled.deliveries.len(), messages);
        let items = pulled.deliveries.into_iter();
        let settle = Settle {
            account: AccountName::standard(),
            topic: topic(),
            group: Some(group()),
            items: items.map(|delivery| (LeaseRef::Token(delivery.token), SettleAction::Ack)).collect(),
            lateness: Lateness::default(),
        };
        self.wait(self.engine.settle(settle)).expect("settled");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.wait(self.engine.stop());
        self.engine.join();
    }
}

#[divan::bench(args = [1, 100], max_time = 1)]
fn publish(bencher: Bencher, messages: usize) {
    let rig = Rig::new();
    bencher.counter(ItemsCount::new(messages)).bench_local(|| rig.publish(messages));
}

/// The publish of what is pulled is not counted.
#[divan::bench(args = [1, 100], max_time = 1)]
fn pull_and_ack(bencher: Bencher, messages: usize) {
    let rig = Rig::new();
    let counted = bencher.counter(ItemsCount::new(messages));
    counted.with_inputs(|| rig.publish(messages)).bench_local_values(|()| rig.pull_and_ack(messages));
}
