//! `/pantry/volumes`: volumes that the sled holds with no VM. Here is who may ask; what is done, and its refusals, are the Pantry's.

use crate::{
    http::{
        Context,
        attach_body::{AttachBody, GivenQuery},
    },
    pantry::PantryCallError,
};
use axum::{
    extract::{Request, State},
    http::StatusCode,
};
use bytes::Bytes;
use futures::{Stream, stream};
use http_edge::{ApiError, ApiJson, ApiPath, ApiQuery, body::BoundedBody};
use ids::{JobId, SnapshotId, VolumeId};
use problem::Problem;
use sled_client::{
    ClientError,
    pantry::{
        AttachAnswer, AttachQuery, ExportAnswer, ExportRequest, ImportQuery, ImportRequest, JobQuery,
        PantryJob, PantryJobPage, PantryVolume, PantryVolumePage, ScrubRequest, SnapshotAnswer,
        UnexportAnswer, UnexportRequest, WAIT_MS_MAX,
    },
    regions::ExecutorQuery,
};
use std::time::Duration;
use utoipa_axum::{router::OpenApiRouter, routes};
use volume_pantry::GivenKey;

/// How long the sender of an import may be silent: a little less than the Pantry bears it, so that the one refusal is heard, and not both.
const IMPORT_IDLE_LIMIT: Duration = Duration::from_secs(28);

/// How long a job whose bytes do not come any more may take to have ended.
const STOPPED_WAIT: Duration = Duration::from_secs(10);

pub(super) fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, put, delete))
        .routes(routes!(import, import_url))
        .routes(routes!(export))
        .routes(routes!(unexport))
        .routes(routes!(scrub))
        .routes(routes!(copy_parent))
        .routes(routes!(snapshot))
        .routes(routes!(jobs))
        .routes(routes!(job, cancel))
}

/// What the Pantry has said of a volume.
fn said<T>(context: &Context, id: VolumeId, answer: Result<T, ClientError>) -> Result<T, ApiError> {
    answer.map_err(|error| context.pantry.explain(id, error).into())
}

/// The answer to a call that begins a job, or finds it begun.
type Begun = (StatusCode, ApiJson<PantryJob>);

fn begun(context: &Context, id: VolumeId, answer: Result<PantryJob, ClientError>) -> Result<Begun, ApiError> {
    Ok((StatusCode::ACCEPTED, ApiJson(said(context, id, answer)?)))
}

/// The volumes that the sled holds, and how the process does that has them.
#[utoipa::path(
    get, path = "/pantry/volumes", operation_id = "pantry_volume_list",
    responses((status = 200, body = PantryVolumePage), (status = 503, body = Problem))
)]
async fn list(State(context): State<Context>) -> Result<ApiJson<PantryVolumePage>, ApiError> {
    Ok(ApiJson(context.pantry.list().await?))
}

/// One volume, with all that its Upstairs believes.
#[utoipa::path(
    get, path = "/pantry/volumes/{id}", operation_id = "pantry_volume_show", params(("id" = VolumeId, Path)),
    responses((status = 200, body = PantryVolume), (status = 404, body = Problem), (status = 503, body = Problem))
)]
async fn show(
    State(context): State<Context>,
    ApiPath(id): ApiPath<VolumeId>,
) -> Result<ApiJson<PantryVolume>, ApiError> {
    Ok(ApiJson(context.pantry.show(id).await?))
}

/// Attaches a volume by its construction request, or applies a newer one to it while it is in use. The same one may be put at any time.
#[utoipa::path(
    put, path = "/pantry/volumes/{id}", operation_id = "pantry_volume_put",
    params(
        ("id" = VolumeId, Path), AttachQuery,
        ("Volume-Key" = Option<String>, Header, description = "The key of an encrypted volume, 64 hexadecimal digits: needed to attach it, also after it has ended")
    ),
    request_body = AttachBody,
    responses(
        (status = 200, body = AttachAnswer), (status = 400, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem), (status = 507, body = Problem)
    )
)]
async fn put(
    State(context): State<Context>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiQuery(query): ApiQuery<GivenQuery>,
    GivenKey(key): GivenKey,
    ApiJson(body): ApiJson<AttachBody>,
) -> Result<ApiJson<AttachAnswer>, ApiError> {
    let query = body.query(query)?;
    Ok(ApiJson(context.pantry.put(id, query, body.order, key).await?))
}

