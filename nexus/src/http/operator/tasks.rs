//! `/v1/background-tasks`: what the coordinator does by itself.

use crate::http::{Context, problems};
use axum::extract::State;
use http_edge::{ApiError, ApiJson, ApiPath, ApiQuery};
use nexus_client::{
    pages::Page,
    tasks::{ActivateQuery, BackgroundTask},
};
use nexus_tasks::Reason;
use problem::{Code, Problem};
use std::time::Duration;
use utoipa_axum::{router::OpenApiRouter, routes};

/// How long `?wait=true` waits. A pass is short; one that is not is looked at instead of waited for.
const ACTIVATE_WAIT: Duration = Duration::from_secs(25);

pub(super) fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show)).routes(routes!(activate))
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
    context.tasks.task(&name).map(ApiJson).map_err(|error| problems::of_unknown_task(&error))
}

/// Activates a background task; with `?wait=true`, answers after a pass that started later has ended.
#[utoipa::path(
    post, path = "/v1/background-tasks/{name}/activate", operation_id = "task_activate",
    params(("name" = String, Path), ActivateQuery),
    responses((status = 200, body = BackgroundTask), (status = 404, body = Problem), (status = 503, body = Problem))
)]
async fn activate(
    State(context): State<Context>,
    ApiPath(name): ApiPath<String>,
    ApiQuery(query): ApiQuery<ActivateQuery>,
) -> Result<ApiJson<BackgroundTask>, ApiError> {
    if query.wait {
        let pass = context.tasks.activate_and_wait(&name, Reason::Operator);
        match tokio::time::timeout(ACTIVATE_WAIT, pass).await {
            Ok(result) => drop(result.map_err(|error| problems::of_activation(&error))?),
            Err(_) => {
                let detail = format!("no pass of {name} ended within {} s", ACTIVATE_WAIT.as_secs());
                return Err(Problem::new(Code::TaskTimeout, detail).with_retry_after(5).into());
            }
        }
    } else {
        context.tasks.activate(&name, Reason::Operator).map_err(|error| problems::of_unknown_task(&error))?;
    }
    context.tasks.task(&name).map(ApiJson).map_err(|error| problems::of_unknown_task(&error))
}
