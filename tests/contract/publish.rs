//! Publish and idempotency.

use std::collections::BTreeMap;

use windlass::engine::*;
use windlass::model::*;

use super::bench::*;

pub async fn a_batch_gets_adjoining_offsets_and_rising_ids<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let first = bench.publish("t", &["a", "b", "c"]).await;
    let second = bench.publish("t", &["d"]).await;
    let all: Vec<_> = first.into_iter().chain(second).collect();
    for (place, published) in all.iter().enumerate() {
        assert_eq!(published.offset, Offset::new(place as u64));
        assert!(!published.repeated);
    }
    assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert_eq!(bench.take_bodies("t", "g").await, ["a", "b", "c", "d"]);
}

pub async fn offsets_are_dense_in_each_topic_of_its_own<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.topic("u").await;
    bench.publish("t", &["a", "b"]).await;
    assert_eq!(bench.publish("u", &["c"]).await[0].offset, Offset::ZERO);
    assert_eq!(bench.publish("t", &["d"]).await[0].offset, Offset::new(2));
}

pub async fn a_message_comes_back_as_it_was_published<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let mut properties = BTreeMap::new();
    properties.insert("name".to_owned(), "value ü".to_owned());
    properties.insert(String::new(), String::new());
    let bytes: Vec<u8> = (0..=255).collect();
    let new = NewMessage {
        body: bytes.clone().into(),
        content_type: Some(ContentType::parse("application/x-thing; a=b").unwrap()),
        key: key("schlüssel"),
        tag: tag("a tag"),
        properties: properties.clone(),
        ..NewMessage::default()
    };
    let at = bench.now();
    let published = bench.send("t", new).await;
    bench.later(secs(5));
    let delivery = bench.take_one("t", "g").await;
    let head = delivery.message.head;
    assert_eq!(delivery.message.body, bytes);
    assert_eq!((head.id, head.offset), (published.id, published.offset));
    assert_eq!(head.content_type.unwrap().as_str(), "application/x-thing; a=b");
    assert_eq!((head.key, head.tag, head.properties), (key("schlüssel"), tag("a tag"), properties));
    assert_eq!((head.published_at, head.ready_at, head.origin), (at, at, None));
    assert_eq!(published.id.published_at(), at);
}

pub async fn an_empty_body_is_a_message<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.publish("t", &[""]).await;
    assert_eq!(bench.take_bodies("t", "g").await, [""]);
}

pub async fn published_at_follows_the_log_clock_and_not_a_jump_of_the_wall<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.settle_down(); // A restart may look at the wall again.
    let start = bench.now();
    bench.later(secs(1));
    bench.clock().jump_wall(Millis::new(1));
    bench.publish("t", &["back"]).await;
    bench.clock().jump_wall(start.after(secs(1_000_000)));
    bench.publish("t", &["forth"]).await;
    for message in bench.kept("t").await {
        assert_eq!(message.head.published_at, start.after(secs(1)));
    }
}

pub async fn a_publish_to_no_topic_is_refused<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    assert_eq!(bench.try_publish("nowhere", vec![message("a")]).await, Err(PublishError::NoSuchTopic));
}

pub async fn a_batch_has_one_to_ten_thousand_messages<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let max = bounds::PUBLISH_BATCH_MAX;
    assert_eq!(bench.try_publish("t", vec![]).await, Err(PublishError::BatchCount { got: 0, max }));
    let many = vec![message(""); max + 1];
    assert_eq!(bench.try_publish("t", many).await, Err(PublishError::BatchCount { got: max + 1, max }));
    assert_eq!(bench.topic_counts("t").await.ready, 0);
    assert_eq!(bench.try_publish("t", vec![message(""); max]).await.unwrap().len(), max);
    assert_eq!(bench.topic_counts("t").await.ready, max as u64);
}

pub async fn a_body_over_the_limit_refuses_the_whole_batch<F: Fixture>() {
    let mut bench = Bench::<F>::with(Limits { body_bytes_max: 10, ..Limits::default() }).await;
    bench.topic("t").await;
    let batch = vec![message("0123456789"), message("0123456789a")];
    let refused = PublishError::BodyTooLarge { index: 1, got: 11, max: 10 };
    assert_eq!(bench.try_publish("t", batch).await, Err(refused));
    assert_eq!(bench.topic_counts("t").await.ready, 0);
    assert_eq!(bench.publish("t", &["0123456789"]).await[0].offset, Offset::ZERO);
}

