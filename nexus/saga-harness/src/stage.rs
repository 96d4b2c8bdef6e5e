//! What all parts of one run share: the script and what is left of it, a mirror of what is durable, the trace, and the
//! first thing that was found wrong. It checks, at every write, what can be checked there.

use crate::{
    case::{Moment, World},
    scenario::{How, Incident, Scenario, Trouble},
};
use ids::{AdoptionEpoch, SagaId};
use nexus_saga_recovery::SagaKey;
use nexus_sagas::{Mark, NewSaga, StoredSaga, interpose::Call};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// Lines of a trace that are kept: more than any saga of 400 nodes has, fewer than a run that turns in circles makes.
const TRACE_LINES_MAX: usize = 4_000;

/// The write of a cancellation.
const CANCELLED: &str = "mark:cancel_requested";

/// What the conductor of a run is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// A life has died, as the script says.
    Died { life: u32 },
    /// The saga is held until `release`.
    Held { life: u32, operation: String, place: String, release: oneshot::Sender<()> },
    /// An operator is asked; durable.
    Attention { life: u32, saga: SagaId },
}

pub(crate) struct Stage {
    pub(crate) primary: SagaId,
    world: Arc<dyn World>,
    scenario: Scenario,
    events: mpsc::Sender<Event>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of each incident: how often it is still to happen.
    left: Vec<u32>,
    sagas: BTreeMap<SagaId, Mirror>,
    running: BTreeSet<(SagaKey, String)>,
    trace: Vec<String>,
    found: Option<String>,
    observed: Observed,
}

/// One saga, as far as its writes have come.
#[derive(Clone, Debug)]
pub(crate) struct Mirror {
    pub(crate) key: SagaKey,
    kind: String,
    /// Whoever asked for it was told that it is durable.
    pub(crate) acknowledged: bool,
    /// steno's number of a node → how scenarios name it.
    labels: BTreeMap<u32, String>,
    /// Durable events, `EVENT:NODE`, and marks, `mark:MARK`.
    pub(crate) written: BTreeSet<String>,
    /// Under which adoption its cancellation became durable.
    cancelled: Option<AdoptionEpoch>,
}

impl Mirror {
    /// Why its own code may not run, if it may not.
    fn forbids(&self, call: &Call) -> Option<&'static str> {
        // Who was fenced does not know.
        if call.undo || call.adoption_epoch < self.key.epoch {
            return None;
        }
        let is_later = self.cancelled.is_some_and(|epoch| epoch < call.adoption_epoch);
        if self.written.contains(&format!("mark:failing:{}", call.node)) {
            Some("is executed again after it was noted as failing")
        } else if is_later {
            Some("is executed in a later life than that in which the saga was cancelled")
        } else {
            None
        }
    }
}

/// What a run has come to, for the scenarios that are made of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// Writes of the saga by life, in order, each once.
    pub(crate) writes: Vec<(u32, String)>,
    /// Calls of the saga in order, each once.
    pub(crate) calls: Vec<Called>,
    /// (Action's name, whether its undo) whose own code has run to its end without a fault, of any saga.
    pub(crate) executed: BTreeSet<(String, bool)>,
    /// How often own code has run.
    pub(crate) executions: u64,
    /// Writes of any saga.
    pub(crate) writes_in_all: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Called {
    pub(crate) call: String,
    pub(crate) node: String,
    pub(crate) undo: bool,
    pub(crate) attempts_max: u32,
}

/// An execution of a kind's own code, until it is dropped.
pub(crate) struct Running<'s> {
    stage: &'s Stage,
    what: (SagaKey, String),
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.stage.lock().running.remove(&self.what);
    }
}

pub(crate) fn call_name(undo: bool, node: &str) -> String {
    format!("{}:{node}", if undo { "undo" } else { "do" })
}

impl Stage {
    pub(crate) fn new(
        primary: SagaId,
        world: Arc<dyn World>,
        scenario: Scenario,
        events: mpsc::Sender<Event>,
    ) -> Stage {
        let left = scenario.incidents.iter().map(|incident| match incident {
            Incident::Told { times, .. } => times.unwrap_or(u32::MAX),
            _ => 1,
        });
        let state = State { left: left.collect(), ..State::default() };
        Stage { primary, world, scenario, events, state: Mutex::new(state) }
    }

    /// The id of the next saga of this run.
    pub(crate) fn next_id(&self) -> SagaId {
        let sagas = self.lock().sagas.len() as u128;
        SagaId(Uuid::from_u128(self.primary.0.as_u128() + sagas.max(1)))
    }

    pub(crate) async fn tell(&self, event: Event) {
        // Nobody listens any more when a run is over.
        let _ = self.events.send(event).await;
    }

