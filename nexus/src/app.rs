//! Wiring: what depends on what, how it starts, how it stops.
//!
//! Start: state directory locked → identity → database (schema, epoch) → staging and scratch (what a crash left is
//! removed) → listeners → tasks → ready. A start needs a few KiB of disk, because each life gets its epoch before it
//! acts; without them it ends at once, says so, and leaves everything as it was.
//! Stop: listeners stop taking calls → running calls end → tasks end → database closes. Transfers are cut off: the
//! sleds discard what they have of a PUT and go on with copies by themselves, and the next life finds both.

use crate::{
    background_tasks,
    cluster_rows::LastRows,
    config::Config,
    database_watch,
    http::{self, Context},
    releases::{CleanUp, CleanUpError, Intake, StagingArea, StagingError},
    replication::{
        Observed, ReplicationTask, SledClients, collect::Collector, gauges::Gauges, transfers::Transfers,
    },
    sagas::{self, kinds, retention::RetentionTask, witness::Witness},
    task_metrics,
};
use axum::middleware::from_fn_with_state;
use camino::{Utf8Path, Utf8PathBuf};
use daemon::{
    state_file::{self, StateFileError},
    state_lock::{StateLock, StateLockError},
};
use http_edge::{
    Edge, Metrics, Readiness, Role, Server, ServerOptions, TokenTable,
    auth::{self, TokenFileError},
    serve::BindError,
};
use ids::CoordinatorId;
use nexus_database::{Database, DatabaseError, ErrorClass, Location, LocationError};
use nexus_tasks::Activator;
use serde::{Deserialize, Serialize};
use std::{error::Error, io, net::SocketAddr, sync::Arc, time::Duration};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// How long tasks may take to end at a stop, and then the database to close.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// The program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Who this coordinator is; kept in `<state_dir>/coordinator.json`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    version: u8,
    coordinator_id: CoordinatorId,
}

/// A coordinator that listens.
#[derive(Debug)]
pub struct Nexus {
    _state_lock: StateLock,
    context: Context,
    operator: (Server, axum::Router),
    internal: (Server, axum::Router),
    readiness: Readiness,
}

