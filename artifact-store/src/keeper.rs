//! The store's one loop: it plans, starts what was planned in blocking threads, and takes new configs in, one at a time.
//! Owns which lane is busy and the config that is being made durable; everything else it reads from the inventory.
//!
//! ```text
//!              ┌────────────── select ───────────────┐
//!   work ──────┤ put_config · job done · alarm · stop │──▶ apply ──▶ plan ──▶ start jobs ──┐
//!              └──────────────────────────────────────┘                                     │
//!                    ▲──────────────────────────────────────────────────────────────────────┘
//! ```
//! A new config, and what a crash at each point leaves:
//!
//! ```text
//!   judged ──▶ ledgers being written, side by side ──first one durable──▶ in force, answered ──▶ other ledgers converge
//!              (crash: the old config, or the       (crash: the new config: the highest
//!               new one if its ledger was durable)   generation among the ledgers counts)
//! ```
//! A ledger that becomes durable after nobody waits for it any more puts its config in force all the same: what a start
//! would find is what holds.

use crate::{
    admission,
    config::StoreArtifactsConfig,
    copy,
    error::StoreError,
    failure::{DatasetFailure, FailureCause},
    inventory::{ConfigVerdict, DatasetIndex, Event, Health, Inventory, Trouble},
    ledger,
    plan::{Circumstances, Job, Lane, plan},
    records::Floor,
    repair,
    shared::Shared,
    verify,
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tracing::{error, info};

/// Configs that may wait for their turn; a coordinator sends one and waits for its answer.
pub(crate) const COMMANDS_MAX: usize = 16;
/// How long a start waits for datasets that do not answer. A healthy one needs milliseconds, and an agent should serve
/// what it has.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(2);

/// A config that somebody wants to put in force.
#[derive(Debug)]
pub(crate) struct PutConfig {
    pub(crate) config: Arc<StoreArtifactsConfig>,
    pub(crate) reply: oneshot::Sender<Result<Arc<StoreArtifactsConfig>, StoreError>>,
}

/// A config on its way to the disks.
#[derive(Debug)]
struct PendingPut {
    put: PutConfig,
    started: BTreeSet<DatasetIndex>,
    running: BTreeSet<DatasetIndex>,
    failures: Vec<DatasetFailure>,
    give_up_at: Instant,
}

/// What the loop wakes up for.
enum Wake {
    Put(PutConfig),
    JobDone(Option<(DatasetIndex, Lane, Result<(), FailureCause>)>),
    /// Something changed, or an alarm went off: look again.
    Look,
    Stop,
}

/// The loop and what only it knows.
#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    commands: mpsc::Receiver<PutConfig>,
    jobs: JoinSet<(DatasetIndex, Lane, Result<(), FailureCause>)>,
    busy: BTreeSet<(DatasetIndex, Lane)>,
    checked_at: Vec<Instant>,
    /// Since when each dataset's control lane has had its job.
    control_since: BTreeMap<DatasetIndex, Instant>,
    pending: Option<PendingPut>,
    settle_at: Instant,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>, commands: mpsc::Receiver<PutConfig>) -> Keeper {
        let now = Instant::now();
        Keeper {
            checked_at: vec![now; shared.datasets.len()],
            shared,
            commands,
            jobs: JoinSet::new(),
            busy: BTreeSet::new(),
            control_since: BTreeMap::new(),
            pending: None,
            settle_at: now + SETTLE_TIME_MAX,
        }
    }

    /// Runs until a stop is asked for and the running jobs have ended, or hang.
    pub(crate) async fn run(mut self) {
        loop {
            let alarm = self.act();
            match self.wait(alarm).await {
                Wake::Put(put) => self.take(put),
                Wake::JobDone(done) => self.job_done(done),
                Wake::Look => {}
                Wake::Stop => break,
            }
        }
        let drain = async { while self.jobs.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(self.shared.config.slow_writer_limit, drain).await;
    }

    async fn wait(&mut self, alarm: Option<Instant>) -> Wake {
        let alarm = async move {
            match alarm {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.shared.stop.wait() => Wake::Stop,
            Some(done) = self.jobs.join_next() => Wake::JobDone(done.ok()),
            Some(put) = self.commands.recv(), if self.pending.is_none() => Wake::Put(put),
            () = self.shared.work.notified() => Wake::Look,
            () = alarm => Wake::Look,
        }
    }

    /// Does what can be done now; when to look again.
    fn act(&mut self) -> Option<Instant> {
        let now = Instant::now();
        self.settle(now);
        let overdue_at = self.report_overdue(now);
        self.advance_put(now);
        self.shared.ask(|inventory| inventory.end_empty_scrub(Timestamp::now()));
        let scrub_after = self.shared.config.scrub_after;
        let scrub_at =
            self.shared.ask(|inventory| inventory.scrub_what_is_old(now, Timestamp::now(), scrub_after));
        let circumstances = Circumstances {
            now,
            wall: Timestamp::now(),
            trash_grace: self.shared.config.trash_grace,
            check_interval: self.shared.config.check_interval,
            busy: &self.busy,
            checked_at: &self.checked_at,
        };
        let plan = self.shared.look(|inventory| plan(inventory, &circumstances));
        for (dataset, job) in plan.starts {
            self.start(dataset, job);
        }
        let settle_at = (!self.is_settled()).then_some(self.settle_at);
        let give_up_at = self.pending.as_ref().map(|pending| pending.give_up_at);
        [plan.wake_at, settle_at, give_up_at, overdue_at, scrub_at].into_iter().flatten().min()
    }

    /// A dataset that does not even end a control job is in trouble that nobody else may notice; when the next one would
    /// be. Once for each job: its end is asked about by a probe.
    fn report_overdue(&mut self, now: Instant) -> Option<Instant> {
        let limit = self.shared.config.slow_writer_limit;
        let (overdue, running) = self.control_since.iter().partition(|(_, since)| now >= **since + limit);
        let (overdue, running): (BTreeMap<DatasetIndex, Instant>, BTreeMap<_, _>) = (overdue, running);
        for dataset in overdue.into_keys() {
            let reason = format!("a look at it did not end within {limit:?}");
            self.shared.report_trouble(dataset, self.shared.incarnation(dataset), Trouble::Slow, reason);
        }
        let next = running.values().min().map(|since| *since + limit);
        self.control_since = running;
        next
    }

    fn is_settled(&self) -> bool {
        self.shared.look(|inventory| inventory.settled)
    }

    /// Ends the start once every dataset has been admitted or refused, or the time for that is over.
    fn settle(&mut self, now: Instant) {
        let opening = self
            .shared
            .look(|inventory| inventory.datasets.iter().any(|state| state.health == Health::Opening));
        if !self.is_settled() && (!opening || now >= self.settle_at) {
            self.shared.apply(Event::Settled { now });
            let generation = self.shared.look(Inventory::generation);
            info!(generation = generation.0, "artifact store ready");
        }
    }

    fn start(&mut self, dataset: DatasetIndex, job: Job) {
        let lane = job.lane();
        self.busy.insert((dataset, lane));
        if lane == Lane::Control {
            self.control_since.insert(dataset, Instant::now());
        }
        let shared = Arc::clone(&self.shared);
        self.jobs.spawn_blocking(move || (dataset, lane, run(&shared, dataset, &job)));
    }

    fn job_done(&mut self, done: Option<(DatasetIndex, Lane, Result<(), FailureCause>)>) {
        let Some((dataset, lane, result)) = done else {
            // A bug; the job's lane stays busy rather than to run into the same bug for ever.
            error!("a maintenance job of the artifact store panicked");
            return;
        };
        self.busy.remove(&(dataset, lane));
        if lane == Lane::Control {
            self.control_since.remove(&dataset);
        }
        self.checked_at[dataset] = Instant::now();
        if lane == Lane::Ledger {
            self.ledger_done(dataset, result);
        }
    }

    fn take(&mut self, put: PutConfig) {
        match self.shared.look(|inventory| inventory.judge_config(&put.config)) {
            Ok(ConfigVerdict::Newer) => {
                let give_up_at = Instant::now() + self.shared.config.slow_writer_limit;
                self.pending = Some(PendingPut {
                    put,
                    started: BTreeSet::new(),
                    running: BTreeSet::new(),
                    failures: Vec::new(),
                    give_up_at,
                });
            }
            Ok(ConfigVerdict::InForceAlready) => drop(put.reply.send(Ok(put.config))),
            Err(error) => drop(put.reply.send(Err(error))),
        }
    }

    /// Starts writing the new config's ledger wherever that can be done; gives up when it can be done nowhere.
    fn advance_put(&mut self, now: Instant) {
        let Some(mut pending) = self.pending.take() else { return };
        for dataset in 0..self.checked_at.len() {
            let free = !self.busy.contains(&(dataset, Lane::Ledger));
            let writable = self.shared.look(|inventory| inventory.datasets[dataset].health.is_writable());
            if writable && free && pending.started.insert(dataset) {
                pending.running.insert(dataset);
                self.start(dataset, Job::WriteLedger(Arc::clone(&pending.put.config)));
            }
        }
        let waits_for_lane = (0..self.checked_at.len()).any(|dataset| {
            let writable = self.shared.look(|inventory| inventory.datasets[dataset].health.is_writable());
            writable && !pending.started.contains(&dataset)
        });
        if now >= pending.give_up_at || (pending.running.is_empty() && !waits_for_lane) {
            let failures = self.explain(&mut pending);
            let _ = pending.put.reply.send(Err(StoreError::NoHealthyDataset { failures }));
        } else {
            self.pending = Some(pending);
        }
    }

    /// Why no dataset took the new config, for each of them.
    fn explain(&self, pending: &mut PendingPut) -> Vec<DatasetFailure> {
        let mut failures = std::mem::take(&mut pending.failures);
        for dataset in 0..self.checked_at.len() {
            let name = self.shared.name(dataset);
            if failures.iter().any(|failure| failure.dataset == name) {
                continue;
            }
            let cause = if pending.running.contains(&dataset) {
                FailureCause::TooSlow { limit: self.shared.config.slow_writer_limit }
            } else {
                self.shared.look(|inventory| inventory.datasets[dataset].not_in_use())
            };
            failures.push(DatasetFailure { dataset: name.to_owned(), cause });
        }
        failures
    }

    fn ledger_done(&mut self, dataset: DatasetIndex, result: Result<(), FailureCause>) {
        let Some(mut pending) = self.pending.take() else { return };
        if !pending.running.remove(&dataset) {
            self.pending = Some(pending);
            return;
        }
        match result {
            Ok(()) => {
                info!(
                    generation = pending.put.config.generation.0,
                    artifacts = pending.put.config.artifacts.len(),
                    "artifact config in force"
                );
                let _ = pending.put.reply.send(Ok(pending.put.config));
            }
            Err(cause) => {
                let dataset = self.shared.name(dataset).to_owned();
                pending.failures.push(DatasetFailure { dataset, cause });
                self.pending = Some(pending);
            }
        }
    }
}

/// Carries one job out. Only a ledger's outcome is asked for; the others tell the inventory.
fn run(shared: &Arc<Shared>, dataset: DatasetIndex, job: &Job) -> Result<(), FailureCause> {
    match job {
        Job::Admit => admission::admit(shared, dataset),
        Job::Probe => admission::probe_again(shared, dataset),
        Job::Check => admission::check(shared, dataset),
        Job::Quarantine(hashes) => copy::set_aside(shared, dataset, hashes),
        Job::Restore(entries) => copy::restore(shared, dataset, entries),
        Job::Trash(hashes) => drop(copy::trash(shared, dataset, hashes)),
        Job::PurgeTrash(entries) => drop(copy::purge_trash(shared, dataset, entries)),
        Job::PurgeQuarantine(entries) => drop(copy::purge_quarantine(shared, dataset, entries)),
        Job::WriteLedger(config) => return write_ledger(shared, dataset, config),
        Job::Verify(hashes) => verify::verify(shared, dataset, hashes),
        Job::Repair(hashes) => repair::repair(shared, dataset, hashes),
        Job::Scrub(hashes) => verify::scrub(shared, dataset, hashes),
    }
    Ok(())
}

fn write_ledger(
    shared: &Shared,
    dataset: DatasetIndex,
    config: &Arc<StoreArtifactsConfig>,
) -> Result<(), FailureCause> {
    let incarnation = shared.incarnation(dataset);
    ledger::write(shared.datasets[dataset].storage(), config).map_err(|error| {
        if error.is_exhausted() {
            shared.apply(Event::LedgerPostponed { dataset, now: Instant::now() });
        }
        shared.failed(dataset, incarnation, error)
    })?;
    // The ledger is durable; that the records remember its generation too is for the day when it is damaged.
    if let Err(error) = admission::remember_generation(shared, dataset, Floor::of(config)) {
        shared.report_error(dataset, incarnation, &error);
    }
    shared.apply(Event::LedgerWritten { dataset, config: Arc::clone(config) });
    Ok(())
}