    pub(crate) fn line(&self, line: String) {
        let mut state = self.lock();
        if state.trace.len() < TRACE_LINES_MAX {
            state.trace.push(line);
        }
    }

    /// Something is wrong. The first one stays.
    pub(crate) fn found(&self, words: &str) {
        let mut state = self.lock();
        state.trace.push(format!("FOUND: {words}"));
        state.found.get_or_insert_with(|| words.to_owned());
    }

    /// What was found, what was observed, and the trace; the latter only if something was found, or if it is wanted.
    pub(crate) fn close(&self, wanted: bool) -> (Option<String>, Observed, Vec<String>) {
        let mut state = self.lock();
        let found = state.found.take().map(|words| state.named(&words));
        let observed = std::mem::take(&mut state.observed);
        let trace = std::mem::take(&mut state.trace);
        let wanted = wanted || found.is_some();
        let trace = trace.iter().filter(|_| wanted).map(|line| state.named(line)).collect();
        (found, observed, trace)
    }

    // --- the mirror ---

    /// A row is about to be created.
    pub(crate) fn creating(&self, row: &NewSaga) {
        let mirror = Mirror {
            key: row.key,
            kind: row.kind.clone(),
            acknowledged: false,
            labels: labels_of(&row.dag),
            written: BTreeSet::new(),
            cancelled: None,
        };
        self.lock().sagas.entry(row.key.id).or_insert(mirror);
    }

    pub(crate) fn acknowledged(&self, id: SagaId) {
        if let Some(mirror) = self.lock().sagas.get_mut(&id) {
            mirror.acknowledged = true;
        }
    }

    pub(crate) fn adopted(&self, key: SagaKey) {
        if let Some(mirror) = self.lock().sagas.get_mut(&key.id) {
            mirror.key = key;
        }
    }

    pub(crate) fn key_of(&self, id: SagaId) -> Option<SagaKey> {
        self.lock().sagas.get(&id).map(|mirror| mirror.key)
    }

    pub(crate) fn sagas(&self) -> BTreeMap<SagaId, Mirror> {
        self.lock().sagas.clone()
    }

    pub(crate) fn is_known(&self, id: SagaId) -> bool {
        self.lock().sagas.contains_key(&id)
    }

    /// Whether a saga is of the kind of the one that the run is about.
    pub(crate) fn is_of_the_kind(&self, id: SagaId) -> bool {
        let state = self.lock();
        let kind = |id: &SagaId| state.sagas.get(id).map(|mirror| &mirror.kind);
        kind(&id).is_some() && kind(&id) == kind(&self.primary)
    }

    /// How scenarios name a node.
    pub(crate) fn label(&self, id: SagaId, node: u32) -> String {
        let label = self.lock().sagas.get(&id).and_then(|mirror| mirror.labels.get(&node).cloned());
        label.unwrap_or_else(|| format!("(node {node})"))
    }

    /// A write is durable.
    pub(crate) fn written(&self, id: SagaId, lines: &[String]) {
        if let Some(mirror) = self.lock().sagas.get_mut(&id) {
            mirror.written.extend(lines.iter().cloned());
            if lines.iter().any(|line| line == CANCELLED) {
                mirror.cancelled.get_or_insert(mirror.key.epoch);
            }
        }
    }

    /// A saga was loaded: what was under way to the store when a life ended may be durable too. And what was answered
    /// as durable is there.
    pub(crate) fn loaded(&self, saga: &StoredSaga) {
        let id = saga.row.key.id;
        let events =
            saga.events.iter().map(|event| format!("{}:{}", event.event, self.label(id, event.node)));
        let stored: BTreeSet<_> = events.chain(saga.marks.iter().map(mark_name)).collect();
        let missing = {
            let mut state = self.lock();
            let Some(mirror) = state.sagas.get_mut(&id) else { return };
            mirror.written.extend(stored.iter().cloned());
            let of_log = |write: &&String| write.contains(':') && !write.starts_with("timer:");
            mirror.written.iter().filter(of_log).find(|write| !stored.contains(*write)).cloned()
        };
        if let Some(write) = missing {
            self.found(&format!("{write} of {id} was answered as durable, and is not in its log"));
        }
    }

    // --- the script ---

    /// A write is about to be made: notes it, and checks everything that must hold at this moment.
    pub(crate) fn before_write(
        &self,
        life: u32,
        (id, key): (SagaId, Option<SagaKey>),
        write: &str,
        lines: &[String],
    ) {
        {
            let mut state = self.lock();
            state.observed.writes_in_all += 1;
            let entry = (life, write.to_owned());
            if id == self.primary && !state.observed.writes.contains(&entry) {
                state.observed.writes.push(entry);
            }
        }
        // A fenced write says nothing about the world.
        if key.is_none_or(|key| self.key_of(id) == Some(key)) {
            self.check(Moment::Before { write }, Some((id, lines)));
        }
    }

