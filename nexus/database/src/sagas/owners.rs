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
    rows::{key, optional_text},
    sql::{Value, assembled},
};
use ids::{CoordinatorId, SagaId};
use jiff::Timestamp;
use std::{cmp::Reverse, collections::BTreeSet};

/// Sagas that are looked up by one statement at most.
const LOOKED_UP_MAX: usize = 500;

/// Of the unfinished ones, those whose owner is no coordinator that is there: nobody executes them. There are few owners, and
/// they are looked for by one step each.
const OF_NOBODY: &str = "owner IN (\
     WITH RECURSIVE owners (name) AS (\
     SELECT MIN(owner) FROM saga WHERE state = 'unfinished' UNION ALL \
     SELECT (SELECT MIN(owner) FROM saga WHERE state = 'unfinished' AND owner > owners.name) \
     FROM owners WHERE owners.name IS NOT NULL) \
     SELECT name FROM owners WHERE name IS NOT NULL AND name <> $1 \
     AND NOT EXISTS (SELECT 1 FROM coordinator WHERE coordinator.id = owners.name))";

/// What is told of each.
const TOLD: &str = "id, owner, created_at, \
     (SELECT MAX(written_at) FROM saga_event WHERE saga_event.saga_id = saga.id) AS last_line";

/// The first `$2` unfinished ones whose owner is nobody. `$1` is this coordinator.
fn of_nobody(columns: &str) -> String {
    format!(
        "SELECT {columns} FROM saga WHERE state = 'unfinished' AND {OF_NOBODY} ORDER BY owner, id LIMIT $2"
    )
}

/// The first `$2` unfinished ones of others: two ranges of the index, so that this coordinator's own (`$1`) are not gone
/// through.
fn of_others(columns: &str) -> String {
    let those = |range| format!("SELECT {columns} FROM saga WHERE state = 'unfinished' AND owner {range} $1");
    format!("{} UNION ALL {} ORDER BY owner, id LIMIT $2", those("<"), those(">"))
}

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
    /// Which sagas of this coordinator have not ended, `limit` of them at most.
    ///
    /// # Errors
    /// [`DatabaseError::Query`].
    pub async fn unfinished_ids(&self, limit: usize) -> Result<Vec<SagaId>, DatabaseError> {
        let ours = "SELECT id FROM saga WHERE owner = $1 AND state = 'unfinished' ORDER BY id LIMIT $2";
        self.ids(ours.to_owned(), limit).await
    }

    /// Which unfinished sagas are not this coordinator's, `limit` of them at most: first those whose owner is nobody.
    ///
    /// # Errors
    /// [`DatabaseError::Query`].
    pub async fn ids_of_others(&self, limit: usize) -> Result<Vec<SagaId>, DatabaseError> {
        let mut ids = self.ids(of_nobody("id, owner"), limit).await?;
        let found: BTreeSet<_> = ids.iter().copied().collect();
        let theirs = self.ids(of_others("id, owner"), limit).await?;
        ids.extend(theirs.into_iter().filter(|id| !found.contains(id)));
        ids.truncate(limit);
        Ok(ids)
    }

    async fn ids(&self, query: String, limit: usize) -> Result<Vec<SagaId>, DatabaseError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let query = assembled(query.into(), vec![key(&self.owner).into(), limit.into()]);
        let rows = query.fetch_all(&self.database.read).await;
        let rows = rows.map_err(during("list unfinished sagas"))?;
        Ok(rows.iter().filter_map(|row| name_of(row, "id").parse().ok()).collect())
    }

    /// Unfinished sagas that are not this coordinator's, `limit` of them at most: first those whose owner is nobody, then the
    /// others, by owner.
    ///
    /// # Errors
    /// [`DatabaseError::Query`].
    pub async fn of_others(&self, limit: u32) -> Result<Vec<OthersSaga>, DatabaseError> {
        let mut sagas = self.others(of_nobody(TOLD), limit).await?;
        let found: BTreeSet<_> = sagas.iter().map(|saga| saga.id.clone()).collect();
        let theirs = self.others(of_others(TOLD), limit).await?;
        sagas.extend(theirs.into_iter().filter(|saga| !found.contains(&saga.id)));
        sagas.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(sagas)
    }

    async fn others(&self, text: String, limit: u32) -> Result<Vec<OthersSaga>, DatabaseError> {
        let query = assembled(text.into(), vec![key(&self.owner).into(), i64::from(limit).into()]);
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
    /// Every coordinator whose row can be read, by id.
    ///
    /// # Errors
    /// [`DatabaseError::Query`].
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{rows::text, sql::Row};

    /// Each is found by steps and ranges of the index, in its order: where nothing is to be found, nothing is gone through.
    #[tokio::test]
    async fn sagas_of_others_are_read_from_the_index_of_owners() {
        let dir = camino_tempfile::tempdir().unwrap();
        let database = Database::open(dir.path().join("nexus.db").as_path()).await.unwrap();
        for (query, ranges) in [
            (of_nobody("id, owner"), vec!["(state=? AND owner=?)", "(state=? AND owner>?)"]),
            (of_others("id, owner"), vec!["(state=? AND owner<?)", "(state=? AND owner>?)"]),
            (of_others(TOLD), vec!["(state=? AND owner<?)", "(state=? AND owner>?)"]),
        ] {
            let explain = format!("EXPLAIN QUERY PLAN {query}");
            let rows =
                assembled(explain.into(), vec!["x".into(), 1_i64.into()]).fetch_all(&database.read).await;
            let detail = |row: &Row| text(row, "detail").unwrap() + "\n";
            let plan: String = rows.unwrap().iter().map(detail).collect();
            for range in ranges {
                assert!(plan.contains(&format!("INDEX saga_unfinished {range}")), "{query}: {plan}");
            }
            assert!(!plan.contains("TEMP B-TREE") && !plan.contains("saga_by_state"), "{query}: {plan}");
        }
    }
}
