//! The four APIs as callers meet them: real processes, real HTTP, every refusal by its code.
//!
//! Every answer that these tests see is held against the API's own OpenAPI document ([`call`]): its status must be
//! described there, and an error must be a problem under the answer's request id. So what is tested is described.
//!
//! - [`stage`]: the clusters; one is shared by the tests that change nothing. [`call`]: the caller. [`document`]: what a
//!   document says. [`wire`]: a client that decides over every byte. [`source`]: depots that lie, stall and die.
//! - Uploads: [`bad_uploads`], [`upload_limits`], [`trust_roots`].
//! - All APIs: [`tokens`], [`answers`], [`documents`], [`pages`], [`metrics`].
//! - A sled: [`sled_config`], [`sled_artifacts`], [`copies`], [`depot_reads`], [`regions`].
//! - The rest of a coordinator: [`tasks`], [`registration`], [`repairs`], [`told_repairs`]. The programs' own refusals: [`programs`].

mod call;
mod document;
mod source;
mod stage;
#[path = "../../../http-edge/tests/edge/wire.rs"]
#[allow(dead_code, reason = "it is the edge's own tests' client, and they use all of it")]
mod wire;

mod answers;
mod bad_uploads;
mod copies;
mod depot_reads;
mod documents;
mod metrics;
mod pages;
mod programs;
mod regions;
mod registration;
mod repairs;
mod sled_artifacts;
mod sled_config;
mod tasks;
mod tokens;
mod told_repairs;
mod trust_roots;
mod upload_limits;
