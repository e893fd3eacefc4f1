//! A small story in which everything happens that a data directory can hold: shared by the tests of damage and of
//! migrations. Time stands still but where the story moves it, so that two tellings are alike.

#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its own part")]

pub mod seen;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use windlass::engine::{
    CreateGroup, CreateTopic, Discard, Engine, HandleKind, Lateness, LeaseRef, Position, Publish, Pull, Redrive, Seek,
    Settle, SettleAction, SettleOutcome, Wait,
};
use windlass::model::{
    AccessId, AccessKind, AccessRecord, AccountName, Compaction, ContentType, Delivery, Flow, GroupName, GroupPatch,
    GroupRef, GroupSettings, IdempotencyKey, Key, MessageId, Millis, NewMessage, Offset, Ordering, Permissions,
    Published, Retention, RetryDelays, Settled, Start, Tag, TagFilter, TopicName, TopicPatch, TopicPattern, TopicRef,
    TopicSettings,
};

/// An engine on a clock that the story moves.
pub trait Stage {
    fn engine(&self) -> Arc<dyn Engine>;
    /// Carries a call to its answer.
    fn wait<T: Send>(&mut self, call: impl Future<Output = T> + Send) -> T;
    fn advance(&mut self, span: Duration);
}

pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3_600);

/// A lease that the story never settled.
#[derive(Debug, Clone)]
pub struct Held {
    pub topic: &'static str,
    pub token: String,
    pub offset: Offset,
}

/// A publish that may be repeated.
#[derive(Debug, Clone)]
pub struct Known {
    pub message: NewMessage,
    pub id: MessageId,
}

/// What clients hold at the end of the story.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub held: Vec<Held>,
    pub known: Vec<Known>,
    /// Tokens of messages that are settled.
    pub spent: Vec<Held>,
}

pub fn account() -> AccountName {
    AccountName::standard()
}

pub fn other_account() -> AccountName {
    AccountName::parse("acme").unwrap()
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

pub fn topic(name: &str) -> TopicRef {
    TopicRef::Name(topic_name(name))
}

pub fn group(name: &str) -> GroupRef {
    GroupRef::Name(GroupName::parse(name).unwrap())
}

fn annotated(name: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(name.to_owned(), value.to_owned())])
}

/// Calls of one stage, short to write.
struct Calls<'a, S: Stage>(&'a mut S);

impl<S: Stage> Calls<'_, S> {
    fn make_topic(&mut self, account: AccountName, name: &str, settings: TopicSettings) {
        let (engine, name) = (self.0.engine(), topic_name(name));
        self.0.wait(async move { engine.create_topic(CreateTopic { account, name, settings }).await }).unwrap();
    }

    fn make_group(&mut self, of: &str, name: &str, settings: GroupSettings, position: Position) {
        let (engine, name) = (self.0.engine(), GroupName::parse(name).unwrap());
        let request = CreateGroup { account: account(), topic: topic(of), name, settings, position };
        self.0.wait(async move { engine.create_group(request).await }).unwrap();
    }

    fn publish(&mut self, account: AccountName, to: &str, messages: Vec<NewMessage>) -> Vec<Published> {
        let engine = self.0.engine();
        let request = Publish { account, topic: topic(to), messages };
        self.0.wait(async move { engine.publish(request).await }).unwrap()
    }

    fn pull(&mut self, of: &str, name: &str, batch_max: usize) -> Vec<Delivery> {
        let engine = self.0.engine();
        let request = Pull {
            account: account(),
            topic: topic(of),
            group: group(name),
            batch_max,
            lease: None,
            wait: Wait::None,
            auto_ack: false,
            handles: HandleKind::PerMessage,
            filter: None,
            start: None,
        };
        self.0.wait(async move { engine.pull(request).await }).unwrap().deliveries
    }

    fn settle(&mut self, of: &'static str, token: &str, action: SettleAction) {
        let engine = self.0.engine();
        let items = vec![(LeaseRef::Token(token.to_owned()), action)];
        let request =
            Settle { account: account(), topic: topic(of), group: None, items, lateness: Lateness::default() };
        let outcomes = self.0.wait(async move { engine.settle(request).await }).unwrap();
        assert_eq!(outcomes, [SettleOutcome::Settled { count: 1 }]);
    }

    fn sweep(&mut self) {
        let engine = self.0.engine();
        self.0.wait(async move { engine.sweep().await });
    }

    fn access(&mut self, id: &str, kind: AccessKind, expires_at: Option<Millis>) {
        let engine = self.0.engine();
        let record = AccessRecord {
            id: AccessId(id.to_owned()),
            account: other_account(),
            kind,
            permissions: Permissions { publish: true, consume: id.len().is_multiple_of(2), admin: false },
            topics: TopicPattern::parse("ord*").unwrap(),
            created_at: Millis::new(1_767_225_600_000),
            expires_at,
        };
        self.0.wait(async move { engine.put_access(record).await }).unwrap();
    }
}

