//! M.2s that fail, fill up, stall or vanish: the other one gets its copy and keeps the sled going, the matrix says so,
//! and what was missed is made good inside the sled once the disk is back.

use crate::{
    deliveries::Deliveries,
    proof,
    scene::{LARGE, Scene},
};
use nexus_client::{
    issues::{Issue, IssueCode},
    releases::RepositoryState,
    replication::ReplicationSled,
    sleds::M2Health,
};
use sample_release::MadeRelease;
use sled_client::artifacts::DatasetHealth;
use std::fs;
use testbed::DiskFault;

fn two_artifacts(scene: &Scene) -> MadeRelease {
    scene.release("1.0.0", &[("a", LARGE), ("b", 80_000)])
}

/// Waits until sled-a has one copy of everything, and everybody who looks sees that its other M.2 is not usable: the
/// matrix, the status with this code, the sled itself. The release counts as replicated all the same: all is done that
/// can be done.
async fn one_copy_each(scene: &Scene, release: &MadeRelease, m2: &str, code: IssueCode) {
    let wanted = proof::hashes(&[release]);
    let halved = |column: &ReplicationSled| {
        let copies = |hash| column.cells.get(hash).map(|cell| cell.copies);
        column.datasets_healthy == 1 && wanted.iter().all(|hash| copies(hash) == Some(1))
    };
    let column = scene.column("sled-a", "sled-a to have everything once", halved).await;
    assert_eq!(column.m2s.len(), 2, "the matrix counts against both: {column:?}");
    let named = |issue: &Issue| issue.is(code) && issue.subject == format!("sled-a/{m2}");
    scene
        .wait("the status to name the M.2", async || {
            let issues = scene.system().await.issues;
            if issues.iter().any(named) { Ok(()) } else { Err(format!("{issues:?}")) }
        })
        .await;
    let matrix = scene.matrix().await;
    assert!(!matrix.fully_replicated && matrix.artifacts_complete == 0, "{matrix:?}");
    let sleds = scene.operator().sleds().await.expect("the coordinator answers");
    let sled = sleds.iter().find(|sled| sled.name == "sled-a").expect("it is known");
    let shown = sled.m2s.iter().find(|shown| shown.name == m2).expect("it is shown");
    assert!(shown.health != M2Health::Healthy && shown.reason.is_some(), "{shown:?}");
    let repository = scene.operator().repository("1.0.0").await.expect("it is known").repository;
    assert_eq!(repository.state, RepositoryState::Replicated, "{repository:?}");
}

async fn health(scene: &Scene, m2: &str) -> DatasetHealth {
    let list = scene.listing("sled-a").await;
    list.datasets.iter().find(|dataset| dataset.name == m2).expect("the M.2 is listed").health
}

/// After the disk is back, the sled repairs itself: nothing is sent again.
async fn repairs_itself(scene: &Scene, release: &MadeRelease) {
    let before = Deliveries::so_far(scene);
    proof::everywhere(scene, &[release]).await;
    assert_eq!(Deliveries::so_far(scene), before, "a copy was sent that the sled had on its other M.2");
    scene
        .wait("the status to be clear again", async || {
            let issues = scene.system().await.issues;
            if issues.is_empty() { Ok(()) } else { Err(format!("{issues:?}")) }
        })
        .await;
}

#[tokio::test]
pub(crate) async fn an_m2_that_fails_in_the_middle_of_a_put_costs_one_copy_until_it_is_healed() {
    let scene = Scene::start(1).await;
    let release = two_artifacts(&scene);
    scene.hold("sled-a", "artifact.put_piece", 2).await;
    scene.upload(&release).await;
    scene.held("sled-a", "artifact.put_piece").await;
    scene.fault("sled-a/m2-0", DiskFault::Fail).await;
    scene.free("sled-a", "artifact.put_piece").await;
    one_copy_each(&scene, &release, "m2-0", IssueCode::M2Failed).await;
    assert_eq!(health(&scene, "m2-0").await, DatasetHealth::Failed);
    scene.fault("sled-a/m2-0", DiskFault::Heal).await;
    repairs_itself(&scene, &release).await;
}

