//! The background task that finds unfinished sagas that nobody executes, and executes them. Which they are is decided by
//! `nexus-saga-recovery`, exactly; it may run at any time, as often as anybody likes.
//!
//! One pass: open a window → list → plan (pure) → adopt and load in bulk, resume some at a time, and load the next ones
//! meanwhile → report. A saga that
//! cannot be resumed stops nobody else; it is tried again after a pause that doubles. One that cannot be read is looked at
//! again in the same way, and counted apart: nothing but a person's hand changes it.

use super::{
    given_up::GivenUp,
    reported::{OTHERS_MAX, Others, Reported, UnreadableSagas},
    resume::{NotResumed, Taken, read_in_part, resume_one},
};
use futures::StreamExt;
use ids::SagaId;
use jiff::Timestamp;
use nexus_database::{DatabaseError, DatabaseSagaStore, sagas::UnfinishedRows};
use nexus_saga_recovery::{
    Claims, Deferral, Plan, PlanRules, Resuming, Setbacks, UnfinishedSaga, Window, report::RecentSaga,
};
use nexus_sagas::{Engine, StoreFault, taking::take};
use nexus_tasks::{Activation, Activator, BackgroundTask, PassFuture, Reason, TaskFailure};
use problem::chain;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// Logs that are loaded at once: enough that queries are few, little enough to hold in memory.
const BATCH_SAGAS: usize = 256;

/// Sagas that one pass resumes at most. The rest is deferred, and the next pass follows at once.
const RESUMED_MAX: usize = 100_000;

/// How long one pass goes on with further batches. What it has not reached by then is deferred, and the next pass follows at
/// once: so reports, setbacks and operators who wait for a pass never wait for much longer, however slow the database is.
const PASS_LIMIT: Duration = Duration::from_secs(30);

/// Sagas that are resumed at once: replaying a log is work for a processor, and more would only wait for one.
const RESUMES_AT_ONCE: usize = 8;