/// A coordinator that can not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Its state directory is not to be had.
    #[error(transparent)]
    StateLock(#[from] StateLockError),
    /// Its identity can not be kept.
    #[error(transparent)]
    Identity(#[from] StateFileError),
    /// A token is missing.
    #[error(transparent)]
    Token(#[from] TokenFileError),
    /// The config names no database.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The database can not be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The staging directory can not be used.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// What is staged can not be told.
    #[error(transparent)]
    CleanUp(#[from] CleanUpError),
    /// The scratch directory can not be emptied.
    #[error("cannot empty the scratch directory {path}")]
    Scratch {
        /// The directory.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk is full.
    #[error(
        "the disk under {state_dir} is full, and nothing was changed: free some space there and start again"
    )]
    NoSpace {
        /// The state directory.
        state_dir: Utf8PathBuf,
        /// What did not fit.
        #[source]
        source: Box<StartError>,
    },
    /// The kinds of sagas do not fit together: a mistake in the program.
    #[error(transparent)]
    Kinds(#[from] nexus_sagas::RegisterError),
    /// The archive of sagas can not be made.
    #[error("cannot make {state_dir}/saga-archive")]
    SagaArchive {
        /// The state directory.
        state_dir: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A port can not be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// Why a coordinator does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It has stopped by itself.
    #[error(transparent)]
    Superseded(#[from] Superseded),
}

/// Why a coordinator has stopped by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "another process has started as coordinator {coordinator}, after this one (epoch {epoch}), so this one has stopped: look for a copy of {state_dir}/coordinator.json on another host, or for a lock file that was deleted there, and run one process only"
)]
pub struct Superseded {
    /// Whose name both use.
    pub coordinator: CoordinatorId,
    /// That of the start that was superseded.
    pub epoch: u64,
    /// Where this one keeps its state.
    pub state_dir: Utf8PathBuf,
}

impl Nexus {
    /// Starts a coordinator up to the point where its ports are open.
    pub async fn start(config: Config) -> Result<Nexus, StartError> {
        let state_dir = config.state_dir.clone();
        let on_this_disk = matches!(config.database_location(), Ok(Location::Sqlite(_)));
        Nexus::begin(Arc::new(config)).await.map_err(|error| match is_no_space(&error, on_this_disk) {
            true => StartError::NoSpace { state_dir, source: Box::new(error) },
            false => error,
        })
    }

    async fn begin(config: Arc<Config>) -> Result<Nexus, StartError> {
        let state_lock = StateLock::take(&config.state_dir)?;
        let operator_token = auth::read_token_file(&config.auth.operator_token_file)?;
        let sled_token = auth::read_token_file(&config.auth.sled_token_file)?;
        let coordinator_token = auth::read_token_file(&config.auth.coordinator_token_file)?;
        let identity =
            state_file::update(&config.state_dir, "coordinator.json", |known: Option<Identity>| {
                known.unwrap_or_else(|| Identity { version: 1, coordinator_id: CoordinatorId::generate() })
            })?;
        let database = Database::open(config.database_location()?).await?;
        let coordinator = database.coordinator_start(identity.coordinator_id, &config.name, VERSION).await?;
        empty_scratch(&config.scratch_dir())?;
        let staging =
            StagingArea::open(&config.state_dir.join("staging"), config.release.staging_quota_bytes)?;
        let mut clean_up = CleanUp::new(database.clone(), staging, coordinator.id);
        clean_up_at_start(&mut clean_up).await?;
        serve_faults(&config);

        let operator = Server::bind(config.operator_address()).await?;
        let internal = Server::bind(config.internal_address()).await?;
        let metrics = Metrics::new("nexus", VERSION);
        let clients = SledClients::new(coordinator_token, config.address);
        let context = wire(config, database, clean_up, clients, coordinator, &metrics).await?;
        let readiness = Readiness::waiting_for(&[database_watch::CHECK, "listeners"]);
        readiness.report(database_watch::CHECK, Ok(()));
        let tokens = Arc::new(
            TokenTable::default().with(&operator_token, Role::Operator).with(&sled_token, Role::Sled),
        );
        let edge = |api, allowed| Edge {
            api,
            tokens: Some(Arc::clone(&tokens)),
            allowed,
            readiness: readiness.clone(),
            metrics: metrics.clone(),
        };
        let (router, document) = http::operator::router().split_for_parts();
        let in_time = from_fn_with_state(context.clone(), http::answer_in_time);
        let router = router.with_state(context.clone()).layer(in_time);
        let operator_router = edge("operator", &[]).around(router, &document);
        let (router, document) = http::internal::router().split_for_parts();
        let internal_router =
            edge("internal", &[Role::Sled]).around(router.with_state(context.clone()), &document);
        Ok(Nexus {
            _state_lock: state_lock,
            context,
            operator: (operator, operator_router),
            internal: (internal, internal_router),
            readiness,
        })
    }

    /// Where the operator API listens.
    #[must_use]
    pub fn operator_address(&self) -> SocketAddr {
        self.operator.0.local_address()
    }

    /// Where the sled-facing API listens.
    #[must_use]
    pub fn internal_address(&self) -> SocketAddr {
        self.internal.0.local_address()
    }

    /// Serves until `stop` turns true, then ends everything in order.
    ///
    /// # Errors
    /// It has stopped by itself, because another process has started as this coordinator.
    pub async fn run(self, stop: watch::Receiver<bool>) -> Result<(), Superseded> {
        let superseded = Superseded {
            coordinator: self.context.coordinator.id,
            epoch: self.context.coordinator.epoch,
            state_dir: self.context.config.state_dir.clone(),
        };
        let store = self.context.sagas.store.clone();
        let stop_all = self.context.stopping.clone();
        let stopping = stop_all.subscribe();
        let ends = async move {
            let mut stop = stop;
            let ended = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => Ok(()),
                () = store.superseded() => Err(superseded),
            };
            if let Err(error) = &ended {
                tracing::error!(error = error as &dyn Error, "coordinator stops");
            }
            stop_all.send_replace(true);
            ended
        };
        let (ended, ()) = tokio::join!(ends, self.serve(stopping));
        ended
    }

    /// The database is watched to the end: a stop must know whether it answers.
    async fn serve(self, stop: watch::Receiver<bool>) {
        let watching =
            database_watch::watch(self.context.database.clone(), self.readiness.clone(), stop.clone());
        tokio::select! {
            () = self.serve_and_end(stop) => {}
            () = watching => {}
        }
    }

    async fn serve_and_end(self, stop: watch::Receiver<bool>) {
        let options = ServerOptions::default();
        tracing::info!(
            coordinator = %self.context.coordinator.id,
            epoch = self.context.coordinator.epoch,
            cluster = %self.context.cluster_id,
            operator = %self.operator_address(),
            internal = %self.internal_address(),
            "coordinator ready"
        );
        self.readiness.report("listeners", Ok(()));
        let (operator, operator_router) = self.operator;
        let (internal, internal_router) = self.internal;
        tokio::join!(
            operator.run(operator_router, options, stop.clone()),
            internal.run(internal_router, options, stop),
        );
        let database = &self.context.database;
        match in_time(database, self.context.tasks.shutdown(STOP_LIMIT)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::warn!(error = &error as &dyn Error, "background tasks were cut off");
            }
            None => tracing::warn!("background tasks were cut off: they wait for the database"),
        }
        // After recovery, which would only resume them again. What they have not done, the next life does.
        if in_time(database, self.context.sagas.engine.halt()).await.is_none() {
            tracing::warn!("sagas were cut off");
        }
        if in_time(database, database.close()).await.is_none() {
            tracing::warn!("the database was not closed: it does not answer");
        }
        tracing::info!("coordinator stopped");
    }
}

/// Runs a part of the stop to its end, within the limit. There is no use in waiting for a database that does not answer: what
/// is not durable by now was never acknowledged.
async fn in_time<T>(database: &Database, ending: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        ended = ending => Some(ended),
        _ = database_watch::is_silent_at_stop(database) => None,
        // A task that is cut off at the limit itself says so first.
        () = tokio::time::sleep(STOP_LIMIT + STOP_LIMIT / 10) => None,
    }
}

