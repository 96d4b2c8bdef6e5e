//! What the making of a clone needs of the outside.

use super::{CloneError, Phase};
use region::{Geometry, Position};
use region_wire::{PeerError, Reply, Request, SnapshotWelcome};

/// The region that is filled.
pub trait Target {
    /// The position of the snapshot that it is to have, if it has one of that name.
    fn snapshot(&self) -> Option<Position>;

    /// Asks it, as its writer would, and waits for the answer, as long as its disk takes.
    ///
    /// # Errors
    /// [`CloneError::Target`], [`CloneError::Stopped`].
    fn ask(&mut self, request: Request) -> Result<Reply, CloneError>;

    /// Tells it what is not answered.
    ///
    /// # Errors
    /// [`CloneError::Target`].
    fn tell(&mut self, request: Request) -> Result<(), CloneError>;

    /// What is read from now on comes from its disk, and not from what the system keeps of it.
    fn forget_cache(&mut self);

    /// It is what it is to be: durably.
    ///
    /// # Errors
    /// [`CloneError::Target`].
    fn prove(&mut self, hash: [u8; 32]) -> Result<(), CloneError>;
}

/// Members that have the snapshot, by their places.
pub trait Sources {
    /// How many there are.
    fn count(&self) -> usize;

    /// Connects to one, if it is not, and says what is wanted: the snapshot of a region that has these blocks.
    ///
    /// # Errors
    /// [`PeerError`].
    fn welcome(&mut self, source: usize, geometry: Geometry) -> Result<SnapshotWelcome, PeerError>;

    /// Asks it, and waits for the answer.
    ///
    /// # Errors
    /// [`PeerError`].
    fn ask(&mut self, source: usize, request: Request) -> Result<Reply, PeerError>;
}

/// Who is told how far it is, and says how fast it may be.
pub trait Watch {
    /// So many bytes of the region are done in this phase, and so many were copied, or are to be read, since the last time. Waits, if that is too
    /// fast.
    ///
    /// # Errors
    /// [`CloneError::Stopped`].
    fn at(&mut self, phase: Phase, done: u64, moved: u64) -> Result<(), CloneError>;
}
