//! What is seen of a data directory, as text that a reader can check and that no change of a type in the code
//! changes: for the fixtures.

use std::fmt::Write as _;

use windlass::model::{Annotations, Group, Offset, RetryDelays, TagFilter, Topic};

use crate::scene::seen::{Probed, Seen};
use crate::scene::{Facts, Held, Known};

/// Everything, a line each.
pub fn told(seen: &Seen, probed: &Probed) -> String {
    let mut text = String::new();
    for topic in &seen.topics {
        writeln!(text, "{}", topic_line(topic)).unwrap();
    }
    for group in &seen.groups {
        let cursor = seen.cursors[&(group.topic.to_string(), group.name.to_string())];
        writeln!(text, "{} cursor={}", group_line(group), cursor.get()).unwrap();
    }
    for counts in &seen.counts {
        let (ready, in_flight, delayed) = (counts.ready, counts.in_flight, counts.delayed);
        let oldest = counts.oldest.map(|at| at.get());
        writeln!(text, "counts {ready} {in_flight} {delayed} bytes={} oldest={oldest:?}", counts.bytes).unwrap();
    }
    for ((view, offset), one) in &seen.messages {
        let head = &one.message.head;
        let place =
            format!("{}/{}/{}/{}", view.account, view.topic, view.group.as_deref().unwrap_or("-"), offset.get());
        let (key, tag) = (head.key.as_ref().map(|key| key.as_str()), head.tag.as_ref().map(|tag| tag.as_str()));
        let content_type = head.content_type.as_ref().map(|kind| kind.as_str());
        write!(text, "message {place} id={} key={key:?} tag={tag:?} type={content_type:?}", head.id.to_hex()).unwrap();
        write!(text, " properties={:?} at={} ready={}", head.properties, head.published_at.get(), head.ready_at.get())
            .unwrap();
        if let Some(origin) = &head.origin {
            let from = format!("{}/{}/{}", origin.topic, origin.group, origin.offset.get());
            let (attempts, at) = (origin.attempts.get(), origin.moved_at.get());
            write!(text, " origin={from} attempts={attempts} reason={:?} moved={at}", origin.reason).unwrap();
        }
        let state = one.state.map(|state| format!("{state:?}"));
        let body = String::from_utf8_lossy(&one.message.body);
        writeln!(text, " state={state:?} attempts={} body={} {body:?}", one.attempts.get(), body.len()).unwrap();
    }
    for record in &seen.access {
        writeln!(text, "access {record}").unwrap();
    }
    writeln!(text, "held {:?}\nspent {:?}", probed.held, probed.spent).unwrap();
    for (repeated, id) in &probed.repeated {
        writeln!(text, "repeated {repeated} {}", id.to_hex()).unwrap();
    }
    for (group, offset, attempt, body) in &probed.delivered {
        writeln!(text, "delivered {group} {} attempt={} bytes={}", offset.get(), attempt.get(), body.len()).unwrap();
    }
    text
}

fn topic_line(topic: &Topic) -> String {
    let settings = &topic.settings;
    let retention = &settings.retention;
    format!(
        "topic {}/{} id={} settled={:?} age={:?} bytes={:?} delay={:?} flow={:?} ordering={:?} compaction={:?} window={:?} \
         annotations={} created={} modified={}",
        topic.account,
        topic.name,
        topic.id.to_hex(),
        retention.settled,
        retention.age,
        retention.bytes,
        settings.delay,
        settings.flow,
        settings.ordering,
        settings.compaction,
        settings.idempotency_window,
        pairs(&settings.annotations),
        topic.created_at.get(),
        topic.modified_at.get(),
    )
}

fn group_line(group: &Group) -> String {
    let settings = &group.settings;
    let retry = match &settings.retry {
        RetryDelays::Fixed(delay) => format!("{delay:?}"),
        RetryDelays::Table(delays) => format!("{delays:?}"),
    };
    let filter = match &settings.filter {
        TagFilter::All => "*".to_owned(),
        TagFilter::AnyOf(tags) => tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>().join("||"),
    };
    format!(
        "group {}/{}/{} id={} lease={:?} retry={retry} attempts_max={:?} dead_letter={:?} pending_max={} waiting_max={} \
         filter={filter} flow={:?} annotations={} created={} modified={}",
        group.account,
        group.topic,
        group.name,
        group.id.to_hex(),
        settings.lease,
        settings.attempts_max,
        settings.dead_letter.as_ref().map(|name| name.as_str()),
        settings.pending_max,
        settings.waiting_max,
        settings.flow,
        pairs(&settings.annotations),
        group.created_at.get(),
        group.modified_at.get(),
    )
}

fn pairs(annotations: &Annotations) -> String {
    format!("{annotations:?}")
}

/// What clients hold, as text: tokens and ids of publishes.
pub fn facts_text(facts: &Facts) -> String {
    let mut text = String::new();
    for (word, tokens) in [("held", &facts.held), ("spent", &facts.spent)] {
        for one in tokens {
            writeln!(text, "{word} {} {} {}", one.topic, one.offset.get(), one.token).unwrap();
        }
    }
    for known in &facts.known {
        writeln!(text, "known {}", known.id.to_hex()).unwrap();
    }
    text
}

/// Reads it back. What was published belongs to the story: `told` has it, in order.
pub fn read_facts(text: &str, told: &Facts) -> Facts {
    let mut facts = Facts::default();
    let mut known = told.known.iter();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            [word, topic, offset, token] => {
                let topic = ["orders", "mail"].into_iter().find(|name| *name == topic).unwrap();
                let held = Held { topic, token: token.to_owned(), offset: Offset::new(offset.parse().unwrap()) };
                if word == "held" { facts.held.push(held) } else { facts.spent.push(held) }
            }
            ["known", id] => {
                let message = known.next().unwrap().message.clone();
                facts.known.push(Known { message, id: windlass::model::MessageId::parse(id).unwrap() });
            }
            _ => panic!("{line}"),
        }
    }
    facts
}
