//! The checker must complain of each broken promise, and of nothing else.

use windlass::torture::checker::{Violation, check};
use windlass::torture::history::{
    Death, Delivery, Ending, History, Look, Outcome, Print, Publish, Settle, Spot, State, Topic, Word,
};
use windlass::torture::standing::{check_end, check_look};

const MS: u64 = 1_000;

fn topics() -> Vec<Topic> {
    let plain = Topic { name: "t", groups: &["g", "h"], per_key: true, attempts_max: None, dead: None };
    let mail = Topic { name: "mail", groups: &["g"], per_key: false, attempts_max: Some(2), dead: Some("dead") };
    let dead = Topic { name: "dead", groups: &["g"], per_key: false, attempts_max: None, dead: None };
    vec![plain, mail, dead]
}

fn spot(id: &str, offset: u64) -> Spot {
    Spot { id: Some(id.to_owned()), offset: Some(offset) }
}

fn publish(topic: &'static str, name: &str, offset: u64, begin: u64) -> Publish {
    Publish {
        topic,
        name: name.to_owned(),
        print: Print::of(name.as_bytes()),
        key: Some("k".to_owned()),
        delay: 0,
        begin,
        end: Some(begin + 10),
        spot: spot(&format!("id-{name}"), offset),
    }
}

fn deliver(publish: &Publish, group: &'static str, attempt: u32, begin: u64) -> Delivery {
    Delivery {
        topic: publish.topic,
        group,
        name: publish.name.clone(),
        print: publish.print,
        key: publish.key.clone(),
        spot: publish.spot.clone(),
        attempt: Some(attempt),
        lease: 100 * MS,
        token: format!("{}-{group}-{attempt}", publish.name),
        begin,
        end: begin + 10,
    }
}

fn settle(delivery: &Delivery, word: Word, begin: u64, outcome: Option<Outcome>) -> Settle {
    Settle {
        topic: delivery.topic,
        group: delivery.group,
        name: delivery.name.clone(),
        token: delivery.token.clone(),
        word,
        begin,
        end: outcome.map(|outcome| (begin + 10, outcome)),
    }
}

const DONE: Option<Outcome> = Some(Outcome::Done);

/// Two messages of one key, in order, through both groups: the first after a lapse, a nack and an extend
/// whose answer is lost; a third was never answered; a letter died after its second attempt.
fn good() -> History {
    let (first, second) = (publish("t", "a", 0, 0), publish("t", "b", 1, 100));
    let lost = Publish { end: None, spot: Spot::default(), ..publish("t", "lost", 9, 200) };
    let letter = publish("mail", "m", 0, 0);
    let mut history =
        History { publishes: vec![first.clone(), second.clone(), lost, letter.clone()], ..History::default() };
    for group in ["g", "h"] {
        let one = deliver(&first, group, 1, 1_000);
        let two = deliver(&first, group, 2, 150 * MS);
        let three = deliver(&first, group, 3, 250 * MS);
        let next = deliver(&second, group, 1, 300 * MS);
        history.settles.extend([
            settle(&two, Word::Nack { delay: 50 * MS }, 160 * MS, DONE),
            settle(&three, Word::Extend { lease: 500 * MS }, 251 * MS, None),
            settle(&three, Word::Ack, 260 * MS, DONE),
            settle(&next, Word::Ack, 310 * MS, None),
        ]);
        history.deliveries.extend([one, two, three, next]);
    }
    let tries = [deliver(&letter, "g", 1, 1_000), deliver(&letter, "g", 2, 200 * MS)];
    let mut grave = letter.clone();
    (grave.topic, grave.spot) = ("dead", spot("id-m", 0));
    let dead = deliver(&grave, "g", 1, 400 * MS);
    history.settles.push(settle(&tries[1], Word::Ack, 500 * MS, Some(Outcome::Gone)));
    history.settles.push(settle(&dead, Word::Ack, 600 * MS, DONE));
    history.deliveries.extend(tries);
    history.deliveries.push(dead);
    history
}

fn rules(found: &[Violation]) -> Vec<&'static str> {
    let mut rules: Vec<&str> = found.iter().map(|one| one.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

/// Plants a defect in the good history and says which rules complain.
fn planted(plant: impl FnOnce(&mut History)) -> Vec<&'static str> {
    let mut history = good();
    plant(&mut history);
    let mut found = check(&topics(), &history);
    found.extend(check_end(&topics(), &history));
    rules(&found)
}

