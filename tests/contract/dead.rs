//! Dead letters and their way back.

use windlass::engine::*;
use windlass::model::*;

use super::bench::*;

const NOTHING: [&str; 0] = [];

/// Topic `t` whose group `g` gives up after two attempts, into topic `dead`.
async fn two_attempts<F: Fixture>() -> Bench<F> {
    Bench::ready_with(
        |_| {},
        |group| {
            group.attempts_max = Some(2);
            group.dead_letter = Some(topic_name("dead"));
        },
    )
    .await
}

/// Buries whatever group `g` of topic `t` can get.
async fn bury_all<F: Fixture>(bench: &mut Bench<F>) {
    for delivery in bench.take("t", "g", 100).await {
        assert_eq!(bench.act(&delivery, bury("no")).await, DONE);
    }
}

pub async fn the_last_nack_moves_a_message_to_the_dead_letters<F: Fixture>() {
    let mut bench = two_attempts::<F>().await;
    let at = bench.now();
    bench.publish("t", &["x"]).await;
    let mut properties = std::collections::BTreeMap::new();
    properties.insert("p".to_owned(), "v".to_owned());
    let content_type = Some(ContentType::parse("text/plain").unwrap());
    let new = NewMessage { key: key("k"), tag: tag("t"), properties, content_type, ..message("a") };
    let published = bench.send("t", new).await;
    let first = bench.take("t", "g", 2).await.pop().unwrap();
    bench.later(secs(1));
    assert_eq!(bench.nack(&first).await, DONE);
    let last = bench.take_one("t", "g").await;
    assert_eq!(bench.topics().await, ["t"]);
    assert_eq!(bench.nack(&last).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    let dead = bench.kept("dead").await;
    let [dead] = dead.as_slice() else { panic!("one dead letter, not {}", dead.len()) };
    let head = &dead.head;
    assert_eq!((head.id, head.offset, text(dead)), (published.id, Offset::ZERO, "a".to_owned()));
    assert_eq!((head.published_at, head.ready_at), (at, at));
    let before = &first.message.head;
    assert_eq!((&head.key, &head.tag), (&before.key, &before.tag));
    assert_eq!((&head.properties, &head.content_type), (&before.properties, &before.content_type));
    let origin = Origin {
        topic: topic_name("t"),
        group: group_name("g"),
        offset: Offset::new(1),
        attempts: Attempt::new(2),
        reason: "attempts".to_owned(),
        moved_at: at.after(secs(1)),
    };
    assert_eq!(head.origin, Some(origin));
    assert_eq!(bench.kept_bodies("t").await, ["x"]);
}

pub async fn the_dead_letter_topic_is_made_with_default_settings<F: Fixture>() {
    let mut bench = two_attempts::<F>().await;
    bench.publish("t", &["a"]).await;
    bury_all(&mut bench).await;
    let made = bench.engine().await.topic(account(), topic("dead")).await.unwrap();
    assert_eq!((made.settings, made.account), (TopicSettings::default(), account()));
}

pub async fn a_lapse_of_the_last_lease_moves_a_message_with_nobody_pulling<F: Fixture>() {
    let mut bench = two_attempts::<F>().await;
    bench.publish("t", &["a"]).await;
    bench.take_one("t", "g").await;
    bench.later(secs(30));
    let last = bench.take_one("t", "g").await;
    bench.later(secs(30));
    bench.sweep().await;
    assert_eq!(bench.kept_bodies("dead").await, ["a"]);
    assert_eq!(bench.ack(&last).await, SettleOutcome::AlreadySettled);
    assert_eq!(bench.tally("t", "g").await, (0, 0, 0));
}

pub async fn a_bury_moves_a_message_at_any_attempt_with_its_reason<F: Fixture>() {
    let mut bench = two_attempts::<F>().await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.act(&held, bury(&"r".repeat(1_024))).await, DONE);
    let origin = bench.kept("dead").await[0].head.origin.clone().unwrap();
    assert_eq!((origin.reason, origin.attempts), ("r".repeat(1_024), Attempt::new(1)));
    assert_eq!(bench.ack(&held).await, SettleOutcome::AlreadySettled);
}

