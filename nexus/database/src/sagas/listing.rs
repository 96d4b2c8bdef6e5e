//! Sagas as an operator looks at them: pages of them, and how many there are.
//!
//! Pages go on after a place in the order ([`SagaPosition`]), never after a number of rows: what is added or pruned meanwhile
//! neither repeats nor hides anything. Each combination of filters has an index that has exactly its rows in the order of the
//! page, so that a page costs its own rows, with a million others beside them. With a kind and no state, the page is merged
//! from those of the four states: rather than one more index, which every saga would have to be written to.
//!
//! **Counts** are exact for what is unfinished: that is what runs, some thousands at most. What has ended is counted up to a
//! limit, and then told as "at least": to count a million index entries takes a tenth of a second each time that somebody
//! looks, and to keep counters would mean a row that every end of a saga has to write, one after the other.

use super::{
    rows::{optional_document, saga_epoch, small},
    unreadable::{Reading, Unreadable, name_of, words},
};
use crate::{
    Database, DatabaseError,
    error::during,
    rows::{instant, key, optional_text, parsed, signed, text, unsigned},
    sql::{Row, Value, assembled, sql},
};
use ids::{AdoptionEpoch, CoordinatorId, SagaId};
use jiff::Timestamp;
use nexus_saga_recovery::SagaKey;
use nexus_sagas::Attention;
use serde::{Deserialize, Serialize};
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

/// A place in the order of lists, newest first: the next page is what follows it. As the database keeps it, whether it can be
/// read or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SagaPosition {
    /// When the last one was created.
    pub created: String,
    /// The last one.
    pub id: String,
}

impl SagaPosition {
    /// Where a saga of this time is.
    #[must_use]
    pub fn of(created: Timestamp, id: SagaId) -> SagaPosition {
        SagaPosition { created: instant(created), id: key(&id) }
    }
}

/// A row of a list. What of it cannot be read is empty, and named in `unreadable`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SagaSummary {
    /// Which, and how often it was adopted; never, if that cannot be read.
    pub key: SagaKey,
    /// Whose it is; none if that cannot be read.
    pub owner: Option<CoordinatorId>,
    /// The kind's name.
    pub kind: String,
    /// The version of its definition; from 1.
    pub version: u32,
    /// Whether and how it has ended; unfinished, if that cannot be read.
    pub state: SagaState,
    /// When it was asked for; none if that cannot be read.
    pub created: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The node that failed first.
    pub end_node: Option<String>,
    /// Why that node failed.
    pub end_error: Option<String>,
    /// Why it waits for an operator.
    pub attention: Option<Attention>,
    /// What of its row cannot be read.
    pub unreadable: Option<Unreadable>,
    position: SagaPosition,
}

impl SagaSummary {
    /// Its place in the order.
    #[must_use]
    pub fn position(&self) -> SagaPosition {
        self.position.clone()
    }
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

pub(super) const COLUMNS: &str =
    "id, adoption_epoch, owner, kind, version, state, created_at, ended_at, end_node, end_error, attention";

impl Database {
    /// A page of sagas, newest first.
    ///
    /// # Errors
    /// [`DatabaseError::Query`].
    pub async fn sagas(
        &self,
        filter: &SagaFilter,
        after: Option<&SagaPosition>,
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
                    found.extend(rows.map_err(during(operation))?.iter().filter_map(summary));
                }
                Ok(found)
            })
        });
        let mut found = found.await?;
        // What is too old comes last, so it costs nothing to have read it; with a lower bound beside the upper one, SQLite's
        // planner takes a worse index.
        found.retain(|saga| filter.since.is_none_or(|since| saga.position.created >= instant(since)));
        found.sort_by_key(|saga| Reverse(saga.position()));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
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
    after: Option<&SagaPosition>,
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
        let (created, id) = (place(created.into()), place(id.into()));
        conditions.push(format!("(created_at, id) < ({created}, {id})"));
    }
    let limit = place(i64::from(limit).into());
    let conditions = conditions.join(" AND ");
    let order = "ORDER BY created_at DESC, id DESC LIMIT";
    (format!("SELECT {COLUMNS} FROM saga WHERE {conditions} {order} {limit}"), values)
}

/// None, and a word in the log, for a row that does not even have an id and a place in the order.
pub(super) fn summary(row: &Row) -> Option<SagaSummary> {
    let read = || -> Result<_, DatabaseError> {
        let position = SagaPosition { created: text(row, "created_at")?, id: text(row, "id")? };
        Ok((parsed(row, "id")?, position))
    };
    match read() {
        Ok((id, position)) => Some(summary_of(row, id, position)),
        Err(error) => {
            let row = name_of(row, "id");
            tracing::error!(row, error = words(&error), "a row of the table saga cannot be listed");
            None
        }
    }
}

fn summary_of(row: &Row, id: SagaId, position: SagaPosition) -> SagaSummary {
    let name = position.id.clone();
    let place = ("saga", name.as_str());
    let mut reading = Reading::default();
    let ended = optional_text(row, "ended_at").and_then(|ended| match ended {
        None => Ok(None),
        Some(_) => parsed(row, "ended_at").map(Some),
    });
    let mut summary = SagaSummary {
        key: SagaKey { id, epoch: reading.or(place, saga_epoch(row), AdoptionEpoch::default()) },
        owner: reading.some(place, parsed(row, "owner")),
        kind: reading.or(place, text(row, "kind"), String::new()),
        version: reading.or(place, small(row, "version"), 0),
        state: reading.or(place, parsed(row, "state"), SagaState::Unfinished),
        created: reading.some(place, parsed(row, "created_at")),
        ended: reading.or(place, ended, None),
        end_node: reading.or(place, optional_text(row, "end_node"), None),
        end_error: reading.or(place, optional_text(row, "end_error"), None),
        attention: reading.or(place, optional_document(row, "attention"), None),
        unreadable: None,
        position,
    };
    summary.unreadable = reading.finish();
    summary
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
        let after = SagaPosition::of(Timestamp::UNIX_EPOCH, SagaId::generate());
        let filters = [
            (None, None, false, "saga_by_time"),
            (None, Some(SagaState::Failed), false, "saga_by_state"),
            (Some("demo"), Some(SagaState::Failed), false, "saga_by_kind"),
            (None, None, true, "saga_attention"),
        ];
        for (kind, state, needs_attention, index) in filters {
            for after in [None, Some(&after)] {
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
