//! Subscriptions: groups, with JCQ's settings and bounds, and where they stand.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::response::Response;

use crate::engine::Seek;
use crate::http::jcq::fault::{Fault, Plane};
use crate::http::jcq::groups::{
    MakeError, RETRIES_DEFAULT, Wanted, dead_letter_topic, make_dead_letter_topic, make_group, new_group_name,
};
use crate::http::jcq::manage::topics::delete_dead_letters;
use crate::http::jcq::manage::wire::{
    GroupIdsView, Nothing, ResetIn, SubscriptionIn, SubscriptionResult, SubscriptionView, SubscriptionsView,
};
use crate::http::jcq::manage::{ManagementCall, instant};
use crate::http::jcq::wire::success;
use crate::http::time::seconds;
use crate::http::whole::Whole;
use crate::model::{Group, GroupPatch, GroupRef, Ordering, Start, TagFilter, Topic};

const LEASE_SECS: std::ops::RangeInclusive<u64> = 30..=600;

fn read_lease(lease: Option<Whole>) -> Result<Option<Duration>, Fault> {
    match lease {
        Some(Whole(seconds)) if !LEASE_SECS.contains(&seconds) => {
            Err(Fault::rule("messageInvisibleTimeInSeconds", "30 to 600"))
        }
        lease => Ok(lease.map(|Whole(seconds)| Duration::from_secs(seconds))),
    }
}

fn read_retries(retries: Option<Whole>) -> Result<Option<u32>, Fault> {
    let fits = |Whole(retries): Whole| u32::try_from(retries).ok().filter(|retries| *retries <= RETRIES_DEFAULT);
    retries.map(|retries| fits(retries).ok_or_else(|| Fault::rule("maxRetryTimes", "0 to 16"))).transpose()
}

/// Dead letters of an ordered topic would be overtaken by what follows them.
fn check_dead_letters(topic: &Topic) -> Result<(), Fault> {
    if topic.settings.ordering == Ordering::Strict {
        return Err(Fault::rule("dlqEnable", "a topic of type global_order has no dead letters"));
    }
    Ok(())
}

/// `POST /topics/{topic}/subscriptions`
pub async fn create(call: ManagementCall) -> Result<Response, Fault> {
    let request: SubscriptionIn = call.read()?;
    let name = request.consumer_group_id.as_deref().ok_or_else(|| Fault::parameter("consumerGroupId"))?;
    let name = new_group_name(name)?;
    let lease = read_lease(request.message_invisible_time_in_seconds)?;
    let retries = read_retries(request.max_retry_times)?;
    let topic = call.topic().await?;
    let mut wanted = Wanted::default_of(&topic);
    wanted.lease = lease.unwrap_or(wanted.lease);
    match request.dlq_enable {
        Some(true) => {
            check_dead_letters(&topic)?;
            wanted.retries = Some(retries.unwrap_or(RETRIES_DEFAULT));
        }
        Some(false) => wanted.retries = None,
        None => wanted.retries = wanted.retries.map(|default| retries.unwrap_or(default)),
    }
    match make_group(&call.call, &topic, name, wanted, Plane::Management).await {
        Ok(_) => Ok(success(Nothing {})),
        Err(MakeError::Exists) => Err(Fault::exists("subscription")),
        Err(MakeError::Fault(fault)) => Err(fault),
    }
}

/// `GET /topics/{topic}/subscriptions`
pub async fn list(call: ManagementCall) -> Result<Response, Fault> {
    let page = call.page()?;
    let wanted = call.parameter("consumerGroupFilter").unwrap_or_default().to_lowercase();
    let topic = call.topic().await?;
    let mut groups = call.groups(&topic).await?;
    groups.retain(|group| group.name.as_str().to_lowercase().contains(&wanted));
    let total_count = groups.len();
    let subscriptions = page.of(groups).into_iter().map(subscription_view).collect();
    Ok(success(SubscriptionsView { subscriptions, total_count }))
}

/// `GET /topics/{topic}/subscriptions/{group}`
pub async fn get(call: ManagementCall) -> Result<Response, Fault> {
    Ok(success(SubscriptionResult { subscription: subscription_view(call.group().await?) }))
}

