//! Ack, nack, extend and bury, in time, late and never.

use windlass::engine::*;
use windlass::model::*;

use super::bench::*;

const NOTHING: [&str; 0] = [];

/// One message that was delivered, and whose lease has lapsed.
async fn lapsed<F: Fixture>() -> (Bench<F>, Delivery) {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let delivery = bench.take_one("t", "g").await;
    bench.later(secs(30));
    (bench, delivery)
}

/// One message that was delivered, lapsed, and was delivered again: the old and the new delivery.
async fn taken_over<F: Fixture>() -> (Bench<F>, Delivery, Delivery) {
    let (mut bench, old) = lapsed::<F>().await;
    let new = bench.take_one("t", "g").await;
    (bench, old, new)
}

pub async fn an_acked_message_never_comes_again<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a", "b"]).await;
    let held = bench.take("t", "g", 2).await;
    assert_eq!(bench.ack(&held[0]).await, DONE);
    bench.later(secs(100));
    assert_eq!(bench.take_bodies("t", "g").await, ["b"]);
    assert_eq!(bench.kept_bodies("t").await, ["b"]);
}

pub async fn a_second_ack_says_already_settled<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.ack(&held).await, DONE);
    for action in [SettleAction::Ack, NACK, extend(secs(9)), bury("no")] {
        assert_eq!(bench.act(&held, action).await, SettleOutcome::AlreadySettled);
    }
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
}

pub async fn a_second_ack_says_already_settled_of_a_message_that_is_kept<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.retention.settled = Settled::Keep, |_| {}).await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.ack(&held).await, DONE);
    assert_eq!(bench.ack(&held).await, SettleOutcome::AlreadySettled);
}

pub async fn a_nacked_message_comes_again_with_the_next_attempt<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    for attempt in 1..=5 {
        let held = bench.take_one("t", "g").await;
        assert_eq!(held.attempt, Attempt::new(attempt));
        assert_eq!(bench.nack(&held).await, DONE);
    }
}

pub async fn a_nack_with_a_delay_holds_the_message_back<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.retry = RetryDelays::Fixed(secs(99))).await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.act(&held, nack_after(secs(5))).await, DONE);
    bench.later(ms(4_999));
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.tally("t", "g").await, (0, 0, 1));
    bench.later(ms(1));
    let again = bench.take_one("t", "g").await;
    assert_eq!(bench.act(&again, nack_after(ms(0))).await, DONE);
    assert_eq!(bench.take_one("t", "g").await.attempt, Attempt::new(3));
}

pub async fn a_nack_without_a_delay_uses_the_groups<F: Fixture>() {
    let table = RetryDelays::Table(vec![secs(1), secs(3)]);
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.retry = table).await;
    bench.publish("t", &["a"]).await;
    for delay in [secs(1), secs(3), secs(3), secs(3)] {
        let held = bench.take_one("t", "g").await;
        assert_eq!(bench.nack(&held).await, DONE);
        bench.later(delay - ms(1));
        assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
        bench.later(ms(1));
    }
    let fixed = GroupPatch { retry: Some(RetryDelays::Fixed(secs(7))), ..GroupPatch::default() };
    bench.patch_group("t", "g", fixed).await.unwrap();
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.nack(&held).await, DONE);
    bench.later(ms(6_999));
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    bench.later(ms(1));
    assert_eq!(bench.take_bodies("t", "g").await, ["a"]);
}

pub async fn a_lease_lapses_at_its_deadline_and_the_message_comes_at_once<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.retry = RetryDelays::Fixed(secs(99))).await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    bench.later(ms(29_999));
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.tally("t", "g").await, (0, 1, 0));
    bench.later(ms(1));
    assert_eq!(bench.tally("t", "g").await, (1, 0, 0));
    let again = bench.take_one("t", "g").await;
    assert_eq!(again.attempt, Attempt::new(2));
    assert_eq!(again.message, held.message);
    assert_ne!(again.token, held.token);
}