pub async fn a_batch_over_the_limit_of_bytes_is_refused<F: Fixture>() {
    let mut bench = Bench::<F>::with(Limits { batch_bytes_max: 10_000, ..Limits::default() }).await;
    bench.topic("t").await;
    let half = "x".repeat(6_000);
    let refused = bench.try_publish("t", vec![message(&half), message(&half)]).await;
    assert!(matches!(refused, Err(PublishError::BatchTooLarge { got: 12_000.., max: 10_000 })), "{refused:?}");
    assert_eq!(bench.topic_counts("t").await.ready, 0);
    let mut heavy = message(&half);
    heavy.properties.insert("name".to_owned(), half.clone());
    let refused = bench.try_publish("t", vec![heavy]).await;
    assert!(matches!(refused, Err(PublishError::BatchTooLarge { .. })), "heads count as well");
    bench.publish("t", &[&half]).await;
}

pub async fn properties_are_bounded_in_number_and_bytes<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let (pairs_max, bytes_max) = (bounds::PROPERTIES_MAX, bounds::PROPERTIES_BYTES_MAX);
    let refused = Err(PublishError::Properties { index: 1, pairs_max, bytes_max });
    let pairs = |count: usize| (0..count).map(|number| (number.to_string(), String::new())).collect();
    let many = NewMessage { properties: pairs(pairs_max + 1), ..message("a") };
    assert_eq!(bench.try_publish("t", vec![message("b"), many]).await, refused);
    let bytes = |count: usize| [("n".to_owned(), "v".repeat(count - 1))].into_iter().collect();
    let long = NewMessage { properties: bytes(bytes_max + 1), ..message("a") };
    assert_eq!(bench.try_publish("t", vec![message("b"), long]).await, refused);
    bench.send("t", NewMessage { properties: pairs(pairs_max), ..message("a") }).await;
    bench.send("t", NewMessage { properties: bytes(bytes_max), ..message("a") }).await;
    assert_eq!(bench.topic_counts("t").await.ready, 2);
}

pub async fn a_delay_over_fourteen_days_is_refused<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let max = bounds::DELAY_MAX;
    let refused = PublishError::DelayTooLong { index: 1, max_secs: max.as_secs() };
    let batch = vec![delayed(max, "a"), delayed(max + ms(1), "b")];
    assert_eq!(bench.try_publish("t", batch).await, Err(refused));
    assert_eq!(bench.topic_counts("t").await.unsettled(), 0);
    bench.send("t", delayed(max, "a")).await;
}

pub async fn a_repeat_within_the_window_is_answered_with_the_first<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let first = bench.send("t", named("n", "a")).await;
    let again = bench.send("t", named("n", "a")).await;
    assert!(!first.repeated);
    assert_eq!(again, Published { repeated: true, ..first });
    assert_eq!(bench.take_bodies("t", "g").await, ["a"]);
}

pub async fn a_repeat_may_have_another_delay<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.send("t", named("n", "a")).await;
    let again = NewMessage { delay: Some(secs(9)), ..named("n", "a") };
    assert!(bench.send("t", again).await.repeated);
}

pub async fn an_idempotency_key_used_for_another_message_refuses_the_batch<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.send("t", named("n", "a")).await;
    let mut with_property = named("n", "a");
    with_property.properties.insert("p".to_owned(), "v".to_owned());
    let others = [
        named("n", "other body"),
        NewMessage { key: key("k"), ..named("n", "a") },
        NewMessage { tag: tag("x"), ..named("n", "a") },
        NewMessage { content_type: Some(ContentType::parse("text/plain").unwrap()), ..named("n", "a") },
        with_property,
    ];
    for other in others {
        let batch = vec![message("before"), other, message("after")];
        assert_eq!(bench.try_publish("t", batch).await, Err(PublishError::IdempotencyConflict { index: 1 }));
    }
    assert_eq!(bench.kept_bodies("t").await, ["a"]);
}

