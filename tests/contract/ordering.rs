//! Order per key, strict order, and latest per key.

use windlass::engine::*;
use windlass::model::*;

use super::bench::*;

const NOTHING: [&str; 0] = [];

async fn per_key<F: Fixture>() -> Bench<F> {
    Bench::ready_with(|topic| topic.ordering = Ordering::PerKey, |_| {}).await
}

async fn strict<F: Fixture>() -> Bench<F> {
    Bench::ready_with(|topic| topic.ordering = Ordering::Strict, |_| {}).await
}

async fn latest<F: Fixture>() -> Bench<F> {
    Bench::ready_with(|topic| topic.compaction = Compaction::LatestPerKey, |_| {}).await
}

pub async fn without_order_a_key_holds_up_nothing<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.send_keyed("t", &[("k", "a"), ("k", "b")]).await;
    assert_eq!(bench.take_bodies("t", "g").await, ["a", "b"]);
}

pub async fn a_key_in_flight_is_withheld_and_others_go_on<F: Fixture>() {
    let mut bench = per_key::<F>().await;
    bench.send_keyed("t", &[("k", "k1"), ("l", "l1"), ("k", "k2"), ("l", "l2"), ("m", "m1")]).await;
    let held = bench.take("t", "g", 100).await;
    assert_eq!(bodies(&held), ["k1", "l1", "m1"], "one of each key in a batch");
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.tally("t", "g").await, (2, 3, 0));
    assert_eq!(bench.ack(&held[1]).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["l2"]);
    assert_eq!(bench.ack(&held[0]).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["k2"]);
}

pub async fn messages_without_a_key_are_never_withheld<F: Fixture>() {
    let mut bench = per_key::<F>().await;
    bench.publish("t", &["a", "b"]).await;
    bench.send_keyed("t", &[("k", "k1"), ("k", "k2")]).await;
    bench.publish("t", &["c"]).await;
    assert_eq!(bench.take_bodies("t", "g").await, ["a", "b", "k1", "c"]);
}

pub async fn a_nacked_message_comes_before_the_next_of_its_key<F: Fixture>() {
    let mut bench = per_key::<F>().await;
    bench.send_keyed("t", &[("k", "k1"), ("k", "k2")]).await;
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.nack(&held).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["k1"]);
    bench.later(secs(30));
    assert_eq!(bench.take_bodies("t", "g").await, ["k1"], "a lapse is no way past it either");
}

pub async fn a_nack_delay_withholds_the_key<F: Fixture>() {
    let mut bench = per_key::<F>().await;
    bench.send_keyed("t", &[("k", "k1"), ("k", "k2"), ("l", "l1")]).await;
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.act(&held, nack_after(secs(5))).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["l1"]);
    bench.later(secs(5));
    let held = bench.take("t", "g", 100).await;
    assert_eq!(bodies(&held), ["k1"]);
    assert_eq!(bench.ack(&held[0]).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["k2"]);
}

pub async fn an_auto_ack_takes_one_of_a_key_at_a_time<F: Fixture>() {
    let mut bench = per_key::<F>().await;
    bench.send_keyed("t", &[("k", "k1"), ("k", "k2")]).await;
    for body in ["k1", "k2"] {
        let pulled = bench.pull(Pull { auto_ack: true, ..pull("t", "g", 10) }).await.unwrap();
        assert_eq!(bodies(&pulled.deliveries), [body]);
    }
}

pub async fn a_key_is_withheld_in_its_own_group_only<F: Fixture>() {
    let mut bench = per_key::<F>().await;
    bench.group("t", "h").await;
    bench.send_keyed("t", &[("k", "k1"), ("k", "k2")]).await;
    bench.take_one("t", "g").await;
    let other = bench.take_one("t", "h").await;
    assert_eq!(text(&other.message), "k1");
    assert_eq!(bench.ack_in("t", "h", &other).await, DONE);
    assert_eq!(bench.take_bodies("t", "h").await, ["k2"]);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
}

