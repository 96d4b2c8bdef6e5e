//! A region on its disk, beside what it is to hold, and everything that may happen to both.

use crate::{
    model::{Content, NewBlocks, State, some_bytes, with_bytes},
    snapshots::Known,
};
use camino::Utf8Path;
use durable_fs::{DiskFaults, FaultyDisk, SimDisk, SimMachine};
use ids::{RegionId, RegionSetId, SnapshotId};
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use region::{
    BlockSize, Checkpoint, CheckpointEnd, Checkpointed, Control, Failed, Geometry, Going, Gone, Identity,
    List, NewRegion, Opening, Position, Promotion, ReadBeside, Reading, Region, Staged, Sync, Synced, Taken,
    Taking, WriteError,
};
use std::sync::Arc;
use uuid::Uuid;

pub(crate) const PATH: &str = "region";

/// What is under way beside writes.
#[derive(Default)]
pub(crate) struct UnderWay {
    pub(crate) sync: Option<Sync>,
    pub(crate) synced: Option<(Position, Synced)>,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) checkpointed: Option<Checkpointed>,
    pub(crate) staged: Vec<(Staged, Vec<NewBlocks>)>,
    pub(crate) taking: Option<(Taking, State)>,
    pub(crate) taken: Option<(Taken, State)>,
    pub(crate) going: Option<Going>,
    pub(crate) gone: Option<Gone>,
    pub(crate) reading: Option<(Reading, State)>,
    pub(crate) read: Option<(ReadBeside, State)>,
}

pub(crate) struct World {
    pub(crate) random: SmallRng,
    pub(crate) machine: SimMachine,
    pub(crate) disk: FaultyDisk<SimDisk>,
    pub(crate) faults: DiskFaults,
    /// Whether a sync was to fail since it was opened.
    pub(crate) is_sync_to_fail: bool,
    /// Whether the disk was full while the last checkpoint was written.
    pub(crate) was_full: bool,
    pub(crate) geometry: Geometry,
    pub(crate) region: Option<Region>,
    pub(crate) under_way: UnderWay,
    /// From the one that was durable to the newest.
    pub(crate) history: Vec<State>,
    /// The first of the history that may be found.
    pub(crate) durable: Position,
    pub(crate) control: Control,
    pub(crate) attempted_control: Option<Control>,
    pub(crate) next: Position,
    pub(crate) boots: u128,
    pub(crate) found: Found,
    pub(crate) snapshots: Vec<Known>,
    pub(crate) next_snapshot: u128,
    /// Those that it was said of that they are none any more.
    pub(crate) deleted: Vec<SnapshotId>,
    /// Of twenty steps; in some runs there are none.
    snapshots_weight: u32,
}

