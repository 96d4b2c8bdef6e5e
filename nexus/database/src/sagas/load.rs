//! Many sagas with their logs, in few queries: recovery loads thousands at once.
//!
//! Sagas go in chunks, and each chunk is read in one transaction: of a saga, the row and its log are of one moment. A saga
//! of which something cannot be read is left out, with a word in the log: it must not keep the others from being recovered.

use super::{
    DatabaseSagaStore,
    rows::{document, new_saga, node_event, optional_document},
};
use crate::{
    Database, DatabaseError,
    connect::READERS_MAX,
    error::during,
    rows::{key, parsed},
    sql::{Connection, Row, Value, assembled},
};
use ids::SagaId;
use nexus_sagas::StoredSaga;
use std::{collections::BTreeMap, panic::resume_unwind, sync::Arc};
use tokio::task::JoinSet;

/// Sagas of one chunk at most. With some 40 events each, an answer has a few megabytes.
const CHUNK_MAX: usize = 512;

/// Chunks that are loaded at once. One of SQLite's readers is left for everybody else.
const LOADERS: usize = READERS_MAX as usize - 1;

const OPERATION: &str = "load sagas";

const ROWS: &str = "SELECT id, adoption_epoch, kind, version, created_at, outcome, attention, creation, digest, params, dag \
                    FROM saga JOIN saga_definition ON saga_definition.saga_id = saga.id WHERE saga.id IN ";
const EVENTS: &str = "SELECT saga_id, node, event, body FROM saga_event WHERE saga_id IN ";
const MARKS: &str = "SELECT saga_id, mark FROM saga_mark WHERE saga_id IN ";

type Chunk = BTreeMap<SagaId, StoredSaga>;

impl DatabaseSagaStore {
    pub(super) async fn load_all(&self, sagas: &[SagaId]) -> Result<Vec<StoredSaga>, DatabaseError> {
        let mut chunks = sagas.chunks(CHUNK_MAX);
        let mut loading = JoinSet::new();
        for chunk in chunks.by_ref().take(LOADERS) {
            loading.spawn(load_chunk(self.database.clone(), values(chunk)));
        }
        let mut all = Vec::with_capacity(sagas.len());
        while let Some(loaded) = loading.join_next().await {
            all.extend(loaded.unwrap_or_else(|error| resume_unwind(error.into_panic()))?.into_values());
            if let Some(chunk) = chunks.next() {
                loading.spawn(load_chunk(self.database.clone(), values(chunk)));
            }
        }
        Ok(all)
    }
}

async fn load_chunk(database: Database, ids: Vec<Value>) -> Result<Chunk, DatabaseError> {
    let ids = &ids;
    let loaded = database.read_at_once(OPERATION, |mut tx| {
        Box::pin(async move {
            let rows = fetch(&mut tx, ROWS, ids).await?;
            let events = fetch(&mut tx, EVENTS, ids).await?;
            Ok((rows, events, fetch(&mut tx, MARKS, ids).await?))
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
) -> Result<Vec<Row>, DatabaseError> {
    let places: Vec<String> = (1..=ids.len()).map(|number| format!("${number}")).collect();
    let text: Arc<str> = format!("{query}({})", places.join(", ")).into();
    assembled(text, ids.to_vec()).fetch_all(connection).await.map_err(during(OPERATION))
}

fn assemble(rows: &[Row], events: &[Row], marks: &[Row]) -> Chunk {
    let mut sagas = Chunk::new();
    for row in rows {
        match stored(row) {
            Ok(saga) => drop(sagas.insert(saga.row.key.id, saga)),
            Err(error) => leave_out(&mut sagas, row, "id", &error),
        }
    }
    for row in events {
        if let Err(error) = add(&mut sagas, row, |saga| node_event(row).map(|event| saga.events.push(event)))
        {
            leave_out(&mut sagas, row, "saga_id", &error);
        }
    }
    for row in marks {
        if let Err(error) =
            add(&mut sagas, row, |saga| document(row, "mark").map(|mark| saga.marks.push(mark)))
        {
            leave_out(&mut sagas, row, "saga_id", &error);
        }
    }
    sagas
}

fn stored(row: &Row) -> Result<StoredSaga, DatabaseError> {
    Ok(StoredSaga {
        row: new_saga(row)?,
        events: Vec::new(),
        marks: Vec::new(),
        attention: optional_document(row, "attention")?,
        end: optional_document(row, "outcome")?,
    })
}

fn add(
    sagas: &mut Chunk,
    row: &Row,
    add: impl FnOnce(&mut StoredSaga) -> Result<(), DatabaseError>,
) -> Result<(), DatabaseError> {
    sagas.get_mut(&parsed(row, "saga_id")?).map_or(Ok(()), add)
}

fn leave_out(sagas: &mut Chunk, row: &Row, column: &'static str, error: &DatabaseError) {
    let saga = crate::rows::text(row, column).unwrap_or_default();
    tracing::error!(saga, %error, "a saga cannot be read, it is left out");
    if let Ok(id) = saga.parse::<SagaId>() {
        sagas.remove(&id);
    }
}
