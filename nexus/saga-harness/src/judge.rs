//! What must hold when every saga of a run has ended: the end, its log, the effects and what was promised agree.

use crate::{
    scenario::{How, Incident, Scenario},
    stage::{Mirror, Stage, node_of},
};
use ids::SagaId;
use nexus_sagas::{EndState, StoredSaga};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of the case from its run without incidents.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reference {
    pub(crate) succeeds: bool,
    /// Paths of the effects that are there afterwards.
    pub(crate) effects: BTreeSet<String>,
    /// Calls in it → attempts at most.
    pub(crate) attempts: BTreeMap<String, u32>,
}

/// How the saga must end, as far as the script says.
enum Expected {
    Succeeded,
    /// At this node.
    FailedAt(String),
    Any,
}

pub(crate) struct Judging<'r> {
    pub(crate) stage: &'r Stage,
    pub(crate) scenario: &'r Scenario,
    /// None if this is the run without incidents.
    pub(crate) reference: Option<&'r Reference>,
    /// Whether an operation of this run may have taken effects away.
    pub(crate) effects_may_miss: bool,
}

impl Judging<'_> {
    /// Judges all sagas of the run. Answers what is known of the saga itself.
    pub(crate) fn judge(&self, stored: &[StoredSaga]) -> Reference {
        stored.iter().for_each(|saga| self.stage.loaded(saga));
        let effects = self.stage.effects();
        let own = |saga: &&StoredSaga| saga.row.key.id == self.stage.primary;
        let primary = stored.iter().find(own);
        let alike = |saga: &StoredSaga| {
            primary.is_some_and(|own| (&own.row.kind, &own.row.params) == (&saga.row.kind, &saga.row.params))
        };
        for (id, mirror) in self.stage.sagas() {
            let paths: BTreeSet<_> =
                effects.keys().filter(|(of, _)| *of == id).map(|(_, path)| path.clone()).collect();
            match stored.iter().find(|saga| saga.row.key.id == id) {
                Some(saga) => self.judge_one(saga, alike(saga), &paths),
                None => self.judge_missing(id, &mirror, &paths),
            }
        }
        let end = primary.and_then(|saga| saga.end.as_ref());
        Reference {
            succeeds: matches!(end, Some(EndState::Succeeded { .. })),
            effects: effects
                .into_keys()
                .filter(|(of, _)| *of == self.stage.primary)
                .map(|(_, path)| path)
                .collect(),
            attempts: BTreeMap::new(),
        }
    }

    fn judge_missing(&self, id: SagaId, mirror: &Mirror, effects: &BTreeSet<String>) {
        if mirror.acknowledged {
            self.stage.found(&format!("{id} was acknowledged, and there is no such row"));
        }
        if !effects.is_empty() {
            self.stage.found(&format!("{id} has no row, and effects {effects:?}"));
        }
    }

    /// `is_alike`: as the saga of this run, so that it has the same effects when it succeeds.
    fn judge_one(&self, saga: &StoredSaga, is_alike: bool, effects: &BTreeSet<String>) {
        let id = saga.row.key.id;
        let Some(end) = &saga.end else {
            return self.stage.found(&format!("{id} has not ended"));
        };
        self.stage.line(format!("end of {id}: {}", serde_json::to_string(end).unwrap_or_default()));
        if let Some(attention) = &saga.attention {
            self.stage.found(&format!("{id} has ended and still needs attention: {}", attention.failure));
        }
        self.end_agrees_with_the_log(id, end);
        let reference = self.reference.filter(|_| is_alike);
        self.effects_agree_with_the_end(id, end, effects, reference);
        if id == self.stage.primary {
            self.end_is_as_told(id, end);
        }
    }

    fn end_agrees_with_the_log(&self, id: SagaId, end: &EndState) {
        let Some(mirror) = self.stage.sagas().remove(&id) else { return };
        let nodes = |event: &str| -> BTreeSet<String> {
            let nodes =
                mirror.written.iter().filter_map(|write| write.strip_prefix(event)?.strip_prefix(':'));
            nodes.map(str::to_owned).collect()
        };
        let (started, succeeded, failed) = (nodes("started"), nodes("succeeded"), nodes("failed"));
        let undone = nodes("undo_finished");
        let agrees = match end {
            EndState::Succeeded { .. } => failed.is_empty() && started == succeeded,
            EndState::Failed { failure } | EndState::Abandoned { failure, .. } => {
                failed.contains(&failure.node)
                    && succeeded == undone
                    && started.len() == succeeded.len() + failed.len()
            }
        };
        if !agrees {
            self.stage.found(&format!(
                "the end of {id} and its log disagree: started {started:?}, succeeded {succeeded:?}, failed {failed:?}, undone {undone:?}"
            ));
        }
    }

    fn effects_agree_with_the_end(
        &self,
        id: SagaId,
        end: &EndState,
        effects: &BTreeSet<String>,
        reference: Option<&Reference>,
    ) {
        match end {
            EndState::Succeeded { .. } => {
                let Some(reference) = reference else { return };
                let missing: Vec<_> = reference.effects.difference(effects).collect();
                if !missing.is_empty() && !self.effects_may_miss {
                    self.stage.found(&format!("{id} has succeeded, and effects are missing: {missing:?}"));
                }
                let more: Vec<_> = effects.difference(&reference.effects).collect();
                if !more.is_empty() {
                    self.stage
                        .found(&format!("{id} has succeeded with more effects than otherwise: {more:?}"));
                }
            }
            EndState::Failed { .. } => {
                if !effects.is_empty() {
                    self.stage.found(&format!("{id} has failed, and effects are left: {effects:?}"));
                }
            }
            EndState::Abandoned { not_undone, .. } => {
                let unnamed: Vec<_> = effects
                    .iter()
                    .filter(|path| !not_undone.iter().any(|node| node == node_of(path)))
                    .collect();
                if !unnamed.is_empty() {
                    self.stage.found(&format!(
                        "{id} was abandoned, and effects are left that it does not name: {unnamed:?}"
                    ));
                }
            }
        }
    }

    fn end_is_as_told(&self, id: SagaId, end: &EndState) {
        let as_told = match (self.expected(), end) {
            (Expected::Any, _) => return,
            (Expected::Succeeded, end) => matches!(end, EndState::Succeeded { .. }),
            (
                Expected::FailedAt(node),
                EndState::Failed { failure } | EndState::Abandoned { failure, .. },
            ) => failure.node == node,
            (Expected::FailedAt(_), EndState::Succeeded { .. }) => false,
        };
        if !as_told {
            self.stage.found(&format!("{id} does not end as its nodes were told: {end:?}"));
        }
    }

    fn expected(&self) -> Expected {
        let Some(reference) = self.reference.filter(|reference| reference.succeeds) else {
            return Expected::Any;
        };
        let mut expected = Expected::Succeeded;
        for incident in &self.scenario.incidents {
            match incident {
                Incident::Told { how: How::Twice, .. } | Incident::Store { .. } => {}
                Incident::Told { call, how, times, life } => {
                    let Some(node) = call.strip_prefix("do:") else { continue };
                    let enough = reference.attempts.get(call).copied().unwrap_or(0);
                    match times {
                        Some(times) if *times < enough && *how != How::Refused => {}
                        None if life.is_none() => expected = Expected::FailedAt(node.to_owned()),
                        _ => return Expected::Any,
                    }
                }
                Incident::Run { place, .. } if place == "attention" => {}
                Incident::Run { operation, .. } if is_without_influence(operation) => {}
                Incident::Run { .. } => return Expected::Any,
            }
        }
        expected
    }
}

/// Operations after which the saga ends as without them.
fn is_without_influence(operation: &str) -> bool {
    matches!(operation, "adopt" | "adopt_late" | "recovery" | "same_id")
}
