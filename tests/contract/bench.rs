//! The work bench of the rules: an engine, its clock, and short words for its operations.

use std::sync::Arc;
use std::time::{Duration, Instant};

use windlass::clock::{Clock, ManualClock};
use windlass::engine::*;
use windlass::model::*;

pub use crate::fixture::Fixture;

/// Holds an implementer to its word about restarts: it is restarted before every operation of every rule
/// (but not while a pull waits, or where a rule looks at totals since the start of the process).
pub struct Restless<F>(F);

impl<F: Fixture> Fixture for Restless<F> {
    const RESTLESS: bool = true;

    async fn open(limits: Limits) -> Self {
        Self(F::open(limits).await)
    }

    fn engine(&self) -> Arc<dyn Engine> {
        self.0.engine()
    }

    fn clock(&self) -> &ManualClock {
        self.0.clock()
    }

    async fn restart(&mut self) {
        self.0.restart().await;
    }
}

/// A pull that waits in the background.
pub struct Waiting(tokio::task::JoinHandle<Result<Pulled, PullError>>);

impl Waiting {
    /// Its answer, which must come without further help.
    pub async fn answer(self) -> Result<Pulled, PullError> {
        let answer = tokio::time::timeout(Duration::from_secs(20), self.0).await;
        answer.expect("the pull should have been answered").expect("the pull should not panic")
    }

    /// The bodies it was answered with.
    pub async fn bodies(self) -> Vec<String> {
        bodies(&self.answer().await.expect("the pull should succeed").deliveries)
    }

    /// Hangs up.
    pub async fn hang_up(self) {
        self.0.abort();
        assert!(self.0.await.is_err_and(|error| error.is_cancelled()), "the pull should have been waiting still");
    }
}

/// An engine at work. Names are plain text; everything is in the standard account.
pub struct Bench<F> {
    fixture: F,
    restless: bool,
}

impl<F: Fixture> Bench<F> {
    pub async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub async fn with(limits: Limits) -> Self {
        Self { fixture: F::open(limits).await, restless: F::RESTLESS }
    }

    /// With topic `t` and its group `g`, both with default settings, the group at the head.
    pub async fn ready() -> Self {
        Self::ready_with(|_| {}, |_| {}).await
    }

    /// With topic `t` and its group `g`, the group at the head.
    pub async fn ready_with(topic: impl FnOnce(&mut TopicSettings), group: impl FnOnce(&mut GroupSettings)) -> Self {
        let mut bench = Self::new().await;
        bench.topic_with("t", topic).await;
        bench.group_with("t", "g", group).await;
        bench
    }

    /// The engine, for one operation.
    pub async fn engine(&mut self) -> Arc<dyn Engine> {
        if self.restless {
            self.fixture.restart().await;
        }
        self.fixture.engine()
    }

    /// No more restarts but those the rule asks for.
    pub fn settle_down(&mut self) {
        self.restless = false;
    }

    pub async fn restart(&mut self) {
        self.fixture.restart().await;
    }

    /// Lets time pass. The engine is not told.
    pub fn later(&self, span: Duration) {
        self.fixture.clock().advance(span);
    }

    pub fn now(&self) -> Millis {
        self.fixture.clock().wall()
    }

    pub fn clock(&self) -> &ManualClock {
        self.fixture.clock()
    }

    pub async fn sweep(&mut self) {
        self.engine().await.sweep().await;
    }

    pub async fn topic(&mut self, name: &str) -> Topic {
        self.topic_with(name, |_| {}).await
    }

    pub async fn topic_with(&mut self, name: &str, change: impl FnOnce(&mut TopicSettings)) -> Topic {
        let mut settings = TopicSettings::default();
        change(&mut settings);
        let request = CreateTopic { account: account(), name: topic_name(name), settings };
        self.engine().await.create_topic(request).await.expect("the topic should be made")
    }

    pub async fn patch_topic(&mut self, name: &str, patch: TopicPatch) -> Result<Topic, UpdateTopicError> {
        self.engine().await.update_topic(account(), topic(name), patch).await
    }

    pub async fn group(&mut self, topic: &str, name: &str) -> Group {
        self.group_with(topic, name, |_| {}).await
    }

