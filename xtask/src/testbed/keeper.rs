//! The keeper's process: `cargo xtask testbed-keeper ORDERS`. Owns the reading of its orders; the waiting and the ending
//! are the `testbed` crate's.

use anyhow::{Context, Result};
use clap::Args;
use std::process::ExitCode;
use testbed::KeeperOrders;

/// What to watch, and what to end.
#[derive(Debug, Args)]
pub(crate) struct KeeperArgs {
    /// The orders, as JSON
    orders: String,
}

/// Runs the command; returns when the owner has ended and its cluster with it.
pub(crate) fn run(args: &KeeperArgs) -> Result<ExitCode> {
    let orders: KeeperOrders = serde_json::from_str(&args.orders).context("the orders are not understood")?;
    testbed::keep(&orders)?;
    Ok(ExitCode::SUCCESS)
}
