//! Puts the layers around an API's router, in the order that the crate's diagram shows.

use crate::{
    ApiError, Metrics, Readiness, Role, TokenTable,
    auth::{self, Gate},
    body, error, health,
    metrics::{self, Meter},
};
use axum::{
    Router,
    body::Bytes,
    extract::Request,
    http::{HeaderName, HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::FutureExt;
use problem::{Code, Problem};
use std::{panic::AssertUnwindSafe, sync::Arc};
use tracing::Instrument;

/// The header that carries the request id, in and out.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request id of a caller is kept if it is short and plain; it goes into logs.
const REQUEST_ID_CHARS_MAX: usize = 64;

/// How an API stands towards its callers.
#[derive(Clone, Debug)]
pub struct Edge {
    /// The API's name in metrics and logs.
    pub api: &'static str,
    /// Known tokens; `None` leaves the API open (the depot's reads).
    pub tokens: Option<Arc<TokenTable>>,
    /// Roles that may call it, besides operators.
    pub allowed: &'static [Role],
    /// What `/readyz` answers.
    pub readiness: Readiness,
    /// Where requests are measured.
    pub metrics: Metrics,
}

impl Edge {
    /// The API behind its edge: `router` behind tokens; `/healthz`, `/readyz`, `/openapi.json` open to all;
    /// `/metrics` behind tokens where there are any.
    pub fn around(self, router: Router, openapi: &utoipa::openapi::OpenApi) -> Router {
        let mut guarded = router.merge(metrics::routes(self.metrics.clone()));
        guarded = guarded.fallback(no_such_route).method_not_allowed_fallback(method_not_allowed);
        if let Some(tokens) = self.tokens {
            let gate = Gate { tokens, allowed: self.allowed };
            guarded = guarded.layer(middleware::from_fn_with_state(gate, auth::authenticate));
        }
        let document = Bytes::from(serde_json::to_vec(openapi).expect("an OpenAPI document is plain data"));
        let open = health::routes(self.readiness)
            .route(
                "/openapi.json",
                get(async move || ([(header::CONTENT_TYPE, "application/json")], document).into_response()),
            )
            .method_not_allowed_fallback(method_not_allowed);
        let meter = Meter { metrics: self.metrics, api: self.api };
        Router::new()
            .merge(guarded)
            .merge(open)
            .layer(middleware::from_fn(contain_panic))
            .layer(middleware::from_fn_with_state(meter, metrics::measure))
            .layer(middleware::from_fn(identify))
    }
}

/// Gives the request its id, puts the id on every log line of it and into the answer, writes problems, and sees to it
/// that whatever nobody reads of the body does not keep the client from reading the answer.
async fn identify(request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| {
            (1..=REQUEST_ID_CHARS_MAX).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
        .map_or_else(|| uuid::Uuid::new_v4().simple().to_string(), str::to_owned);
    let span = tracing::info_span!("request", request_id = id, method = %request.method(), path = request.uri().path());
    let response = next.run(body::drained_when_dropped(request)).instrument(span.clone()).await;
    let mut response = span.in_scope(|| error::write_problem(response, &id));
    let value = HeaderValue::from_str(&id).expect("a request id is plain ASCII");
    response.headers_mut().insert(REQUEST_ID, value);
    response
}

/// Answers for a handler that panicked, so that it costs its caller this request and nobody else anything. What the
/// panic said is in the log, under the request's id; it may hold secrets, so the caller is not told.
async fn contain_panic(request: Request, next: Next) -> Response {
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    answered.unwrap_or_else(|_| {
        let problem =
            Problem::new(Code::Internal, "the request met a defect in this program and was given up")
                .with_hint("the log has the details under this request id; please report them");
        ApiError::from(problem).into_response()
    })
}

async fn no_such_route(request: Request) -> ApiError {
    let detail = format!("{} {} is not in this API", request.method(), request.uri().path());
    ApiError::new(Code::NoSuchRoute, detail)
}

async fn method_not_allowed(request: Request) -> ApiError {
    let detail = format!("{} does not take {}", request.uri().path(), request.method());
    ApiError::new(Code::MethodNotAllowed, detail)
}