/// A body that says which one it is, and no byte of which is zero.
fn body(number: usize, bytes: usize) -> Vec<u8> {
    let text = format!("message {number} ");
    text.bytes().cycle().take(bytes).collect()
}

fn message(number: usize, bytes: usize) -> NewMessage {
    NewMessage {
        body: body(number, bytes).into(),
        key: Some(Key::parse(&format!("key-{}", number % 11)).unwrap()),
        tag: Some(Tag::parse(if number.is_multiple_of(2) { "red" } else { "blue" }).unwrap()),
        ..NewMessage::default()
    }
}

fn held(of: &'static str, delivery: &Delivery) -> Held {
    Held { topic: of, token: delivery.token.clone(), offset: delivery.message.head.offset }
}

/// The first life: topics, groups, credentials, publishes of every kind, leases in every state.
pub fn first_life(stage: &mut impl Stage, facts: &mut Facts) {
    let mut calls = Calls(stage);
    make_topics(&mut calls);
    make_groups(&mut calls);
    calls.access("token-1", AccessKind::Token { sha256: [0xa5; 32] }, Some(Millis::new(1_900_000_000_000)));
    calls.access("key-22", AccessKind::AccessKey { sealed_secret: (1..=60).collect() }, None);
    calls.access("token-3", AccessKind::Token { sha256: [3; 32] }, None);
    let engine = calls.0.engine();
    let revoked = AccessId("token-3".to_owned());
    calls.0.wait(async move { engine.revoke_access(other_account(), revoked).await }).unwrap();

    for number in 0..12 {
        let mut one = message(number, 40 + 30 * number);
        one.content_type = number.is_multiple_of(3).then(|| ContentType::parse("application/json").unwrap());
        one.properties = annotated("trace", &format!("t-{number}"));
        one.delay = (number % 6 == 5).then_some(HOUR);
        one.idempotency_key =
            number.is_multiple_of(4).then(|| IdempotencyKey::parse(&format!("once-{number}")).unwrap());
        let published = calls.publish(account(), "orders", vec![one.clone()]);
        if one.idempotency_key.is_some() {
            facts.known.push(Known { message: one, id: published[0].id });
        }
    }
    calls.publish(other_account(), "orders", vec![message(100, 33)]);
    calls.publish(account(), "mail", (0..6).map(|number| message(200 + number, 60)).collect());
    calls.publish(account(), "short", (0..3).map(|number| message(300 + number, 20)).collect());
    calls.publish(account(), "bin", vec![message(400, 70)]);
    for number in 0..8 {
        calls.publish(account(), "latest", vec![message(500 + number, 25)]);
    }
    let taken = calls.pull("orders", "billing", 5);
    assert_eq!(taken.len(), 5);
    calls.settle("orders", &taken[0].token, SettleAction::Ack);
    facts.spent.push(held("orders", &taken[0]));
    calls.settle("orders", &taken[1].token, SettleAction::Nack { delay: Some(HOUR) });
    calls.settle("orders", &taken[2].token, SettleAction::Extend { lease: 3 * HOUR });
    calls.settle("orders", &taken[4].token, SettleAction::Bury { reason: "no such customer".to_owned() });
    facts.held.extend([&taken[2], &taken[3]].map(|one| held("orders", one)));
    let engine = calls.0.engine();
    calls.0.wait(async move { engine.delete_topic(account(), topic("bin")).await }).unwrap();
    let engine = calls.0.engine();
    calls.0.wait(async move { engine.delete_group(account(), topic("mail"), group("gone")).await }).unwrap();
}

fn make_topics(calls: &mut Calls<'_, impl Stage>) {
    let orders = TopicSettings {
        retention: Retention { settled: Settled::Keep, age: Some(100 * HOUR), bytes: Some(1 << 30) },
        ordering: Ordering::PerKey,
        idempotency_window: 100 * HOUR,
        annotations: annotated("owner", "billing"),
        ..TopicSettings::default()
    };
    calls.make_topic(account(), "orders", orders.clone());
    calls.make_topic(other_account(), "orders", orders);
    calls.make_topic(account(), "mail", TopicSettings { delay: Duration::ZERO, ..TopicSettings::default() });
    let latest = TopicSettings { compaction: Compaction::LatestPerKey, ..TopicSettings::default() };
    calls.make_topic(account(), "latest", latest);
    let retention = Retention { age: Some(Duration::from_secs(10)), ..Retention::default() };
    calls.make_topic(account(), "short", TopicSettings { retention, ..TopicSettings::default() });
    calls.make_topic(account(), "bin", TopicSettings::default());
}

