//! `/v1/volumes`: so far, what was told of their repairs.

use crate::http::{Context, problems, repair_rows};
use axum::extract::State;
use http_edge::{ApiError, ApiJson, ApiPath, ApiQuery, pages};
use ids::VolumeId;
use nexus_client::{
    pages::{Page, PageQuery},
    repairs::VolumeRepair,
};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(repairs))
}

/// Repairs of a volume that are remembered, newest first. Of a volume that nobody has told of there are none.
#[utoipa::path(
    get, path = "/v1/volumes/{id}/repairs", operation_id = "volume_repair_list",
    params(("id" = VolumeId, Path), PageQuery), responses((status = 200, body = inline(Page<VolumeRepair>)))
)]
async fn repairs(
    State(context): State<Context>,
    ApiPath(id): ApiPath<VolumeId>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<ApiJson<Page<VolumeRepair>>, ApiError> {
    let page = pages::PageRequest::parse("volume_repairs", query.limit, query.page_token.as_deref())?;
    let rows = context.database.volume_repairs(id, page.after, page.read_limit()).await;
    let rows = rows.map_err(|error| problems::of_database(&error))?;
    let (rows, next_page) = page.cut(rows, |row| row.subject.id);
    Ok(ApiJson(Page { items: rows.iter().map(repair_rows::shown).collect(), next_page }))
}
