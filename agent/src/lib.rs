//! The sled agent: one per host. It owns no logic that a library could own; it wires libraries to HTTP, to the
//! coordinator and to the host.
//!
//! ```text
//!   coordinator ◄── registration (heartbeats) ──┐
//!        │                                      │
//!        ├──► http::sled (12345, tokens) ──┬──► artifact-store ──► M.2 datasets
//!        │                                 ├──► copy_jobs ──► peers' depots
//!        │                                 ├──► regions ──► disks ──► datasets, a Downstairs for each disk
//!        │                                 └──► pantry ──► the process that holds volumes with no VM
//!   peers ──► http::depot (12348, public reads) ──► artifact-store
//! ```
//!
//! - [`config`]: the config file. [`tokens`]: the token files. [`identity`]: who this sled is, and which life of its agent.
//! - [`app`]: wiring, start and stop. `limits`: what the host lets the process have.
//! - [`copy_jobs`]: fetching artifacts from peers.
//! - [`disks`]: the disks that hold regions, and the process that serves each. [`regions`]: what coordinators ask to be on them.
//! - [`pantry`]: volumes that the sled holds with no VM, and the process that has them.
//! - [`supervision`]: that the processes run which outlive the agent.
//! - [`registration`]: telling the coordinators that this sled lives.
//! - [`inventory`]: what this host is. [`faults`]: disk faults on command, for tests.
//! - [`volumes`]: regions and exports by hand.
//! - [`http`]: the two APIs, call by call.

pub mod app;
pub mod config;
pub mod copy_jobs;
pub mod disks;
pub mod faults;
mod gauges;
pub mod http;
pub mod identity;
pub mod inventory;
mod limits;
pub mod pantry;
pub mod regions;
pub mod registration;
pub mod supervision;
pub mod tokens;
pub mod volumes;

pub use app::{Agent, StartError};
pub use config::Config;
