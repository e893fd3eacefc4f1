//! Consuming: pull, the four ways to settle, and peek.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use serde::de::IntoDeserializer;

use crate::engine::{HandleKind, LeaseRef, Peek, PeekFilter, Pull, Settle, SettleAction, Wait};
use crate::http::bounded::Bounded;
use crate::http::call::Call;
use crate::http::native::fault::too_many_waiting;
use crate::http::native::query::{PROPERTY, Query};
use crate::http::native::wire::{
    BuryRequest, Encoding, ExtendRequest, LatenessWire, NackRequest, OutcomesView, PeekView, PullRequest, PulledView,
    SettleRequest, State, WaitFor, bad_name, read_filter,
};
use crate::http::native::{answer, answer_json, group_ref, read_json, size, topic_ref};
use crate::http::problem::Problem;
use crate::model::bounds::SETTLE_BATCH_MAX;
use crate::model::{GroupName, GroupRef, Key, MessageId, Millis, Offset, Tag};

const PULL_DEFAULT: u64 = 10;
const PEEK_DEFAULT: u64 = 10;

/// `POST /topics/{topic}/groups/{group}/pull`
pub async fn pull(mut call: Call) -> Result<Response, Problem> {
    let request: PullRequest = read_json(&mut call).await?;
    let encoding = request.encoding;
    let limit = Duration::from_millis(request.wait_ms);
    let wait = match request.wait_for {
        _ if limit.is_zero() => Wait::None,
        WaitFor::Any => Wait::Any(limit),
        WaitFor::Full => Wait::Full(limit),
    };
    let filter = request.filter_tags.map(|tags| read_filter(&tags, "/filter_tags")).transpose()?;
    let pull = Pull {
        account: call.principal.account.clone(),
        topic: topic_ref(&call)?,
        group: group_ref(&call)?,
        batch_max: size(request.batch_max.unwrap_or(PULL_DEFAULT)),
        lease: request.lease_ms.map(Duration::from_millis),
        wait,
        auto_ack: request.auto_ack,
        handles: HandleKind::None,
        filter,
        start: request.start.map(Into::into),
    };
    let _waiting = match wait {
        Wait::None => None,
        Wait::Any(_) | Wait::Full(_) => {
            let counted = call.front.begin_waiting(&call.principal.id);
            Some(counted.ok_or_else(|| too_many_waiting("the credential has too many pulls waiting".to_owned()))?)
        }
    };
    let pulled = call.front.engine.pull(pull).await?;
    Ok(answer_json(StatusCode::OK, PulledView::new(pulled, encoding).to_json()))
}

/// `POST /topics/{topic}/groups/{group}/ack`
pub async fn ack(mut call: Call) -> Result<Response, Problem> {
    let request: SettleRequest = read_json(&mut call).await?;
    settle(&call, request.tokens, &SettleAction::Ack, request.lateness).await
}

/// `POST /topics/{topic}/groups/{group}/nack`
pub async fn nack(mut call: Call) -> Result<Response, Problem> {
    let request: NackRequest = read_json(&mut call).await?;
    let action = SettleAction::Nack { delay: request.delay_ms.map(Duration::from_millis) };
    settle(&call, request.tokens, &action, request.lateness).await
}

/// `POST /topics/{topic}/groups/{group}/extend`
pub async fn extend(mut call: Call) -> Result<Response, Problem> {
    let request: ExtendRequest = read_json(&mut call).await?;
    let action = SettleAction::Extend { lease: Duration::from_millis(request.lease_ms) };
    settle(&call, request.tokens, &action, request.lateness).await
}

/// `POST /topics/{topic}/groups/{group}/bury`
pub async fn bury(mut call: Call) -> Result<Response, Problem> {
    let request: BuryRequest = read_json(&mut call).await?;
    settle(&call, request.tokens, &SettleAction::Bury { reason: request.reason }, request.lateness).await
}

async fn settle(
    call: &Call,
    tokens: Bounded<String, SETTLE_BATCH_MAX>,
    action: &SettleAction,
    lateness: LatenessWire,
) -> Result<Response, Problem> {
    let request = Settle {
        account: call.principal.account.clone(),
        topic: topic_ref(call)?,
        group: Some(group_ref(call)?),
        items: tokens.0.into_iter().map(|token| (LeaseRef::Token(token), action.clone())).collect(),
        lateness: lateness.into(),
    };
    let outcomes = call.front.engine.settle(request).await?;
    Ok(answer(StatusCode::OK, &OutcomesView::from(outcomes)))
}

/// Parameters of a peek.
pub const PEEK_PARAMETERS: [&str; 11] =
    ["group", "state", "id", "tag", "key", PROPERTY, "since_ms", "until_ms", "from", "limit", "encoding"];

/// `GET /topics/{topic}/messages`
pub async fn peek(call: Call) -> Result<Response, Problem> {
    let query = Query::read(&call, &PEEK_PARAMETERS)?;
    let group = query.get("group").map(GroupName::parse).transpose().map_err(bad_name("group"))?;
    let mut properties = query.properties().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let property = properties.next();
    if properties.next().is_some() {
        let detail = "one property at a time";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_parameter", detail).at(PROPERTY));
    }
    let id = query.get("id").map(MessageId::parse).transpose();
    let state: Option<State> = choice(&query, "state")?;
    let filter = PeekFilter {
        state: state.map(Into::into),
        unsettled: false,
        id: id
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "invalid_parameter", error.to_string()).at("id"))?,
        tag: query.get("tag").map(Tag::parse).transpose().map_err(bad_name("tag"))?,
        key: query.get("key").map(Key::parse).transpose().map_err(bad_name("key"))?,
        property,
        since: query.number("since_ms")?.map(Millis::new),
        until: query.number("until_ms")?.map(Millis::new),
    };
    let encoding: Encoding = choice(&query, "encoding")?.unwrap_or_default();
    let request = Peek {
        account: call.principal.account.clone(),
        topic: topic_ref(&call)?,
        group: group.map(GroupRef::Name),
        filter,
        from: Offset::new(query.number("from")?.unwrap_or(0)),
        limit: size(query.number("limit")?.unwrap_or(PEEK_DEFAULT)),
    };
    let peeked = call.front.engine.peek(request).await?;
    Ok(answer(StatusCode::OK, &PeekView::new(peeked, encoding)))
}

/// One of the words of `T`, in the spelling of its JSON.
fn choice<T: serde::de::DeserializeOwned>(query: &Query<'_>, name: &str) -> Result<Option<T>, Problem> {
    let read = |text: &str| {
        let text: serde::de::value::StrDeserializer<'_, serde::de::value::Error> = text.into_deserializer();
        T::deserialize(text).map_err(|_| {
            let detail = format!("`{name}` is none of the words it may be");
            Problem::new(StatusCode::BAD_REQUEST, "invalid_parameter", detail).at(name)
        })
    };
    query.get(name).map(read).transpose()
}
