//! Where in a region's file the bytes of its blocks are, as an opening would find them: for whoever lets disks rot on purpose. Nothing is
//! written, and nothing is changed.

use crate::{
    fail_stop::FailStop,
    map::Content,
    open::{AtRest, OpenError, find},
    region::Region,
    tree::NotRead,
};
use camino::Utf8Path;
use durable_fs::{InPlaceFile, Storage};
use std::sync::Arc;

/// Blocks that are looked at before clean pages of the map are forgotten.
const PIECE: u64 = 65_536;

/// A block that has bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Which.
    pub block: u64,
    /// Where they begin, from the start of the file.
    pub offset: u64,
    /// What [`checksum`](crate::checksum) says of them as long as they are right.
    pub checksum: u64,
}

/// Shows every block that has bytes, in order. Whoever has the region open must write nothing meanwhile; what is in the system's cache
/// counts.
///
/// # Errors
/// [`OpenError`].
pub fn each_stored(
    storage: Arc<dyn Storage>,
    file: Arc<dyn InPlaceFile>,
    path: &Utf8Path,
    mut show: impl FnMut(Stored),
) -> Result<(), OpenError> {
    // It writes nothing, so it is no life of the region, and has no number of one.
    let AtRest { mut region, .. } = find(storage, Arc::new(FailStop::new(file)), path, 0)?;
    let blocks = region.identity.geometry.blocks;
    let mut start = 0;
    while start < blocks {
        let end = blocks.min(start + PIECE);
        let Region { file, layout, tree, pages, .. } = &mut region;
        let shown = pages.for_each(file.as_ref(), tree, start..end, |block, entry| {
            if let Content::Bytes { place, checksum, .. } = entry.content {
                show(Stored { block, offset: layout.data_at(place), checksum });
            }
        });
        shown.map_err(|error| match error {
            NotRead::Disk(error) => OpenError::Disk(error),
            NotRead::Rotten { .. } => OpenError::Rotten { path: path.to_string(), what: error.to_string() },
        })?;
        pages.forget_clean();
        start = end;
    }
    Ok(())
}
