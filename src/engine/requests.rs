//! From the words of the seam to commands of the writer, and from what it took back to messages.

use std::time::Duration;

use crate::engine::command::{
    Command, LeaseName, LookWork, Looked, PreparedMessage, PublishWork, PullWork, SettleWork, Taken,
};
use crate::engine::local::{LocalEngine, Shared};
use crate::engine::{
    LeaseRef, LookupError, MessageState, Peek, PeekError, Peeked, PeekedMessage, Publish, PublishError, Pull,
    PullError, Pulled, Redrive, RedriveError, RedriveReport, Settle, SettleAction, SettleError, SettleOutcome, Wait,
    digest, head,
};
use crate::log::{Loc, Record, record_bytes};
use crate::model::{
    AccountName, Attempt, Delivery, Message, NewMessage, Offset, Published, SettingsError, Start, TagFilter, TopicRef,
    bounds,
};

/// Bytes of a commit that no publish takes: a message must fit one with the names of its dead letter.
const SPARE_BYTES: usize = 2048;

fn prepare(message: &NewMessage) -> PreparedMessage {
    PreparedMessage {
        head: head::encode(message),
        body: message.body.clone(),
        key: message.key.as_ref().map_or(0, |key| digest::of_key(key.as_str())),
        tag: message.tag.as_ref().map_or(0, |tag| digest::of_tag(tag.as_str())),
        idempotency: message.idempotency_key.as_ref().map_or(0, |key| digest::of_key(key.as_str())),
        fingerprint: if message.idempotency_key.is_some() { digest::of_message(message) } else { 0 },
        delay: message.delay,
    }
}

fn text_bytes(message: &NewMessage) -> usize {
    let text = |part: Option<&str>| part.map_or(0, str::len);
    text(message.content_type.as_ref().map(AsRef::as_ref))
        + text(message.key.as_ref().map(AsRef::as_ref))
        + text(message.tag.as_ref().map(AsRef::as_ref))
        + text(message.idempotency_key.as_ref().map(AsRef::as_ref))
        + message.properties.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
}

impl LocalEngine {
    fn check_publish(&self, messages: &[NewMessage]) -> Result<(), PublishError> {
        let limits = &self.shared.limits;
        let max = bounds::PUBLISH_BATCH_MAX;
        if messages.is_empty() || messages.len() > max {
            return Err(PublishError::BatchCount { got: messages.len(), max });
        }
        let mut batch = 0;
        for (index, message) in messages.iter().enumerate() {
            let (got, max) = (message.body.len(), limits.body_bytes_max);
            if got > max {
                return Err(PublishError::BodyTooLarge { index, got, max });
            }
            let bytes: usize = message.properties.iter().map(|(name, value)| name.len() + value.len()).sum();
            let (pairs_max, bytes_max) = (bounds::PROPERTIES_MAX, bounds::PROPERTIES_BYTES_MAX);
            if message.properties.len() > pairs_max || bytes > bytes_max {
                return Err(PublishError::Properties { index, pairs_max, bytes_max });
            }
            if message.delay.is_some_and(|delay| delay > bounds::DELAY_MAX) {
                return Err(PublishError::DelayTooLong { index, max_secs: bounds::DELAY_MAX.as_secs() });
            }
            batch += got + text_bytes(message);
        }
        if batch > limits.batch_bytes_max {
            return Err(PublishError::BatchTooLarge { got: batch, max: limits.batch_bytes_max });
        }
        Ok(())
    }

    pub(super) async fn do_publish(&self, request: Publish) -> Result<Vec<Published>, PublishError> {
        self.check_publish(&request.messages)?;
        let messages: Vec<PreparedMessage> = request.messages.iter().map(prepare).collect();
        let bytes: usize = messages.iter().map(|message| record_bytes(message.head.len(), message.body.len())).sum();
        let max = self.shared.frame_bytes_max.saturating_sub(messages.len() * 160 + SPARE_BYTES);
        if bytes > max {
            return Err(PublishError::BatchTooLarge { got: bytes, max });
        }
        let work = PublishWork { account: request.account, topic: request.topic, messages, bytes };
        self.ask(|reply| Command::Publish(work, reply)).await?
    }

