//! What ended long ago leaves the database for the archive, and nothing else does.

use crate::scene::{COORDINATOR, Scene, code, refusal};
use flate2::read::GzDecoder;
use nexus_client::{
    ClientError,
    sagas::{DemoSaga, SagaQuery, SagaWaitQuery},
};
use serde_json::Value;
use std::{collections::BTreeMap, fs::File, io::Read};

/// Every line of the archive, by saga.
fn archived(scene: &Scene) -> BTreeMap<String, Value> {
    let directory = scene.directory().state_dir(COORDINATOR).join("saga-archive");
    let mut sagas = BTreeMap::new();
    for entry in directory.read_dir_utf8().expect("it is there") {
        let path = entry.expect("it can be listed").into_path();
        assert_eq!(path.extension(), Some("gz"), "{path}");
        let mut text = String::new();
        GzDecoder::new(File::open(&path).expect("it can be read"))
            .read_to_string(&mut text)
            .expect("it is whole");
        assert!(text.ends_with('\n'), "{path} ends within a line");
        for line in text.lines() {
            let saga: Value = serde_json::from_str(line).expect("a line is JSON");
            sagas.insert(saga["id"].as_str().expect("it has an id").to_owned(), saga);
        }
    }
    sagas
}

#[tokio::test]
pub(crate) async fn ended_sagas_go_to_the_archive_and_unfinished_ones_stay() {
    let scene = Scene::configured("sagas.keep_ended_hours = 0").await;
    let waiting = scene.begin_waiting(DemoSaga::default()).await;
    let failing = DemoSaga { fail_at: Some("close".to_owned()), ..DemoSaga::default() };
    let mut ended = Vec::new();
    for demo in [DemoSaga::default(), DemoSaga::default(), failing] {
        ended.push(scene.begin(demo).await);
    }
    for id in &ended {
        scene.ended(*id).await;
    }
    let report = scene.pass("saga_retention").await.report;
    assert_eq!((&report["archived"], &report["pruned"]), (&3.into(), &3.into()), "{report}");
    let sagas = archived(&scene);
    assert_eq!(sagas.len(), 3, "{sagas:?}");
    for id in &ended {
        let saga = &sagas[&id.to_string()];
        assert!(saga["events"].as_array().is_some_and(|events| events.len() > 10), "{saga}");
        let gone = scene.operator.saga(*id, &SagaWaitQuery::default()).await;
        let Err(ClientError::Problem { problem, .. }) = &gone else { panic!("it is gone: {gone:?}") };
        assert!(problem.hint.as_ref().is_some_and(|hint| hint.contains("archive")), "{problem}");
        assert_eq!(refusal(gone), code(404, "saga_not_found"));
        assert_eq!(refusal(scene.operator.saga_events(*id).await), code(404, "saga_not_found"));
    }
    let states: Vec<&str> = ended.iter().filter_map(|id| sagas[&id.to_string()]["state"].as_str()).collect();
    assert_eq!(states, ["succeeded", "succeeded", "failed"]);
    let listed = scene.operator.sagas(&SagaQuery::default()).await.expect("a list").items;
    assert_eq!(listed.iter().map(|saga| saga.id).collect::<Vec<_>>(), [waiting]);
    scene.proceed(waiting).await;
    scene.succeeds_with_every_node_once(waiting).await;
    assert_eq!(scene.pass("saga_retention").await.report["archived"], 1);
    assert_eq!(archived(&scene).len(), 4);
}

#[tokio::test]
pub(crate) async fn what_ended_just_now_stays_by_default() {
    let scene = Scene::start().await;
    let id = scene.begin(DemoSaga::default()).await;
    scene.ended(id).await;
    assert_eq!(scene.pass("saga_retention").await.report["archived"], 0);
    scene.succeeds_with_every_node_once(id).await;
    assert_eq!(archived(&scene).len(), 0);
}

#[tokio::test]
pub(crate) async fn an_archive_that_was_moved_away_is_begun_anew_without_a_restart() {
    let scene = Scene::configured("sagas.keep_ended_hours = 0").await;
    let id = scene.begin(DemoSaga::default()).await;
    scene.ended(id).await;
    let directory = scene.directory().state_dir(COORDINATOR).join("saga-archive");
    std::fs::rename(&directory, directory.with_extension("old")).expect("it was there");
    assert_eq!(scene.pass("saga_retention").await.report["pruned"], 1);
    assert!(archived(&scene).contains_key(&id.to_string()));
    // Nothing knows the id any more, so it is a new saga's.
    let again = scene.begin(DemoSaga { id: Some(id), ..DemoSaga::default() }).await;
    assert_eq!(again, id);
    scene.ended(id).await;
}
