//! What is asked of a disk for a region. Owns how much more than the region's file that is.
//!
//! | | reserved | may be taken |
//! |---|---|---|
//! | a directory | the file, and 1 to 2 MiB | four times as much, snapshots and all: its Downstairs refuses snapshots beyond that, and those for which the disk has no room |
//! | ZFS | a sixteenth more | four times as much: a quota that ZFS keeps, snapshots and all |
//!
//! On directories nobody keeps room by itself for what snapshots may come to need. So what is reserved for a new region is only what they leave
//! ([`Disk::for_snapshots`]).

use super::Disk;
use crate::config::DiskKind;
use datasets::{Dataset, DatasetError, QUOTA_BYTES_MAX, Size};
use downstairs::SNAPSHOTS_TIMES;
use durable_fs::RealDisk;
use std::sync::Arc;

/// Beyond a region's file, its dataset has so many bytes, for the file system's own record of it; and it is a multiple of them.
const STEP: u64 = 1 << 20;

/// ZFS counts what it keeps of a file's blocks, which is one part of so many at its worst: 128 bytes, twice, of each record of 4 KiB.
const ZFS_PART: u64 = 16;

/// What a snapshot keeps is counted as the region's: so it may have three whose blocks have all been written since. What it takes beyond
/// that is no mistake of a client, and there is a limit for those.
const TIMES: u64 = 1 + SNAPSHOTS_TIMES;

impl DiskKind {
    /// Bytes that are reserved for a region whose file has so many.
    #[must_use]
    pub(crate) fn reserved_bytes(&self, file_bytes: u64) -> u64 {
        let own_bytes = match self {
            DiskKind::Directory(_) => 0,
            DiskKind::Zfs(_) => file_bytes / ZFS_PART,
        };
        ((file_bytes + own_bytes) / STEP + 2) * STEP
    }

    /// The size of the dataset for which so many are.
    #[must_use]
    pub(crate) fn size(&self, reservation_bytes: u64) -> Size {
        let quota_bytes = reservation_bytes.saturating_mul(TIMES).min(QUOTA_BYTES_MAX);
        Size { quota_bytes, reservation_bytes }
    }
}

impl Disk {
    /// Bytes that the snapshots of its regions may still come to need, where the disk does not keep them itself.
    ///
    /// # Errors
    /// What is wrong with the disk.
    pub(crate) async fn for_snapshots(&self) -> Result<u64, DatasetError> {
        if let DiskKind::Zfs(_) = self.kind() {
            return Ok(0);
        }
        let all = self.datasets.list().await?.datasets;
        let missing = move |dataset: Dataset| {
            let files = downstairs::Disk::new(Arc::new(RealDisk::new(&dataset.directory)));
            // One that is being made, or cannot be read, comes to need nothing.
            files.snapshot_room(dataset.region).map_or(0, |room| room.missing_bytes)
        };
        let sum = move || Ok(all.into_iter().map(missing).fold(0, u64::saturating_add));
        self.attempts().blocking("look at the snapshots of all regions", sum).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_has_room_for_its_file_and_what_the_file_system_keeps_of_it() {
        let kinds = [DiskKind::Directory("/disk".into()), DiskKind::Zfs("tank/disk".to_owned())];
        let [directory, zfs] = kinds;
        for file_bytes in [0, 1, STEP - 1, STEP, 33 * STEP, 2 << 30, 1 << 50] {
            let (plain, pool) = (directory.reserved_bytes(file_bytes), zfs.reserved_bytes(file_bytes));
            assert!(
                (file_bytes + STEP + 1..=file_bytes + 2 * STEP).contains(&plain),
                "{file_bytes}: {plain}"
            );
            assert!(pool >= plain && pool > file_bytes + file_bytes / 16, "{file_bytes}: {pool}");
            assert_eq!(directory.size(plain), Size { quota_bytes: 4 * plain, reservation_bytes: plain });
            assert_eq!(zfs.size(pool), Size { quota_bytes: 4 * pool, reservation_bytes: pool });
            assert!(zfs.size(pool).check().is_ok());
        }
        assert_eq!(zfs.size(1 << 62).quota_bytes, QUOTA_BYTES_MAX);
    }
}
