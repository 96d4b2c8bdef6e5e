//! The pass: collect → plan → start → release → report.

use crate::{
    config::ReplicationSettings,
    releases::StagingArea,
    replication::{
        Observed,
        collect::{self, Collector},
        gauges::Gauges,
        transfers::{Order, Transfers},
    },
};
use ids::{ClusterId, CoordinatorId, RepositoryId, SledId};
use nexus_client::sleds::M2;
use nexus_database::{
    Database, DatabaseError,
    sleds::SledRow,
    wanted::{Wanted, WantedArtifact},
};
use nexus_replication::{How, Inputs, Limits, Plan, Policy, Summary};
use nexus_tasks::{Activation, Activator, BackgroundTask, PassFuture, Reason, TaskFailure};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
    time::Instant,
};
use tokio::task::AbortHandle;

/// Transfers in all. Far above what one coordinator's sleds run at their own limits; it bounds this process's memory.
const TRANSFERS_TOTAL: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");

/// Brings every wanted artifact onto every sled.
#[derive(Debug)]
pub struct ReplicationTask {
    /// The durable state.
    pub database: Database,
    /// Which cluster the sleds are told to obey.
    pub cluster_id: ClusterId,
    /// Whose staging this is.
    pub coordinator_id: CoordinatorId,
    /// The rules in numbers.
    pub settings: ReplicationSettings,
    /// What is known about sleds and transfers.
    pub observed: Observed,
    /// Asks sleds.
    pub collector: Collector,
    /// Starts transfers.
    pub transfers: Transfers,
    /// Where uploaded bytes are.
    pub staging: StagingArea,
    /// Its numbers.
    pub gauges: Gauges,
    /// This task's own activator, for what is due at a certain time.
    pub activator: Activator,
    /// The timer that runs for that, if one does.
    pub alarm: Option<AbortHandle>,
}

/// What one pass did.
#[derive(Debug, Serialize)]
struct Report {
    /// Sleds asked what they hold.
    sleds_asked: u64,
    /// Uploads that are not needed any more and were removed.
    uploads_released: u64,
    /// Where everything stands.
    #[serde(flatten)]
    summary: Summary,
}

impl BackgroundTask for ReplicationTask {
    fn name(&self) -> &'static str {
        "artifact_replication"
    }

    fn description(&self) -> &'static str {
        "brings verified copies of every wanted artifact onto every sled"
    }

    fn run<'a>(&'a mut self, activation: &'a Activation) -> PassFuture<'a> {
        Box::pin(async move {
            let report = self.pass(activation).await.map_err(TaskFailure::new)?;
            Ok(serde_json::to_value(report).expect("a report is plain data"))
        })
    }
}

impl ReplicationTask {
    async fn pass(&mut self, activation: &Activation) -> Result<Report, DatabaseError> {
        let wanted = self.database.wanted().await?;
        let sleds = self.database.sleds_in_service().await?;
        let ids: BTreeSet<SledId> = sleds.iter().map(|sled| sled.id).collect();
        self.observed.forget_others(&ids, &wanted.hashes());

        let config = Arc::new(collect::config_of(self.cluster_id, &wanted));
        let everything = activation
            .reasons
            .iter()
            .any(|reason| matches!(reason, Reason::Start | Reason::Timer | Reason::Operator));
        let sleds_asked = self.collector.collect(&sleds, &config, everything).await;

        let plan = Arc::new(nexus_replication::plan(&self.inputs(&wanted, &sleds, activation.iteration)));
        self.start(&plan, &wanted, &sleds);
        self.set_alarm();
        // Told as soon as it is so: the rest of the pass may fail, or be cut off by its time limit.
        self.gauges.set(&plan.summary, &self.m2s(&sleds));
        self.observed.publish_plan(Arc::clone(&plan));
        let uploads_released = self.release(&plan, &wanted).await?;
        Ok(Report { sleds_asked, uploads_released, summary: plan.summary.clone() })
    }

    /// Every M.2 of every sled in service, as last seen.
    fn m2s(&self, sleds: &[SledRow]) -> Vec<(String, M2)> {
        let of_sled = |sled: &SledRow| {
            let name = sled.name.clone();
            self.observed.m2s(sled.id).into_iter().map(move |m2| (name.clone(), m2))
        };
        sleds.iter().flat_map(of_sled).collect()
    }

