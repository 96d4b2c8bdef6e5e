//! What handlers may ask.

use crate::{
    cluster_rows::LastRows,
    config::Config,
    releases::{Intake, StagingArea},
    replication::{Observed, SledClients},
    sagas::Sagas,
};
use ids::ClusterId;
use nexus_database::{Database, cluster::CoordinatorRow};
use nexus_tasks::{Activator, Driver};
use std::sync::Arc;
use tokio::sync::watch;

/// Everything that a handler may ask. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    /// The config in force.
    pub config: Arc<Config>,
    /// The durable state.
    pub database: Database,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// This coordinator, in this life.
    pub coordinator: CoordinatorRow,
    /// What is known about sleds and transfers.
    pub observed: Observed,
    /// Connections to sleds.
    pub clients: SledClients,
    /// Takes uploads in.
    pub intake: Arc<Intake>,
    /// Where uploaded bytes are.
    pub staging: StagingArea,
    /// Work of several steps.
    pub sagas: Sagas,
    /// The background tasks.
    pub tasks: Arc<Driver>,
    /// What the database said last about the cluster as a whole.
    pub cluster: LastRows,
    /// Turns true when the coordinator is told to stop: whoever waits for something that may take long waits no longer.
    pub stopping: watch::Sender<bool>,
    /// Asks for a replication pass.
    pub replication: Activator,
}
