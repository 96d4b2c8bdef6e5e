//! The sled API's client.

use crate::{
    artifacts::{
        ArtifactJob, ArtifactJobPage, ArtifactsConfig, ArtifactsList, CopyAccepted, CopyRequest,
        GenerationQuery, PutArtifactResult, ScrubStatus, WaitQuery,
    },
    disks::DiskPage,
    inventory::Inventory,
    pantry::{
        AttachAnswer, AttachQuery, ExportAnswer, ExportRequest, ImportQuery, ImportRequest, PantryJob,
        PantryJobPage, PantryVolume, PantryVolumePage, ScrubRequest, SnapshotAnswer, UnexportAnswer,
        UnexportRequest, VOLUME_KEY_HEADER,
    },
    regions::{ExecutorQuery, Region, RegionListQuery, RegionPage, RegionRequest},
};
use api_client::{ApiClient, ClientError, ClientOptions};
use bytes::Bytes;
use futures::Stream;
use ids::{ArtifactHash, Generation, JobId, RegionId, SnapshotId, VolumeId};
use reqwest::{Body, Method, header::HeaderValue};
use serde::Serialize;
use std::{path::Path, time::Duration};

/// Calls one sled agent.
#[derive(Clone, Debug)]
pub struct SledClient {
    api: ApiClient,
}

impl SledClient {
    /// A client of the agent at `base_url`, such as `http://127.0.1.1:12345`.
    pub fn new(base_url: &str, options: &ClientOptions) -> Result<SledClient, ClientError> {
        Ok(SledClient { api: ApiClient::new(base_url, options)? })
    }

    /// A client of a process on this machine that answers the same calls at a socket in the file system: the agent's Pantry.
    ///
    /// # Errors
    /// If the HTTP client cannot be set up.
    pub fn at_socket(path: &Path, options: &ClientOptions) -> Result<SledClient, ClientError> {
        Ok(SledClient { api: ApiClient::at_socket(path, options)? })
    }

    /// What the sled is.
    pub async fn inventory(&self) -> Result<Inventory, ClientError> {
        self.api.get_json(&["inventory"], &()).await
    }

    /// The sled's disks.
    pub async fn disks(&self) -> Result<DiskPage, ClientError> {
        self.api.get_json(&["disks"], &()).await
    }

    /// What the sled should hold.
    pub async fn artifacts_config(&self) -> Result<ArtifactsConfig, ClientError> {
        self.api.get_json(&["artifacts-config"], &()).await
    }

    /// Tells the sled what it should hold; answers with what is in force.
    pub async fn put_artifacts_config(
        &self,
        config: &ArtifactsConfig,
    ) -> Result<ArtifactsConfig, ClientError> {
        self.api.send_json(self.api.request(Method::PUT, &["artifacts-config"]).json(config)).await
    }

    /// What the sled holds.
    pub async fn artifacts(&self) -> Result<ArtifactsList, ClientError> {
        self.api.get_json(&["artifacts"], &()).await
    }

