//! Single calls of a simulated machine, with one topic `t`, each turned until it is answered.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use windlass::engine::{
    Counts, CreateGroup, CreateGroupError, CreateTopic, Engine, HandleKind, Lateness, LeaseRef, Peek, PeekFilter,
    Position, Publish, PublishError, Pull, PullError, Pulled, Redrive, RedriveError, RedriveReport, Seek, SeekReport,
    Settle, SettleAction, SettleError, SettleOutcome, Wait,
};
use windlass::log::Step;
use windlass::model::{
    AccountName, Delivery, Group, GroupName, GroupRef, GroupSettings, Key, NewMessage, Offset, Published, Retention,
    Settled, Start, Tag, TopicName, TopicPatch, TopicRef, TopicSettings,
};

use crate::machine::Machine;

pub fn account() -> AccountName {
    AccountName::standard()
}

pub fn topic() -> TopicRef {
    TopicRef::Name(TopicName::parse("t").unwrap())
}

pub fn create_topic(machine: &mut Machine) {
    create_topic_with(machine, TopicSettings::default());
}

pub fn create_topic_with(machine: &mut Machine, settings: TopicSettings) {
    create_topic_called(machine, "t", settings);
}

pub fn create_topic_called(machine: &mut Machine, name: &str, settings: TopicSettings) {
    let engine = machine.engine();
    let name = TopicName::parse(name).unwrap();
    let request = CreateTopic { account: account(), name, settings };
    machine.wait(async move { engine.create_topic(request).await }).unwrap().unwrap();
}

pub fn group_of(name: &str) -> GroupRef {
    GroupRef::Name(GroupName::parse(name).unwrap())
}

pub fn create_group(machine: &mut Machine, name: &str) {
    try_create_group(machine, name).unwrap();
}

pub fn try_create_group(machine: &mut Machine, name: &str) -> Result<Group, CreateGroupError> {
    create_group_with(machine, name, GroupSettings::default())
}

/// A group that gives each message one try, and then makes it a dead letter.
pub fn create_mortal_group(machine: &mut Machine, name: &str) {
    let dead_letter = Some(TopicName::parse("dead").unwrap());
    let settings = GroupSettings { attempts_max: Some(1), dead_letter, ..GroupSettings::default() };
    create_group_with(machine, name, settings).unwrap();
}

/// A group that stands nowhere before its first pull.
pub fn create_group_of_first_pull(machine: &mut Machine, name: &str) {
    create_group_at(machine, name, GroupSettings::default(), Position::FirstPull(Start::Head)).unwrap();
}

fn create_group_with(machine: &mut Machine, name: &str, settings: GroupSettings) -> Result<Group, CreateGroupError> {
    create_group_at(machine, name, settings, Position::Now(Start::Head))
}

fn create_group_at(
    machine: &mut Machine,
    name: &str,
    settings: GroupSettings,
    position: Position,
) -> Result<Group, CreateGroupError> {
    let engine = machine.engine();
    let name = GroupName::parse(name).unwrap();
    let request = CreateGroup { account: account(), topic: topic(), name, settings, position };
    machine.wait(async move { engine.create_group(request).await }).unwrap()
}

pub fn publish(machine: &mut Machine, body_bytes: usize) -> Result<Vec<Published>, PublishError> {
    publish_all(machine, 1, body_bytes)
}

pub fn publish_batch(machine: &mut Machine, count: usize) {
    publish_all(machine, count, 100).unwrap();
}

pub fn publish_keyed(machine: &mut Machine, key: &str, count: usize) {
    let message = NewMessage { key: Some(Key::parse(key).unwrap()), ..NewMessage::default() };
    publish_messages(machine, vec![message; count]);
}

pub fn publish_delayed(machine: &mut Machine, delay: Duration) {
    publish_messages(machine, vec![NewMessage { delay: Some(delay), ..NewMessage::default() }]);
}

