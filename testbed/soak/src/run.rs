//! What every run has: a cluster, clients with their ledger, and, at the end, the books that must agree.

use crate::{
    audit::{Audit, audit},
    client::Client,
    ledger::{Counts, Finding, Ledger},
    order::SoakSite,
    recovery::{self, RecoveryTotals},
    site::{self, COORDINATOR},
};
use anyhow::Result;
use nexus_client::OperatorClient;
use std::{sync::Arc, time::Instant};
use testbed::OwnedCluster;
use tokio::task::JoinSet;

/// Clients that create sagas on a cluster.
pub(crate) struct Run {
    pub(crate) cluster: OwnedCluster,
    pub(crate) operator: OperatorClient,
    pub(crate) ledger: Arc<Ledger>,
    clients: JoinSet<()>,
    started: Instant,
}

/// What is written of a run, by each who has counted.
pub(crate) struct Books {
    pub(crate) counts: Counts,
    /// Recovery's own, in the last life.
    pub(crate) totals: RecoveryTotals,
    /// The database's.
    pub(crate) audit: Audit,
    /// Seconds that the creating took.
    pub(crate) seconds: f64,
    /// What must not be.
    pub(crate) findings: Vec<Finding>,
}

impl Run {
    /// Begins, with so many clients, of whose sagas so many of a hundred are told to fail.
    pub(crate) async fn begin(
        site: &SoakSite,
        name: &str,
        failing_percent: u32,
        clients: u32,
        seed: u64,
    ) -> Result<Run> {
        let cluster = site::start(site, name).await?;
        let (ledger, operator) = (Arc::new(Ledger::default()), cluster.operator()?);
        let started = Instant::now();
        let client = Client {
            cluster: cluster.clone(),
            operator: operator.clone(),
            ledger: Arc::clone(&ledger),
            failing_percent,
        };
        let clients = client.many(clients, seed);
        Ok(Run { cluster, operator, ledger, clients, started })
    }

    /// Whether clients still work; one that panicked ends the run.
    pub(crate) fn is_any_left(&mut self) -> Result<bool> {
        while let Some(ended) = self.clients.try_join_next() {
            ended?;
        }
        Ok(!self.clients.is_empty())
    }

    /// Closes the books, when no client is left, and ends the cluster. What they must agree about, `agree` says.
    pub(crate) async fn close(
        self,
        agree: impl FnOnce(Counts, RecoveryTotals, Audit) -> Vec<Finding>,
    ) -> Result<Books> {
        let seconds = self.started.elapsed().as_secs_f64();
        let (totals, findings) = recovery::pass(&self.operator).await?;
        findings.into_iter().for_each(|finding| self.ledger.found(finding));
        self.cluster.stop(COORDINATOR).await?;
        let (audit, findings) = audit(&self.cluster, &self.ledger).await?;
        findings.into_iter().for_each(|finding| self.ledger.found(finding));
        let counts = self.ledger.counts();
        agree(counts, totals, audit).into_iter().for_each(|finding| self.ledger.found(finding));
        self.cluster.finish().await?;
        Ok(Books { counts, totals, audit, seconds, findings: self.ledger.findings() })
    }
}
