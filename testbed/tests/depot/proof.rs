//! What is really there: asked of the sleds themselves, and hashed from their disks. Owns what counts as "everything is
//! where it should be"; how it got there is the tests' business.

use crate::scene::Scene;
use camino::Utf8Path;
use ids::ArtifactHash;
use nexus_client::replication::ReplicationSledState;
use sample_release::MadeRelease;
use sha2::{Digest, Sha256};
use sled_client::artifacts::ArtifactsList;
use std::{collections::BTreeSet, fs};
use testbed::names::M2_NAMES;

/// The artifacts of these releases.
pub(crate) fn hashes(releases: &[&MadeRelease]) -> BTreeSet<ArtifactHash> {
    releases.iter().flat_map(|release| &release.artifacts).map(|artifact| artifact.hash).collect()
}

/// Every sled has verified copies of exactly these releases on both M.2s, says so, and is believed by the coordinator;
/// nothing is staged, half-written or set aside any more.
pub(crate) async fn everywhere(scene: &Scene, releases: &[&MadeRelease]) {
    on_sleds(scene, &scene.sled_names(), releases).await;
    staging_becomes_empty(scene).await;
    let matrix = scene.matrix().await;
    assert!(matrix.fully_replicated, "{matrix:?}");
    assert_eq!(matrix.artifacts_complete, matrix.artifacts.len() as u64);
}

/// These sleds have verified copies of exactly these releases on both M.2s, say so, and are believed.
pub(crate) async fn on_sleds(scene: &Scene, sleds: &[String], releases: &[&MadeRelease]) {
    let wanted = hashes(releases);
    for who in sleds {
        says_it_holds(scene, who, &wanted).await;
        let both = |copies: Option<u32>| copies == Some(2);
        scene
            .column(who, &format!("the coordinator to see that {who} is complete"), |column| {
                column.state == ReplicationSledState::Active
                    && wanted.iter().all(|hash| both(column.cells.get(hash).map(|cell| cell.copies)))
            })
            .await;
        for m2 in M2_NAMES {
            disk_holds(&scene.directory().m2_dir(who, m2), &wanted);
        }
    }
}

/// The sled lists exactly these artifacts, each with two verified copies, and has nothing left to do about them.
pub(crate) async fn says_it_holds(
    scene: &Scene,
    who: &str,
    wanted: &BTreeSet<ArtifactHash>,
) -> ArtifactsList {
    scene
        .wait(&format!("{who} to hold everything twice"), async || holds_twice(scene, who, wanted).await)
        .await
}

/// One look at whether a sled lists exactly these artifacts, each with two verified copies.
pub(crate) async fn holds_twice(
    scene: &Scene,
    who: &str,
    wanted: &BTreeSet<ArtifactHash>,
) -> Result<ArtifactsList, String> {
    let list = scene.agent(who).artifacts().await.map_err(|error| error.to_string())?;
    let exact = list.list.keys().eq(wanted) && list.list.values().all(|artifact| artifact.copies == 2);
    if exact && list.unverified == 0 && list.orphan_bytes == 0 { Ok(list) } else { Err(format!("{list:?}")) }
}

/// The M.2 has exactly these artifacts under their names, with the right bytes, and no half-written file.
pub(crate) fn disk_holds(m2: &Utf8Path, wanted: &BTreeSet<ArtifactHash>) {
    let artifacts = m2.join("artifacts");
    let found: BTreeSet<ArtifactHash> =
        entries(&artifacts).iter().map(|name| name.parse().expect("only artifacts are in there")).collect();
    assert_eq!(&found, wanted, "what {artifacts} holds");
    for hash in &found {
        assert_eq!(hash_of(&artifacts.join(hash.to_string())), *hash, "bytes in {artifacts}");
    }
    assert_eq!(entries(&m2.join("tmp")), Vec::<String>::new(), "half-written files on {m2}");
}

/// The uploaded bytes go once the sleds have them.
pub(crate) async fn staging_becomes_empty(scene: &Scene) {
    let staging = scene.staging_dir();
    scene
        .wait("the staging directory to become empty", async || {
            let left = entries(&staging);
            if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
        })
        .await;
}

/// The names in a directory, sorted.
pub(crate) fn entries(directory: &Utf8Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("reading {directory}: {error}"));
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a UTF-8 name"))
        .collect();
    names.sort();
    names
}

/// The hash of a file's bytes.
pub(crate) fn hash_of(path: &Utf8Path) -> ArtifactHash {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("reading {path}: {error}"));
    ArtifactHash(Sha256::digest(bytes).into())
}
