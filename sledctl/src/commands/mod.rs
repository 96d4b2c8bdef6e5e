//! The commands, one file per noun: its grammar, what it fetches or changes, and which text it becomes.

pub mod artifact;
pub mod completion;
pub mod context;
mod demo;
mod get;
pub mod op;
mod op_lookup;
pub mod repo;
pub mod sled;
pub mod status;
pub mod task;
pub mod trust_root;
mod upload;
pub mod version;
mod watch;
