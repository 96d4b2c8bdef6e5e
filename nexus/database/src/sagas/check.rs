//! Whether the rows of sagas are what they should be. There may be a million of them, with forty lines each: what the database
//! can tell by itself it tells, and only what is wrong comes out; values are gone through some thousand rows at a time.
//!
//! | rule | what it means when it is broken |
//! |---|---|
//! | what belongs to a saga has its saga | somebody has deleted rows by hand: nothing of the program leaves such |
//! | a saga has its definition; values are what their columns say | it cannot be executed on: `sledctl op abandon` |
//! | lines and marks are of adoptions that have been | somebody has put an older row back |
//! | a row that has ended says how (the schema: and when), and waits for nobody | lists do not know it for what it is |
//! | its log says the same as its end: what was begun has ended; of a failed saga, what was done is undone | its end is not to be believed |
//! | its owner is a coordinator | nobody executes it on |
//!
//! That a plan has its digest cannot be told here: the digest is that of what the program plans, and recovery compares it.

use super::{
    load::EVENT_NAMES,
    rows::digest_of,
    unreadable::{name_of, words},
};
use crate::{
    CheckFinding, CheckReport, DatabaseError,
    check::FINDINGS_MAX,
    error::during,
    rows::{is_epoch, optional_text, unsigned},
    sql::{Connection, Row, Value, assembled, sql},
};
use ids::{CoordinatorId, SagaId};
use jiff::Timestamp;
use nexus_sagas::{Attention, EndState, Mark};
use serde::de::{DeserializeOwned, IgnoredAny};
use std::fmt::Write;
use uuid::Uuid;

const OPERATION: &str = "check the sagas";

/// Rows that are in memory at once.
const ROWS_AT_ONCE: i64 = 2_000;

/// A rule: its table, what is wrong with a row that it finds, and how such rows are found. Each has a `row_key`.
type Rule = (&'static str, &'static str, &'static str);

const RULES: [Rule; 14] = [
    (
        "saga",
        "has no definition, so nobody can execute it on",
        "SELECT id AS row_key FROM saga WHERE NOT EXISTS \
         (SELECT 1 FROM saga_definition WHERE saga_id = saga.id) ORDER BY id LIMIT 100",
    ),
    (
        "saga",
        "has ended, and does not say how",
        "SELECT id AS row_key FROM saga WHERE ended_at IS NOT NULL AND outcome IS NULL ORDER BY id LIMIT 100",
    ),
    (
        "saga",
        "has ended, and is said to wait for an operator",
        "SELECT id AS row_key FROM saga WHERE state <> 'unfinished' AND attention IS NOT NULL ORDER BY id LIMIT 100",
    ),
    (
        "saga",
        "is of a coordinator that is not there, so nobody executes it on",
        "SELECT id || ' ' || owner AS row_key FROM saga WHERE state = 'unfinished' AND NOT EXISTS \
         (SELECT 1 FROM coordinator WHERE coordinator.id = owner) ORDER BY saga.id LIMIT 100",
    ),
    (
        "saga_definition",
        IS_OF_NO_SAGA,
        "SELECT saga_id AS row_key FROM saga_definition WHERE NOT EXISTS \
         (SELECT 1 FROM saga WHERE saga.id = saga_id) ORDER BY saga_id LIMIT 100",
    ),
    (
        "saga_event",
        IS_OF_NO_SAGA,
        "SELECT saga_id || ' ' || CAST(node AS TEXT) || ' ' || event AS row_key FROM saga_event \
         WHERE NOT EXISTS (SELECT 1 FROM saga WHERE saga.id = saga_id) ORDER BY saga_id LIMIT 100",
    ),
    (
        "saga_mark",
        IS_OF_NO_SAGA,
        "SELECT saga_id || ' ' || mark AS row_key FROM saga_mark WHERE NOT EXISTS \
         (SELECT 1 FROM saga WHERE saga.id = saga_id) ORDER BY saga_id LIMIT 100",
    ),
    (
        "saga_signal",
        IS_OF_NO_SAGA,
        "SELECT saga_id || ' ' || name AS row_key FROM saga_signal WHERE NOT EXISTS \
         (SELECT 1 FROM saga WHERE saga.id = saga_id) ORDER BY saga_id LIMIT 100",
    ),
    (
        "saga_timer",
        IS_OF_NO_SAGA,
        "SELECT saga_id || ' ' || name AS row_key FROM saga_timer WHERE NOT EXISTS \
         (SELECT 1 FROM saga WHERE saga.id = saga_id) ORDER BY saga_id LIMIT 100",
    ),
    (
        "saga_event",
        "was written under an adoption that has not been yet",
        "SELECT saga_id || ' ' || CAST(node AS TEXT) || ' ' || event AS row_key FROM saga_event \
         JOIN saga ON saga.id = saga_id \
         WHERE saga_event.adoption_epoch > saga.adoption_epoch ORDER BY saga_id LIMIT 100",
    ),
    (
        "saga_mark",
        "was written under an adoption that has not been yet",
        "SELECT saga_id || ' ' || mark AS row_key FROM saga_mark JOIN saga ON saga.id = saga_id \
         WHERE saga_mark.adoption_epoch > saga.adoption_epoch ORDER BY saga_id LIMIT 100",
    ),
    // An abandoned saga may have been ended where nobody could go on with it: then its log ends where it was.
    (
        "saga_event",
        "was begun and has no end, and its saga has ended",
        "SELECT begun.saga_id || ' ' || CAST(begun.node AS TEXT) || ' ' || begun.event AS row_key FROM saga_event AS begun \
         JOIN saga ON saga.id = begun.saga_id \
         WHERE saga.state IN ('succeeded', 'failed') AND begun.event IN ('started', 'undo_started') AND NOT EXISTS \
         (SELECT 1 FROM saga_event AS its WHERE its.saga_id = begun.saga_id AND its.node = begun.node AND \
         ((begun.event = 'started' AND its.event IN ('succeeded', 'failed')) OR \
         (begun.event = 'undo_started' AND its.event = 'undo_finished'))) ORDER BY begun.saga_id LIMIT 100",
    ),
    (
        "saga_event",
        "is of a node that failed or was undone, and its saga has succeeded",
        "SELECT saga_id || ' ' || CAST(node AS TEXT) || ' ' || event AS row_key FROM saga_event \
         JOIN saga ON saga.id = saga_id \
         WHERE saga.state = 'succeeded' AND event NOT IN ('started', 'succeeded') ORDER BY saga_id LIMIT 100",
    ),
    (
        "saga_event",
        "is of a node whose effect may still be there: it was not undone, and its saga has failed",
        "SELECT done.saga_id || ' ' || CAST(done.node AS TEXT) || ' ' || done.event AS row_key FROM saga_event AS done \
         JOIN saga ON saga.id = done.saga_id \
         WHERE saga.state = 'failed' AND done.event = 'succeeded' AND NOT EXISTS \
         (SELECT 1 FROM saga_event AS its WHERE its.saga_id = done.saga_id AND its.node = done.node \
         AND its.event = 'undo_finished') ORDER BY done.saga_id LIMIT 100",
    ),
];

const IS_OF_NO_SAGA: &str = "is of no saga: somebody has deleted rows by hand; it may be deleted, too";

/// A table whose values are gone through.
struct Values {
    table: &'static str,
    /// Its key, which names its rows.
    key: &'static [&'static str],
    columns: &'static [Column],
}

