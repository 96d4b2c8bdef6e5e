//! From the wanted set to verified copies on every sled.
//!
//! ```text
//!   upload, delete, heartbeat, transfer ended, timer, operator
//!                  │ activate (no data)
//!                  ▼
//!   task:  collect ──► plan (nexus-replication, pure) ──► start transfers ──► release staging ──► report
//!             │                                                │
//!             ▼                                                ▼
//!   observed: what each sled said last  ◄─────────────── transfers: PUT from staging, copy between sleds
//! ```
//!
//! - [`observed`]: the one owner of what is known about sleds and transfers. Forgotten at a restart, and rebuilt by
//!   asking.
//! - [`sled_clients`]: connections to sleds. [`collect`]: asking the sleds that need it.
//! - [`transfers`]: one transfer, from start to end. [`task`]: the pass.
//! - [`view`]: what operators see of it. [`issues`]: what of that is not as it should be. [`gauges`]: numbers.
//!
//! A pass is short: it waits for no transfer, and for no sled longer than a moment. A slow, dead or confused sled
//! holds up nobody but itself.

pub mod collect;
pub mod gauges;
pub mod issues;
pub mod observed;
pub mod sled_clients;
pub mod task;
pub mod transfers;
pub mod view;

pub use observed::Observed;
pub use sled_clients::SledClients;
pub use task::ReplicationTask;
