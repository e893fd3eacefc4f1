//! An engine that deals faults to those who use another one, and writes down what they were dealt. What has no
//! faults passes through untouched.

use std::sync::Arc;
use std::time::Duration;

use crate::chaos::desk::Chaos;
use crate::chaos::fate::{self, Fate};
use crate::chaos::faults::{Fault, Faults, Place};
use crate::chaos::line::{Event, Line, hashed, outcome_name};
use crate::engine::*;
use crate::model::bounds::LEASE_MIN;
use crate::model::{
    AccessId, AccessRecord, AccountName, Delivery, Group, GroupPatch, GroupRef, Ordering, Published, Topic, TopicPatch,
    TopicRef,
};

/// Deals faults to the callers of another engine.
pub struct Chaotic {
    inner: Arc<dyn Engine>,
    chaos: Arc<Chaos>,
}

/// A call to a topic, and what shall become of its answer.
struct Call {
    place: Place,
    /// `None`: the topic has none.
    faults: Option<Faults>,
    name: &'static str,
    fate: Fate,
    restarts: bool,
}

/// What a message costs if its answer does not arrive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// It comes again.
    ComesAgain,
    /// It would be gone, or dead: such an answer is always sent.
    Final,
}

impl Chaotic {
    /// An engine around `inner`.
    pub fn new(inner: Arc<dyn Engine>, chaos: Arc<Chaos>) -> Self {
        Self { inner, chaos }
    }

    async fn topic_of(&self, account: &AccountName, topic: &TopicRef) -> Option<Topic> {
        self.inner.topic(account.clone(), topic.clone()).await.ok()
    }

    async fn place_of(&self, account: &AccountName, topic: &TopicRef) -> Option<Place> {
        let name = match topic {
            TopicRef::Name(name) => name.clone(),
            TopicRef::Id(_) => self.topic_of(account, topic).await?.name,
        };
        Some(Place { account: account.clone(), topic: name })
    }

    async fn group_of(&self, place: &Place, group: &GroupRef) -> Option<Group> {
        let topic = TopicRef::Name(place.topic.clone());
        self.inner.group(place.account.clone(), topic, group.clone()).await.ok()
    }

    fn line(&self, event: Event, place: &Place) -> Line {
        let mut line = self.chaos.history().line(event);
        line.at(place);
        line
    }

    fn note_fault(&self, call: &Call, fault: Fault) {
        let mut line = self.line(Event::Fault, &call.place);
        line.fault = Some(fault);
        line.call = Some(call.name.to_owned());
        self.chaos.history().write(&[line]);
    }

    /// Begins a call: refuses it, or decides what becomes of its answer.
    fn begin(&self, place: &Place, name: &'static str) -> Result<Call, Refusal> {
        let faults = self.chaos.faults(place);
        let mut call = Call { place: place.clone(), faults, name, fate: Fate::Sent, restarts: false };
        if call.faults.is_none() {
            return Ok(call);
        }
        for (fault, refusal) in [(Fault::Unavailable, Refusal::Unavailable), (Fault::Throttle, Refusal::Throttled)] {
            if self.chaos.deal(place, fault) {
                self.note_fault(&call, fault);
                return Err(refusal);
            }
        }
        call.restarts = self.chaos.deal(place, Fault::Restart);
        if self.chaos.deal(place, Fault::LoseAnswer) {
            call.fate = Fate::Lost;
        } else if self.chaos.deal(place, Fault::CutBody) {
            call.fate = Fate::CutBody;
        }
        Ok(call)
    }

    /// Ends a call that was done: its answer goes the way that was decided, unless that would cost a message.
    fn end(&self, call: &Call, loss: Loss) {
        if loss == Loss::Final {
            return;
        }
        if call.restarts {
            self.note_fault(call, Fault::Restart);
            self.chaos.restart();
        }
        match call.fate {
            Fate::Sent => return,
            Fate::Lost => self.note_fault(call, Fault::LoseAnswer),
            Fate::CutBody => self.note_fault(call, Fault::CutBody),
        }
        fate::tell(call.fate);
    }

