//! Multi-sled clusters on one machine: start, stop, break, watch.
//!
//! What this project is about happens *between* machines, and nobody has eight of them on the desk. Linux answers on
//! all of 127.0.0.0/8, so a cluster of real processes, each with an address, a directory and a process group of its
//! own, is on one machine what it would be on many: the same binaries, the same ports, the same wire.
//!
//! ```text
//!   cargo xtask testbed        nexus's and agent's tests
//!             └───────┬───────────────┘
//!              ClusterBuilder ──start──► OwnedCluster ──detach──► Cluster ◄──open── any later command
//!                     │                   (Drop ends it)             │
//!        claim K · configs · keeper                    kill · pause · restart · add_sled · disk faults · holds
//!                     ▼                                              ▼
//!       ┌─ 127.0.0.1 ─────────┐  ┌─ 127.0.1.1 ──────────┐  ┌─ 127.0.1.2 ──────────┐
//!       │ nexus-1             │  │ sled-a  m2-0 m2-1    │  │ sled-b  m2-0 m2-1    │  …
//!       │                     │  │ disk-0: a Downstairs │  │ disk-0: a Downstairs │
//!       │                     │  │ (Pantry, if needed)  │  │ (Pantry, if needed)  │
//!       └─────────────────────┘  └──────────────────────┘  └──────────────────────┘
//! ```
//!
//! No process here watches over another one: what was killed stays dead until it is restarted. Everything that must be
//! known later is in one record on disk, so every command may run in a process of its own, at any time, beside others.
//!
//! In reading order:
//! - [`names`], [`addresses`], [`layout`]: what things are called, which address and which path they have.
//! - [`process`]: one process, told apart from another that has its pid later.
//! - [`record`]: the durable record and its lock. [`claim`]: which number a cluster has on this machine.
//! - [`binaries`], [`config`], [`launch`]: what is run, with which config, and how it is started.
//! - [`builder`] brings a cluster up; [`cluster`] is what one does with it; [`teardown`] and [`keeper`] end it. [`supervised`]: what
//!   outlives its agent.
//! - [`owned_process`]: a process that does not outlive this program, for whoever runs other things than clusters.
//! - [`release`], [`release_root`], [`copies`]: a release onto every sled, and the proof that it is there.
//! - [`volume`]: a volume by hand over sleds' disks. [`held_volume`]: one that a sled's Pantry holds. [`partition`]: who cannot reach whom.
//! - [`demo_effects`]: what demo sagas have left, and the rules that it keeps.
//! - [`mod@env`], [`status`], [`logs`]: what one is told. [`wait`]: bounded waiting that says what it saw last.
//!
//! What a sled or coordinator *does* is left to their crates; the command line is left to `xtask`.

pub mod addresses;
pub mod binaries;
mod builder;
mod claim;
mod cluster;
mod config;
mod copies;
mod demo_effects;
pub mod env;
mod held_volume;
mod keeper;
mod launch;
mod layout;
mod logs;
pub mod names;
mod owned_process;
mod partition;
mod process;
mod record;
mod release;
mod release_root;
pub mod status;
mod supervised;
mod teardown;
mod volume;
mod wait;

pub use builder::{ClusterBuilder, DISKS_DEFAULT, SLEDS_DEFAULT};
pub use claim::{ClaimOrder, Claims};
pub use cluster::{Cluster, KillScope, OwnedCluster};
pub use copies::CopiesReport;
pub use demo_effects::{DEMO_STAGES, DemoEffect, DemoEffects, DemoEnd};
pub use fault_points::{DiskFault, FaultClient};
pub use held_volume::HeldVolume;
pub use keeper::{KeeperCommand, KeeperOrders, keep};
pub use layout::ClusterDirectory;
pub use names::DiskName;
pub use owned_process::{OwnedProcess, owned_command};
pub use partition::check as check_partition;
pub use process::{LiveProcess, ProcessFacts, ProcessIdentity};
pub use record::{ClusterRecord, DataDisk, DatabaseKind, ExtraConfig, Intent, Node, Phase, Role, Tokens};
pub use release::ReleaseProgress;
pub use release_root::root_in_zip;
pub use volume::regions_alone;
pub use volume_export::RepairStatus;
pub use volume_repair::ConstructionRequest;
pub use wait::wait_for;
