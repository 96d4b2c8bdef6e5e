//! The cluster's identity, its coordinators and their epochs.

use crate::{
    Database, DatabaseError,
    error::{during, words},
    rows::{self, key, now, of_table, parsed, text},
    sql::{Row, sql},
    wanted,
};
use ids::{ClusterId, CoordinatorId};
use jiff::Timestamp;

/// One coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorRow {
    /// Its id.
    pub id: CoordinatorId,
    /// Its name.
    pub name: String,
    /// Higher than that of every earlier start, of this coordinator and of the others. What sleds are told as
    /// `executor_epoch`: of two coordinators, or two lives of one, the one that started last is heard.
    pub epoch: u64,
    /// The program's version.
    pub version: String,
    /// When it started last.
    pub started_at: Timestamp,
}

/// Gives a new database its cluster. A second coordinator that comes first loses nothing: the row is there once.
pub(crate) async fn ensure(database: &Database) -> Result<(), DatabaseError> {
    let operation = "create the cluster";
    let (id, created_at) = (ClusterId::generate(), now());
    database
        .write(operation, |mut tx| {
            Box::pin(async move {
                sql("INSERT INTO cluster (singleton, id, generation, wanted_digest, created_at)
                 VALUES (1, $1, 1, $2, $3) ON CONFLICT (singleton) DO NOTHING")
                .bind(key(&id))
                .bind(wanted::digest(&[]))
                .bind(key(&created_at))
                .execute(&mut *tx)
                .await
                .map(drop)
                .map_err(during(operation))
            })
        })
        .await
}

impl Database {
    /// The cluster that this database is of.
    pub async fn cluster_id(&self) -> Result<ClusterId, DatabaseError> {
        let row =
            sql("SELECT id FROM cluster").fetch_one(&self.read).await.map_err(during("read the cluster"))?;
        of_table(&row, ("cluster", "id"), |row| parsed(row, "id"))
    }

    /// Records that a coordinator starts, under an epoch that no earlier start had.
    ///
    /// # Errors
    /// [`DatabaseError::CorruptRow`] where a row has an epoch that no start can follow; [`DatabaseError::Query`],
    /// [`DatabaseError::CommitUnknown`].
    pub async fn coordinator_start(
        &self,
        id: CoordinatorId,
        name: &str,
        version: &str,
    ) -> Result<CoordinatorRow, DatabaseError> {
        let operation = "record the coordinator's start";
        let started_at = now();
        self.write(operation, |mut tx| {
            Box::pin(async move {
                let latest = sql("SELECT id, epoch FROM coordinator ORDER BY epoch DESC LIMIT 1");
                if let Some(row) = latest.fetch_optional(&mut *tx).await.map_err(during(operation))? {
                    of_table(&row, ("coordinator", "id"), |row| rows::epoch(row, "epoch"))?;
                }
                let row = sql("INSERT INTO coordinator (id, name, epoch, version, started_at) 
                 SELECT $1, $2, COALESCE(MAX(epoch), 0) + 1, $3, $4 FROM coordinator WHERE TRUE
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name, epoch = excluded.epoch,
                     version = excluded.version, started_at = excluded.started_at
                 RETURNING id, name, epoch, version, started_at")
                .bind(key(&id))
                .bind(name)
                .bind(version)
                .bind(key(&started_at))
                .fetch_one(&mut *tx)
                .await
                .map_err(during(operation))?;
                read_coordinator(&row)
            })
        })
        .await
    }

    /// Every coordinator, by id, whose row can be read: one that cannot hides no other, and nothing of theirs. `nexus db check`
    /// names it.
    pub async fn coordinators(&self) -> Result<Vec<CoordinatorRow>, DatabaseError> {
        let rows = sql("SELECT id, name, epoch, version, started_at FROM coordinator ORDER BY id")
            .fetch_all(&self.read)
            .await
            .map_err(during("list coordinators"))?;
        Ok(rows.iter().filter_map(readable_coordinator).collect())
    }
}

fn readable_coordinator(row: &Row) -> Option<CoordinatorRow> {
    let read = read_coordinator(row);
    read.inspect_err(|error| {
        tracing::error!(error = words(error), "the row of a coordinator cannot be read, it is left out");
    })
    .ok()
}

fn read_coordinator(row: &Row) -> Result<CoordinatorRow, DatabaseError> {
    of_table(row, ("coordinator", "id"), read_coordinator_values)
}

fn read_coordinator_values(row: &Row) -> Result<CoordinatorRow, DatabaseError> {
    Ok(CoordinatorRow {
        id: parsed(row, "id")?,
        name: text(row, "name")?,
        epoch: rows::epoch(row, "epoch")?,
        version: text(row, "version")?,
        started_at: parsed(row, "started_at")?,
    })
}
