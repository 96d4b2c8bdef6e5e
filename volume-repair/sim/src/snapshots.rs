//! Snapshots: what each of them has to hold, and that all regions that are said to have it do.
//!
//! A snapshot that an Upstairs has taken has, of each block, the last write that its client had asked for before it: jobs that change
//! something are begun in their order. Writes are numbered as they are begun, so the version of the block says which one it is. What its client
//! has not written in this session is from an earlier epoch.

use crate::{history::Session, world::World};
use ids::SnapshotId;
use rand::{Rng, rngs::SmallRng, seq::IteratorRandom};
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
    /// What each of them would have by each time that it was asked for, until somebody asks to delete it.
    asked: BTreeMap<SnapshotId, Vec<Wanted>>,
    next: u128,
    pub(crate) taken: u64,
    pub(crate) deleted: u64,
    pub(crate) refused: u64,
    /// Of those that were taken, or were there, the ones that were asked for before.
    pub(crate) asked_again: u64,
    /// Copies, each of one member, that were read whole, and held what they had to.
    pub(crate) read_back: u64,
}

impl Snapshots {
    /// A new one, or one that was asked for before: whoever has asked may have heard no answer.
    pub(crate) fn id_to_ask(&mut self, random: &mut SmallRng) -> SnapshotId {
        if let Some(id) = self.asked.keys().choose(random).filter(|_| random.random_ratio(1, 4)) {
            return *id;
        }
        self.next += 1;
        SnapshotId(Uuid::from_u128(self.next))
    }

    pub(crate) fn note_asked(&mut self, wanted: Wanted) {
        self.asked.entry(wanted.id).or_default().push(wanted);
    }

    /// One that is to be deleted.
    pub(crate) fn take(&mut self) -> Option<Wanted> {
        let taken = self.there.pop()?;
        self.asked.remove(&taken.id);
        Some(taken)
    }
}

impl World {
    /// A client is told that it has one.
    pub(crate) fn note_snapshot(&mut self, wanted: &Wanted) -> Result<(), String> {
        let enough = wanted.sleds.len() >= 2;
        let (session, id) = (wanted.session, wanted.id.0.as_u128());
        if !enough {
            return Err(format!("{session:?} has taken snapshot {id} on {:?} alone", wanted.sleds));
        }
        // Somebody has asked to delete it meanwhile.
        let Some(attempts) = self.snapshots.asked.get(&wanted.id).cloned() else { return Ok(()) };
        self.snapshots.taken += 1;
        self.snapshots.asked_again += u64::from(attempts.len() > 1);
        let told = self.snapshots.there.iter().position(|there| there.id == wanted.id);
        let first = told.map(|at| self.snapshots.there[at].clone());
        let has_it = |first: &Wanted| wanted.sleds.iter().any(|sled| first.sleds.contains(sled));
        // Those that had it may all have left: who has it now took it later.
        let may_be = first.filter(has_it).map_or(attempts, |first| vec![first]);
        let mut why = format!("nobody has asked for snapshot {id}");
        for attempt in may_be {
            let is = Wanted { sleds: wanted.sleds.clone(), ..attempt };
            match self.check_snapshot(&is) {
                Ok(()) => {
                    told.into_iter().for_each(|at| drop(self.snapshots.there.remove(at)));
                    self.snapshots.there.push(is);
                    return Ok(());
                }
                Err(error) => why = error,
            }
        }
        Err(why)
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
