//! Sagas in every state worth showing, for the tests of what is shown.

use super::sample::now;
use ids::CoordinatorId;
use jiff::Timestamp;
use nexus_client::sagas::{
    Saga, SagaAttention, SagaDetail, SagaEvent, SagaFailure, SagaNode, SagaNodeState, SagaSignal, SagaState,
};
use serde_json::{Value, json};

fn before(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() - seconds).unwrap()
}

/// A saga in this state, which was accepted so many seconds ago.
pub(crate) fn saga(number: u8, state: SagaState, seconds: i64) -> Saga {
    Saga {
        id: format!("0191f2a{number}-3c1e-7{number}00-8000-0123456789ab").parse().unwrap(),
        kind: "demo".into(),
        version: 1,
        state,
        waits_for: None,
        coordinator: Some("0191dddd-0000-7000-8000-000000000001".parse::<CoordinatorId>().unwrap()),
        elsewhere: None,
        unreadable: None,
        adoption_epoch: 0,
        executing: !state.is_ended(),
        cancel_requested: false,
        created_at: Some(before(seconds)),
        ended_at: state.is_ended().then(|| before(seconds - 3)),
        failure: None,
        attention: Vec::new(),
        abandoned_because: None,
        not_undone: Vec::new(),
        cannot_go_on: false,
        lost_by_executor: false,
    }
}

fn failure(node: &str, code: &str, message: &str, attempts: u32) -> SagaFailure {
    SagaFailure { node: node.into(), code: code.into(), message: message.into(), attempts }
}

/// One saga in each state, newest first, one that nobody executes, and one with words that are far too long.
pub(crate) fn sagas() -> Vec<Saga> {
    let mut sagas = vec![
        saga(9, SagaState::Running, 2),
        saga(8, SagaState::Running, 30),
        saga(7, SagaState::Unwinding, 45),
        saga(6, SagaState::Waiting, 60),
        saga(5, SagaState::NeedsAttention, 4000),
        saga(4, SagaState::Succeeded, 5000),
        saga(3, SagaState::Failed, 6000),
        saga(2, SagaState::Abandoned, 90_000),
    ];
    (sagas[1].executing, sagas[1].adoption_epoch) = (false, 2);
    sagas[2].cancel_requested = true;
    sagas[3].waits_for = Some("signal proceed".into());
    sagas[4].attention = vec![SagaAttention {
        failure: failure("inner/one", "sled_unreachable", "sled-b: connection refused", 7),
        since: before(240),
    }];
    sagas[6].failure = Some(failure("left", "demo_refused", "was told to fail here", 1));
    sagas[7].failure = Some(failure("right", "sled_unreachable", &"no route ".repeat(12), 3));
    sagas[7].abandoned_because =
        Some("sled-b burned down; its volumes were removed from the books by hand".into());
    sagas[7].not_undone = vec!["first".into(), "inner/one".into()];
    sagas
}

fn node(name: &str, state: SagaNodeState) -> SagaNode {
    let begun = state != SagaNodeState::Pending;
    let since = begun.then(|| before(20));
    SagaNode {
        node: name.into(),
        state,
        since,
        attempts: u32::from(begun),
        last_error: None,
        waits_for: None,
    }
}

/// The saga at this place of [`sagas`], with nodes in these states.
pub(crate) fn detail(place: usize, states: [SagaNodeState; 6]) -> SagaDetail {
    let names = ["first", "left", "right", "inner/one", "inner/two", "last"];
    SagaDetail {
        saga: sagas().remove(place),
        params: json!({"wait_for_signal": true, "sleep_ms": 0}),
        output: Value::Null,
        signals: Vec::new(),
        nodes: names.into_iter().zip(states).map(|(name, state)| node(name, state)).collect(),
    }
}

/// It waits for a signal half way.
pub(crate) fn waiting() -> SagaDetail {
    use SagaNodeState::{Pending, Running, Succeeded};
    let mut detail = detail(3, [Succeeded, Succeeded, Succeeded, Running, Pending, Pending]);
    detail.nodes[3].waits_for = Some("signal proceed".into());
    detail.signals = vec![SagaSignal { name: "later".into(), value: json!({"sled": "sled-b"}) }];
    detail
}

/// One of its undos does not succeed.
pub(crate) fn stuck() -> SagaDetail {
    use SagaNodeState::{Failed, Pending, Succeeded, Undoing, Undone};
    let mut detail = detail(4, [Succeeded, Succeeded, Undone, Undoing, Failed, Pending]);
    detail.nodes[3].attempts = 7;
    detail.nodes[3].last_error = Some("sled-b: connection refused".into());
    detail.nodes[4].last_error = Some("was told to fail here".into());
    detail
}

/// It was given up.
pub(crate) fn abandoned() -> SagaDetail {
    use SagaNodeState::{Failed, Pending, Skipped, Undone};
    detail(7, [Skipped, Undone, Failed, Skipped, Undone, Pending])
}

/// A log of so many lines.
pub(crate) fn events(number: u64) -> Vec<SagaEvent> {
    let event = |number| SagaEvent {
        number,
        time: before(30),
        node: if number == 1 { "start".into() } else { "inner/one".into() },
        event: if number % 2 == 1 { "started".into() } else { "succeeded".into() },
        adoption_epoch: 0,
        body: if number % 2 == 1 { Value::Null } else { json!({"wrote": "one line ".repeat(40)}) },
        unreadable: None,
    };
    (1..=number).map(event).collect()
}
