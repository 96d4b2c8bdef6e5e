//! Sagas that wait: for a signal, for a time; and whoever is killed or stopped meanwhile.

use crate::scene::{COORDINATOR, Scene};
use nexus_client::sagas::{DemoSaga, SagaNodeState, SagaState};
use std::time::{Duration, Instant};
use testbed::{DEMO_STAGES, KillScope};

/// Nodes that come before the one that waits.
fn nodes_before_waiting() -> usize {
    DEMO_STAGES.iter().take_while(|stage| **stage != ["wait"]).map(|stage| stage.len()).sum()
}

#[tokio::test]
pub(crate) async fn a_signal_while_it_waits_lets_it_go_on() {
    let scene = Scene::start().await;
    let id = scene.begin_waiting(DemoSaga::default()).await;
    let saga = scene.saga(id).await;
    assert!(saga.saga.executing, "{saga:?}");
    let succeeded = saga.nodes.iter().filter(|node| node.state == SagaNodeState::Succeeded).count();
    assert_eq!(succeeded, nodes_before_waiting(), "{saga:?}");
    let waiting = saga.nodes.iter().find(|node| node.node == "wait").expect("it is a node");
    assert_eq!(waiting.state, SagaNodeState::Running);
    assert_eq!(waiting.waits_for.as_deref(), Some("the signal proceed"));
    assert_eq!(scene.effects(id).count(), nodes_before_waiting());
    scene.proceed(id).await;
    scene.succeeds_with_every_node_once(id).await;
}

#[tokio::test]
pub(crate) async fn a_signal_that_came_before_is_kept_also_over_a_restart() {
    let scene = Scene::start().await;
    let id = scene.begin(DemoSaga { wait_for_signal: true, sleep_ms: 3_000, ..DemoSaga::default() }).await;
    scene.proceed(id).await;
    scene.proceed(id).await;
    // Asleep, with the signal before it.
    scene.waits_for(id, "(wait)").await;
    scene.kill_and_restart().await;
    scene.succeeds_with_every_node_once(id).await;
}

#[tokio::test]
pub(crate) async fn killed_while_a_saga_waits_its_next_life_goes_on_where_it_was() {
    let scene = Scene::start().await;
    let id = scene.begin_waiting(DemoSaga::default()).await;
    for _ in 0..3 {
        scene.kill_and_restart().await;
        let saga = scene.waits_for(id, "the signal proceed").await;
        assert!(saga.saga.executing, "{saga:?}");
    }
    assert_eq!(scene.effects(id).count(), nodes_before_waiting(), "nothing ran again: {}", scene.effects(id));
    scene.proceed(id).await;
    scene.succeeds_with_every_node_once(id).await;
    let effects = scene.effects(id);
    assert!(effects.of("done")[0].epoch > effects.of("begin")[0].epoch, "another life did it: {effects}");
}

#[tokio::test]
pub(crate) async fn a_timer_goes_on_while_nobody_is_there_and_starts_no_second_time() {
    let scene = Scene::start().await;
    let sleep = Duration::from_secs(6);
    let begun = Instant::now();
    let id = scene.begin(DemoSaga { sleep_ms: 6_000, ..DemoSaga::default() }).await;
    scene.waits_for(id, "(wait)").await;
    scene.kill(COORDINATOR, KillScope::WholeSled).await.expect("it was running");
    // Nobody is there for half of it; that the timer began anew would take it to one and a half.
    tokio::time::sleep(sleep / 2).await;
    scene.restart(COORDINATOR).await.expect("it starts");
    scene.succeeds_with_every_node_once(id).await;
    let took = begun.elapsed();
    assert!(took >= sleep, "it slept {took:?} of {sleep:?}");
    assert!(took < sleep + sleep / 3, "it began anew: {took:?} instead of {sleep:?}");
}

#[tokio::test]
pub(crate) async fn asked_to_stop_a_coordinator_waits_for_no_saga_and_its_next_life_goes_on() {
    let scene = Scene::start().await;
    let signalled = scene.begin_waiting(DemoSaga::default()).await;
    let asleep = scene.begin(DemoSaga { sleep_ms: 3_600_000, ..DemoSaga::default() }).await;
    scene.waits_for(asleep, "(wait)").await;
    let asked = Instant::now();
    assert!(scene.stop(COORDINATOR).await.expect("it stops in time"));
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    scene.restart(COORDINATOR).await.expect("it starts");
    scene.waits_for(signalled, "the signal proceed").await;
    scene.waits_for(asleep, "(wait)").await;
    scene.proceed(signalled).await;
    scene.succeeds_with_every_node_once(signalled).await;
    assert_eq!(scene.saga(asleep).await.saga.state, SagaState::Waiting);
}
