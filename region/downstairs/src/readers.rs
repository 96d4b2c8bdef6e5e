//! Who reads a snapshot: any number of connections, beside the one that writes.
//!
//! ```text
//!   Hello with a snapshot ──it is there──► reading ──Read, Look, Digest, Hash, Ping──► answered at once, whoever writes meanwhile
//!        │                                    ├── it was deleted, or cannot be read ──► refused, and closed
//!        └── none, deleted, rotten            ├── anything else ──► Wrong, and closed
//!                ──► refused, and closed      └── the region fails ──► Failed, and closed
//! ```
//!
//! A snapshot never changes, so nobody is promoted to read it and nobody is fenced. What a reader asks waits for nothing that the writer has
//! asked: it is no part of the stream.

use crate::{
    content,
    member::{ConnectionId, Effect, Member},
    rules::Rule,
    snapshots::in_words,
    stream::read_reply,
};
use ids::SnapshotId;
use region::{CloneOf, Failed, Position, SnapshotError};
use region_wire::{Blocks, Refusal, Reply, Request, SnapshotWelcome, VERSION};

/// Why a reader has no answer. All of them are the last that it hears.
enum NoAnswer {
    /// The snapshot is not to be had: it may be elsewhere.
    Refused(String),
    Failed(Failed),
    /// It has a mistake.
    Wrong(String),
}

impl From<SnapshotError> for NoAnswer {
    fn from(error: SnapshotError) -> NoAnswer {
        match error {
            SnapshotError::Failed(failed) => NoAnswer::Failed(failed),
            error => NoAnswer::Refused(in_words(&error)),
        }
    }
}

impl Member {
    /// Somebody has said Hello who wants to read a snapshot of this region.
    pub(crate) fn connect_reader(&mut self, connection: ConnectionId, snapshot: SnapshotId) -> Vec<Effect> {
        match self.readable(snapshot) {
            Ok(applied) => {
                self.connections.insert(connection);
                self.readers.insert(connection, snapshot);
                let incarnation = self.region.control().incarnation;
                let geometry = self.geometry();
                let welcome = SnapshotWelcome { version: VERSION, geometry, incarnation, applied };
                vec![Effect::Send(connection, Reply::SnapshotWelcome(welcome))]
            }
            Err(why) => {
                // One that is not proven yet is none for anybody.
                let refused = Reply::Refused(Refusal::NoSnapshot(why));
                vec![Effect::Send(connection, refused), Effect::Close(connection)]
            }
        }
    }

    /// The position that a snapshot is of; or why it cannot be read, in words.
    fn readable(&self, snapshot: SnapshotId) -> Result<Position, String> {
        let region = self.region.identity().region;
        if let Some(CloneOf { proven: None, .. }) = self.region.control().clone_of
            && Rule::OnlyProvenIsRead.is_kept()
        {
            return Err(format!(
                "region {region} is being cloned: its content is not proven yet, and nobody reads it before"
            ));
        }
        match self.region.snapshots().find(|there| there.snapshot == snapshot) {
            None => Err(format!("region {region} has no snapshot {snapshot}")),
            Some(there) if there.is_going => {
                Err(format!("snapshot {snapshot} of region {region} was deleted"))
            }
            Some(there) => match there.broken {
                Some(why) => Err(format!("snapshot {snapshot} of region {region} cannot be read: {why}")),
                None => Ok(there.applied),
            },
        }
    }

    /// Answers it, or ends its connection.
    pub(crate) fn answer_reader(
        &mut self,
        reader: ConnectionId,
        snapshot: SnapshotId,
        request: &Request,
        effects: &mut Vec<Effect>,
    ) {
        match self.answer_of(snapshot, request) {
            Ok(reply) => effects.push(Effect::Send(reader, reply)),
            Err(NoAnswer::Refused(why)) => {
                self.end(reader, Reply::Refused(Refusal::NoSnapshot(why)), effects);
            }
            Err(NoAnswer::Wrong(what)) => self.end(reader, Reply::Wrong(what), effects),
            Err(NoAnswer::Failed(failed)) => self.fail(&failed, effects),
        }
    }

    fn answer_of(&mut self, snapshot: SnapshotId, request: &Request) -> Result<Reply, NoAnswer> {
        match *request {
            Request::Ping { id } => Ok(Reply::Pong { id }),
            Request::Look { id, blocks } => {
                self.note_read(snapshot)?;
                self.check_blocks(blocks).map_err(NoAnswer::Wrong)?;
                Ok(Reply::Looked { id, held: self.region.look_snapshot(snapshot, blocks.range())? })
            }
            Request::Digest { id, blocks } => {
                self.note_read(snapshot)?;
                self.check_blocks(blocks).map_err(NoAnswer::Wrong)?;
                Ok(Reply::Digested { id, digest: self.region.digest_snapshot(snapshot, blocks.range())? })
            }
            Request::Read { id, blocks, .. } => {
                self.note_read(snapshot)?;
                let mut bytes = Vec::with_capacity(self.check_read(blocks).map_err(NoAnswer::Wrong)?);
                let held = self.region.read_snapshot(snapshot, blocks.range(), &mut bytes)?;
                Ok(read_reply(id, blocks.first, held, bytes))
            }
            Request::Hash { id, blocks } => {
                self.note_read(snapshot)?;
                self.check_read(blocks).map_err(NoAnswer::Wrong)?;
                Ok(Reply::Hashed { id, hash: self.hash_of_snapshot(snapshot, blocks)? })
            }
            _ => Err(NoAnswer::Wrong("a snapshot is only read".to_owned())),
        }
    }

    /// Of what its disk gives back of these blocks; or the first of them that it does not give back as it was written.
    pub(crate) fn hash_of_snapshot(
        &mut self,
        snapshot: SnapshotId,
        blocks: Blocks,
    ) -> Result<Result<[u8; 32], u64>, SnapshotError> {
        let mut bytes = Vec::new();
        let held = self.region.read_snapshot(snapshot, blocks.range(), &mut bytes)?;
        Ok(content::hash(self.geometry(), blocks, &held, &bytes))
    }

    fn note_read(&mut self, snapshot: SnapshotId) -> Result<(), NoAnswer> {
        self.was_used = true;
        self.readable(snapshot).map(drop).map_err(NoAnswer::Refused)
    }
}
