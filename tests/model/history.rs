//! The steps of a history and how they are drawn: few accounts, topics, groups, keys and instants, so
//! that they meet often.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;
use windlass::engine::{HandleKind, Lateness, MessageState, Position};
use windlass::model::*;

/// Names of the topics of each account. Dead letters go to the last.
pub const TOPICS: [&str; 3] = ["t", "u", "dead"];

/// A group of a topic of an account, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    pub account: usize,
    pub topic: usize,
    pub group: usize,
}

/// What a message is made of.
#[derive(Debug, Clone)]
pub struct Draft {
    pub body: String,
    pub key: Option<u8>,
    pub tag: Option<u8>,
    pub delay: Option<Duration>,
    pub idempotency_key: Option<u8>,
    pub property: bool,
}

/// A lease to settle: the number is taken modulo the leases given so far.
#[derive(Debug, Clone, Copy)]
pub enum Which {
    Token(usize),
    Handle(usize),
    Forged,
}

#[derive(Debug, Clone)]
pub enum Action {
    Ack,
    Nack(Option<Duration>),
    Extend(Duration),
    Bury,
}

/// One step of a history.
#[derive(Debug, Clone)]
pub enum Step {
    CreateTopic {
        at: At,
        settings: TopicSettings,
    },
    UpdateTopic {
        at: At,
        patch: TopicPatch,
    },
    DeleteTopic {
        at: At,
    },
    CreateGroup {
        at: At,
        settings: GroupSettings,
        position: Position,
    },
    UpdateGroup {
        at: At,
        patch: GroupPatch,
    },
    DeleteGroup {
        at: At,
    },
    Publish {
        at: At,
        batch: Vec<Draft>,
    },
    Pull(Pulling),
    /// In the group that gave the first lease named, or astray in the one given.
    Settle {
        astray: Option<At>,
        with_group: bool,
        items: Vec<(Which, Action)>,
        lateness: Lateness,
    },
    Peek {
        at: At,
        state: Option<MessageState>,
        key: Option<u8>,
        tag: Option<u8>,
        from: u64,
    },
    Seek {
        at: At,
        to: Start,
        dry_run: bool,
    },
    Purge {
        at: At,
    },
    Discard {
        at: At,
        offsets: Vec<u64>,
    },
    Redrive {
        at: At,
        offsets: Vec<u64>,
        limit: usize,
    },
    Advance(Duration),
    Sweep,
    Restart,
}

