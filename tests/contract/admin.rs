//! Topics, groups, accounts and credentials.

use windlass::engine::*;
use windlass::model::*;

use super::bench::*;

const NOTHING: [&str; 0] = [];

fn create(account: AccountName, name: &str) -> CreateTopic {
    CreateTopic { account, name: topic_name(name), settings: TopicSettings::default() }
}

fn credential(id: &str, account: AccountName) -> AccessRecord {
    AccessRecord {
        id: AccessId(id.to_owned()),
        account,
        kind: AccessKind::AccessKey { sealed_secret: vec![1, 2, 3] },
        permissions: Permissions { publish: true, consume: false, admin: true },
        topics: TopicPattern::parse("orders*").unwrap(),
        created_at: Millis::new(5),
        expires_at: Some(Millis::new(9)),
    }
}

/// Settings of a topic of which none is the default.
fn unusual_topic() -> TopicSettings {
    TopicSettings {
        retention: Retention { settled: Settled::Keep, age: Some(secs(777)), bytes: Some(1 << 30) },
        delay: ms(1_500),
        flow: Flow::Paused,
        ordering: Ordering::PerKey,
        compaction: Compaction::LatestPerKey,
        idempotency_window: secs(77),
        annotations: [("dialect.note".to_owned(), "ü".to_owned())].into_iter().collect(),
    }
}

/// Settings of a group of which none is the default.
fn unusual_group() -> GroupSettings {
    GroupSettings {
        lease: ms(1_234),
        retry: RetryDelays::Table(vec![secs(1), secs(2)]),
        attempts_max: Some(7),
        dead_letter: Some(topic_name("dead")),
        pending_max: 8,
        waiting_max: 9,
        filter: filter("x||y"),
        flow: Flow::Paused,
        annotations: [("a".to_owned(), String::new())].into_iter().collect(),
    }
}

pub async fn a_topic_is_found_by_name_and_id<F: Fixture>() {
    let mut bench = Bench::<F>::new().await;
    let at = bench.now();
    let made = bench.topic("t").await;
    assert_eq!((&made.account, &made.name, &made.settings), (&account(), &topic_name("t"), &TopicSettings::default()));
    assert_eq!((made.created_at, made.modified_at), (at, at));
    for by in [topic("t"), TopicRef::Id(made.id)] {
        assert_eq!(bench.engine().await.topic(account(), by).await, Ok(made.clone()));
    }
    assert_eq!(bench.engine().await.topic(account(), topic("u")).await, Err(LookupError::NoSuchTopic));
}

pub async fn topics_are_listed_by_name<F: Fixture>() {
    let mut bench = Bench::<F>::new().await;
    assert_eq!(bench.topics().await, NOTHING);
    for name in ["b", "c", "a"] {
        bench.topic(name).await;
    }
    assert_eq!(bench.topics().await, ["a", "b", "c"]);
}

pub async fn a_taken_topic_name_is_refused_and_shown<F: Fixture>() {
    let mut bench = Bench::<F>::new().await;
    let made = bench.topic("t").await;
    let refused = bench.engine().await.create_topic(create(account(), "t")).await;
    assert_eq!(refused, Err(CreateTopicError::Exists(Box::new(made))));
}

pub async fn settings_out_of_bounds_are_refused<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let settings = TopicSettings { delay: bounds::DELAY_MAX + ms(1), ..TopicSettings::default() };
    let request = CreateTopic { settings, ..create(account(), "u") };
    let refused = bench.engine().await.create_topic(request).await;
    assert!(matches!(refused, Err(CreateTopicError::Settings(SettingsError { field: "delay", .. }))), "{refused:?}");
    let patch = TopicPatch { idempotency_window: Some(secs(8 * 86_400)), ..TopicPatch::default() };
    let refused = bench.patch_topic("t", patch).await;
    assert!(matches!(refused, Err(UpdateTopicError::Settings(_))), "{refused:?}");
    let settings = GroupSettings { lease: ms(0), ..GroupSettings::default() };
    let refused = bench.try_group("t", "h", settings, Position::Now(Start::Head)).await;
    assert!(matches!(refused, Err(CreateGroupError::Settings(SettingsError { field: "lease", .. }))), "{refused:?}");
    let patch = GroupPatch { pending_max: Some(0), ..GroupPatch::default() };
    let refused = bench.patch_group("t", "g", patch).await;
    assert!(matches!(refused, Err(UpdateGroupError::Settings(_))), "{refused:?}");
    assert_eq!(bench.topics().await, ["t"]);
}

