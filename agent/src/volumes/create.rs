//! `volume create`: regions in directories, and the file that describes the volume. All of it, or nothing of it.

use super::{
    arguments::{Place, Size},
    description::{self, DescriptionError},
    keys,
};
use camino::{Utf8Path, Utf8PathBuf};
use daemon::state_directory;
use downstairs::{Disk, DiskError};
use durable_fs::RealDisk;
use ids::{RegionId, RegionSetId};
use region::{BlockSize, Geometry, Identity, List, ListVersion, NewRegion, Position};
use std::{error::Error, io, sync::Arc};
use uuid::Uuid;
use volume_repair::{Cipher, ConstructionRequest, Encryption, Member, RegionSet, SubVolume};

/// Why there is no such volume now.
#[derive(Debug, thiserror::Error)]
pub(super) enum CreateError {
    /// There is no half block.
    #[error("{size} bytes are not a whole number of blocks of {block}")]
    HalfBlock {
        /// Of the volume.
        size: u64,
        /// Of a block.
        block: u32,
    },
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
    /// The file is not made.
    #[error(transparent)]
    Description(#[from] DescriptionError),
}

impl CreateError {
    /// A name for programs, which does not change.
    #[must_use]
    pub(super) fn code(&self) -> &'static str {
        match self {
            CreateError::HalfBlock { .. } => "volume_size",
            CreateError::Directory { .. } => "volume_directory_not_made",
            CreateError::Region { .. } => "volume_region_not_made",
            CreateError::Description(error) => error.code(),
        }
    }
}

pub(super) fn create(
    Size(size): Size,
    block_bytes: u32,
    places: &[Place],
    output: &Utf8Path,
    key_file: Option<&Utf8Path>,
) -> Result<(), Box<dyn Error>> {
    let set = RegionSetId::generate();
    let key = key_file.map(keys::read).transpose()?;
    let members: Vec<Member> = places
        .iter()
        .map(|place| Member {
            region_id: RegionId::generate(),
            // So large that any program that reads JSON keeps it exactly.
            incarnation: Uuid::new_v4().as_u64_pair().1 >> 11,
            address: place.address,
        })
        .collect();
    let blocks = size / u64::from(block_bytes.max(1));
    let request = ConstructionRequest {
        id: Uuid::now_v7(),
        config_version: 1,
        epoch: 1,
        block_size: block_bytes,
        sub_volumes: vec![SubVolume::RegionSet(RegionSet {
            id: set,
            blocks_per_extent: blocks,
            extent_count: 1,
            members: members.clone(),
            encryption: key
                .as_ref()
                .map(|key| Encryption { cipher: Cipher::Aes256Gcm, key_check: key.check(set) }),
        })],
        read_only_parent: None,
    };
    // What cannot be used is not made.
    request.build(Uuid::nil(), key.as_ref())?;
    if blocks * u64::from(block_bytes) != size {
        return Err(CreateError::HalfBlock { size, block: block_bytes }.into());
    }
    description::check_free(output).map_err(CreateError::from)?;
    let block_size = BlockSize::of(block_bytes).expect("the request was built");
    let geometry = Geometry { block_size, blocks, is_sealed: key.is_some() };
    make(places, &members, &request, Identity { region: RegionId(Uuid::nil()), set, geometry }, output)?;
    println!("volume {} of {size} bytes: {output}", request.id);
    Ok(())
}

/// Makes the regions, and then the file: who reads that finds them.
fn make(
    places: &[Place],
    members: &[Member],
    request: &ConstructionRequest,
    identity: Identity,
    output: &Utf8Path,
) -> Result<(), CreateError> {
    let full = members
        .iter()
        .map(|member| region::Member { region: member.region_id, incarnation: member.incarnation });
    let list =
        List { version: ListVersion { epoch: 0, number: 1 }, base: Position::NONE, full: full.collect() };
    let mut made = Made::default();
    for (Place { directory, .. }, member) in places.iter().zip(members) {
        state_directory::create(directory)
            .map_err(|source| CreateError::Directory { directory: directory.clone(), source })?;
        let disk = Disk::new(Arc::new(RealDisk::new(directory)));
        let region = member.region_id;
        let new = NewRegion {
            identity: Identity { region, ..identity },
            incarnation: member.incarnation,
            list: list.clone(),
            salt: Uuid::new_v4().as_u64_pair().1,
        };
        // Before it is made: also of one that fails at the last something may be there.
        made.0.push((disk.clone(), region));
        disk.create(&new).map_err(|source| CreateError::Region { directory: directory.clone(), source })?;
    }
    description::make(output, request)?;
    made.0.clear();
    Ok(())
}

/// Regions of a volume that is not there yet. Dropped, they are removed.
#[derive(Debug, Default)]
struct Made(Vec<(Disk, RegionId)>);

impl Drop for Made {
    fn drop(&mut self) {
        for (disk, region) in &self.0 {
            if let Err(error) = disk.destroy(*region) {
                eprintln!("region {region} is left behind: {}", problem::chain(&error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino_tempfile::{Utf8TempDir, tempdir};
    use std::fs;

    fn place(directory: &Utf8TempDir, name: &str) -> Place {
        Place { directory: directory.path().join(name), address: "127.0.0.1:1".parse().expect("it is one") }
    }

    fn files(directory: &Utf8TempDir, name: &str) -> usize {
        fs::read_dir(directory.path().join(name)).map_or(0, Iterator::count)
    }

    fn code(places: &[Place], size: u64, output: &Utf8Path) -> &'static str {
        let error = create(Size(size), 4096, places, output, None).expect_err("it is refused");
        error.downcast_ref().map_or_else(|| panic!("another error: {error}"), CreateError::code)
    }

    #[test]
    fn a_volume_that_cannot_be_made_leaves_nothing_behind() {
        let directory = tempdir().expect("a directory");
        let output = directory.path().join("volume.json");
        fs::write(directory.path().join("file"), "").expect("it is written");
        let good = || vec![place(&directory, "a"), place(&directory, "deep/er/b")];
        let with_a_file = [good(), vec![place(&directory, "file")]].concat();
        assert_eq!(code(&with_a_file, 1 << 20, &output), "volume_directory_not_made");
        // More than any disk has: a region takes all its space when it is made.
        assert_eq!(code(&good(), 1 << 44, &output), "volume_region_not_made");
        assert_eq!(code(&good(), (1 << 20) + 512, &output), "volume_size");
        assert_eq!(
            code(&good(), 1 << 20, &directory.path().join("no/where")),
            "volume_description_not_written"
        );
        assert_eq!((files(&directory, "a"), files(&directory, "deep/er/b"), output.exists()), (0, 0, false));

        create(Size(1 << 20), 4096, &good(), &output, None).expect("it is made");
        assert_eq!((files(&directory, "a"), files(&directory, "deep/er/b")), (1, 1));
        assert_eq!(code(&good(), 1 << 20, &output), "volume_description_exists");
        assert_eq!((files(&directory, "a"), files(&directory, "deep/er/b")), (1, 1));
    }
}
