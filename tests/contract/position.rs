//! Where a group begins, seeks, purge and discard.

use windlass::engine::*;
use windlass::model::*;

use super::bench::*;

const NOTHING: [&str; 0] = [];

/// Topic `t` that keeps what is settled, with `a` to `e` published a second apart, and group `g` at the
/// head. Also the time at which `a` was published.
async fn five<F: Fixture>() -> (Bench<F>, Millis) {
    let mut bench = Bench::ready_with(|topic| topic.retention.settled = Settled::Keep, |_| {}).await;
    let at = bench.now();
    for body in ["a", "b", "c", "d", "e"] {
        bench.publish("t", &[body]).await;
        bench.later(secs(1));
    }
    (bench, at)
}

pub async fn a_group_begins_where_it_was_told<F: Fixture>() {
    let (mut bench, at) = five::<F>().await;
    let cases = [
        (Start::Head, "abcde"),
        (Start::Tail, ""),
        (Start::Offset(Offset::new(3)), "de"),
        (Start::Offset(Offset::new(99)), ""),
        (Start::Time(at.after(ms(2_000))), "cde"),
        (Start::Time(at.after(ms(2_001))), "de"),
        (Start::Time(Millis::ZERO), "abcde"),
        (Start::Time(Millis::NEVER), ""),
    ];
    for (number, (start, expected)) in cases.into_iter().enumerate() {
        let now = format!("now{number}");
        bench.group_at("t", &now, Position::Now(start)).await;
        assert_eq!(bench.counts("t", &now).await.ready, expected.len() as u64, "{start:?}");
        assert_eq!(bench.take_bodies("t", &now).await.concat(), expected, "{start:?}");
        let later = format!("later{number}");
        bench.group_at("t", &later, Position::FirstPull(start)).await;
        assert_eq!(bench.counts("t", &later).await.ready, expected.len() as u64, "{start:?}");
        assert_eq!(bench.take_bodies("t", &later).await.concat(), expected, "{start:?}");
    }
}

pub async fn a_group_at_the_tail_gets_only_what_is_published_later<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["before"]).await;
    bench.group_at("t", "h", Position::Now(Start::Tail)).await;
    bench.publish("t", &["after"]).await;
    assert_eq!(bench.take_bodies("t", "h").await, ["after"]);
}

pub async fn a_position_of_the_first_pull_is_fixed_by_it<F: Fixture>() {
    let (mut bench, _) = five::<F>().await;
    bench.group_at("t", "h", Position::FirstPull(Start::Tail)).await;
    bench.publish("t", &["f"]).await;
    assert_eq!(bench.tally("t", "h").await, (0, 0, 0));
    assert_eq!(bench.take_bodies("t", "h").await, NOTHING);
    bench.publish("t", &["g"]).await;
    assert_eq!(bench.tally("t", "h").await, (1, 0, 0));
    assert_eq!(bench.take_bodies("t", "h").await, ["g"]);
}

pub async fn the_first_pulls_start_wins<F: Fixture>() {
    let (mut bench, _) = five::<F>().await;
    bench.group_at("t", "h", Position::FirstPull(Start::Tail)).await;
    let start = Some(Start::Offset(Offset::new(3)));
    let first = bench.pull(Pull { start, ..pull("t", "h", 1) }).await.unwrap();
    assert_eq!(bodies(&first.deliveries), ["d"]);
    let second = bench.pull(Pull { start: Some(Start::Head), ..pull("t", "h", 9) }).await.unwrap();
    assert_eq!(bodies(&second.deliveries), ["e"], "it counts only while there is no position");
}

pub async fn a_pulls_start_counts_for_nothing_once_there_is_a_position<F: Fixture>() {
    let (mut bench, _) = five::<F>().await;
    let pulled = bench.pull(Pull { start: Some(Start::Tail), ..pull("t", "g", 1) }).await.unwrap();
    assert_eq!(bodies(&pulled.deliveries), ["a"]);
}

pub async fn a_waiting_first_pull_fixes_the_tail<F: Fixture>() {
    let mut bench = Bench::<F>::new().await;
    bench.topic("t").await;
    bench.publish("t", &["before"]).await;
    bench.group_at("t", "g", Position::FirstPull(Start::Tail)).await;
    let waiting = bench.wait_for(patient(10)).await;
    bench.publish("t", &["after"]).await;
    assert_eq!(waiting.bodies().await, ["after"]);
}

