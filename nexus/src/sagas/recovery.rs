//! The background task that finds unfinished sagas that nobody executes, and executes them. Which they are is decided by
//! `nexus-saga-recovery`, exactly; it may run at any time, as often as anybody likes.
//!
//! One pass: open a window → list → plan (pure) → adopt and load in bulk, resume some at a time → report. A saga that
//! cannot be resumed stops nobody else; it is tried again after a pause that doubles.

use futures::StreamExt;
use ids::SagaId;
use jiff::Timestamp;
use nexus_saga_recovery::{
    Adopted, Claims, Deferral, PlanRules, RecoveryReport, Resuming, Setbacks, UnfinishedSaga, Window,
    report::{LastPass, RecentSaga},
};
use nexus_sagas::{
    Buried, Cause, Engine, SagaStore, StoredSaga,
    taking::{NotTaken, take},
};
use nexus_tasks::{Activation, Activator, BackgroundTask, PassFuture, Reason, TaskFailure};
use problem::chain;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::task::JoinHandle;

/// Logs that are loaded at once: enough that queries are few, little enough to hold in memory.
const BATCH_SAGAS: usize = 256;

/// Sagas that one pass resumes at most. The rest is deferred, and the next pass follows at once.
const RESUMED_MAX: usize = 100_000;

/// Sagas that are resumed at once: replaying a log is work for a processor, and more would only wait for one.
const RESUMES_AT_ONCE: usize = 8;

/// What recovery has done since the start; readable at any time.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    report: Arc<Mutex<RecoveryReport>>,
}

/// Sagas that an operator has given up and that are not executed here. Those of them that cannot be are ended by the next
/// pass: only there is it certain that nobody executes them.
#[derive(Clone, Debug, Default)]
pub struct GivenUp {
    reasons: Arc<Mutex<BTreeMap<SagaId, String>>>,
}

/// The task.
pub struct RecoveryTask {
    engine: Engine,
    claims: Claims,
    store: Arc<dyn SagaStore>,
    reported: Reported,
    given_up: GivenUp,
    setbacks: Setbacks,
    /// Sagas that no pass of this life will resume.
    unable: BTreeSet<SagaId>,
    activator: Activator,
    alarm: Option<JoinHandle<()>>,
}