    async fn publish_through(&self, request: Publish) -> Result<Vec<Published>, PublishError> {
        let Some(place) = self.place_of(&request.account, &request.topic).await else {
            return self.inner.publish(request).await;
        };
        let call = self.begin(&place, "publish").map_err(PublishError::Refused)?;
        let keys: Vec<_> = request.messages.iter().map(|message| message.key.clone()).collect();
        let published = self.inner.publish(request).await?;
        let lines = published.iter().zip(keys).map(|(message, key)| Line {
            id: Some(message.id.to_string()),
            offset: Some(message.offset.get()),
            key: key.map(|key| key.to_string()),
            log_ms: Some(message.id.published_at().get()),
            outcome: message.repeated.then(|| "repeated".to_owned()),
            ..self.line(Event::Publish, &place)
        });
        self.chaos.history().write(&lines.collect::<Vec<_>>());
        self.end(&call, Loss::ComesAgain);
        Ok(published)
    }

    async fn pull_through(&self, request: Pull) -> Result<Pulled, PullError> {
        let place = self.place_of(&request.account, &request.topic).await;
        let group = match &place {
            Some(place) => self.group_of(place, &request.group).await,
            None => None,
        };
        let (Some(place), Some(group)) = (place, group) else { return self.inner.pull(request).await };
        let call = self.begin(&place, "pull").map_err(|refusal| PullError::Lookup(LookupError::Refused(refusal)))?;
        let mut pulled = self.inner.pull(request.clone()).await?;
        // A wait may be long: what counts is what the topic has now.
        let faults = self.chaos.faults(&place);
        let dealer = Dealer { engine: self, request: &request, group: &group, place: &place };
        let mut told = Vec::new();
        if let (Some(faults), false, false) = (faults, request.auto_ack, pulled.deliveries.is_empty()) {
            told = dealer.deal(&faults, &mut pulled.deliveries).await;
        }
        self.chaos.history().write(&dealer.lines(&pulled.deliveries, told));
        let spare = pulled.deliveries.iter().all(|delivery| dealer.spare(delivery));
        let loss = if spare && !request.auto_ack { Loss::ComesAgain } else { Loss::Final };
        if loss == Loss::ComesAgain && !pulled.deliveries.is_empty() && self.chaos.deal(&place, Fault::Delay) {
            self.note_fault(&call, Fault::Delay);
            let held = call.faults.as_ref().map_or(0, |faults| faults.delay_ms);
            tokio::time::sleep(Duration::from_millis(held)).await;
        }
        self.end(&call, loss);
        Ok(pulled)
    }

    async fn settle_through(&self, mut request: Settle) -> Result<Vec<SettleOutcome>, SettleError> {
        let place = self.place_of(&request.account, &request.topic).await;
        let group = match (&place, &request.group) {
            (Some(place), Some(group)) => self.group_of(place, group).await,
            _ => None,
        };
        let Some(place) = place else { return self.inner.settle(request).await };
        let call =
            self.begin(&place, "settle").map_err(|refusal| SettleError::Lookup(LookupError::Refused(refusal)))?;
        let asked: Vec<Asked> = request.items.iter().map(|item| self.asked(&place, group.as_ref(), item)).collect();
        let mut dropped = Vec::with_capacity(asked.len());
        for (item, asked) in request.items.iter_mut().zip(&asked) {
            let falls = call.faults.is_some()
                && item.1 == SettleAction::Ack
                && asked.has_attempts_to_spare()
                && self.chaos.deal(&place, Fault::DropAck);
            if falls {
                // Judged as any settle is: who has no lease is told so.
                item.1 = SettleAction::Nack { delay: Some(Duration::ZERO) };
            }
            dropped.push(falls);
        }
        let outcomes = self.inner.settle(request).await?;
        let all = asked.into_iter().zip(dropped).zip(&outcomes);
        let lines = all.flat_map(|((asked, dropped), outcome)| asked.lines(*outcome, dropped));
        self.chaos.history().write(&lines.collect::<Vec<_>>());
        self.end(&call, Loss::ComesAgain);
        Ok(outcomes)
    }

    /// What an item of a settle asks for, in words of the history.
    fn asked(&self, place: &Place, group: Option<&Group>, item: &(LeaseRef, SettleAction)) -> Asked {
        let event = match item.1 {
            SettleAction::Ack => Event::Ack,
            SettleAction::Nack { .. } => Event::Nack,
            SettleAction::Extend { .. } => Event::Extend,
            SettleAction::Bury { .. } => Event::Bury,
        };
        let mut line = self.line(event, place);
        if let SettleAction::Extend { lease } = item.1 {
            line.lease_ms = Some(lease.as_millis() as u64);
        }
        if let Some(group) = group {
            line.of(&group.name);
        }
        match &item.0 {
            LeaseRef::Token(token) => line.token = Some(hashed(token)),
            LeaseRef::Handle(handle) => line.handle = Some(hashed(&handle.to_string())),
        }
        let meant = self.chaos.history().meant(&line);
        Asked { line, meant }
    }
}

