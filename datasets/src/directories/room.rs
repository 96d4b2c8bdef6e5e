//! What may still be promised on a disk whose file system keeps no reservations. Pure: figures in, figures out.
//!
//! ```text
//!   available = what a write may still take          (the file system says)
//!   claimed   = Σ what is reserved and not taken yet (each dataset's reservation, less what it takes)
//!   margin    = what the file system needs for itself as files grow
//!
//!   reservable = available − claimed − margin
//! ```
//!
//! What others have written on the disk is not available, so it counts by itself. A dataset with snapshots claims all of its
//! reservation: its files share blocks with them, and each of those blocks may be needed once more.

use crate::types::{DiskSpace, Size};

/// One part in this many of a disk is left to the file system: maps of extents, checksums, the journal.
const MARGIN_PARTS: u64 = 50;
/// That is at least so much,
const MARGIN_BYTES_MIN: u64 = 16 << 20;
/// and at most.
const MARGIN_BYTES_MAX: u64 = 4 << 30;

/// What is left to the file system of a disk of `capacity` bytes.
pub(crate) fn margin_bytes(capacity: u64) -> u64 {
    (capacity / MARGIN_PARTS).clamp(MARGIN_BYTES_MIN, MARGIN_BYTES_MAX)
}

/// What one dataset has been promised, and has taken of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) size: Size,
    pub(super) used_bytes: u64,
    pub(super) has_snapshots: bool,
}

impl Claim {
    /// What must be there for it yet.
    fn open_bytes(self) -> u64 {
        let taken = if self.has_snapshots { 0 } else { self.used_bytes };
        self.size.reservation_bytes.saturating_sub(taken)
    }

    /// What it may still write on a disk with that space.
    pub(super) fn available_bytes(self, disk: &DiskSpace) -> u64 {
        let by_quota = self.size.quota_bytes.saturating_sub(self.used_bytes);
        by_quota.min(disk.reservable_bytes.saturating_add(self.open_bytes())).min(disk.available_bytes)
    }
}

/// The disk's books, from what the file system says and what was promised.
pub(super) fn space(capacity_bytes: u64, available_bytes: u64, claims: &[Claim]) -> DiskSpace {
    let sum = |of: fn(Claim) -> u64| claims.iter().map(|claim| of(*claim)).fold(0, u64::saturating_add);
    let kept = sum(Claim::open_bytes).saturating_add(margin_bytes(capacity_bytes));
    DiskSpace {
        capacity_bytes,
        used_bytes: capacity_bytes.saturating_sub(available_bytes),
        available_bytes,
        reserved_bytes: sum(|claim| claim.size.reservation_bytes),
        reservable_bytes: available_bytes.saturating_sub(kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn claim(reservation: u64, used: u64, has_snapshots: bool) -> Claim {
        let size = Size { quota_bytes: 3 * reservation, reservation_bytes: reservation };
        Claim { size, used_bytes: used, has_snapshots }
    }

    #[test]
    fn the_margin_grows_with_the_disk_between_its_bounds() {
        assert_eq!(margin_bytes(0), 16 * MIB);
        assert_eq!(margin_bytes(5000 * MIB), 100 * MIB);
        assert_eq!(margin_bytes(1 << 50), 4 * GIB);
    }

    #[test]
    fn what_a_dataset_writes_within_its_reservation_changes_nothing_for_others() {
        let before = space(10 * GIB, 9 * GIB, &[claim(GIB, 0, false)]);
        let after = space(10 * GIB, 9 * GIB - 700 * MIB, &[claim(GIB, 700 * MIB, false)]);
        assert_eq!(before.reservable_bytes, after.reservable_bytes);
        assert_eq!(before.reservable_bytes, 8 * GIB - margin_bytes(10 * GIB));
    }

    #[test]
    fn what_it_writes_beyond_is_taken_from_what_may_be_promised() {
        let full = space(10 * GIB, 8 * GIB, &[claim(GIB, GIB, false)]);
        let beyond = space(10 * GIB, 7 * GIB, &[claim(GIB, 2 * GIB, false)]);
        assert_eq!(full.reservable_bytes - beyond.reservable_bytes, GIB);
    }

    #[test]
    fn a_dataset_with_snapshots_may_need_each_of_its_blocks_once_more() {
        let without = space(10 * GIB, 8 * GIB, &[claim(GIB, GIB, false)]);
        let with = space(10 * GIB, 8 * GIB, &[claim(GIB, GIB, true)]);
        assert_eq!(without.reservable_bytes - with.reservable_bytes, GIB);
    }

    #[test]
    fn a_dataset_may_write_up_to_its_quota_and_never_what_others_were_promised() {
        let one = claim(GIB, 0, false);
        let other = claim(4 * GIB, 0, false);
        let roomy = space(100 * GIB, 90 * GIB, &[one, other]);
        assert_eq!(one.available_bytes(&roomy), 3 * GIB);
        let tight = space(10 * GIB, 5 * GIB + margin_bytes(10 * GIB), &[one, other]);
        assert_eq!(tight.reservable_bytes, 0);
        assert_eq!(one.available_bytes(&tight), GIB);
    }

    #[test]
    fn figures_that_are_too_large_promise_nothing() {
        let absurd = space(GIB, GIB, &[claim(u64::MAX / 3, 0, false), claim(u64::MAX / 3, 0, true)]);
        assert_eq!(absurd.reservable_bytes, 0);
    }
}
