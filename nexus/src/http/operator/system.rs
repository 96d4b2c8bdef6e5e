//! `/v1/status`, `/v1/coordinators`: the cluster as a whole.

use crate::{
    http::{Context, problems},
    replication::view,
};
use axum::extract::State;
use http_edge::{ApiError, ApiJson};
use nexus_client::{
    pages::Page,
    replication::{Replication, ReplicationSledState},
    system::{Coordinator, SystemStatus},
};
use nexus_database::{cluster::CoordinatorRow, sleds::SledRow};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(status)).routes(routes!(coordinators))
}

/// The cluster in one answer.
#[utoipa::path(
    get, path = "/v1/status", operation_id = "status",
    responses((status = 200, body = SystemStatus))
)]
async fn status(State(context): State<Context>) -> Result<ApiJson<SystemStatus>, ApiError> {
    let of_database = |error| problems::of_database(&error);
    let wanted = context.database.wanted().await.map_err(of_database)?;
    let sleds = context.database.sleds_in_service().await.map_err(of_database)?;
    let repositories = context.database.repositories(None, u32::MAX).await.map_err(of_database)?;
    let staging_bytes = context.staging.used_bytes().map_err(|error| problems::of_staging(&error))?;
    let view = view::replication(&wanted, &sleds, &context.observed, None);
    let online = |sled: &&SledRow| context.observed.sled(sled.id).is_online();
    let complete = |sled: &&nexus_client::replication::ReplicationSled| {
        view.artifacts.iter().all(|artifact| view::is_complete(sled, &artifact.hash))
    };
    Ok(ApiJson(SystemStatus {
        cluster_id: context.cluster_id,
        coordinator: shown(context.coordinator.clone()),
        sleds_in_service: sleds.len() as u64,
        sleds_online: sleds.iter().filter(online).count() as u64,
        repositories: repositories.len() as u64,
        artifacts: view.artifacts.len() as u64,
        artifacts_complete: view.artifacts_complete,
        sleds_complete: view.sleds.iter().filter(complete).count() as u64,
        database_bytes: context.database.size_bytes(),
        staging_bytes,
        issues: issues(&context, &sleds, &view),
    }))
}

/// Everything that is not as it should be, in words. Work under way is no issue.
fn issues(context: &Context, sleds: &[SledRow], view: &Replication) -> Vec<String> {
    let mut issues = Vec::new();
    for sled in sleds.iter().filter(|sled| !context.observed.sled(sled.id).is_online()) {
        issues.push(format!("sled {} is offline: no heartbeat within the limit", sled.name));
    }
    for sled in &view.sleds {
        if sled.state == ReplicationSledState::Refusing {
            let reason = sled.reason.as_deref().unwrap_or("no reason was given");
            issues.push(format!("sled {} does not take the artifact config: {reason}", sled.name));
        }
        if sled.state == ReplicationSledState::Active && sled.datasets_healthy == 0 {
            issues.push(format!("sled {} has no M.2 that can be written", sled.name));
        }
        for (hash, error) in
            sled.cells.iter().filter_map(|(hash, cell)| cell.last_error.as_ref().map(|error| (hash, error)))
        {
            issues.push(format!("artifact {} does not get to sled {}: {error}", hash.short(), sled.name));
        }
    }
    for artifact in &view.artifacts {
        match artifact.blocked.as_deref() {
            Some("no_source") => issues.push(format!(
                "artifact {} {} is on no sled and not staged: upload its release again",
                artifact.name, artifact.version
            )),
            Some(_) => issues.push(format!(
                "artifact {} {} is only on sleds that cannot be reached now",
                artifact.name, artifact.version
            )),
            None => {}
        }
    }
    issues
}

/// Every coordinator. There are few, so they are one page.
#[utoipa::path(
    get, path = "/v1/coordinators", operation_id = "coordinator_list",
    responses((status = 200, body = inline(Page<Coordinator>)))
)]
async fn coordinators(State(context): State<Context>) -> Result<ApiJson<Page<Coordinator>>, ApiError> {
    let rows = context.database.coordinators().await.map_err(|error| problems::of_database(&error))?;
    Ok(ApiJson(Page { items: rows.into_iter().map(shown).collect(), next_page: None }))
}

fn shown(row: CoordinatorRow) -> Coordinator {
    Coordinator {
        id: row.id,
        name: row.name,
        epoch: row.epoch,
        version: row.version,
        started_at: row.started_at,
    }
}
