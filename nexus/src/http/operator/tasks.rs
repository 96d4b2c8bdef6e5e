//! `/v1/background-tasks`: what the coordinator does by itself.

use crate::http::{Context, problems};
use axum::extract::State;
use http_edge::{ApiError, ApiJson, ApiPath, ApiQuery};
use nexus_client::{
    pages::Page,
    tasks::{ActivateQuery, BackgroundTask, FinishedPass, PauseQuery, TaskUpdate},
};
use nexus_tasks::Reason;
use problem::{Code, Problem};
use std::time::Duration;
use utoipa_axum::{router::OpenApiRouter, routes};

/// How long `?wait=true` waits. A pass is short; one that is not is looked at instead of waited for.
const ACTIVATE_WAIT: Duration = Duration::from_secs(25);

/// A year. Who means for ever gives no end.
const PAUSE_SECONDS_MAX: u32 = 31_536_000;

/// A sentence for people, kept in memory and shown in tables.
const REASON_CHARACTERS_MAX: usize = 200;

pub(super) fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, update))
        .routes(routes!(activate))
        .routes(routes!(pause))
        .routes(routes!(resume))
}

/// Every background task, by name. There are few, so they are one page.
#[utoipa::path(
    get, path = "/v1/background-tasks", operation_id = "task_list",
    responses((status = 200, body = inline(Page<BackgroundTask>)))
)]
async fn list(State(context): State<Context>) -> ApiJson<Page<BackgroundTask>> {
    ApiJson(Page { items: context.tasks.tasks(), next_page: None })
}

/// One background task, with its last passes.
#[utoipa::path(
    get, path = "/v1/background-tasks/{name}", operation_id = "task_show", params(("name" = String, Path)),
    responses((status = 200, body = BackgroundTask), (status = 404, body = Problem))
)]
async fn show(
    State(context): State<Context>,
    ApiPath(name): ApiPath<String>,
) -> Result<ApiJson<BackgroundTask>, ApiError> {
    shown(&context, &name, None)
}

/// Says whether the period activates a background task. It holds until the coordinator restarts; the config is for what is
/// to last.
#[utoipa::path(
    patch, path = "/v1/background-tasks/{name}", operation_id = "task_update",
    params(("name" = String, Path)), request_body = TaskUpdate,
    responses(
        (status = 200, body = BackgroundTask), (status = 400, body = Problem), (status = 404, body = Problem)
    )
)]
async fn update(
    State(context): State<Context>,
    ApiPath(name): ApiPath<String>,
    ApiJson(update): ApiJson<TaskUpdate>,
) -> Result<ApiJson<BackgroundTask>, ApiError> {
    let switched = context.tasks.set_periodic(&name, update.periodic);
    switched.map_err(|error| problems::of_unknown_task(&error))?;
    shown(&context, &name, None)
}

/// Activates a background task; with `?wait=true`, answers after the first pass that started later has ended, and with that
/// pass in `answer`. A task that is paused refuses.
#[utoipa::path(
    post, path = "/v1/background-tasks/{name}/activate", operation_id = "task_activate",
    params(("name" = String, Path), ActivateQuery),
    responses(
        (status = 200, body = BackgroundTask), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn activate(
    State(context): State<Context>,
    ApiPath(name): ApiPath<String>,
    ApiQuery(query): ApiQuery<ActivateQuery>,
) -> Result<ApiJson<BackgroundTask>, ApiError> {
    if !query.wait {
        let asked = context.tasks.activate(&name, Reason::Operator);
        asked.map_err(|error| problems::of_activation(&error))?;
        return shown(&context, &name, None);
    }
    let pass = context.tasks.activate_and_wait(&name, Reason::Operator);
    let mut stopping = context.stopping.subscribe();
    let ended = tokio::select! {
        ended = tokio::time::timeout(ACTIVATE_WAIT, pass) => ended,
        _ = stopping.wait_for(|stopping| *stopping) => return Err(problems::of_stop()),
    };
    let ended = ended.map_err(|_| {
        let detail = format!("no pass of {name} ended within {} s", ACTIVATE_WAIT.as_secs());
        ApiError::from(Problem::new(Code::TaskTimeout, detail).with_retry_after(5))
    })?;
    let answer = ended.map_err(|error| problems::of_activation(&error))?;
    shown(&context, &name, Some(answer))
}

/// Pauses a background task: no pass starts until it is resumed, `for_seconds` are over, or the coordinator restarts. A pass
/// that runs goes on to its end. Pausing a task that is paused replaces its end and its reason.
#[utoipa::path(
    post, path = "/v1/background-tasks/{name}/pause", operation_id = "task_pause",
    params(("name" = String, Path), PauseQuery),
    responses(
        (status = 200, body = BackgroundTask), (status = 400, body = Problem), (status = 404, body = Problem)
    )
)]
async fn pause(
    State(context): State<Context>,
    ApiPath(name): ApiPath<String>,
    ApiQuery(query): ApiQuery<PauseQuery>,
) -> Result<ApiJson<BackgroundTask>, ApiError> {
    if query.for_seconds.is_some_and(|seconds| !(1..=PAUSE_SECONDS_MAX).contains(&seconds)) {
        let detail = format!("for_seconds is not between 1 and {PAUSE_SECONDS_MAX}");
        return Err(ApiError::new(Code::BadRequest, detail));
    }
    if query.reason.as_ref().is_some_and(|reason| reason.chars().count() > REASON_CHARACTERS_MAX) {
        let detail = format!("the reason has more than {REASON_CHARACTERS_MAX} characters");
        return Err(ApiError::new(Code::BadRequest, detail));
    }
    let limit = query.for_seconds.map(|seconds| Duration::from_secs(u64::from(seconds)));
    let reason = query.reason.filter(|reason| !reason.is_empty());
    context.tasks.pause(&name, limit, reason).map_err(|error| problems::of_unknown_task(&error))?;
    shown(&context, &name, None)
}

/// Resumes a background task. What was asked for or fell due in the pause is one pass, at once. A task that is not paused is
/// left as it is.
#[utoipa::path(
    post, path = "/v1/background-tasks/{name}/resume", operation_id = "task_resume",
    params(("name" = String, Path)),
    responses((status = 200, body = BackgroundTask), (status = 404, body = Problem))
)]
async fn resume(
    State(context): State<Context>,
    ApiPath(name): ApiPath<String>,
) -> Result<ApiJson<BackgroundTask>, ApiError> {
    context.tasks.resume(&name).map_err(|error| problems::of_unknown_task(&error))?;
    shown(&context, &name, None)
}

fn shown(
    context: &Context,
    name: &str,
    answer: Option<FinishedPass>,
) -> Result<ApiJson<BackgroundTask>, ApiError> {
    let task = context.tasks.task(name).map_err(|error| problems::of_unknown_task(&error))?;
    Ok(ApiJson(BackgroundTask { answer, ..task }))
}
