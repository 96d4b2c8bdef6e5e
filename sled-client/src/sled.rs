//! The sled API's client.

use crate::{
    artifacts::{
        ArtifactJob, ArtifactJobPage, ArtifactsConfig, ArtifactsList, CopyAccepted, CopyRequest,
        GenerationQuery, PutArtifactResult, ScrubStatus, WaitQuery,
    },
    disks::DiskPage,
    inventory::Inventory,
    regions::{ExecutorQuery, Region, RegionListQuery, RegionPage, RegionRequest},
};
use api_client::{ApiClient, ClientError, ClientOptions};
use bytes::Bytes;
use futures::Stream;
use ids::{ArtifactHash, Generation, JobId, RegionId, SnapshotId};
use reqwest::{Body, Method};
use std::time::Duration;

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
}
