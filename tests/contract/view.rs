//! Peek, counts and status.

use windlass::engine::*;
use windlass::model::*;

use super::bench::*;

/// Topic `t` that keeps what is settled, with one message in every state for group `g`.
async fn every_state<F: Fixture>() -> Bench<F> {
    let mut bench = Bench::<F>::ready_with(|topic| topic.retention.settled = Settled::Keep, |_| {}).await;
    bench.publish("t", &["settled", "in flight", "returned", "nacked"]).await;
    let held = bench.take("t", "g", 4).await;
    assert_eq!(bench.ack(&held[0]).await, DONE);
    assert_eq!(bench.nack(&held[2]).await, DONE);
    assert_eq!(bench.act(&held[3], nack_after(secs(9))).await, DONE);
    bench.send("t", delayed(secs(9), "delayed")).await;
    bench.publish("t", &["fresh"]).await;
    bench
}

pub async fn a_peek_shows_every_state_and_touches_nothing<F: Fixture>() {
    let mut bench = every_state::<F>().await;
    for _ in 0..2 {
        let seen = bench.peek_all(peek("t", Some("g"))).await;
        let seen: Vec<_> = seen.iter().map(|seen| (text(&seen.message), seen.state.unwrap())).collect();
        let expected = [
            ("settled", MessageState::Settled),
            ("in flight", MessageState::InFlight),
            ("returned", MessageState::Ready),
            ("nacked", MessageState::Delayed),
            ("delayed", MessageState::Delayed),
            ("fresh", MessageState::Ready),
        ];
        assert_eq!(seen, expected.map(|(body, state)| (body.to_owned(), state)));
    }
    assert_eq!(bench.tally("t", "g").await, (2, 1, 2));
}

