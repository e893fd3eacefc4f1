//! What is kept, and for how long.

use windlass::engine::*;
use windlass::model::*;

use super::bench::*;

const NOTHING: [&str; 0] = [];

pub async fn a_message_goes_when_every_group_has_settled_it<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.group("t", "h").await;
    bench.publish("t", &["a", "b"]).await;
    let of_g = bench.take("t", "g", 2).await;
    assert_eq!(bench.ack(&of_g[1]).await, DONE);
    assert_eq!(bench.kept_bodies("t").await, ["a", "b"]);
    let of_h = bench.take("t", "h", 2).await;
    assert_eq!(bench.ack_in("t", "h", &of_h[1]).await, DONE);
    assert_eq!(bench.kept_bodies("t").await, ["a"]);
    assert_eq!(bench.ack_in("t", "h", &of_h[0]).await, DONE);
    assert_eq!(bench.ack(&of_g[0]).await, DONE);
    assert_eq!(bench.kept_bodies("t").await, NOTHING);
}

pub async fn a_topic_without_groups_keeps_its_messages<F: Fixture>() {
    let mut bench = Bench::<F>::new().await;
    bench.topic("t").await;
    bench.publish("t", &["a", "b"]).await;
    assert_eq!(bench.kept_bodies("t").await, ["a", "b"]);
    bench.group("t", "g").await;
    assert_eq!(bench.take_bodies("t", "g").await, ["a", "b"]);
}

pub async fn deleting_the_last_group_keeps_what_it_had_not_settled<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a", "b"]).await;
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.ack(&held).await, DONE);
    bench.engine().await.delete_group(account(), topic("t"), group("g")).await.unwrap();
    assert_eq!(bench.kept_bodies("t").await, ["b"]);
}

pub async fn deleting_the_slowest_group_lets_messages_go<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.group("t", "slow").await;
    bench.publish("t", &["a", "b"]).await;
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.ack(&held).await, DONE);
    bench.engine().await.delete_group(account(), topic("t"), group("slow")).await.unwrap();
    assert_eq!(bench.kept_bodies("t").await, ["b"]);
}

pub async fn a_topic_may_keep_what_is_settled<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.retention.settled = Settled::Keep, |_| {}).await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.ack(&held).await, DONE);
    assert_eq!(bench.kept_bodies("t").await, ["a"]);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    bench.group("t", "h").await;
    assert_eq!(bench.take_bodies("t", "h").await, ["a"]);
}

pub async fn messages_of_before_a_groups_start_are_settled_for_it<F: Fixture>() {
    let mut bench = Bench::<F>::new().await;
    bench.topic("t").await;
    bench.publish("t", &["a", "b"]).await;
    bench.group_at("t", "g", Position::Now(Start::Offset(Offset::new(1)))).await;
    assert_eq!(bench.kept_bodies("t").await, ["b"]);
}

pub async fn messages_past_their_age_are_trimmed_wherever_they_stand<F: Fixture>() {
    let mut bench =
        Bench::<F>::ready_with(|topic| topic.retention.age = Some(secs(100)), |group| group.lease = secs(1_000)).await;
    bench.publish("t", &["leased", "nacked", "fresh"]).await;
    bench.send("t", delayed(secs(200), "delayed")).await;
    let held = bench.take("t", "g", 2).await;
    assert_eq!(bench.act(&held[1], nack_after(secs(150))).await, DONE);
    bench.later(ms(99_999));
    bench.publish("t", &["young"]).await;
    assert_eq!(bench.topic_counts("t").await.unsettled(), 5);
    assert_eq!(bench.tally("t", "g").await, (2, 1, 2));
    bench.later(ms(1));
    assert_eq!(bench.tally("t", "g").await, (1, 0, 0));
    assert_eq!(bench.ack(&held[0]).await, SettleOutcome::AlreadySettled);
    assert_eq!(bench.nack(&held[1]).await, SettleOutcome::AlreadySettled);
    bench.later(secs(60));
    assert_eq!(bench.take_bodies("t", "g").await, ["young"]);
    assert_eq!(bench.kept_bodies("t").await, ["young"]);
}

pub async fn a_topic_without_groups_trims_by_age<F: Fixture>() {
    let mut bench = Bench::<F>::new().await;
    bench.topic_with("t", |topic| topic.retention.age = Some(secs(10))).await;
    bench.publish("t", &["a"]).await;
    bench.later(secs(10));
    bench.restart().await;
    assert_eq!(bench.kept_bodies("t").await, NOTHING);
    bench.group("t", "g").await;
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
}

