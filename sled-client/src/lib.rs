//! The sled agent's APIs as types, and their typed client.
//!
//! - [`artifacts`]: what the sled should hold, what it holds, and the jobs that fetch what is missing.
//! - [`inventory`]: what the sled is. [`disks`]: what it keeps things on. [`regions`]: its parts of volumes.
//! - [`pantry`]: the volumes that it holds itself, with no VM, and what is done with them.
//! - [`SledClient`]: the sled API (bearer token). [`DepotClient`]: the repo depot's public reads.
//!
//! These are wire types: the server and every client share them, and nothing durable is made of them.

pub mod artifacts;
mod depot;
pub mod disks;
pub mod inventory;
pub mod pantry;
pub mod regions;
mod sled;

pub use api_client::{ClientError, ClientOptions, ErrorClass};
pub use depot::{ArtifactBody, DepotClient};
pub use sled::SledClient;
