//! The soak of volumes: real processes under load while they are killed and paused, and the proof that no byte is wrong.
//!
//! # The problem
//!
//! The simulation (`volume-repair/sim`) breaks the state machines at every place, but with its own sockets, threads and disks. That
//! the real ones, around the same state machines, keep what is promised is only seen by doing it often, at instants that nobody chose.
//!
//! # The theory
//!
//! Clients write blocks that say which block and which write they are, and keep a book of what each block may hold: what was
//! acknowledged last, and what is under way. Every read is held against it.
//!
//! ```text
//!   clients ── NBD ──► export ──┬──► Downstairs ── region        killed, paused, killed twice in a row, its bits flipped
//!      │ book of every block    ├──► Downstairs ── region
//!   fio ── verify ──►           └──► Downstairs ── region
//!
//!   part 1: Downstairs, one at a time and sometimes a second one: clients notice nothing, but that they wait
//!   part 2: the export, or everything at once: clients come again, read every block first, and go on
//!   part 3: members are replaced; source, target or export are killed while that is under way
//!   after each part: the three regions are the same, block by block: version, content, written or zeroed; and what the book says
//! ```
//!
//! An encrypted volume ([`VolumeOrder::is_encrypted`]) is the same, and more: blocks of one member are forged, under right checksums, and have to
//! be noticed and healed; and in the end no member's file may have anything that a client has written.
//!
//! SIGKILL leaves the system's cache as it is, so everything that was acknowledged has to be there, flushed or not. What a power cut
//! may take is the simulation's to show.
//!
//! In reading order: [`order`]: what is wanted. [`faults`]: what is done, by the seed. [`site`]: the processes that it is done to.
//! [`request`], [`nbd`]: what clients ask, and the protocol as they speak it; [`nbd_client`]: one that does one thing after the other, for others. [`block`]: the bytes of a block. [`cell`], [`oracle`]: what
//! it may hold, and the book of all of them. [`load`]: the clients. [`fio`]: the other client. [`rot`]: flipping bits, and seeing that
//! they are healed. [`repair`]: how far a member that is filled is. [`opener`], [`forge`], [`plaintext`]: what members of an encrypted volume keep. [`regions`]: the three files
//! afterwards. [`run`]: the rounds. [`finding`], [`report`]: what is told.
//!
//! The command line is `xtask`'s.

mod block;
mod cell;
mod faults;
mod finding;
mod fio;
mod forge;
mod load;
pub mod nbd;
mod nbd_client;
mod opener;
mod oracle;
mod order;
mod plaintext;
mod regions;
mod repair;
mod report;
mod request;
mod rot;
mod run;
mod site;

pub use finding::Finding;
pub use nbd_client::NbdClient;
pub use order::{Progress, VolumeOrder, VolumeSite};
pub use regions::Blocks;
pub use repair::{Killed, KillsDuringRepair, RepairAtKill};
pub use report::{Done, VolumeReport};
pub use request::Counts;
pub use run::run_volume;
