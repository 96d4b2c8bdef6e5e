//! What a test starts, and where that listens: processes of which nothing is left when the test is over, and addresses that no other test has.
//!
//! **Problem.** A test that is killed drops nothing. What it has started goes on, for hours if it waits for something; and it has the
//! ports that the next run wants. **Here** all of it is in a process group whose first process sees the end of a pipe when the test has
//! ended, however that was, and then ends them all. Addresses are claimed from the kernel, which gives them to one at a time.
//!
//! - [`group`]: processes that end with the test. [`shell`]: a script that a person might type, as such a group. [`address`]: an address of the
//!   test's own.
//!
//! A cluster of the testbed has a keeper of its own, because it may outlive the command that starts it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod address;
pub mod group;
pub mod shell;

pub use address::OwnAddress;
pub use group::Group;
pub use shell::{Shell, has_ended};
