//! Runs an Upstairs, and serves its volume over NBD.
//!
//! **Problem.** Each write of a guest is a message from it, three to the members, three back and one to the guest: a volume is as fast as
//! these are few and cheap.
//!
//! **Theory.** One thread, one loop, no locks: whatever has arrived on all sockets is read before anything is sent, so that what came
//! together goes out together. The Upstairs decides and the NBD protocol parses; here are only sockets and the clock.
//!
//! ```text
//!   NBD clients ◄──sockets──► client.rs ──jobs──► Upstairs ──requests──► peer.rs ◄──sockets──► Downstairs
//!                                       ◄──done──          ◄──replies──
//!                            engine.rs: wait ──► read all ──► decide ──► send all ──► wait
//! ```
//!
//! - [`engine`]: the loop. [`peer`]: a member's connection. [`client`]: an NBD client's. [`socket`]: either kind of socket. [`watch`]: waiting.

mod client;
mod engine;
mod peer;
mod socket;
mod watch;

pub use engine::{Address, Export, ExportError, Handle, Volume};