pub async fn topics_are_bounded_in_number<F: Fixture>() {
    let mut bench = Bench::<F>::with(Limits { topics_max: 2, ..Limits::default() }).await;
    bench.topic("a").await;
    bench.engine().await.create_topic(create(other_account(), "b")).await.unwrap();
    let refused = bench.engine().await.create_topic(create(account(), "c")).await;
    assert_eq!(refused, Err(CreateTopicError::TooMany { max: 2 }));
    bench.engine().await.delete_topic(account(), topic("a")).await.unwrap();
    bench.topic("c").await;
}

pub async fn groups_are_bounded_in_number<F: Fixture>() {
    let limits = Limits { groups_per_topic_max: 2, groups_max: 3, ..Limits::default() };
    let mut bench = Bench::<F>::with(limits).await;
    bench.topic("t").await;
    bench.topic("u").await;
    bench.group("t", "a").await;
    bench.group("t", "b").await;
    let (settings, position) = (GroupSettings::default(), Position::Now(Start::Head));
    let refused = bench.try_group("t", "c", settings.clone(), position).await;
    assert_eq!(refused, Err(CreateGroupError::TooMany { max: 2 }));
    bench.group("u", "a").await;
    let refused = bench.try_group("u", "b", settings, position).await;
    assert_eq!(refused, Err(CreateGroupError::TooMany { max: 3 }));
    bench.engine().await.delete_topic(account(), topic("t")).await.unwrap();
    bench.group("u", "b").await;
}

pub async fn a_patch_changes_what_it_names<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let made = bench.engine().await.topic(account(), topic("t")).await.unwrap();
    bench.later(secs(1));
    let changed = bench.patch_topic("t", TopicPatch { delay: Some(secs(3)), ..TopicPatch::default() }).await.unwrap();
    let settings = TopicSettings { delay: secs(3), ..TopicSettings::default() };
    assert_eq!(changed, Topic { settings, modified_at: made.created_at.after(secs(1)), ..made });
    assert_eq!(bench.engine().await.topic(account(), topic("t")).await, Ok(changed));

    let made = bench.engine().await.group(account(), topic("t"), group("g")).await.unwrap();
    let patch = GroupPatch { attempts_max: Some(Some(3)), lease: Some(secs(5)), ..GroupPatch::default() };
    let changed = bench.patch_group("t", "g", patch).await.unwrap();
    let settings = GroupSettings { attempts_max: Some(3), lease: secs(5), ..GroupSettings::default() };
    assert_eq!(changed, Group { settings, modified_at: made.created_at.after(secs(1)), ..made });
    assert_eq!(bench.engine().await.group(account(), topic("t"), group("g")).await, Ok(changed));
}

pub async fn an_annotation_is_added_beside_the_others<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let pairs = |list: &[(&str, &str)]| -> Annotations {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let changes =
        |list: &[(&str, &str)]| list.iter().map(|(name, value)| (name.to_string(), Some(value.to_string()))).collect();
    let annotate = |list: &[(&str, &str)]| TopicPatch { annotate: changes(list), ..TopicPatch::default() };
    bench.patch_topic("t", annotate(&[("a", "1"), ("b", "1")])).await.unwrap();
    bench.patch_topic("t", annotate(&[("b", "2")])).await.unwrap();
    bench.restart().await;
    let topic_now = bench.engine().await.topic(account(), topic("t")).await.unwrap();
    assert_eq!(topic_now.settings.annotations, pairs(&[("a", "1"), ("b", "2")]));
    let both = TopicPatch { annotations: Some(pairs(&[("c", "3")])), ..annotate(&[("d", "4")]) };
    let changed = bench.patch_topic("t", both).await.unwrap();
    assert_eq!(changed.settings.annotations, pairs(&[("c", "3"), ("d", "4")]));
    let away =
        TopicPatch { annotate: [("c".to_owned(), None), ("x".to_owned(), None)].into(), ..TopicPatch::default() };
    assert_eq!(bench.patch_topic("t", away).await.unwrap().settings.annotations, pairs(&[("d", "4")]));
    let of_group = |list: &[(&str, &str)]| GroupPatch { annotate: changes(list), ..GroupPatch::default() };
    bench.patch_group("t", "g", of_group(&[("a", "1")])).await.unwrap();
    let changed = bench.patch_group("t", "g", of_group(&[("b", "2")])).await.unwrap();
    assert_eq!(changed.settings.annotations, pairs(&[("a", "1"), ("b", "2")]));
    let many: Vec<String> = (0..=bounds::PROPERTIES_MAX).map(|number| number.to_string()).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
    let refused = bench.patch_topic("t", annotate(&many)).await;
    assert!(matches!(refused, Err(UpdateTopicError::Settings(_))), "{refused:?}");
}

