//! The writer's inbox: bounded for whoever asks, and quiet while the writer has reason to sleep.
//!
//! A command that only waits for a sync need not wake a writer whose sync is under way: it would decide
//! one command at a time where it can decide all that came meanwhile.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::engine::Refusal;
use crate::engine::command::Command;

/// What ends the writer's sleep before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeFor {
    /// Any command.
    Any,
    /// A command that is not content to wait for the next sync, or the end of the one under way.
    Urgent,
}

#[derive(Default)]
struct Held {
    commands: VecDeque<Command>,
    /// Something is there that cannot wait.
    urgent: bool,
    sleeps_for: Option<WakeFor>,
    /// The writer is gone.
    closed: bool,
}

/// See the module.
pub struct Inbox {
    held: Mutex<Held>,
    came: Condvar,
    commands_max: usize,
}

impl Inbox {
    /// An inbox in which this many commands wait at most.
    pub fn new(commands_max: usize) -> Self {
        Self { held: Mutex::default(), came: Condvar::new(), commands_max }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a command in, or refuses it: too many wait, or the writer is gone.
    pub fn ask(&self, command: Command) -> Result<(), Refusal> {
        let held = self.held();
        if held.closed {
            return Err(Refusal::Stopping);
        }
        if held.commands.len() >= self.commands_max {
            return Err(Refusal::Busy);
        }
        self.put(held, command);
        Ok(())
    }

    /// Puts the result of one of the writer's own jobs in, which always has room. False: the writer is gone.
    pub fn tell(&self, done: Command) -> bool {
        let held = self.held();
        let open = !held.closed;
        if open {
            self.put(held, done);
        }
        open
    }

    fn put(&self, mut held: MutexGuard<'_, Held>, command: Command) {
        held.urgent |= !command.can_wait();
        held.commands.push_back(command);
        self.wake_if_due(held);
    }

    fn wake_if_due(&self, mut held: MutexGuard<'_, Held>) {
        if held.sleeps_for == Some(WakeFor::Any) || (held.sleeps_for.is_some() && held.urgent) {
            held.sleeps_for = None;
            drop(held);
            self.came.notify_one();
        }
    }

    /// Wakes the writer: the sync under way is over.
    pub fn nudge(&self) {
        let mut held = self.held();
        held.urgent = true;
        self.wake_if_due(held);
    }

    /// Moves commands over, until `to` has `most`.
    pub fn take(&self, to: &mut VecDeque<Command>, most: usize) {
        let mut held = self.held();
        let count = most.saturating_sub(to.len()).min(held.commands.len());
        to.extend(held.commands.drain(..count));
        held.urgent = held.commands.iter().any(|command| !command.can_wait());
    }

    /// Sleeps until there is what is worth waking up for, or `most` has passed.
    pub fn sleep(&self, wake_for: WakeFor, most: Option<Duration>) {
        let mut held = self.held();
        if held.urgent || (wake_for == WakeFor::Any && !held.commands.is_empty()) {
            return;
        }
        held.sleeps_for = Some(wake_for);
        let asleep = |held: &mut Held| held.sleeps_for.is_some();
        let mut held = match most {
            Some(most) => self.came.wait_timeout_while(held, most, asleep).unwrap_or_else(PoisonError::into_inner).0,
            None => self.came.wait_while(held, asleep).unwrap_or_else(PoisonError::into_inner),
        };
        held.sleeps_for = None;
    }

    /// Whether the writer has stopped as it was asked to.
    pub fn is_closed(&self) -> bool {
        self.held().closed
    }

    /// Takes no more; who waits for an answer of what is left is told that the server stops.
    pub fn close(&self) {
        let mut held = self.held();
        held.closed = true;
        held.commands.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Instant;

    use tokio::sync::oneshot;

    use crate::engine::command::PublishWork;
    use crate::model::{AccountName, TopicName, TopicRef};

    fn publish() -> Command {
        let work = PublishWork {
            account: AccountName::parse("a").unwrap(),
            topic: TopicRef::Name(TopicName::parse("t").unwrap()),
            messages: Vec::new(),
            bytes: 0,
        };
        Command::Publish(work, oneshot::channel().0)
    }

    fn sweep() -> Command {
        Command::Sweep(oneshot::channel().0)
    }

    #[test]
    fn it_is_bounded_for_those_who_ask_and_open_for_results() {
        let inbox = Inbox::new(2);
        assert_eq!(inbox.ask(publish()), Ok(()));
        assert_eq!(inbox.ask(sweep()), Ok(()));
        assert_eq!(inbox.ask(sweep()), Err(Refusal::Busy));
        assert!(inbox.tell(sweep()));
        let mut taken = VecDeque::new();
        inbox.take(&mut taken, 2);
        assert_eq!(taken.len(), 2);
        inbox.take(&mut taken, 10);
        assert_eq!(taken.len(), 3);
        inbox.close();
        assert_eq!(inbox.ask(sweep()), Err(Refusal::Stopping));
        assert!(!inbox.tell(sweep()));
    }

    #[test]
    fn a_publish_wakes_a_writer_that_waits_for_anything_and_not_one_that_waits_for_a_sync() {
        let long = Some(Duration::from_secs(60));
        let inbox = Arc::new(Inbox::new(8));
        inbox.ask(publish()).unwrap();
        // Returns at once.
        inbox.sleep(WakeFor::Any, long);
        let begun = Instant::now();
        inbox.sleep(WakeFor::Urgent, Some(Duration::from_millis(30)));
        assert!(begun.elapsed() >= Duration::from_millis(30), "it slept on over a publish");
        for wake in [|inbox: &Inbox| inbox.nudge(), |inbox: &Inbox| inbox.ask(sweep()).unwrap()] {
            let other = inbox.clone();
            let waker = std::thread::spawn(move || wake(&other));
            inbox.sleep(WakeFor::Urgent, long);
            waker.join().unwrap();
            inbox.take(&mut VecDeque::new(), 8);
        }
    }
}