/// An item of a settle: what was asked, and the open deliveries that it means.
struct Asked {
    line: Line,
    meant: Vec<Line>,
}

impl Asked {
    /// Whether every message meant is known and may come again.
    fn has_attempts_to_spare(&self) -> bool {
        let spare = |line: &Line| line.attempts_max.is_none_or(|max| line.attempt.unwrap_or(max) < max);
        !self.meant.is_empty() && self.meant.iter().all(spare)
    }

    fn lines(self, outcome: SettleOutcome, dropped: bool) -> Vec<Line> {
        let base = Line { outcome: Some(outcome_name(outcome).to_owned()), ..self.line };
        let base = Line { fault: dropped.then_some(Fault::DropAck), ..base };
        let done = matches!(outcome, SettleOutcome::Settled { .. } | SettleOutcome::SettledLate);
        if !done || self.meant.is_empty() {
            return vec![base];
        }
        let mut lines = Vec::new();
        for delivery in self.meant {
            let used_up = delivery.attempts_max.is_some_and(|max| delivery.attempt.unwrap_or(0) >= max);
            let (lease_ms, event) = (base.lease_ms, base.event);
            let line = Line {
                event,
                wall_ms: base.wall_ms,
                boot_ms: base.boot_ms,
                outcome: base.outcome.clone(),
                fault: base.fault,
                lease_ms,
                held_ms: None,
                log_ms: None,
                ..delivery
            };
            lines.push(line.clone());
            if event == Event::Bury || (event == Event::Nack && used_up) {
                lines.push(Line { event: Event::DeadLetter, ..line });
            }
        }
        lines
    }
}

/// Deals the faults of one pull.
struct Dealer<'a> {
    engine: &'a Chaotic,
    request: &'a Pull,
    group: &'a Group,
    place: &'a Place,
}

impl Dealer<'_> {
    /// Whether a delivery is not the last that its message gets: only then may a fault use it up.
    fn spare(&self, delivery: &Delivery) -> bool {
        self.group.settings.attempts_max.is_none_or(|max| delivery.attempt.get() < max)
    }

    /// Changes what a pull took; gives the lines about what its caller will not see.
    async fn deal(&self, faults: &Faults, deliveries: &mut Vec<Delivery>) -> Vec<(usize, Fault, u64)> {
        if let Some(dice) = self.engine.chaos.roll(self.place, Fault::Reorder) {
            self.reorder(dice, deliveries).await;
        }
        let mut dealt: Vec<(usize, Fault, u64)> = Vec::new();
        let mut items = Vec::new();
        for (at, delivery) in deliveries.iter().enumerate().filter(|(_, delivery)| self.spare(delivery)) {
            let token = || LeaseRef::Token(delivery.token.clone());
            if self.engine.chaos.deal(self.place, Fault::Duplicate) {
                dealt.push((at, Fault::Duplicate, 0));
                items.push((token(), SettleAction::Nack { delay: Some(Duration::ZERO) }));
            } else if self.engine.chaos.deal(self.place, Fault::Lapse) {
                let held = Duration::from_millis(faults.lapse_ms).min(delivery.lease).max(LEASE_MIN);
                dealt.push((at, Fault::Lapse, held.as_millis() as u64));
                items.push((token(), SettleAction::Extend { lease: held }));
            }
        }
        if items.is_empty() || !self.settle(items).await {
            return Vec::new();
        }
        dealt
    }

    /// Shuffles the messages, and lets one further on overtake the first where there is one. The order per key
    /// and the strict order stay as they are promised.
    async fn reorder(&self, dice: u64, deliveries: &mut Vec<Delivery>) {
        let topic = self.engine.topic_of(&self.place.account, &self.request.topic).await;
        let Some(ordering) = topic.map(|topic| topic.settings.ordering) else { return };
        if ordering == Ordering::Strict {
            return;
        }
        // The handle of a batch names the leases of one pull and no others.
        if self.request.handles != HandleKind::PerBatch && deliveries.first().is_some_and(|first| self.spare(first)) {
            let one = Pull { batch_max: 1, wait: Wait::None, start: None, ..self.request.clone() };
            let further = self.engine.inner.pull(one).await.map(|pulled| pulled.deliveries).unwrap_or_default();
            if !further.is_empty() {
                let first = deliveries.remove(0);
                let lines = self.lines(std::slice::from_ref(&first), vec![(0, Fault::Reorder, 0)]);
                self.engine.chaos.history().write(&lines);
                let back = SettleAction::Nack { delay: Some(Duration::ZERO) };
                self.settle(vec![(LeaseRef::Token(first.token), back)]).await;
                deliveries.extend(further);
            }
        }
        shuffle(dice, deliveries);
        if ordering == Ordering::PerKey {
            keep_keys_in_order(deliveries);
        }
    }

    async fn settle(&self, items: Vec<(LeaseRef, SettleAction)>) -> bool {
        let settle = Settle {
            account: self.request.account.clone(),
            topic: self.request.topic.clone(),
            group: Some(self.request.group.clone()),
            items,
            lateness: Lateness::IfFree,
        };
        self.engine.inner.settle(settle).await.is_ok()
    }

    /// The deliveries as the history tells them, with the faults that were dealt to some.
    fn lines(&self, deliveries: &[Delivery], dealt: Vec<(usize, Fault, u64)>) -> Vec<Line> {
        let mut lines = Vec::new();
        for (at, delivery) in deliveries.iter().enumerate() {
            let fault = dealt.iter().find(|(place, ..)| *place == at);
            let mut line = self.engine.line(Event::Delivery, self.place);
            line.of(&self.group.name).about(&delivery.message.head);
            line.attempt = Some(delivery.attempt.get());
            line.attempts_max = self.group.settings.attempts_max;
            line.lease_ms = Some(delivery.lease.as_millis() as u64);
            line.token = (!delivery.token.is_empty()).then(|| hashed(&delivery.token));
            line.handle = (delivery.handle != 0).then(|| hashed(&delivery.handle.to_string()));
            line.fault = fault.map(|(_, fault, _)| *fault);
            line.held_ms = fault.map(|(.., held)| *held);
            lines.push(line.clone());
            if self.request.auto_ack {
                line.event = Event::Ack;
                line.outcome = Some("settled".to_owned());
                lines.push(line);
            }
        }
        lines
    }
}

