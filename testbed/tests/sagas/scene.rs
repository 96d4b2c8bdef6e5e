//! What every test here starts from: one coordinator without sleds, and demo sagas on it. Owns starting, asking and
//! waiting; what is right is the tests' to say.

use crate::chosen_database::{chosen, on_chosen_database};
use camino_tempfile::Utf8TempDir;
use ids::SagaId;
use nexus_client::{
    ClientError, OperatorClient,
    issues::{Issue, IssueCode},
    sagas::{DemoSaga, SagaAbandon, SagaDetail, SagaSignal, SagaState, SagaWaitQuery},
    tasks::FinishedPass,
};
use nexus_database::Location;
use serde_json::Value;
use std::{ops::Deref, time::Duration};
use testbed::{Cluster, ClusterBuilder, DemoEffects, DemoEnd, KillScope, OwnedCluster, wait_for};

/// Far longer than anything here takes, also on a machine that does much else: hanging is the failure.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The one coordinator.
pub(crate) const COORDINATOR: &str = "nexus-1";

/// A coordinator.
pub(crate) struct Scene {
    cluster: OwnedCluster,
    pub(crate) operator: OperatorClient,
    _temp: Utf8TempDir,
}

impl Deref for Scene {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Scene {
    /// On the database that was chosen for this thread.
    pub(crate) async fn start() -> Scene {
        Scene::with(|builder| builder).await
    }

    /// With TOML laid over its config.
    pub(crate) async fn configured(config: &str) -> Scene {
        let config = toml::from_str(config).expect("the test's own TOML");
        Scene::with(|builder| builder.nexus_config(config)).await
    }

