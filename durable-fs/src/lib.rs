//! The storage port: durable files through named steps, on a real, a faulty or a simulated disk.
//!
//! **Problem.** A file is not stored when `write` returns, nor when `fsync` of the file returns: its name is in a
//! directory, and the directory has to be synced too. Every crate that keeps something on disk has to get the same
//! few steps in the same order, and every one needs tests that stop after each step and lose what was not synced.
//!
//! **Theory.** Everything durable goes through one blocking port, [`Storage`]: the operations that one mounted
//! directory offers. Most files are written once, from start to end; [`InPlaceFile`] is for the few that are written in the
//! middle, whose owner must live with any part of what it has not synced. New content is published by [`PendingFile`] or [`write_atomically`], whose steps have names
//! ([`PublishStep`]) and are announced to the port ([`Storage::reached`]), so that a test disk can stop right there.
//!
//! ```text
//!   artifact store, staging area, identity files
//!                   │
//!             publish.rs        temp → write → fsync → rename → fsync directory
//!                   │
//!              Storage (port)
//!        ┌──────────┼──────────────┐
//!    RealDisk   FaultyDisk<S>   SimDisk
//!    a directory  EIO, ENOSPC,   in memory; forgets what was not synced
//!    of the host  slowness, on   (or keeps a part, torn or reordered, by seed)
//!                 command
//! ```
//!
//! One contract suite (`tests/contract.rs`) runs on all three. The port knows nothing of artifacts, ledgers or HTTP.

mod direct;
mod disk_faults;
mod error;
mod faulty_disk;
mod ports;
mod publish;
mod real_disk;
mod sim_crash;
mod sim_disk;
mod sim_machine;
mod sim_state;

pub use disk_faults::{DiskFaults, FaultState, HeldDisk};
pub use error::{Operation, StorageError};
pub use faulty_disk::FaultyDisk;
pub use ports::{
    Entry, FileMetadata, InPlaceFile, ReadFile, RootIdentity, Space, StepPoint, Storage, WriteFile,
};
pub use publish::{PendingFile, PublishStep, SealedFile, remove_leftover, write_atomically};
pub use real_disk::RealDisk;
pub use sim_disk::SimDisk;
pub use sim_machine::SimMachine;
