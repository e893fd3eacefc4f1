//! Messages of a stream: published by key, listed, looked up, and as a consumer sees them.

use axum::response::Response;

use crate::engine::{MessageState, Peek, PeekFilter, PeekedMessage, Publish};
use crate::http::json::{self, JsonError};
use crate::http::sequin::SequinCall;
use crate::http::sequin::consumers::pattern;
use crate::http::sequin::fault::Fault;
use crate::http::sequin::keys::{Pattern, read_key};
use crate::http::sequin::record::message_view;
use crate::http::sequin::start::tail;
use crate::http::sequin::wire::{
    ConsumerInfoView, ConsumerInfosView, InfoView, MessageIn, MessagesIn, PublishedView, Scalar, StandingView, answer,
    answer_data,
};
use crate::http::whole::digits;
use crate::model::{ContentType, GroupRef, Key, NewMessage, Offset, TopicId, TopicRef};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;
/// Messages read at a time.
const PAGE: usize = 100;
/// Widest stretch of offsets looked at in one go.
const WINDOW_MAX: u64 = 8_192;
/// Bytes of bodies of one list: it ends behind the message that passes them, whatever the limit.
const LIST_BYTES_MAX: usize = 8 << 20;
const TEXT: &str = "text/plain; charset=utf-8";

/// `POST .../messages`: each message takes the place of the one of its key. All or nothing.
pub async fn publish(mut call: SequinCall) -> Result<Response, Fault> {
    let body = call.call.body().await?;
    let request: MessagesIn = json::read(&body).map_err(|error| match error {
        JsonError::Shape { message, .. } => Fault::bad(format!("Invalid message format: {message}")),
        error @ (JsonError::Syntax { .. } | JsonError::TooMany { .. }) => error.into(),
    })?;
    let messages = request.messages.0.into_iter().map(read_message).collect::<Result<Vec<_>, _>>()?;
    let published = messages.len();
    let request = Publish { account: call.account(), topic: TopicRef::Id(call.stream()?.id), messages };
    call.call.front.engine.publish(request).await?;
    Ok(answer_data(PublishedView { published }))
}

fn read_message(message: MessageIn) -> Result<NewMessage, Fault> {
    let key = read_key(&message.key)?;
    let content_type = ContentType::parse(TEXT).ok();
    Ok(NewMessage { body: message.data.into(), key: Some(key), content_type, ..NewMessage::default() })
}

/// From which end of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Oldest,
    Newest,
}

/// Which messages to list.
struct Listing {
    limit: usize,
    sort: Sort,
    /// All of them want its key.
    patterns: Vec<Pattern>,
    /// Whether the consumer could be given it now.
    visible: Option<bool>,
}

impl Listing {
    fn read(call: &SequinCall) -> Result<Self, Fault> {
        let limit = match call.parameter("limit") {
            None => Some(LIMIT_DEFAULT),
            Some(text) => digits(&text).filter(|limit| (1..=LIMIT_MAX).contains(limit)),
        };
        let limit = limit.ok_or_else(|| Fault::bad(format!("`limit` must be an integer from 1 to {LIMIT_MAX}")))?;
        let sort = match call.parameter("sort").as_deref() {
            None | Some("seq_asc") => Sort::Oldest,
            Some("seq_desc") => Sort::Newest,
            Some(_) => return Err(Fault::bad("`sort` must be seq_asc or seq_desc")),
        };
        let pattern = call.parameter("key_pattern").map(|text| Pattern::parse(&text)).transpose();
        let pattern = pattern.map_err(|rule| Fault::bad(format!("`key_pattern` {rule}")))?;
        let visible = call.parameter("visible").map(|text| Scalar::Text(text.into_owned()).switch());
        let visible = match visible {
            Some(None) => return Err(Fault::bad("`visible` must be true or false")),
            Some(visible) => visible,
            None => None,
        };
        Ok(Self { limit, sort, patterns: pattern.into_iter().collect(), visible })
    }

    fn wants(&self, message: &PeekedMessage) -> bool {
        let by_key = self.patterns.iter().all(|pattern| pattern.wants(message.message.head.key.as_ref()));
        let by_state = match message.state {
            Some(MessageState::Settled) => false,
            Some(state) => self.visible.is_none_or(|visible| visible == (state == MessageState::Ready)),
            None => true,
        };
        by_key && by_state
    }
}

/// What is looked at, page by page.
struct Pages<'a> {
    call: &'a SequinCall,
    topic: TopicRef,
    group: Option<GroupRef>,
    key: Option<Key>,
}

