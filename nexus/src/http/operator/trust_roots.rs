//! `/v1/trust-roots`: whose signatures are believed.

use crate::http::{Context, problems};
use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use http_edge::{ApiError, ApiJson, ApiPath, ApiQuery, body::BoundedBody, pages};
use ids::TrustRootId;
use nexus_client::{
    pages::{Page, PageQuery},
    releases::TrustRoot,
};
use nexus_database::trust_roots::{NewTrustRoot, TrustRootRow};
use problem::{Code, Problem};
use std::time::Duration;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Bytes of a `root.json` at most; real ones are a few KiB.
const ROOT_BYTES_MAX: u64 = 1 << 20;

/// How long the sender of a `root.json` may be silent.
const ROOT_IDLE_LIMIT: Duration = Duration::from_secs(10);

pub(super) fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(show, delete))
}

/// Adds a trust root: the publisher's `root.json`, byte for byte. The same file again is answered as it is known.
#[utoipa::path(
    post, path = "/v1/trust-roots", operation_id = "trust_root_add",
    request_body(content = Vec<u8>, content_type = "application/json"),
    responses((status = 201, body = TrustRoot), (status = 200, body = TrustRoot), (status = 400, body = Problem))
)]
async fn add(State(context): State<Context>, request: Request) -> Result<Response, ApiError> {
    let body = BoundedBody::new(request.into_body(), ROOT_BYTES_MAX, ROOT_IDLE_LIMIT)?;
    let bytes = body.read_to_end().await?;
    let root =
        nexus_release::parse_trust_root(&bytes).map_err(|finding| problems::of_findings(vec![finding]))?;
    let root_json = String::from_utf8(bytes)
        .map_err(|_| ApiError::new(Code::RootInvalid, "the file is not UTF-8 text"))?;
    let new = NewTrustRoot {
        fingerprint: root.fingerprint,
        root_json,
        version: root.version,
        expires: root.expires,
    };
    let (row, inserted) =
        context.database.trust_root_insert(&new).await.map_err(|error| problems::of_database(&error))?;
    let status = if inserted { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, ApiJson(shown(row))).into_response())
}

/// Every trust root, oldest first.
#[utoipa::path(
    get, path = "/v1/trust-roots", operation_id = "trust_root_list",
    params(PageQuery), responses((status = 200, body = inline(Page<TrustRoot>)))
)]
async fn list(
    State(context): State<Context>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<ApiJson<Page<TrustRoot>>, ApiError> {
    let page = pages::PageRequest::parse("trust-roots", query.limit, query.page_token.as_deref())?;
    let rows = context
        .database
        .trust_roots(page.after, page.read_limit())
        .await
        .map_err(|error| problems::of_database(&error))?;
    let (rows, next_page) = page.cut(rows, |row| row.id);
    Ok(ApiJson(Page { items: rows.into_iter().map(shown).collect(), next_page }))
}

/// One trust root.
#[utoipa::path(
    get, path = "/v1/trust-roots/{id}", operation_id = "trust_root_show", params(("id" = TrustRootId, Path)),
    responses((status = 200, body = TrustRoot), (status = 404, body = Problem))
)]
async fn show(
    State(context): State<Context>,
    ApiPath(id): ApiPath<TrustRootId>,
) -> Result<ApiJson<TrustRoot>, ApiError> {
    let row = context.database.trust_root(id).await.map_err(|error| problems::of_database(&error))?;
    let row = row.ok_or_else(|| ApiError::new(Code::TrustRootNotFound, format!("no trust root {id}")))?;
    Ok(ApiJson(shown(row)))
}

/// Takes a trust root away. Repositories that it vouched for stay.
#[utoipa::path(
    delete, path = "/v1/trust-roots/{id}", operation_id = "trust_root_delete",
    params(("id" = TrustRootId, Path)), responses((status = 204))
)]
async fn delete(
    State(context): State<Context>,
    ApiPath(id): ApiPath<TrustRootId>,
) -> Result<StatusCode, ApiError> {
    context.database.trust_root_delete(id).await.map_err(|error| problems::of_database(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(row: TrustRootRow) -> TrustRoot {
    TrustRoot {
        id: row.id,
        fingerprint: row.fingerprint,
        version: row.version,
        expires: row.expires,
        created_at: row.created_at,
    }
}
