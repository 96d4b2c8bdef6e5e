//! A simulation of whole volumes: the real region, Downstairs and Upstairs, on simulated disks, network and clock.
//!
//! **Problem.** What the block store promises has to hold for every order in which messages are late, connections break, processes die
//! and the power fails; no number of tests on real machines sees more than a few of them.
//!
//! **Theory.** The state machines touch no socket, thread or clock, so one thread can be all machines at once, and a seed decides everything
//! that happens: the same seed is the same run. Clients write values that are never written twice, so whatever is read says which write it
//! is from; [`history`] knows which may be read.
//!
//! ```text
//!   clients ──jobs──► Upstairs (one, or two that both believe it is theirs) ──messages──► network ──► Downstairs ──► disk
//!      │                                                                      late, lost, cut,        killed,       loses power:
//!      └── what was read, and what was said to be done ──► history            half-open, blocked      paused        any pieces
//! ```
//!
//! - [`climate`]: what kind of trouble a seed has. [`faults`]: what goes wrong.
//! - [`world`]: the machines and what happens to them, in order; [`events`]: what that can be; [`pauses`]: who is stopped.
//!   [`network`], [`delivery`]: connections. [`sled`]: one machine with a region. [`equality`]: what machines have, compared.
//!   [`writer`]: one Upstairs and its client. [`replacing`]: whoever says which members there are to be.
//! - [`history`]: which values may be read, by the promises of `docs/BLOCK.md`. [`audit`]: what members may see of an encrypted volume.
//! - [`mod@run`]: one seed, and what is left of it. [`mod@campaign`]: many of them. [`mod@mutants`]: the rules that are left out;
//!   [`own_tests`]: who else notices.

mod audit;
mod campaign;
mod climate;
mod delivery;
mod equality;
mod events;
mod faults;
mod history;
mod mutants;
mod network;
mod own_tests;
mod pauses;
mod replacing;
mod run;
mod sled;
mod snapshots;
mod world;
mod writer;

pub use campaign::{Campaign, campaign};
pub use mutants::{Mutant, leave_out_each, mutants, second_line};
pub use own_tests::OwnTest;
pub use run::{Summary, run};
