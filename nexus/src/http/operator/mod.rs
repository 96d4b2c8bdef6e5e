//! The operator API: one file per noun.

mod artifacts;
mod repositories;
mod saga_steering;
mod sagas;
mod sleds;
mod system;
mod tasks;
mod trust_roots;
mod volumes;

use crate::http::Context;
use http_edge::document::{self, Access};
use nexus_client::releases::UploadWait;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Bobsled coordinator, operator API",
        description = "What operators do. Needs an operator's token. Errors are problem+json; see the error catalogue."
    ),
    // Only the schemas of bodies are found; this one is of a query.
    components(schemas(UploadWait))
)]
struct Document;

/// The calls of this API.
pub fn router() -> OpenApiRouter<Context> {
    let mut router = OpenApiRouter::with_openapi(Document::openapi())
        .merge(system::router())
        .merge(trust_roots::router())
        .merge(repositories::router())
        .merge(artifacts::router())
        .merge(sagas::router())
        .merge(sleds::router())
        .merge(tasks::router())
        .merge(volumes::router());
    document::complete(router.get_openapi_mut(), Access::Token);
    router
}