impl Reported {
    /// The report, with the totals of now.
    #[must_use]
    pub fn now(&self, claims: &Claims) -> RecoveryReport {
        let report = self.lock().clone();
        RecoveryReport { totals: claims.totals(), ..report }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, RecoveryReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GivenUp {
    /// An operator gives a saga up, for this reason; until the answer is dropped.
    #[must_use]
    pub fn give_up(&self, id: SagaId, reason: &str) -> GivingUp {
        self.lock().insert(id, reason.to_owned());
        GivingUp { given_up: self.clone(), id }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SagaId, String>> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As long as this is there, the saga is given up.
#[derive(Debug)]
pub struct GivingUp {
    given_up: GivenUp,
    id: SagaId,
}

impl Drop for GivingUp {
    fn drop(&mut self) {
        self.given_up.lock().remove(&self.id);
    }
}

impl BackgroundTask for RecoveryTask {
    fn name(&self) -> &'static str {
        "saga_recovery"
    }

    fn description(&self) -> &'static str {
        "executes unfinished sagas that nobody executes"
    }

    fn run<'a>(&'a mut self, _activation: &'a Activation) -> PassFuture<'a> {
        Box::pin(async move {
            let passed = self.pass().await;
            let report = serde_json::to_value(self.reported.now(&self.claims)).unwrap_or(Value::Null);
            passed.map_err(|error| TaskFailure::new(error).with_report(report.clone()))?;
            Ok(report)
        })
    }
}

impl RecoveryTask {
    /// A task that resumes on this engine what that store lists.
    #[must_use]
    pub fn new(engine: Engine, claims: Claims, store: Arc<dyn SagaStore>, activator: Activator) -> Self {
        RecoveryTask {
            engine,
            claims,
            store,
            reported: Reported::default(),
            given_up: GivenUp::default(),
            setbacks: Setbacks::default(),
            unable: BTreeSet::new(),
            activator,
            alarm: None,
        }
    }

    /// What it reports, for others to read.
    #[must_use]
    pub fn reported(&self) -> Reported {
        self.reported.clone()
    }

    /// Where operators say which sagas they give up.
    #[must_use]
    pub fn given_up(&self) -> GivenUp {
        self.given_up.clone()
    }

    /// Those that were given up and cannot be executed on: of an unknown kind or version, or for a reason that lasts. The
    /// others that were given up are tried now: perhaps they can.
    fn hopeless(&mut self, found: &[UnfinishedSaga]) -> BTreeMap<SagaId, String> {
        let mut reasons = self.given_up.lock().clone();
        for id in reasons.keys() {
            self.setbacks.forget(*id);
        }
        let engine = &self.engine;
        let is_hopeless = |saga: &&UnfinishedSaga| {
            self.unable.contains(&saga.key.id) || !engine.is_capable(&saga.kind, saga.version)
        };
        let hopeless: BTreeSet<_> = found.iter().filter(is_hopeless).map(|saga| saga.key.id).collect();
        reasons.retain(|id, _| hopeless.contains(id));
        reasons
    }

    async fn pass(&mut self) -> Result<(), nexus_sagas::StoreFault> {
        let listed = match Window::open(&self.claims).list(async || self.store.unfinished().await).await {
            Ok(listed) => listed,
            Err(error) => {
                self.reported.lock().last_pass = LastPass::ListingFailed { reason: error.to_string() };
                return Err(error);
            }
        };
        let found: BTreeSet<_> = listed.sagas().iter().map(|saga| saga.key.id).collect();
        self.setbacks.keep_only(&found);
        self.unable.retain(|id| found.contains(id));
        let bury = self.hopeless(listed.sagas());
        let engine = self.engine.clone();
        let mut plan = listed.plan(&PlanRules {
            is_capable: &|saga| {
                engine.is_capable(&saga.kind, saga.version) || bury.contains_key(&saga.key.id)
            },
            setbacks: &self.setbacks,
            resumed_max: RESUMED_MAX,
            now: Timestamp::now(),
        });
        let (mut recovered, mut failed) = (0, 0);
        let mut resume = std::mem::take(&mut plan.resume);
        while !resume.is_empty() {
            let rest = resume.split_off(resume.len().min(BATCH_SAGAS));
            let batch = std::mem::replace(&mut resume, rest);
            let (ok, not_ok) = self.resume_batch(batch, &bury).await;
            recovered += ok;
            failed += not_ok;
        }
        let again = plan.deferred.iter().any(|(_, why)| *why == Deferral::Limit);
        self.reported.lock().last_pass = LastPass::Completed(plan.report(recovered, failed));
        self.look_again(again);
        Ok(())
    }

    /// How many were resumed, and how many could not be.
    async fn resume_batch(
        &mut self,
        batch: Vec<(UnfinishedSaga, Resuming)>,
        bury: &BTreeMap<SagaId, String>,
    ) -> (u64, u64) {
        let (sagas, resuming): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let taken = take(self.store.as_ref(), resuming).await;
        let engine = &self.engine;
        let mut resumed = futures::stream::iter(sagas.into_iter().zip(taken))
            .map(|(saga, taken)| {
                let reason = bury.get(&saga.key.id).cloned();
                async move { (saga, resume_one(engine, taken, reason).await) }
            })
            .buffer_unordered(RESUMES_AT_ONCE);
        let (mut recovered, mut failed) = (0, 0);
        while let Some((saga, resumed)) = resumed.next().await {
            let now = Timestamp::now();
            match &resumed {
                Ok(()) => {
                    self.setbacks.forget(saga.key.id);
                    recovered += 1;
                }
                Err((is_lasting, reason)) => {
                    if *is_lasting {
                        self.unable.insert(saga.key.id);
                    }
                    tracing::error!(saga = %saga.key, kind = saga.kind, reason, "saga cannot be resumed");
                    self.setbacks.failed(saga.key.id, now);
                    failed += 1;
                }
            }
            self.reported.lock().note(RecentSaga {
                time: now,
                saga: saga.key,
                reason: resumed.err().map(|(_, reason)| reason),
            });
        }
        (recovered, failed)
    }

    /// The next pass follows at once, or when the first of those that failed may be tried again.
    fn look_again(&mut self, at_once: bool) {
        if let Some(alarm) = self.alarm.take() {
            alarm.abort();
        }
        if at_once {
            return self.activator.activate(Reason::Event("saga_batch"));
        }
        let Some(at) = self.setbacks.next() else { return };
        let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
        let activator = self.activator.clone();
        self.alarm = Some(tokio::spawn(async move {
            tokio::time::sleep(left).await;
            activator.activate(Reason::Event("saga_setback"));
        }));
    }
}

/// Executes on what was taken, or ends it for that reason. Why it cannot be, and whether that lasts.
async fn resume_one(
    engine: &Engine,
    taken: Result<(Adopted, StoredSaga), NotTaken>,
    bury: Option<String>,
) -> Result<(), (bool, String)> {
    let (adopted, stored) = taken.map_err(|not_taken| (false, not_taken.words))?;
    let Some(reason) = bury else {
        let resumed = engine.resume(adopted, stored).await;
        return resumed.map_err(|error| (error.is_lasting(), chain(&error)));
    };
    let cause = Cause::new("cannot_be_executed", "no coordinator could go on with it");
    engine.bury(adopted, stored, Buried { cause, reason }).await.map_err(|why_not| (true, why_not))
}

impl Drop for RecoveryTask {
    fn drop(&mut self) {
        if let Some(alarm) = self.alarm.take() {
            alarm.abort();
        }
    }
}
