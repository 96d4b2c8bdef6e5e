//! Clusters that are broken: the processes that serve sleds' disks and hold volumes, the disks themselves, and the wires between sleds.
//!
//! - [`processes`]: who serves a disk, whoever is killed, paused, restarted or ends the cluster.
//! - [`pantry`]: the same of who holds volumes.
//! - [`faults`]: a disk that fails for who serves it, and for its agent.
//! - [`repairs`]: coordinators are told of what it fills, also while nobody can be told.
//! - [`partition`]: who is cut off. [`cut_work`]: what is under way with others then.
//! - [`holders`]: one contract of all who hold a volume.
//! - [`volume`]: a volume by hand over them, while they are broken.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cut_work;
mod faults;
mod holders;
mod pantry;
mod partition;
mod processes;
mod repairs;
mod volume;

use camino_tempfile::Utf8TempDir;
use std::time::Duration;
use testbed::{ClusterBuilder, OwnedCluster};

/// Far longer than anything here takes: hanging is the failure.
const LIMIT: Duration = Duration::from_secs(60);

async fn cluster(temp: &Utf8TempDir, name: &str, sleds: usize, disks: usize) -> OwnedCluster {
    let builder = ClusterBuilder::new(temp.path()).name(name).sleds(sleds).disks(disks);
    builder.start().await.expect("the cluster starts")
}
