//! The coordinator's APIs as types, and their typed clients.
//!
//! - [`releases`]: trust roots and repositories. [`replication`]: which sled has what.
//! - [`sagas`]: work of several steps.
//! - [`sleds`], [`tasks`], [`system`], [`issues`]: the rest of what an operator sees.
//! - [`registration`]: what a sled tells the coordinator. [`repairs`]: what an Upstairs tells it, and what is shown of that.
//!
//! An answer of a newer server is understood as far as possible: unknown fields are passed over, and every word of a
//! closed list has a variant `Unrecognized` for words that this program is too old to know. Servers never send it.
//!
//! - [`OperatorClient`] speaks the operator API (12220), [`SledFacingClient`] the sled-facing one (12221).

pub mod issues;
mod operator;
pub mod pages;
pub mod registration;
pub mod releases;
pub mod repairs;
pub mod replication;
pub mod sagas;
mod sled_facing;
pub mod sleds;
pub mod system;
pub mod tasks;

pub use api_client::{ClientError, ClientOptions, ErrorClass};
pub use operator::{OperatorClient, UploadOptions};
pub use sled_facing::SledFacingClient;
