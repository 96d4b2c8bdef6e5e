//! The operator API's client.

use crate::{
    pages::{Page, PageQuery},
    releases::{Artifact, Repository, RepositoryDetail, TrustRoot, UploadQuery, UploadResult, UploadWait},
    repairs::VolumeRepair,
    replication::Replication,
    sagas::{
        DemoSaga, Saga, SagaAbandon, SagaAccepted, SagaDetail, SagaEvent, SagaQuery, SagaSignal,
        SagaSignalled, SagaWaitQuery,
    },
    sleds::{Scrub, Sled, SledPolicy, SledUpdate},
    system::{Coordinator, SystemStatus},
    tasks::{ActivateQuery, BackgroundTask, PauseQuery, TaskUpdate},
};
use api_client::{ApiClient, ClientError, ClientOptions};
use bytes::Bytes;
use futures::Stream;
use ids::{ArtifactHash, SagaId, SledId, TrustRootId, VolumeId};
use reqwest::{Body, Method, RequestBuilder, header};
use serde::de::DeserializeOwned;

/// Calls one coordinator on behalf of an operator.
#[derive(Clone, Debug)]
pub struct OperatorClient {
    api: ApiClient,
}

/// How to upload.
#[derive(Clone, Debug, Default)]
pub struct UploadOptions {
    /// The file's name, for people.
    pub file_name: Option<String>,
    /// The version of a release without `artifacts.json`.
    pub system_version: Option<String>,
    /// Wait until enough sleds hold verified copies.
    pub wait_replicated: bool,
    /// Seconds to wait at most.
    pub wait_seconds: Option<u32>,
}

impl OperatorClient {
    /// A client of the coordinator at `base_url`, such as `http://127.0.0.1:12220`.
    pub fn new(base_url: &str, options: &ClientOptions) -> Result<OperatorClient, ClientError> {
        Ok(OperatorClient { api: ApiClient::new(base_url, options)? })
    }

