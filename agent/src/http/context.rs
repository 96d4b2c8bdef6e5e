//! What handlers may ask.

use crate::{
    config::Config, copy_jobs::CopyJobs, disks::Disks, http::read_slots::ReadSlots, inventory::Host,
    pantry::Pantry, regions::Regions,
};
use artifact_store::ArtifactStore;
use std::sync::Arc;

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
    /// The disks that hold regions.
    pub disks: Disks,
    /// The regions.
    pub regions: Regions,
    /// The volumes that the sled holds with no VM.
    pub pantry: Pantry,
    /// Who may read from the depot now.
    pub depot_reads: ReadSlots,
}
