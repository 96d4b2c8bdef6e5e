//! `/artifact-jobs`: copies from peers, as they stand.

use crate::http::Context;
use axum::{extract::State, http::StatusCode};
use http_edge::{ApiError, ApiJson, ApiPath, ApiQuery};
use ids::JobId;
use problem::{Code, Problem};
use sled_client::artifacts::{ArtifactJob, ArtifactJobPage, WaitQuery};
use std::time::Duration;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Milliseconds that a long poll may wait: below every client's idle limit.
const WAIT_MS_MAX: u64 = 20_000;

pub(super) fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, cancel))
}

/// The jobs that the sled remembers, newest first. There is a bound on them, so they are one page.
#[utoipa::path(
    get, path = "/artifact-jobs", operation_id = "artifact_job_list",
    responses((status = 200, body = ArtifactJobPage))
)]
async fn list(State(context): State<Context>) -> ApiJson<ArtifactJobPage> {
    ApiJson(ArtifactJobPage { items: context.jobs.list(), next_page: None })
}

/// One job; with `wait_ms`, answers at its end or after that time.
#[utoipa::path(
    get, path = "/artifact-jobs/{id}", operation_id = "artifact_job_show",
    params(("id" = JobId, Path), WaitQuery),
    responses((status = 200, body = ArtifactJob), (status = 404, body = Problem))
)]
async fn show(
    State(context): State<Context>,
    ApiPath(id): ApiPath<JobId>,
    ApiQuery(query): ApiQuery<WaitQuery>,
) -> Result<ApiJson<ArtifactJob>, ApiError> {
    let wait = Duration::from_millis(query.wait_ms.min(WAIT_MS_MAX));
    context.jobs.get(id, wait).await.map(ApiJson).ok_or_else(|| unknown(id))
}

/// Cancels a job. One that has ended stays as it is.
#[utoipa::path(
    delete, path = "/artifact-jobs/{id}", operation_id = "artifact_job_cancel", params(("id" = JobId, Path)),
    responses((status = 204), (status = 404, body = Problem))
)]
async fn cancel(State(context): State<Context>, ApiPath(id): ApiPath<JobId>) -> Result<StatusCode, ApiError> {
    if context.jobs.cancel(id) { Ok(StatusCode::NO_CONTENT) } else { Err(unknown(id)) }
}

fn unknown(id: JobId) -> ApiError {
    ApiError::new(Code::JobNotFound, format!("no copy job {id}; ended jobs are forgotten after a while"))
}
