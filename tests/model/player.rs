//! Plays a history on two engines, step by step. What an engine answers is put into words that do not
//! depend on what it draws at random: ids and handles are numbered by first appearance, tokens are
//! told by the number of their lease.

use std::collections::HashMap;
use std::fmt::Debug;

use windlass::clock::Clock;
use windlass::engine::*;
use windlass::model::*;

use crate::fixture::{Fixture, OracleFixture};
use crate::model::history::{Action, At, Draft, Pulling, Step, TOPICS, Which, tag};

/// Small ones, so that histories meet them.
const LIMITS: fn() -> Limits = || Limits { returned_max: 1, ..Limits::default() };

/// Plays `history` on an engine and on the oracle; panics at the first difference.
pub async fn compare<F: Fixture>(history: &[Step]) {
    let mut subject = Player::new(F::open(LIMITS()).await);
    let mut oracle = Player::new(OracleFixture::open(LIMITS()).await);
    for (number, step) in history.iter().enumerate() {
        let (got, expected) = (subject.play(step).await, oracle.play(step).await);
        assert_eq!(got, expected, "answers differ at step {number}: {step:?}");
        let accounts = match step.at() {
            // The other account is looked at when time passes and at the end: it costs.
            Some(at) if number + 1 < history.len() => at.account..at.account + 1,
            _ => 0..2,
        };
        for account in accounts {
            let (got, expected) = (subject.look_around(account).await, oracle.look_around(account).await);
            assert_eq!(got, expected, "what is there differs after step {number}: {step:?}");
        }
    }
}

/// A lease that was given, and where.
struct Given {
    at: At,
    token: String,
    handle: u128,
    /// The group was moved since: whether the token is unknown or settled is open.
    is_moved: bool,
}

/// An engine, and what was seen of it.
struct Player<F> {
    fixture: F,
    leases: Vec<Given>,
    /// Numbers of ids and handles, by first appearance.
    numbers: HashMap<u128, u128>,
}

impl<F: Fixture> Player<F> {
    fn new(fixture: F) -> Self {
        Self { fixture, leases: Vec::new(), numbers: HashMap::new() }
    }

    /// Does one step and says the answer.
    async fn play(&mut self, step: &Step) -> String {
        let engine = self.fixture.engine();
        match step.clone() {
            Step::CreateTopic { at, settings } => {
                let request = CreateTopic { account: account(at), name: name(at), settings };
                let made = engine.create_topic(request).await.map(|topic| self.topic(topic));
                // The error shows the topic, with its id.
                told(made.map_err(|error| match error {
                    CreateTopicError::Exists(topic) => CreateTopicError::Exists(Box::new(self.topic(*topic))),
                    other => other,
                }))
            }
            Step::UpdateTopic { at, patch } => {
                told(engine.update_topic(account(at), topic(at), patch).await.map(|topic| self.topic(topic)))
            }
            Step::DeleteTopic { at } => told(engine.delete_topic(account(at), topic(at)).await),
            Step::CreateGroup { at, settings, position } => {
                let name = GroupName::parse(&format!("g{}", at.group)).expect("a name");
                let request = CreateGroup { account: account(at), topic: topic(at), name, settings, position };
                told(engine.create_group(request).await.map(|group| self.group(group)))
            }
            Step::UpdateGroup { at, patch } => {
                let changed = engine.update_group(account(at), topic(at), group(at), patch).await;
                told(changed.map(|group| self.group(group)))
            }
            Step::DeleteGroup { at } => told(engine.delete_group(account(at), topic(at), group(at)).await),
            Step::Publish { at, batch } => {
                let messages = batch.into_iter().map(message).collect();
                let published = engine.publish(Publish { account: account(at), topic: topic(at), messages }).await;
                let number = |one: Published| Published { id: MessageId::new(self.number(one.id.get())), ..one };
                told(published.map(|all| all.into_iter().map(number).collect::<Vec<_>>()))
            }
            Step::Pull(pulling) => self.pull(pulling).await,
            Step::Settle { astray, with_group, items, lateness } => {
                self.settle(astray, with_group, items, lateness).await
            }
            Step::Peek { at, state, key: key_number, tag: tag_number, from } => {
                let filter =
                    PeekFilter { state, key: key_number.map(key), tag: tag_number.map(tag), ..PeekFilter::default() };
                self.peek(at, true, filter, Offset::new(from)).await
            }
            Step::Seek { at, to, dry_run } => self.seek(at, to, dry_run).await,
            Step::Purge { at } => told(engine.purge(account(at), topic(at)).await),
            Step::Discard { at, offsets } => {
                let offsets = offsets.into_iter().map(Offset::new).collect();
                told(engine.discard(Discard { account: account(at), topic: topic(at), offsets }).await)
            }
            Step::Redrive { at, offsets, limit } => {
                let offsets = offsets.into_iter().map(Offset::new).collect();
                told(engine.redrive(Redrive { account: account(at), topic: topic(at), offsets, limit }).await)
            }
            Step::Advance(span) => {
                self.fixture.clock().advance(span);
                String::new()
            }
            Step::Sweep => {
                engine.sweep().await;
                String::new()
            }
            Step::Restart => {
                drop(engine);
                self.fixture.restart().await;
                String::new()
            }
        }
    }

