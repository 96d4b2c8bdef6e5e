//! Sagas as the API shows them: what the database has, and for those that are executed here what they do right now. Pure.

use jiff::Timestamp;
use nexus_client::sagas::{
    Saga, SagaAttention, SagaDetail, SagaElsewhere, SagaEvent, SagaFailure, SagaNode, SagaNodeState,
    SagaSignal, SagaState,
};
use nexus_database::sagas::{self as stored, SagaSummary, Unreadable};
use nexus_sagas::{Attention, EndState, Failure, LiveStatus, Mark, NodeStatus, Phase, Waits};
use std::collections::{BTreeMap, BTreeSet};

/// What is known here beside the row.
#[derive(Clone, Debug, Default)]
pub struct Here {
    /// What it does, if it is executed here.
    pub live: Option<LiveStatus>,
    /// What it waits for, if this coordinator owns it and does not execute it.
    pub waits: Option<String>,
    /// What recovery could not read of it.
    pub unreadable: Option<String>,
    /// Who owns it, if this coordinator does not.
    pub elsewhere: Option<SagaElsewhere>,
    /// Whether recovery could not go on with it.
    pub cannot_go_on: bool,
    /// Whether its executor has lost it.
    pub lost_by_executor: bool,
}

/// What an unfinished saga waits for of which something cannot be read.
const WAITS_FOR_HAND: &str = "an operator, who mends what cannot be read or gives it up";

/// A row of a list.
#[must_use]
pub fn saga(row: &SagaSummary, here: &Here) -> Saga {
    let live = here.live.as_ref().filter(|_| row.state == stored::SagaState::Unfinished);
    let attention: Vec<_> = match live {
        Some(live) => live.attention.values().map(attention).collect(),
        None => row.attention.iter().map(attention).collect(),
    };
    let row_unreadable = row.unreadable.as_ref().map(ToString::to_string);
    let unreadable = live.is_none().then(|| here.unreadable.clone()).flatten().or(row_unreadable);
    let is_lost = unreadable.is_some() && here.elsewhere.is_none();
    let state = match (row.state, live) {
        (stored::SagaState::Succeeded, _) => SagaState::Succeeded,
        (stored::SagaState::Failed, _) => SagaState::Failed,
        (stored::SagaState::Abandoned, _) => SagaState::Abandoned,
        (stored::SagaState::Unfinished, Some(live)) => of_phase(live.phase()),
        (stored::SagaState::Unfinished, None) if is_lost => SagaState::Unreadable,
        (stored::SagaState::Unfinished, None) if !attention.is_empty() => SagaState::NeedsAttention,
        (stored::SagaState::Unfinished, None) if here.elsewhere.is_some() => SagaState::Elsewhere,
        (stored::SagaState::Unfinished, None) if here.waits.is_some() => SagaState::Waiting,
        (stored::SagaState::Unfinished, None) => SagaState::Running,
    };
    let unfinished = row.state == stored::SagaState::Unfinished;
    let waits_for = match state {
        SagaState::Unreadable => Some(WAITS_FOR_HAND.to_owned()),
        _ => live.and_then(waits_for).or_else(|| here.waits.clone().filter(|_| unfinished)),
    };
    Saga {
        id: row.key.id,
        kind: row.kind.clone(),
        version: row.version,
        state,
        waits_for,
        coordinator: row.owner,
        elsewhere: here.elsewhere.clone().filter(|_| unfinished),
        unreadable,
        adoption_epoch: row.key.epoch.0,
        executing: live.is_some(),
        cancel_requested: live.is_some_and(|live| live.cancel_requested),
        created_at: row.created,
        ended_at: row.ended,
        failure: listed_failure(row).or_else(|| live.and_then(|live| live.failure.as_ref()).map(failure)),
        attention,
        abandoned_because: None,
        not_undone: Vec::new(),
        cannot_go_on: here.cannot_go_on && unfinished,
        lost_by_executor: here.lost_by_executor && unfinished,
    }
}

/// Why it failed, as far as lists have it: without the number of attempts.
fn listed_failure(row: &SagaSummary) -> Option<SagaFailure> {
    let (node, error) = (row.end_node.clone()?, row.end_error.as_deref().unwrap_or_default());
    // As `Cause` is displayed.
    let (message, code) = match error.strip_suffix(')').and_then(|error| error.rsplit_once(" (")) {
        Some((message, code)) => (message.to_owned(), code.to_owned()),
        None => (error.to_owned(), String::new()),
    };
    Some(SagaFailure { node, code, message, attempts: 0 })
}

/// One saga. `paths` are its nodes by steno's number, as far as this build knows its kind.
#[must_use]
pub fn detail(
    row: &stored::SagaDetail,
    here: &Here,
    paths: &BTreeMap<u32, String>,
    log: &stored::SagaLog,
) -> SagaDetail {
    let mut saga = saga(&row.summary, here);
    let lost = Unreadable::and(row.unreadable.as_ref(), log.unreadable().as_ref());
    if let Some(lost) = lost {
        saga.unreadable = Some(lost.to_string());
    }
    saga.cancel_requested |= row.marks.contains(&Mark::CancelRequested);
    let mut output = serde_json::Value::Null;
    match &row.end {
        None => {
            let failed = || log.lines.iter().find_map(|line| line.event.failure());
            saga.failure = saga.failure.or_else(|| failed().as_ref().map(failure));
        }
        Some(EndState::Succeeded { output: made }) => output = made.clone(),
        Some(EndState::Failed { failure: why }) => saga.failure = Some(failure(why)),
        Some(EndState::Abandoned { failure: why, reason, not_undone }) => {
            saga.failure = Some(failure(why));
            saga.abandoned_because = Some(reason.clone());
            saga.not_undone.clone_from(not_undone);
        }
    }
    let mut nodes = nodes(paths, here.live.as_ref(), &log.lines);
    let left = left(row, &saga.not_undone);
    for node in nodes.iter_mut().filter(|node| left.contains(node.node.as_str())) {
        node.state = SagaNodeState::Skipped;
    }
    let kept = |(name, value): (&String, &serde_json::Value)| SagaSignal {
        name: name.clone(),
        value: value.clone(),
    };
    let signals = row.signals.iter().map(kept).collect();
    SagaDetail { saga, params: row.params.clone(), output, nodes, signals }
}

