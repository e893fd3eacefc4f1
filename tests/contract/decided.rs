//! Rules where the design left a choice and the oracle made one.

use windlass::engine::*;
use windlass::model::*;

use super::bench::*;

const NOTHING: [&str; 0] = [];

pub async fn a_nacked_token_counts_as_lapsed_and_free<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.act(&held, nack_after(secs(5))).await, DONE);
    assert_eq!(bench.act_if(Lateness::Refuse, &held, SettleAction::Ack).await, SettleOutcome::Lapsed);
    assert_eq!(bench.act(&held, nack_after(secs(9))).await, SettleOutcome::SettledLate);
    bench.later(secs(8));
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.ack(&held).await, SettleOutcome::SettledLate);
    assert_eq!(bench.tally("t", "g").await, (0, 0, 0));
}

pub async fn a_token_of_before_a_seek_is_not_free_when_a_later_lease_lapses<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let old = bench.take_one("t", "g").await;
    bench.seek(Start::Head).await;
    bench.take_one("t", "g").await;
    bench.later(secs(30));
    for action in [SettleAction::Ack, nack_after(secs(50)), extend(secs(50)), bury("no")] {
        let outcome = bench.act_if(Lateness::AckAlways, &old, action).await;
        assert!(matches!(outcome, SettleOutcome::Unknown | SettleOutcome::AlreadySettled), "{outcome:?}");
    }
    assert_eq!(bench.tally("t", "g").await, (1, 0, 0));
}

pub async fn a_lease_given_again_to_an_old_token_carries_no_newer_handle<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let old = bench.take_one("t", "g").await;
    bench.later(secs(30));
    let request = Pull { handles: HandleKind::PerMessage, ..pull("t", "g", 1) };
    let new = bench.pull(request).await.unwrap().deliveries.pop().unwrap();
    bench.later(secs(30));
    assert_eq!(bench.act(&old, extend(secs(50))).await, SettleOutcome::SettledLate);
    assert_eq!(bench.ack(new.handle).await, SettleOutcome::Unknown);
    assert_eq!(bench.ack(&old).await, DONE);
}

pub async fn a_lease_given_again_by_its_handle_keeps_it<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let request = Pull { handles: HandleKind::PerMessage, ..pull("t", "g", 1) };
    let held = bench.pull(request).await.unwrap().deliveries.pop().unwrap();
    bench.later(secs(30));
    assert_eq!(bench.act(held.handle, extend(secs(50))).await, SettleOutcome::SettledLate);
    bench.restart().await;
    assert_eq!(bench.ack(held.handle).await, DONE);
}

pub async fn a_handle_of_before_a_seek_is_unknown<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let request = Pull { handles: HandleKind::PerBatch, ..pull("t", "g", 1) };
    let held = bench.pull(request).await.unwrap().deliveries.pop().unwrap();
    bench.seek(Start::Head).await;
    assert_eq!(bench.ack(held.handle).await, SettleOutcome::Unknown);
    bench.take_one("t", "g").await;
    assert_eq!(bench.ack(held.handle).await, SettleOutcome::Unknown);
}

pub async fn an_auto_ack_stays_under_the_cap_in_each_batch<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.pending_max = 2).await;
    bench.publish("t", &["a", "b", "c"]).await;
    let request = Pull { auto_ack: true, ..pull("t", "g", 10) };
    assert_eq!(bodies(&bench.pull(request.clone()).await.unwrap().deliveries), ["a", "b"]);
    assert_eq!(bodies(&bench.pull(request).await.unwrap().deliveries), ["c"]);
}

pub async fn a_full_batch_leaves_the_tags_behind_it_unlooked_at<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.filter = filter("x")).await;
    bench.try_publish("t", vec![tagged("z", "a"), tagged("x", "b"), tagged("z", "c")]).await.unwrap();
    assert_eq!(bodies(&bench.take("t", "g", 1).await), ["b"]);
    assert_eq!(bench.tally("t", "g").await, (1, 1, 0));
    assert_eq!(bench.kept_bodies("t").await, ["b", "c"]);
}

