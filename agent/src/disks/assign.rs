//! Which port the Downstairs of each disk has: `<state_dir>/ports.json`.
//!
//! A port is a disk's for as long as the range has it, also while the disk is out of the config: volumes know its regions by that
//! address. A new disk gets the lowest one that no disk has.

use crate::config::PortRange;
use camino::Utf8Path;
use daemon::state_file::{self, StateFileError};
use ids::DiskId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// The file's format.
const VERSION: u8 = 1;

/// The file.
const FILE_NAME: &str = "ports.json";

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ports {
    version: u8,
    downstairs: BTreeMap<DiskId, u16>,
}

/// Why a disk has no port.
#[derive(Debug, Error)]
pub enum AssignError {
    /// What was assigned cannot be kept.
    #[error(transparent)]
    File(#[from] StateFileError),
    /// Every port is some disk's.
    #[error(
        "no port from {first} to {last} is left for disk {disk}: widen supervised_ports, or take disks that are gone for good out of {FILE_NAME} in the state directory, with the agent stopped"
    )]
    NoneLeft {
        /// Whose.
        disk: DiskId,
        /// The first.
        first: u16,
        /// The last.
        last: u16,
    },
}

/// The port of each of these disks.
///
/// # Errors
/// [`AssignError`].
pub fn assign(
    state_dir: &Utf8Path,
    disks: &[DiskId],
    range: PortRange,
) -> Result<BTreeMap<DiskId, u16>, AssignError> {
    let kept = state_file::update(state_dir, FILE_NAME, |known: Option<Ports>| {
        let known = known.map(|known| known.downstairs).unwrap_or_default();
        Ports { version: VERSION, downstairs: with(known, disks, range) }
    })?;
    let port = |disk: &DiskId| {
        let none_left = AssignError::NoneLeft { disk: *disk, first: range.first, last: range.last };
        kept.downstairs.get(disk).map(|port| (*disk, *port)).ok_or(none_left)
    };
    disks.iter().map(port).collect()
}

/// What is known, with a port for each of these disks for which there is one.
fn with(mut known: BTreeMap<DiskId, u16>, disks: &[DiskId], range: PortRange) -> BTreeMap<DiskId, u16> {
    known.retain(|_, port| (range.first..=range.last).contains(port));
    let mut taken: BTreeSet<u16> = known.values().copied().collect();
    for disk in disks {
        if known.contains_key(disk) {
            continue;
        }
        let Some(port) = (range.first..=range.last).find(|port| !taken.contains(port)) else { break };
        taken.insert(port);
        known.insert(*disk, port);
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_keeps_its_port_and_nobody_else_gets_it_while_it_is_away() {
        let dir = camino_tempfile::tempdir().unwrap();
        let [a, b, c] = [(); 3].map(|()| DiskId::generate());
        let range = PortRange { first: 12400, last: 12402 };
        let assigned = |disks: &[DiskId]| assign(dir.path(), disks, range).unwrap();
        assert_eq!(assigned(&[a, b]), BTreeMap::from([(a, 12400), (b, 12401)]));
        assert_eq!(assigned(&[b]), BTreeMap::from([(b, 12401)]));
        assert_eq!(assigned(&[c, b]), BTreeMap::from([(c, 12402), (b, 12401)]));
        assert_eq!(assigned(&[a, c]), BTreeMap::from([(a, 12400), (c, 12402)]));
        let refusal = assign(dir.path(), &[DiskId::generate()], range).unwrap_err();
        assert!(matches!(refusal, AssignError::NoneLeft { .. }), "{refusal}");
    }

    #[test]
    fn a_port_outside_of_a_new_range_is_given_back() {
        let dir = camino_tempfile::tempdir().unwrap();
        let disk = [DiskId::generate()];
        let port = |first, last| assign(dir.path(), &disk, PortRange { first, last }).unwrap()[&disk[0]];
        assert_eq!([port(10, 20), port(15, 20), port(10, 20)], [10, 15, 15]);
    }
}
