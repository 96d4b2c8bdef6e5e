//! Sagas in `/metrics`.

use crate::scene::Scene;
use nexus_client::sagas::{DemoSaga, SagaState};
use std::collections::BTreeMap;

/// Every `bobsled_sagas_*` by its short name.
async fn read(scene: &Scene) -> BTreeMap<String, f64> {
    let token = scene.record().expect("the record is there").tokens.operator;
    let url = format!("{}/metrics", scene.operator.base_url());
    let answer = reqwest::Client::new().get(url).bearer_auth(token).send().await.expect("it answers");
    let text = answer.text().await.expect("it is text");
    let sample = |line: &str| {
        let (name, value) = line.strip_prefix("bobsled_sagas_")?.split_once(' ')?;
        Some((name.trim_end_matches("_total").to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(sample).collect()
}

#[tokio::test]
pub(crate) async fn metrics_of_sagas_are_there_and_add_up_in_every_life() {
    let scene = Scene::start().await;
    let ended = scene.begin(DemoSaga::default()).await;
    scene.ended(ended).await;
    let waiting = scene.begin_waiting(DemoSaga::default()).await;
    let stuck = DemoSaga {
        fail_at: Some("join".to_owned()),
        stuck_at: Some("left".to_owned()),
        ..DemoSaga::default()
    };
    let stuck = scene.begin(stuck).await;
    let mut lives = [("started", 3.0, 1.0), ("recovered", 2.0, 0.0)].into_iter();
    while let Some((begun, count, finished)) = lives.next() {
        scene.in_state(stuck, SagaState::NeedsAttention).await;
        scene.waits_for(waiting, "the signal proceed").await;
        let metrics = read(&scene).await;
        let wanted = BTreeMap::from([
            ("started", 0.0),
            ("recovered", 0.0),
            ("finished", finished),
            ("given_up", 0.0),
            ("fenced", 0.0),
            ("lost", 0.0),
            ("resume_failures", 0.0),
            ("running", 2.0),
            ("needing_attention", 1.0),
            ("waiting_for_database", 0.0),
            ("unreadable", 0.0),
        ]);
        let mut wanted: BTreeMap<String, f64> =
            wanted.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        wanted.insert(begun.to_owned(), count);
        assert_eq!(metrics, wanted);
        if lives.len() > 0 {
            scene.kill_and_restart().await;
        }
    }
}