    pub(super) async fn do_pull(&self, request: Pull) -> Result<Pulled, PullError> {
        let refuse = |field, rule| Err(PullError::Bounds(SettingsError { field, rule }));
        if request.batch_max == 0 || request.batch_max > bounds::PULL_BATCH_MAX {
            return refuse("batch_max", "1 to 1000");
        }
        if request.lease.is_some_and(|lease| lease < bounds::LEASE_MIN || lease > bounds::LEASE_MAX) {
            return refuse("lease", "1 ms to 12 hours");
        }
        if let Wait::Any(span) | Wait::Full(span) = request.wait
            && span > bounds::WAIT_MAX
        {
            return refuse("wait", "at most 300 s");
        }
        let tags = match &request.filter {
            Some(TagFilter::AnyOf(tags)) if tags.is_empty() || tags.len() > bounds::FILTER_TAGS_MAX => {
                return refuse("filter", "1 to 32 tags");
            }
            Some(TagFilter::AnyOf(tags)) => Some(tags.iter().map(|tag| digest::of_tag(tag.as_str())).collect()),
            Some(TagFilter::All) | None => None,
        };
        let start = match request.start {
            Some(start) => {
                Some(self.resolve(&request.account, &request.topic, start).await.map_err(PullError::Lookup)?)
            }
            None => None,
        };
        let work = PullWork {
            account: request.account,
            topic: request.topic,
            group: request.group,
            batch_max: request.batch_max,
            lease: request.lease,
            wait: request.wait,
            auto_ack: request.auto_ack,
            handles: request.handles,
            filter_all: request.filter == Some(TagFilter::All),
            filter: tags,
            start,
        };
        let taken = self.ask(|reply| Command::Pull(work, reply)).await.map_err(LookupError::from)??;
        if taken.items.is_empty() {
            return Ok(Pulled { deliveries: Vec::new(), counts: taken.counts });
        }
        let locs: Vec<Loc> = taken.items.iter().map(|item| item.row.loc).collect();
        // What was published lately is in memory: no other thread is needed for that.
        let cached = self.shared.reader.read_cached(&locs).map_err(|error| PullError::Unreadable(error.to_string()))?;
        if let Some(records) = cached {
            return deliver(&self.shared, taken, records);
        }
        let shared = self.shared.clone();
        let read = self.shared.reads.run(move || {
            let records = shared.reader.read_all(&locs).map_err(|error| PullError::Unreadable(error.to_string()))?;
            deliver(&shared, taken, records)
        });
        read.await.unwrap_or_else(|error| Err(PullError::Unreadable(error)))
    }

    pub(super) async fn do_settle(&self, request: Settle) -> Result<Vec<SettleOutcome>, SettleError> {
        let refuse = |field, rule| Err(SettleError::Bounds(SettingsError { field, rule }));
        if request.items.len() > bounds::SETTLE_BATCH_MAX {
            return refuse("items", "at most 10000 leases");
        }
        let mut items = Vec::with_capacity(request.items.len());
        for (lease, action) in request.items {
            match &action {
                SettleAction::Nack { delay: Some(delay) } if *delay > bounds::DELAY_MAX => {
                    return refuse("delay", "at most 14 days");
                }
                SettleAction::Extend { lease } if *lease < bounds::LEASE_MIN || *lease > bounds::LEASE_MAX => {
                    return refuse("lease", "1 ms to 12 hours");
                }
                SettleAction::Bury { reason } if reason.len() > 1024 => return refuse("reason", "at most 1024 bytes"),
                _ => {}
            }
            let name = match lease {
                LeaseRef::Token(text) => self.shared.tokens.read(&text),
                LeaseRef::Handle(0) => LeaseName::Forged,
                LeaseRef::Handle(handle) => LeaseName::Handle(handle),
            };
            items.push((name, action));
        }
        let work = SettleWork {
            account: request.account,
            topic: request.topic,
            group: request.group,
            items,
            lateness: request.lateness,
        };
        self.ask(|reply| Command::Settle(work, reply)).await.map_err(LookupError::from)?
    }

    async fn page(&self, work: LookWork) -> Result<Looked, LookupError> {
        self.ask(|reply| Command::Look(work, reply)).await?
    }

