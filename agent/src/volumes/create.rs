//! `volume create`: regions in directories, and the file that describes the volume. All of it, or nothing of it.

use super::{
    arguments::{Place, Size},
    description::{self, DescriptionError},
    keys,
    regions::{Made, RegionError, new_member},
};
use camino::Utf8Path;
use ids::{RegionId, RegionSetId};
use region::{BlockSize, Geometry, Identity, List, ListVersion, Position};
use std::error::Error;
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
    /// A region is not made.
    #[error(transparent)]
    Region(#[from] RegionError),
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
            CreateError::Region(error) => error.code(),
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
    let members: Vec<Member> = places.iter().map(new_member).collect();
    let blocks = size / u64::from(block_bytes.max(1));
    let encryption =
        key.as_ref().map(|key| Encryption { cipher: Cipher::Aes256Gcm, key_check: key.check(set) });
    let part = SubVolume::RegionSet(RegionSet { encryption, ..RegionSet::of(set, blocks, members.clone()) });
    let request = ConstructionRequest::first(Uuid::now_v7(), 1, block_bytes, vec![part]);
    // What cannot be used is not made.
    request.build(Uuid::nil(), key.as_ref())?;
    if blocks * u64::from(block_bytes) != size {
        return Err(CreateError::HalfBlock { size, block: block_bytes }.into());
    }
    description::check_free(output).map_err(CreateError::from)?;
    let block_size = BlockSize::of(block_bytes).expect("the request was built");
    let geometry = Geometry { block_size, blocks, is_sealed: key.is_some() };
    make(places, &members, &request, Identity { region: RegionId(Uuid::nil()), set, geometry }, output)?;
    say!("volume {} of {size} bytes: {output}", request.id);
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
    let full = members.iter().copied().map(Into::into).collect();
    let list = List { version: ListVersion { epoch: 0, number: 1 }, base: Position::NONE, full };
    let mut made = Made::default();
    for (place, member) in places.iter().zip(members) {
        made.make(place, *member, identity, list.clone())?;
    }
    description::make(output, request)?;
    made.keep();
    Ok(())
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
