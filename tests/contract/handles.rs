//! Short handles beside the tokens.

use windlass::engine::*;
use windlass::model::*;

use super::bench::*;

const NOTHING: [&str; 0] = [];

fn with_handles(handles: HandleKind, batch_max: usize) -> Pull {
    Pull { handles, ..pull("t", "g", batch_max) }
}

/// Three messages `a`, `b` and `c`, taken in one batch with one handle.
async fn batch<F: Fixture>() -> (Bench<F>, Vec<Delivery>, u128) {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a", "b", "c"]).await;
    let held = bench.pull(with_handles(HandleKind::PerBatch, 3)).await.unwrap().deliveries;
    let handle = held[0].handle;
    (bench, held, handle)
}

pub async fn a_handle_per_message_is_a_random_uuid<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a", "b"]).await;
    let held = bench.pull(with_handles(HandleKind::PerMessage, 2)).await.unwrap().deliveries;
    for delivery in &held {
        let uuid = uuid::Uuid::from_u128(delivery.handle);
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (4, uuid::Variant::RFC4122));
        assert!(!delivery.token.is_empty());
    }
    assert_ne!(held[0].handle, held[1].handle);
    assert_eq!(bench.nack(&held[0]).await, DONE);
    let again = bench.pull(with_handles(HandleKind::PerMessage, 1)).await.unwrap().deliveries;
    assert_ne!(again[0].handle, held[0].handle, "unique per delivery");
}

pub async fn a_handle_per_message_settles_its_lease<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a", "b", "c"]).await;
    let held = bench.pull(with_handles(HandleKind::PerMessage, 3)).await.unwrap().deliveries;
    assert_eq!(bench.ack(held[1].handle).await, DONE);
    assert_eq!(bench.act(held[2].handle, nack_after(secs(5))).await, DONE);
    assert_eq!(bench.act(held[0].handle, extend(secs(60))).await, DONE);
    assert_eq!(bench.tally("t", "g").await, (0, 1, 1));
    bench.later(secs(59));
    assert_eq!(bench.take_bodies("t", "g").await, ["c"]);
    assert_eq!(bench.ack(&held[0]).await, DONE, "the token works beside the handle");
}

pub async fn a_handle_per_batch_is_one_number_safe_in_json<F: Fixture>() {
    let (mut bench, held, handle) = batch::<F>().await;
    assert!(held.iter().all(|delivery| delivery.handle == handle));
    assert!(handle > 0 && handle < 1 << 53);
    bench.publish("t", &["d"]).await;
    let next = bench.pull(with_handles(HandleKind::PerBatch, 3)).await.unwrap().deliveries;
    assert_ne!(next[0].handle, handle);
}

pub async fn a_batch_handle_settles_what_still_carries_it<F: Fixture>() {
    let (mut bench, held, handle) = batch::<F>().await;
    assert_eq!(bench.ack(&held[1]).await, DONE);
    assert_eq!(bench.ack(handle).await, SettleOutcome::Settled { count: 2 });
    assert_eq!(bench.ack(handle).await, SettleOutcome::Unknown);
    assert_eq!(bench.ack(&held[0]).await, SettleOutcome::AlreadySettled);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
}

pub async fn a_batch_handle_nacks_all_of_its_leases<F: Fixture>() {
    let (mut bench, _, handle) = batch::<F>().await;
    assert_eq!(bench.act(handle, nack_after(secs(5))).await, SettleOutcome::Settled { count: 3 });
    assert_eq!(bench.tally("t", "g").await, (0, 0, 3));
    bench.later(secs(5));
    assert_eq!(bench.take_bodies("t", "g").await, ["a", "b", "c"]);
}

pub async fn a_late_batch_handle_is_worth_what_lateness_says<F: Fixture>() {
    let (mut bench, _, handle) = batch::<F>().await;
    bench.later(secs(30));
    assert_eq!(bench.act_if(Lateness::Refuse, handle, SettleAction::Ack).await, SettleOutcome::Lapsed);
    assert_eq!(bench.tally("t", "g").await, (3, 0, 0));
    assert_eq!(bench.ack(handle).await, SettleOutcome::SettledLate);
    assert_eq!(bench.tally("t", "g").await, (0, 0, 0));
}

pub async fn a_batch_handle_with_a_lapsed_lease_settles_the_others_in_time<F: Fixture>() {
    let (mut bench, held, handle) = batch::<F>().await;
    assert_eq!(bench.act(&held[0], extend(secs(60))).await, DONE);
    bench.later(secs(30));
    let refusing = bench.act_if(Lateness::Refuse, handle, SettleAction::Ack).await;
    assert_eq!(refusing, SettleOutcome::Settled { count: 1 });
    assert_eq!(bench.take_bodies("t", "g").await, ["b", "c"]);
}

pub async fn a_message_delivered_again_carries_the_old_handle_no_more<F: Fixture>() {
    let (mut bench, _, handle) = batch::<F>().await;
    bench.later(secs(30));
    let again = bench.take("t", "g", 1).await;
    assert_eq!(bench.act(handle, SettleAction::Ack).await, SettleOutcome::SettledLate);
    assert_eq!(bench.tally("t", "g").await, (0, 1, 0), "the one delivered again is left alone");
    assert_eq!(bench.ack(handle).await, SettleOutcome::Unknown);
    assert_eq!(bench.ack(&again[0]).await, DONE);
}

pub async fn a_handle_is_unknown_outside_its_group<F: Fixture>() {
    let (mut bench, held, handle) = batch::<F>().await;
    bench.group("t", "h").await;
    bench.take("t", "h", 3).await;
    let item = vec![(LeaseRef::Handle(handle), SettleAction::Ack)];
    assert_eq!(bench.settle(settle("t", "h", item.clone())).await, Ok(vec![SettleOutcome::Unknown]));
    let any = Settle { group: None, ..settle("t", "g", item) };
    assert_eq!(bench.settle(any).await, Ok(vec![SettleOutcome::Unknown]));
    assert_eq!(bench.ack(&held[0]).await, DONE);
}

pub async fn nothing_carries_the_handle_zero<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    assert_eq!(held.handle, 0);
    for handle in [0, 1, u128::MAX] {
        assert_eq!(bench.ack(handle).await, SettleOutcome::Unknown);
    }
    assert_eq!(bench.ack(&held).await, DONE);
}

pub async fn handles_survive_a_restart<F: Fixture>() {
    let (mut bench, held, handle) = batch::<F>().await;
    bench.restart().await;
    assert_eq!(bench.ack(&held[0]).await, DONE);
    bench.restart().await;
    assert_eq!(bench.ack(handle).await, SettleOutcome::Settled { count: 2 });
    bench.publish("t", &["d"]).await;
    let single = bench.pull(with_handles(HandleKind::PerMessage, 1)).await.unwrap().deliveries;
    bench.restart().await;
    assert_eq!(bench.ack(single[0].handle).await, DONE);
    assert_eq!(bench.take_bodies("t", "g").await, NOTHING);
}
