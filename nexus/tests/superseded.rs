//! Two processes as one coordinator, because somebody has deleted the lock between them: nothing runs twice for long, and the
//! first one ends by itself.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[macro_use]
mod process;

use camino::Utf8Path;
use ids::SagaId;
use nexus_client::sagas::{DemoSaga, SagaSignal, SagaState};
use process::{LIMIT, Process, Store, config};
use std::fs;

/// Lines that each node of a saga has left, as its files have them.
fn effects(state_dir: &Utf8Path, id: SagaId) -> Vec<String> {
    let directory = state_dir.join("demo-effects").join(id.to_string());
    let files = fs::read_dir(directory).unwrap();
    files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

on_both! {
    async fn of_two_processes_that_are_one_coordinator_the_first_one_ends_and_the_second_goes_on(store: Store) {
        let directory = camino_tempfile::tempdir().unwrap();
        let config = config(directory.path(), &store);
        let first = Process::start(&config).await.unwrap();
        let waiting = DemoSaga { wait_for_signal: true, ..DemoSaga::default() };
        let id = first.operator.saga_demo(&waiting).await.unwrap().id;
        // What is under way at a takeover runs again. Nothing is then but the node that waits.
        first.look(id, |saga| saga.state == SagaState::Waiting).await;

        let refused = Process::start(&config).await.err().expect("the directory is taken");
        assert!(refused.to_string().contains("in use by another process"), "{refused}");
        fs::remove_file(config.state_dir.join("lock")).unwrap();
        let mut second = Process::start(&config).await.unwrap();

        let refused = first.operator.saga_demo(&DemoSaga::default()).await.unwrap_err();
        assert!(refused.to_string().contains("another process has started as this coordinator"), "{refused}");
        let ended = tokio::time::timeout(LIMIT, first.running).await.unwrap().unwrap();
        let error = ended.unwrap_err();
        assert_eq!(error.state_dir, config.state_dir);
        assert!(error.to_string().contains("lock file that was deleted"), "{error}");

        // It has taken with it what it executed: the second has it.
        let proceed = SagaSignal { name: "proceed".to_owned(), value: serde_json::Value::Null };
        second.operator.saga_signal(id, &proceed).await.unwrap();
        assert_eq!(second.look(id, |saga| saga.state.is_ended()).await.state, SagaState::Succeeded);
        let effects = effects(&config.state_dir, id);
        assert!(!effects.is_empty());
        assert!(effects.iter().all(|lines| lines.lines().count() == 1), "each node has run once: {effects:?}");
        second.stop().await;
    }
}
