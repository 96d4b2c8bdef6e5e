//! One saga while this process executes it: what its nodes do, what is asked of it, and whether its executor has been
//! told to stop. A mirror in memory: to read it never waits for the store.
//!
//! ```text
//!   executing ──► ended            its end is durable
//!       │
//!       └──► halted (fenced | stopped): no action is begun, none runs on; steno's part of it drains within moments, as
//!            if every node had failed, and leaves memory. Nothing of that is written. If it is stopped, lines that waited
//!            for the next one are: what had ended has ended.
//! ```

use crate::{
    definition::NodeTable,
    fault::{Cause, Failure, Fault},
    types::{Attention, EndState, Mark, NodeEvent},
};
use jiff::Timestamp;
use nexus_saga_recovery::SagaKey;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What one saga is doing.
#[derive(Clone, Debug, Serialize)]
pub struct LiveStatus {
    /// Which.
    pub key: SagaKey,
    /// Its kind.
    pub kind: String,
    /// Since when this process has executed it.
    pub since: Timestamp,
    /// Path → what the node is doing. Nodes that have not begun are left out.
    pub nodes: BTreeMap<String, NodeStatus>,
    /// What the store does not take, if it does not.
    pub blocked: Option<Blocked>,
    /// Nodes whose undo waits for an operator.
    pub attention: BTreeMap<String, Attention>,
    /// Whether no further node is to be begun.
    pub cancel_requested: bool,
    /// The node that failed first, once one has.
    pub failure: Option<Failure>,
}

/// What one node is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// The last event of its log: `started`, `succeeded`, `failed`, `undo_started`, `undo_finished`.
    pub event: String,
    /// Since when.
    pub since: Timestamp,
    /// Which attempt runs or has ended it, from 1; 0 before the first one of this life.
    pub attempt: u32,
    /// What the last attempt that failed says.
    pub last_fault: Option<Cause>,
    /// What it waits for, if it does.
    pub waits: Option<Waits>,
}

/// What a node waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Waits {
    /// A signal of this name.
    Signal(String),
    /// A time that the action has set.
    Until(Timestamp),
    /// What only time or people bring, in words.
    For(String),
    /// The end of the pause before its next attempt.
    Retry(Timestamp),
}

/// What a saga as a whole is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Phase {
    /// Some node does something.
    Running,
    /// A node has failed, and what was done is undone.
    Unwinding,
    /// Every node that has begun and not ended waits for something to come, or all wait for the store.
    Waiting,
    /// An undo waits for an operator.
    NeedsAttention,
}

/// A saga that waits for its store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blocked {
    /// Since when.
    pub since: Timestamp,
    /// What the store answered last.
    pub words: String,
}

/// Why an executor stops before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// The row is another adoption's.
    Fenced,
    /// Somebody else writes its log: a defect.
    Contradicted,
    /// The process ends.
    Stopped,
    /// The process has ended, as far as a test is concerned.
    #[cfg(feature = "testing")]
    Died,
}

/// What an operator has said about the undos that wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdicts {
    pub(crate) retries: u64,
    pub(crate) abandoned: Option<String>,
}

#[derive(Debug)]
pub(crate) struct LiveSaga {
    pub(crate) key: SagaKey,
    pub(crate) nodes: Arc<NodeTable>,
    /// Paths whose action, and whose undo, an earlier life has begun.
    begun: Begun,
    status: Mutex<LiveStatus>,
    marks: Mutex<BTreeSet<Mark>>,
    cancelled: CancellationToken,
    halted: CancellationToken,
    halt: Mutex<Option<Halt>>,
    verdicts: watch::Sender<Verdicts>,
    /// How often somebody has said that a signal has come.
    signals: watch::Sender<u64>,
    ended: watch::Sender<Option<Ended>>,
    /// Lines of the log that are written with the next one; see `log_store`.
    waiting_lines: Mutex<Vec<NodeEvent>>,
}

/// How it ended here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ended {
    Here(EndState),
    Halted,
}

#[derive(Debug, Default)]
struct Begun {
    actions: BTreeSet<String>,
    undos: BTreeSet<String>,
}