    pub async fn group_with(&mut self, topic: &str, name: &str, change: impl FnOnce(&mut GroupSettings)) -> Group {
        let mut settings = GroupSettings::default();
        change(&mut settings);
        let position = Position::Now(Start::Head);
        self.try_group(topic, name, settings, position).await.expect("the group should be made")
    }

    pub async fn group_at(&mut self, topic: &str, name: &str, position: Position) -> Group {
        self.try_group(topic, name, GroupSettings::default(), position).await.expect("the group should be made")
    }

    pub async fn try_group(
        &mut self,
        name: &str,
        group: &str,
        settings: GroupSettings,
        position: Position,
    ) -> Result<Group, CreateGroupError> {
        let name = topic(name);
        let request = CreateGroup { account: account(), topic: name, name: group_name(group), settings, position };
        self.engine().await.create_group(request).await
    }

    pub async fn patch_group(&mut self, name: &str, of: &str, patch: GroupPatch) -> Result<Group, UpdateGroupError> {
        self.engine().await.update_group(account(), topic(name), group(of), patch).await
    }

    /// Publishes bodies, in one batch.
    pub async fn publish(&mut self, topic: &str, bodies: &[&str]) -> Vec<Published> {
        let messages = bodies.iter().map(|body| message(body)).collect();
        self.try_publish(topic, messages).await.expect("the batch should be published")
    }

    /// Publishes one message.
    pub async fn send(&mut self, topic: &str, message: NewMessage) -> Published {
        self.try_publish(topic, vec![message]).await.expect("the message should be published")[0]
    }

    /// Publishes a body under a key, in one batch each.
    pub async fn send_keyed(&mut self, topic: &str, pairs: &[(&str, &str)]) {
        for (key, body) in pairs {
            self.send(topic, keyed(key, body)).await;
        }
    }

    pub async fn try_publish(&mut self, name: &str, messages: Vec<NewMessage>) -> Result<Vec<Published>, PublishError> {
        self.engine().await.publish(Publish { account: account(), topic: topic(name), messages }).await
    }

    pub async fn pull(&mut self, pull: Pull) -> Result<Pulled, PullError> {
        self.engine().await.pull(pull).await
    }

    /// Takes up to `max` messages.
    pub async fn take(&mut self, topic: &str, group: &str, max: usize) -> Vec<Delivery> {
        self.pull(pull(topic, group, max)).await.expect("the pull should succeed").deliveries
    }

    /// Takes the one message that must be there.
    pub async fn take_one(&mut self, topic: &str, group: &str) -> Delivery {
        self.take(topic, group, 1).await.pop().expect("there should be a message")
    }

    /// Takes up to a hundred messages and says their bodies.
    pub async fn take_bodies(&mut self, topic: &str, group: &str) -> Vec<String> {
        bodies(&self.take(topic, group, 100).await)
    }

    /// Starts a pull that has to wait; returns once it does.
    pub async fn wait_for(&mut self, pull: Pull) -> Waiting {
        self.settle_down();
        let before = self.waiting(&pull).await;
        let engine = self.engine().await;
        let request = pull.clone();
        let waiting = Waiting(tokio::spawn(async move { engine.pull(request).await }));
        self.until_waiting(&pull, before + 1).await;
        waiting
    }

    /// How many pulls wait in the group of `pull`.
    pub async fn waiting(&mut self, pull: &Pull) -> u64 {
        let status = self.engine().await.status().await;
        let is_topic = |status: &&TopicStatus| status.topic.clone().map(TopicRef::Name) == Some(pull.topic.clone());
        let is_group = |status: &&GroupStatus| status.group.clone().map(GroupRef::Name) == Some(pull.group.clone());
        let topic = status.topics.iter().find(is_topic).expect("the topic should have a status");
        topic.groups.iter().find(is_group).expect("the group should have a status").waiting
    }

    /// Returns when `count` pulls wait in the group of `pull`. Other threads do the work: real time passes.
    pub async fn until_waiting(&mut self, pull: &Pull, count: u64) {
        let patience = Instant::now() + Duration::from_secs(20);
        while self.waiting(pull).await != count {
            assert!(Instant::now() < patience, "{count} pulls should be waiting, not {}", self.waiting(pull).await);
            tokio::task::yield_now().await;
        }
    }