impl Step {
    /// Where it happens; `None` if anywhere.
    pub fn at(&self) -> Option<At> {
        match self {
            Self::CreateTopic { at, .. }
            | Self::UpdateTopic { at, .. }
            | Self::DeleteTopic { at }
            | Self::CreateGroup { at, .. }
            | Self::UpdateGroup { at, .. }
            | Self::DeleteGroup { at }
            | Self::Publish { at, .. }
            | Self::Pull(Pulling { at, .. })
            | Self::Peek { at, .. }
            | Self::Seek { at, .. }
            | Self::Purge { at }
            | Self::Discard { at, .. }
            | Self::Redrive { at, .. } => Some(*at),
            Self::Settle { .. } | Self::Advance(_) | Self::Sweep | Self::Restart => None,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Pulling {
    pub at: At,
    pub batch_max: usize,
    pub lease: Option<Duration>,
    pub auto_ack: bool,
    pub handles: HandleKind,
    pub filter: Option<TagFilter>,
    pub start: Option<Start>,
}

/// Every topic and group is made, then anything happens.
pub fn history() -> impl Strategy<Value = Vec<Step>> {
    let places = |account| {
        (0..TOPICS.len())
            .flat_map(move |topic| (0..2).map(move |group| At { account, topic, group }))
            .collect::<Vec<_>>()
    };
    let made: Vec<_> = (0..2).flat_map(places).map(make).collect();
    (made, vec(step(), 1..80)).prop_map(|(made, steps)| made.into_iter().flatten().chain(steps).collect())
}

/// Makes a topic along with its first group, or its second group.
fn make(at: At) -> impl Strategy<Value = Vec<Step>> {
    (topic_settings(), group_settings(), position()).prop_map(move |(topic, settings, position)| {
        let group = Step::CreateGroup { at, settings, position };
        if at.group == 0 { vec![Step::CreateTopic { at, settings: topic }, group] } else { vec![group] }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (at(), vec(draft(), 1..5)).prop_map(|(at, batch)| Step::Publish { at, batch }),
        40 => pulling().prop_map(Step::Pull),
        40 => settle(),
        25 => advance().prop_map(Step::Advance),
        5 => Just(Step::Sweep),
        8 => Just(Step::Restart),
        5 => peek(),
        4 => (at(), start(), any::<bool>()).prop_map(|(at, to, dry_run)| Step::Seek { at, to, dry_run }),
        1 => at().prop_map(|at| Step::Purge { at }),
        4 => (at(), offsets()).prop_map(|(at, offsets)| Step::Discard { at, offsets }),
        5 => redrive(),
        4 => (at(), topic_patch()).prop_map(|(at, patch)| Step::UpdateTopic { at, patch }),
        6 => (at(), group_patch()).prop_map(|(at, patch)| Step::UpdateGroup { at, patch }),
        2 => (at(), topic_settings()).prop_map(|(at, settings)| Step::CreateTopic { at, settings }),
        1 => at().prop_map(|at| Step::DeleteTopic { at }),
        3 => (at(), group_settings(), position())
            .prop_map(|(at, settings, position)| Step::CreateGroup { at, settings, position }),
        1 => at().prop_map(|at| Step::DeleteGroup { at }),
    ]
}

fn at() -> impl Strategy<Value = At> {
    let account = prop_oneof![5 => Just(0), 1 => Just(1)];
    let topic = prop_oneof![5 => Just(0), 2 => Just(1), 2 => Just(2)];
    (account, topic, 0..2usize).prop_map(|(account, topic, group)| At { account, topic, group })
}

fn draft() -> impl Strategy<Value = Draft> {
    let body = prop_oneof![3 => "[a-d]", 1 => "[a-z]{0,12}"];
    (body, of(0..3u8), of(0..3u8), weighted(0.3, delay()), weighted(0.3, 0..2u8), weighted(0.2, Just(()))).prop_map(
        |(body, key, tag, delay, idempotency_key, property)| Draft {
            body,
            key,
            tag,
            delay,
            idempotency_key,
            property: property.is_some(),
        },
    )
}

fn pulling() -> impl Strategy<Value = Pulling> {
    let handles = prop_oneof![Just(HandleKind::None), Just(HandleKind::PerMessage), Just(HandleKind::PerBatch)];
    let filter = weighted(0.1, filter());
    let start = weighted(0.2, start());
    (at(), 1..6usize, of(lease()), weighted(0.1, Just(())), handles, filter, start).prop_map(
        |(at, batch_max, lease, auto_ack, handles, filter, start)| {
            let auto_ack = auto_ack.is_some();
            Pulling { at, batch_max, lease, auto_ack, handles, filter, start }
        },
    )
}

fn settle() -> impl Strategy<Value = Step> {
    // Newer leases are more likely worth something: they are counted from the last one given.
    let number = || prop_oneof![4 => 0..4usize, 1 => 0..100usize];
    let which = prop_oneof![
        12 => number().prop_map(Which::Token),
        6 => number().prop_map(Which::Handle),
        1 => Just(Which::Forged)
    ];
    let action = prop_oneof![
        5 => Just(Action::Ack),
        2 => Just(Action::Nack(None)),
        2 => delay().prop_map(|delay| Action::Nack(Some(delay))),
        2 => lease().prop_map(Action::Extend),
        1 => Just(Action::Bury),
    ];
    let lateness = prop_oneof![Just(Lateness::Refuse), Just(Lateness::IfFree), Just(Lateness::AckAlways)];
    (weighted(0.05, at()), weighted(0.2, Just(())), vec((which, action), 1..4), lateness).prop_map(
        |(astray, without_group, items, lateness)| {
            let with_group = without_group.is_none();
            Step::Settle { astray, with_group, items, lateness }
        },
    )
}

fn peek() -> impl Strategy<Value = Step> {
    let state = prop_oneof![
        Just(MessageState::Ready),
        Just(MessageState::InFlight),
        Just(MessageState::Delayed),
        Just(MessageState::Settled)
    ];
    (at(), of(state), weighted(0.3, 0..3u8), weighted(0.3, 0..3u8), 0..10u64)
        .prop_map(|(at, state, key, tag, from)| Step::Peek { at, state, key, tag, from })
}

fn redrive() -> impl Strategy<Value = Step> {
    let dead = at().prop_map(|at| At { topic: TOPICS.len() - 1, ..at });
    let offsets = prop_oneof![2 => Just(vec![]), 1 => offsets()];
    (prop_oneof![4 => dead, 1 => at()], offsets, 1..5usize).prop_map(|(at, offsets, limit)| Step::Redrive {
        at,
        offsets,
        limit,
    })
}

fn offsets() -> impl Strategy<Value = Vec<u64>> {
    vec(0..15u64, 1..4)
}

fn delay() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(0u64), Just(1), Just(1_000), Just(5_000), Just(20_000)].prop_map(Duration::from_millis)
}

fn lease() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(1u64), Just(1_000), Just(5_000), Just(30_000)].prop_map(Duration::from_millis)
}

fn advance() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(1u64), Just(999), Just(1_000), Just(5_000), Just(15_000), Just(40_000)]
        .prop_map(Duration::from_millis)
}

