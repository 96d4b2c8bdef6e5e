//! `/v1/sleds`: the hosts of the cluster.

use crate::{
    http::{Context, problems, to_the_end::to_the_end},
    replication::{observed::disks, sled_clients::Purpose, view},
};
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use http_edge::{ApiError, ApiJson, ApiPath, ApiQuery, pages};
use ids::SledId;
use nexus_client::{
    pages::{Page, PageQuery},
    sleds::{Scrub, Sled, SledPolicy, SledUpdate},
};
use nexus_database::sleds::{Policy, SledRow};
use nexus_tasks::Reason;
use problem::{Code, Problem};
use std::time::Duration;
use utoipa_axum::{router::OpenApiRouter, routes};

/// How long a sled may take to begin a scrub: it only notes that it has been asked.
const SCRUB_ANSWER_LIMIT: Duration = Duration::from_secs(5);

pub(super) fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, update)).routes(routes!(scrub))
}

/// Every sled, in the order of joining.
#[utoipa::path(
    get, path = "/v1/sleds", operation_id = "sled_list",
    params(PageQuery), responses((status = 200, body = inline(Page<Sled>)))
)]
async fn list(
    State(context): State<Context>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<ApiJson<Page<Sled>>, ApiError> {
    let page = pages::PageRequest::parse("sleds", query.limit, query.page_token.as_deref())?;
    let of_database = |error| problems::of_database(&error);
    let rows = context.database.sleds(page.after, page.read_limit()).await.map_err(of_database)?;
    let wanted = context.database.wanted().await.map_err(of_database)?;
    let (rows, next_page) = page.cut(rows, |row| row.id);
    let items = rows.iter().map(|row| view::sled(row, &context.observed, &wanted)).collect();
    Ok(ApiJson(Page { items, next_page }))
}

/// One sled.
#[utoipa::path(
    get, path = "/v1/sleds/{id}", operation_id = "sled_show", params(("id" = SledId, Path)),
    responses((status = 200, body = Sled), (status = 404, body = Problem))
)]
async fn show(
    State(context): State<Context>,
    ApiPath(id): ApiPath<SledId>,
) -> Result<ApiJson<Sled>, ApiError> {
    let row = context.database.sled(id).await.map_err(|error| problems::of_database(&error))?;
    shown(&context, row, id).await
}

/// Says what is wanted of a sled. Expunged is for good.
#[utoipa::path(
    patch, path = "/v1/sleds/{id}", operation_id = "sled_update",
    params(("id" = SledId, Path)), request_body = SledUpdate,
    responses((status = 200, body = Sled), (status = 404, body = Problem), (status = 409, body = Problem))
)]
async fn update(
    State(context): State<Context>,
    ApiPath(id): ApiPath<SledId>,
    ApiJson(update): ApiJson<SledUpdate>,
) -> Result<ApiJson<Sled>, ApiError> {
    let policy = match update.policy {
        SledPolicy::InService => Policy::InService,
        SledPolicy::NoProvision => Policy::NoProvision,
        SledPolicy::Expunged => Policy::Expunged,
        SledPolicy::Unrecognized => {
            return Err(ApiError::new(Code::BadRequest, "the policy is none that is known"));
        }
    };
    let of_database = |error| problems::of_database(&error);
    let changing = context.clone();
    let changed = to_the_end(async move {
        let changed = changing.database.sled_set_policy(id, policy).await;
        changing.replication.activate(Reason::Event("sled_policy"));
        changed
    });
    let changed = changed.await.map_err(of_database)?;
    if changed.is_none() && context.database.sled(id).await.map_err(of_database)?.is_some() {
        return Err(problems::of_expunged(id));
    }
    shown(&context, changed, id).await
}

/// Lets a sled verify every copy that it holds, and answers where that stands. How far it is, the sled itself shows.
#[utoipa::path(
    post, path = "/v1/sleds/{id}/scrub", operation_id = "sled_scrub", params(("id" = SledId, Path)),
    responses(
        (status = 202, body = Scrub), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 502, body = Problem), (status = 503, body = Problem)
    )
)]
async fn scrub(State(context): State<Context>, ApiPath(id): ApiPath<SledId>) -> Result<Response, ApiError> {
    let row = context.database.sled(id).await.map_err(|error| problems::of_database(&error))?;
    let row = row.ok_or_else(|| ApiError::new(Code::SledNotFound, format!("no sled {id}")))?;
    if row.policy == Policy::Expunged {
        return Err(problems::of_expunged(id));
    }
    let silent = |why: &str| problems::of_silent_sled(&row.name, why);
    let failed = |error| problems::of_sled_call(&row.name, &error);
    let address = row.address.as_ref().ok_or_else(|| silent("its address is another sled's by now"))?;
    let client = context.clients.get(&address.agent_url, Purpose::Control).map_err(failed)?;
    let scrub = tokio::time::timeout(SCRUB_ANSWER_LIMIT, client.scrub()).await;
    let scrub = scrub
        .map_err(|_| silent(&format!("nothing came within {} s", SCRUB_ANSWER_LIMIT.as_secs())))?
        .map_err(failed)?;
    // What is shown of the sled from now on is what it says after this.
    context.observed.doubt(id);
    context.replication.activate(Reason::Event("scrub"));
    Ok((StatusCode::ACCEPTED, ApiJson(disks::scrub(&scrub))).into_response())
}

async fn shown(context: &Context, row: Option<SledRow>, id: SledId) -> Result<ApiJson<Sled>, ApiError> {
    let row = row.ok_or_else(|| ApiError::new(Code::SledNotFound, format!("no sled {id}")))?;
    let wanted = context.database.wanted().await.map_err(|error| problems::of_database(&error))?;
    Ok(ApiJson(view::sled(&row, &context.observed, &wanted)))
}
