//! Snapshots: taken, read and deleted at any moment, whatever fails.

use crate::{
    model::State,
    world::{PATH, World},
};
use camino::Utf8Path;
use durable_fs::Storage;
use ids::SnapshotId;
use rand::{Rng, seq::IteratorRandom};
use region::{SnapshotError, TakingEnd};
use uuid::Uuid;

/// One that is there, or may be.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    id: SnapshotId,
    state: State,
    /// Whether it was said to be there.
    is_certain: bool,
}

impl World {
    pub(crate) fn step_of_snapshots(&mut self) {
        match self.random.random_range(0..10) {
            0..2 => self.begin_taking(),
            2 => self.take_and_go_on(),
            3..5 => self.run_taking(),
            5..7 => drop(self.end_taking()),
            7 if self.random.random_bool(0.3) => self.take_or_delete_once_more(),
            7 => {
                self.begin_deleting();
                if self.random.random_bool(0.5) {
                    self.run_deleting();
                    self.end_deleting();
                }
            }
            8 => self.run_deleting(),
            _ => self.end_deleting(),
        }
    }

    /// One, and what replaces pages of its map; or another one right behind it, which has the same pages.
    fn take_and_go_on(&mut self) {
        self.begin_taking();
        self.run_taking();
        if self.end_taking() && self.random.random_bool(0.6) {
            self.write();
            self.checkpoint_now();
        }
    }

    /// Of one that is taken just now it is said neither that it is gone, nor that it was there; one that was deleted is not taken.
    fn take_or_delete_once_more(&mut self) {
        let region = self.region.as_mut().expect("it is open");
        if self.under_way.taking.is_some() || self.under_way.taken.is_some() {
            let id = SnapshotId(Uuid::from_u128(self.next_snapshot - 1));
            match region.begin_delete_snapshot(id) {
                Err(SnapshotError::Busy) => {}
                Err(error) => self.expect_power_cut(&error),
                Ok(_) => panic!("{id} goes while it is taken"),
            }
            return;
        }
        let Some(id) = self.deleted.iter().copied().choose(&mut self.random) else { return };
        match region.begin_snapshot(id) {
            Err(SnapshotError::Deleted(_) | SnapshotError::Exists { .. }) => self.found.late += 1,
            Err(error) => self.expect_power_cut(&error),
            Ok(_) => panic!("{id} was deleted, and is taken again"),
        }
    }

    fn run_deleting(&mut self) {
        if let Some(going) = self.under_way.going.take() {
            if self.random.random_bool(0.2) {
                self.faults.full_after(self.random.random_range(0..4));
            }
            self.under_way.gone = Some(going.run());
            self.faults.make_room();
        }
    }

    fn begin_taking(&mut self) {
        let state = self.history.last().expect("there is always one").clone();
        let id = SnapshotId(Uuid::from_u128(self.next_snapshot));
        match self.region.as_mut().expect("it is open").begin_snapshot(id) {
            Ok(taking) => {
                self.next_snapshot += 1;
                self.under_way.taking = Some((taking, state));
            }
            Err(SnapshotError::Busy | SnapshotError::TooMany) => {}
            Err(error) => self.expect_power_cut(&error),
        }
    }

    pub(crate) fn run_taking(&mut self) {
        if let Some((taking, state)) = self.under_way.taking.take() {
            self.was_full = self.random.random_bool(0.2);
            if self.was_full {
                self.faults.full_after(self.random.random_range(0..20));
            }
            self.under_way.taken = Some((taking.run(), state));
            self.faults.make_room();
        }
    }

    /// Whether the region goes on.
    pub(crate) fn end_taking(&mut self) -> bool {
        let Some((taken, state)) = self.under_way.taken.take() else { return true };
        let ended = self.region.as_mut().expect("it is open").end_snapshot(taken);
        match ended {
            Ok(TakingEnd::Taken) => {
                self.durable = self.durable.max(state.applied);
                let id = SnapshotId(Uuid::from_u128(self.next_snapshot - 1));
                self.snapshots.push(Known { id, state, is_certain: true });
                true
            }
            Ok(TakingEnd::NotTaken(error)) => {
                // A sync that fails while its file is made costs the snapshot alone.
                let was_sync = !error.is_no_space() && self.note_sync_failed_elsewhere();
                assert!(self.was_full || was_sync || self.machine.is_off(), "{error:?}");
                true
            }
            Err(failed) => {
                self.note_in_doubt(Some(state));
                self.expect_power_cut(&failed);
                false
            }
        }
    }

