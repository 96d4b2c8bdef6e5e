//! Whether the rows of sagas are what they should be. There may be a million of them, so the database looks, and only what is
//! wrong comes out; what unfinished ones hold is looked at value by value, because it will be executed.

use crate::{
    CheckFinding, CheckReport, DatabaseError,
    error::during,
    rows::{text, unsigned},
    sql::{Connection, Row, sql},
};
use ids::{CoordinatorId, SagaId};
use jiff::Timestamp;
use serde_json::Value as Json;

const OPERATION: &str = "check the sagas";

/// A rule: its table, what is wrong with a row that it finds, and how such rows are found. Each has a `row_key`.
type Rule = (&'static str, &'static str, &'static str);

const RULES: [Rule; 6] = [
    (
        "saga",
        "has no definition, so nobody can execute it",
        "SELECT id AS row_key FROM saga WHERE NOT EXISTS \
         (SELECT 1 FROM saga_definition WHERE saga_id = saga.id) ORDER BY id LIMIT 100",
    ),
    (
        "saga",
        "has ended, and does not say how",
        "SELECT id AS row_key FROM saga WHERE ended_at IS NOT NULL AND outcome IS NULL ORDER BY id LIMIT 100",
    ),
    (
        "saga_definition",
        "is of no saga",
        "SELECT saga_id AS row_key FROM saga_definition WHERE NOT EXISTS \
         (SELECT 1 FROM saga WHERE saga.id = saga_id) ORDER BY saga_id LIMIT 100",
    ),
    (
        "saga_event",
        "is of no saga",
        "SELECT saga_id || ' ' || event AS row_key FROM saga_event WHERE NOT EXISTS \
         (SELECT 1 FROM saga WHERE saga.id = saga_id) ORDER BY saga_id LIMIT 100",
    ),
    (
        "saga_mark",
        "is of no saga",
        "SELECT saga_id || ' ' || mark AS row_key FROM saga_mark WHERE NOT EXISTS \
         (SELECT 1 FROM saga WHERE saga.id = saga_id) ORDER BY saga_id LIMIT 100",
    ),
    (
        "saga_event",
        "was written under an adoption that has not been yet",
        "SELECT saga_id || ' ' || event AS row_key FROM saga_event JOIN saga ON saga.id = saga_id \
         WHERE saga_event.adoption_epoch > saga.adoption_epoch ORDER BY saga_id LIMIT 100",
    ),
];

/// Adds what is wrong to a report.
pub(crate) async fn check(
    connection: &mut Connection,
    report: &mut CheckReport,
) -> Result<(), DatabaseError> {
    let count = sql("SELECT COUNT(*) AS sagas FROM saga").fetch_one(&mut *connection).await;
    report.rows += unsigned(&count.map_err(during(OPERATION))?, "sagas")?;
    for (table, problem, query) in RULES {
        for row in sql(query).fetch_all(&mut *connection).await.map_err(during(OPERATION))? {
            let row = Some(text(&row, "row_key")?);
            report.findings.push(CheckFinding { table: Some(table), row, problem: problem.to_owned() });
        }
    }
    let unfinished = "SELECT id, owner, created_at, params, dag FROM saga \
                      JOIN saga_definition ON saga_definition.saga_id = saga.id WHERE state = 'unfinished'";
    for row in sql(unfinished).fetch_all(&mut *connection).await.map_err(during(OPERATION))? {
        for (column, means) in MEANINGS {
            add_unless(report, "saga", &row, "id", column, means)?;
        }
    }
    let bodies = "SELECT saga_id || ' ' || event AS row_key, body FROM saga_event JOIN saga ON saga.id = saga_id \
                  WHERE state = 'unfinished'";
    for row in sql(bodies).fetch_all(connection).await.map_err(during(OPERATION))? {
        add_unless(report, "saga_event", &row, "row_key", "body", is_json)?;
    }
    Ok(())
}

type Meaning = (&'static str, fn(&str) -> bool);

const MEANINGS: [Meaning; 5] = [
    ("id", |text| text.parse::<SagaId>().is_ok()),
    ("owner", |text| text.parse::<CoordinatorId>().is_ok()),
    ("created_at", |text| text.parse::<Timestamp>().is_ok()),
    ("params", is_json),
    ("dag", is_json),
];

fn is_json(text: &str) -> bool {
    serde_json::from_str::<Json>(text).is_ok()
}

fn add_unless(
    report: &mut CheckReport,
    table: &'static str,
    row: &Row,
    key: &'static str,
    column: &'static str,
    means: fn(&str) -> bool,
) -> Result<(), DatabaseError> {
    let value = text(row, column)?;
    if !means(&value) {
        let row = Some(text(row, key)?);
        report.findings.push(CheckFinding {
            table: Some(table),
            row,
            problem: format!("{value:?} is no {column}"),
        });
    }
    Ok(())
}