/// Makes the scratch directory anew.
fn empty_scratch(path: &Utf8Path) -> Result<(), StartError> {
    let removed = match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    removed
        .and_then(|()| std::fs::create_dir_all(path))
        .map_err(|source| StartError::Scratch { path: path.to_owned(), source })
}

/// Whether space on the disk under the state directory is all that a start lacks; the database may be on another one.
fn is_no_space(error: &StartError, database_is_there: bool) -> bool {
    let of_database = |error: &DatabaseError| database_is_there && error.class() == ErrorClass::Full;
    match error {
        StartError::Database(error) | StartError::CleanUp(CleanUpError::Database(error)) => {
            of_database(error)
        }
        error => {
            let mut cause: Option<&(dyn Error + 'static)> = Some(error);
            while let Some(error) = cause {
                let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
                if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
                    return true;
                }
                cause = error.source();
            }
            false
        }
    }
}

/// Opens the fault socket if the config asks for it. That it can not be opened fails the test that wanted it, not the
/// process.
fn serve_faults(config: &Config) {
    if !config.testing.faults {
        return;
    }
    let path = config.state_dir.join("faults.sock");
    let serve = fault_points::serve(path.clone(), None);
    tokio::spawn(async move {
        if let Err(error) = serve.await {
            tracing::error!(%path, error = &error as &dyn Error, "the fault socket cannot be opened");
        }
    });
}

/// One upload that the disk cannot tell of keeps nobody from starting: the task looks again.
async fn clean_up_at_start(clean_up: &mut CleanUp) -> Result<(), CleanUpError> {
    match clean_up.pass().await {
        Err(CleanUpError::Staging(error @ StagingError::Look { .. })) => {
            tracing::error!(error = &error as &dyn Error, "the staging directory is not cleaned up");
            Ok(())
        }
        result => result.map(drop),
    }
}

async fn wire(
    config: Arc<Config>,
    database: Database,
    clean_up: CleanUp,
    clients: SledClients,
    coordinator: nexus_database::cluster::CoordinatorRow,
    metrics: &Metrics,
) -> Result<Context, StartError> {
    let cluster_id = database.cluster_id().await?;
    let cluster = LastRows::default();
    cluster.read(&database).await?;
    let staging = clean_up.staging.clone();
    let observed = Observed::default();
    let activator = Activator::new();
    let intake =
        Arc::new(Intake::new(database.clone(), staging.clone(), coordinator.id, &config, activator.clone()));
    let replication = ReplicationTask {
        database: database.clone(),
        cluster_id,
        coordinator_id: coordinator.id,
        settings: config.replication.clone(),
        observed: observed.clone(),
        collector: Collector::new(observed.clone(), clients.clone(), activator.clone()),
        transfers: Transfers {
            observed: observed.clone(),
            clients: clients.clone(),
            staging: staging.clone(),
            coordinator_id: coordinator.id,
            replication: activator.clone(),
            tracker: TaskTracker::new(),
        },
        staging: staging.clone(),
        gauges: Gauges::register(metrics),
        activator: activator.clone(),
        alarm: None,
    };
    let witness = Witness::new(&config.state_dir, coordinator.id, coordinator.epoch);
    let kinds = kinds::kinds(kinds::Parts { witness })?;
    let (sagas, recovery) = sagas::start(database.clone(), &coordinator, kinds);
    sagas::metrics::register(metrics, sagas.clone());
    let retention_activator = Activator::new();
    let keep = config.sagas.keep_ended();
    let retention =
        RetentionTask::open(database.clone(), &config.state_dir, keep, retention_activator.clone())
            .map_err(|source| StartError::SagaArchive { state_dir: config.state_dir.clone(), source })?;
    let parts = background_tasks::Parts {
        replication,
        replication_activator: activator.clone(),
        replication_period: config.replication.period(),
        recovery,
        recovery_activator: sagas.recovery.clone(),
        retention,
        retention_activator,
        clean_up,
    };
    let tasks = Arc::new(background_tasks::start(parts, &config.tasks));
    task_metrics::register(metrics, Arc::clone(&tasks));
    Ok(Context {
        config,
        database,
        cluster_id,
        coordinator,
        observed,
        clients,
        intake,
        staging,
        sagas,
        tasks,
        cluster,
        stopping: watch::Sender::new(false),
        replication: activator,
    })
}
