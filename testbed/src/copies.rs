//! How many verified copies there really are: asked of each sled, not of the coordinator. Owns the counting and its one
//! sentence; the asking is one call per sled.

use ids::ArtifactHash;
use sled_client::artifacts::ArtifactsList;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Copies of the wanted artifacts over the sleds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopiesReport {
    /// Artifacts that are wanted.
    pub artifacts: usize,
    /// Of these, artifacts with a verified copy on every sled.
    pub artifacts_everywhere: usize,
    /// Sleds that were looked at.
    pub sleds: usize,
    /// Of these, sleds with a verified copy of every artifact.
    pub sleds_complete: usize,
    /// Verified copies of the artifact that has the fewest on some sled.
    pub copies_min: u32,
    /// Verified copies of the artifact that has the most on some sled.
    pub copies_max: u32,
}

impl CopiesReport {
    /// Counts, given what each sled says that it holds (`None`: it did not answer).
    #[must_use]
    pub fn count(
        wanted: &BTreeSet<ArtifactHash>,
        held: &BTreeMap<String, Option<ArtifactsList>>,
    ) -> CopiesReport {
        let copies = |sled: &Option<ArtifactsList>, hash: &ArtifactHash| {
            sled.as_ref().and_then(|list| list.list.get(hash)).map_or(0, |artifact| artifact.copies)
        };
        let everywhere = |hash: &&ArtifactHash| held.values().all(|sled| copies(sled, hash) > 0);
        let complete = |sled: &&Option<ArtifactsList>| wanted.iter().all(|hash| copies(sled, hash) > 0);
        let all = || held.values().flat_map(|sled| wanted.iter().map(move |hash| copies(sled, hash)));
        CopiesReport {
            artifacts: wanted.len(),
            artifacts_everywhere: wanted.iter().filter(everywhere).count(),
            sleds: held.len(),
            sleds_complete: held.values().filter(complete).count(),
            copies_min: all().min().unwrap_or(0),
            copies_max: all().max().unwrap_or(0),
        }
    }

    /// Whether every sled has every artifact.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.artifacts_everywhere == self.artifacts && self.sleds_complete == self.sleds
    }
}

impl fmt::Display for CopiesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CopiesReport { artifacts, artifacts_everywhere, sleds, sleds_complete, copies_min, copies_max } =
            self;
        if !self.is_complete() {
            return write!(
                f,
                "{artifacts_everywhere} of {artifacts} artifacts are on every sled; \
                 {sleds_complete} of {sleds} sleds have all of them"
            );
        }
        write!(
            f,
            "{artifacts_everywhere} of {artifacts} artifacts are on {sleds_complete} of {sleds} sleds with "
        )?;
        match (copies_min, copies_max) {
            (1, 1) => write!(f, "1 verified copy each"),
            (min, max) if min == max => write!(f, "{min} verified copies each"),
            (min, max) => write!(f, "{min} to {max} verified copies each"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ids::Generation;
    use sled_client::artifacts::{ListedArtifact, ScrubStatus};

    fn hash(number: u8) -> ArtifactHash {
        format!("{number:02x}").repeat(32).parse().expect("64 hexadecimal digits")
    }

    fn sled(copies: &[(u8, u32)]) -> Option<ArtifactsList> {
        let listed = |&(number, copies): &(u8, u32)| {
            let verified_at = jiff::Timestamp::UNIX_EPOCH;
            (hash(number), ListedArtifact { copies, size: 1, verified_at })
        };
        Some(ArtifactsList {
            generation: Generation::default(),
            list: copies.iter().map(listed).collect(),
            datasets: Vec::new(),
            orphan_bytes: 0,
            trash_bytes: 0,
            unverified: 0,
            quarantined: Vec::new(),
            scrub: ScrubStatus::default(),
        })
    }

    fn sentence(sleds: &[Option<ArtifactsList>]) -> String {
        let wanted = [hash(1), hash(2)].into();
        let held =
            sleds.iter().cloned().enumerate().map(|(index, sled)| (format!("sled-{index}"), sled)).collect();
        CopiesReport::count(&wanted, &held).to_string()
    }

    #[test]
    fn the_sentence_says_what_the_sleds_said() {
        let full = sled(&[(1, 2), (2, 2), (9, 7)]);
        assert_eq!(
            sentence(&[full.clone(), full.clone()]),
            "2 of 2 artifacts are on 2 of 2 sleds with 2 verified copies each"
        );
        assert_eq!(
            sentence(&[full.clone(), sled(&[(1, 1), (2, 2)])]),
            "2 of 2 artifacts are on 2 of 2 sleds with 1 to 2 verified copies each"
        );
        assert_eq!(
            sentence(&[full.clone(), sled(&[(1, 2)])]),
            "1 of 2 artifacts are on every sled; 1 of 2 sleds have all of them"
        );
        assert_eq!(
            sentence(&[full.clone(), None]),
            "0 of 2 artifacts are on every sled; 1 of 2 sleds have all of them"
        );
        assert_eq!(
            sentence(&[full, sled(&[(1, 0), (2, 2)])]),
            "1 of 2 artifacts are on every sled; 1 of 2 sleds have all of them"
        );
    }
}
