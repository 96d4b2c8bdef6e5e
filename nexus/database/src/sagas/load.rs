//! Many sagas with their logs, in few queries: recovery loads thousands at once.
//!
//! Sagas go in chunks, of so many and so many bytes, and each chunk is read in one transaction: of a saga, the row and its
//! log are of one moment. A saga of which something cannot be read keeps no other from being recovered: it comes apart from
//! them, with what can be read.

use super::{
    DatabaseSagaStore,
    rows::{document, optional_document, saga_key, small},
    sizes::{parts, sizes},
    unreadable::{Reading, Unreadable, name_of, words},
};
use crate::{
    Database, DatabaseError,
    connect::READERS_MAX,
    error::during,
    rows::{corrupt, key, parsed, text},
    sql::{Connection, Row, Value, assembled},
};
use ids::SagaId;
use jiff::Timestamp;
use nexus_saga_recovery::SagaKey;
use nexus_sagas::{Mark, NewSaga, NodeEvent, StoredSaga};
use serde_json::Value as Json;
use std::{collections::BTreeMap, panic::resume_unwind, sync::Arc};
use tokio::task::JoinSet;
use uuid::Uuid;

/// Sagas of one chunk at most, and its [bytes](super::sizes) are limited too.
const CHUNK_MAX: usize = 512;

/// Chunks that are loaded at once. One of SQLite's readers is left for everybody else.
const LOADERS: usize = READERS_MAX as usize - 1;

const OPERATION: &str = "load sagas";

const ROWS: &str = "SELECT id, adoption_epoch, kind, version, created_at, outcome, attention, creation, digest, params, dag \
                    FROM saga LEFT JOIN saga_definition ON saga_definition.saga_id = saga.id WHERE saga.id IN ";
const EVENTS: &str = "SELECT saga_id, node, event, body FROM saga_event WHERE saga_id IN ";
/// As they were written: which of two nodes has failed first is told by nothing else.
const EVENTS_ORDER: &str = " ORDER BY saga_id, written_at, node, event";
const MARKS: &str = "SELECT saga_id, digest, mark FROM saga_mark WHERE saga_id IN ";

/// Every event that a log may have.
pub(super) const EVENT_NAMES: [&str; 6] =
    ["started", "succeeded", "failed", "undo_started", "undo_finished", "undo_failed"];

/// Stands for a node that may have left something, and whose name is lost with its line.
const NAMELESS_NODE: &str = "(a node whose line of the log cannot be read)";

/// Stands for a node that may have been marked as not undone.
const NAMELESS_MARK: &str = "(perhaps a node: a mark cannot be read)";

/// Sagas with their logs.
#[derive(Clone, Debug, Default)]
pub struct LoadedSagas {
    /// All of each was read.
    pub sagas: Vec<StoredSaga>,
    /// Of these it was not: nobody can execute them on.
    pub partly: Vec<PartlyRead>,
}

/// A saga of which something cannot be read.
#[derive(Clone, Debug)]
pub struct PartlyRead {
    /// What can be read; for the rest stands what is empty. Of its log stands here whatever may have left something: a line
    /// whose event is lost is that of a beginning, and a line or a mark whose node is lost is a node not undone.
    pub readable: StoredSaga,
    /// What cannot.
    pub unreadable: Unreadable,
}

/// While a chunk is put together.
struct Loading {
    saga: StoredSaga,
    reading: Reading,
}

type Chunk = BTreeMap<SagaId, Loading>;

impl DatabaseSagaStore {
    /// Many sagas with their logs, in few queries, those too that can be read in part only. Left out are those that do not
    /// exist, and rows that do not even say which saga under which adoption they are.
    ///
    /// # Errors
    /// [`DatabaseError::Query`].
    pub async fn load_readable(&self, sagas: &[SagaId]) -> Result<LoadedSagas, DatabaseError> {
        let mut chunks = sagas.chunks(CHUNK_MAX);
        let mut loading = JoinSet::new();
        for chunk in chunks.by_ref().take(LOADERS) {
            loading.spawn(load_some(self.database.clone(), chunk.to_vec()));
        }
        let mut all = LoadedSagas::default();
        while let Some(loaded) = loading.join_next().await {
            for one in loaded.unwrap_or_else(|error| resume_unwind(error.into_panic()))?.into_values() {
                let Loading { saga, reading } = one;
                match reading.finish() {
                    None => all.sagas.push(saga),
                    Some(unreadable) => all.partly.push(PartlyRead { readable: saga, unreadable }),
                }
            }
            if let Some(chunk) = chunks.next() {
                loading.spawn(load_some(self.database.clone(), chunk.to_vec()));
            }
        }
        Ok(all)
    }
}

