//! A volume that a sled's Pantry holds, asked for as a coordinator would. Owns the calls and how long they are waited for; what the volume
//! is made of is [`crate::volume`]'s.
//!
//! ```text
//!   attach ──► import ──► export ──► put (a newer request: members are replaced) ──► snapshot ──► detach
//! ```

use crate::{cluster::Cluster, volume::EXECUTOR_EPOCH, wait::wait_for};
use anyhow::{Context, Result, bail, ensure};
use camino::Utf8PathBuf;
use ids::{ArtifactHash, RegionId, SnapshotId, VolumeId};
use sled_client::{
    SledClient,
    pantry::{
        Activate, AttachQuery, ExportRequest, ImportRequest, PantryJob, PantryJobState, PantryVolumeState,
        RequestResult, SnapshotAnswer,
    },
};
use std::time::Duration;
use volume_export::{ExportStatus, RepairStatus};
use volume_repair::ConstructionRequest;

/// How long a job's end is waited for with one call.
const JOB_WAIT: Duration = Duration::from_millis(500);

/// What stands before the path of an export's socket.
const SOCKET_URI: &str = "nbd+unix:///?socket=";

/// A volume that the Pantry of a sled holds. It does so until it is detached, whatever becomes of this.
#[derive(Clone, Debug)]
pub struct HeldVolume {
    id: VolumeId,
    sled: String,
    client: SledClient,
}

impl Cluster {
    /// Has the Pantry of a sled hold a volume; on return it is active.
    pub async fn attach_volume(&self, sled: &str, request: &ConstructionRequest) -> Result<HeldVolume> {
        let (id, client) = (VolumeId(request.id), self.sled_as_coordinator(sled)?);
        let volume = HeldVolume { id, sled: sled.to_owned(), client };
        volume.put(request).await?;
        volume.is_active().await?;
        Ok(volume)
    }
}

impl HeldVolume {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> VolumeId {
        self.id
    }

    /// Puts a construction request: a newer one replaces members while the volume goes on.
    pub async fn put(&self, request: &ConstructionRequest) -> Result<RequestResult> {
        let query = AttachQuery { executor_epoch: EXECUTOR_EPOCH, activate: Activate::Now };
        let answer = self.client.put_pantry_volume(self.id, query, request).await;
        Ok(answer.with_context(|| self.doing("putting a construction request of"))?.result)
    }

    /// The same of a request with other members than it has: from now on they are replaced.
    pub async fn replace(&self, request: &ConstructionRequest) -> Result<()> {
        let result = self.put(request).await?;
        ensure!(result == RequestResult::Started, "{}: it is {result:?}", self.doing("replacing members of"));
        Ok(())
    }

    /// Fills it, from its first byte on, with what a web server has, which has to have this SHA-256; returns when that is durable.
    pub async fn import(&self, url: String, size_bytes: u64, sha256: ArtifactHash) -> Result<PantryJob> {
        let executor_epoch = EXECUTOR_EPOCH;
        let order = ImportRequest { executor_epoch, job_id: None, url, size_bytes, sha256: Some(sha256) };
        let asked = self.client.pantry_import_url(self.id, &order).await;
        let mut job = asked.with_context(|| self.doing("importing into"))?;
        // It fails by itself if its source says nothing; whether its members are there is the caller's to bound.
        while !job.state.is_terminal() {
            let seen = self.client.pantry_job(self.id, job.id, JOB_WAIT).await;
            job = seen.with_context(|| self.doing("importing into"))?;
        }
        if job.state != PantryJobState::Done {
            let why = job.error.map_or_else(|| "it does not say why".to_owned(), |error| error.to_string());
            bail!("{}: the import is {:?}: {why}", self.doing("importing into"), job.state);
        }
        Ok(job)
    }

    /// Exports it over NBD; the socket at which clients find it.
    pub async fn export(&self, read_only: bool) -> Result<Utf8PathBuf> {
        let order = ExportRequest::unix(EXECUTOR_EPOCH, read_only);
        let answer = self.client.pantry_export(self.id, &order).await;
        let uri = answer.with_context(|| self.doing("exporting"))?.uri;
        let path = uri.strip_prefix(SOCKET_URI);
        Ok(path.with_context(|| format!("an export is at {uri:?}, which is no socket"))?.into())
    }

    /// Keeps what was written until now as a snapshot.
    pub async fn snapshot(&self, id: SnapshotId) -> Result<SnapshotAnswer> {
        let taken = self.client.pantry_snapshot(self.id, id, EXECUTOR_EPOCH).await;
        taken.with_context(|| self.doing("taking a snapshot of"))
    }

    /// What it says of itself. An error also if it is not active, or not any more.
    pub async fn status(&self) -> Result<ExportStatus> {
        serde_json::from_value(self.is_active().await?).with_context(|| self.doing("reading the status of"))
    }

    /// Waits until it says of itself what is wanted: `is_it` answers how things stand otherwise. A volume that ends meanwhile ends this, too.
    pub async fn wait_status<T>(
        &self,
        what: &str,
        limit: Duration,
        mut is_it: impl FnMut(ExportStatus) -> Result<T, String>,
    ) -> Result<T> {
        wait_for(what, limit, async || match self.status().await {
            Ok(status) => is_it(status).map(Ok),
            Err(error) => Ok(Err(error)),
        })
        .await?
    }

    /// Waits until the newest filling of this region is as wanted, which it is asked for each time that it is looked at.
    pub async fn wait_filling(
        &self,
        what: &str,
        region: RegionId,
        limit: Duration,
        mut is_it: impl FnMut(&RepairStatus) -> bool,
    ) -> Result<RepairStatus> {
        self.wait_status(what, limit, |status| {
            let newest = status.repairs.into_iter().rfind(|repair| repair.region.region_id == region);
            match newest {
                Some(repair) if is_it(&repair) => Ok(repair),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// Has it held no more: clients and jobs end, and what they have written is durable. A second time is no error.
    pub async fn detach(&self) -> Result<()> {
        let gone = self.client.delete_pantry_volume(self.id, EXECUTOR_EPOCH).await;
        gone.with_context(|| self.doing("detaching"))
    }

    /// Its status, if it is active.
    async fn is_active(&self) -> Result<serde_json::Value> {
        let volume = self.client.pantry_volume(self.id).await.with_context(|| self.doing("looking at"))?;
        ensure!(
            volume.state == PantryVolumeState::Active,
            "volume {} is not active at {}, but {:?}: {}",
            self.id,
            self.sled,
            volume.state,
            volume.reason.unwrap_or_default()
        );
        volume.status.with_context(|| format!("{} says nothing of volume {}", self.sled, self.id))
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} volume {} at {}", self.id, self.sled)
    }
}
