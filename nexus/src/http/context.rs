//! What handlers may ask.

use crate::{
    config::Config,
    releases::{Intake, StagingArea},
    replication::{Observed, SledClients},
    sagas::Sagas,
};
use ids::ClusterId;
use nexus_database::{Database, cluster::CoordinatorRow};
use nexus_tasks::{Activator, Driver};
use std::sync::Arc;

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
    /// Asks for a replication pass.
    pub replication: Activator,
}
