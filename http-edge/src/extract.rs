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

/// Most JSON bodies are a few facts about one thing. Decoded they take several times their bytes, so what anybody with a
/// token may make the server hold stays small.
const JSON_BYTES_MAX: u64 = 64 * 1024;

/// Some JSON bodies list what there is. The longest is an artifact config: 15,000 hashes are about 1 MiB.
const LONG_JSON_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// How long the sender of a JSON body may be silent. It has it all at hand.
const JSON_IDLE_LIMIT: Duration = Duration::from_secs(10);

/// A JSON object of at most 64 KiB, or a JSON answer.
#[derive(Debug)]
pub struct ApiJson<T>(pub T);

/// A JSON object of at most 8 MiB: a list of what there is.
#[derive(Debug)]
pub struct LongJson<T>(pub T);

/// A JSON object as that of [`ApiJson`], or no body, which is the default.
#[derive(Debug)]
pub struct OptionalJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let object = read_object_or_nothing(request, JSON_BYTES_MAX).await?;
        Ok(OptionalJson(object.unwrap_or_default()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        read_object(request, JSON_BYTES_MAX).await.map(ApiJson)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for LongJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        read_object(request, LONG_JSON_BYTES_MAX).await.map(LongJson)
    }
}

/// Reads a body that has to be one JSON object. `serde` alone would take an array too, and put its values into the
/// fields in the order in which the code happens to declare them.
async fn read_object<T: DeserializeOwned>(request: Request, bytes_max: u64) -> Result<T, ApiError> {
    let object = read_object_or_nothing(request, bytes_max).await?;
    let empty = || ApiError::new(Code::BadJson, "the body is empty; a JSON object is expected");
    object.ok_or_else(empty)
}

async fn read_object_or_nothing<T: DeserializeOwned>(
    request: Request,
    bytes_max: u64,
) -> Result<Option<T>, ApiError> {
    let body = BoundedBody::new(request.into_body(), bytes_max, JSON_IDLE_LIMIT)?;
    let bytes = body.read_to_end().await?;
    let refuse = |reason: String| ApiError::new(Code::BadJson, reason);
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => serde_json::from_slice(&bytes).map(Some).map_err(|error| refuse(error.to_string())),
        Some(_) => Err(refuse("the body is not a JSON object".to_owned())),
        None => Ok(None),
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

    async fn refusal(body: impl Into<Body>) -> String {
        let json = ApiJson::<Pair>::from_request(Request::new(body.into()), &()).await;
        let problem = json.expect_err("it is refused").0;
        format!("{} {}", problem.status, problem.detail)
    }

    #[derive(Debug, serde::Deserialize)]
    struct Pair {
        left: u8,
        right: u8,
    }

    #[tokio::test]
    async fn only_an_object_is_taken_and_never_by_the_order_of_its_fields() {
        let taken =
            ApiJson::<Pair>::from_request(Request::new(Body::from(" {\"right\":2,\"left\":1}")), &()).await;
        let ApiJson(Pair { left, right }) = taken.unwrap();
        assert_eq!((left, right), (1, 2));
        assert_eq!(refusal("[1,2]").await, "400 the body is not a JSON object");
        assert_eq!(refusal("\n").await, "400 the body is empty; a JSON object is expected");
        assert!(refusal("{\"left\":1}").await.contains("right"));
    }

    #[tokio::test]
    async fn a_long_body_is_taken_only_where_lists_are_expected() {
        let body = || Body::from(format!("{{\"left\":1,{}\"right\":2}}", " ".repeat(100_000)));
        assert!(refusal(body()).await.starts_with("413 "));
        let LongJson(pair) = LongJson::<Pair>::from_request(Request::new(body()), &()).await.unwrap();
        assert_eq!(pair.right, 2);
    }

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
