//! The cluster that rows are measured on.

use crate::workspace;
use anyhow::{Context, Result};
use camino::Utf8Path;
use testbed::{ClaimOrder, ClusterBuilder, KeeperCommand, OwnedCluster};

/// Starts one of these programs, from nothing, somewhere in `dir`; nothing is left when the answer is dropped.
pub(super) async fn start(programs: &Utf8Path, dir: &Utf8Path, sleds: usize) -> Result<OwnedCluster> {
    std::fs::create_dir_all(dir).with_context(|| format!("creating {dir}"))?;
    ClusterBuilder::new(dir)
        .name("bench")
        .sleds(sleds)
        .order(ClaimOrder::LowestFirst)
        .keeper(KeeperCommand::of_xtask(workspace::this_program()?))
        .remove_state(true)
        .bin_dir(programs)
        .start()
        .await
}
