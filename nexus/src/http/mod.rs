//! The coordinator's two APIs. One file per noun; a handler extracts, asks, and answers, and holds no logic of its own.
//!
//! - [`context`]: what handlers may ask. [`problems`]: how errors become answers, in one place.
//! - [`operator`]: the operator API (`/v1`). [`internal`]: the sled-facing API.

pub mod context;
pub mod internal;
pub mod operator;
mod problems;

pub use context::Context;
