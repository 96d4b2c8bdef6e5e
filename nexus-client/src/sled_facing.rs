//! The sled-facing API's client.

use crate::{
    registration::{SledRegistered, SledRegistration},
    repairs::RepairNotice,
};
use api_client::{ApiClient, ClientError, ClientOptions};
use ids::SledId;
use reqwest::Method;

/// Calls one coordinator on behalf of a sled.
#[derive(Clone, Debug)]
pub struct SledFacingClient {
    api: ApiClient,
}

impl SledFacingClient {
    /// A client of the coordinator at `base_url`, such as `http://127.0.0.1:12221`.
    pub fn new(base_url: &str, options: &ClientOptions) -> Result<SledFacingClient, ClientError> {
        Ok(SledFacingClient { api: ApiClient::new(base_url, options)? })
    }

    /// The coordinator's base URL.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.api.base_url()
    }

    /// Registers the sled, or says that it still lives.
    pub async fn register(
        &self,
        id: SledId,
        registration: &SledRegistration,
    ) -> Result<SledRegistered, ClientError> {
        self.api
            .send_json(self.api.request(Method::PUT, &["sleds", &id.to_string()]).json(registration))
            .await
    }

    /// Tells of a repair. Taken once, and said again any number of times, in any order, it is the same.
    pub async fn repair(&self, notice: &RepairNotice) -> Result<(), ClientError> {
        let volume = notice.repair().volume_id.to_string();
        let path = |verb| self.api.request(Method::POST, &["volumes", &volume, verb]);
        let request = match notice {
            RepairNotice::Start(start) => path("repair-start").json(start),
            RepairNotice::Progress(progress) => path("repair-progress").json(progress),
            RepairNotice::Finish(finish) => path("repair-finish").json(finish),
        };
        self.api.send(request).await.map(drop)
    }
}
