//! Extractors that refuse in problem+json.

use crate::{ApiError, body};
use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::request::Parts,
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use problem::Code;
use serde::{Serialize, de::DeserializeOwned};

/// JSON bodies hold control data. The largest is an artifact config: 15,000 hashes are about 1 MiB.
const JSON_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A JSON body, in or out.
#[derive(Debug)]
pub struct ApiJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let body = request.into_body();
        let declared = axum::body::HttpBody::size_hint(&body).lower();
        if declared > JSON_BYTES_MAX as u64 {
            body::refuse(body);
            return Err(ApiError::new(
                Code::BodyTooLarge,
                format!("a JSON body of {declared} bytes; at most {JSON_BYTES_MAX} are taken"),
            ));
        }
        let bytes = Limited::new(body, JSON_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| {
                if error.downcast_ref::<LengthLimitError>().is_some() {
                    ApiError::new(
                        Code::BodyTooLarge,
                        format!("a JSON body of more than {JSON_BYTES_MAX} bytes"),
                    )
                } else {
                    ApiError::new(Code::LengthMismatch, format!("the body broke off: {error}"))
                }
            })?
            .to_bytes();
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

/// The query string.
#[derive(Debug)]
pub struct ApiQuery<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
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
