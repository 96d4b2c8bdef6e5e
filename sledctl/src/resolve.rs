//! What a name on the command line stands for.
//!
//! A sled is named by its name, its id, or the beginning of its id; an artifact by its hash, by `NAME@VERSION`, by its
//! name, or by the beginning of its hash; a saga by its id or the
//! beginning of it. The first rule under which anything fits decides; if two things fit under it, nothing is guessed: the
//! error lists them.

use crate::render::words::printable;
use ids::ArtifactHash;
use nexus_client::{
    releases::{Artifact, TrustRoot},
    replication::ReplicationArtifact,
    sagas::Saga,
    sleds::Sled,
};
use thiserror::Error;

/// Shorter beginnings of an id name too much.
pub const ID_PREFIX_MIN: usize = 4;

/// Shorter beginnings of a hash name too much, and could be words.
const HASH_PREFIX_MIN: usize = 6;

/// An error lists no more candidates than a person reads.
const CANDIDATES_MAX: usize = 10;

/// A name that does not stand for exactly one thing.
#[derive(Debug, Error)]
pub enum NameError {
    /// It stands for nothing.
    #[error("no {kind} is named {name:?}{}", known_suffix(known, *more))]
    Unknown {
        /// What was looked for.
        kind: &'static str,
        /// What was given.
        name: String,
        /// What there is.
        known: Vec<String>,
        /// How many more there are.
        more: usize,
    },
    /// It stands for more than one thing.
    #[error("{name:?} fits more than one {kind}: {}", listed(candidates, *more))]
    Ambiguous {
        /// What was looked for.
        kind: &'static str,
        /// What was given.
        name: String,
        /// What it fits.
        candidates: Vec<String>,
        /// How many more it fits.
        more: usize,
    },
}

impl NameError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            NameError::Unknown { kind: "artifact", .. } => {
                format!(
                    "give a name, NAME@VERSION, a hash, or the first {HASH_PREFIX_MIN} or more digits of one: sledctl artifact list"
                )
            }
            NameError::Unknown { kind: "saga", .. } => {
                "give a whole id, or its beginning of one that has not ended or is among the newest: sledctl op list".to_owned()
            }
            NameError::Unknown { kind, .. } => {
                let list = kind.replace(' ', "-");
                format!(
                    "give a name, an id, or the first {ID_PREFIX_MIN} or more digits of one: sledctl {list} list"
                )
            }
            NameError::Ambiguous { kind: "artifact", .. } => {
                "give NAME@VERSION, or more of its hash".to_owned()
            }
            NameError::Ambiguous { .. } => "give more of it".to_owned(),
        }
    }
}

fn known_suffix(known: &[String], more: usize) -> String {
    if known.is_empty() {
        return "; there are none".to_owned();
    }
    format!("; there are: {}", listed(known, more))
}

fn listed(some: &[String], more: usize) -> String {
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", some.join(", "))
}

/// The sled that a name stands for.
pub fn sled<'a>(name: &str, sleds: &'a [Sled]) -> Result<&'a Sled, NameError> {
    let typed = name.to_ascii_lowercase();
    let rules: [&dyn Fn(&Sled) -> bool; 3] =
        [&|sled| sled.id.to_string() == typed, &|sled| sled.name == name, &|sled| {
            typed.len() >= ID_PREFIX_MIN && sled.id.to_string().starts_with(&typed)
        }];
    pick("sled", name, sleds, &rules, |sled| format!("{} ({})", printable(&sled.name), sled.id))
}

/// The artifact that a name stands for.
pub fn artifact<'a>(name: &str, artifacts: &'a [Artifact]) -> Result<&'a Artifact, NameError> {
    // A name may have an @ of its own, so that every way to cut it counts.
    let is_named = |artifact: &Artifact| {
        name.strip_prefix(artifact.name.as_str()).and_then(|rest| rest.strip_prefix('@'))
            == Some(artifact.version.as_str())
    };
    let rules: [&dyn Fn(&Artifact) -> bool; 4] = [
        &|artifact| artifact.hash.to_string() == name.to_ascii_lowercase(),
        &is_named,
        &|artifact| artifact.name == name,
        &|artifact| hash_begins_with(&artifact.hash, name),
    ];
    pick("artifact", name, artifacts, &rules, |artifact| {
        format!("{}@{} ({})", printable(&artifact.name), printable(&artifact.version), artifact.hash.short())
    })
}

/// The trust root that an id or a fingerprint, or the beginning of one, stands for.
pub fn trust_root<'a>(name: &str, roots: &'a [TrustRoot]) -> Result<&'a TrustRoot, NameError> {
    let typed = name.to_ascii_lowercase();
    let rules: [&dyn Fn(&TrustRoot) -> bool; 3] =
        [&|root| root.id.to_string() == typed, &|root| root.fingerprint == typed, &|root| {
            typed.len() >= ID_PREFIX_MIN
                && (root.id.to_string().starts_with(&typed) || root.fingerprint.starts_with(&typed))
        }];
    pick("trust root", name, roots, &rules, |root| {
        format!("{} ({:.12})", root.id, printable(&root.fingerprint))
    })
}

/// The saga that an id, or the beginning of one, stands for.
pub fn saga<'a>(name: &str, sagas: &'a [Saga]) -> Result<&'a Saga, NameError> {
    let rules: [&dyn Fn(&Saga) -> bool; 1] = [&|saga| saga_id_begins_with(saga, name)];
    pick("saga", name, sagas, &rules, |saga| {
        format!("{} ({}, {})", saga.id, printable(&saga.kind), saga.state.word())
    })
}