pub async fn a_renamed_topic_keeps_its_id_messages_groups_and_leases<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let made = bench.engine().await.topic(account(), topic("t")).await.unwrap();
    bench.topic("taken").await;
    bench.publish("t", &["a", "b"]).await;
    let held = bench.take_one("t", "g").await;
    let rename = |name| TopicPatch { name: Some(topic_name(name)), ..TopicPatch::default() };
    let refused = bench.patch_topic("t", rename("taken")).await;
    assert_eq!(refused, Err(UpdateTopicError::NameTaken(topic_name("taken"))));
    bench.patch_topic("t", rename("t")).await.unwrap();
    let renamed = bench.patch_topic("t", rename("new")).await.unwrap();
    assert_eq!((renamed.id, renamed.name), (made.id, topic_name("new")));
    bench.restart().await;
    assert_eq!(bench.topics().await, ["new", "taken"]);
    assert_eq!(bench.pull(pull("t", "g", 1)).await.unwrap_err(), PullError::Lookup(LookupError::NoSuchTopic));
    let moved = bench.engine().await.group(account(), topic("new"), group("g")).await.unwrap();
    assert_eq!(moved.topic, topic_name("new"));
    assert_eq!(bench.ack_in("new", "g", &held).await, DONE);
    assert_eq!(bench.take_bodies("new", "g").await, ["b"]);
    assert_eq!(bench.topic("t").await.name, topic_name("t"), "the old name is free");
}

pub async fn a_patch_of_no_topic_or_group_is_refused<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let refused = bench.patch_topic("u", TopicPatch::default()).await;
    assert_eq!(refused, Err(UpdateTopicError::NoSuchTopic));
    let refused = bench.patch_group("u", "g", GroupPatch::default()).await;
    assert_eq!(refused, Err(UpdateGroupError::Lookup(LookupError::NoSuchTopic)));
    let refused = bench.patch_group("t", "h", GroupPatch::default()).await;
    assert_eq!(refused, Err(UpdateGroupError::Lookup(LookupError::NoSuchGroup)));
}

pub async fn a_deleted_topic_leaves_nothing_to_its_namesake<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let old = bench.engine().await.topic(account(), topic("t")).await.unwrap();
    bench.send("t", named("n", "a")).await;
    bench.send("t", delayed(secs(5), "b")).await;
    bench.engine().await.delete_topic(account(), topic("t")).await.unwrap();
    let refused = bench.engine().await.delete_topic(account(), topic("t")).await;
    assert_eq!(refused, Err(LookupError::NoSuchTopic));
    let new = bench.topic("t").await;
    assert_ne!(new.id, old.id);
    assert_eq!(bench.engine().await.topic(account(), TopicRef::Id(old.id)).await, Err(LookupError::NoSuchTopic));
    assert_eq!(bench.engine().await.groups(account(), topic("t")).await, Ok(vec![]));
    bench.group("t", "g").await;
    bench.restart().await;
    let published = bench.send("t", named("n", "other")).await;
    assert_eq!((published.offset, published.repeated), (Offset::ZERO, false));
    bench.later(secs(5));
    assert_eq!(bench.take_bodies("t", "g").await, ["other"]);
}

pub async fn groups_are_found_by_name_and_id_and_listed_by_name<F: Fixture>() {
    let mut bench = Bench::<F>::new().await;
    let at = bench.now();
    bench.topic("t").await;
    let b = bench.group("t", "b").await;
    let a = bench.group("t", "a").await;
    assert_eq!((&b.account, &b.topic, &b.name), (&account(), &topic_name("t"), &group_name("b")));
    assert_eq!((b.created_at, b.modified_at, &b.settings), (at, at, &GroupSettings::default()));
    for by in [group("b"), GroupRef::Id(b.id)] {
        assert_eq!(bench.engine().await.group(account(), topic("t"), by).await, Ok(b.clone()));
    }
    assert_eq!(bench.engine().await.groups(account(), topic("t")).await, Ok(vec![a, b.clone()]));
    bench.topic("u").await;
    let refused = bench.engine().await.group(account(), topic("u"), GroupRef::Id(b.id)).await;
    assert_eq!(refused, Err(LookupError::NoSuchGroup));
    assert_eq!(bench.engine().await.groups(account(), topic("v")).await, Err(LookupError::NoSuchTopic));
}