pub async fn at_the_cap_no_tag_is_passed_over<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(
        |_| {},
        |group| {
            group.filter = filter("x");
            group.pending_max = 1;
        },
    )
    .await;
    bench.try_publish("t", vec![tagged("x", "a"), tagged("z", "b"), tagged("x", "c")]).await.unwrap();
    assert_eq!(bench.take_bodies("t", "g").await, ["a"]);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.tally("t", "g").await, (2, 1, 0));
}

pub async fn a_withheld_message_is_judged_by_the_filter_of_the_pull_that_looks<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.ordering = Ordering::PerKey, |_| {}).await;
    let both = |key_name: &str, tag_name: &str, body: &str| NewMessage { tag: tag(tag_name), ..keyed(key_name, body) };
    let batch = vec![both("k", "x", "a"), both("k", "y", "b"), both("k", "x", "c")];
    bench.try_publish("t", batch).await.unwrap();
    let held = bench.take("t", "g", 10).await;
    assert_eq!(bodies(&held), ["a"]);
    let request = Pull { filter: Some(filter("x")), ..pull("t", "g", 10) };
    assert_eq!(bodies(&bench.pull(request).await.unwrap().deliveries), NOTHING);
    assert_eq!(bench.tally("t", "g").await, (1, 1, 0), "the unwanted one is passed over though withheld");
    assert_eq!(bench.ack(&held[0]).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["c"]);
}

pub async fn in_strict_order_a_returned_message_the_pull_does_not_want_blocks_it<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.ordering = Ordering::Strict, |_| {}).await;
    bench.try_publish("t", vec![tagged("x", "a"), tagged("y", "b")]).await.unwrap();
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.nack(&held).await, DONE);
    let request = Pull { filter: Some(filter("y")), ..pull("t", "g", 10) };
    assert_eq!(bodies(&bench.pull(request).await.unwrap().deliveries), NOTHING);
    assert_eq!(bench.take_bodies("t", "g").await, ["a", "b"]);
}

pub async fn a_publish_delay_does_not_hold_up_its_key<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.ordering = Ordering::PerKey, |_| {}).await;
    bench.send("t", NewMessage { delay: Some(secs(5)), ..keyed("k", "delayed") }).await;
    bench.send_keyed("t", &[("k", "a"), ("k", "b")]).await;
    let held = bench.take("t", "g", 10).await;
    assert_eq!(bodies(&held), ["a"]);
    bench.later(secs(5));
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING, "but once due it waits for its key");
    assert_eq!(bench.ack(&held[0]).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["delayed"], "due ones come before fresh ones");
}

pub async fn a_superseded_message_in_flight_is_nobody_elses<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.compaction = Compaction::LatestPerKey, |_| {}).await;
    for group in ["returned", "fresh"] {
        bench.group("t", group).await;
    }
    bench.send_keyed("t", &[("k", "k1")]).await;
    let held = bench.take_one("t", "g").await;
    let other = Named::from(&bench.take_one("t", "returned").await).0;
    bench.settle(settle("t", "returned", vec![(other, NACK)])).await.unwrap();
    bench.send_keyed("t", &[("k", "k2")]).await;
    bench.restart().await;
    assert_eq!(bench.kept_bodies("t").await, ["k1", "k2"]);
    for group in ["returned", "fresh"] {
        assert_eq!(bench.tally("t", group).await, (1, 0, 0));
        assert_eq!(bench.take_bodies("t", group).await, ["k2"]);
    }
    assert_eq!(bench.ack(&held).await, DONE);
    assert_eq!(bench.kept_bodies("t").await, ["k2"]);
}

pub async fn a_delayed_message_supersedes_at_its_publish<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.compaction = Compaction::LatestPerKey, |_| {}).await;
    bench.send_keyed("t", &[("k", "k1")]).await;
    bench.send("t", NewMessage { delay: Some(secs(5)), ..keyed("k", "k2") }).await;
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    bench.later(secs(5));
    assert_eq!(bench.take_bodies("t", "g").await, ["k2"]);
}

