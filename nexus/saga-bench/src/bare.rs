//! The same graph on bare steno, over the same database and its shared commits: the limit that the facade is measured
//! against. It does what any user of steno must do to be durable, and nothing of what the facade adds: no fence, no
//! idempotence by key, no mirror, no claims, no end state.

use crate::trivial::Length;
use anyhow::Result;
use async_trait::async_trait;
use nexus_database::{
    AppendTable, Database, during,
    sql::{Statement, Value, sql},
};
use std::sync::Arc;
use steno::{
    ActionContext, ActionError, ActionFunc, ActionRegistry, DagBuilder, Node, SagaCachedState,
    SagaCreateParams, SagaDag, SagaId, SagaName, SagaNodeEvent, SagaType, SecClient, SecStore,
};

/// Tables of its own, with the columns that steno's data needs.
const TABLES: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS bare_saga (id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, dag TEXT NOT NULL, \
     state TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS bare_event (saga_id TEXT NOT NULL, node BIGINT NOT NULL, event TEXT NOT NULL, \
     body TEXT NOT NULL, PRIMARY KEY (saga_id, node, event))",
];

static SAGAS: AppendTable =
    AppendTable { name: "bare_saga", columns: &["id", "name", "dag", "state"], fence: None };
static EVENTS: AppendTable =
    AppendTable { name: "bare_event", columns: &["saga_id", "node", "event", "body"], fence: None };

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// Many sagas' events in one statement and one commit.
    Together,
    /// A statement and a commit for each.
    EachByItself,
}

/// Bare steno.
#[derive(Debug)]
pub(crate) struct Bare {
    sec: SecClient,
    actions: Arc<ActionRegistry<Untyped>>,
    dag: Arc<SagaDag>,
}

#[derive(Debug)]
struct Untyped;

impl SagaType for Untyped {
    type ExecContextType = ();
}

#[derive(Debug)]
struct Store {
    database: Database,
    writing: Writing,
}

impl Bare {
    pub(crate) async fn new(database: &Database, length: Length, writing: Writing) -> Result<Bare> {
        for table in TABLES {
            execute(database, &sql(table)).await?;
        }
        let action = ActionFunc::new_action("nothing", nothing, undo_nothing);
        let mut actions = ActionRegistry::new();
        actions.register(Arc::clone(&action));
        let mut builder = DagBuilder::new(SagaName::new("row"));
        for number in 1..=length.nodes {
            let name = format!("node{number}");
            builder.append(Node::action(&name, &name, &*action));
        }
        let dag = Arc::new(SagaDag::new(builder.build()?, serde_json::to_value(length)?));
        let store = Arc::new(Store { database: database.clone(), writing });
        let sec = steno::sec(slog::Logger::root(slog::Discard, slog::o!()), store);
        Ok(Bare { sec, actions: Arc::new(actions), dag })
    }

    /// One saga, to its end.
    pub(crate) async fn run(&self) -> Result<()> {
        let id = SagaId::new_v4();
        let (dag, actions) = (Arc::clone(&self.dag), Arc::clone(&self.actions));
        let ended = self.sec.saga_create(id, Arc::new(()), dag, actions).await?;
        self.sec.saga_start(id).await?;
        let result = ended.await;
        anyhow::ensure!(result.kind.is_ok(), "a node that does nothing does not fail");
        Ok(())
    }
}

impl Store {
    async fn append(&self, table: &'static AppendTable, values: Vec<Value>) -> Result<()> {
        match self.writing {
            Writing::Together => drop(self.database.append("measure", table, values).await?),
            Writing::EachByItself => self.insert(table, values).await?,
        }
        Ok(())
    }

    async fn insert(&self, table: &'static AppendTable, values: Vec<Value>) -> Result<()> {
        let text = match table.name {
            "bare_saga" => "INSERT INTO bare_saga (id, name, dag, state) VALUES ($1, $2, $3, $4)",
            _ => "INSERT INTO bare_event (saga_id, node, event, body) VALUES ($1, $2, $3, $4)",
        };
        let statement = values.into_iter().fold(sql(text), Statement::bind);
        self.execute(statement).await
    }

    async fn execute(&self, statement: Statement) -> Result<()> {
        execute(&self.database, &statement).await
    }
}

/// One statement in a transaction of its own.
pub(crate) async fn execute(database: &Database, statement: &Statement) -> Result<()> {
    let written = database.write("measure", |mut tx| {
        Box::pin(
            async move { statement.clone().execute(&mut *tx).await.map(drop).map_err(during("measure")) },
        )
    });
    Ok(written.await?)
}

#[async_trait]
impl SecStore for Store {
    async fn saga_create(&self, params: SagaCreateParams) -> Result<(), anyhow::Error> {
        let dag = serde_json::to_string(&params.dag)?;
        let values =
            vec![params.id.to_string().into(), params.name.to_string().into(), dag.into(), "running".into()];
        self.append(&SAGAS, values).await
    }

    async fn record_event(&self, event: SagaNodeEvent) {
        let number = serde_json::to_value(event.node_id).ok().and_then(|number| number.as_i64());
        let body = serde_json::to_string(&event.event_type).unwrap_or_default();
        let values = vec![
            event.saga_id.to_string().into(),
            number.unwrap_or_default().into(),
            event.event_type.label().into(),
            body.into(),
        ];
        self.append(&EVENTS, values).await.expect("a measurement whose store fails is over");
    }

    async fn saga_update(&self, id: SagaId, update: SagaCachedState) {
        let statement = sql("UPDATE bare_saga SET state = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(format!("{update:?}"));
        self.execute(statement).await.expect("a measurement whose store fails is over");
    }
}

async fn nothing(_: ActionContext<Untyped>) -> Result<u32, ActionError> {
    Ok(1)
}

async fn undo_nothing(_: ActionContext<Untyped>) -> Result<(), anyhow::Error> {
    Ok(())
}
