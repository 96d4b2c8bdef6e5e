//! The only error that a handler returns.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use problem::{Code, Problem};

/// A refused or failed request, on its way to the edge, which adds the request id and writes the body.
#[derive(Debug)]
pub struct ApiError(pub Box<Problem>);

impl ApiError {
    /// An error of the given kind, with what happened this time.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> ApiError {
        ApiError(Box::new(Problem::new(code, detail)))
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> ApiError {
        ApiError(Box::new(problem))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.extensions_mut().insert(PendingProblem(self.0));
        response
    }
}

/// Marks a response whose body the edge has yet to write.
#[derive(Clone)]
struct PendingProblem(Box<Problem>);

/// Writes the body of a response that is an [`ApiError`]; leaves every other response as it is.
pub(crate) fn write_problem(mut response: Response, request_id: &str) -> Response {
    let Some(PendingProblem(mut problem)) = response.extensions_mut().remove::<PendingProblem>() else {
        return response;
    };
    request_id.clone_into(&mut problem.request_id);
    if response.status().is_server_error() {
        tracing::warn!(code = problem.code, detail = problem.detail, request_id, "request failed");
    }
    let unauthorized = response.status() == StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE));
    if let Some(seconds) = problem.retry_after_seconds {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if unauthorized {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    let body = serde_json::to_vec(&problem).expect("a problem is plain strings and numbers");
    *response.body_mut() = Body::from(body);
    response
}
