//! Two processes as one coordinator, because somebody has deleted the lock between them: nothing runs twice for long, and the
//! first one ends by itself.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use camino::Utf8Path;
use nexus::{Config, Nexus, RunError, Superseded};
use nexus_client::{
    ClientOptions, OperatorClient,
    sagas::{DemoSaga, SagaSignal, SagaState, SagaWaitQuery},
};
use std::{fs, os::unix::fs::PermissionsExt, time::Duration};
use tokio::{sync::watch, task::JoinHandle};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

struct Process {
    operator: OperatorClient,
    running: JoinHandle<Result<(), Superseded>>,
    stop: watch::Sender<bool>,
}

fn config(directory: &Utf8Path) -> Config {
    let token = directory.join("token");
    fs::write(&token, "ab".repeat(32)).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "name = 'twice'\nstate_dir = '{directory}/state'\naddress = '127.0.0.1'\noperator_port = 0\ninternal_port = 0\n\
         [auth]\noperator_token_file = '{token}'\nsled_token_file = '{token}'\ncoordinator_token_file = '{token}'\n"
    );
    toml::from_str(&text).unwrap()
}

async fn start(config: Config) -> Result<Process, RunError> {
    let nexus = Nexus::start(config).await?;
    let url = format!("http://{}", nexus.operator_address());
    let options = ClientOptions { token: Some("ab".repeat(32)), ..ClientOptions::default() };
    let operator = OperatorClient::new(&url, &options).unwrap();
    let (stop, stopping) = watch::channel(false);
    Ok(Process { operator, running: tokio::spawn(nexus.run(stopping)), stop })
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_that_are_one_coordinator_the_first_one_ends_and_the_second_goes_on() {
    let directory = camino_tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let first = start(config.clone()).await.unwrap();
    let waiting = DemoSaga { wait_for_signal: true, ..DemoSaga::default() };
    let id = first.operator.saga_demo(&waiting).await.unwrap().id;

    let refused = start(config.clone()).await.err().expect("the directory is taken");
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    fs::remove_file(config.state_dir.join("lock")).unwrap();
    let second = start(config.clone()).await.unwrap();

    let refused = first.operator.saga_demo(&DemoSaga::default()).await.unwrap_err();
    assert!(refused.to_string().contains("another process has started as this coordinator"), "{refused}");
    let ended = tokio::time::timeout(LIMIT, first.running).await.unwrap().unwrap();
    let error = ended.unwrap_err();
    assert_eq!(error.state_dir, config.state_dir);
    assert!(error.to_string().contains("lock file that was deleted"), "{error}");

    // It has taken with it what it executed: the second has it.
    let proceed = SagaSignal { name: "proceed".to_owned(), value: serde_json::Value::Null };
    second.operator.saga_signal(id, &proceed).await.unwrap();
    let ended = tokio::time::timeout(LIMIT, async {
        loop {
            let saga = second.operator.saga(id, &SagaWaitQuery { wait_seconds: Some(5) }).await.unwrap();
            if saga.saga.state.is_ended() {
                return saga.saga;
            }
        }
    });
    assert_eq!(ended.await.unwrap().state, SagaState::Succeeded);
    second.stop.send_replace(true);
    second.running.await.unwrap().unwrap();
}
