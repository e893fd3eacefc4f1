//! Pull without waiting: order, bounds, caps, filters.

use windlass::engine::*;
use windlass::model::*;

use super::bench::*;

const NOTHING: [&str; 0] = [];

pub async fn a_pull_takes_the_oldest_up_to_its_batch<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a", "b", "c"]).await;
    assert_eq!(bodies(&bench.take("t", "g", 2).await), ["a", "b"]);
    assert_eq!(bodies(&bench.take("t", "g", 2).await), ["c"]);
    assert_eq!(bodies(&bench.take("t", "g", 2).await), NOTHING);
}

pub async fn a_pull_and_a_peek_end_when_an_answer_has_bytes_enough<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    // Bodies of 2 MiB, and one more than an answer takes.
    let size = 2 << 20;
    let fit = usize::try_from(bounds::PULL_BYTES_MAX).unwrap() / size;
    let body = Body::from(vec![7; size]);
    for _ in 0..=fit {
        bench.send("t", NewMessage { body: body.clone(), ..NewMessage::default() }).await;
    }
    let peek = Peek {
        account: account(),
        topic: topic("t"),
        group: None,
        from: Offset::ZERO,
        limit: 100,
        filter: PeekFilter::default(),
    };
    let peeked = bench.engine().await.peek(peek.clone()).await.unwrap();
    assert_eq!((peeked.messages.len(), peeked.next), (fit, Some(Offset::new(fit as u64))));
    let rest = bench.engine().await.peek(Peek { from: peeked.next.unwrap(), ..peek }).await.unwrap();
    assert_eq!((rest.messages.len(), rest.next), (1, None));
    // A batch that is full of bytes is full.
    let full = bench.pull(Pull { wait: Wait::Full(secs(60)), ..pull("t", "g", 100) }).await.unwrap();
    assert_eq!(full.deliveries.len(), fit);
    assert_eq!(bench.take("t", "g", 100).await.len(), 1);
}

pub async fn a_pull_tells_lease_attempt_and_counts<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.lease = secs(7)).await;
    bench.publish("t", &["aa", "b", "c"]).await;
    let pulled = bench.pull(pull("t", "g", 2)).await.unwrap();
    assert_eq!(pulled.counts, bench.counts("t", "g").await);
    assert_eq!((pulled.counts.ready, pulled.counts.in_flight, pulled.counts.delayed), (1, 2, 0));
    assert_eq!(pulled.counts.bytes, 4);
    for delivery in &pulled.deliveries {
        assert_eq!((delivery.attempt, delivery.lease, delivery.handle), (Attempt::new(1), secs(7), 0));
        assert!(!delivery.token.is_empty());
    }
    assert_ne!(pulled.deliveries[0].token, pulled.deliveries[1].token);
    let own = bench.pull(Pull { lease: Some(secs(3)), ..pull("t", "g", 1) }).await.unwrap();
    assert_eq!(own.deliveries[0].lease, secs(3));
}

pub async fn groups_read_a_topic_each_for_itself<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.group("t", "h").await;
    bench.publish("t", &["a", "b"]).await;
    let of_g = bench.take_one("t", "g").await;
    assert_eq!(bench.take_bodies("t", "h").await, ["a", "b"]);
    assert_eq!(bench.ack(&of_g).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["b"]);
    assert_eq!(bench.tally("t", "h").await, (0, 2, 0));
}

pub async fn a_pull_from_no_topic_or_group_is_refused<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let refused = bench.pull(pull("nowhere", "g", 1)).await.unwrap_err();
    assert_eq!(refused, PullError::Lookup(LookupError::NoSuchTopic));
    let refused = bench.pull(pull("t", "nobody", 1)).await.unwrap_err();
    assert_eq!(refused, PullError::Lookup(LookupError::NoSuchGroup));
}

pub async fn a_pull_out_of_bounds_is_refused<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let good = pull("t", "g", 1);
    let over = bounds::WAIT_MAX + ms(1);
    let bad = [
        Pull { batch_max: 0, ..good.clone() },
        Pull { batch_max: bounds::PULL_BATCH_MAX + 1, ..good.clone() },
        Pull { lease: Some(ms(0)), ..good.clone() },
        Pull { lease: Some(bounds::LEASE_MAX + ms(1)), ..good.clone() },
        Pull { wait: Wait::Any(over), ..good.clone() },
        Pull { wait: Wait::Full(over), ..good.clone() },
    ];
    for pull in bad {
        let refused = bench.pull(pull.clone()).await;
        assert!(matches!(refused, Err(PullError::Bounds(_))), "{pull:?}");
    }
    let widest = Pull {
        batch_max: bounds::PULL_BATCH_MAX,
        lease: Some(bounds::LEASE_MAX),
        wait: Wait::Any(bounds::WAIT_MAX),
        ..good
    };
    assert_eq!(bodies(&bench.pull(widest).await.unwrap().deliveries), ["a"]);
}

