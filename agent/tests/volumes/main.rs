//! The commands about volumes, as programs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod compare;
mod full_disk;
mod page;
mod shell;