/// Detaches a volume; done if it is not attached. Its jobs and exports end, and nothing of it is left.
#[utoipa::path(
    delete, path = "/pantry/volumes/{id}", operation_id = "pantry_volume_delete",
    params(("id" = VolumeId, Path), ExecutorQuery),
    responses((status = 204), (status = 409, body = Problem), (status = 503, body = Problem))
)]
async fn delete(
    State(context): State<Context>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiQuery(query): ApiQuery<ExecutorQuery>,
) -> Result<StatusCode, ApiError> {
    context.pantry.delete(id, query.executor_epoch).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Streams the body into the volume, from its first byte on; answered when all of it is durable. Needs a Content-Length.
#[utoipa::path(
    put, path = "/pantry/volumes/{id}/import", operation_id = "pantry_import_put",
    params(("id" = VolumeId, Path), ImportQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, body = PantryJob), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 411, body = Problem), (status = 413, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn import(
    State(context): State<Context>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiQuery(mut query): ApiQuery<ImportQuery>,
    request: Request,
) -> Result<ApiJson<PantryJob>, ApiError> {
    let client = context.pantry.importing(id, query.executor_epoch).await?;
    let body = BoundedBody::new(request.into_body(), u64::MAX, IMPORT_IDLE_LIMIT)?;
    let length = body.declared_bytes().ok_or(PantryCallError::LengthMissing)?;
    // So that it can be asked how it has ended.
    let job = *query.job_id.get_or_insert_with(JobId::generate);
    match client.pantry_import(id, &query, length, pieces(body)).await {
        Ok(job) => Ok(ApiJson(job)),
        Err(error @ ClientError::Transport { .. }) => {
            let asked = context.pantry.asking(id).await?;
            match asked.pantry_job(id, job, STOPPED_WAIT).await {
                Ok(PantryJob { error: Some(problem), .. }) => Err(problem.into()),
                _ => Err(PantryCallError::from(error).into()),
            }
        }
        Err(error) => Err(context.pantry.explain(id, error).into()),
    }
}

/// The body, as it is handed on. Where it breaks off, so does what is handed on.
fn pieces(body: BoundedBody) -> impl Stream<Item = Result<Bytes, Problem>> + Send + 'static {
    stream::try_unfold(body, async |mut body| match body.next().await {
        Ok(piece) => Ok(piece.map(|piece| (piece, body))),
        Err(error) => Err(*error.0),
    })
}

/// Has the volume import what a web server has. The same job may be asked for again under its id.
#[utoipa::path(
    post, path = "/pantry/volumes/{id}/import", operation_id = "pantry_import_url",
    params(("id" = VolumeId, Path)), request_body = ImportRequest,
    responses(
        (status = 202, body = PantryJob), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 413, body = Problem), (status = 429, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn import_url(
    State(context): State<Context>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiJson(request): ApiJson<ImportRequest>,
) -> Result<Begun, ApiError> {
    let client = context.pantry.changing(id, request.executor_epoch).await?;
    begun(&context, id, client.pantry_import_url(id, &request).await)
}

/// Exports the volume over NBD, at a socket of the sled or over TCP at its address, until it is taken back or the volume is detached. It is
/// exported once to read and once to write by each of the two; asked for again, it is answered with the same.
#[utoipa::path(
    post, path = "/pantry/volumes/{id}/export", operation_id = "pantry_export",
    params(("id" = VolumeId, Path)), request_body = ExportRequest,
    responses(
        (status = 200, body = ExportAnswer), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem)
    )
)]
async fn export(
    State(context): State<Context>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiJson(request): ApiJson<ExportRequest>,
) -> Result<ApiJson<ExportAnswer>, ApiError> {
    Ok(ApiJson(context.pantry.export(id, request).await?))
}

/// Takes an export back; done if there is none. Nobody comes any more; clients that use it are a reason to refuse, or, with `force`, are cut
/// off when what they have asked is answered and what they have written is durable, or after 5 s.
#[utoipa::path(
    post, path = "/pantry/volumes/{id}/unexport", operation_id = "pantry_unexport",
    params(("id" = VolumeId, Path)), request_body = UnexportRequest,
    responses(
        (status = 200, body = UnexportAnswer), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn unexport(
    State(context): State<Context>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiJson(request): ApiJson<UnexportRequest>,
) -> Result<ApiJson<UnexportAnswer>, ApiError> {
    let client = context.pantry.changing(id, request.executor_epoch).await?;
    said(&context, id, client.pantry_unexport(id, &request).await).map(ApiJson)
}

/// Has every copy of every block of the volume read and compared; what is wrong with one is mended. What could not be is told by the job.
#[utoipa::path(
    post, path = "/pantry/volumes/{id}/scrub", operation_id = "pantry_scrub",
    params(("id" = VolumeId, Path)), request_body = ScrubRequest,
    responses(
        (status = 202, body = PantryJob), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 429, body = Problem), (status = 503, body = Problem)
    )
)]
async fn scrub(
    State(context): State<Context>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiJson(request): ApiJson<ScrubRequest>,
) -> Result<Begun, ApiError> {
    let client = context.pantry.changing(id, request.executor_epoch).await?;
    begun(&context, id, client.pantry_scrub(id, &request).await)
}

