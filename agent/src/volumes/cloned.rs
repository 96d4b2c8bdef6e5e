//! `volume replace` of a member that a snapshot is read from: the new region is made a clone, by the Downstairs of its directory, and takes the place
//! when that is proven. Typed again with the same --id, it goes on where it was interrupted.
//!
//! ```text
//!   would the export read from it? ──no──► refused: nothing has changed
//!        └─yes──► the region is made ──► its Downstairs clones it ──proven──► the volume's file says so ──► the export is told
//!                                             └── it cannot be: the region is removed
//! ```

use super::{
    arguments::Place,
    control::{Which, told},
    description::{self, DescriptionError},
    pause::Pause,
    regions::new_member,
    replace::{ReplaceError, identity},
};
use downstairs::{
    Answer, AskError, CLONE_SOURCES_MAX, CloneState, CloneStatus, Disk, DiskError, Order, Source, ask,
};
use durable_fs::RealDisk;
use ids::{RegionId, SnapshotId};
use region::{BlockSize, Identity, List, NewRegion};
use std::{error::Error, sync::Arc, time::Duration};
use uuid::Uuid;
use volume_export::ExportAt;
use volume_repair::{ConstructionRequest, Holder, Member, RegionSet, SubVolume};

/// Between two looks how far a clone is.
const LOOK: Duration = Duration::from_millis(200);

/// Why no region is cloned.
#[derive(Debug, thiserror::Error)]
pub(super) enum CloneError {
    /// Nobody fills it.
    #[error("who serves {directory} makes the clone: start its Downstairs first")]
    NoDownstairs {
        /// Which.
        directory: camino::Utf8PathBuf,
        /// Why it does not answer.
        #[source]
        source: AskError,
    },
    /// It is another one.
    #[error("region {0} is there, and is no clone of that snapshot and set: choose another --id")]
    OtherRegion(RegionId),
    /// It says no.
    #[error("the Downstairs refuses: {words}")]
    Refused {
        /// For programs.
        code: String,
        /// For people.
        words: String,
    },
    /// It cannot be made.
    #[error("region {region} cannot be made a clone, and is removed: {why}")]
    Failed {
        /// Which.
        region: RegionId,
        /// In its Downstairs' words.
        why: String,
    },
    /// The disk does not make it.
    #[error("there is no region in {directory}")]
    Region {
        /// Where.
        directory: camino::Utf8PathBuf,
        /// Why.
        #[source]
        source: DiskError,
    },
    /// The file stays as it was.
    #[error(transparent)]
    Description(#[from] DescriptionError),
}

impl CloneError {
    /// A name for programs, which does not change.
    #[must_use]
    pub(super) fn code(&self) -> &str {
        match self {
            CloneError::NoDownstairs { .. } => "no_downstairs",
            CloneError::OtherRegion(_) => "clone_other_region",
            CloneError::Refused { code, .. } => code,
            CloneError::Failed { .. } => "clone_failed",
            CloneError::Region { .. } => "volume_region_not_made",
            CloneError::Description(error) => error.code(),
        }
    }
}

/// The set of which a snapshot is read from this region.
pub(super) fn set_of(
    request: &mut ConstructionRequest,
    region: RegionId,
) -> Option<(SnapshotId, &mut RegionSet)> {
    request.sub_volumes.iter_mut().find_map(|part| match part {
        SubVolume::RegionSet(set) if set.members.iter().any(|member| member.region_id == region) => {
            Some((set.snapshot?, set))
        }
        SubVolume::RegionSet(_) | SubVolume::File(_) | SubVolume::Url(_) => None,
    })
}

/// What is asked for.
pub(super) struct Wanted<'a> {
    pub(super) old: RegionId,
    pub(super) place: &'a Place,
    pub(super) is_gone: bool,
    pub(super) id: Option<RegionId>,
}

/// Replaces it. `request` is the one before with the next version.
pub(super) fn replace(
    which: &Which,
    mut request: ConstructionRequest,
    wanted: &Wanted<'_>,
    is_exported: bool,
) -> Result<(), Box<dyn Error>> {
    let socket = which.socket();
    let block_size =
        BlockSize::of(request.block_size).ok_or(volume_repair::BuildError::BlockSize(request.block_size))?;
    let no_member = || ReplaceError::NoMember { region: wanted.old, volume: which.volume.clone() };
    let (snapshot, set) = set_of(&mut request, wanted.old).ok_or_else(no_member)?;
    let sources = sources(set, wanted);
    let disk = Disk::new(Arc::new(RealDisk::new(&wanted.place.directory)));
    let new = Member { region_id: wanted.id.unwrap_or_else(RegionId::generate), ..new_member(wanted.place) };
    let (new, is_there) = found(&disk, new, identity(set, block_size), snapshot)?;
    let identity = identity(set, block_size);
    for member in &mut set.members {
        if member.region_id == wanted.old {
            *member = new;
        }
    }
    if is_exported {
        told(&socket, ExportAt::new(&socket).check(&request), ReplaceError::Missing)?;
    }
    // Before anything is made.
    let _ = asked(wanted.place, &Order::CloneStatus { region: new.region_id }, is_there)?;
    if !is_there {
        make(&disk, wanted.place, new, identity, snapshot)?;
    }
    say!("region {} is to take the place of region {}", new.region_id, wanted.old);
    clone(&disk, wanted.place, new.region_id, sources)?;
    description::replace(&which.volume, &request).map_err(CloneError::from)?;
    if is_exported {
        told(&socket, ExportAt::new(&socket).apply(&request), ReplaceError::Missing)?;
        say!("replaced: it is read from, and region {} is not any more", wanted.old);
    } else {
        say!("replaced: whoever exports the volume next reads from it");
    }
    Ok(())
}

