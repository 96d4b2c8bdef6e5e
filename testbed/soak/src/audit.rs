//! The database after a clean stop: its rows and its event log, held against the ledger.

use crate::{
    ledger::{Finding, Ledger},
    site,
};
use anyhow::{Context, Result};
use ids::SagaId;
use nexus_client::sagas::SagaState;
use nexus_database::{
    Database, SqlError, during,
    sql::{Row as SqlRow, sql},
};
use serde::Serialize;
use std::collections::BTreeMap;
use testbed::Cluster;

/// Sagas that are named in one finding at most.
const NAMED_MAX: usize = 10;

/// Lines of all event logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EventCounts {
    /// Actions that were begun.
    pub started: u64,
    /// Actions that ended well.
    pub succeeded: u64,
    /// Actions that failed.
    pub failed: u64,
    /// Undos that were begun.
    pub undo_started: u64,
    /// Undos that ended.
    pub undo_finished: u64,
}

/// Rows of sagas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowCounts {
    /// All.
    pub all: u64,
    /// Of these, succeeded.
    pub succeeded: u64,
    /// Of these, failed.
    pub failed: u64,
    /// Of these, not ended.
    pub unfinished: u64,
    /// Of these, abandoned, or waiting for an operator.
    pub troubled: u64,
}

/// What the database says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Rows of sagas.
    pub rows: RowCounts,
    /// Lines of all event logs.
    pub events: EventCounts,
}

struct Row {
    state: String,
    needs_attention: bool,
}

/// Reads the database of a coordinator that was stopped, and holds it against the ledger.
pub(crate) async fn audit(cluster: &Cluster, ledger: &Ledger) -> Result<(Audit, Vec<Finding>)> {
    let database =
        Database::open(site::database(cluster)?).await.context("opening the database afterwards")?;
    let rows = rows(&database).await?;
    let events = events(&database).await?;
    let unbalanced = unbalanced(&database).await?;
    database.close().await;
    let audit = Audit { rows: count(&rows), events };
    let mut findings = compare(&rows, &ledger.states());
    findings.extend(unbalanced.into_iter().map(|id| {
        Finding::of_all(format!("the log of saga {id} has something that was begun and has no end"))
    }));
    let EventCounts { started, succeeded, failed, undo_started, undo_finished } = events;
    if started != succeeded + failed || undo_started != undo_finished {
        findings.push(Finding::of_all(format!("the event logs do not add up: {events:?}")));
    }
    Ok((audit, findings))
}

async fn rows(database: &Database) -> Result<BTreeMap<String, Row>> {
    let operation = "list every saga";
    let rows = database.read_at_once(operation, |mut tx| {
        Box::pin(async move {
            let text =
                "SELECT id, state, CASE WHEN attention IS NULL THEN 0 ELSE 1 END AS attention FROM saga";
            let found = sql(text).fetch_all(&mut *tx).await.map_err(during(operation))?;
            let row = |row: &SqlRow| {
                let id: String = row.try_get("id")?;
                let state = row.try_get("state")?;
                let needs_attention = row.try_get::<i32>("attention")? != 0;
                Ok((id, Row { state, needs_attention }))
            };
            found.iter().map(row).collect::<Result<_, SqlError>>().map_err(during(operation))
        })
    });
    Ok(rows.await?)
}

async fn events(database: &Database) -> Result<EventCounts> {
    let operation = "count events";
    let counts: BTreeMap<String, i64> = database
        .read_at_once(operation, |mut tx| {
            Box::pin(async move {
                let text = "SELECT event, COUNT(*) AS lines FROM saga_event GROUP BY event";
                let found = sql(text).fetch_all(&mut *tx).await.map_err(during(operation))?;
                let row = |row: &SqlRow| Ok((row.try_get("event")?, row.try_get("lines")?));
                found.iter().map(row).collect::<Result<_, SqlError>>().map_err(during(operation))
            })
        })
        .await?;
    let of = |event: &str| counts.get(event).copied().unwrap_or_default().unsigned_abs();
    Ok(EventCounts {
        started: of("started"),
        succeeded: of("succeeded"),
        failed: of("failed"),
        undo_started: of("undo_started"),
        undo_finished: of("undo_finished"),
    })
}