    /// Turns a time into the offset of the first message published at or after it.
    pub(super) async fn resolve(
        &self,
        account: &AccountName,
        topic: &TopicRef,
        start: Start,
    ) -> Result<Start, LookupError> {
        let Start::Time(time) = start else { return Ok(start) };
        let look = |from| self.page(LookWork { account: account.clone(), topic: topic.clone(), group: None, from });
        let first = look(0).await?;
        let at_or_after =
            |page: &Looked| page.rows.iter().find(|row| row.row.published_at() >= time.get()).map(|row| row.offset);
        let (mut low, mut high) = (first.head, first.tail);
        if first.rising {
            // Invariant: what lies below `low` is too old; `high` is not, or is the tail.
            while high.saturating_sub(low) > 512 {
                let page = look(low + (high - low) / 2).await?;
                match page.rows.first() {
                    Some(row) if row.row.published_at() < time.get() => low = low + (high - low) / 2,
                    Some(_) | None => high = low + (high - low) / 2,
                }
            }
        }
        let mut from = Some(low);
        while let Some(at) = from {
            let page = look(at).await?;
            if let Some(offset) = at_or_after(&page) {
                return Ok(Start::Offset(Offset::new(offset)));
            }
            // Whatever is published from here on is later.
            (from, high) = (page.next, page.tail);
        }
        Ok(Start::Offset(Offset::new(high)))
    }

    pub(super) async fn do_peek(&self, request: Peek) -> Result<Peeked, PeekError> {
        let refuse = |field, rule| Err(PeekError::Bounds(SettingsError { field, rule }));
        if request.limit == 0 || request.limit > bounds::PULL_BATCH_MAX {
            return refuse("limit", "1 to 1000");
        }
        if request.filter.state.is_some() && request.group.is_none() {
            return refuse("state", "asked for together with a group");
        }
        /// Pages that one peek reads at most.
        const PAGES_MAX: usize = 32;
        let (mut messages, mut bytes) = (Vec::new(), 0);
        let (mut from, mut tail) = (Some(request.from.get()), Offset::ZERO);
        for _ in 0..PAGES_MAX {
            let Some(at) = from else { break };
            let work = LookWork {
                account: request.account.clone(),
                topic: request.topic.clone(),
                group: request.group.clone(),
                from: at,
            };
            let page = self.page(work).await?;
            tail = Offset::new(page.tail);
            let (shared, wanted) = (self.shared.clone(), request.clone());
            let left = Left { count: request.limit - messages.len(), bytes: bounds::PULL_BYTES_MAX - bytes };
            let read = shared.reads.run({
                let shared = shared.clone();
                move || read_page(&shared, page, &wanted, left)
            });
            let (found, next) = read.await.map_err(PeekError::Unreadable)??;
            bytes += found.iter().map(|one: &PeekedMessage| one.message.body.len() as u64).sum::<u64>();
            messages.extend(found);
            from = next;
            if messages.len() >= request.limit || bytes >= bounds::PULL_BYTES_MAX {
                break;
            }
        }
        Ok(Peeked { messages, next: from.map(Offset::new), tail })
    }

    pub(super) async fn do_redrive(&self, request: Redrive) -> Result<RedriveReport, RedriveError> {
        if request.limit == 0
            || request.limit > bounds::PULL_BATCH_MAX
            || request.offsets.len() > bounds::PULL_BATCH_MAX
        {
            return Err(RedriveError::Bounds(SettingsError { field: "limit", rule: "1 to 1000" }));
        }
        if !request.offsets.is_empty() {
            let mut offsets = request.offsets.clone();
            offsets.sort_unstable();
            offsets.dedup();
            return self.redrive_these(&request, offsets, request.limit).await;
        }
        let mut report = RedriveReport { moved: 0, left: 0 };
        let mut from = Some(0);
        while let Some(at) = from {
            // What was moved stays moved: who asked learns of it, whatever keeps the rest from being moved.
            let (done, next) = match self.redrive_page(&request, at, request.limit - report.moved as usize).await {
                Err(_) if report.moved > 0 => break,
                done => done?,
            };
            report = RedriveReport { moved: report.moved + done.moved, left: report.left + done.left };
            from = next.filter(|_| report.moved < request.limit as u64);
        }
        Ok(report)
    }

