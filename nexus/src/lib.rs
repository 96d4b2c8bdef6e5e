//! The coordinator: what the cluster should be, and who sees to it that it becomes so.
//!
//! ```text
//!   operators ──► http::operator ──┐                             ┌── replication (background task)
//!                                  ├──► releases (intake) ──► database ──► collect → plan → start → report
//!   sleds ─────► http::internal ───┘         │                               │
//!                     │                   staging ◄── PUT from the zip ── transfers ──► sleds
//!                     └──► observed (what each sled said last) ◄─────────────┘
//! ```
//!
//! - [`config`]: the config file. [`app`]: wiring, start and stop. `database_watch`: whether it takes writes;
//!   `database_commands`: `nexus db`.
//! - [`releases`]: trust roots and uploads, from the first byte to the acknowledgement.
//! - [`replication`]: from the wanted set to verified copies on every sled.
//! - [`sagas`]: work of several steps, executed to its end or undone.
//! - [`background_tasks`]: which tasks there are. [`task_metrics`], [`task_issues`]: what they do, in numbers, and
//!   what is wrong with it. [`http`]: the two APIs, call by call.
//!
//! Durable state is the database's (`nexus-database`) and the staging directory's, and nothing else: every other
//! structure here is rebuilt from them and from the sleds after a crash. Nothing assumes that there is only one
//! coordinator: rows that name local files name the coordinator that holds them.

pub mod app;
pub mod background_tasks;
pub mod cluster_rows;
pub mod config;
mod database_commands;
mod database_watch;
pub mod http;
pub mod releases;
pub mod replication;
pub mod sagas;
pub mod task_issues;
pub mod task_metrics;

pub use app::{Nexus, RunError, StartError, Superseded};
pub use config::Config;
pub use database_commands::{DatabaseCommand, DatabaseCommandError, run as run_database_command};
