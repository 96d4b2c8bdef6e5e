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
//! - [`listener`]: where clients come.
//! - [`handle`]: what other threads ask. [`status`]: what they are told.
//! - [`control`]: the socket by which people and programs ask. [`talk`]: what is said there.

mod client;
mod control;
mod engine;
mod handle;
mod listener;
mod peer;
mod socket;
mod status;
mod talk;
mod watch;

pub use control::{Control, ControlError};
pub use engine::{Export, ExportError, Volume};
pub use handle::{Handle, NoAnswer};
pub use listener::Address;
pub use status::ExportStatus;
pub use talk::{Answer, AskError, Refusal, RefusalCode, Request, ask};
pub use upstairs::Patience;
