//! Asking for a pass, from anywhere, without waiting.

use crate::task::Reason;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Asks for passes of one task. Cheap to clone.
///
/// Made before its task, so that the task itself (and what it starts) can hold it; given to
/// [`TaskSet::add`](crate::TaskSet::add) together with the task. What it is asked before the driver starts is
/// answered by the first pass.
#[derive(Clone, Debug, Default)]
pub struct Activator {
    mailbox: Arc<Mailbox>,
}

/// What was asked and not taken yet. The reasons are a set of names known at compile time, so it is bounded however
/// often somebody asks.
#[derive(Debug, Default)]
struct Mailbox {
    pending: Mutex<Pending>,
    asked: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    reasons: BTreeSet<Reason>,
    /// Requests since the activator was made.
    requests: u64,
    /// The task that has this activator.
    task: Option<&'static str>,
}

/// Which request somebody made; a pass answers all requests up to the one that it has taken last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

#[cfg(test)]
impl Ticket {
    /// That of the request of this number; the first is 1.
    pub(crate) fn of(number: u64) -> Ticket {
        Ticket(number)
    }
}

impl Activator {
    /// A new one, without a task yet.
    #[must_use]
    pub fn new() -> Activator {
        Activator::default()
    }

    /// Asks for a pass. Never blocks. Any number of requests before the next pass starts are one pass; a request
    /// while a pass runs is one further pass, because the one that runs may have looked already.
    pub fn activate(&self, reason: Reason) {
        let _ticket = self.request(reason);
    }

    pub(crate) fn request(&self, reason: Reason) -> Ticket {
        let mut pending = self.pending();
        pending.reasons.insert(reason);
        pending.requests += 1;
        let ticket = Ticket(pending.requests);
        drop(pending);
        // Leaves a permit behind if the loop is not waiting now.
        self.mailbox.asked.notify_one();
        ticket
    }

    /// Ends when something was asked; at once if it was asked already.
    pub(crate) async fn asked(&self) {
        while self.pending().reasons.is_empty() {
            self.mailbox.asked.notified().await;
        }
    }

    /// Takes all that was asked so far: the next pass answers it.
    pub(crate) fn take(&self) -> (BTreeSet<Reason>, Ticket) {
        let mut pending = self.pending();
        (std::mem::take(&mut pending.reasons), Ticket(pending.requests))
    }

    /// Makes it the activator of this task; the task that had it before, if one had.
    pub(crate) fn claim(&self, task: &'static str) -> Option<&'static str> {
        self.pending().task.replace(task)
    }

    /// The task whose passes it asks for.
    pub(crate) fn task(&self) -> Option<&'static str> {
        self.pending().task
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        // Nothing in here panics half-way, so what a poisoned lock guards is whole.
        self.mailbox.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