fn sources(set: &RegionSet, wanted: &Wanted<'_>) -> Vec<Source> {
    let is_asked = |member: &&Member| !wanted.is_gone || member.region_id != wanted.old;
    let source = |member: &Member| Source {
        region: member.region_id,
        incarnation: Some(member.incarnation),
        address: member.address,
    };
    set.members.iter().filter(is_asked).map(source).take(CLONE_SOURCES_MAX).collect()
}

/// The one that was begun, if it is there.
fn found(
    disk: &Disk,
    new: Member,
    identity: Identity,
    snapshot: SnapshotId,
) -> Result<(Member, bool), Box<dyn Error>> {
    match disk.look(new.region_id) {
        Ok(outside) => {
            let is_of = outside.control.clone_of.is_some_and(|of| of.snapshot == snapshot);
            if !is_of || outside.identity != (Identity { region: new.region_id, ..identity }) {
                return Err(CloneError::OtherRegion(new.region_id).into());
            }
            Ok((Member { incarnation: outside.control.incarnation, ..new }, true))
        }
        // It, or its directory, is not there.
        Err(_) => Ok((new, false)),
    }
}

fn make(
    disk: &Disk,
    place: &Place,
    new: Member,
    identity: Identity,
    snapshot: SnapshotId,
) -> Result<(), CloneError> {
    let identity = Identity { region: new.region_id, ..identity };
    let salt = Uuid::new_v4().as_u64_pair().1;
    let new = NewRegion { identity, incarnation: new.incarnation, list: List::default(), salt };
    let made = disk.create_clone(&new, snapshot);
    made.map_err(|source| CloneError::Region { directory: place.directory.clone(), source })
}

/// What the Downstairs of a directory answers; that there is no such region is one, if there need not be.
fn asked(place: &Place, order: &Order, must_be: bool) -> Result<Option<CloneStatus>, CloneError> {
    let answer = ask(&place.directory, order);
    let no_downstairs = |source| CloneError::NoDownstairs { directory: place.directory.clone(), source };
    match answer.map_err(no_downstairs)? {
        Answer::Clone(status) => Ok(Some(status)),
        Answer::Refused { code, .. } if code == "no_region" && !must_be => Ok(None),
        Answer::Refused { code, words } => Err(CloneError::Refused { code, words }),
        Answer::Done => Ok(None),
    }
}

/// Waits until it is proven.
fn clone(disk: &Disk, place: &Place, region: RegionId, sources: Vec<Source>) -> Result<(), Box<dyn Error>> {
    let order = Order::Clone { region, sources, bytes_per_second: None };
    let mut status = asked(place, &order, true)?;
    let (pause, mut told) = (Pause::new()?, None);
    loop {
        let Some(now) = status else {
            return Err("the Downstairs answers something else than it was asked".into());
        };
        let why = now.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        if told != Some((now.state, now.why.clone())) {
            told = Some((now.state, now.why.clone()));
            match now.state {
                CloneState::Idle | CloneState::Failed => {}
                CloneState::Waiting => say!("waiting{why}"),
                CloneState::Copying => say!("copying what differs of {} bytes", now.size_bytes),
                CloneState::Proving => say!("reading {} bytes back, here and there", now.size_bytes),
                CloneState::Proven => say!("proven: SHA-256 {}", now.hash.clone().unwrap_or_default()),
            }
        }
        match now.state {
            CloneState::Proven => return Ok(()),
            CloneState::Failed => {
                // Whatever of that does not work leaves a region that nobody reads.
                let _ = ask(&place.directory, &Order::Release { region });
                let _ = disk.destroy(region);
                return Err(CloneError::Failed { region, why: now.why.unwrap_or_default() }.into());
            }
            CloneState::Idle | CloneState::Waiting | CloneState::Copying | CloneState::Proving => {}
        }
        pause.wait(LOOK);
        // One that was started since then does not know of it.
        let is_known = now.state != CloneState::Idle;
        let look = Order::CloneStatus { region };
        status = asked(place, if is_known { &look } else { &order }, true)?;
    }
}
