//! What kind of trouble a seed has: which faults, how often, with how much room. Each kind makes some of the promises hard to keep.

use rand::{Rng, rngs::SmallRng};
use region::BlockSize;
use region_wire::LOOK_MAX;
use std::{ops::Range, time::Duration};
use upstairs::{Limits, Patience};

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process of a sled is killed.
    KillSled,
    /// Those of two sleds are.
    KillTwo,
    KillAll,
    /// The power of a sled fails, at some operation of its disk.
    LosePower,
    LosePowerOfAll,
    /// The next sync of a sled's disk fails, and what it was for is forgotten. Its process ends a moment later.
    FailSync,
    /// The disk of a sled has room for some operations more, and then for none, for a while.
    Full,
    /// A connection breaks, and both ends hear of it.
    Break,
    /// What is sent to a sled and by it is lost, on the connections that it has.
    GoDark,
    /// Nothing gets through between the newest Upstairs and a sled, for a while.
    Block,
    PauseSled,
    PauseWriter,
    KillWriter,
    /// Somebody believes that the older Upstairs is gone, and it is not.
    TakeOver,
    /// Somebody begins with an epoch that was given before.
    LowerWriter,
    /// One sled is away until it is left out and comes back; then another one is stopped; then the power of the third one fails, and the
    /// Upstairs dies with it.
    ThreeInARow,
    /// The power of one sled fails, and the Upstairs dies with it.
    TwoAtOnce,
    /// The power of one sled fails, and comes back; a moment later, before anybody leaves it out, that of another one; and the third one,
    /// which has had power all the time, is away when the next Upstairs asks.
    OneAfterAnother,
    /// Nothing gets through to the newest Upstairs for a while; another one takes over, and dies.
    Partition,
    /// What the newest Upstairs sends to a sled is on its way for long, and to the others it does not get; another one takes over, and all
    /// of that arrives right before the first thing that this one writes there: later, positions would tell, and earlier it would notice.
    Overtaken,
    /// The medium changes a bit of a block.
    Rot,
    /// An Upstairs dies while the members have not the same, and the medium changes blocks of which one of them has the newest bytes.
    RotOfTheNewest,
    /// A sled begins to answer with what it has changed on purpose, or ends it.
    Lie,
    /// Two members are replaced, which the newest Upstairs does not reach any more; another one takes over that reaches them alone.
    Split,
    /// Members are replaced by new ones: such as are gone, or healthy ones.
    Replace,
}

/// What kind of trouble.
#[derive(Clone, Debug)]
pub(crate) struct Climate {
    pub(crate) block_size: BlockSize,
    pub(crate) blocks: u64,
    /// Whether blocks are encrypted.
    pub(crate) is_sealed: bool,
    /// Where clients write and read: parts of the blocks, if there are many.
    pub(crate) spots: Vec<Range<u64>>,
    faults: &'static [(Fault, u32)],
    /// Whether members are replaced.
    pub(crate) replaces: bool,
    /// Whether a sled answers what is not so.
    pub(crate) has_liar: bool,
    /// Whether snapshots are taken.
    pub(crate) takes_snapshots: bool,
    /// Milliseconds between faults at most.
    pub(crate) between_faults: u64,
    /// Milliseconds that somebody is away at most.
    pub(crate) away: u64,
    pub(crate) limits: Limits,
    /// How long clients wait for members.
    pub(crate) patience: Patience,
    /// How likely the power fails right behind a request that makes something durable.
    pub(crate) aimed: f64,
    /// How likely the power of everything fails right behind a flush that is acknowledged.
    pub(crate) aimed_at_flushes: f64,
    /// How much longer the disk of each sled takes.
    pub(crate) slowness: [u32; 3],
    /// How much longer messages take to and from each sled.
    pub(crate) distance: [u32; 3],
    /// The one sled whose medium changes bytes. Its power stays: then bytes that are lost and such as are changed would be the same.
    pub(crate) rotten: Option<usize>,
    /// The one sled that lies about blocks, if they are encrypted: about others nobody would notice.
    pub(crate) liar: usize,
    /// Microseconds between jobs at most.
    pub(crate) between_jobs: u64,
}

use Fault::{
    Block, Break, FailSync, Full, GoDark, KillAll, KillSled, KillTwo, KillWriter, Lie, LosePower,
    LosePowerOfAll, LowerWriter, OneAfterAnother, Overtaken, Partition, PauseSled, PauseWriter, Replace, Rot,
    RotOfTheNewest, Split, TakeOver, ThreeInARow, TwoAtOnce,
};

