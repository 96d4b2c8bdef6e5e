//! Disk faults on command, for tests and drills: the other end of the fault socket. Exists only in a process whose
//! config says `[testing] faults = true`.

use camino::Utf8Path;
use durable_fs::{DiskFaults, RealDisk, Storage, StorageError};
use fault_points::{DiskControl, DiskFault};
use ids::ArtifactHash;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The directory of a dataset in which artifacts are.
const ARTIFACTS: &str = "artifacts";

/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;

/// The disks that can be faulted, by name.
#[derive(Debug, Default)]
pub struct FaultableDisks {
    disks: BTreeMap<String, Faultable>,
    /// How often bits were flipped: the same seed once more means other bits, not the same ones back.
    corruptions: AtomicU64,
}

/// One disk.
#[derive(Debug)]
struct Faultable {
    faults: DiskFaults,
    /// The disk below the faults, if what rots there is this process's to choose.
    sound: Option<RealDisk>,
}

impl FaultableDisks {
    /// Adds one with artifacts.
    pub fn add(&mut self, name: &str, disk: RealDisk, faults: DiskFaults) {
        self.disks.insert(name.to_owned(), Faultable { faults, sound: Some(disk) });
    }

    /// Adds one with regions: what this process does there. The one that serves it has a socket of its own, and what rots is chosen there.
    pub fn add_data(&mut self, name: &str, faults: DiskFaults) {
        self.disks.insert(name.to_owned(), Faultable { faults, sound: None });
    }
}

impl DiskControl for FaultableDisks {
    fn apply(&self, disk: &str, fault: &DiskFault) -> Result<serde_json::Value, String> {
        let Some(Faultable { faults, sound }) = self.disks.get(disk) else {
            let known: Vec<&str> = self.disks.keys().map(String::as_str).collect();
            return Err(format!("no disk {disk:?} here; there are {}", known.join(", ")));
        };
        match fault {
            DiskFault::Fail => faults.fail(),
            DiskFault::Slow { ms } => faults.slow(Duration::from_millis(*ms)),
            DiskFault::Full => faults.full(),
            DiskFault::Heal => faults.heal(),
            DiskFault::Corrupt { count, seed } => {
                let Some(real) = sound else {
                    return Err(format!("what rots on {disk} is chosen by the process that serves it"));
                };
                let round = self.corruptions.fetch_add(1, Ordering::Relaxed);
                return corrupt(real, *count, seed.wrapping_add(round.rotate_right(8)));
            }
        }
        tracing::warn!(disk, ?fault, "disk fault set");
        Ok(serde_json::json!({ "disk": disk, "fault": fault }))
    }
}

/// Flips a bit in each of `count` stored artifacts that are whole, chosen by the seed; in all of them if there are fewer.
/// One that has rotted already is left: its second flip might be the one that mends it. Size and time of change stay as
/// they were, as with a decaying medium.
fn corrupt(disk: &RealDisk, count: u64, seed: u64) -> Result<serde_json::Value, String> {
    let mut entries = disk.list(Utf8Path::new(ARTIFACTS)).map_err(|error| error.to_string())?;
    entries.retain(|entry| entry.metadata.size > 0);
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let mut chooser = seed;
    let mut corrupted = Vec::new();
    while (corrupted.len() as u64) < count && !entries.is_empty() {
        chooser = chooser.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let choice = usize::try_from((chooser >> 33) % entries.len() as u64).expect("an index of the list");
        let entry = entries.remove(choice);
        let path = Utf8Path::new(ARTIFACTS).join(&entry.name);
        if !is_whole(disk, &path, &entry.name).map_err(|error| error.to_string())? {
            continue;
        }
        let offset = (chooser >> 17) % entry.metadata.size;
        disk.flip_bit(&path, offset).map_err(|error| error.to_string())?;
        corrupted.push(serde_json::json!({ "artifact": entry.name, "offset": offset }));
    }
    tracing::warn!(count = corrupted.len(), seed, "artifacts corrupted");
    Ok(serde_json::json!({ "corrupted": corrupted }))
}

/// Whether a file's bytes hash to its name.
fn is_whole(disk: &RealDisk, path: &Utf8Path, name: &str) -> Result<bool, StorageError> {
    let file = disk.open(path)?;
    let (mut hasher, mut buffer, mut offset) = (Sha256::new(), vec![0; READ_BYTES], 0);
    loop {
        match file.read_at(offset, &mut buffer)? {
            0 => break,
            bytes => {
                hasher.update(&buffer[..bytes]);
                offset += bytes as u64;
            }
        }
    }
    Ok(ArtifactHash(hasher.finalize().into()).to_string() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_with_regions_is_faulted_and_rots_elsewhere() {
        let (mut disks, faults) = (FaultableDisks::default(), DiskFaults::new());
        disks.add_data("disk-0", faults.clone());
        disks.apply("disk-0", &DiskFault::Fail).unwrap();
        assert!(faults.state().failing);
        let corrupt = DiskFault::Corrupt { count: 1, seed: 1 };
        assert!(disks.apply("disk-0", &corrupt).unwrap_err().contains("the process that serves it"));
        assert!(disks.apply("disk-1", &DiskFault::Heal).unwrap_err().contains("there are disk-0"));
        disks.apply("disk-0", &DiskFault::Heal).unwrap();
        assert!(!faults.state().failing);
    }

    #[test]
    fn what_has_rotted_is_not_chosen_again() {
        let temp = camino_tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join(ARTIFACTS)).unwrap();
        for byte in 0..3u8 {
            let name = ArtifactHash(Sha256::digest([byte; 100]).into()).to_string();
            std::fs::write(temp.path().join(ARTIFACTS).join(name), [byte; 100]).unwrap();
        }
        let disk = RealDisk::new(temp.path());
        let names = |answer: serde_json::Value| -> Vec<String> {
            let corrupted = answer["corrupted"].as_array().expect("a list").clone();
            corrupted.iter().map(|one| one["artifact"].as_str().expect("a name").to_owned()).collect()
        };
        let mut all = names(corrupt(&disk, 2, 7).unwrap());
        all.extend(names(corrupt(&disk, 5, 7).unwrap()));
        let chosen = all.len();
        all.sort();
        all.dedup();
        assert_eq!((chosen, all.len()), (3, 3));
        assert!(names(corrupt(&disk, 1, 9).unwrap()).is_empty(), "none is whole any more");
    }
}