fn subscription_view(group: Group) -> SubscriptionView {
    let settings = group.settings;
    SubscriptionView {
        consumer_group_id: group.name.to_string(),
        end_point: "",
        message_invisible_time_in_seconds: settings.lease.as_secs(),
        subscription_type: "PULL",
        tags: match settings.filter {
            TagFilter::All => Vec::new(),
            TagFilter::AnyOf(tags) => tags.iter().map(ToString::to_string).collect(),
        },
        dlq_enable: settings.dead_letter.is_some(),
        max_retry_times: settings.attempts_max.map_or(0, |attempts| attempts.saturating_sub(1)),
        create_time: seconds(group.created_at),
        last_update_time: seconds(group.modified_at),
        consumer_numbers: 0,
    }
}

/// `PATCH /topics/{topic}/subscriptions/{group}`: what the request leaves out stays.
pub async fn change(call: ManagementCall) -> Result<Response, Fault> {
    let request: SubscriptionIn = call.read()?;
    let lease = read_lease(request.message_invisible_time_in_seconds)?;
    let retries = read_retries(request.max_retry_times)?;
    let (topic, group) = (call.topic().await?, call.group().await?);
    let mut patch = GroupPatch { lease, ..GroupPatch::default() };
    let attempts = retries.map(|retries| Some(retries + 1));
    match (request.dlq_enable, group.settings.dead_letter.is_some()) {
        (Some(true), false) => {
            check_dead_letters(&topic)?;
            let dead_letter = dead_letter_topic(&topic, &group.name);
            let dead_letter = dead_letter.ok_or_else(|| Fault::rule("dlqEnable", "needs a shorter consumerGroupId"))?;
            make_dead_letter_topic(&call.call, &topic, &dead_letter).await?;
            patch.dead_letter = Some(Some(dead_letter));
            patch.attempts_max = attempts.or(Some(Some(RETRIES_DEFAULT + 1)));
        }
        (Some(false), _) => {
            patch.dead_letter = Some(None);
            patch.attempts_max = Some(None);
        }
        (Some(true) | None, true) => patch.attempts_max = attempts,
        (None, false) if attempts.is_some() => {
            return Err(Fault::rule("maxRetryTimes", "needs dlqEnable: without dead letters retries never end"));
        }
        (None, false) => {}
    }
    let group = GroupRef::Id(group.id);
    call.call.front.engine.update_group(call.account(), call.topic_ref()?, group, patch).await?;
    Ok(success(Nothing {}))
}

/// `DELETE /topics/{topic}/subscriptions/{group}`: with its dead letters.
pub async fn delete(call: ManagementCall) -> Result<Response, Fault> {
    let (topic, group) = (call.topic().await?, call.group().await?);
    let deleted = call.call.front.engine.delete_group(call.account(), call.topic_ref()?, GroupRef::Id(group.id)).await;
    deleted.map_err(|error| Fault::lookup(error, Plane::Management))?;
    if let Some(name) = dead_letter_topic(&topic, &group.name) {
        delete_dead_letters(&call, name).await?;
    }
    Ok(success(Nothing {}))
}

/// `POST /topics/{topic}/subscriptions/{group}:resetConsumeOffset`
pub async fn reset(call: ManagementCall) -> Result<Response, Fault> {
    let request: ResetIn = call.read()?;
    let time = instant("time", request.time.as_deref())?;
    seek(&call, Start::Time(time)).await
}

/// `POST /topics/{topic}/subscriptions/{group}:cleanMessages`
pub async fn clean(call: ManagementCall) -> Result<Response, Fault> {
    seek(&call, Start::Tail).await
}

async fn seek(call: &ManagementCall, to: Start) -> Result<Response, Fault> {
    let (topic, group) = (call.topic_ref()?, GroupRef::Name(call.group_name()?));
    let seek = Seek { account: call.account(), topic, group, to, dry_run: false };
    let done = call.call.front.engine.seek(seek).await;
    done.map_err(|error| Fault::lookup(error, Plane::Management))?;
    Ok(success(Nothing {}))
}

/// `GET /consumerGroupIds`
pub async fn group_ids(call: ManagementCall) -> Result<Response, Fault> {
    let mut names = BTreeSet::new();
    for topic in call.topics().await? {
        names.extend(call.groups(&topic).await?.into_iter().map(|group| group.name.to_string()));
    }
    Ok(success(GroupIdsView { consumer_group_ids: names.into_iter().collect() }))
}