    /// Built in another way than by default.
    pub(crate) async fn with(build: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Scene {
        let temp = Utf8TempDir::new().expect("a directory for the test");
        let builder = build(ClusterBuilder::new(temp.path()).name("sagas").sleds(0));
        let cluster = on_chosen_database(builder).start().await.expect("the coordinator starts");
        let operator = cluster.operator().expect("the coordinator has an address");
        Scene { cluster, operator, _temp: temp }
    }

    /// Where its database is.
    pub(crate) fn database(&self) -> Location {
        let file = self.directory().state_dir(COORDINATOR).join("nexus.db");
        match chosen() {
            Some((url, password_file)) => Location::parse(&url, Some(&password_file), &file)
                .expect("it is where the coordinator is told"),
            None => Location::Sqlite(file),
        }
    }

    /// Begins a demo saga.
    pub(crate) async fn begin(&self, demo: DemoSaga) -> SagaId {
        self.operator.saga_demo(&demo).await.expect("it is accepted").id
    }

    /// Begins a demo saga and returns when it waits for its signal.
    pub(crate) async fn begin_waiting(&self, demo: DemoSaga) -> SagaId {
        let id = self.begin(DemoSaga { wait_for_signal: true, ..demo }).await;
        self.waits_for(id, "the signal proceed (wait)").await;
        id
    }

    /// The saga, as it is.
    pub(crate) async fn saga(&self, id: SagaId) -> SagaDetail {
        self.operator.saga(id, &SagaWaitQuery::default()).await.expect("it is there")
    }

    /// The saga, once it has ended.
    pub(crate) async fn ended(&self, id: SagaId) -> SagaDetail {
        let query = SagaWaitQuery { wait_seconds: Some(20) };
        let saga = self.operator.saga(id, &query).await.expect("it is there");
        assert!(saga.saga.state.is_ended(), "it has not ended: {saga:?}");
        assert!(saga.saga.ended_at.is_some() && !saga.saga.executing, "{saga:?}");
        assert_eq!(saga.saga.waits_for, None);
        saga
    }

    /// The saga, once it is in this state, and, unless it has ended, executed.
    pub(crate) async fn in_state(&self, id: SagaId, state: SagaState) -> SagaDetail {
        self.look(&format!("{} of {id}", state.word()), async || {
            let saga =
                self.operator.saga(id, &SagaWaitQuery::default()).await.map_err(|it| it.to_string())?;
            let is_there = saga.saga.state == state && saga.saga.executing != state.is_ended();
            if is_there { Ok(saga) } else { Err(format!("{saga:?}")) }
        })
        .await
    }

    /// The saga, once it waits for this.
    pub(crate) async fn waits_for(&self, id: SagaId, what: &str) -> SagaDetail {
        let saga = self
            .look(&format!("{id} to wait for {what}"), async || {
                let saga = self.operator.saga(id, &SagaWaitQuery::default()).await;
                let saga = saga.map_err(|it| it.to_string())?;
                let waits_for = saga.saga.waits_for.as_deref().unwrap_or_default();
                if waits_for.contains(what) { Ok(saga) } else { Err(format!("{saga:?}")) }
            })
            .await;
        assert_eq!(saga.saga.state, SagaState::Waiting);
        saga
    }

    /// Says `proceed`.
    pub(crate) async fn proceed(&self, id: SagaId) {
        let signal = SagaSignal { name: "proceed".to_owned(), value: Value::Null };
        self.operator.saga_signal(id, &signal).await.expect("the signal is taken");
    }

    /// Gives it up.
    pub(crate) async fn abandon(&self, id: SagaId, reason: &str) -> Result<(), ClientError> {
        let reason = reason.to_owned();
        self.operator.saga_abandon(id, &SagaAbandon { reason }).await.map(drop)
    }

    /// What a saga has left.
    pub(crate) fn effects(&self, id: SagaId) -> DemoEffects {
        self.demo_effects(id).expect("what it has left can be read")
    }

    /// The saga ends well, and each of its nodes has run once.
    pub(crate) async fn succeeds_with_every_node_once(&self, id: SagaId) {
        let saga = self.ended(id).await;
        assert_eq!(saga.saga.state, SagaState::Succeeded, "{saga:?}");
        let effects = self.effects(id);
        assert_eq!(effects.findings(DemoEnd::Succeeded), Vec::<String>::new(), "{effects}");
        assert!(effects.repeated().is_empty(), "{effects}");
    }

    /// The saga ends as failed, and all that it has left is undone; once.
    pub(crate) async fn fails_with_everything_undone_once(&self, id: SagaId, end: DemoEnd<'_>) -> SagaDetail {
        let saga = self.ended(id).await;
        assert_eq!(saga.saga.state, SagaState::Failed, "{saga:?}");
        let effects = self.effects(id);
        assert_eq!(effects.findings(end), Vec::<String>::new(), "{effects}");
        assert!(effects.repeated().is_empty(), "{effects}");
        saga
    }

    /// A pass of a background task that began after this.
    pub(crate) async fn pass(&self, task: &str) -> FinishedPass {
        let task = self.operator.task_activate(task, true).await.expect("the task runs");
        task.answer.expect("it was waited for")
    }

    /// The issues of this code.
    pub(crate) async fn issues(&self, code: IssueCode) -> Vec<Issue> {
        let status = self.operator.status().await.expect("the coordinator answers");
        status.issues.into_iter().filter(|issue| issue.is(code)).collect()
    }

    /// Looks until it is as it should be, at most [`LIMIT`].
    pub(crate) async fn look<T>(&self, what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
        wait_for(what, LIMIT, look).await.expect("it happens in time")
    }

    /// SIGKILL, and another life.
    pub(crate) async fn kill_and_restart(&self) {
        self.cluster.kill(COORDINATOR, KillScope::WholeSled).await.expect("it was running");
        self.cluster.restart(COORDINATOR).await.expect("it starts");
    }
}

/// Status and code of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (u16, String) {
    match answer.expect_err("it is refused") {
        ClientError::Problem { problem, .. } => (problem.status, problem.code),
        other => panic!("that is no refusal: {other:?}"),
    }
}

/// As [`refusal`] says it.
pub(crate) fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}