pub async fn a_paused_topic_delivers_nothing_and_takes_publishes<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a", "b"]).await;
    let held = bench.take_one("t", "g").await;
    let pause = |flow| TopicPatch { flow: Some(flow), ..TopicPatch::default() };
    bench.patch_topic("t", pause(Flow::Paused)).await.unwrap();
    assert_eq!(bench.pull(pull("t", "g", 1)).await.unwrap_err(), PullError::Paused);
    bench.publish("t", &["c"]).await;
    assert_eq!(bench.ack(&held).await, DONE);
    bench.patch_topic("t", pause(Flow::Running)).await.unwrap();
    assert_eq!(bench.take_bodies("t", "g").await, ["b", "c"]);
}

pub async fn a_paused_group_leaves_the_others_alone<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.group("t", "h").await;
    bench.publish("t", &["a"]).await;
    bench.patch_group("t", "g", GroupPatch { flow: Some(Flow::Paused), ..GroupPatch::default() }).await.unwrap();
    assert_eq!(bench.pull(pull("t", "g", 1)).await.unwrap_err(), PullError::Paused);
    assert_eq!(bench.take_bodies("t", "h").await, ["a"]);
}

pub async fn leases_run_on_in_a_paused_group<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    bench.take_one("t", "g").await;
    bench.patch_group("t", "g", GroupPatch { flow: Some(Flow::Paused), ..GroupPatch::default() }).await.unwrap();
    bench.later(secs(30));
    assert_eq!(bench.tally("t", "g").await, (1, 0, 0));
}

pub async fn a_pull_with_auto_ack_settles_at_once<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a", "b"]).await;
    let request = Pull { auto_ack: true, handles: HandleKind::PerMessage, ..pull("t", "g", 1) };
    let pulled = bench.pull(request).await.unwrap();
    assert_eq!(bodies(&pulled.deliveries), ["a"]);
    assert_eq!((pulled.deliveries[0].token.as_str(), pulled.deliveries[0].attempt), ("", Attempt::new(1)));
    assert_eq!((pulled.counts.ready, pulled.counts.in_flight), (1, 0));
    bench.later(secs(100));
    assert_eq!(bench.take_bodies("t", "g").await, ["b"]);
    assert_eq!(bench.kept_bodies("t").await, ["b"]);
}

pub async fn an_auto_acked_message_stays_settled_after_a_restart<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.retention.settled = Settled::Keep, |_| {}).await;
    bench.publish("t", &["a", "b"]).await;
    bench.pull(Pull { auto_ack: true, ..pull("t", "g", 1) }).await.unwrap();
    bench.restart().await;
    assert_eq!(bench.take_bodies("t", "g").await, ["b"]);
    assert_eq!(bench.kept_bodies("t").await, ["a", "b"]);
}

pub async fn returned_messages_come_first_then_due_then_fresh<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["r0", "r1", "r2"]).await;
    let held = bench.take("t", "g", 3).await;
    bench.send("t", delayed(secs(1), "due")).await;
    bench.publish("t", &["fresh"]).await;
    for delivery in held.iter().rev() {
        assert_eq!(bench.nack(delivery).await, DONE);
    }
    bench.later(secs(1));
    assert_eq!(bench.take_bodies("t", "g").await, ["r0", "r1", "r2", "due", "fresh"]);
}

pub async fn at_the_cap_only_returned_messages_are_delivered<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.pending_max = 3).await;
    bench.publish("t", &["a", "b", "c", "d", "e"]).await;
    let held = bench.take("t", "g", 100).await;
    assert_eq!(bodies(&held), ["a", "b", "c"]);
    assert_eq!(bench.nack(&held[1]).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["b"]);
    assert_eq!(bench.ack(&held[0]).await, DONE);
    assert_eq!(bench.nack(&held[2]).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["c", "d"]);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
}

pub async fn messages_that_wait_out_a_nack_delay_leave_room_under_the_cap<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.pending_max = 2).await;
    bench.publish("t", &["a", "b", "c", "d", "e"]).await;
    let held = bench.take("t", "g", 2).await;
    assert_eq!(bench.act(&held[0], nack_after(secs(5))).await, DONE);
    assert_eq!(bench.act(&held[1], nack_after(secs(5))).await, DONE);
    assert_eq!(bench.tally("t", "g").await, (3, 0, 2));
    assert_eq!(bench.take_bodies("t", "g").await, ["c", "d"]);
    bench.later(secs(5));
    assert_eq!(bench.take_bodies("t", "g").await, ["a", "b"], "more than the cap, but all returned");
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
}