pub async fn without_a_dead_letter_topic_a_message_is_discarded_and_counted<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.attempts_max = Some(1)).await;
    bench.settle_down();
    bench.publish("t", &["a", "b", "c", "d"]).await;
    let held = bench.take("t", "g", 4).await;
    assert_eq!(bench.nack(&held[0]).await, DONE);
    assert_eq!(bench.act(&held[1], bury("no")).await, DONE);
    assert_eq!(bench.ack(&held[2]).await, DONE);
    bench.later(secs(30));
    bench.sweep().await;
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.kept_bodies("t").await, NOTHING);
    let status = bench.group_status("t", "g").await;
    assert_eq!((status.delivered, status.acked, status.discarded, status.dead_lettered), (4, 1, 3, 0));
    assert_eq!((status.nacked, status.lapsed), (1, 1));
}

pub async fn attempts_begin_anew_among_the_dead_letters<F: Fixture>() {
    let mut bench = two_attempts::<F>().await;
    bench.publish("t", &["a"]).await;
    bury_all(&mut bench).await;
    bench.group("dead", "undertaker").await;
    let dead = bench.take_one("dead", "undertaker").await;
    assert_eq!(dead.attempt, Attempt::new(1));
    assert_eq!(dead.message.head.offset, Offset::ZERO);
}

pub async fn a_dead_letter_of_one_group_is_not_one_of_another<F: Fixture>() {
    let mut bench = two_attempts::<F>().await;
    bench.group("t", "h").await;
    bench.publish("t", &["a"]).await;
    bury_all(&mut bench).await;
    assert_eq!(bench.take_bodies("t", "h").await, ["a"]);
    assert_eq!(bench.kept_bodies("t").await, ["a"]);
    assert_eq!(bench.kept_bodies("dead").await, ["a"]);
}

pub async fn a_dead_letter_is_ready_at_once_whatever_delay_it_had<F: Fixture>() {
    let mut bench = two_attempts::<F>().await;
    bench.topic_with("dead", |topic| topic.delay = secs(100)).await;
    bench.group("dead", "undertaker").await;
    bench.send("t", delayed(secs(5), "a")).await;
    bench.later(secs(5));
    bury_all(&mut bench).await;
    let dead = bench.take_one("dead", "undertaker").await.message.head;
    assert_eq!(dead.ready_at, dead.published_at);
}

pub async fn a_group_may_not_bury_in_its_own_topic<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let own = Some(topic_name("t"));
    let settings = GroupSettings { dead_letter: own.clone(), ..GroupSettings::default() };
    let refused = bench.try_group("t", "h", settings, Position::Now(Start::Head)).await.unwrap_err();
    assert!(matches!(refused, CreateGroupError::Settings(SettingsError { field: "dead_letter", .. })), "{refused:?}");
    let patch = GroupPatch { dead_letter: Some(own), ..GroupPatch::default() };
    let refused = bench.patch_group("t", "g", patch).await.unwrap_err();
    assert!(matches!(refused, UpdateGroupError::Settings(SettingsError { field: "dead_letter", .. })), "{refused:?}");
}

pub async fn a_lowered_limit_of_attempts_counts_at_the_next_nack<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.dead_letter = Some(topic_name("dead"))).await;
    bench.publish("t", &["a"]).await;
    for _ in 0..3 {
        let held = bench.take_one("t", "g").await;
        assert_eq!(bench.nack(&held).await, DONE);
    }
    let patch = GroupPatch { attempts_max: Some(Some(2)), ..GroupPatch::default() };
    bench.patch_group("t", "g", patch).await.unwrap();
    let held = bench.take_one("t", "g").await;
    assert_eq!(held.attempt, Attempt::new(4));
    assert_eq!(bench.nack(&held).await, DONE);
    assert_eq!(bench.kept_bodies("dead").await, ["a"]);
}

pub async fn dead_letters_survive_a_restart<F: Fixture>() {
    let mut bench = two_attempts::<F>().await;
    bench.publish("t", &["a", "b"]).await;
    bench.take("t", "g", 2).await;
    bench.later(secs(30));
    bench.restart().await;
    let held = bench.take("t", "g", 2).await;
    assert_eq!(bench.nack(&held[0]).await, DONE);
    let before = bench.kept("dead").await;
    bench.restart().await;
    assert_eq!(bench.kept("dead").await, before);
    bench.later(secs(30));
    bench.restart().await;
    assert_eq!(bench.kept_bodies("dead").await, ["a", "b"]);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
}

