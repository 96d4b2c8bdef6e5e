//! Runs a volume, and serves it over NBD.
//!
//! **Problem.** Each write of a guest is a message from it, three to the members, three back and one to the guest: a volume is as fast as
//! these are few and cheap.
//!
//! **Theory.** One thread, one loop, no locks: whatever has arrived on all sockets is read before anything is sent, so that what came
//! together goes out together. The volume decides and the NBD protocol parses; here are only sockets and the clock. What may wait for a disk
//! or a server, which is reading files, URLs and snapshots, has threads of its own.
//!
//! ```text
//!   NBD clients ◄──sockets──► client.rs ──jobs──► Volume ──requests──► peer.rs ◄──sockets──► Downstairs
//!                                       ◄──done──        ◄──replies──
//!                                                        ──fetches──► sources.rs ◄──threads──► files, URLs, snapshots
//!                            engine.rs: wait ──► read all ──► decide ──► send all ──► wait
//! ```
//!
//! - [`engine`]: the loop; `orders` below it: what other threads ask. [`offer`]: what is served. [`watch`]: waiting.
//! - [`peer`]: a member's connection. [`clients`]: the NBD clients; [`client`]: one of them; [`door`]: where they come, and how many;
//!   [`closing`]: doors that are closed; [`listener`], [`socket`]: either kind of socket.
//! - [`sources`]: what is only read; [`file_source`], [`url_source`], [`snapshot_source`]: each kind; [`snapshot_peer`]: a member that is read from.
//!   [`web_address()`]: from where servers are asked.
//! - [`repairs`]: which members are filled; [`notices`]: the coordinator is told; [`coordinators`]: which of them is asked next.
//! - [`handle`]: what other threads ask. [`holder`]: the same as a holder of a volume, who goes on by a newer request. [`newcomers`]: members that a newer request names, looked at before. [`status`]: what they are told.
//! - [`control`]: the socket by which people and programs ask. [`talk`]: what is said there. [`snapshots`], [`scrubs`]: what is asked of
//!   one. [`waiting`]: who waits for what.

mod client;
mod clients;
mod closing;
mod control;
mod coordinators;
mod door;
mod engine;
mod file_source;
mod handle;
mod holder;
mod listener;
mod newcomers;
mod notices;
mod offer;
mod peer;
mod repairs;
mod scrubs;
mod snapshot_peer;
mod snapshot_source;
mod snapshots;
mod socket;
mod sources;
mod status;
mod talk;
mod url_source;
mod waiting;
mod watch;
mod web_address;

pub use control::{Control, ControlError};
pub use door::{ClosedDoor, DOORS_MAX, DoorError, DoorId, DoorOrder, DoorStatus, OpenDoor};
pub use engine::Export;
pub use handle::{Compared, Handle, NoAnswer};
pub use holder::{ExportAt, NotAppliedHere, NotAppliedThere};
pub use listener::Address;
pub use notices::{NoticesError, NoticesOrder, NoticesStatus, tell_what_is_left, volumes_with_notices};
pub use offer::{ExportError, Offer};
pub use repairs::RepairStatus;
pub use scrubs::ScrubOrder;
pub use snapshots::SnapshotOrder;
pub use sources::SourceError;
pub use status::ExportStatus;
pub use talk::{Answer, AskError, COMPARED_MAX, Refusal, RefusalCode, Request, ask};
pub use upstairs::{CopyCompared, JobError, Patience};
pub use volume_repair::{Applied, ChangeError};
pub use web_address::web_address;
