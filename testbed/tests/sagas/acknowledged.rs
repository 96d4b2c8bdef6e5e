//! What 202 promises: the saga is durable, it ends, and it is one saga however often it is asked for.

use crate::scene::{COORDINATOR, Scene, code, refusal};
use ids::SagaId;
use nexus_client::sagas::{DemoSaga, SagaQuery, SagaState};
use reqwest::StatusCode;
use testbed::{DemoEnd, KillScope};

#[tokio::test]
pub(crate) async fn what_was_acknowledged_ends_although_the_coordinator_is_killed_at_once() {
    let scene = Scene::start().await;
    let begin = (0..24).map(|_| scene.begin(DemoSaga::default()));
    let ids: Vec<SagaId> = futures::future::join_all(begin).await;
    scene.kill(COORDINATOR, KillScope::WholeSled).await.expect("it was running");
    scene.restart(COORDINATOR).await.expect("it starts");
    for id in ids {
        let saga = scene.ended(id).await;
        assert_eq!(saga.saga.state, SagaState::Succeeded, "{saga:?}");
        let effects = scene.effects(id);
        assert_eq!(effects.findings(DemoEnd::Succeeded), Vec::<String>::new(), "{effects}");
    }
}

#[tokio::test]
pub(crate) async fn the_same_id_again_is_the_same_saga_and_with_other_parameters_a_conflict() {
    let scene = Scene::start().await;
    let url = format!("{}/v1/sagas/demo", scene.operator.base_url());
    let token = scene.record().expect("the record is there").tokens.operator;
    let demo = DemoSaga { id: Some(SagaId::generate()), ..DemoSaga::default() };
    let post = async |demo: &DemoSaga| {
        let answer = reqwest::Client::new().post(&url).bearer_auth(&token).json(demo).send().await;
        let answer = answer.expect("it answers");
        let location = answer.headers().get("location").map(|it| it.to_str().expect("text").to_owned());
        (answer.status(), location)
    };
    let id = demo.id.expect("it was given one");
    let location = Some(format!("/v1/sagas/{id}"));
    assert_eq!(post(&demo).await, (StatusCode::ACCEPTED, location.clone()));
    assert_eq!(post(&demo).await, (StatusCode::OK, location.clone()), "while it runs, or after");
    scene.succeeds_with_every_node_once(id).await;
    assert_eq!(post(&demo).await, (StatusCode::OK, location.clone()), "after its end");
    scene.restart(COORDINATOR).await.expect("it starts");
    assert_eq!(post(&demo).await, (StatusCode::OK, location), "in another life");
    let other = DemoSaga { sleep_ms: 1, ..demo.clone() };
    assert_eq!(refusal(scene.operator.saga_demo(&other).await), code(409, "saga_conflict"));
    scene.succeeds_with_every_node_once(id).await;
    assert_eq!(scene.operator.sagas(&SagaQuery::default()).await.expect("a list").items.len(), 1);
}

#[tokio::test]
pub(crate) async fn many_who_ask_for_one_id_at_the_same_time_get_one_saga() {
    let scene = Scene::start().await;
    let demo = DemoSaga { id: Some(SagaId::generate()), ..DemoSaga::default() };
    let answers = futures::future::join_all((0..16).map(|_| scene.operator.saga_demo(&demo))).await;
    for answer in answers {
        assert_eq!(Some(answer.expect("it is accepted").id), demo.id);
    }
    scene.succeeds_with_every_node_once(demo.id.expect("it was given one")).await;
    let totals = scene.pass("saga_recovery").await.report["totals"].clone();
    assert_eq!(totals["finished"], 1, "{totals}");
}

#[tokio::test]
pub(crate) async fn what_cannot_be_planned_is_refused_and_leaves_nothing() {
    let scene = Scene::start().await;
    let node = |name: &str| Some(name.to_owned());
    for demo in [
        DemoSaga { fail_at: node("nowhere"), ..DemoSaga::default() },
        DemoSaga { stuck_at: node("inner/left"), ..DemoSaga::default() },
        DemoSaga { sleep_ms: 86_400_001, ..DemoSaga::default() },
    ] {
        assert_eq!(refusal(scene.operator.saga_demo(&demo).await), code(400, "saga_refused"), "{demo:?}");
    }
    assert_eq!(scene.operator.sagas(&SagaQuery::default()).await.expect("a list").items, []);
}
