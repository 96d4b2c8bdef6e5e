//! The coordinator's APIs as types, and their typed clients.
//!
//! - [`releases`]: trust roots and repositories. [`replication`]: which sled has what.
//! - [`sleds`], [`tasks`], [`system`]: the rest of what an operator sees.
//! - [`registration`]: what a sled tells the coordinator.
//! - [`OperatorClient`] speaks the operator API (12220), [`SledFacingClient`] the sled-facing one (12221).

mod operator;
pub mod pages;
pub mod registration;
pub mod releases;
pub mod replication;
mod sled_facing;
pub mod sleds;
pub mod system;
pub mod tasks;

pub use api_client::{ClientError, ClientOptions, ErrorClass};
pub use operator::{OperatorClient, UploadOptions};
pub use sled_facing::SledFacingClient;