pub async fn a_jump_of_the_wall_clock_lapses_no_lease<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.settle_down(); // A restart may look at the wall again.
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    bench.clock().jump_wall(bench.now().after(secs(100_000)));
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    bench.clock().jump_wall(Millis::new(7));
    bench.later(ms(29_999));
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.ack(&held).await, DONE);
}

pub async fn an_extended_lease_holds_from_now_on<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    bench.later(secs(29));
    assert_eq!(bench.act(&held, extend(secs(10))).await, DONE);
    bench.later(ms(9_999));
    assert_eq!(bench.tally("t", "g").await, (0, 1, 0));
    assert_eq!(bench.act(&held, extend(secs(1))).await, DONE, "a lease may be shortened, too");
    bench.later(secs(1));
    assert_eq!(bench.take_one("t", "g").await.attempt, Attempt::new(2));
}

pub async fn an_extended_lease_may_be_acked<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.act(&held, extend(secs(100))).await, DONE);
    bench.later(secs(99));
    assert_eq!(bench.ack(&held).await, DONE);
}

pub async fn a_settle_out_of_bounds_changes_nothing<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a", "b"]).await;
    let held = bench.take("t", "g", 2).await;
    let long = "x".repeat(1_025);
    let bad = [nack_after(bounds::DELAY_MAX + ms(1)), extend(ms(0)), extend(bounds::LEASE_MAX + ms(1)), bury(&long)];
    for action in bad {
        let items = vec![(Named::from(&held[0]).0, SettleAction::Ack), (Named::from(&held[1]).0, action.clone())];
        let refused = bench.settle(settle("t", "g", items)).await;
        assert!(matches!(refused, Err(SettleError::Bounds(_))), "{action:?}");
    }
    let item = (LeaseRef::Token("x".to_owned()), SettleAction::Ack);
    let refused = bench.settle(settle("t", "g", vec![item; bounds::SETTLE_BATCH_MAX + 1])).await;
    assert!(matches!(refused, Err(SettleError::Bounds(_))));
    assert_eq!(bench.tally("t", "g").await, (0, 2, 0));
    assert_eq!(bench.act(&held[0], extend(bounds::LEASE_MAX)).await, DONE);
    assert_eq!(bench.act(&held[1], nack_after(bounds::DELAY_MAX)).await, DONE);
}

pub async fn a_settle_in_no_topic_or_group_is_refused<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let refused = bench.settle(settle("nowhere", "g", vec![])).await;
    assert_eq!(refused, Err(SettleError::Lookup(LookupError::NoSuchTopic)));
    let refused = bench.settle(settle("t", "nobody", vec![])).await;
    assert_eq!(refused, Err(SettleError::Lookup(LookupError::NoSuchGroup)));
    assert_eq!(bench.settle(settle("t", "g", vec![])).await, Ok(vec![]));
}

pub async fn items_of_a_settle_succeed_each_for_itself_in_order<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a", "b", "c"]).await;
    let held = bench.take("t", "g", 3).await;
    let lease = |place: usize| Named::from(&held[place]).0;
    let items = vec![
        (lease(2), SettleAction::Ack),
        (LeaseRef::Token("nonsense".to_owned()), SettleAction::Ack),
        (lease(0), NACK),
        (lease(2), SettleAction::Ack),
        (lease(1), SettleAction::Ack),
    ];
    let outcomes = bench.settle(settle("t", "g", items)).await.unwrap();
    assert_eq!(outcomes, [DONE, SettleOutcome::Unknown, DONE, SettleOutcome::AlreadySettled, DONE]);
    assert_eq!(bench.take_bodies("t", "g").await, ["a"]);
}

pub async fn expired_lease_makes_the_old_token_stale<F: Fixture>() {
    let (mut bench, old, new) = taken_over::<F>().await;
    for action in [SettleAction::Ack, NACK, extend(secs(99)), bury("no")] {
        for lateness in [Lateness::Refuse, Lateness::IfFree] {
            assert_eq!(bench.act_if(lateness, &old, action.clone()).await, SettleOutcome::TakenOver);
        }
    }
    assert_eq!(bench.tally("t", "g").await, (0, 1, 0));
    assert_eq!(bench.ack(&new).await, DONE);
    assert_eq!(bench.ack(&old).await, SettleOutcome::AlreadySettled);
}

