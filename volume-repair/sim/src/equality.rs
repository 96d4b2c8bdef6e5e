//! What members have, compared: two that are full and have applied the same are equal, and no block is given up that somebody has.

use crate::{
    sled::{Sled, number_of},
    world::{Broken, World},
};
use rand::Rng;
use region::{Held, Member, Position, What};
use region_wire::Blocks;
use upstairs::{MemberState, PeerId};

impl World {
    /// Blocks rot, each of them in one member at most. Then the newest Upstairs compares all blocks of all members.
    pub(crate) fn rot_and_compare(&mut self) -> Result<(), Broken> {
        let (writer, blocks, now) = (self.last_writer, self.geometry.blocks, self.now);
        for block in 0..blocks {
            let sled = self.request.wanted[self.random.random_range(0..self.request.wanted.len())];
            if self.random.random_bool(0.1) {
                self.sleds[sled].rot_block(block, self.geometry)?;
            }
        }
        let actions = self.writers[writer].compare_all(blocks, now);
        self.perform(writer, actions)
    }

    /// After that, what one member has right all of them have right; but for one that says something else than it has.
    pub(crate) fn check_compared(&mut self) -> Result<(), Broken> {
        if self.writers[self.last_writer].has_jobs() {
            return Err("members are compared, and that does not end".to_owned());
        }
        let says_so = |sled: &usize| !self.climate.has_liar || self.climate.liar != *sled;
        let wanted: Vec<usize> = self.request.wanted.iter().copied().filter(says_so).collect();
        for block in 0..self.geometry.blocks {
            let right: Vec<usize> = wanted
                .iter()
                .copied()
                .filter(|sled| self.sleds[*sled].right_block(block).is_some())
                .collect();
            if !right.is_empty() && right != wanted {
                return Err(format!(
                    "of members {wanted:?}, {right:?} have block {block} right after it was compared"
                ));
            }
        }
        Ok(())
    }

    /// A member is told that blocks are lost: then nobody who is there has the right bytes of that write, but for one who says something
    /// else than he has.
    pub(crate) fn note_lost(
        &mut self,
        writer: usize,
        target: PeerId,
        version: Position,
        blocks: Blocks,
    ) -> Result<(), Broken> {
        let status = self.writers[writer].upstairs.status(self.now);
        let target = self.writers[writer].sled_at(target);
        for block in blocks.range() {
            self.lost += 1;
            self.history.rotted(block, version);
            for member in &status.members {
                let sled = number_of(Member { region: member.region, incarnation: member.incarnation });
                let is_there = matches!(member.state, MemberState::Told | MemberState::Streaming);
                let may_lie = self.climate.has_liar && self.climate.liar == sled;
                if Some(sled) == target || !is_there || may_lie {
                    continue;
                }
                if self.sleds[sled].right_block(block).is_some_and(|(there, _)| there == version) {
                    return Err(format!(
                        "block {block} of member {target:?} is lost, and member {sled} has {version} of it"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether what two members hold differs in nothing but what a third one has said of bytes that are lost.
    pub(crate) fn differ_by_lies(&mut self, one: usize, other: usize) -> bool {
        let (Some(ours), Some(theirs)) = (self.sleds[one].held(), self.sleds[other].held()) else {
            return false;
        };
        let is_lost = |held: &Held| matches!(held.what, What::Lost { .. });
        let is_same = |(ours, theirs): (&Held, &Held)| {
            ours.version == theirs.version
                && (ours.what.as_written() == theirs.what.as_written() || is_lost(ours) || is_lost(theirs))
        };
        self.climate.has_liar && ours.iter().zip(&theirs).all(is_same)
    }

    /// P6: whoever is full and has applied as much as another one that is full has the same.
    pub(crate) fn compare_full(&mut self, sled: usize) -> Result<(), Broken> {
        let is_cheap = self.geometry.blocks < 100 || self.random.random_bool(0.002);
        let applied_if_full = |sled: &Sled| {
            let region = sled.member.as_ref()?.region();
            region.is_full().then(|| region.applied())
        };
        let Some(applied) = applied_if_full(&self.sleds[sled]).filter(|_| is_cheap) else { return Ok(()) };
        for other in 0..self.sleds.len() {
            if other == sled || applied_if_full(&self.sleds[other]) != Some(applied) {
                continue;
            }
            let (Some(ours), Some(theirs)) = (self.sleds[sled].digest(), self.sleds[other].digest()) else {
                continue;
            };
            if ours != theirs && !self.differ_by_lies(sled, other) {
                return Err(format!(
                    "members {sled} and {other} are full, have applied {applied}, and differ"
                ));
            }
        }
        Ok(())
    }
}
