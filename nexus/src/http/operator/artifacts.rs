//! `/v1/artifacts`: what some repository wants, and who holds it.

use crate::{
    http::{Context, problems},
    replication::view,
};
use axum::extract::State;
use http_edge::{ApiError, ApiJson, ApiPath, ApiQuery, pages};
use ids::{ArtifactHash, RepositoryId};
use nexus_client::{
    pages::{Page, PageQuery},
    releases::Artifact,
};
use nexus_database::{sleds::SledRow, wanted::WantedArtifact};
use problem::{Code, Problem};
use std::{collections::BTreeMap, ops::Bound};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// Every wanted artifact, by hash.
#[utoipa::path(
    get, path = "/v1/artifacts", operation_id = "artifact_list",
    params(PageQuery), responses((status = 200, body = inline(Page<Artifact>)))
)]
async fn list(
    State(context): State<Context>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<ApiJson<Page<Artifact>>, ApiError> {
    let page =
        pages::PageRequest::<ArtifactHash>::parse("artifacts", query.limit, query.page_token.as_deref())?;
    let scene = Scene::look(&context).await?;
    let from = page.after.map_or(Bound::Unbounded, Bound::Excluded);
    let artifacts = scene.wanted.range((from, Bound::Unbounded));
    let rows =
        artifacts.take(page.read_limit() as usize).map(|(hash, row)| scene.shown(*hash, row)).collect();
    let (items, next_page) = page.cut(rows, |artifact: &Artifact| artifact.hash);
    Ok(ApiJson(Page { items, next_page }))
}

/// One wanted artifact.
#[utoipa::path(
    get, path = "/v1/artifacts/{hash}", operation_id = "artifact_show", params(("hash" = ArtifactHash, Path)),
    responses((status = 200, body = Artifact), (status = 404, body = Problem))
)]
async fn show(
    State(context): State<Context>,
    ApiPath(hash): ApiPath<ArtifactHash>,
) -> Result<ApiJson<Artifact>, ApiError> {
    let scene = Scene::look(&context).await?;
    let row = scene.wanted.get(&hash);
    let row =
        row.ok_or_else(|| ApiError::new(Code::ArtifactNotFound, format!("no repository wants {hash}")))?;
    Ok(ApiJson(scene.shown(hash, row)))
}

struct Scene<'a> {
    context: &'a Context,
    wanted: BTreeMap<ArtifactHash, WantedArtifact>,
    sleds: Vec<SledRow>,
    versions: BTreeMap<RepositoryId, String>,
}

impl Scene<'_> {
    async fn look(context: &Context) -> Result<Scene<'_>, ApiError> {
        let database = &context.database;
        let of_database = |error| problems::of_database(&error);
        let wanted = database.wanted().await.map_err(of_database)?.artifacts;
        let sleds = database.sleds_in_service().await.map_err(of_database)?;
        let repositories = database.repositories(None, u32::MAX).await.map_err(of_database)?;
        let versions = repositories.into_iter().map(|row| (row.id, row.system_version)).collect();
        Ok(Scene { context, wanted, sleds, versions })
    }

    fn shown(&self, hash: ArtifactHash, row: &WantedArtifact) -> Artifact {
        Artifact {
            hash,
            size: row.size,
            name: row.name.clone(),
            version: row.version.clone(),
            kind: row.kind.clone(),
            repositories: row.repositories.iter().filter_map(|id| self.versions.get(id)).cloned().collect(),
            holders: view::holders(&hash, &self.sleds, &self.context.observed),
        }
    }
}
