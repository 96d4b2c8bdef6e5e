//! What a member has to do on its disk that takes long: syncs and checkpoints; and, [`beside`](super::beside), long reads. When one is begun, and what follows when it has ended.

use crate::{
    member::{Asked, Effect, Member, Wait},
    rules::Rule,
    stream::waits,
};
use region::{
    Checkpoint, CheckpointEnd, Checkpointed, Failed, Going, Gone, ReadBeside, Reading, Sync, Synced, Taken,
    Taking,
};
use region_wire::Reply;

/// When so many bytes of blocks have been written since the last sync was begun, another one is.
const UNSYNCED: u64 = 32 << 20;

/// Nothing is written while so many bytes wait for syncs: an opening reads what was not durable.
pub(crate) const UNSYNCED_MAX: u64 = 512 << 20;

/// Ticks between two checkpoints that find no room, and nobody waits for, at most: half a minute.
const CHECKPOINT_PAUSE_MAX: u32 = 60;

/// Work on the disk that needs nobody.
#[derive(Debug)]
pub enum Work {
    /// An `fdatasync`.
    Sync(Sync),
    /// A checkpoint.
    Checkpoint(Box<Checkpoint>),
    /// A snapshot.
    Snapshot(Box<Taking>),
    /// What is left of a snapshot that was deleted.
    LetGo(Box<Going>),
    /// Blocks that are read beside.
    Read(Asked, Box<Reading>),
}

impl Work {
    /// Whether others go first.
    #[must_use]
    pub fn is_later(&self) -> bool {
        matches!(self, Work::Read(asked, _) if asked.is_later())
    }

    /// Does it.
    #[must_use]
    pub fn run(self) -> Ended {
        match self {
            Work::Sync(sync) => Ended::Sync(sync.run()),
            Work::Checkpoint(checkpoint) => Ended::Checkpoint(checkpoint.run()),
            Work::Snapshot(taking) => Ended::Snapshot(taking.run()),
            Work::LetGo(going) => Ended::LetGo(going.run()),
            Work::Read(asked, reading) => Ended::Read(asked, Box::new(reading.run())),
        }
    }
}

/// Work that was done.
#[derive(Debug)]
pub enum Ended {
    /// An `fdatasync`.
    Sync(Synced),
    /// A checkpoint.
    Checkpoint(Checkpointed),
    /// A snapshot.
    Snapshot(Taken),
    /// What was left of one that was deleted.
    LetGo(Gone),
    /// Blocks that were read beside.
    Read(Asked, Box<ReadBeside>),
}

impl Member {
    pub(crate) fn begin_work(&mut self, effects: &mut Vec<Effect>) -> Result<(), Failed> {
        if self.region.failed().is_some() {
            return Ok(());
        }
        let must_checkpoint = self.waits == Some(Wait::Checkpoint) && !self.region.is_in_checkpoint();
        let is_time = self.region.wants_checkpoint() || (self.is_quiet() && self.region.may_checkpoint());
        if (must_checkpoint || is_time) && self.checkpoint_pause == 0 {
            effects.push(Effect::Run(Work::Checkpoint(Box::new(self.region.begin_checkpoint()?))));
        }
        if !Rule::FlushIsBehindItsSync.is_kept() && self.is_syncing {
            self.served.append(&mut self.flushes);
        }
        let wants_sync = self.wants_sync || !self.flushes.is_empty() || self.unsynced >= UNSYNCED;
        if !wants_sync || self.is_syncing {
            return Ok(());
        }
        if self.unsynced == 0 && self.waits != Some(Wait::Sync) && self.is_all_durable() {
            self.wants_sync = false;
            for (connection, id) in std::mem::take(&mut self.flushes) {
                let durable = self.region.durable();
                effects.push(Effect::Send(connection, Reply::Flushed { id, durable }));
            }
            return Ok(());
        }
        let sync = self.region.begin_sync()?;
        self.is_syncing = true;
        self.wants_sync = false;
        self.being_synced = std::mem::take(&mut self.unsynced);
        self.served.append(&mut self.flushes);
        effects.push(Effect::Run(Work::Sync(sync)));
        Ok(())
    }

    fn is_all_durable(&self) -> bool {
        self.region.durable() == self.region.applied() && self.region.room_after_sync() == 0
    }

    pub(crate) fn end_sync(&mut self, synced: Synced, effects: &mut Vec<Effect>) -> Result<(), Failed> {
        self.is_syncing = false;
        self.being_synced = 0;
        self.stop_waiting_for(Wait::Sync);
        let durable = self.region.end_sync(synced)?;
        for (connection, id) in std::mem::take(&mut self.served) {
            if self.active == Some(connection) {
                effects.push(Effect::Send(connection, Reply::Flushed { id, durable }));
            }
        }
        Ok(())
    }

    pub(crate) fn end_checkpoint(
        &mut self,
        checkpointed: Checkpointed,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failed> {
        let is_waited_for = self.waits == Some(Wait::Checkpoint);
        match self.region.end_checkpoint(checkpointed)? {
            CheckpointEnd::InForce => self.next_checkpoint_pause = 1,
            // Who waits for the journal waits for the disk.
            CheckpointEnd::NoRoom(error) if is_waited_for => {
                self.checkpoint_pause = 1;
                self.refusal = Some(waits(&error));
                self.wait_for_disk(effects);
            }
            CheckpointEnd::NoRoom(_) => {
                self.checkpoint_pause = self.next_checkpoint_pause;
                self.next_checkpoint_pause = (2 * self.checkpoint_pause).min(CHECKPOINT_PAUSE_MAX);
            }
        }
        self.note_checkpoint_ended();
        Ok(())
    }

    /// Whoever waits for it goes on.
    pub(crate) fn note_checkpoint_ended(&mut self) {
        self.stop_waiting_for(Wait::Checkpoint);
        self.stop_waiting_for(Wait::Snapshot);
    }

    /// The same for one who waits for a snapshot.
    pub(crate) fn note_snapshot_gone(&mut self) {
        self.stop_waiting_for(Wait::Snapshot);
    }

    /// Whether so much waits for syncs that nothing is written until one has ended.
    pub(crate) fn is_far_from_durable(&self) -> bool {
        self.unsynced + self.being_synced >= UNSYNCED_MAX
    }
}
