//! `/regions`: the sled's parts of volumes.

use crate::{http::Context, regions::types::Wanted};
use axum::{extract::State, http::StatusCode};
use http_edge::{ApiError, ApiJson, ApiPath, ApiQuery, pages::PageRequest};
use ids::{RegionId, SnapshotId};
use problem::Problem;
use sled_client::regions::{ExecutorQuery, Region, RegionListQuery, RegionPage, RegionRequest};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, put, delete))
        .routes(routes!(put_snapshot, delete_snapshot))
}

/// The sled's regions, by id. Those that were destroyed are left out.
#[utoipa::path(
    get, path = "/regions", operation_id = "region_list", params(RegionListQuery),
    responses((status = 200, body = RegionPage), (status = 400, body = Problem))
)]
async fn list(
    State(context): State<Context>,
    ApiQuery(query): ApiQuery<RegionListQuery>,
) -> Result<ApiJson<RegionPage>, ApiError> {
    let page = PageRequest::<RegionId>::parse("regions", query.limit, query.page_token.as_deref())?;
    let regions = context.regions.list(page.after, page.read_limit() as usize).await;
    let (items, next_page) = page.cut(regions, |region| region.id);
    Ok(ApiJson(RegionPage { items, next_page }))
}

/// One region, also one that was destroyed.
#[utoipa::path(
    get, path = "/regions/{id}", operation_id = "region_show", params(("id" = RegionId, Path)),
    responses((status = 200, body = Region), (status = 404, body = Problem), (status = 503, body = Problem))
)]
async fn show(
    State(context): State<Context>,
    ApiPath(id): ApiPath<RegionId>,
) -> Result<ApiJson<Region>, ApiError> {
    Ok(ApiJson(context.regions.show(id).await?))
}

/// Makes a region, or finds that it is there; the same request may be made again at any time.
#[utoipa::path(
    put, path = "/regions/{id}", operation_id = "region_put", params(("id" = RegionId, Path)),
    request_body = RegionRequest,
    responses(
        (status = 200, body = Region), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem), (status = 507, body = Problem)
    )
)]
async fn put(
    State(context): State<Context>,
    ApiPath(id): ApiPath<RegionId>,
    ApiJson(request): ApiJson<RegionRequest>,
) -> Result<ApiJson<Region>, ApiError> {
    Ok(ApiJson(context.regions.create(Wanted::read(id, request)?).await?))
}

/// Destroys a region; done if it is not there, and then its PUT, if that comes later, makes nothing. Refused while it has snapshots; a clone's own
/// goes with it.
#[utoipa::path(
    delete, path = "/regions/{id}", operation_id = "region_delete",
    params(("id" = RegionId, Path), ExecutorQuery),
    responses(
        (status = 204), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn delete(
    State(context): State<Context>,
    ApiPath(id): ApiPath<RegionId>,
    ApiQuery(query): ApiQuery<ExecutorQuery>,
) -> Result<StatusCode, ApiError> {
    context.regions.destroy(id, query.executor_epoch).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a snapshot of a region that nobody writes; done if it is there, of what the region holds. Of a region that is written its writer takes
/// them, of all members at one position.
#[utoipa::path(
    put, path = "/regions/{id}/snapshots/{snapshot_id}", operation_id = "region_snapshot_put",
    params(("id" = RegionId, Path), ("snapshot_id" = SnapshotId, Path), ExecutorQuery),
    responses(
        (status = 204), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn put_snapshot(
    State(context): State<Context>,
    ApiPath((id, snapshot)): ApiPath<(RegionId, SnapshotId)>,
    ApiQuery(query): ApiQuery<ExecutorQuery>,
) -> Result<StatusCode, ApiError> {
    context.regions.snapshot(id, snapshot, query.executor_epoch).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a snapshot of a region; done if it is not there, nor its region. Whoever reads it is refused from then on, and it is never taken again under this id.
#[utoipa::path(
    delete, path = "/regions/{id}/snapshots/{snapshot_id}", operation_id = "region_snapshot_delete",
    params(("id" = RegionId, Path), ("snapshot_id" = SnapshotId, Path), ExecutorQuery),
    responses(
        (status = 204), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem)
    )
)]
async fn delete_snapshot(
    State(context): State<Context>,
    ApiPath((id, snapshot)): ApiPath<(RegionId, SnapshotId)>,
    ApiQuery(query): ApiQuery<ExecutorQuery>,
) -> Result<StatusCode, ApiError> {
    context.regions.delete_snapshot(id, snapshot, query.executor_epoch).await?;
    Ok(StatusCode::NO_CONTENT)
}
