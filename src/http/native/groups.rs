//! Groups: made, read, changed, deleted, counted, moved.

use axum::http::StatusCode;
use axum::response::Response;

use crate::access::{Right, Target, authorise};
use crate::engine::{CreateGroup, Seek};
use crate::http::call::Call;
use crate::http::native::wire::{
    CountsView, GroupCreate, GroupList, GroupUpdate, GroupView, SeekRequest, SeekView, bad_name,
};
use crate::http::native::{answer, empty_answer, group_ref, read_json, topic_ref};
use crate::http::problem::Problem;
use crate::model::{GroupName, GroupPatch, GroupSettings, Permission};

/// Dead letters go to a topic of their own: it must be within reach, too.
fn may_dead_letter(call: &Call, patch: &GroupPatch) -> Result<(), Problem> {
    match &patch.dead_letter {
        Some(Some(topic)) => Ok(authorise(&call.principal, Right::Do(Permission::Admin), Target::Topic(topic))?),
        Some(None) | None => Ok(()),
    }
}

/// `POST /topics/{topic}/groups`
pub async fn create(mut call: Call) -> Result<Response, Problem> {
    let request: GroupCreate = read_json(&mut call).await?;
    let name = GroupName::parse(&request.name).map_err(bad_name("/name"))?;
    let position = request.position();
    let patch = GroupPatch::try_from(request.settings)?;
    may_dead_letter(&call, &patch)?;
    let settings = patch.applied_to(&GroupSettings::default());
    let account = call.principal.account.clone();
    let request = CreateGroup { account, topic: topic_ref(&call)?, name, settings, position };
    let group = call.front.engine.create_group(request).await?;
    Ok(answer(StatusCode::CREATED, &GroupView::from(group)))
}

/// `GET /topics/{topic}/groups`
pub async fn list(call: Call) -> Result<Response, Problem> {
    let groups = call.front.engine.groups(call.principal.account.clone(), topic_ref(&call)?).await?;
    Ok(answer(StatusCode::OK, &GroupList { groups: groups.into_iter().map(GroupView::from).collect() }))
}

/// `GET /topics/{topic}/groups/{group}`
pub async fn get(call: Call) -> Result<Response, Problem> {
    let account = call.principal.account.clone();
    let group = call.front.engine.group(account, topic_ref(&call)?, group_ref(&call)?).await?;
    Ok(answer(StatusCode::OK, &GroupView::from(group)))
}

/// `PATCH /topics/{topic}/groups/{group}`
pub async fn update(mut call: Call) -> Result<Response, Problem> {
    let request: GroupUpdate = read_json(&mut call).await?;
    let patch = GroupPatch::try_from(request.settings)?;
    may_dead_letter(&call, &patch)?;
    let account = call.principal.account.clone();
    let group = call.front.engine.update_group(account, topic_ref(&call)?, group_ref(&call)?, patch).await?;
    Ok(answer(StatusCode::OK, &GroupView::from(group)))
}

/// `DELETE /topics/{topic}/groups/{group}`
pub async fn delete(call: Call) -> Result<Response, Problem> {
    let account = call.principal.account.clone();
    call.front.engine.delete_group(account, topic_ref(&call)?, group_ref(&call)?).await?;
    Ok(empty_answer())
}

/// `GET /topics/{topic}/groups/{group}/counts`
pub async fn counts(call: Call) -> Result<Response, Problem> {
    let account = call.principal.account.clone();
    let counts = call.front.engine.counts(account, topic_ref(&call)?, Some(group_ref(&call)?)).await?;
    Ok(answer(StatusCode::OK, &CountsView::from(counts)))
}

/// `POST /topics/{topic}/groups/{group}/seek`
pub async fn seek(mut call: Call) -> Result<Response, Problem> {
    let request: SeekRequest = read_json(&mut call).await?;
    let dry_run = request.dry_run;
    let request = Seek {
        account: call.principal.account.clone(),
        topic: topic_ref(&call)?,
        group: group_ref(&call)?,
        to: request.to.into(),
        dry_run,
    };
    let report = call.front.engine.seek(request).await?;
    Ok(answer(StatusCode::OK, &SeekView::new(report, dry_run)))
}
