//! The store from outside, on simulated and real disks: what it refuses, what it survives, what it never does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

mod config;
mod crash_sweep;
mod delete;
mod health;
mod random;
mod read;
mod real_disk;
mod scrub;
mod write;
