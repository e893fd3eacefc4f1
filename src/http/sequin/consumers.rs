//! Consumers: groups, made, listed, changed, moved, deleted. Any group of a topic is a consumer here,
//! whoever made it; what only Sequin knows of one is in its annotations.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::response::Response;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::access::{Right, Target, authorise};
use crate::engine::{CreateGroup, Position, Seek};
use crate::http::sequin::fault::Fault;
use crate::http::sequin::keys::{ALL, Pattern};
use crate::http::sequin::record::{plain_time, seq};
use crate::http::sequin::start::Policy;
use crate::http::sequin::wire::{
    ConsumerIn, ConsumerView, ConsumersIn, DeletedView, PullConsumerView, RewindIn, RewoundView, Scalar, answer,
    answer_data,
};
use crate::http::sequin::{Era, SequinCall};
use crate::http::time::rfc3339;
use crate::model::{Annotate, Flow, Group, GroupName, GroupPatch, GroupSettings, Permission, Topic, TopicId, TopicRef};

const METADATA: &str = "sequin.metadata";
const DELIVER_POLICY: &str = "sequin.deliver_policy";
const FILTER: &str = "sequin.filter_key_pattern";
/// Messages in flight at once, where the request names no number.
const ACK_PENDING_DEFAULT: u32 = 1_000;
/// The same in the eras of `/api`.
const ACK_PENDING_DEFAULT_LATER: u32 = 10_000;
/// Waiting pulls at once, in the eras that know the number.
const WAITING_DEFAULT: u32 = 20;

/// Which keys a consumer wants.
pub fn pattern(group: &Group) -> Pattern {
    let text = group.settings.annotations.get(FILTER).map_or(ALL, String::as_str);
    // What does not read was not written here; it wants nothing less than everything.
    Pattern::parse(text).or_else(|_| Pattern::parse(ALL)).unwrap_or_else(|_| unreachable!("`>` is a pattern"))
}

/// A number of a request, which its own type must hold.
fn number<T: TryFrom<i64>>(field: &str, value: Option<&Scalar>) -> Result<Option<T>, Fault> {
    let read = |value: &Scalar| value.whole().and_then(|number| T::try_from(number).ok());
    value.map(|value| read(value).ok_or_else(|| Fault::invalid(field, "is not a number that it may be"))).transpose()
}

/// The settings that a request names. `max_deliver` is unlimited at -1.
fn read_patch(request: &ConsumerIn) -> Result<GroupPatch, Fault> {
    if request.kind.as_deref().is_some_and(|kind| kind != "pull") {
        return Err(Fault::invalid("kind", "must be pull: this server pushes nothing"));
    }
    let ack_wait = number::<u64>("ack_wait_ms", request.ack_wait_ms.as_ref().or(request.ack_wait.as_ref()))?;
    let max_deliver = match number::<i64>("max_deliver", request.max_deliver.as_ref())? {
        Some(-1) => Some(None),
        Some(max) => {
            let max = u32::try_from(max).map_err(|_| Fault::invalid("max_deliver", "must be 1 to 100000, or -1"))?;
            Some(Some(max))
        }
        None => None,
    };
    let flow = match request.status.as_deref() {
        None => None,
        Some("active") => Some(Flow::Running),
        Some("paused" | "disabled") => Some(Flow::Paused),
        Some(_) => return Err(Fault::invalid("status", "must be active, disabled or paused")),
    };
    let mut annotate = Annotate::new();
    if let Some(pattern) = &request.filter_key_pattern {
        let pattern = Pattern::parse(pattern).map_err(|rule| Fault::invalid("filter_key_pattern", rule))?;
        annotate.insert(FILTER.to_owned(), Some(pattern.as_str().to_owned()));
    }
    if let Some(metadata) = &request.metadata {
        let metadata = serde_json::to_string(metadata).map_err(|_| Fault::internal("metadata that is no JSON"))?;
        annotate.insert(METADATA.to_owned(), Some(metadata));
    }
    Ok(GroupPatch {
        lease: ack_wait.map(Duration::from_millis),
        attempts_max: max_deliver,
        pending_max: number("max_ack_pending", request.max_ack_pending.as_ref())?,
        waiting_max: number("max_waiting", request.max_waiting.as_ref())?,
        flow,
        annotate,
        ..GroupPatch::default()
    })
}

