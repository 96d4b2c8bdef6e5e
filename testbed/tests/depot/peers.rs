//! Who does the copying: the coordinator sends an artifact once, and the sleds pass it on among themselves.

use crate::{
    deliveries::Deliveries,
    proof,
    scene::{LARGE, Scene},
};

#[tokio::test]
pub(crate) async fn the_coordinator_sends_each_artifact_once_and_peers_do_the_rest() {
    let scene = Scene::start(4).await;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let artifacts: Vec<(&str, u64)> =
        (1..).map(|size| size * LARGE / 8).zip(names).map(|(s, n)| (n, s)).collect();
    let release = scene.release("1.0.0", &artifacts);
    scene.upload(&release).await;
    proof::everywhere(&scene, &[&release]).await;
    let deliveries = Deliveries::so_far(&scene);
    for hash in proof::hashes(&[&release]) {
        let (puts, copies) = (deliveries.puts.get(&hash), deliveries.copies.get(&hash));
        assert_eq!((puts, copies), (Some(&1), Some(&3)), "{deliveries:?}");
    }
}

#[tokio::test]
pub(crate) async fn what_the_sleds_hold_is_not_sent_again_for_another_release_that_has_it() {
    let scene = Scene::start(2).await;
    let first = scene.release("1.0.0", &[("a", LARGE), ("b", 50_000)]);
    scene.upload(&first).await;
    proof::everywhere(&scene, &[&first]).await;
    let before = Deliveries::so_far(&scene);
    let second = scene.release("2.0.0", &[("a", LARGE), ("b", 50_000), ("c", 60_000)]);
    scene.upload(&second).await;
    proof::everywhere(&scene, &[&first, &second]).await;
    let added = proof::hashes(&[&second]).difference(&proof::hashes(&[&first])).count();
    assert_eq!(added, 1);
    assert_eq!(Deliveries::so_far(&scene).total(), before.total() + 2, "one PUT and one copy of what is new");
}
