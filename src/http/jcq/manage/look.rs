//! Messages of a topic, looked at: by time, by id, by business id. A delayed message is seen when it is due.

use axum::response::Response;

use crate::engine::PeekFilter;
use crate::http::jcq::fault::Fault;
use crate::http::jcq::manage::wire::{BusinessIdIn, LookedView, MessageResult, MessagesView};
use crate::http::jcq::manage::{Enough, ManagementCall};
use crate::http::jcq::messages::body_text;
use crate::http::jcq::wire::success;
use crate::http::time::seconds;
use crate::model::{Message, MessageId, Millis};

/// Properties that hold a business id.
const BUSINESS_ID: [&str; 2] = ["BUSINESS_ID", "KEYS"];
/// Most messages found by a business id.
const BUSINESS_ID_MAX: usize = 256;
/// Bytes of a business id.
const BUSINESS_ID_BYTES_MAX: usize = 1_024;

fn view(message: &Message) -> LookedView {
    let head = &message.head;
    LookedView {
        message_id: head.id.to_hex(),
        body: body_text(&message.body).0,
        tags: head.tag.as_ref().map(ToString::to_string).unwrap_or_default(),
        properties: serde_json::to_string(&head.properties).unwrap_or_default(),
        store_time: seconds(head.published_at),
    }
}

/// `GET /topics/{topic}/messages`
pub async fn by_time(call: ManagementCall) -> Result<Response, Fault> {
    let (page, (from, to)) = (call.page()?, call.period()?);
    let filter = PeekFilter { since: Some(from), until: Some(Millis::new(to.get() + 1)), ..PeekFilter::default() };
    let now = call.call.front.clock.wall();
    let (mut skip, mut messages) = (page.skip, Vec::new());
    call.look(call.topic_ref()?, filter, |message| {
        if message.head.ready_at > now {
            return Enough::No;
        }
        if skip > 0 {
            skip -= 1;
            return Enough::No;
        }
        messages.push(view(&message));
        if messages.len() == page.size { Enough::Yes } else { Enough::No }
    })
    .await?;
    Ok(success(MessagesView { messages }))
}

/// The id that the path names.
pub fn message_id(call: &ManagementCall) -> Result<MessageId, Fault> {
    MessageId::parse(call.param("message").unwrap_or_default()).map_err(|_| Fault::parameter("messageId"))
}

/// Passes the one message with this id, and its copies that were sent again.
pub fn with_id(id: MessageId) -> PeekFilter {
    let (since, until) = (id.published_at(), Millis::new(id.published_at().get() + 1));
    PeekFilter { id: Some(id), since: Some(since), until: Some(until), ..PeekFilter::default() }
}

/// `GET /topics/{topic}/messages/{message}`
pub async fn by_id(call: ManagementCall) -> Result<Response, Fault> {
    let (id, now) = (message_id(&call)?, call.call.front.clock.wall());
    let mut found = None;
    call.look(call.topic_ref()?, with_id(id), |message| {
        found = Some(message).filter(|message| message.head.ready_at <= now);
        Enough::Yes
    })
    .await?;
    let message = found.ok_or_else(|| Fault::not_found("message"))?;
    Ok(success(MessageResult { message: view(&message) }))
}

/// `POST /topics/{topic}/messagesWithBusinessId`
pub async fn by_business_id(call: ManagementCall) -> Result<Response, Fault> {
    let request: BusinessIdIn = call.read()?;
    let id = request.business_id.filter(|id| !id.is_empty() && id.len() <= BUSINESS_ID_BYTES_MAX);
    let id = id.ok_or_else(|| Fault::rule("businessId", "1 to 1024 bytes"))?;
    let now = call.call.front.clock.wall();
    let mut messages = Vec::new();
    call.look(call.topic_ref()?, PeekFilter::default(), |message| {
        let has = |name: &&str| message.head.properties.get(*name) == Some(&id);
        let has_key = message.head.key.as_ref().is_some_and(|key| key.as_str() == id);
        if message.head.ready_at <= now && (has_key || BUSINESS_ID.iter().any(has)) {
            messages.push(view(&message));
        }
        if messages.len() == BUSINESS_ID_MAX { Enough::Yes } else { Enough::No }
    })
    .await?;
    Ok(success(MessagesView { messages }))
}