fn start() -> impl Strategy<Value = Start> {
    // The manual clock starts in 2026.
    let time = (0..40u64).prop_map(|secs| Start::Time(Millis::new(1_767_225_600_000 + secs * 1_000)));
    prop_oneof![
        4 => Just(Start::Head),
        2 => Just(Start::Tail),
        2 => (0..15u64).prop_map(|offset| Start::Offset(Offset::new(offset))),
        1 => time,
    ]
}

fn position() -> impl Strategy<Value = Position> {
    prop_oneof![3 => Just(Position::Now(Start::Head)), 1 => start().prop_map(Position::Now), 1 => start().prop_map(Position::FirstPull)]
}

fn filter() -> impl Strategy<Value = TagFilter> {
    let tags = vec(0..3u8, 1..3).prop_map(|tags| TagFilter::AnyOf(tags.into_iter().map(tag).collect()));
    prop_oneof![1 => Just(TagFilter::All), 2 => tags]
}

/// The tag with this number.
pub fn tag(number: u8) -> Tag {
    Tag::parse(&format!("tag{number}")).expect("a tag")
}

fn flow() -> impl Strategy<Value = Flow> {
    prop_oneof![4 => Just(Flow::Running), 1 => Just(Flow::Paused)]
}

fn retention() -> impl Strategy<Value = Retention> {
    let settled = prop_oneof![3 => Just(Settled::Drop), 1 => Just(Settled::Keep)];
    let age = weighted(0.2, prop_oneof![Just(Duration::from_secs(10)), Just(Duration::from_secs(45))]);
    let bytes = weighted(0.2, 1..40u64);
    (settled, age, bytes).prop_map(|(settled, age, bytes)| Retention { settled, age, bytes })
}

fn ordering() -> impl Strategy<Value = Ordering> {
    prop_oneof![3 => Just(Ordering::None), 2 => Just(Ordering::PerKey), 1 => Just(Ordering::Strict)]
}

fn compaction() -> impl Strategy<Value = Compaction> {
    prop_oneof![2 => Just(Compaction::None), 1 => Just(Compaction::LatestPerKey)]
}

fn topic_settings() -> impl Strategy<Value = TopicSettings> {
    (retention(), weighted(0.1, delay()), ordering(), compaction()).prop_map(
        |(retention, delay, ordering, compaction)| TopicSettings {
            retention,
            delay: delay.unwrap_or_default(),
            ordering,
            compaction,
            idempotency_window: Duration::from_secs(5),
            ..TopicSettings::default()
        },
    )
}

fn topic_patch() -> impl Strategy<Value = TopicPatch> {
    let name = weighted(0.1, (0..TOPICS.len()).prop_map(|topic| TopicName::parse(TOPICS[topic]).expect("a name")));
    (name, of(retention()), of(delay()), of(flow()), weighted(0.2, ordering()), weighted(0.2, compaction())).prop_map(
        |(name, retention, delay, flow, ordering, compaction)| TopicPatch {
            name,
            retention,
            delay,
            flow,
            ordering,
            compaction,
            ..TopicPatch::default()
        },
    )
}

fn retry() -> impl Strategy<Value = RetryDelays> {
    let table = || vec![Duration::from_secs(1), Duration::from_secs(4)];
    prop_oneof![
        2 => Just(RetryDelays::Fixed(Duration::ZERO)),
        1 => delay().prop_map(RetryDelays::Fixed),
        1 => Just(RetryDelays::Table(table())),
    ]
}

fn dead_letter() -> impl Strategy<Value = Option<TopicName>> {
    weighted(0.7, Just(TopicName::parse(TOPICS[TOPICS.len() - 1]).expect("a name")))
}

fn group_settings() -> impl Strategy<Value = GroupSettings> {
    let pending_max = prop_oneof![2 => Just(10_000), 1 => 1..5u32];
    let filter = prop_oneof![4 => Just(TagFilter::All), 1 => filter()];
    (lease(), retry(), weighted(0.5, 1..4u32), dead_letter(), pending_max, filter).prop_map(
        |(lease, retry, attempts_max, dead_letter, pending_max, filter)| GroupSettings {
            lease,
            retry,
            attempts_max,
            dead_letter,
            pending_max,
            filter,
            ..GroupSettings::default()
        },
    )
}

fn group_patch() -> impl Strategy<Value = GroupPatch> {
    let attempts_max = of(weighted(0.5, 1..4u32));
    (of(retry()), attempts_max, of(dead_letter()), of(1..5u32), of(filter()), of(flow())).prop_map(
        |(retry, attempts_max, dead_letter, pending_max, filter, flow)| GroupPatch {
            retry,
            attempts_max,
            dead_letter,
            pending_max,
            filter,
            flow,
            ..GroupPatch::default()
        },
    )
}