const MIXED: &[(Fault, u32)] = &[
    (KillSled, 20),
    (LosePower, 10),
    (LosePowerOfAll, 3),
    (KillAll, 3),
    (Break, 16),
    (GoDark, 8),
    (Block, 8),
    (PauseSled, 8),
    (PauseWriter, 6),
    (KillWriter, 6),
    (TakeOver, 6),
    (LowerWriter, 6),
    (Overtaken, 8),
    (Full, 8),
];
const POWER: &[(Fault, u32)] = &[
    (LosePower, 30),
    (LosePowerOfAll, 15),
    (TwoAtOnce, 10),
    (OneAfterAnother, 10),
    (KillSled, 5),
    (KillWriter, 5),
    (PauseSled, 5),
];
const SYNCS: &[(Fault, u32)] = &[
    (FailSync, 30),
    (LosePower, 15),
    (LosePowerOfAll, 8),
    (TwoAtOnce, 8),
    (OneAfterAnother, 8),
    (KillSled, 10),
    (KillWriter, 8),
    (PauseSled, 5),
    (Block, 5),
    (Break, 5),
];
const NETWORK: &[(Fault, u32)] = &[
    (Break, 30),
    (GoDark, 15),
    (Block, 15),
    (TakeOver, 10),
    (Overtaken, 12),
    (PauseWriter, 5),
    (PauseSled, 5),
    (KillWriter, 5),
];
const LAGGARDS: &[(Fault, u32)] = &[
    (ThreeInARow, 30),
    (KillTwo, 15),
    (KillSled, 15),
    (Full, 15),
    (Block, 15),
    (PauseSled, 10),
    (TwoAtOnce, 5),
    (LosePower, 5),
    (Break, 10),
];
const RIVALS: &[(Fault, u32)] = &[
    (Partition, 30),
    (TakeOver, 30),
    (Overtaken, 45),
    (LowerWriter, 15),
    (PauseWriter, 15),
    (Block, 15),
    (KillSled, 10),
    (LosePower, 5),
    (GoDark, 10),
];
const ROT: &[(Fault, u32)] =
    &[(Rot, 60), (Break, 10), (KillSled, 10), (Block, 8), (KillWriter, 3), (TakeOver, 3)];

const LAST_COPIES: &[(Fault, u32)] = &[
    (RotOfTheNewest, 50),
    (Rot, 10),
    (Break, 10),
    (KillSled, 10),
    (LosePower, 10),
    (Block, 10),
    (KillWriter, 5),
    (TakeOver, 5),
];

const LIES: &[(Fault, u32)] = &[
    (Lie, 40),
    (ThreeInARow, 10),
    (KillTwo, 10),
    (KillSled, 15),
    (Block, 15),
    (LosePower, 5),
    (KillWriter, 5),
    (Break, 10),
];

const REPLACEMENTS: &[(Fault, u32)] = &[
    (Replace, 40),
    (Split, 8),
    (KillSled, 15),
    (KillTwo, 5),
    (LosePower, 15),
    (LosePowerOfAll, 3),
    (KillWriter, 12),
    (TakeOver, 5),
    (Block, 10),
    (Break, 10),
    (PauseSled, 8),
    (PauseWriter, 4),
    (GoDark, 4),
    (ThreeInARow, 4),
    (TwoAtOnce, 4),
    (Full, 4),
];

const ROWS: &[(Fault, u32)] = &[(ThreeInARow, 1)];

/// A slow disk takes so long at most: nobody believes that it is gone.
const DISK_MAX: Duration = Duration::from_secs(2);

/// A message takes so long at most for the distance alone.
const DISTANCE_MAX: Duration = Duration::from_millis(50);

/// Every so many seeds blocks are encrypted: in each climate some, and in most of them nothing else is different.
const SEALED: u64 = 3;

/// Every so many seeds clients do not wait for ever.
const IMPATIENT: u64 = 5;

/// Every so many seeds members are replaced.
const REPLACED: u64 = 6;

/// Every so many seeds snapshots are taken.
const SNAPSHOTS: u64 = 3;

/// Every so many seeds there are many blocks.
const LARGE: u64 = 61;

