//! Consuming: `next` or `receive`, `ack`, `nack`.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::engine::{
    Counts, HandleKind, Lateness, LeaseRef, LookupError, Pull, PullError, Settle, SettleAction, SettleError, Wait,
};
use crate::http::json::{self, JsonError};
use crate::http::sequin::consumers::pattern;
use crate::http::sequin::fault::Fault;
use crate::http::sequin::record::{change_view, message_view, record_view, seq, uuid_text};
use crate::http::sequin::wire::{
    ChangeView, ChangedView, CountsView, DeliveredView, NextView, ReceiveIn, ReceivedView, Scalar, SettleIn,
    SuccessView, TokenView, answer, answer_data,
};
use crate::http::sequin::{Era, SequinCall};
use crate::model::Delivery;
use crate::model::bounds::{DELAY_MAX, PULL_BATCH_MAX, WAIT_MAX};

/// Pulls that one request of a consumer with a pattern makes at most; what it passed stays passed.
const ROUNDS_MAX: usize = 1_000;
/// A paused consumer is answered at once with nothing; one that would wait, after at most this long, so that its
/// client does not turn round and round.
const PAUSE_HOLD: Duration = Duration::from_secs(1);

/// A pull as asked for.
struct Request {
    size: usize,
    wait: Duration,
    auto_ack: bool,
}

/// What it took.
struct Took {
    deliveries: Vec<Delivery>,
    counts: Counts,
}

/// `GET|POST .../next` and `.../receive`
pub async fn next(mut call: SequinCall) -> Result<Response, Fault> {
    let body: ReceiveIn = call.read().await?;
    let request = read_request(&call, body)?;
    // Now and not for the answer: by then the messages are taken, and the stream may have another name.
    if call.stream.is_none() && call.era != Era::Sinks {
        let (_, topic, _) = call.consumer()?;
        call.stream = Some(call.call.front.engine.topic(call.account(), topic).await?);
    }
    let took = match take(&call, &request).await {
        Ok(took) => took,
        Err(PullError::Paused) => {
            tokio::time::sleep(request.wait.min(PAUSE_HOLD)).await;
            Took { deliveries: Vec::new(), counts: counts(&call).await? }
        }
        Err(PullError::TooManyWaiting { max }) => {
            return Err(Fault::too_many_waiting(format!("max_waiting is reached: {max} requests are waiting already")));
        }
        Err(error) => return Err(error.into()),
    };
    render(&call, took)
}

/// What the query names wins over the body.
fn read_request(call: &SequinCall, body: ReceiveIn) -> Result<Request, Fault> {
    let named = |name: &str| call.parameter(name).map(|text| Scalar::Text(text.into_owned()));
    let size = named("batch_size").or(named("max_batch_size")).or(body.batch_size).or(body.max_batch_size);
    let size = size.map_or(Some(1), |size| size.whole()).and_then(|size| usize::try_from(size).ok());
    let size = size.filter(|size| (1..=PULL_BATCH_MAX).contains(size));
    let size = size.ok_or_else(|| Fault::bad(format!("`batch_size` must be an integer from 1 to {PULL_BATCH_MAX}")))?;
    let wait = named("wait_for").or(body.wait_for);
    let wait = wait.map_or(Some(0), |wait| wait.millis()).map(Duration::from_millis).filter(|wait| *wait <= WAIT_MAX);
    let wait = wait.ok_or_else(|| {
        Fault::bad(format!("`wait_for` must be 0 to {} milliseconds, or a span such as 30s", WAIT_MAX.as_millis()))
    })?;
    let auto_ack = named("auto_ack").or(body.auto_ack).map_or(Some(false), |auto_ack| auto_ack.switch());
    let auto_ack = auto_ack.ok_or_else(|| Fault::bad("`auto_ack` must be true or false"))?;
    Ok(Request { size, wait, auto_ack })
}

async fn take(call: &SequinCall, request: &Request) -> Result<Took, PullError> {
    let _waiting = if request.wait.is_zero() {
        None
    } else {
        let max = u32::try_from(call.call.front.config.http.waiting_per_token_max).unwrap_or(u32::MAX);
        let counted = call.call.front.begin_waiting(&call.call.principal.id);
        Some(counted.ok_or(PullError::TooManyWaiting { max })?)
    };
    let Ok((group, ..)) = call.consumer() else { return Err(PullError::Lookup(LookupError::NoSuchGroup)) };
    match pattern(group) {
        pattern if pattern.is_all() => {
            let pulled = pull(call, request.size, wait_for(call.era, request.wait), request.auto_ack).await?;
            Ok(Took { deliveries: pulled.0, counts: pulled.1 })
        }
        pattern => take_wanted(call, request, |delivery| pattern.wants(delivery.message.head.key.as_ref())).await,
    }
}

/// The wait rule: until the batch is full in era A, until there is any message in the others.
fn wait_for(era: Era, span: Duration) -> Wait {
    match era {
        _ if span.is_zero() => Wait::None,
        Era::Records => Wait::Full(span),
        Era::Tokens | Era::Messages | Era::Sinks => Wait::Any(span),
    }
}