fn read_policy(text: &str, field: &str) -> Result<Policy, Fault> {
    let rule = "must be all, new, last, a span such as 1h, seq:<number> or time_ms:<number>";
    Policy::parse(text).ok_or_else(|| Fault::invalid(field, rule))
}

/// `POST .../consumers` and `POST /v1/http-consumers`
pub async fn create(mut call: SequinCall) -> Result<Response, Fault> {
    let request: ConsumerIn = call.read().await?;
    let stream = match (&call.stream, &request.stream_id) {
        (Some(stream), _) => stream.clone(),
        (None, Some(id)) => call.find_stream(id).await.map_err(|fault| fault.of_field("stream_id"))?,
        (None, None) => return Err(Fault::invalid("stream_id", "can't be blank")),
    };
    authorise(&call.call.principal, Right::Do(Permission::Admin), Target::Topic(&stream.name))?;
    let name = request.name.as_deref().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Fault::invalid("name", "can't be blank"))?;
    let name = GroupName::parse(name).map_err(|error| Fault::invalid("name", error.to_string()))?;
    if call.era != Era::Records && request.filter_key_pattern.is_none() {
        return Err(Fault::invalid("filter_key_pattern", "can't be blank"));
    }
    let mut defaults = GroupSettings::default();
    match call.era {
        Era::Records => defaults.pending_max = ACK_PENDING_DEFAULT,
        Era::Tokens | Era::Messages | Era::Sinks => {
            (defaults.pending_max, defaults.waiting_max) = (ACK_PENDING_DEFAULT_LATER, WAITING_DEFAULT);
        }
    }
    let mut settings = read_patch(&request)?.applied_to(&defaults);
    let said = request.deliver_policy.as_deref().unwrap_or("all");
    let policy = read_policy(said, "deliver_policy")?;
    settings.annotations.insert(DELIVER_POLICY.to_owned(), said.to_owned());
    let topic = TopicRef::Id(stream.id);
    let position = Position::Now(policy.resolve(&call, topic.clone()).await?);
    let request = CreateGroup { account: call.account(), topic, name, settings, position };
    let group = call.call.front.engine.create_group(request).await?;
    Ok(view(&call, stream.id, &group))
}

/// `GET /v1/http-consumers` of all streams, or of one; `GET .../consumers` of the stream in the path.
pub async fn list(mut call: SequinCall) -> Result<Response, Fault> {
    let body: ConsumersIn = call.read().await?;
    let metadata = match call.parameter("metadata") {
        Some(text) => Some(
            serde_json::from_str::<BTreeMap<String, Value>>(&text)
                .map_err(|_| Fault::bad("`metadata` must be a JSON object"))?,
        ),
        None => body.metadata,
    };
    let only = call.parameter("stream_id").map(|id| id.into_owned()).or(body.stream_id);
    let streams: Vec<Topic> = match (&call.stream, only) {
        (Some(stream), _) => vec![stream.clone()],
        (None, Some(id)) => vec![call.find_stream(&id).await?],
        (None, None) => call.call.front.engine.topics(call.account()).await?,
    };
    let mut found = Vec::new();
    for stream in streams {
        if authorise(&call.call.principal, Right::See, Target::Topic(&stream.name)).is_err() {
            continue;
        }
        let groups = call.call.front.engine.groups(call.account(), TopicRef::Id(stream.id)).await?;
        found.extend(groups.into_iter().map(|group| (stream.id, group)));
    }
    found.retain(|(_, group)| metadata.as_ref().is_none_or(|wanted| has_metadata(group, wanted)));
    Ok(if call.era == Era::Records {
        answer_data(found.iter().map(|(stream, group)| consumer_view(*stream, group)).collect::<Vec<_>>())
    } else {
        answer_data(found.iter().map(|(stream, group)| pull_consumer_view(*stream, group)).collect::<Vec<_>>())
    })
}

/// Whether a consumer's metadata has all of these fields.
fn has_metadata(group: &Group, wanted: &BTreeMap<String, Value>) -> bool {
    let text = group.settings.annotations.get(METADATA).map_or("{}", String::as_str);
    let own: BTreeMap<String, Value> = serde_json::from_str(text).unwrap_or_default();
    wanted.iter().all(|(name, value)| own.get(name) == Some(value))
}

