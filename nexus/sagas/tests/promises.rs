//! Each promise of the facade, with real steno and a store in memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use ids::SagaId;
use nexus_sagas::{
    EndState, StartError, SteerError,
    fault::{CODE_CANCELLED, CODE_LOOKUP, CODE_PANICKED},
    testing::{Disk, Incident},
};
use world::{Behaviour, Five, Life, PATHS, World, needs_attention, soon, stuck, words};

fn all_effects(id: SagaId) -> Vec<String> {
    PATHS.iter().map(|path| format!("{id}/{path}")).collect()
}

fn failure(end: Option<EndState>) -> nexus_sagas::Failure {
    match end {
        Some(EndState::Failed { failure }) => failure,
        other => panic!("it was to fail: {other:?}"),
    }
}

/// Runs one saga to its end.
async fn run(world: &std::sync::Arc<World>) -> (SagaId, Option<EndState>, Disk) {
    let disk = Disk::new();
    let life = Life::begin(disk.store(), world);
    let id = life.engine.start::<Five>(&words()).await.unwrap();
    let end = life.end(id).await;
    assert_eq!(disk.saga(id).unwrap().end, end, "the end is durable");
    assert!(life.engine.executing().is_empty());
    let totals = life.claims.totals();
    assert_eq!((totals.started, totals.finished, totals.running), (1, 1, 0));
    (id, end, disk)
}

#[tokio::test]
async fn a_saga_that_succeeds_has_every_effect_and_the_output_of_its_last_node() {
    let world = World::new();
    let (id, end, _) = run(&world).await;
    assert_eq!(end, Some(EndState::Succeeded { output: serde_json::json!({"words": "hello"}) }));
    assert_eq!(world.effects(), all_effects(id));
}

#[tokio::test]
async fn a_refusal_undoes_everything_before_it() {
    let world = World::new();
    world.action("inner/two", [Behaviour::Refuse]);
    let (_, end, _) = run(&world).await;
    let failure = failure(end);
    assert_eq!((failure.node.as_str(), failure.attempts), ("inner/two", 1));
    assert_eq!(world.effects(), [""; 0]);
}

#[tokio::test]
async fn a_transient_fault_is_tried_again_as_often_as_the_policy_says() {
    let world = World::new();
    world.action("left", [Behaviour::Transient; 2]);
    world.action("last", [Behaviour::Transient; 3]);
    let (_, end, _) = run(&world).await;
    assert_eq!(failure(end).attempts, 3);
    assert_eq!((world.calls("left"), world.calls("last")), (3, 3));
    assert_eq!(world.effects(), [""; 0]);
}

#[tokio::test]
async fn a_panic_of_an_action_is_contained_and_what_it_left_is_undone() {
    let world = World::new();
    world.action("right", [Behaviour::PanicAfterEffect, Behaviour::Panic, Behaviour::Panic]);
    let (_, end, _) = run(&world).await;
    let failure = failure(end);
    assert_eq!((failure.node.as_str(), failure.cause.code.as_str()), ("right", CODE_PANICKED));
    assert_eq!(world.effects(), [""; 0]);
}

#[tokio::test]
async fn a_panic_of_an_undo_is_contained_and_the_undo_tried_again() {
    let world = World::new();
    world.action("last", [Behaviour::Refuse]);
    world.undo("first", [Behaviour::Panic]);
    let (_, end, _) = run(&world).await;
    assert_eq!(failure(end).node, "last");
    assert_eq!(world.effects(), [""; 0]);
}

#[tokio::test]
async fn an_effect_that_nobody_knows_of_is_undone_before_the_node_fails() {
    for behaviours in [
        [Behaviour::UnknownAfterEffect, Behaviour::Transient, Behaviour::Transient],
        [Behaviour::UnknownAfterEffect, Behaviour::UnknownAfterEffect, Behaviour::Refuse],
    ] {
        let world = World::new();
        world.action("inner/one", behaviours);
        let (_, end, _) = run(&world).await;
        assert_eq!(failure(end).node, "inner/one");
        assert_eq!(world.effects(), [""; 0], "{behaviours:?}");
    }
}

