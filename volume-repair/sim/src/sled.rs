//! One machine with a region: its disk, and the process that serves it, if it runs.

use bytes::BytesMut;
use camino::Utf8Path;
use downstairs::Member;
use durable_fs::{DiskFaults, FaultyDisk, SimDisk, SimMachine, Storage};
use ids::{RegionId, RegionSetId};
use region::{
    Geometry, Held, Identity, List, ListVersion, Member as Named, NewRegion, Opening, Position, SEAL, What,
    checksum,
};
use region_wire::Reply;
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

const PATH: &str = "region";

/// Bytes of its disk: much more than its region takes.
const DISK: u64 = 1 << 27;

/// A machine.
#[derive(Debug)]
pub(crate) struct Sled {
    pub(crate) machine: SimMachine,
    disk: SimDisk,
    pub(crate) faults: DiskFaults,
    /// Whether its region has failed, and its process is to end.
    pub(crate) is_failed: bool,
    /// None while the process does not run.
    pub(crate) member: Option<Member>,
    /// Which process of this machine it is.
    pub(crate) life: u64,
    boots: u128,
    /// What it changes of what it answers, if it lies.
    pub(crate) lie: Option<Lie>,
    /// Until then it does nothing: stopped, or busy.
    pub(crate) paused_until: Duration,
}

/// What somebody changes who has the disk and the machine, but not the key. Checksums he makes himself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    Bytes,
    Seals,
}

pub(crate) fn set() -> RegionSetId {
    RegionSetId(Uuid::from_u128(1_000))
}

/// The member of this number.
pub(crate) fn named(sled: usize) -> Named {
    Named { region: RegionId(Uuid::from_u128(sled as u128 + 1)), incarnation: 1 }
}

/// The number of this member.
pub(crate) fn number_of(member: Named) -> usize {
    usize::try_from(member.region.0.as_u128() - 1).expect("sleds are few")
}

impl Sled {
    /// With a new region: one of `members` full ones of its set, or one that is to be filled, if there are none.
    pub(crate) fn new(number: usize, members: usize, geometry: Geometry, salt: u64) -> Sled {
        let machine = SimMachine::new();
        let disk = machine.add_disk(DISK);
        let identity = Identity { region: named(number).region, set: set(), geometry };
        let full = (0..members).map(named).collect();
        let list = match members {
            0 => List::default(),
            _ => List { version: ListVersion { epoch: 0, number: 1 }, base: Position::NONE, full },
        };
        let new = NewRegion { identity, incarnation: 1, list, salt };
        region::create(&disk, Utf8Path::new(PATH), &new).expect("a region can be made on a disk that works");
        Sled {
            machine,
            disk,
            faults: DiskFaults::new(),
            is_failed: false,
            member: None,
            life: 0,
            boots: 1,
            lie: None,
            paused_until: Duration::ZERO,
        }
    }

