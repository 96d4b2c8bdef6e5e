//! Bytes that decay on an M.2: they are never served as the artifact, and are replaced from the sled's other M.2, or,
//! where that one has decayed too, from a peer.

use crate::{
    deliveries::Deliveries,
    proof,
    scene::{LARGE, Scene},
};
use futures::{TryStreamExt, future::ready};
use ids::{ArtifactHash, SledId};
use nexus_client::{issues::IssueCode, sleds::SledPolicy};
use problem::Code;
use sample_release::MadeRelease;
use sha2::{Digest, Sha256};
use testbed::{DiskFault, names::M2_NAMES};

const SMALL: u64 = 80_000;

fn small_and_large(scene: &Scene) -> MadeRelease {
    scene.release("1.0.0", &[("small", SMALL), ("large", LARGE)])
}

async fn corrupt_everything(scene: &Scene, disk: &str) {
    let answer = scene.fault(disk, DiskFault::Corrupt { count: 2, seed: 7 }).await;
    assert_eq!(answer["corrupted"].as_array().map(Vec::len), Some(2), "{answer}");
}

/// Reads an artifact from a depot to its end: its right bytes, or that the connection broke.
///
/// Panics if wrong bytes were served whole.
async fn read(scene: &Scene, who: &str, hash: &ArtifactHash) -> Result<(), String> {
    let body = scene.depot_of(who).get(hash, 0).await.map_err(|error| error.to_string())?;
    let hashed =
        body.into_stream().try_fold(Sha256::new(), |hasher, piece| ready(Ok(hasher.chain_update(piece))));
    let digest = hashed.await.map_err(|error| error.to_string())?.finalize();
    assert_eq!(ArtifactHash(digest.into()), *hash, "{who} served wrong bytes as a success");
    Ok(())
}

/// Hashes everything that the sled has; how many copies were bad.
async fn scrub(scene: &Scene, who: &str) -> u64 {
    let sled = scene.agent(who);
    sled.scrub().await.expect("the sled takes the order");
    scene
        .wait("the scrub to end", async || {
            let scrub = sled.artifacts().await.map_err(|error| error.to_string())?.scrub;
            if scrub.running { Err(format!("{scrub:?}")) } else { Ok(scrub.corrupt) }
        })
        .await
}

async fn quarantined(scene: &Scene, who: &str) -> Vec<(String, ArtifactHash)> {
    let list = scene.listing(who).await;
    let mut copies: Vec<_> = list.quarantined.into_iter().map(|copy| (copy.dataset, copy.hash)).collect();
    copies.sort();
    copies
}

#[tokio::test]
pub(crate) async fn a_scrub_sets_rotten_copies_aside_and_repairs_them_from_the_other_m2() {
    let scene = Scene::start(1).await;
    let release = small_and_large(&scene);
    scene.upload(&release).await;
    proof::everywhere(&scene, &[&release]).await;
    let before = Deliveries::so_far(&scene);
    corrupt_everything(&scene, "sled-a/m2-1").await;
    assert_eq!(scrub(&scene, "sled-a").await, 2);
    proof::everywhere(&scene, &[&release]).await;
    let rotten: Vec<_> =
        proof::hashes(&[&release]).into_iter().map(|hash| ("m2-1".to_owned(), hash)).collect();
    assert_eq!(quarantined(&scene, "sled-a").await, rotten);
    assert_eq!(Deliveries::so_far(&scene), before, "a copy was sent that the sled had on its other M.2");
    assert_eq!(scrub(&scene, "sled-a").await, 0);
}