async fn pull(
    call: &SequinCall,
    size: usize,
    wait: Wait,
    auto_ack: bool,
) -> Result<(Vec<Delivery>, Counts), PullError> {
    let Ok((_, topic, group)) = call.consumer() else { return Err(PullError::Lookup(LookupError::NoSuchGroup)) };
    let pull = Pull {
        account: call.account(),
        topic,
        group,
        batch_max: size,
        lease: None,
        wait,
        auto_ack,
        handles: HandleKind::PerMessage,
        filter: None,
        start: None,
    };
    let pulled = call.call.front.engine.pull(pull).await?;
    Ok((pulled.deliveries, pulled.counts))
}

/// What was taken so far for a batch. Given back if the batch does not come about: the client hung up, or a later
/// pull failed.
struct Gathered<'a> {
    call: &'a SequinCall,
    deliveries: Vec<Delivery>,
}

impl Drop for Gathered<'_> {
    fn drop(&mut self) {
        let leases = std::mem::take(&mut self.deliveries).iter().map(lease).collect::<Vec<_>>();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let Ok(request) = settle_request(self.call, leases, &SettleAction::Nack { delay: Some(Duration::ZERO) }) else {
            return;
        };
        if !request.items.is_empty() {
            let engine = Arc::clone(&self.call.call.front.engine);
            // Whatever is not given back lapses.
            runtime.spawn(async move { engine.settle(request).await });
        }
    }
}

fn lease(delivery: &Delivery) -> LeaseRef {
    LeaseRef::Handle(delivery.handle)
}

/// Takes until the batch is as full as the wait rule wants it, with messages that the consumer's pattern wants.
/// The others are settled for it on the way.
async fn take_wanted(
    call: &SequinCall,
    request: &Request,
    wanted: impl Fn(&Delivery) -> bool,
) -> Result<Took, PullError> {
    let clock = &call.call.front.clock;
    let until = clock.boot().after(request.wait);
    let mut gathered = Gathered { call, deliveries: Vec::new() };
    for _ in 0..ROUNDS_MAX {
        let missing = request.size - gathered.deliveries.len();
        let left = until.since(clock.boot());
        let wait = match wait_for(call.era, left) {
            Wait::Any(_) if !gathered.deliveries.is_empty() => Wait::None,
            wait => wait,
        };
        // A pause in mid-batch does not take back what was taken.
        let pulled = match pull(call, missing, wait, false).await {
            Ok((pulled, _)) => pulled,
            Err(PullError::Paused) if !gathered.deliveries.is_empty() => break,
            Err(error) => return Err(error),
        };
        let exhausted = pulled.len() < missing;
        let (kept, passed): (Vec<_>, Vec<_>) = pulled.into_iter().partition(&wanted);
        ack_all(call, &passed).await?;
        gathered.deliveries.extend(kept);
        let may_wait = match wait_for(call.era, until.since(clock.boot())) {
            Wait::None => false,
            Wait::Any(_) => gathered.deliveries.is_empty(),
            Wait::Full(_) => true,
        };
        if gathered.deliveries.len() == request.size || (exhausted && !may_wait) {
            break;
        }
    }
    if request.auto_ack {
        ack_all(call, &gathered.deliveries).await?;
        gathered.deliveries.iter_mut().for_each(|delivery| delivery.handle = 0);
    }
    let Ok((_, topic, group)) = call.consumer() else { return Err(PullError::Lookup(LookupError::NoSuchGroup)) };
    let counts = call.call.front.engine.counts(call.account(), topic, Some(group)).await?;
    Ok(Took { deliveries: std::mem::take(&mut gathered.deliveries), counts })
}

async fn ack_all(call: &SequinCall, deliveries: &[Delivery]) -> Result<(), PullError> {
    if deliveries.is_empty() {
        return Ok(());
    }
    match settle_all(call, deliveries.iter().map(lease).collect(), &SettleAction::Ack).await {
        Ok(()) => Ok(()),
        Err(SettleError::Lookup(error)) => Err(error.into()),
        Err(SettleError::Bounds(error)) => Err(error.into()),
    }
}

async fn counts(call: &SequinCall) -> Result<Counts, Fault> {
    let (_, topic, group) = call.consumer()?;
    Ok(call.call.front.engine.counts(call.account(), topic, Some(group)).await?)
}

