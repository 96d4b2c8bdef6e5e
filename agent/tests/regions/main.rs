//! Regions on a sled: their records through crashes, and the processes that serve them.
//!
//! - [`crash`]: a crash at every named step of a record, within one process.
//! - [`agent`]: a real agent with disks. [`downstairs`]: that its Downstairs are there, whoever dies. [`volume`]: a volume on them.
//!   [`clones`]: read-only regions, and snapshots by API. [`wire`]: who writes and reads them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;
mod clones;
mod crash;
mod downstairs;
mod volume;
mod wire;
