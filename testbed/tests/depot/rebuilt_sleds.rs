//! Sleds that come back with less than they had: new M.2s, or a new system disk and so a new identity.

use crate::{
    deliveries::Deliveries,
    proof,
    scene::{LARGE, Scene, replace},
};
use ids::ArtifactHash;
use nexus_client::{replication::ReplicationSledState, sleds::SledPolicy};
use tokio::{io::AsyncWriteExt, net::TcpStream};

#[tokio::test]
pub(crate) async fn a_sled_with_new_m2s_gets_everything_again_from_its_peers() {
    let scene = Scene::start(2).await;
    let release = scene.release("1.0.0", &[("a", LARGE), ("b", 50_000)]);
    scene.upload(&release).await;
    proof::everywhere(&scene, &[&release]).await;
    let before = Deliveries::so_far(&scene);
    scene.kill("sled-a").await;
    scene.replace_m2s("sled-a");
    scene.restart("sled-a").await;
    proof::everywhere(&scene, &[&release]).await;
    let after = Deliveries::so_far(&scene);
    assert_eq!(after.puts, before.puts);
    assert_eq!(after.total(), before.total() + 2);
}

/// Opens so many reads of an artifact at a depot, and reads nothing. They last until they are dropped.
async fn stall(depot_url: &str, hash: &ArtifactHash, reads: usize) -> Vec<TcpStream> {
    let address = depot_url.strip_prefix("http://").expect("a plain URL");
    let mut stalled = Vec::new();
    for _ in 0..reads {
        let mut stream = TcpStream::connect(address).await.expect("the depot listens");
        let head = format!("GET /artifact/sha256/{hash} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("it takes the head");
        // The first byte of the answer: by then the read has its slot, or was refused one.
        stream.peek(&mut [0]).await.expect("it answers");
        stalled.push(stream);
    }
    stalled
}

#[tokio::test]
pub(crate) async fn readers_that_do_not_read_keep_no_sled_from_its_peers() {
    let scene = Scene::start(3).await;
    // More than the sockets' buffers hold.
    let release = scene.release("1.0.0", &[("large", 16 << 20), ("small", 50_000)]);
    scene.upload(&release).await;
    proof::everywhere(&scene, &[&release]).await;
    scene.kill("sled-c").await;
    scene.replace_m2s("sled-c");
    let mut stalled = Vec::new();
    for sled in &scene.environment().expect("the record is there").sleds[..2] {
        stalled.extend(stall(&sled.depot_url, &release.artifacts[0].hash, 70).await);
    }
    scene.restart("sled-c").await;
    proof::on_sleds(&scene, &["sled-c".to_owned()], &[&release]).await;
    drop(stalled);
}

#[tokio::test]
pub(crate) async fn a_sled_with_one_new_m2_repairs_it_from_the_other() {
    let scene = Scene::start(1).await;
    let release = scene.release("1.0.0", &[("a", LARGE), ("b", 50_000)]);
    scene.upload(&release).await;
    proof::everywhere(&scene, &[&release]).await;
    let before = Deliveries::so_far(&scene);
    scene.kill("sled-a").await;
    replace(&scene.directory().m2_dir("sled-a", "m2-0"));
    scene.restart("sled-a").await;
    proof::everywhere(&scene, &[&release]).await;
    assert_eq!(Deliveries::so_far(&scene), before);
}

#[tokio::test]
pub(crate) async fn a_rebuilt_host_is_a_new_sled_and_the_old_one_is_never_called_at_its_address() {
    let scene = Scene::start(3).await;
    let first = scene.release("1.0.0", &[("a", LARGE), ("b", 50_000)]);
    scene.upload(&first).await;
    proof::everywhere(&scene, &[&first]).await;
    let old = scene.agent("sled-b").inventory().await.unwrap().sled_id;
    scene.kill("sled-b").await;
    replace(&scene.directory().state_dir("sled-b"));
    scene.replace_m2s("sled-b");
    scene.restart("sled-b").await;
    let new = scene.agent("sled-b").inventory().await.unwrap().sled_id;
    assert_ne!(new, old);
    scene.wait_in_service().await.unwrap();
    scene
        .wait("the old sled to lose its address", async || {
            let sled = scene.operator().sled(old).await.map_err(|error| error.to_string())?;
            if sled.agent_url.is_empty() { Ok(()) } else { Err(format!("{sled:?}")) }
        })
        .await;

    let second = scene.release("2.0.0", &[("c", LARGE)]);
    scene.upload(&second).await;
    let wanted = proof::hashes(&[&first, &second]);
    for who in scene.sled_names() {
        proof::says_it_holds(&scene, &who, &wanted).await;
    }
    let gone = |matrix: &nexus_client::replication::Replication| {
        matrix.sleds.iter().any(|sled| sled.id == old && sled.state == ReplicationSledState::Unreachable)
    };
    scene
        .wait("the old sled to be shown as away", async || {
            let matrix = scene.matrix().await;
            if gone(&matrix) { Ok(()) } else { Err(format!("{matrix:?}")) }
        })
        .await;
    assert!(!scene.matrix().await.fully_replicated, "a sled in service is away");
    scene.operator().sled_set_policy(old, SledPolicy::Expunged).await.unwrap();
    proof::everywhere(&scene, &[&first, &second]).await;
}