/// Sagas whose own logs do not add up, a few of them.
async fn unbalanced(database: &Database) -> Result<Vec<String>> {
    let operation = "find logs that do not add up";
    let found = database.read_at_once(operation, |mut tx| {
        Box::pin(async move {
            let text = "SELECT saga_id FROM saga_event GROUP BY saga_id
                        HAVING SUM(CASE WHEN event = 'started' THEN 1 ELSE 0 END)
                            <> SUM(CASE WHEN event IN ('succeeded', 'failed') THEN 1 ELSE 0 END)
                            OR SUM(CASE WHEN event = 'undo_started' THEN 1 ELSE 0 END)
                            <> SUM(CASE WHEN event = 'undo_finished' THEN 1 ELSE 0 END)
                        LIMIT 10";
            let found = sql(text).fetch_all(&mut *tx).await.map_err(during(operation))?;
            let ids = found.iter().map(|row| row.try_get("saga_id"));
            ids.collect::<Result<_, SqlError>>().map_err(during(operation))
        })
    });
    Ok(found.await?)
}

fn count(rows: &BTreeMap<String, Row>) -> RowCounts {
    let of = |state: &str| rows.values().filter(|row| row.state == state).count() as u64;
    let troubled = |row: &&Row| row.needs_attention || row.state == "abandoned";
    RowCounts {
        all: rows.len() as u64,
        succeeded: of("succeeded"),
        failed: of("failed"),
        unfinished: of("unfinished"),
        troubled: rows.values().filter(troubled).count() as u64,
    }
}

/// What the rows say otherwise than the ledger.
fn compare(rows: &BTreeMap<String, Row>, ledger: &BTreeMap<SagaId, Option<SagaState>>) -> Vec<Finding> {
    let known: BTreeMap<String, Option<SagaState>> =
        ledger.iter().map(|(id, state)| (id.to_string(), *state)).collect();
    let lost = known.keys().filter(|id| !rows.contains_key(*id));
    let strange = rows.keys().filter(|id| !known.contains_key(*id));
    let other = rows.iter().filter(|(id, row)| {
        let told = known.get(*id).copied().flatten();
        told.is_some_and(|state| state.word() != row.state)
    });
    let troubled = rows.iter().filter(|(_, row)| row.needs_attention);
    [
        ("acknowledged sagas have no row", named(lost)),
        ("sagas have a row that nobody was told of", named(strange)),
        ("sagas have another end than was told", named(other.map(|(id, _)| id))),
        ("sagas need attention", named(troubled.map(|(id, _)| id))),
    ]
    .into_iter()
    .filter(|(_, (count, _))| *count > 0)
    .map(|(what, (count, ids))| Finding::of_all(format!("{count} {what}: {ids}")))
    .collect()
}

fn named<'a>(ids: impl Iterator<Item = &'a String>) -> (usize, String) {
    let ids: Vec<&str> = ids.map(String::as_str).collect();
    (ids.len(), ids[..ids.len().min(NAMED_MAX)].join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_between_rows_and_ledger_is_found() {
        let ids: Vec<SagaId> = (0..5).map(|_| SagaId::generate()).collect();
        let row = |state: &str, needs_attention| Row { state: state.to_owned(), needs_attention };
        let ledger = BTreeMap::from([
            (ids[0], Some(SagaState::Succeeded)),
            (ids[1], None),
            (ids[2], Some(SagaState::Failed)),
            (ids[4], Some(SagaState::Failed)),
        ]);
        let rows = BTreeMap::from([
            (ids[0].to_string(), row("succeeded", false)),
            (ids[2].to_string(), row("succeeded", false)),
            (ids[3].to_string(), row("unfinished", false)),
            (ids[4].to_string(), row("failed", true)),
        ]);
        let found: Vec<String> = compare(&rows, &ledger).into_iter().map(|it| it.what).collect();
        assert_eq!(
            found,
            [
                format!("1 acknowledged sagas have no row: {}", ids[1]),
                format!("1 sagas have a row that nobody was told of: {}", ids[3]),
                format!("1 sagas have another end than was told: {}", ids[2]),
                format!("1 sagas need attention: {}", ids[4]),
            ]
        );
        assert_eq!(count(&rows), RowCounts { all: 4, succeeded: 2, failed: 1, unfinished: 1, troubled: 1 });
    }
}