    /// What lies in one block, and where the next one begins.
    async fn redrive_page(
        &self,
        request: &Redrive,
        from: u64,
        limit: usize,
    ) -> Result<(RedriveReport, Option<u64>), RedriveError> {
        let work = LookWork { account: request.account.clone(), topic: request.topic.clone(), group: None, from };
        let page = self.page(work).await?;
        let offsets = page.rows.iter().map(|row| Offset::new(row.offset)).collect();
        Ok((self.redrive_these(request, offsets, limit).await?, page.next))
    }

    async fn redrive_these(
        &self,
        request: &Redrive,
        offsets: Vec<Offset>,
        limit: usize,
    ) -> Result<RedriveReport, RedriveError> {
        let (account, topic) = (request.account.clone(), request.topic.clone());
        let report = self.ask(|reply| Command::Redrive(account, topic, (offsets, limit), reply)).await;
        Ok(report.map_err(LookupError::from)??)
    }
}

/// What a pull took, with its records.
fn deliver(shared: &Shared, taken: Taken, records: Vec<Record>) -> Result<Pulled, PullError> {
    let mut deliveries = Vec::with_capacity(taken.items.len());
    for (item, record) in taken.items.into_iter().zip(records) {
        if record.id != item.row.id {
            return Err(PullError::Unreadable(format!("offset {} leads to another message", item.offset)));
        }
        let head = head::decode(&record.head, item.offset, &item.row);
        let head = head.map_err(|error| PullError::Unreadable(error.to_string()))?;
        let token = if taken.auto_ack {
            String::new()
        } else {
            shared.tokens.make((taken.topic, taken.group, taken.placing), item.offset, item.row.id, item.lease)
        };
        deliveries.push(Delivery {
            message: Message { head, body: record.body },
            attempt: Attempt::new(item.attempt),
            token,
            handle: if taken.auto_ack { 0 } else { item.handle },
            lease: if taken.auto_ack { Duration::ZERO } else { taken.lease },
        });
    }
    Ok(Pulled { deliveries, counts: taken.counts })
}

/// What a peek may still answer.
struct Left {
    count: usize,
    /// Of bodies: with this many it takes no further message.
    bytes: u64,
}

/// The messages of a page that a peek wants, as far as there is room for them, and where to go on.
fn read_page(
    shared: &Shared,
    page: Looked,
    wanted: &Peek,
    left: Left,
) -> Result<(Vec<PeekedMessage>, Option<u64>), PeekError> {
    let filter = &wanted.filter;
    let (tag, key) = (
        filter.tag.as_ref().map(|tag| digest::of_tag(tag.as_str())),
        filter.key.as_ref().map(|key| digest::of_key(key.as_str())),
    );
    let (mut found, mut bytes) = (Vec::new(), 0);
    for looked in page.rows {
        if found.len() >= left.count || bytes >= left.bytes {
            return Ok((found, Some(looked.offset)));
        }
        let row = &looked.row;
        let passes = filter.state.is_none_or(|state| looked.state == Some(state))
            && !(filter.unsettled && looked.state == Some(MessageState::Settled))
            && filter.id.is_none_or(|id| id.get() == row.id)
            && tag.is_none_or(|tag| tag == row.tag)
            && key.is_none_or(|key| key == row.key)
            && filter.since.is_none_or(|since| row.published_at() >= since.get())
            && filter.until.is_none_or(|until| row.published_at() < until.get());
        if !passes {
            continue;
        }
        let record = shared.reader.read(row.loc).map_err(|error| PeekError::Unreadable(error.to_string()))?;
        let head =
            head::decode(&record.head, looked.offset, row).map_err(|error| PeekError::Unreadable(error.to_string()))?;
        if let Some((name, value)) = &filter.property
            && head.properties.get(name) != Some(value)
        {
            continue;
        }
        let message = Message { head, body: record.body };
        bytes += message.body.len() as u64;
        found.push(PeekedMessage { message, state: looked.state, attempts: Attempt::new(looked.attempts) });
    }
    Ok((found, page.next))
}
