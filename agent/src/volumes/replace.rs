//! `volume replace`: a new region in the place of one that is a member, while clients go on.
//!
//! ```text
//!   would the export do it? ──no──► refused: nothing has changed
//!        └─yes──► the new region is made ──► the volume's file says so, durably ──► the export is told
//!                                                                                      └─refused after all──► all of it is undone
//! ```
//!
//! One that a snapshot is read from gets a clone in its place: [`super::cloned`].
//!
//! The file is first: whoever exports the volume next has the members that this one has.

use super::{
    arguments::Place,
    cloned,
    control::{self, Which, told},
    description::{self, DescriptionError},
    regions::{Made, RegionError, new_member},
};
use ids::RegionId;
use region::{BlockSize, Geometry, Identity, List};
use std::error::Error;
use upstairs::Role;
use volume_export::{AskError, ExportAt, Refusal, RefusalCode};
use volume_layers::VolumeStatus;
use volume_repair::{BuildError, ConstructionRequest, Holder, Member, RegionSet, SubVolume};

/// Why no member is replaced.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplaceError {
    /// It is no member, or leaves already.
    #[error("region {region} is no member of the volume that {volume} describes")]
    NoMember {
        /// Which.
        region: RegionId,
        /// The volume's file.
        volume: camino::Utf8PathBuf,
    },
    /// Whether the others have everything is known to the writer alone.
    #[error(
        "whether the other members have everything without region {0} is not known while nobody exports the volume: export it first, or leave --gone away"
    )]
    NobodyKnows(RegionId),
    /// No request can be newer.
    #[error("the version of the volume's file is the highest that there is")]
    NoVersion,
    /// The export has another volume's members, or none that can be replaced.
    #[error("what is exported there has no members that can be replaced")]
    Missing,
    /// The region is not made.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The file stays as it was.
    #[error(transparent)]
    Description(#[from] DescriptionError),
}

impl ReplaceError {
    /// A name for programs, which does not change.
    #[must_use]
    pub(super) fn code(&self) -> &'static str {
        match self {
            ReplaceError::NoMember { .. } => "volume_no_member",
            ReplaceError::NobodyKnows(_) => "no_export",
            ReplaceError::NoVersion => "request_version_taken",
            ReplaceError::Missing => "missing",
            ReplaceError::Region(error) => error.code(),
            ReplaceError::Description(error) => error.code(),
        }
    }
}

pub(super) fn replace(
    which: &Which,
    old: RegionId,
    place: &Place,
    is_gone: bool,
    id: Option<RegionId>,
) -> Result<(), Box<dyn Error>> {
    let (volume, socket) = (&which.volume, which.socket());
    let before = description::read(volume)?;
    let config_version = before.config_version.checked_add(1).ok_or(ReplaceError::NoVersion)?;
    let mut request = ConstructionRequest { config_version, ..before.clone() };
    let block_size = BlockSize::of(request.block_size).ok_or(BuildError::BlockSize(request.block_size))?;
    let is_exported = match control::status(&socket) {
        Ok(status) => {
            forget_who_left(&mut request, &status.volume);
            true
        }
        Err(error) if matches!(error.downcast_ref(), Some(AskError::NotThere { .. })) => false,
        Err(error) => return Err(error),
    };
    if cloned::set_of(&mut request, old).is_some() {
        return cloned::replace(which, request, &cloned::Wanted { old, place, is_gone, id }, is_exported);
    }
    let no_member = || ReplaceError::NoMember { region: old, volume: volume.clone() };
    let set = set_of(&mut request, old).ok_or_else(no_member)?;
    let new = new_member(place);
    let new = Member { region_id: id.unwrap_or(new.region_id), ..new };
    let identity = identity(set, block_size);
    for member in &mut set.members {
        if member.region_id == old {
            let left = std::mem::replace(member, new);
            set.leaving.extend((!is_gone).then_some(left));
            set.gone.extend(is_gone.then_some(old));
        }
    }
    // What cannot be used is not made.
    set.named().check()?;
    if is_exported {
        told(&socket, ExportAt::new(&socket).check(&request), ReplaceError::Missing)?;
    } else if is_gone {
        return Err(ReplaceError::NobodyKnows(old).into());
    }
    let mut made = Made::default();
    made.make(place, new, identity, List::default()).map_err(ReplaceError::from)?;
    description::replace(volume, &request).map_err(ReplaceError::from)?;
    say!("region {} is to take the place of region {old}", new.region_id);
    if !is_exported {
        made.keep();
        say!("nobody exports the volume: whoever does so next fills it");
        return Ok(());
    }
    match told(&socket, ExportAt::new(&socket).apply(&request), ReplaceError::Missing) {
        Ok(_) => {
            made.keep();
            say!("started: volume look shows how far it is");
            Ok(())
        }
        Err(error) if is_refused(error.as_ref()) => {
            description::replace(volume, &before).map_err(ReplaceError::from)?;
            Err(error)
        }
        // It may have been done: the file says so.
        Err(error) => {
            made.keep();
            Err(error)
        }
    }
}

/// Whether it was not done, and never will be.
fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let refusal = error.downcast_ref::<Refusal>();
    refusal.is_some_and(|refusal| refusal.code != RefusalCode::NoAnswer) || error.is::<ReplaceError>()
}

fn sets(request: &mut ConstructionRequest) -> impl Iterator<Item = &mut RegionSet> {
    request.sub_volumes.iter_mut().filter_map(|part| match part {
        SubVolume::RegionSet(set) if set.snapshot.is_none() => Some(set),
        SubVolume::RegionSet(_) | SubVolume::File(_) | SubVolume::Url(_) => None,
    })
}

fn set_of(request: &mut ConstructionRequest, region: RegionId) -> Option<&mut RegionSet> {
    sets(request).find(|set| set.members.iter().any(|member| member.region_id == region))
}

/// Those that were replaced earlier, and are members no more, as the volume itself says.
fn forget_who_left(request: &mut ConstructionRequest, volume: &VolumeStatus) {
    let is_member = |region: RegionId| volume.members().any(|member| member.region == region);
    let is_whole = volume.members().all(|member| member.role == Role::Full && !member.is_leaving);
    for set in sets(request) {
        set.leaving.retain(|member| is_member(member.region_id));
        set.gone.retain(|_| !is_whole);
    }
}

pub(super) fn identity(set: &RegionSet, block_size: BlockSize) -> Identity {
    let blocks = set.blocks_per_extent.saturating_mul(set.extent_count);
    let geometry = Geometry { block_size, blocks, is_sealed: set.encryption.is_some() };
    Identity { region: set.members[0].region_id, set: set.id, geometry }
}