fn delivery<'a>(history: &'a mut History, group: &str, name: &str, attempt: u32) -> &'a mut Delivery {
    let wanted = |one: &&mut Delivery| one.group == group && one.name == name && one.attempt == Some(attempt);
    history.deliveries.iter_mut().find(wanted).expect("it is in the good history")
}

#[test]
fn nothing_is_said_of_a_good_history() {
    assert_eq!(planted(|_| {}), [""; 0]);
}

#[test]
fn a_lost_message_is_seen() {
    assert_eq!(planted(|history| history.deliveries.retain(|one| (one.group, &*one.name) != ("h", "b"))), ["I1"]);
    assert_eq!(planted(|history| history.publishes.push(publish("t", "c", 2, 900))), ["I1"]);
    assert_eq!(planted(|history| history.deliveries.retain(|one| one.topic == "t")), ["I1"]);
}

#[test]
fn a_message_seen_by_one_group_exists_for_the_other() {
    let seen = |history: &mut History| {
        let mut lost = publish("t", "lost", 9, 200);
        let one = deliver(&lost, "g", 1, 700 * MS);
        lost.key = None;
        history.settles.push(settle(&one, Word::Ack, 710 * MS, DONE));
        history.deliveries.push(one);
    };
    assert_eq!(planted(seen), ["I1"]);
}

#[test]
fn a_message_that_stays_open_is_seen() {
    assert_eq!(planted(|history| history.settles.retain(|one| (one.group, &*one.name) != ("g", "b"))), ["I12"]);
    let gone = |history: &mut History| {
        let ack = history.settles.iter_mut().find(|one| (one.group, &*one.name) == ("g", "b")).expect("an ack");
        ack.end = Some((400 * MS, Outcome::Gone));
    };
    assert_eq!(planted(gone), ["I12"], "gone, and nobody had acked it");
}

#[test]
fn phantoms_changes_and_ids_used_twice_are_seen() {
    assert_eq!(planted(|history| delivery(history, "g", "b", 1).name = "phantom".to_owned()), ["I1", "I2"]);
    assert_eq!(planted(|history| delivery(history, "g", "b", 1).print = Print(1, 1)), ["I2"]);
    assert_eq!(planted(|history| delivery(history, "g", "b", 1).key = None), ["I2"]);
    assert_eq!(planted(|history| delivery(history, "g", "b", 1).spot.id = Some("id-a".to_owned())), ["I2"]);
    assert_eq!(planted(|history| delivery(history, "g", "m", 1).spot.offset = Some(7)), ["I2"]);
    let late = |history: &mut History| {
        (history.publishes[1].begin, history.publishes[1].end) = (600 * MS, Some(601 * MS));
    };
    assert_eq!(planted(late), ["I11", "I2"]);
    let twice = |history: &mut History| {
        let again = Publish { spot: spot("id-other", 5), begin: 20, end: Some(30), ..history.publishes[0].clone() };
        history.publishes.push(again);
    };
    assert_eq!(planted(twice), ["I10"], "an idempotency key that was forgotten");
    let elsewhere = |history: &mut History| {
        for one in history.deliveries.iter_mut().filter(|one| one.name == "m") {
            one.topic = "t";
        }
    };
    assert!(planted(elsewhere).contains(&"I2"));
}

#[test]
fn a_delivery_after_an_answered_ack_is_seen() {
    let again = |begin| {
        move |history: &mut History| {
            let mut again = delivery(history, "g", "a", 3).clone();
            (again.attempt, again.token, again.begin, again.end) = (Some(4), "new".to_owned(), begin, begin + 10);
            again.key = None;
            history.deliveries.push(again);
        }
    };
    assert!(planted(again(400 * MS)).contains(&"I3"));
    // It may have been under way when the ack came; here only the holder and the key speak against it.
    assert!(!planted(again(260 * MS)).contains(&"I3"));
}