pub async fn the_oldest_are_trimmed_over_the_limit_of_bytes<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.retention.bytes = Some(10), |_| {}).await;
    bench.publish("t", &["aaaa", "bbbb", "cc"]).await;
    let held = bench.take("t", "g", 2).await;
    assert_eq!(bench.kept_bodies("t").await, ["aaaa", "bbbb", "cc"]);
    bench.publish("t", &["d"]).await;
    assert_eq!(bench.kept_bodies("t").await, ["bbbb", "cc", "d"]);
    assert_eq!(bench.ack(&held[0]).await, SettleOutcome::AlreadySettled);
    assert_eq!(bench.ack(&held[1]).await, DONE);
    bench.restart().await;
    assert_eq!(bench.take_bodies("t", "g").await, ["cc", "d"]);
}

pub async fn a_lowered_limit_of_bytes_trims_at_once<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["aaaa", "bbbb", "cccc"]).await;
    let retention = Retention { bytes: Some(8), ..Retention::default() };
    bench.patch_topic("t", TopicPatch { retention: Some(retention), ..TopicPatch::default() }).await.unwrap();
    assert_eq!(bench.take_bodies("t", "g").await, ["bbbb", "cccc"]);
}

pub async fn a_group_behind_the_head_goes_on_at_the_head<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.retention.age = Some(secs(10)), |_| {}).await;
    bench.publish("t", &["a", "b"]).await;
    bench.later(secs(5));
    bench.publish("t", &["c", "d"]).await;
    bench.later(secs(5));
    assert_eq!(bench.tally("t", "g").await, (2, 0, 0));
    let request = Seek { dry_run: true, ..seek("t", "g", Start::Head) };
    let report = bench.engine().await.seek(request).await.unwrap();
    assert_eq!((report.from, report.to), (Offset::new(2), Offset::new(2)));
    assert_eq!(bench.take_bodies("t", "g").await, ["c", "d"]);
}

pub async fn trims_survive_a_restart<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.retention.age = Some(secs(10)), |_| {}).await;
    bench.publish("t", &["a", "b"]).await;
    let held = bench.take_one("t", "g").await;
    bench.later(secs(10));
    bench.sweep().await;
    bench.restart().await;
    assert_eq!(bench.ack(&held).await, SettleOutcome::AlreadySettled);
    assert_eq!(bench.publish("t", &["c"]).await[0].offset, Offset::new(2));
    assert_eq!(bench.take_bodies("t", "g").await, ["c"]);
}

pub async fn a_superseded_message_in_flight_counts_towards_the_limit_of_bytes<F: Fixture>() {
    let change = |topic: &mut TopicSettings| {
        topic.compaction = Compaction::LatestPerKey;
        topic.retention.bytes = Some(4);
    };
    let mut bench = Bench::<F>::ready_with(change, |_| {}).await;
    bench.send_keyed("t", &[("k", "kk"), ("l", "l")]).await;
    let held = bench.take("t", "g", 2).await;
    bench.send_keyed("t", &[("k", "KK")]).await;
    assert_eq!(bench.ack(&held[0]).await, SettleOutcome::AlreadySettled, "trimmed first");
    assert_eq!(bench.kept_bodies("t").await, ["l", "KK"]);
}

pub async fn settled_messages_are_kept_from_the_change_on<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.pending_max = 2).await;
    bench.publish("t", &["fresh"]).await;
    for body in ["gone", "taken"] {
        bench.send("t", delayed(secs(1), body)).await;
    }
    bench.later(secs(1));
    let held = bench.take("t", "g", 2).await;
    assert_eq!(bodies(&held), ["gone", "taken"]);
    assert_eq!(bench.ack(&held[0]).await, DONE);
    let retention = Retention { settled: Settled::Keep, ..Retention::default() };
    bench.patch_topic("t", TopicPatch { retention: Some(retention), ..TopicPatch::default() }).await.unwrap();
    assert_eq!(bench.ack(&held[1]).await, DONE);
    assert_eq!(bench.kept_bodies("t").await, ["fresh", "taken"]);
    assert_eq!(bench.topic_counts("t").await.ready, 2);
    assert_eq!(bench.seek(Start::Head).await.ahead, 2);
    assert_eq!(bench.take_bodies("t", "g").await, ["taken", "fresh"]);
}

pub async fn messages_given_up_before_settled_ones_were_kept_stay_so<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a", "b", "c"]).await;
    let held = bench.take("t", "g", 3).await;
    let request = Discard { account: account(), topic: topic("t"), offsets: offsets(&[1]) };
    bench.engine().await.discard(request).await.unwrap();
    assert_eq!(bench.ack(&held[2]).await, DONE);
    for _ in 0..2 {
        bench.restart().await;
    }
    let retention = Retention { settled: Settled::Keep, ..Retention::default() };
    bench.patch_topic("t", TopicPatch { retention: Some(retention), ..TopicPatch::default() }).await.unwrap();
    assert_eq!(bench.topic_counts("t").await.ready, 1);
    bench.restart().await;
    assert_eq!(bench.topic_counts("t").await.ready, 1);
    assert_eq!(bench.kept_bodies("t").await, ["a"]);
}
