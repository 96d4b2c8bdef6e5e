//! What has ended long ago goes into an archive, and then out of the database.
//!
//! Batch by batch, oldest end first:
//!
//! | step | a crash after it leaves |
//! |---|---|
//! | read the rows of the batch with all that belongs to them | the database as it was |
//! | write them, one JSON document a line, compressed, to FILE.new; fsync | FILE.new, which the next run removes |
//! | FILE.new → FILE; fsync the directory | the batch in the archive *and* in the database: the next run archives it again |
//! | delete some of the batch, in one transaction | the rest of it in both |
//! | … until all of the batch is deleted | the batch in the archive |
//!
//! So a saga may be in more than one file, and never in none. Ended rows change no more: lines with the same `id` say the
//! same, and a reader takes any of them. Every file has a name that no other run gives, with the ends of its first and last
//! saga; so no file is ever replaced by one that has less.
//!
//! A file is a whole gzip stream of UTF-8 lines, [`LINE_FORMAT`] each: `zcat FILE | jq` reads it. What of a row is not
//! what its column says goes to the archive as it is, as text: a saga that cannot be read must not stay for ever.
//!
//! Deletions are small, because on SQLite everybody else's writes wait for them. They take what was archived and nothing else:
//! where a second run has deleted it meanwhile, somebody may have begun another saga of the same id, and even ended it. So
//! a row is deleted only if it has ended when the batch says, and what belongs to it only if it was.

use super::{
    rows::{json, loose},
    sizes::{parts, sizes},
};
use crate::{
    Database, DatabaseError,
    error::during,
    rows::{instant, optional_text, text, unsigned},
    sql::{Connection, Row, Statement, Value, assembled},
};
use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::{StepPoint, Storage, StorageError, write_atomically};
use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value as Json;
use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
};
use thiserror::Error;

/// The version of a line, in each of them.
pub const LINE_FORMAT: u32 = 1;

/// Sagas of one file at most; their [bytes](super::sizes) are limited too.
const BATCH_MAX: usize = 512;

/// Sagas that one transaction deletes at most: with their logs some thousand rows, some ten milliseconds.
const DELETE_MAX: usize = 64;

/// How its steps are announced to the disk.
const PROCEDURE: &str = "archive sagas";

/// What comes behind a name that is not final yet.
const TEMPORARY: &str = ".new";

const OPERATION: &str = "archive sagas";

