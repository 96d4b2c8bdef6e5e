//! `/v1/status`, `/v1/coordinators`: the cluster as a whole.

use crate::{
    cluster_rows::{self, ClusterRows},
    http::{Context, problems},
    replication::{
        issues::{self, Member},
        observed::Refusing,
        view,
    },
    sagas::{
        Sagas,
        issues::{self as saga_issues, Seen},
    },
    task_issues,
};
use axum::extract::State;
use http_edge::{ApiError, ApiJson};
use nexus_client::{
    pages::Page,
    replication::{ReplicationSled, ReplicationSledState},
    sleds::SledLiveness,
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
    let known = context.cluster.read(&context.database).await;
    let known = known.map_err(|error| problems::of_database(&error))?;
    let ClusterRows { wanted, sleds, repositories, database_bytes, .. } = &*known.rows;
    let staging_bytes = context.staging.used_bytes().map_err(|error| problems::of_staging(&error))?;
    let view = view::replication(wanted, sleds, &context.observed, None);
    let refusals = context.observed.refusals();
    // Whether a sled that is refused is a stranger, only the database can tell.
    let strangers = match known.stale {
        None => strangers(&context, sleds, &refusals).await?,
        Some(_) => Vec::new(),
    };
    let member = |row: &SledRow| Member {
        sled: view::sled(row, &context.observed, wanted),
        refusals: refusals.iter().filter(|refusing| refusing.refusal.sled == row.id).cloned().collect(),
    };
    let members: Vec<Member> = sleds.iter().map(member).collect();
    let complete = |sled: &&ReplicationSled| {
        sled.observed_at.is_some()
            && view.artifacts.iter().all(|artifact| view::has_every_copy(sled, &artifact.hash))
    };
    let away = |sled: &&ReplicationSled| sled.state != ReplicationSledState::Active;
    let living = |liveness| members.iter().filter(|member| member.sled.liveness == liveness).count() as u64;
    let mut issues = issues::issues(&members, &strangers, &view, context.config.replication.min_replication);
    issues.extend(saga_issues::issues(&seen(&context.sagas)));
    issues.extend(task_issues::issues(&context.tasks.tasks()));
    let location = context.database.location().to_string();
    issues.extend(cluster_rows::issue(&location, context.database.trouble().as_ref(), &known));
    Ok(ApiJson(SystemStatus {
        cluster_id: context.cluster_id,
        coordinator: shown(context.coordinator.clone()),
        sleds_in_service: sleds.len() as u64,
        sleds_online: living(SledLiveness::Online),
        sleds_unheard: living(SledLiveness::Unknown),
        repositories: *repositories,
        artifacts: view.artifacts.len() as u64,
        artifacts_on_every_sled: view::on_every_sled(&view.artifacts, &view.sleds, view::has_a_copy),
        artifacts_complete: view.artifacts_complete,
        sleds_complete: view.sleds.iter().filter(complete).count() as u64,
        sleds_away: view.sleds.iter().filter(away).count() as u64,
        database_bytes: *database_bytes,
        staging_bytes,
        issues,
    }))
}

/// What is to be judged about sagas: from memory, for the database may not answer.
fn seen(sagas: &Sagas) -> Seen {
    Seen {
        troubled: sagas.engine.troubled(),
        recovered: sagas.recovered.now(&sagas.claims),
        unreadable: sagas.recovered.unreadable(),
        failing: sagas.recovered.failing(),
        lost: sagas.claims.lost(),
        others: sagas.recovered.others(),
    }
}

/// Refusals of sleds that were never taken. Those that were expunged are refused because an operator said so.
async fn strangers(
    context: &Context,
    sleds: &[SledRow],
    refusals: &[Refusing],
) -> Result<Vec<Refusing>, ApiError> {
    let mut strangers = Vec::new();
    for refusing in refusals.iter().filter(|it| sleds.iter().all(|row| row.id != it.refusal.sled)) {
        let known = context.database.sled(refusing.refusal.sled).await;
        if known.map_err(|error| problems::of_database(&error))?.is_none() {
            strangers.push(refusing.clone());
        }
    }
    Ok(strangers)
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
