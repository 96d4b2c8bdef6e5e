//! Sagas as an operator looks at them: pages of them, one with all that belongs to it, its log, how many there are.
//!
//! Pages go on after a place in the order ([`SagaPosition`]), never after a number of rows: what is added or pruned meanwhile
//! neither repeats nor hides anything. Each combination of filters has an index that has exactly its rows in the order of the
//! page, so that a page costs its own rows, with a million others beside them. With a kind and no state, the page is merged
//! from those of the four states: rather than one more index, which every saga would have to be written to.
//!
//! **Counts** are exact for what is unfinished: that is what runs, some thousands at most. What has ended is counted up to a
//! limit, and then told as "at least": to count a million index entries takes a tenth of a second each time that somebody
//! looks, and to keep counters would mean a row that every end of a saga has to write, one after the other.

use super::rows::{document, loose, node_event, optional_document, saga_key, small};
use crate::{
    Database, DatabaseError,
    error::during,
    rows::{instant, key, optional_text, parsed, signed, text, unsigned},
    sql::{Connection, Row, Value, assembled, sql},
};
use ids::{AdoptionEpoch, CoordinatorId, SagaId};
use jiff::Timestamp;
use nexus_saga_recovery::SagaKey;
use nexus_sagas::{Attention, EndState, Mark, NodeEvent};
use serde_json::Value as Json;
use std::{cmp::Reverse, collections::BTreeMap, fmt, str::FromStr};

/// What a saga's row says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SagaState {
    /// It has not ended: it runs, or waits to be recovered.
    Unfinished,
    /// Every node has succeeded.
    Succeeded,
    /// A node has failed, and every effect is undone.
    Failed,
    /// A node has failed, and an operator has given up on undoing the rest.
    Abandoned,
}

impl SagaState {
    /// Every state.
    pub const ALL: [SagaState; 4] =
        [SagaState::Unfinished, SagaState::Succeeded, SagaState::Failed, SagaState::Abandoned];

    /// As it is kept.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SagaState::Unfinished => "unfinished",
            SagaState::Succeeded => "succeeded",
            SagaState::Failed => "failed",
            SagaState::Abandoned => "abandoned",
        }
    }
}

impl fmt::Display for SagaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SagaState {
    type Err = ();

    fn from_str(name: &str) -> Result<SagaState, ()> {
        SagaState::ALL.into_iter().find(|state| state.name() == name).ok_or(())
    }
}

/// Which sagas are listed. The default: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SagaFilter {
    /// Of this kind only.
    pub kind: Option<String>,
    /// In this state only.
    pub state: Option<SagaState>,
    /// Only those that wait for an operator.
    pub needs_attention: bool,
    /// Only those that were created then or later.
    pub since: Option<Timestamp>,
}

/// A place in the order of lists, newest first: the next page is what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SagaPosition {
    /// When the last one was created, in microseconds.
    pub created: Timestamp,
    /// The last one.
    pub id: SagaId,
}

/// A row of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SagaSummary {
    /// Which, and how often it was adopted.
    pub key: SagaKey,
    /// Whose it is.
    pub owner: CoordinatorId,
    /// The kind's name.
    pub kind: String,
    /// The version of its definition.
    pub version: u32,
    /// Whether and how it has ended.
    pub state: SagaState,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The node that failed first.
    pub end_node: Option<String>,
    /// Why that node failed.
    pub end_error: Option<String>,
    /// Why it waits for an operator.
    pub attention: Option<Attention>,
}

impl SagaSummary {
    /// Its place in the order.
    #[must_use]
    pub fn position(&self) -> SagaPosition {
        SagaPosition { created: self.created, id: self.key.id }
    }
}

/// One saga with what belongs to it, but for its log, which may be long.
#[derive(Clone, Debug, PartialEq)]
pub struct SagaDetail {
    /// Its row.
    pub summary: SagaSummary,
    /// The digest of its plan.
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
}

/// A line of a saga's log.
#[derive(Clone, Debug, PartialEq)]
pub struct SagaEvent {
    /// The line.
    pub event: NodeEvent,
    /// Under which adoption it was written.
    pub epoch: AdoptionEpoch,
    /// When.
    pub written: Timestamp,
}

impl SagaEvent {
    /// Its place in the order: by time, then node and event.
    #[must_use]
    pub fn position(&self) -> SagaEventPosition {
        SagaEventPosition { written: self.written, node: self.event.node, event: self.event.event.clone() }
    }
}

/// A place in a saga's log: the next page is what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SagaEventPosition {
    /// When the last line was written, in microseconds.
    pub written: Timestamp,
    /// Its node.
    pub node: u32,
    /// Its event.
    pub event: String,
}

/// How many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SagaCounts {
    /// Of each state.
    pub states: BTreeMap<SagaState, SagaCount>,
    /// Unfinished ones that wait for an operator.
    pub needs_attention: u64,
}

/// How many, as far as they were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SagaCount {
    /// So many.
    pub count: u64,
    /// Or more.
    pub is_at_least: bool,
}

const COLUMNS: &str =
    "id, adoption_epoch, owner, kind, version, state, created_at, ended_at, end_node, end_error, attention";