    async fn pull(&mut self, pulling: Pulling) -> String {
        let at = pulling.at;
        let request = Pull {
            account: account(at),
            topic: topic(at),
            group: group(at),
            batch_max: pulling.batch_max,
            lease: pulling.lease,
            wait: Wait::None,
            auto_ack: pulling.auto_ack,
            handles: pulling.handles,
            filter: pulling.filter,
            start: pulling.start,
        };
        let pulled = self.fixture.engine().pull(request).await;
        told(pulled.map(|pulled| {
            let deliveries: Vec<_> = pulled.deliveries.into_iter().map(|one| self.delivery(at, one)).collect();
            (deliveries, pulled.counts)
        }))
    }

    async fn settle(
        &mut self,
        astray: Option<At>,
        with_group: bool,
        items: Vec<(Which, Action)>,
        lateness: Lateness,
    ) -> String {
        let given: Vec<_> = items.iter().map(|(which, _)| self.place_of(*which)).collect();
        let first = given.iter().flatten().next().map(|place| self.leases[*place].at);
        let at = astray.or(first).unwrap_or(At { account: 0, topic: 0, group: 0 });
        let lease = |which: &Which, place: &Option<usize>| match (which, place) {
            (Which::Token(_), Some(place)) => LeaseRef::Token(self.leases[*place].token.clone()),
            (Which::Handle(_), Some(place)) => LeaseRef::Handle(self.leases[*place].handle),
            _ => LeaseRef::Token("forged".to_owned()),
        };
        let request = Settle {
            account: account(at),
            topic: topic(at),
            group: with_group.then(|| group(at)),
            items: items.iter().zip(&given).map(|((which, act), place)| (lease(which, place), action(act))).collect(),
            lateness,
        };
        let outcomes = self.fixture.engine().settle(request).await;
        let is_moved = |place: &Option<usize>| place.is_some_and(|place| self.leases[place].is_moved);
        told(outcomes.map(|outcomes| {
            let tell = |(outcome, place)| match outcome {
                SettleOutcome::Unknown | SettleOutcome::AlreadySettled if is_moved(place) => "gone".to_owned(),
                outcome => format!("{outcome:?}"),
            };
            outcomes.into_iter().zip(&given).map(tell).collect::<Vec<_>>()
        }))
    }

    /// The place among the leases given of the one that is meant.
    fn place_of(&self, which: Which) -> Option<usize> {
        match which {
            Which::Token(back) | Which::Handle(back) if !self.leases.is_empty() => {
                Some(self.leases.len() - 1 - back % self.leases.len())
            }
            _ => None,
        }
    }

    async fn seek(&mut self, at: At, to: Start, dry_run: bool) -> String {
        let request = Seek { account: account(at), topic: topic(at), group: group(at), to, dry_run };
        let report = self.fixture.engine().seek(request).await;
        if report.is_ok() && !dry_run {
            self.leases.iter_mut().filter(|lease| lease.at == at).for_each(|lease| lease.is_moved = true);
        }
        // How far a cursor got past messages that are delayed or withheld is its own affair.
        told(report.map(|report| (report.to, report.pending_dropped, report.ahead)))
    }

    /// All of a peek, page by page.
    async fn peek(&mut self, at: At, of_group: bool, filter: PeekFilter, from: Offset) -> String {
        // Pages of three, but for the look around.
        let limit = if filter == PeekFilter::default() { 100 } else { 3 };
        let group = of_group.then(|| group(at));
        let mut request = Peek { account: account(at), topic: topic(at), group, filter, from, limit };
        let mut told_pages = String::new();
        loop {
            match self.fixture.engine().peek(request.clone()).await {
                Err(error) => return told(Err::<(), _>(error)),
                Ok(page) => {
                    for mut peeked in page.messages {
                        peeked.message = self.message(peeked.message);
                        told_pages += &format!("{peeked:?}\n");
                    }
                    match page.next {
                        Some(next) => request.from = next,
                        None => return told_pages,
                    }
                }
            }
        }
    }

