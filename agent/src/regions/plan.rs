//! What a call does, from the record and the call alone. Pure.

use super::{
    error::RegionError,
    types::{Record, Spec, State, Tombstone, Wanted},
};
use ids::{RegionId, SnapshotId};

/// What a PUT does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Create {
    /// Makes it, from the beginning.
    Begin,
    /// Goes on with what was begun.
    GoOn,
    /// Nothing: it is there.
    Nothing,
}

/// What a DELETE does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destroy {
    /// Destroys it, or goes on with that.
    Work,
    /// Nothing: it is gone.
    Nothing,
}

/// Decides over a PUT.
///
/// # Errors
/// `stale_epoch`, `region_destroyed`, `region_conflict`.
pub(super) fn create(known: Option<&Record>, wanted: &Wanted) -> Result<Create, RegionError> {
    let Some(known) = known else { return Ok(Create::Begin) };
    check_epoch(known.region, known.executor_epoch, wanted.executor_epoch)?;
    let Record { region, incarnation, state, .. } = *known;
    match state {
        State::Destroyed if wanted.incarnation.is_some_and(|wanted| wanted > incarnation) => {
            Ok(Create::Begin)
        }
        State::Destroying | State::Destroyed => Err(RegionError::Gone { region, incarnation, state }),
        State::Creating | State::Created => match difference(known, wanted) {
            Some(what) => Err(RegionError::Conflict { region, state, what }),
            None if state == State::Creating => Ok(Create::GoOn),
            None => Ok(Create::Nothing),
        },
    }
}

/// Decides over a PUT of what was destroyed before it was made. Who has destroyed it has given the id up, and its PUT may be late; a
/// newer coordinator has not.
///
/// # Errors
/// `stale_epoch`, `region_destroyed`.
pub(super) fn create_over(tombstone: Tombstone, executor_epoch: u64) -> Result<(), RegionError> {
    let Tombstone { region, executor_epoch: known } = tombstone;
    check_epoch(region, known, executor_epoch)?;
    if executor_epoch == known { Err(RegionError::Buried { region, known }) } else { Ok(()) }
}

/// Decides over a DELETE.
///
/// # Errors
/// `stale_epoch`.
pub(super) fn destroy(known: &Record, executor_epoch: u64) -> Result<Destroy, RegionError> {
    check_epoch(known.region, known.executor_epoch, executor_epoch)?;
    Ok(if known.state == State::Destroyed { Destroy::Nothing } else { Destroy::Work })
}

pub(super) fn check_epoch(region: RegionId, known: u64, given: u64) -> Result<(), RegionError> {
    if given < known { Err(RegionError::StaleEpoch { region, known, given }) } else { Ok(()) }
}

/// In what a request differs from what is there. One that does not say an incarnation means the one that is there.
fn difference(known: &Record, wanted: &Wanted) -> Option<&'static str> {
    let (has, wants) = (&known.spec, &wanted.spec);
    let differs = [
        ("incarnation", wanted.incarnation.is_some_and(|wanted| wanted != known.incarnation)),
        ("disk_id", has.disk != wants.disk),
        ("volume_id", has.volume != wants.volume),
        ("region_set_id", has.set != wants.set),
        ("block_size", has.block_size != wants.block_size),
        ("blocks_per_extent", has.blocks_per_extent != wants.blocks_per_extent),
        ("extent_count", has.extent_count != wants.extent_count),
        ("encrypted", has.encrypted != wants.encrypted),
        ("members", has.members != wants.members),
        ("source", snapshot_of(has) != snapshot_of(wants)),
    ];
    differs.iter().find(|(_, differs)| *differs).map(|(what, _)| *what)
}

