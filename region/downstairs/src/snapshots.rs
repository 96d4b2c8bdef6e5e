//! Snapshots, as this member is asked for them: at a position of the stream, which all full members reach in the same order.
//!
//! ```text
//!   Snapshot at P ──P is applied, and nothing newer──► taking, while the stream goes on ──► Snapshotted
//!        │ a checkpoint, or another one, is under way: when it has ended        └── no room ──► SnapshotRefused
//!        ├── it is there ──► Snapshotted, of whichever position
//!        └── not full, not at P, deleted before ──► SnapshotRefused
//!
//!   DeleteSnapshot ──► none any more, durably ──what is left of it goes──► SnapshotDeleted
//!                            └── the disk refuses: tried again, as long as the region is open, and by whoever opens it next
//! ```

use crate::{
    member::{ConnectionId, Effect, Member, NotDone, Wait, Work},
    rules::Rule,
};
use ids::SnapshotId;
use region::{Failed, Gone, Position, SnapshotError, SnapshotStatus, Taken, TakingEnd};
use region_wire::{Reply, Request};
use std::error::Error;

impl Member {
    pub(crate) fn snapshot(
        &mut self,
        asker: ConnectionId,
        (id, snapshot, at): (u64, SnapshotId, Position),
        effects: &mut Vec<Effect>,
    ) -> Result<(), NotDone> {
        let applied = self.region.applied();
        let there = self.region.snapshots().find(|there| there.snapshot == snapshot);
        let why = match there {
            // Of another position it may be, too: who asks once more asks later.
            Some(there) if !there.is_going && there.broken.is_none() => {
                effects.push(Effect::Send(asker, Reply::Snapshotted { id, applied: there.applied }));
                return Ok(());
            }
            Some(there) => not_there(&there),
            None if !self.region.is_full() && self.region.control().clone_of.is_none() => {
                "it is not full: it has no content of one position".to_owned()
            }
            None if applied != at && Rule::SnapshotAtItsPosition.is_kept() => {
                format!("it has applied {applied}, and is asked for a snapshot of {at}")
            }
            None => match self.region.begin_snapshot(snapshot) {
                Ok(taking) => {
                    self.taking = Some((asker, id, applied));
                    effects.push(Effect::Run(Work::Snapshot(Box::new(taking))));
                    return Ok(());
                }
                Err(error) => self.not_begun(error, Request::Snapshot { id, snapshot, at })?,
            },
        };
        effects.push(Effect::Send(asker, Reply::SnapshotRefused { id, why }));
        Ok(())
    }

    pub(crate) fn delete_snapshot(
        &mut self,
        asker: ConnectionId,
        (id, snapshot): (u64, SnapshotId),
        effects: &mut Vec<Effect>,
    ) -> Result<(), NotDone> {
        // A clone's own, as long as it is not proven, is taken anew, of what another source has.
        let is_clones = self.region.control().clone_of.is_some_and(|of| of.snapshot == snapshot);
        let begun = match is_clones {
            true => self.region.begin_discard_snapshot(snapshot),
            false => self.region.begin_delete_snapshot(snapshot),
        };
        let reply = match begun {
            Ok(going) => {
                self.letting_go = Some((asker, id));
                effects.push(Effect::Run(Work::LetGo(Box::new(going))));
                return Ok(());
            }
            Err(SnapshotError::None(_)) => Reply::SnapshotDeleted { id },
            Err(error) => {
                let why = self.not_begun(error, Request::DeleteSnapshot { id, snapshot })?;
                Reply::SnapshotRefused { id, why }
            }
        };
        effects.push(Effect::Send(asker, reply));
        Ok(())
    }

    /// Why it is not, in words; if it is not later.
    fn not_begun(&mut self, error: SnapshotError, request: Request) -> Result<String, NotDone> {
        match error {
            SnapshotError::Busy => {
                self.put_back(request);
                Err(NotDone::Wait(Wait::Snapshot))
            }
            SnapshotError::Failed(failed) => Err(NotDone::Failed(failed)),
            error => Ok(in_words(&error)),
        }
    }

    pub(crate) fn end_snapshot(&mut self, taken: Taken, effects: &mut Vec<Effect>) -> Result<(), Failed> {
        let end = self.region.end_snapshot(taken)?;
        self.note_checkpoint_ended();
        if let Some((asker, id, applied)) = self.taking.take().filter(|(asker, ..)| self.hears(*asker)) {
            let reply = match end {
                TakingEnd::Taken => Reply::Snapshotted { id, applied },
                TakingEnd::NotTaken(error) => Reply::SnapshotRefused { id, why: in_words(&error) },
            };
            effects.push(Effect::Send(asker, reply));
        }
        Ok(())
    }

    pub(crate) fn end_letting_go(&mut self, gone: Gone, effects: &mut Vec<Effect>) -> Result<(), Failed> {
        match self.region.end_delete_snapshot(gone) {
            Ok(()) => {}
            Err(SnapshotError::Failed(failed)) => return Err(failed),
            // It is none any more.
            Err(error) => {
                tracing::warn!(why = in_words(&error), "what a deleted snapshot took is not free yet");
            }
        }
        self.note_snapshot_gone();
        if let Some((asker, id)) = self.letting_go.take().filter(|(asker, _)| self.hears(*asker)) {
            effects.push(Effect::Send(asker, Reply::SnapshotDeleted { id }));
        }
        Ok(())
    }

    /// Whether whoever has asked is still there.
    fn hears(&self, asker: ConnectionId) -> bool {
        self.active == Some(asker) || self.locals.contains(&asker)
    }

    /// What is left of a deleted snapshot is tried again.
    pub(crate) fn let_go_again(&mut self, effects: &mut Vec<Effect>) {
        let Some(snapshot) = self.region.snapshot_to_let_go() else { return };
        match self.region.begin_discard_snapshot(snapshot) {
            Ok(going) => effects.push(Effect::Run(Work::LetGo(Box::new(going)))),
            Err(error) => tracing::warn!(%snapshot, why = in_words(&error), "a deleted snapshot cannot go"),
        }
    }
}

pub(crate) fn in_words(error: &dyn Error) -> String {
    let source = error.source().map(|source| format!(": {}", in_words(source)));
    format!("{error}{}", source.unwrap_or_default())
}

/// Why one that has that name is of no use.
pub(crate) fn not_there(status: &SnapshotStatus) -> String {
    let snapshot = status.snapshot;
    match &status.broken {
        Some(why) if !status.is_going => format!("snapshot {snapshot} cannot be read: {why}"),
        _ => format!("snapshot {snapshot} was deleted, and is not gone yet"),
    }
}