/// What has happened: so that a run in which nothing does is noticed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    pub(crate) openings: u32,
    pub(crate) shorter: u32,
    pub(crate) checkpoints: u32,
    pub(crate) without_room: u32,
    pub(crate) groups: u32,
    pub(crate) failed_syncs: u32,
    /// Snapshots that were found again, and read.
    pub(crate) snapshots: u32,
    pub(crate) deleted: u32,
    /// Those that somebody wanted to be taken behind that.
    pub(crate) late: u32,
    pub(crate) with_tracts: u32,
    /// Reads that were made beside writes and had what was there when they were begun, and those that something came between of.
    pub(crate) read_beside: u32,
    pub(crate) read_again: u32,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut random = SmallRng::seed_from_u64(seed);
        let geometry = Geometry {
            block_size: if random.random_bool(0.8) { BlockSize::B512 } else { BlockSize::B4096 },
            blocks: *[1, 30, 200, 400].choose(&mut random).expect("there are some"),
            is_sealed: random.random_bool(0.3),
        };
        let snapshots_weight = *[0, 2, 5].choose(&mut random).expect("there are some");
        let machine = SimMachine::new();
        let faults = DiskFaults::new();
        let disk = FaultyDisk::new(machine.add_disk(1 << 30), faults.clone());
        let identity =
            Identity { region: RegionId(Uuid::from_u128(1)), set: RegionSetId(Uuid::from_u128(2)), geometry };
        let new = NewRegion { identity, incarnation: 7, list: List::default(), salt: seed };
        region::create(&disk, Utf8Path::new(PATH), &new).expect("a region can be made on a disk that works");
        let blocks = vec![(Position::NONE, Content::Never); usize::try_from(geometry.blocks).expect("few")];
        let mut world = World {
            random,
            machine,
            disk,
            faults,
            is_sync_to_fail: false,
            was_full: false,
            geometry,
            region: None,
            under_way: UnderWay::default(),
            history: vec![State { applied: Position::NONE, blocks }],
            durable: Position::NONE,
            control: Control { incarnation: 7, ..Control::default() },
            attempted_control: None,
            next: Position { epoch: 1, counter: 1 },
            boots: 1,
            found: Found::default(),
            snapshots: Vec::new(),
            next_snapshot: 1,
            deleted: Vec::new(),
            snapshots_weight,
        };
        world.open();
        world
    }

    pub(crate) fn now(&self) -> &State {
        self.history.last().expect("there is always one")
    }

    /// Opens, again and again if the power fails while it does. Whether it did.
    pub(crate) fn open(&mut self) -> bool {
        let mut failed = false;
        let taken = self.under_way.taken.take().map(|(_, state)| state);
        let taking = self.under_way.taking.take().map(|(_, state)| state);
        self.note_in_doubt(taking.or(taken));
        self.under_way = UnderWay::default();
        self.region = None;
        self.faults.heal();
        self.is_sync_to_fail = false;
        loop {
            if self.random.random_bool(0.3) {
                self.power_fails_soon(12);
            }
            let opening = Opening { life: self.random.random(), boot: Uuid::from_u128(self.boots) };
            match region::open(Arc::new(self.disk.clone()), Utf8Path::new(PATH), opening) {
                Ok(region) => {
                    self.region = Some(region);
                    break;
                }
                Err(error) => {
                    assert!(self.machine.is_off(), "it does not open: {error:?}");
                    failed = true;
                    self.power_fails();
                }
            }
        }
        self.found.openings += 1;
        self.check_what_was_found();
        self.find_snapshots();
        failed
    }

    pub(crate) fn power_fails_soon(&mut self, changes: u64) {
        let in_a_moment = self.machine.changes() + self.random.random_range(0..changes);
        self.machine.stop_after_changes(in_a_moment);
    }

    pub(crate) fn power_fails(&mut self) {
        self.machine.crash(self.random.random());
        self.boots += 1;
    }

    pub(crate) fn check_what_was_found(&mut self) {
        let region = self.region.as_ref().expect("it is open");
        let (applied, kept) = (region.applied(), region.control().clone());
        assert_eq!(region.durable(), applied);
        assert!(applied >= self.durable, "{} was durable, {applied} is found", self.durable);
        let newest = self.now().applied;
        self.found.shorter += u32::from(applied < newest);
        let found = self.history.iter().position(|state| state.applied == applied);
        let found = found.unwrap_or_else(|| panic!("{applied} was never applied"));
        self.history.truncate(found + 1);
        self.history.drain(..found);
        // An opening makes durable what it has found.
        self.durable = applied;
        self.check_blocks();
        // What is lost is written again by somebody else.
        self.next = Position { epoch: self.next.epoch + 1, counter: 1 };
        let control = Control { boot: Uuid::from_u128(self.boots), ..kept };
        let same = |kept: &Control| (kept.promoted, &kept.list) == (control.promoted, &control.list);
        let is_known = same(&self.control) || self.attempted_control.as_ref().is_some_and(same);
        assert!(is_known, "{control:?} was never kept");
        self.attempted_control = None;
        self.control = control;
    }

    pub(crate) fn check_blocks(&mut self) {
        let (mut bytes, region) = (Vec::new(), self.region.as_mut().expect("it is open"));
        let held = region.read(0..self.geometry.blocks, &mut bytes).expect("it can be read");
        let state = self.history.last().expect("there is one");
        state.check(self.geometry, &held, &bytes);
        let lost = state.blocks.iter().filter(|(_, content)| matches!(content, Content::Lost(_))).count();
        assert_eq!(region.lost_blocks(), lost as u64);
    }

    fn step_of_reads(&mut self) {
        if let Some((reading, state)) = self.under_way.reading.take() {
            self.under_way.read = Some((reading.run(), state));
        } else if self.under_way.read.is_some() {
            self.end_read();
        } else {
            self.begin_read();
        }
    }

    fn begin_read(&mut self) {
        let state = self.now().clone();
        let first = self.random.random_range(0..self.geometry.blocks);
        let end = self.random.random_range(first..self.geometry.blocks) + 1;
        match self.region.as_mut().expect("it is open").begin_read(first..end) {
            Ok(reading) => self.under_way.reading = Some((reading, state)),
            Err(failed) => self.expect_power_cut(&failed),
        }
    }

    /// What it has is of one moment: when it was begun, or now.
    fn end_read(&mut self) {
        let Some((read, before)) = self.under_way.read.take() else { return };
        let blocks = read.blocks();
        let first = usize::try_from(blocks.start).expect("few");
        let (held, bytes) = match self.region.as_mut().expect("it is open").end_read(read) {
            Ok(read) => read,
            Err(failed) => return self.expect_power_cut(&failed),
        };
        assert_eq!(held.len() as u64, blocks.end - blocks.start);
        if self.machine.is_off() {
            // What a disk does not give back is as if it had rotted there.
            return;
        }
        let is_before = before.has_versions(first, &held);
        let state = if is_before { &before } else { self.now() };
        state.check_from(first, self.geometry, &held, &bytes);
        let counted = if is_before { &mut self.found.read_beside } else { &mut self.found.read_again };
        *counted += 1;
    }

    pub(crate) fn some_writes(&mut self, at_most: usize) -> Vec<NewBlocks> {
        let count = self.random.random_range(1..=at_most);
        (0..count)
            .map(|_| {
                let blocks = self.now().blocks.len();
                let first = self.random.random_range(0..blocks);
                let length = self.random.random_range(1..=(blocks - first).min(20));
                let (is_zeros, is_lost) = (self.random.random_bool(0.2), self.random.random_bool(0.1));
                let mut content = || match some_bytes(&mut self.random) {
                    Content::Bytes(seed) if is_lost => Content::Lost(seed),
                    _ if is_zeros => Content::Zeros,
                    bytes => bytes,
                };
                let content = (0..length).map(|_| content()).collect();
                let version = self.next;
                self.next = self.next.next();
                NewBlocks { version, first, content }
            })
            .collect()
    }

    pub(crate) fn after(&self, writes: &[NewBlocks]) -> State {
        let mut state = self.now().clone();
        for NewBlocks { version, first, content } in writes {
            for (at, content) in (*first..).zip(content) {
                if state.blocks[at].0 < *version {
                    state.blocks[at] = (*version, *content);
                }
            }
            state.applied = state.applied.max(*version);
        }
        state
    }

    pub(crate) fn write(&mut self) {
        let mut writes = self.some_writes(4);
        let (mut blocks, max) = (0, self.region.as_ref().expect("it is open").batch_blocks_max());
        writes.retain(|write| {
            blocks += write.content.len() as u64;
            blocks <= max
        });
        loop {
            let state = self.after(&writes);
            let region = self.region.as_mut().expect("it is open");
            let geometry = self.geometry;
            match with_bytes(geometry, &writes, |writes| region.write(state.applied, writes)) {
                Ok(_) => {
                    self.history.push(state);
                    return;
                }
                Err(WriteError::NoRoom { waiting, .. }) if waiting > 0 => {
                    if !self.sync_now() {
                        return;
                    }
                }
                // What is staged has the rest.
                Err(WriteError::NoRoom { .. }) => {
                    assert!(!self.under_way.staged.is_empty());
                    return self.discard();
                }
                Err(WriteError::JournalFull) => {
                    if !self.checkpoint_now() {
                        return;
                    }
                }
                Err(error) => return self.expect_power_cut(&error),
            }
        }
    }

    pub(crate) fn stage(&mut self) {
        let writes = self.some_writes(3);
        let region = self.region.as_mut().expect("it is open");
        match with_bytes(self.geometry, &writes, |writes| region.stage(writes)) {
            Ok(staged) => self.under_way.staged.push((staged, writes)),
            Err(WriteError::NoRoom { .. }) => {}
            Err(error) => self.expect_power_cut(&error),
        }
    }

    pub(crate) fn discard(&mut self) {
        for (staged, _) in std::mem::take(&mut self.under_way.staged) {
            self.region.as_mut().expect("it is open").discard(staged);
        }
    }

    pub(crate) fn commit(&mut self) {
        let Some((staged, writes)) = self.under_way.staged.pop() else { return };
        // One position is one state: what is committed is always newer than what is there.
        if writes.iter().all(|write| write.version < self.now().applied) {
            return self.region.as_mut().expect("it is open").discard(staged);
        }
        let state = self.after(&writes);
        match self.region.as_mut().expect("it is open").commit(state.applied, staged) {
            Ok(_) => {
                self.history.push(state);
            }
            Err((WriteError::JournalFull, Some(staged))) => {
                self.under_way.staged.push((staged, writes));
                self.checkpoint_now();
            }
            Err((error, _)) => self.expect_power_cut(&error),
        }
    }

    /// All blocks at once, each by a write of its own: more than one record has room for.
    pub(crate) fn bring_up(&mut self) {
        let writes: Vec<NewBlocks> = (0..self.now().blocks.len())
            .map(|first| {
                let (version, content) = (self.next, vec![some_bytes(&mut self.random)]);
                self.next = self.next.next();
                NewBlocks { version, first, content }
            })
            .collect();
        let region = self.region.as_mut().expect("it is open");
        match with_bytes(self.geometry, &writes, |writes| region.stage(writes)) {
            Ok(staged) => {
                self.found.groups += u32::from(writes.len() == 400);
                self.under_way.staged.push((staged, writes));
                self.commit();
            }
            Err(WriteError::NoRoom { .. }) => {}
            Err(error) => self.expect_power_cut(&error),
        }
    }

    pub(crate) fn sync_now(&mut self) -> bool {
        match self.region.as_mut().expect("it is open").sync() {
            Ok(position) => {
                assert_eq!(position, self.now().applied);
                self.durable = position;
                true
            }
            Err(failed) => {
                self.expect_power_cut(&failed);
                false
            }
        }
    }

    pub(crate) fn checkpoint_now(&mut self) -> bool {
        if self.under_way.taking.is_some() || self.under_way.taken.is_some() {
            self.run_taking();
            return self.end_taking();
        }
        let pending = self.under_way.checkpoint.take().map(Checkpoint::run);
        let region = self.region.as_mut().expect("it is open");
        let ended = match pending.or_else(|| self.under_way.checkpointed.take()) {
            Some(ended) => region.end_checkpoint(ended),
            None => region.checkpoint().map(|()| CheckpointEnd::InForce),
        };
        self.end_checkpoint(ended)
    }

    /// Whether it was no failure. One that has found no room has made none in the journal, and changed nothing.
    pub(crate) fn end_checkpoint(&mut self, ended: Result<CheckpointEnd, Failed>) -> bool {
        match ended {
            Ok(CheckpointEnd::InForce) => {
                self.found.checkpoints += 1;
                true
            }
            Ok(CheckpointEnd::NoRoom(_)) => {
                self.found.without_room += 1;
                // What it was to write has to be found behind the next one, too.
                if self.random.random_bool(0.5) && self.checkpoint_now() && !self.machine.is_off() {
                    self.process_ends();
                }
                true
            }
            Err(failed) => {
                self.expect_power_cut(&failed);
                false
            }
        }
    }

    pub(crate) fn set_control(&mut self) {
        let epoch = self.control.promoted.epoch + 1;
        let promoted = Promotion { epoch, session: Uuid::from_u128(self.random.random()) };
        let control = Control { promoted, ..self.region.as_ref().expect("it is open").control().clone() };
        match self.region.as_mut().expect("it is open").set_control(control.clone()) {
            Ok(()) => self.control = control,
            Err(failed) => {
                self.attempted_control = Some(control);
                self.expect_power_cut(&failed);
            }
        }
    }

    /// What fails, fails because the power does.
    pub(crate) fn expect_power_cut(&mut self, error: &dyn std::error::Error) {
        if self.has_sync_failed() {
            self.found.failed_syncs += 1;
            let failed =
                self.region.as_ref().expect("it was open").failed().expect("it has failed").to_string();
            // The process ends, and the system goes on with what it has in its cache.
            self.machine.power_on();
            if !self.open() {
                let was_anothers = failed.contains("snapshot");
                assert!(
                    self.control.is_suspect || was_anothers,
                    "what was not durable may be gone: {failed}"
                );
            }
            return;
        }
        if std::mem::take(&mut self.was_full) && !self.machine.is_off() {
            // Behind the first of its syncs nobody knows which checkpoint is in force, but the next opening.
            return self.process_ends();
        }
        assert!(self.machine.is_off(), "with power on: {error:?}");
        self.power_fails();
        self.open();
    }

    /// The system still has all that it wrote, but for what a sync has failed for.
    pub(crate) fn process_ends(&mut self) {
        // Also if the power has failed after it: what the sync was for is not in the cache any more.
        let was_sync_failed = self.was_sync_failed();
        self.machine.power_on();
        let newest = self.now().applied;
        if !self.open() {
            let is_all = self.durable == newest || was_sync_failed;
            assert!(is_all, "the power was never gone");
        }
    }

    /// A checkpoint that may have failed, and the region does not know it yet.
    fn has_unknown_failure(&self) -> bool {
        self.was_full && (self.under_way.checkpointed.is_some() || self.under_way.taken.is_some())
    }

    fn was_sync_failed(&self) -> bool {
        self.is_sync_to_fail && self.faults.state().next_fails.is_none()
    }

    pub(crate) fn has_sync_failed(&self) -> bool {
        self.was_sync_failed() && !self.machine.is_off()
    }

    pub(crate) fn step(&mut self) {
        if self.snapshots_weight > 0 && self.random.random_ratio(self.snapshots_weight, 20) {
            return self.step_of_snapshots();
        }
        if self.random.random_ratio(1, 6) {
            return self.step_of_reads();
        }
        match self.random.random_range(0..100) {
            0..43 => self.write(),
            43..45 => self.bring_up(),
            45..50 => self.stage(),
            50..55 => self.commit(),
            55..60 => {
                let begun = self.region.as_mut().expect("it is open").begin_sync();
                self.under_way.sync = Some(begun.expect("it is in use"));
            }
            60..65 => {
                let run = |sync: Sync| (sync.position(), sync.run());
                if let Some(synced) = self.under_way.sync.take().map(run) {
                    self.under_way.synced = Some(synced);
                }
            }
            65..70 => {
                let Some((position, synced)) = self.under_way.synced.take() else { return };
                match self.region.as_mut().expect("it is open").end_sync(synced) {
                    Ok(_) => self.durable = self.durable.max(position),
                    Err(failed) => self.expect_power_cut(&failed),
                }
            }
            70..74 => {
                let region = self.region.as_mut().expect("it is open");
                if region.is_in_checkpoint() {
                    return;
                }
                match region.begin_checkpoint() {
                    Ok(checkpoint) => self.under_way.checkpoint = Some(checkpoint),
                    Err(failed) => self.expect_power_cut(&failed),
                }
            }
            74..78 => {
                if let Some(checkpoint) = self.under_way.checkpoint.take() {
                    self.was_full = self.random.random_bool(0.3);
                    if self.was_full {
                        self.faults.full_after(self.random.random_range(0..12));
                    }
                    self.under_way.checkpointed = Some(checkpoint.run());
                    self.faults.make_room();
                }
            }
            78..82 => {
                if let Some(ended) = self.under_way.checkpointed.take() {
                    let ended = self.region.as_mut().expect("it is open").end_checkpoint(ended);
                    self.end_checkpoint(ended);
                }
            }
            82..84 => {
                self.sync_now();
            }
            84..86 => match self.region.as_mut().expect("it is open").settle() {
                Ok(()) => {
                    self.durable = self.now().applied;
                    self.machine.power_on();
                    self.open();
                }
                Err(failed) => self.expect_power_cut(&failed),
            },
            86..90 => self.set_control(),
            // A sync or checkpoint that was run may have met the power cut already.
            90..92 if !self.machine.is_off() => {
                self.check_blocks();
                self.check_snapshots();
            }
            92..94 => {
                self.process_ends();
            }
            94..96 => {
                self.power_fails();
                self.open();
            }
            // Not a second one before the region knows of the first: of that a disk that takes nothing more keeps no word.
            96..98 if !self.has_sync_failed() && !self.has_unknown_failure() => {
                self.faults.fail_next_sync();
                self.is_sync_to_fail = true;
            }
            90..92 | 96..98 => {}
            _ => self.power_fails_soon(30),
        }
    }
}
