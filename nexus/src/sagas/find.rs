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
const ROWS_MAX: usize = 5_000;

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
    /// Among these rows of the database; and whether all of them are what is asked for.
    Rows(SagaFilter, bool),
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
            let Rows { rows, is_last } = candidates.after(self, after.as_ref(), limit).await?;
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
        let rows = |state, needs_attention, all| {
            let filter = SagaFilter { kind: wanted.kind.clone(), state, needs_attention, since: None };
            Candidates::Rows(filter, all)
        };
        let ids = match wanted.state {
            None | Some(SagaState::Unrecognized) => return Ok(rows(None, false, true)),
            Some(SagaState::Succeeded) => return Ok(rows(Some(stored::SagaState::Succeeded), false, true)),
            Some(SagaState::Failed) => return Ok(rows(Some(stored::SagaState::Failed), false, true)),
            Some(SagaState::Abandoned) => return Ok(rows(Some(stored::SagaState::Abandoned), false, true)),
            // In memory it is known a moment before it is durable: then it is not listed yet.
            Some(SagaState::NeedsAttention) => return Ok(rows(None, true, false)),
            Some(SagaState::Running) => self.engine.in_phase(Phase::Running),
            Some(SagaState::Unwinding) => self.engine.in_phase(Phase::Unwinding),
            Some(SagaState::Waiting) => [self.engine.in_phase(Phase::Waiting), self.left().await?].concat(),
            Some(SagaState::Unreadable) => [self.left().await?, self.nobodys().await?].concat(),
            Some(SagaState::Elsewhere) => self.of_others(|_| true).await?,
        };
        if ids.len() > FEW_MAX {
            return Ok(rows(Some(stored::SagaState::Unfinished), false, false));
        }
        let mut found = self.database.sagas_by_id(&ids).await?;
        found.retain(|row| wanted.kind.as_ref().is_none_or(|kind| row.kind == *kind));
        Ok(Candidates::These(found))
    }

    /// Its unfinished sagas that it does not execute: few, but for the moments of a start.
    async fn left(&self) -> Result<Vec<SagaId>, DatabaseError> {
        let executing: BTreeSet<SagaId> = self.engine.executing().into_iter().map(|key| key.id).collect();
        if self.store.unfinished_count().await? == executing.len() as u64 {
            return Ok(Vec::new());
        }
        let ids = self.store.unfinished_ids().await?;
        Ok(ids.into_iter().filter(|id| !executing.contains(id)).collect())
    }

    /// Those whose owner cannot be read.
    async fn nobodys(&self) -> Result<Vec<SagaId>, DatabaseError> {
        self.of_others(|saga| saga.owner.is_none()).await
    }

    async fn of_others(
        &self,
        is_meant: impl Fn(&stored::OthersSaga) -> bool,
    ) -> Result<Vec<SagaId>, DatabaseError> {
        let limit = u32::try_from(FEW_MAX + 1).unwrap_or(u32::MAX);
        let others = self.store.of_others(limit).await?;
        Ok(others.iter().filter(|saga| is_meant(saga)).filter_map(|saga| saga.id.parse().ok()).collect())
    }
}

impl Candidates {
    /// Some rows behind that place.
    async fn after(
        &self,
        sagas: &Sagas,
        after: Option<&SagaPosition>,
        wanted: u32,
    ) -> Result<Rows, DatabaseError> {
        match self {
            Candidates::These(rows) => {
                let is_behind = |row: &&SagaSummary| after.is_none_or(|after| row.position() < *after);
                Ok(Rows { rows: rows.iter().filter(is_behind).cloned().collect(), is_last: true })
            }
            Candidates::Rows(filter, all) => {
                let limit = if *all { wanted } else { READ_ROWS.max(wanted) };
                let rows = sagas.database.sagas(filter, after, limit).await?;
                // Not by their number: a row that does not say which saga it is was left out.
                let is_last = rows.is_empty();
                Ok(Rows { rows, is_last })
            }
        }
    }
}
