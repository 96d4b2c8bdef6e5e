//! The ground under the typed clients.
//!
//! [`ApiClient`] knows one base URL, one token and one source address; it sends requests, gives each a request
//! id, and turns every answer that is not a success into a [`ClientError`] that says which URL, and what the
//! server said (its [`Problem`](problem::Problem), when it sent one).
//!
//! Whether a call may be repeated is the caller's knowledge, with one exception: [`repeat`] says which reads are sent
//! again when their connection turns out to be broken. What peers answer is read with bounds ([`answer`]).

mod answer;
mod client;
mod error;
mod repeat;

pub use client::{ApiClient, ClientOptions};
pub use error::{ClientError, ErrorClass};
