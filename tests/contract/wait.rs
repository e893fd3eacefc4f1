//! Pulls that wait.

use windlass::engine::*;
use windlass::model::*;

use super::bench::*;

const NOTHING: [&str; 0] = [];

/// A pull that waits up to a minute for a full batch.
fn full(batch_max: usize) -> Pull {
    Pull { wait: Wait::Full(secs(60)), ..pull("t", "g", batch_max) }
}

pub async fn a_waiting_pull_gets_the_next_publish<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let waiting = bench.wait_for(patient(10)).await;
    bench.publish("t", &["a", "b"]).await;
    assert_eq!(waiting.bodies().await, ["a", "b"]);
    assert_eq!(bench.tally("t", "g").await, (0, 2, 0));
}

pub async fn a_pull_does_not_wait_when_there_is_something<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    assert_eq!(bodies(&bench.pull(patient(10)).await.unwrap().deliveries), ["a"]);
    bench.publish("t", &["b", "c"]).await;
    assert_eq!(bodies(&bench.pull(full(2)).await.unwrap().deliveries), ["b", "c"]);
}

pub async fn a_wait_of_no_time_is_no_wait<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let request = Pull { wait: Wait::Full(ms(0)), ..pull("t", "g", 2) };
    assert_eq!(bodies(&bench.pull(request).await.unwrap().deliveries), ["a"]);
    let request = Pull { wait: Wait::Any(ms(0)), ..pull("t", "g", 2) };
    assert_eq!(bodies(&bench.pull(request).await.unwrap().deliveries), NOTHING);
}

pub async fn a_wait_ends_empty_when_its_time_is_up<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let waiting = bench.wait_for(patient(10)).await;
    bench.later(ms(59_999));
    bench.sweep().await;
    assert_eq!(bench.waiting(&patient(10)).await, 1);
    bench.later(ms(1));
    bench.sweep().await;
    let pulled = waiting.answer().await.unwrap();
    assert_eq!(pulled.deliveries, []);
    assert_eq!(pulled.counts, Counts::default());
    bench.publish("t", &["a"]).await;
    assert_eq!(bench.take_bodies("t", "g").await, ["a"]);
}

pub async fn a_jump_of_the_wall_clock_ends_no_wait<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let waiting = bench.wait_for(patient(10)).await;
    bench.clock().jump_wall(bench.now().after(secs(3_600)));
    bench.sweep().await;
    assert_eq!(bench.waiting(&patient(10)).await, 1);
    bench.publish("t", &["a"]).await;
    assert_eq!(waiting.bodies().await, ["a"]);
}

pub async fn who_waits_first_is_served_first<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let first = bench.wait_for(patient(1)).await;
    let second = bench.wait_for(patient(1)).await;
    let third = bench.wait_for(patient(1)).await;
    bench.publish("t", &["a"]).await;
    assert_eq!(first.bodies().await, ["a"]);
    bench.publish("t", &["b", "c"]).await;
    assert_eq!(second.bodies().await, ["b"]);
    assert_eq!(third.bodies().await, ["c"]);
}

pub async fn a_pull_for_a_full_batch_waits_until_it_is_full<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let waiting = bench.wait_for(full(3)).await;
    bench.publish("t", &["b"]).await;
    assert_eq!(bench.waiting(&full(3)).await, 1);
    assert_eq!(bench.tally("t", "g").await, (2, 0, 0), "nothing is taken before");
    bench.publish("t", &["c", "d"]).await;
    assert_eq!(waiting.bodies().await, ["a", "b", "c"]);
    assert_eq!(bench.tally("t", "g").await, (1, 3, 0));
}

pub async fn a_pull_for_a_full_batch_takes_what_there_is_when_its_time_is_up<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a", "b"]).await;
    let waiting = bench.wait_for(full(3)).await;
    bench.later(secs(60));
    bench.sweep().await;
    assert_eq!(waiting.bodies().await, ["a", "b"]);
}

pub async fn a_nack_wakes_a_waiting_pull<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    let waiting = bench.wait_for(patient(1)).await;
    assert_eq!(bench.nack(&held).await, DONE);
    assert_eq!(waiting.answer().await.unwrap().deliveries[0].attempt, Attempt::new(2));
}