/// Whether the beginning of an id, as it was typed, is that of this saga's.
#[must_use]
pub fn saga_id_begins_with(saga: &Saga, typed: &str) -> bool {
    typed.len() >= ID_PREFIX_MIN && saga.id.to_string().starts_with(&typed.to_ascii_lowercase())
}

fn hash_begins_with(hash: &ArtifactHash, typed: &str) -> bool {
    typed.len() >= HASH_PREFIX_MIN && hash.to_string().starts_with(&typed.to_ascii_lowercase())
}

/// The one thing that fits under the first rule under which anything fits.
fn pick<'a, T>(
    kind: &'static str,
    name: &str,
    things: &'a [T],
    rules: &[&dyn Fn(&T) -> bool],
    describe: impl Fn(&T) -> String,
) -> Result<&'a T, NameError> {
    let describe_some =
        |some: &[&T]| some.iter().take(CANDIDATES_MAX).map(|&thing| describe(thing)).collect();
    for rule in rules {
        let fitting: Vec<&T> = things.iter().filter(|&thing| rule(thing)).collect();
        match fitting.as_slice() {
            [] => {}
            [only] => return Ok(only),
            several => {
                let more = several.len().saturating_sub(CANDIDATES_MAX);
                let candidates = describe_some(several);
                return Err(NameError::Ambiguous { kind, name: name.to_owned(), candidates, more });
            }
        }
    }
    let mut all: Vec<&T> = things.iter().collect();
    // What was meant is probably one of those that have it somewhere inside.
    all.sort_by_key(|&thing| !describe(thing).contains(name));
    let more = all.len().saturating_sub(CANDIDATES_MAX);
    Err(NameError::Unknown { kind, name: name.to_owned(), known: describe_some(&all), more })
}

/// The row of an artifact in a replication, for messages: `name version`.
#[must_use]
pub fn row_name(artifact: &ReplicationArtifact) -> String {
    format!("{} {}", printable(&artifact.name), printable(&artifact.version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn sled_is_found_by_name_id_and_beginning_of_its_id() {
        let sleds = sample::sleds();
        let id = sleds[1].id.to_string();
        for name in ["sled-b", id.as_str(), &id.to_uppercase(), &id[..8]] {
            assert_eq!(sled(name, &sleds).unwrap().name, "sled-b", "{name}");
        }
    }

    #[test]
    fn name_beats_the_beginning_of_another_ones_id() {
        let mut sleds = sample::sleds();
        let beginning = sleds[1].id.to_string()[..8].to_owned();
        sleds[0].name.clone_from(&beginning);
        assert_eq!(sled(&beginning, &sleds).unwrap().id, sleds[0].id);
    }

    #[test]
    fn ambiguous_and_unknown_names_list_the_candidates() {
        let mut sleds = sample::sleds();
        sleds[1].name = "sled-a".into();
        let ambiguous = sled("sled-a", &sleds).unwrap_err().to_string();
        assert!(ambiguous.contains(&sleds[0].id.to_string()) && ambiguous.contains(&sleds[1].id.to_string()));
        let unknown = sled("sled-z", &sleds).unwrap_err().to_string();
        assert!(unknown.starts_with("no sled is named \"sled-z\"; there are: sled-a ("), "{unknown}");
        assert_eq!(sled("x", &[]).unwrap_err().to_string(), "no sled is named \"x\"; there are none");
    }

    #[test]
    fn error_lists_at_most_ten_candidates() {
        let sleds: Vec<Sled> = (0..25).map(|_| sample::sleds()[0].clone()).collect();
        assert!(sled("sled-a", &sleds).unwrap_err().to_string().ends_with(" and 15 more"));
    }

    #[test]
    fn artifact_is_found_by_hash_beginning_of_hash_and_name() {
        let artifacts = sample::artifacts();
        let hash = artifacts[1].hash.to_string();
        for name in [hash.as_str(), &hash[..6], "guest-image"] {
            assert_eq!(artifact(name, &artifacts).unwrap().name, "guest-image", "{name}");
        }
        assert!(artifact(&hash[..5], &artifacts).is_err(), "five digits are too few");
    }

    #[test]
    fn artifact_of_several_versions_is_found_by_name_and_version() {
        let mut artifacts = sample::artifacts();
        artifacts[2].name = "guest-image".into();
        let ambiguous = artifact("guest-image", &artifacts).unwrap_err();
        assert!(ambiguous.to_string().contains("guest-image@1.0 ("), "{ambiguous}");
        assert!(ambiguous.hint().contains("NAME@VERSION"), "{}", ambiguous.hint());
        assert_eq!(artifact("guest-image@1.0", &artifacts).unwrap().hash, artifacts[1].hash);
        assert_eq!(artifact("guest-image@0.3.1", &artifacts).unwrap().hash, artifacts[2].hash);
        artifacts[0].name = "mail@host".into();
        assert_eq!(artifact("mail@host@0.3.1", &artifacts).unwrap().hash, artifacts[0].hash);
    }

    #[test]
    fn candidates_that_have_the_name_inside_come_first() {
        let unknown = artifact("image", &sample::artifacts()).unwrap_err().to_string();
        assert!(
            unknown.starts_with("no artifact is named \"image\"; there are: guest-image@1.0 ("),
            "{unknown}"
        );
    }

    #[test]
    fn trust_root_is_found_by_beginning_of_its_fingerprint() {
        let roots = sample::trust_roots();
        assert_eq!(trust_root(&roots[0].fingerprint[..8], &roots).unwrap().id, roots[0].id);
    }
}
