//! Disks for tests: small, on files in memory, that can be taken away, made read-only, and made to hang.
//!
//! **Problem.** What keeps regions must be seen on real file systems and real pools, which need root, mounts and a daemon, and of which
//! nothing may be left, however a test ends. **Here** each such test runs in namespaces of its own, and the kernel cleans up.
//!
//! - [`inside`]: a test in namespaces of its own. [`disk`]: a disk of each kind. [`asked`]: what `zfs` is asked.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod asked;
pub mod disk;
pub mod inside;

pub use asked::Asked;
pub use disk::{DATASET, Kind, LIMIT, POOL, TestDisk, WORK, command, wait_for};