struct Column {
    name: &'static str,
    means: fn(&str) -> bool,
    /// What it means if it does not.
    then: &'static str,
}

const fn column(name: &'static str, means: fn(&str) -> bool, then: &'static str) -> Column {
    Column { name, means, then }
}

const LOST: &str = "if it has not ended, nobody can execute it on: sledctl op abandon gives it up";
const SHOWN: &str = "it is left out where it is shown";

const VALUES: [Values; 6] = [
    Values {
        table: "saga",
        key: &["id"],
        columns: &[
            column("id", |text| text.parse::<SagaId>().is_ok(), "no command can name it"),
            column("owner", |text| text.parse::<CoordinatorId>().is_ok(), "no coordinator finds it"),
            column("kind", |text| !text.is_empty(), LOST),
            column("version", |text| text.parse::<u32>().is_ok_and(|version| version > 0), LOST),
            column("adoption_epoch", |text| text.parse().is_ok_and(is_epoch), "nobody can adopt it"),
            column("created_at", is_time, LOST),
            column("ended_at", is_time, "it is not archived when its time has come"),
            column("outcome", is::<EndState>, "how it has ended is not known"),
            column("attention", is::<Attention>, LOST),
        ],
    },
    Values {
        table: "saga_definition",
        key: &["saga_id"],
        columns: &[
            column("creation", |text| text.parse::<Uuid>().is_ok(), LOST),
            column("digest", is_digest, LOST),
            column("params", is::<IgnoredAny>, LOST),
            column("dag", is::<IgnoredAny>, LOST),
        ],
    },
    Values {
        table: "saga_event",
        key: &["saga_id", "node", "event"],
        columns: &[
            column("node", |text| text.parse::<u32>().is_ok(), LOST),
            column("event", |text| EVENT_NAMES.contains(&text), LOST),
            column("body", is::<IgnoredAny>, LOST),
            column("written_at", is_time, SHOWN),
        ],
    },
    Values {
        table: "saga_mark",
        key: &["saga_id", "digest"],
        columns: &[column("mark", is::<Mark>, LOST), column("written_at", is_time, SHOWN)],
    },
    Values {
        table: "saga_signal",
        key: &["saga_id", "name"],
        columns: &[
            column("name", |text| !text.is_empty(), "nothing waits for it"),
            column("value", is::<IgnoredAny>, "who waits for it waits until it is mended"),
            column("written_at", is_time, SHOWN),
        ],
    },
    Values {
        table: "saga_timer",
        key: &["saga_id", "name"],
        columns: &[
            column("due", is_time, "who waits for it waits until it is mended"),
            column("written_at", is_time, SHOWN),
        ],
    },
];

