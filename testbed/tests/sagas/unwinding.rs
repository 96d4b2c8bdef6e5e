//! Sagas that fail, are cancelled, or whose undos do not succeed.

use crate::scene::Scene;
use nexus_client::{
    issues::IssueCode,
    sagas::{DemoSaga, SagaDetail, SagaNodeState, SagaState},
};
use std::collections::BTreeSet;
use testbed::DemoEnd;

fn at(node: &str) -> Option<String> {
    Some(node.to_owned())
}

/// Fails at `join`, after which the undo of `left` does not succeed.
fn stuck() -> DemoSaga {
    DemoSaga { fail_at: at("join"), stuck_at: at("left"), ..DemoSaga::default() }
}

#[tokio::test]
pub(crate) async fn a_node_that_fails_undoes_all_that_was_done_and_begins_nothing_after_it() {
    let scene = Scene::start().await;
    for node in ["begin", "middle", "east", "close", "green", "done"] {
        let id = scene.begin(DemoSaga { fail_at: at(node), ..DemoSaga::default() }).await;
        let saga = scene.fails_with_everything_undone_once(id, DemoEnd::FailedAt(node)).await;
        let failure = saga.saga.failure.as_ref().expect("it says why");
        assert!(failure.node.ends_with(node) && failure.code == "demo_failure", "{failure:?}");
        assert_eq!(failure.attempts, 1);
        let of = |state| saga.nodes.iter().filter(|node| node.state == state).count();
        assert_eq!(of(SagaNodeState::Failed), 1, "{saga:?}");
        assert_eq!(of(SagaNodeState::Succeeded), 0, "{saga:?}");
    }
}

#[tokio::test]
pub(crate) async fn cancelled_while_it_waits_a_saga_fails_with_everything_undone() {
    let scene = Scene::start().await;
    let id = scene.begin_waiting(DemoSaga::default()).await;
    let done = scene.effects(id).nodes().count();
    scene.operator.saga_cancel(id).await.expect("it is taken");
    let saga = scene.fails_with_everything_undone_once(id, DemoEnd::Cancelled).await;
    assert!(saga.saga.cancel_requested, "{saga:?}");
    let effects = scene.effects(id);
    assert!(effects.nodes().count() >= done, "{effects}");
    assert!(effects.nodes().all(|node| effects.of(node).last().is_some_and(|it| it.is_undo)), "{effects}");
}

#[tokio::test]
pub(crate) async fn a_cancellation_is_remembered_by_the_next_life() {
    let scene = Scene::start().await;
    let id = scene.begin_waiting(DemoSaga { stuck_at: at("gather"), ..DemoSaga::default() }).await;
    scene.operator.saga_cancel(id).await.expect("it is taken");
    scene.in_state(id, SagaState::NeedsAttention).await;
    scene.kill_and_restart().await;
    let saga = scene.in_state(id, SagaState::NeedsAttention).await;
    assert!(saga.saga.cancel_requested, "{saga:?}");
    scene.operator.saga_retry(id).await.expect("it is taken");
    scene.fails_with_everything_undone_once(id, DemoEnd::Cancelled).await;
}

async fn needs_attention(scene: &Scene, demo: DemoSaga) -> SagaDetail {
    let id = scene.begin(demo).await;
    let saga = scene.in_state(id, SagaState::NeedsAttention).await;
    let [attention] = &saga.saga.attention[..] else { panic!("one undo: {saga:?}") };
    assert_eq!(attention.failure.node, "left");
    assert_eq!((attention.failure.code.as_str(), attention.failure.attempts), ("demo_stuck", 3));
    assert_eq!(saga.saga.failure.as_ref().expect("it says why it unwinds").node, "join");
    saga
}

#[tokio::test]
pub(crate) async fn an_undo_that_does_not_succeed_is_an_issue_until_an_operator_retries_it() {
    let scene = Scene::start().await;
    let saga = needs_attention(&scene, stuck()).await.saga;
    let issues = scene.issues(IssueCode::SagaNeedsAttention).await;
    let [issue] = &issues[..] else { panic!("one issue: {issues:?}") };
    assert_eq!(issue.subject, saga.id.to_string());
    assert!(issue.hint.as_ref().is_some_and(|hint| hint.contains("op retry")), "{issue:?}");
    assert!(saga.waits_for.as_ref().is_some_and(|it| it.contains("an operator")), "{saga:?}");
    scene.operator.saga_retry(saga.id).await.expect("it is taken");
    scene.fails_with_everything_undone_once(saga.id, DemoEnd::FailedAt("join")).await;
    assert_eq!(scene.issues(IssueCode::SagaNeedsAttention).await, []);
}

#[tokio::test]
pub(crate) async fn killed_while_it_needs_attention_a_saga_needs_it_again() {
    let scene = Scene::start().await;
    let id = needs_attention(&scene, stuck()).await.saga.id;
    for _ in 0..2 {
        scene.kill_and_restart().await;
        scene.in_state(id, SagaState::NeedsAttention).await;
        scene
            .look("the issue", async || match scene.issues(IssueCode::SagaNeedsAttention).await {
                issues if issues.len() == 1 => Ok(()),
                issues => Err(format!("{issues:?}")),
            })
            .await;
    }
    scene.operator.saga_retry(id).await.expect("it is taken");
    scene.fails_with_everything_undone_once(id, DemoEnd::FailedAt("join")).await;
}

#[tokio::test]
pub(crate) async fn a_saga_that_is_given_up_names_what_it_may_have_left() {
    let scene = Scene::start().await;
    let id = needs_attention(&scene, stuck()).await.saga.id;
    scene.abandon(id, "the left one was dismantled").await.expect("it is taken");
    for life in ["this", "the next"] {
        let detail = scene.ended(id).await;
        let saga = detail.saga;
        assert_eq!(saga.state, SagaState::Abandoned, "in {life} life: {saga:?}");
        assert_eq!(saga.abandoned_because.as_deref(), Some("the left one was dismantled"));
        let left: BTreeSet<_> = saga.not_undone.iter().map(String::as_str).collect();
        let effects = scene.effects(id);
        let not_undone = effects.nodes().filter(|node| !effects.of(node).last().is_some_and(|it| it.is_undo));
        assert_eq!(left, not_undone.collect(), "what it says is what is there: {effects}");
        assert!(left.contains("left") && left.contains("begin"), "{left:?}");
        let skipped = detail.nodes.iter().filter(|node| node.state == SagaNodeState::Skipped);
        assert_eq!(left, skipped.map(|node| node.node.as_str()).collect());
        assert_eq!(saga.failure.expect("it says why").node, "join");
        assert_eq!(scene.issues(IssueCode::SagaNeedsAttention).await, []);
        scene.kill_and_restart().await;
    }
}