    pub(crate) fn trouble(&self, life: u32, id: SagaId, write: &str) -> Option<Trouble> {
        self.take(id, |incident| match incident {
            Incident::Store { write: at, what, life: in_life } if at == write && is_in(*in_life, life) => {
                Some(*what)
            }
            _ => None,
        })
    }

    pub(crate) fn told(&self, life: u32, id: SagaId, call: &str) -> Option<How> {
        self.take(id, |incident| match incident {
            Incident::Told { call: of, how, life: in_life, .. } if of == call && is_in(*in_life, life) => {
                Some(*how)
            }
            _ => None,
        })
    }

    /// Holds the saga here for as long as the script has operations for this place.
    pub(crate) async fn hold(&self, life: u32, id: SagaId, place: &str) {
        while let Some(operation) = self.take(id, |incident| match incident {
            Incident::Run { operation, place: at, life: in_life } if at == place && is_in(*in_life, life) => {
                Some(operation.clone())
            }
            _ => None,
        }) {
            let (release, released) = oneshot::channel();
            self.tell(Event::Held { life, operation, place: place.to_owned(), release }).await;
            let _ = released.await;
        }
    }

    /// What an operator answers who is asked.
    pub(crate) fn operator(&self) -> Option<String> {
        self.scenario.incidents.iter().find_map(|incident| match incident {
            Incident::Run { operation, place, .. } if place == "attention" => Some(operation.clone()),
            _ => None,
        })
    }

    /// Undos do as their code says from now on.
    pub(crate) fn heal(&self) {
        let mut state = self.lock();
        for (incident, left) in self.scenario.incidents.iter().zip(&mut state.left) {
            if matches!(incident, Incident::Told { call, .. } if call.starts_with("undo:")) {
                *left = 0;
            }
        }
    }

    fn take<T>(&self, id: SagaId, fits: impl Fn(&Incident) -> Option<T>) -> Option<T> {
        if id != self.primary {
            return None;
        }
        let mut state = self.lock();
        for (incident, left) in self.scenario.incidents.iter().zip(&mut state.left) {
            if *left > 0
                && let Some(taken) = fits(incident)
            {
                *left = if *left == u32::MAX { u32::MAX } else { *left - 1 };
                return Some(taken);
            }
        }
        None
    }

    // --- calls ---

    /// A node's action or undo is called.
    pub(crate) fn called(&self, call: &Call) {
        let name = call_name(call.undo, &call.node);
        let mut state = self.lock();
        if call.saga == self.primary && !state.observed.calls.iter().any(|called| called.call == name) {
            let (node, undo, attempts_max) = (call.node.clone(), call.undo, call.attempts_max);
            state.observed.calls.push(Called { call: name, node, undo, attempts_max });
        }
    }

