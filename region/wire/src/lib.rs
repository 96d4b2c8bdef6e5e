//! What an Upstairs and a Downstairs say to each other, over one ordered stream of bytes in each direction.
//!
//! **Problem.** One side numbers writes and wants to know how far the other one is; both may be of different versions; a byte that the
//! wire has changed must not be taken for right; and a megabyte must be copied as seldom as possible.
//!
//! **Theory.** `docs/BLOCK.md`, "Wire". Everything is a *frame*: a header, *fields*, and *bulk*, which is the bytes of blocks. The
//! header and the fields have a checksum; the bulk's are among the fields, one for each block, and are the ones that are kept with
//! them on the disk.
//!
//! ```text
//!   Request, Reply ──encode──► Outbox ──slices──► socket ──► Inbox ──next──► Frame ──parse──► Request, Reply
//!                              small ones together,                         bulk is a part of what
//!                              bulk as it is                                was read, not a copy
//! ```
//!
//! - [`version`]: which protocol this is, and when it is another one.
//! - [`frame`]: the header, and what is refused before anything is believed.
//! - [`request`], [`reply`]: the messages of each side.
//! - [`message`]: the parts that they have in common.
//! - [`outbox`], [`inbox`]: what waits to be sent, and what has arrived.
//! - [`handshake`]: the first words, and which member is taken for the one that was wanted.
//! - [`source_address()`]: from which address a connection leaves.
//! - [`outgoing()`]: the socket that is bound to it.
//! - [`peer_error`]: why a member does not give what is asked of a snapshot.

mod frame;
mod handshake;
mod inbox;
mod message;
mod outbox;
mod outgoing;
mod peer_error;
mod reply;
mod request;
mod source_address;
mod version;

pub use frame::{BULK_MAX, FIELDS_MAX, Frame, WireError};
pub use handshake::{Expected, Unfit, UnfitCode};
pub use inbox::Inbox;
pub use message::{BlockData, Blocks, LOOK_MAX, WRITE_BYTES_MAX, ZERO_MAX};
pub use outbox::Outbox;
pub use outgoing::outgoing;
pub use peer_error::{OtherSnapshot, PeerError};
pub use reply::{NotWelcome, Promoted, Refusal, Reply, SnapshotWelcome, Welcome};
pub use request::{BlockCopy, Haste, Hello, Request};
pub use source_address::source_address;
pub use version::VERSION;