    /// Streams an artifact of `size` bytes to the sled.
    pub async fn put_artifact<S, E>(
        &self,
        hash: &ArtifactHash,
        generation: Generation,
        size: u64,
        body: S,
    ) -> Result<PutArtifactResult, ClientError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let request = self
            .api
            .request(Method::PUT, &["artifacts", &hash.to_string()])
            .query(&GenerationQuery { generation })
            .header(reqwest::header::CONTENT_LENGTH, size)
            .body(Body::wrap_stream(body));
        self.api.send_json(request).await
    }

    /// Asks the sled to fetch an artifact from peers.
    pub async fn copy_from_depot(
        &self,
        hash: &ArtifactHash,
        generation: Generation,
        request: &CopyRequest,
    ) -> Result<CopyAccepted, ClientError> {
        let request = self
            .api
            .request(Method::POST, &["artifacts", &hash.to_string(), "copy-from-depot"])
            .query(&GenerationQuery { generation })
            .json(request);
        self.api.send_json(request).await
    }

    /// Takes an artifact that the config does not want off the sled.
    pub async fn delete_artifact(
        &self,
        hash: &ArtifactHash,
        generation: Generation,
    ) -> Result<(), ClientError> {
        let request = self
            .api
            .request(Method::DELETE, &["artifacts", &hash.to_string()])
            .query(&GenerationQuery { generation });
        self.api.send(request).await.map(drop)
    }

    /// Starts a verification of every stored byte.
    pub async fn scrub(&self) -> Result<ScrubStatus, ClientError> {
        self.api.send_json(self.api.request(Method::POST, &["artifacts", "scrub"])).await
    }

    /// The copy jobs that the sled remembers, newest first.
    pub async fn jobs(&self) -> Result<ArtifactJobPage, ClientError> {
        self.api.get_json(&["artifact-jobs"], &()).await
    }

    /// One copy job; waits up to `wait` for its end.
    pub async fn job(&self, id: JobId, wait: Duration) -> Result<ArtifactJob, ClientError> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.api.get_json(&["artifact-jobs", &id.to_string()], &WaitQuery { wait_ms }).await
    }

    /// Cancels a copy job.
    pub async fn cancel_job(&self, id: JobId) -> Result<(), ClientError> {
        self.api.send(self.api.request(Method::DELETE, &["artifact-jobs", &id.to_string()])).await.map(drop)
    }

    /// A page of the sled's regions.
    pub async fn regions(&self, query: &RegionListQuery) -> Result<RegionPage, ClientError> {
        self.api.get_json(&["regions"], query).await
    }

    /// One region.
    pub async fn region(&self, id: RegionId) -> Result<Region, ClientError> {
        self.api.get_json(&["regions", &id.to_string()], &()).await
    }

    /// Makes a region, or finds that it is there already.
    pub async fn put_region(&self, id: RegionId, region: &RegionRequest) -> Result<Region, ClientError> {
        let request = self.api.request(Method::PUT, &["regions", &id.to_string()]).json(region);
        self.api.send_json(request).await
    }

    /// Takes a snapshot of a region that nobody writes; done if it is there.
    pub async fn put_region_snapshot(
        &self,
        id: RegionId,
        snapshot: SnapshotId,
        executor_epoch: u64,
    ) -> Result<(), ClientError> {
        let path = ["regions", &id.to_string(), "snapshots", &snapshot.to_string()];
        let request = self.api.request(Method::PUT, &path);
        self.api.send(request.query(&ExecutorQuery { executor_epoch })).await.map(drop)
    }

    /// Deletes a snapshot of a region; done if it is not there.
    pub async fn delete_region_snapshot(
        &self,
        id: RegionId,
        snapshot: SnapshotId,
        executor_epoch: u64,
    ) -> Result<(), ClientError> {
        let path = ["regions", &id.to_string(), "snapshots", &snapshot.to_string()];
        let request = self.api.request(Method::DELETE, &path);
        self.api.send(request.query(&ExecutorQuery { executor_epoch })).await.map(drop)
    }

    /// Destroys a region; done if it is not there.
    pub async fn delete_region(&self, id: RegionId, executor_epoch: u64) -> Result<(), ClientError> {
        let request = self.api.request(Method::DELETE, &["regions", &id.to_string()]);
        self.api.send(request.query(&ExecutorQuery { executor_epoch })).await.map(drop)
    }

    /// The volumes that the sled holds.
    pub async fn pantry_volumes(&self) -> Result<PantryVolumePage, ClientError> {
        self.api.get_json(&["pantry", "volumes"], &()).await
    }

    /// One of them.
    pub async fn pantry_volume(&self, id: VolumeId) -> Result<PantryVolume, ClientError> {
        self.api.get_json(&["pantry", "volumes", &id.to_string()], &()).await
    }

    /// Attaches a volume by its construction request, or applies a newer one to a volume that is attached.
    pub async fn put_pantry_volume(
        &self,
        id: VolumeId,
        query: AttachQuery,
        request: &impl Serialize,
    ) -> Result<AttachAnswer, ClientError> {
        let call = self.api.request(Method::PUT, &["pantry", "volumes", &id.to_string()]);
        self.api.send_json(call.query(&query).json(request)).await
    }

    /// The same with a volume's key, of 64 hexadecimal digits. Nothing that is shown of the call has it.
    pub async fn put_encrypted_pantry_volume(
        &self,
        id: VolumeId,
        query: AttachQuery,
        request: &impl Serialize,
        key: &str,
    ) -> Result<AttachAnswer, ClientError> {
        let call = self.api.request(Method::PUT, &["pantry", "volumes", &id.to_string()]);
        let mut key = HeaderValue::from_str(key).map_err(|_| ClientError::BadUrl {
            url: self.api.base_url().to_owned(),
            reason: "a volume's key is 64 hexadecimal digits, and what was given is not even a header"
                .to_owned(),
        })?;
        key.set_sensitive(true);
        self.api.send_json(call.header(VOLUME_KEY_HEADER, key).query(&query).json(request)).await
    }

    /// Detaches a volume; done if it is not attached. Its jobs end.
    pub async fn delete_pantry_volume(&self, id: VolumeId, executor_epoch: u64) -> Result<(), ClientError> {
        let request = self.api.request(Method::DELETE, &["pantry", "volumes", &id.to_string()]);
        self.api.send(request.query(&ExecutorQuery { executor_epoch })).await.map(drop)
    }

    /// Streams `length` bytes into a volume, and waits until they are durable. Until the answer the time counts from the start: the
    /// client's `read_idle_timeout` has to be as long as all of it may take.
    pub async fn pantry_import<S, E>(
        &self,
        id: VolumeId,
        query: &ImportQuery,
        length: u64,
        body: S,
    ) -> Result<PantryJob, ClientError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let request = self
            .api
            .request(Method::PUT, &["pantry", "volumes", &id.to_string(), "import"])
            .query(query)
            .header(reqwest::header::CONTENT_LENGTH, length)
            .body(Body::wrap_stream(body));
        self.api.send_json(request).await
    }

    /// Has a volume import what a web server has.
    pub async fn pantry_import_url(
        &self,
        id: VolumeId,
        request: &ImportRequest,
    ) -> Result<PantryJob, ClientError> {
        self.pantry_post(id, "import", request).await
    }

    /// Has every block of a volume read.
    pub async fn pantry_scrub(&self, id: VolumeId, request: &ScrubRequest) -> Result<PantryJob, ClientError> {
        self.pantry_post(id, "scrub", request).await
    }

    /// Has what lies under a volume copied into it; the job.
    pub async fn pantry_copy_parent(
        &self,
        id: VolumeId,
        request: &ScrubRequest,
    ) -> Result<PantryJob, ClientError> {
        self.pantry_post(id, "copy-parent", request).await
    }

    /// Has a volume exported over NBD.
    pub async fn pantry_export(
        &self,
        id: VolumeId,
        request: &ExportRequest,
    ) -> Result<ExportAnswer, ClientError> {
        self.pantry_post(id, "export", request).await
    }

    /// Has an export taken back.
    pub async fn pantry_unexport(
        &self,
        id: VolumeId,
        request: &UnexportRequest,
    ) -> Result<UnexportAnswer, ClientError> {
        self.pantry_post(id, "unexport", request).await
    }

    async fn pantry_post<T: serde::de::DeserializeOwned>(
        &self,
        id: VolumeId,
        what: &str,
        request: &impl Serialize,
    ) -> Result<T, ClientError> {
        let call = self.api.request(Method::POST, &["pantry", "volumes", &id.to_string(), what]);
        self.api.send_json(call.json(request)).await
    }

    /// Keeps what was written to a volume until now as a snapshot.
    pub async fn pantry_snapshot(
        &self,
        id: VolumeId,
        snapshot: SnapshotId,
        executor_epoch: u64,
    ) -> Result<SnapshotAnswer, ClientError> {
        let path = ["pantry", "volumes", &id.to_string(), "snapshots", &snapshot.to_string()];
        self.api
            .send_json(self.api.request(Method::PUT, &path).query(&ExecutorQuery { executor_epoch }))
            .await
    }

    /// The jobs of a volume that are remembered, newest first.
    pub async fn pantry_jobs(&self, id: VolumeId) -> Result<PantryJobPage, ClientError> {
        self.api.get_json(&["pantry", "volumes", &id.to_string(), "jobs"], &()).await
    }

    /// One job; waits up to `wait` for its end.
    pub async fn pantry_job(
        &self,
        id: VolumeId,
        job: JobId,
        wait: Duration,
    ) -> Result<PantryJob, ClientError> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let path = ["pantry", "volumes", &id.to_string(), "jobs", &job.to_string()];
        self.api.get_json(&path, &WaitQuery { wait_ms }).await
    }

    /// Cancels a job. One that has ended stays as it is.
    pub async fn cancel_pantry_job(
        &self,
        id: VolumeId,
        job: JobId,
        executor_epoch: u64,
    ) -> Result<(), ClientError> {
        let path = ["pantry", "volumes", &id.to_string(), "jobs", &job.to_string()];
        let request = self.api.request(Method::DELETE, &path).query(&ExecutorQuery { executor_epoch });
        self.api.send(request).await.map(drop)
    }
}
