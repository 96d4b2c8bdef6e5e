//! Volumes of several parts, and over others, through NBD: real members, real files, real clients, and a web server that misbehaves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod files;
#[path = "../../../../nbd/tests/real_clients/program.rs"]
#[allow(dead_code, reason = "not every client is used here")]
mod program;
mod scrubs;
mod site;
mod snapshots;
mod urls;
mod web;