pub async fn many_of_a_key_come_in_order_one_after_the_other<F: Fixture>() {
    let mut bench = per_key::<F>().await;
    let numbers: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let keys = ["k", "l", "m"];
    for (place, number) in numbers.iter().enumerate() {
        bench.send("t", keyed(keys[place % 3], number)).await;
    }
    let mut seen: Vec<Vec<String>> = vec![Vec::new(); 3];
    for turn in 0..60 {
        for delivery in bench.take("t", "g", 2).await {
            let number = text(&delivery.message);
            if turn % 4 == 1 && delivery.attempt == Attempt::new(1) {
                assert_eq!(bench.nack(&delivery).await, DONE);
            } else {
                assert_eq!(bench.ack(&delivery).await, DONE);
                seen[number.parse::<usize>().unwrap() % 3].push(number);
            }
        }
    }
    for (rest, seen) in seen.iter().enumerate() {
        let expected: Vec<_> = numbers.iter().skip(rest).step_by(3).cloned().collect();
        assert_eq!(*seen, expected);
    }
}

pub async fn withheld_messages_survive_a_restart_in_order<F: Fixture>() {
    let mut bench = per_key::<F>().await;
    bench.send_keyed("t", &[("k", "k1"), ("k", "k2"), ("l", "l1"), ("k", "k3")]).await;
    let held = bench.take("t", "g", 100).await;
    assert_eq!(bodies(&held), ["k1", "l1"]);
    bench.restart().await;
    assert_eq!(bench.tally("t", "g").await, (2, 2, 0));
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.ack(&held[0]).await, DONE);
    bench.restart().await;
    let next = bench.take("t", "g", 100).await;
    assert_eq!(bodies(&next), ["k2"]);
    bench.restart().await;
    assert_eq!(bench.ack(&next[0]).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["k3"]);
}

pub async fn a_discarded_message_frees_its_key<F: Fixture>() {
    let mut bench = per_key::<F>().await;
    bench.send_keyed("t", &[("k", "k1"), ("k", "k2")]).await;
    bench.take_one("t", "g").await;
    let request = Discard { account: account(), topic: topic("t"), offsets: offsets(&[0]) };
    bench.engine().await.discard(request).await.unwrap();
    assert_eq!(bench.take_bodies("t", "g").await, ["k2"]);
}

pub async fn in_strict_order_one_batch_is_in_flight<F: Fixture>() {
    let mut bench = strict::<F>().await;
    bench.publish("t", &["a", "b", "c", "d"]).await;
    let held = bench.take("t", "g", 2).await;
    assert_eq!(bodies(&held), ["a", "b"]);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.ack(&held[0]).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.ack(&held[1]).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["c", "d"]);
}

pub async fn in_strict_order_returned_messages_come_first<F: Fixture>() {
    let mut bench = strict::<F>().await;
    bench.publish("t", &["a", "b", "c"]).await;
    let held = bench.take("t", "g", 2).await;
    assert_eq!(bench.nack(&held[1]).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING, "the rest of the batch is in flight");
    assert_eq!(bench.nack(&held[0]).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["a", "b", "c"]);
    bench.later(secs(30));
    assert_eq!(bodies(&bench.take("t", "g", 2).await), ["a", "b"]);
}

pub async fn in_strict_order_a_nack_delay_blocks_all_behind_it<F: Fixture>() {
    let mut bench = strict::<F>().await;
    bench.publish("t", &["a", "b", "c", "d"]).await;
    let held = bench.take("t", "g", 3).await;
    assert_eq!(bench.nack(&held[0]).await, DONE);
    assert_eq!(bench.act(&held[1], nack_after(secs(5))).await, DONE);
    assert_eq!(bench.nack(&held[2]).await, DONE);
    let held = bench.take("t", "g", 100).await;
    assert_eq!(bodies(&held), ["a"]);
    assert_eq!(bench.ack(&held[0]).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.tally("t", "g").await, (2, 0, 1));
    bench.later(secs(5));
    assert_eq!(bench.take_bodies("t", "g").await, ["b", "c", "d"]);
}

pub async fn strict_order_survives_a_restart<F: Fixture>() {
    let mut bench = strict::<F>().await;
    bench.publish("t", &["a", "b", "c"]).await;
    let held = bench.take("t", "g", 1).await;
    bench.restart().await;
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.act(&held[0], nack_after(secs(5))).await, DONE);
    bench.restart().await;
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    bench.later(secs(5));
    assert_eq!(bench.take_bodies("t", "g").await, ["a", "b", "c"]);
}