impl Database {
    /// A page of sagas, newest first.
    ///
    /// # Errors
    /// [`DatabaseError::Query`], [`DatabaseError::Corrupt`].
    pub async fn sagas(
        &self,
        filter: &SagaFilter,
        after: Option<SagaPosition>,
        limit: u32,
    ) -> Result<Vec<SagaSummary>, DatabaseError> {
        let operation = "list sagas";
        let states: Vec<Option<SagaState>> = match (filter.state, &filter.kind) {
            (None, Some(_)) if !filter.needs_attention => SagaState::ALL.into_iter().map(Some).collect(),
            (state, _) => vec![state],
        };
        let states = &states;
        let found = self.read_at_once(operation, |mut tx| {
            Box::pin(async move {
                let mut found = Vec::new();
                for state in states {
                    let (text, values) = page(filter, *state, after, limit);
                    let rows = assembled(text.into(), values).fetch_all(&mut *tx).await;
                    for row in rows.map_err(during(operation))? {
                        found.push(summary(&row)?);
                    }
                }
                Ok(found)
            })
        });
        let mut found = found.await?;
        // What is too old comes last, so it costs nothing to have read it; with a lower bound beside the upper one, SQLite's
        // planner takes a worse index.
        found.retain(|saga| filter.since.is_none_or(|since| saga.created >= since));
        found.sort_by_key(|saga| Reverse(saga.position()));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }

    /// One saga.
    ///
    /// # Errors
    /// [`DatabaseError::Query`], [`DatabaseError::Corrupt`].
    pub async fn saga(&self, id: SagaId) -> Result<Option<SagaDetail>, DatabaseError> {
        self.read_at_once("read a saga", |mut tx| Box::pin(async move { detail(&mut tx, id).await })).await
    }

    /// A page of a saga's log, in the order of time.
    ///
    /// # Errors
    /// [`DatabaseError::Query`], [`DatabaseError::Corrupt`].
    pub async fn saga_events(
        &self,
        id: SagaId,
        after: Option<&SagaEventPosition>,
        limit: u32,
    ) -> Result<Vec<SagaEvent>, DatabaseError> {
        let all = "SELECT node, event, body, adoption_epoch, written_at FROM saga_event WHERE saga_id = $1";
        let order = "ORDER BY written_at, node, event LIMIT";
        let (text, values) = match after {
            None => (format!("{all} {order} $2"), Vec::new()),
            Some(SagaEventPosition { written, node, event }) => (
                format!("{all} AND (written_at, node, event) > ($2, $3, $4) {order} $5"),
                vec![instant(*written).into(), i64::from(*node).into(), event.into()],
            ),
        };
        let values = [vec![key(&id).into()], values, vec![i64::from(limit).into()]].concat();
        let rows = assembled(text.into(), values).fetch_all(&self.read).await;
        rows.map_err(during("read the log of a saga"))?.iter().map(event).collect()
    }

    /// How many sagas there are. What has ended is counted up to `ended_max` for each state.
    ///
    /// # Errors
    /// [`DatabaseError::Query`].
    pub async fn saga_counts(&self, ended_max: u64) -> Result<SagaCounts, DatabaseError> {
        let operation = "count sagas";
        self.read_at_once(operation, |mut tx| {
            Box::pin(async move {
                let mut states = BTreeMap::new();
                for state in SagaState::ALL {
                    let max = if state == SagaState::Unfinished { i64::MAX } else { signed(ended_max) };
                    let query = sql(COUNT).bind(state.name()).bind(max.saturating_add(1));
                    let row = query.fetch_one(&mut *tx).await.map_err(during(operation))?;
                    let count = unsigned(&row, "sagas")?;
                    let is_at_least = count > max.unsigned_abs();
                    states.insert(state, SagaCount { count: count.min(max.unsigned_abs()), is_at_least });
                }
                let waiting = sql("SELECT COUNT(*) AS sagas FROM saga WHERE attention IS NOT NULL");
                let row = waiting.fetch_one(&mut *tx).await.map_err(during(operation))?;
                Ok(SagaCounts { states, needs_attention: unsigned(&row, "sagas")? })
            })
        })
        .await
    }
}

/// The order has no use but that it is the index's: PostgreSQL then stops at the limit.
const COUNT: &str = "SELECT COUNT(*) AS sagas FROM \
                     (SELECT 1 FROM saga WHERE state = $1 ORDER BY created_at, id LIMIT $2) AS counted";

/// The statement of one page, of one state or of all.
fn page(
    filter: &SagaFilter,
    state: Option<SagaState>,
    after: Option<SagaPosition>,
    limit: u32,
) -> (String, Vec<Value>) {
    let mut conditions = vec!["1 = 1".to_owned()];
    let mut values: Vec<Value> = Vec::new();
    let mut place = |value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    if let Some(kind) = &filter.kind {
        conditions.push(format!("kind = {}", place(kind.into())));
    }
    if let Some(state) = state {
        conditions.push(format!("state = {}", place(state.name().into())));
    }
    if filter.needs_attention {
        conditions.push("attention IS NOT NULL".to_owned());
    }
    if let Some(SagaPosition { created, id }) = after {
        let (created, id) = (place(instant(created).into()), place(key(&id).into()));
        conditions.push(format!("(created_at, id) < ({created}, {id})"));
    }
    let limit = place(i64::from(limit).into());
    let conditions = conditions.join(" AND ");
    let order = "ORDER BY created_at DESC, id DESC LIMIT";
    (format!("SELECT {COLUMNS} FROM saga WHERE {conditions} {order} {limit}"), values)
}