impl Pages<'_> {
    /// A page from an offset on, and where the next one begins.
    async fn page(&self, from: Offset) -> Result<(Vec<PeekedMessage>, Option<Offset>), Fault> {
        let filter = PeekFilter { key: self.key.clone(), ..PeekFilter::default() };
        let (topic, group) = (self.topic.clone(), self.group.clone());
        let request = Peek { account: self.call.account(), topic, group, filter, from, limit: PAGE };
        let peeked = self.call.call.front.engine.peek(request).await?;
        Ok((peeked.messages, peeked.next))
    }

    async fn list(&self, listing: &Listing) -> Result<Vec<PeekedMessage>, Fault> {
        match listing.sort {
            Sort::Oldest => self.oldest(listing).await,
            Sort::Newest => self.newest(listing).await,
        }
    }

    async fn oldest(&self, listing: &Listing) -> Result<Vec<PeekedMessage>, Fault> {
        let (mut found, mut bytes, mut from) = (Vec::new(), 0, Some(Offset::ZERO));
        while let Some(at) = from {
            let (page, next) = self.page(at).await?;
            for message in page.into_iter().filter(|message| listing.wants(message)) {
                bytes += message.message.body.len();
                found.push(message);
                if found.len() == listing.limit || bytes > LIST_BYTES_MAX {
                    return Ok(found);
                }
            }
            from = next;
        }
        Ok(found)
    }

    /// Walks back from the tail in windows: wider ones where messages are sparse, never wider than one page
    /// shows whole.
    async fn newest(&self, listing: &Listing) -> Result<Vec<PeekedMessage>, Fault> {
        let (mut found, mut bytes, mut width) = (Vec::new(), 0, PAGE as u64);
        let mut end = tail(self.call, self.topic.clone()).await?;
        while end > Offset::ZERO {
            let begin = Offset::new(end.get().saturating_sub(width));
            let (page, next) = self.page(begin).await?;
            if next.is_some_and(|next| next < end) && width > PAGE as u64 {
                width = PAGE as u64;
                continue;
            }
            for message in page.into_iter().rev() {
                if message.message.head.offset >= end || !listing.wants(&message) {
                    continue;
                }
                bytes += message.message.body.len();
                found.push(message);
                if found.len() == listing.limit || bytes > LIST_BYTES_MAX {
                    return Ok(found);
                }
            }
            (end, width) = (begin, (width * 2).min(WINDOW_MAX));
        }
        Ok(found)
    }

    /// The latest message of the key: an older one may still be in flight.
    async fn latest(&self) -> Result<PeekedMessage, Fault> {
        let (mut found, mut from) = (None, Some(Offset::ZERO));
        while let Some(at) = from {
            let (page, next) = self.page(at).await?;
            found = page.into_iter().last().or(found);
            from = next;
        }
        found.ok_or_else(Fault::no_message)
    }
}

fn all<'a>(call: &'a SequinCall, stream: TopicId) -> Pages<'a> {
    Pages { call, topic: TopicRef::Id(stream), group: None, key: None }
}

/// The latest message of the key in the path.
async fn of_key(call: &SequinCall, stream: TopicId) -> Result<PeekedMessage, Fault> {
    let key = Key::parse(call.call.param("key")).map_err(|_| Fault::no_message())?;
    Pages { key: Some(key), ..all(call, stream) }.latest().await
}

/// `GET .../messages`
pub async fn list(call: SequinCall) -> Result<Response, Fault> {
    let stream = call.stream()?.id;
    let found = all(&call, stream).list(&Listing::read(&call)?).await?;
    Ok(answer_data(found.iter().map(|found| message_view(stream, &found.message)).collect::<Vec<_>>()))
}

/// `GET .../messages/{key}`
pub async fn get(call: SequinCall) -> Result<Response, Fault> {
    let stream = call.stream()?.id;
    Ok(answer(&message_view(stream, &of_key(&call, stream).await?.message)))
}

/// `GET .../messages/{key}/consumer_info`: of the consumers whose pattern wants the key.
pub async fn consumer_info(call: SequinCall) -> Result<Response, Fault> {
    let stream = call.stream()?.id;
    let message = of_key(&call, stream).await?.message;
    let groups = call.call.front.engine.groups(call.account(), TopicRef::Id(stream)).await?;
    let mut consumer_info = Vec::new();
    for group in groups {
        let pattern = pattern(&group);
        if !pattern.wants(message.head.key.as_ref()) {
            continue;
        }
        let pages = Pages { group: Some(GroupRef::Id(group.id)), key: message.head.key.clone(), ..all(&call, stream) };
        let (page, _) = pages.page(message.head.offset).await?;
        let Some(seen) = page.into_iter().find(|seen| seen.message.head.id == message.head.id) else { continue };
        consumer_info.push(ConsumerInfoView {
            consumer_id: group.id.to_string(),
            consumer_name: group.name.to_string(),
            consumer_filter_key_pattern: pattern.as_str().to_owned(),
            info: info_view(&seen),
        });
    }
    Ok(answer_data(ConsumerInfosView { message: message_view(stream, &message), consumer_info }))
}

/// `GET .../consumers/{consumer}/messages`: what the consumer has not acked.
pub async fn list_of_consumer(call: SequinCall) -> Result<Response, Fault> {
    let stream = call.stream()?.id;
    let (group, _, by) = call.consumer()?;
    let mut listing = Listing::read(&call)?;
    listing.patterns.push(pattern(group));
    let found = Pages { group: Some(by), ..all(&call, stream) }.list(&listing).await?;
    let view =
        |found: &PeekedMessage| StandingView { message: message_view(stream, &found.message), info: info_view(found) };
    Ok(answer_data(found.iter().map(view).collect::<Vec<_>>()))
}

fn info_view(seen: &PeekedMessage) -> InfoView {
    let state = match seen.state {
        Some(MessageState::InFlight | MessageState::Delayed) => "delivered",
        Some(MessageState::Settled) => "acked",
        Some(MessageState::Ready) | None => "available",
    };
    InfoView {
        ack_id: None,
        deliver_count: seen.attempts.get(),
        last_delivered_at: None,
        not_visible_until: None,
        state,
    }
}
