//! In which order a clone is made. Touches no socket: crash tests run this very one.

use super::{CloneError, SourceError, Sources, Target, Watch, copy, proof};
use ids::SnapshotId;
use region::{Geometry, Position};
use region_wire::{OtherSnapshot, Reply, Request};

/// Makes a region hold what its sources hold at a snapshot, proves it, and says so durably: the hash of the content. Whatever was done before
/// is found, and not done again.
///
/// # Errors
/// [`CloneError`]; nobody can read the region.
pub fn clone_snapshot(
    snapshot: SnapshotId,
    geometry: Geometry,
    target: &mut impl Target,
    sources: &mut impl Sources,
    watch: &mut impl Watch,
) -> Result<[u8; 32], CloneError> {
    let (usable, at, mut tried) = welcome(geometry, sources)?;
    if target.snapshot() != Some(at) {
        if target.snapshot().is_some() {
            // Of an earlier attempt, with a source that has another one of that name.
            expect_done(target.ask(Request::DeleteSnapshot { id: 0, snapshot })?)?;
        }
        fill(geometry, &usable, target, sources, (watch, &mut tried))?;
        flush(target)?;
        target.tell(Request::Join(at))?;
        let durable = flush(target)?;
        if durable != at {
            let why = format!("it has {durable} durably, and should have {at}");
            return Err(CloneError::Target { why, may_pass: false });
        }
        expect_done(target.ask(Request::Snapshot { id: 0, snapshot, at })?)?;
    }
    target.forget_cache();
    let hash = proof::of_all(geometry, &usable, target, sources, watch)?;
    target.prove(hash)?;
    Ok(hash)
}

/// Those sources that have it, all at one position.
#[expect(clippy::type_complexity, reason = "three things that are known together, once")]
fn welcome(
    geometry: Geometry,
    sources: &mut impl Sources,
) -> Result<(Vec<usize>, Position, Vec<(usize, SourceError)>), CloneError> {
    let (mut usable, mut at, mut tried) = (Vec::new(), None, Vec::new());
    for source in 0..sources.count() {
        match sources.welcome(source, geometry) {
            Ok(welcome) => {
                let (theirs, ours) = (welcome.applied, *at.get_or_insert(welcome.applied));
                match OtherSnapshot::check(theirs, ours) {
                    Ok(()) => usable.push(source),
                    Err(error) => tried.push((source, error.into())),
                }
            }
            Err(error) => tried.push((source, error.into())),
        }
    }
    match at {
        Some(at) => Ok((usable, at, tried)),
        None => Err(CloneError::Sources(tried)),
    }
}

/// From the first source that gives all that those before it have not given.
fn fill(
    geometry: Geometry,
    usable: &[usize],
    target: &mut impl Target,
    sources: &mut impl Sources,
    (watch, tried): (&mut impl Watch, &mut Vec<(usize, SourceError)>),
) -> Result<(), CloneError> {
    for source in usable {
        match copy::from(*source, geometry, target, sources, watch) {
            Ok(()) => return Ok(()),
            Err(copy::NotCopied::Source(error)) => tried.push((*source, error)),
            Err(copy::NotCopied::Other(error)) => return Err(error),
        }
    }
    Err(CloneError::Sources(std::mem::take(tried)))
}

fn flush(target: &mut impl Target) -> Result<Position, CloneError> {
    match target.ask(Request::Flush { id: 0 })? {
        Reply::Flushed { durable, .. } => Ok(durable),
        other => Err(strange(&other)),
    }
}

fn expect_done(reply: Reply) -> Result<(), CloneError> {
    match reply {
        Reply::Snapshotted { .. } | Reply::SnapshotDeleted { .. } => Ok(()),
        // For lack of room, most likely.
        Reply::SnapshotRefused { why, .. } => Err(CloneError::Target { why, may_pass: true }),
        other => Err(strange(&other)),
    }
}

/// A region of this process answers what it is asked.
pub(super) fn strange(reply: &Reply) -> CloneError {
    CloneError::Target {
        why: format!("it answers something else than it was asked: {reply:?}"),
        may_pass: false,
    }
}