    /// Own code begins to run.
    pub(crate) fn execute(&self, call: &Call) -> Running<'_> {
        let what = (SagaKey { id: call.saga, epoch: call.adoption_epoch }, call.node.clone());
        let mut state = self.lock();
        state.observed.executions += 1;
        let alone = state.running.insert(what.clone());
        let forbidden = state.sagas.get(&call.saga).and_then(|mirror| mirror.forbids(call));
        drop(state);
        if let Some(why) = forbidden {
            self.found(&format!("the node {} of {} {why}", call.node, call.saga));
        }
        if !alone {
            self.found(&format!("the node {} of {} is executed twice at once", call.node, call.saga));
        }
        Running { stage: self, what }
    }

    pub(crate) fn executed(&self, call: &Call) {
        self.lock().observed.executed.insert((call.action.clone(), call.undo));
    }

    // --- checks ---

    /// The effects that are there, by saga and node.
    /// The effects without those whose undo was skipped: nobody was told of that undo, so the action of an executor
    /// that was fenced may still come to be, and the end of its saga says so.
    pub(crate) fn effects_to_answer_for(&self) -> BTreeMap<(SagaId, String), i64> {
        let mut effects = self.effects();
        let state = self.lock();
        effects
            .retain(|(id, path), _| !state.has_written(*id, &format!("mark:undo_skipped:{}", node_of(path))));
        effects
    }

    pub(crate) fn effects(&self) -> BTreeMap<(SagaId, String), i64> {
        let mut effects = BTreeMap::new();
        for (key, count) in self.world.effects() {
            let known = key.split_once('/').and_then(|(id, path)| Some((id.parse().ok().map(SagaId)?, path)));
            match known {
                Some((id, path)) if self.is_known(id) => {
                    if count != 0 {
                        effects.insert((id, path.to_owned()), count);
                    }
                }
                _ => self.found(&format!(
                    "the world tells of an effect {key:?}, which is no idempotency key of this run"
                )),
            }
        }
        effects
    }

    /// Everything that must hold at this moment; `lines`: of a saga that are about to be durable.
    pub(crate) fn check(&self, moment: Moment<'_>, lines: Option<(SagaId, &[String])>) {
        if let Err(words) = self.world.check(moment) {
            self.found(&format!("{words} ({})", words_of(moment)));
        }
        let effects = self.effects();
        for words in self.wrong_effects(&effects, moment, lines) {
            self.found(&words);
        }
    }

    fn wrong_effects(
        &self,
        effects: &BTreeMap<(SagaId, String), i64>,
        moment: Moment<'_>,
        lines: Option<(SagaId, &[String])>,
    ) -> Vec<String> {
        let state = self.lock();
        let mut wrong = Vec::new();
        for ((id, path), count) in effects {
            if *count != 1 {
                wrong.push(format!(
                    "the effect of {path} of {id} is there {count} times ({})",
                    words_of(moment)
                ));
            }
            if !state.has_written(*id, &format!("started:{}", node_of(path))) {
                wrong.push(format!(
                    "the effect of {path} of {id} is there before its log says that it was begun"
                ));
            }
        }
        let Some((id, lines)) = lines else { return wrong };
        let left = |node: &str| effects.keys().any(|(of, path)| *of == id && node_of(path) == node);
        for line in lines {
            let ending = line.strip_prefix("failed:").or_else(|| line.strip_prefix("undo_finished:"));
            if let Some(node) = ending
                && left(node)
                && !state.has_written(id, &format!("mark:undo_skipped:{node}"))
            {
                wrong.push(format!(
                    "the effect of {node} of {id} is there, and its log is about to say {line}"
                ));
            }
        }
        wrong
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing here panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_written(&self, id: SagaId, write: &str) -> bool {
        self.sagas.get(&id).is_some_and(|mirror| mirror.written.contains(write))
    }

    /// Sagas by number: their ids may be others in the next run.
    fn named(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (number, id) in self.sagas.keys().enumerate() {
            text = text.replace(&id.to_string(), &format!("saga {}", number + 1));
        }
        text
    }
}

pub(crate) fn mark_name(mark: &Mark) -> String {
    match mark {
        Mark::CancelRequested => CANCELLED.to_owned(),
        Mark::Abandoned { .. } => "mark:abandoned".to_owned(),
        Mark::Failing { failure } => format!("mark:failing:{}", failure.node),
        Mark::UndoSkipped { node } => format!("mark:undo_skipped:{node}"),
    }
}

/// The node of an effect's path.
pub(crate) fn node_of(path: &str) -> &str {
    path.split_once('#').map_or(path, |(node, _)| node)
}

fn is_in(wanted: Option<u32>, life: u32) -> bool {
    wanted.is_none_or(|wanted| wanted == life)
}

fn words_of(moment: Moment<'_>) -> String {
    match moment {
        Moment::Before { write } => format!("before {write}"),
        Moment::After { operation } => format!("after the operation {operation}"),
        Moment::End => "at the end".to_owned(),
    }
}

/// How scenarios name the nodes of a graph: an action's by its path, others by what they are. The graph is steno's
/// serialisation; a node that is not understood is named by its number, see [`Stage::label`].
fn labels_of(dag: &Value) -> BTreeMap<u32, String> {
    let nodes = dag.pointer("/graph/nodes").and_then(Value::as_array);
    let mut labels = BTreeMap::new();
    for (number, node) in (0_u32..).zip(nodes.into_iter().flatten()) {
        let (what, of) = match node {
            Value::String(what) => (what.as_str(), &Value::Null),
            Value::Object(tagged) => match tagged.iter().next() {
                Some((what, of)) => (what.as_str(), of),
                None => continue,
            },
            _ => continue,
        };
        let text = |field: &str| of.get(field).and_then(Value::as_str);
        let label = match (what, text("label"), text("name"), text("saga_name")) {
            ("Action", Some(path), ..) => path.to_owned(),
            ("Start", ..) => "(start)".to_owned(),
            ("End", ..) => "(end)".to_owned(),
            ("SubsagaStart", .., Some(path)) => format!("(start_of_{path})"),
            ("SubsagaEnd", _, Some(name), _) => format!("(end_of_{name}_{number})"),
            ("Constant", _, Some(name), _) => format!("(constant_{name}_{number})"),
            _ => format!("(node_{number})"),
        };
        labels.insert(number, label);
    }
    labels
}