/// `GET` of one consumer.
pub async fn get(call: SequinCall) -> Result<Response, Fault> {
    let (group, topic, _) = call.consumer()?;
    let stream = call.call.front.engine.topic(call.account(), topic).await?;
    Ok(view(&call, stream.id, group))
}

/// `PUT` and `PATCH` of one consumer: what the request leaves out stays.
pub async fn update(mut call: SequinCall) -> Result<Response, Fault> {
    let request: ConsumerIn = call.read().await?;
    let (group, topic, by) = call.consumer()?;
    if request.name.as_deref().is_some_and(|name| name != group.name.as_str()) {
        return Err(Fault::invalid("name", "cannot be changed"));
    }
    if request.deliver_policy.is_some() {
        return Err(Fault::invalid("deliver_policy", "cannot be changed: rewind the consumer"));
    }
    let stream = call.call.front.engine.topic(call.account(), topic.clone()).await?;
    let patch = read_patch(&request)?;
    let group = call.call.front.engine.update_group(call.account(), topic, by, patch).await?;
    Ok(view(&call, stream.id, &group))
}

/// `DELETE` of one consumer.
pub async fn delete(call: SequinCall) -> Result<Response, Fault> {
    let (group, topic, by) = call.consumer()?;
    call.call.front.engine.delete_group(call.account(), topic, by).await?;
    Ok(answer(&DeletedView { id: group.id.to_string(), deleted: true }))
}

/// `POST .../rewind`: to where a `deliver_policy` says, forward as well as back.
pub async fn rewind(mut call: SequinCall) -> Result<Response, Fault> {
    let request: RewindIn = call.read().await?;
    let to = request.to.as_deref().ok_or_else(|| Fault::invalid("to", "can't be blank"))?;
    let (_, topic, group) = call.consumer()?;
    let to = read_policy(to, "to")?.resolve(&call, topic.clone()).await?;
    let seek = Seek { account: call.account(), topic, group, to, dry_run: request.dry_run };
    let report = call.call.front.engine.seek(seek).await?;
    Ok(answer(&RewoundView {
        from_seq: seq(report.from),
        to_seq: seq(report.to),
        num_dropped: report.pending_dropped,
        num_pending: report.ahead,
        dry_run: request.dry_run,
    }))
}

fn view(call: &SequinCall, stream: TopicId, group: &Group) -> Response {
    match call.era {
        Era::Records => answer(&consumer_view(stream, group)),
        Era::Tokens | Era::Messages | Era::Sinks => answer(&pull_consumer_view(stream, group)),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn consumer_view(stream: TopicId, group: &Group) -> ConsumerView {
    let settings = &group.settings;
    let metadata = settings.annotations.get(METADATA).and_then(|text| RawValue::from_string(text.clone()).ok());
    ConsumerView {
        id: group.id.to_string(),
        name: group.name.to_string(),
        stream_id: stream.to_string(),
        deliver_policy: settings.annotations.get(DELIVER_POLICY).cloned().unwrap_or_else(|| "all".to_owned()),
        ack_wait_ms: millis(settings.lease),
        max_deliver: settings.attempts_max.map_or(-1, i64::from),
        max_ack_pending: settings.pending_max,
        max_waiting: settings.waiting_max,
        status: if settings.flow == Flow::Paused { "paused" } else { "active" },
        metadata,
        created_at: plain_time(group.created_at),
        updated_at: plain_time(group.modified_at),
    }
}

fn pull_consumer_view(stream: TopicId, group: &Group) -> PullConsumerView {
    let settings = &group.settings;
    PullConsumerView {
        id: group.id.to_string(),
        name: group.name.to_string(),
        stream_id: stream.to_string(),
        ack_wait_ms: millis(settings.lease),
        filter_key_pattern: pattern(group).as_str().to_owned(),
        kind: "pull",
        max_ack_pending: settings.pending_max,
        max_deliver: settings.attempts_max,
        max_waiting: settings.waiting_max,
        status: if settings.flow == Flow::Paused { "disabled" } else { "active" },
        inserted_at: rfc3339(group.created_at),
        updated_at: rfc3339(group.modified_at),
    }
}
