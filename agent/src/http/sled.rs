//! The sled API: the coordinator's and the operator's calls. Needs a token.

use crate::http::{Context, artifacts, jobs, wire};
use axum::extract::State;
use http_edge::{
    ApiJson,
    document::{self, Access},
};
use sled_client::{artifacts::DatasetPage, inventory::Inventory};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(OpenApi)]
#[openapi(info(
    title = "Bobsled sled agent, sled API",
    description = "What coordinators and operators ask of one sled. Needs a coordinator's or an operator's token."
))]
struct Document;

/// The calls of this API.
pub fn router() -> OpenApiRouter<Context> {
    let mut router = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(inventory))
        .routes(routes!(disks))
        .merge(artifacts::router())
        .merge(jobs::router());
    document::complete(router.get_openapi_mut(), Access::Token);
    router
}

/// What the sled is.
#[utoipa::path(
    get, path = "/inventory", operation_id = "inventory",
    responses((status = 200, body = Inventory))
)]
async fn inventory(State(context): State<Context>) -> ApiJson<Inventory> {
    let listing = context.store.list().await;
    ApiJson(context.host.inventory(listing.cluster_id, wire::datasets(listing.datasets)))
}

/// The sled's M.2 datasets.
#[utoipa::path(
    get, path = "/disks", operation_id = "disks",
    responses((status = 200, body = DatasetPage))
)]
async fn disks(State(context): State<Context>) -> ApiJson<DatasetPage> {
    ApiJson(DatasetPage { items: wire::datasets(context.store.list().await.datasets), next_page: None })
}