pub async fn a_group_without_a_position_lets_no_message_go<F: Fixture>() {
    let mut bench = Bench::<F>::new().await;
    bench.topic("t").await;
    bench.group_at("t", "g", Position::FirstPull(Start::Tail)).await;
    bench.publish("t", &["a"]).await;
    assert_eq!(bench.kept_bodies("t").await, ["a"]);
    let first = bench.pull(Pull { start: Some(Start::Head), ..pull("t", "g", 1) }).await.unwrap();
    assert_eq!(bodies(&first.deliveries), ["a"]);
}

pub async fn positions_survive_a_restart<F: Fixture>() {
    let (mut bench, _) = five::<F>().await;
    bench.group_at("t", "open", Position::FirstPull(Start::Head)).await;
    bench.group_at("t", "fixed", Position::Now(Start::Tail)).await;
    bench.group_at("t", "pulled", Position::FirstPull(Start::Tail)).await;
    bench.take("t", "pulled", 1).await;
    bench.take("t", "g", 2).await;
    bench.restart().await;
    bench.publish("t", &["f"]).await;
    let open = bench.pull(Pull { start: Some(Start::Offset(Offset::new(4))), ..pull("t", "open", 9) }).await.unwrap();
    assert_eq!(bodies(&open.deliveries), ["e", "f"]);
    assert_eq!(bench.take_bodies("t", "fixed").await, ["f"]);
    assert_eq!(bench.take_bodies("t", "pulled").await, ["f"]);
    assert_eq!(bench.take_bodies("t", "g").await, ["c", "d", "e", "f"]);
}

pub async fn a_seek_moves_a_group_back_and_forth<F: Fixture>() {
    let (mut bench, at) = five::<F>().await;
    assert_eq!(bench.take_bodies("t", "g").await.concat(), "abcde");
    let cases = [
        (Start::Head, "abcde"),
        (Start::Offset(Offset::new(2)), "cde"),
        (Start::Tail, ""),
        (Start::Time(at.after(secs(4))), "e"),
        (Start::Offset(Offset::new(99)), ""),
    ];
    for (start, expected) in cases {
        let report = bench.seek(start).await;
        assert_eq!((report.to.get(), report.ahead), (5 - expected.len() as u64, expected.len() as u64));
        let taken = bench.take("t", "g", 100).await;
        assert_eq!(bodies(&taken).concat(), expected, "{start:?}");
        assert!(taken.iter().all(|delivery| delivery.attempt == Attempt::new(1)), "attempts begin anew");
    }
}

pub async fn a_seek_forgets_leases_and_returned_messages_and_says_so<F: Fixture>() {
    let (mut bench, _) = five::<F>().await;
    let held = bench.take("t", "g", 4).await;
    assert_eq!(bench.ack(&held[0]).await, DONE);
    assert_eq!(bench.nack(&held[1]).await, DONE);
    assert_eq!(bench.act(&held[2], nack_after(secs(5))).await, DONE);
    let report = bench.seek(Start::Tail).await;
    let expected = SeekReport { from: Offset::new(4), to: Offset::new(5), pending_dropped: 3, ahead: 0 };
    assert_eq!(report, expected);
    assert_eq!(bench.tally("t", "g").await, (0, 0, 0));
    bench.later(secs(100));
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    let outcome = bench.ack(&held[3]).await;
    assert!(matches!(outcome, SettleOutcome::Unknown | SettleOutcome::AlreadySettled), "{outcome:?}");
}

pub async fn a_token_of_before_a_seek_touches_nothing_after_it<F: Fixture>() {
    let (mut bench, _) = five::<F>().await;
    let old = bench.take_one("t", "g").await;
    bench.seek(Start::Head).await;
    for action in [SettleAction::Ack, NACK, extend(secs(50)), bury("no")] {
        let outcome = bench.act_if(Lateness::AckAlways, &old, action).await;
        assert!(matches!(outcome, SettleOutcome::Unknown | SettleOutcome::AlreadySettled), "{outcome:?}");
    }
    assert_eq!(bench.tally("t", "g").await, (5, 0, 0));
    let new = bench.take_one("t", "g").await;
    assert_eq!((text(&new.message).as_str(), new.attempt), ("a", Attempt::new(1)));
    bench.ack(&old).await;
    assert_eq!(bench.ack(&new).await, DONE);
}

