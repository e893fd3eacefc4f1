//! Topics: made, read, changed, deleted, counted, emptied.

use axum::http::StatusCode;
use axum::response::Response;

use crate::access::{Right, Target, authorise};
use crate::engine::{CreateTopic, Discard, Redrive};
use crate::http::call::Call;
use crate::http::native::query::Query;
use crate::http::native::wire::{
    CountsView, DiscardRequest, DiscardView, PurgeView, RedriveRequest, RedriveView, TopicCreate, TopicList,
    TopicUpdate, TopicView, bad_name,
};
use crate::http::native::{answer, empty_answer, read_json, size, topic_name, topic_ref};
use crate::http::problem::Problem;
use crate::model::{Offset, Permission, TopicName, TopicPatch, TopicSettings};

const PAGE_DEFAULT: u64 = 100;
const PAGE_MAX: u64 = 1_000;
const REDRIVE_DEFAULT: u64 = 100;

/// `POST /topics`
pub async fn create(mut call: Call) -> Result<Response, Problem> {
    let request: TopicCreate = read_json(&mut call).await?;
    let name = TopicName::parse(&request.name).map_err(bad_name("/name"))?;
    authorise(&call.principal, Right::Do(Permission::Admin), Target::Topic(&name))?;
    let settings = TopicPatch::from(request.settings).applied_to(&TopicSettings::default());
    let request = CreateTopic { account: call.principal.account.clone(), name, settings };
    let topic = call.front.engine.create_topic(request).await?;
    Ok(answer(StatusCode::CREATED, &TopicView::from(topic)))
}

/// `GET /topics`
pub async fn list(call: Call) -> Result<Response, Problem> {
    let query = Query::read(&call, &["limit", "after"])?;
    let limit = query.number("limit")?.unwrap_or(PAGE_DEFAULT);
    if limit == 0 || limit > PAGE_MAX {
        let detail = format!("`limit` must be 1 to {PAGE_MAX}");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "out_of_bounds", detail).at("limit"));
    }
    let after = query.get("after").unwrap_or_default();
    let seen = |name: &TopicName| authorise(&call.principal, Right::See, Target::Topic(name)).is_ok();
    let topics = call.front.engine.topics(call.principal.account.clone()).await?;
    let mut rest = topics.into_iter().filter(|topic| topic.name.as_str() > after && seen(&topic.name)).peekable();
    let page: Vec<_> = rest.by_ref().take(size(limit)).collect();
    let next = rest.peek().and_then(|_| page.last()).map(|topic| topic.name.to_string());
    Ok(answer(StatusCode::OK, &TopicList { topics: page.into_iter().map(TopicView::from).collect(), next }))
}

/// `GET /topics/{topic}`
pub async fn get(call: Call) -> Result<Response, Problem> {
    let topic = call.front.engine.topic(call.principal.account.clone(), topic_ref(&call)?).await?;
    Ok(answer(StatusCode::OK, &TopicView::from(topic)))
}

/// `PATCH /topics/{topic}`
pub async fn update(mut call: Call) -> Result<Response, Problem> {
    let request: TopicUpdate = read_json(&mut call).await?;
    let mut patch = TopicPatch::from(request.settings);
    if let Some(name) = request.name {
        let name = TopicName::parse(&name).map_err(bad_name("/name"))?;
        authorise(&call.principal, Right::Do(Permission::Admin), Target::Topic(&name))?;
        patch.name = Some(name);
    }
    let topic = call.front.engine.update_topic(call.principal.account.clone(), topic_ref(&call)?, patch).await?;
    Ok(answer(StatusCode::OK, &TopicView::from(topic)))
}

/// `DELETE /topics/{topic}`
pub async fn delete(call: Call) -> Result<Response, Problem> {
    call.front.engine.delete_topic(call.principal.account.clone(), topic_ref(&call)?).await?;
    Ok(empty_answer())
}

/// `GET /topics/{topic}/counts`
pub async fn counts(call: Call) -> Result<Response, Problem> {
    let counts = call.front.engine.counts(call.principal.account.clone(), topic_ref(&call)?, None).await?;
    Ok(answer(StatusCode::OK, &CountsView::from(counts)))
}

/// `POST /topics/{topic}/purge`
pub async fn purge(call: Call) -> Result<Response, Problem> {
    let report = call.front.engine.purge(call.principal.account.clone(), topic_ref(&call)?).await?;
    tracing::info!(account = %call.principal.account, topic = %topic_name(&call)?, by = %call.principal.id, "purged");
    Ok(answer(StatusCode::OK, &PurgeView { messages: report.messages }))
}

/// `POST /topics/{topic}/discard`
pub async fn discard(mut call: Call) -> Result<Response, Problem> {
    let request: DiscardRequest = read_json(&mut call).await?;
    let max = crate::model::bounds::PULL_BATCH_MAX;
    if request.offsets.len() > max {
        let detail = format!("`offsets` must have at most {max} entries");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "out_of_bounds", detail).at("/offsets"));
    }
    let offsets = request.offsets.into_iter().map(Offset::new).collect();
    let request = Discard { account: call.principal.account.clone(), topic: topic_ref(&call)?, offsets };
    let report = call.front.engine.discard(request).await?;
    let discarded = report.discarded.into_iter().map(Offset::get).collect();
    Ok(answer(StatusCode::OK, &DiscardView { discarded }))
}

/// `POST /topics/{topic}/redrive`
pub async fn redrive(mut call: Call) -> Result<Response, Problem> {
    let request: RedriveRequest = read_json(&mut call).await?;
    let request = Redrive {
        account: call.principal.account.clone(),
        topic: topic_ref(&call)?,
        offsets: request.offsets.into_iter().map(Offset::new).collect(),
        limit: size(request.limit.unwrap_or(REDRIVE_DEFAULT)),
    };
    let report = call.front.engine.redrive(request).await?;
    Ok(answer(StatusCode::OK, &RedriveView { moved: report.moved, left: report.left }))
}
