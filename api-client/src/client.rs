//! One peer, one token, one source address.

use crate::{ClientError, answer, repeat};
use reqwest::{Method, Request, RequestBuilder, Response};
use serde::{Serialize, de::DeserializeOwned};
use std::{net::IpAddr, path::Path, time::Duration};
use url::Url;

/// How long a peer may take to accept a connection. Peers are on the same network: one that needs longer is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a peer may take between two reads of an answer: a bulk answer may take as long as it needs as long as it
/// moves. The time until the answer's head counts from the start of the call, so a caller that sends a bulk *body* sets
/// a limit of its own and watches its sending instead.
const READ_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection without a call stays open: longer than the pause between two heartbeats, no longer than that
/// pays, because each holds buffers on both sides; and shorter than servers wait for the next request (15 s), so that no
/// call goes out on a connection that the other side is just closing.
const IDLE_CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// Connections without a call to one peer.
const IDLE_CONNECTIONS_MAX: usize = 4;

/// How to reach a peer.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// The bearer token; none for the depot's public reads.
    pub token: Option<String>,
    /// The address that outgoing connections come from; `None` lets the kernel choose.
    pub source_address: Option<IpAddr>,
    /// Replaces the limit on how long a peer may be silent. Long polls and bulk bodies need more: until the answer's head,
    /// the time counts from the start of the call.
    pub read_idle_timeout: Option<Duration>,
}

/// Calls one peer.
#[derive(Clone, Debug)]
pub struct ApiClient {
    base: Url,
    token: Option<String>,
    http: reqwest::Client,
}

impl ApiClient {
    /// A client of the peer at `base_url` (scheme, host and port; a path is refused).
    pub fn new(base_url: &str, options: &ClientOptions) -> Result<ApiClient, ClientError> {
        let bad_url =
            |reason: &str| ClientError::BadUrl { url: base_url.to_owned(), reason: reason.to_owned() };
        let base = Url::parse(base_url).map_err(|error| bad_url(&error.to_string()))?;
        if base.scheme() != "http" {
            return Err(bad_url("only http:// is spoken so far"));
        }
        if !base.has_host() {
            return Err(bad_url("it names no host"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(bad_url("it carries a user name or password; tokens are given apart from URLs"));
        }
        if !matches!(base.path(), "" | "/") || base.query().is_some() || base.fragment().is_some() {
            return Err(bad_url("it has a path, query or fragment; only scheme, host and port belong here"));
        }
        let http = builder(options).local_address(options.source_address).build();
        Ok(ApiClient { base, token: options.token.clone(), http: http.map_err(ClientError::Setup)? })
    }

    /// A client of a peer on this machine, which listens on a socket in the file system.
    ///
    /// # Errors
    /// If the HTTP client cannot be set up.
    pub fn at_socket(path: &Path, options: &ClientOptions) -> Result<ApiClient, ClientError> {
        let base = Url::parse("http://localhost").expect("it is a URL");
        let http = builder(options).unix_socket(path).build().map_err(ClientError::Setup)?;
        Ok(ApiClient { base, token: options.token.clone(), http })
    }

    /// The peer's base URL.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Starts a request to a path of the peer; `segments` are escaped one by one.
    pub fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("an http URL has a path").clear().extend(segments);
        let mut request =
            self.http.request(method, url).header("x-request-id", uuid::Uuid::new_v4().simple().to_string());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request
    }

    /// Sends a request and hands back the answer if it is a success. A read whose connection broke before the answer
    /// began is sent again (see [`repeat`]); anything else is sent once.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let (http, built) = request.build_split();
        let request = built
            .map_err(|error| ClientError::BadUrl { url: self.base.to_string(), reason: error.to_string() })?;
        let url = format!("{} {}", request.method(), request.url());
        let response = execute(&http, request)
            .await
            .map_err(|source| ClientError::Transport { url: url.clone(), source: source.without_url() })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let problem = Box::new(answer::read_problem(response).await);
        Err(ClientError::Problem { url, problem })
    }

    /// Sends a request and decodes the JSON it is answered with.
    pub async fn send_json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(request).await?;
        let status = response.status().as_u16();
        let url = response.url().to_string();
        let body = answer::read_document(response, &url).await?;
        serde_json::from_slice(&body).map_err(|source| ClientError::Decode { url, status, source })
    }

    /// `GET` a JSON document.
    pub async fn get_json<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.send_json(self.request(Method::GET, segments).query(query)).await
    }
}

/// What is the same wherever the peer is.
fn builder(options: &ClientOptions) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(options.read_idle_timeout.unwrap_or(READ_IDLE_TIMEOUT))
        .pool_idle_timeout(IDLE_CONNECTION_LIMIT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
}

/// Sends a request, and again as long as [`repeat`] allows.
async fn execute(http: &reqwest::Client, request: Request) -> Result<Response, reqwest::Error> {
    let mut again = repeat::copy_of(&request);
    let mut outcome = http.execute(request).await;
    for _ in 1..repeat::ATTEMPTS_MAX {
        let (Some(next), Err(error)) = (again.take(), &outcome) else { break };
        if !repeat::broke_before_an_answer(error) {
            break;
        }
        again = repeat::copy_of(&next);
        outcome = http.execute(next).await;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_base_urls_that_hide_something() {
        for bad in [
            "",
            "127.0.0.1:1",
            "https://a",
            "http://",
            "http://u:p@a",
            "http://a/path",
            "http://a/?q=1",
            "file:///etc/passwd",
        ] {
            assert!(ApiClient::new(bad, &ClientOptions::default()).is_err(), "{bad:?} was accepted");
        }
        assert_eq!(
            ApiClient::new("http://127.0.1.1:12345/", &ClientOptions::default()).unwrap().base_url(),
            "http://127.0.1.1:12345"
        );
    }
}
