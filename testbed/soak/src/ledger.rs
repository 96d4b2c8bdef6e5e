//! The book of those who were acknowledged: every saga, how it was to end and how it ended, and what was found wrong.

use ids::SagaId;
use nexus_client::sagas::SagaState;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};
use testbed::DemoEffects;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The saga, if it is about one.
    pub saga: Option<SagaId>,
    /// What is wrong.
    pub what: String,
    /// The saga as the API tells it, its log, and what its nodes have left.
    pub evidence: String,
}

/// Numbers of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) acknowledged: u64,
    pub(crate) ended: u64,
    /// Nodes whose action or undo ran more than once.
    pub(crate) repeated: u64,
    /// Answers that were lost, and asked for again.
    pub(crate) lost_answers: u64,
}

#[derive(Debug, Default)]
struct Pages {
    sagas: BTreeMap<SagaId, Option<SagaState>>,
    counts: Counts,
    findings: Vec<Finding>,
    is_closed: bool,
}

/// The book. Clients write into it at the same time.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pages: Mutex<Pages>,
}

impl Ledger {
    /// A saga was acknowledged.
    pub(crate) fn acknowledged(&self, id: SagaId) {
        let mut pages = self.lock();
        pages.counts.acknowledged += 1;
        pages.sagas.insert(id, None);
    }

    /// An answer did not come.
    pub(crate) fn lost_answer(&self) {
        self.lock().counts.lost_answers += 1;
    }

    /// A saga has ended, and has left this.
    pub(crate) fn ended(&self, id: SagaId, state: SagaState, effects: &DemoEffects) {
        let mut pages = self.lock();
        pages.counts.ended += 1;
        pages.counts.repeated += effects.repeated().len() as u64;
        pages.sagas.insert(id, Some(state));
    }

    /// Something is wrong. Nobody needs to begin anything any more.
    pub(crate) fn found(&self, finding: Finding) {
        let mut pages = self.lock();
        pages.findings.push(finding);
        pages.is_closed = true;
    }

    /// Clients bring to its end what they have begun, and begin no more.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Every saga that was acknowledged, and how it has ended, if that was right.
    pub(crate) fn states(&self) -> BTreeMap<SagaId, Option<SagaState>> {
        self.lock().sagas.clone()
    }

    pub(crate) fn findings(&self) -> Vec<Finding> {
        self.lock().findings.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Finding {
    /// One that is about no single saga.
    pub(crate) fn of_all(what: impl Into<String>) -> Finding {
        Finding { saga: None, what: what.into(), evidence: String::new() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.saga {
            Some(saga) => writeln!(f, "saga {saga}: {}", self.what)?,
            None => writeln!(f, "{}", self.what)?,
        }
        self.evidence.lines().try_for_each(|line| writeln!(f, "    {line}"))
    }
}