fn summary(row: &Row) -> Result<SagaSummary, DatabaseError> {
    let ended = match optional_text(row, "ended_at")? {
        None => None,
        Some(_) => Some(parsed(row, "ended_at")?),
    };
    Ok(SagaSummary {
        key: saga_key(row)?,
        owner: parsed(row, "owner")?,
        kind: text(row, "kind")?,
        version: small(row, "version")?,
        state: parsed(row, "state")?,
        created: parsed(row, "created_at")?,
        ended,
        end_node: optional_text(row, "end_node")?,
        end_error: optional_text(row, "end_error")?,
        attention: optional_document(row, "attention")?,
    })
}

fn event(row: &Row) -> Result<SagaEvent, DatabaseError> {
    Ok(SagaEvent {
        event: node_event(row)?,
        epoch: AdoptionEpoch(unsigned(row, "adoption_epoch")?),
        written: parsed(row, "written_at")?,
    })
}

async fn detail(connection: &mut Connection, id: SagaId) -> Result<Option<SagaDetail>, DatabaseError> {
    let text_of = format!(
        "SELECT {COLUMNS}, digest, params, outcome, \
         (SELECT COUNT(*) FROM saga_event WHERE saga_event.saga_id = saga.id) AS events \
         FROM saga JOIN saga_definition ON saga_definition.saga_id = saga.id WHERE saga.id = $1"
    );
    let query = assembled(text_of.into(), vec![key(&id).into()]);
    let row = query.fetch_optional(&mut *connection).await.map_err(during("read a saga"))?;
    let Some(row) = row else { return Ok(None) };
    let mut all = async |query: &'static str| {
        let rows = sql(query).bind(key(&id)).fetch_all(&mut *connection).await;
        rows.map_err(during("read what belongs to a saga"))
    };
    let marks = all("SELECT mark FROM saga_mark WHERE saga_id = $1 ORDER BY written_at, digest").await?;
    let signals = all("SELECT name, value FROM saga_signal WHERE saga_id = $1").await?;
    let timers = all("SELECT name, due FROM saga_timer WHERE saga_id = $1").await?;
    Ok(Some(SagaDetail {
        summary: summary(&row)?,
        digest: text(&row, "digest")?,
        params: loose(text(&row, "params")?),
        end: optional_document(&row, "outcome")?,
        marks: marks.iter().map(|row| document(row, "mark")).collect::<Result<_, _>>()?,
        signals: signals
            .iter()
            .map(|row| Ok((text(row, "name")?, document(row, "value")?)))
            .collect::<Result<_, DatabaseError>>()?,
        timers: timers
            .iter()
            .map(|row| Ok((text(row, "name")?, parsed(row, "due")?)))
            .collect::<Result<_, DatabaseError>>()?,
        events: unsigned(&row, "events")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How SQLite would go about each statement of an operator's view and of recovery.
    async fn plan(database: &Database, text: &str, values: Vec<Value>) -> String {
        let explain = format!("EXPLAIN QUERY PLAN {text}");
        let rows = assembled(explain.into(), values).fetch_all(&database.read).await.unwrap();
        rows.iter().map(|row| text_of(row) + "\n").collect()
    }

    fn text_of(row: &Row) -> String {
        text(row, "detail").unwrap()
    }

    #[tokio::test]
    async fn each_page_is_read_from_an_index_in_its_order() {
        let dir = camino_tempfile::tempdir().unwrap();
        let database = Database::open(dir.path().join("nexus.db").as_path()).await.unwrap();
        let after = SagaPosition { created: Timestamp::UNIX_EPOCH, id: SagaId::generate() };
        let filters = [
            (None, None, false, "saga_by_time"),
            (None, Some(SagaState::Failed), false, "saga_by_state"),
            (Some("demo"), Some(SagaState::Failed), false, "saga_by_kind"),
            (None, None, true, "saga_attention"),
        ];
        for (kind, state, needs_attention, index) in filters {
            for after in [None, Some(after)] {
                let kind = kind.map(str::to_owned);
                let filter = SagaFilter { kind, state, needs_attention, since: None };
                let (text, values) = page(&filter, state, after, 10);
                let plan = plan(&database, &text, values).await;
                assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{filter:?}: {plan}");
            }
        }
        let unfinished = "SELECT id, adoption_epoch, kind, version FROM saga \
                          WHERE owner = $1 AND state = 'unfinished' ORDER BY id";
        let plan = plan(&database, unfinished, vec!["x".into()]).await;
        assert!(plan.contains("saga_unfinished") && !plan.contains("TEMP B-TREE"), "{plan}");
    }
}