/// The nodes that are not undone any more, because the saga is given up.
fn left<'r>(row: &'r stored::SagaDetail, not_undone: &'r [String]) -> BTreeSet<&'r str> {
    let skipped = row.marks.iter().filter_map(|mark| match mark {
        Mark::UndoSkipped { node } => Some(node.as_str()),
        _ => None,
    });
    skipped.chain(not_undone.iter().map(String::as_str)).collect()
}

/// A line of a log, at its place from 1.
#[must_use]
pub fn event(number: u64, line: &stored::SagaEvent, paths: &BTreeMap<u32, String>) -> SagaEvent {
    SagaEvent {
        number,
        time: line.written,
        node: name_of(line.event.node, paths),
        event: line.event.event.clone(),
        adoption_epoch: line.epoch.0,
        body: line.event.body.clone(),
        unreadable: None,
    }
}

fn nodes(
    paths: &BTreeMap<u32, String>,
    live: Option<&LiveStatus>,
    events: &[stored::SagaEvent],
) -> Vec<SagaNode> {
    let mut logged: BTreeMap<u32, (&str, Timestamp)> = BTreeMap::new();
    for line in events {
        logged.insert(line.event.node, (line.event.event.as_str(), line.written));
    }
    let node = |(number, path): (&u32, &String)| {
        let status = live.and_then(|live| live.nodes.get(path));
        let (event, since) = match (status, logged.get(number)) {
            (Some(status), _) => (status.event.as_str(), Some(status.since)),
            (None, Some((event, since))) => (*event, Some(*since)),
            (None, None) => ("", None),
        };
        SagaNode {
            node: path.clone(),
            state: of_event(event),
            since,
            attempts: status.map_or(0, |status| status.attempt),
            last_error: status.and_then(|status| status.last_fault.as_ref()).map(ToString::to_string),
            waits_for: status.and_then(node_waits_for),
        }
    };
    paths.iter().map(node).collect()
}

/// steno's own first and last node, and those of sub-sagas, have no path.
fn name_of(number: u32, paths: &BTreeMap<u32, String>) -> String {
    paths.get(&number).cloned().unwrap_or_else(|| format!("(engine {number})"))
}

fn of_phase(phase: Phase) -> SagaState {
    match phase {
        Phase::Running => SagaState::Running,
        Phase::Unwinding => SagaState::Unwinding,
        Phase::Waiting => SagaState::Waiting,
        Phase::NeedsAttention => SagaState::NeedsAttention,
    }
}

fn of_event(event: &str) -> SagaNodeState {
    match event {
        "" => SagaNodeState::Pending,
        "started" => SagaNodeState::Running,
        "succeeded" => SagaNodeState::Succeeded,
        "failed" => SagaNodeState::Failed,
        "undo_started" => SagaNodeState::Undoing,
        "undo_finished" => SagaNodeState::Undone,
        _ => SagaNodeState::Unrecognized,
    }
}

/// What a whole saga waits for.
fn waits_for(live: &LiveStatus) -> Option<String> {
    if let Some(blocked) = &live.blocked {
        return Some(format!("the database, since {:.0}: {}", blocked.since, blocked.words));
    }
    if let Some((node, _)) = live.attention.iter().next() {
        return Some(format!("an operator: the undo of {node} does not succeed"));
    }
    let waiting: Vec<_> = live
        .nodes
        .iter()
        .filter(|(_, node)| node.is_active())
        .filter_map(|(path, node)| Some(format!("{} ({path})", node_waits_for(node)?)))
        .collect();
    (!waiting.is_empty()).then(|| waiting.join(", "))
}

fn node_waits_for(node: &NodeStatus) -> Option<String> {
    Some(match node.waits.as_ref()? {
        Waits::Signal(name) => format!("the signal {name}"),
        Waits::For(what) => what.clone(),
        Waits::Until(due) => format!("{due:.0}"),
        Waits::Retry(at) => format!("its next attempt at {at:.0}"),
    })
}

fn attention(attention: &Attention) -> SagaAttention {
    SagaAttention { failure: failure(&attention.failure), since: attention.since }
}

fn failure(failure: &Failure) -> SagaFailure {
    SagaFailure {
        node: failure.node.clone(),
        code: failure.cause.code.clone(),
        message: failure.cause.words.clone(),
        attempts: failure.attempts,
    }
}

/// A saga that this coordinator owns and does not execute.
#[must_use]
pub fn left_to_recovery(row: &SagaSummary, is_capable: bool, failing: Option<&str>) -> Here {
    let waits = match failing {
        _ if !is_capable => format!("a coordinator that knows version {} of {} sagas", row.version, row.kind),
        Some(reason) => format!("recovery, which could not go on with it: {reason}"),
        None => "recovery".to_owned(),
    };
    Here { waits: Some(waits), cannot_go_on: !is_capable || failing.is_some(), ..Here::default() }
}

/// A saga that this coordinator owns, has claimed, and does not execute any more, against all rules.
#[must_use]
pub fn lost() -> Here {
    let waits = "a restart of the coordinator: its executor has lost it".to_owned();
    Here { waits: Some(waits), lost_by_executor: true, ..Here::default() }
}
