//! Regions that are made for a volume that may not come to be: then they are removed again.

use super::arguments::Place;
use camino::Utf8PathBuf;
use daemon::state_directory;
use downstairs::{Disk, DiskError};
use durable_fs::RealDisk;
use ids::RegionId;
use region::{Identity, List, NewRegion};
use std::{io, sync::Arc};
use uuid::Uuid;
use volume_repair::Member;

/// Why there is no such region.
#[derive(Debug, thiserror::Error)]
pub(super) enum RegionError {
    /// A directory for regions is not to be had.
    #[error("the directory {directory} cannot be made")]
    Directory {
        /// Which.
        directory: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A disk refuses, or has too little room.
    #[error("there is no region in {directory}, and none is left in the others")]
    Region {
        /// Which.
        directory: Utf8PathBuf,
        /// Why.
        #[source]
        source: DiskError,
    },
}

impl RegionError {
    /// A name for programs, which does not change.
    #[must_use]
    pub(super) fn code(&self) -> &'static str {
        match self {
            RegionError::Directory { .. } => "volume_directory_not_made",
            RegionError::Region { .. } => "volume_region_not_made",
        }
    }
}

/// A member with a name that nobody has had.
pub(super) fn new_member(place: &Place) -> Member {
    Member {
        region_id: RegionId::generate(),
        // So large that any program that reads JSON keeps it exactly.
        incarnation: Uuid::new_v4().as_u64_pair().1 >> 11,
        address: place.address,
    }
}

/// Regions of a volume that is not there yet. Dropped, they are removed.
#[derive(Debug, Default)]
pub(super) struct Made(Vec<(Disk, RegionId)>);

impl Made {
    /// Makes one. It is full if this list has it.
    pub(super) fn make(
        &mut self,
        Place { directory, .. }: &Place,
        member: Member,
        identity: Identity,
        list: List,
    ) -> Result<(), RegionError> {
        state_directory::create(directory)
            .map_err(|source| RegionError::Directory { directory: directory.clone(), source })?;
        let disk = Disk::new(Arc::new(RealDisk::new(directory)));
        let new = NewRegion {
            identity: Identity { region: member.region_id, ..identity },
            incarnation: member.incarnation,
            list,
            salt: Uuid::new_v4().as_u64_pair().1,
        };
        // Before it is made: also of one that fails at the last something may be there.
        self.0.push((disk.clone(), member.region_id));
        disk.create(&new).map_err(|source| RegionError::Region { directory: directory.clone(), source })
    }

    /// The volume is there, and has them.
    pub(super) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for (disk, region) in &self.0 {
            if let Err(error) = disk.destroy(*region) {
                eprintln!("region {region} is left behind: {}", problem::chain(&error));
            }
        }
    }
}