/// The task.
pub struct RecoveryTask {
    engine: Engine,
    claims: Claims,
    store: DatabaseSagaStore,
    reported: Reported,
    given_up: GivenUp,
    setbacks: Setbacks,
    /// Sagas that no pass of this life will resume.
    unable: BTreeSet<SagaId>,
    /// Sagas that could not be read when they were tried last, and why.
    unreadable: BTreeMap<SagaId, String>,
    /// Sagas that could not be gone on with, or not be ended, when they were tried last, and why.
    failing: BTreeMap<SagaId, String>,
    activator: Activator,
    alarm: Option<JoinHandle<()>>,
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
    pub fn new(engine: Engine, claims: Claims, store: DatabaseSagaStore, activator: Activator) -> Self {
        RecoveryTask {
            engine,
            claims,
            store,
            reported: Reported::default(),
            given_up: GivenUp::default(),
            setbacks: Setbacks::default(),
            unable: BTreeSet::new(),
            unreadable: BTreeMap::new(),
            failing: BTreeMap::new(),
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
    /// others that were given up are tried: perhaps they can.
    fn hopeless(
        &self,
        found: &[UnfinishedSaga],
        mut reasons: BTreeMap<SagaId, String>,
    ) -> BTreeMap<SagaId, String> {
        let engine = &self.engine;
        let is_hopeless = |saga: &&UnfinishedSaga| {
            let is_lost = self.unable.contains(&saga.key.id) || self.unreadable.contains_key(&saga.key.id);
            is_lost || !engine.is_capable(&saga.kind, saga.version)
        };
        let hopeless: BTreeSet<_> = found.iter().filter(is_hopeless).map(|saga| saga.key.id).collect();
        reasons.retain(|id, _| hopeless.contains(id));
        reasons
    }

    async fn pass(&mut self) -> Result<(), StoreFault> {
        let begun = Instant::now();
        // Before the listing: whatever was given up by then is listed, or has ended.
        let said = self.given_up.said();
        for id in &said.asked_for {
            self.setbacks.forget(*id);
        }
        let mut rows = UnfinishedRows::default();
        let listing = async || {
            rows = self.store.unfinished_rows().await?;
            Ok::<_, StoreFault>(std::mem::take(&mut rows.sagas))
        };
        let listed = match Window::open(&self.claims).list(listing).await {
            Ok(listed) => listed,
            Err(error) => {
                self.reported.listing_failed(&error);
                return Err(error);
            }
        };
        let found: BTreeSet<_> = listed.sagas().iter().map(|saga| saga.key.id).collect();
        self.unable.retain(|id| found.contains(id));
        self.unreadable.retain(|id, _| found.contains(id));
        let bury = self.hopeless(listed.sagas(), said.reasons.clone());
        let (engine, now) = (self.engine.clone(), Timestamp::now());
        let mut plan = listed.plan(&PlanRules {
            is_capable: &|saga| {
                engine.is_capable(&saga.kind, saga.version) || bury.contains_key(&saga.key.id)
            },
            setbacks: &self.setbacks,
            resumed_max: RESUMED_MAX,
            now,
        });
        self.setbacks.keep_only(&plan);
        let untried = plan.skipped.iter().chain(plan.waiting_for_version.iter().map(|saga| &saga.key));
        let untried: BTreeSet<_> = untried.map(|key| key.id).collect();
        self.failing.retain(|id, _| found.contains(id) && !untried.contains(id));
        let mut resume = std::mem::take(&mut plan.resume);
        let mut tally = Tally::default();
        let store = self.store.clone();
        let mut taken = take_some(&store, &mut resume).await;
        while let Some(batch) = taken {
            // The database has the next ones ready when the processors have resumed these.
            let next = async {
                if begun.elapsed() < PASS_LIMIT { take_some(&store, &mut resume).await } else { None }
            };
            (taken, ()) = tokio::join!(next, self.resume_batch(batch, &bury, &mut tally));
        }
        tally.not_reached = resume.len() as u64;
        tally.undecided.extend(plan.deferred.iter().map(|(key, _)| key.id));
        for (saga, resuming) in resume {
            tally.undecided.insert(saga.key.id);
            resuming.put_off();
        }
        self.given_up.decided(said.reasons.into_keys().filter(|id| !tally.undecided.contains(id)));
        let again = tally.not_reached > 0 || plan.deferred.iter().any(|(_, why)| *why == Deferral::Limit);
        self.report(&plan, &tally, &rows);
        if let Err(error) = self.look_at_others().await {
            tracing::warn!(error = chain(&error), "sagas of other coordinators cannot be read");
        }
        self.look_again(again, now);
        Ok(())
    }

    async fn look_at_others(&self) -> Result<(), DatabaseError> {
        let read_at = Timestamp::now();
        let sagas = self.store.of_others(OTHERS_MAX).await?;
        let coordinators = if sagas.is_empty() { Vec::new() } else { self.store.coordinators().await? };
        self.reported.others_are(Others { sagas, coordinators, read_at });
        Ok(())
    }

    /// What was planned in numbers, with what could not be read set apart.
    fn report(&mut self, plan: &Plan, tally: &Tally, rows: &UnfinishedRows) {
        // Whose kind can be read now waits for its version, if it is not this build's.
        plan.waiting_for_version.iter().for_each(|saga| drop(self.unreadable.remove(&saga.key.id)));
        let deferred = plan.deferred.iter().filter(|(key, _)| self.unreadable.contains_key(&key.id)).count();
        let waiting = plan.waiting_for_version.iter().map(|saga| saga.key.id);
        let waiting: Vec<_> = waiting.filter(|id| rows.unreadable.contains_key(id)).collect();
        let without_key: Vec<_> = rows.without_key.iter().map(ToString::to_string).collect();
        let mut pass = plan.report(tally.recovered, tally.failed);
        pass.found += without_key.len() as u64;
        pass.not_reached = tally.not_reached;
        pass.deferred = pass.deferred + tally.not_reached - deferred as u64;
        pass.waiting_for_version -= waiting.len() as u64;
        pass.unreadable = tally.unreadable + (deferred + waiting.len() + without_key.len()) as u64;
        let mut sagas = self.unreadable.clone();
        let listed = waiting.iter().filter_map(|id| Some((*id, rows.unreadable.get(id)?.to_string())));
        sagas.extend(listed);
        self.reported.passed(pass, UnreadableSagas { sagas, without_key }, self.failing.clone());
    }

    async fn resume_batch(
        &mut self,
        batch: Vec<(UnfinishedSaga, Taken)>,
        bury: &BTreeMap<SagaId, String>,
        tally: &mut Tally,
    ) {
        let engine = self.engine.clone();
        let engine = &engine;
        let mut resumed = futures::stream::iter(batch)
            .map(|(saga, taken)| {
                let reason = bury.get(&saga.key.id).cloned();
                async move { (saga, resume_one(engine, taken, reason).await) }
            })
            .buffer_unordered(RESUMES_AT_ONCE);
        while let Some((saga, resumed)) = resumed.next().await {
            let (now, id) = (Timestamp::now(), saga.key.id);
            match &resumed {
                Ok(()) => {
                    self.setbacks.forget(id);
                    self.unable.remove(&id);
                    self.unreadable.remove(&id);
                    self.failing.remove(&id);
                    tally.recovered += 1;
                }
                Err(why_not) => {
                    tracing::error!(saga = %saga.key, kind = saga.kind, reason = why_not.words(), "saga cannot be resumed");
                    self.setbacks.failed(id, now);
                    self.not_resumed(id, why_not, tally);
                }
            }
            self.reported.note(RecentSaga {
                time: now,
                saga: saga.key,
                reason: resumed.err().map(|why_not| why_not.words().to_owned()),
            });
        }
    }

    fn not_resumed(&mut self, id: SagaId, why_not: &NotResumed, tally: &mut Tally) {
        tally.undecided.insert(id);
        match why_not {
            // What could not be read was not looked at again.
            NotResumed::Failed(words) => {
                self.failing.insert(id, words.clone());
                tally.failed += 1;
            }
            NotResumed::ForGood(words) => {
                self.unreadable.remove(&id);
                self.unable.insert(id);
                self.failing.insert(id, words.clone());
                tally.failed += 1;
            }
            NotResumed::Unreadable(words) => {
                self.failing.remove(&id);
                self.unreadable.insert(id, words.clone());
                tally.unreadable += 1;
            }
        }
    }

    /// The next pass follows at once, or when the first of those that failed may be tried again.
    fn look_again(&mut self, at_once: bool, planned: Timestamp) {
        if let Some(alarm) = self.alarm.take() {
            alarm.abort();
        }
        if at_once {
            return self.activator.activate(Reason::Event("saga_batch"));
        }
        let Some(at) = self.setbacks.next(planned) else { return };
        let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
        let activator = self.activator.clone();
        self.alarm = Some(tokio::spawn(async move {
            tokio::time::sleep(left).await;
            activator.activate(Reason::Event("saga_setback"));
        }));
    }
}

/// Adopts the next ones, and loads them; none is left if there is no answer.
async fn take_some(
    store: &DatabaseSagaStore,
    resume: &mut Vec<(UnfinishedSaga, Resuming)>,
) -> Option<Vec<(UnfinishedSaga, Taken)>> {
    if resume.is_empty() {
        return None;
    }
    let rest = resume.split_off(resume.len().min(BATCH_SAGAS));
    let (sagas, resuming): (Vec<_>, Vec<_>) = std::mem::replace(resume, rest).into_iter().unzip();
    let taken = read_in_part(store, take(store, resuming).await).await;
    Some(sagas.into_iter().zip(taken).collect())
}

/// What became of those that a plan resumes.
#[derive(Debug, Default)]
struct Tally {
    recovered: u64,
    failed: u64,
    unreadable: u64,
    not_reached: u64,
    /// Those about which it has not decided: the next pass does.
    undecided: BTreeSet<SagaId>,
}

impl Drop for RecoveryTask {
    fn drop(&mut self) {
        if let Some(alarm) = self.alarm.take() {
            alarm.abort();
        }
    }
}
