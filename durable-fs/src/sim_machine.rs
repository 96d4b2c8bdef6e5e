//! The power of a simulated machine: it can fail at a named step or after a number of operations, for all its disks at
//! the same instant. What a disk loses then is `sim_crash`'s to decide.

use crate::{
    error::{Operation, StorageError},
    ports::StepPoint,
    sim_disk::SimDisk,
    sim_state::SimState,
};
use camino::Utf8Path;
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// One simulated machine: its disks lose their power together.
///
/// ```text
///   on ──(the chosen step or operation is reached, or cut_power)──▶ off ──crash(seed) or power_on──▶ on, next life
/// ```
/// While it is off every operation fails, also on open files. Files that were open before a crash stay dead.
#[derive(Clone, Debug, Default)]
pub struct SimMachine {
    shared: Arc<Mutex<Power>>,
}

#[derive(Debug, Default)]
struct Power {
    off: bool,
    /// Which life of the machine this is; a file that was opened in an earlier one is dead.
    life: u64,
    /// Operations that changed something, in this life.
    changes: u64,
    stop_after_changes: Option<u64>,
    stop_at: Option<(StepPoint, u64)>,
    reached: Vec<StepPoint>,
    disks: Vec<Arc<Mutex<SimState>>>,
}

impl SimMachine {
    /// A machine that is on and has no disks.
    #[must_use]
    pub fn new() -> SimMachine {
        SimMachine::default()
    }

    /// Gives the machine an empty disk of that many bytes.
    #[must_use]
    pub fn add_disk(&self, capacity: u64) -> SimDisk {
        let state = Arc::new(Mutex::new(SimState::new(capacity)));
        self.power().disks.push(Arc::clone(&state));
        SimDisk::new(self.clone(), state)
    }

    /// Cuts the power when `point` is reached for the `nth` time from now on (1 = the next time).
    pub fn stop_at(&self, point: StepPoint, nth: u64) {
        self.power().stop_at = Some((point, nth));
    }

    /// Cuts the power before the operation that would be the `changes + 1`st, in this life, to change anything.
    pub fn stop_after_changes(&self, changes: u64) {
        self.power().stop_after_changes = Some(changes);
    }

    /// Cuts the power now.
    pub fn cut_power(&self) {
        self.power().off = true;
    }

    /// Turns the power on as if it had never gone: what stopped was the process, not the machine, so that everything it
    /// had done is there, synced or not. What it had open is dead. A later [`crash`](SimMachine::crash) may still lose
    /// what nobody has synced by then.
    pub fn power_on(&self) {
        let mut power = self.power();
        let Power { life, disks, .. } = &mut *power;
        *power = Power { life: *life + 1, disks: std::mem::take(disks), ..Power::default() };
    }

    /// Whether the power is off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.power().off
    }

    /// Operations that changed something, in this life.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.power().changes
    }

    /// The named steps that were reached in this life, in order.
    #[must_use]
    pub fn steps_reached(&self) -> Vec<StepPoint> {
        self.power().reached.clone()
    }

    /// Loses on every disk what was not synced, or keeps parts of it, as `seed` decides; then turns the power on.
    pub fn crash(&self, seed: u64) {
        self.cut_power();
        for (index, disk) in self.power().disks.iter().enumerate() {
            let seed = seed.wrapping_mul(1_000_003).wrapping_add(index as u64);
            disk.lock().unwrap_or_else(PoisonError::into_inner).crash(seed);
        }
        self.power_on();
    }

    /// Counts a named step, and stops there if that was asked for.
    pub(crate) fn step(&self, point: StepPoint) -> Result<(), StorageError> {
        let mut power = self.power();
        power.reached.push(point);
        if let Some((wanted, left)) = &mut power.stop_at
            && *wanted == point
        {
            *left = left.saturating_sub(1);
            power.off |= *left == 0;
        }
        if power.off { Err(power_is_off(Operation::Stop, Utf8Path::new(""))) } else { Ok(()) }
    }

    /// Lets an operation of a file or directory that was opened in `life` through. Holding the guard while the
    /// operation acts makes the power cut fall between two operations, never into one.
    pub(crate) fn pass(
        &self,
        life: u64,
        changes: bool,
        operation: Operation,
        path: &Utf8Path,
    ) -> Result<PowerGuard<'_>, StorageError> {
        let mut power = self.power();
        if changes && power.stop_after_changes == Some(power.changes) {
            power.off = true;
        }
        if power.off || power.life != life {
            return Err(power_is_off(operation, path));
        }
        power.changes += u64::from(changes);
        Ok(PowerGuard { _power: power })
    }

    pub(crate) fn life(&self) -> u64 {
        self.power().life
    }

    fn power(&self) -> MutexGuard<'_, Power> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The power stays as it is while this is held.
pub(crate) struct PowerGuard<'a> {
    _power: MutexGuard<'a, Power>,
}

fn power_is_off(operation: Operation, path: &Utf8Path) -> StorageError {
    StorageError::new(operation, path, io::Error::other("the simulated machine has no power"))
}
