//! The room of a disk that its regions' snapshots may come to need. Owns that no more of it is promised than there is.
//!
//! **Problem.** A block that is written while a snapshot has it needs another place, so a region with snapshots takes more than it was made
//! with, later, by writes that nobody can refuse any more: its writer would wait for room that was there when the snapshot was taken, and is
//! somebody else's by now.
//!
//! ```text
//!   a snapshot is asked for ──► what its region may come to need + what the disk's other regions may ──is there──► taken
//!                                                                                          └── is not: refused, nothing is changed
//! ```
//!
//! Nothing is kept of it but what snapshots say of themselves ([`region::snapshot_room`]): a deleted one gives its part back at once. Whoever makes new
//! regions on the disk has to leave them that room, too.

use crate::disk::{Disk, DiskError};
use durable_fs::{Operation, StorageError};
use ids::RegionId;
use region::SnapshotRoom;
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

/// Snapshots of a region take so many times as much as the region was made with, at most: beyond that it is no mistake of a client, and there
/// is a limit for those.
pub const SNAPSHOTS_TIMES: u64 = 3;

/// One part in so many is left to the file system, for what it keeps of the blocks of files that grow.
const FILE_SYSTEM_PART: u64 = 64;

/// Promised to snapshots that are being taken: of each region there is one at most.
pub(crate) type BeingTaken = Arc<Mutex<BTreeMap<RegionId, u64>>>;

/// Promised until the snapshot is there, and says it itself.
#[derive(Debug)]
pub(crate) struct Promised(BeingTaken, RegionId);

impl Drop for Promised {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// Promises the room that a region's snapshots may come to need.
///
/// # Errors
/// There is too little of it; or the disk does not say.
pub(crate) fn promise(
    disk: &Disk,
    being_taken: &BeingTaken,
    region: RegionId,
    wanted: SnapshotRoom,
) -> Result<Promised, StorageError> {
    let refused = |words: String| {
        let source = io::Error::new(io::ErrorKind::StorageFull, words);
        StorageError::new(Operation::Reserve, format!("{region}.region").as_str().into(), source)
    };
    let SnapshotRoom { bytes, missing_bytes, made_bytes } = wanted;
    if bytes > made_bytes.saturating_mul(SNAPSHOTS_TIMES) {
        return Err(refused(format!(
            "its snapshots might take {bytes} bytes, and they may take {SNAPSHOTS_TIMES} times the {made_bytes} that it was made with: delete some of them"
        )));
    }
    // Before the others are looked at: of two that come at once, one at least sees the other.
    being_taken.lock().unwrap_or_else(PoisonError::into_inner).insert(region, missing_bytes);
    let promised = Promised(Arc::clone(being_taken), region);
    // A clone, say: whatever others have, it takes nothing from them.
    if missing_bytes == 0 {
        return Ok(promised);
    }
    let mut all = missing_bytes;
    for other in disk.regions().map_err(in_storage)?.into_iter().filter(|other| *other != region) {
        let now = being_taken.lock().unwrap_or_else(PoisonError::into_inner).get(&other).copied();
        // One that cannot be read takes nothing more.
        let at_rest = disk.snapshot_room(other).map_or(0, |room| room.missing_bytes);
        all = all.saturating_add(at_rest.max(now.unwrap_or(0)));
    }
    let all = all.saturating_add(all / FILE_SYSTEM_PART);
    let available = disk.space()?.available;
    if all > available {
        return Err(refused(format!(
            "all that snapshots on its disk may come to need with this one is {all} bytes, and {available} are left: delete snapshots, or make room"
        )));
    }
    Ok(promised)
}

fn in_storage(error: DiskError) -> StorageError {
    match error {
        DiskError::Storage(error) => error,
        other => StorageError::new(Operation::List, "".into(), io::Error::other(other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use durable_fs::{SimMachine, Storage};
    use ids::RegionSetId;
    use region::{BlockSize, Geometry, Identity, List, NewRegion};

    /// A disk with two regions, and so many bytes left.
    fn disk(left: u64) -> (Disk, [RegionId; 2]) {
        let there = SimMachine::new().add_disk(1 << 24);
        let disk = Disk::new(Arc::new(there.clone()));
        let regions = [(); 2].map(|()| RegionId::generate());
        for region in regions {
            let geometry = Geometry { block_size: BlockSize::B512, blocks: 8, is_sealed: false };
            let identity = Identity { region, set: RegionSetId::generate(), geometry };
            disk.create(&NewRegion { identity, incarnation: 1, list: List::default(), salt: 1 })
                .expect("there is room");
        }
        let taken = (1 << 24) - there.space().expect("it says").available;
        there.set_capacity(taken + left);
        (disk, regions)
    }

    fn wanted(bytes: u64, made_bytes: u64) -> SnapshotRoom {
        SnapshotRoom { bytes, missing_bytes: bytes, made_bytes }
    }

    #[test]
    fn snapshots_of_a_region_take_three_times_what_it_was_made_with_and_no_more() {
        let (disk, [region, _]) = disk(1 << 20);
        let promised = |bytes| promise(&disk, &BeingTaken::default(), region, wanted(bytes, 1_000));
        promised(3_000).expect("there is room");
        let refused = promised(3_001).expect_err("it is too much");
        assert!(refused.is_no_space() && refused.source.to_string().contains("3 times"), "{refused:?}");
    }

    #[test]
    fn of_two_that_are_taken_at_once_the_second_one_has_what_the_first_one_leaves() {
        let (disk, [first, second]) = disk(64_000);
        let being_taken = BeingTaken::default();
        let promised = |region, bytes| promise(&disk, &being_taken, region, wanted(bytes, 1 << 20));
        let held = promised(first, 40_000).expect("there is room");
        let refused = promised(second, 24_000).expect_err("there is not");
        assert!(
            refused.is_no_space() && refused.source.to_string().contains("64000 are left"),
            "{refused:?}"
        );
        // What was refused promises nothing, and what has ended neither.
        drop(promised(second, 23_000).expect("a sixty-fourth is left to the file system"));
        drop(held);
        drop(promised(second, 63_000).expect("all of it is left"));
        let _all_and_more = being_taken.lock().expect("nobody has panicked").insert(first, 1 << 20);
        drop(promised(second, 0).expect("it needs nothing"));
        assert!(promised(second, 1).is_err());
        being_taken.lock().expect("nobody has panicked").remove(&first);
        assert!(promised(second, 63_500).is_err());
    }
}