    /// The coordinator's base URL.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.api.base_url()
    }

    /// The cluster in one answer.
    pub async fn status(&self) -> Result<SystemStatus, ClientError> {
        self.api.get_json(&["v1", "status"], &()).await
    }

    /// Every coordinator.
    pub async fn coordinators(&self) -> Result<Vec<Coordinator>, ClientError> {
        self.list(&["v1", "coordinators"]).await
    }

    /// Adds a trust root: the publisher's `root.json`, byte for byte.
    pub async fn trust_root_add(&self, root_json: Vec<u8>) -> Result<TrustRoot, ClientError> {
        let request = self
            .api
            .request(Method::POST, &["v1", "trust-roots"])
            .header(header::CONTENT_TYPE, "application/json")
            .body(root_json);
        self.api.send_json(request).await
    }

    /// Every trust root.
    pub async fn trust_roots(&self) -> Result<Vec<TrustRoot>, ClientError> {
        self.list(&["v1", "trust-roots"]).await
    }

    /// Takes a trust root away.
    pub async fn trust_root_delete(&self, id: TrustRootId) -> Result<(), ClientError> {
        self.api
            .send(self.api.request(Method::DELETE, &["v1", "trust-roots", &id.to_string()]))
            .await
            .map(drop)
    }

    /// Streams a release of `size` bytes.
    pub async fn upload<S, E>(
        &self,
        options: &UploadOptions,
        size: u64,
        body: S,
    ) -> Result<UploadResult, ClientError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let query = UploadQuery {
            file_name: options.file_name.clone(),
            system_version: options.system_version.clone(),
            wait: options.wait_replicated.then_some(UploadWait::Replicated),
            wait_seconds: options.wait_seconds,
        };
        let request = self
            .api
            .request(Method::PUT, &["v1", "repositories"])
            .query(&query)
            .header(header::CONTENT_TYPE, "application/zip")
            .header(header::CONTENT_LENGTH, size)
            .body(Body::wrap_stream(body));
        self.api.send_json(request).await
    }

    /// Every repository, newest first.
    pub async fn repositories(&self) -> Result<Vec<Repository>, ClientError> {
        self.list(&["v1", "repositories"]).await
    }

    /// One repository with its artifacts.
    pub async fn repository(&self, version: &str) -> Result<RepositoryDetail, ClientError> {
        self.api.get_json(&["v1", "repositories", version], &()).await
    }

    /// Takes a repository away; what no other repository wants leaves every sled.
    pub async fn repository_delete(&self, version: &str) -> Result<(), ClientError> {
        self.api.send(self.api.request(Method::DELETE, &["v1", "repositories", version])).await.map(drop)
    }

    /// Per sled, per artifact: where one repository's replication stands.
    pub async fn repository_replication(&self, version: &str) -> Result<Replication, ClientError> {
        self.api.get_json(&["v1", "repositories", version, "replication"], &()).await
    }

    /// Per sled, per artifact: where the replication of everything stands.
    pub async fn replication(&self) -> Result<Replication, ClientError> {
        self.api.get_json(&["v1", "replication"], &()).await
    }

    /// Every artifact that some repository wants.
    pub async fn artifacts(&self) -> Result<Vec<Artifact>, ClientError> {
        self.list(&["v1", "artifacts"]).await
    }

    /// One artifact.
    pub async fn artifact(&self, hash: &ArtifactHash) -> Result<Artifact, ClientError> {
        self.api.get_json(&["v1", "artifacts", &hash.to_string()], &()).await
    }

    /// Every sled.
    pub async fn sleds(&self) -> Result<Vec<Sled>, ClientError> {
        self.list(&["v1", "sleds"]).await
    }

    /// One sled.
    pub async fn sled(&self, id: SledId) -> Result<Sled, ClientError> {
        self.api.get_json(&["v1", "sleds", &id.to_string()], &()).await
    }

    /// Says what is wanted of a sled.
    pub async fn sled_set_policy(&self, id: SledId, policy: SledPolicy) -> Result<Sled, ClientError> {
        let request =
            self.api.request(Method::PATCH, &["v1", "sleds", &id.to_string()]).json(&SledUpdate { policy });
        self.api.send_json(request).await
    }

    /// Lets a sled verify every copy that it holds; answers where that stands.
    pub async fn sled_scrub(&self, id: SledId) -> Result<Scrub, ClientError> {
        let request = self.api.request(Method::POST, &["v1", "sleds", &id.to_string(), "scrub"]);
        self.api.send_json(request).await
    }

    /// Every repair of a volume that is remembered, newest first.
    pub async fn volume_repairs(&self, id: VolumeId) -> Result<Vec<VolumeRepair>, ClientError> {
        self.list(&["v1", "volumes", &id.to_string(), "repairs"]).await
    }

    /// Every background task.
    pub async fn tasks(&self) -> Result<Vec<BackgroundTask>, ClientError> {
        self.list(&["v1", "background-tasks"]).await
    }

    /// One background task.
    pub async fn task(&self, name: &str) -> Result<BackgroundTask, ClientError> {
        self.api.get_json(&["v1", "background-tasks", name], &()).await
    }

    /// Activates a background task; with `wait`, answers after the first pass that started later has ended, with that
    /// pass as `answer`.
    pub async fn task_activate(&self, name: &str, wait: bool) -> Result<BackgroundTask, ClientError> {
        let request = self
            .api
            .request(Method::POST, &["v1", "background-tasks", name, "activate"])
            .query(&ActivateQuery { wait });
        self.api.send_json(request).await
    }

    /// Pauses a background task.
    pub async fn task_pause(&self, name: &str, query: &PauseQuery) -> Result<BackgroundTask, ClientError> {
        let request = self.api.request(Method::POST, &["v1", "background-tasks", name, "pause"]).query(query);
        self.api.send_json(request).await
    }

    /// Resumes a background task.
    pub async fn task_resume(&self, name: &str) -> Result<BackgroundTask, ClientError> {
        self.api.send_json(self.api.request(Method::POST, &["v1", "background-tasks", name, "resume"])).await
    }

    /// Says whether its period activates a background task.
    pub async fn task_set_periodic(&self, name: &str, periodic: bool) -> Result<BackgroundTask, ClientError> {
        let request =
            self.api.request(Method::PATCH, &["v1", "background-tasks", name]).json(&TaskUpdate { periodic });
        self.api.send_json(request).await
    }

    /// Begins a demo saga; on return it is durable.
    pub async fn saga_demo(&self, demo: &DemoSaga) -> Result<SagaAccepted, ClientError> {
        self.api.send_json(self.api.request(Method::POST, &["v1", "sagas", "demo"]).json(demo)).await
    }

    /// One page of the sagas, newest first.
    pub async fn sagas(&self, query: &SagaQuery) -> Result<Page<Saga>, ClientError> {
        self.api.get_json(&["v1", "sagas"], query).await
    }

    /// One saga.
    pub async fn saga(&self, id: SagaId, query: &SagaWaitQuery) -> Result<SagaDetail, ClientError> {
        self.api.get_json(&["v1", "sagas", &id.to_string()], query).await
    }

    /// A saga's log, in the order in which it became durable.
    pub async fn saga_events(&self, id: SagaId) -> Result<Vec<SagaEvent>, ClientError> {
        self.list(&["v1", "sagas", &id.to_string(), "events"]).await
    }

    /// Begins no further node of a saga, and undoes those that have run.
    pub async fn saga_cancel(&self, id: SagaId) -> Result<Saga, ClientError> {
        self.api.send_json(self.saga_verb(id, "cancel")).await
    }

    /// Tries the undos of a saga again that wait for an operator.
    pub async fn saga_retry(&self, id: SagaId) -> Result<Saga, ClientError> {
        self.api.send_json(self.saga_verb(id, "retry")).await
    }

    /// Gives up on undoing the rest of a saga.
    pub async fn saga_abandon(&self, id: SagaId, abandon: &SagaAbandon) -> Result<Saga, ClientError> {
        self.api.send_json(self.saga_verb(id, "abandon").json(abandon)).await
    }

    /// Gives a saga something that it waits for, or will. The first value of a name stays.
    pub async fn saga_signal(&self, id: SagaId, signal: &SagaSignal) -> Result<SagaSignalled, ClientError> {
        self.api.send_json(self.saga_verb(id, "signal").json(signal)).await
    }

    fn saga_verb(&self, id: SagaId, verb: &str) -> RequestBuilder {
        self.api.request(Method::POST, &["v1", "sagas", &id.to_string(), verb])
    }

    /// Walks all pages of a list.
    async fn list<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<Vec<T>, ClientError> {
        let mut items = Vec::new();
        let mut query = PageQuery { limit: Some(1000), page_token: None };
        loop {
            let page: Page<T> = self.api.get_json(segments, &query).await?;
            items.extend(page.items);
            match page.next_page {
                Some(token) => query.page_token = Some(token),
                None => return Ok(items),
            }
        }
    }
}