pub async fn a_lapse_wakes_a_waiting_pull<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    bench.take_one("t", "g").await;
    let waiting = bench.wait_for(patient(1)).await;
    bench.later(secs(30));
    bench.sweep().await;
    assert_eq!(waiting.answer().await.unwrap().deliveries[0].attempt, Attempt::new(2));
}

pub async fn the_end_of_a_nack_delay_wakes_a_waiting_pull<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    let waiting = bench.wait_for(patient(1)).await;
    assert_eq!(bench.act(&held, nack_after(secs(5))).await, DONE);
    assert_eq!(bench.waiting(&patient(1)).await, 1);
    bench.later(secs(5));
    bench.sweep().await;
    assert_eq!(waiting.bodies().await, ["a"]);
}

pub async fn a_due_message_wakes_a_waiting_pull<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.send("t", delayed(secs(5), "a")).await;
    let waiting = bench.wait_for(patient(1)).await;
    bench.later(secs(5));
    bench.sweep().await;
    assert_eq!(waiting.bodies().await, ["a"]);
}

pub async fn an_ack_at_the_cap_wakes_a_waiting_pull<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.pending_max = 1).await;
    bench.publish("t", &["a", "b"]).await;
    let held = bench.take_one("t", "g").await;
    let waiting = bench.wait_for(patient(1)).await;
    assert_eq!(bench.ack(&held).await, DONE);
    assert_eq!(waiting.bodies().await, ["b"]);
}

pub async fn a_raised_cap_wakes_a_waiting_pull<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.pending_max = 1).await;
    bench.publish("t", &["a", "b"]).await;
    bench.take_one("t", "g").await;
    let waiting = bench.wait_for(patient(1)).await;
    bench.patch_group("t", "g", GroupPatch { pending_max: Some(2), ..GroupPatch::default() }).await.unwrap();
    assert_eq!(waiting.bodies().await, ["b"]);
}

pub async fn an_ack_in_a_strict_topic_wakes_a_waiting_pull<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.ordering = Ordering::Strict, |_| {}).await;
    bench.publish("t", &["a", "b"]).await;
    let held = bench.take_one("t", "g").await;
    let waiting = bench.wait_for(patient(1)).await;
    assert_eq!(bench.ack(&held).await, DONE);
    assert_eq!(waiting.bodies().await, ["b"]);
}

pub async fn an_ack_frees_the_key_for_a_waiting_pull<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.ordering = Ordering::PerKey, |_| {}).await;
    bench.send_keyed("t", &[("k", "a"), ("k", "b")]).await;
    let held = bench.take_one("t", "g").await;
    let waiting = bench.wait_for(patient(1)).await;
    assert_eq!(bench.ack(&held).await, DONE);
    assert_eq!(waiting.bodies().await, ["b"]);
}

pub async fn a_seek_wakes_a_waiting_pull<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.retention.settled = Settled::Keep, |_| {}).await;
    bench.publish("t", &["a"]).await;
    bench.pull(Pull { auto_ack: true, ..pull("t", "g", 1) }).await.unwrap();
    let waiting = bench.wait_for(patient(1)).await;
    bench.seek(Start::Head).await;
    assert_eq!(waiting.bodies().await, ["a"]);
}

pub async fn a_dead_letter_wakes_who_waits_for_dead_letters<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.dead_letter = Some(topic_name("dead"))).await;
    bench.topic("dead").await;
    bench.group("dead", "undertaker").await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    let waiting = bench.wait_for(Pull { wait: Wait::Any(secs(60)), ..pull("dead", "undertaker", 1) }).await;
    assert_eq!(bench.act(&held, bury("no")).await, DONE);
    assert_eq!(waiting.bodies().await, ["a"]);
}

pub async fn a_waiting_pull_with_auto_ack_leaves_no_lease<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let waiting = bench.wait_for(Pull { auto_ack: true, ..patient(10) }).await;
    bench.publish("t", &["a"]).await;
    assert_eq!(waiting.bodies().await, ["a"]);
    assert_eq!(bench.tally("t", "g").await, (0, 0, 0));
}

