//! What was answered, in a model of its own: written without a look at the engine's rules.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use windlass::disk::sim::Dice;

/// Something that was answered, was not asked, or was asked and not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Tri {
    #[default]
    No,
    Maybe,
    Yes,
}

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Not answered yet.
    Open,
    /// Answered, or seen: it is there with this id.
    Is(u128),
    /// Refused, or a restart showed that it never was.
    Never,
    /// It was never seen, but somebody may have settled it unseen.
    Unseen,
}

/// A message as it was to be published.
#[derive(Debug, Clone)]
pub struct Spec {
    pub topic: String,
    pub key: Option<String>,
    pub tag: Option<String>,
    pub delay: u64,
    pub idempotency: Option<String>,
    pub fate: Fate,
}

/// A lease that was answered.
#[derive(Debug, Clone)]
pub struct Lease {
    pub token: String,
    /// On the clock of leases; a lower bound.
    pub deadline: u64,
    /// A power cut cannot take it.
    pub sure: bool,
    pub turn: u64,
    pub given_at: u64,
}

/// How a copy stands with a group.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    pub settled: Tri,
    /// It was given up: buried, or nacked at its last attempt.
    pub dying: Tri,
    pub attempts: u32,
    pub attempts_sure: u32,
    pub lease: Option<Lease>,
    /// Tokens of before.
    pub old: Vec<String>,
    /// Log clock.
    pub not_before: u64,
}

/// One message in one place.
#[derive(Debug, Clone)]
pub struct Copy {
    pub id: u128,
    pub mark: u64,
    /// Log clock.
    pub ready_at: u64,
    pub delayed: bool,
    /// Purged, discarded, redriven.
    pub gone: Tri,
    /// Topic, group, offset it was a dead letter of.
    pub origin: Option<(String, String, u64)>,
}

#[derive(Debug, Clone, Default)]
pub struct GroupModel {
    pub attempts_max: Option<u32>,
    pub dead_letter: bool,
    pub exists: Tri,
    pub standings: BTreeMap<u64, Standing>,
    /// Offsets below were published before it.
    pub from: u64,
    /// Pulls whose answers nobody saw.
    pub unseen_pulls: u32,
    /// One of them settled what it took.
    pub unseen_acks: bool,
    pub cursor: u64,
    pub seek: Tri,
    /// Where the last seek that was answered went.
    pub sought: u64,
    /// It was moved at some time: what had been settled may come again.
    pub moved: bool,
}

#[derive(Debug, Clone, Default)]
pub struct TopicModel {
    pub exists: Tri,
    pub per_key: bool,
    pub keeps: bool,
    /// Its oldest messages go by themselves.
    pub trims: bool,
    pub purge: Tri,
    pub copies: BTreeMap<u64, Copy>,
    pub groups: BTreeMap<String, GroupModel>,
    /// The next publish gets at least this offset.
    pub tail: u64,
    /// Redriven messages that were not seen yet.
    pub incoming: Vec<(u128, Tri)>,
    /// A group that is gone may have ended messages that nobody has seen.
    pub ended_unseen: bool,
}

impl TopicModel {
    /// Messages may have come and gone unseen.
    pub fn may_have_ended_unseen(&self) -> bool {
        self.ended_unseen || self.groups.values().any(|group| group.unseen_acks)
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub topics: BTreeMap<String, TopicModel>,
    pub specs: Vec<Spec>,
    pub ids: HashMap<u128, u64>,
    /// Batches that were not answered: all of one or nothing.
    pub open_batches: Vec<Vec<u64>>,
    pub unsure: Vec<(String, String, u64)>,
    pub names: u64,
    /// The first counter that was off: reported when nothing worse turns up.
    pub miscount: Option<String>,
}

/// The dead-letter topic of all groups that have one.
pub const DEAD: &str = "dead";

thread_local! {
    /// How many times the usual size the bodies of this thread's history have.
    pub static BODY_SCALE: std::cell::Cell<u64> = const { std::cell::Cell::new(1) };
}

/// The body of a message: its mark, and bytes that follow from it.
pub fn body_of(mark: u64) -> Bytes {
    let mut dice = Dice::new(mark ^ 0x0b0d_1e55);
    let len = match dice.below(10) {
        0 => 2_000 + dice.below(4_000),
        1..=3 => dice.below(1_500),
        _ => dice.below(100),
    };
    let len = (len * BODY_SCALE.get()).min(6_000);
    let mut body = mark.to_le_bytes().to_vec();
    let fill = dice.roll().to_le_bytes();
    body.extend((0..len as usize).map(|place| fill[place % 8] ^ (place / 8) as u8));
    body.into()
}

/// The mark of a body that is whole.
pub fn mark_of(body: &[u8]) -> Option<u64> {
    let mark = u64::from_le_bytes(body.get(..8)?.try_into().ok()?);
    (body_of(mark) == body).then_some(mark)
}

impl GroupModel {
    /// Nobody may have seen how a message was taken and settled, used up its attempts, or was passed by a seek.
    pub fn may_have_ended_some(&self) -> bool {
        let used_up = self.attempts_max.is_some_and(|max| self.unseen_pulls >= max);
        self.unseen_acks || used_up || self.seek != Tri::No
    }

    pub fn standing(&mut self, offset: u64) -> &mut Standing {
        self.standings.entry(offset).or_default()
    }
}

impl World {
    pub fn group(&mut self, topic: &str, group: &str) -> Option<&mut GroupModel> {
        self.topics.get_mut(topic)?.groups.get_mut(group)
    }

    /// A group has not settled this message yet, as far as anybody knows.
    pub fn is_unsettled(&self, mark: u64) -> bool {
        self.topics.values().any(|topic| {
            topic.copies.iter().filter(|(_, copy)| copy.mark == mark && copy.gone == Tri::No).any(|(offset, _)| {
                let groups = topic.groups.values().filter(|group| group.exists == Tri::Yes);
                let standing =
                    |group: &GroupModel| group.standings.get(offset).is_none_or(|one| one.settled == Tri::No);
                groups.into_iter().any(standing)
            })
        })
    }

    /// Leases that were answered before this turn are durable: something later was.
    pub fn sure_before(&mut self, turn: u64) {
        self.make_sure(|lease| lease.turn < turn);
    }

    /// Leases older than 5 ms have been synced by a turn that came after.
    pub fn sure_by_time(&mut self, now: u64) {
        self.make_sure(|lease| lease.given_at + 5 <= now);
    }

    fn make_sure(&mut self, is_sure: impl Fn(&Lease) -> bool) {
        let mut unsure = std::mem::take(&mut self.unsure);
        unsure.retain(|(topic, group, offset)| {
            let Some(group) = self.group(topic, group) else { return false };
            let standing = group.standing(*offset);
            let Some(lease) = standing.lease.as_mut().filter(|lease| !lease.sure) else { return false };
            if is_sure(lease) {
                lease.sure = true;
                standing.attempts_sure = standing.attempts;
                return false;
            }
            true
        });
        self.unsure = unsure;
    }

    /// The dead letters that the model knows of a message.
    pub fn dead_of(&self, topic: &str, group: &str, offset: u64) -> bool {
        let origin = Some((topic.to_owned(), group.to_owned(), offset));
        self.topics.get(DEAD).is_some_and(|dead| dead.copies.values().any(|copy| copy.origin == origin))
    }
}
