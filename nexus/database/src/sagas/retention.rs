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
//! Deletions are small, because on SQLite everybody else's writes wait for them.

use super::rows::{json, loose};
use crate::{
    Database, DatabaseError,
    error::during,
    rows::{instant, optional_text, text, unsigned},
    sql::{Connection, Row, Value, assembled},
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

/// Sagas of one file at most: with their logs some ten megabytes in memory.
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
    ids: Vec<Value>,
    first: String,
    last: String,
    lines: Vec<ArchivedSaga>,
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
            let ids = batch.ids.clone();
            let disk = Arc::clone(archive);
            report.files.push(on_disk(move || publish(&disk, &batch)).await?);
            for some in ids.chunks(DELETE_MAX) {
                report.pruned += self.delete(some).await.map_err(RetentionError::Database)?;
                let point = StepPoint { procedure: PROCEDURE, step: "pruned_some" };
                archive.reached(point).map_err(RetentionError::Archive)?;
            }
        }
        Ok(report)
    }

    /// Deletes sagas that have ended, with all that belongs to them.
    async fn delete(&self, ids: &[Value]) -> Result<u64, DatabaseError> {
        let operation = "prune sagas";
        let delete = move |of: &str| {
            assembled(format!("DELETE FROM {of} IN ({})", places(1, ids.len())).into(), ids.to_vec())
        };
        self.write_row_wise(operation, |mut tx| {
            Box::pin(async move {
                // First the rows that fence the others: after that nothing is added to them.
                let pruned = delete("saga WHERE ended_at IS NOT NULL AND id").execute(&mut *tx).await;
                let pruned = pruned.map_err(during(operation))?;
                for table in ["saga_definition", "saga_event", "saga_mark", "saga_signal", "saga_timer"] {
                    let of = format!("{table} WHERE saga_id");
                    delete(&of).execute(&mut *tx).await.map_err(during(operation))?;
                }
                Ok(pruned)
            })
        })
        .await
    }
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
    let path = file_name(&batch.first, &batch.last);
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
    let query = "SELECT id, owner, adoption_epoch, kind, version, state, created_at, ended_at, outcome, \
                 creation, digest, params, dag \
                 FROM saga LEFT JOIN saga_definition ON saga_definition.saga_id = saga.id \
                 WHERE ended_at IS NOT NULL AND ended_at < $1 ORDER BY ended_at, id LIMIT $2";
    let limit = i64::try_from(wanted).unwrap_or(i64::MAX);
    let query = assembled(query.into(), vec![instant(ended_before).into(), limit.into()]);
    let rows = query.fetch_all(&mut *connection).await.map_err(during(OPERATION))?;
    let mut lines: Vec<ArchivedSaga> = rows.iter().filter_map(archived).collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let ended = |row: Option<&Row>| row.and_then(|row| text(row, "ended_at").ok()).unwrap_or_default();
    let (first, last) = (ended(rows.first()), ended(rows.last()));
    let ids: Vec<Value> = lines.iter().map(|line| line.id.as_str().into()).collect();
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
    Ok(Some(Batch { ids, first, last, lines }))
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

/// None for a row whose id is no text: nothing that belongs to it can be found.
fn archived(row: &Row) -> Option<ArchivedSaga> {
    Some(ArchivedSaga {
        format: LINE_FORMAT,
        id: text(row, "id").ok()?,
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