pub async fn ack_always_settles_though_taken_over<F: Fixture>() {
    let (mut bench, old, new) = taken_over::<F>().await;
    for action in [NACK, extend(secs(99)), bury("no")] {
        assert_eq!(bench.act_if(Lateness::AckAlways, &old, action).await, SettleOutcome::TakenOver);
    }
    assert_eq!(bench.act_if(Lateness::AckAlways, &old, SettleAction::Ack).await, SettleOutcome::SettledLate);
    assert_eq!(bench.ack(&new).await, SettleOutcome::AlreadySettled);
    assert_eq!(bench.tally("t", "g").await, (0, 0, 0));
}

pub async fn a_late_ack_settles_if_nobody_else_has_the_message<F: Fixture>() {
    for lateness in [Lateness::IfFree, Lateness::AckAlways] {
        let (mut bench, late) = lapsed::<F>().await;
        assert_eq!(bench.act_if(lateness, &late, SettleAction::Ack).await, SettleOutcome::SettledLate);
        assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
        assert_eq!(bench.ack(&late).await, SettleOutcome::AlreadySettled);
    }
}

pub async fn a_late_settle_may_be_refused<F: Fixture>() {
    let (mut bench, late) = lapsed::<F>().await;
    for action in [SettleAction::Ack, nack_after(secs(5)), extend(secs(5)), bury("no")] {
        assert_eq!(bench.act_if(Lateness::Refuse, &late, action).await, SettleOutcome::Lapsed);
    }
    assert_eq!(bench.tally("t", "g").await, (1, 0, 0));
    assert_eq!(bench.take_one("t", "g").await.attempt, Attempt::new(2));
}

pub async fn a_late_nack_sets_the_time_anew<F: Fixture>() {
    let (mut bench, late) = lapsed::<F>().await;
    assert_eq!(bench.act(&late, nack_after(secs(5))).await, SettleOutcome::SettledLate);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.tally("t", "g").await, (0, 0, 1));
    bench.later(secs(5));
    assert_eq!(bench.take_one("t", "g").await.attempt, Attempt::new(2));
}

pub async fn a_late_extend_gives_the_lease_again_with_the_same_attempt<F: Fixture>() {
    let (mut bench, late) = lapsed::<F>().await;
    assert_eq!(bench.act(&late, extend(secs(5))).await, SettleOutcome::SettledLate);
    assert_eq!(bench.tally("t", "g").await, (0, 1, 0));
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.act(&late, extend(secs(5))).await, DONE, "the token is as good as new");
    bench.later(secs(5));
    assert_eq!(bench.take_one("t", "g").await.attempt, Attempt::new(2));
}

pub async fn a_late_bury_gives_the_message_up<F: Fixture>() {
    let (mut bench, late) = lapsed::<F>().await;
    assert_eq!(bench.act(&late, bury("no")).await, SettleOutcome::SettledLate);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.tally("t", "g").await, (0, 0, 0));
}

pub async fn an_old_token_is_worth_something_again_when_the_newer_lease_was_nacked<F: Fixture>() {
    let (mut bench, old, new) = taken_over::<F>().await;
    assert_eq!(bench.nack(&new).await, DONE);
    assert_eq!(bench.act_if(Lateness::Refuse, &old, SettleAction::Ack).await, SettleOutcome::Lapsed);
    assert_eq!(bench.ack(&old).await, SettleOutcome::SettledLate);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
}

pub async fn an_old_token_that_extends_is_the_holder_again<F: Fixture>() {
    let (mut bench, old, new) = taken_over::<F>().await;
    bench.later(secs(30));
    assert_eq!(bench.act(&old, extend(secs(5))).await, SettleOutcome::SettledLate);
    assert_eq!(bench.ack(&new).await, SettleOutcome::TakenOver);
    assert_eq!(bench.ack(&old).await, DONE);
}

