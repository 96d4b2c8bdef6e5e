//! One pass: the window in which it lists, and what it makes of the list. The order of its steps is the order of its
//! types; each is made only of the one before.

use crate::{
    Claims, Resuming, Setbacks,
    report::PassReport,
    types::{SagaKey, UnfinishedSaga},
};
use jiff::Timestamp;

/// A pass that has begun: from now on claims that are given back are kept. Dropped, at whatever step, it lets them go.
#[derive(Debug)]
pub struct Window {
    claims: Claims,
}

/// A pass that has its list.
#[derive(Debug)]
pub struct Listed {
    window: Window,
    sagas: Vec<UnfinishedSaga>,
}

/// What holds for one plan.
pub struct PlanRules<'r> {
    /// Whether this build knows the saga's kind in that version.
    pub is_capable: &'r dyn Fn(&UnfinishedSaga) -> bool,
    /// When what failed before may be tried again.
    pub setbacks: &'r Setbacks,
    /// Sagas to resume in one pass, at most.
    pub resumed_max: usize,
    /// The time.
    pub now: Timestamp,
}

/// Why a saga that nobody executes is not resumed in this pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferral {
    /// It failed a moment ago, and is tried again then.
    Until(Timestamp),
    /// An executor of an earlier adoption has not stopped yet.
    EarlierAdoptionRuns,
    /// Enough are resumed in this pass.
    Limit,
}

/// What a pass has decided.
#[derive(Debug)]
pub struct Plan {
    /// To be resumed now. Each says how it went.
    pub resume: Vec<(UnfinishedSaga, Resuming)>,
    /// To be resumed later, and why not now.
    pub deferred: Vec<(SagaKey, Deferral)>,
    /// Of a kind or version that this build does not know.
    pub waiting_for_version: Vec<UnfinishedSaga>,
    /// Executed here.
    pub skipped: Vec<SagaKey>,
    /// All that were listed.
    pub found: u64,
}

impl Window {
    /// Begins a pass.
    ///
    /// # Panics
    /// If another pass over these claims has not ended: passes are one task's.
    #[must_use = "the window closes when it is dropped"]
    pub fn open(claims: &Claims) -> Window {
        claims.lock().open();
        Window { claims: claims.clone() }
    }

    /// Lists the unfinished sagas that this coordinator owns. `listing` must read what is committed when it is called,
    /// not before: it is called here so that nobody can list first.
    ///
    /// # Errors
    /// Those of the listing.
    pub async fn list<E>(
        self,
        listing: impl AsyncFnOnce() -> Result<Vec<UnfinishedSaga>, E>,
    ) -> Result<Listed, E> {
        let sagas = listing().await?;
        Ok(Listed { window: self, sagas })
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.claims.lock().close();
    }
}

impl Listed {
    /// What was listed.
    #[must_use]
    pub fn sagas(&self) -> &[UnfinishedSaga] {
        &self.sagas
    }

    /// Decides about every listed saga, claims those that are to be resumed, and closes the window.
    #[must_use]
    pub fn plan(self, rules: &PlanRules<'_>) -> Plan {
        let claims = self.window.claims.clone();
        let mut plan = Plan {
            resume: Vec::new(),
            deferred: Vec::new(),
            waiting_for_version: Vec::new(),
            skipped: Vec::new(),
            found: self.sagas.len() as u64,
        };
        for saga in self.sagas {
            let held = claims.lock().epoch_of(saga.key.id);
            match decide(&saga, held, rules, plan.resume.len()) {
                Decision::Skip => plan.skipped.push(saga.key),
                Decision::Defer(why) => plan.deferred.push((saga.key, why)),
                Decision::Wait => plan.waiting_for_version.push(saga),
                Decision::Resume => match claims.resume(saga.key) {
                    Ok(resuming) => plan.resume.push((saga, resuming)),
                    Err(_) => plan.skipped.push(saga.key),
                },
            }
        }
        drop(self.window);
        plan
    }
}

enum Decision {
    Skip,
    Defer(Deferral),
    Wait,
    Resume,
}

fn decide(
    saga: &UnfinishedSaga,
    held: Option<ids::AdoptionEpoch>,
    rules: &PlanRules<'_>,
    resumed: usize,
) -> Decision {
    match held {
        Some(epoch) if epoch < saga.key.epoch => return Decision::Defer(Deferral::EarlierAdoptionRuns),
        Some(_) => return Decision::Skip,
        None => {}
    }
    if !(rules.is_capable)(saga) {
        return Decision::Wait;
    }
    if let Some(until) = rules.setbacks.until(saga.key.id, rules.now) {
        return Decision::Defer(Deferral::Until(until));
    }
    if resumed >= rules.resumed_max { Decision::Defer(Deferral::Limit) } else { Decision::Resume }
}

impl Plan {
    /// The plan in numbers, once it is known how many of what it resumes have failed.
    #[must_use]
    pub fn report(&self, recovered: u64, failed: u64) -> PassReport {
        PassReport {
            found: self.found,
            recovered,
            failed,
            skipped: self.skipped.len() as u64,
            deferred: self.deferred.len() as u64,
            waiting_for_version: self.waiting_for_version.len() as u64,
            ..PassReport::default()
        }
    }
}