#[tokio::test]
pub(crate) async fn a_full_m2_costs_one_copy_until_there_is_room() {
    let scene = Scene::start(1).await;
    let release = two_artifacts(&scene);
    scene.fault("sled-a/m2-1", DiskFault::Full).await;
    scene.upload(&release).await;
    one_copy_each(&scene, &release, "m2-1", IssueCode::M2Full).await;
    assert_eq!(health(&scene, "m2-1").await, DatasetHealth::Full);
    scene.fault("sled-a/m2-1", DiskFault::Heal).await;
    repairs_itself(&scene, &release).await;
}

#[tokio::test]
pub(crate) async fn an_m2_that_hangs_is_left_out_and_makes_up_for_it_later() {
    let scene = Scene::start(2).await;
    let release = two_artifacts(&scene);
    scene.fault("sled-a/m2-0", DiskFault::Slow { ms: 600_000 }).await;
    scene.upload(&release).await;
    proof::on_sleds(&scene, &["sled-b".to_owned()], &[&release]).await;
    one_copy_each(&scene, &release, "m2-0", IssueCode::M2Slow).await;
    assert_eq!(health(&scene, "m2-0").await, DatasetHealth::Slow);
    scene.fault("sled-a/m2-0", DiskFault::Heal).await;
    repairs_itself(&scene, &release).await;
}

#[tokio::test]
pub(crate) async fn a_sled_with_an_m2_that_hangs_stops_when_it_is_asked_to() {
    let scene = Scene::start(1).await;
    let release = two_artifacts(&scene);
    scene.fault("sled-a/m2-1", DiskFault::Slow { ms: 3_600_000 }).await;
    scene.upload(&release).await;
    one_copy_each(&scene, &release, "m2-1", IssueCode::M2Slow).await;
    assert!(scene.stop("sled-a").await.expect("it stops by itself"));
}

#[tokio::test]
pub(crate) async fn a_somewhat_slow_m2_gets_its_copies_all_the_same() {
    let scene = Scene::start(1).await;
    let release = two_artifacts(&scene);
    scene.fault("sled-a/m2-0", DiskFault::Slow { ms: 20 }).await;
    scene.upload(&release).await;
    proof::everywhere(&scene, &[&release]).await;
}

#[tokio::test]
pub(crate) async fn an_m2_that_is_missing_at_the_start_is_used_when_it_appears() {
    let scene = Scene::start(1).await;
    let release = two_artifacts(&scene);
    let m2 = scene.directory().m2_dir("sled-a", "m2-1");
    let elsewhere = scene.directory().node("sled-a").join("pulled-out");
    scene.kill("sled-a").await;
    fs::rename(&m2, &elsewhere).unwrap();
    scene.restart("sled-a").await;
    assert_eq!(health(&scene, "m2-1").await, DatasetHealth::Missing);
    scene.upload(&release).await;
    one_copy_each(&scene, &release, "m2-1", IssueCode::M2Missing).await;
    assert!(!m2.exists(), "the agent made a directory where a disk should be mounted");
    fs::rename(&elsewhere, &m2).unwrap();
    repairs_itself(&scene, &release).await;
}

#[tokio::test]
pub(crate) async fn a_sled_whose_m2s_all_fail_delays_nobody_and_recovers_when_they_are_healed() {
    let scene = Scene::start(3).await;
    let first = two_artifacts(&scene);
    scene.upload(&first).await;
    proof::everywhere(&scene, &[&first]).await;
    for disk in ["sled-a/m2-0", "sled-a/m2-1"] {
        scene.fault(disk, DiskFault::Fail).await;
    }
    let second = scene.release("2.0.0", &[("c", LARGE), ("d", 80_000)]);
    scene.upload(&second).await;
    proof::on_sleds(&scene, &scene.sleds_but("sled-a"), &[&first, &second]).await;
    for disk in ["sled-a/m2-0", "sled-a/m2-1"] {
        scene.fault(disk, DiskFault::Heal).await;
    }
    proof::everywhere(&scene, &[&first, &second]).await;
}