    pub async fn settle(&mut self, settle: Settle) -> Result<Vec<SettleOutcome>, SettleError> {
        self.engine().await.settle(settle).await
    }

    /// Settles one lease in group `g` of topic `t`, `IfFree`.
    pub async fn act(&mut self, lease: impl Into<Named>, action: SettleAction) -> SettleOutcome {
        self.act_if(Lateness::IfFree, lease, action).await
    }

    pub async fn act_if(&mut self, lateness: Lateness, lease: impl Into<Named>, action: SettleAction) -> SettleOutcome {
        let settle = Settle { lateness, ..settle("t", "g", vec![(lease.into().0, action)]) };
        self.settle(settle).await.expect("the settle should be accepted")[0]
    }

    /// Acks in group `g` of topic `t`.
    pub async fn ack(&mut self, lease: impl Into<Named>) -> SettleOutcome {
        self.act(lease, SettleAction::Ack).await
    }

    /// Nacks in group `g` of topic `t`, with the group's own delay.
    pub async fn nack(&mut self, lease: impl Into<Named>) -> SettleOutcome {
        self.act(lease, NACK).await
    }

    /// Acks in any topic and group.
    pub async fn ack_in(&mut self, topic: &str, group: &str, lease: impl Into<Named>) -> SettleOutcome {
        let items = vec![(lease.into().0, SettleAction::Ack)];
        self.settle(settle(topic, group, items)).await.expect("the settle should be accepted")[0]
    }

    /// The names of all topics.
    pub async fn topics(&mut self) -> Vec<String> {
        let topics = self.engine().await.topics(account()).await.expect("topics can always be listed");
        topics.iter().map(|topic| topic.name.to_string()).collect()
    }

    pub async fn counts(&mut self, topic_name: &str, of: &str) -> Counts {
        let counts = self.engine().await.counts(account(), topic(topic_name), Some(group(of))).await;
        counts.expect("the group should be there")
    }

    pub async fn topic_counts(&mut self, name: &str) -> Counts {
        self.engine().await.counts(account(), topic(name), None).await.expect("the topic should be there")
    }

    /// Ready, in flight and delayed messages of a group.
    pub async fn tally(&mut self, topic: &str, group: &str) -> (u64, u64, u64) {
        let counts = self.counts(topic, group).await;
        (counts.ready, counts.in_flight, counts.delayed)
    }

    /// All messages a peek shows, page by page.
    pub async fn peek_all(&mut self, mut peek: Peek) -> Vec<PeekedMessage> {
        let mut messages = Vec::new();
        loop {
            let page = self.engine().await.peek(peek.clone()).await.expect("the peek should be accepted");
            assert!(page.messages.len() <= peek.limit);
            messages.extend(page.messages);
            match page.next {
                Some(next) => {
                    assert!(next > peek.from, "the pages of a peek should go on");
                    peek.from = next;
                }
                None => return messages,
            }
        }
    }

    /// Everything kept in a topic.
    pub async fn kept(&mut self, topic: &str) -> Vec<Message> {
        self.peek_all(peek(topic, None)).await.into_iter().map(|peeked| peeked.message).collect()
    }

    /// The bodies of everything kept in a topic.
    pub async fn kept_bodies(&mut self, topic: &str) -> Vec<String> {
        self.kept(topic).await.iter().map(text).collect()
    }

    pub async fn seek(&mut self, to: Start) -> SeekReport {
        self.engine().await.seek(seek("t", "g", to)).await.expect("the group should be there")
    }

    pub async fn redrive(&mut self, topic: &str, offsets: Vec<Offset>, limit: usize) -> RedriveReport {
        let request = redrive(topic, offsets, limit);
        self.engine().await.redrive(request).await.expect("the redrive should be accepted")
    }

    pub async fn group_status(&mut self, topic: &str, group: &str) -> GroupStatus {
        let status = self.engine().await.status().await;
        let topic_name = Some(topic_name(topic));
        let topic = status.topics.into_iter().find(|status| status.topic == topic_name).expect("a status of the topic");
        let name = Some(group_name(group));
        topic.groups.into_iter().find(|status| status.group == name).expect("a status of the group")
    }
}

/// A lease, by whatever names it.
pub struct Named(pub LeaseRef);