pub async fn the_order_changes_only_with_nothing_in_flight<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    let patch = TopicPatch { ordering: Some(Ordering::Strict), delay: Some(secs(9)), ..TopicPatch::default() };
    let refused = bench.patch_topic("t", patch.clone()).await.unwrap_err();
    assert!(matches!(refused, UpdateTopicError::InUse { field: "ordering", .. }), "{refused:?}");
    let settings = bench.engine().await.topic(account(), topic("t")).await.unwrap().settings;
    assert_eq!(settings, TopicSettings::default(), "all of a patch or nothing");
    let same = TopicPatch { ordering: Some(Ordering::None), ..TopicPatch::default() };
    bench.patch_topic("t", same).await.unwrap();
    assert_eq!(bench.nack(&held).await, DONE);
    assert_eq!(bench.patch_topic("t", patch).await.unwrap().settings.ordering, Ordering::Strict);
}

pub async fn a_newer_message_supersedes_the_older_ones_of_its_key<F: Fixture>() {
    let mut bench = latest::<F>().await;
    bench.group("t", "h").await;
    bench.send_keyed("t", &[("k", "k1"), ("l", "l1"), ("k", "k2"), ("k", "k3")]).await;
    assert_eq!(bench.tally("t", "g").await, (2, 0, 0));
    assert_eq!(bench.kept_bodies("t").await, ["l1", "k3"]);
    assert_eq!(bench.take_bodies("t", "g").await, ["l1", "k3"]);
    assert_eq!(bench.take_bodies("t", "h").await, ["l1", "k3"]);
}

pub async fn messages_without_a_key_are_never_superseded<F: Fixture>() {
    let mut bench = latest::<F>().await;
    bench.publish("t", &["a", "b", "c"]).await;
    assert_eq!(bench.take_bodies("t", "g").await, ["a", "b", "c"]);
}

pub async fn within_a_batch_the_last_of_a_key_wins<F: Fixture>() {
    let mut bench = latest::<F>().await;
    let batch = vec![keyed("k", "k1"), keyed("l", "l1"), keyed("k", "k2")];
    assert_eq!(bench.try_publish("t", batch).await.unwrap().len(), 3);
    assert_eq!(bench.take_bodies("t", "g").await, ["l1", "k2"]);
}

pub async fn a_superseded_message_in_flight_finishes_first<F: Fixture>() {
    let mut bench = latest::<F>().await;
    bench.send_keyed("t", &[("k", "k1")]).await;
    let old = bench.take_one("t", "g").await;
    bench.send_keyed("t", &[("k", "k2")]).await;
    assert_eq!(bench.tally("t", "g").await, (1, 1, 0));
    assert_eq!(bench.act(&old, extend(secs(20))).await, DONE);
    assert_eq!(bench.ack(&old).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["k2"]);
}

pub async fn a_superseded_message_does_not_come_back<F: Fixture>() {
    let mut bench = latest::<F>().await;
    bench.send_keyed("t", &[("k", "k1"), ("l", "l1")]).await;
    let held = bench.take("t", "g", 2).await;
    bench.send_keyed("t", &[("k", "k2"), ("l", "l2")]).await;
    assert_eq!(bench.nack(&held[0]).await, DONE);
    assert_eq!(bench.ack(&held[0]).await, SettleOutcome::AlreadySettled);
    bench.later(secs(30));
    assert_eq!(bench.take_bodies("t", "g").await, ["k2", "l2"]);
    assert_eq!(bench.ack(&held[1]).await, SettleOutcome::AlreadySettled);
    assert_eq!(bench.kept_bodies("t").await, ["k2", "l2"]);
}

