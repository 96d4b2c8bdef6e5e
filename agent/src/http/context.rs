//! What handlers may ask.

use crate::{config::Config, copy_jobs::CopyJobs, inventory::Host};
use artifact_store::ArtifactStore;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Everything that a handler may ask. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    /// The config in force.
    pub config: Arc<Config>,
    /// What does not change while the agent runs.
    pub host: Arc<Host>,
    /// The artifacts.
    pub store: ArtifactStore,
    /// Copies from peers.
    pub jobs: CopyJobs,
    /// Reads that the depot may serve at once.
    pub depot_reads: Arc<Semaphore>,
}
