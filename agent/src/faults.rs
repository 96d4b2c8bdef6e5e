//! Disk faults on command, for tests and drills: the other end of the fault socket. Exists only in a process whose
//! config says `[testing] faults = true`.

use camino::Utf8Path;
use durable_fs::{DiskFaults, RealDisk, Storage};
use fault_points::{DiskControl, DiskFault};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The directory of a dataset in which artifacts are.
const ARTIFACTS: &str = "artifacts";

/// The disks that can be faulted, by name.
#[derive(Debug, Default)]
pub struct FaultableDisks {
    disks: BTreeMap<String, (RealDisk, DiskFaults)>,
    /// How often bits were flipped: the same seed once more means other bits, not the same ones back.
    corruptions: AtomicU64,
}

impl FaultableDisks {
    /// Adds a disk.
    pub fn add(&mut self, name: &str, disk: RealDisk, faults: DiskFaults) {
        self.disks.insert(name.to_owned(), (disk, faults));
    }
}

impl DiskControl for FaultableDisks {
    fn apply(&self, disk: &str, fault: &DiskFault) -> Result<serde_json::Value, String> {
        let Some((real, faults)) = self.disks.get(disk) else {
            let known: Vec<&str> = self.disks.keys().map(String::as_str).collect();
            return Err(format!("no disk {disk:?} here; there are {}", known.join(", ")));
        };
        match fault {
            DiskFault::Fail => faults.fail(),
            DiskFault::Slow { ms } => faults.slow(Duration::from_millis(*ms)),
            DiskFault::Full => faults.full(),
            DiskFault::Heal => faults.heal(),
            DiskFault::Corrupt { count, seed } => {
                let round = self.corruptions.fetch_add(1, Ordering::Relaxed);
                return corrupt(real, *count, seed.wrapping_add(round.rotate_right(8)));
            }
        }
        tracing::warn!(disk, ?fault, "disk fault set");
        Ok(serde_json::json!({ "disk": disk, "fault": fault }))
    }
}

/// Flips a bit in each of `count` stored artifacts, chosen by the seed. Size and time of change stay as they were, as
/// with a decaying medium.
fn corrupt(disk: &RealDisk, count: u64, seed: u64) -> Result<serde_json::Value, String> {
    let mut entries = disk.list(Utf8Path::new(ARTIFACTS)).map_err(|error| error.to_string())?;
    entries.retain(|entry| entry.metadata.size > 0);
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let mut chooser = seed;
    let mut corrupted = Vec::new();
    for _ in 0..count.min(entries.len() as u64) {
        chooser = chooser.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let choice = usize::try_from((chooser >> 33) % entries.len() as u64).expect("an index of the list");
        let entry = entries.remove(choice);
        let offset = (chooser >> 17) % entry.metadata.size;
        disk.flip_bit(&Utf8Path::new(ARTIFACTS).join(&entry.name), offset)
            .map_err(|error| error.to_string())?;
        corrupted.push(serde_json::json!({ "artifact": entry.name, "offset": offset }));
    }
    tracing::warn!(count = corrupted.len(), seed, "artifacts corrupted");
    Ok(serde_json::json!({ "corrupted": corrupted }))
}
