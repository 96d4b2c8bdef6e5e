//! The ground under the typed clients.
//!
//! [`ApiClient`] knows one base URL, one token and one source address; it sends requests, gives each a request
//! id, and turns every answer that is not a success into a [`ClientError`] that says which URL, and what the
//! server said (its [`Problem`](problem::Problem), when it sent one).
//!
//! It retries nothing: whether a call may be repeated is the caller's knowledge.

mod client;
mod error;

pub use client::{ApiClient, ClientOptions};
pub use error::{ClientError, ErrorClass};
