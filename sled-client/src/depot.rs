//! The repo depot's client: public reads of artifacts by hash.

use api_client::{ApiClient, ClientError, ClientOptions};
use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use ids::ArtifactHash;
use reqwest::{Method, Response, StatusCode, header};

/// Reads from one sled's depot. What it hands out is not verified: whoever asked for a hash hashes what comes.
#[derive(Clone, Debug)]
pub struct DepotClient {
    api: ApiClient,
}

/// An artifact's bytes on their way.
#[derive(Debug)]
pub struct ArtifactBody {
    /// The whole artifact's length, if the depot says so.
    pub total_bytes: Option<u64>,
    /// Where in the artifact the bytes begin: the asked offset, or 0 if the depot answered with all of it.
    pub offset: u64,
    response: Response,
}

impl DepotClient {
    /// A client of the depot at `base_url`, such as `http://127.0.1.1:12348`.
    pub fn new(base_url: &str, options: &ClientOptions) -> Result<DepotClient, ClientError> {
        Ok(DepotClient { api: ApiClient::new(base_url, options)? })
    }

    /// The depot's base URL.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.api.base_url()
    }

    /// Reads an artifact from byte `offset` on.
    pub async fn get(&self, hash: &ArtifactHash, offset: u64) -> Result<ArtifactBody, ClientError> {
        let hash = hash.to_string();
        let mut request = self.api.request(Method::GET, &["artifact", "sha256", &hash]);
        if offset > 0 {
            request = request
                .header(header::RANGE, format!("bytes={offset}-"))
                .header(header::IF_RANGE, format!("\"{hash}\""));
        }
        let response = self.api.send(request).await?;
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        let total_bytes = if partial {
            response
                .headers()
                .get(header::CONTENT_RANGE)
                .and_then(|value| value.to_str().ok())
                .and_then(|range| range.rsplit('/').next())
                .and_then(|total| total.parse().ok())
        } else {
            response.content_length()
        };
        Ok(ArtifactBody { total_bytes, offset: if partial { offset } else { 0 }, response })
    }
}

impl ArtifactBody {
    /// The bytes, in the pieces in which they arrive.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, ClientError>> + Send {
        let url = self.response.url().to_string();
        self.response
            .bytes_stream()
            .map_err(move |source| ClientError::Transport { url: url.clone(), source: source.without_url() })
    }
}