pub async fn a_redriven_message_goes_home_to_all_groups<F: Fixture>() {
    let mut bench = two_attempts::<F>().await;
    bench.group("t", "h").await;
    let published = bench.publish("t", &["a", "b"]).await;
    bury_all(&mut bench).await;
    bench.pull(Pull { auto_ack: true, ..pull("t", "h", 2) }).await.unwrap();
    bench.group("dead", "undertaker").await;
    let held = bench.take_one("dead", "undertaker").await;
    assert_eq!(bench.redrive("dead", vec![], 100).await, RedriveReport { moved: 2, left: 0 });
    assert_eq!(bench.ack_in("dead", "undertaker", &held).await, SettleOutcome::AlreadySettled);
    assert_eq!(bench.kept_bodies("dead").await, NOTHING);
    assert_eq!(bench.tally("dead", "undertaker").await, (0, 0, 0));
    for group in ["g", "h"] {
        let again = bench.take("t", group, 10).await;
        assert_eq!(bodies(&again), ["a", "b"]);
        for (number, delivery) in again.iter().enumerate() {
            let head = &delivery.message.head;
            assert_eq!((head.id, head.offset), (published[number].id, Offset::new(2 + number as u64)));
            assert_eq!((&head.origin, delivery.attempt), (&None, Attempt::new(1)));
        }
    }
}

pub async fn a_redrive_leaves_what_has_no_home<F: Fixture>() {
    let mut bench = two_attempts::<F>().await;
    bench.topic("gone").await;
    bench.group_with("gone", "g", |group| group.dead_letter = Some(topic_name("dead"))).await;
    bench.publish("gone", &["homeless"]).await;
    let held = bench.take_one("gone", "g").await;
    let items = vec![(Named::from(&held).0, bury("no"))];
    bench.settle(settle("gone", "g", items)).await.unwrap();
    bench.publish("dead", &["native"]).await;
    bench.publish("t", &["a"]).await;
    bury_all(&mut bench).await;
    bench.engine().await.delete_topic(account(), topic("gone")).await.unwrap();
    assert_eq!(bench.redrive("dead", vec![], 1).await, RedriveReport { moved: 1, left: 2 }, "it goes on past them");
    assert_eq!(bench.kept_bodies("dead").await, ["homeless", "native"]);
    assert_eq!(bench.take_bodies("t", "g").await, ["a"]);
}

pub async fn a_redrive_moves_the_oldest_up_to_its_limit<F: Fixture>() {
    let mut bench = two_attempts::<F>().await;
    bench.publish("t", &["a", "b", "c"]).await;
    bury_all(&mut bench).await;
    assert_eq!(bench.redrive("dead", vec![], 2).await.moved, 2);
    assert_eq!(bench.kept_bodies("dead").await, ["c"]);
    assert_eq!(bench.take_bodies("t", "g").await, ["a", "b"]);
}

pub async fn a_redrive_of_chosen_offsets_moves_only_those<F: Fixture>() {
    let mut bench = two_attempts::<F>().await;
    bench.publish("t", &["a", "b", "c"]).await;
    bury_all(&mut bench).await;
    let report = bench.redrive("dead", offsets(&[1, 77]), 100).await;
    assert_eq!(report, RedriveReport { moved: 1, left: 0 });
    assert_eq!(bench.kept_bodies("dead").await, ["a", "c"]);
    assert_eq!(bench.take_bodies("t", "g").await, ["b"]);
}

pub async fn a_redrive_out_of_bounds_is_refused<F: Fixture>() {
    let mut bench = two_attempts::<F>().await;
    for limit in [0, bounds::PULL_BATCH_MAX + 1] {
        let refused = bench.engine().await.redrive(redrive("t", vec![], limit)).await;
        assert!(matches!(refused, Err(RedriveError::Bounds(_))), "{limit}");
    }
    let refused = bench.engine().await.redrive(redrive("dead", vec![], 1)).await;
    assert_eq!(refused, Err(RedriveError::Lookup(LookupError::NoSuchTopic)));
}

pub async fn a_redrive_survives_a_restart<F: Fixture>() {
    let mut bench = two_attempts::<F>().await;
    bench.publish("t", &["a", "b"]).await;
    bury_all(&mut bench).await;
    bench.redrive("dead", vec![], 1).await;
    bench.restart().await;
    assert_eq!(bench.kept_bodies("dead").await, ["b"]);
    assert_eq!(bench.take_bodies("t", "g").await, ["a"]);
}
