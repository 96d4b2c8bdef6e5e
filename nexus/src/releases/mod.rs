//! Releases, from the first byte of an upload to its acknowledgement.
//!
//! - [`staging`]: the directory that holds uploaded zips until the sleds hold their artifacts.
//! - [`intake`]: one upload: receive → examine → make durable → record → acknowledge.
//!
//! What a release must look like is `nexus-release`'s matter; what becomes of its artifacts, `replication`'s.

pub mod intake;
mod promises;
pub mod staging;

pub use intake::{Intake, IntakeError, Upload};
pub use staging::{StagingArea, StagingError};