pub async fn a_forged_token_is_unknown<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    let forged: Vec<String> = (0..held.token.len())
        .map(|place| {
            let change = |(at, c): (usize, char)| {
                if at != place {
                    c
                } else if c == 'A' {
                    'B'
                } else {
                    'A'
                }
            };
            held.token.chars().enumerate().map(change).collect()
        })
        .filter(|forged: &String| !forged.eq_ignore_ascii_case(&held.token))
        .collect();
    let short = &held.token[..held.token.len() - 1];
    let long = format!("{}A", held.token);
    let huge = "A".repeat(1 << 20);
    let others = ["", "nonsense", "ünsinn \u{0}", short, long.as_str(), huge.as_str()];
    for token in forged.iter().map(String::as_str).chain(others) {
        assert_eq!(bench.ack(token).await, SettleOutcome::Unknown, "{:?}", token.get(..64));
    }
    assert_eq!(bench.ack(&held).await, DONE);
}

pub async fn a_token_is_unknown_outside_its_group_and_topic<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.group("t", "h").await;
    bench.topic("u").await;
    bench.group("u", "g").await;
    bench.publish("t", &["a"]).await;
    bench.publish("u", &["b"]).await;
    bench.take_one("t", "h").await;
    bench.take_one("u", "g").await;
    let held = bench.take_one("t", "g").await;
    let item = vec![(Named::from(&held).0, SettleAction::Ack)];
    let unknown = Ok(vec![SettleOutcome::Unknown]);
    assert_eq!(bench.settle(settle("t", "h", item.clone())).await, unknown);
    assert_eq!(bench.settle(settle("u", "g", item.clone())).await, unknown);
    let any = Settle { group: None, ..settle("u", "g", item.clone()) };
    assert_eq!(bench.settle(any).await, unknown);
    assert_eq!(bench.settle(settle("t", "g", item)).await, Ok(vec![DONE]));
    assert_eq!(bench.tally("t", "h").await, (0, 1, 0));
}

pub async fn a_token_names_its_group_if_the_request_does_not<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.group("t", "h").await;
    bench.publish("t", &["a"]).await;
    let of_g = Named::from(&bench.take_one("t", "g").await).0;
    let of_h = Named::from(&bench.take_one("t", "h").await).0;
    let items = vec![(of_g, SettleAction::Ack), (of_h, NACK), (LeaseRef::Handle(77), SettleAction::Ack)];
    let request = Settle { group: None, ..settle("t", "g", items) };
    assert_eq!(bench.settle(request).await, Ok(vec![DONE, DONE, SettleOutcome::Unknown]));
    assert_eq!(bench.tally("t", "g").await, (0, 0, 0));
    assert_eq!(bench.tally("t", "h").await, (1, 0, 0));
}

pub async fn a_token_of_a_deleted_group_is_unknown_to_its_namesake<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.retention.settled = Settled::Keep, |_| {}).await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    bench.engine().await.delete_group(account(), topic("t"), group("g")).await.unwrap();
    bench.group("t", "g").await;
    assert_eq!(bench.take_one("t", "g").await.attempt, Attempt::new(1));
    assert_eq!(bench.ack(&held).await, SettleOutcome::Unknown);
}

pub async fn a_token_of_a_deleted_group_touches_nothing_that_stays<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    bench.engine().await.delete_group(account(), topic("t"), group("g")).await.unwrap();
    let request = Settle { group: None, ..settle("t", "g", vec![(Named::from(&held).0, SettleAction::Ack)]) };
    assert_eq!(bench.settle(request).await.unwrap(), [SettleOutcome::Unknown]);
    bench.group("t", "h").await;
    assert_eq!(bench.take_bodies("t", "h").await, ["a"]);
}

pub async fn a_token_of_a_deleted_topic_is_unknown_to_its_namesake<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    bench.engine().await.delete_topic(account(), topic("t")).await.unwrap();
    bench.topic("t").await;
    bench.group("t", "g").await;
    bench.publish("t", &["b"]).await;
    bench.take_one("t", "g").await;
    assert_eq!(bench.ack(&held).await, SettleOutcome::Unknown);
    assert_eq!(bench.tally("t", "g").await, (0, 1, 0));
}