    fn inputs(&self, wanted: &Wanted, sleds: &[SledRow], iteration: u64) -> Inputs {
        let staged = |artifact: &WantedArtifact, here: bool| {
            artifact.staged.iter().any(|staged| (staged.coordinator_id == self.coordinator_id) == here)
        };
        let artifacts = wanted.artifacts.iter().map(|(hash, artifact)| {
            let artifact = nexus_replication::WantedArtifact {
                size: artifact.size,
                staged_here: staged(artifact, true),
                staged_elsewhere: staged(artifact, false),
            };
            (*hash, artifact)
        });
        // Transfers first, sleds last: a transfer that ends in between is then seen on its sled, never in neither. It
        // may be seen in both, which costs a slot until the next pass.
        let in_flight = self.observed.in_flight();
        let sent_to = self.observed.sent_to();
        let failed_sources = self.observed.failed_sources();
        let backing_off = self.observed.backing_off();
        let sleds =
            sleds.iter().map(|sled| (sled.id, self.observed.sled_view(sled.id, wanted.generation))).collect();
        Inputs {
            wanted: nexus_replication::Wanted {
                generation: wanted.generation,
                artifacts: artifacts.collect(),
            },
            sleds,
            in_flight,
            backing_off,
            failed_sources,
            sent_to,
            policy: self.policy(),
            rotation: iteration,
        }
    }

    fn policy(&self) -> Policy {
        Policy {
            min_replication: self.settings.min_replication,
            limits: Limits {
                transfers_per_target: self.settings.transfers_per_target,
                transfers_per_source: self.settings.transfers_per_source,
                puts_total: self.settings.puts_total,
                transfers_total: TRANSFERS_TOTAL,
            },
        }
    }

    fn start(&self, plan: &Plan, wanted: &Wanted, sleds: &[SledRow]) {
        let by_id: BTreeMap<SledId, &SledRow> = sleds.iter().map(|sled| (sled.id, sled)).collect();
        let address = |id: &SledId| by_id.get(id).and_then(|sled| sled.address.as_ref());
        for start in &plan.start {
            let (Some(target), Some(artifact)) = (address(&start.target), wanted.artifacts.get(&start.hash))
            else {
                continue;
            };
            let depots = match &start.how {
                How::Put => Vec::new(),
                How::Copy { sources } => {
                    sources.iter().filter_map(address).map(|address| address.depot_url.clone()).collect()
                }
            };
            self.transfers.start(Order {
                generation: plan.generation,
                hash: start.hash,
                artifact: artifact.clone(),
                target: start.target,
                address: target.clone(),
                how: start.how.clone(),
                depots,
            });
        }
    }

    /// Lets go of uploads of which enough sleds hold every artifact. Only uploads that were part of this pass's wanted
    /// set are looked at: one that came since has not been planned for. The row goes first: a crash in between
    /// leaves a file that no row names, which the next start removes.
    async fn release(&self, plan: &Plan, wanted: &Wanted) -> Result<u64, DatabaseError> {
        let mut uploads: BTreeMap<(RepositoryId, &str), bool> = BTreeMap::new();
        for (hash, artifact) in &wanted.artifacts {
            for staged in artifact.staged.iter().filter(|staged| staged.coordinator_id == self.coordinator_id)
            {
                let releasable = uploads.entry((staged.repository_id, &staged.file)).or_insert(true);
                *releasable &= plan.releasable.contains(hash);
            }
        }
        let mut released = 0;
        for ((repository, file), _) in uploads.into_iter().filter(|(_, releasable)| *releasable) {
            if self.database.unstage(repository, self.coordinator_id, file).await? {
                released += 1;
                self.gauges.upload_released();
                // A PUT that is reading the file keeps it until it ends.
                if let Err(error) = self.staging.remove(file).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        file,
                        "a staged file stays for now"
                    );
                }
            }
        }
        Ok(released)
    }

    /// Wakes the task when something is due that nobody announces: the end of a back-off, the silence of a sled.
    fn set_alarm(&mut self) {
        if let Some(alarm) = self.alarm.take() {
            alarm.abort();
        }
        let (observed, activator) = (self.observed.clone(), self.activator.clone());
        let task = tokio::spawn(async move {
            // Each heartbeat moves the time at which its sled would be silent, so that in peace this only looks.
            while let Some(time) = observed.next_event() {
                if time <= Instant::now() {
                    activator.activate(Reason::Event("due"));
                    return;
                }
                tokio::time::sleep_until(time.into()).await;
            }
        });
        self.alarm = Some(task.abort_handle());
    }
}
