//! What every [`SagaStore`] must do, as one test: for the store in memory and for each one over a database.

use crate::{
    fault::{Cause, Failure},
    ports::{Created, SagaStore, Written},
    types::{Attention, EndState, Mark, NewSaga, NodeEvent, StoredSaga},
};
use ids::{AdoptionEpoch, SagaId};
use jiff::Timestamp;
use nexus_saga_recovery::SagaKey;
use serde_json::json;
use uuid::Uuid;

const EVENTS: [&str; 6] = ["started", "succeeded", "failed", "undo_started", "undo_finished", "undo_failed"];

/// Goes through the life of one saga. `adopt` has another coordinator adopt it: its epoch grows, and the new key is
/// answered.
///
/// # Panics
/// The store breaks its contract, or has a fault.
pub async fn keeps_the_contract(store: &dyn SagaStore, adopt: impl AsyncFnOnce(SagaId) -> SagaKey) {
    let row = row();
    let key = row.key;
    creation_is_idempotent(store, &row).await;
    the_log_is_idempotent_and_comes_back_in_order(store, key).await;
    notes_come_back(store, key).await;
    the_first_signal_and_timer_stay(store, key.id).await;
    let before = load(store, key.id).await;
    let adopted = adopt(key.id).await;
    assert!(adopted.epoch > key.epoch, "an adoption raises the epoch");
    nobody_writes_under_an_earlier_adoption(store, key).await;
    let mut expected = before;
    expected.row.key = adopted;
    assert_eq!(load(store, key.id).await, expected, "fenced writes have changed nothing");
    the_end_is_final(store, adopted).await;
}

fn row() -> NewSaga {
    NewSaga {
        key: SagaKey { id: SagaId::generate(), epoch: AdoptionEpoch::default() },
        creation: Uuid::new_v4(),
        kind: "contract".to_owned(),
        version: 3,
        digest: "0f".repeat(32),
        params: json!({"words": "a \"quoted\" line\nand π"}),
        dag: json!({"nodes": [1, null, {"deep": []}]}),
        // Stores keep microseconds.
        created: Timestamp::UNIX_EPOCH,
    }
}

async fn load(store: &dyn SagaStore, id: SagaId) -> StoredSaga {
    let mut loaded = store.load(&[id, SagaId::generate()]).await.expect("sagas are loaded");
    assert_eq!(loaded.len(), 1, "what does not exist is left out");
    let mut saga = loaded.remove(0);
    saga.marks.sort();
    saga
}

async fn creation_is_idempotent(store: &dyn SagaStore, row: &NewSaga) {
    assert_eq!(store.create(row).await, Ok(Created::Ours));
    assert_eq!(store.create(row).await, Ok(Created::Ours), "asked again");
    let other = NewSaga { creation: Uuid::new_v4(), params: json!(null), ..row.clone() };
    assert_eq!(store.create(&other).await, Ok(Created::Others));
    let saga = load(store, row.key.id).await;
    assert_eq!(&saga.row, row);
    assert_eq!((saga.events.len(), saga.marks.len(), saga.attention, saga.end), (0, 0, None, None));
    let unfinished = store.unfinished().await.expect("rows are listed");
    let listed = unfinished.iter().find(|saga| saga.key == row.key).expect("the row is listed");
    assert_eq!((listed.kind.as_str(), listed.version), (row.kind.as_str(), row.version));
}

async fn the_log_is_idempotent_and_comes_back_in_order(store: &dyn SagaStore, key: SagaKey) {
    let mut expected = Vec::new();
    for node in [7, 0] {
        for event in EVENTS {
            let line = line(node, event);
            let lines = [line];
            assert_eq!(store.append(key, &lines).await, Ok(Written::Now));
            assert_eq!(store.append(key, &lines).await, Ok(Written::Already));
            expected.extend(lines);
        }
    }
    let several: Vec<_> = EVENTS.map(|event| line(8, event)).into();
    assert_eq!(store.append(key, &several).await, Ok(Written::Now));
    assert_eq!(store.append(key, &several).await, Ok(Written::Already));
    let other = [line(9, "started"), NodeEvent { body: json!("else"), ..line(8, "started") }];
    assert_eq!(store.append(key, &other).await, Ok(Written::Contradicted), "all or none");
    expected.extend(several);
    assert_eq!(load(store, key.id).await.events, expected, "in the order of writing");
}