impl LiveSaga {
    /// A saga with what earlier lives have left; a new one has no events and no marks.
    pub(crate) fn new(
        key: SagaKey,
        kind: &str,
        nodes: Arc<NodeTable>,
        events: &[NodeEvent],
        marks: &[Mark],
    ) -> LiveSaga {
        let now = Timestamp::now();
        let mut begun = Begun::default();
        let mut statuses = BTreeMap::new();
        for event in in_order(events) {
            let Some(path) = nodes.paths.get(&event.node) else { continue };
            match event.event.as_str() {
                "started" => drop(begun.actions.insert(path.clone())),
                "undo_started" => drop(begun.undos.insert(path.clone())),
                _ => {}
            }
            let status = NodeStatus { event: event.event.clone(), since: now, ..NodeStatus::new() };
            statuses.insert(path.clone(), status);
        }
        let abandoned = marks.iter().find_map(|mark| match mark {
            Mark::Abandoned { reason } => Some(reason.clone()),
            _ => None,
        });
        let cancelled = CancellationToken::new();
        let cancel_requested = marks.contains(&Mark::CancelRequested);
        if cancel_requested {
            cancelled.cancel();
        }
        let status = LiveStatus {
            key,
            kind: kind.to_owned(),
            since: now,
            nodes: statuses,
            blocked: None,
            attention: BTreeMap::new(),
            cancel_requested,
            failure: events.iter().find_map(NodeEvent::failure),
        };
        LiveSaga {
            key,
            nodes,
            begun,
            status: Mutex::new(status),
            marks: Mutex::new(marks.iter().cloned().collect()),
            cancelled,
            halted: CancellationToken::new(),
            halt: Mutex::new(None),
            verdicts: watch::Sender::new(Verdicts { retries: 0, abandoned }),
            signals: watch::Sender::new(0),
            ended: watch::Sender::new(None),
            waiting_lines: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn status(&self) -> LiveStatus {
        self.lock().clone()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lock().phase()
    }

    pub(crate) fn is_troubled(&self) -> bool {
        let status = self.lock();
        status.blocked.is_some() || !status.attention.is_empty()
    }

    pub(crate) fn begun_earlier(&self, path: &str) -> bool {
        self.begun.actions.contains(path)
    }

    pub(crate) fn undo_begun_earlier(&self, path: &str) -> bool {
        self.begun.undos.contains(path)
    }

    /// An event is about to be logged. It shows at once: it is what the node has done, durable or not.
    pub(crate) fn observe(&self, node: u32, event: &str) {
        if let Some(path) = self.nodes.paths.get(&node) {
            let mut status = self.lock();
            let node = status.nodes.entry(path.clone()).or_insert_with(NodeStatus::new);
            event.clone_into(&mut node.event);
            node.since = Timestamp::now();
        }
    }

    /// Takes a line of the log; the lines that are to be written now, if any.
    pub(crate) fn log(&self, event: NodeEvent) -> Option<Vec<NodeEvent>> {
        if let Some(failure) = event.failure() {
            self.lock().failure.get_or_insert(failure);
        }
        let waits = match self.nodes.paths.get(&event.node) {
            None => true,
            Some(_) => {
                let ends = !matches!(event.event.as_str(), "started" | "undo_started");
                ends && !self.lock().nodes.values().any(NodeStatus::is_active)
            }
        };
        let mut lines = self.lines();
        // What steno says of nodes that were dropped where they were is not what they have done.
        if self.halted.is_cancelled() {
            return None;
        }
        lines.push(event);
        (!waits).then(|| std::mem::take(&mut *lines))
    }

    /// The lines that no other one has followed.
    pub(crate) fn last_lines(&self) -> Vec<NodeEvent> {
        std::mem::take(&mut *self.lines())
    }

    fn lines(&self) -> MutexGuard<'_, Vec<NodeEvent>> {
        self.waiting_lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn attempt(&self, path: &str, attempt: u32) {
        self.lock().nodes.entry(path.to_owned()).or_insert_with(NodeStatus::new).attempt = attempt;
    }

    pub(crate) fn fault(&self, path: &str, fault: &Fault) {
        self.lock().nodes.entry(path.to_owned()).or_insert_with(NodeStatus::new).last_fault =
            Some(fault.cause().clone());
    }

    pub(crate) fn waits(&self, path: &str, waits: Option<Waits>) {
        self.lock().nodes.entry(path.to_owned()).or_insert_with(NodeStatus::new).waits = waits;
    }

    pub(crate) fn signals(&self) -> &watch::Sender<u64> {
        &self.signals
    }

    pub(crate) fn set_attention(&self, path: &str, attention: Option<Attention>) {
        let mut status = self.lock();
        match attention {
            Some(attention) => drop(status.attention.insert(path.to_owned(), attention)),
            None => drop(status.attention.remove(path)),
        }
    }

    pub(crate) fn blocked(&self, words: String) {
        let mut status = self.lock();
        let since = status.blocked.as_ref().map_or_else(Timestamp::now, |blocked| blocked.since);
        status.blocked = Some(Blocked { since, words });
    }

    pub(crate) fn unblocked(&self) {
        self.lock().blocked = None;
    }

    pub(crate) fn cancel(&self) {
        self.lock().cancel_requested = true;
        self.cancelled.cancel();
    }

    pub(crate) fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Stops the executor. The first reason stays.
    pub(crate) fn halt(&self, why: Halt) {
        self.halt.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        let _no_line_comes_between = self.lines();
        self.halted.cancel();
    }

    pub(crate) fn halted(&self) -> &CancellationToken {
        &self.halted
    }

    pub(crate) fn why_halted(&self) -> Option<Halt> {
        *self.halt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn verdicts(&self) -> &watch::Sender<Verdicts> {
        &self.verdicts
    }

    pub(crate) fn abandoned(&self) -> Option<String> {
        self.verdicts.borrow().abandoned.clone()
    }

    /// A mark that is durable.
    pub(crate) fn marked(&self, mark: Mark) {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).insert(mark);
    }

    /// How a node has failed whose effect is being undone.
    pub(crate) fn failing(&self, path: &str) -> Option<Failure> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.iter().find_map(|mark| match mark {
            Mark::Failing { failure } if failure.node == path => Some(failure.clone()),
            _ => None,
        })
    }

    /// Nodes that were not undone, in the order of their paths.
    pub(crate) fn not_undone(&self) -> Vec<String> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = |mark: &Mark| match mark {
            Mark::UndoSkipped { node } => Some(node.clone()),
            _ => None,
        };
        marks.iter().filter_map(skipped).collect()
    }

