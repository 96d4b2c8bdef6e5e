//! The coordinator's two APIs. One file per noun; a handler extracts, asks, and answers, and holds no logic of its own.
//!
//! - [`context`]: what handlers may ask. [`problems`]: how errors become answers, in one place. `to_the_end`: work that
//!   a client who goes away does not stop.
//! - [`operator`]: the operator API (`/v1`). [`internal`]: the sled-facing API.

pub mod context;
pub mod internal;
pub mod operator;
mod problems;
mod to_the_end;

pub use context::Context;
