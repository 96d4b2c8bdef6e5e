//! The Pantry: holds volumes with no VM, and does jobs on them. The Upstairs is the same as everywhere.
//!
//! **Problem.** A volume that no VM uses has to be filled, exported, scrubbed, snapshotted, repaired. Whoever does that for many volumes
//! must not let one that hangs, or a job that takes hours, hold up another one; must not lose jobs because its supervisor dies; and must not
//! collect volumes that nobody wants any more.
//!
//! **Theory.** Each volume is an export of its own: a thread, a loop, a socket, as `sled-agent volume export` has them. A job is a client of
//! that socket, with a thread of its own, so it has the order, the limits and the durability of every client. What all of them share is a list of
//! names. The process is its agent's alone and outlives it; who may ask is the agent's to know. It keeps nothing on disk but what
//! coordinators were not told yet: the right to write is the epoch's, which the members keep, so that a Pantry that was killed costs the next one a higher epoch and nothing else.
//!
//! ```text
//!   agent ──HTTP, unix socket──► api ──► Shelf ──► Attached ──Handle──► Export (a thread) ──► members
//!                                                     │                    ▲     ▲
//!                                                     └─► Board ─► jobs ───┘     └── NBD clients, if it is exported
//!                                                                   bytes by the volume's own socket
//! ```
//!
//! A volume on the shelf:
//!
//! ```text
//!               PUT later                 PUT now                       two full members
//!   (nothing) ─────────────► not_activated ──────► activating ─────────────────────────────► active
//!       └────────────── PUT now ──────────────────────▲ │  │                                  │  │
//!                                                       │  └─ somebody has a higher epoch ─┐  │  └─ acknowledged writes are lost ─► lost
//!   (nothing) ◄── DELETE, from everywhere                │                                  ▼  ▼
//!   activating, active of a higher epoch ◄── PUT with it ┴────────────────────────────── fenced, lost, ended
//! ```
//!
//! Fenced, lost and ended are terminal for the epoch. A volume that is fenced before its first answer is not on the shelf at all.
//! A crash of the process empties the shelf; a crash of its agent changes nothing.
//!
//! - [`shelf`]: which volumes there are: attach, change, detach. [`attached`]: one of them. [`exports`]: it over NBD.
//! - [`board`]: a volume's jobs. [`job`]: one of them. [`import`], [`web`], [`scrub`], [`copy_parent`]: what they do. [`volume_io`]: how they reach the volume.
//! - [`telling`]: coordinators are told of repairs, also of those of volumes that are not here any more.
//! - [`api`]: the calls. [`attach_order`], [`given_key`]: what an attachment carries. [`serve`]: the socket. [`error`]: refusals. [`stale_epoch`]: the one
//!   that the agent makes, too.

mod api;
mod attach_order;
mod attached;
mod board;
mod copy_parent;
mod error;
mod exports;
mod given_key;
mod import;
mod job;
mod scrub;
mod serve;
mod shelf;
mod stale_epoch;
mod telling;
mod volume_io;
mod web;

pub use attach_order::AttachOrder;
pub use error::PantryError;
pub use given_key::GivenKey;
pub use serve::{Pantry, ServeError};
pub use shelf::VOLUMES_MAX;
pub use stale_epoch::StaleEpoch;
pub use telling::Telling;
