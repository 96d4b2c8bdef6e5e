//! Named points at which a test can hold or fault a running process.
//!
//! A test that kills a process "in the middle of a PUT" must not rely on luck. So the program names its decisive
//! instants (`fault_points::reach("replication.before_put").await`), and a test asks for a hold on one of them,
//! waits until somebody is held there, and then kills, cuts off or releases the process.
//!
//! ```text
//!   test / testbed                         process under test
//!   FaultClient ── faults.sock (0600) ──►  serve ──► board ◄── reach("point")   in the program's own tasks
//!                  one JSON line each way        └─► DiskControl                the owner of the disks
//! ```
//!
//! Nothing of this exists in a process that was not told `[testing] faults = true`: without [`serve`], no socket is
//! open, and [`reach`] is one relaxed load of an atomic.
//!
//! - [`protocol`]: the requests and their answers.
//! - [`board`]: which points are on hold, and who is held there.
//! - [`server`]: the socket. [`client`]: the other end of it. [`address`]: what both do about long socket paths.
//!
//! What a disk fault *does* is left to the owner of the disks, behind [`DiskControl`]. Which points there are is left
//! to the programs: a point exists from the moment that it is first passed or held.

pub mod protocol;

mod address;
mod board;
mod client;
mod server;

pub use board::reach;
pub use client::{FaultClient, FaultClientError};
pub use protocol::{DiskFault, PointStatus};
pub use server::{DiskControl, serve};
