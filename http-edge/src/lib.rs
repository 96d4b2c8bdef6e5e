//! What every HTTP API of Bobsled shares, so that each API's own crate holds nothing but its calls.
//!
//! ```text
//!  accept loop (serve) ─► request id ─► metrics ─► panics ─► authenticate ─► route ─► extract ─► handler
//!                              │                    │            │             │         │          │
//!                              └── problem+json  ◄──┴────────────┴─────────────┴─────────┴──────────┘
//! ```
//!
//! - [`edge`]: puts the layers around a router, in that order.
//! - [`auth`]: bearer tokens and the roles that they stand for.
//! - [`error`]: [`ApiError`], the only error a handler returns.
//! - [`extract`]: JSON, query and path extractors that refuse in problem+json. `query_keys`: unknown keys.
//! - [`body`]: bodies that are refused or bounded.
//! - [`pages`]: tokens of keyset pages.
//! - [`health`]: `/healthz` and `/readyz`. [`metrics`]: `/metrics`.
//! - [`document`]: what every OpenAPI document has in common.
//! - [`serve`]: the accept loop: limits, time limits, a clean stop.
//!
//! It decides nothing about what an API does.

pub mod auth;
pub mod body;
pub mod document;
pub mod edge;
pub mod error;
pub mod extract;
pub mod health;
pub mod metrics;
pub mod pages;
mod query_keys;
pub mod serve;

pub use auth::{Role, TokenTable};
pub use edge::Edge;
pub use error::ApiError;
pub use extract::{ApiJson, ApiPath, ApiQuery, LongJson, OptionalJson};
pub use health::Readiness;
pub use metrics::Metrics;
pub use serve::{PeerAddress, Server, ServerOptions};
