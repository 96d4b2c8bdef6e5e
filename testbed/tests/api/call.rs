//! The caller: sends a request, and holds the answer against the API's document before a test sees it.

use crate::document::Document;
use problem::Problem;
use reqwest::{Body, Method, StatusCode, header::HeaderMap};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{fmt, sync::Arc};

/// One API of one process, called with one token.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) url: String,
    pub(crate) document: Arc<Document>,
    token: Option<String>,
    http: reqwest::Client,
}

/// An answer, read to its end.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Api {
    /// The API at a base URL; asks it for its document.
    pub(crate) async fn at(url: &str, token: Option<&str>) -> Api {
        // Without a pool: a connection lives in the runtime of the test that made it, and stages are shared.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build();
        let http = http.expect("an HTTP client");
        let document = http.get(format!("{url}/openapi.json")).send().await.expect("it serves its document");
        let json = document.json().await.expect("the document is JSON");
        let document = Arc::new(Document::read(json));
        Api { url: url.to_owned(), document, token: token.map(str::to_owned), http }
    }

    /// The same API with another token, or none.
    pub(crate) fn with_token(&self, token: Option<&str>) -> Api {
        Api { token: token.map(str::to_owned), ..self.clone() }
    }

    /// The same API, called from another address of this machine.
    pub(crate) fn called_from(&self, address: std::net::IpAddr) -> Api {
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).local_address(address);
        Api { http: http.build().expect("an HTTP client"), ..self.clone() }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.url.strip_prefix("http://").and_then(|url| url.parse().ok()).expect("an address")
    }

    /// The `Authorization` line of this caller, for requests by hand.
    pub(crate) fn authorization(&self) -> String {
        self.token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default()
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.call(Method::DELETE, path, "").await
    }

    pub(crate) async fn put(&self, path: &str, body: impl Into<Body>) -> Reply {
        self.call(Method::PUT, path, body).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Reply {
        self.call(Method::POST, path, body).await
    }

    /// One request with these bytes as its body.
    pub(crate) async fn call(&self, method: Method, path: &str, body: impl Into<Body>) -> Reply {
        self.call_with(method, path, HeaderMap::new(), body).await
    }

    /// One request with headers of its own.
    pub(crate) async fn call_with(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: impl Into<Body>,
    ) -> Reply {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.url)).headers(headers);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.body(body).send().await.expect("it answers");
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.expect("the body arrives").to_vec();
        let reply = Reply { status: status.as_u16(), headers, body };
        self.check(&method, path, &reply);
        reply
    }

    /// Fails unless the document describes the answer, and an error is a problem.
    fn check(&self, method: &Method, path: &str, reply: &Reply) {
        let seen = format!("{method} {}{path} → {}", self.url, reply.status);
        assert!(reply.header("x-request-id").is_some(), "{seen} has no request id");
        if let Some(call) = self.document.find(method, path) {
            assert!(call.statuses.contains(&reply.status), "{seen} is not described: {:?}", call.statuses);
        }
        if reply.status >= 400 && *method != Method::HEAD && !path.starts_with("/readyz") {
            reply.problem();
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start: String = String::from_utf8_lossy(&self.body).chars().take(500).collect();
        write!(f, "{} {:?} {start}", self.status, self.headers)
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("headers are text"))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {} {text}", self.status))
    }

    /// The JSON of a success.
    pub(crate) fn ok(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert!(StatusCode::from_u16(self.status).is_ok_and(|status| status.is_success()), "{text}");
        self.json()
    }

    /// Fails unless it is a success that has nothing to say.
    #[track_caller]
    pub(crate) fn ok_empty(&self) {
        assert!(self.status == 204 && self.body.is_empty(), "{self:?}");
    }

    /// The problem, after checking that it is one: media type, status, request id, and what the catalogue says.
    pub(crate) fn problem(&self) -> Problem {
        assert_eq!(self.header("content-type"), Some(problem::MEDIA_TYPE), "{self:?}");
        let problem: Problem = self.json();
        assert_eq!(Some(problem.request_id.as_str()), self.header("x-request-id"));
        assert_eq!(problem.status, self.status, "{problem}");
        let known = problem::Code::ALL.iter().find(|code| code.name() == problem.code);
        let known = known.unwrap_or_else(|| panic!("{} is in no catalogue", problem.code));
        assert_eq!(known.status(), self.status, "{problem}");
        assert_eq!(problem.type_uri, format!("/errors#{}", problem.code));
        assert!(!problem.detail.is_empty() && !problem.title.is_empty(), "{problem:?}");
        let retry_after = self.header("retry-after").map(|text| text.parse().expect("whole seconds"));
        assert_eq!(retry_after, problem.retry_after_seconds, "{problem}");
        problem
    }

    /// Status and code of a refusal.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status, self.problem().code)
    }
}
