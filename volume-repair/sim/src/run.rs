//! One seed: faults for a while, then none; what was promised has to have held all the time, and in the end everything has to work and
//! all members have to be the same.

use crate::{
    audit::check_unreadable,
    sled::{Sled, number_of},
    world::{Broken, World},
};
use region::{Position, What};
use std::time::Duration;
use upstairs::{MemberStatus, Status};

/// Things go wrong for so long.
const FAULTS: Duration = Duration::from_secs(45);

/// So long after the last fault everything works again.
const CALM: Duration = Duration::from_secs(45);

/// And what was asked is answered.
const QUIET: Duration = Duration::from_secs(15);

/// And what was compared is mended.
const COMPARING: Duration = Duration::from_secs(10);

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
    /// Times that members were replaced.
    pub replaced: u64,
    /// Snapshots that were taken.
    pub snapshots: u64,
    /// Of those, the ones that had been asked for before.
    pub asked_again: u64,
    /// Snapshots that were deleted again.
    pub deleted: u64,
    /// Copies of snapshots, each of one member, that were read back whole, and held what they had to.
    pub read_back: u64,
    /// Times that the power failed where a snapshot was taken or deleted.
    pub aimed_at_snapshots: u64,
    /// The same where a block was staged or healed.
    pub aimed_at_heals: u64,
    /// Times that copies were compared.
    pub compared: u64,
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
            replaced: self.replaced + other.replaced,
            snapshots: self.snapshots + other.snapshots,
            asked_again: self.asked_again + other.asked_again,
            deleted: self.deleted + other.deleted,
            read_back: self.read_back + other.read_back,
            aimed_at_snapshots: self.aimed_at_snapshots + other.aimed_at_snapshots,
            aimed_at_heals: self.aimed_at_heals + other.aimed_at_heals,
            compared: self.compared + other.compared,
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
    world.rot_and_compare()?;
    world.run_until(FAULTS + CALM + QUIET + COMPARING)?;
    world.check_compared()?;
    Ok(Summary {
        faults: world.faults,
        writers: world.writers.len() as u64,
        jobs: world.writers.iter().map(|writer| writer.done).sum(),
        reads: world.history.reads,
        given_up: world.writers.iter().map(|writer| writer.given_up).sum(),
        sealed: world.audit.nonces(),
        lost: world.lost,
        unreadable: world.history.unreadable,
        replaced: world.replaced,
        snapshots: world.snapshots.taken,
        asked_again: world.snapshots.asked_again,
        deleted: world.snapshots.deleted,
        read_back: world.snapshots.read_back,
        aimed_at_snapshots: world.aimed.snapshots,
        aimed_at_heals: world.aimed.heals,
        compared: world.writers.iter().map(|writer| writer.compared).sum(),
    })
}

/// What an Upstairs waits for, and what its members are.
fn in_words(status: &Status) -> String {
    let waits: Vec<_> = status.waits.iter().map(|wait| &wait.words).collect();
    let member = |member: &MemberStatus| {
        let MemberStatus {
            region, state, role, is_condemned, is_leaving, is_suspect, applied, trouble, ..
        } = member;
        let (condemned, leaving, suspect) = (*is_condemned, *is_leaving, *is_suspect);
        format!(
            "member {} is {state:?}, {role:?}, at {applied:?}; condemned {condemned}, leaving {leaving}, suspect {suspect}; {trouble:?}",
            region.0.as_u128() - 1,
        )
    };
    let members: Vec<String> = status.members.iter().map(member).collect();
    format!(
        "It is {:?} at {:?}, waits: {waits:?}, {:?}, list {:?}, then {:?}",
        status.phase, status.newest, members, status.list, status.next_list
    )
}

/// Which lists members keep.
fn lists_in_words(world: &World) -> String {
    let keeps = |(number, sled): (usize, &Sled)| {
        let list = &sled.member.as_ref()?.region().control().list;
        let full: Vec<usize> = list.full.iter().map(|member| number_of(*member)).collect();
        Some(format!("{number} keeps {} of {full:?} from {}", list.version, list.base))
    };
    world.sleds.iter().enumerate().filter_map(keeps).collect::<Vec<_>>().join("; ")
}

fn check_end(world: &mut World) -> Result<(), Broken> {
    let newest = &world.writers[world.last_writer];
    if newest.is_over {
        return Err("the newest Upstairs was taken over from by nobody".to_owned());
    }
    if newest.done == 0 || newest.has_jobs() {
        return Err(format!(
            "the newest Upstairs hangs: {} jobs were done. {}. Members keep: {}",
            newest.done,
            in_words(&newest.upstairs.status(world.now)),
            lists_in_words(world)
        ));
    }
    if world.geometry.is_sealed {
        world.sleds.iter().try_for_each(|sled| sled.each_part(check_unreadable))?;
    }
    world.check_snapshots()?;
    let mut digests = Vec::new();
    let blocks = world.geometry.blocks;
    for number in world.request.wanted.clone() {
        let sled = &mut world.sleds[number];
        let member = sled.member.as_mut().ok_or_else(|| format!("sled {number} does not run"))?;
        if !member.region().is_full() {
            let status = world.writers[world.last_writer].upstairs.status(world.now);
            let words = in_words(&status);
            return Err(format!("member {number} is not full, with nothing in its way: {words}"));
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
    let request = world.request.wanted.clone();
    let differs = |(number, digest): (&usize, &(Position, u128))| {
        *digest != digests[0] && (digest.0 != digests[0].0 || !world.differ_by_lies(request[0], *number))
    };
    if request.iter().zip(&digests).any(differs) {
        return Err(format!("members that are full are not the same: {digests:?}"));
    }
    Ok(())
}
