//! The port [`SagaStore`].

use super::{
    DatabaseSagaStore,
    adoption::InName,
    rows::{Ended, digest_of, fault, json},
};
use crate::{
    DatabaseError,
    error::during,
    rows::{instant, key, now, parsed, signed, text, unsigned},
    sql::{Connection, Statement, Value, sql},
    write::append::{AppendTable, Appended, Fence},
};
use async_trait::async_trait;
use ids::SagaId;
use jiff::{SignedDuration, Timestamp};
use nexus_saga_recovery::{SagaKey, UnfinishedSaga};
use nexus_sagas::{
    Attention, Created, EndState, Mark, NewSaga, NodeEvent, SagaStore, StoreFault, StoredSaga, Written,
};
use serde_json::Value as Json;

/// The row that an event or a mark belongs to, under the adoption of its writer.
const fn its_saga(same: &'static [&'static str]) -> Option<Fence> {
    let equal = &[("id", "saga_id"), ("adoption_epoch", "adoption_epoch")];
    Some(Fence { table: "saga", equal, same })
}

static EVENTS: AppendTable = AppendTable {
    name: "saga_event",
    columns: &["saga_id", "node", "event", "body", "adoption_epoch", "written_at"],
    fence: its_saga(&["saga_id", "node", "event", "body"]),
};

static MARKS: AppendTable = AppendTable {
    name: "saga_mark",
    columns: &["saga_id", "digest", "mark", "adoption_epoch", "written_at"],
    fence: its_saga(&["saga_id", "digest", "mark"]),
};

#[async_trait]
impl SagaStore for DatabaseSagaStore {
    async fn create(&self, saga: &NewSaga) -> Result<Created, StoreFault> {
        in_name(self.create_row(saga).await)
    }

    async fn append(&self, of: SagaKey, events: &[NodeEvent]) -> Result<Written, StoreFault> {
        self.append_to("write to the log of a saga", &EVENTS, lines(of, events).concat()).await
    }

    async fn end(&self, of: SagaKey, end: &EndState, last: &[NodeEvent]) -> Result<Written, StoreFault> {
        let Ended { state, node, error } = Ended::of(end);
        let update =
            sql("UPDATE saga SET state = $3, ended_at = $4, end_node = $5, end_error = $6, outcome = $7, \
                          attention = NULL WHERE id = $1 AND adoption_epoch = $2 AND state = 'unfinished'");
        let update = of_adoption(update, of).bind(state).bind(instant(now())).bind(node).bind(error);
        self.change_and_log("end a saga", of, update.bind(json(end)), lines(of, last)).await
    }

    async fn mark(&self, of: SagaKey, mark: &Mark) -> Result<Written, StoreFault> {
        let mark = json(mark);
        let values = vec![
            key(&of.id).into(),
            digest_of(&mark).into(),
            mark.into(),
            signed(of.epoch.0).into(),
            instant(now()).into(),
        ];
        self.append_to("note something about a saga", &MARKS, values).await
    }

    async fn set_attention(&self, of: SagaKey, attention: Option<&Attention>) -> Result<Written, StoreFault> {
        let update = sql("UPDATE saga SET attention = $3 WHERE id = $1 AND adoption_epoch = $2 \
                          AND state = 'unfinished'");
        let update = of_adoption(update, of).bind(attention.map(json));
        self.change_and_log("note why a saga waits for an operator", of, update, Vec::new()).await
    }

    async fn put_signal(&self, saga: SagaId, name: &str, value: &Json) -> Result<(), StoreFault> {
        self.put_named("keep a signal for a saga", &SIGNALS, saga, name, json(value)).await.map(drop)
    }

    async fn signal(&self, saga: SagaId, name: &str) -> Result<Option<Json>, StoreFault> {
        let operation = "read a signal of a saga";
        let query = sql("SELECT value FROM saga_signal WHERE saga_id = $1 AND name = $2");
        let row = query.bind(key(&saga)).bind(name).fetch_optional(&self.database.read).await;
        let row = row.map_err(|error| fault(&during(operation)(error)))?;
        let value = row.map(|row| super::rows::document(&row, "value")).transpose();
        value.map_err(|error| unreadable("saga_signal", saga, name, &error))
    }