/// What it gets; from whom may change.
fn snapshot_of(spec: &Spec) -> Option<SnapshotId> {
    spec.source.as_ref().map(|source| source.snapshot_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ids::{DiskId, RegionSetId, VolumeId};
    use problem::Code;
    use sled_client::regions::{RegionSource, RegionSourceMember};

    fn spec() -> Spec {
        Spec {
            disk: DiskId::generate(),
            volume: VolumeId::generate(),
            set: RegionSetId::generate(),
            block_size: 512,
            blocks_per_extent: 8,
            extent_count: 1,
            encrypted: false,
            members: Vec::new(),
            source: None,
        }
    }

    #[test]
    fn what_was_destroyed_before_it_was_made_is_made_by_a_newer_coordinator_alone() {
        let tombstone = Tombstone { region: RegionId::generate(), executor_epoch: 5 };
        let decided = |epoch| create_over(tombstone, epoch).map_err(|error| error.code());
        let expected = [Err(Code::StaleEpoch), Err(Code::RegionDestroyed), Ok(())];
        assert_eq!([4, 5, 6].map(decided), expected);
    }

    #[test]
    fn who_has_the_snapshot_and_how_fast_it_is_copied_may_change_and_which_one_it_is_may_not() {
        let source = |snapshot: u128, port: u16| RegionSource {
            snapshot_id: SnapshotId(uuid::Uuid::from_u128(snapshot)),
            members: vec![RegionSourceMember {
                region_id: RegionId(uuid::Uuid::nil()),
                incarnation: 1,
                address: ([127, 0, 0, 1], port).into(),
            }],
            copy_bytes_per_second: None,
        };
        let (region, spec) = (RegionId::generate(), Spec { source: Some(source(1, 1)), ..spec() });
        let (executor_epoch, incarnation) = (1, 1);
        let state = State::Created;
        let known = Record {
            region,
            executor_epoch,
            incarnation,
            state,
            spec: spec.clone(),
            quota_bytes: 1,
            deleted_snapshots: Vec::new(),
        };
        let decided = |source: Option<RegionSource>| {
            let spec = Spec { source, ..spec.clone() };
            let wanted = Wanted { region, executor_epoch, incarnation: None, spec };
            create(Some(&known), &wanted).map_err(|error| error.code())
        };
        assert_eq!(decided(Some(source(1, 2))), Ok(Create::Nothing));
        let slow = RegionSource { copy_bytes_per_second: Some(1 << 20), ..source(1, 1) };
        assert_eq!(decided(Some(slow)), Ok(Create::Nothing));
        assert_eq!(decided(Some(source(2, 1))), Err(Code::RegionConflict));
        assert_eq!(decided(None), Err(Code::RegionConflict));
    }

    /// Every state, with every epoch and incarnation below, at and above what is known.
    #[test]
    fn every_call_in_every_state_does_what_the_record_says() {
        let (region, spec) = (RegionId::generate(), spec());
        for state in [State::Creating, State::Created, State::Destroying, State::Destroyed] {
            let known = Record {
                region,
                executor_epoch: 5,
                incarnation: 7,
                state,
                spec: spec.clone(),
                quota_bytes: 1 << 20,
                deleted_snapshots: Vec::new(),
            };
            for executor_epoch in [4, 5, 6] {
                for incarnation in [None, Some(6), Some(7), Some(8)] {
                    let wanted = Wanted { region, executor_epoch, incarnation, spec: spec.clone() };
                    let expected = match (executor_epoch, state, incarnation) {
                        (4, _, _) => Err(Code::StaleEpoch),
                        (_, State::Destroyed, Some(8)) => Ok(Create::Begin),
                        (_, State::Destroying | State::Destroyed, _) => Err(Code::RegionDestroyed),
                        (_, _, Some(6 | 8)) => Err(Code::RegionConflict),
                        (_, State::Creating, _) => Ok(Create::GoOn),
                        (_, State::Created, _) => Ok(Create::Nothing),
                    };
                    let decided = create(Some(&known), &wanted).map_err(|error| error.code());
                    assert_eq!(decided, expected, "{state:?}, {executor_epoch}, {incarnation:?}");
                }
                let expected = match (executor_epoch, state) {
                    (4, _) => Err(Code::StaleEpoch),
                    (_, State::Destroyed) => Ok(Destroy::Nothing),
                    _ => Ok(Destroy::Work),
                };
                assert_eq!(destroy(&known, executor_epoch).map_err(|error| error.code()), expected);
            }
        }
    }
}