fn is_time(text: &str) -> bool {
    text.parse::<Timestamp>().is_ok()
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is<T: DeserializeOwned>(text: &str) -> bool {
    serde_json::from_str::<T>(text).is_ok()
}

/// Adds what is wrong to a report.
pub(crate) async fn check(
    connection: &mut Connection,
    report: &mut CheckReport,
) -> Result<(), DatabaseError> {
    let count = sql("SELECT COUNT(*) AS sagas FROM saga").fetch_one(&mut *connection).await;
    report.rows += unsigned(&count.map_err(during(OPERATION))?, "sagas")?;
    for (table, problem, query) in RULES {
        for row in sql(query).fetch_all(&mut *connection).await.map_err(during(OPERATION))? {
            add(report, table, name_of(&row, "row_key"), problem.to_owned());
        }
    }
    for values in &VALUES {
        check_values(connection, values, report).await?;
    }
    Ok(())
}

/// All rows of a table, in the order of its key, until so much is wrong that nobody reads more.
async fn check_values(
    connection: &mut Connection,
    values: &Values,
    report: &mut CheckReport,
) -> Result<(), DatabaseError> {
    let mut after: Vec<Value> = Vec::new();
    while report.findings.len() <= FINDINGS_MAX {
        let query = assembled(text_of(values, !after.is_empty()).into(), after);
        let rows = query.fetch_all(&mut *connection).await.map_err(during(OPERATION))?;
        for row in &rows {
            check_row(row, values, report);
        }
        let Some(last) = rows.last().filter(|_| rows.len() == ROWS_AT_ONCE as usize) else { return Ok(()) };
        let part = |(number, name): (usize, &&str)| match *name {
            "node" => last.try_get::<i64>("node").ok().map(Value::from),
            _ => last.try_get::<String>(&format!("key_{number}")).ok().map(Value::from),
        };
        // Rows behind a key that cannot be told cannot be told either.
        let Some(key) = values.key.iter().enumerate().map(part).collect::<Option<Vec<_>>>() else {
            add(report, values.table, name_of_row(last, values), "has no key that can be read".to_owned());
            return Ok(());
        };
        after = key;
    }
    Ok(())
}

fn text_of(values: &Values, is_behind: bool) -> String {
    let key = values.key.join(", ");
    let mut text = "SELECT ".to_owned();
    for (number, name) in values.key.iter().enumerate() {
        write!(text, "{name} AS key_{number}, ").expect("a string takes what is written");
    }
    let columns = values.columns.iter().map(|column| match column.name {
        // Numbers as text, so that every value is looked at in one way.
        name @ ("version" | "adoption_epoch") => format!("CAST({name} AS TEXT) AS {name}"),
        "node" => "node, CAST(node AS TEXT) AS node_text".to_owned(),
        name => name.to_owned(),
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    write!(text, "{columns} FROM {}", values.table).expect("a string takes what is written");
    if is_behind {
        let places: Vec<_> = (1..=values.key.len()).map(|number| format!("${number}")).collect();
        write!(text, " WHERE ({key}) > ({})", places.join(", ")).expect("a string takes what is written");
    }
    write!(text, " ORDER BY {key} LIMIT {ROWS_AT_ONCE}").expect("a string takes what is written");
    text
}

fn check_row(row: &Row, values: &Values, report: &mut CheckReport) {
    for Column { name, means, then } in values.columns {
        let read = optional_text(row, if *name == "node" { "node_text" } else { name });
        let problem = match read {
            Ok(None) => continue,
            Ok(Some(value)) if means(&value) => continue,
            Ok(Some(value)) => format!("{} is no {name}; {then}", shortened(&value)),
            Err(error) => format!("{name} cannot be read: {}; {then}", words(&error)),
        };
        add(report, values.table, name_of_row(row, values), problem);
    }
    if values.table == "saga_mark"
        && let (Ok(Some(mark)), Ok(Some(digest))) = (optional_text(row, "mark"), optional_text(row, "key_1"))
        && digest_of(&mark) != digest
    {
        let problem = "its digest is not that of its mark: one of them was changed by hand".to_owned();
        add(report, values.table, name_of_row(row, values), problem);
    }
}

fn shortened(value: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    let shown: String = value.chars().take(CHARACTERS_MAX).collect();
    if shown.len() < value.len() { format!("{:?}", shown + "…") } else { format!("{shown:?}") }
}

/// Its key, part by part: saga, node, event.
fn name_of_row(row: &Row, values: &Values) -> String {
    let parts = values.key.iter().enumerate().map(|(number, name)| match *name {
        "node" => name_of(row, "node_text"),
        _ => match number {
            0 => name_of(row, "key_0"),
            1 => name_of(row, "key_1"),
            _ => name_of(row, "key_2"),
        },
    });
    parts.collect::<Vec<_>>().join(" ")
}

fn add(report: &mut CheckReport, table: &'static str, row: String, problem: String) {
    report.findings.push(CheckFinding { table: Some(table), row: Some(row), problem });
}