#[tokio::test]
async fn a_lookup_of_a_wrong_name_is_an_error_of_the_node() {
    let world = World::new();
    world.action("inner/two", [Behaviour::WrongLookup]);
    let (_, end, _) = run(&world).await;
    assert_eq!(failure(end).cause.code, CODE_LOOKUP);
}

#[tokio::test]
async fn an_undo_that_fails_three_times_succeeds_at_the_fourth() {
    let world = World::new();
    world.action("last", [Behaviour::Refuse]);
    world.undo("left", [Behaviour::Transient; 3]);
    let (_, end, disk) = run(&world).await;
    let failure = failure(end);
    assert_eq!(failure.node, "last");
    assert_eq!(world.effects(), [""; 0]);
    assert!(disk.ids().iter().all(|&id| disk.saga(id).unwrap().attention.is_none()));
}

#[tokio::test]
async fn an_undo_that_does_not_succeed_waits_for_an_operator_who_tries_again() {
    let (world, disk) = (World::new(), Disk::new());
    let (life, id) = stuck(&world, &disk).await;
    let attention = disk.saga(id).unwrap().attention.unwrap();
    assert_eq!((attention.failure.node.as_str(), attention.failure.attempts), ("left", 4));
    life.engine.retry(id).unwrap();
    assert_eq!(failure(life.end(id).await).node, "last");
    assert_eq!(world.effects(), [""; 0]);
    assert_eq!(disk.saga(id).unwrap().attention, None);
    assert_eq!(life.engine.retry(id), Err(SteerError::NotHere { id }));
}

#[tokio::test]
async fn an_abandoned_saga_ends_and_says_what_was_not_undone() {
    let (world, disk) = (World::new(), Disk::new());
    let (life, id) = stuck(&world, &disk).await;
    life.engine.abandon(id, "the sled is gone").await.unwrap();
    let end = life.end(id).await;
    let Some(EndState::Abandoned { failure, reason, not_undone }) = end else { panic!("{end:?}") };
    assert_eq!((failure.node.as_str(), reason.as_str()), ("last", "the sled is gone"));
    let left: Vec<_> = not_undone.iter().map(|path| format!("{id}/{path}")).collect();
    assert_eq!(world.effects(), left);
    assert!(not_undone.contains(&"first".to_owned()) && not_undone.contains(&"left".to_owned()));
}

#[tokio::test]
async fn what_needs_attention_needs_it_after_a_restart_too() {
    let (world, disk) = (World::new(), Disk::new());
    let (life, id) = stuck(&world, &disk).await;
    soon("the halt", life.engine.halt()).await;
    world.undo("left", [Behaviour::Transient; 4]);
    let life = Life::begin(disk.store(), &world);
    assert_eq!(life.recover().await, 1);
    needs_attention(&life, id).await;
    life.engine.retry(id).unwrap();
    failure(life.end(id).await);
    assert_eq!(world.effects(), [""; 0]);
}

#[tokio::test]
async fn a_cancelled_saga_begins_no_further_node_and_ends_the_one_that_has_begun() {
    let (world, disk) = (World::new(), Disk::new());
    world.action("first", [Behaviour::Wait]);
    let life = Life::begin(disk.store(), &world);
    let id = life.engine.start::<Five>(&words()).await.unwrap();
    soon("its first node", world.waiting.subscribe().wait_for(|&waiting| waiting == 1)).await.unwrap();
    life.engine.cancel(id).await.unwrap();
    world.go_on.notify_one();
    let failure = failure(life.end(id).await);
    assert_eq!(failure.cause.code, CODE_CANCELLED);
    assert_eq!((world.calls("first"), world.calls("left"), world.calls("right")), (1, 0, 0));
    assert_eq!(world.effects(), [""; 0]);
}

#[tokio::test]
async fn a_node_that_an_earlier_life_has_begun_is_undone_once_its_saga_is_cancelled() {
    let (world, disk) = (World::new(), Disk::new());
    world.action("first", [Behaviour::Wait]);
    let life = Life::begin(disk.store(), &world);
    let id = life.engine.start::<Five>(&words()).await.unwrap();
    soon("its first node", world.waiting.subscribe().wait_for(|&waiting| waiting == 1)).await.unwrap();
    life.engine.cancel(id).await.unwrap();
    soon("the halt", life.engine.halt()).await;
    assert_eq!(world.effects().len(), 1, "the effect of the life that has died");
    let life = Life::begin(disk.store(), &world);
    assert_eq!(life.recover().await, 1);
    life.idle().await;
    let end = disk.saga(id).unwrap().end;
    let failure = failure(end);
    assert_eq!((failure.cause.code.as_str(), failure.node.as_str()), (CODE_CANCELLED, "first"));
    assert_eq!((world.calls("first"), world.calls("left")), (1, 0), "it does not run again");
    assert_eq!(world.effects(), [""; 0]);
}