impl Climate {
    pub(crate) fn new(seed: u64, random: &mut SmallRng) -> Climate {
        let entries = random.random_range(6..40);
        let few = Limits {
            window_entries: entries,
            in_flight_entries: random.random_range(2..=entries),
            ..Limits::default()
        };
        let limits = if random.random_bool(0.5) { few } else { Limits::default() };
        let blocks = random.random_range(4..40);
        let mut climate = Climate {
            block_size: if random.random_bool(0.1) { BlockSize::B4096 } else { BlockSize::B512 },
            blocks,
            is_sealed: seed % SEALED == 1,
            spots: std::iter::once(0..blocks).collect(),
            faults: MIXED,
            replaces: false,
            takes_snapshots: seed % SNAPSHOTS == 2,
            has_liar: false,
            between_faults: 2_500,
            away: 4_000,
            limits,
            patience: Patience::default(),
            aimed: 0.0,
            aimed_at_flushes: 0.0,
            slowness: [1; 3],
            distance: [1; 3],
            rotten: None,
            liar: usize::try_from(seed / 7 % 3).unwrap_or(0),
            between_jobs: 20_000,
        };
        match seed % 7 {
            1 => {
                climate.faults = POWER;
                climate.aimed = 0.05;
                climate.aimed_at_flushes = 0.04;
                climate.away = 8_000;
                climate.slowness = std::array::from_fn(|_| [1, 30, 300][random.random_range(0..3)]);
                if random.random_bool(0.5) {
                    climate.slowness = [300; 3];
                    climate.slowness[random.random_range(0..3)] = 1;
                }
            }
            2 => climate.faults = NETWORK,
            3 => {
                climate.faults = LAGGARDS;
                climate.limits = few;
                climate.between_faults = 6_000;
                climate.away = 8_000;
                if random.random_bool(0.5) {
                    climate.between_jobs = 4_000;
                    climate.distance = std::array::from_fn(|_| [1, 10, 100][random.random_range(0..3)]);
                }
            }
            4 => {
                climate.faults = RIVALS;
                // Much is on its way when somebody takes over.
                climate.between_jobs = [8_000, 2_000][random.random_range(0..2)];
                climate.distance = std::array::from_fn(|_| [1, 1, 10, 100][random.random_range(0..4)]);
            }
            5 => {
                climate.faults = ROT;
                climate.between_faults = 500;
                climate.rotten = Some(random.random_range(0..3));
            }
            6 => {
                climate.faults = ROWS;
                climate.limits = few;
                climate.between_faults = 8_000;
                climate.slowness = [300; 3];
                climate.between_jobs = 10_000;
            }
            _ => climate.aimed = 0.005,
        }
        if seed % 14 == 7 || seed % 28 == 1 {
            climate.faults = SYNCS;
        }
        if seed % 7 == 5 && seed.is_multiple_of(2) {
            climate.faults = LAST_COPIES;
            climate.between_faults = 4_000;
            climate.between_jobs = 8_000;
            climate.distance = std::array::from_fn(|_| [1, 10, 100][random.random_range(0..3)]);
        }
        if climate.is_sealed && seed % 7 == 3 {
            climate.faults = LIES;
            climate.has_liar = true;
            climate.between_faults = 1_500;
        }
        if seed % REPLACED == REPLACED - 1 {
            climate.replace_members();
        }
        if seed % IMPATIENT == IMPATIENT - 1 {
            let for_members = Duration::from_millis(300 + seed / IMPATIENT * 37 % 4_000);
            climate.patience.for_members = Some(for_members);
        }
        // Blocks that are compared at a time: a few, or all.
        climate.limits.range_blocks = if seed.is_multiple_of(4) { LOOK_MAX } else { 1 + seed / 4 % 9 };
        if seed % LARGE == LARGE - 1 {
            climate.be_large(random);
        }
        climate
    }

    fn be_large(&mut self, random: &mut SmallRng) {
        self.block_size = BlockSize::B512;
        self.blocks = random.random_range(8_192..20_000);
        let last = self.blocks;
        self.spots = vec![0..20, 8_180..8_192, last - 10..last];
        self.between_jobs *= 2;
        self.limits.range_blocks = LOOK_MAX;
    }

    /// Members are replaced, with what else goes wrong then.
    fn replace_members(&mut self) {
        self.replaces = true;
        self.faults = REPLACEMENTS;
        self.has_liar = false;
        self.rotten = None;
        self.between_faults = 2_500;
    }

    /// How long a disk takes for what takes another one so long.
    pub(crate) fn slow(&self, sled: usize, delay: Duration) -> Duration {
        (delay * self.slowness[sled % 3]).min(DISK_MAX.max(delay))
    }

    /// How long a message takes to or from a sled that takes so long from a near one.
    pub(crate) fn far(&self, sled: usize, delay: Duration) -> Duration {
        (delay * self.distance[sled % 3]).min(DISTANCE_MAX.max(delay))
    }

    /// What goes wrong next.
    pub(crate) fn fault(&self, random: &mut SmallRng) -> Fault {
        let all: u32 = self.faults.iter().map(|(_, weight)| weight).sum();
        let mut at = random.random_range(0..all);
        for (fault, weight) in self.faults {
            if at < *weight {
                return *fault;
            }
            at -= weight;
        }
        self.faults[0].0
    }
}