pub async fn unwanted_messages_do_not_end_a_wait<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.filter = filter("x")).await;
    let waiting = bench.wait_for(patient(10)).await;
    bench.send("t", tagged("y", "a")).await;
    assert_eq!(bench.waiting(&patient(10)).await, 1);
    bench.send("t", tagged("x", "b")).await;
    assert_eq!(waiting.bodies().await, ["b"]);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
}

pub async fn who_hangs_up_gets_no_lease<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let gone = bench.wait_for(patient(10)).await;
    let stays = bench.wait_for(patient(10)).await;
    gone.hang_up().await;
    bench.publish("t", &["a"]).await;
    let pulled = stays.answer().await.unwrap();
    assert_eq!(bodies(&pulled.deliveries), ["a"]);
    assert_eq!(pulled.deliveries[0].attempt, Attempt::new(1));
}

pub async fn who_hangs_up_makes_room_for_another<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.waiting_max = 1).await;
    let gone = bench.wait_for(patient(10)).await;
    gone.hang_up().await;
    bench.until_waiting(&patient(10), 0).await;
    let stays = bench.wait_for(patient(10)).await;
    bench.publish("t", &["a"]).await;
    assert_eq!(stays.bodies().await, ["a"]);
}

pub async fn too_many_waiting_pulls_are_refused<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.waiting_max = 2).await;
    let first = bench.wait_for(patient(1)).await;
    let second = bench.wait_for(patient(1)).await;
    assert_eq!(bench.pull(patient(1)).await.unwrap_err(), PullError::TooManyWaiting { max: 2 });
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING, "who does not wait is not refused");
    bench.publish("t", &["a", "b", "c"]).await;
    assert_eq!(first.bodies().await, ["a"]);
    assert_eq!(second.bodies().await, ["b"]);
    assert_eq!(bodies(&bench.pull(patient(1)).await.unwrap().deliveries), ["c"]);
}

pub async fn a_pause_ends_the_waits<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let waiting = bench.wait_for(patient(1)).await;
    bench.patch_group("t", "g", GroupPatch { flow: Some(Flow::Paused), ..GroupPatch::default() }).await.unwrap();
    assert_eq!(waiting.answer().await.unwrap_err(), PullError::Paused);
    bench.patch_group("t", "g", GroupPatch { flow: Some(Flow::Running), ..GroupPatch::default() }).await.unwrap();
    let waiting = bench.wait_for(patient(1)).await;
    bench.patch_topic("t", TopicPatch { flow: Some(Flow::Paused), ..TopicPatch::default() }).await.unwrap();
    assert_eq!(waiting.answer().await.unwrap_err(), PullError::Paused);
}

pub async fn deleting_the_topic_ends_the_waits<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let waiting = bench.wait_for(patient(1)).await;
    bench.engine().await.delete_topic(account(), topic("t")).await.unwrap();
    assert_eq!(waiting.answer().await.unwrap_err(), PullError::Lookup(LookupError::NoSuchTopic));
}

pub async fn deleting_the_group_ends_the_waits<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let waiting = bench.wait_for(patient(1)).await;
    bench.engine().await.delete_group(account(), topic("t"), group("g")).await.unwrap();
    assert_eq!(waiting.answer().await.unwrap_err(), PullError::Lookup(LookupError::NoSuchGroup));
}

pub async fn a_stop_answers_who_waits_and_refuses_the_rest<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let some = bench.wait_for(full(5)).await;
    bench.group("t", "empty").await;
    bench.pull(Pull { auto_ack: true, ..pull("t", "empty", 1) }).await.unwrap();
    let none = bench.wait_for(Pull { wait: Wait::Any(secs(60)), ..pull("t", "empty", 1) }).await;
    let engine = bench.engine().await;
    engine.stop().await;
    assert_eq!(some.bodies().await, ["a"]);
    assert_eq!(none.bodies().await, NOTHING);
    let refused = bench.try_publish("t", vec![message("b")]).await;
    assert_eq!(refused, Err(PublishError::Refused(Refusal::Stopping)));
    let refused = bench.pull(pull("t", "g", 1)).await.unwrap_err();
    assert_eq!(refused, PullError::Lookup(LookupError::Refused(Refusal::Stopping)));
    let refused = bench.settle(settle("t", "g", vec![])).await;
    assert_eq!(refused, Err(SettleError::Lookup(LookupError::Refused(Refusal::Stopping))));
}