    /// Starts the process. It ends again if the power fails meanwhile.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        self.life += 1;
        self.is_failed = false;
        self.faults.heal();
        let disk = FaultyDisk::new(self.disk.clone(), self.faults.clone());
        let opening = Opening { life: self.life, boot: Uuid::from_u128(self.boots) };
        match region::open(Arc::new(disk), Utf8Path::new(PATH), opening) {
            Ok(region) => {
                self.member = Some(Member::new(region));
                Ok(())
            }
            Err(_) if self.machine.is_off() => Ok(()),
            Err(error) => Err(format!("region {} does not open: {error:?}", self.life)),
        }
    }

    /// What it has, in one number; none if it does not run or its disk has gone.
    pub(crate) fn digest(&mut self) -> Option<u128> {
        let member = self.member.as_mut()?;
        let blocks = member.region().identity().geometry.blocks;
        member.region_mut().digest(0..blocks).ok()
    }

    /// The medium changes a bit of a block, at this part of them: blocks are at the end of the file, and there are more places than blocks.
    pub(crate) fn rot(&self, part: f64, geometry: Geometry) -> Result<(), String> {
        let path = Utf8Path::new(PATH);
        let wrong = |error: durable_fs::StorageError| format!("the file of a region is gone: {error:?}");
        let size = self.disk.metadata(path).map_err(wrong)?.size;
        let bytes = geometry.blocks * geometry.block_size.bytes() as u64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "some byte"
        )]
        let offset = size - bytes + (bytes as f64 * part) as u64;
        self.disk.flip_bit(path, offset).map_err(wrong)
    }

    /// The blocks that hold something, with their versions; none if it does not run.
    pub(crate) fn versions(&mut self) -> Vec<(u64, Position)> {
        let held = self.held().unwrap_or_default();
        (0..).zip(held).map(|(block, held)| (block, held.version)).collect()
    }

    /// What its blocks hold.
    pub(crate) fn held(&mut self) -> Option<Vec<Held>> {
        let region = self.member.as_mut()?.region_mut();
        let blocks = region.identity().geometry.blocks;
        region.look(0..blocks).ok()
    }

    /// The version of a block, and its bytes if it has the right ones; what has no bytes is right.
    pub(crate) fn right_block(&mut self, block: u64) -> Option<(Position, Vec<u8>)> {
        let (mut bytes, region) = (Vec::new(), self.member.as_mut()?.region_mut());
        let held = region.read(block..block + 1, &mut bytes).ok()?;
        let is_right = match held[0].what {
            What::Never | What::Zeros => true,
            What::Lost { .. } => false,
            What::Bytes { checksum: kept, .. } => checksum(block, &bytes) == kept,
        };
        is_right.then_some((held[0].version, bytes))
    }

    /// The medium changes a bit of this block. Whether it had right bytes, and has not any more.
    pub(crate) fn rot_block(&mut self, block: u64, geometry: Geometry) -> Result<bool, String> {
        let Some((_, bytes)) = self.right_block(block).filter(|(_, bytes)| !bytes.is_empty()) else {
            return Ok(false);
        };
        let (path, size) = (Utf8Path::new(PATH), geometry.block_size.bytes());
        let wrong = |error: durable_fs::StorageError| format!("the file of a region is gone: {error:?}");
        let file = self.disk.open(path).map_err(wrong)?;
        let mut there = vec![0; size];
        // The same bytes may lie in its file twice: only one of them are those of the block.
        for offset in (0..self.disk.metadata(path).map_err(wrong)?.size).step_by(size) {
            if file.read_at(offset, &mut there).map_err(wrong)? == size && there == bytes {
                self.disk.flip_bit(path, offset).map_err(wrong)?;
                if self.right_block(block).is_none() {
                    return Ok(true);
                }
                self.disk.flip_bit(path, offset).map_err(wrong)?;
            }
        }
        Ok(false)
    }

    /// Changes what it is about to answer, if it lies.
    pub(crate) fn falsify(&self, reply: &mut Reply, size: usize) {
        let forge_seal = |what: &mut What| {
            if let What::Bytes { seal, .. } | What::Lost { seal, .. } = what {
                seal[SEAL - 1] ^= 1;
            }
        };
        match (self.lie, reply) {
            (Some(Lie::Seals), Reply::Read { whats, .. }) => whats.iter_mut().for_each(forge_seal),
            (Some(Lie::Seals), Reply::Looked { held, .. }) => {
                held.iter_mut().for_each(|held| forge_seal(&mut held.what));
            }
            (Some(Lie::Bytes), Reply::Read { first, whats, bytes, .. }) => {
                let mut forged = BytesMut::from(&bytes[..]);
                let blocks = (*first..).zip(whats.iter_mut()).filter_map(|(block, what)| match what {
                    What::Bytes { checksum, .. } => Some((block, checksum)),
                    What::Never | What::Zeros | What::Lost { .. } => None,
                });
                for ((block, kept), bytes) in blocks.zip(forged.chunks_exact_mut(size)) {
                    bytes[100] ^= 1;
                    *kept = checksum(block, bytes);
                }
                *bytes = forged.freeze();
            }
            _ => {}
        }
    }

    /// All that its region has on the disk, part by part.
    pub(crate) fn each_part(&self, mut look: impl FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
        let wrong =
            |error: durable_fs::StorageError| format!("the file of a region cannot be read: {error:?}");
        let file = self.disk.open(Utf8Path::new(PATH)).map_err(wrong)?;
        let (mut part, mut offset) = (vec![0; 1 << 20], 0);
        loop {
            let read = file.read_at(offset, &mut part).map_err(wrong)?;
            if read == 0 {
                return Ok(());
            }
            look(&part[..read])?;
            offset += read as u64;
        }
    }

    /// The process is killed; the machine goes on.
    pub(crate) fn kill(&mut self) {
        self.member = None;
        self.life += 1;
        self.machine.power_on();
    }

    /// The power fails, and comes back with what it has left.
    pub(crate) fn lose_power(&mut self, seed: u64) {
        self.member = None;
        self.life += 1;
        self.boots += 1;
        self.machine.crash(seed);
    }
}
