//! NBD clients of every kind before a real export over three real members: those that are cut off, greedy, deaf, or gone before their
//! answer.
//!
//! - [`site`]: the members and the export. [`client`]: a client, byte by byte.
//! - [`cuts`]: connections that end within a request. [`limits`]: payloads and requests up to the limit and beyond. [`ends`]: clients and
//!   exports that end while requests are under way. [`orders`]: what is ordered meanwhile. [`doors`]: other ways to come, which are opened and closed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod cuts;
mod doors;
mod ends;
mod limits;
mod orders;
mod site;
