//! One saga as an operator looks at it: with all that belongs to it, and its log. What of it cannot be read is left empty or
//! shown as it is, and said: an operator looks most closely where something is wrong.

use super::{
    listing::{COLUMNS, SagaSummary, summary},
    rows::{document, loose, optional_document, small},
    unreadable::{Reading, Unreadable, name_of},
};
use crate::{
    Database, DatabaseError,
    error::during,
    rows::{corrupt, key, optional_text, parsed, text, unsigned},
    sql::{Connection, Row, assembled, sql},
};
use ids::{AdoptionEpoch, SagaId};
use jiff::Timestamp;
use nexus_sagas::{EndState, Mark, NodeEvent};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// One saga with what belongs to it, but for its log, which may be long.
#[derive(Clone, Debug, PartialEq)]
pub struct SagaDetail {
    /// Its row.
    pub summary: SagaSummary,
    /// The digest of its plan; empty if there is no definition.
    pub digest: String,
    /// Its parameters.
    pub params: Json,
    /// How it has ended, with its output.
    pub end: Option<EndState>,
    /// What was noted.
    pub marks: Vec<Mark>,
    /// Signals that were kept for it.
    pub signals: BTreeMap<String, Json>,
    /// Its timers.
    pub timers: BTreeMap<String, Timestamp>,
    /// Lines of its log.
    pub events: u64,
    /// What cannot be read, of its row or of what belongs to it. What is no JSON of the rest is here as text.
    pub unreadable: Option<Unreadable>,
}

/// A line of a saga's log.
#[derive(Clone, Debug, PartialEq)]
pub struct SagaEvent {
    /// Its place in the log, from 1: by time, then node and event.
    pub number: u64,
    /// The line.
    pub event: NodeEvent,
    /// Under which adoption it was written.
    pub epoch: AdoptionEpoch,
    /// When.
    pub written: Timestamp,
}

/// A page of a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SagaLog {
    /// Its lines, as far as they say their node, their event and their time. A body that is no JSON is here as text.
    pub lines: Vec<SagaEvent>,
    /// What cannot be read, by the number of the line, whether the rest of it is among the lines or not.
    pub lost: BTreeMap<u64, Unreadable>,
    /// Whether more follow.
    pub more: bool,
}

impl SagaLog {
    /// What of the page cannot be read.
    #[must_use]
    pub fn unreadable(&self) -> Option<Unreadable> {
        let mut reading = Reading::default();
        self.lost.values().for_each(|lost| reading.also(Some(lost)));
        reading.finish()
    }
}

impl Database {
    /// One saga.
    ///
    /// # Errors
    /// [`DatabaseError::Query`].
    pub async fn saga(&self, id: SagaId) -> Result<Option<SagaDetail>, DatabaseError> {
        self.read_at_once("read a saga", |mut tx| Box::pin(async move { detail(&mut tx, id).await })).await
    }

    /// A page of a saga's log, in the order of time: at most so many lines behind the first `after`. Counted, and not told by
    /// what the last one says, so that one that cannot be read does not end the log: its lines are few, and only added.
    ///
    /// # Errors
    /// [`DatabaseError::Query`].
    pub async fn saga_events(&self, id: SagaId, after: u64, limit: u32) -> Result<SagaLog, DatabaseError> {
        let query = sql("SELECT node, event, body, adoption_epoch, written_at FROM saga_event \
                         WHERE saga_id = $1 ORDER BY written_at, node, event LIMIT $2 OFFSET $3");
        // One more tells whether more follow.
        let query = query.bind(key(&id)).bind(i64::from(limit) + 1);
        let rows = query.bind(i64::try_from(after).unwrap_or(i64::MAX)).fetch_all(&self.read).await;
        let mut rows = rows.map_err(during("read the log of a saga"))?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut log = SagaLog { more: rows.len() > limit, ..SagaLog::default() };
        rows.truncate(limit);
        for (behind, row) in (1..).zip(&rows) {
            let number = after.saturating_add(behind);
            let mut reading = Reading::default();
            log.lines.extend(event(row, (id, number), &mut reading));
            log.lost.extend(reading.finish().map(|lost| (number, lost)));
        }
        Ok(log)
    }
}