pub async fn a_returned_message_is_superseded<F: Fixture>() {
    let mut bench = latest::<F>().await;
    bench.send_keyed("t", &[("k", "k1"), ("l", "l1")]).await;
    let held = bench.take("t", "g", 2).await;
    assert_eq!(bench.nack(&held[0]).await, DONE);
    assert_eq!(bench.act(&held[1], nack_after(secs(5))).await, DONE);
    bench.send_keyed("t", &[("k", "k2"), ("l", "l2")]).await;
    assert_eq!(bench.tally("t", "g").await, (2, 0, 0));
    bench.later(secs(5));
    let again = bench.take("t", "g", 10).await;
    assert_eq!(bodies(&again), ["k2", "l2"]);
    assert_eq!(again[0].attempt, Attempt::new(1));
}

pub async fn a_superseded_message_does_not_count_against_attempts<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(
        |topic| topic.compaction = Compaction::LatestPerKey,
        |group| {
            group.attempts_max = Some(1);
            group.dead_letter = Some(topic_name("dead"));
        },
    )
    .await;
    bench.send_keyed("t", &[("k", "k1")]).await;
    let held = bench.take_one("t", "g").await;
    bench.send_keyed("t", &[("k", "k2")]).await;
    assert_eq!(bench.nack(&held).await, DONE);
    assert_eq!(bench.topics().await, ["t"], "dropped, not buried");
    assert_eq!(bench.take_bodies("t", "g").await, ["k2"]);
}

pub async fn what_is_superseded_stays_so_after_a_restart<F: Fixture>() {
    let mut bench = latest::<F>().await;
    bench.send_keyed("t", &[("k", "k1"), ("l", "l1")]).await;
    let held = bench.take_one("t", "g").await;
    bench.restart().await;
    bench.send_keyed("t", &[("k", "k2"), ("l", "l2")]).await;
    bench.restart().await;
    assert_eq!(bench.tally("t", "g").await, (2, 1, 0));
    assert_eq!(bench.nack(&held).await, DONE);
    bench.restart().await;
    assert_eq!(bench.take_bodies("t", "g").await, ["k2", "l2"]);
}

pub async fn compaction_changes_only_in_an_empty_topic<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let patch = TopicPatch { compaction: Some(Compaction::LatestPerKey), ..TopicPatch::default() };
    let refused = bench.patch_topic("t", patch.clone()).await.unwrap_err();
    assert!(matches!(refused, UpdateTopicError::InUse { field: "compaction", .. }), "{refused:?}");
    bench.engine().await.purge(account(), topic("t")).await.unwrap();
    bench.patch_topic("t", patch).await.unwrap();
    bench.send_keyed("t", &[("k", "k1"), ("k", "k2")]).await;
    assert_eq!(bench.take_bodies("t", "g").await, ["k2"]);
}

pub async fn a_full_table_of_compaction_keys_refuses_new_ones_only<F: Fixture>() {
    let mut bench = Bench::<F>::with(Limits { compaction_keys_max: 2, ..Limits::default() }).await;
    bench.topic_with("t", |topic| topic.compaction = Compaction::LatestPerKey).await;
    bench.send_keyed("t", &[("k", "k1"), ("l", "l1")]).await;
    let refused = bench.try_publish("t", vec![keyed("k", "k2"), keyed("m", "m1")]).await;
    assert!(matches!(refused, Err(PublishError::TableFull { max: 2, .. })), "{refused:?}");
    assert_eq!(bench.kept_bodies("t").await, ["k1", "l1"]);
    bench.send_keyed("t", &[("k", "k2")]).await;
    bench.publish("t", &["without a key"]).await;
    assert_eq!(bench.kept_bodies("t").await, ["l1", "k2", "without a key"]);
}

pub async fn a_due_message_comes_before_those_withheld_for_its_key<F: Fixture>() {
    let mut bench = per_key::<F>().await;
    bench.send("t", NewMessage { key: key("k"), ..delayed(secs(5), "due") }).await;
    bench.send_keyed("t", &[("k", "k1"), ("k", "k2")]).await;
    let held = bench.take("t", "g", 100).await;
    assert_eq!(bodies(&held), ["k1"]);
    bench.later(secs(5));
    assert_eq!(bench.ack(&held[0]).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["due"]);
}