impl From<&Delivery> for Named {
    fn from(delivery: &Delivery) -> Self {
        Self(LeaseRef::Token(delivery.token.clone()))
    }
}

impl From<u128> for Named {
    fn from(handle: u128) -> Self {
        Self(LeaseRef::Handle(handle))
    }
}

impl From<&str> for Named {
    fn from(token: &str) -> Self {
        Self(LeaseRef::Token(token.to_owned()))
    }
}

pub const NACK: SettleAction = SettleAction::Nack { delay: None };
pub const DONE: SettleOutcome = SettleOutcome::Settled { count: 1 };

pub fn nack_after(delay: Duration) -> SettleAction {
    SettleAction::Nack { delay: Some(delay) }
}

pub fn extend(lease: Duration) -> SettleAction {
    SettleAction::Extend { lease }
}

pub fn bury(reason: &str) -> SettleAction {
    SettleAction::Bury { reason: reason.to_owned() }
}

pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn account() -> AccountName {
    AccountName::standard()
}

pub fn other_account() -> AccountName {
    AccountName::parse("other").unwrap()
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

pub fn group_name(name: &str) -> GroupName {
    GroupName::parse(name).unwrap()
}

pub fn topic(name: &str) -> TopicRef {
    TopicRef::Name(topic_name(name))
}

pub fn group(name: &str) -> GroupRef {
    GroupRef::Name(group_name(name))
}

pub fn key(name: &str) -> Option<Key> {
    Some(Key::parse(name).unwrap())
}

pub fn tag(name: &str) -> Option<Tag> {
    Some(Tag::parse(name).unwrap())
}

pub fn filter(text: &str) -> TagFilter {
    TagFilter::parse(text).unwrap()
}

pub fn message(body: &str) -> NewMessage {
    NewMessage { body: body.as_bytes().to_vec().into(), ..NewMessage::default() }
}

pub fn keyed(name: &str, body: &str) -> NewMessage {
    NewMessage { key: key(name), ..message(body) }
}

pub fn tagged(name: &str, body: &str) -> NewMessage {
    NewMessage { tag: tag(name), ..message(body) }
}

pub fn delayed(delay: Duration, body: &str) -> NewMessage {
    NewMessage { delay: Some(delay), ..message(body) }
}

pub fn named(name: &str, body: &str) -> NewMessage {
    NewMessage { idempotency_key: Some(IdempotencyKey::parse(name).unwrap()), ..message(body) }
}

pub fn pull(topic_name: &str, group_name: &str, batch_max: usize) -> Pull {
    Pull {
        account: account(),
        topic: topic(topic_name),
        group: group(group_name),
        batch_max,
        lease: None,
        wait: Wait::None,
        auto_ack: false,
        handles: HandleKind::None,
        filter: None,
        start: None,
    }
}

/// A pull from group `g` of topic `t` that waits up to a minute for any message.
pub fn patient(batch_max: usize) -> Pull {
    Pull { wait: Wait::Any(secs(60)), ..pull("t", "g", batch_max) }
}

pub fn settle(topic_name: &str, group_name: &str, items: Vec<(LeaseRef, SettleAction)>) -> Settle {
    let group = Some(group(group_name));
    Settle { account: account(), topic: topic(topic_name), group, items, lateness: Lateness::IfFree }
}

pub fn peek(topic_name: &str, of: Option<&str>) -> Peek {
    Peek {
        account: account(),
        topic: topic(topic_name),
        group: of.map(group),
        filter: PeekFilter::default(),
        from: Offset::ZERO,
        limit: 100,
    }
}

pub fn seek(topic_name: &str, group_name: &str, to: Start) -> Seek {
    Seek { account: account(), topic: topic(topic_name), group: group(group_name), to, dry_run: false }
}

pub fn redrive(name: &str, offsets: Vec<Offset>, limit: usize) -> Redrive {
    Redrive { account: account(), topic: topic(name), offsets, limit }
}

pub fn text(message: &Message) -> String {
    String::from_utf8(message.body.to_vec()).unwrap()
}

pub fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| text(&delivery.message)).collect()
}

pub fn offsets(numbers: &[u64]) -> Vec<Offset> {
    numbers.iter().copied().map(Offset::new).collect()
}
