//! Wiring: what depends on what, how it starts, how it stops.
//!
//! Start: state directory locked → listeners → identity (a new epoch, durable) → store (temporary files removed, ledger
//! and records read; nothing is hashed) → records of regions and volumes → ready → registration, Downstairs, Pantry. Stop: listeners stop taking calls → running calls end →
//! store closes. Downstairs and Pantry go on.

use crate::{
    config::{Config, DiskKind, DiskSettings},
    copy_jobs::{CopyJobs, Fetcher},
    disks::{self, AssignError, Disk, Disks, Downstairs},
    faults::FaultableDisks,
    gauges,
    http::{self, Context, read_slots::ReadSlots},
    identity,
    inventory::Host,
    limits,
    pantry::{self, Pantry, handle::PantryStartError},
    regions::Regions,
    registration::{self, Subject},
    supervision::{Launch, Supervisor},
    tokens::{self, TokenError},
};
use api_client::ClientOptions;
use artifact_store::{ArtifactStore, DatasetConfig, StoreConfig};
use camino::{FromPathBufError, Utf8Path, Utf8PathBuf};
use daemon::{
    state_directory,
    state_file::StateFileError,
    state_lock::{StateLock, StateLockError},
};
use datasets::DatasetError;
use durable_fs::{DiskFaults, FaultyDisk, RealDisk, Storage, StorageError};
use http_edge::{Edge, Metrics, Readiness, Role, Server, ServerOptions, TokenTable, serve::BindError};
use nexus_client::registration::SledRegistration;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use thiserror::Error;
use tokio::sync::watch;

/// The program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// An agent that listens.
#[derive(Debug)]
pub struct Agent {
    _state_lock: StateLock,
    context: Context,
    options: ClientOptions,
    subject: Subject,
    metrics: Metrics,
    readiness: Readiness,
    sled: (Server, axum::Router),
    depot: (Server, axum::Router),
    supervisors: Vec<Supervisor<Downstairs>>,
    pantry: Supervisor<pantry::Process>,
}

