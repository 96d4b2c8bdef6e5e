//! Who sent what to whom, from the coordinator's log. Owns the reading of those lines and nothing else.

use crate::scene::{COORDINATOR, Scene};
use ids::ArtifactHash;
use std::{collections::BTreeMap, fs};

/// Transfers that brought an artifact to a sled, by artifact: from the coordinator, and from peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deliveries {
    pub(crate) puts: BTreeMap<ArtifactHash, usize>,
    pub(crate) copies: BTreeMap<ArtifactHash, usize>,
}

impl Deliveries {
    /// Everything that was delivered so far, over all lives of the coordinator.
    pub(crate) fn so_far(scene: &Scene) -> Deliveries {
        let log = fs::read_to_string(scene.directory().log_file(COORDINATOR)).expect("the log is there");
        let mut deliveries = Deliveries::default();
        // A line that is no JSON is a panic's, or one that is being written.
        for line in log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
            if line["message"] != "artifact delivered" {
                continue;
            }
            let hash = line["hash"].as_str().expect("the line names the artifact");
            let by_hash = match line["how"].as_str() {
                Some("put") => &mut deliveries.puts,
                Some("copy") => &mut deliveries.copies,
                other => panic!("delivered by {other:?}"),
            };
            *by_hash.entry(hash.parse().expect("a hash")).or_default() += 1;
        }
        deliveries
    }

    /// All of them.
    pub(crate) fn total(&self) -> usize {
        self.puts.values().chain(self.copies.values()).sum()
    }
}
