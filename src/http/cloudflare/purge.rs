//! Giving up all messages of a queue. It is done when it is answered; when it was is kept with the queue.

use axum::response::Response;

use crate::http::cloudflare::Allowed;
use crate::http::cloudflare::fault::{Fault, Plane};
use crate::http::cloudflare::queues::queue_view;
use crate::http::cloudflare::wire::{PurgeIn, PurgeStatusView, success};
use crate::http::time::rfc3339;
use crate::model::{Topic, TopicPatch};

const STARTED_AT: &str = "cloudflare.purge_started_at";
const COMPLETED: &str = "cloudflare.purge_completed";

/// `POST /queues/{queue}/purge`
pub async fn start(mut call: Allowed) -> Result<Response, Fault> {
    let request: PurgeIn = call.read().await?;
    if request.delete_messages_permanently != Some(true) {
        return Err(Fault::bad(10026, "delete_messages_permanently must be true"));
    }
    let front = &call.call.front;
    let started_at = rfc3339(front.clock.wall());
    let purged = front.engine.purge(call.account(), call.queue()?).await;
    let report = purged.map_err(|error| Fault::lookup(error, Plane::Control))?;
    let (name, by) = (call.topic().await?.name, &call.call.principal.id);
    tracing::info!(account = %call.account(), topic = %name, %by, messages = report.messages, "purged");
    let mut patch = TopicPatch::default();
    patch.annotate.insert(STARTED_AT.to_owned(), Some(started_at));
    patch.annotate.insert(COMPLETED.to_owned(), Some(rfc3339(front.clock.wall())));
    let topic = front.engine.update_topic(call.account(), call.queue()?, patch).await?;
    Ok(success(queue_view(&call, topic).await?))
}

/// `GET /queues/{queue}/purge`
pub async fn status(call: Allowed) -> Result<Response, Fault> {
    let topic = call.topic().await?;
    Ok(success(PurgeStatusView { completed: noted(&topic, COMPLETED), started_at: noted(&topic, STARTED_AT) }))
}

fn noted(topic: &Topic, name: &str) -> String {
    topic.settings.annotations.get(name).cloned().unwrap_or_default()
}
