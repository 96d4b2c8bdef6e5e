//! Snapshots: what each of them has to hold, and that all regions that are said to have it do.
//!
//! A snapshot that an Upstairs has taken has, of each block, the last write that its client had asked for before it: jobs that change
//! something are begun in their order. Writes are numbered as they are begun, so the version of the block says which one it is. What its client
//! has not written in this session is from an earlier epoch.

use crate::{history::Session, world::World};
use ids::SnapshotId;
use region::{Held, SnapshotError, What, checksum};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A snapshot that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) id: SnapshotId,
    pub(crate) session: Session,
    /// The number of the last write to each block that was written in this session.
    pub(crate) last: BTreeMap<u64, u64>,
    /// Whether all writes of the session have numbers: its client gives none up.
    pub(crate) is_exact: bool,
    /// The sleds whose regions have it.
    pub(crate) sleds: Vec<usize>,
}

/// Those that clients were told that they have, and that nobody has asked to delete.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    pub(crate) there: Vec<Wanted>,
    next: u128,
    pub(crate) taken: u64,
    pub(crate) deleted: u64,
    pub(crate) refused: u64,
    /// Copies, each of one member, that were read whole, and held what they had to.
    pub(crate) read_back: u64,
}

impl Snapshots {
    pub(crate) fn next_id(&mut self) -> SnapshotId {
        self.next += 1;
        SnapshotId(Uuid::from_u128(self.next))
    }
}

impl World {
    /// A client is told that it has one.
    pub(crate) fn note_snapshot(&mut self, wanted: Wanted) -> Result<(), String> {
        let enough = wanted.sleds.len() >= 2;
        let (session, id) = (wanted.session, wanted.id.0.as_u128());
        if !enough {
            return Err(format!("{session:?} has taken snapshot {id} on {:?} alone", wanted.sleds));
        }
        self.snapshots.taken += 1;
        self.check_snapshot(&wanted)?;
        self.snapshots.there.push(wanted);
        Ok(())
    }

    /// All that are there.
    pub(crate) fn check_snapshots(&mut self) -> Result<(), String> {
        let all = std::mem::take(&mut self.snapshots.there);
        let checked = all.iter().try_for_each(|wanted| self.check_snapshot(wanted));
        self.snapshots.there = all;
        checked
    }

    fn check_snapshot(&mut self, wanted: &Wanted) -> Result<(), String> {
        let (blocks, id) = (self.geometry.blocks, wanted.id.0.as_u128());
        let size = self.geometry.block_size.bytes();
        let (mut first, mut bytes): (Option<(usize, Vec<Held>)>, _) = (None, Vec::new());
        for sled in wanted.sleds.iter().copied() {
            let Some(member) = &mut self.sleds[sled].member else { continue };
            bytes.clear();
            let held = match member.region_mut().read_snapshot(wanted.id, 0..blocks, &mut bytes) {
                Ok(held) => held,
                // It is opened anew soon, and looked at again.
                Err(SnapshotError::Failed(_)) => continue,
                Err(_) if self.climate.rotten == Some(sled) || self.sleds[sled].machine.is_off() => continue,
                Err(error) => return Err(format!("member {sled} does not have snapshot {id}: {error}")),
            };
            wanted.check(&held).map_err(|what| format!("snapshot {id} of member {sled}: {what}"))?;
            let versions = |held: &[Held]| held.iter().map(|held| held.version).collect::<Vec<_>>();
            if let Some((other, theirs)) = &first
                && versions(theirs) != versions(&held)
            {
                return Err(format!("members {other} and {sled} have not the same in snapshot {id}"));
            }
            // What a medium has changed nobody heals.
            if self.climate.rotten.is_none()
                && let Some(block) = wrong_block(&held, &bytes, size)
            {
                return Err(format!("snapshot {id} of member {sled}: block {block} has not its bytes"));
            }
            self.snapshots.read_back += 1;
            first.get_or_insert((sled, held));
        }
        Ok(())
    }
}

/// The first block whose bytes have not its checksum.
fn wrong_block(held: &[Held], bytes: &[u8], size: usize) -> Option<u64> {
    let checksums = (0..).zip(held).filter_map(|(block, held)| match held.what {
        What::Bytes { checksum, .. } => Some((block, checksum)),
        // Where nothing rots nobody loses anything: it is as wrong.
        What::Lost { .. } => Some((block, !0)),
        What::Never | What::Zeros => None,
    });
    let mut right = checksums.zip(bytes.chunks_exact(size));
    right.find_map(|((block, kept), bytes)| (checksum(block, bytes) != kept).then_some(block))
}

impl Wanted {
    fn check(&self, held: &[Held]) -> Result<(), String> {
        for (block, held) in (0..).zip(held) {
            let (epoch, counter) = (held.version.epoch, held.version.counter);
            let is_right = match self.last.get(&block) {
                _ if !self.is_exact => epoch <= self.session.epoch,
                Some(number) => (epoch, counter) == (self.session.epoch, *number),
                None => epoch < self.session.epoch,
            };
            if !is_right {
                let number = self.last.get(&block);
                return Err(format!("block {block} has {}, and is to have write {number:?}", held.version));
            }
        }
        Ok(())
    }
}
