//! Messages published with a delay.

use windlass::engine::*;
use windlass::model::*;

use super::bench::*;

const NOTHING: [&str; 0] = [];

pub async fn a_delayed_message_comes_when_due_and_not_a_millisecond_before<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let at = bench.now();
    bench.send("t", delayed(secs(10), "a")).await;
    bench.later(ms(9_999));
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.tally("t", "g").await, (0, 0, 1));
    bench.later(ms(1));
    assert_eq!(bench.tally("t", "g").await, (1, 0, 0));
    let delivery = bench.take_one("t", "g").await;
    assert_eq!(delivery.attempt, Attempt::new(1));
    assert_eq!(delivery.message.head.published_at, at);
    assert_eq!(delivery.message.head.ready_at, at.after(secs(10)));
    assert_eq!(bench.ack(&delivery).await, DONE);
    assert_eq!(bench.kept_bodies("t").await, NOTHING);
}

pub async fn the_topics_delay_holds_for_messages_that_name_none<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.delay = secs(10), |_| {}).await;
    let batch = vec![message("default"), delayed(ms(0), "at once"), delayed(secs(5), "own")];
    bench.try_publish("t", batch).await.unwrap();
    assert_eq!(bench.take_bodies("t", "g").await, ["at once"]);
    bench.later(secs(5));
    assert_eq!(bench.take_bodies("t", "g").await, ["own"]);
    bench.later(secs(5));
    assert_eq!(bench.take_bodies("t", "g").await, ["default"]);
}

pub async fn a_change_of_the_topics_delay_leaves_earlier_messages_alone<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.delay = secs(10), |_| {}).await;
    bench.publish("t", &["a"]).await;
    bench.patch_topic("t", TopicPatch { delay: Some(ms(0)), ..TopicPatch::default() }).await.unwrap();
    bench.publish("t", &["b"]).await;
    assert_eq!(bench.take_bodies("t", "g").await, ["b"]);
    bench.later(secs(10));
    assert_eq!(bench.take_bodies("t", "g").await, ["a"]);
}

pub async fn due_messages_come_by_due_time_then_offset_before_fresh_ones<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let batch = vec![
        message("fresh 1"),
        delayed(secs(3), "late"),
        delayed(secs(1), "early 1"),
        message("fresh 2"),
        delayed(secs(1), "early 2"),
    ];
    bench.try_publish("t", batch).await.unwrap();
    bench.later(secs(3));
    assert_eq!(bench.take_bodies("t", "g").await, ["early 1", "early 2", "late", "fresh 1", "fresh 2"]);
}

pub async fn delayed_messages_hold_up_nobody<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.pending_max = 2).await;
    bench.try_publish("t", vec![delayed(secs(9), "later"); 50]).await.unwrap();
    bench.publish("t", &["a", "b"]).await;
    assert_eq!(bench.take_bodies("t", "g").await, ["a", "b"]);
    assert_eq!(bench.tally("t", "g").await, (0, 2, 50));
}

pub async fn each_group_takes_a_due_message_once<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.group("t", "h").await;
    bench.send("t", delayed(secs(1), "a")).await;
    bench.later(secs(1));
    assert_eq!(bench.take_bodies("t", "g").await, ["a"]);
    assert_eq!(bench.take_bodies("t", "h").await, ["a"]);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.take_bodies("t", "h").await, NOTHING);
}

pub async fn a_group_gets_no_delayed_message_of_before_its_start<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.send("t", delayed(secs(5), "before")).await;
    bench.group_at("t", "h", Position::Now(Start::Tail)).await;
    bench.send("t", delayed(secs(5), "after")).await;
    assert_eq!(bench.tally("t", "h").await, (0, 0, 1));
    bench.later(secs(5));
    assert_eq!(bench.take_bodies("t", "h").await, ["after"]);
    assert_eq!(bench.take_bodies("t", "g").await, ["before", "after"]);
}

pub async fn a_new_group_at_the_head_gets_delayed_messages_kept<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.send("t", delayed(secs(5), "a")).await;
    bench.publish("t", &["b"]).await;
    bench.later(secs(2));
    bench.group("t", "h").await;
    assert_eq!(bench.take_bodies("t", "h").await, ["b"]);
    bench.later(secs(3));
    assert_eq!(bench.take_bodies("t", "h").await, ["a"]);
}

pub async fn due_messages_wait_at_the_cap_like_fresh_ones<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.pending_max = 1).await;
    bench.send("t", delayed(secs(1), "due")).await;
    bench.publish("t", &["fresh"]).await;
    let fresh = bench.take_one("t", "g").await;
    bench.later(secs(1));
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.ack(&fresh).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["due"]);
}

pub async fn delays_survive_a_restart<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.send("t", delayed(secs(10), "a")).await;
    bench.send("t", delayed(secs(5), "b")).await;
    bench.later(ms(4_999));
    bench.restart().await;
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    bench.later(ms(1));
    assert_eq!(bench.take_bodies("t", "g").await, ["b"]);
    bench.restart().await;
    bench.later(secs(5));
    bench.restart().await;
    assert_eq!(bench.take_bodies("t", "g").await, ["a"]);
    bench.restart().await;
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
}
