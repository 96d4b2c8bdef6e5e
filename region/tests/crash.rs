//! A region on a disk that loses its power at any operation, or fails at a sync, and then has any sectors of any unsynced writes: what an opening finds is
//! always one of the states that there were, all of it, and never an older one than the last that was durable. The same for
//! processes that are killed, which lose nothing at all.
//!
//! A run prints its seed when it fails; `REGION_CRASH_SEED` runs that one alone, `REGION_CRASH_RUNS` more of them.

use camino::Utf8Path;
use durable_fs::{DiskFaults, FaultyDisk, SimDisk, SimMachine};
use ids::{RegionId, RegionSetId};
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use region::{
    BlockSize, Checkpoint, CheckpointEnd, Checkpointed, Control, Failed, Geometry, Identity, List,
    NewContent, NewRegion, Onto, Opening, Position, Promotion, Region, Rule, SEAL, Seal, Staged, Sync,
    Synced, What, Write, WriteError, checksum,
};
use std::panic::catch_unwind;
use uuid::Uuid;

const PATH: &str = "region";
const RUNS: u64 = 300;
const STEPS: usize = 120;

/// What a block holds, in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Never,
    Zeros,
    /// The bytes of this seed.
    Bytes(u64),
    /// They would be those of this seed, and nobody has them.
    Lost(u64),
}

/// All blocks at one applied position.
#[derive(Clone, Debug)]
struct State {
    applied: Position,
    blocks: Vec<(Position, Content)>,
}

/// What is under way beside writes.
#[derive(Default)]
struct UnderWay {
    sync: Option<Sync>,
    synced: Option<(Position, Synced)>,
    checkpoint: Option<Checkpoint>,
    checkpointed: Option<Checkpointed>,
    staged: Vec<(Staged, Vec<NewBlocks>)>,
}

/// A write, in the model.
#[derive(Clone, Debug)]
struct NewBlocks {
    version: Position,
    first: usize,
    content: Vec<Content>,
}

struct World {
    random: SmallRng,
    machine: SimMachine,
    disk: FaultyDisk<SimDisk>,
    faults: DiskFaults,
    /// Whether a sync was to fail since it was opened.
    is_sync_to_fail: bool,
    /// Whether the disk was full while the last checkpoint was written.
    was_full: bool,
    geometry: Geometry,
    region: Option<Region>,
    under_way: UnderWay,
    /// From the one that was durable to the newest.
    history: Vec<State>,
    /// The first of the history that may be found.
    durable: Position,
    control: Control,
    attempted_control: Option<Control>,
    next: Position,
    boots: u128,
    found: Found,
}

/// What has happened: so that a run in which nothing does is noticed.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    openings: u32,
    shorter: u32,
    checkpoints: u32,
    without_room: u32,
    groups: u32,
    failed_syncs: u32,
}

fn bytes_of(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    SmallRng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes
}

/// Often the same: what an earlier life has left in a data block may be what a later one writes there.
fn some_bytes(random: &mut SmallRng) -> Content {
    Content::Bytes(if random.random_bool(0.7) { random.random_range(0..2) } else { random.random() })
}

