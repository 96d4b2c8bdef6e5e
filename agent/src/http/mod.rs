//! The agent's two APIs. One file per noun; a handler extracts, asks, and answers.
//!
//! - [`context`]: what handlers may ask. [`problems`]: how errors become answers, in one place.
//! - [`sled`]: the sled API (tokens). [`depot`]: the repo depot (public reads).

mod artifacts;
mod attach_body;
pub mod context;
pub mod depot;
mod jobs;
mod pantry;
pub(crate) mod problems;
pub mod read_slots;
mod regions;
pub mod sled;
pub(crate) mod wire;

pub use context::Context;