#[test]
fn a_second_holder_is_seen() {
    let early = |history: &mut History| {
        let two = delivery(history, "g", "a", 2);
        (two.begin, two.end) = (50 * MS, 51 * MS);
        history.settles.retain(|one| one.word != Word::Nack { delay: 50 * MS });
    };
    assert_eq!(planted(early), ["I4"]);
    let unanswered_extend = |history: &mut History| {
        let one = delivery(history, "g", "a", 1).clone();
        history.settles.push(settle(&one, Word::Extend { lease: 1_000 * MS }, 50 * MS, None));
    };
    assert_eq!(planted(unanswered_extend), [""; 0], "it may not have come through");
    let extend = |history: &mut History| {
        let one = delivery(history, "g", "a", 1).clone();
        history.settles.push(settle(&one, Word::Extend { lease: 1_000 * MS }, 50 * MS, DONE));
    };
    assert_eq!(planted(extend), ["I4"]);
}

#[test]
fn attempts_that_do_not_grow_are_seen() {
    let repeated = |history: &mut History| delivery(history, "g", "a", 2).attempt = Some(1);
    assert_eq!(planted(repeated), ["I5"]);
    let swapped = |history: &mut History| {
        let three = delivery(history, "g", "a", 3);
        (three.begin, three.end) = (500, 600);
        delivery(history, "g", "a", 1).lease = 1;
        history.settles.retain(|one| one.name != "a" || one.group != "g" || matches!(one.word, Word::Ack));
    };
    assert!(planted(swapped).contains(&"I5"));
}

#[test]
fn a_key_out_of_order_is_seen() {
    let overtaken = |history: &mut History| {
        let next = delivery(history, "g", "b", 1);
        (next.begin, next.end) = (100, 200);
    };
    assert_eq!(planted(overtaken), ["I6"]);
    let past_a_lapse = |history: &mut History| {
        let next = delivery(history, "g", "b", 1);
        (next.begin, next.end) = (120 * MS, 121 * MS);
    };
    assert_eq!(planted(past_a_lapse), ["I6"]);
}

#[test]
fn a_dead_letter_in_two_places_is_seen() {
    let third = |history: &mut History| {
        let mut third = delivery(history, "g", "m", 2).clone();
        (third.attempt, third.token) = (Some(3), "third".to_owned());
        (third.begin, third.end) = (350 * MS, 351 * MS);
        history.deliveries.push(third);
    };
    assert_eq!(planted(third), ["I8"]);
    let source_after = |history: &mut History| {
        let two = delivery(history, "g", "m", 2);
        (two.begin, two.end) = (450 * MS, 451 * MS);
    };
    assert!(planted(source_after).contains(&"I8"));
    let acked = |history: &mut History| {
        let two = delivery(history, "g", "m", 2).clone();
        history.settles.push(settle(&two, Word::Ack, 250 * MS, DONE));
    };
    assert!(planted(acked).contains(&"I8"));
    let twice = |history: &mut History| {
        let dead = history.deliveries.iter().find(|one| one.topic == "dead").expect("the dead letter").clone();
        let (spot, token, attempt) = (spot("id-again", 1), "again".to_owned(), Some(2));
        history.deliveries.push(Delivery { spot, token, attempt, begin: 590 * MS, end: 591 * MS, ..dead });
    };
    assert_eq!(planted(twice), ["I2"]);
}

#[test]
fn a_token_that_was_forgotten_is_seen() {
    let forgotten = |history: &mut History| {
        let one = delivery(history, "g", "a", 1).clone();
        history.settles.push(settle(&one, Word::Ack, 5_000, Some(Outcome::Unknown)));
    };
    assert_eq!(planted(forgotten), ["I9"]);
}

#[test]
fn what_is_delayed_and_comes_early_is_seen() {
    assert_eq!(planted(|history| history.publishes[0].delay = 50 * MS), ["I11"]);
    assert_eq!(planted(|history| history.publishes[0].delay = MS), [""; 0]);
    let nack = |history: &mut History| {
        history.settles.iter_mut().filter(|one| one.word == Word::Nack { delay: 50 * MS }).for_each(|one| {
            one.word = Word::Nack { delay: 200 * MS };
        });
    };
    assert_eq!(planted(nack), ["I11"]);
}

#[test]
fn a_lease_that_ends_before_its_deadline_is_seen() {
    let lapsed = |begin| {
        move |history: &mut History| {
            let one = delivery(history, "g", "a", 1).clone();
            history.settles.push(settle(&one, Word::Ack, begin, Some(Outcome::Lapsed)));
        }
    };
    assert_eq!(planted(lapsed(50 * MS)), ["I9"]);
    assert_eq!(planted(lapsed(120 * MS)), [""; 0], "it had lapsed");
    let given_back = |history: &mut History| {
        let one = delivery(history, "g", "a", 1).clone();
        history.settles.push(settle(&one, Word::Nack { delay: 0 }, 10 * MS, None));
        history.settles.push(settle(&one, Word::Ack, 50 * MS, Some(Outcome::Lapsed)));
    };
    assert_eq!(planted(given_back), [""; 0], "its owner may have ended it");
}