pub async fn a_backup_changes_nothing_that_anybody_sees<F: Fixture>() {
    let mut bench = every_state::<F>().await;
    bench.settle_down();
    let held = bench.take_one("t", "g").await;
    let seen = (bench.peek_all(peek("t", Some("g"))).await, bench.tally("t", "g").await);
    for count in 1..3 {
        let dir = format!("/backup-{count}").into();
        match bench.engine().await.backup(Backup { dir, progress: Default::default() }).await {
            Ok(report) => assert!(report.files.last_lsn > 0 && report.files.segments >= count, "{report:?}"),
            Err(BackupError::NoFiles) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((bench.peek_all(peek("t", Some("g"))).await, bench.tally("t", "g").await), seen);
    bench.restart().await;
    assert_eq!(bench.ack(&held).await, DONE);
    let again = Backup { dir: "/backup-1".into(), progress: Default::default() };
    let again = bench.engine().await.backup(again).await.unwrap_err();
    assert!(matches!(again, BackupError::NotEmpty(_) | BackupError::NoFiles), "{again}");
    bench.engine().await.stop().await;
    let late = Backup { dir: "/backup-3".into(), progress: Default::default() };
    let late = bench.engine().await.backup(late).await.unwrap_err();
    assert!(matches!(late, BackupError::Refused(Refusal::Stopping)), "{late}");
}

pub async fn a_peek_tells_attempts<F: Fixture>() {
    let mut bench = every_state::<F>().await;
    let seen = bench.peek_all(peek("t", Some("g"))).await;
    let attempts: Vec<u32> = seen[1..].iter().map(|seen| seen.attempts.get()).collect();
    assert_eq!(attempts, [1, 1, 1, 0, 0]);
    let seen = bench.peek_all(peek("t", None)).await;
    assert_eq!(seen.len(), 6);
    assert!(seen.iter().all(|seen| seen.state.is_none() && seen.attempts == Attempt::NONE));
}

pub async fn a_peek_tells_the_tail_from_wherever_it_begins<F: Fixture>() {
    let mut bench = every_state::<F>().await;
    let engine = bench.engine().await;
    for from in [0, 3, 6, u64::MAX] {
        let seen = engine.peek(Peek { from: Offset::new(from), ..peek("t", None) }).await.unwrap();
        assert_eq!(seen.tail, Offset::new(6), "from {from}");
    }
}

pub async fn a_peek_by_state_shows_only_that<F: Fixture>() {
    let mut bench = every_state::<F>().await;
    let cases = [
        (MessageState::Ready, vec!["returned", "fresh"]),
        (MessageState::InFlight, vec!["in flight"]),
        (MessageState::Delayed, vec!["nacked", "delayed"]),
        (MessageState::Settled, vec!["settled"]),
    ];
    for (state, expected) in cases {
        let mut request = peek("t", Some("g"));
        request.filter.state = Some(state);
        let seen = bench.peek_all(request).await;
        assert_eq!(seen.iter().map(|seen| text(&seen.message)).collect::<Vec<_>>(), expected);
    }
}

pub async fn a_peek_at_what_is_unsettled_leaves_out_what_the_group_settled<F: Fixture>() {
    let mut bench = every_state::<F>().await;
    let filter = PeekFilter { unsettled: true, ..PeekFilter::default() };
    for (group, expected) in [
        (Some("g"), &["in flight", "returned", "nacked", "delayed", "fresh"][..]),
        (None, &["settled", "in flight", "returned", "nacked", "delayed", "fresh"][..]),
    ] {
        let seen = bench.peek_all(Peek { filter: filter.clone(), ..peek("t", group) }).await;
        assert_eq!(seen.iter().map(|seen| text(&seen.message)).collect::<Vec<_>>(), expected);
    }
}

pub async fn states_survive_a_restart<F: Fixture>() {
    let mut bench = every_state::<F>().await;
    let before = bench.peek_all(peek("t", Some("g"))).await;
    let counts = bench.counts("t", "g").await;
    bench.restart().await;
    assert_eq!(bench.peek_all(peek("t", Some("g"))).await, before);
    assert_eq!(bench.counts("t", "g").await, counts);
    bench.later(secs(9));
    assert_eq!(bench.tally("t", "g").await, (4, 1, 0));
}

pub async fn a_peek_finds_by_id_tag_key_property_and_time<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let at = bench.now();
    let mut with_property = message("property");
    with_property.properties.insert("p".to_owned(), "v".to_owned());
    let published = bench.send("t", message("id")).await;
    bench.later(secs(1));
    bench.send("t", tagged("x", "tag")).await;
    bench.later(secs(1));
    bench.send("t", keyed("k", "key")).await;
    bench.later(secs(1));
    bench.send("t", with_property).await;
    let none = PeekFilter::default();
    let pair = |value: &str| Some(("p".to_owned(), value.to_owned()));
    let cases = [
        (PeekFilter { id: Some(published.id), ..none.clone() }, vec!["id"]),
        (PeekFilter { id: Some(MessageId::new(7)), ..none.clone() }, vec![]),
        (PeekFilter { tag: tag("x"), ..none.clone() }, vec!["tag"]),
        (PeekFilter { key: key("k"), ..none.clone() }, vec!["key"]),
        (PeekFilter { key: key("x"), ..none.clone() }, vec![]),
        (PeekFilter { property: pair("v"), ..none.clone() }, vec!["property"]),
        (PeekFilter { property: pair("w"), ..none.clone() }, vec![]),
        (PeekFilter { since: Some(at.after(secs(2))), ..none.clone() }, vec!["key", "property"]),
        (PeekFilter { until: Some(at.after(secs(2))), ..none.clone() }, vec!["id", "tag"]),
        (PeekFilter { tag: tag("x"), key: key("k"), ..none }, vec![]),
    ];
    for (filter, expected) in cases {
        let seen = bench.peek_all(Peek { filter: filter.clone(), ..peek("t", None) }).await;
        assert_eq!(seen.iter().map(|seen| text(&seen.message)).collect::<Vec<_>>(), expected, "{filter:?}");
    }
}

pub async fn a_peek_goes_page_by_page_from_an_offset<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let bodies: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    bench.publish("t", &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for limit in [1, 3, 10] {
        let seen = bench.peek_all(Peek { limit, from: Offset::new(2), ..peek("t", None) }).await;
        assert_eq!(seen.iter().map(|seen| text(&seen.message)).collect::<Vec<_>>(), bodies[2..]);
    }
    assert_eq!(bench.peek_all(Peek { from: Offset::new(99), ..peek("t", None) }).await, []);
}

pub async fn a_peek_out_of_bounds_is_refused<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let engine = bench.engine().await;
    for limit in [0, bounds::PULL_BATCH_MAX + 1] {
        let refused = engine.peek(Peek { limit, ..peek("t", None) }).await;
        assert!(matches!(refused, Err(PeekError::Bounds(_))), "{refused:?}");
    }
    let mut stateless = peek("t", None);
    stateless.filter.state = Some(MessageState::Ready);
    let refused = engine.peek(stateless).await;
    assert!(matches!(refused, Err(PeekError::Bounds(_))), "{refused:?}");
    let refused = engine.peek(peek("nowhere", None)).await;
    assert!(matches!(refused, Err(PeekError::Lookup(LookupError::NoSuchTopic))), "{refused:?}");
    let refused = engine.peek(peek("t", Some("nobody"))).await;
    assert!(matches!(refused, Err(PeekError::Lookup(LookupError::NoSuchGroup))), "{refused:?}");
}

