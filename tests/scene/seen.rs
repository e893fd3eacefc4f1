//! All that an engine shows of the story, and what clients can still do with what they hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use windlass::engine::{
    Counts, Engine, HandleKind, Lateness, LeaseRef, Peek, PeekError, PeekFilter, Peeked, PeekedMessage, Publish, Pull,
    Seek, Settle, SettleAction, SettleOutcome, Wait,
};
use windlass::model::{AccessKind, AccountName, Attempt, Group, GroupRef, MessageId, Offset, Start, Topic, TopicRef};

use crate::scene::{Facts, Stage, account, other_account};

/// Everything there is to see. The cursors are those that a seek would leave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Seen {
    pub topics: Vec<Topic>,
    pub groups: Vec<Group>,
    pub cursors: BTreeMap<(String, String), Offset>,
    pub counts: Vec<Counts>,
    pub messages: BTreeMap<Place, PeekedMessage>,
    pub access: Vec<String>,
    /// What the engine could not read, and what it said.
    pub unreadable: BTreeMap<Place, String>,
}

/// Who looks at what; without a group it is the topic's own view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct View {
    pub account: String,
    pub topic: String,
    pub group: Option<String>,
}

pub type Place = (View, Offset);

impl Seen {
    /// The same without the messages at these places, in every view.
    pub fn without(&self, places: &BTreeMap<Place, String>) -> Self {
        let mut rest = self.clone();
        rest.messages.retain(|place, _| !places.contains_key(place));
        rest
    }
}

/// Looks at everything.
pub fn look(stage: &mut impl Stage) -> Seen {
    look_for(stage, None)
}

/// Looks at everything, and goes on where a message does not read. `expected` says where there are some.
pub fn look_for(stage: &mut impl Stage, expected: Option<&Seen>) -> Seen {
    let mut seen = Seen::default();
    for account in [account(), other_account()] {
        let (engine, whose) = (stage.engine(), account.clone());
        for topic in stage.wait(async move { engine.topics(whose).await }).unwrap() {
            look_at_topic(stage, &account, &topic, expected, &mut seen);
            seen.topics.push(topic);
        }
    }
    for record in stage.engine().access().records.values() {
        let secret = match &record.kind {
            AccessKind::Token { sha256 } => format!("{sha256:?}"),
            AccessKind::AccessKey { sealed_secret } => format!("{sealed_secret:?}"),
        };
        seen.access.push(format!("{record:?} {secret}"));
    }
    seen
}

fn look_at_topic(
    stage: &mut impl Stage,
    account: &AccountName,
    topic: &Topic,
    expected: Option<&Seen>,
    seen: &mut Seen,
) {
    let name = TopicRef::Name(topic.name.clone());
    let (engine, whose, of) = (stage.engine(), account.clone(), name.clone());
    let groups = stage.wait(async move { engine.groups(whose, of).await }).unwrap();
    for group in [None].into_iter().chain(groups.iter().map(Some)) {
        let group_ref = group.map(|group| GroupRef::Name(group.name.clone()));
        let (engine, whose, of, whom) = (stage.engine(), account.clone(), name.clone(), group_ref.clone());
        seen.counts.push(stage.wait(async move { engine.counts(whose, of, whom).await }).unwrap());
        let view = View {
            account: account.to_string(),
            topic: topic.name.to_string(),
            group: group.map(|group| group.name.to_string()),
        };
        look_at_messages(stage, &view, expected, seen);
        if let (Some(group), Some(group_ref)) = (group, group_ref) {
            let engine = stage.engine();
            let seek = Seek {
                account: account.clone(),
                topic: name.clone(),
                group: group_ref,
                to: Start::Tail,
                dry_run: true,
            };
            let report = stage.wait(async move { engine.seek(seek).await }).unwrap();
            seen.cursors.insert((topic.name.to_string(), group.name.to_string()), report.from);
        }
    }
    seen.groups.extend(groups);
}

/// One page holds all of it. If that page does not read, the messages that are expected are read one by one.
fn look_at_messages(stage: &mut impl Stage, place: &View, expected: Option<&Seen>, seen: &mut Seen) {
    match peek(stage, place, Offset::ZERO, 1_000) {
        Ok(page) => {
            assert_eq!(page.next, None, "the story is short");
            for one in page.messages {
                seen.messages.insert((place.clone(), one.message.head.offset), one);
            }
        }
        Err(why) => {
            let expected = expected.unwrap_or_else(|| panic!("{why}"));
            for at in expected.messages.keys().filter(|(view, _)| view == place) {
                match peek(stage, place, at.1, 1) {
                    Ok(page) => {
                        let one = page.messages.into_iter().next().expect("a message that was there");
                        seen.messages.insert((place.clone(), one.message.head.offset), one);
                    }
                    Err(why) => drop(seen.unreadable.insert(at.clone(), why)),
                }
            }
        }
    }
}

fn peek(stage: &mut impl Stage, place: &View, from: Offset, limit: usize) -> Result<Peeked, String> {
    let engine = stage.engine();
    let peek = Peek {
        account: AccountName::parse(&place.account).unwrap(),
        topic: crate::scene::topic(&place.topic),
        group: place.group.as_ref().map(|name| crate::scene::group(name)),
        filter: PeekFilter::default(),
        from,
        limit,
    };
    match stage.wait(async move { engine.peek(peek).await }) {
        Err(PeekError::Unreadable(why)) => Err(why),
        other => Ok(other.unwrap()),
    }
}

/// What clients find when they go on: outcomes of the tokens that they hold and of those they have used, answers
/// to repeated publishes, and everything that each group still delivers, in order, with its attempt.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Probed {
    pub held: Vec<SettleOutcome>,
    pub spent: Vec<SettleOutcome>,
    pub repeated: Vec<(bool, MessageId)>,
    pub delivered: Vec<(String, Offset, Attempt, Vec<u8>)>,
}

/// Goes on where the clients were. Changes nearly everything.
pub fn probe(stage: &mut impl Stage, facts: &Facts) -> Probed {
    let mut probed = Probed::default();
    for (tokens, outcomes) in [(&facts.spent, &mut probed.spent), (&facts.held, &mut probed.held)] {
        for held in tokens {
            let engine = stage.engine();
            let request = Settle {
                account: account(),
                topic: crate::scene::topic(held.topic),
                group: None,
                items: vec![(LeaseRef::Token(held.token.clone()), SettleAction::Ack)],
                lateness: Lateness::default(),
            };
            outcomes.extend(stage.wait(async move { engine.settle(request).await }).unwrap());
        }
    }
    for known in &facts.known {
        let engine = stage.engine();
        let messages = vec![known.message.clone()];
        let request = Publish { account: account(), topic: crate::scene::topic("orders"), messages };
        let published = stage.wait(async move { engine.publish(request).await }).unwrap();
        probed.repeated.push((published[0].repeated, published[0].id));
    }
    for (of, name) in [("orders", "billing"), ("orders", "audit"), ("orders", "later"), ("mail", "send")] {
        let engine: Arc<dyn Engine> = stage.engine();
        let request = Pull {
            account: account(),
            topic: crate::scene::topic(of),
            group: crate::scene::group(name),
            batch_max: 1_000,
            lease: None,
            wait: Wait::None,
            auto_ack: true,
            handles: HandleKind::None,
            filter: None,
            start: None,
        };
        for one in stage.wait(async move { engine.pull(request).await }).unwrap().deliveries {
            probed.delivered.push((name.to_owned(), one.message.head.offset, one.attempt, one.message.body.to_vec()));
        }
    }
    probed
}
