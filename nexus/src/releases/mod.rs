//! Releases, from the first byte of an upload to its acknowledgement.
//!
//! - [`staging`]: the directory that holds uploaded zips until the sleds hold their artifacts.
//! - [`clean_up`]: files without rows go, rows without files as well. `live_uploads`: whose files it leaves alone.
//! - [`intake`]: one upload: receive → examine → make durable → record → acknowledge.
//!
//! What a release must look like is `nexus-release`'s matter; what becomes of its artifacts, `replication`'s.

#[cfg(test)]
mod bench;
pub mod clean_up;
pub mod intake;
mod live_uploads;
mod promises;
pub mod staging;

pub use clean_up::{CleanUp, CleanUpError};
pub use intake::{Intake, IntakeError, Upload};
pub use staging::{StagingArea, StagingError};
