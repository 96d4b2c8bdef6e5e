//! Sagas that nobody executes and that an operator gives up: the answer is true, and what was said stays until recovery has
//! decided.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[macro_use]
mod process;

use ids::SagaId;
use nexus::Config;
use nexus_client::{
    ClientError,
    issues::IssueCode,
    sagas::{DemoSaga, Saga, SagaAbandon, SagaState},
};
use nexus_database::{Database, during, sql::sql};
use process::{Process, Store, config};

struct Scene {
    config: Config,
    process: Process,
    store: Store,
    _directory: camino_tempfile::Utf8TempDir,
}

impl Scene {
    /// Sagas that wait for their signals, of which these changes were made while no coordinator ran.
    async fn with(store: Store, changes: &[&'static str]) -> (Scene, Vec<SagaId>) {
        let directory = camino_tempfile::tempdir().unwrap();
        let config = config(directory.path(), &store);
        let process = Process::start(&config).await.unwrap();
        let mut scene = Scene { config, process, store, _directory: directory };
        let mut ids = Vec::new();
        for _ in changes {
            let demo = DemoSaga { wait_for_signal: true, ..DemoSaga::default() };
            let id = scene.process.operator.saga_demo(&demo).await.unwrap().id;
            scene.process.look(id, |saga| saga.state == SagaState::Waiting).await;
            ids.push(id);
        }
        scene.process.stop().await;
        for (change, id) in changes.iter().zip(&ids) {
            scene.change(change, *id).await;
        }
        scene.process = Process::start(&scene.config).await.unwrap();
        (scene, ids)
    }

    /// Somebody's hand, while the coordinator runs or not.
    async fn change(&self, words: &'static str, id: SagaId) {
        let database = Database::open(self.store.location(&self.config.state_dir)).await.unwrap();
        let id = &id.to_string();
        let changed = database.write("change a row", |mut tx| {
            Box::pin(async move {
                let statement = sql(words);
                let statement = if words.contains("$1") { statement.bind(id) } else { statement };
                statement.execute(&mut *tx).await.map_err(during("change a row"))
            })
        });
        changed.await.unwrap();
        database.close().await;
    }

    async fn abandon(&self, id: SagaId, reason: &str) -> Result<Saga, ClientError> {
        self.process.operator.saga_abandon(id, &SagaAbandon { reason: reason.to_owned() }).await
    }
}

fn refusal(answer: Result<Saga, ClientError>) -> (String, String) {
    match answer {
        Err(ClientError::Problem { problem, .. }) => (problem.code, problem.detail),
        other => panic!("that is no refusal: {other:?}"),
    }
}

const OTHER_VERSION: &str = "UPDATE saga SET version = 99 WHERE id = $1";
const OTHER_DIGEST: &str = "UPDATE saga_definition SET digest = 'of another plan' WHERE saga_id = $1";

/// What makes a store take no saga's end as abandoned, and what ends that.
fn no_ends(store: &Store) -> (&'static str, &'static str) {
    match store {
        Store::Sqlite => (
            "CREATE TRIGGER no_end BEFORE UPDATE ON saga WHEN NEW.state = 'abandoned' \
             BEGIN SELECT RAISE(ABORT, 'no ends today'); END",
            "DROP TRIGGER no_end",
        ),
        Store::Postgres(_) => (
            "ALTER TABLE saga ADD CONSTRAINT \"no ends today\" CHECK (state <> 'abandoned')",
            "ALTER TABLE saga DROP CONSTRAINT \"no ends today\"",
        ),
    }
}

on_both! {
    async fn a_saga_that_can_be_gone_on_with_after_all_hears_the_word_as_any_that_is_executed(store: Store) {
        let (mut scene, ids) = Scene::with(store, &[OTHER_VERSION]).await;
        scene.process.look(ids[0], |saga| saga.cannot_go_on).await;
        scene.change("UPDATE saga SET version = 1 WHERE id = $1", ids[0]).await;
        let (code, detail) = refusal(scene.abandon(ids[0], "that version is gone").await);
        assert_eq!(code, "saga_needs_no_attention", "{detail}");
        assert!(scene.process.look(ids[0], |saga| saga.executing).await.abandoned_because.is_none());
        scene.process.stop().await;
    }

    async fn of_two_who_give_up_the_same_saga_neither_hears_that_it_was_not_taken(store: Store) {
        let (mut scene, ids) = Scene::with(store, &[OTHER_DIGEST]).await;
        scene.process.look(ids[0], |saga| saga.cannot_go_on).await;
        let (one, other) =
            tokio::join!(scene.abandon(ids[0], "one says so"), scene.abandon(ids[0], "another says so"));
        let saga = scene.process.look(ids[0], |saga| saga.state.is_ended()).await;
        assert_eq!(saga.state, SagaState::Abandoned);
        for answer in [one, other] {
            assert_eq!(answer.unwrap().abandoned_because, saga.abandoned_because);
        }
        scene.process.stop().await;
    }

    async fn what_the_store_does_not_take_is_done_once_it_does_though_nobody_waits_any_more(store: Store) {
        let (mut scene, ids) = Scene::with(store, &[OTHER_VERSION, OTHER_DIGEST]).await;
        for id in &ids {
            scene.process.look(*id, |saga| saga.cannot_go_on).await;
        }
        let (refuse, take_again) = no_ends(&scene.store);
        scene.change(refuse, ids[0]).await;
        let (one, other) =
            tokio::join!(scene.abandon(ids[0], "it is enough"), scene.abandon(ids[1], "it is enough"));
        for answer in [one, other] {
            let (code, detail) = refusal(answer);
            assert_eq!(code, "database_unavailable", "{detail}");
            assert!(detail.contains("no ends today"), "{detail}");
        }
        let issues = scene.process.operator.status().await.unwrap().issues;
        let not_resumed: Vec<_> = issues.iter().filter(|issue| issue.is(IssueCode::SagaNotResumed)).collect();
        assert!(not_resumed.iter().any(|issue| issue.detail.contains("no ends today")), "{issues:?}");
        scene.change(take_again, ids[0]).await;
        for id in ids {
            let saga = scene.process.look(id, |saga| saga.state.is_ended()).await;
            assert_eq!(saga.abandoned_because.as_deref(), Some("it is enough"), "{saga:?}");
        }
        scene.process.stop().await;
    }
}
