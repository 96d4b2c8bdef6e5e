//! The writes that are under way, and what the last one came to: whether the database answers, told from memory.
//!
//! ```text
//!   a write begins ──► under way ──┬──► well ──────────────────► no trouble
//!                         │        └──► not answered, locked ──► trouble, until a later one is well
//!                         └ for longer than a limit ──► trouble, at once
//! ```
//!
//! A write that fails for what it is (a broken rule) or for want of space says nothing about that.

use crate::{DatabaseError, ErrorClass, dialect, error::words};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The database does not answer, or not in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Since when no write that was begun has been well.
    pub since: Timestamp,
    /// What is known, in words.
    pub words: String,
}

/// Writes that are under way. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    state: Arc<Mutex<State>>,
    slow_after: Duration,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// In the order in which they began.
    under_way: BTreeMap<u64, (Instant, &'static str)>,
    /// The last one that ended was kept from its end by the disk or the server.
    has_failed: bool,
    unanswered: Option<Trouble>,
}

/// A write that is under way. Dropped, it is given up; after a long wait that says as much as an error.
#[derive(Debug)]
pub(crate) struct Call {
    calls: Calls,
    number: u64,
    begun: Instant,
}

impl Calls {
    pub(crate) fn new(slow_after: Duration) -> Calls {
        Calls { state: Arc::default(), slow_after }
    }

    pub(crate) fn begin(&self, operation: &'static str) -> Call {
        let begun = Instant::now();
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.under_way.insert(number, (begun, operation));
        Call { calls: self.clone(), number, begun }
    }

    /// Whether the last write that ended has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.lock().has_failed
    }

    /// Whether the writes before this one are held up.
    pub(crate) fn is_held_up(&self) -> bool {
        self.trouble().is_some()
    }

    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.trouble_after(self.slow_after)
    }

    pub(crate) fn trouble_after(&self, slow_after: Duration) -> Option<Trouble> {
        let state = self.lock();
        if state.unanswered.is_some() {
            return state.unanswered.clone();
        }
        let (_, (begun, operation)) = state.under_way.first_key_value()?;
        let age = begun.elapsed();
        (age > slow_after).then(|| no_answer(age, operation))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// What it came to.
    pub(crate) fn ended<T>(self, result: &Result<T, DatabaseError>) {
        let mut state = self.calls.lock();
        state.under_way.remove(&self.number);
        state.has_failed = result.is_err();
        match result {
            Ok(_) => state.unanswered = None,
            Err(error) if is_unanswered(error) => {
                let since = match &state.unanswered {
                    Some(trouble) => trouble.since,
                    None => before_now(self.begun.elapsed()),
                };
                state.unanswered = Some(Trouble { since, words: words(error) });
            }
            Err(_) => {}
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = self.calls.lock();
        let Some((begun, operation)) = state.under_way.remove(&self.number) else { return };
        if begun.elapsed() > self.calls.slow_after {
            state.unanswered.get_or_insert_with(|| no_answer(begun.elapsed(), operation));
        }
    }
}

fn no_answer(age: Duration, operation: &str) -> Trouble {
    let words = format!("the attempt to {operation} has had no answer for {} s", age.as_secs());
    Trouble { since: before_now(age), words }
}

fn is_unanswered(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::Query { source, .. } => {
            error.class() == ErrorClass::Retryable && !dialect::is_serialization_failure(source.driver())
        }
        DatabaseError::CommitUnknown { source, .. } => {
            !matches!(source.driver(), sqlx::Error::Database(_))
                || dialect::is_connection_lost(source.driver())
        }
        _ => false,
    }
}

fn before_now(age: Duration) -> Timestamp {
    let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::ZERO);
    Timestamp::now().saturating_sub(age).unwrap_or(Timestamp::UNIX_EPOCH)
}
