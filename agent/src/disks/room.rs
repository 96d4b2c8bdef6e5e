//! What is asked of a disk for a region. Owns how much more than the region's file that is, and that one at a time is promised it.
//!
//! | | reserved | may be taken |
//! |---|---|---|
//! | a directory | the file, and 1 to 2 MiB | four times as much, snapshots and all |
//! | ZFS | a sixteenth more | four times as much, snapshots and all: a quota that ZFS keeps, too |
//!
//! What is reserved is promised: a region gets it whatever others take. What it may take beyond that is for its snapshots, and is promised only with each of
//! them: its Downstairs refuses those beyond the quota, and those for which the disk has no room. Neither kind of disk keeps that room by itself, so what is
//! reserved for a new region is only what they leave ([`Disk::for_snapshots`]). A quota is no promise, and nobody can fill a disk by means of one: what regions may take together is
//! more than the disk has, and what they come to take is not.

use super::{Disk, looks::Found};
use crate::config::DiskKind;
use datasets::{Attempts, Dataset, DatasetError, QUOTA_BYTES_MAX, Size};
use downstairs::SNAPSHOTS_TIMES;
use durable_fs::RealDisk;
use std::{sync::Arc, time::Duration};
use tokio::sync::{Mutex, MutexGuard};

/// Beyond a region's file, its dataset has so many bytes, for the file system's own record of it; and it is a multiple of them.
const STEP: u64 = 1 << 20;

/// ZFS counts what it keeps of a file's blocks, which is one part of so many at its worst: 128 bytes, twice, of each record of 4 KiB.
const ZFS_PART: u64 = 16;

/// What a snapshot keeps is counted as the region's: so it may have three whose blocks have all been written since. What it takes beyond
/// that is no mistake of a client, and there is a limit for those.
const TIMES: u64 = 1 + SNAPSHOTS_TIMES;

/// How long the look at the snapshots of one region may take: those of a large one have some GiB of maps, and disks that work give back 100 MiB in a second.
const REGION_LIMIT: Duration = Duration::from_secs(60);

/// What one disk has to promise. What it has left is asked of it, and promised by a dataset that is made: in between nobody else may. Cheap to clone;
/// clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Room(Arc<Mutex<()>>);

/// The right to promise a disk's room. Whoever waits for it waits for calls to the disk, each of which ends within its limits.
pub(crate) type Promising<'a> = MutexGuard<'a, ()>;

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
    /// Waits until nobody else promises anything of its room, and nobody will until that is given back.
    pub(crate) async fn promising(&self) -> Promising<'_> {
        self.room.0.lock().await
    }

    /// Bytes that the snapshots of its regions may still come to need. That takes as long as there are maps to be read; who asks meanwhile shares the next
    /// look.
    ///
    /// # Errors
    /// What is wrong with the disk.
    pub(crate) async fn for_snapshots(&self) -> Found {
        let (datasets, attempts) = (Arc::clone(&self.datasets), self.attempts().within(REGION_LIMIT));
        let kind = self.kind().clone();
        let look = async move {
            let all = datasets.list().await?.datasets;
            Ok(missing_bytes(all, &attempts, move |dataset| missing_bytes_of(&kind, dataset)).await?)
        };
        self.looks.share(look).await
    }
}

/// In all. It is each region's look that may not take too long: a disk that hangs is known by one of them, and one that works has as many as it has.
async fn missing_bytes(
    all: Vec<Dataset>,
    attempts: &Attempts,
    of: impl Fn(&Dataset) -> u64 + Clone + Send + 'static,
) -> Result<u64, DatasetError> {
    let mut sum = 0_u64;
    for dataset in all {
        let of = of.clone();
        let look = move || Ok(of(&dataset));
        sum = sum.saturating_add(attempts.blocking("look at the snapshots of a region", look).await?);
    }
    Ok(sum)
}

/// Of one region. One that is being made, or cannot be read, comes to need nothing.
fn missing_bytes_of(kind: &DiskKind, dataset: &Dataset) -> u64 {
    let files = downstairs::Disk::new(Arc::new(RealDisk::new(&dataset.directory)));
    let room = || files.snapshot_room(dataset.region).ok();
    if let DiskKind::Directory(_) = kind {
        return room().map_or(0, |room| room.missing_bytes);
    }
    // ZFS counts what is taken when it is durable, and compresses it: so it is what a region may come to take that counts, less what is its own by now.
    let most = match dataset.mounted {
        true => room().map_or(0, |room| kind.reserved_bytes(room.made_bytes.saturating_add(room.bytes))),
        // Nobody sees what snapshots it has.
        false => dataset.size.quota_bytes,
    };
    most.saturating_sub(dataset.used_bytes.max(dataset.size.reservation_bytes))
}