fn make_groups(calls: &mut Calls<'_, impl Stage>) {
    let billing = GroupSettings {
        lease: 2 * HOUR,
        retry: RetryDelays::Table(vec![Duration::from_secs(5), HOUR]),
        attempts_max: Some(3),
        dead_letter: Some(topic_name("dead")),
        annotations: annotated("on-call", "ann"),
        ..GroupSettings::default()
    };
    calls.make_group("orders", "billing", billing, Position::Now(Start::Head));
    let filter = TagFilter::AnyOf(vec![Tag::parse("red").unwrap()]);
    calls.make_group("orders", "audit", GroupSettings { filter, ..settings(HOUR) }, Position::Now(Start::Head));
    calls.make_group("orders", "later", settings(HOUR), Position::FirstPull(Start::Tail));
    let mortal = GroupSettings {
        attempts_max: Some(1),
        dead_letter: Some(topic_name("mail-dead")),
        ..settings(Duration::from_secs(2))
    };
    calls.make_group("mail", "send", mortal, Position::Now(Start::Head));
    calls.make_group("mail", "gone", settings(HOUR), Position::Now(Start::Head));
    calls.make_group("latest", "view", settings(HOUR), Position::Now(Start::Head));
    calls.make_group("bin", "b", settings(HOUR), Position::Now(Start::Head));
}

fn settings(lease: Duration) -> GroupSettings {
    GroupSettings { lease, ..GroupSettings::default() }
}

/// The second life: lapses, dead letters, trims, and a commit that fills a segment.
pub fn second_life(stage: &mut impl Stage, facts: &mut Facts) {
    let mut calls = Calls(stage);
    calls.0.advance(Duration::from_secs(11));
    calls.sweep();
    let taken = calls.pull("mail", "send", 3);
    assert_eq!(taken.len(), 3);
    calls.settle("mail", &taken[0].token, SettleAction::Ack);
    facts.spent.push(held("mail", &taken[0]));
    calls.0.advance(Duration::from_secs(3));
    calls.sweep();
    let engine = calls.0.engine();
    let redrive = Redrive { account: account(), topic: topic("mail-dead"), offsets: vec![Offset::ZERO], limit: 10 };
    assert_eq!(calls.0.wait(async move { engine.redrive(redrive).await }).unwrap().moved, 1);
    let engine = calls.0.engine();
    let discard = Discard { account: account(), topic: topic("orders"), offsets: vec![Offset::new(9)] };
    assert_eq!(calls.0.wait(async move { engine.discard(discard).await }).unwrap().discarded.len(), 1);
    let engine = calls.0.engine();
    let to = Start::Offset(Offset::new(2));
    let seek = Seek { account: account(), topic: topic("orders"), group: group("audit"), to, dry_run: false };
    calls.0.wait(async move { engine.seek(seek).await }).unwrap();
    calls.publish(account(), "short", vec![message(310, 20)]);
    let engine = calls.0.engine();
    assert_eq!(calls.0.wait(async move { engine.purge(account(), topic("short")).await }).unwrap().messages, 1);
    let engine = calls.0.engine();
    let patch = TopicPatch {
        name: Some(topic_name("brief")),
        flow: Some(Flow::Paused),
        annotate: BTreeMap::from([("was".to_owned(), Some("short".to_owned()))]),
        ..TopicPatch::default()
    };
    calls.0.wait(async move { engine.update_topic(account(), topic("short"), patch).await }).unwrap();
    let engine = calls.0.engine();
    let patch = GroupPatch { pending_max: Some(77), flow: Some(Flow::Paused), ..GroupPatch::default() };
    calls.0.wait(async move { engine.update_group(account(), topic("latest"), group("view"), patch).await }).unwrap();
    for number in 0..6 {
        let batch = (0..5).map(|one| message(600 + number * 5 + one, 300)).collect();
        calls.publish(account(), "orders", batch);
    }
    let taken = calls.pull("orders", "audit", 4);
    assert!(taken.len() > 1);
    facts.held.extend(taken.iter().map(|one| held("orders", one)));
}

/// Steps of [`last_life`].
pub const LAST_STEPS: usize = 8;

/// Step `number` of the last life: one commit each. The odd ones are leases, which need no sync.
pub fn last_life(stage: &mut impl Stage, facts: &mut Facts, number: usize) {
    let mut calls = Calls(stage);
    match number {
        0 => {
            let mut one = message(700, 120);
            one.idempotency_key = Some(IdempotencyKey::parse("once-700").unwrap());
            let published = calls.publish(account(), "orders", vec![one.clone()]);
            facts.known.push(Known { message: one, id: published[0].id });
        }
        2 => {
            let spent = facts.held.pop().unwrap();
            calls.settle("orders", &spent.token, SettleAction::Ack);
            facts.spent.push(spent);
        }
        4 => calls.access("token-55", AccessKind::Token { sha256: [0x55; 32] }, None),
        6 => drop(calls.publish(account(), "orders", vec![message(701, 90), message(702, 200)])),
        _ => {
            let taken = calls.pull("orders", "billing", 1);
            assert_eq!(taken.len(), 1);
            facts.held.extend(taken.iter().map(|one| held("orders", one)));
        }
    }
}