fn event(row: &Row, (saga, number): (SagaId, u64), reading: &mut Reading) -> Option<SagaEvent> {
    let name = format!("{saga} {}", name_of(row, "event"));
    let place = ("saga_event", name.as_str());
    let body = reading.or(place, text(row, "body"), String::new());
    let (body, no_json) = shown("body", body);
    if let Some(error) = no_json {
        reading.note(place, &error);
    }
    let line = || -> Result<SagaEvent, DatabaseError> {
        Ok(SagaEvent {
            number,
            event: NodeEvent { node: small(row, "node")?, event: text(row, "event")?, body },
            epoch: AdoptionEpoch(unsigned(row, "adoption_epoch")?),
            written: parsed(row, "written_at")?,
        })
    };
    reading.some(place, line())
}

/// A document, or its text and what is wrong with it.
fn shown(column: &'static str, text: String) -> (Json, Option<DatabaseError>) {
    match serde_json::from_str(&text) {
        Ok(document) => (document, None),
        Err(_) => {
            let error = corrupt(column, &text);
            (loose(text), Some(error))
        }
    }
}

async fn detail(connection: &mut Connection, id: SagaId) -> Result<Option<SagaDetail>, DatabaseError> {
    let text_of = format!(
        "SELECT {COLUMNS}, digest, params, dag, outcome, \
         (SELECT COUNT(*) FROM saga_event WHERE saga_event.saga_id = saga.id) AS events \
         FROM saga LEFT JOIN saga_definition ON saga_definition.saga_id = saga.id WHERE saga.id = $1"
    );
    let query = assembled(text_of.into(), vec![key(&id).into()]);
    let row = query.fetch_optional(&mut *connection).await.map_err(during("read a saga"))?;
    let Some(row) = row else { return Ok(None) };
    let mut all = async |query: &'static str| {
        let rows = sql(query).bind(key(&id)).fetch_all(&mut *connection).await;
        rows.map_err(during("read what belongs to a saga"))
    };
    let marks =
        all("SELECT digest, mark FROM saga_mark WHERE saga_id = $1 ORDER BY written_at, digest").await?;
    let signals = all("SELECT name, value FROM saga_signal WHERE saga_id = $1").await?;
    let timers = all("SELECT name, due FROM saga_timer WHERE saga_id = $1").await?;
    let Some(summary) = summary(&row) else { return Ok(None) };
    Ok(Some(of_rows(summary, &row, &marks, &signals, &timers)))
}

fn of_rows(summary: SagaSummary, row: &Row, marks: &[Row], signals: &[Row], timers: &[Row]) -> SagaDetail {
    let id = summary.key.id.to_string();
    let mut reading = Reading::default();
    reading.also(summary.unreadable.as_ref());
    let definition = ("saga_definition", id.as_str());
    let digest = reading.or(definition, text(row, "digest"), String::new());
    let params = reading.or(definition, document(row, "params"), Json::Null);
    let params = if params.is_null() { as_text(row, "params") } else { params };
    // Recovery executes it by its graph; it is not shown.
    reading.or(definition, document::<Json>(row, "dag").map(drop), ());
    let named = |row: &Row, column| format!("{id} {}", name_of(row, column));
    let mark = |row: &Row| reading.some(("saga_mark", &named(row, "digest")), document(row, "mark"));
    let marks = marks.iter().filter_map(mark).collect();
    let mut kept = BTreeMap::new();
    for row in signals {
        let value = document(row, "value");
        let value = reading.some(("saga_signal", &named(row, "name")), value);
        kept.insert(name_of(row, "name"), value.unwrap_or_else(|| as_text(row, "value")));
    }
    let timer = |row: &Row| {
        let due = reading.some(("saga_timer", &named(row, "name")), parsed(row, "due"));
        due.map(|due| (name_of(row, "name"), due))
    };
    let timers = timers.iter().filter_map(timer).collect();
    let end = reading.or(("saga", &id), optional_document(row, "outcome"), None);
    let events = reading.or(("saga", &id), unsigned(row, "events"), 0);
    SagaDetail {
        summary,
        digest,
        params,
        end,
        marks,
        signals: kept,
        timers,
        events,
        unreadable: reading.finish(),
    }
}

/// What is no document, as far as it is text.
fn as_text(row: &Row, column: &'static str) -> Json {
    optional_text(row, column).ok().flatten().map_or(Json::Null, loose)
}