/// Of what ZFS has to give, what the data of files may have.
pub(super) fn of_files(zfs_bytes: u64) -> u64 {
    zfs_bytes - zfs_bytes.div_ceil(ZFS_PART + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use durable_fs::Storage;
    use ids::{RegionId, RegionSetId, SnapshotId};
    use region::{
        BlockSize, Geometry, Identity, List, NewContent, NewRegion, Onto, Opening, Position, TakingEnd,
        Write, checksum,
    };
    use std::sync::mpsc::channel;
    use uuid::Uuid;

    fn datasets(count: u64) -> Vec<Dataset> {
        let size = Size { quota_bytes: 1 << 20, reservation_bytes: 1 << 20 };
        let dataset = |number| Dataset {
            region: RegionId::generate(),
            directory: "/disk".into(),
            mounted: true,
            size,
            used_bytes: number,
            available_bytes: 0,
        };
        (1..=count).map(dataset).collect()
    }

    #[tokio::test]
    async fn many_regions_each_of_which_is_looked_at_in_time_are_not_a_disk_that_hangs() {
        let attempts = Attempts::new("the disk", Duration::from_secs(2));
        let slow = |dataset: &Dataset| {
            let (_nobody, says) = channel::<()>();
            says.recv_timeout(Duration::from_millis(400)).expect_err("nobody does");
            dataset.used_bytes
        };
        assert_eq!(missing_bytes(datasets(7), &attempts, slow).await.unwrap(), 28);
    }

    #[tokio::test]
    async fn one_region_that_is_not_told_is_a_disk_that_hangs_and_the_others_are_not_looked_at() {
        let attempts = Attempts::new("the disk", Duration::from_millis(200));
        let (looked, looks) = channel();
        let hangs = move |dataset: &Dataset| {
            let (_nobody, says) = channel::<()>();
            looked.send(dataset.used_bytes).expect("it is listened to");
            says.recv_timeout(Duration::from_secs(5)).expect_err("nobody does");
            0
        };
        let refused = missing_bytes(datasets(3), &attempts, hangs).await.unwrap_err();
        assert_eq!(refused.code(), "disk_hangs", "{refused}");
        assert_eq!(looks.try_iter().collect::<Vec<_>>(), [1]);
    }

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

    /// A region all of which was written before its snapshot.
    fn with_snapshot(storage: &Arc<dyn Storage>, region: RegionId, geometry: Geometry) {
        let identity = Identity { region, set: RegionSetId::generate(), geometry };
        let new = NewRegion { identity, incarnation: 1, list: List::default(), salt: 1 };
        downstairs::Disk::new(Arc::clone(storage)).create(&new).unwrap();
        let path = format!("{region}.region");
        let opening = Opening { life: 1, boot: Uuid::nil() };
        let mut file = region::open(Arc::clone(storage), path.as_str().into(), opening).unwrap();
        let bytes = [7; 4096];
        for (counter, block) in (1..).zip(0..geometry.blocks) {
            let version = Position { epoch: 1, counter };
            let checksums = [checksum(block, &bytes)];
            let content = NewContent::Bytes { bytes: &bytes, checksums: &checksums, seals: &[] };
            file.write(version, &[Write { version, block, content, onto: Onto::Older }]).unwrap();
        }
        let taken = file.begin_snapshot(SnapshotId::generate()).unwrap().run();
        assert!(matches!(file.end_snapshot(taken), Ok(TakingEnd::Taken)));
    }

    #[test]
    fn of_a_pool_is_kept_what_a_region_may_come_to_take_beyond_what_is_its_own() {
        let temp = camino_tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(RealDisk::new(temp.path()));
        let geometry = Geometry { block_size: BlockSize::B4096, blocks: 1_024, is_sealed: false };
        let (zfs, region) = (DiskKind::Zfs("tank/disk".to_owned()), RegionId::generate());
        let size = zfs.size(zfs.reserved_bytes(geometry.file_bytes()));
        let kept = |dataset: &Dataset| missing_bytes_of(&zfs, dataset);
        let mut dataset =
            Dataset { region, directory: temp.path().to_owned(), size, ..datasets(1).remove(0) };
        assert_eq!(kept(&dataset), 0);
        with_snapshot(&storage, region, geometry);
        let room = downstairs::Disk::new(storage).snapshot_room(region).unwrap();
        assert!(room.made_bytes == geometry.file_bytes() && room.bytes > 4 << 20, "{room:?}");
        let most = zfs.reserved_bytes(room.made_bytes + room.bytes);
        assert!(most >= size.reservation_bytes + (4 << 20), "{most}, {room:?}");
        // Within what is reserved it takes nothing from anybody, and what it has taken beyond that is not to be kept any more.
        for (used_bytes, expected) in [
            (0, most - size.reservation_bytes),
            (size.reservation_bytes, most - size.reservation_bytes),
            (size.reservation_bytes + 1, most - size.reservation_bytes - 1),
            (size.quota_bytes, 0),
        ] {
            dataset.used_bytes = used_bytes;
            assert_eq!(kept(&dataset), expected, "{used_bytes}");
        }
        // Where its files are not to be seen, it may have as many as it may.
        (dataset.mounted, dataset.used_bytes) = (false, 0);
        assert_eq!(kept(&dataset), size.quota_bytes - size.reservation_bytes);
    }

    #[test]
    fn what_files_may_have_of_a_pool_leaves_room_for_what_zfs_keeps_of_them() {
        for zfs_bytes in [0, 1, 16, 17, 18, 1 << 20, 1 << 50, u64::MAX] {
            let files = of_files(zfs_bytes);
            assert!(
                files <= zfs_bytes && files.checked_add(files / ZFS_PART).is_none_or(|all| all <= zfs_bytes),
                "{zfs_bytes}"
            );
            assert!(u128::from(files) * 17 + 17 >= u128::from(zfs_bytes) * 16, "{zfs_bytes}: {files}");
        }
    }
}