pub async fn a_repeat_takes_no_offset_within_its_batch<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let first = bench.send("t", named("n", "a")).await;
    let batch = vec![message("b"), named("n", "a"), message("c")];
    let answers = bench.try_publish("t", batch).await.unwrap();
    assert_eq!(answers[1], Published { repeated: true, ..first });
    assert_eq!((answers[0].offset, answers[2].offset), (Offset::new(1), Offset::new(2)));
}

pub async fn an_idempotency_key_twice_in_a_batch_is_a_repeat<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let answers = bench.try_publish("t", vec![named("n", "a"), named("n", "a")]).await.unwrap();
    assert!(!answers[0].repeated);
    assert_eq!(answers[1], Published { repeated: true, ..answers[0] });
    assert_eq!(bench.kept_bodies("t").await, ["a"]);
}

pub async fn an_idempotency_key_twice_in_a_batch_for_two_messages_is_refused<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let refused = bench.try_publish("t", vec![named("n", "a"), named("n", "b")]).await;
    assert_eq!(refused, Err(PublishError::IdempotencyConflict { index: 1 }));
    assert_eq!(bench.kept_bodies("t").await, Vec::<String>::new());
    assert!(!bench.send("t", named("n", "b")).await.repeated, "a refused batch should leave no key behind");
}

pub async fn an_idempotency_key_is_forgotten_at_the_end_of_its_window<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.idempotency_window = secs(10), |_| {}).await;
    let first = bench.send("t", named("n", "a")).await;
    bench.later(ms(9_999));
    assert!(bench.send("t", named("n", "a")).await.repeated);
    bench.later(ms(1));
    let second = bench.send("t", named("n", "b")).await;
    assert!(!second.repeated && second.id > first.id);
    assert!(bench.send("t", named("n", "b")).await.repeated, "the new window begins with the new message");
}

pub async fn an_idempotency_key_is_one_topics_own<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.topic("u").await;
    bench.send("t", named("n", "a")).await;
    assert!(!bench.send("u", named("n", "b")).await.repeated);
}

pub async fn an_idempotency_key_outlives_its_message<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let first = bench.send("t", named("n", "a")).await;
    let delivery = bench.take_one("t", "g").await;
    assert_eq!(bench.ack(&delivery).await, DONE);
    assert_eq!(bench.send("t", named("n", "a")).await, Published { repeated: true, ..first });
    bench.engine().await.purge(account(), topic("t")).await.unwrap();
    assert_eq!(bench.send("t", named("n", "a")).await, Published { repeated: true, ..first });
    assert_eq!(bench.take_bodies("t", "g").await, Vec::<String>::new());
}

pub async fn a_full_table_of_idempotency_keys_refuses_new_ones_only<F: Fixture>() {
    let mut bench = Bench::<F>::with(Limits { idempotency_keys_max: 2, ..Limits::default() }).await;
    bench.topic_with("t", |topic| topic.idempotency_window = secs(10)).await;
    bench.topic("u").await;
    bench.send("t", named("n", "a")).await;
    bench.send("u", named("m", "a")).await;
    let refused = bench.try_publish("t", vec![message("x"), named("o", "a")]).await;
    assert!(matches!(refused, Err(PublishError::TableFull { max: 2, .. })), "{refused:?}");
    assert_eq!(bench.kept_bodies("t").await, ["a"]);
    assert!(bench.send("t", named("n", "a")).await.repeated);
    bench.publish("t", &["without a key"]).await;
    bench.later(secs(10));
    bench.sweep().await;
    assert!(!bench.send("t", named("o", "a")).await.repeated);
}

pub async fn idempotency_keys_survive_a_restart<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let first = bench.send("t", named("n", "a")).await;
    bench.later(secs(299));
    bench.restart().await;
    assert_eq!(bench.send("t", named("n", "a")).await, Published { repeated: true, ..first });
    let conflict = bench.try_publish("t", vec![named("n", "b")]).await;
    assert_eq!(conflict, Err(PublishError::IdempotencyConflict { index: 0 }));
    bench.later(secs(1));
    bench.restart().await;
    assert!(!bench.send("t", named("n", "b")).await.repeated);
}
