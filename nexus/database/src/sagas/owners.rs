//! Unfinished sagas by their owners: how many a coordinator has, and which are another one's.

use super::{
    DatabaseSagaStore,
    listing::{COLUMNS, SagaSummary, summary},
    unreadable::name_of,
};
use crate::{
    Database, DatabaseError,
    cluster::CoordinatorRow,
    error::during,
    rows::{key, optional_text, unsigned},
    sql::{Value, assembled, sql},
};
use ids::{CoordinatorId, SagaId};
use jiff::Timestamp;
use std::cmp::Reverse;

/// Sagas that are looked up by one statement at most.
const LOOKED_UP_MAX: usize = 500;

/// An unfinished saga of another coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OthersSaga {
    /// Which, as its row says.
    pub id: String,
    /// Whose; none if that cannot be read, and then no coordinator finds it.
    pub owner: Option<CoordinatorId>,
    /// When the newest line of its log was written, or else when it was created; none if that cannot be read.
    pub last_line: Option<Timestamp>,
}

impl DatabaseSagaStore {
    /// How many sagas of this coordinator have not ended.
    ///
    /// # Errors
    /// [`DatabaseError::Query`].
    pub async fn unfinished_count(&self) -> Result<u64, DatabaseError> {
        let operation = "count unfinished sagas";
        let query = sql("SELECT COUNT(*) AS sagas FROM saga WHERE owner = $1 AND state = 'unfinished'");
        let row = query.bind(key(&self.owner)).fetch_one(&self.database.read).await;
        unsigned(&row.map_err(during(operation))?, "sagas")
    }

    /// Which sagas of this coordinator have not ended, `limit` of them at most.
    ///
    /// # Errors
    /// [`DatabaseError::Query`].
    pub async fn unfinished_ids(&self, limit: usize) -> Result<Vec<SagaId>, DatabaseError> {
        self.ids("SELECT id FROM saga WHERE owner = $1 AND state = 'unfinished' ORDER BY id LIMIT $2", limit)
            .await
    }

    /// Which unfinished sagas are not this coordinator's, `limit` of them at most.
    ///
    /// # Errors
    /// [`DatabaseError::Query`].
    pub async fn ids_of_others(&self, limit: usize) -> Result<Vec<SagaId>, DatabaseError> {
        let query = "SELECT id FROM saga WHERE state = 'unfinished' AND (owner < $1 OR owner > $1) \
                     ORDER BY owner, id LIMIT $2";
        self.ids(query, limit).await
    }

    async fn ids(&self, query: &'static str, limit: usize) -> Result<Vec<SagaId>, DatabaseError> {
        let query = sql(query).bind(key(&self.owner)).bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = query.fetch_all(&self.database.read).await;
        let rows = rows.map_err(during("list unfinished sagas"))?;
        Ok(rows.iter().filter_map(|row| name_of(row, "id").parse().ok()).collect())
    }

    /// Unfinished sagas that are not this coordinator's, `limit` of them at most, by owner.
    ///
    /// # Errors
    /// [`DatabaseError::Query`].
    pub async fn of_others(&self, limit: u32) -> Result<Vec<OthersSaga>, DatabaseError> {
        // Two ranges of the index of unfinished ones: those of this coordinator are not gone through.
        let query = sql("SELECT id, owner, created_at, \
                         (SELECT MAX(written_at) FROM saga_event WHERE saga_event.saga_id = saga.id) AS last_line \
                         FROM saga WHERE state = 'unfinished' AND (owner < $1 OR owner > $1) \
                         ORDER BY owner, id LIMIT $2");
        let query = query.bind(key(&self.owner)).bind(i64::from(limit));
        let rows = query.fetch_all(&self.database.read).await;
        let rows = rows.map_err(during("list unfinished sagas of other coordinators"))?;
        let time = |row, column| optional_text(row, column).ok().flatten()?.parse().ok();
        let of_row = |row| OthersSaga {
            id: name_of(row, "id"),
            owner: name_of(row, "owner").parse().ok(),
            last_line: time(row, "last_line").or_else(|| time(row, "created_at")),
        };
        Ok(rows.iter().map(of_row).collect())
    }
}

impl DatabaseSagaStore {
    /// Every coordinator, by id.
    ///
    /// # Errors
    /// [`DatabaseError::Query`], [`DatabaseError::Corrupt`].
    pub async fn coordinators(&self) -> Result<Vec<CoordinatorRow>, DatabaseError> {
        self.database.coordinators().await
    }
}

impl Database {
    /// The rows of these sagas, newest first. Those that do not exist are left out.
    ///
    /// # Errors
    /// [`DatabaseError::Query`].
    pub async fn sagas_by_id(&self, ids: &[SagaId]) -> Result<Vec<SagaSummary>, DatabaseError> {
        let mut found = Vec::with_capacity(ids.len());
        for some in ids.chunks(LOOKED_UP_MAX) {
            let places: Vec<String> = (1..=some.len()).map(|number| format!("${number}")).collect();
            let text = format!("SELECT {COLUMNS} FROM saga WHERE id IN ({})", places.join(", "));
            let values: Vec<Value> = some.iter().map(|id| key(id).into()).collect();
            let rows = assembled(text.into(), values).fetch_all(&self.read).await;
            found.extend(rows.map_err(during("look sagas up"))?.iter().filter_map(summary));
        }
        found.sort_by_key(|saga| Reverse(saga.position()));
        Ok(found)
    }
}
