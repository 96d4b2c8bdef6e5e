//! Content-addressed artifact store over a sled's M.2 datasets.
//!
//! **Problem.** Each sled has to hold verified copies of every artifact of the releases in use on both of its boot disks,
//! and serve them to its peers, while disks fill up, fail, rot and vanish, configs change, and power goes at any instant.
//!
//! **Theory.**
//! - An artifact's name is the SHA-256 of its bytes, so "is it right?" can be asked of any copy, by anybody.
//! - A *config* of one cluster and one generation says what is wanted. Generations never go back, and the same one never
//!   means two things. Nothing is removed without a config in force, and then to the trash first.
//! - Only *verified* copies count: hashed when written, recorded with size and time of change; what changed since, or has
//!   no record, is hashed again before it counts. Wrong bytes are set aside, never served whole.
//! - Datasets are mirrors that may differ. What one lacks and another has is repaired inside the sled.
//!
//! ```text
//!            callers                                     disks, each through durable_fs::Storage
//!   ┌───────────────────────┐   gates, events   ┌───────────┐
//!   │ store (handle)        │──────────────────▶│ inventory │◀── events ── copy, verify, repair, admission, lanes
//!   │  writer ─▶ write_lane │                   │  (state)  │                        ▲
//!   │  reader               │                   └─────┬─────┘                        │ blocking jobs,
//!   └───────────┬───────────┘                  plan ◀─┘                              │ one per dataset and lane
//!               └── put_config ──▶ keeper (the one loop) ─────────────────────────────┘
//! ```
//! The library knows no HTTP and no peers. Rooms, in reading order:

mod config;
mod error;
mod failure;
mod status;
mod steps;

mod layout;
mod ledger;
mod records;

mod inventory;
mod plan;

mod locks;
mod shared;
mod space;

mod admission;
mod copy;
mod repair;
mod reserve;
mod verify;

mod keeper;
mod reader;
mod store;
mod write_lane;
mod writer;

pub use config::{DatasetConfig, StoreArtifactsConfig, StoreConfig};
pub use error::{ErrorClass, StoreError};
pub use failure::{DatasetFailure, FailureCause};
pub use reader::ArtifactReader;
pub use shared::BLOCKING_THREADS_PER_DATASET;
pub use status::{
    DatasetHealth, DatasetReport, ListedArtifact, QuarantinedCopy, ScrubCause, ScrubReport, StoreListing,
};
pub use steps::{ARTIFACT_PROCEDURE, LEDGER_PROCEDURE, RECORDS_PROCEDURE, StoreStep};
pub use store::ArtifactStore;
pub use writer::{ArtifactWriter, WriteReport};