#[tokio::test]
pub(crate) async fn a_scrub_that_an_operator_asks_for_shows_its_end_and_what_it_found() {
    let scene = Scene::start(1).await;
    let release = small_and_large(&scene);
    scene.upload(&release).await;
    proof::everywhere(&scene, &[&release]).await;
    corrupt_everything(&scene, "sled-a/m2-1").await;
    let id = scene.agent("sled-a").inventory().await.unwrap().sled_id;
    scene.operator().sled_scrub(id).await.expect("the sled takes the order");
    let sled = scene
        .wait("the coordinator to show what the scrub found", async || {
            let sled = scene.operator().sled(id).await.map_err(|error| error.to_string())?;
            let ended = !sled.scrub.running && sled.scrub.finished_at.is_some();
            if ended && sled.copies_quarantined == 2 { Ok(sled) } else { Err(format!("{sled:?}")) }
        })
        .await;
    assert_eq!((sled.scrub.corrupt, sled.m2s[1].copies_quarantined), (2, 2), "{sled:?}");
    let issues = scene.system().await.issues;
    assert!(issues.iter().any(|issue| issue.is(IssueCode::CopiesQuarantined)), "{issues:?}");
    scene.kill("sled-a").await;
    let refused = scene.operator().sled_scrub(id).await.expect_err("nobody is there");
    assert!(refused.is(Code::SledUnreachable), "{refused}");
    scene.operator().sled_set_policy(id, SledPolicy::Expunged).await.unwrap();
    let refused = scene.operator().sled_scrub(id).await.expect_err("nobody calls it any more");
    assert!(refused.is(Code::SledExpunged), "{refused}");
    let refused = scene.operator().sled_scrub(SledId::generate()).await.expect_err("there is none");
    assert!(refused.is(Code::SledNotFound), "{refused}");
}

#[tokio::test]
pub(crate) async fn what_has_rotted_on_both_m2s_is_fetched_again_from_a_peer() {
    let scene = Scene::start(2).await;
    let release = small_and_large(&scene);
    scene.upload(&release).await;
    proof::everywhere(&scene, &[&release]).await;
    let before = Deliveries::so_far(&scene);
    for m2 in M2_NAMES {
        corrupt_everything(&scene, &format!("sled-a/{m2}")).await;
    }
    for artifact in &release.artifacts {
        let broken = read(&scene, "sled-a", &artifact.hash).await;
        assert!(broken.is_err(), "there is no right copy of {} on sled-a", artifact.name);
    }
    scrub(&scene, "sled-a").await;
    proof::everywhere(&scene, &[&release]).await;
    assert_eq!(quarantined(&scene, "sled-a").await.len(), 4);
    let after = Deliveries::so_far(&scene);
    assert_eq!(after.puts, before.puts, "the coordinator sent what a peer has");
    assert_eq!(after.copies.values().sum::<usize>(), before.copies.values().sum::<usize>() + 2);
}

#[tokio::test]
pub(crate) async fn a_rotten_copy_is_never_served_whole_even_before_a_scrub() {
    let scene = Scene::start(1).await;
    let release = small_and_large(&scene);
    scene.upload(&release).await;
    proof::everywhere(&scene, &[&release]).await;
    // The M.2 that is read first.
    corrupt_everything(&scene, "sled-a/m2-0").await;
    let [small, large] = [0, 1].map(|index| release.artifacts[index].hash);
    read(&scene, "sled-a", &small)
        .await
        .expect("nothing was sent yet when the rot was found: the other M.2 serves it");
    // Of the large one much was sent by then. The reader sees a broken connection, and finds the other M.2 next time.
    read(&scene, "sled-a", &large).await.expect_err("half of it was rotten");
    read(&scene, "sled-a", &large).await.expect("the other M.2 serves it");
    proof::everywhere(&scene, &[&release]).await;
    assert_eq!(quarantined(&scene, "sled-a").await.len(), 2);
}

#[tokio::test]
pub(crate) async fn a_peer_whose_copies_have_rotted_cannot_spread_them() {
    let scene = Scene::start(2).await;
    let release = small_and_large(&scene);
    scene.upload(&release).await;
    proof::everywhere(&scene, &[&release]).await;
    for m2 in M2_NAMES {
        corrupt_everything(&scene, &format!("sled-a/{m2}")).await;
    }
    // The newcomer may ask either; sled-a can only fail it.
    scene.add_sled().await.unwrap();
    proof::on_sleds(&scene, &["sled-c".to_owned()], &[&release]).await;
    scrub(&scene, "sled-a").await;
    proof::everywhere(&scene, &[&release]).await;
}