/// Answers that only say that the request went well: within the lease they bind the server all the same.
#[test]
fn a_settle_without_an_outcome_counts_while_its_lease_ran() {
    let untold = |begin| {
        move |history: &mut History| {
            let three = delivery(history, "g", "a", 3).clone();
            history.settles.retain(|one| one.token != three.token);
            history.settles.push(settle(&three, Word::Ack, begin, Some(Outcome::Untold)));
            let token = "new".to_owned();
            let (begin, end, key) = (600 * MS, 601 * MS, None);
            history.deliveries.push(Delivery { attempt: Some(4), token, begin, end, key, ..three });
        }
    };
    assert!(planted(untold(260 * MS)).contains(&"I3"));
    assert!(!planted(untold(400 * MS)).contains(&"I3"), "the lease was over, the answer says nothing");
}

#[test]
fn a_second_holder_is_seen_without_attempts() {
    let without = |begin: u64| {
        move |history: &mut History| {
            for one in history.deliveries.iter_mut().filter(|one| (one.group, &*one.name) == ("h", "a")) {
                one.attempt = None;
            }
            let two = history.deliveries.iter_mut().find(|one| one.token == "a-h-2").expect("the second");
            (two.begin, two.end) = (begin, begin + 10);
            history.settles.retain(|one| !(one.token == "a-h-2" && matches!(one.word, Word::Nack { .. })));
        }
    };
    assert_eq!(planted(without(20 * MS)), ["I4"]);
    assert_eq!(planted(without(140 * MS)), [""; 0]);
}

#[test]
fn offsets_that_go_back_are_seen() {
    let back = |history: &mut History| {
        history.publishes[1].begin = 20;
        history.publishes[1].end = Some(30);
        for one in history.deliveries.iter_mut().filter(|one| one.name == "a") {
            one.spot.offset = Some(4);
        }
        history.publishes[0].spot.offset = Some(4);
    };
    assert!(planted(back).contains(&"I7"));
}

/// A lease of the last moment before a power cut may be forgotten, with its attempt; nothing else may.
#[test]
fn a_power_cut_forgives_the_youngest_leases_alone() {
    let cut = |death, after: u64| {
        move |history: &mut History| {
            let one = delivery(history, "g", "a", 1).clone();
            history.publishes.retain(|one| one.name != "lost");
            history.endings.push(Ending { at: one.end + after, death });
            let again = Delivery { token: "again".to_owned(), begin: 30 * MS, end: 31 * MS, ..one.clone() };
            history.deliveries.push(again);
            history.settles.push(settle(&one, Word::Ack, 40 * MS, Some(Outcome::Unknown)));
        }
    };
    assert_eq!(planted(cut(Death::PowerCut, MS)), [""; 0]);
    assert_eq!(planted(cut(Death::PowerCut, 20 * MS)), ["I4", "I5", "I9"], "it was old enough");
    assert_eq!(planted(cut(Death::Kill, MS)), ["I4", "I5", "I9"], "what was written survives a kill");
    let slow = |sent: u64| {
        move |history: &mut History| {
            cut(Death::PowerCut, 20 * MS)(history);
            let waits = Publish { begin: sent, end: None, spot: Spot::default(), ..publish("t", "waits", 7, 0) };
            history.publishes.push(waits);
        }
    };
    assert_eq!(planted(slow(2 * MS)), [""; 0], "the disk was behind: a request from about then had no answer");
    assert_eq!(planted(slow(15 * MS)), ["I4", "I5", "I9"], "it was not that far behind");
    let answered_late = |took: u64| {
        move |history: &mut History| {
            cut(Death::PowerCut, 20 * MS)(history);
            let begin = 2 * MS;
            history.publishes.push(Publish { begin, end: Some(begin + took), ..publish("t", "late", 7, 0) });
            history.deliveries.push(deliver(&publish("t", "late", 7, 0), "g", 1, 800 * MS));
            history.deliveries.push(deliver(&publish("t", "late", 7, 0), "h", 1, 800 * MS));
        }
    };
    assert!(!planted(answered_late(16 * MS)).contains(&"I5"), "so long does a sync take there");
    assert!(planted(answered_late(4 * MS)).contains(&"I5"), "it was over by then");
    // The second lease came during the sync of what gave the first one back.
    let numbers_again = |after: u64, given_back: Option<Outcome>| {
        move |history: &mut History| {
            let one = delivery(history, "g", "a", 1).clone();
            history.publishes.retain(|one| one.name != "lost");
            history.settles.push(settle(&one, Word::Nack { delay: 0 }, one.end + 1, given_back));
            let two = delivery(history, "g", "a", 2);
            (two.begin, two.end) = (one.end + MS, one.end + 2 * MS);
            let at = two.end + after;
            history.endings.push(Ending { at, death: Death::PowerCut });
            let again = Delivery { token: "again".to_owned(), begin: at + MS, end: at + 2 * MS, ..one };
            history.deliveries.push(again);
        }
    };
    assert!(!planted(numbers_again(MS, None)).iter().any(|rule| ["I4", "I5"].contains(rule)));
    assert!(planted(numbers_again(20 * MS, DONE)).contains(&"I5"), "it was old enough");
    let read_late = |history: &mut History| {
        let at = delivery(history, "h", "b", 1).begin + 1;
        history.endings.push(Ending { at, death: Death::PowerCut });
        history.forget_answers_after(at);
        // The answers of what went on with the lost disk: none of them is expected to hold.
        history.settles.retain(|one| one.begin < at || one.name == "b");
    };
    let found = planted(read_late);
    assert!(!found.contains(&"I1"), "an ack of a later life shows that it had come: {found:?}");
    let lost = |history: &mut History| {
        let at = history.publishes[1].begin + 11;
        history.endings.push(Ending { at, death: Death::PowerCut });
        history.deliveries.retain(|one| one.name != "b");
    };
    assert_eq!(planted(lost), ["I1"], "an answered publish is never forgiven");
}