pub async fn a_dry_run_of_a_seek_changes_nothing<F: Fixture>() {
    let (mut bench, _) = five::<F>().await;
    let held = bench.take_one("t", "g").await;
    let request = Seek { dry_run: true, ..seek("t", "g", Start::Offset(Offset::new(3))) };
    let report = bench.engine().await.seek(request).await.unwrap();
    assert_eq!(report, SeekReport { from: Offset::new(1), to: Offset::new(3), pending_dropped: 1, ahead: 2 });
    assert_eq!(bench.ack(&held).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, ["b", "c", "d", "e"]);
}

pub async fn a_seek_fixes_the_position_of_a_group_that_has_none<F: Fixture>() {
    let (mut bench, _) = five::<F>().await;
    bench.group_at("t", "h", Position::FirstPull(Start::Head)).await;
    bench.engine().await.seek(seek("t", "h", Start::Offset(Offset::new(4)))).await.unwrap();
    let pulled = bench.pull(Pull { start: Some(Start::Head), ..pull("t", "h", 9) }).await.unwrap();
    assert_eq!(bodies(&pulled.deliveries), ["e"]);
}

pub async fn a_seek_goes_back_only_to_what_is_kept<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a", "b", "c"]).await;
    let held = bench.take("t", "g", 3).await;
    assert_eq!(bench.ack(&held[0]).await, DONE);
    assert_eq!(bench.ack(&held[1]).await, DONE);
    assert_eq!(bench.seek(Start::Offset(Offset::ZERO)).await.to, Offset::new(2));
    assert_eq!(bench.take_bodies("t", "g").await, ["c"]);
}

pub async fn a_seek_leaves_future_delays_alone_and_takes_due_ones_again<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.retention.settled = Settled::Keep, |_| {}).await;
    bench.send("t", delayed(secs(5), "due")).await;
    bench.send("t", delayed(secs(50), "future")).await;
    bench.publish("t", &["a"]).await;
    bench.later(secs(5));
    for delivery in bench.take("t", "g", 100).await {
        assert_eq!(bench.ack(&delivery).await, DONE);
    }
    bench.seek(Start::Head).await;
    assert_eq!(bench.tally("t", "g").await, (2, 0, 1));
    assert_eq!(bench.take_bodies("t", "g").await, ["due", "a"]);
    bench.seek(Start::Offset(Offset::new(1))).await;
    assert_eq!(bench.take_bodies("t", "g").await, ["a"]);
    bench.later(secs(45));
    assert_eq!(bench.take("t", "g", 100).await.iter().filter(|d| text(&d.message) == "future").count(), 1);
    bench.seek(Start::Tail).await;
    assert_eq!(bench.tally("t", "g").await, (0, 0, 0));
}

pub async fn a_seek_to_the_tail_skips_delayed_messages_of_before<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.send("t", delayed(secs(5), "a")).await;
    bench.seek(Start::Tail).await;
    bench.later(secs(5));
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
}

pub async fn a_seek_survives_a_restart<F: Fixture>() {
    let (mut bench, _) = five::<F>().await;
    let held = bench.take("t", "g", 5).await;
    assert_eq!(bench.ack(&held[3]).await, DONE);
    bench.seek(Start::Offset(Offset::new(2))).await;
    bench.restart().await;
    assert_eq!(bench.take_bodies("t", "g").await, ["c", "d", "e"]);
}

pub async fn a_seek_in_no_topic_or_group_is_refused<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let refused = bench.engine().await.seek(seek("nowhere", "g", Start::Head)).await;
    assert_eq!(refused, Err(LookupError::NoSuchTopic));
    let refused = bench.engine().await.seek(seek("t", "nobody", Start::Head)).await;
    assert_eq!(refused, Err(LookupError::NoSuchGroup));
}

