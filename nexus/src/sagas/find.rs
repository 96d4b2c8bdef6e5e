//! Which sagas do what is asked for. A row says only that a saga has not ended; what it does meanwhile is known to the memory
//! of whoever executes it. So a state of those is looked for in memory first, and only where that names very many are rows
//! gone through: then every page is full soon. Either way what one request costs is bounded, however many there are.

use super::{Sagas, view};
use ids::SagaId;
use nexus_client::sagas::{Saga, SagaState};
use nexus_database::{
    DatabaseError,
    sagas::{self as stored, SagaFilter, SagaPosition, SagaSummary},
};
use nexus_sagas::Phase;
use std::collections::BTreeSet;

/// Sagas that are looked up one by one. Of more than that, each few hundred rows have some, unless the others are many
/// hundred thousand.
const FEW_MAX: usize = 1_000;

/// Rows that are read at once where only some of them are shown.
const READ_ROWS: u32 = 500;

/// Rows that one request goes through: a few tens of milliseconds. After that its page is what has been found, perhaps
/// nothing, and the next one goes on from there.
const ROWS_MAX: usize = ROWS_MAX_AT_ONCE as usize;

/// The same, of one read.
const ROWS_MAX_AT_ONCE: u32 = 5_000;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Of this kind only.
    pub kind: Option<String>,
    /// In this state only.
    pub state: Option<SagaState>,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// Sagas with their places in the order, newest first.
    pub sagas: Vec<(SagaPosition, Saga)>,
    /// Where to go on, if the request has gone through as many rows as it may; at the last saga there is more otherwise.
    pub go_on: Option<SagaPosition>,
}

/// Rows of which some may be what is asked for.
struct Rows {
    rows: Vec<SagaSummary>,
    is_last: bool,
}

/// Where what is asked for is found.
enum Candidates {
    /// Among these rows of the database.
    Rows(SagaFilter),
    /// These, newest first.
    These(Vec<SagaSummary>),
}

impl Sagas {
    /// Sagas behind that place, `limit` of them at most.
    ///
    /// # Errors
    /// The database.
    pub async fn find(
        &self,
        wanted: &Wanted,
        mut after: Option<SagaPosition>,
        limit: u32,
    ) -> Result<Found, DatabaseError> {
        let candidates = self.candidates(wanted).await?;
        let (mut sagas, mut read) = (Vec::new(), 0);
        loop {
            // At first as if all of them were what is asked for: mostly they are.
            let at_once = if read == 0 { limit } else { READ_ROWS.max(limit) };
            let Rows { rows, is_last } = candidates.after(self, after.as_ref(), at_once).await?;
            let known = self.known(&rows).await?;
            read += rows.len();
            after = rows.last().map(SagaSummary::position).or(after);
            let shown = rows.iter().map(|row| (row.position(), view::saga(row, &known.of(row))));
            sagas.extend(shown.filter(|(_, saga)| wanted.state.is_none_or(|state| saga.state == state)));
            let is_full = sagas.len() >= limit as usize;
            sagas.truncate(limit as usize);
            if is_full || is_last {
                return Ok(Found { sagas, go_on: None });
            }
            if read >= ROWS_MAX {
                return Ok(Found { sagas, go_on: after });
            }
        }
    }

    async fn candidates(&self, wanted: &Wanted) -> Result<Candidates, DatabaseError> {
        let rows = |state, needs_attention| {
            let kind = wanted.kind.clone();
            Candidates::Rows(SagaFilter { kind, state, needs_attention, since: None })
        };
        let ids = match wanted.state {
            None | Some(SagaState::Unrecognized) => return Ok(rows(None, false)),
            Some(SagaState::Succeeded) => return Ok(rows(Some(stored::SagaState::Succeeded), false)),
            Some(SagaState::Failed) => return Ok(rows(Some(stored::SagaState::Failed), false)),
            Some(SagaState::Abandoned) => return Ok(rows(Some(stored::SagaState::Abandoned), false)),
            // In memory it is known a moment before it is durable: then it is not listed yet.
            Some(SagaState::NeedsAttention) => return Ok(rows(None, true)),
            Some(SagaState::Running) => self.engine.in_phase(Phase::Running),
            Some(SagaState::Unwinding) => self.engine.in_phase(Phase::Unwinding),
            Some(SagaState::Waiting) => {
                let waiting = self.engine.in_phase(Phase::Waiting);
                // So many that they are looked for among the rows anyway.
                let left = if waiting.len() > FEW_MAX { Vec::new() } else { self.left().await? };
                [waiting, left].concat()
            }
            Some(SagaState::Unreadable) => [self.left().await?, self.nobodys()].concat(),
            Some(SagaState::Elsewhere) => self.store.ids_of_others(FEW_MAX + 1).await?,
        };
        if ids.len() > FEW_MAX {
            return Ok(rows(Some(stored::SagaState::Unfinished), false));
        }
        let mut found = self.database.sagas_by_id(&ids).await?;
        found.retain(|row| wanted.kind.as_ref().is_none_or(|kind| row.kind == *kind));
        Ok(Candidates::These(found))
    }

    /// Its unfinished sagas that it does not execute: few, but for the moments of a start. If there are very many, so many of
    /// them that they are known to be. By their ids, and not by how many of each there are: an executor that has not noticed
    /// yet that its saga is another one's now would stand for one that nobody executes.
    async fn left(&self) -> Result<Vec<SagaId>, DatabaseError> {
        let executing: BTreeSet<SagaId> = self.engine.executing().into_iter().map(|key| key.id).collect();
        let ids = self.store.unfinished_ids(executing.len() + FEW_MAX + 1).await?;
        Ok(ids.into_iter().filter(|id| !executing.contains(id)).collect())
    }

    /// Those whose owner cannot be read, as of the last pass of recovery.
    fn nobodys(&self) -> Vec<SagaId> {
        let others = self.recovered.others();
        let nobodys = others.sagas.iter().filter(|saga| saga.owner.is_none());
        nobodys.filter_map(|saga| saga.id.parse().ok()).collect()
    }
}

impl Candidates {
    /// Some rows behind that place.
    async fn after(
        &self,
        sagas: &Sagas,
        after: Option<&SagaPosition>,
        at_once: u32,
    ) -> Result<Rows, DatabaseError> {
        match self {
            Candidates::These(rows) => {
                let is_behind = |row: &&SagaSummary| after.is_none_or(|after| row.position() < *after);
                Ok(Rows { rows: rows.iter().filter(is_behind).cloned().collect(), is_last: true })
            }
            Candidates::Rows(filter) => {
                // Not by their number: a row that does not say which saga it is was left out. So nothing is the end only
                // where it is nothing of as many rows as one request may go through.
                let mut rows = sagas.database.sagas(filter, after, at_once).await?;
                if rows.is_empty() {
                    rows = sagas.database.sagas(filter, after, ROWS_MAX_AT_ONCE).await?;
                    rows.truncate(at_once as usize);
                }
                let is_last = rows.is_empty();
                Ok(Rows { rows, is_last })
            }
        }
    }
}