/// An agent that can not start.
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
    Token(#[from] TokenError),
    /// A port can not be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A disk has no port.
    #[error(transparent)]
    Ports(#[from] AssignError),
    /// A disk's dataset has no name that could be one.
    #[error(transparent)]
    Disk(#[from] DatasetError),
    /// The directory of the regions' records cannot be made.
    #[error("cannot create {path}")]
    RecordsDirectory {
        /// Which.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The records of regions cannot be read.
    #[error("the records of regions cannot be read")]
    Records(#[from] StorageError),
    /// Volumes cannot be held.
    #[error(transparent)]
    Pantry(#[from] PantryStartError),
    /// The program's own path is not known.
    #[error("cannot tell where this program is, which has to be started for each disk")]
    Program(#[source] io::Error),
}

impl Agent {
    /// Starts an agent up to the point where its ports are open.
    pub async fn start(config: Config) -> Result<Agent, StartError> {
        let config = Arc::new(config);
        limits::raise_open_files();
        let state_lock = StateLock::take(&config.state_dir)?;
        let given = tokens::read(&config.auth)?;
        let sled = Server::bind(config.agent_address()).await?;
        let depot = Server::bind(config.depot_address()).await?;
        let identity = identity::start(&config.state_dir)?;
        let (store_config, mut faultable) = store_config(&config);
        let launch = launch(&config)?;
        let (disks, supervisors) = open_disks(&config, &launch, &mut faultable)?;
        serve_faults(&config, faultable);
        let store = ArtifactStore::open(store_config).await;
        let (pantry, pantry_supervisor) = Pantry::open(&config, launch)?;
        let regions = open_regions(&config.state_dir, disks.clone())?;

        let fetcher = Fetcher::new(store.clone(), config.address, config.artifacts.artifact_bytes_max);
        let jobs = CopyJobs::new(fetcher, config.artifacts.copies_at_once);
        let host = Arc::new(Host::look(&config.name, identity));
        let subject = Subject {
            id: identity.sled_id,
            registration: SledRegistration {
                name: config.name.clone(),
                agent_epoch: identity.agent_epoch,
                address: config.address,
                agent_port: sled.local_address().port(),
                depot_port: depot.local_address().port(),
                artifacts_revision: 0,
            },
            revision: store.revision(),
            health: store.health_revision(),
        };
        let options = ClientOptions {
            token: Some(given.own),
            source_address: Some(config.address),
            read_idle_timeout: None,
        };
        let depot_reads =
            ReadSlots::new(config.depot.max_concurrent_reads, config.depot.max_concurrent_reads_per_address);
        let context = Context { config, host, store, jobs, disks, regions, pantry, depot_reads };
        let readiness = Readiness::waiting_for(&["listeners", "store"]);
        readiness.report("store", Ok(()));
        let metrics = Metrics::new("sled-agent", VERSION);
        let tokens = Arc::new(
            TokenTable::default()
                .with(&given.operator, Role::Operator)
                .with(&given.coordinator, Role::Coordinator),
        );
        let edge = |api, tokens, allowed| Edge {
            api,
            tokens,
            allowed,
            readiness: readiness.clone(),
            metrics: metrics.clone(),
        };
        let (router, document) = http::sled::router().split_for_parts();
        let sled_router = edge("sled", Some(tokens), &[Role::Coordinator])
            .around(router.with_state(context.clone()), &document);
        let (router, document) = http::depot::router().split_for_parts();
        let depot_router = edge("depot", None, &[]).around(router.with_state(context.clone()), &document);
        let (sled, depot) = ((sled, sled_router), (depot, depot_router));
        Ok(Agent {
            _state_lock: state_lock,
            context,
            options,
            subject,
            metrics,
            readiness,
            sled,
            depot,
            supervisors,
            pantry: pantry_supervisor,
        })
    }

    /// Where the sled API listens.
    #[must_use]
    pub fn agent_address(&self) -> SocketAddr {
        self.sled.0.local_address()
    }

    /// Where the repo depot listens.
    #[must_use]
    pub fn depot_address(&self) -> SocketAddr {
        self.depot.0.local_address()
    }

    /// Serves until `stop` turns true, then ends everything in order.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let options = ServerOptions::default();
        tracing::info!(
            sled = %self.subject.id,
            epoch = %self.subject.registration.agent_epoch,
            agent = %self.agent_address(),
            depot = %self.depot_address(),
            "sled agent ready"
        );
        self.readiness.report("listeners", Ok(()));
        for coordinator in &self.context.config.coordinators {
            tokio::spawn(registration::run(
                coordinator.clone(),
                self.options.clone(),
                self.subject.clone(),
                stop.clone(),
            ));
        }
        for supervisor in self.supervisors {
            tokio::spawn(supervisor.run(stop.clone()));
        }
        tokio::spawn(self.pantry.run(stop.clone()));
        tokio::spawn(self.context.regions.clone().resume(stop.clone()));
        tokio::spawn(self.context.regions.clone().tend_clones(stop.clone()));
        tokio::spawn(gauges::run(self.context.store.clone(), self.metrics, stop.clone()));
        let (sled, sled_router) = self.sled;
        let (depot, depot_router) = self.depot;
        tokio::join!(sled.run(sled_router, options, stop.clone()), depot.run(depot_router, options, stop),);
        self.context.store.shutdown().await;
        tracing::info!("sled agent stopped");
    }
}

/// How processes are started that outlive the agent.
fn launch(config: &Config) -> Result<Launch, StartError> {
    let program = std::env::current_exe()
        .and_then(|path| Utf8PathBuf::try_from(path).map_err(FromPathBufError::into_io_error))
        .map_err(StartError::Program)?;
    let fault_sockets = config.testing.faults.then(|| config.state_dir.clone());
    Ok(Launch { program, log_format: config.log.format, fault_sockets })
}

/// The disks that hold regions, and who sees to it that each is served. Directories can be faulted if the config asks for that.
fn open_disks(
    config: &Config,
    launch: &Launch,
    faultable: &mut FaultableDisks,
) -> Result<(Disks, Vec<Supervisor<Downstairs>>), StartError> {
    let ids: Vec<_> = config.disks.iter().map(|disk| disk.id).collect();
    let ports = disks::assign(&config.state_dir, &ids, config.supervised_ports)?;
    let open = |disk: &DiskSettings| {
        let can_fail = config.testing.faults && matches!(disk.kind, DiskKind::Directory(_));
        let faults = can_fail.then(DiskFaults::new);
        if let Some(faults) = &faults {
            faultable.add_data(&disk.name, faults.clone());
        }
        let address = SocketAddr::new(config.address, ports[&disk.id]);
        Disk::open(disk, address, launch, &config.state_dir, faults)
    };
    let opened: Vec<_> = config.disks.iter().map(open).collect::<Result<_, _>>()?;
    let (disks, supervisors) = opened.into_iter().unzip();
    Ok((Disks::new(disks), supervisors))
}

/// The regions, as their records in the state directory have them.
fn open_regions(state_dir: &Utf8Path, disks: Disks) -> Result<Regions, StartError> {
    let path = state_dir.join("regions");
    state_directory::create(&path)
        .map_err(|source| StartError::RecordsDirectory { path: path.clone(), source })?;
    Ok(Regions::open(Arc::new(RealDisk::new(path)), disks)?)
}

/// The store's config, and the disks that can be faulted if the config asks for that.
fn store_config(config: &Config) -> (StoreConfig, FaultableDisks) {
    let mut faultable = FaultableDisks::default();
    let datasets = config
        .m2
        .iter()
        .map(|m2| {
            let disk = RealDisk::new(&m2.dir);
            let storage: Arc<dyn Storage> = if config.testing.faults {
                let faults = DiskFaults::new();
                let faulty = FaultyDisk::new(disk.clone(), faults.clone());
                faultable.add(&m2.name, disk, faults);
                Arc::new(faulty)
            } else {
                Arc::new(disk)
            };
            DatasetConfig { name: m2.name.clone(), dir: m2.dir.clone(), storage, quota_bytes: m2.quota_bytes }
        })
        .collect();
    let mut store = StoreConfig::new(datasets);
    store.trash_grace = Duration::from_secs(u64::from(config.artifacts.trash_grace_secs));
    store.scrub_bytes_per_second = config.artifacts.scrub_bytes_per_second;
    store.scrub_after = Duration::from_secs(u64::from(config.artifacts.scrub_after_days.get()) * 24 * 3600);
    (store, faultable)
}

/// Opens the fault socket if the config asks for it. That it can not be opened fails the test that wanted it, not the
/// process.
fn serve_faults(config: &Config, disks: FaultableDisks) {
    if !config.testing.faults {
        return;
    }
    let path = config.state_dir.join("faults.sock");
    let serve = fault_points::serve(path.clone(), Some(Arc::new(disks)));
    tokio::spawn(async move {
        if let Err(error) = serve.await {
            tracing::error!(%path, error = &error as &dyn std::error::Error, "the fault socket cannot be opened");
        }
    });
}