/// Messages of one key, a tag each.
pub fn publish_tagged(machine: &mut Machine, key: &str, tags: &[&str]) {
    let key = Key::parse(key).unwrap();
    let one = |tag: &&str| NewMessage {
        key: Some(key.clone()),
        tag: Some(Tag::parse(tag).unwrap()),
        ..NewMessage::default()
    };
    publish_messages(machine, tags.iter().map(one).collect());
}

fn publish_messages(machine: &mut Machine, messages: Vec<NewMessage>) {
    let request = Publish { account: account(), topic: topic(), messages };
    let engine = machine.engine();
    machine.wait(async move { engine.publish(request).await }).unwrap().unwrap();
}

pub fn publish_to(machine: &mut Machine, topic: &str) -> Result<Vec<Published>, PublishError> {
    let topic = TopicRef::Name(TopicName::parse(topic).unwrap());
    let request = Publish { account: account(), topic, messages: vec![NewMessage::default()] };
    let engine = machine.engine();
    machine.wait(async move { engine.publish(request).await }).unwrap()
}

/// A publish that nobody has turned the engine for yet.
pub fn publishing(
    machine: &Machine,
    count: usize,
    body_bytes: usize,
) -> impl Future<Output = Result<Vec<Published>, PublishError>> + Send + use<> {
    let message = NewMessage { body: Bytes::from(vec![7; body_bytes]), ..NewMessage::default() };
    let request = Publish { account: account(), topic: topic(), messages: vec![message; count] };
    let engine = machine.engine();
    async move { engine.publish(request).await }
}

fn publish_all(machine: &mut Machine, count: usize, body_bytes: usize) -> Result<Vec<Published>, PublishError> {
    let mut call = Box::pin(publishing(machine, count, body_bytes));
    loop {
        // One that waits for a spare segment needs the keeper.
        if let Some(answer) = machine.wait_a_while(call.as_mut()).unwrap() {
            return answer;
        }
        let _ = machine.keep().unwrap();
    }
}

pub fn pull(machine: &mut Machine, batch_max: usize) -> Pulled {
    try_pull(machine, "g", batch_max, 60_000).unwrap()
}

/// `None`: refused.
pub fn try_pull(machine: &mut Machine, group: &str, batch_max: usize, lease_ms: u64) -> Option<Pulled> {
    let call = pulling(machine, group, batch_max, lease_ms);
    machine.wait(call).unwrap().ok()
}

/// A pull that nobody has turned the engine for yet.
pub fn pulling(
    machine: &Machine,
    group: &str,
    batch_max: usize,
    lease_ms: u64,
) -> impl Future<Output = Result<Pulled, PullError>> + Send + use<> {
    let request = pull_request(group, batch_max, lease_ms);
    let engine = machine.engine();
    async move { engine.pull(request).await }
}

pub fn pull_request(group: &str, batch_max: usize, lease_ms: u64) -> Pull {
    Pull {
        account: account(),
        topic: topic(),
        group: group_of(group),
        batch_max,
        lease: Some(Duration::from_millis(lease_ms)),
        wait: Wait::None,
        auto_ack: false,
        handles: HandleKind::None,
        filter: None,
        start: None,
    }
}

/// The messages that a pull took.
pub fn pull_as(machine: &mut Machine, request: Pull) -> Vec<Delivery> {
    let engine = machine.engine();
    machine.wait(async move { engine.pull(request).await }).unwrap().unwrap().deliveries
}

pub fn ack(machine: &mut Machine, pulled: Pulled) {
    ack_in(machine, "g", pulled);
}

/// An ack that nobody has turned the engine for yet.
pub fn acking(
    machine: &Machine,
    group: &str,
    pulled: Pulled,
) -> impl Future<Output = Result<Vec<SettleOutcome>, SettleError>> + Send + use<> {
    let items: Vec<_> =
        pulled.deliveries.into_iter().map(|one| (LeaseRef::Token(one.token), SettleAction::Ack)).collect();
    let group = Some(group_of(group));
    let request = Settle { account: account(), topic: topic(), group, items, lateness: Lateness::IfFree };
    let engine = machine.engine();
    async move { engine.settle(request).await }
}