fn seal_of(seed: u64) -> Seal {
    let mut seal = [0; SEAL];
    seal[..8].copy_from_slice(&seed.to_le_bytes());
    seal
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = SmallRng::seed_from_u64(seed);
        let geometry = Geometry {
            block_size: if random.random_bool(0.8) { BlockSize::B512 } else { BlockSize::B4096 },
            blocks: *[1, 30, 200, 400].choose(&mut random).expect("there are some"),
            is_sealed: random.random_bool(0.3),
        };
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
        };
        world.open();
        world
    }

    fn now(&self) -> &State {
        self.history.last().expect("there is always one")
    }

    /// Opens, again and again if the power fails while it does. Whether it did.
    fn open(&mut self) -> bool {
        let mut failed = false;
        self.under_way = UnderWay::default();
        self.region = None;
        self.faults.heal();
        self.is_sync_to_fail = false;
        loop {
            if self.random.random_bool(0.3) {
                self.power_fails_soon(12);
            }
            let opening = Opening { life: self.random.random(), boot: Uuid::from_u128(self.boots) };
            match region::open(&self.disk, Utf8Path::new(PATH), opening) {
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
        failed
    }

    fn power_fails_soon(&mut self, changes: u64) {
        let in_a_moment = self.machine.changes() + self.random.random_range(0..changes);
        self.machine.stop_after_changes(in_a_moment);
    }

    fn power_fails(&mut self) {
        self.machine.crash(self.random.random());
        self.boots += 1;
    }

    fn check_what_was_found(&mut self) {
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

    fn check_blocks(&mut self) {
        let size = self.geometry.block_size.bytes();
        let (mut bytes, region) = (Vec::new(), self.region.as_mut().expect("it is open"));
        let held = region.read(0..self.geometry.blocks, &mut bytes).expect("it can be read");
        let mut bytes = bytes.chunks_exact(size);
        let state = self.history.last().expect("there is one");
        for (block, (held, (version, content))) in (0..).zip(held.iter().zip(&state.blocks)) {
            assert_eq!(held.version, *version, "block {block} at {}", state.applied);
            match (held.what, content) {
                (What::Never, Content::Never) | (What::Zeros, Content::Zeros) => {}
                (What::Bytes { checksum: kept, seal }, Content::Bytes(seed)) => {
                    let bytes = bytes.next().expect("there are bytes for each block that has some");
                    assert_eq!(bytes, bytes_of(*seed, size), "block {block} at {}", state.applied);
                    assert_eq!(kept, checksum(block, bytes));
                    assert_eq!(seal, if self.geometry.is_sealed { seal_of(*seed) } else { [0; SEAL] });
                }
                (What::Lost { checksum: kept, seal }, Content::Lost(seed)) => {
                    assert_eq!(kept, checksum(block, &bytes_of(*seed, size)));
                    assert_eq!(seal, if self.geometry.is_sealed { seal_of(*seed) } else { [0; SEAL] });
                }
                (held, expected) => panic!("block {block} has {held:?} in place of {expected:?}"),
            }
        }
        assert!(bytes.next().is_none());
        let lost = state.blocks.iter().filter(|(_, content)| matches!(content, Content::Lost(_))).count();
        assert_eq!(region.lost_blocks(), lost as u64);
    }

    fn some_writes(&mut self, at_most: usize) -> Vec<NewBlocks> {
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

    fn after(&self, writes: &[NewBlocks]) -> State {
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

    fn write(&mut self) {
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

    fn stage(&mut self) {
        let writes = self.some_writes(3);
        let region = self.region.as_mut().expect("it is open");
        match with_bytes(self.geometry, &writes, |writes| region.stage(writes)) {
            Ok(staged) => self.under_way.staged.push((staged, writes)),
            Err(WriteError::NoRoom { .. }) => {}
            Err(error) => self.expect_power_cut(&error),
        }
    }

    fn discard(&mut self) {
        for (staged, _) in std::mem::take(&mut self.under_way.staged) {
            self.region.as_mut().expect("it is open").discard(staged);
        }
    }

    fn commit(&mut self) {
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
    fn bring_up(&mut self) {
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

    fn sync_now(&mut self) -> bool {
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

    fn checkpoint_now(&mut self) -> bool {
        let pending = self.under_way.checkpoint.take().map(Checkpoint::run);
        let region = self.region.as_mut().expect("it is open");
        let ended = match pending.or_else(|| self.under_way.checkpointed.take()) {
            Some(ended) => region.end_checkpoint(ended),
            None => region.checkpoint().map(|()| CheckpointEnd::InForce),
        };
        self.end_checkpoint(ended)
    }

    /// Whether it was no failure. One that has found no room has made none in the journal, and changed nothing.
    fn end_checkpoint(&mut self, ended: Result<CheckpointEnd, Failed>) -> bool {
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

    fn set_control(&mut self) {
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
    fn expect_power_cut(&mut self, error: &dyn std::error::Error) {
        if self.has_sync_failed() {
            self.found.failed_syncs += 1;
            assert!(self.region.as_ref().expect("it was open").failed().is_some(), "{error:?}");
            // The process ends, and the system goes on with what it has in its cache.
            self.machine.power_on();
            if !self.open() {
                assert!(self.control.is_suspect, "what was not durable may be gone");
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
    fn process_ends(&mut self) {
        let was_sync_failed = self.has_sync_failed();
        self.machine.power_on();
        let newest = self.now().applied;
        if !self.open() {
            let is_all = self.durable == newest || was_sync_failed;
            assert!(is_all, "the power was never gone");
        }
    }

    fn has_sync_failed(&self) -> bool {
        self.is_sync_to_fail && !self.faults.state().next_sync_fails && !self.machine.is_off()
    }

    fn step(&mut self) {
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
            90..92 if !self.machine.is_off() => self.check_blocks(),
            92..94 => {
                self.process_ends();
            }
            94..96 => {
                self.power_fails();
                self.open();
            }
            // Not a second one before the region knows of the first: of that a disk that takes nothing more keeps no word.
            96..98 if !self.has_sync_failed() => {
                self.faults.fail_next_sync();
                self.is_sync_to_fail = true;
            }
            90..92 | 96..98 => {}
            _ => self.power_fails_soon(30),
        }
    }
}

/// The writes with their bytes.
fn with_bytes<T>(geometry: Geometry, writes: &[NewBlocks], act: impl FnOnce(&[Write<'_>]) -> T) -> T {
    let size = geometry.block_size.bytes();
    let made: Vec<(Vec<u8>, Vec<u64>, Vec<Seal>)> = writes
        .iter()
        .map(|write| {
            let (mut bytes, mut checksums, mut seals) = (Vec::new(), Vec::new(), Vec::new());
            for (block, content) in (write.first as u64..).zip(&write.content) {
                if let Content::Bytes(seed) | Content::Lost(seed) = content {
                    let block_bytes = bytes_of(*seed, size);
                    checksums.push(checksum(block, &block_bytes));
                    bytes.extend(block_bytes);
                    if geometry.is_sealed {
                        seals.push(seal_of(*seed));
                    }
                }
            }
            (bytes, checksums, seals)
        })
        .collect();
    let writes: Vec<Write<'_>> = writes
        .iter()
        .zip(&made)
        .map(|(write, (bytes, checksums, seals))| Write {
            version: write.version,
            block: write.first as u64,
            content: match write.content[0] {
                Content::Bytes(_) => NewContent::Bytes { bytes, checksums, seals },
                Content::Lost(_) => NewContent::Lost { checksums, seals },
                _ => NewContent::Zeros(write.content.len() as u64),
            },
            onto: Onto::Older,
        })
        .collect();
    act(&writes)
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("it is a number"))
}

/// One run.
fn run(seed: u64) -> Found {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    if !world.machine.is_off() {
        world.check_blocks();
    }
    world.found
}

#[test]
fn an_opening_finds_a_whole_state_that_is_not_older_than_what_was_durable() {
    let seeds = match number_from("REGION_CRASH_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_from("REGION_CRASH_RUNS").unwrap_or(RUNS),
    };
    let is_all = seeds.end > 100;
    let mut found = Found::default();
    for seed in seeds {
        eprintln!("REGION_CRASH_SEED={seed}");
        let one = run(seed);
        found.openings += one.openings;
        found.shorter += one.shorter;
        found.groups += one.groups;
        found.failed_syncs += one.failed_syncs;
        found.checkpoints += one.checkpoints;
        found.without_room += one.without_room;
    }
    eprintln!("{found:?}");
    if is_all {
        assert!(found.openings > 500 && found.shorter > 100, "{found:?}");
        assert!(found.without_room > 5, "{found:?}");
        assert!(found.checkpoints > 30 && found.groups > 20 && found.failed_syncs > 30, "{found:?}");
    }
}

/// Rules that rot shows (`rot.rs`), or that take two lives with the same bytes (`lives.rs`).
const ELSEWHERE: [Rule; 3] = [Rule::DurableIsMissed, Rule::CopiesAreEqual, Rule::LifeBeginsDurably];

#[test]
fn leaving_out_any_rule_is_noticed() {
    std::panic::set_hook(Box::new(|_| {}));
    for rule in Rule::ALL.iter().copied().filter(|rule| !ELSEWHERE.contains(rule)) {
        let mut seeds = 0..3_000;
        let noticed = seeds.find(|seed| rule.left_out(|| catch_unwind(|| run(*seed))).is_err());
        let seed = noticed.unwrap_or_else(|| {
            let _ = std::panic::take_hook();
            panic!("{rule:?} may be left out")
        });
        println!("{rule:?} is missed by seed {seed}");
    }
    let _ = std::panic::take_hook();
}
