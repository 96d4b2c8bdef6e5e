//! The store as the engine needs it. The engine knows no SQL; the coordinator implements this over its database, and
//! `testing` in memory.
//!
//! Every write is *fenced*: it takes effect only while the row's adoption epoch is that of the writer's key. Every write
//! is *idempotent*: repeated, it answers [`Written::Already`]. So an answer that was lost is asked for again.

use crate::types::{Attention, EndState, Mark, NewSaga, NodeEvent, StoredSaga};
use async_trait::async_trait;
use ids::SagaId;
use jiff::Timestamp;
use nexus_saga_recovery::{SagaKey, UnfinishedSaga};
use serde_json::Value;
use std::fmt::Debug;
use thiserror::Error;

/// A write that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a fenced write has had no effect"]
pub enum Written {
    /// Durable now.
    Now,
    /// It was there.
    Already,
    /// The saga is another adoption's. Nothing was written, and the executor has to stop.
    Fenced,
    /// A line of that name is there and says something else: somebody writes this log under the same adoption, which is a
    /// defect. Nothing was written, and the executor has to stop.
    Contradicted,
}

/// A creation that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The row is durable and of this creation, made now or by an earlier attempt.
    Ours,
    /// A row with this saga id is there, of another creation.
    Others,
}

/// A call that was not answered as it should be.
///
/// Every call ends in bounded time, also when the store hangs. What was [not done](StoreFault::NotDone) will not be done
/// either. What is [unknown](StoreFault::Unknown) may still be under way, in the store or in this process (SQLite's one
/// writer goes on when the disk lets it), and take effect at any later time, or never. The store promises one thing about
/// it: **nothing that depends on it overtakes it.** The same write asked for again, the end of the saga and its adoption are
/// answered after it.
///
/// That is enough, because to execute a saga takes an *answer* of this process, and not a row:
///
/// - A creation that is asked for again hears of the row, whichever attempt made it.
/// - A creation whose caller has given up: its claim is given back with it, and from then on nothing here will execute the
///   saga under it. If the row comes later, it is one that nobody executes, and the next pass of recovery lists it and goes
///   on with it; the rule of `nexus-saga-recovery` speaks of who executes, not of when the row appears. If somebody has
///   begun a saga of the same id meanwhile, one of the two rows is the first; the other creation finds it and is
///   [another's](Created::Others), or has no effect at all because nobody waits for its answer.
/// - A line of a log, a mark or an end that comes late comes under the epoch of its writer: either that adoption is still
///   in force, and its executor asks until it is answered; or the next adoption has moved the epoch *after* it, and so
///   reads the log with it; or before it, and it is fenced.
/// - None comes so late that the row has ended and is gone: the end is a write of the same saga, and a row that ended is
///   archived and deleted after that.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreFault {
    /// It had certainly no effect.
    #[error("the store did not do it: {0}")]
    NotDone(String),
    /// It had certainly no effect, because the store has no space left.
    #[error("the store has no space left: {0}")]
    NoSpace(String),
    /// It may have had its effect, and may yet have it.
    #[error("whether the store did it is unknown: {0}")]
    Unknown(String),
    /// It had certainly no effect, because the coordinator in whose name it was asked for has a later life: two processes run
    /// as one coordinator, and this one must end.
    #[error("the store did not do it: another process has started as this coordinator")]
    Superseded,
}

/// Where sagas are durable.
#[async_trait]
pub trait SagaStore: Debug + Send + Sync + 'static {
    /// Creates a row; durable on return. Idempotent by (saga id, creation).
    ///
    /// # Errors
    /// See [`StoreFault`].
    async fn create(&self, saga: &NewSaga) -> Result<Created, StoreFault>;

    /// Appends lines to the log, all or none; durable on return.
    ///
    /// # Errors
    /// See [`StoreFault`].
    async fn append(&self, key: SagaKey, events: &[NodeEvent]) -> Result<Written, StoreFault>;

    /// Ends the saga, and with it appends the last lines of its log; its attention is cleared with it.
    ///
    /// # Errors
    /// See [`StoreFault`].
    async fn end(&self, key: SagaKey, end: &EndState, last: &[NodeEvent]) -> Result<Written, StoreFault>;

    /// Notes something about it. Also if it has ended under this adoption: then nothing follows from it.
    ///
    /// # Errors
    /// See [`StoreFault`].
    async fn mark(&self, key: SagaKey, mark: &Mark) -> Result<Written, StoreFault>;

    /// Sets or clears why it waits for an operator.
    ///
    /// # Errors
    /// See [`StoreFault`].
    async fn set_attention(&self, key: SagaKey, attention: Option<&Attention>)
    -> Result<Written, StoreFault>;

    /// Keeps a signal for a saga, whether or not anybody waits for it. The first value of a name stays.
    ///
    /// # Errors
    /// See [`StoreFault`].
    async fn put_signal(&self, saga: SagaId, name: &str, value: &Value) -> Result<(), StoreFault>;

    /// A signal that was kept.
    ///
    /// # Errors
    /// See [`StoreFault`].
    async fn signal(&self, saga: SagaId, name: &str) -> Result<Option<Value>, StoreFault>;

    /// Sets a timer unless one of this name is there, and answers when it is due: the first due time stays, whoever
    /// asks again after a crash.
    ///
    /// # Errors
    /// See [`StoreFault`].
    async fn timer(&self, saga: SagaId, name: &str, due: Timestamp) -> Result<Timestamp, StoreFault>;

    /// Takes unfinished sagas, each if its epoch is still that of its key: this coordinator owns it then, and its epoch has
    /// grown by one. Durable on return. The new keys; left out is what has ended, is another adoption's by now, or does not
    /// exist. After the return nothing of an earlier adoption comes to the log any more, and what came before is found by
    /// [`load`](SagaStore::load).
    ///
    /// # Errors
    /// See [`StoreFault`]. After [`StoreFault::Unknown`] the listing tells.
    async fn adopt(&self, sagas: &[SagaKey]) -> Result<Vec<SagaKey>, StoreFault>;

    /// Many sagas with their logs, in few queries; the lines of a log in the order in which they were written. Those that do
    /// not exist are left out.
    ///
    /// # Errors
    /// See [`StoreFault`].
    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<StoredSaga>, StoreFault>;

    /// Every row of this coordinator that has not ended.
    ///
    /// # Errors
    /// See [`StoreFault`].
    async fn unfinished(&self) -> Result<Vec<UnfinishedSaga>, StoreFault>;
}