pub async fn a_superseded_message_may_be_buried<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(
        |topic| topic.compaction = Compaction::LatestPerKey,
        |group| group.dead_letter = Some(topic_name("dead")),
    )
    .await;
    bench.send_keyed("t", &[("k", "k1")]).await;
    let held = bench.take_one("t", "g").await;
    bench.send_keyed("t", &[("k", "k2")]).await;
    assert_eq!(bench.act(&held, bury("no")).await, DONE);
    assert_eq!(bench.kept_bodies("dead").await, ["k1"]);
    assert_eq!(bench.kept_bodies("t").await, ["k2"]);
}

pub async fn leases_that_lapse_in_one_sweep_are_buried_by_deadline_then_offset<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(
        |_| {},
        |group| {
            group.attempts_max = Some(1);
            group.dead_letter = Some(topic_name("dead"));
        },
    )
    .await;
    bench.publish("t", &["a", "b", "c", "d"]).await;
    for lease in [3, 1, 2, 1] {
        bench.pull(Pull { lease: Some(secs(lease)), ..pull("t", "g", 1) }).await.unwrap();
    }
    bench.later(secs(3));
    assert_eq!(bench.kept_bodies("dead").await, ["b", "d", "c", "a"]);
}

pub async fn a_lapse_comes_before_a_trim<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(
        |topic| topic.retention.age = Some(secs(30)),
        |group| {
            group.attempts_max = Some(1);
            group.dead_letter = Some(topic_name("dead"));
        },
    )
    .await;
    bench.publish("t", &["a"]).await;
    bench.take_one("t", "g").await;
    bench.later(secs(60));
    assert_eq!(bench.kept_bodies("dead").await, ["a"]);
}

pub async fn dead_letter_topics_are_made_beyond_the_limit<F: Fixture>() {
    let mut bench = Bench::<F>::with(Limits { topics_max: 1, ..Limits::default() }).await;
    bench.topic("t").await;
    bench.group_with("t", "g", |group| group.dead_letter = Some(topic_name("dead"))).await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.act(&held, bury("no")).await, DONE);
    assert_eq!(bench.kept_bodies("dead").await, ["a"]);
}

pub async fn a_topic_may_not_take_the_name_of_its_dead_letters<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.dead_letter = Some(topic_name("dead"))).await;
    let patch = TopicPatch { name: Some(topic_name("dead")), ..TopicPatch::default() };
    let refused = bench.patch_topic("t", patch).await;
    assert!(matches!(refused, Err(UpdateTopicError::Settings(SettingsError { field: "name", .. }))), "{refused:?}");
}

pub async fn a_pull_for_a_full_batch_holds_up_nobody_behind_it<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let full = Pull { wait: Wait::Full(secs(60)), ..pull("t", "g", 5) };
    let first = bench.wait_for(full.clone()).await;
    let second = bench.wait_for(patient(5)).await;
    bench.publish("t", &["a"]).await;
    assert_eq!(second.bodies().await, ["a"]);
    assert_eq!(bench.waiting(&full).await, 1);
    bench.publish("t", &["b", "c", "d", "e", "f"]).await;
    assert_eq!(first.bodies().await, ["b", "c", "d", "e", "f"]);
}

pub async fn a_waiting_pull_passes_over_what_it_does_not_want<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.filter = filter("x")).await;
    let waiting = bench.wait_for(patient(10)).await;
    bench.send("t", tagged("y", "a")).await;
    assert_eq!(bench.tally("t", "g").await, (0, 0, 0));
    assert_eq!(bench.kept_bodies("t").await, NOTHING);
    waiting.hang_up().await;
}

pub async fn a_settled_message_shows_no_attempts<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.retention.settled = Settled::Keep, |_| {}).await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.ack(&held).await, DONE);
    assert_eq!(bench.peek_all(peek("t", Some("g"))).await[0].attempts, Attempt::NONE);
}

pub async fn a_message_larger_than_its_topic_may_keep_goes_at_once<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.retention.bytes = Some(3), |_| {}).await;
    bench.publish("t", &["a", "large"]).await;
    assert_eq!(bench.kept_bodies("t").await, NOTHING);
    assert_eq!(bench.publish("t", &["b"]).await[0].offset, Offset::new(2));
    assert_eq!(bench.take_bodies("t", "g").await, ["b"]);
}