pub async fn counts_follow_a_message_through_its_life<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let at = bench.now();
    assert_eq!(bench.counts("t", "g").await, Counts::default());
    bench.send("t", delayed(secs(1), "1234567")).await;
    let with = |ready, in_flight, delayed| Counts { ready, in_flight, delayed, bytes: 7, oldest: Some(at) };
    assert_eq!(bench.counts("t", "g").await, with(0, 0, 1));
    bench.later(secs(1));
    assert_eq!(bench.counts("t", "g").await, with(1, 0, 0));
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.counts("t", "g").await, with(0, 1, 0));
    assert_eq!(bench.act(&held, nack_after(secs(1))).await, DONE);
    assert_eq!(bench.counts("t", "g").await, with(0, 0, 1));
    bench.later(secs(1));
    assert_eq!(bench.counts("t", "g").await, with(1, 0, 0));
    let held = bench.take_one("t", "g").await;
    bench.later(secs(30));
    assert_eq!(bench.counts("t", "g").await, with(1, 0, 0));
    assert_eq!(bench.ack(&held).await, SettleOutcome::SettledLate);
    assert_eq!(bench.counts("t", "g").await, Counts::default());
}

pub async fn counts_of_bytes_and_oldest_are_of_what_is_unsettled<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.retention.settled = Settled::Keep, |_| {}).await;
    let at = bench.now();
    for body in ["a", "bb", "cccc"] {
        bench.publish("t", &[body]).await;
        bench.later(secs(1));
    }
    let held = bench.take("t", "g", 2).await;
    assert_eq!(bench.ack(&held[0]).await, DONE);
    let counts = bench.counts("t", "g").await;
    let expected = Counts { ready: 1, in_flight: 1, delayed: 0, bytes: 6, oldest: Some(at.after(secs(1))) };
    assert_eq!(counts, expected);
    assert_eq!(counts.unsettled(), 2);
}

pub async fn counts_of_a_topic_are_of_what_is_kept<F: Fixture>() {
    let mut bench = every_state::<F>().await;
    let counts = bench.topic_counts("t").await;
    assert_eq!((counts.ready, counts.in_flight, counts.delayed), (5, 0, 1));
    assert_eq!(counts.bytes, "settledin flightreturnednackeddelayedfresh".len() as u64);
    bench.later(secs(9));
    assert_eq!(bench.topic_counts("t").await.ready, 6);
    let engine = bench.engine().await;
    assert_eq!(engine.counts(account(), topic("u"), None).await, Err(LookupError::NoSuchTopic));
    assert_eq!(engine.counts(account(), topic("t"), Some(group("h"))).await, Err(LookupError::NoSuchGroup));
}

pub async fn the_status_tells_totals_and_counts<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.settle_down();
    bench.publish("t", &["a", "bb", "ccc"]).await;
    let held = bench.take("t", "g", 2).await;
    assert_eq!(bench.ack(&held[0]).await, DONE);
    assert_eq!(bench.nack(&held[1]).await, DONE);
    bench.take("t", "g", 1).await;
    bench.later(secs(30));
    bench.sweep().await;
    let status = bench.engine().await.status().await;
    assert_eq!(status.topics.len(), 1);
    let topic = &status.topics[0];
    assert_eq!((topic.account.clone(), topic.topic.clone()), (Some(account()), Some(topic_name("t"))));
    assert_eq!((topic.published, topic.published_bytes), (3, 6));
    assert_eq!(topic.counts, bench.topic_counts("t").await);
    let group = bench.group_status("t", "g").await;
    assert_eq!((group.delivered, group.acked, group.nacked, group.lapsed), (3, 1, 1, 1));
    assert_eq!((group.dead_lettered, group.discarded, group.waiting), (0, 0, 0));
    assert_eq!(group.counts, bench.counts("t", "g").await);
}
