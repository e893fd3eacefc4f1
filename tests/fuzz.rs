//! Whatever reads bytes from outside gets bytes that nobody meant: it may refuse them, and nothing else. No panic, no
//! hang, no memory without bound, no "internal error", and never an answer that cannot be.
//!
//! Replay: `WINDLASS_FUZZ_SEED`, `WINDLASS_FUZZ_TARGET` and `WINDLASS_FUZZ_CASES`, or a file put into the corpus.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

mod counts;
#[path = "fuzz/drive.rs"]
mod drive;
#[allow(dead_code, unused_imports, reason = "no restarts here, and one kind of engine")]
mod fixture;
#[path = "support/jcq.rs"]
mod jcq_client;
mod log_rig;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/request.rs"]
mod request;
#[path = "fuzz/stored.rs"]
mod stored;
#[path = "support/http.rs"]
mod support;

use std::time::Duration;

use drive::{Verdict, corpus, drive};
use fixture::{Fixture, LocalFixture};
use request::Signing;
use windlass::config::{Flags, load};
use windlass::engine::{CreateGroup, CreateTopic, HandleKind, Position, Publish, Pull, Wait};
use windlass::engine::{Lateness, LeaseRef, Limits, Settle, SettleAction, SettleOutcome};
use windlass::model::{
    AccountName, GroupName, GroupRef, GroupSettings, NewMessage, Start, TopicName, TopicRef, TopicSettings,
};

fn dialect(name: &str) {
    let mut target = request::Target::new(Signing::AsTheyAre);
    drive(name, &corpus(name), (1_500, 20_000), |input| target.case(input));
}

#[test]
fn the_native_api_answers_any_request() {
    dialect("native");
}

#[test]
fn cloudflare_answers_any_request() {
    dialect("cloudflare");
}

#[test]
fn sequin_answers_any_request() {
    dialect("sequin");
}

#[test]
fn jcq_answers_any_request() {
    dialect("jcq");
}

/// On a server with an access key, what is not signed is turned away at once.
#[test]
fn jcq_answers_any_request_that_is_signed() {
    let mut target = request::Target::new(Signing::Signed);
    let mut sent = 0_u64;
    drive("jcq-signed", &corpus("jcq"), (1_500, 20_000), |input| {
        let verdict = target.case(input);
        sent += u64::from(verdict != Verdict::Unsent);
        verdict
    });
    assert!(sent > 500, "{sent} of them were signed and sent");
}

#[test]
fn a_configuration_is_taken_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let mut good = corpus("config");
    good.push(include_bytes!("../config.toml").to_vec());
    let flags = Flags { config: Some(path.clone()), ..Flags::default() };
    drive("config", &good, (2_000, 20_000), |input| {
        std::fs::write(&path, input).unwrap();
        // Lines that look like variables are tried as such, too.
        let text = String::from_utf8_lossy(input);
        let variables: Vec<(String, String)> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .filter(|(name, _)| name.starts_with("WINDLASS_"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let from_variables = load(&Flags::default(), variables.into_iter()).is_ok();
        let from_file = load(&flags, std::iter::empty()).is_ok();
        if from_file && from_variables { Verdict::Accepted } else { Verdict::Refused }
    });
}

#[test]
fn a_segment_of_any_bytes_gives_what_was_written_or_an_error() {
    let mut written = stored::Written::new();
    let mut good = written.good();
    good.extend(corpus("segment"));
    drive("segment", &good, (1_500, 15_000), |input| written.case(input));
}

#[test]
fn a_place_of_any_numbers_gives_a_record_that_was_written_or_an_error() {
    let written = stored::Written::new();
    drive("record", &written.places(), (2_000, 20_000), written.record_case());
}

#[test]
fn a_mark_of_any_bytes_is_the_one_that_was_written_or_an_error() {
    let marked = stored::marked();
    let mut good = vec![marked.1.clone()];
    good.extend(corpus("marks"));
    drive("marks", &good, (2_000, 20_000), stored::mark_case(marked));
}

#[test]
fn a_token_that_was_not_given_out_settles_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fixture = runtime.block_on(LocalFixture::open(Limits::default()));
    let engine = fixture.engine();
    let (account, name) = (AccountName::standard(), TopicName::parse("t").unwrap());
    let (topic, group) = (TopicRef::Name(name.clone()), GroupName::parse("g").unwrap());
    let tokens: Vec<String> = runtime.block_on(async {
        let settings = TopicSettings::default();
        engine.create_topic(CreateTopic { account: account.clone(), name, settings }).await.unwrap();
        let settings = GroupSettings::default();
        let position = Position::Now(Start::Head);
        let made =
            CreateGroup { account: account.clone(), topic: topic.clone(), name: group.clone(), settings, position };
        engine.create_group(made).await.unwrap();
        let messages = vec![NewMessage::default(); 8];
        engine.publish(Publish { account: account.clone(), topic: topic.clone(), messages }).await.unwrap();
        let pulled = engine.pull(Pull {
            account: account.clone(),
            topic: topic.clone(),
            group: GroupRef::Name(group.clone()),
            batch_max: 8,
            lease: None,
            wait: Wait::None,
            auto_ack: false,
            handles: HandleKind::None,
            filter: None,
            start: None,
        });
        pulled.await.unwrap().deliveries.into_iter().map(|delivery| delivery.token).collect()
    });
    assert_eq!(tokens.len(), 8);
    let settle = |text: &str, action: SettleAction, group: Option<GroupRef>| {
        let items = vec![(LeaseRef::Token(text.to_owned()), action)];
        let request =
            Settle { account: account.clone(), topic: topic.clone(), group, items, lateness: Lateness::AckAlways };
        runtime.block_on(engine.settle(request)).unwrap()[0]
    };
    let mut good: Vec<Vec<u8>> = tokens.iter().map(|token| token.clone().into_bytes()).collect();
    good.extend(corpus("token"));
    drive("token", &good, (2_000, 20_000), |input| {
        let text = String::from_utf8_lossy(input);
        let named = Some(GroupRef::Name(group.clone()));
        if tokens.contains(&text.clone().into_owned()) {
            let outcome = settle(&text, SettleAction::Extend { lease: Duration::from_secs(60) }, named);
            assert_eq!(outcome, SettleOutcome::Settled { count: 1 }, "{text}");
            return Verdict::Accepted;
        }
        assert_eq!(settle(&text, SettleAction::Ack, named), SettleOutcome::Unknown, "{text}");
        assert_eq!(settle(&text, SettleAction::Ack, None), SettleOutcome::Unknown, "{text}");
        Verdict::Refused
    });
    for token in &tokens {
        let named = Some(GroupRef::Name(group.clone()));
        assert_eq!(settle(token, SettleAction::Ack, named), SettleOutcome::Settled { count: 1 }, "nothing was settled");
    }
    runtime.block_on(fixture.stop());
}
