//! Regions on a sled: their records through crashes, and the processes that serve them.
//!
//! - [`crash`]: a crash at every named step of a record, within one process. [`room`]: that no more of a disk is promised than it has.
//! - [`agent`]: a real agent with disks. [`downstairs`]: that its Downstairs are there, whoever dies. [`volume`]: a volume on them.
//!   [`from`]: from where an export comes to others.
//! - [`set`]: a region set by API. [`pantry`]: volumes that the sled holds itself, on such sets. [`web`]: a web server to import from.
//!   [`on_disks`]: what is on them is told. [`clones`]: read-only regions, and snapshots by API. [`wire`]: who writes and reads them. [`zfs`]: a disk that is a dataset of a pool.
//!   [`kinds`]: the same on each kind of file system. [`lost_disks`]: disks that fail or go away while they are served.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;
mod clones;
mod crash;
mod downstairs;
mod from;
mod kinds;
mod lost_disks;
mod on_disks;
mod pantry;
mod room;
mod set;
mod volume;
mod web;
mod wire;
mod zfs;