#[tokio::test]
async fn a_second_start_of_one_saga_is_refused_and_harms_nobody() {
    let (world, disk) = (World::new(), Disk::new());
    world.action("first", [Behaviour::Wait]);
    let life = Life::begin(disk.store(), &world);
    let (id, params) = (SagaId::generate(), serde_json::to_value(words()).unwrap());
    life.engine.start_as(id, "five", params.clone()).await.unwrap();
    let again = life.engine.start_as(id, "five", params.clone()).await;
    assert_eq!(again, Err(StartError::Exists { id }));
    soon("its first node", world.waiting.subscribe().wait_for(|&waiting| waiting == 1)).await.unwrap();
    world.go_on.notify_one();
    assert!(matches!(life.end(id).await, Some(EndState::Succeeded { .. })));
    let again = life.engine.start_as(id, "five", params).await;
    assert_eq!(again, Err(StartError::Exists { id }), "an ended one is not started anew either");
    assert_eq!(world.calls("first"), 1);
}

#[tokio::test]
async fn a_saga_whose_creation_was_not_answered_is_started_once_or_given_up() {
    for (incidents, created) in [
        ([Incident::UnknownDone, Incident::UnknownDone], true),
        ([Incident::UnknownNotDone, Incident::NotDone], true),
    ] {
        let (world, disk) = (World::new(), Disk::new());
        let life = Life::begin(disk.scripted((1..).zip(incidents)), &world);
        let id = life.engine.start::<Five>(&words()).await.unwrap();
        let end = life.end(id).await;
        assert_eq!(matches!(end, Some(EndState::Succeeded { .. })), created);
        assert_eq!((life.claims.totals().finished, life.claims.totals().given_up), (1, 0));
    }
}