/// What a look at a server would show after the good history's first 255 milliseconds.
fn good_look() -> Look {
    let mut look = Look::default();
    for group in ["g", "h"] {
        let messages = ["a", "b"].map(|name| (name.to_owned(), (Print::of(name.as_bytes()), State::Open)));
        look.groups.insert(("t", group), messages.into());
    }
    look.groups.insert(("mail", "g"), [("m".to_owned(), (Print::of(b"m"), State::Open))].into());
    look.groups.insert(("dead", "g"), [].into());
    look.dead_before.insert("dead", Vec::new());
    look
}

fn looked(before: u64, plant: impl FnOnce(&mut Look)) -> Vec<&'static str> {
    let mut look = good_look();
    plant(&mut look);
    rules(&check_look(&topics(), &good(), &look, before, before))
}

#[test]
fn a_look_at_a_server_shows_losses_and_returns() {
    let before = 255 * MS;
    assert_eq!(looked(before, |_| {}), [""; 0]);
    assert_eq!(looked(before, |look| drop(look.groups.insert(("t", "g"), [].into()))), ["I1"]);
    assert_eq!(looked(before, |look| drop(look.groups.insert(("mail", "g"), [].into()))), ["I1"]);
    let settle = |look: &mut Look| {
        look.groups.get_mut(&("t", "g")).expect("a group").get_mut("b").expect("a message").1 = State::Settled;
    };
    assert_eq!(looked(before, settle), ["I1"], "settled, and nobody acked it");
    assert_eq!(looked(500 * MS, |_| {}), ["I3"], "the first message was acked by then");
    let change = |look: &mut Look| {
        look.groups.get_mut(&("t", "g")).expect("a group").get_mut("a").expect("a message").0 = Print(0, 0);
    };
    assert_eq!(looked(before, change), ["I2"]);
    let phantom = |look: &mut Look| {
        let message = ("phantom".to_owned(), (Print(0, 0), State::Open));
        look.groups.get_mut(&("t", "g")).expect("a group").extend([message]);
    };
    assert_eq!(looked(before, phantom), ["I2"]);
    let counted = |count| move |look: &mut Look| look.counts.extend([(("t", "g"), count)]);
    assert_eq!(looked(before, counted(2)), [""; 0]);
    assert_eq!(looked(before, counted(3)), ["I13"]);
    let both = |look: &mut Look| look.dead_before.get_mut("dead").expect("a topic").push("m".to_owned());
    assert_eq!(looked(before, both), ["I8"]);
}
