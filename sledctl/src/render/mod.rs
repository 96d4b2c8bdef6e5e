//! API objects as text. Every function here is pure: objects, the time and a [`Look`] in, text out.
//!
//! - [`Look`]: width, colour, headers. [`words`]: sizes, times, durations. [`table`]: rows and facts.
//! - One file per noun, and [`matrix`] for artifacts × sleds. [`failure`] for what went wrong.
//!
//! Text from the network is made printable in one place, [`table::Cell`] and [`words::printable`]: a sled's name
//! cannot move the cursor.

pub mod artifact;
pub mod context;
pub mod demo;
pub mod failure;
mod look;
pub mod matrix;
pub mod op;
pub mod op_watch;
pub mod repo;
pub mod sled;
pub mod status;
pub mod table;
pub mod task;
pub mod trust_root;
pub mod upload;
pub mod words;

pub use look::{Look, Tone};

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
pub(crate) mod sample_saga;