fn line(node: u32, event: &str) -> NodeEvent {
    NodeEvent { node, event: event.to_owned(), body: json!({event: {"of": node}}) }
}

async fn notes_come_back(store: &dyn SagaStore, key: SagaKey) {
    let mut marks = vec![
        Mark::CancelRequested,
        Mark::Abandoned { reason: "no sled".to_owned() },
        Mark::UndoSkipped { node: "inner/one".to_owned() },
        Mark::UndoSkipped { node: "first".to_owned() },
    ];
    for mark in &marks {
        assert_eq!(store.mark(key, mark).await, Ok(Written::Now));
        assert_eq!(store.mark(key, mark).await, Ok(Written::Already));
    }
    marks.sort();
    assert_eq!(load(store, key.id).await.marks, marks);
    let attention = attention();
    let _ = store.set_attention(key, Some(&attention)).await.expect("attention is set");
    assert_eq!(load(store, key.id).await.attention, Some(attention.clone()));
    let _ = store.set_attention(key, None).await.expect("attention is cleared");
    assert_eq!(load(store, key.id).await.attention, None);
    let _ = store.set_attention(key, Some(&attention)).await.expect("attention is set again");
}

fn attention() -> Attention {
    let cause = Cause::new("lost", "the sled is gone");
    Attention {
        failure: Failure { node: "inner/one".to_owned(), cause, attempts: 4 },
        since: Timestamp::UNIX_EPOCH,
    }
}

async fn the_first_signal_and_timer_stay(store: &dyn SagaStore, id: SagaId) {
    assert_eq!(store.signal(id, "go").await, Ok(None));
    for value in [json!({"first": true}), json!("second")] {
        store.put_signal(id, "go", &value).await.expect("a signal is kept");
        assert_eq!(store.signal(id, "go").await, Ok(Some(json!({"first": true}))));
    }
    let later = Timestamp::from_second(60).expect("a minute after the epoch");
    assert_eq!(store.timer(id, "nap", Timestamp::UNIX_EPOCH).await, Ok(Timestamp::UNIX_EPOCH));
    assert_eq!(store.timer(id, "nap", later).await, Ok(Timestamp::UNIX_EPOCH));
    assert_eq!(store.timer(id, "other", later).await, Ok(later));
}

async fn nobody_writes_under_an_earlier_adoption(store: &dyn SagaStore, old: SagaKey) {
    let lines = [line(9, "started"), line(9, "succeeded")];
    assert_eq!(store.append(old, &lines).await, Ok(Written::Fenced));
    let mark = Mark::UndoSkipped { node: "late".to_owned() };
    assert_eq!(store.mark(old, &mark).await, Ok(Written::Fenced));
    assert_eq!(store.set_attention(old, None).await, Ok(Written::Fenced));
    let end = EndState::Succeeded { output: json!(1) };
    assert_eq!(store.end(old, &end, &lines).await, Ok(Written::Fenced));
}

async fn the_end_is_final(store: &dyn SagaStore, key: SagaKey) {
    let end = EndState::Abandoned {
        failure: attention().failure,
        reason: "no sled".to_owned(),
        not_undone: vec!["first".to_owned(), "inner/one".to_owned()],
    };
    let last = [line(10, "started"), line(10, "succeeded")];
    assert_eq!(store.end(key, &end, &last).await, Ok(Written::Now));
    assert_eq!(store.end(key, &end, &last).await, Ok(Written::Already));
    let saga = load(store, key.id).await;
    let lines: Vec<_> = saga.events.iter().filter(|event| event.node >= 9).collect();
    assert_eq!(lines, last.iter().collect::<Vec<_>>(), "the last lines come with the end");
    assert_eq!((saga.end, saga.attention), (Some(end), None), "its attention went with its end");
    let unfinished = store.unfinished().await.expect("rows are listed");
    assert!(unfinished.iter().all(|saga| saga.key.id != key.id), "what has ended is not listed");
}