    async fn timer(&self, saga: SagaId, name: &str, due: Timestamp) -> Result<Timestamp, StoreFault> {
        let row = self.put_named("set a timer of a saga", &TIMERS, saga, name, instant(due)).await?;
        parsed(&row, "kept").map_err(|error| unreadable("saga_timer", saga, name, &error))
    }

    async fn adopt(&self, sagas: &[SagaKey]) -> Result<Vec<SagaKey>, StoreFault> {
        in_name(self.adopt_all(sagas).await)
    }

    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<StoredSaga>, StoreFault> {
        self.load_readable(sagas).await.map(|loaded| loaded.sagas).map_err(|error| fault(&error))
    }

    async fn unfinished(&self) -> Result<Vec<UnfinishedSaga>, StoreFault> {
        let mut found = self.unfinished_rows().await?;
        found.sagas.retain(|saga| !found.unreadable.contains_key(&saga.key.id));
        Ok(found.sagas)
    }
}

pub(super) fn in_name<T>(done: Result<InName<T>, DatabaseError>) -> Result<T, StoreFault> {
    match done {
        Ok(InName::Done(answer)) => Ok(answer),
        Ok(InName::Superseded) => Err(StoreFault::Superseded),
        Err(error) => Err(fault(&error)),
    }
}

/// One line of a log, in the order of the columns of [`EVENTS`].
const INSERT_LINE: &str = "INSERT INTO saga_event (saga_id, node, event, body, adoption_epoch, written_at) \
                           VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";

/// Lines of a log as rows. Each is a microsecond later than the one before it, so that they are in order.
fn lines(of: SagaKey, events: &[NodeEvent]) -> Vec<Vec<Value>> {
    let now = now();
    let row = |(number, event): (i64, &NodeEvent)| {
        let time = now.saturating_add(SignedDuration::from_micros(number)).unwrap_or(now);
        vec![
            key(&of.id).into(),
            i64::from(event.node).into(),
            event.event.as_str().into(),
            json(&event.body).into(),
            signed(of.epoch.0).into(),
            instant(time).into(),
        ]
    };
    (0..).zip(events).map(row).collect()
}

/// A row that was found and cannot be read.
fn unreadable(table: &'static str, saga: SagaId, name: &str, error: &DatabaseError) -> StoreFault {
    let words = super::unreadable::words(error);
    StoreFault::NotDone(format!("{table}, row {saga} {name}: {words} (nexus db check)"))
}

/// The saga that a signal or a timer is for, under whatever adoption. Locked as the row of an event is, so that none comes to a
/// saga that is pruned at this moment. Whatever is there under the name stays, so that it is the same is not asked.
const SOME_SAGA: Fence = Fence { table: "saga", equal: &[("id", "saga_id")], same: &["saga_id", "name"] };

/// What is kept under a name: the first of a name stays.
struct Named {
    table: AppendTable,
    /// Reads what is kept.
    read: &'static str,
}

static SIGNALS: Named = Named {
    table: AppendTable {
        name: "saga_signal",
        columns: &["saga_id", "name", "value", "written_at"],
        fence: Some(SOME_SAGA),
    },
    read: "SELECT value AS kept FROM saga_signal WHERE saga_id = $1 AND name = $2",
};

static TIMERS: Named = Named {
    table: AppendTable {
        name: "saga_timer",
        columns: &["saga_id", "name", "due", "written_at"],
        fence: Some(SOME_SAGA),
    },
    read: "SELECT due AS kept FROM saga_timer WHERE saga_id = $1 AND name = $2",
};

impl DatabaseSagaStore {
    async fn append_to(
        &self,
        operation: &'static str,
        table: &'static AppendTable,
        values: Vec<Value>,
    ) -> Result<Written, StoreFault> {
        match self.database.append(operation, table, values).await {
            Ok(Appended::Now) => Ok(Written::Now),
            Ok(Appended::Already) => Ok(Written::Already),
            Ok(Appended::Fenced) => Ok(Written::Fenced),
            Ok(Appended::Contradicted) => Ok(Written::Contradicted),
            Err(error) => Err(fault(&error)),
        }
    }