/// A run that stopped. What it did is in the archive, and in the database as far as it was not deleted.
#[derive(Debug, Error)]
pub enum RetentionError {
    /// The database.
    #[error("cannot take ended sagas out of the database")]
    Database(#[source] DatabaseError),
    /// The archive.
    #[error("cannot write to the archive of sagas")]
    Archive(#[source] StorageError),
    /// Compressing in memory.
    #[error("cannot compress sagas")]
    Compress(#[source] io::Error),
    /// The task that writes the archive.
    #[error("the task that writes the archive of sagas has ended")]
    Task(#[source] tokio::task::JoinError),
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionReport {
    /// Files that were written, in order.
    pub files: Vec<Utf8PathBuf>,
    /// Sagas in them.
    pub archived: u64,
    /// Sagas that were deleted.
    pub pruned: u64,
}

/// One line of an archive.
#[derive(Debug, Serialize)]
struct ArchivedSaga {
    format: u32,
    id: String,
    /// The columns of the row and its definition.
    #[serde(flatten)]
    row: BTreeMap<&'static str, Json>,
    events: Vec<BTreeMap<&'static str, Json>>,
    marks: Vec<BTreeMap<&'static str, Json>>,
    signals: Vec<BTreeMap<&'static str, Json>>,
    timers: Vec<BTreeMap<&'static str, Json>>,
}

/// Sagas of one file.
struct Batch {
    /// Oldest end first; there is at least one.
    rows: Vec<EndedRow>,
    lines: Vec<ArchivedSaga>,
}

/// Which saga of which end.
#[derive(Clone, Debug)]
struct EndedRow {
    id: String,
    ended_at: String,
}

impl Database {
    /// Archives sagas that ended before `ended_before` in `archive`, and prunes them, at most `sagas_max` of them.
    ///
    /// # Errors
    /// It stopped, and may be run again.
    pub async fn archive_and_prune_sagas(
        &self,
        archive: &Arc<dyn Storage>,
        ended_before: Timestamp,
        sagas_max: u64,
    ) -> Result<RetentionReport, RetentionError> {
        let mut report = RetentionReport::default();
        let disk = Arc::clone(archive);
        on_disk(move || remove_leftovers(disk.as_ref())).await?;
        while report.archived < sagas_max {
            let wanted = usize::try_from(sagas_max - report.archived).unwrap_or(usize::MAX).min(BATCH_MAX);
            let batch = self.read_at_once(OPERATION, |mut tx| {
                Box::pin(async move { read(&mut tx, ended_before, wanted).await })
            });
            let Some(batch) = batch.await.map_err(RetentionError::Database)? else { break };
            report.archived += batch.lines.len() as u64;
            let rows = batch.rows.clone();
            let disk = Arc::clone(archive);
            report.files.push(on_disk(move || publish(&disk, &batch)).await?);
            for some in rows.chunks(DELETE_MAX) {
                report.pruned += self.delete(some).await.map_err(RetentionError::Database)?;
                let point = StepPoint { procedure: PROCEDURE, step: "pruned_some" };
                archive.reached(point).map_err(RetentionError::Archive)?;
            }
        }
        Ok(report)
    }

    /// Deletes these sagas with all that belongs to them, as far as they are still there.
    async fn delete(&self, ended: &[EndedRow]) -> Result<u64, DatabaseError> {
        let operation = "prune sagas";
        self.write_row_wise(operation, |mut tx| {
            Box::pin(async move {
                // First the rows that fence the others: after that nothing is added to them.
                let pruned = delete_rows(ended).fetch_all(&mut *tx).await.map_err(during(operation))?;
                let pruned: Vec<Value> =
                    pruned.iter().map(|row| text(row, "id").map(Value::from)).collect::<Result<_, _>>()?;
                if pruned.is_empty() {
                    return Ok(0);
                }
                for table in ["saga_definition", "saga_event", "saga_mark", "saga_signal", "saga_timer"] {
                    let places = places(1, pruned.len());
                    let text = format!("DELETE FROM {table} WHERE saga_id IN ({places})");
                    let delete = assembled(text.into(), pruned.clone());
                    delete.execute(&mut *tx).await.map_err(during(operation))?;
                }
                Ok(pruned.len() as u64)
            })
        })
        .await
    }
}

/// Ends are told apart by microseconds, so that of another saga of the same id is none of these.
fn delete_rows(ended: &[EndedRow]) -> Statement {
    let (ids, ends) = (places(1, ended.len()), places(ended.len() + 1, ended.len()));
    let text = format!(
        "DELETE FROM saga WHERE ended_at IS NOT NULL AND id IN ({ids}) AND ended_at IN ({ends}) RETURNING id"
    );
    let ids = ended.iter().map(|row| Value::from(&row.id));
    assembled(text.into(), ids.chain(ended.iter().map(|row| Value::from(&row.ended_at))).collect())
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RetentionError> + Send + 'static,
) -> Result<T, RetentionError> {
    tokio::task::spawn_blocking(work).await.map_err(RetentionError::Task)?
}

fn remove_leftovers(archive: &dyn Storage) -> Result<(), RetentionError> {
    for entry in archive.list(Utf8Path::new("")).map_err(RetentionError::Archive)? {
        if entry.name.ends_with(TEMPORARY) {
            archive.remove(Utf8Path::new(&entry.name)).map_err(RetentionError::Archive)?;
        }
    }
    Ok(())
}

fn publish(archive: &Arc<dyn Storage>, batch: &Batch) -> Result<Utf8PathBuf, RetentionError> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    for line in &batch.lines {
        writeln!(gzip, "{}", json(line)).map_err(RetentionError::Compress)?;
    }
    let bytes = gzip.finish().map_err(RetentionError::Compress)?;
    let ended = |row: Option<&EndedRow>| row.map(|row| row.ended_at.clone()).unwrap_or_default();
    let path = file_name(&ended(batch.rows.first()), &ended(batch.rows.last()));
    write_atomically(archive, PROCEDURE, &path, &bytes).map_err(RetentionError::Archive)?;
    Ok(path)
}

/// `sagas-FIRST-LAST-ID.jsonl.gz`: the times of the first and the last end, and what no other run has.
fn file_name(first: &str, last: &str) -> Utf8PathBuf {
    let short = |time: &str| -> String {
        let seconds = time.split('.').next().unwrap_or_default();
        seconds.chars().filter(|character| !matches!(character, '-' | ':')).collect()
    };
    format!("sagas-{}Z-{}Z-{}.jsonl.gz", short(first), short(last), uuid::Uuid::now_v7().simple()).into()
}

fn places(first: usize, count: usize) -> String {
    let places: Vec<String> = (first..first + count).map(|number| format!("${number}")).collect();
    places.join(", ")
}

/// The batch of those that ended first; none if none is left.
async fn read(
    connection: &mut Connection,
    ended_before: Timestamp,
    wanted: usize,
) -> Result<Option<Batch>, DatabaseError> {
    let rows = oldest(connection, ended_before, wanted).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let ids: Vec<Value> = rows.iter().map(|row| Value::from(&row.id)).collect();
    let query = format!(
        "SELECT id, owner, adoption_epoch, kind, version, state, created_at, ended_at, outcome, \
         creation, digest, params, dag \
         FROM saga LEFT JOIN saga_definition ON saga_definition.saga_id = saga.id \
         WHERE saga.id IN ({}) ORDER BY ended_at, id",
        places(1, ids.len())
    );
    let found = assembled(query.into(), ids.clone()).fetch_all(&mut *connection).await;
    let found = found.map_err(during(OPERATION))?;
    let mut lines = found.iter().map(archived).collect::<Result<Vec<_>, _>>()?;
    let all = BTreeMap::from_iter(lines.iter().enumerate().map(|(at, line)| (line.id.clone(), at)));
    for part in &PARTS {
        let columns = part.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ");
        let Part { table, order, .. } = part;
        let query = format!(
            "SELECT saga_id, {columns} FROM {table} WHERE saga_id IN ({}) ORDER BY saga_id, {order}",
            places(1, ids.len())
        );
        let rows = assembled(query.into(), ids.clone()).fetch_all(&mut *connection).await;
        for row in rows.map_err(during(OPERATION))? {
            if let Some(at) = all.get(&text(&row, "saga_id")?) {
                (part.of)(&mut lines[*at]).push(read_columns(&row, part.columns));
            }
        }
    }
    Ok(Some(Batch { rows, lines }))
}

/// Those that ended first, as many as go into one file. Left out is a row whose id is no text: nothing that belongs to it can
/// be found.
async fn oldest(
    connection: &mut Connection,
    ended_before: Timestamp,
    wanted: usize,
) -> Result<Vec<EndedRow>, DatabaseError> {
    let query = "SELECT id, ended_at FROM saga WHERE ended_at IS NOT NULL AND ended_at < $1 \
                 ORDER BY ended_at, id LIMIT $2";
    let limit = i64::try_from(wanted).unwrap_or(i64::MAX);
    let query = assembled(query.into(), vec![instant(ended_before).into(), limit.into()]);
    let rows = query.fetch_all(&mut *connection).await.map_err(during(OPERATION))?;
    let ended =
        |row: &Row| Some(EndedRow { id: text(row, "id").ok()?, ended_at: text(row, "ended_at").ok()? });
    let rows: Vec<EndedRow> = rows.iter().filter_map(ended).collect();
    if rows.is_empty() {
        return Ok(rows);
    }
    let ids: Vec<Value> = rows.iter().map(|row| Value::from(&row.id)).collect();
    let bytes = sizes(connection, &ids).await?;
    let parts = parts(&rows, |row| bytes.get(&row.id).copied().unwrap_or_default());
    Ok(parts.first().map_or_else(Vec::new, |part| part.to_vec()))
}

/// A table whose rows belong to sagas.
struct Part {
    table: &'static str,
    order: &'static str,
    columns: &'static [Column],
    of: fn(&mut ArchivedSaga) -> &mut Vec<BTreeMap<&'static str, Json>>,
}

struct Column {
    name: &'static str,
    holds: Holds,
}

#[derive(Clone, Copy)]
enum Holds {
    Number,
    Text,
    Document,
}

const fn column(name: &'static str, holds: Holds) -> Column {
    Column { name, holds }
}

const PARTS: [Part; 4] = [
    Part {
        table: "saga_event",
        order: "written_at, node, event",
        columns: &[
            column("node", Holds::Number),
            column("event", Holds::Text),
            column("body", Holds::Document),
            column("adoption_epoch", Holds::Number),
            column("written_at", Holds::Text),
        ],
        of: |saga| &mut saga.events,
    },
    Part {
        table: "saga_mark",
        order: "written_at, digest",
        columns: &[column("mark", Holds::Document), column("written_at", Holds::Text)],
        of: |saga| &mut saga.marks,
    },
    Part {
        table: "saga_signal",
        order: "name",
        columns: &[
            column("name", Holds::Text),
            column("value", Holds::Document),
            column("written_at", Holds::Text),
        ],
        of: |saga| &mut saga.signals,
    },
    Part {
        table: "saga_timer",
        order: "name",
        columns: &[column("name", Holds::Text), column("due", Holds::Text)],
        of: |saga| &mut saga.timers,
    },
];

const ROW: [Column; 12] = [
    column("owner", Holds::Text),
    column("adoption_epoch", Holds::Number),
    column("kind", Holds::Text),
    column("version", Holds::Number),
    column("state", Holds::Text),
    column("created_at", Holds::Text),
    column("ended_at", Holds::Text),
    column("outcome", Holds::Document),
    column("creation", Holds::Text),
    column("digest", Holds::Text),
    column("params", Holds::Document),
    column("dag", Holds::Document),
];

fn archived(row: &Row) -> Result<ArchivedSaga, DatabaseError> {
    Ok(ArchivedSaga {
        format: LINE_FORMAT,
        id: text(row, "id")?,
        row: read_columns(row, &ROW),
        events: Vec::new(),
        marks: Vec::new(),
        signals: Vec::new(),
        timers: Vec::new(),
    })
}

fn read_columns(row: &Row, columns: &[Column]) -> BTreeMap<&'static str, Json> {
    let value = |column: &Column| {
        let as_meant = match column.holds {
            Holds::Number => unsigned(row, column.name).map(Json::from),
            Holds::Text => optional_text(row, column.name).map(Json::from),
            Holds::Document => optional_text(row, column.name).map(|text| text.map_or(Json::Null, loose)),
        };
        as_meant.unwrap_or_else(|_| as_it_is(row, column.name))
    };
    columns.iter().map(|column| (column.name, value(column))).collect()
}

/// What is not what its column says, as it is there.
fn as_it_is(row: &Row, column: &'static str) -> Json {
    let number = || row.try_get::<i64>(column).ok().map(Json::from);
    let text = || row.try_get::<String>(column).ok().map(Json::from);
    let bytes = || row.try_get::<Vec<u8>>(column).ok().map(|bytes| String::from_utf8_lossy(&bytes).into());
    number().or_else(text).or_else(bytes).unwrap_or(Json::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DatabaseSagaStore, Location, rows::now, sql::sql};
    use ids::{AdoptionEpoch, CoordinatorId, SagaId};
    use nexus_saga_recovery::SagaKey;
    use nexus_sagas::{EndState, NewSaga, NodeEvent, SagaStore, Written};

    async fn created(store: &DatabaseSagaStore, id: SagaId) -> SagaKey {
        let key = SagaKey { id, epoch: AdoptionEpoch::default() };
        let (kind, digest) = ("pruned".to_owned(), "00".repeat(32));
        let (params, dag, creation) = (Json::Null, Json::Null, uuid::Uuid::new_v4());
        let row = NewSaga { key, creation, kind, version: 1, digest, params, dag, created: now() };
        store.create(&row).await.unwrap();
        let line = NodeEvent { node: 0, event: "started".to_owned(), body: Json::Null };
        assert_eq!(store.append(key, &[line]).await, Ok(Written::Now));
        key
    }

    async fn ended(store: &DatabaseSagaStore, id: SagaId) {
        let key = created(store, id).await;
        let end = EndState::Succeeded { output: Json::Null };
        assert_eq!(store.end(key, &end, &[]).await, Ok(Written::Now));
    }

    async fn read_batch(database: &Database) -> Batch {
        let batch = database.read_at_once(OPERATION, |mut tx| {
            Box::pin(async move { read(&mut tx, Timestamp::MAX, BATCH_MAX).await })
        });
        batch.await.unwrap().unwrap()
    }

    /// Two passes have read the same batch; the other one has pruned it, and then somebody begins a saga of a pruned id.
    async fn a_saga_of_a_pruned_id_is_left_alone_by_a_pass_that_is_late(location: Location) {
        let database = Database::open(location).await.unwrap();
        let store = DatabaseSagaStore::new(database.clone(), CoordinatorId::generate(), 1);
        let [begun_again, ended_again, gone, there] = [(); 4].map(|()| SagaId::generate());
        for id in [begun_again, ended_again, gone, there] {
            ended(&store, id).await;
        }
        let late = read_batch(&database).await;
        let mut pruned = read_batch(&database).await;
        pruned.rows.retain(|row| row.id != there.to_string());
        assert_eq!(database.delete(&pruned.rows).await.unwrap(), 3);
        let key = created(&store, begun_again).await;
        ended(&store, ended_again).await;

        assert_eq!(database.delete(&late.rows).await.unwrap(), 1);
        let loaded = store.load_readable(&[begun_again, ended_again, gone, there]).await.unwrap();
        assert!(loaded.partly.is_empty(), "{loaded:?}");
        assert_eq!(loaded.sagas.len(), 2);
        assert_eq!(loaded.sagas.iter().find(|saga| saga.end.is_none()).unwrap().row.key, key);
        assert!(loaded.sagas.iter().all(|saga| saga.events.len() == 1));
        for table in ["saga_definition", "saga_event"] {
            let text = format!("SELECT COUNT(*) AS rows_left FROM {table}");
            let row = sql(text.leak()).fetch_one(&database.read).await.unwrap();
            assert_eq!(unsigned(&row, "rows_left").unwrap(), 2, "{table}");
        }
    }

    #[tokio::test]
    async fn a_saga_of_a_pruned_id_is_left_alone_by_a_pass_that_is_late_on_sqlite() {
        let dir = camino_tempfile::tempdir().unwrap();
        let location = Location::Sqlite(dir.path().join("nexus.db"));
        a_saga_of_a_pruned_id_is_left_alone_by_a_pass_that_is_late(location).await;
    }

    #[tokio::test]
    async fn a_saga_of_a_pruned_id_is_left_alone_by_a_pass_that_is_late_on_postgres() {
        let Some(server) = test_postgres::fresh_database().unwrap() else { return };
        let location = Location::parse(&server.url, Some(&server.password_file), Utf8Path::new("nexus.db"));
        a_saga_of_a_pruned_id_is_left_alone_by_a_pass_that_is_late(location.unwrap()).await;
    }
}
