//! Permissions of single topics: a topic may let a credential of its account publish or pull that its own
//! rights would not let. They are kept in the topic's annotations, go with the topic, and count in this
//! dialect only.

use axum::response::Response;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::access::{Right, Target, authorise};
use crate::engine::LookupError;
use crate::http::call::Call;
use crate::http::jcq::fault::{Fault, Plane};
use crate::http::jcq::manage::ManagementCall;
use crate::http::jcq::manage::wire::{Nothing, PermissionView, PermissionsView};
use crate::http::jcq::wire::success;
use crate::model::{AccessId, Annotate, Permission, Permissions, Topic, TopicName, TopicPatch, TopicRef};

/// Begins the name of the annotation that holds what one credential may do.
const PREFIX: &str = "jcq.iam.";

/// Changes read what is there and write the whole: one at a time.
static CHANGES: Mutex<()> = Mutex::const_new(());

/// A permission to add or take.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PermissionIn {
    permission: Option<String>,
    target_user_id: Option<String>,
}

fn read(text: &str) -> Option<Permissions> {
    let (publish, consume) = match text {
        "PUB" => (true, false),
        "SUB" => (false, true),
        "PUBSUB" => (true, true),
        _ => return None,
    };
    Some(Permissions { publish, consume, admin: false })
}

fn write(permissions: Permissions) -> Option<&'static str> {
    match (permissions.publish, permissions.consume) {
        (true, true) => Some("PUBSUB"),
        (true, false) => Some("PUB"),
        (false, true) => Some("SUB"),
        (false, false) => None,
    }
}

fn granted(topic: &Topic, id: &str) -> Permissions {
    let said = topic.settings.annotations.get(&format!("{PREFIX}{id}"));
    said.and_then(|text| read(text)).unwrap_or_default()
}

/// Refuses what neither the credential itself nor the topic allows.
pub async fn allow(call: &Call, permission: Permission, topic: &TopicName) -> Result<(), Fault> {
    let Err(denied) = authorise(&call.principal, Right::Do(permission), Target::Topic(topic)) else { return Ok(()) };
    let found = call.front.engine.topic(call.principal.account.clone(), TopicRef::Name(topic.clone())).await;
    match found {
        Ok(topic) if granted(&topic, &call.principal.id.0).allows(permission) => Ok(()),
        Ok(_) | Err(LookupError::NoSuchTopic | LookupError::NoSuchGroup) => Err(denied.into()),
        Err(error @ LookupError::Refused(_)) => Err(Fault::lookup(error, Plane::Data)),
    }
}

/// `POST /topics/{topic}/iam`
pub async fn add(call: ManagementCall) -> Result<Response, Fault> {
    let request: PermissionIn = call.read()?;
    let (permissions, id) = checked(&request)?;
    let own = call.call.principal.permissions;
    if (permissions.publish && !own.publish) || (permissions.consume && !own.consume) {
        return Err(crate::access::Denied::Permission.into());
    }
    let table = call.call.front.engine.access();
    let record = table.records.get(&AccessId(id.clone())).filter(|record| record.account == call.account());
    if record.is_none() {
        return Err(Fault::not_found("targetUserId"));
    }
    change(&call, &id, |old| Permissions {
        publish: old.publish || permissions.publish,
        consume: old.consume || permissions.consume,
        admin: false,
    })
    .await
}

/// `DELETE /topics/{topic}/iam`
pub async fn remove(call: ManagementCall) -> Result<Response, Fault> {
    let permission = call.parameter("permission").map(str::to_owned);
    let target_user_id = call.parameter("targetUserId").map(str::to_owned);
    let (permissions, id) = checked(&PermissionIn { permission, target_user_id })?;
    change(&call, &id, |old| Permissions {
        publish: old.publish && !permissions.publish,
        consume: old.consume && !permissions.consume,
        admin: false,
    })
    .await
}

/// `GET /topics/{topic}/iam`
pub async fn list(call: ManagementCall) -> Result<Response, Fault> {
    let topic = call.topic().await?;
    let pairs = topic.settings.annotations.iter();
    let views = pairs.filter_map(|(name, permission)| {
        let user_id = name.strip_prefix(PREFIX)?.to_owned();
        Some(PermissionView { user_id, permission: permission.clone() })
    });
    Ok(success(PermissionsView { permissions: views.collect() }))
}

fn checked(request: &PermissionIn) -> Result<(Permissions, String), Fault> {
    let permissions = request.permission.as_deref().and_then(read);
    let permissions = permissions.ok_or_else(|| Fault::rule("permission", "PUB, SUB or PUBSUB"))?;
    let id = request.target_user_id.clone().filter(|id| !id.is_empty());
    Ok((permissions, id.ok_or_else(|| Fault::parameter("targetUserId"))?))
}

async fn change(
    call: &ManagementCall,
    id: &str,
    to: impl FnOnce(Permissions) -> Permissions,
) -> Result<Response, Fault> {
    let _one_at_a_time = CHANGES.lock().await;
    let topic = call.topic().await?;
    let permission = write(to(granted(&topic, id))).map(str::to_owned);
    let annotate = Annotate::from([(format!("{PREFIX}{id}"), permission)]);
    let patch = TopicPatch { annotate, ..TopicPatch::default() };
    call.call.front.engine.update_topic(call.account(), TopicRef::Id(topic.id), patch).await?;
    Ok(success(Nothing {}))
}