pub async fn withheld_messages_that_were_due_come_by_their_time<F: Fixture>() {
    let mut bench = per_key::<F>().await;
    bench.send_keyed("t", &[("k", "k1")]).await;
    bench.send("t", NewMessage { key: key("k"), ..delayed(secs(2), "second") }).await;
    bench.send("t", NewMessage { key: key("k"), ..delayed(secs(1), "first") }).await;
    bench.send_keyed("t", &[("k", "k2")]).await;
    for expected in ["k1", "first", "second", "k2"] {
        let held = bench.take("t", "g", 100).await;
        assert_eq!(bodies(&held), [expected]);
        bench.later(secs(2));
        assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
        assert_eq!(bench.ack(&held[0]).await, DONE);
    }
}

pub async fn a_pull_looks_past_so_many_withheld_messages<F: Fixture>() {
    let mut bench = Bench::<F>::with(Limits { returned_max: 2, ..Limits::default() }).await;
    bench.topic_with("t", |topic| topic.ordering = Ordering::PerKey).await;
    bench.group("t", "g").await;
    bench.send_keyed("t", &[("k", "k1"), ("k", "k2"), ("k", "k3"), ("k", "k4"), ("l", "l1")]).await;
    let held = bench.take("t", "g", 100).await;
    assert_eq!(bodies(&held), ["k1"], "at the bound the cursor waits");
    assert_eq!(bench.tally("t", "g").await, (4, 1, 0));
    assert_eq!(bench.ack(&held[0]).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["k2", "l1"]);
}

pub async fn a_lease_given_again_withholds_what_came_back_before_it<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.send_keyed("t", &[("k", "k1"), ("k", "k2")]).await;
    let held = bench.take("t", "g", 2).await;
    bench.later(secs(30));
    let patch = TopicPatch { ordering: Some(Ordering::PerKey), ..TopicPatch::default() };
    bench.patch_topic("t", patch).await.unwrap();
    assert_eq!(bench.act(&held[1], extend(secs(30))).await, SettleOutcome::SettledLate);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.ack(&held[1]).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["k1"]);
}

pub async fn a_superseded_message_in_flight_counts_until_it_is_settled<F: Fixture>() {
    for settled in [Settled::Drop, Settled::Keep] {
        let mut bench = latest::<F>().await;
        let retention = Retention { settled, ..Retention::default() };
        bench.patch_topic("t", TopicPatch { retention: Some(retention), ..TopicPatch::default() }).await.unwrap();
        bench.group("t", "h").await;
        bench.send_keyed("t", &[("k", "k1")]).await;
        let held = bench.take_one("t", "g").await;
        bench.send_keyed("t", &[("k", "k2")]).await;
        assert_eq!(bench.topic_counts("t").await.ready, 2);
        assert_eq!(bench.tally("t", "g").await, (1, 1, 0));
        assert_eq!(bench.tally("t", "h").await, (1, 0, 0));
        assert_eq!(bench.ack(&held).await, DONE);
        assert_eq!(bench.topic_counts("t").await.ready, 1, "{settled:?}");
    }
}

pub async fn a_superseded_message_in_flight_may_be_discarded_and_not_redriven<F: Fixture>() {
    let mut bench = latest::<F>().await;
    bench.send_keyed("t", &[("k", "k1")]).await;
    let held = bench.take_one("t", "g").await;
    bench.send_keyed("t", &[("k", "k2")]).await;
    assert_eq!(bench.redrive("t", vec![], 1).await, RedriveReport { moved: 0, left: 2 });
    let request = Discard { account: account(), topic: topic("t"), offsets: offsets(&[0]) };
    let report = bench.engine().await.discard(request).await.unwrap();
    assert_eq!(report.discarded, offsets(&[0]));
    assert_eq!(bench.ack(&held).await, SettleOutcome::AlreadySettled);
    assert_eq!(bench.kept_bodies("t").await, ["k2"]);
}

pub async fn a_seek_does_not_go_back_to_superseded_messages<F: Fixture>() {
    let mut bench = latest::<F>().await;
    bench.send_keyed("t", &[("l", "l1"), ("k", "k1")]).await;
    bench.take("t", "g", 2).await;
    bench.send_keyed("t", &[("k", "k2")]).await;
    let report = bench.seek(Start::Head).await;
    assert_eq!((report.pending_dropped, report.ahead), (2, 2));
    assert_eq!(bench.take_bodies("t", "g").await, ["l1", "k2"]);
}
