//! The replication planner: which sled gets which artifact from where.
//!
//! # The problem
//!
//! While a repository references an artifact, every sled in service is to hold verified copies of it; the coordinator
//! has the bytes once, in its staging area, and the sleds come, go, fill up and fail as they like. Somebody has to
//! say, again and again, what should travel now, and for everything else why it does not.
//!
//! # The theory
//!
//! A *pass* is short: collect, plan, start, report. Transfers run outside of passes, and each one that ends activates
//! the next pass. So no pass waits for a sled, the planner keeps no memory, and the way to recover from a crash of the
//! coordinator is the way of every pass: look at what is, and start what is missing.
//!
//! ```text
//!            ┌───────────────────────── a transfer ended, a sled returned, the wanted set changed ──┐
//!            ▼                                                                                      │
//!        collect ──Inputs──▶ plan (this crate: pure) ──Plan──▶ start transfers ──▶ report           │
//!            ▲                                                       │                              │
//!   database, sleds (config PUT, list),                              └──── run by themselves ───────┘
//!   transfers in flight, back-off
//! ```
//!
//! The coordinator PUTs an artifact once; from then on the sleds copy from each other, so the coordinator's own
//! network is no limit for a large cluster: each holder serves a few, and the holders double. Deletes are not planned
//! at all: a sled drops what its config in force does not want.
//!
//! What a crash of the coordinator leaves: PUTs end, copies go on (they are jobs of the target sled), and the next life
//! finds their results in the lists. What was in flight, the back-off and the count of PUTs are forgotten, which
//! costs at worst a repeated transfer. Staged bytes outlive the crash and are released only when `min_replication`
//! sleds can serve them.
//!
//! # Reading order
//!
//! - [`types`]: what the planner is told. [`plan()`]: what it promises. [`Plan`]: what it answers.
//! - `board`: the inputs as a dense table. `sources`: the least busy holder. `decide`: the decisions. `report`: what
//!   follows from them.
//!
//! No clock, no randomness, no I/O; who gathers the inputs and starts the transfers is the coordinator.

pub mod types;

mod plan;
pub mod summary;

mod board;
mod decide;
mod report;
mod sources;

pub use decide::plan;
pub use plan::{Blocked, Cell, CellTable, Plan, Start};
pub use summary::Summary;
pub use types::{Holdings, How, Inputs, Limits, Policy, SledView, Transfer, Wanted, WantedArtifact};
