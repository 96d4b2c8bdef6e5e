//! The keeper: a small process that ends a cluster when the process that owns it dies without doing so. Owns that one
//! wait; what ending means is the teardown's business.
//!
//! ```text
//!   owner (foreground testbed, test) ──starts──► keeper, in a process group of its own
//!        │                                          │ pidfd of the owner: poll
//!        ├─ tears down, exits ─────────────────────►│ record is gone, stopped, or has another owner → exits
//!        └─ SIGKILL, crash, lost terminal ─────────►│ record still names the dead owner → ends the cluster
//! ```
//!
//! The owner may die at any instant. The record names it before the keeper and any other process is started, and what
//! was started without getting into the record is found by its command line (see the teardown).

use crate::{
    claim::Claims,
    layout::ClusterDirectory,
    process::ProcessIdentity,
    teardown::{AT_ONCE, Leave, tear_down},
};
use anyhow::{Context, Result};
use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use std::process::Stdio;

/// What a keeper is told, as one JSON argument.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeeperOrders {
    /// Directory in which the cluster's directory lies.
    pub parent: Utf8PathBuf,
    /// The cluster's name.
    pub name: String,
    /// Whose end is the cluster's end.
    pub owner: ProcessIdentity,
    /// Whether the cluster's directory is removed too.
    pub remove_state: bool,
}

/// The command line that starts a keeper; the orders are added as its last argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeeperCommand {
    /// The program.
    pub program: Utf8PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl KeeperCommand {
    /// The keeper that the developer commands have in them.
    #[must_use]
    pub fn of_xtask(program: impl Into<Utf8PathBuf>) -> KeeperCommand {
        KeeperCommand { program: program.into(), arguments: vec!["testbed-keeper".to_owned()] }
    }

    pub(crate) fn start(&self, orders: &KeeperOrders) -> Result<()> {
        let orders = serde_json::to_string(orders).context("encoding a keeper's orders")?;
        tokio::process::Command::new(&self.program)
            .args(&self.arguments)
            .arg(orders)
            // Not in a directory that will be removed, and not at the terminal that may go away.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting the keeper {}", self.program))?;
        Ok(())
    }
}

/// Waits for the owner's end, then ends the cluster if it is still the owner's. The body of the keeper's process;
/// blocks. Whether it had something to end.
pub fn keep(orders: &KeeperOrders) -> Result<bool> {
    if let Some(owner) = orders.owner.open()? {
        owner.ended_within_blocking(None)?;
    }
    if !orders.parent.is_dir() {
        // A test's directory, which the test has removed with all that was in it.
        return Ok(false);
    }
    let directory = ClusterDirectory::new(&orders.parent, &orders.name)?;
    let leave = if orders.remove_state { Leave::Nothing } else { Leave::State };
    tear_down(&directory, &Claims::of_this_user()?, AT_ONCE, leave, |record| {
        Ok(record.owner.as_ref() == Some(&orders.owner))
    })
}
