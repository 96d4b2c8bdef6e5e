//! The sled API: the coordinator's and the operator's calls. Needs a token.

use crate::{
    http::{Context, artifacts, jobs, pantry, regions, wire},
    inventory,
};
use axum::extract::State;
use http_edge::{
    ApiJson,
    document::{self, Access},
};
use sled_client::{disks::DiskPage, inventory::Inventory};
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
        .routes(routes!(show_inventory))
        .routes(routes!(disks))
        .merge(artifacts::router())
        .merge(jobs::router())
        .merge(regions::router())
        .merge(pantry::router());
    document::complete(router.get_openapi_mut(), Access::Token);
    router
}

/// What the sled is, and what it has: its disks, and the datasets of regions on them.
#[utoipa::path(
    get, path = "/inventory", operation_id = "inventory",
    responses((status = 200, body = Inventory))
)]
async fn show_inventory(State(context): State<Context>) -> ApiJson<Inventory> {
    let (listing, looks) = tokio::join!(context.store.list(), context.disks.look());
    let on_disks = inventory::on_disks(looks, |region| context.regions.knows(region));
    ApiJson(context.host.inventory(listing.cluster_id, wire::datasets(listing.datasets), on_disks))
}

/// The sled's disks: M.2 datasets, and those that hold regions.
#[utoipa::path(
    get, path = "/disks", operation_id = "disks",
    responses((status = 200, body = DiskPage))
)]
async fn disks(State(context): State<Context>) -> ApiJson<DiskPage> {
    let (listing, looks) = tokio::join!(context.store.list(), context.disks.look());
    let disks = looks.into_iter().map(|look| look.status).collect();
    ApiJson(DiskPage { items: wire::datasets(listing.datasets), disks, next_page: None })
}