pub async fn a_purge_gives_up_everything<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.group("t", "h").await;
    bench.publish("t", &["a", "b", "c"]).await;
    bench.send("t", delayed(secs(5), "d")).await;
    let held = bench.take("t", "g", 2).await;
    assert_eq!(bench.act(&held[1], nack_after(secs(5))).await, DONE);
    let report = bench.engine().await.purge(account(), topic("t")).await.unwrap();
    assert_eq!(report, PurgeReport { messages: 4 });
    bench.later(secs(100));
    for group in ["g", "h"] {
        assert_eq!(bench.tally("t", group).await, (0, 0, 0));
        assert_eq!(bench.take_bodies("t", group).await, NOTHING);
    }
    assert_eq!(bench.topic_counts("t").await, Counts::default());
    assert_eq!(bench.publish("t", &["e"]).await[0].offset, Offset::new(4), "offsets are never reused");
    bench.restart().await;
    assert_eq!(bench.take_bodies("t", "g").await, ["e"]);
}

pub async fn a_discard_gives_up_what_it_names<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.group("t", "h").await;
    bench.publish("t", &["a", "b", "c"]).await;
    bench.send("t", delayed(secs(5), "d")).await;
    bench.take("t", "g", 1).await;
    let request = Discard { account: account(), topic: topic("t"), offsets: offsets(&[0, 2, 3, 99, 2]) };
    let report = bench.engine().await.discard(request.clone()).await.unwrap();
    assert_eq!(report.discarded, offsets(&[0, 2, 3]));
    let report = bench.engine().await.discard(request).await.unwrap();
    assert_eq!(report.discarded, offsets(&[]));
    bench.restart().await;
    bench.later(secs(100));
    for group in ["g", "h"] {
        assert_eq!(bench.tally("t", group).await, (1, 0, 0));
        assert_eq!(bench.take_bodies("t", group).await, ["b"]);
    }
}

pub async fn a_seek_to_the_head_counts_messages_that_a_due_one_overtook<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.pending_max = 1).await;
    bench.publish("t", &["a"]).await;
    bench.send("t", delayed(secs(1), "due")).await;
    bench.later(secs(1));
    assert_eq!(bench.take_bodies("t", "g").await, ["due"]);
    let report = bench.seek(Start::Head).await;
    assert_eq!((report.to, report.pending_dropped, report.ahead), (Offset::ZERO, 1, 2));
}

pub async fn a_seek_to_an_offset_that_is_gone_stands_there<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a", "b", "c", "d"]).await;
    let held = bench.take("t", "g", 3).await;
    assert_eq!(bench.ack(&held[1]).await, DONE);
    let report = bench.seek(Start::Offset(Offset::new(1))).await;
    assert_eq!((report.to, report.pending_dropped, report.ahead), (Offset::new(1), 2, 2));
    assert_eq!(bench.take_bodies("t", "g").await, ["c", "d"]);
}

pub async fn a_seek_does_not_call_withheld_messages_pending<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.ordering = Ordering::PerKey, |_| {}).await;
    bench.send_keyed("t", &[("k", "k1"), ("k", "k2")]).await;
    assert_eq!(bench.take_bodies("t", "g").await, ["k1"]);
    assert_eq!(bench.seek(Start::Head).await.pending_dropped, 1);
}

pub async fn a_pull_refused_by_a_pause_fixes_no_position<F: Fixture>() {
    let (mut bench, _) = five::<F>().await;
    bench.group_at("t", "h", Position::FirstPull(Start::Head)).await;
    let flow = |flow| GroupPatch { flow: Some(flow), ..GroupPatch::default() };
    bench.patch_group("t", "h", flow(Flow::Paused)).await.unwrap();
    let refused = bench.pull(Pull { start: Some(Start::Tail), ..pull("t", "h", 9) }).await;
    assert_eq!(refused.unwrap_err(), PullError::Paused);
    bench.patch_group("t", "h", flow(Flow::Running)).await.unwrap();
    assert_eq!(bench.take_bodies("t", "h").await.concat(), "abcde");
}

pub async fn a_seek_settles_delayed_messages_behind_it_whatever_their_time<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    for (delay, body) in [(20, "behind"), (5, "ahead")] {
        bench.send("t", delayed(secs(delay), body)).await;
    }
    bench.seek(Start::Offset(Offset::new(1))).await;
    assert_eq!(bench.kept_bodies("t").await, ["ahead"]);
    assert_eq!(bench.topic_counts("t").await.delayed, 1);
}