/// Has what lies under the volume copied into it, behind its clients. When the job is done a newer request may give the parent up.
#[utoipa::path(
    post, path = "/pantry/volumes/{id}/copy-parent", operation_id = "pantry_copy_parent",
    params(("id" = VolumeId, Path)), request_body = ScrubRequest,
    responses(
        (status = 202, body = PantryJob), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 429, body = Problem), (status = 503, body = Problem)
    )
)]
async fn copy_parent(
    State(context): State<Context>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiJson(request): ApiJson<ScrubRequest>,
) -> Result<Begun, ApiError> {
    let client = context.pantry.changing(id, request.executor_epoch).await?;
    begun(&context, id, client.pantry_copy_parent(id, &request).await)
}

/// Keeps what was written until now as a snapshot, in all members that are full and there.
#[utoipa::path(
    put, path = "/pantry/volumes/{id}/snapshots/{snapshot_id}", operation_id = "pantry_snapshot_put",
    params(("id" = VolumeId, Path), ("snapshot_id" = SnapshotId, Path), ExecutorQuery),
    responses(
        (status = 200, body = SnapshotAnswer), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn snapshot(
    State(context): State<Context>,
    ApiPath((id, snapshot)): ApiPath<(VolumeId, SnapshotId)>,
    ApiQuery(query): ApiQuery<ExecutorQuery>,
) -> Result<ApiJson<SnapshotAnswer>, ApiError> {
    let client = context.pantry.changing(id, query.executor_epoch).await?;
    said(&context, id, client.pantry_snapshot(id, snapshot, query.executor_epoch).await).map(ApiJson)
}

/// The volume's jobs that are remembered, newest first.
#[utoipa::path(
    get, path = "/pantry/volumes/{id}/jobs", operation_id = "pantry_job_list", params(("id" = VolumeId, Path)),
    responses((status = 200, body = PantryJobPage), (status = 404, body = Problem), (status = 409, body = Problem))
)]
async fn jobs(
    State(context): State<Context>,
    ApiPath(id): ApiPath<VolumeId>,
) -> Result<ApiJson<PantryJobPage>, ApiError> {
    let client = context.pantry.asking(id).await?;
    said(&context, id, client.pantry_jobs(id).await).map(ApiJson)
}

/// One job; with `wait_ms`, answers at its end or after that time.
#[utoipa::path(
    get, path = "/pantry/volumes/{id}/jobs/{job_id}", operation_id = "pantry_job_show",
    params(("id" = VolumeId, Path), ("job_id" = JobId, Path), JobQuery),
    responses((status = 200, body = PantryJob), (status = 404, body = Problem), (status = 409, body = Problem))
)]
async fn job(
    State(context): State<Context>,
    ApiPath((id, job)): ApiPath<(VolumeId, JobId)>,
    ApiQuery(query): ApiQuery<JobQuery>,
) -> Result<ApiJson<PantryJob>, ApiError> {
    let client = context.pantry.asking(id).await?;
    let wait = Duration::from_millis(query.wait_ms.min(WAIT_MS_MAX));
    said(&context, id, client.pantry_job(id, job, wait).await).map(ApiJson)
}

/// Cancels a job. One that has ended stays as it is.
#[utoipa::path(
    delete, path = "/pantry/volumes/{id}/jobs/{job_id}", operation_id = "pantry_job_cancel",
    params(("id" = VolumeId, Path), ("job_id" = JobId, Path), ExecutorQuery),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem))
)]
async fn cancel(
    State(context): State<Context>,
    ApiPath((id, job)): ApiPath<(VolumeId, JobId)>,
    ApiQuery(query): ApiQuery<ExecutorQuery>,
) -> Result<StatusCode, ApiError> {
    let client = context.pantry.changing(id, query.executor_epoch).await?;
    said(&context, id, client.cancel_pantry_job(id, job, query.executor_epoch).await)?;
    Ok(StatusCode::NO_CONTENT)
}