    /// All there is to see in an account: topics, groups, counts, and every message with its state.
    async fn look_around(&mut self, account_number: usize) -> String {
        let mut seen = format!("at {:?}\n", self.fixture.clock().wall());
        let at = At { account: account_number, topic: 0, group: 0 };
        let engine = self.fixture.engine();
        let topics = engine.topics(account(at)).await;
        let topics = topics.map(|topics| topics.into_iter().map(|topic| self.topic(topic)).collect::<Vec<_>>());
        seen += &format!("{}\n", told(topics));
        for topic_number in 0..TOPICS.len() {
            let at = At { topic: topic_number, ..at };
            seen += &format!("{}\n", told(engine.counts(account(at), topic(at), None).await));
            seen += &self.peek(at, false, PeekFilter::default(), Offset::ZERO).await;
            for group_number in 0..2 {
                let at = At { group: group_number, ..at };
                let found = engine.group(account(at), topic(at), group(at)).await;
                seen += &format!("{}\n", told(found.map(|group| self.group(group))));
                seen += &format!("{}\n", told(engine.counts(account(at), topic(at), Some(group(at))).await));
                // The messages themselves were seen above.
                seen += &self.states(at).await;
            }
        }
        seen
    }

    /// How every message stands with a group.
    async fn states(&mut self, at: At) -> String {
        let (group, filter) = (Some(group(at)), PeekFilter::default());
        let mut request =
            Peek { account: account(at), topic: topic(at), group, filter, from: Offset::ZERO, limit: 100 };
        let mut states = Vec::new();
        loop {
            let Ok(page) = self.fixture.engine().peek(request.clone()).await else { return String::new() };
            states.extend(page.messages.iter().map(|one| (one.message.head.offset, one.state, one.attempts)));
            match page.next {
                Some(next) => request.from = next,
                None => return format!("{states:?}\n"),
            }
        }
    }

    /// The number of what was drawn at random, by first appearance.
    fn number(&mut self, random: u128) -> u128 {
        let next = self.numbers.len() as u128 + 1;
        *self.numbers.entry(random).or_insert(next)
    }

    fn topic(&mut self, topic: Topic) -> Topic {
        Topic { id: TopicId::new(self.number(topic.id.get())), ..topic }
    }

    fn group(&mut self, group: Group) -> Group {
        Group { id: GroupId::new(self.number(group.id.get())), ..group }
    }

    fn message(&mut self, mut message: Message) -> Message {
        message.head.id = MessageId::new(self.number(message.head.id.get()));
        message
    }

    fn delivery(&mut self, at: At, delivery: Delivery) -> Delivery {
        let (token, handle) = (delivery.token.clone(), delivery.handle);
        let told_token = if token.is_empty() { String::new() } else { format!("lease {}", self.leases.len()) };
        if !token.is_empty() {
            self.leases.push(Given { at, token, handle, is_moved: false });
        }
        let handle = if handle == 0 { 0 } else { self.number(handle) };
        Delivery { message: self.message(delivery.message), token: told_token, handle, ..delivery }
    }
}

/// An answer in words. Of an error, what may be worded freely is left out.
fn told<T: Debug, E: Debug>(answer: Result<T, E>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => {
            let error = format!("{error:?}");
            let free = ["SettingsError", "why:", "what:"].iter().filter_map(|word| error.find(word)).min();
            error[..free.unwrap_or(error.len())].to_owned()
        }
    }
}

fn account(at: At) -> AccountName {
    AccountName::parse(["one", "two"][at.account]).expect("a name")
}

fn name(at: At) -> TopicName {
    TopicName::parse(TOPICS[at.topic]).expect("a name")
}

fn topic(at: At) -> TopicRef {
    TopicRef::Name(name(at))
}

fn group(at: At) -> GroupRef {
    GroupRef::Name(GroupName::parse(&format!("g{}", at.group)).expect("a name"))
}

fn key(number: u8) -> Key {
    Key::parse(&format!("key{number}")).expect("a key")
}

fn message(draft: Draft) -> NewMessage {
    let idempotency_key = |number| IdempotencyKey::parse(&format!("name{number}")).expect("an idempotency key");
    NewMessage {
        body: draft.body.into_bytes().into(),
        content_type: None,
        key: draft.key.map(key),
        tag: draft.tag.map(tag),
        properties: draft.property.then(|| ("p".to_owned(), "v".to_owned())).into_iter().collect(),
        delay: draft.delay,
        idempotency_key: draft.idempotency_key.map(idempotency_key),
    }
}

fn action(action: &Action) -> SettleAction {
    match action {
        Action::Ack => SettleAction::Ack,
        Action::Nack(delay) => SettleAction::Nack { delay: *delay },
        Action::Extend(lease) => SettleAction::Extend { lease: *lease },
        Action::Bury => SettleAction::Bury { reason: "no".to_owned() },
    }
}