fn render(call: &SequinCall, took: Took) -> Result<Response, Fault> {
    let (group, ..) = call.consumer()?;
    let ack = |delivery: &Delivery| (delivery.handle != 0).then(|| uuid_text(delivery.handle));
    let deliveries = took.deliveries;
    Ok(match call.era {
        Era::Records => {
            let stream = call.stream()?.id;
            let view = |delivery: Delivery| DeliveredView {
                ack_token: ack(&delivery),
                record: record_view(stream, group, &delivery.message),
                key: delivery.message.head.key.as_ref().map(|key| key.as_str().to_owned()),
                seq: seq(delivery.message.head.offset),
                deliver_count: delivery.attempt.get(),
            };
            let info = CountsView { num_pending: took.counts.ready, num_ack_pending: took.counts.in_flight };
            answer(&NextView { data: deliveries.into_iter().map(view).collect(), info })
        }
        Era::Tokens => {
            let stream = call.stream()?.id;
            let view = |one: Delivery| TokenView { ack_token: ack(&one), message: message_view(stream, &one.message) };
            answer_data(deliveries.into_iter().map(view).collect::<Vec<_>>())
        }
        Era::Messages => {
            let stream = call.stream()?.id;
            let view = |one: Delivery| ReceivedView { ack_id: ack(&one), message: message_view(stream, &one.message) };
            answer_data(deliveries.into_iter().map(view).collect::<Vec<_>>())
        }
        Era::Sinks => {
            let changes: Vec<(Option<String>, ChangeView)> =
                deliveries.iter().map(|one| (ack(one), change_view(group, &one.message))).collect();
            answer_data(changes.iter().map(changed_view).collect::<Vec<_>>())
        }
    })
}

fn changed_view((ack_id, change): &(Option<String>, ChangeView)) -> ChangedView<'_> {
    ChangedView {
        ack_id: ack_id.as_deref(),
        data: change,
        record: &change.record,
        changes: None,
        action: change.action,
        metadata: &change.metadata,
    }
}

/// `POST .../ack`
pub async fn ack(mut call: SequinCall) -> Result<Response, Fault> {
    let request = read_settle(&mut call).await?;
    settle(&call, request, &SettleAction::Ack).await
}

/// `POST .../nack`: again at once, or after `delay_ms`.
pub async fn nack(mut call: SequinCall) -> Result<Response, Fault> {
    let request = read_settle(&mut call).await?;
    let delay = request.delay_ms.as_ref().map(|delay| delay.millis().map(Duration::from_millis));
    let delay = match delay {
        None => None,
        Some(Some(delay)) if delay <= DELAY_MAX => Some(delay),
        Some(_) => return Err(Fault::bad(format!("`delay_ms` must be 0 to {}", DELAY_MAX.as_millis()))),
    };
    settle(&call, request, &SettleAction::Nack { delay }).await
}

async fn read_settle(call: &mut SequinCall) -> Result<SettleIn, Fault> {
    let body = call.call.body().await?;
    json::read(&body).map_err(|error| match &error {
        JsonError::Shape { pointer, .. } if pointer.starts_with("/ack_ids") => Fault::no_ack_ids(),
        JsonError::Shape { .. } | JsonError::Syntax { .. } | JsonError::TooMany { .. } => error.into(),
    })
}

/// Whatever became of the leases: an ack that comes too late, or twice, is no error in any era.
async fn settle(call: &SequinCall, request: SettleIn, action: &SettleAction) -> Result<Response, Fault> {
    let speaks_tokens = matches!(call.era, Era::Records | Era::Tokens);
    // The second era of `/api` took over the path of the first one: the words tell who asks.
    let without_body = match call.era {
        Era::Records | Era::Tokens => true,
        Era::Messages => request.ack_tokens.is_some() && request.ack_ids.is_none(),
        Era::Sinks => false,
    };
    let named = request.ack_tokens.is_some() || request.ack_ids.is_some();
    let names = [request.ack_tokens, request.ack_ids].into_iter().flatten().flat_map(|list| list.0);
    let leases = names.map(|name| match uuid::Uuid::try_parse(&name) {
        Ok(id) => Ok(LeaseRef::Handle(id.as_u128())),
        Err(_) if call.era == Era::Records => Ok(LeaseRef::Token(name)),
        Err(_) => Err(Fault::no_ack_ids()),
    });
    let leases = leases.collect::<Result<Vec<_>, _>>()?;
    if !named && speaks_tokens {
        return Err(Fault::bad("`ack_tokens` is missing: it must be a list of strings"));
    }
    if leases.is_empty() && !speaks_tokens {
        return Err(Fault::no_ack_ids());
    }
    settle_all(call, leases, action).await?;
    Ok(if without_body { StatusCode::NO_CONTENT.into_response() } else { answer(&SuccessView { success: true }) })
}

async fn settle_all(call: &SequinCall, leases: Vec<LeaseRef>, action: &SettleAction) -> Result<(), SettleError> {
    let request = settle_request(call, leases, action)?;
    call.call.front.engine.settle(request).await.map(drop)
}

fn settle_request(call: &SequinCall, leases: Vec<LeaseRef>, action: &SettleAction) -> Result<Settle, LookupError> {
    let Ok((_, topic, group)) = call.consumer() else { return Err(LookupError::NoSuchGroup) };
    Ok(Settle {
        account: call.account(),
        topic,
        group: Some(group),
        items: leases.into_iter().map(|lease| (lease, action.clone())).collect(),
        // Late counts, unless somebody else has the message now: then nothing changes.
        lateness: Lateness::IfFree,
    })
}