pub async fn a_group_is_found_without_its_topic_and_only_in_its_account<F: Fixture>() {
    let mut bench = Bench::<F>::new().await;
    for name in ["u", "t"] {
        bench.topic(name).await;
        bench.group(name, "g").await;
    }
    let only = bench.group("t", "only").await;
    let engine = bench.engine().await;
    let named = engine.find_groups(account(), group("g")).await.unwrap();
    let topics: Vec<&str> = named.iter().map(|group| group.topic.as_str()).collect();
    assert_eq!(topics, ["t", "u"]);
    for by in [group("only"), GroupRef::Id(only.id)] {
        assert_eq!(engine.find_groups(account(), by.clone()).await.unwrap(), std::slice::from_ref(&only));
        assert_eq!(engine.find_groups(other_account(), by).await.unwrap(), []);
    }
    assert_eq!(engine.find_groups(account(), group("none")).await.unwrap(), []);
    engine.delete_group(account(), topic("t"), group("only")).await.unwrap();
    assert_eq!(engine.find_groups(account(), GroupRef::Id(only.id)).await.unwrap(), []);
}

pub async fn a_taken_group_name_is_refused<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let (settings, position) = (GroupSettings::default(), Position::Now(Start::Head));
    let refused = bench.try_group("t", "g", settings.clone(), position).await;
    assert_eq!(refused, Err(CreateGroupError::Exists(group_name("g"))));
    let refused = bench.try_group("nowhere", "g", settings, position).await;
    assert_eq!(refused, Err(CreateGroupError::NoSuchTopic));
    bench.topic("u").await;
    bench.group("u", "g").await;
}

pub async fn a_deleted_group_leaves_no_progress_to_its_namesake<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|topic| topic.retention.settled = Settled::Keep, |_| {}).await;
    bench.publish("t", &["a", "b"]).await;
    bench.take_one("t", "g").await;
    bench.engine().await.delete_group(account(), topic("t"), group("g")).await.unwrap();
    let refused = bench.engine().await.delete_group(account(), topic("t"), group("g")).await;
    assert_eq!(refused, Err(LookupError::NoSuchGroup));
    bench.group("t", "g").await;
    bench.restart().await;
    let taken = bench.take("t", "g", 10).await;
    assert_eq!(bodies(&taken), ["a", "b"]);
    assert!(taken.iter().all(|delivery| delivery.attempt == Attempt::new(1)));
}

pub async fn settings_survive_a_restart<F: Fixture>() {
    let mut bench = Bench::<F>::new().await;
    let request = CreateTopic { settings: unusual_topic(), ..create(account(), "t") };
    let made = bench.engine().await.create_topic(request).await.unwrap();
    let group_made = bench.try_group("t", "g", unusual_group(), Position::Now(Start::Head)).await.unwrap();
    assert_eq!((&made.settings, &group_made.settings), (&unusual_topic(), &unusual_group()));
    bench.restart().await;
    assert_eq!(bench.engine().await.topic(account(), TopicRef::Id(made.id)).await, Ok(made));
    let by_id = GroupRef::Id(group_made.id);
    assert_eq!(bench.engine().await.group(account(), topic("t"), by_id).await, Ok(group_made));
}

pub async fn changed_settings_survive_a_restart<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    bench.later(secs(3));
    let topic_after = bench.patch_topic("t", TopicPatch { delay: Some(secs(9)), ..TopicPatch::default() }).await;
    let patch = GroupPatch { lease: Some(secs(9)), ..GroupPatch::default() };
    let group_after = bench.patch_group("t", "g", patch).await;
    bench.restart().await;
    assert_eq!(bench.engine().await.topic(account(), topic("t")).await.unwrap(), topic_after.unwrap());
    assert_eq!(bench.engine().await.group(account(), topic("t"), group("g")).await.unwrap(), group_after.unwrap());
}

