//! A region that is filled to be a clone of a snapshot: by one connection of this process, which nobody was promoted for.
//!
//! ```text
//!   to be one ──begin_cloning──► filled: Digest, Look, Install, Heal, Join, Flush ──Snapshot──► Hash ──prove──► proven: read by anybody
//!                                    (nobody else acts; readers are refused)
//! ```

use crate::member::{ConnectionId, Effect, Member, NotDone};
use ids::SnapshotId;
use region::{CloneOf, Control, Failed, Position, SnapshotError};
use region_wire::{Blocks, Reply};

/// Why a region is not filled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCloned {
    /// It is a region that is written.
    #[error("the region is no clone: it is written, and not filled from a snapshot")]
    NoClone,
    /// It has all, and that is proven: the hash.
    #[error("the region is a clone already, and proven")]
    Proven([u8; 32]),
    /// Somebody fills it.
    #[error("the region is being filled already")]
    AtWork,
    /// It is of no use.
    #[error("{0}")]
    Failed(String),
}

impl Member {
    /// From now on this connection fills it. The snapshot that it is to have, and the position of the one of that name that it has.
    ///
    /// # Errors
    /// [`NotCloned`].
    pub fn begin_cloning(
        &mut self,
        connection: ConnectionId,
    ) -> Result<(SnapshotId, Option<Position>), NotCloned> {
        if let Some(failed) = self.region.failed() {
            return Err(NotCloned::Failed(failed.to_string()));
        }
        let CloneOf { snapshot, proven } = self.region.control().clone_of.ok_or(NotCloned::NoClone)?;
        if let Some(hash) = proven {
            return Err(NotCloned::Proven(hash));
        }
        if self.active.is_some() {
            return Err(NotCloned::AtWork);
        }
        self.connections.insert(connection);
        self.active = Some(connection);
        let there = self.region.snapshots().find(|there| there.snapshot == snapshot);
        Ok((snapshot, there.map(|there| there.applied)))
    }

    /// What the snapshot of a clone holds, for whoever proves it.
    pub(crate) fn hash_of_clone(&mut self, id: u64, blocks: Blocks) -> Result<Reply, NotDone> {
        let Some(CloneOf { snapshot, .. }) = self.region.control().clone_of else {
            return Err(NotDone::Wrong("only snapshots have hashes".to_owned()));
        };
        self.check_read(blocks).map_err(NotDone::Wrong)?;
        match self.hash_of_snapshot(snapshot, blocks) {
            Ok(hash) => Ok(Reply::Hashed { id, hash }),
            Err(SnapshotError::Failed(failed)) => Err(NotDone::Failed(failed)),
            Err(error) => Err(NotDone::Wrong(crate::snapshots::in_words(&error))),
        }
    }

    /// What it holds is proven: durably, and only then anybody reads it.
    ///
    /// # Errors
    /// If the disk refuses; then the region has failed.
    pub fn prove(&mut self, hash: [u8; 32]) -> Result<(), Failed> {
        let control = self.region.control();
        let clone_of = control.clone_of.map(|of| CloneOf { proven: Some(hash), ..of });
        self.region.set_control(Control { clone_of, ..control.clone() })
    }

    /// A connection of this process that writes nothing.
    pub(crate) fn connect_local(&mut self, connection: ConnectionId) {
        self.connections.insert(connection);
        self.locals.insert(connection);
    }

    /// Takes a snapshot of what a region holds that nobody writes now, for a connection of this process; it is told as one of a writer.
    pub(crate) fn snapshot_here(&mut self, asker: ConnectionId, snapshot: SnapshotId) -> Vec<Effect> {
        let there = self.region.snapshots().find(|there| there.snapshot == snapshot);
        let applied = self.region.applied();
        let refused = |why: String| vec![Effect::Send(asker, Reply::SnapshotRefused { id: 0, why })];
        match there {
            Some(there) if !there.is_going && there.broken.is_none() => {
                return vec![Effect::Send(asker, Reply::Snapshotted { id: 0, applied: there.applied })];
            }
            Some(there) => return refused(crate::snapshots::not_there(&there)),
            None => {}
        }
        if self.is_clone() {
            return refused(
                "the region is a clone, which has the one snapshot that it is a clone of".to_owned(),
            );
        }
        if self.active.is_some() {
            return refused(
                "somebody writes the region: whoever writes takes snapshots, of all members at one position"
                    .to_owned(),
            );
        }
        if !self.region.is_full() {
            return refused("it is not full: it has no content of one position".to_owned());
        }
        match self.region.begin_snapshot(snapshot) {
            Ok(taking) => {
                self.taking = Some((asker, 0, applied));
                vec![Effect::Run(crate::member::Work::Snapshot(Box::new(taking)))]
            }
            Err(error) => self.not_begun_here(asker, error),
        }
    }

    /// The same of one that is to be deleted. One that is not there is done.
    pub(crate) fn delete_snapshot_here(&mut self, asker: ConnectionId, snapshot: SnapshotId) -> Vec<Effect> {
        if self.region.control().clone_of.is_some_and(|of| of.snapshot == snapshot) {
            let why = "it is what the clone is of: destroy the region".to_owned();
            return vec![Effect::Send(asker, Reply::SnapshotRefused { id: 0, why })];
        }
        match self.region.begin_delete_snapshot(snapshot) {
            Ok(going) => {
                self.letting_go = Some((asker, 0));
                vec![Effect::Run(crate::member::Work::LetGo(Box::new(going)))]
            }
            Err(SnapshotError::None(_)) => vec![Effect::Send(asker, Reply::SnapshotDeleted { id: 0 })],
            Err(error) => self.not_begun_here(asker, error),
        }
    }

    fn is_clone(&self) -> bool {
        self.region.control().clone_of.is_some()
    }

    fn not_begun_here(&mut self, asker: ConnectionId, error: SnapshotError) -> Vec<Effect> {
        let mut effects = Vec::new();
        match error {
            // It asks again in a moment.
            SnapshotError::Busy => effects.push(Effect::Close(asker)),
            SnapshotError::Failed(failed) => self.fail(&failed, &mut effects),
            error => {
                let why = crate::snapshots::in_words(&error);
                effects.push(Effect::Send(asker, Reply::SnapshotRefused { id: 0, why }));
            }
        }
        effects
    }
}
