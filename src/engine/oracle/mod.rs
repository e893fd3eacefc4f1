//! The oracle: the rules of an engine in the plainest words, in memory, behind one lock. Tests hold
//! other engines against it. It is never fast and never durable: `world` has the state and what time
//! does to it, `publish`, `pull`, `settle`, `admin` and `view` one kind of operation each.
//!
//! Every operation is: what time has done (lapses, trims, ends of waits), then the operation, then what
//! follows from it (messages that go, waiting pulls that can be answered).

mod admin;
mod publish;
mod pull;
mod settle;
mod view;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::Clock;
use crate::engine::{
    AccessError, AccessTable, Answer, Backup, BackupError, BackupReport, Counts, CreateGroup, CreateGroupError,
    CreateTopic, CreateTopicError, Discard, DiscardReport, Engine, Limits, LookupError, Peek, PeekError, Peeked,
    Publish, PublishError, Pull, PullError, Pulled, PurgeReport, Redrive, RedriveError, RedriveReport, Refusal, Seek,
    SeekReport, Settle, SettleError, SettleOutcome, Status, UpdateGroupError, UpdateTopicError,
};
use crate::model::{
    AccessId, AccessRecord, AccountName, Group, GroupPatch, GroupRef, Published, Topic, TopicPatch, TopicRef,
};

use pull::Taken;
use world::World;

/// An engine in memory that states the rules. Nothing is durable: it forgets all when dropped.
pub struct Oracle {
    world: Mutex<World>,
}

impl Oracle {
    /// An empty engine. Its log clock starts at the wall time of `clock` and follows its boot time.
    pub fn new(clock: Arc<dyn Clock>, limits: Limits) -> Self {
        Self { world: Mutex::new(World::new(clock, limits)) }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `operation` between what time has done and what follows from it; refuses it once stopped.
    fn run<'a, T, E>(
        &'a self,
        operation: impl FnOnce(&mut World) -> Result<T, E> + Send + 'a,
    ) -> Answer<'a, Result<T, E>>
    where
        T: Send + 'a,
        E: FromRefusal + Send + 'a,
    {
        Box::pin(async move {
            let mut world = self.world();
            if world.stopped {
                return Err(E::from_refusal(Refusal::Stopping));
            }
            world.pass_time();
            let answer = operation(&mut world);
            world.follow_up();
            answer
        })
    }
}

/// An error that can say that the engine takes no commands.
trait FromRefusal {
    fn from_refusal(refusal: Refusal) -> Self;
}

macro_rules! from_refusal {
    ($($direct:ty),*; $($by_lookup:ty),*) => {
        $(impl FromRefusal for $direct {
            fn from_refusal(refusal: Refusal) -> Self {
                Self::Refused(refusal)
            }
        })*
        $(impl FromRefusal for $by_lookup {
            fn from_refusal(refusal: Refusal) -> Self {
                Self::Lookup(LookupError::Refused(refusal))
            }
        })*
    };
}

from_refusal!(
    LookupError, CreateTopicError, UpdateTopicError, CreateGroupError, PublishError, AccessError, BackupError;
    UpdateGroupError, PullError, SettleError, PeekError, RedriveError
);

/// Takes a waiting pull back when its future is dropped.
struct Withdrawal<'a> {
    oracle: &'a Oracle,
    waiter: u64,
}

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        self.oracle.world().withdraw(self.waiter);
    }
}