    /// It was not said whether it is there.
    pub(crate) fn note_in_doubt(&mut self, state: Option<State>) {
        let id = SnapshotId(Uuid::from_u128(self.next_snapshot - 1));
        if let Some(state) = state.filter(|_| self.snapshots.iter().all(|known| known.id != id)) {
            self.snapshots.push(Known { id, state, is_certain: false });
        }
    }

    /// The sync that was to fail was one of a snapshot's file: the region is as it was.
    fn note_sync_failed_elsewhere(&mut self) -> bool {
        let is_so =
            self.has_sync_failed() && self.region.as_ref().is_some_and(|region| region.failed().is_none());
        if is_so {
            self.is_sync_to_fail = false;
        }
        is_so
    }

    fn begin_deleting(&mut self) {
        if self.under_way.gone.is_some() || self.under_way.going.is_some() {
            return;
        }
        let region = self.region.as_mut().expect("it is open");
        let Some(id) = region.snapshots().map(|status| status.snapshot).choose(&mut self.random) else {
            return;
        };
        match region.begin_delete_snapshot(id) {
            Ok(going) => {
                self.snapshots.retain(|known| known.id != id);
                self.deleted.push(id);
                self.under_way.going = Some(going);
            }
            Err(SnapshotError::Busy) => {}
            Err(error) => {
                self.snapshots
                    .iter_mut()
                    .filter(|known| known.id == id)
                    .for_each(|known| known.is_certain = false);
                // The name of a snapshot that is not durable is none of the region's business.
                let is_its_own = matches!(error, SnapshotError::Disk(_));
                if !is_its_own || !self.note_sync_failed_elsewhere() {
                    self.expect_power_cut(&error);
                }
            }
        }
    }

    fn end_deleting(&mut self) {
        let Some(gone) = self.under_way.gone.take() else { return };
        match self.region.as_mut().expect("it is open").end_delete_snapshot(gone) {
            Ok(()) => self.found.deleted += 1,
            // It is tried again.
            Err(SnapshotError::Disk(error)) if error.is_no_space() => {}
            Err(SnapshotError::Disk(_)) => {
                self.note_sync_failed_elsewhere();
            }
            Err(error) => self.expect_power_cut(&error),
        }
    }

    /// Behind an opening.
    pub(crate) fn find_snapshots(&mut self) {
        let all: Vec<_> = self.region.as_ref().expect("it is open").snapshots().collect();
        self.snapshots.retain(|known| {
            let there = all.iter().find(|status| status.snapshot == known.id && !status.is_going);
            assert!(there.is_some() || !known.is_certain, "{} is gone", known.id);
            there.is_some()
        });
        self.snapshots.iter_mut().for_each(|known| known.is_certain = true);
        for status in all.iter().filter(|status| !status.is_going) {
            assert!(
                self.snapshots.iter().any(|known| known.id == status.snapshot),
                "{status:?} was never taken"
            );
        }
        self.check_snapshots();
        self.found.snapshots += u32::try_from(self.snapshots.len()).expect("few");
        let size = self.disk.metadata(Utf8Path::new(PATH)).map(|metadata| metadata.size);
        self.found.with_tracts += u32::from(size.is_ok_and(|size| size > self.geometry.file_bytes()));
    }

    pub(crate) fn check_snapshots(&mut self) {
        let region = self.region.as_mut().expect("it is open");
        for known in &self.snapshots {
            let status = region.snapshots().find(|status| status.snapshot == known.id).expect("it is there");
            let mut bytes = Vec::new();
            match region.read_snapshot(known.id, 0..self.geometry.blocks, &mut bytes) {
                Ok(held) => {
                    assert_eq!(status.applied, known.state.applied);
                    known.state.check(self.geometry, &held, &bytes);
                }
                Err(error) => panic!("{known:?} cannot be read: {error:?}"),
            }
        }
    }
}
