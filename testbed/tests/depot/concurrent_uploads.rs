//! Two uploads at the same time, of different releases and of the same one.

use crate::{
    proof,
    scene::{COORDINATOR, LARGE, Scene},
};
use nexus_client::{UploadOptions, releases::UploadStatus};

#[tokio::test]
pub(crate) async fn two_releases_at_the_same_time_both_arrive() {
    let scene = Scene::start(2).await;
    let first = scene.release("1.0.0", &[("shared", LARGE), ("own-1", 50_000)]);
    let second = scene.release("2.0.0", &[("shared", LARGE), ("own-2", 60_000)]);
    let start = scene.generation().await;
    // Both are held at the last moment before the record, and let go together.
    scene.hold(COORDINATOR, "intake.durable", 0).await;
    let uploads = [&first, &second].map(|release| scene.begin_upload(release, UploadOptions::default()));
    two_are_held(&scene).await;
    scene.free(COORDINATOR, "intake.durable").await;
    for upload in uploads {
        assert_eq!(upload.await.unwrap().unwrap().status, UploadStatus::Inserted);
    }
    assert_eq!(scene.generation().await.0, start.0 + 2);
    proof::everywhere(&scene, &[&first, &second]).await;
}

#[tokio::test]
pub(crate) async fn the_same_release_twice_at_the_same_time_is_one_release() {
    let scene = Scene::start(2).await;
    let release = scene.release("1.0.0", &[("a", LARGE), ("b", 50_000)]);
    let start = scene.generation().await;
    scene.hold(COORDINATOR, "intake.durable", 0).await;
    let uploads = [(); 2].map(|()| scene.begin_upload(&release, UploadOptions::default()));
    two_are_held(&scene).await;
    scene.free(COORDINATOR, "intake.durable").await;
    let mut statuses = Vec::new();
    for upload in uploads {
        statuses.push(upload.await.unwrap().unwrap().status);
    }
    let inserted = statuses.iter().filter(|status| **status == UploadStatus::Inserted).count();
    assert_eq!(inserted, 1, "{statuses:?}");
    assert_eq!(scene.operator().repositories().await.unwrap().len(), 1);
    assert_eq!(scene.generation().await.0, start.0 + 1);
    proof::everywhere(&scene, &[&release]).await;
}

async fn two_are_held(scene: &Scene) {
    let faults = scene.faults(COORDINATOR);
    scene
        .wait("both uploads to be about to be recorded", async || {
            let points = faults.list().await.map_err(|error| error.to_string())?;
            let held =
                points.iter().find(|point| point.point == "intake.durable").map_or(0, |point| point.held);
            if held == 2 { Ok(()) } else { Err(format!("{held} are")) }
        })
        .await;
}
