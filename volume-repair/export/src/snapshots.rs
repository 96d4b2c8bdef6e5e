//! What is asked about snapshots by the control socket.

use ids::SnapshotId;

/// What is done with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotOrder {
    /// It is taken, of what was written until now.
    Take(SnapshotId),
    /// It is not needed any more.
    Delete(SnapshotId),
}
