//! Fetching artifacts from peers' depots.
//!
//! ```text
//!              accepted             a slot is free            stored
//!   (request) ──────────► Queued ──────────────────► Running ─────────► Succeeded
//!                            │                          ├── no source delivers, no disk stores ──► Failed
//!                            └──────── cancelled ───────┴── cancelled, no longer wanted ─────────► Cancelled
//! ```
//!
//! Succeeded, failed and cancelled are terminal. A job moves by its own task only; whoever cancels asks the task. An
//! artifact has at most one job that has not ended: asking again joins it. A crash of the agent forgets every job and
//! leaves nothing of one but a temporary file, which the store removes at its next start; the coordinator finds the
//! artifact missing and asks again.
//!
//! - [`board`]: the jobs and their limits. [`fetch`]: one job's work.

mod board;
mod fetch;

pub use board::{CopyJobs, JobRefused};
pub use fetch::Fetcher;
