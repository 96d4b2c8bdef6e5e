//! A coordinator that runs within the test, on a state directory of its own and on either database.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(dead_code, reason = "each test program uses some of it")]

use camino::Utf8Path;
use ids::SagaId;
use nexus::{Config, Nexus, RunError, Superseded};
use nexus_client::{
    ClientOptions, OperatorClient,
    sagas::{Saga, SagaWaitQuery},
};
use nexus_database::Location;
use std::{fs, os::unix::fs::PermissionsExt, time::Duration};
use test_postgres::TestDatabase;
use tokio::{sync::watch, task::JoinHandle};

/// Longer than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The database of a test.
pub(crate) enum Store {
    /// A file in the state directory.
    Sqlite,
    /// One of the server that all tests share.
    Postgres(TestDatabase),
}

impl Store {
    /// None on a machine without PostgreSQL, which is a failure in CI.
    pub(crate) fn postgres() -> Option<Store> {
        test_postgres::fresh_database().unwrap().map(Store::Postgres)
    }

    /// Where it is, of a coordinator with this state directory.
    pub(crate) fn location(&self, state_dir: &Utf8Path) -> Location {
        let file = state_dir.join("nexus.db");
        match self {
            Store::Sqlite => Location::Sqlite(file),
            Store::Postgres(database) => {
                Location::parse(&database.url, Some(&database.password_file), &file).unwrap()
            }
        }
    }
}

/// Makes two tests of a claim, one on each database.
#[allow(unused_macros, reason = "each test program uses some of it")]
macro_rules! on_both {
    ($(async fn $name:ident($store:ident: Store) $body:block)*) => {
        $(mod $name {
            #[allow(unused_imports, reason = "each claim uses some of them")]
            use super::*;

            async fn claim($store: Store) $body

            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                claim(Store::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                if let Some(store) = Store::postgres() {
                    claim(store).await;
                }
            }
        })*
    };
}

/// One that runs.
pub(crate) struct Process {
    pub(crate) operator: OperatorClient,
    pub(crate) running: JoinHandle<Result<(), Superseded>>,
    stop: watch::Sender<bool>,
}

/// With its state in `directory`, on ports that the kernel chooses.
pub(crate) fn config(directory: &Utf8Path, store: &Store) -> Config {
    let token = directory.join("token");
    fs::write(&token, "ab".repeat(32)).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let database = match store {
        Store::Sqlite => String::new(),
        Store::Postgres(TestDatabase { url, password_file, .. }) => {
            format!("[database]\nurl = '{url}'\npassword_file = '{password_file}'\n")
        }
    };
    let text = format!(
        "name = 'tested'\nstate_dir = '{directory}/state'\naddress = '127.0.0.1'\noperator_port = 0\ninternal_port = 0\n\
         [auth]\noperator_token_file = '{token}'\nsled_token_file = '{token}'\ncoordinator_token_file = '{token}'\n\
         {database}"
    );
    toml::from_str(&text).unwrap()
}

impl Process {
    pub(crate) async fn start(config: &Config) -> Result<Process, RunError> {
        let nexus = Nexus::start(config.clone()).await?;
        let url = format!("http://{}", nexus.operator_address());
        let options = ClientOptions { token: Some("ab".repeat(32)), ..ClientOptions::default() };
        let operator = OperatorClient::new(&url, &options).unwrap();
        let (stop, stopping) = watch::channel(false);
        Ok(Process { operator, running: tokio::spawn(nexus.run(stopping)), stop })
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(&mut self) {
        self.stop.send_replace(true);
        (&mut self.running).await.unwrap().unwrap();
    }

    /// The saga, once it is so.
    pub(crate) async fn look(&self, id: SagaId, is_so: impl Fn(&Saga) -> bool) -> Saga {
        let look = async {
            loop {
                let query = SagaWaitQuery { wait_seconds: Some(1) };
                let saga = self.operator.saga(id, &query).await.unwrap().saga;
                if is_so(&saga) {
                    return saga;
                }
            }
        };
        tokio::time::timeout(LIMIT, look).await.expect("it becomes so")
    }
}