#[tokio::test]
async fn a_creation_that_stays_in_doubt_is_given_up_and_recovered_if_it_happened() {
    let (world, disk) = (World::new(), Disk::new());
    let life = Life::begin(disk.scripted((1..=5).map(|write| (write, Incident::UnknownDone))), &world);
    let refused = life.engine.start::<Five>(&words()).await;
    let Err(StartError::Unknown { id, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((life.claims.totals().given_up, world.calls("first")), (1, 0));
    assert_eq!(life.recover().await, 1);
    let _ = life.end(id).await;
    assert_eq!(world.effects(), all_effects(id));
    assert_eq!(world.calls("first"), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_saga_half_started() {
    let (world, disk) = (World::new(), Disk::new());
    let life = Life::begin(disk.scripted([(1, Incident::NotDone)]), &world);
    let (id, params) = (SagaId::generate(), serde_json::to_value(words()).unwrap());
    {
        let start = life.engine.start_as(id, "five", params);
        tokio::pin!(start);
        tokio::select! {
            biased;
            _ = &mut start => panic!("the store has refused it at first"),
            () = tokio::task::yield_now() => {}
        }
    }
    soon("the end", async {
        while disk.saga(id).is_none_or(|saga| saga.end.is_none()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(world.effects(), all_effects(id));
}

#[tokio::test]
async fn a_fenced_executor_stops_and_writes_nothing_more() {
    let (world, disk) = (World::new(), Disk::new());
    world.action("left", [Behaviour::Wait]);
    let life = Life::begin(disk.store(), &world);
    let id = life.engine.start::<Five>(&words()).await.unwrap();
    soon("the node", world.waiting.subscribe().wait_for(|&waiting| waiting == 1)).await.unwrap();
    disk.adopt(id).unwrap();
    world.go_on.notify_one();
    assert_eq!(life.end(id).await, None);
    assert_eq!((life.claims.totals().fenced, life.claims.totals().running), (1, 0));
    assert_eq!(world.calls("inner/one"), 0);
    let events = disk.saga(id).unwrap().events.len();
    assert_eq!(life.recover().await, 1, "it came back to us");
    let _ = life.end(id).await;
    assert!(disk.saga(id).unwrap().events.len() > events);
    assert_eq!(world.effects(), all_effects(id));
    assert_eq!(*world.overlaps.lock().unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_stop_lets_what_has_happened_become_durable() {
    let (world, disk) = (World::new(), Disk::new());
    // The write that says that the first node has succeeded.
    let store = disk.scripted([(3, Incident::Hold)]);
    let life = Life::begin(store.clone(), &world);
    let id = life.engine.start::<Five>(&words()).await.unwrap();
    soon("the write", async {
        while store.writes() < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let engine = life.engine.clone();
    let halt = tokio::spawn(async move { engine.halt().await });
    tokio::task::yield_now().await;
    assert!(!halt.is_finished(), "it waits for the write");
    store.release();
    soon("the halt", halt).await.unwrap();
    let life = Life::begin(disk.store(), &world);
    assert_eq!(life.recover().await, 1);
    assert!(matches!(life.end(id).await, Some(EndState::Succeeded { .. })));
    assert_eq!(world.calls("first"), 1, "it does not run again");
}

#[tokio::test]
async fn a_log_that_says_something_else_already_is_a_defect_and_stops_its_executor() {
    let (world, disk) = (World::new(), Disk::new());
    world.action("first", [Behaviour::Wait]);
    let life = Life::begin(disk.store(), &world);
    let id = life.engine.start::<Five>(&words()).await.unwrap();
    soon("its first node", world.waiting.subscribe().wait_for(|&waiting| waiting == 1)).await.unwrap();
    disk.tamper(id, |saga| {
        let ended: Vec<_> =
            saga.events.iter().filter(|event| event.event == "succeeded").map(|event| event.node).collect();
        let begun = saga.events.iter().find(|event| !ended.contains(&event.node)).cloned().unwrap();
        saga.events.push(nexus_sagas::NodeEvent { event: "succeeded".to_owned(), ..begun });
    });
    world.go_on.notify_one();
    assert_eq!(life.end(id).await, None);
    let totals = life.claims.totals();
    assert_eq!(
        (totals.bad_state, totals.fenced, totals.running),
        (1, 0, 1),
        "it stays claimed: nobody resumes it here"
    );
    assert_eq!(world.calls("left"), 0);
}

#[tokio::test]
async fn a_store_that_does_not_answer_shows_in_the_status_which_answers_at_once() {
    let (world, disk) = (World::new(), Disk::new());
    let refusals = (5..400).map(|write| (write, Incident::NotDone));
    let life = Life::begin(disk.scripted(refusals), &world);
    let id = life.engine.start::<Five>(&words()).await.unwrap();
    soon("the blockage", async {
        while life.engine.status(id).is_none_or(|status| status.blocked.is_none()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon("the halt", life.engine.halt()).await;
    assert!(disk.saga(id).unwrap().end.is_none());
}

#[tokio::test]
async fn a_store_that_hangs_shows_in_the_status_while_the_first_attempt_is_still_under_way() {
    let (world, disk) = (World::new(), Disk::new());
    let life = Life::begin(disk.scripted([(5, Incident::Stall)]), &world);
    let id = life.engine.start::<Five>(&words()).await.unwrap();
    let blocked = soon("the blockage", async {
        loop {
            if let Some(blocked) = life.engine.status(id).and_then(|status| status.blocked) {
                break blocked;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(blocked.await.words, "no answer for more than 1 s");
    soon("the halt", life.engine.halt()).await;
}

#[tokio::test]
async fn a_row_of_another_shape_of_the_same_version_is_refused() {
    let (world, disk) = (World::new(), Disk::new());
    world.action("first", [Behaviour::Wait]);
    let life = Life::begin(disk.store(), &world);
    let id = life.engine.start::<Five>(&words()).await.unwrap();
    life.engine.halt().await;
    disk.tamper(id, |saga| saga.row.digest = "0".repeat(64));
    let life = Life::begin(disk.store(), &world);
    for (adopted, stored) in life.take().await {
        let refused = life.engine.resume(adopted, stored).await;
        assert!(matches!(refused, Err(nexus_sagas::ResumeError::Digest { .. })), "{refused:?}");
    }
    assert_eq!((life.claims.totals().failures, life.claims.totals().resuming), (1, 0));
}

#[tokio::test]
async fn what_an_earlier_life_has_left_is_undone_though_this_one_is_refused() {
    let (world, disk) = (World::new(), Disk::new());
    world.action("first", [Behaviour::Wait, Behaviour::Refuse]);
    let life = Life::begin(disk.store(), &world);
    let id = life.engine.start::<Five>(&words()).await.unwrap();
    soon("its first node", world.waiting.subscribe().wait_for(|&waiting| waiting == 1)).await.unwrap();
    soon("the halt", life.engine.halt()).await;
    assert_eq!(world.effects().len(), 1, "the effect of the life that has died");
    let life = Life::begin(disk.store(), &world);
    assert_eq!(life.recover().await, 1);
    assert_eq!(failure(life.end(id).await).node, "first");
    assert_eq!(world.effects(), [""; 0]);
}

#[tokio::test]
async fn a_node_that_is_failing_never_runs_again_though_its_coordinator_dies_while_it_is_undone() {
    let (world, disk) = (World::new(), Disk::new());
    world.action("first", [Behaviour::UnknownAfterEffect, Behaviour::Refuse]);
    world.undo("first", [Behaviour::Wait]);
    let life = Life::begin(disk.store(), &world);
    let id = life.engine.start::<Five>(&words()).await.unwrap();
    soon("its undo", world.waiting.subscribe().wait_for(|&waiting| waiting == 1)).await.unwrap();
    soon("the halt", life.engine.halt()).await;
    let calls = world.calls("first");
    let life = Life::begin(disk.store(), &world);
    assert_eq!(life.recover().await, 1);
    assert_eq!(
        failure(life.end(id).await).node,
        "first",
        "as the first life has said, though it would succeed now"
    );
    assert_eq!(world.calls("first"), calls);
    assert_eq!(world.effects(), [""; 0]);
}

#[tokio::test]
async fn an_undo_sees_the_output_of_its_own_node_only_if_there_is_one() {
    let world = World::new();
    world.action("last", [Behaviour::UnknownAfterEffect, Behaviour::Refuse]);
    let (_, end, _) = run(&world).await;
    assert_eq!(failure(end).node, "last");
    let seen = world.own_outputs.lock().unwrap().clone();
    assert_eq!(seen.get("first"), Some(&true));
    assert_eq!(seen.get("inner/two"), Some(&true));
    assert_eq!(seen.get("last"), Some(&false), "undone because nobody knew its effect");
}

#[tokio::test]
async fn a_saga_that_comes_back_again_and_again_is_resumed_each_time() {
    let (world, disk) = (World::new(), Disk::new());
    world.action("left", [Behaviour::Wait; 7]);
    let life = Life::begin(disk.store(), &world);
    let id = life.engine.start::<Five>(&words()).await.unwrap();
    for waiting in 1..=6 {
        soon("the node", world.waiting.subscribe().wait_for(|&seen| seen == waiting)).await.unwrap();
        disk.adopt(id).unwrap();
        world.go_on.notify_one();
        assert_eq!(life.end(id).await, None, "fenced");
        assert_eq!(life.recover().await, 1);
    }
    world.go_on.notify_one();
    assert!(matches!(life.end(id).await, Some(EndState::Succeeded { .. })));
    assert_eq!((life.claims.totals().fenced, life.claims.totals().finished), (6, 1));
}

#[tokio::test]
async fn an_abandoned_saga_stays_abandoned_after_a_restart() {
    let (world, disk) = (World::new(), Disk::new());
    let (life, id) = stuck(&world, &disk).await;
    life.engine.abandon(id, "the sled is gone").await.unwrap();
    // At once: the executor has not gone on since.
    soon("the halt", life.engine.halt()).await;
    assert_eq!(disk.saga(id).unwrap().end, None);
    let life = Life::begin(disk.store(), &world);
    assert_eq!(life.recover().await, 1);
    let end = life.end(id).await;
    let Some(EndState::Abandoned { not_undone, .. }) = end else { panic!("{end:?}") };
    let left: Vec<_> = not_undone.iter().map(|path| format!("{id}/{path}")).collect();
    assert_eq!(world.effects(), left);
}