pub async fn accounts_are_worlds_of_their_own<F: Fixture>() {
    let mut bench = Bench::<F>::ready().await;
    let own = bench.engine().await.topic(account(), topic("t")).await.unwrap();
    let other = bench.engine().await.create_topic(create(other_account(), "t")).await.unwrap();
    assert_ne!(own.id, other.id);
    bench.publish("t", &["own"]).await;
    let held = bench.take_one("t", "g").await;
    let no_topic = LookupError::NoSuchTopic;
    let engine = bench.engine().await;
    assert_eq!(engine.topics(other_account()).await, Ok(vec![other]));
    assert_eq!(engine.topic(other_account(), TopicRef::Id(own.id)).await, Err(no_topic.clone()));
    assert_eq!(engine.groups(other_account(), topic("t")).await, Ok(vec![]));
    let foreign = TopicRef::Id(own.id);
    let publish = Publish { account: other_account(), topic: foreign.clone(), messages: vec![message("x")] };
    assert_eq!(engine.publish(publish).await, Err(PublishError::NoSuchTopic));
    let request = Pull { account: other_account(), topic: foreign.clone(), ..pull("t", "g", 1) };
    assert_eq!(engine.pull(request).await.unwrap_err(), PullError::Lookup(no_topic.clone()));
    let item = vec![(Named::from(&held).0, SettleAction::Ack)];
    let by_id = Settle { account: other_account(), topic: foreign.clone(), ..settle("t", "g", item.clone()) };
    assert_eq!(engine.settle(by_id).await, Err(SettleError::Lookup(no_topic.clone())));
    let by_name = Settle { account: other_account(), group: None, ..settle("t", "g", item) };
    assert_eq!(engine.settle(by_name).await, Ok(vec![SettleOutcome::Unknown]));
    assert_eq!(engine.delete_topic(other_account(), foreign.clone()).await, Err(no_topic.clone()));
    assert_eq!(engine.purge(other_account(), foreign).await, Err(no_topic));
    assert_eq!(bench.ack(&held).await, DONE);
}

pub async fn dead_letters_stay_in_their_account<F: Fixture>() {
    let mut bench = Bench::<F>::ready_with(|_| {}, |group| group.dead_letter = Some(topic_name("dead"))).await;
    bench.engine().await.create_topic(create(other_account(), "dead")).await.unwrap();
    bench.publish("t", &["a"]).await;
    let held = bench.take_one("t", "g").await;
    assert_eq!(bench.act(&held, bury("no")).await, DONE);
    assert_eq!(bench.kept_bodies("dead").await, ["a"]);
    let counts = bench.engine().await.counts(other_account(), topic("dead"), None).await;
    assert_eq!(counts, Ok(Counts::default()));
}

pub async fn credentials_are_kept_until_revoked<F: Fixture>() {
    let mut bench = Bench::<F>::new().await;
    let record = credential("one", account());
    let token = AccessRecord {
        kind: AccessKind::Token { sha256: [7; 32] },
        expires_at: None,
        ..credential("two", other_account())
    };
    bench.engine().await.put_access(record.clone()).await.unwrap();
    bench.engine().await.put_access(token.clone()).await.unwrap();
    bench.restart().await;
    let table = bench.engine().await.access();
    assert_eq!(table.records.values().cloned().collect::<Vec<_>>(), [record.clone(), token.clone()]);
    let again = AccessRecord { account: other_account(), ..record.clone() };
    let refused = bench.engine().await.put_access(again).await;
    assert_eq!(refused, Err(AccessError::Exists(record.id.clone())));
    for (account, id) in [(other_account(), record.id.clone()), (account(), AccessId("three".to_owned()))] {
        let refused = bench.engine().await.revoke_access(account, id.clone()).await;
        assert_eq!(refused, Err(AccessError::NoSuchCredential(id)));
    }
    bench.engine().await.revoke_access(account(), record.id).await.unwrap();
    assert_eq!(bench.engine().await.access().records.len(), 1);
    bench.restart().await;
    assert_eq!(bench.engine().await.access().records.values().cloned().collect::<Vec<_>>(), [token]);
}

pub async fn credentials_are_bounded_in_number<F: Fixture>() {
    let mut bench = Bench::<F>::with(Limits { access_max: 1, ..Limits::default() }).await;
    bench.engine().await.put_access(credential("one", account())).await.unwrap();
    let refused = bench.engine().await.put_access(credential("two", other_account())).await;
    assert_eq!(refused, Err(AccessError::TooMany { max: 1 }));
}
