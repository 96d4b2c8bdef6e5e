//! `/artifacts-config` and `/artifacts`: what the sled should hold, what it holds, and how it gets and loses it.

use crate::http::{Context, problems, wire};
use artifact_store::{StoreArtifactsConfig, StoreError};
use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use http_edge::{ApiError, ApiJson, ApiPath, ApiQuery, LongJson, body::BoundedBody};
use ids::{ArtifactHash, Generation};
use problem::{Code, Problem};
use sled_client::artifacts::{
    ArtifactsConfig, ArtifactsList, CopyAccepted, CopyRequest, GenerationQuery, PutArtifactResult,
    ScrubStatus,
};
use std::time::Duration;
use utoipa_axum::{router::OpenApiRouter, routes};

/// How long the sender of an artifact may be silent.
const PUT_IDLE_LIMIT: Duration = Duration::from_secs(30);

pub(super) fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::new()
        .routes(routes!(config, put_config))
        .routes(routes!(list))
        .routes(routes!(put, delete))
        .routes(routes!(copy_from_depot))
        .routes(routes!(scrub))
}

/// What the sled should hold.
#[utoipa::path(
    get, path = "/artifacts-config", operation_id = "artifacts_config_show",
    responses((status = 200, body = ArtifactsConfig), (status = 404, body = Problem))
)]
async fn config(State(context): State<Context>) -> Result<ApiJson<ArtifactsConfig>, ApiError> {
    let config = context.store.config();
    let config = config.ok_or_else(|| ApiError::new(Code::NoConfig, "no artifact config is in force"))?;
    Ok(ApiJson(wire::config(&config)))
}

/// Tells the sled what it should hold; answers with what is in force.
#[utoipa::path(
    put, path = "/artifacts-config", operation_id = "artifacts_config_put", request_body = ArtifactsConfig,
    responses(
        (status = 200, body = ArtifactsConfig), (status = 409, body = Problem), (status = 503, body = Problem)
    )
)]
async fn put_config(
    State(context): State<Context>,
    LongJson(new): LongJson<ArtifactsConfig>,
) -> Result<ApiJson<ArtifactsConfig>, ApiError> {
    if new.generation == Generation::NONE || i64::try_from(new.generation.0).is_err() {
        return Err(ApiError::new(Code::BadRequest, "a generation is 1 to 2^63-1"));
    }
    let new = StoreArtifactsConfig {
        cluster_id: new.cluster_id,
        generation: new.generation,
        artifacts: new.artifacts,
    };
    let in_force = context.store.put_config(new).await.map_err(|error| problems::of_store(&error))?;
    Ok(ApiJson(wire::config(&in_force)))
}

/// What the sled holds: wanted artifacts with verified copies, and the disks they are on.
#[utoipa::path(
    get, path = "/artifacts", operation_id = "artifact_list",
    responses((status = 200, body = ArtifactsList))
)]
async fn list(State(context): State<Context>) -> ApiJson<ArtifactsList> {
    ApiJson(wire::list(context.store.list().await))
}

/// Streams an artifact to every healthy M.2.
#[utoipa::path(
    put, path = "/artifacts/{hash}", operation_id = "artifact_put",
    params(("hash" = ArtifactHash, Path), GenerationQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, body = PutArtifactResult), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem), (status = 507, body = Problem)
    )
)]
async fn put(
    State(context): State<Context>,
    ApiPath(hash): ApiPath<ArtifactHash>,
    ApiQuery(query): ApiQuery<GenerationQuery>,
    request: Request,
) -> Result<ApiJson<PutArtifactResult>, ApiError> {
    let bytes_max = context.config.artifacts.artifact_bytes_max;
    let mut body = BoundedBody::new(request.into_body(), bytes_max, PUT_IDLE_LIMIT)?;
    receive(&context, hash, query.generation, &mut body).await.map(ApiJson)
}

async fn receive(
    context: &Context,
    hash: ArtifactHash,
    generation: Generation,
    body: &mut BoundedBody,
) -> Result<PutArtifactResult, ApiError> {
    let of_store = |error| problems::of_store(&error);
    let mut writer = context.store.writer(hash, generation, body.declared_bytes()).await.map_err(of_store)?;
    while let Some(piece) = body.next().await? {
        writer.write(piece).await.map_err(of_store)?;
        fault_points::reach("artifact.put_piece").await;
    }
    Ok(wire::write_report(writer.finish().await.map_err(of_store)?))
}

/// Fetches an artifact from peers' depots. An artifact has at most one such job at a time: asking again joins it.
#[utoipa::path(
    post, path = "/artifacts/{hash}/copy-from-depot", operation_id = "artifact_copy",
    params(("hash" = ArtifactHash, Path), GenerationQuery),
    request_body = CopyRequest,
    responses(
        (status = 202, body = CopyAccepted), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 429, body = Problem)
    )
)]
async fn copy_from_depot(
    State(context): State<Context>,
    ApiPath(hash): ApiPath<ArtifactHash>,
    ApiQuery(query): ApiQuery<GenerationQuery>,
    ApiJson(request): ApiJson<CopyRequest>,
) -> Result<Response, ApiError> {
    let sources = match (request.depot_base_url, request.sources) {
        (Some(source), sources) if sources.is_empty() => vec![source],
        (None, sources) if !sources.is_empty() => sources,
        _ => {
            let detail = "exactly one of depot_base_url and sources is to be given";
            return Err(ApiError::new(Code::BadRequest, detail));
        }
    };
    check_wanted(&context, hash, query.generation).map_err(|error| problems::of_store(&error))?;
    let job_id =
        context.jobs.submit(hash, query.generation, &sources).map_err(|error| problems::of_job(&error))?;
    Ok((StatusCode::ACCEPTED, ApiJson(CopyAccepted { job_id })).into_response())
}

/// Refuses at once what the job would refuse later.
fn check_wanted(context: &Context, hash: ArtifactHash, generation: Generation) -> Result<(), StoreError> {
    let config = context.store.config().ok_or(StoreError::NoConfig)?;
    if config.generation != generation {
        return Err(StoreError::ConfigGeneration { attempted: generation, current: config.generation });
    }
    if !config.artifacts.contains(&hash) {
        return Err(StoreError::NotInConfig { hash, generation });
    }
    Ok(())
}

/// Takes an artifact that the config in force does not want off the sled. It goes to the trash first.
#[utoipa::path(
    delete, path = "/artifacts/{hash}", operation_id = "artifact_delete",
    params(("hash" = ArtifactHash, Path), GenerationQuery),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem))
)]
async fn delete(
    State(context): State<Context>,
    ApiPath(hash): ApiPath<ArtifactHash>,
    ApiQuery(query): ApiQuery<GenerationQuery>,
) -> Result<StatusCode, ApiError> {
    context.store.delete(hash, query.generation).await.map_err(|error| problems::of_store(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Starts a verification of every stored byte; progress is under `GET /artifacts`. One that runs is answered as it is.
#[utoipa::path(
    post, path = "/artifacts/scrub", operation_id = "artifact_scrub",
    responses((status = 202, body = ScrubStatus))
)]
async fn scrub(State(context): State<Context>) -> Response {
    (StatusCode::ACCEPTED, ApiJson(wire::scrub(context.store.scrub()))).into_response()
}