/// Fisher and Yates, with one throw of the dice for all.
fn shuffle<T>(mut dice: u64, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        dice = dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        items.swap(last, ((dice >> 33) % (last as u64 + 1)) as usize);
    }
}

/// Puts the messages of each key back into their order, at the places that the key has.
fn keep_keys_in_order(deliveries: &mut [Delivery]) {
    for at in 0..deliveries.len() {
        for later in at + 1..deliveries.len() {
            let (one, other) = (&deliveries[at].message.head, &deliveries[later].message.head);
            if one.key.is_some() && one.key == other.key && one.offset > other.offset {
                deliveries.swap(at, later);
            }
        }
    }
}

impl Engine for Chaotic {
    fn create_topic(&self, request: CreateTopic) -> Answer<'_, Result<Topic, CreateTopicError>> {
        self.inner.create_topic(request)
    }

    fn topic(&self, account: AccountName, topic: TopicRef) -> Answer<'_, Result<Topic, LookupError>> {
        self.inner.topic(account, topic)
    }

    fn topics(&self, account: AccountName) -> Answer<'_, Result<Vec<Topic>, LookupError>> {
        self.inner.topics(account)
    }

    fn update_topic(
        &self,
        account: AccountName,
        topic: TopicRef,
        patch: TopicPatch,
    ) -> Answer<'_, Result<Topic, UpdateTopicError>> {
        if patch.name.is_none() {
            return self.inner.update_topic(account, topic, patch);
        }
        Box::pin(async move {
            let before = self.place_of(&account, &topic).await;
            let after = self.inner.update_topic(account, topic, patch).await?;
            if let Some(before) = before.filter(|before| before.topic != after.name) {
                self.chaos.renamed(&before, &after.name);
            }
            Ok(after)
        })
    }

    fn delete_topic(&self, account: AccountName, topic: TopicRef) -> Answer<'_, Result<(), LookupError>> {
        Box::pin(async move {
            let place = self.place_of(&account, &topic).await;
            self.inner.delete_topic(account, topic).await?;
            if let Some(place) = place {
                self.chaos.history().write(&[self.line(Event::DeleteTopic, &place)]);
                self.chaos.deleted(&place);
            }
            Ok(())
        })
    }

    fn create_group(&self, request: CreateGroup) -> Answer<'_, Result<Group, CreateGroupError>> {
        self.inner.create_group(request)
    }

    fn group(&self, account: AccountName, topic: TopicRef, group: GroupRef) -> Answer<'_, Result<Group, LookupError>> {
        self.inner.group(account, topic, group)
    }

    fn groups(&self, account: AccountName, topic: TopicRef) -> Answer<'_, Result<Vec<Group>, LookupError>> {
        self.inner.groups(account, topic)
    }

    fn find_groups(&self, account: AccountName, group: GroupRef) -> Answer<'_, Result<Vec<Group>, LookupError>> {
        self.inner.find_groups(account, group)
    }

    fn update_group(
        &self,
        account: AccountName,
        topic: TopicRef,
        group: GroupRef,
        patch: GroupPatch,
    ) -> Answer<'_, Result<Group, UpdateGroupError>> {
        self.inner.update_group(account, topic, group, patch)
    }

    fn delete_group(
        &self,
        account: AccountName,
        topic: TopicRef,
        group: GroupRef,
    ) -> Answer<'_, Result<(), LookupError>> {
        Box::pin(async move {
            let before = self.inner.group(account.clone(), topic.clone(), group.clone()).await;
            self.inner.delete_group(account, topic, group).await?;
            if let Ok(before) = before {
                let place = Place { account: before.account, topic: before.topic };
                let mut line = self.line(Event::DeleteGroup, &place);
                line.of(&before.name);
                self.chaos.history().write(&[line]);
            }
            Ok(())
        })
    }

    fn publish(&self, request: Publish) -> Answer<'_, Result<Vec<Published>, PublishError>> {
        Box::pin(self.publish_through(request))
    }

    fn pull(&self, request: Pull) -> Answer<'_, Result<Pulled, PullError>> {
        Box::pin(self.pull_through(request))
    }

    fn settle(&self, request: Settle) -> Answer<'_, Result<Vec<SettleOutcome>, SettleError>> {
        Box::pin(self.settle_through(request))
    }

    fn peek(&self, request: Peek) -> Answer<'_, Result<Peeked, PeekError>> {
        self.inner.peek(request)
    }

    fn seek(&self, request: Seek) -> Answer<'_, Result<SeekReport, LookupError>> {
        Box::pin(async move {
            let (account, topic, group) = (request.account.clone(), request.topic.clone(), request.group.clone());
            let dry_run = request.dry_run;
            let report = self.inner.seek(request).await?;
            if let (false, Ok(group)) = (dry_run, self.inner.group(account, topic, group).await) {
                let place = Place { account: group.account, topic: group.topic };
                let mut line = self.line(Event::Seek, &place);
                line.of(&group.name);
                self.chaos.history().write(&[line]);
            }
            Ok(report)
        })
    }

    fn purge(&self, account: AccountName, topic: TopicRef) -> Answer<'_, Result<PurgeReport, LookupError>> {
        Box::pin(async move {
            let place = self.place_of(&account, &topic).await;
            let report = self.inner.purge(account, topic).await?;
            if let Some(place) = place {
                self.chaos.history().write(&[self.line(Event::Purge, &place)]);
            }
            Ok(report)
        })
    }

    fn discard(&self, request: Discard) -> Answer<'_, Result<DiscardReport, LookupError>> {
        Box::pin(async move {
            let place = self.place_of(&request.account, &request.topic).await;
            let report = self.inner.discard(request).await?;
            if let Some(place) = place {
                let line = |offset: &crate::model::Offset| Line {
                    offset: Some(offset.get()),
                    ..self.line(Event::Discard, &place)
                };
                self.chaos.history().write(&report.discarded.iter().map(line).collect::<Vec<_>>());
            }
            Ok(report)
        })
    }

    fn redrive(&self, request: Redrive) -> Answer<'_, Result<RedriveReport, RedriveError>> {
        self.inner.redrive(request)
    }

    fn counts(
        &self,
        account: AccountName,
        topic: TopicRef,
        group: Option<GroupRef>,
    ) -> Answer<'_, Result<Counts, LookupError>> {
        self.inner.counts(account, topic, group)
    }

    fn status(&self) -> Answer<'_, Status> {
        self.inner.status()
    }

    fn put_access(&self, record: AccessRecord) -> Answer<'_, Result<(), AccessError>> {
        self.inner.put_access(record)
    }

    fn revoke_access(&self, account: AccountName, id: AccessId) -> Answer<'_, Result<(), AccessError>> {
        self.inner.revoke_access(account, id)
    }

    fn access(&self) -> Arc<AccessTable> {
        self.inner.access()
    }

    fn backup(&self, request: Backup) -> Answer<'_, Result<BackupReport, BackupError>> {
        self.inner.backup(request)
    }

    fn sweep(&self) -> Answer<'_, ()> {
        self.inner.sweep()
    }

    fn stop(&self) -> Answer<'_, ()> {
        self.inner.stop()
    }
}