pub fn ack_in(machine: &mut Machine, group: &str, pulled: Pulled) {
    let count = pulled.deliveries.len();
    let call = acking(machine, group, pulled);
    let outcomes = machine.wait(call).unwrap().unwrap();
    assert_eq!(outcomes, vec![SettleOutcome::Settled { count: 1 }; count]);
}

pub fn counts(machine: &mut Machine, group: &str) -> Counts {
    let (engine, group) = (machine.engine(), group_of(group));
    machine.wait(async move { engine.counts(account(), topic(), Some(group)).await }).unwrap().unwrap()
}

pub fn topic_counts(machine: &mut Machine) -> Counts {
    let engine = machine.engine();
    machine.wait(async move { engine.counts(account(), topic(), None).await }).unwrap().unwrap()
}

/// A redrive of a topic's oldest dead letters that nobody has turned the engine for yet.
pub fn redriving(
    machine: &Machine,
    from: &str,
) -> impl Future<Output = Result<RedriveReport, RedriveError>> + Send + use<> {
    let topic = TopicRef::Name(TopicName::parse(from).unwrap());
    let request = Redrive { account: account(), topic, offsets: Vec::new(), limit: 1_000 };
    let engine = machine.engine();
    async move { engine.redrive(request).await }
}

/// Has the topic keep settled messages from now on.
pub fn keep_settled(machine: &mut Machine) {
    let engine = machine.engine();
    let retention = Some(Retention { settled: Settled::Keep, ..Retention::default() });
    let patch = TopicPatch { retention, ..TopicPatch::default() };
    machine.wait(async move { engine.update_topic(account(), topic(), patch).await }).unwrap().unwrap();
}

/// How many messages of the topic can be looked at.
pub fn peek_all(machine: &mut Machine) -> u64 {
    let (mut from, mut found) = (Some(Offset::new(0)), 0);
    while let Some(at) = from {
        let request = Peek {
            account: account(),
            topic: topic(),
            group: None,
            from: at,
            limit: 1_000,
            filter: PeekFilter::default(),
        };
        let engine = machine.engine();
        let peeked = machine.wait(async move { engine.peek(request).await }).unwrap().unwrap();
        found += peeked.messages.len() as u64;
        from = peeked.next;
    }
    found
}

fn seek_to(group: &str, to: u64) -> Seek {
    let to = Start::Offset(Offset::new(to));
    Seek { account: account(), topic: topic(), group: group_of(group), to, dry_run: false }
}

pub fn seek(machine: &mut Machine, group: &str, to: u64) -> SeekReport {
    let (engine, request) = (machine.engine(), seek_to(group, to));
    machine.wait(async move { engine.seek(request).await }).unwrap().unwrap()
}

/// Whether it was answered before the machine died.
pub fn try_seek(machine: &mut Machine, group: &str, to: u64) -> bool {
    let (engine, request) = (machine.engine(), seek_to(group, to));
    machine.wait(async move { engine.seek(request).await }).is_ok_and(|answer| answer.is_ok())
}

/// Lets the keeper, the jobs and the clock go on for four seconds.
pub fn let_pass(machine: &mut Machine) {
    go_on(machine, 40);
}

/// The same for a tenth of a second.
pub fn let_pass_shortly(machine: &mut Machine) {
    go_on(machine, 1);
}

fn go_on(machine: &mut Machine, steps: u64) {
    for _ in 0..steps {
        machine.advance(100);
        machine.turn().unwrap();
        while machine.run_job(0).is_some() {
            machine.turn().unwrap();
        }
        while !matches!(machine.keep().unwrap(), Step::Idle | Step::NoSpace) {}
    }
}