    pub(crate) fn ended(&self) -> &watch::Sender<Option<Ended>> {
        &self.ended
    }

    fn lock(&self) -> MutexGuard<'_, LiveStatus> {
        // Nothing here panics half way through a change.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveStatus {
    /// What it is doing as a whole.
    #[must_use]
    pub fn phase(&self) -> Phase {
        let mut active = self.nodes.values().filter(|node| node.is_active()).peekable();
        let waits = |node: &NodeStatus| {
            matches!(node.waits, Some(Waits::Signal(_) | Waits::Until(_) | Waits::For(_)))
        };
        if !self.attention.is_empty() {
            Phase::NeedsAttention
        } else if self.blocked.is_some() || (active.peek().is_some() && active.all(waits)) {
            Phase::Waiting
        } else if self.nodes.values().any(NodeStatus::unwinds) {
            Phase::Unwinding
        } else {
            Phase::Running
        }
    }
}

impl NodeStatus {
    /// Whether its action or undo has begun and not ended.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self.event.as_str(), "started" | "undo_started")
    }

    fn unwinds(&self) -> bool {
        !matches!(self.event.as_str(), "started" | "succeeded")
    }

    fn new() -> NodeStatus {
        NodeStatus {
            event: "started".to_owned(),
            since: Timestamp::now(),
            attempt: 0,
            last_fault: None,
            waits: None,
        }
    }
}

/// Events in the order in which a node has them, whatever their times say: those are of clocks, and clocks are set.
fn in_order(events: &[NodeEvent]) -> Vec<&NodeEvent> {
    const ORDER: [&str; 6] =
        ["started", "succeeded", "failed", "undo_started", "undo_finished", "undo_failed"];
    let mut ordered: Vec<_> = events.iter().collect();
    ordered.sort_by_key(|event| ORDER.iter().position(|name| *name == event.event));
    ordered
}
