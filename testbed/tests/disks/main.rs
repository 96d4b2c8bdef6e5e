//! Clusters whose sleds have data disks: the processes that serve them, and what is broken about them.
//!
//! - [`processes`]: who serves a disk, whoever is killed, paused, restarted or ends the cluster.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod processes;

use camino_tempfile::Utf8TempDir;
use std::time::Duration;
use testbed::{ClusterBuilder, OwnedCluster};

/// Far longer than anything here takes: hanging is the failure.
const LIMIT: Duration = Duration::from_secs(60);

async fn cluster(temp: &Utf8TempDir, name: &str, sleds: usize, disks: usize) -> OwnedCluster {
    let builder = ClusterBuilder::new(temp.path()).name(name).sleds(sleds).disks(disks);
    builder.start().await.expect("the cluster starts")
}
