//! One seed: faults for a while, then none; what was promised has to have held all the time, and in the end everything has to work and
//! all members have to be the same.

use crate::{
    audit::check_unreadable,
    world::{Broken, World},
};
use region::{Position, What};
use std::time::Duration;

/// Things go wrong for so long.
const FAULTS: Duration = Duration::from_secs(45);

/// So long after the last fault everything works again.
const CALM: Duration = Duration::from_secs(45);

/// And what was asked is answered.
const QUIET: Duration = Duration::from_secs(15);

/// What has happened in one run, or in many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Things that went wrong.
    pub faults: u64,
    /// Upstairs that there were.
    pub writers: u64,
    /// Jobs that were done.
    pub jobs: u64,
    /// Reads that were checked.
    pub reads: u64,
    /// Jobs that were not done in time, and ended with that.
    pub given_up: u64,
    /// Blocks that were sealed, each with a nonce of its own.
    pub sealed: u64,
    /// Blocks of members that were lost, because nobody had them right.
    pub lost: u64,
    /// Reads that ended with an error because of such a block.
    pub unreadable: u64,
}

impl Summary {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Summary) -> Summary {
        Summary {
            faults: self.faults + other.faults,
            writers: self.writers + other.writers,
            jobs: self.jobs + other.jobs,
            reads: self.reads + other.reads,
            given_up: self.given_up + other.given_up,
            sealed: self.sealed + other.sealed,
            lost: self.lost + other.lost,
            unreadable: self.unreadable + other.unreadable,
        }
    }
}

/// Runs a seed.
///
/// # Errors
/// The promise that was broken, in words.
pub fn run(seed: u64) -> Result<Summary, Broken> {
    let mut world = World::new(seed)?;
    world.run_until(FAULTS)?;
    world.heal()?;
    // What is there to be seen is seen by few reads, too.
    world.climate.between_jobs *= 4;
    world.run_until(FAULTS + CALM)?;
    world.writers.iter_mut().for_each(|writer| writer.is_busy = false);
    world.run_until(FAULTS + CALM + QUIET)?;
    check_end(&mut world)?;
    Ok(Summary {
        faults: world.faults,
        writers: world.writers.len() as u64,
        jobs: world.writers.iter().map(|writer| writer.done).sum(),
        reads: world.history.reads,
        given_up: world.writers.iter().map(|writer| writer.given_up).sum(),
        sealed: world.audit.nonces(),
        lost: world.lost,
        unreadable: world.history.unreadable,
    })
}

fn check_end(world: &mut World) -> Result<(), Broken> {
    let newest = &world.writers[world.last_writer];
    if newest.is_over {
        return Err("the newest Upstairs was taken over from by nobody".to_owned());
    }
    if newest.done == 0 || newest.has_jobs() {
        return Err(format!(
            "the newest Upstairs hangs: {} jobs were done. {:?}",
            newest.done, newest.upstairs
        ));
    }
    if world.geometry.is_sealed {
        world.sleds.iter().try_for_each(|sled| sled.each_part(check_unreadable))?;
    }
    let mut digests = Vec::new();
    let blocks = world.geometry.blocks;
    for (number, sled) in world.sleds.iter_mut().enumerate() {
        let member = sled.member.as_mut().ok_or_else(|| format!("sled {number} does not run"))?;
        if !member.region().is_full() {
            return Err(format!("member {number} is not full, with nothing in its way"));
        }
        let applied = member.region().applied();
        let lost = member.region_mut().look(0..blocks).map_err(|failed| failed.to_string())?;
        let lost = lost.iter().filter(|held| matches!(held.what, What::Lost { .. })).count() as u64;
        if lost != member.region().lost_blocks() {
            let counted = member.region().lost_blocks();
            return Err(format!("member {number} has {lost} blocks that are lost, and counts {counted}"));
        }
        digests.push((applied, member.region_mut().digest(0..blocks).map_err(|failed| failed.to_string())?));
    }
    let differs = |(number, digest): (usize, &(Position, u128))| {
        *digest != digests[0] && (digest.0 != digests[0].0 || !world.differ_by_lies(0, number))
    };
    if digests.iter().enumerate().any(differs) {
        return Err(format!("members that are full are not the same: {digests:?}"));
    }
    Ok(())
}