impl Engine for Oracle {
    fn create_topic(&self, request: CreateTopic) -> Answer<'_, Result<Topic, CreateTopicError>> {
        self.run(|world| world.create_topic(request))
    }

    fn topic(&self, account: AccountName, topic: TopicRef) -> Answer<'_, Result<Topic, LookupError>> {
        self.run(move |world| world.find_topic(&account, &topic).map(|t| world.topics[t].topic.clone()))
    }

    fn topics(&self, account: AccountName) -> Answer<'_, Result<Vec<Topic>, LookupError>> {
        self.run(move |world| Ok(world.topics_of(&account)))
    }

    fn update_topic(
        &self,
        account: AccountName,
        topic: TopicRef,
        patch: TopicPatch,
    ) -> Answer<'_, Result<Topic, UpdateTopicError>> {
        self.run(move |world| world.update_topic(&account, &topic, &patch))
    }

    fn delete_topic(&self, account: AccountName, topic: TopicRef) -> Answer<'_, Result<(), LookupError>> {
        self.run(move |world| world.delete_topic(&account, &topic))
    }

    fn create_group(&self, request: CreateGroup) -> Answer<'_, Result<Group, CreateGroupError>> {
        self.run(|world| world.create_group(request))
    }

    fn group(&self, account: AccountName, topic: TopicRef, group: GroupRef) -> Answer<'_, Result<Group, LookupError>> {
        self.run(move |world| {
            let (t, g) = world.find_group(&account, &topic, &group)?;
            Ok(world.topics[t].groups[g].group.clone())
        })
    }

    fn groups(&self, account: AccountName, topic: TopicRef) -> Answer<'_, Result<Vec<Group>, LookupError>> {
        self.run(move |world| world.groups_of(&account, &topic))
    }

    fn find_groups(&self, account: AccountName, group: GroupRef) -> Answer<'_, Result<Vec<Group>, LookupError>> {
        self.run(move |world| Ok(world.groups_named(&account, &group)))
    }

    fn update_group(
        &self,
        account: AccountName,
        topic: TopicRef,
        group: GroupRef,
        patch: GroupPatch,
    ) -> Answer<'_, Result<Group, UpdateGroupError>> {
        self.run(move |world| world.update_group(&account, &topic, &group, &patch))
    }

    fn delete_group(
        &self,
        account: AccountName,
        topic: TopicRef,
        group: GroupRef,
    ) -> Answer<'_, Result<(), LookupError>> {
        self.run(move |world| world.delete_group(&account, &topic, &group))
    }

    fn publish(&self, request: Publish) -> Answer<'_, Result<Vec<Published>, PublishError>> {
        self.run(|world| world.publish(request))
    }

    fn pull(&self, request: Pull) -> Answer<'_, Result<Pulled, PullError>> {
        Box::pin(async move {
            match self.run(|world| world.pull(request)).await? {
                Taken::Now(pulled) => Ok(pulled),
                Taken::Later { waiter, answer } => {
                    let _withdrawal = Withdrawal { oracle: self, waiter };
                    answer.await.unwrap_or_else(|_| Err(PullError::from_refusal(Refusal::Stopping)))
                }
            }
        })
    }

    fn settle(&self, request: Settle) -> Answer<'_, Result<Vec<SettleOutcome>, SettleError>> {
        self.run(|world| world.settle(request))
    }

    fn peek(&self, request: Peek) -> Answer<'_, Result<Peeked, PeekError>> {
        self.run(move |world| world.peek(&request))
    }

    fn seek(&self, request: Seek) -> Answer<'_, Result<SeekReport, LookupError>> {
        self.run(move |world| world.seek(&request))
    }

    fn purge(&self, account: AccountName, topic: TopicRef) -> Answer<'_, Result<PurgeReport, LookupError>> {
        self.run(move |world| world.purge(&account, &topic))
    }

    fn discard(&self, request: Discard) -> Answer<'_, Result<DiscardReport, LookupError>> {
        self.run(move |world| world.discard(&request))
    }

    fn redrive(&self, request: Redrive) -> Answer<'_, Result<RedriveReport, RedriveError>> {
        self.run(move |world| world.redrive(&request))
    }

    fn counts(
        &self,
        account: AccountName,
        topic: TopicRef,
        group: Option<GroupRef>,
    ) -> Answer<'_, Result<Counts, LookupError>> {
        self.run(move |world| world.counts(&account, &topic, group.as_ref()))
    }

    fn status(&self) -> Answer<'_, Status> {
        Box::pin(async {
            let mut world = self.world();
            world.pass_time();
            world.status()
        })
    }

    fn put_access(&self, record: AccessRecord) -> Answer<'_, Result<(), AccessError>> {
        self.run(|world| world.put_access(record))
    }

    fn revoke_access(&self, account: AccountName, id: AccessId) -> Answer<'_, Result<(), AccessError>> {
        self.run(move |world| world.revoke_access(&account, id))
    }

    fn access(&self) -> Arc<AccessTable> {
        self.world().access.clone()
    }

    fn backup(&self, _: Backup) -> Answer<'_, Result<BackupReport, BackupError>> {
        self.run(|_| Err(BackupError::NoFiles))
    }

    fn sweep(&self) -> Answer<'_, ()> {
        Box::pin(async { self.world().pass_time() })
    }

    fn stop(&self) -> Answer<'_, ()> {
        Box::pin(async {
            let mut world = self.world();
            world.pass_time();
            world.answer_all_waiting();
            world.stopped = true;
        })
    }
}
