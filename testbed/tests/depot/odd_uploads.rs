//! Uploads that are fine and unusual, or that the world changes under.

use crate::{
    proof,
    scene::{COORDINATOR, Scene},
};
use nexus_client::UploadOptions;
use problem::Code;
use sample_release::SampleRelease;
use std::time::Duration;
use testbed::wait_for;
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// Half the time after which the coordinator would look for what a deletion has left.
const SOONER_THAN_THE_CLEAN_UP: Duration = Duration::from_secs(30);

#[tokio::test]
pub(crate) async fn a_release_whose_targets_are_named_by_sha512_reaches_every_sled() {
    let scene = Scene::start(2).await;
    let release = scene.make(&SampleRelease::small("1.0.0").with_sha512_names());
    // A root says how files are named, so this one is another than the scene's.
    scene.operator().trust_root_add(release.root_json.clone()).await.unwrap();
    scene.upload(&release).await;
    proof::everywhere(&scene, &[&release]).await;
}

#[tokio::test]
pub(crate) async fn a_trust_root_that_is_deleted_during_an_upload_vouches_for_nothing() {
    let scene = Scene::start(1).await;
    let release = scene.release("1.0.0", &[("a", 50_000)]);
    scene.hold(COORDINATOR, "intake.durable", 0).await;
    let upload = scene.begin_upload(&release, UploadOptions::default());
    scene.held(COORDINATOR, "intake.durable").await;
    for root in scene.operator().trust_roots().await.unwrap() {
        scene.operator().trust_root_delete(root.id).await.unwrap();
    }
    scene.free(COORDINATOR, "intake.durable").await;
    let refusal = upload.await.unwrap().expect_err("nobody vouches for it any more");
    assert!(refusal.is(Code::TrustRootDeleted), "{refusal}");
    assert!(scene.operator().repositories().await.unwrap().is_empty());
    proof::staging_becomes_empty(&scene).await;
}

#[tokio::test]
pub(crate) async fn a_deletion_is_finished_though_its_client_hangs_up() {
    let scene = Scene::start(2).await;
    let release = scene.release("1.0.0", &[("a", 50_000)]);
    // While a sled is away, the upload stays staged.
    scene.kill("sled-b").await;
    scene.upload(&release).await;
    proof::on_sleds(&scene, &scene.sleds_but("sled-b"), &[&release]).await;
    assert_eq!(proof::entries(&scene.staging_dir()).len(), 1);
    scene.hold(COORDINATOR, "repository.deleted", 0).await;
    let client = ask_to_delete(&scene, "1.0.0").await;
    let port = client.local_addr().unwrap().port();
    scene.held(COORDINATOR, "repository.deleted").await;
    drop(client);
    scene.wait("the coordinator to close the connection", async || closed_by_peer(port)).await;
    scene.free(COORDINATOR, "repository.deleted").await;
    let look = async || match proof::entries(&scene.staging_dir()) {
        left if left.is_empty() => Ok(()),
        left => Err(left.join(", ")),
    };
    wait_for("the upload to be removed", SOONER_THAN_THE_CLEAN_UP, look).await.unwrap();
}

/// Asks by hand, so that the connection is known.
async fn ask_to_delete(scene: &Scene, version: &str) -> TcpStream {
    let url = scene.environment().expect("it is recorded").nexus[0].url.clone();
    let token = scene.record().expect("it is recorded").tokens.operator;
    let host = url.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(host).await.expect("it listens");
    let head = format!(
        "DELETE /v1/repositories/{version} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("it reads");
    stream
}

/// Whether the other end of a connection from this port is closed, as the kernel tells.
fn closed_by_peer(port: u16) -> Result<(), String> {
    let remote_end = format!(":{port:04X}");
    // Connections that wait for stray packets are nobody's any more.
    let time_wait = "06";
    let table = std::fs::read_to_string("/proc/net/tcp").map_err(|error| error.to_string())?;
    let open = table.lines().find(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(2).is_some_and(|remote| remote.ends_with(&remote_end))
            && fields.get(3).is_some_and(|state| *state != time_wait)
    });
    open.map_or(Ok(()), |line| Err(line.to_owned()))
}