pub async fn a_token_of_a_purged_or_discarded_message_is_already_settled<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a", "b"]).await;
    let held = bench.take("t", "g", 2).await;
    let request = Discard { account: account(), topic: topic("t"), offsets: offsets(&[0]) };
    bench.engine().await.discard(request).await.unwrap();
    assert_eq!(bench.ack(&held[0]).await, SettleOutcome::AlreadySettled);
    bench.engine().await.purge(account(), topic("t")).await.unwrap();
    assert_eq!(bench.nack(&held[1]).await, SettleOutcome::AlreadySettled);
    bench.later(secs(100));
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.tally("t", "g").await, (0, 0, 0));
}

pub async fn what_was_settled_stays_so_after_a_restart<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.retention.settled = Settled::Keep, |_| {}).await;
    bench.publish("t", &["a", "b", "c", "d"]).await;
    let held = bench.take("t", "g", 4).await;
    assert_eq!(bench.ack(&held[0]).await, DONE);
    assert_eq!(bench.ack(&held[2]).await, DONE);
    assert_eq!(bench.act(&held[3], bury("no")).await, DONE);
    bench.restart().await;
    assert_eq!(bench.ack(&held[2]).await, SettleOutcome::AlreadySettled);
    bench.later(secs(30));
    assert_eq!(bench.take_bodies("t", "g").await, ["b"]);
    bench.restart().await;
    bench.later(secs(30));
    assert_eq!(bench.take_bodies("t", "g").await, ["b"]);
}

pub async fn a_lease_survives_a_restart_with_its_token_and_deadline<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a", "b"]).await;
    let held = bench.take("t", "g", 2).await;
    bench.later(secs(10));
    bench.restart().await;
    assert_eq!(bench.tally("t", "g").await, (0, 2, 0));
    assert_eq!(bench.ack(&held[0]).await, DONE);
    bench.later(ms(19_999));
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    bench.later(ms(1));
    let again = bench.take_one("t", "g").await;
    assert_eq!((text(&again.message).as_str(), again.attempt), ("b", Attempt::new(2)));
}

pub async fn an_extended_lease_survives_a_restart<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.act(&held, extend(secs(100))).await, DONE);
    bench.restart().await;
    bench.later(ms(99_999));
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.ack(&held).await, DONE);
}

pub async fn attempts_survive_a_restart<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    for attempt in 1..=3 {
        let held = bench.take_one("t", "g").await;
        assert_eq!(held.attempt, Attempt::new(attempt));
        bench.restart().await;
        assert_eq!(bench.nack(&held).await, DONE);
        bench.restart().await;
    }
    bench.take_one("t", "g").await;
    bench.later(secs(30));
    bench.restart().await;
    assert_eq!(bench.take_one("t", "g").await.attempt, Attempt::new(5));
}

pub async fn nack_delays_survive_a_restart<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.act(&held, nack_after(secs(100))).await, DONE);
    bench.later(secs(50));
    bench.restart().await;
    bench.later(ms(49_999));
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
    assert_eq!(bench.tally("t", "g").await, (0, 0, 1));
    bench.later(ms(1));
    assert_eq!(bench.take_one("t", "g").await.attempt, Attempt::new(2));
}

pub async fn who_took_a_message_over_is_known_after_a_restart<F: Fixture>() {
    let (mut bench, old, new) = taken_over::<F>().await;
    bench.restart().await;
    assert_eq!(bench.ack(&old).await, SettleOutcome::TakenOver);
    assert_eq!(bench.ack(&new).await, DONE);
}

pub async fn a_late_ack_after_a_restart_settles_if_free<F: Fixture>() {
    let (mut bench, late) = lapsed::<F>().await;
    bench.sweep().await;
    bench.restart().await;
    assert_eq!(bench.act_if(Lateness::Refuse, &late, SettleAction::Ack).await, SettleOutcome::Lapsed);
    assert_eq!(bench.ack(&late).await, SettleOutcome::SettledLate);
}
