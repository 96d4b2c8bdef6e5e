//! Extractors that refuse in problem+json.

use crate::{ApiError, body::BoundedBody, query_keys};
use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::request::Parts,
    response::{IntoResponse, Response},
};
use problem::Code;
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;

/// JSON bodies hold control data. The largest is an artifact config: 15,000 hashes are about 1 MiB.
const JSON_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// How long the sender of a JSON body may be silent. It has it all at hand.
const JSON_IDLE_LIMIT: Duration = Duration::from_secs(10);

/// A JSON body, in or out.
#[derive(Debug)]
pub struct ApiJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let body = BoundedBody::new(request.into_body(), JSON_BYTES_MAX, JSON_IDLE_LIMIT)?;
        let bytes = body.read_to_end().await?;
        serde_json::from_slice(&bytes)
            .map(ApiJson)
            .map_err(|error| ApiError::new(Code::BadJson, error.to_string()))
    }
}

impl<T: Serialize> IntoResponse for ApiJson<T> {
    fn into_response(self) -> Response {
        Json(self.0).into_response()
    }
}

/// The query string. A key that the type does not know is refused, whatever the type itself would do: a misspelt key
/// must not become a default that takes effect silently.
#[derive(Debug)]
pub struct ApiQuery<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        query_keys::check::<T>(parts.uri.query().unwrap_or_default())?;
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(ApiQuery(value)),
            Err(rejection) => Err(ApiError::new(Code::BadRequest, rejection.body_text())),
        }
    }
}

/// The path's parameters.
#[derive(Debug)]
pub struct ApiPath<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for ApiPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(ApiPath(value)),
            Err(rejection) => Err(ApiError::new(Code::BadRequest, rejection.body_text())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, Bytes};
    use futures::{StreamExt, stream};

    #[tokio::test(start_paused = true)]
    async fn a_sender_of_json_that_falls_silent_is_cut_off() {
        let start = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{\"half\":"))]);
        let body = Body::from_stream(start.chain(stream::pending()));
        let json = ApiJson::<serde_json::Value>::from_request(Request::new(body), &());
        let refusal =
            tokio::time::timeout(JSON_IDLE_LIMIT * 2, json).await.expect("it has a limit").unwrap_err();
        assert!(refusal.0.is(Code::SenderSilent), "{:?}", refusal.0);
    }
}