/// As many as one chunk has by their number. One by one chunk if they are large.
async fn load_some(database: Database, sagas: Vec<SagaId>) -> Result<Chunk, DatabaseError> {
    let ids = &values(&sagas);
    let measured =
        database.read_at_once(OPERATION, |mut tx| Box::pin(async move { sizes(&mut tx, ids).await }));
    let bytes = measured.await?;
    let mut all = Chunk::new();
    for chunk in parts(&sagas, |id| bytes.get(&key(id)).copied().unwrap_or_default()) {
        all.extend(load_chunk(&database, &values(chunk)).await?);
    }
    Ok(all)
}

async fn load_chunk(database: &Database, ids: &[Value]) -> Result<Chunk, DatabaseError> {
    let loaded = database.read_at_once(OPERATION, |mut tx| {
        Box::pin(async move {
            let rows = fetch(&mut tx, ROWS, ids, "").await?;
            let events = fetch(&mut tx, EVENTS, ids, EVENTS_ORDER).await?;
            Ok((rows, events, fetch(&mut tx, MARKS, ids, "").await?))
        })
    });
    let (rows, events, marks) = loaded.await?;
    Ok(assemble(&rows, &events, &marks))
}

/// Their ids, filled up to a power of two with the last one, so that there are few texts of statements.
fn values(chunk: &[SagaId]) -> Vec<Value> {
    let mut values: Vec<Value> = chunk.iter().map(|id| key(id).into()).collect();
    if let Some(last) = values.last().cloned() {
        values.resize(values.len().next_power_of_two(), last);
    }
    values
}

async fn fetch(
    connection: &mut Connection,
    query: &'static str,
    ids: &[Value],
    order: &'static str,
) -> Result<Vec<Row>, DatabaseError> {
    let places: Vec<String> = (1..=ids.len()).map(|number| format!("${number}")).collect();
    let text: Arc<str> = format!("{query}({}){order}", places.join(", ")).into();
    assembled(text, ids.to_vec()).fetch_all(connection).await.map_err(during(OPERATION))
}

fn assemble(rows: &[Row], events: &[Row], marks: &[Row]) -> Chunk {
    let mut sagas = Chunk::new();
    for row in rows {
        match saga_key(row) {
            Ok(key) => drop(sagas.insert(key.id, stored(row, key))),
            Err(error) => {
                tracing::error!(
                    saga = name_of(row, "id"),
                    error = words(&error),
                    "the row of a saga has no key"
                );
            }
        }
    }
    for row in events {
        add(&mut sagas, row, |one| one.add_event(row));
    }
    for row in marks {
        add(&mut sagas, row, |one| one.add_mark(row));
    }
    sagas
}

fn add(sagas: &mut Chunk, row: &Row, add: impl FnOnce(&mut Loading)) {
    // Found by its id, so it has one.
    if let Some(one) = parsed(row, "saga_id").ok().and_then(|id: SagaId| sagas.get_mut(&id)) {
        add(one);
    }
}

fn stored(row: &Row, key: SagaKey) -> Loading {
    let id = key.id.to_string();
    let (saga, definition) = (("saga", id.as_str()), ("saga_definition", id.as_str()));
    let mut reading = Reading::default();
    let row = StoredSaga {
        row: NewSaga {
            key,
            kind: reading.or(saga, text(row, "kind"), String::new()),
            version: reading.or(saga, small(row, "version"), 0),
            created: reading.or(saga, parsed(row, "created_at"), Timestamp::UNIX_EPOCH),
            creation: reading.or(definition, parsed(row, "creation"), Uuid::nil()),
            digest: reading.or(definition, text(row, "digest"), String::new()),
            params: reading.or(definition, document(row, "params"), Json::Null),
            dag: reading.or(definition, document(row, "dag"), Json::Null),
        },
        events: Vec::new(),
        marks: Vec::new(),
        attention: reading.or(saga, optional_document(row, "attention"), None),
        end: reading.or(saga, optional_document(row, "outcome"), None),
    };
    Loading { saga: row, reading }
}

impl Loading {
    fn add_event(&mut self, row: &Row) {
        let id = self.saga.row.key.id;
        let node = small(row, "node");
        let event = text(row, "event").and_then(|event| {
            if EVENT_NAMES.contains(&event.as_str()) { Ok(event) } else { Err(corrupt("event", &event)) }
        });
        let number = node.as_ref().map_or_else(|_| "(node)".to_owned(), ToString::to_string);
        let line = format!("{id} {number} {}", name_of(row, "event"));
        let place = ("saga_event", line.as_str());
        let event = self.reading.or(place, event, "started".to_owned());
        let body = self.reading.or(place, document(row, "body"), Json::Null);
        match self.reading.some(place, node) {
            Some(node) => self.saga.events.push(NodeEvent { node, event, body }),
            None => self.saga.marks.push(Mark::UndoSkipped { node: NAMELESS_NODE.to_owned() }),
        }
    }

    fn add_mark(&mut self, row: &Row) {
        let line = format!("{} {}", self.saga.row.key.id, name_of(row, "digest"));
        let lost = Mark::UndoSkipped { node: NAMELESS_MARK.to_owned() };
        let mark = self.reading.or(("saga_mark", &line), document(row, "mark"), lost);
        self.saga.marks.push(mark);
    }
}
