//! Sagas change hands: owner and adoption epoch, by compare-and-set. Whoever resumes its own sagas adopts them too; why,
//! `nexus-saga-recovery` says.
//!
//! | step | a crash after it leaves |
//! |---|---|
//! | the row's owner and epoch are moved, if its epoch is still the expected one | a row of the new owner, which its recovery finds |
//! | *after the commit*, its log is loaded, in a transaction of its own | the same |
//!
//! The order is a condition of the fence of appended rows: what an earlier owner was told is durable is then in the log, and
//! nothing of it comes later.
//!
//! # Two processes as one coordinator
//!
//! It must not be, and the lock of the state directory sees to it; but directories are copied, and locks deleted. The later
//! process has the higher epoch in the `coordinator` table. Under it, the earlier one is *superseded*:
//!
//! ```text
//!   earlier   runs X ─────────────────────── a line of X: fenced ─► X stops     create, adopt, list: superseded ─► it ends
//!   later               start: epoch + 1 ─► list ─► adopt X ─► executes X
//! ```
//!
//! Creating and adopting look at the epoch in the statement that changes the row. On SQLite nothing comes between. On
//! PostgreSQL a statement of the earlier process that began before the later one's start may be committed after it: then the
//! later one finds its row in one of its next passes, and adopts it, as it does with an INSERT of a dead life. So the
//! earlier one executes nothing for long that the later one does not take from it, and begins nothing new.

use super::DatabaseSagaStore;
use crate::{
    DatabaseError,
    error::during,
    rows::{key, parsed, signed, unsigned},
    sql::{Connection, Row, Statement, Value, assembled, sql},
};
use ids::{AdoptionEpoch, SagaId};
use nexus_saga_recovery::SagaKey;
use std::{collections::BTreeSet, fmt::Write, sync::Arc};

/// Sagas that one statement adopts at most: as many as recovery loads at once.
const ADOPTED_AT_ONCE: usize = 256;

const OPERATION: &str = "adopt sagas";

/// What came of a write that only the newest life of a coordinator may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InName<T> {
    Done(T),
    /// Nothing was changed: the coordinator has a later life.
    Superseded,
}

impl DatabaseSagaStore {
    pub(super) async fn adopt_all(&self, sagas: &[SagaKey]) -> Result<InName<Vec<SagaKey>>, DatabaseError> {
        let mut adopted = BTreeSet::new();
        for chunk in sagas.chunks(ADOPTED_AT_ONCE) {
            match self.adopt_chunk(chunk).await? {
                InName::Done(keys) => adopted.extend(keys),
                InName::Superseded => return Ok(InName::Superseded),
            }
        }
        Ok(InName::Done(adopted.into_iter().collect()))
    }

    async fn adopt_chunk(&self, sagas: &[SagaKey]) -> Result<InName<Vec<SagaKey>>, DatabaseError> {
        let update = &self.adoption_of(sagas);
        let adopted = self.database.write_row_wise(OPERATION, |mut tx| {
            Box::pin(async move {
                if self.is_superseded(&mut tx).await? {
                    return Ok(InName::Superseded);
                }
                let rows = update.clone().fetch_all(&mut *tx).await.map_err(during(OPERATION))?;
                rows.iter().map(adopted_key).collect::<Result<_, _>>().map(InName::Done)
            })
        });
        adopted.await
    }

    /// Filled up to a power of two with the last one, so that there are few texts of statements.
    fn adoption_of(&self, sagas: &[SagaKey]) -> Statement {
        let places = sagas.len().next_power_of_two();
        let mut text =
            "UPDATE saga SET owner = $1, adoption_epoch = adoption_epoch + 1 FROM (VALUES ".to_owned();
        let mut values = vec![key(&self.owner).into()];
        for number in 0..places {
            let comma = if number == 0 { "" } else { ", " };
            write!(text, "{comma}(${}, ${})", 2 * number + 2, 2 * number + 3)
                .expect("a string takes what is written");
            let Some(of) = sagas.get(number).or(sagas.last()) else { break };
            values.extend([Value::from(key(&of.id)), signed(of.epoch.0).into()]);
        }
        text.push_str(
            ") AS asked WHERE saga.id = asked.column1 AND saga.adoption_epoch = asked.column2 \
             AND saga.state = 'unfinished' RETURNING id, adoption_epoch",
        );
        assembled(Arc::from(text), values)
    }

    /// Whether the coordinator has started again since this life of it.
    pub(super) async fn is_superseded(&self, connection: &mut Connection) -> Result<bool, DatabaseError> {
        let later = sql("SELECT 1 AS later FROM coordinator WHERE id = $1 AND epoch > $2")
            .bind(key(&self.owner))
            .bind(signed(self.epoch));
        let later = later.fetch_optional(connection).await;
        let is_superseded =
            later.map_err(during("look whether this coordinator has started again"))?.is_some();
        if is_superseded {
            self.superseded.send_replace(true);
        }
        Ok(is_superseded)
    }

    /// Waits until it was found that the coordinator has started again, in another process: then this one must end.
    pub async fn superseded(&self) {
        // The sender is in `self`.
        let _ = self.superseded.subscribe().wait_for(|superseded| *superseded).await;
    }
}

fn adopted_key(row: &Row) -> Result<SagaKey, DatabaseError> {
    let id: SagaId = parsed(row, "id")?;
    Ok(SagaKey { id, epoch: AdoptionEpoch(unsigned(row, "adoption_epoch")?) })
}