    async fn create_row(&self, saga: &NewSaga) -> Result<InName<Created>, DatabaseError> {
        let operation = "create a saga";
        let id = key(&saga.key.id);
        let row = &sql("INSERT INTO saga (id, owner, adoption_epoch, kind, version, state, created_at) \
                        SELECT $1, $2, $3, $4, $5, 'unfinished', $6 \
                        WHERE NOT EXISTS (SELECT 1 FROM coordinator WHERE id = $2 AND epoch > $7) \
                        ON CONFLICT DO NOTHING")
        .bind(&id)
        .bind(key(&self.owner))
        .bind(signed(saga.key.epoch.0))
        .bind(&saga.kind)
        .bind(i64::from(saga.version))
        .bind(instant(saga.created))
        .bind(signed(self.epoch));
        let definition =
            &sql("INSERT INTO saga_definition (saga_id, creation, digest, params, dag) VALUES ($1, $2, $3, $4, $5)")
                .bind(&id)
                .bind(key(&saga.creation))
                .bind(&saga.digest)
                .bind(json(&saga.params))
                .bind(json(&saga.dag));
        let whose = &sql("SELECT creation FROM saga_definition WHERE saga_id = $1").bind(&id);
        let creation = key(&saga.creation);
        let creation = &creation;
        self.database
            .write_row_wise(operation, |mut tx| {
                Box::pin(async move {
                    if row.clone().execute(&mut *tx).await.map_err(during(operation))? == 1 {
                        definition.clone().execute(&mut *tx).await.map_err(during(operation))?;
                        return Ok(InName::Done(Created::Ours));
                    }
                    let found = whose.clone().fetch_optional(&mut *tx).await.map_err(during(operation))?;
                    let Some(found) = found else {
                        // A row that has lost its definition was made by somebody else, whoever that was.
                        let is_superseded = self.is_superseded(&mut tx).await?;
                        return Ok(if is_superseded {
                            InName::Superseded
                        } else {
                            InName::Done(Created::Others)
                        });
                    };
                    let is_ours = text(&found, "creation").is_ok_and(|found| found == *creation);
                    Ok(InName::Done(if is_ours { Created::Ours } else { Created::Others }))
                })
            })
            .await
    }

    /// Changes an unfinished saga by a statement that changes its row under the adoption `of`, or none; if it does, adds to
    /// its log. The row is this transaction's from then on, so that the lines need no fence of their own.
    async fn change_and_log(
        &self,
        operation: &'static str,
        of: SagaKey,
        update: Statement,
        lines: Vec<Vec<Value>>,
    ) -> Result<Written, StoreFault> {
        let (update, lines) = (&update, &lines);
        let changed = self.database.write_row_wise(operation, |mut tx| {
            Box::pin(async move {
                if update.clone().execute(&mut *tx).await.map_err(during(operation))? == 1 {
                    for line in lines {
                        let insert =
                            line.iter().fold(sql(INSERT_LINE), |insert, value| insert.bind(value.clone()));
                        insert.execute(&mut *tx).await.map_err(during(operation))?;
                    }
                    return Ok(Written::Now);
                }
                let epoch = epoch_of(&mut tx, of.id).await?;
                Ok(if epoch == Some(of.epoch.0) { Written::Already } else { Written::Fenced })
            })
        });
        changed.await.map_err(|error| fault(&error))
    }

    async fn put_named(
        &self,
        operation: &'static str,
        named: &'static Named,
        saga: SagaId,
        name: &str,
        value: String,
    ) -> Result<crate::sql::Row, StoreFault> {
        let id = key(&saga);
        let values = vec![Value::from(id.as_str()), name.into(), value.into(), instant(now()).into()];
        let gone = || StoreFault::NotDone(format!("cannot {operation}: there is no saga {saga}"));
        if self.append_to(operation, &named.table, values).await? == Written::Fenced {
            return Err(gone());
        }
        let kept = sql(named.read).bind(&id).bind(name).fetch_optional(&self.database.read).await;
        kept.map_err(|error| fault(&during(operation)(error)))?.ok_or_else(gone)
    }
}

fn of_adoption(statement: Statement, of: SagaKey) -> Statement {
    statement.bind(key(&of.id)).bind(signed(of.epoch.0))
}

pub(super) async fn epoch_of(connection: &mut Connection, id: SagaId) -> Result<Option<u64>, DatabaseError> {
    let query = sql("SELECT adoption_epoch FROM saga WHERE id = $1").bind(key(&id));
    let row = query.fetch_optional(connection).await.map_err(during("read the adoption of a saga"))?;
    row.map(|row| unsigned(&row, "adoption_epoch")).transpose()
}
