//! `volume snapshot`, `volume delete-snapshot`: what was written until now is kept as it is, while clients go on; and the description of a
//! volume that reads it.

use super::{
    control::{Which, done},
    description::{self, DescriptionError},
};
use camino::{Utf8Path, Utf8PathBuf};
use ids::{RegionId, RegionSetId, SnapshotId};
use std::error::Error;
use uuid::Uuid;
use volume_export::{Answer, Request, ask};
use volume_repair::{ConstructionRequest, RegionSet, SubVolume};

/// Why there is no description of a snapshot. The snapshot may be there.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    /// The volume's file names none of the regions that have it.
    #[error(
        "snapshot {snapshot} is there, and of region set {set} {volume} names no region that has it: is the file that of the volume?"
    )]
    NoMember {
        /// Which.
        snapshot: SnapshotId,
        /// Of which part.
        set: RegionSetId,
        /// The volume's file.
        volume: Utf8PathBuf,
    },
    /// A file is not read or not made.
    #[error(transparent)]
    Description(#[from] DescriptionError),
}

impl SnapshotError {
    /// A name for programs, which does not change.
    #[must_use]
    pub(super) fn code(&self) -> &'static str {
        match self {
            SnapshotError::NoMember { .. } => "volume_snapshot_members",
            SnapshotError::Description(error) => error.code(),
        }
    }
}

/// Takes one, of this name or a new one; and describes it, if that is wanted.
pub(super) fn take(
    which: &Which,
    id: Option<SnapshotId>,
    output: Option<&Utf8Path>,
) -> Result<(), Box<dyn Error>> {
    let id = id.unwrap_or_else(SnapshotId::generate);
    // What cannot be written, or is not known, is told before anything is taken.
    if let Some(output) = output {
        description::check_free(output).map_err(SnapshotError::from)?;
        description::read(&which.volume).map_err(SnapshotError::from)?;
    }
    match ask(&which.socket(), &Request::Snapshot { id })? {
        Answer::Snapshotted(regions) => {
            say!("snapshot {id}");
            regions.iter().for_each(|region| say!("  in region {region}"));
            if let Some(output) = output {
                describe(&which.volume, id, &regions, output)?;
                say!("described by {output}");
            }
            Ok(())
        }
        Answer::Refused(refusal) => Err(refusal.into()),
        _ => Err("the export answers something else than it was asked".into()),
    }
}

fn describe(
    volume: &Utf8Path,
    snapshot: SnapshotId,
    regions: &[RegionId],
    output: &Utf8Path,
) -> Result<(), SnapshotError> {
    // Only now: members may have been replaced until it was taken.
    let request = description::read(volume)?;
    let of_snapshot = of_snapshot(request, snapshot, regions).map_err(|set| SnapshotError::NoMember {
        snapshot,
        set,
        volume: volume.to_owned(),
    })?;
    Ok(description::make(output, &of_snapshot)?)
}

/// A volume of what the own region sets of another one have held, over the same parent. It needs no epoch, and is another volume: what is
/// said of one is not said of the other. The set of which no region has the snapshot, if there is one.
fn of_snapshot(
    of: ConstructionRequest,
    snapshot: SnapshotId,
    regions: &[RegionId],
) -> Result<ConstructionRequest, RegionSetId> {
    let read = |part: SubVolume| match part {
        SubVolume::RegionSet(set) if set.snapshot.is_none() => {
            let members = set.all().filter(|member| regions.contains(&member.region_id)).copied();
            let members: Vec<_> = members.collect();
            if members.is_empty() {
                return Err(set.id);
            }
            let (leaving, gone, snapshot) = (Vec::new(), Vec::new(), Some(snapshot));
            Ok(SubVolume::RegionSet(RegionSet { members, leaving, gone, snapshot, ..set }))
        }
        part => Ok(part),
    };
    let sub_volumes = of.sub_volumes.into_iter().map(read).collect::<Result<_, _>>()?;
    Ok(ConstructionRequest { id: Uuid::now_v7(), config_version: 1, epoch: 0, sub_volumes, ..of })
}

pub(super) fn delete(which: &Which, id: SnapshotId) -> Result<(), Box<dyn Error>> {
    done(ask(&which.socket(), &Request::DeleteSnapshot { id })?)?;
    say!("deleted");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn volume() -> ConstructionRequest {
        let member = |number: u128| {
            let region = Uuid::from_u128(number);
            json!({"region_id": region, "incarnation": number, "address": "127.0.0.1:1"})
        };
        let set = |number: u128| {
            json!({"region_set": {
                "id": Uuid::from_u128(number), "blocks_per_extent": 10, "extent_count": 2,
                "members": [member(number + 1), member(number + 2)], "leaving": [member(number + 3)],
                "gone": [Uuid::from_u128(number + 4)],
                "encryption": {"cipher": "aes_256_gcm", "key_check": "0".repeat(32)},
            }})
        };
        serde_json::from_value(json!({
            "id": Uuid::from_u128(1), "config_version": 7, "epoch": 5, "block_size": 512,
            "sub_volumes": [set(10), set(20)],
            "read_only_parent": {
                "id": Uuid::from_u128(2), "config_version": 1, "epoch": 0, "block_size": 512,
                "sub_volumes": [{"file": {"path": "/a"}}],
            },
        }))
        .expect("it is one")
    }

    fn regions(numbers: &[u128]) -> Vec<RegionId> {
        numbers.iter().map(|number| RegionId(Uuid::from_u128(*number))).collect()
    }

    #[test]
    fn a_snapshot_is_described_by_the_same_sets_and_those_members_that_have_it() {
        let (before, snapshot) = (volume(), SnapshotId(Uuid::from_u128(3)));
        let made = of_snapshot(before.clone(), snapshot, &regions(&[11, 13, 22])).expect("both have it");
        assert_ne!(made.id, before.id);
        assert_eq!((made.config_version, made.epoch, made.region_sets().count()), (1, 0, 0));
        assert_eq!(made.read_only_parent, before.read_only_parent);
        let named = |part: &SubVolume| match part {
            SubVolume::RegionSet(set) => {
                assert_eq!(
                    (set.snapshot, &set.leaving[..], &set.gone[..]),
                    (Some(snapshot), &[][..], &[][..])
                );
                let members = set.members.iter().map(|member| member.incarnation).collect::<Vec<_>>();
                (set.id.0.as_u128(), members, set.encryption.is_some(), set.extent_count)
            }
            other => panic!("{other:?}"),
        };
        let named: Vec<_> = made.sub_volumes.iter().map(named).collect();
        assert_eq!(named, [(10, vec![11, 13], true, 2), (20, vec![22], true, 2)]);
        // Of a set that has no member with it there is nothing to be read.
        let none = of_snapshot(before, snapshot, &regions(&[11, 12, 24]));
        assert_eq!(none.expect_err("the second one has it nowhere"), RegionSetId(Uuid::from_u128(20)));
    }
}