pub async fn a_full_table_of_nack_delays_stops_fresh_messages<F: Fixture>() {
    let mut bench = Bench::<F>::with(Limits { returned_max: 2, ..Limits::default() }).await;
    bench.topic("t").await;
    bench.group("t", "g").await;
    bench.publish("t", &["a", "b", "c", "d"]).await;
    let held = bench.take("t", "g", 3).await;
    for (delivery, delay) in held.iter().zip([5, 5, 2]) {
        assert_eq!(bench.act(delivery, nack_after(secs(delay))).await, DONE);
    }
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    bench.later(secs(2));
    assert_eq!(bench.take_bodies("t", "g").await, ["c"], "returned ones go on");
    bench.later(secs(3));
    assert_eq!(bench.take_bodies("t", "g").await, ["a", "b", "d"]);
}

pub async fn a_raised_cap_counts_at_once<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.pending_max = 1).await;
    bench.publish("t", &["a", "b"]).await;
    bench.take_one("t", "g").await;
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    bench.patch_group("t", "g", GroupPatch { pending_max: Some(2), ..GroupPatch::default() }).await.unwrap();
    assert_eq!(bench.take_bodies("t", "g").await, ["b"]);
}

pub async fn a_groups_filter_passes_over_unwanted_tags_for_good<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.filter = filter("x||y")).await;
    bench.try_publish("t", vec![tagged("x", "a"), tagged("z", "b"), message("c"), tagged("y", "d")]).await.unwrap();
    assert_eq!(bench.take_bodies("t", "g").await, ["a", "d"]);
    bench.patch_group("t", "g", GroupPatch { filter: Some(TagFilter::All), ..GroupPatch::default() }).await.unwrap();
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.kept_bodies("t").await, ["a", "d"], "passed over by the only group");
}

pub async fn messages_not_reached_yet_count_whatever_their_tag<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.filter = filter("x")).await;
    bench.try_publish("t", vec![tagged("x", "a"), tagged("z", "b")]).await.unwrap();
    assert_eq!(bench.tally("t", "g").await, (2, 0, 0));
    bench.take("t", "g", 10).await;
    assert_eq!(bench.tally("t", "g").await, (0, 1, 0));
}

pub async fn a_pulls_filter_takes_the_place_of_the_groups<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.filter = filter("x")).await;
    bench.group("t", "h").await;
    bench.try_publish("t", vec![tagged("x", "a"), tagged("z", "b"), message("c")]).await.unwrap();
    let own = Pull { filter: Some(filter("z")), ..pull("t", "g", 10) };
    assert_eq!(bodies(&bench.pull(own).await.unwrap().deliveries), ["b"]);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING, "passed over for good");
    let all = Pull { filter: Some(TagFilter::All), ..pull("t", "h", 10) };
    assert_eq!(bodies(&bench.pull(all).await.unwrap().deliveries), ["a", "b", "c"]);
}

pub async fn a_pulls_filter_leaves_returned_messages_for_others<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.try_publish("t", vec![tagged("x", "a"), tagged("z", "b")]).await.unwrap();
    for delivery in bench.take("t", "g", 2).await {
        assert_eq!(bench.nack(&delivery).await, DONE);
    }
    let own = Pull { filter: Some(filter("z")), ..pull("t", "g", 10) };
    assert_eq!(bodies(&bench.pull(own).await.unwrap().deliveries), ["b"]);
    assert_eq!(bench.take_bodies("t", "g").await, ["a"]);
}

pub async fn a_filter_holds_for_due_messages<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.filter = filter("x")).await;
    let with_tag = |name: &str, body: &str| NewMessage { tag: tag(name), ..delayed(secs(1), body) };
    bench.try_publish("t", vec![with_tag("z", "a"), with_tag("x", "b")]).await.unwrap();
    bench.later(secs(1));
    assert_eq!(bench.take_bodies("t", "g").await, ["b"]);
    assert_eq!(bench.tally("t", "g").await, (0, 1, 0));
    assert_eq!(bench.kept_bodies("t").await, ["b"]);
}

pub async fn what_a_filter_passed_over_stays_so_after_a_restart<F: Fixture>() {
    let mut bench =
        Bench::<F>::ready_with(|topic| topic.retention.settled = Settled::Keep, |group| group.filter = filter("x"))
            .await;
    bench.try_publish("t", vec![tagged("z", "a"), tagged("x", "b"), tagged("z", "c")]).await.unwrap();
    bench.take("t", "g", 10).await;
    bench.restart().await;
    bench.patch_group("t", "g", GroupPatch { filter: Some(TagFilter::All), ..GroupPatch::default() }).await.unwrap();
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.tally("t", "g").await, (0, 1, 0));
}
